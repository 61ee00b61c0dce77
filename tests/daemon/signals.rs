//! What signals do: stop in order, hurry, leave, start anew.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::attended;
use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// Longer than anything here takes, shorter than the grace of a node.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn f08_the_second_signal_hurries_and_sql_server_still_shuts_down() {
    let stack = Stack::demo("hurry");
    stack.set("STANDIN_OCTOPUS_STOP_MS", "50000");
    stack.run(&["up", "--demo", "--nodes", "2"]).ok();
    let begun = Instant::now();
    stack.signal_daemon(Signal::TERM);
    stack.wait_for_unit("octopus-server-1", "stopping");
    stack.signal_daemon(Signal::TERM);
    stack.wait_for_no_daemon();
    assert!(
        begun.elapsed() < SOON,
        "nodes got no more grace: {:?}",
        begun.elapsed()
    );
    let db = stack
        .witness
        .inspect(&stack.container("db"))
        .unwrap()
        .state
        .unwrap();
    assert_eq!(
        (db.running, db.exit_code),
        (Some(false), Some(0)),
        "SQL Server ended by itself"
    );
    assert_ne!(
        stack
            .witness
            .inspect(&stack.container("octopus-server-1"))
            .unwrap()
            .state
            .unwrap()
            .exit_code,
        Some(0)
    );
}

#[test]
fn f08_the_third_signal_ends_the_daemon_at_once() {
    let stack = Stack::demo("at-once");
    // SQL Server stops for no word, so that it is there to be left alone however long this takes.
    stack.set("STANDIN_SQL_IGNORE_SIGTERM", "Y");
    stack.set("STANDIN_SQL_FAULT", "not-sysadmin");
    stack.set("STANDIN_OCTOPUS_STOP_MS", "50000");
    stack.run(&["up", "--demo"]).ok();
    stack.signal_daemon(Signal::STOP);
    for _ in 0..3 {
        // A signal that is pending already is not counted twice, so each is taken before the next.
        stack.signal_daemon(Signal::TERM);
        stack.signal_daemon(Signal::CONT);
        if stack.daemon().is_some() {
            stack.run(&["status"]);
        }
        if stack.daemon().is_some() {
            stack.signal_daemon(Signal::STOP);
        }
    }
    if stack.daemon().is_some() {
        stack.signal_daemon(Signal::CONT);
    }
    stack.wait_for_no_daemon();
    assert!(
        stack
            .witness
            .inspect(&stack.container("db"))
            .unwrap()
            .state
            .unwrap()
            .running
            .unwrap()
    );
}

#[test]
fn f09_sigquit_leaves_every_container_as_it_is() {
    let (stack, daemon) = attended("detach", 1);
    let before = stack.started();
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
    assert_eq!(stack.started(), before);
    assert_eq!(stack.status()["supervised"], false);
    let daemon = stack.spawn(&["daemon"]);
    stack.wait_for("ready");
    assert_eq!(
        stack.started(),
        before,
        "the next daemon goes on with what runs"
    );
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
}

#[test]
fn f21_sighup_runs_the_new_program_in_the_same_process() {
    let stack = Stack::demo("reload");
    let program = stack.dir().join("octo-local");
    std::fs::copy(crate::kit::process::PROGRAM, &program).unwrap();
    let daemon = crate::kit::process::Running::spawn(&mut stack.command_of(&program, &["daemon"]));
    let pid = wait_until("the daemon answers", || stack.daemon());
    stack.run(&["up", "--demo"]).ok();
    let before = stack.started();
    // A new file in the old one's place, as a package manager puts it there.
    let newer = stack.dir().join("newer");
    std::fs::copy(crate::kit::process::PROGRAM, &newer).unwrap();
    std::fs::rename(&newer, &program).unwrap();
    daemon.signal(Signal::HUP);
    let runs_the_new_file = || {
        let link = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok()?;
        (link == program).then_some(())
    };
    wait_until("the new program runs", runs_the_new_file);
    stack.wait_for("ready");
    assert_eq!(
        stack.daemon(),
        Some(pid),
        "systemd still knows its main process"
    );
    assert_eq!(stack.started(), before);
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
}

#[test]
fn f10_a_daemon_that_was_stopped_for_a_while_kills_nothing_when_it_wakes() {
    let (stack, daemon) = attended("asleep", 2);
    let before = stack.started();
    daemon.signal(Signal::STOP);
    // A node is deaf for longer than three probes take, and well again when the daemon wakes.
    let node = stack.container("octopus-server-2");
    stack.witness.kill(&node, "STOP");
    std::thread::sleep(Duration::from_secs(12));
    daemon.signal(Signal::CONT);
    stack.witness.kill(&node, "CONT");
    wait_until("it says that it slept", || {
        stack
            .run(&["events"])
            .out
            .contains("in which nothing could be seen")
            .then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(stack.started(), before);
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
}

#[test]
fn f14_another_state_directory_is_no_way_to_a_second_daemon() {
    let (stack, daemon) = attended("second", 1);
    let elsewhere = stack.dir().join("elsewhere");
    let mut second = stack.command(&["daemon"]);
    second
        .env("OCTO_LOCAL_STATE_DIR", &elsewhere)
        .env("OCTO_LOCAL_RUNTIME_DIR", &elsewhere);
    let second = crate::kit::process::Running::spawn(&mut second);
    stack.end(second).with(73).says("another state directory");
    stack.run(&["daemon"]).with(73).says(&format!(
        "process {}",
        stack.daemon().unwrap().as_raw_nonzero()
    ));
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
}

/// A script that holds a lock while it calls `up` is not to find it held for as long as the stack is.
#[test]
fn neither_the_daemon_nor_the_front_door_holds_what_the_caller_had_open() {
    let stack = Stack::demo("held-open");
    let held = stack.dir().join("lock");
    let up = stack.command(&["up", "--demo"]);
    let mut caller = Command::new("sh");
    caller.args(["-c", r#"exec 9>>"$0"; exec "$@""#]).arg(&held);
    caller.arg(up.get_program()).args(up.get_args());
    caller.current_dir(up.get_current_dir().unwrap());
    for (key, value) in up.get_envs() {
        match value {
            Some(value) => caller.env(key, value),
            None => caller.env_remove(key),
        };
    }
    stack.end(Running::spawn(&mut caller)).ok();
    let mut processes = stack.front_doors();
    processes.extend(stack.daemon());
    assert_eq!(processes.len(), 2);
    for pid in processes {
        let open = format!("/proc/{}/fd", pid.as_raw_pid());
        let open = std::fs::read_dir(open).unwrap().flatten();
        let mut files = open.filter_map(|file| std::fs::read_link(file.path()).ok());
        assert!(!files.any(|file| file == held));
    }
    stack.run(&["down"]).ok();
}
