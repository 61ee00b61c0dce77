//! The stack keeps running: nodes and SQL Server that die, a daemon that dies, units that a person stops.

use rustix::process::Signal;

use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// A demo of two nodes that is up.
fn running(name: &str) -> Stack {
    let stack = Stack::demo(name);
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up", "--demo"]).ok();
    stack
}

#[test]
fn a_killed_node_comes_back_and_nothing_else_moves() {
    let stack = running("kill-node");
    let before = stack.started();
    let since = stack.witness.now();
    stack.witness.kill(&stack.container("octopus-server-2"), "KILL");
    wait_until("the node was started again", || (!stack.starts(since).is_empty()).then_some(()));
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["octopus-server-2"]);
    let after = stack.started();
    let moved = before.keys().filter(|name| before[*name] != after[*name]).collect::<Vec<_>>();
    assert_eq!(moved, [&stack.container("octopus-server-2")]);
    assert_eq!(stack.unit("octopus-server-2")["restarts"], 1);
}

#[test]
fn a_killed_sql_server_comes_back_and_the_nodes_are_spared() {
    let stack = running("kill-sql");
    let since = stack.witness.now();
    stack.witness.kill(&stack.container("db"), "KILL");
    wait_until("SQL Server was started again", || (!stack.starts(since).is_empty()).then_some(()));
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["db"], "nodes outlive a short absence of their database");
}

#[test]
fn a_killed_daemon_is_followed_by_one_that_restarts_nothing() {
    let stack = running("kill-daemon");
    let before = stack.started();
    stack.kill_daemon();
    let status = stack.status();
    assert_eq!(status["supervised"], false);
    assert!(status["message"].as_str().unwrap().contains("nobody supervises"), "{status}");
    stack.run(&["up", "--demo"]).ok();
    assert_eq!(stack.started(), before);
    assert_eq!(stack.status()["supervised"], true);
}

#[test]
fn sigterm_stops_in_order_and_the_next_daemon_brings_it_back_in_order() {
    let stack = running("sigterm");
    let since = stack.witness.now();
    stack.signal_daemon(Signal::TERM);
    stack.wait_for_no_daemon();
    let died: Vec<String> =
        stack.events(since).into_iter().filter(|told| told.action == "die").map(|told| told.name).collect();
    assert_eq!(died.len(), 3);
    assert_eq!(died[2], "db", "SQL Server stops last: {died:?}");
    let since = stack.witness.now();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["db", "octopus-server-1", "octopus-server-2"]);
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}

#[test]
fn a_unit_that_the_operator_stopped_stays_stopped_until_it_is_started() {
    let stack = running("stop-start");
    stack.run(&["stop", "octopus-server-2"]).ok();
    assert_eq!(stack.unit("octopus-server-2")["stopped"], true);
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    let since = stack.witness.now();
    assert_eq!(stack.unit("octopus-server-2")["stopped"], true, "the wish outlives the daemon");
    stack.run(&["start", "octopus-server-2"]).ok();
    stack.wait_for_unit("octopus-server-2", "ready");
    assert_eq!(stack.starts(since), ["octopus-server-2"]);
    drop(daemon);
}
