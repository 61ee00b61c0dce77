//! Two who change or save the same data at the same time: one does it, the other is told so in one
//! sentence or waits for the same, and nothing is lost.

use super::backup::NODE;
use super::quick;
use super::upgrade::older;
use super::upgrade::served;
use super::upgrade::sets;
use super::upgrade::step;
use super::upgrade::versions;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const UPGRADE: [&str; 3] = ["upgrade", TAGS[1], "--yes"];

/// Waits until an upgrade is at this step.
#[track_caller]
fn wait_for(stack: &Stack, wanted: &str) {
    wait_until(wanted, || (step(stack) == wanted).then_some(()));
}

#[test]
fn two_upgrades_to_the_same_version_at_once_are_one() {
    let stack = older("at-once-same");
    stack.set("STANDIN_SQL_BACKUP_MS", "1500");
    stack.run(&["up"]).ok();
    versions(&stack, TAGS[0], "2026.2.7");
    let since = stack.witness.now();
    let both = [stack.spawn(&UPGRADE), stack.spawn(&UPGRADE)];
    // Whichever ends first writes it down, and the other finds it there.
    let told = both.map(|one| stack.end(one).ok().err);
    let written = format!("OCTOPUS_SERVER_TAG={}", TAGS[1]);
    assert!(told.iter().any(|said| said.contains(&written)), "{told:?}");
    assert_eq!((served(&stack).0.as_str(), sets(&stack)), ("2026.2.7", 1));
    assert_eq!(stack.starts(since), [NODE, "octopus-server-2"]);
    stack.set("OCTOPUS_SERVER_TAG", TAGS[1]);
    stack.run(&["plan"]).with(0);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn of_two_upgrades_to_different_versions_the_later_one_counts() {
    let stack = older("at-once-two");
    let before = served(&stack);
    stack.set("STANDIN_SQL_BACKUP_MS", "2500");
    stack.run(&["up"]).ok();
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    let first = stack.spawn(&UPGRADE);
    wait_for(&stack, "saving");
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.3.12");
    stack.run(&["upgrade", TAGS[2], "--yes"]).ok();
    stack.end(first).with(1).says("another command came in");
    let written = std::fs::read_to_string(stack.dir().join(".env")).unwrap();
    let mut lines = written.lines();
    let last = lines.rfind(|line| line.starts_with("OCTOPUS_SERVER_TAG="));
    assert!(last.is_some_and(|line| line.contains(TAGS[2])), "{written}");
    assert_eq!(served(&stack).0, "2026.3.12");
    // That of the first one may be whole already, and stays.
    assert!((1..=2).contains(&sets(&stack)), "{}", sets(&stack));
    stack.assert_no_violation();
    // The way back is the one from before both.
    stack.run(&["rollback", "--yes"]).ok();
    assert_eq!(served(&stack), before);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn in_the_middle_of_an_upgrade_no_backup_is_made_and_nothing_older_begins() {
    let stack = quick("at-once-other", 1);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.set("STANDIN_SQL_BACKUP_MS", "2500");
    stack.run(&["up"]).ok();
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    stack.set("STANDIN_OCTOPUS_UPGRADE_MS", "4000");
    let first = stack.spawn(&UPGRADE);
    wait_for(&stack, "saving");
    stack.run(&["backup"]).with(1).says("backs this project up");
    stack
        .run(&["rollback", "--yes"])
        .with(1)
        .says("the upgrade is not applied yet");
    stack.run(&["upgrade", TAGS[1], "--plan"]);
    assert_eq!(step(&stack), "saving");
    wait_for(&stack, "migrating");
    wait_until("the first node migrates", || {
        stack
            .witness
            .said_at(&stack.container(NODE), "Executing Database Server script")
    });
    for words in [&["backup"][..], &["backup", "--quiesce"]] {
        stack.run(words).with(1).says("an upgrade is not done");
    }
    stack
        .run(&["upgrade", TAGS[0], "--yes"])
        .with(78)
        .says("a database cannot go back");
    stack.end(first).ok();
    assert_eq!((served(&stack).0.as_str(), sets(&stack)), ("2026.2.7", 1));
    stack.run(&["backup"]).ok();
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
