//! More nodes and fewer, under clients of the front door; who left is taken off Octopus Server's list,
//! or told of; and a node that only serves the portal.

use serde_json::Value;

use super::quick;
use crate::kit::clients::Clients;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const KEY: &str = "API-TESTSOFOCTOLOCALTESTS1";
const NODE_1: &str = "octopus-server-1";
const NODE_3: &str = "octopus-server-3";

fn keyed(name: &str, nodes: u8) -> Stack {
    let stack = quick(name, nodes);
    stack.set("ADMIN_API_KEY", KEY);
    stack.secret(KEY);
    stack
}

/// The nodes that Octopus Server lists, with their task caps.
fn listed(stack: &Stack) -> Vec<(String, u64)> {
    let path = "/api/octopusservernodes";
    let (status, text) = http::get(stack.port(NODE_1), path, KEY).unwrap();
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    let row = |node: &Value| {
        let name = node["Name"].as_str().unwrap().to_owned();
        (name, node["MaxConcurrentTasks"].as_u64().unwrap())
    };
    page["Items"].as_array().unwrap().iter().map(row).collect()
}

fn names(stack: &Stack) -> Vec<String> {
    listed(stack).into_iter().map(|(name, _)| name).collect()
}

fn still_listed(stack: &Stack) -> Vec<String> {
    let status = stack.status();
    let notes = status["notes"].as_array().unwrap().iter();
    let listed = notes.filter(|note| note["kind"] == "still-listed");
    listed
        .map(|note| note["node"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn from_three_nodes_to_one_and_back_no_request_fails() {
    let stack = keyed("scale", 3);
    stack.run(&["up"]).ok();
    let all = ["octopus", "octopus-2", "octopus-3"];
    assert_eq!(names(&stack), all);
    let clients = Clients::of(stack.web());
    stack.run(&["up", "--nodes", "1"]).ok();
    assert_eq!(stack.witness.containers(&stack.label()).len(), 2);
    assert_eq!(names(&stack), ["octopus"], "who left is off the list");
    assert_eq!(still_listed(&stack), [""; 0]);
    // It holds like an edited .env, for the next daemon too.
    stack.kill_daemon();
    stack.run(&["start"]).ok();
    stack.wait_for("ready");
    assert_eq!(stack.unit(NODE_3), Value::Null);
    stack.run(&["up", "--nodes", "3"]).ok();
    assert_eq!(names(&stack), all);
    clients.end();
    assert_eq!(
        stack.recorded("node octopus-3", "taken off Octopus Server's list of nodes"),
        1
    );
    stack.assert_no_violation();
    stack.run(&["down"]).ok();
}

#[test]
fn without_a_key_who_left_is_told_of() {
    let stack = quick("scale-ghost", 2);
    stack.run(&["up"]).ok();
    assert_eq!(still_listed(&stack), [""; 0]);
    stack.run(&["up", "--nodes", "1"]).ok();
    assert_eq!(still_listed(&stack), ["octopus-2"]);
    let shown = stack.run(&["status"]).ok().out.replace('\n', " ");
    assert!(shown.contains("Configuration > Nodes"), "{shown}");
    assert_eq!(stack.status()["verdict"], "ready");
    stack.kill_daemon();
    stack.run(&["start"]).ok();
    stack.wait_for("ready");
    assert_eq!(still_listed(&stack), ["octopus-2"], "it is kept");
    stack.run(&["up", "--nodes", "1"]).ok();
    assert_eq!(still_listed(&stack), [""; 0], "it was told");
    stack.run(&["down"]).ok();
}

#[test]
fn a_node_without_tasks_serves_the_portal_and_its_cap_is_its_own() {
    let stack = keyed("scale-caps", 2);
    stack.set("OCTOPUS_NODE_1_TASK_CAP", "0");
    stack.set("OCTOPUS_NODE_17_TASK_CAP", "1");
    for words in [&["plan"], &["up"]] {
        stack.run(words).with(78).says("OCTOPUS_NODE_17_TASK_CAP");
    }
    stack.unset("OCTOPUS_NODE_17_TASK_CAP");
    stack.run(&["up"]).ok();
    let caps = |one, two| [("octopus".to_owned(), one), ("octopus-2".to_owned(), two)];
    assert_eq!(listed(&stack), caps(0, 5));
    let body = r#"{"Name":"Trial","Arguments":{"Seconds":0}}"#;
    let (status, answer) = http::post(stack.port(NODE_1), "/api/tasks", KEY, body).unwrap();
    assert_eq!(status, 201, "{answer}");
    let task: Value = serde_json::from_str(&answer).unwrap();
    let path = format!("/api/tasks/{}", task["Id"].as_str().unwrap());
    let done = wait_until("the other node did it", || {
        let (_, text) = http::get(stack.port(NODE_1), &path, KEY)?;
        let task: Value = serde_json::from_str(&text).unwrap();
        (task["State"] == "Success").then_some(text)
    });
    assert!(done.contains("octopus-2"), "{done}");
    let before = stack.started();
    stack.set("OCTOPUS_NODE_2_TASK_CAP", "7");
    stack.run(&["up"]).ok();
    assert_eq!(listed(&stack), caps(0, 7));
    let node_1 = stack.container(NODE_1);
    assert_eq!(
        stack.started()[&node_1],
        before[&node_1],
        "it is left alone"
    );
    stack.run(&["down"]).ok();
}
