//! Nodes that run and are not well: the hung are restarted, the slow, the flapping and the drained
//! are not.

use super::quick;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";
const NODE_3: &str = "octopus-server-3";

/// What the project promises for a hung node with its defaults.
const HUNG_LIMIT: i64 = 20_000_000_000;

/// Fault 48, with the defaults: one node keeps its port and answers nothing, another is frozen.
#[test]
fn f48_hung_nodes_are_restarted_within_twenty_seconds_and_no_other() {
    let stack = quick("hung", 3);
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS_2", "hang-after=2@once");
    stack.run(&["up"]).ok();
    let before = stack.started();
    let frozen = stack.witness.now();
    stack.witness.kill(&stack.container(NODE_3), "STOP");
    let hung = wait_until("node 2 hangs", || {
        stack
            .witness
            .said_at(&stack.container(NODE_2), "answers nothing")
    });
    wait_until("both were started again", || {
        (stack.starts(frozen).len() == 2).then_some(())
    });
    for (node, since) in [(NODE_2, hung), (NODE_3, frozen)] {
        let took = stack.told_at(frozen, "start", node) - since;
        assert!(
            took < HUNG_LIMIT,
            "{node} was started again after {took} ns"
        );
        assert_eq!(stack.recorded(node, "stopping: it hung"), 1);
    }
    stack.wait_for("ready");
    stack.assert_moved(&before, &[NODE_2, NODE_3]);
    stack.assert_no_violation();
}

/// Waits for this many more lapses of a flapping node, which is a time in which every other was
/// probed as often.
#[track_caller]
fn wait_for_lapses(stack: &Stack, node: &str, count: usize) {
    let enough = stack.recorded(node, "not ready") + count;
    wait_until("it flapped", || {
        (stack.recorded(node, "not ready") >= enough).then_some(())
    });
}

/// Fault 50: every third probe fails, so never three in a row. A drained node is alive.
#[test]
fn f50_a_flapping_node_and_a_drained_one_are_never_restarted() {
    let stack = quick("flapping", 2);
    stack.set("PROBE_INTERVAL", "100ms");
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS", "flap=3");
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.run(&["drain", NODE_2]).ok();
    let seen = stack.wait_for_unit(NODE_2, "drained");
    assert_eq!(seen["reason"], "it is drained (418)");
    wait_for_lapses(&stack, NODE_1, 8);
    assert_eq!(
        http::get(stack.port(NODE_2), "/api/octopusservernodes/ping", "")
            .unwrap()
            .0,
        418
    );
    stack.run(&["undrain", NODE_2]).ok();
    stack.wait_for_unit(NODE_2, "ready");
    stack.assert_moved(&before, &[]);
}

/// Fault 49: answers that never end and redirects that never arrive cost no more than a probe's
/// time.
#[test]
fn f49_endless_answers_are_bounded_and_count_as_no_answer() {
    let stack = quick("endless", 2);
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS", "slow-loris@once");
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS_2", "redirect-loop@once");
    stack.set("NODE_START_LIMIT", "3s");
    stack.set("PROBE_TIMEOUT", "500ms");
    let up = stack.spawn(&["up"]);
    for (node, words) in [
        (NODE_1, "no answer within 500 ms"),
        (NODE_2, "it answers 302"),
    ] {
        wait_until("its answer is described", || {
            (stack.unit(node)["reason"] == words).then_some(())
        });
    }
    stack.end(up).ok();
    for node in [NODE_1, NODE_2] {
        assert_eq!(
            stack.recorded(node, "stopping: its start made no progress"),
            1
        );
    }
    assert_eq!(
        stack.starts(stack.since),
        ["db", NODE_1, NODE_1, NODE_2, NODE_2]
    );
    stack.assert_no_violation();
}

/// Fault 58: what counts is that the log moves, not how long it takes.
#[test]
fn f58_a_slow_start_is_waited_for_and_a_stuck_one_is_not() {
    let stack = quick("slow", 2);
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS", "slow-start=9");
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS_2", "stuck-start@once");
    stack.set("NODE_START_LIMIT", "3s");
    stack.run(&["up"]).ok();
    assert_eq!(stack.starts(stack.since), ["db", NODE_1, NODE_2, NODE_2]);
    let took = stack.ready_at(NODE_1) - stack.told_at(stack.since, "start", NODE_1);
    assert!(took > 8_500_000_000, "three times the limit: {took} ns");
    assert_eq!(
        stack.recorded(NODE_2, "stopping: its start made no progress"),
        1
    );
    stack.assert_no_violation();
}

/// Fault 48 for SQL Server: its nodes wait for it.
#[test]
fn f48_a_hung_sql_server_is_restarted_and_its_nodes_are_spared() {
    let stack = quick("hung-sql", 1);
    stack.set("PROBE_INTERVAL", "500ms");
    stack.set("PROBE_TIMEOUT", "1s");
    // It always gets all of its time.
    stack.set("SQL_STOP_LIMIT", "1s");
    stack.run(&["up"]).ok();
    let (before, since) = (stack.started(), stack.witness.now());
    stack.witness.kill(&stack.container("db"), "STOP");
    stack.wait_for_repair(since);
    assert_eq!(stack.recorded("db", "stopping: it hung"), 1);
    stack.assert_moved(&before, &["db"]);
}

/// A drained node is alive for a daemon that never saw it ready, too, and is no reason to leave
/// others dead.
#[test]
fn f01_a_drained_node_outlives_the_daemon_and_holds_up_no_other() {
    let stack = quick("drained", 2);
    stack.set("PROBE_INTERVAL", "100ms");
    stack.set("NODE_START_LIMIT", "1s");
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.run(&["drain", NODE_1]).ok();
    stack.wait_for_unit(NODE_1, "drained");
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for_unit(NODE_2, "ready");
    stack.witness.kill(&stack.container(NODE_2), "KILL");
    wait_until("node 2 serves again", || {
        (stack.recorded(NODE_2, "it crashed") == 1 && stack.unit(NODE_2)["phase"] == "ready")
            .then_some(())
    });
    stack.assert_moved(&before, &[NODE_2]);
    drop(daemon);
}
