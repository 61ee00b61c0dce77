//! Several commands at once: they join, or the later wish wins; never two of anything.

use super::quick;
use crate::kit::process::Ended;
use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// How often each unit was created and started.
fn made(stack: &Stack) -> Vec<(String, String)> {
    let told = stack.events(stack.since).into_iter();
    let made = told.filter(|told| told.action == "create" || told.action == "start");
    let mut made: Vec<_> = made.map(|told| (told.action, told.name)).collect();
    made.sort();
    made
}

fn once_each(units: &[&str]) -> Vec<(String, String)> {
    let of = |action: &str| {
        units
            .iter()
            .map(move |unit| (action.to_owned(), (*unit).to_owned()))
            .collect::<Vec<_>>()
    };
    of("create").into_iter().chain(of("start")).collect()
}

/// Fault 15: compose has two of them fail over the other's containers.
#[test]
fn f15_five_ups_at_once_all_succeed_and_make_one_stack() {
    let stack = quick("together", 2);
    let ups: Vec<Running> = (0..5).map(|_| stack.spawn(&["up"])).collect();
    for up in ups {
        stack.end(up).ok().says("is ready after");
    }
    assert_eq!(
        made(&stack),
        once_each(&["db", "octopus-server-1", "octopus-server-2"])
    );
    let (processes, doors) = (stack.processes(), stack.front_doors());
    assert_eq!(
        (processes.len(), doors.len()),
        (2, 1),
        "one daemon and one front door: {processes:?}"
    );
    stack.assert_no_violation();
}

/// A second `up` that asks for more while the first is under way: both end when the later wish is
/// true.
#[test]
fn f15_an_up_that_asks_for_more_joins_the_one_under_way() {
    let stack = quick("join", 1);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1000");
    let first = stack.spawn(&["up"]);
    wait_until("node 1 was started", || {
        stack
            .starts(stack.since)
            .contains(&"octopus-server-1".to_owned())
            .then_some(())
    });
    let second = stack.spawn(&["up", "--nodes", "2"]);
    stack.end(second).ok();
    stack.end(first).ok();
    assert_eq!(
        made(&stack),
        once_each(&["db", "octopus-server-1", "octopus-server-2"])
    );
    assert_eq!(stack.status()["units"].as_array().unwrap().len(), 3);
    stack.assert_no_violation();
}

/// Fault 14: the lock's holder is named, and nobody is disturbed.
#[test]
fn f14_a_second_daemon_leaves_and_names_the_first() {
    let stack = super::running("two-daemons", 1);
    let (before, first) = (stack.started(), stack.daemon().unwrap());
    let pid = first.as_raw_nonzero().to_string();
    stack.run(&["daemon"]).with(73).says(&pid);
    assert_eq!(stack.daemon(), Some(first));
    stack.assert_moved(&before, &[]);
    assert_eq!(stack.status()["supervised"], true);
}

/// Whatever comes last, both commands end, and what is there is one of the two wishes, whole.
#[test]
fn f15_up_and_down_at_once_end_in_one_of_the_two() {
    let stack = quick("up-down", 1);
    for _ in 0..3 {
        let (up, down) = (stack.spawn(&["up"]), stack.spawn(&["down"]));
        let (up, down): (Ended, Ended) = (stack.end(up), stack.end(down));
        assert!(
            matches!((up.code, down.code), (0 | 1, 0 | 1)),
            "{up:?} {down:?}"
        );
        if up.code == 0 && !stack.witness.containers(&stack.label()).is_empty() {
            stack.wait_for("ready");
            stack.assert_no_violation();
        } else {
            stack.wait_for_no_daemon();
            assert_eq!(
                stack.witness.containers(&stack.label()),
                Vec::<String>::new()
            );
            assert_eq!(stack.witness.networks(&stack.label()), Vec::<String>::new());
        }
    }
    stack.run(&["down"]).ok();
    stack.wait_for_no_daemon();
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
}
