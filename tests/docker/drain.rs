//! Nodes finish their tasks before they end by choice, on the real engine: the vendor's command in
//! the container, the API where nothing can be run there, and what a daemon that dies meanwhile
//! leaves to the next one.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use super::quick;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// The exit code of a command that was killed.
const KILLED: i64 = 137;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";
pub(super) const KEY: &str = "API-TESTSOFOCTOLOCALTESTS1";

fn keyed(name: &str, nodes: u8) -> Stack {
    let stack = quick(name, nodes);
    stack.set("ADMIN_API_KEY", KEY);
    stack
}

/// Whether a node takes tasks: 200, or 418 when it is drained.
fn ping(stack: &Stack, node: &str) -> u16 {
    let answer = http::get(stack.port(node), "/api/octopusservernodes/ping", "");
    answer.map_or(0, |(status, _)| status)
}

/// Gives a node a task that takes so long, and waits until it runs. Gives its path.
pub(super) fn task(stack: &Stack, node: &str, seconds: u32) -> String {
    let body = format!(r#"{{"Name":"Trial","Arguments":{{"Seconds":{seconds}}}}}"#);
    let (status, answer) = http::post(stack.port(node), "/api/tasks", KEY, &body).unwrap();
    assert_eq!(status, 201, "{answer}");
    let task: Value = serde_json::from_str(&answer).unwrap();
    let path = format!("/api/tasks/{}", task["Id"].as_str().unwrap());
    wait_until("the task runs", || {
        (state(stack, node, &path) == "Executing").then_some(())
    });
    path
}

fn state(stack: &Stack, node: &str, task: &str) -> String {
    let (_, answer) = http::get(stack.port(node), task, KEY).unwrap();
    let task: Value = serde_json::from_str(&answer).unwrap();
    task["State"].as_str().unwrap().to_owned()
}

#[test]
fn a_restart_lets_tasks_finish_and_the_node_takes_others_afterwards() {
    let stack = keyed("drain-restart", 1);
    stack.run(&["up"]).ok();
    let task = task(&stack, NODE_1, 3);
    stack.run(&["restart", NODE_1]).ok();
    assert_eq!(state(&stack, NODE_1, &task), "Success");
    assert_eq!(ping(&stack, NODE_1), 200);
    assert_eq!(
        stack.recorded(NODE_1, "draining: it is restarted, as somebody asked"),
        1
    );
    assert_eq!(stack.recorded(NODE_1, "takes tasks again"), 1);
    stack.assert_no_violation();
}

#[test]
fn what_a_person_drained_stays_so_over_restarts_until_it_is_undrained() {
    let stack = keyed("drain-wish", 2);
    stack.run(&["up"]).ok();
    stack.run(&["drain", NODE_2]).ok();
    assert_eq!((ping(&stack, NODE_1), ping(&stack, NODE_2)), (200, 418));
    assert_eq!(stack.status()["verdict"], "ready");
    stack.run(&["restart", NODE_2]).ok();
    assert_eq!(stack.unit(NODE_2)["phase"], "drained");
    assert_eq!(ping(&stack, NODE_2), 418);
    stack.run(&["up"]).ok();
    assert_eq!(ping(&stack, NODE_2), 418, "an up changes nothing about it");
    stack.run(&["undrain", NODE_2]).ok();
    assert_eq!((ping(&stack, NODE_1), ping(&stack, NODE_2)), (200, 200));
    stack
        .run(&["drain", "db"])
        .with(1)
        .says("only nodes can be drained");
    stack.assert_no_violation();
}

#[test]
fn a_node_that_nobody_drained_by_name_takes_tasks_again_by_itself() {
    let stack = keyed("drain-foreign", 1);
    stack.set("PROBE_INTERVAL", "200ms");
    stack.run(&["up"]).ok();
    let words = [
        "/Octopus/Octopus.Server",
        "node",
        "--instance=OctopusServer",
        "--drain=true",
    ];
    let (code, said) = stack.witness.exec(&stack.container(NODE_1), &words);
    // A daemon that sees the drained node while the command still ends breaks that off first.
    assert!([0, KILLED].contains(&code), "{code}: {said}");
    wait_until("it takes tasks again", || {
        (stack.recorded(NODE_1, "takes tasks again") == 1 && ping(&stack, NODE_1) == 200)
            .then_some(())
    });
}

#[test]
fn tasks_that_take_too_long_delay_a_down_no_longer_than_they_may() {
    let stack = keyed("drain-long", 1);
    stack.set("DRAIN_TIMEOUT", "2s");
    stack.run(&["up"]).ok();
    task(&stack, NODE_1, 600);
    let begun = Instant::now();
    stack.run(&["down"]).ok();
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_daemon_that_dies_in_a_drain_leaves_the_rest_of_the_time_to_the_next() {
    let stack = keyed("drain-death", 1);
    stack.run(&["up"]).ok();
    let task = task(&stack, NODE_1, 5);
    let stop = stack.spawn(&["stop", NODE_1]);
    stack.wait_for_unit(NODE_1, "draining");
    stack.kill_daemon();
    stack.end(stop);
    let daemon = stack.spawn(&["daemon"]);
    wait_until("it is being stopped", || {
        (stack.recorded(NODE_1, "stopping: the operator stopped it") == 1).then_some(())
    });
    stack.wait_for_unit(NODE_1, "created");
    stack.run(&["start", NODE_1]).ok();
    assert_eq!(state(&stack, NODE_1, &task), "Success");
    assert_eq!(ping(&stack, NODE_1), 200);
    stack.assert_no_violation();
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}

/// Commands that drain a node would cancel its tasks at their end.
fn commands(stack: &Stack, node: &str) -> usize {
    stack.witness.commands(&stack.container(node))
}

#[test]
fn a_drain_that_somebody_thinks_better_of_is_broken_off_and_cancels_no_task() {
    let stack = keyed("drain-undone", 1);
    stack.run(&["up"]).ok();
    let task = task(&stack, NODE_1, 600);
    let drain = stack.spawn(&["drain", NODE_1]);
    wait_until("the command runs", || {
        (commands(&stack, NODE_1) == 1).then_some(())
    });
    stack.run(&["undrain", NODE_1]).ok();
    stack.end(drain);
    assert_eq!((commands(&stack, NODE_1), ping(&stack, NODE_1)), (0, 200));
    assert_eq!(state(&stack, NODE_1, &task), "Executing");
    assert_eq!(stack.recorded(NODE_1, "could not be drained"), 0);
}

#[test]
fn what_a_dead_daemon_began_is_broken_off_too() {
    let stack = keyed("drain-orphan", 1);
    stack.run(&["up"]).ok();
    let task = task(&stack, NODE_1, 600);
    let down = stack.spawn(&["down"]);
    wait_until("the command runs", || {
        (commands(&stack, NODE_1) == 1).then_some(())
    });
    // One that follows would begin the next daemon, which goes on.
    down.signal(Signal::KILL);
    stack.end(down);
    stack.kill_daemon();
    stack.run(&["up"]).ok();
    assert_eq!((commands(&stack, NODE_1), ping(&stack, NODE_1)), (0, 200));
    assert_eq!(state(&stack, NODE_1, &task), "Executing");
}

#[test]
fn where_nothing_can_be_run_in_the_container_the_api_is_asked() {
    let stack = keyed("drain-api", 1);
    stack.set("STANDIN_OCTOPUS_FAULT_OCTOPUS", "no-exec");
    stack.run(&["up"]).ok();
    let task = task(&stack, NODE_1, 2);
    stack.run(&["drain", NODE_1]).ok();
    assert_eq!(state(&stack, NODE_1, &task), "Success");
    assert_eq!(ping(&stack, NODE_1), 418);
    stack.run(&["undrain", NODE_1]).ok();
    assert_eq!(ping(&stack, NODE_1), 200);
}

#[test]
fn a_down_within_a_time_ends_then_and_sql_server_ends_cleanly() {
    let stack = keyed("drain-within", 1);
    stack.run(&["up"]).ok();
    task(&stack, NODE_1, 600);
    let begun = Instant::now();
    stack.run(&["down", "--timeout", "4"]).ok();
    let took = begun.elapsed();
    // Half of it is for tasks, in whole seconds.
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(stack.recorded("db", "it shut down cleanly"), 1);
}

#[test]
fn ctrl_c_in_a_drain_says_what_is_waited_for_and_the_second_one_skips_it() {
    let stack = keyed("drain-ctrl-c", 1);
    stack.run(&["up"]).ok();
    task(&stack, NODE_1, 600);
    let down = stack.spawn(&["down"]);
    stack.wait_for_unit(NODE_1, "draining");
    wait_until("its tasks are counted", || {
        let reason = stack.unit(NODE_1)["reason"].as_str()?.to_owned();
        reason.contains("finishes 1 task ").then_some(())
    });
    down.signal(Signal::INT);
    down.wait_until_it_says("octopus-server-1: still at work on tasks; Ctrl-C again cuts");
    assert_eq!(stack.unit(NODE_1)["phase"], "draining");
    down.signal(Signal::INT);
    stack
        .end(down)
        .ok()
        .says("tasks that run are not waited for");
    assert_eq!(stack.recorded("db", "it shut down cleanly"), 1);
}
