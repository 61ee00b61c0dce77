//! Drills: a stack is upgraded, its data changes under the new version or is half migrated by it,
//! and it goes back. It must then run the old version on the old data: every row that was there,
//! every file with its bytes, owner, mode and time.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::data;
use crate::files;
use crate::kit::http;
use crate::kit::images::TAGS;
use crate::kit::stack::Stack;
use crate::nodes;
use crate::nodes::unit;
use crate::sizes::Sizes;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;
use crate::versions::upgrade;

/// Stacks at the same time: nothing here is timed.
const STACKS: u32 = 2;
const NEW: &str = "2026.2.7";
const OLD: &str = "2026.1.100";
/// Bytes of each file of a drill.
const SIZE: usize = 40_000;

/// What must be the same again.
#[derive(Debug, PartialEq)]
struct State {
    version: String,
    installation: String,
    rows: String,
    files: Vec<files::File>,
}

/// So many drills, each on the data that the one before left.
pub(crate) fn measure(sizes: &Sizes) -> Vec<Row> {
    let (next, good) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for number in 0..STACKS {
            let (next, good) = (&next, &good);
            scope.spawn(move || {
                let work = || drills(number, next, sizes.drills, good);
                // What was not done is not good.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(work));
            });
        }
    });
    let good = good.load(Ordering::SeqCst);
    vec![
        Row::new(
            "rollback drills that did not end on the old version and data",
            Unit::Count,
            Samples::of([f64::from(sizes.drills - good)]),
        )
        .must(0.0)
        .aim(0.0),
        Row::new(
            "rollback drills that did",
            Unit::Count,
            Samples::of([f64::from(good)]),
        ),
    ]
}

fn drills(number: u32, next: &AtomicU32, count: u32, good: &AtomicU32) {
    let stack = Stack::real(&format!("bench-rollbacks-{number}"));
    for (key, value) in [
        ("OCTOPUS_NODES", "1"),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
        ("STANDIN_OCTOPUS_STOP_MS", "0"),
        ("STANDIN_OCTOPUS_VERSION", OLD),
    ] {
        stack.set(key, value);
    }
    stack.run(&["up"]).ok();
    let table = "CREATE TABLE Trial (Id INT NOT NULL PRIMARY KEY, Content NVARCHAR(MAX) NOT NULL)";
    data::rows(&stack, &[table]);
    loop {
        let drill = next.fetch_add(1, Ordering::SeqCst);
        if drill >= count {
            break;
        }
        let (before, after) = there_and_back(&stack, drill);
        if before == after {
            good.fetch_add(1, Ordering::SeqCst);
        } else {
            eprintln!("drill {drill}:\n{before:#?}\n{after:#?}");
        }
    }
    let found = nodes::violations(&stack, &unit(1));
    assert_eq!(found, 0, "the stand-ins saw violations");
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// What was before the upgrade, and what is after the rollback.
fn there_and_back(stack: &Stack, drill: u32) -> (State, State) {
    write(stack, drill, "old");
    let before = state(stack);
    stack.set("STANDIN_OCTOPUS_VERSION", NEW);
    // Every other one fails in the middle of its migration.
    if drill.is_multiple_of(2) {
        upgrade(stack, TAGS[1]);
        assert_eq!(served(stack).0, NEW);
        write(stack, drill, "new");
    } else {
        stack.set("STANDIN_OCTOPUS_FAULT", "crash-in-upgrade=2");
        stack.run(&["upgrade", TAGS[1], "--yes"]).with(1);
    }
    stack.run(&["rollback", "--yes"]).ok();
    stack.set("OCTOPUS_SERVER_TAG", TAGS[0]);
    stack.set("STANDIN_OCTOPUS_VERSION", OLD);
    stack.unset("STANDIN_OCTOPUS_FAULT");
    (before, state(stack))
}

/// Rows and files of a drill; the second time they replace some of the first, and are others.
fn write(stack: &Stack, drill: u32, what: &str) {
    let content = random(SIZE);
    let text = octo_local::backup::part::hex(&content[..400]);
    let id = drill * 2;
    let statements = if what == "old" {
        vec![format!(
            "INSERT INTO Trial (Id, Content) VALUES ({id}, N'{text}')"
        )]
    } else {
        vec![
            format!("UPDATE Trial SET Content = N'{text}'"),
            format!(
                "INSERT INTO Trial (Id, Content) VALUES ({}, N'new')",
                id + 1
            ),
        ]
    };
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    data::rows(stack, &statements);
    for directory in files::DIRECTORIES {
        // The first name is overwritten, the second one comes new.
        let names = [format!("drill-{drill}/a"), format!("drill-{drill}/{what}")];
        let written = names.map(|name| (name, random(SIZE)));
        files::put(stack, &unit(1), directory, &written);
    }
}

fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn state(stack: &Stack) -> State {
    let (version, installation) = served(stack);
    State {
        version,
        installation,
        rows: data::print(stack),
        files: files::all(stack, &unit(1)),
    }
}

/// What the node says of itself: its version, and which database it serves.
fn served(stack: &Stack) -> (String, String) {
    let (status, body) = http::get(stack.port(&unit(1)), "/api", "").unwrap();
    assert_eq!(status, 200, "{body}");
    let api: Value = serde_json::from_str(&body).unwrap();
    let text = |name: &str| api[name].as_str().unwrap().to_owned();
    (text("Version"), text("InstallationId"))
}
