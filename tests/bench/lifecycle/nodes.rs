//! What nodes answer: their tasks, and whether they serve.

use serde_json::Value;
use serde_json::json;

use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// The key that the stand-in takes.
pub(crate) const KEY: &str = "API-BENCHOFOCTOLOCALBENCH1";
/// More tasks than are ever queued.
const ALL: usize = 100_000;

/// The name of a node's unit.
pub(crate) fn unit(number: u32) -> String {
    format!("octopus-server-{number}")
}

/// Whether a node takes requests: one that is drained does not.
pub(crate) fn serves(port: u16) -> bool {
    let answer = http::get(port, "/api/octopusservernodes/ping", "");
    answer.is_some_and(|(status, _)| status == 200)
}

/// The name under which the database knows a node.
pub(crate) fn name_of(stack: &Stack, unit: &str) -> String {
    let shown = stack.witness.inspect(&stack.container(unit)).unwrap();
    let env = shown.config.unwrap().env.unwrap();
    let name = env
        .iter()
        .find_map(|one| one.strip_prefix("OCTOPUS_SERVER_NODE_NAME="));
    name.expect("each node has a name").to_owned()
}

/// Queues a task that lasts so long.
pub(crate) fn queue(stack: &Stack, unit: &str, seconds: f64) {
    let body = json!({ "Name": "Trial", "Arguments": { "Seconds": seconds } }).to_string();
    let (status, answer) = http::post(stack.port(unit), "/api/tasks", KEY, &body).unwrap();
    assert_eq!(status, 201, "{answer}");
}

/// The tasks that a query finds.
pub(crate) fn tasks(stack: &Stack, unit: &str, query: &str) -> Vec<Value> {
    let path = format!("/api/tasks?take={ALL}&{query}");
    let answer = wait_until("a node answers", || {
        http::get(stack.port(unit), &path, KEY).filter(|(status, _)| *status == 200)
    });
    let body: Value = serde_json::from_str(&answer.1).unwrap();
    body["Items"].as_array().unwrap().clone()
}

/// How many violations the strict stand-in found.
pub(crate) fn violations(stack: &Stack, unit: &str) -> usize {
    let (_, body) = wait_until("a node answers", || {
        http::get(stack.port(unit), "/api/standin/violations", "")
            .filter(|(status, _)| *status == 200)
    });
    let found: Value = serde_json::from_str(&body).unwrap();
    let found = found.as_array().unwrap();
    if !found.is_empty() {
        eprintln!("violations: {found:#?}");
    }
    found.len()
}
