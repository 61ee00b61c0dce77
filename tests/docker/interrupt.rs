//! Signals: Ctrl-C during `up`, and SIGTERM to the daemon.

use rustix::process::Signal;

use super::quick;
use super::running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";

/// Waits until a unit was started.
#[track_caller]
fn wait_for_start(stack: &Stack, since: i64, unit: &str) {
    wait_until(&format!("{unit} was started"), || {
        stack
            .starts(since)
            .iter()
            .any(|started| started == unit)
            .then_some(())
    });
}

#[test]
fn ctrl_c_starts_nothing_further_and_the_next_up_goes_on() {
    let stack = quick("ctrl-c", 2);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1000");
    let up = stack.spawn(&["up"]);
    wait_for_start(&stack, stack.since, NODE_1);
    up.signal(Signal::INT);
    stack.end(up).with(130).says("nothing further is started");
    wait_until("node 1 serves", || {
        stack
            .witness
            .said_at(&stack.container(NODE_1), "Web server is ready")
            .map(|_| ())
    });
    wait_until("the daemon knows", || {
        (stack.unit(NODE_1)["phase"] == "ready").then_some(())
    });
    assert_eq!(stack.status()["verdict"], "held");
    assert_eq!(
        stack.starts(stack.since),
        ["db", NODE_1],
        "node 2 waits for the next wish"
    );
    let before = stack.started();
    stack.run(&["up"]).ok();
    stack.assert_moved(&before, &[NODE_2]);
    stack.assert_no_violation();
    stack.run(&["down"]).ok();
}

#[test]
fn ctrl_c_of_one_of_two_ups_leaves_the_other_its_start() {
    let stack = quick("ctrl-c-two", 2);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1000");
    let (one, other) = (stack.spawn(&["up"]), stack.spawn(&["up"]));
    wait_for_start(&stack, stack.since, NODE_1);
    one.signal(Signal::INT);
    stack.end(one).with(130).says("another `up` follows");
    stack.end(other).ok();
    assert_eq!(stack.starts(stack.since), ["db", NODE_1, NODE_2]);
}

/// The first one waits for the daemon, which does not answer here.
#[test]
fn the_second_ctrl_c_ends_up_at_once() {
    let stack = quick("ctrl-c-twice", 1);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "60000");
    let up = stack.spawn(&["up"]);
    wait_for_start(&stack, stack.since, NODE_1);
    stack.signal_daemon(Signal::STOP);
    let began = tokio::time::Instant::now();
    up.signal(Signal::INT);
    // Two signals that come at once count as one, so the second is sent until it was a second.
    let code = up.interrupt_until_it_ends();
    stack.signal_daemon(Signal::CONT);
    assert_eq!(code, Some(130));
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    stack.run(&["down", "-t", "0"]).ok();
}

/// Fault 7: what was started is stopped in order, and the wish to run is kept.
#[test]
fn f07_sigterm_during_the_start_stops_in_order_and_the_next_daemon_brings_it_back() {
    let stack = quick("sigterm-start", 2);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1000");
    let up = stack.spawn(&["up"]);
    wait_for_start(&stack, stack.since, NODE_1);
    stack.signal_daemon(Signal::TERM);
    stack.end(up).with(1);
    stack.wait_for_no_daemon();
    assert_eq!(stack.deaths(stack.since), [NODE_1, "db"]);
    assert_eq!(
        stack.starts(stack.since),
        ["db", NODE_1],
        "nothing was started meanwhile"
    );
    let since = stack.witness.now();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["db", NODE_1, NODE_2]);
    stack.assert_gated(since, &["db", NODE_1, NODE_2]);
    stack.assert_no_violation();
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}

#[test]
fn sigterm_stops_in_order_and_the_next_daemon_brings_it_back_in_order() {
    let stack = running("sigterm", 2);
    let since = stack.witness.now();
    stack.signal_daemon(Signal::TERM);
    stack.wait_for_no_daemon();
    let died = stack.deaths(since);
    assert_eq!(
        (died.len(), died[2].as_str()),
        (3, "db"),
        "SQL Server stops last: {died:?}"
    );
    let since = stack.witness.now();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["db", NODE_1, NODE_2]);
    stack.run(&["down"]).ok();
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
    assert!(
        stack.daemon().is_some(),
        "one that `up` did not start stays, idle"
    );
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}

/// One that is gone follows no more, however it went.
#[test]
fn a_killed_up_is_no_company_for_ctrl_c() {
    let stack = quick("ctrl-c-alone", 2);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "2000");
    let killed = stack.spawn(&["up"]);
    wait_for_start(&stack, stack.since, "db");
    killed.signal(Signal::KILL);
    stack.end(killed).with(-1);
    let up = stack.spawn(&["up"]);
    wait_for_start(&stack, stack.since, NODE_1);
    up.signal(Signal::INT);
    stack.end(up).with(130).says("nothing further is started");
}

/// Fault 8: the second SIGTERM does not wait for nodes any longer, and SQL Server is closed all the
/// same.
#[test]
fn f08_a_second_sigterm_is_not_patient_with_nodes_and_closes_sql_server() {
    let stack = quick("sigterm-twice", 1);
    stack.set("STANDIN_OCTOPUS_STOP_MS", "50000");
    stack.run(&["up"]).ok();
    let since = stack.witness.now();
    stack.signal_daemon(Signal::TERM);
    wait_until("the node is told to stop", || {
        stack.witness.said_at(&stack.container(NODE_1), "Stopping")
    });
    stack.signal_daemon(Signal::TERM);
    stack.wait_for_no_daemon();
    assert_eq!(stack.deaths(since), [NODE_1, "db"]);
    assert!(stack.told_at(since, "die", "db") - since < 20_000_000_000);
    let state = stack
        .witness
        .inspect(&stack.container("db"))
        .unwrap()
        .state
        .unwrap();
    assert_eq!(state.exit_code, Some(0));
}
