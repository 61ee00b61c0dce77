//! Exit codes where an engine is needed, or must be missing. 64 is in `usage`, 70 in the program's
//! own unit test.

use rustix::process::Signal;

use super::Place;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

#[test]
fn an_engine_that_cannot_be_reached_is_69_and_the_way_to_it_is_named() {
    let place = Place::new();
    for words in [
        &["up", "--demo"][..],
        &["status"],
        &["down"],
        &["logs"],
        &["explain", "db"],
    ] {
        place
            .run(words)
            .with(69)
            .says("/nowhere.sock")
            .says("DOCKER_HOST");
    }
    let mut closed = place.command(&["status"]);
    closed.env("DOCKER_HOST", "tcp://127.0.0.1:1");
    crate::kit::process::Running::spawn(&mut closed)
        .end()
        .with(69)
        .says("tcp://127.0.0.1:1")
        .says("start Docker there");
}

#[test]
fn a_start_that_takes_longer_than_asked_is_75_and_goes_on() {
    let stack = Stack::demo("cli-slow");
    stack.set("STANDIN_OCTOPUS_FAULT", "slow-start=4@once");
    stack
        .run(&["up", "--demo", "--wait-timeout", "1"])
        .with(75)
        .says("the daemon goes on")
        .says("not ready after 1s");
    stack.run(&["up", "--demo", "-d", "--wait"]).ok();
    stack.run(&["plan", "--demo"]).ok();
    stack.run(&["plan", "--demo", "--nodes", "2"]).with(2);
}

#[test]
fn ctrl_c_starts_nothing_further_and_is_130() {
    let stack = Stack::demo("cli-ctrl-c");
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS", "slow-start=3@once");
    stack.set("STANDIN_OCTOPUS_STOP_MS", "3000");
    // While a node finishes its tasks Ctrl-C means something else.
    stack.set("DRAIN_TIMEOUT", "0");
    let up = stack.spawn(&["up", "--demo", "--nodes", "2"]);
    wait_until("node 1 was started", || {
        stack
            .starts(stack.since)
            .contains(&"octopus-server-1".to_owned())
            .then_some(())
    });
    up.signal(Signal::INT);
    stack.end(up).with(130).says("`octo-local up` goes on");
    assert_eq!(stack.status()["verdict"], "held");
    stack.run(&["up", "--demo", "--nodes", "2"]).ok();
    let starts = stack.starts(stack.since);
    assert_eq!(
        starts,
        ["db", "octopus-server-1", "octopus-server-2"],
        "the next `up` goes on where it was"
    );
    let down = stack.spawn(&["down", "-t", "5"]);
    wait_until("it goes down", || {
        (stack.status()["message"] == "going down").then_some(())
    });
    down.signal(Signal::INT);
    stack
        .end(down)
        .with(130)
        .says("goes on taking the stack down");
    stack.wait_for_no_daemon();
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
}

#[test]
fn the_second_ctrl_c_ends_up_at_once() {
    let stack = Stack::demo("cli-twice");
    stack.set("STANDIN_OCTOPUS_FAULT", "slow-start=30");
    let up = stack.spawn(&["up", "--demo"]);
    wait_until("the node was started", || {
        stack
            .starts(stack.since)
            .contains(&"octopus-server-1".to_owned())
            .then_some(())
    });
    // A daemon that does not answer cannot hold the second one up.
    stack.signal_daemon(Signal::STOP);
    up.signal(Signal::INT);
    let second = stack.spawn(&["version"]);
    stack.end(second).ok();
    up.signal(Signal::INT);
    stack.end(up).with(130);
    stack.signal_daemon(Signal::CONT);
}

#[test]
fn a_stack_that_fails_is_1_with_cause_lines_and_fix() {
    let stack = Stack::real("cli-fails");
    stack.set("STANDIN_OCTOPUS_FAULT", "license-expired");
    let ended = stack
        .run(&["up"])
        .with(1)
        .says("OCTOPUS_SERVER_BASE64_LICENSE")
        .says("octopus-server-1 | ");
    assert!(ended.err.contains("failed"), "{}", ended.err);
    let table = stack.run(&["ps"]).ok();
    assert!(
        table.out.contains("failed: octopus-server-1")
            && table.out.contains("fix: octopus-server-1"),
        "{}",
        table.out
    );
    let told = stack.run(&["explain", "octopus-server"]).ok().out;
    for word in [
        "octopus-server-1: failed, since 20",
        "  why    ",
        "  fix    ",
        "  past   ",
        "  next   nothing until",
        "  log    ",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("db:"), "{told}");
}
