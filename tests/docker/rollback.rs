//! A rollback that cannot be done costs nothing, and one that was interrupted is finished.

use std::path::PathBuf;

use rustix::process::Signal;

use super::backup::NODE;
use super::quick;
use super::upgrade::older;
use super::upgrade::served;
use super::upgrade::sets;
use super::upgrade::step;
use super::upgrade::versions;
use crate::kit::images::Images;
use crate::kit::images::ScratchImage;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// Changes the last byte of a file to what it was not, or back again.
fn turn_a_byte(path: &PathBuf) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The one set that is kept of upgrades.
fn set_of(stack: &Stack) -> PathBuf {
    let read = std::fs::read_dir(stack.state().join("upgrades")).unwrap();
    let mut sets = read.flatten().map(|entry| entry.path());
    let is_whole = |path: &PathBuf| path.join("database.bak.zst").exists();
    sets.find(is_whole).unwrap()
}

/// Whether `.env` asks for this version.
fn asks_for(stack: &Stack, tag: &str) -> bool {
    let text = std::fs::read_to_string(stack.dir().join(".env")).unwrap();
    let mut lines = text.lines();
    lines.any(|line| line.starts_with("OCTOPUS_SERVER_TAG=") && line.contains(tag))
}

#[test]
fn a_rollback_whose_backup_cannot_be_relied_on_costs_nothing_and_says_why() {
    let stack = older("rollback-damaged");
    let old = served(&stack);
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    stack.run(&["upgrade", TAGS[1], "--yes"]).ok();
    let (since, new, set) = (stack.witness.now(), served(&stack), set_of(&stack));
    let refused = |why: &str| {
        let ended = stack.run(&["rollback", "--yes"]).with(1).says(why);
        let runs = format!("{}:{} stays applied", Images::octopus(), TAGS[1]);
        let ended = ended.says(&runs);
        assert!(!ended.err.contains("runs again"), "{}", ended.err);
        assert_eq!(stack.events(since), [], "nothing was stopped");
        assert_eq!(
            (served(&stack), asks_for(&stack, TAGS[1])),
            (new.clone(), true)
        );
    };
    turn_a_byte(&set.join("database.bak.zst"));
    refused("another SHA-256");
    turn_a_byte(&set.join("database.bak.zst"));
    let away = stack.dir().join("away");
    std::fs::rename(&set, &away).unwrap();
    refused("there is no backup");
    std::fs::rename(&away, &set).unwrap();

    stack.run(&["rollback", "--yes"]).ok().says("runs again");
    assert_eq!((served(&stack), sets(&stack)), (old, 1));
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn a_rollback_whose_image_is_not_there_costs_nothing_and_stays_possible() {
    let repo = format!("{}-rollback", Images::octopus());
    let tagged = |tag: &str| {
        let image = format!("{}:{tag}", Images::octopus());
        ScratchImage::tagged(&image, &format!("{repo}:{tag}"))
    };
    let stack = quick("rollback-image", 1);
    let (first, _second) = (tagged(TAGS[0]), tagged(TAGS[1]));
    stack.set("OCTOPUS_IMAGE", &repo);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.run(&["up"]).ok();
    let old = served(&stack);
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    stack.run(&["upgrade", TAGS[1], "--yes"]).ok();
    let (since, new) = (stack.witness.now(), served(&stack));
    let name = first.name().to_owned();
    drop(first);
    stack
        .run(&["rollback", "--yes"])
        .with(1)
        .says(&format!("image {name}"))
        .says(&format!("{repo}:{} stays applied", TAGS[1]));
    assert_eq!(stack.events(since), [], "nothing was stopped");
    assert_eq!(
        (served(&stack), stack.unit(NODE)["phase"].as_str()),
        (new, Some("ready"))
    );

    let _first = tagged(TAGS[0]);
    stack.run(&["rollback", "--yes"]).ok().says("runs again");
    assert_eq!(served(&stack), old);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn an_interrupted_rollback_is_finished_by_the_next_one() {
    let stack = older("rollback-interrupted");
    let old = served(&stack);
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.7");
    stack.run(&["upgrade", TAGS[1], "--yes"]).ok();
    let back = stack.spawn(&["rollback", "--yes"]);
    wait_until("bringing back", || {
        (step(&stack) == "bringing-back").then_some(())
    });
    back.signal(Signal::INT);
    stack
        .end(back)
        .with(130)
        .says("`octo-local rollback` again")
        .says("would upgrade again");
    assert!(asks_for(&stack, TAGS[1]));
    let finish = || {
        stack.run(&["rollback", "--yes"]).ok().says("runs again");
        assert_eq!(
            (served(&stack), asks_for(&stack, TAGS[0])),
            (old.clone(), true)
        );
    };
    // It waits for the end.
    finish();
    assert_eq!(stack.status()["verdict"], "ready");

    // Whoever was killed wrote nothing either, and the end is long past then.
    stack.set("OCTOPUS_SERVER_TAG", TAGS[1]);
    let told = stack.run(&["status"]);
    assert!(told.out.contains("`octo-local rollback`"), "{}", told.out);
    let since = stack.witness.now();
    finish();
    assert_eq!(stack.events(since), [], "it is done");
    stack.run(&["rollback", "--yes"]).with(1).says("no upgrade");
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
