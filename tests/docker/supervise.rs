//! Units that end: whatever ends them they come back, in order and alone, and what is well is
//! spared.

use std::time::Duration;

use tokio::time::Instant;

use super::quick;
use super::running;
use crate::kit::http;
use crate::kit::process::wait_until;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";
const NODE_3: &str = "octopus-server-3";

#[test]
fn a_killed_node_comes_back_and_nothing_else_moves() {
    let stack = running("kill-node", 3);
    let (before, since) = (stack.started(), stack.witness.now());
    stack.witness.kill(&stack.container(NODE_2), "KILL");
    stack.wait_for_repair(since);
    assert_eq!(stack.starts(since), [NODE_2]);
    stack.assert_moved(&before, &[NODE_2]);
    assert_eq!(stack.unit(NODE_2)["restarts"], 1);
    // Those of a container count no more once another one is in its place.
    stack.set("TASK_CAP", "7");
    stack.run(&["up"]).ok();
    assert_eq!(stack.unit(NODE_2)["restarts"], 0);
}

/// Fault 55, where the absence is short.
#[test]
fn f55_a_killed_sql_server_comes_back_and_dead_nodes_wait_for_it() {
    let stack = running("kill-both", 3);
    let (before, since) = (stack.started(), stack.witness.now());
    for unit in [NODE_3, NODE_1, "db"] {
        stack.witness.kill(&stack.container(unit), "KILL");
    }
    stack.wait_for_repair(since);
    stack.assert_moved(&before, &["db", NODE_1, NODE_3]);
    let order: Vec<String> = stack.starts(since);
    let last = |unit: &str| order.iter().rposition(|started| started == unit).unwrap();
    assert!(
        last("db") < last(NODE_1) && last(NODE_1) < last(NODE_3),
        "{order:?}"
    );
    stack.assert_no_violation();
}

/// Faults 46 and 52: a server that ends well failed too, and one that fails again and again waits
/// longer and longer.
#[test]
fn f46_f52_ends_are_failures_and_a_crash_loop_waits_while_the_others_serve() {
    let stack = quick("crashing", 3);
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS_2", "exit-zero-after=1@once");
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS_3", "crash-at-start");
    stack.set("RESTART_BACKOFF_FIRST", "200ms");
    stack.run(&["up"]).with(1).says("octopus-server-3");
    wait_until("node 2 ended and came back", || {
        (stack.recorded(NODE_2, "exit code 0") == 1 && stack.unit(NODE_2)["phase"] == "ready")
            .then_some(())
    });
    stack.wait_for_unit(NODE_3, "crash-loop");
    let of_node_3 = |action: &str| -> Vec<i64> {
        let told = stack.events(stack.since).into_iter();
        told.filter(|told| told.action == action && told.name == NODE_3)
            .map(|told| told.at)
            .collect()
    };
    let (starts, deaths) = (of_node_3("start"), of_node_3("die"));
    for (number, shortest) in [180, 360, 720].into_iter().enumerate() {
        let waited = (starts[number + 2] - deaths[number + 1]) / 1_000_000;
        assert!(waited >= shortest, "wait {number} was {waited} ms");
    }
    for node in [NODE_1, NODE_2] {
        assert_eq!(
            http::get(stack.port(node), "/api", "").unwrap().0,
            200,
            "{node} serves"
        );
    }
    stack.unset("STANDIN_OCTOPUS_FAULT_OCTOPUS_3");
    stack.run(&["up"]).ok();
    stack.assert_no_violation();
}

/// Fault 69: a node that floods its log slows nobody down, and fills no disk.
#[test]
fn f69_a_flood_of_log_lines_slows_no_repair() {
    let stack = quick("flood", 2);
    stack.set("LOG_MAX_SIZE", "1m");
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS", "log-flood=50");
    stack.run(&["up"]).ok();
    let before = stack.started();
    let since = stack.witness.now();
    stack.witness.kill(&stack.container(NODE_2), "KILL");
    let began = Instant::now();
    stack.status();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "status took {:?}",
        began.elapsed()
    );
    stack.wait_for_repair(since);
    let took = stack.told_at(since, "start", NODE_2) - stack.told_at(since, "die", NODE_2);
    assert!(took < 5_000_000_000, "{took} ns");
    stack.assert_moved(&before, &[NODE_2]);
}

/// Fault 53: a container keeps its log over its runs, and an old end is not the new one.
#[test]
fn f53_what_an_earlier_run_said_is_not_why_this_one_ended() {
    let stack = quick("old-words", 1);
    stack.set("STANDIN_OCTOPUS_FAULT", "permission@once");
    stack.run(&["up"]).with(1).says("is denied");
    stack.run(&["start"]).ok();
    let since = stack.witness.now();
    stack.witness.kill(&stack.container(NODE_1), "KILL");
    stack.wait_for_repair(since);
    assert_eq!(
        stack.recorded(NODE_1, "it crashed: it was killed"),
        1,
        "{:?}",
        stack.history()
    );
}
