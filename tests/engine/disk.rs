//! Full and read-only disks: the stack is supervised all the same, says what is wrong, and is well
//! when the disk is.

use octo_local::reconcile::Cause;
use rustix::process::Signal;

use super::quick;
use crate::kit::private::PrivateEngine;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// Enough for everything that a daemon keeps in a short life, in kilobytes.
const STATE_DISK: u64 = 2_048;
/// Enough for the stand-ins' images and three containers, in kilobytes.
const DATA_DISK: u64 = 400 * 1_024;

fn up(name: &str) -> Stack {
    let stack = quick(Stack::real(name));
    stack.keep_state_on_a_small_disk(STATE_DISK);
    stack.run(&["up"]).ok();
    stack
}

fn notes(stack: &Stack) -> String {
    stack.status()["notes"].to_string()
}

/// A node that is killed comes back, a wish is obeyed, and the status says loudly that it is not
/// kept.
fn is_supervised_without_state(stack: &Stack) {
    let since = stack.witness.now();
    stack
        .witness
        .kill(&stack.container("octopus-server-2"), "KILL");
    wait_until("the node was started again", || {
        (!stack.starts(since).is_empty()).then_some(())
    });
    stack.wait_for("ready");
    stack.run(&["stop", "octopus-server-2"]).ok();
    assert!(
        notes(stack).contains("the state file cannot be written"),
        "{}",
        notes(stack)
    );
    assert!(
        stack
            .run(&["status"])
            .ok()
            .out
            .contains("the state file cannot be written"),
        "people are told too"
    );
}

/// Once the disk is well, a wish is kept: the next daemon knows it.
fn is_kept_again(stack: &Stack) {
    stack.run(&["stop", "octopus-server-2"]).ok();
    assert!(!notes(stack).contains("state file"), "{}", notes(stack));
    let before = stack.started();
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(
        stack.unit("octopus-server-2")["stopped"],
        true,
        "the wish was kept"
    );
    assert_eq!(stack.started(), before);
    drop(daemon);
}

#[test]
fn f19_a_state_directory_that_turns_read_only_costs_nothing_but_the_state() {
    let stack = up("read-only");
    stack.disk().make_read_only();
    is_supervised_without_state(&stack);
    stack.disk().make_writable();
    is_kept_again(&stack);
}

#[test]
fn f65_a_full_state_disk_costs_nothing_but_the_state() {
    let stack = up("state-full");
    stack.disk().fill();
    is_supervised_without_state(&stack);
    stack.disk().free();
    is_kept_again(&stack);
}

#[test]
fn f65_a_full_data_disk_is_a_named_cause_without_a_restart_storm() {
    let (engine, disk) = PrivateEngine::on_a_small_disk(DATA_DISK);
    let stack = quick(Stack::real_on(&engine, "data-full"));
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.signal_daemon(Signal::STOP);
    stack.witness.remove(&stack.container("octopus-server-2"));
    disk.fill();
    stack.signal_daemon(Signal::CONT);
    let seen = wait_until("the cause is named", || {
        Some(stack.unit("octopus-server-2"))
            .filter(|seen| seen["cause"] == format!("{:?}", Cause::DiskFull))
    });
    assert!(
        seen["fix"]
            .as_str()
            .unwrap()
            .contains("free some disk space"),
        "{seen}"
    );
    assert_eq!(seen["restarts"], 0, "{seen}");
    disk.free();
    stack.wait_for("ready");
    let after = stack.started();
    for unit in ["db", "octopus-server-1"] {
        assert_eq!(
            before[&stack.container(unit)],
            after[&stack.container(unit)],
            "{unit} was spared"
        );
    }
}

/// Without another wish, what could not be kept is kept once the disk is well.
fn is_kept_by_itself(stack: &Stack) {
    wait_until("the state file is written", || {
        (!notes(stack).contains("state file")).then_some(())
    });
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(
        stack.unit("octopus-server-2")["stopped"],
        true,
        "the wish was kept"
    );
    drop(daemon);
}

#[test]
fn f65_what_a_full_state_disk_kept_back_is_kept_by_itself_later() {
    let stack = quick(Stack::real("kept-later"));
    stack.keep_state_on_a_small_disk(STATE_DISK);
    stack.run(&["up"]).ok();
    stack.disk().fill();
    stack.run(&["stop", "octopus-server-2"]).ok();
    assert!(notes(&stack).contains("state file"));
    stack.disk().free();
    is_kept_by_itself(&stack);
}

#[test]
fn f65_up_on_a_full_state_disk_says_so_at_once() {
    let stack = quick(Stack::real("full-up"));
    stack.keep_state_on_a_small_disk(STATE_DISK);
    std::fs::create_dir(stack.state()).unwrap();
    stack.disk().fill();
    let begun = tokio::time::Instant::now();
    let ended = stack.run(&["up"]);
    assert_ne!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains("No space left on device"),
        "{}",
        ended.err
    );
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "a daemon that cannot begin is not tried for long"
    );
    stack.disk().free();
    stack.run(&["up"]).ok();
}

#[test]
fn f65_no_master_key_is_made_that_cannot_be_kept() {
    let stack = quick(Stack::real("full-key"));
    stack.keep_state_on_a_small_disk(STATE_DISK);
    let daemon = stack.spawn(&["daemon"]);
    wait_until("the daemon answers", || stack.daemon());
    stack.disk().fill();
    let ended = stack.run(&["up"]);
    assert_ne!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains("No space left on device"),
        "{}",
        ended.err
    );
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new(),
        "no node encrypts anything with it"
    );
    stack.disk().free();
    stack.run(&["up"]).ok();
    drop(daemon);
}
