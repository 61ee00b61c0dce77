//! What goes wrong in the middle of a backup, a restore, an upgrade or a drain, on the real engine:
//! nothing is lost, one message says what it was, and the same again ends well.

use serde_json::Value;

use super::backup::NODE;
use super::backup::put;
use super::drain::KEY;
use super::quick;
use super::restore::installation;
use super::restore::made;
use crate::kit::disk::Disk;
use crate::kit::http;
use crate::kit::images::TAGS;
use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// More than fits on the small disk, and nothing that becomes smaller.
fn large_file() -> Vec<u8> {
    let mut state = 1u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(90 << 20)
    .collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "large", bytes.as_slice())
        .unwrap();
    tar.into_inner().unwrap()
}

pub(super) fn sets(stack: &Stack, from: &[&str]) -> (usize, u64) {
    let words = [&["backup", "list", "--format", "json"], from].concat();
    let list = stack.run(&words).ok().json();
    (
        list["sets"].as_array().unwrap().len(),
        list["leftovers"].as_u64().unwrap(),
    )
}

#[test]
fn a_place_that_is_full_or_read_only_holds_no_half_set_and_the_stack_serves_on() {
    let stack = quick("bad-place", 1);
    stack.run(&["up"]).ok();
    let started = stack.started();
    put(&stack, NODE, "/artifacts", large_file());
    let place = stack.dir().join("sets");
    std::fs::create_dir(&place).unwrap();
    let disk = Disk::mount(&place, 72_000);
    let place = place.display().to_string();
    let backup = ["backup", "--to", &place];
    stack
        .run(&backup)
        .with(1)
        .says("no backup was made")
        .says("No space left");
    assert_eq!(sets(&stack, &["--from", &place]), (0, 0));
    disk.make_read_only();
    stack
        .run(&backup)
        .with(1)
        .says("no backup was made")
        .says("Read-only");
    disk.make_writable();
    assert_eq!(
        (stack.started(), &stack.status()["verdict"]),
        (started, &"ready".into())
    );
    stack.run(&["backup"]).ok();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// Begins a backup, and waits until it is under way.
fn backing_up(stack: &Stack, name: &str) -> Running {
    let backup = stack.spawn(&["backup", "--name", name]);
    wait_until("the backup is under way", || {
        (sets(stack, &[]).1 == 1).then_some(())
    });
    backup
}

#[test]
fn sql_server_killed_in_a_backup_or_a_restore_loses_nothing() {
    let (stack, directory) = made("bad-sql");
    let before = installation(&stack);
    stack.set("STANDIN_SQL_BACKUP_MS", "3000");
    stack.run(&["up"]).ok();
    let backup = backing_up(&stack, "never");
    stack.witness.kill(&stack.container("db"), "KILL");
    stack.end(backup).with(1).says("no backup was made");
    stack.wait_for("ready");
    wait_until("the node has its database again", || {
        http::get(stack.port(NODE), "/api", "").filter(|(status, _)| *status == 200)
    });
    assert_eq!(
        (sets(&stack, &[]), installation(&stack)),
        ((0, 0), before.clone())
    );

    let restore = [
        "backup", "restore", "good", "--from", &directory, "--yes", "--force",
    ];
    let running = stack.spawn(&restore);
    wait_until("nodes were stopped for it", || {
        let told = stack.history();
        let at = |words: &str| told.iter().rposition(|(_, what)| what.contains(words));
        let begun = at("a restore of backup good begins");
        let stopped = told
            .iter()
            .rposition(|(unit, what)| unit == NODE && what == "stopped");
        (begun.is_some() && stopped > begun).then_some(())
    });
    stack.witness.kill(&stack.container("db"), "KILL");
    stack.end(running).with(1).says("again");
    stack.run(&["up"]).with(1).says("a restore of backup good");
    stack.wait_for_unit("db", "ready");
    stack.run(&restore).ok();
    assert_eq!(
        (installation(&stack), &stack.status()["verdict"]),
        (before, &"ready".into())
    );
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn an_upgrade_in_the_middle_of_a_backup_is_not_begun_and_an_edit_in_the_middle_of_one_waits() {
    let stack = quick("bad-upgrade", 1);
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.1.100");
    stack.set("STANDIN_SQL_BACKUP_MS", "4000");
    stack.run(&["up"]).ok();
    let version = || {
        let (_, body) = http::get(stack.port(NODE), "/api", "").unwrap();
        let api: Value = serde_json::from_str(&body).unwrap();
        api["Version"].as_str().unwrap().to_owned()
    };
    let backup = backing_up(&stack, "first");
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    stack
        .run(&["upgrade", TAGS[1], "--yes"])
        .with(1)
        .says("backs this project up");
    stack.end(backup).ok();
    stack.wait_for("ready");
    assert_eq!(version(), "2026.1.100");

    let upgrade = stack.spawn(&["upgrade", TAGS[1], "--yes"]);
    wait_until("it is backed up", || {
        (stack.status()["version_change"]["step"] == "saving").then_some(())
    });
    stack.set("ADMIN_EMAIL", "edited@example.com");
    stack.end(upgrade).ok();
    assert_eq!(version(), "2026.2.7");
    let given = |stack: &Stack| {
        let shown = stack.witness.inspect(&stack.container(NODE)).unwrap();
        shown.config.unwrap().env.unwrap().join(" ")
    };
    assert!(!given(&stack).contains("edited@"));
    let drift = stack.run(&["status"]).ok();
    assert!(drift.out.contains("ADMIN_EMAIL") || drift.err.contains("ADMIN_EMAIL"));
    // The file says the version that was written into it meanwhile.
    stack.set("OCTOPUS_SERVER_TAG", TAGS[1]);
    stack.run(&["up"]).ok();
    assert!(given(&stack).contains("edited@"));
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn a_node_that_is_killed_while_it_finishes_its_tasks_is_gone_on_without() {
    let stack = quick("bad-drain", 1);
    stack.set("ADMIN_API_KEY", KEY);
    stack.run(&["up"]).ok();
    super::drain::task(&stack, NODE, 600);
    let restart = stack.spawn(&["restart", NODE]);
    stack.wait_for_unit(NODE, "draining");
    stack.witness.kill(&stack.container(NODE), "KILL");
    stack.end(restart).ok();
    let ping = || http::get(stack.port(NODE), "/api/octopusservernodes/ping", "");
    wait_until("it takes tasks", || {
        ping().filter(|(status, _)| *status == 200)
    });
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
