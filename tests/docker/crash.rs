//! The daemon is killed with -9: the next one goes on where it stopped, and restarts nothing that
//! is well.

use rustix::process::Signal;

use super::quick;
use super::running;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";

/// Whether the engine told this of a unit.
fn told(stack: &Stack, action: &str, unit: &str) -> bool {
    stack
        .events(stack.since)
        .iter()
        .any(|told| told.action == action && told.name == unit)
}

/// Lets an `up` run until something is true, kills its daemon, and sees `up` fail.
#[track_caller]
fn kill_when(stack: &Stack, what: &str, is_so: impl Fn() -> bool) {
    let before = stack.recorded("", "up: ");
    let up = stack.spawn(&["up"]);
    // An `up` that was not taken yet would start another daemon.
    wait_until(what, || {
        (stack.recorded("", "up: ") > before && is_so()).then_some(())
    });
    // Without its daemon it would start another one.
    up.signal(Signal::KILL);
    stack.kill_daemon();
    stack.end(up).with(-1);
}

/// Faults 2, 3 and 4: one start, and the daemon dies in each of its stages.
#[test]
fn f02_f03_killed_at_every_stage_of_up_the_next_up_goes_on() {
    let stack = quick("crash-up", 2);
    stack.set("STANDIN_SQL_START_DELAY_MS", "2000");
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "2000");
    kill_when(&stack, "there is a network", || {
        !stack.witness.networks(&stack.label()).is_empty()
    });
    kill_when(&stack, "SQL Server was created", || {
        told(&stack, "create", "db")
    });
    kill_when(&stack, "SQL Server was started", || {
        told(&stack, "start", "db")
    });
    kill_when(&stack, "node 1 was started", || {
        told(&stack, "start", NODE_1)
    });
    assert!(!told(&stack, "start", "octopus-server-2"));
    kill_when(&stack, "node 1 migrates", || {
        stack
            .witness
            .said_at(&stack.container(NODE_1), "the database schema for")
            .is_some()
    });
    stack.run(&["up"]).ok();
    assert_eq!(
        stack.starts(stack.since),
        ["db", NODE_1, "octopus-server-2"],
        "each was started once"
    );
    assert_eq!(stack.deaths(stack.since), Vec::<String>::new());
    stack.assert_gated(stack.since, &["db", NODE_1, "octopus-server-2"]);
    stack.assert_no_violation();
}

/// Fault 4: killed in the middle of a replacement, which it finishes without being asked again.
#[test]
fn f04_killed_in_the_middle_of_an_edit_the_next_daemon_finishes_it() {
    let stack = running("crash-edit", 2);
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "1000");
    for (action, unit) in [("die", NODE_1), ("destroy", "octopus-server-2")] {
        stack.set("TASK_CAP", &unit.len().to_string());
        stack.set("ADMIN_EMAIL", &format!("{action}@example.com"));
        let since = stack.witness.now();
        let up = stack.spawn(&["up"]);
        wait_until("the replacement is under way", || {
            stack
                .events(since)
                .iter()
                .any(|told| told.action == action && told.name == unit)
                .then_some(())
        });
        // It would start another one in the dead one's place.
        up.signal(Signal::KILL);
        stack.kill_daemon();
        stack.end(up).with(-1);
        let daemon = stack.spawn(&["daemon"]);
        stack.wait_for("ready");
        assert_eq!(stack.starts(since), [NODE_1, "octopus-server-2"]);
        drop(daemon);
        stack.wait_for_no_daemon();
        stack.run(&["plan"]).with(0);
        stack.wait_for_no_daemon();
    }
    stack.assert_no_violation();
}

/// Fault 1, again and again.
#[test]
fn f01_killed_twenty_times_it_restarts_nothing() {
    let stack = running("crash-loop", 2);
    let (before, since) = (stack.started(), stack.witness.now());
    for round in 0..20 {
        stack.kill_daemon();
        if round % 2 == 0 {
            stack.run(&["up"]).ok();
        } else {
            let daemon = stack.spawn(&["daemon"]);
            wait_until("the next daemon has adopted the stack", || {
                let status = stack.status();
                (status["supervised"] == true && status["verdict"] == "ready").then_some(())
            });
            assert_eq!(stack.unit(NODE_1)["restarts"], 0);
            drop(daemon);
            stack.run(&["up"]).ok();
        }
    }
    stack.assert_moved(&before, &[]);
    assert_eq!(stack.events(since), []);
    assert_eq!(http::get(stack.port(NODE_1), "/api", "").unwrap().0, 200);
}

/// What died while nobody looked is brought back by the next daemon, and what lives is spared.
#[test]
fn f01_what_died_meanwhile_is_brought_back() {
    let stack = running("crash-blind", 3);
    let before = stack.started();
    stack.kill_daemon();
    let status = stack.status();
    assert_eq!(status["supervised"], false);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("nobody supervises"),
        "{status}"
    );
    for node in ["octopus-server-3", NODE_1] {
        stack.witness.kill(&stack.container(node), "KILL");
    }
    let since = stack.witness.now();
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for_repair(since);
    // On a migrated database the first whose cause is read is started first; both never at once.
    let order = stack.starts(since);
    let order: Vec<&str> = order.iter().map(String::as_str).collect();
    let mut units = order.clone();
    units.sort_unstable();
    assert_eq!(units, [NODE_1, "octopus-server-3"]);
    stack.assert_moved(&before, &units);
    stack.assert_gated(since, &order);
    stack.assert_no_violation();
    drop(daemon);
}
