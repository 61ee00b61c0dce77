//! What a person does with the docker command is repaired and recorded; what a person says with
//! `stop` and `start` is respected.

use rustix::process::Signal;

use super::quick;
use super::running;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";

/// A stack of two nodes that is probed often.
fn watched(name: &str) -> Stack {
    let stack = quick(name, 2);
    stack.set("PROBE_INTERVAL", "200ms");
    stack.run(&["up"]).ok();
    stack
}

/// Fault 36.
#[test]
fn f36_docker_stop_is_undone() {
    let stack = running("person-stop", 2);
    let before = stack.started();
    for unit in [NODE_2, "db"] {
        let since = stack.witness.now();
        stack.witness.stop(&stack.container(unit));
        stack.wait_for_repair(since);
        assert_eq!(stack.starts(since), [unit]);
        assert!(
            stack.recorded(unit, "somebody sent it signal") > 0,
            "{:?}",
            stack.history()
        );
    }
    stack.assert_moved(&before, &["db", NODE_2]);
    stack.assert_no_violation();
}

/// Fault 35.
#[test]
fn f35_what_somebody_removed_is_made_again() {
    let stack = running("person-rm", 2);
    let before = stack.started();
    for unit in [NODE_1, "db"] {
        let since = stack.witness.now();
        stack.witness.remove(&stack.container(unit));
        stack.wait_for_repair(since);
        assert_eq!(stack.starts(since), [unit]);
        assert_eq!(
            stack.recorded(unit, "somebody removed its container"),
            1,
            "{:?}",
            stack.history()
        );
    }
    stack.assert_moved(&before, &["db", NODE_1]);
    stack.assert_no_violation();
}

/// Fault 37: a frozen unit cannot answer, which is no reason to kill it.
#[test]
fn f37_paused_units_are_left_alone_and_serve_again_when_they_thaw() {
    let stack = watched("person-pause");
    let before = stack.started();
    for unit in [NODE_2, "db"] {
        stack.witness.pause(&stack.container(unit));
        let seen = stack.wait_for_unit(unit, "paused");
        assert!(
            seen["reason"].as_str().unwrap().contains("docker unpause"),
            "{seen}"
        );
        assert_eq!(
            stack.recorded(unit, "somebody froze it"),
            1,
            "{:?}",
            stack.history()
        );
        stack.witness.unpause(&stack.container(unit));
        stack.wait_for("ready");
    }
    stack.assert_moved(&before, &[]);
}

/// Fault 38: an attachment is mended without a restart.
#[test]
fn f38_units_cut_off_from_their_network_are_attached_again_without_a_restart() {
    let stack = running("person-disconnect", 2);
    let (before, network) = (stack.started(), format!("{}_default", stack.name));
    for unit in [NODE_2, "db"] {
        stack.witness.disconnect(&network, &stack.container(unit));
        wait_for_attachment(&stack, unit);
        stack.wait_for("ready");
    }
    let ids = stack.witness.networks(&stack.label());
    remove_network(&stack);
    stack.signal_daemon(Signal::CONT);
    wait_for_attachment(&stack, NODE_1);
    stack.wait_for("ready");
    assert_ne!(
        stack.witness.networks(&stack.label()),
        ids,
        "the network is another one"
    );
    stack.assert_moved(&before, &[]);
    let published = |unit| http::get(stack.port(unit), "/api", "").unwrap().0;
    assert_eq!(
        (published(NODE_1), published(NODE_2)),
        (200, 200),
        "ports are published again"
    );
    stack.assert_no_violation();
}

#[track_caller]
fn wait_for_attachment(stack: &Stack, unit: &str) {
    wait_until("it is attached again", || {
        (stack.recorded(unit, "attached to the network again") > 0).then_some(())
    });
}

/// Takes the network away from under everything. The daemon would attach each unit again before the
/// next is off, so it is stopped.
fn remove_network(stack: &Stack) {
    let network = format!("{}_default", stack.name);
    stack.signal_daemon(Signal::STOP);
    for name in stack.witness.containers(&stack.label()) {
        stack.witness.disconnect(&network, &name);
    }
    stack.witness.remove_network(&network);
}

#[test]
fn a_renamed_container_is_still_ours_and_goes_with_down() {
    let stack = watched("person-rename");
    let other = format!("{}-another", stack.name);
    stack.witness.rename(&stack.container(NODE_2), &other);
    let since = stack.witness.now();
    stack.witness.kill(&other, "KILL");
    wait_until("it was started again", || {
        (stack.witness.events(&stack.label(), since).len() > 2).then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(
        stack.witness.containers(&stack.label()).len(),
        3,
        "there is no second one"
    );
    stack.run(&["up"]).ok();
    stack.run(&["down"]).ok();
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
}

/// Fault 26: two supervisors would restart a node in the middle of another's start.
#[test]
fn f26_a_restart_policy_of_the_engine_is_set_back() {
    let stack = running("person-policy", 1);
    let before = stack.started();
    stack.witness.restart_always(&stack.container(NODE_1));
    wait_until("the policy is no", || {
        let host = stack
            .witness
            .inspect(&stack.container(NODE_1))
            .unwrap()
            .host_config
            .unwrap();
        (host.restart_policy.unwrap().name.unwrap().to_string() == "no").then_some(())
    });
    wait_until("it is recorded", || {
        (stack.recorded(NODE_1, "restart policy was set back") == 1).then_some(())
    });
    stack.assert_moved(&before, &[]);
}

#[test]
fn units_that_the_operator_stopped_stay_stopped_until_they_are_started() {
    let stack = running("stop-start", 3);
    stack.run(&["stop", NODE_2]).ok();
    assert_eq!(stack.unit(NODE_2)["stopped"], true);
    stack.wait_for("ready");
    let since = stack.witness.now();
    stack
        .witness
        .kill(&stack.container("octopus-server-3"), "KILL");
    stack.wait_for_repair(since);
    assert_eq!(
        stack.starts(since),
        ["octopus-server-3"],
        "the others are kept running"
    );
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(
        stack.unit(NODE_2)["stopped"],
        true,
        "the wish outlives the daemon"
    );
    let since = stack.witness.now();
    stack.run(&["start", NODE_2]).ok();
    stack.wait_for_unit(NODE_2, "ready");
    assert_eq!(stack.starts(since), [NODE_2]);
    stack.run(&["stop", "nonsense"]).with(64);
    stack
        .run(&["stop", "octopus-server-9"])
        .with(64)
        .says("octopus-server-9");
    drop(daemon);
}

/// A container that is tied to a network that is gone could never start again: it is made anew.
#[test]
fn f38_a_unit_that_died_without_its_network_starts_again() {
    let stack = running("person-network-dead", 1);
    remove_network(&stack);
    let since = stack.witness.now();
    stack.witness.kill(&stack.container(NODE_1), "KILL");
    stack.signal_daemon(Signal::CONT);
    stack.wait_for_repair(since);
    assert_eq!(stack.starts(since), [NODE_1]);
}
