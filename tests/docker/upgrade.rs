//! Another version of Octopus Server on the real engine: with a backup before it, and back again.

use rustix::process::Signal;
use serde_json::Value;

use super::backup::Entry;
use super::backup::NODE;
use super::backup::get;
use super::backup::odd_files;
use super::backup::put;
use super::quick;
use crate::kit::http;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_2: &str = "octopus-server-2";

/// What a node says of itself: its version, and which database it serves.
pub(super) fn served(stack: &Stack) -> (String, String) {
    let (status, body) = http::get(stack.port(NODE), "/api", "").unwrap();
    assert_eq!(status, 200, "{body}");
    let api: Value = serde_json::from_str(&body).unwrap();
    let text = |name: &str| api[name].as_str().unwrap().to_owned();
    (text("Version"), text("InstallationId"))
}

/// The files that were put there, and those that came since: name, owner, mode, time, content's
/// length and sum.
fn files(stack: &Stack) -> Vec<String> {
    let shown = |entry: &Entry| {
        let (name, kind, owner, group, mode, time, link, content) = entry;
        let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
        let length = content.len();
        format!("{name} {kind} {owner}:{group} {mode:o} {time} {link} {length} {sum}")
    };
    let files = get(stack, NODE, "/artifacts/.");
    // Each run of the stand-in writes one itself.
    let others = files
        .iter()
        .filter(|entry| !entry.0.starts_with("./octopus") && entry.0 != "./");
    others.map(shown).collect()
}

/// What the next version is, however it comes.
pub(super) fn versions(stack: &Stack, tag: &str, version: &str) {
    stack.set("OCTOPUS_SERVER_TAG", tag);
    stack.set("STANDIN_OCTOPUS_VERSION", version);
}

/// Two nodes of the older version, with files.
pub(super) fn older(name: &str) -> Stack {
    let stack = quick(name, 2);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.run(&["up"]).ok();
    put(&stack, NODE, "/artifacts", odd_files());
    stack
}

pub(super) fn step(stack: &Stack) -> String {
    let status = stack.status();
    let step = status["version_change"]["step"].as_str();
    step.unwrap_or_default().to_owned()
}

pub(super) fn sets(stack: &Stack) -> usize {
    let read = std::fs::read_dir(stack.state().join("upgrades"));
    let names = read.into_iter().flatten().flatten();
    names
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .count()
}

#[test]
fn an_upgrade_is_backed_up_written_down_and_taken_back_as_a_whole() {
    let stack = older("upgrade");
    let (wanted, before) = (files(&stack), served(&stack));
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    let since = stack.witness.now();
    stack.run(&["upgrade", TAGS[1]]).with(64).says("--yes");
    assert_eq!(stack.events(since), [], "nobody could be asked");
    stack
        .run(&["upgrade", TAGS[1], "--yes"])
        .ok()
        .says("back up")
        .says(&format!("says OCTOPUS_SERVER_TAG={} now", TAGS[1]));
    let told = stack.events(since);
    let of = |action: &str| {
        let told = told
            .iter()
            .filter(|told| told.action == action && told.name != "db");
        told.map(|told| told.at).collect::<Vec<_>>()
    };
    assert!(
        of("die").iter().max() < of("start").iter().min(),
        "{told:#?}"
    );
    assert_eq!((served(&stack).0.as_str(), sets(&stack)), ("2026.2.7", 1));
    assert_eq!(files(&stack), wanted);
    stack.run(&["plan"]).with(0);
    put(&stack, NODE, "/artifacts", odd_files());

    stack.run(&["rollback"]).with(64).says("--yes");
    stack
        .run(&["rollback", "--yes"])
        .ok()
        .says(&format!("says OCTOPUS_SERVER_TAG={} now", TAGS[0]));
    assert_eq!((served(&stack), files(&stack)), (before, wanted));
    assert_eq!(stack.status()["verdict"], "ready");
    stack.run(&["rollback", "--yes"]).with(1).says("no upgrade");
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// Wherever it is by then: half of it would leave nodes out, or a tag that asks for the version before.
#[test]
fn an_upgrade_that_a_person_interrupts_goes_on_and_is_finished_by_the_same_command() {
    let stack = older("upgrade-interrupted");
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1500");
    stack.run(&["up"]).ok();
    let upgrade = ["upgrade", TAGS[1], "--yes"];
    for at in ["saving", "migrating"] {
        stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
        let interrupted = stack.spawn(&upgrade);
        wait_until(at, || (step(&stack) == at).then_some(()));
        interrupted.signal(Signal::INT);
        stack.end(interrupted).with(130).says("the upgrade goes on");
        stack
            .run(&upgrade)
            .ok()
            .says(&format!("says OCTOPUS_SERVER_TAG={} now", TAGS[1]));
        assert_eq!(served(&stack).0, "2026.2.7", "interrupted {at}");
        for unit in [NODE, NODE_2] {
            assert_eq!(stack.unit(unit)["phase"], "ready", "interrupted {at}");
        }
        stack.run(&["plan"]).with(0);
        stack.run(&["rollback", "--yes"]).ok();
    }
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn what_does_not_come_up_is_taken_back_by_a_person_or_by_itself() {
    let stack = older("upgrade-fails");
    let (wanted, before) = (files(&stack), served(&stack));
    versions(&stack, TAGS[1], "2026.2.7");
    stack.set("STANDIN_OCTOPUS_FAULT", "crash-in-upgrade=2");
    stack.run(&["up"]).with(1).says("octo-local rollback");
    stack.run(&["rollback", "--yes"]).ok();
    assert_eq!(
        (served(&stack), files(&stack)),
        (before.clone(), wanted.clone())
    );

    versions(&stack, TAGS[1], "2026.2.7");
    stack.set("UPGRADE_ROLLBACK", "auto");
    stack.set("STANDIN_OCTOPUS_FAULT", "permission");
    stack
        .run(&["up"])
        .with(1)
        .says("was taken back, as UPGRADE_ROLLBACK says")
        .says("runs again, with the data of before");
    let told = stack.history();
    let is_it = |(_, what): &(String, String)| what.contains("as UPGRADE_ROLLBACK says");
    assert!(told.iter().any(is_it), "{told:?}");
    assert_eq!(stack.status()["verdict"], "ready");
    assert_eq!(step(&stack), "");
    assert_eq!((served(&stack), files(&stack)), (before, wanted));
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn a_daemon_that_dies_at_any_step_of_an_upgrade_or_a_rollback_is_gone_on_with() {
    let stack = older("upgrade-killed");
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1500");
    let before = served(&stack);
    for at in ["resting", "saving", "migrating"] {
        versions(&stack, TAGS[1], "2026.2.7");
        let up = stack.spawn(&["up"]);
        wait_until(at, || (step(&stack) == at).then_some(()));
        // Another one goes on at once.
        stack.signal_daemon(Signal::KILL);
        stack.end(up).ok();
        assert_eq!(served(&stack).0, "2026.2.7", "killed {at}");
        let back = stack.spawn(&["rollback", "--yes"]);
        wait_until("bringing back", || {
            (step(&stack) == "bringing-back").then_some(())
        });
        back.signal(Signal::KILL);
        stack.end(back);
        stack.kill_daemon();
        stack.run(&["rollback", "--yes"]).ok();
        assert_eq!(served(&stack), before, "killed {at}");
    }
    let unit = stack.unit(NODE_2);
    assert_eq!(unit["phase"], "ready");
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn an_upgrade_without_room_for_its_backup_is_refused_before_anything_is_out() {
    let stack = quick("upgrade-no-room", 1);
    stack.keep_state_on_a_small_disk(16_000);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.run(&["up"]).ok();
    let (since, before) = (stack.witness.now(), served(&stack));
    for words in [
        &["upgrade", TAGS[1], "--yes"][..],
        &["upgrade", TAGS[1], "--plan"],
    ] {
        stack
            .run(words)
            .with(78)
            .says("backup before the upgrade needs");
    }
    assert_eq!((stack.events(since), served(&stack)), (vec![], before));
    versions(&stack, TAGS[1], "2026.2.7");
    stack.run(&["plan"]).with(78).says("--no-backup");
    stack
        .run(&["upgrade", TAGS[1], "--plan", "--no-backup"])
        .with(2);
    stack
        .run(&["upgrade", TAGS[1], "--yes", "--no-backup"])
        .ok();
    assert_eq!(served(&stack).0, "2026.2.7");
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
