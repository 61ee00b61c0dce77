//! An edited `.env`: nothing happens until `up`, and then to what differs only, in an order that is
//! safe.

use super::quick;
use super::running;
use crate::kit::docker::Told;
use crate::kit::http;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";
const NODE_3: &str = "octopus-server-3";

/// The position of the first such event.
#[track_caller]
fn place(told: &[Told], action: &str, unit: &str) -> usize {
    let found = told
        .iter()
        .position(|told| told.action == action && told.name == unit);
    found.unwrap_or_else(|| panic!("no {action} of {unit} in {told:#?}"))
}

#[test]
fn an_edited_env_recreates_only_what_differs_and_only_when_asked() {
    let stack = running("edit", 2);
    let before = stack.started();
    stack.set("TASK_CAP", "7");
    stack.run(&["plan"]).with(2);
    stack.assert_moved(&before, &[]);
    let since = stack.witness.now();
    stack.run(&["up"]).ok().says("TASK_CAP added");
    stack.assert_moved(&before, &[NODE_1, NODE_2]);
    let told = stack.events(since);
    assert!(
        place(&told, "start", NODE_1) < place(&told, "die", NODE_2),
        "one node at a time: {told:#?}"
    );
    assert!(
        stack.ready_at(NODE_1) < stack.told_at(since, "die", NODE_2),
        "the other goes once the first serves"
    );
    stack.run(&["plan"]).with(0);

    let before = stack.started();
    stack.set("PROBE_INTERVAL", "1s");
    stack.set("NODE_STOP_GRACE", "30s");
    stack.run(&["up"]).ok();
    stack.assert_moved(&before, &[]);
}

#[test]
fn nodes_stop_before_sql_server_is_touched() {
    let stack = running("edit-sql", 2);
    let before = stack.started();
    let since = stack.witness.now();
    stack.set("SQL_MEMORY_LIMIT_MB", "2500");
    stack.run(&["up"]).ok().says("SQL_MEMORY_LIMIT_MB");
    stack.assert_moved(&before, &["db", NODE_1, NODE_2]);
    let told = stack.events(since);
    let sql_stops = told.iter().position(|told| told.name == "db").unwrap();
    for node in [NODE_1, NODE_2] {
        assert!(
            place(&told, "die", node) < sql_stops,
            "{node} stops first: {told:#?}"
        );
        assert!(
            !told
                .iter()
                .any(|told| told.action == "create" && told.name == node),
            "{node} is the same container"
        );
    }
    assert_eq!(stack.starts(since), ["db", NODE_1, NODE_2]);
    stack.assert_gated(since, &["db", NODE_1, NODE_2]);
    stack.assert_no_violation();
}

#[test]
fn more_and_fewer_nodes_touch_no_other_and_leave_no_ghost() {
    let stack = running("edit-nodes", 1);
    let key = "API-TESTSOFOCTOLOCALTESTS1";
    stack.secret(key);
    stack.set("ADMIN_API_KEY", key);
    stack.run(&["up"]).ok();
    let first = stack.started();
    for nodes in ["3", "1", "3"] {
        let before = stack.started();
        stack.set("OCTOPUS_NODES", nodes);
        stack.run(&["up"]).ok();
        stack.assert_moved(&before, &[NODE_2, NODE_3]);
    }
    let after = stack.started();
    assert_eq!(
        first
            .iter()
            .find(|(name, _)| after.get(*name) != first.get(*name)),
        None,
        "the others never moved"
    );
    let (status, body) =
        http::get(stack.port(NODE_1), "/api/octopusservernodes/summary", key).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&body).unwrap();
    let names: Vec<&str> = summary["Nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["Name"].as_str().unwrap())
        .collect();
    assert_eq!(
        (status, names),
        (200, vec!["octopus", "octopus-2", "octopus-3"])
    );
    stack.assert_no_violation();
}

#[test]
fn a_changed_port_moves_what_has_that_port() {
    let stack = quick("edit-ports", 1);
    stack.set("STANDIN_SQL_IGNORE_SIGTERM", "Y");
    stack.run(&["up"]).ok();
    let (before, port) = (stack.started(), stack.port(NODE_1));
    stack.set("OCTOPUS_PORT", &(port + 3).to_string());
    stack.run(&["up"]).ok();
    stack.assert_moved(&before, &[NODE_1]);
    assert_eq!(http::get(port, "/api", ""), None);
    assert_eq!(http::get(port + 3, "/api", "").unwrap().0, 200);
    let since = stack.witness.now();
    stack.set("SQL_PORT", &(stack.port("db") + 7).to_string());
    stack.run(&["up"]).ok();
    assert_eq!(stack.deaths(since), [NODE_1, "db"]);
    assert_eq!(stack.starts(since), ["db", NODE_1]);
    // It was asked where it was, not where it is to be.
    assert_eq!(stack.recorded("db", "it shut down cleanly"), 1);
}

/// Fault 71: what was applied goes on, whatever becomes of the file.
#[test]
fn f71_a_broken_env_is_refused_and_what_was_applied_goes_on() {
    let stack = running("edit-broken", 1);
    let before = stack.started();
    for broken in ["SA_PASSWORD='x\n", "OCTOPUS_PORT=eighty\n", "", "\u{0}\n"] {
        std::fs::write(stack.dir().join(".env"), broken).unwrap();
        stack.run(&["plan"]).with(78);
        stack.run(&["up"]).with(78);
        stack.assert_moved(&before, &[]);
    }
    std::fs::remove_file(stack.dir().join(".env")).unwrap();
    stack.run(&["up"]).with(78).says("ACCEPT_EULA");
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    let since = stack.witness.now();
    stack.witness.kill(&stack.container(NODE_1), "KILL");
    stack.wait_for_repair(since);
    assert_eq!(stack.starts(since), [NODE_1]);
    assert_eq!(stack.started().len(), before.len());
    drop(daemon);
}

/// A tag of another version must never meet the one before on the database.
fn versions(stack: &Stack, tag: &str, version: &str) {
    stack.set("OCTOPUS_SERVER_TAG", tag);
    stack.set("STANDIN_OCTOPUS_VERSION", version);
}

#[test]
fn a_changed_tag_never_has_two_versions_running_and_does_not_go_back() {
    use crate::kit::images::TAGS;
    let stack = super::quick("edit-tag", 3);
    versions(&stack, TAGS[0], "2026.1.100");
    stack.run(&["up"]).ok();
    let since = stack.witness.now();
    versions(&stack, TAGS[1], "2026.2.7");
    stack.run(&["up"]).ok();
    let told = stack.events(since);
    let last_death = [NODE_1, NODE_2, NODE_3]
        .map(|node| place(&told, "die", node))
        .into_iter()
        .max()
        .unwrap();
    assert!(
        last_death < place(&told, "start", NODE_1),
        "all stop before any starts: {told:#?}"
    );
    assert_eq!(stack.starts(since), [NODE_1, NODE_2, NODE_3]);
    stack.assert_gated(since, &[NODE_1, NODE_2, NODE_3]);
    stack.assert_no_violation();
    let before = stack.started();
    versions(&stack, TAGS[0], "2026.1.100");
    stack.run(&["plan"]).with(78).says("OCTOPUS_SERVER_TAG");
    stack
        .run(&["up"])
        .with(78)
        .says(&format!("is older than {}", TAGS[1]));
    stack.assert_moved(&before, &[]);
    assert_eq!(stack.status()["verdict"], "ready");
}
