//! Whoever makes a backup is killed with -9 in the middle of it, on the real engine: nothing that is
//! half looks whole, and the next one is made as if nothing had been.

use std::path::Path;

use rustix::process::Signal;

use super::backup::NODE;
use super::backup::put;
use super::bad_days::large_file;
use super::bad_days::sets;
use super::quick;
use super::upgrade::served;
use super::upgrade::step;
use super::upgrade::versions;
use crate::kit::http;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// Waits until a set that is not done has this file.
#[track_caller]
fn wait_for(place: &Path, file: &str) {
    wait_until(file, || {
        let entries = std::fs::read_dir(place).ok()?.flatten();
        let mut half = entries.filter(|one| one.file_name().to_string_lossy().starts_with('.'));
        half.any(|one| one.path().join(file).exists()).then_some(())
    });
}

#[track_caller]
fn wait_for_tasks_to_be_taken(stack: &Stack) {
    let ping = || http::get(stack.port(NODE), "/api/octopusservernodes/ping", "");
    wait_until("the node takes tasks", || {
        ping().filter(|(status, _)| *status == 200)
    });
}

/// A stack whose backups take a while in the database and in one volume.
fn slow(name: &str) -> Stack {
    let stack = quick(name, 1);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.set("STANDIN_SQL_BACKUP_MS", "1000");
    stack.run(&["up"]).ok();
    put(&stack, NODE, "/artifacts", large_file());
    stack
}

#[test]
fn a_backup_that_is_killed_leaves_nothing_that_looks_whole_and_no_node_drained() {
    let stack = slow("killed-backup");
    let place = stack.state().join("backups");
    let before = served(&stack);
    // In the middle of the database, which has no file of its own yet, and of a volume.
    for file in ["", "artifacts.tar.zst"] {
        let backup = stack.spawn(&["backup", "--quiesce", "--name", "one"]);
        wait_for(&place, file);
        backup.signal(Signal::KILL);
        stack.end(backup).with(-1);
        assert_eq!(sets(&stack, &[]), (0, 1), "{file}");
        wait_for_tasks_to_be_taken(&stack);
    }
    // The daemon dies under the command: the set would not be of one moment.
    let backup = stack.spawn(&["backup", "--quiesce", "--name", "one"]);
    wait_for(&place, "artifacts.tar.zst");
    stack.kill_daemon();
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
    for file in ["", "artifacts.tar.zst"] {
        let upgrade = stack.spawn(&["upgrade", TAGS[1], "--yes"]);
        wait_for(&place, file);
        upgrade.signal(Signal::KILL);
        stack.kill_daemon();
        stack.end(upgrade).with(-1);
        assert_eq!(sets(&stack, &["--from", &from]), (0, 1), "{file}");
    }
    stack.run(&["upgrade", TAGS[1], "--yes"]).ok();
    assert_eq!(sets(&stack, &["--from", &from]), (1, 0));
    assert_eq!(
        (served(&stack).0.as_str(), step(&stack).as_str()),
        ("2026.2.7", "")
    );
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
