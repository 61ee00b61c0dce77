//! Whoever makes a backup is killed with -9 in the middle of it, on the real engine: nothing that is
//! half looks whole, and the next one is made as if nothing had been.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use rustix::process::Signal;

use super::backup::NODE;
use super::bad_days::sets;
use super::quick;
use super::upgrade::served;
use super::upgrade::step;
use super::upgrade::versions;
use crate::kit::http;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// What of sets that are not done is there.
fn half(place: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let half = entries
        .filter(|one| one.path().is_dir())
        .map(|one| one.file_name());
    half.filter(|name| name.to_string_lossy().starts_with('.'))
        .collect()
}

/// Waits until a set is begun that was not there before.
#[track_caller]
fn wait_for_another(place: &Path, before: &BTreeSet<OsString>) {
    wait_until("a set is begun", || {
        (!half(place).is_subset(before)).then_some(())
    });
}

#[track_caller]
fn wait_for_tasks_to_be_taken(stack: &Stack) {
    let ping = || http::get(stack.port(NODE), "/api/octopusservernodes/ping", "");
    wait_until("the node takes tasks", || {
        ping().filter(|(status, _)| *status == 200)
    });
}

/// A stack whose backups take a while in the database.
fn slow(name: &str) -> Stack {
    let stack = quick(name, 1);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.set("STANDIN_SQL_BACKUP_MS", "1500");
    stack.run(&["up"]).ok();
    stack
}

#[test]
fn a_backup_that_is_killed_leaves_nothing_that_looks_whole_and_no_node_drained() {
    let stack = slow("killed-backup");
    let place = stack.state().join("backups");
    let before = served(&stack);
    // In the middle of the database, which takes its time and has no file of its own yet.
    let there = half(&place);
    let backup = stack.spawn(&["backup", "--quiesce", "--name", "none"]);
    wait_for_another(&place, &there);
    backup.signal(Signal::KILL);
    stack.end(backup).with(-1);
    assert_eq!(sets(&stack, &[]), (0, 1));
    wait_for_tasks_to_be_taken(&stack);
    // The daemon dies under the command, which may start the next one: the set would not be of one
    // moment.
    let there = half(&place);
    let backup = stack.spawn(&["backup", "--quiesce", "--name", "one"]);
    wait_for_another(&place, &there);
    stack.signal_daemon(Signal::KILL);
    stack.end(backup).with(1).says("no backup was made");
    assert_eq!(sets(&stack, &[]), (0, 0));
    stack.run(&["up"]).ok();
    wait_for_tasks_to_be_taken(&stack);

    stack.run(&["backup", "--quiesce", "--name", "one"]).ok();
    stack.run(&["backup", "verify", "one"]).ok();
    assert_eq!((sets(&stack, &[]), served(&stack)), ((1, 0), before));
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn a_daemon_that_is_killed_in_the_backup_before_an_upgrade_leaves_one_whole_set() {
    let stack = slow("killed-saving");
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    let place = stack.state().join("upgrades");
    let from = place.display().to_string();
    let upgrade = stack.spawn(&["upgrade", TAGS[1], "--yes"]);
    wait_for_another(&place, &BTreeSet::new());
    upgrade.signal(Signal::KILL);
    stack.kill_daemon();
    stack.end(upgrade).with(-1);
    assert_eq!(sets(&stack, &["--from", &from]), (0, 1));
    stack.run(&["upgrade", TAGS[1], "--yes"]).ok();
    assert_eq!(sets(&stack, &["--from", &from]), (1, 0));
    assert_eq!(
        (served(&stack).0.as_str(), step(&stack).as_str()),
        ("2026.2.7", "")
    );
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
