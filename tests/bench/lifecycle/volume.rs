//! A large volume is backed up and restored, beside `tar | zstd` of the same files at the same
//! level in the same round. Half of the data is text, half is random. Both read files that are in
//! the kernel's memory, and both bring what they write to the disk.
//!
//! What is timed is the whole command; the same command's time with a volume that is empty is taken
//! off before it is held against the peer: that is the database's backup, or the end and the start
//! of the node and of what it serves. What is left does more than the peer: it reads again from the
//! disk what it wrote, and before a restore touches anything it reads the whole set.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use crate::files;
use crate::kit::images::TAGS;
use crate::kit::process::Ended;
use crate::kit::stack::Stack;
use crate::memory;
use crate::memory::Before;
use crate::nodes::unit;
use crate::sizes::Sizes;
use crate::stopwatch::millis;
use crate::stopwatch::timed;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;
use crate::versions::upgrade;

const MEBIBYTE: usize = 1 << 20;
/// Packages, which are compressed already.
const PACKAGE: usize = 4 * MEBIBYTE;
/// Logs.
const LOG: usize = MEBIBYTE / 4;
/// What octo-local compresses with, too.
const LEVEL: &str = "-1";
const WORDS: [&str; 12] = [
    "Deploying",
    "package",
    "Acme.Web",
    "to",
    "machine",
    "Success:",
    "Step",
    "The",
    "variable",
    "was",
    "acquired",
    "Calamari",
];

/// The peer, for the table's heading.
pub(crate) fn peer() -> String {
    let ran = Command::new("zstd").arg("--version").output();
    let said = ran.map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned());
    let version = said.ok().and_then(|said| {
        let word = said.split_whitespace().find(|word| word.starts_with('v'));
        word.map(|word| word.trim_end_matches(',').to_owned())
    });
    version.map_or_else(|| "no zstd".to_owned(), |version| format!("zstd {version}"))
}

/// What one round took.
struct Round {
    peer: Duration,
    ours: Duration,
    /// Of ours, while the volume was empty.
    empty: Duration,
}

impl Round {
    /// How fast we are, in percent of the peer's speed.
    fn share(&self) -> f64 {
        let ours = self.ours.saturating_sub(self.empty);
        100.0 * self.peer.as_secs_f64() / ours.as_secs_f64()
    }
}

const BACKUP: [&str; 3] = ["backup", "--name", "set"];
const RESTORE: [&str; 5] = ["backup", "restore", "set", "--yes", "--force"];

/// Backups and restores in turn, then one of each by the daemon.
pub(crate) fn measure(sizes: &Sizes) -> Vec<Row> {
    let stack = Stack::real("bench-volume");
    stack.set("OCTOPUS_NODES", "1");
    stack.set("STANDIN_OCTOPUS_VERSION", TAGS[0]);
    stack.run(&["up"]).ok();
    let mut most = Vec::new();
    let empty_backup = command(&stack, &BACKUP, &mut most);
    let empty_restore = command(&stack, &RESTORE, &mut most);
    forget(&stack);
    let place = files::on_host(&stack, &unit(1), "/repository");
    fill(&place, sizes.mebibytes as usize);
    let work = stack.dir().join("peer");
    fs::create_dir(&work).unwrap();
    let (mut saved, mut back) = (Vec::new(), Vec::new());
    for _ in 0..sizes.volumes {
        let archive = work.join("data.tar.zst");
        // Each restore makes the volume anew.
        let place = files::on_host(&stack, &unit(1), "/repository");
        saved.push(Round {
            peer: peer_saves(&place, &archive),
            ours: command(&stack, &BACKUP, &mut most),
            empty: empty_backup,
        });
        back.push(Round {
            peer: peer_restores(&archive, &work.join("out")),
            ours: command(&stack, &RESTORE, &mut most),
            empty: empty_restore,
        });
        fs::remove_dir_all(work.join("out")).unwrap();
        forget(&stack);
    }
    let (upgrade, rollback) = by_the_daemon(&stack);
    stack.run(&["down", "--volumes", "--yes"]).ok();
    [rows_of("backup", &saved), rows_of("restore", &back)]
        .concat()
        .into_iter()
        .chain([
            extra("daemon: more RSS while it backs up", upgrade),
            extra("daemon: more RSS while it brings back", rollback),
            Row::new(
                "`backup` and `backup restore`: the command's RSS",
                Unit::Mebibytes,
                Samples::of(most),
            ),
        ])
        .collect()
}

fn rows_of(what: &'static str, rounds: &[Round]) -> Vec<Row> {
    let peers = Samples::of(rounds.iter().map(|round| millis(round.peer)));
    let ours = Samples::of(rounds.iter().map(|round| millis(round.ours)));
    let empty = Samples::of(rounds.iter().map(|round| millis(round.empty)).take(1));
    let shares = Samples::of(rounds.iter().map(Round::share));
    let (time, nothing, speed) = if what == "backup" {
        (
            "`backup` of the volume, as a whole",
            "`backup` while the volume is empty",
            "`backup` beyond that: share of the speed of tar and zstd",
        )
    } else {
        (
            "`backup restore` of it, as a whole",
            "`backup restore` while the volume is empty",
            "`backup restore` beyond that: share of the speed of zstd and tar",
        )
    };
    vec![
        Row::new(time, Unit::Millis, ours).peer(peers.show(Unit::Millis)),
        Row::new(nothing, Unit::Millis, empty),
        Row::new(speed, Unit::Share, shares)
            .must(70.0)
            .aim(95.0)
            .at_least(),
    ]
}

fn extra(what: &'static str, mebibytes: f64) -> Row {
    Row::new(what, Unit::Mebibytes, Samples::of([mebibytes]))
        .must(16.0)
        .aim(8.0)
}

/// An upgrade, whose backup the daemon makes, and its rollback.
fn by_the_daemon(stack: &Stack) -> (f64, f64) {
    let daemon = stack.daemon().expect("a daemon runs");
    let before = Before::of(daemon);
    stack.set("STANDIN_OCTOPUS_VERSION", TAGS[1]);
    upgrade(stack, TAGS[1]);
    let saving = before.more();
    let before = Before::of(daemon);
    stack.run(&["rollback", "--yes"]).ok();
    (saving, before.more())
}

/// Takes the set away.
fn forget(stack: &Stack) {
    fs::remove_dir_all(stack.state().join("backups/set")).unwrap();
}

/// Runs ours to its end, and notes the most memory that it took.
fn command(stack: &Stack, words: &[&str], most: &mut Vec<f64>) -> Duration {
    settle();
    let begun = Instant::now();
    let child = stack
        .command(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    most.push(memory::most(&child));
    let output = child.wait_with_output().unwrap();
    let took = begun.elapsed();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended = Ended {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    };
    ended.ok();
    took
}

fn peer_saves(from: &Path, archive: &Path) -> Duration {
    let (from, archive) = (from.display(), archive.display());
    shell(&format!(
        "tar -C {from} -cf - . | zstd {LEVEL} -q -f -o {archive} && sync {archive}"
    ))
}

fn peer_restores(archive: &Path, to: &Path) -> Duration {
    fs::create_dir(to).unwrap();
    let (archive, to) = (archive.display(), to.display());
    shell(&format!("zstd -d -q -c {archive} | tar -C {to} -xpf -"))
}

fn shell(line: &str) -> Duration {
    settle();
    let (took, ended) =
        timed(Command::new("bash").args(["-ec", &format!("set -o pipefail; {line}")]));
    ended.ok();
    took
}

/// What others wrote is on the disk before anybody is timed.
fn settle() {
    timed(&mut Command::new("sync")).1.ok();
}

/// Half packages, half logs.
fn fill(place: &Path, mebibytes: usize) {
    let half = mebibytes * MEBIBYTE / 2;
    let mut package = vec![0; PACKAGE];
    for number in 0..half.div_ceil(PACKAGE) {
        getrandom::fill(&mut package).unwrap();
        fs::write(place.join(format!("Package.1.0.{number}.zip")), &package).unwrap();
    }
    let mut chance = 1_u64;
    for number in 0..half.div_ceil(LOG) {
        let text = log(&mut chance);
        fs::write(place.join(format!("servertasks-{number}.txt")), text).unwrap();
    }
}

/// Lines as a deployment writes them: few words, in any order, with numbers.
fn log(chance: &mut u64) -> String {
    let mut text = String::with_capacity(LOG + 200);
    while text.len() < LOG {
        *chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = |shift: u32| WORDS[(*chance >> shift) as usize % WORDS.len()];
        text.push_str(&format!(
            "2026-11-29T22:07:{:02}.{:03}+00:00 | INFO  | ServerTasks-{} | {} {} {} {} {}\n",
            (*chance >> 33) % 60,
            (*chance >> 40) % 1000,
            (*chance >> 50) % 10_000,
            word(20),
            word(24),
            word(28),
            word(36),
            (*chance >> 17) % 100_000,
        ));
    }
    text.truncate(LOG);
    text
}
