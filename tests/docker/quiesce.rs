//! Backups while no node has tasks, on the real engine.

use rustix::process::Signal;

use super::quick;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE: &str = "octopus-server-1";
const KEY: &str = "API-TESTSOFOCTOLOCALTESTS1";

/// Whether a node takes tasks: 200, or 418 when it is drained.
fn ping(stack: &Stack, node: &str) -> u16 {
    let answer = http::get(stack.port(node), "/api/octopusservernodes/ping", "");
    answer.map_or(0, |(status, _)| status)
}

fn take_tasks(stack: &Stack) {
    for node in [NODE, "octopus-server-2"] {
        wait_until("it takes tasks", || {
            (ping(stack, node) == 200).then_some(())
        });
    }
}

/// Gives node 1 a task that takes so long, and waits until it runs.
fn busy(stack: &Stack, seconds: u32) -> String {
    let body = format!(r#"{{"Name":"Trial","Arguments":{{"Seconds":{seconds}}}}}"#);
    let (status, answer) = http::post(stack.port(NODE), "/api/tasks", KEY, &body).unwrap();
    assert_eq!(status, 201, "{answer}");
    let task: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let path = format!("/api/tasks/{}", task["Id"].as_str().unwrap());
    wait_until("the task runs", || {
        (state(stack, &path) == "Executing").then_some(())
    });
    path
}

fn state(stack: &Stack, task: &str) -> String {
    let (_, answer) = http::get(stack.port(NODE), task, KEY).unwrap();
    let task: serde_json::Value = serde_json::from_str(&answer).unwrap();
    task["State"].as_str().unwrap().to_owned()
}

#[test]
fn a_quiesced_set_waits_for_tasks_and_nodes_take_others_afterwards_whoever_dies() {
    let stack = quick("backup-quiesce", 2);
    stack.set("ADMIN_API_KEY", KEY);
    // A drain that was begun cannot be broken off: it ends with the time that tasks have.
    stack.set("DRAIN_TIMEOUT", "6s");
    stack.run(&["up"]).ok();
    let started = stack.started();
    let task = busy(&stack, 3);
    stack
        .run(&["backup", "--name", "still", "--quiesce"])
        .ok()
        .says("all nodes finish their tasks first")
        .says("all nodes were drained");
    assert_eq!(state(&stack, &task), "Success");
    assert_eq!(
        [ping(&stack, NODE), ping(&stack, "octopus-server-2")],
        [200, 200]
    );
    assert_eq!(stack.started(), started);
    let listed = stack.run(&["backup", "list"]).ok().out;
    assert!(listed.contains("quiesced"), "{listed}");
    let list = stack
        .run(&["backup", "list", "--format", "json"])
        .ok()
        .json();
    assert_eq!(list["sets"][0]["manifest"]["quiesced"], true);

    // Whoever asked dies, then the daemon does; a node that a person drained stays so.
    for dies in ["the command", "the daemon"] {
        busy(&stack, 600);
        let backup = stack.spawn(&["backup", "--quiesce"]);
        wait_until("node 2 is drained", || {
            (ping(&stack, "octopus-server-2") == 418).then_some(())
        });
        if dies == "the command" {
            backup.signal(Signal::KILL);
            stack.end(backup);
        } else {
            stack.kill_daemon();
            stack.end(backup).with(1).says("no backup was made");
            let up = stack.spawn(&["up", "--no-wait"]);
            stack.end(up).ok();
        }
        take_tasks(&stack);
    }
    let list = stack
        .run(&["backup", "list", "--format", "json"])
        .ok()
        .json();
    assert_eq!(list["sets"].as_array().unwrap().len(), 1);
    stack.run(&["drain", "octopus-server-2"]).ok();
    stack
        .run(&["backup", "--quiesce"])
        .ok()
        .says("all nodes were drained");
    assert_eq!(
        [ping(&stack, NODE), ping(&stack, "octopus-server-2")],
        [200, 418]
    );
    stack.run(&["stop", "octopus-server"]).ok();
    stack.run(&["backup", "--quiesce"]).ok().says("no node ran");
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
