//! SQL Server as the one that everything waits for: how it is stopped, what its death means to
//! nodes, when it counts as open.

use super::quick;
use super::running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";

/// A stop that had to wait for SIGKILL would take longer.
const QUICKLY: i64 = 10_000_000_000;

/// Fault 62: today's images do not hand SIGTERM on to the server, so without `SHUTDOWN` each stop
/// would end in SIGKILL.
#[test]
fn f62_a_server_that_ignores_sigterm_is_shut_down_cleanly_and_quickly() {
    let stack = quick("sigterm-sql", 1);
    stack.set("STANDIN_SQL_IGNORE_SIGTERM", "Y");
    stack.run(&["up"]).ok();
    let since = stack.witness.now();
    let stop = stack.spawn(&["stop", "db"]);
    wait_until("both have ended", || {
        (stack.deaths(since) == [NODE_1, "db"]).then_some(())
    });
    drop(stop);
    assert!(
        stack.told_at(since, "die", "db") - since < QUICKLY,
        "{:?}",
        stack.events(since)
    );
    let state = stack
        .witness
        .inspect(&stack.container("db"))
        .unwrap()
        .state
        .unwrap();
    assert_eq!((state.running, state.exit_code), (Some(false), Some(0)));
    assert!(
        stack
            .witness
            .said_at(
                &stack.container("db"),
                "terminating because of a system shutdown"
            )
            .is_some()
    );
    assert_eq!(
        stack.starts(since),
        Vec::<String>::new(),
        "the node waits with it"
    );
    stack.run(&["start"]).ok();
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["db", NODE_1]);
    assert_eq!(
        stack
            .witness
            .said_at(&stack.container("db"), "did not stop by itself"),
        None,
        "the data was closed"
    );
    let since = stack.witness.now();
    stack.run(&["down"]).ok();
    assert!(stack.told_at(since, "die", "db") - since < QUICKLY);
}

/// Faults 60 and 62: it takes connections and answers nothing, not even the request to shut down.
#[test]
fn f60_a_server_that_never_answers_is_named_restarted_and_stopped_all_the_same() {
    let stack = quick("hang-sql", 1);
    stack.set("STANDIN_SQL_IGNORE_SIGTERM", "Y");
    stack.set("STANDIN_SQL_FAULT", "hang-prelogin");
    stack.set("SQL_STOP_LIMIT", "1s");
    stack.set("PROBE_TIMEOUT", "500ms");
    stack.run(&["up", "--wait-timeout", "2"]).with(75);
    let seen = wait_until("it does not answer", || {
        let says = |unit: &serde_json::Value| {
            unit["reason"]
                .as_str()
                .unwrap()
                .contains("no answer within 500 ms")
        };
        Some(stack.unit("db")).filter(says)
    });
    assert_eq!(seen["phase"], "starting");
    assert_eq!(stack.starts(stack.since), ["db"], "no node is started");
    stack.set("SQL_START_LIMIT", "2s");
    stack.run(&["up", "--wait-timeout", "1"]).with(75);
    wait_until("it is started again", || {
        (stack.starts(stack.since).len() > 1).then_some(())
    });
    assert!(
        stack.recorded("db", "its start made no progress") > 0,
        "{:?}",
        stack.history()
    );
    let since = stack.witness.now();
    stack.run(&["down"]).ok();
    assert!(stack.witness.now() - since < QUICKLY);
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
}

/// A migration that takes long enough to be met in its middle.
fn migrating(name: &str) -> Stack {
    let stack = quick(name, 2);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1500");
    stack
}

/// Waits until the last run of node 1 is in the middle of its migration.
#[track_caller]
fn wait_for_migration(stack: &Stack) {
    wait_until("node 1 migrates", || {
        stack
            .witness
            .said_at(&stack.container(NODE_1), "Upgrading the database schema")
    });
}

/// Fault 56: an upgrade that lost its database is not trusted to go on.
#[test]
fn f56_sql_server_killed_in_a_migration_comes_back_and_node_1_starts_anew_and_alone() {
    let stack = migrating("kill-sql-migrating");
    let up = stack.spawn(&["up"]);
    wait_for_migration(&stack);
    let since = stack.witness.now();
    stack.witness.kill(&stack.container("db"), "KILL");
    stack.end(up).ok();
    assert_eq!(stack.deaths(since), ["db", NODE_1]);
    assert_eq!(stack.starts(since), ["db", NODE_1, NODE_2]);
    assert!(
        stack.told_at(since, "die", NODE_1) < stack.told_at(since, "start", "db"),
        "it stops first"
    );
    stack.assert_gated(since, &["db", NODE_1, NODE_2]);
    stack.assert_no_violation();
}

/// Fault 57.
#[test]
fn f57_node_1_killed_in_a_migration_starts_anew_before_any_other() {
    let stack = migrating("kill-node-migrating");
    let up = stack.spawn(&["up"]);
    wait_for_migration(&stack);
    let since = stack.witness.now();
    stack.witness.kill(&stack.container(NODE_1), "KILL");
    stack.end(up).ok();
    assert_eq!(stack.starts(since), [NODE_1, NODE_2]);
    stack.assert_gated(since, &[NODE_1, NODE_2]);
    stack.assert_no_violation();
}

/// Fault 59: logins work long before a database is open.
#[test]
fn f59_a_database_that_recovers_is_waited_for() {
    let stack = running("recovering", 2);
    let since = stack.witness.now();
    stack.set("STANDIN_SQL_FAULT", "recovering=OctopusDeploy:2");
    let up = stack.spawn(&["up"]);
    wait_until("the database recovers", || {
        stack.unit("db")["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("is RECOVERING")
            .then_some(())
    });
    stack.end(up).ok();
    assert_eq!(stack.starts(since), ["db", NODE_1, NODE_2]);
    let waited = stack.told_at(since, "start", NODE_1) - stack.told_at(since, "start", "db");
    assert!(waited >= 2_000_000_000, "{waited} ns");
    stack.assert_no_violation();
}

/// Fault 55: nodes outlive an absence of their database that is longer than any number of misses.
#[test]
fn f55_sql_server_killed_comes_back_and_its_nodes_are_spared() {
    let stack = quick("kill-sql", 2);
    stack.set("PROBE_INTERVAL", "200ms");
    stack.run(&["up"]).ok();
    stack.set("STANDIN_SQL_FAULT", "recovering=OctopusDeploy:4");
    stack.run(&["up"]).ok();
    let (before, since) = (stack.started(), stack.witness.now());
    stack.witness.kill(&stack.container("db"), "KILL");
    stack.wait_for_unit(NODE_1, "unready");
    stack.wait_for_repair(since);
    assert_eq!(stack.starts(since), ["db"]);
    stack.assert_moved(&before, &["db"]);
    stack.assert_no_violation();
}

#[test]
fn stop_and_start_of_sql_server_take_its_nodes_along_and_end() {
    let stack = running("stop-sql", 1);
    let since = stack.witness.now();
    stack.run(&["stop", "db"]).ok();
    assert_eq!(stack.deaths(since), [NODE_1, "db"]);
    assert_eq!(stack.starts(since), Vec::<String>::new());
    stack.run(&["start", "db"]).ok();
    assert_eq!(stack.starts(since), ["db", NODE_1]);
}
