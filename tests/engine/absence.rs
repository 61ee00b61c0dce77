//! The engine goes away: restarted, killed again and again, frozen, or with the whole host. The
//! stack is as before afterwards: what went on is left alone, what ended comes back in order.

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::json;

use super::UNITS;
use super::quick;
use crate::kit::private::PrivateEngine;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// How often the engine of a crash loop dies.
const CRASHES: usize = 3;

/// A real stack of two nodes that is up.
fn up(engine: &PrivateEngine, name: &str) -> Stack {
    let stack = quick(Stack::real_on(engine, name));
    stack.run(&["up"]).ok();
    stack
}

/// How often each unit was restarted.
fn restarts(stack: &Stack) -> Vec<u64> {
    UNITS
        .iter()
        .map(|unit| stack.unit(unit)["restarts"].as_u64().unwrap())
        .collect()
}

fn is_running(stack: &Stack, unit: &str) -> bool {
    stack
        .witness
        .inspect(&stack.container(unit))
        .unwrap()
        .state
        .unwrap()
        .running
        .unwrap()
}

/// The stack notices that its engine is gone, and says so.
fn is_noticed(stack: &Stack) {
    let status = stack.wait_for("engine-down");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("does not answer"),
        "{status}"
    );
}

/// Under a new engine, whose history begins with it, each unit was started once and in order.
fn is_back_in_order(stack: &Stack) {
    wait_until("every unit was started", || {
        (stack.starts(stack.since).len() >= UNITS.len()).then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(stack.starts(stack.since), UNITS);
}

#[test]
fn f22_an_engine_restart_brings_the_stack_back_in_order() {
    let mut engine = PrivateEngine::start();
    let stack = up(&engine, "restarted");
    let before = stack.started();
    engine.stop();
    is_noticed(&stack);
    engine.launch();
    is_back_in_order(&stack);
    for unit in UNITS {
        assert_eq!(
            stack.recorded(unit, "somebody sent it signal"),
            0,
            "the engine ended {unit}, nobody else: {:?}",
            stack.history()
        );
    }
    assert!(
        before.keys().eq(stack.started().keys()),
        "the containers are the same"
    );
    stack.run(&["plan"]).with(0);
}

#[test]
fn f23_an_engine_restart_under_live_containers_restarts_none() {
    let mut engine = PrivateEngine::with(&json!({ "live-restore": true }));
    let stack = up(&engine, "live");
    let before = stack.started();
    engine.stop();
    is_noticed(&stack);
    engine.launch();
    stack.wait_for("ready");
    assert_eq!(stack.started(), before);
    assert_eq!(restarts(&stack), [0, 0, 0]);
    let since = stack.witness.now();
    stack
        .witness
        .kill(&stack.container("octopus-server-2"), "KILL");
    wait_until("the node was started again", || {
        (!stack.starts(since).is_empty()).then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(
        stack.starts(since),
        ["octopus-server-2"],
        "the new engine's events are followed"
    );
}

#[test]
fn f24_an_engine_that_crashes_again_and_again_burns_no_restarts() {
    let mut engine = PrivateEngine::with(&json!({ "live-restore": true }));
    let stack = up(&engine, "crash-loop");
    let before = stack.started();
    for _ in 0..CRASHES {
        engine.kill();
        is_noticed(&stack);
        engine.launch_only();
    }
    engine.wait_until_it_answers();
    stack.wait_for("ready");
    assert_eq!(stack.started(), before, "what ran goes on");
    assert_eq!(restarts(&stack), [0, 0, 0]);
    stack.run(&["plan"]).with(0);
}

#[test]
fn f24_an_engine_whose_crash_takes_the_containers_brings_them_back_in_order() {
    let mut engine = PrivateEngine::start();
    let stack = up(&engine, "crash");
    engine.kill();
    is_noticed(&stack);
    engine.launch();
    is_back_in_order(&stack);
    stack.run(&["plan"]).with(0);
}

#[test]
fn f24_a_frozen_engine_is_waited_for_and_what_died_meanwhile_comes_back() {
    let engine = PrivateEngine::start();
    let stack = up(&engine, "frozen");
    let before = stack.started();
    let inspected = stack
        .witness
        .inspect(&stack.container("octopus-server-2"))
        .unwrap();
    let node = Pid::from_raw(inspected.state.unwrap().pid.unwrap().try_into().unwrap()).unwrap();
    let since = stack.witness.now();
    engine.signal(Signal::STOP);
    rustix::process::kill_process(node, Signal::KILL).unwrap();
    wait_until("the node's silence shows", || {
        (stack.unit("octopus-server-2")["phase"] != "ready").then_some(())
    });
    assert_eq!(
        stack.unit("octopus-server-1")["phase"],
        "ready",
        "the others are judged by themselves"
    );
    engine.signal(Signal::CONT);
    wait_until("the node was started again", || {
        (!stack.starts(since).is_empty()).then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), ["octopus-server-2"]);
    let after = stack.started();
    for unit in ["db", "octopus-server-1"] {
        assert_eq!(
            before[&stack.container(unit)],
            after[&stack.container(unit)],
            "{unit} was spared"
        );
    }
}

#[test]
fn f25_after_a_power_cut_only_the_daemon_starts_and_in_order() {
    let mut engine = PrivateEngine::start();
    let stack = up(&engine, "power");
    engine.cut_power();
    assert!(stack.daemon().is_none(), "everything ended");
    engine.launch();
    for unit in UNITS {
        let inspected = stack.witness.inspect(&stack.container(unit)).unwrap();
        let policy = inspected
            .host_config
            .unwrap()
            .restart_policy
            .unwrap()
            .name
            .unwrap();
        assert_eq!(policy.to_string(), "no", "{unit}");
        assert!(
            !is_running(&stack, unit),
            "the engine starts nothing by itself, not {unit}"
        );
    }
    let daemon = stack.spawn(&["daemon"]);
    is_back_in_order(&stack);
    stack.run(&["plan"]).with(0);
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}
