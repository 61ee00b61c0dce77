//! How long commands and conditions take.

use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::time::SystemTime;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::kit::process::Ended;
use crate::kit::process::PATIENCE;

/// Runs a command to its end. Its output must fit into a pipe's buffer of 64 KiB.
#[track_caller]
pub(crate) fn timed(command: &mut Command) -> (Duration, Ended) {
    let (tell, told) = mpsc::channel();
    let begun = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    // The end is waited for, not polled for: a poll would be part of the figure.
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = tell.send((begun.elapsed(), output));
    });
    let Ok((took, output)) = told.recv_timeout(PATIENCE) else {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = waiter.join();
        panic!("it goes on: {command:?}");
    };
    let _ = waiter.join();
    let output = output.unwrap();
    let ended = Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    (took, ended)
}

/// Looks often until there is an answer. For figures of milliseconds, where the kit's own look is
/// too slow.
#[track_caller]
pub(crate) fn await_quickly<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    const LOOK_EVERY: Duration = Duration::from_micros(500);
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < give_up_at, "waited in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Nanoseconds since 1970, by the clock that the engine's events use too.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Milliseconds from one instant to another, both in nanoseconds since 1970.
pub(crate) fn millis_between(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1e6
}
