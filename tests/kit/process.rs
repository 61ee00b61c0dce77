//! The program under test as processes: run to its end, or left running and killed when dropped.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::time::Instant;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_octo-local");
/// Nothing here takes a tenth of this on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Ended {
    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.out, self.err
        );
        self
    }

    /// Fails the test unless it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.with(0)
    }

    /// Fails the test unless its standard error contains these words.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "no `{words}` in\n{}", self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {}", self.out))
    }
}

/// A command that goes on while the test does. Killed when dropped.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    /// Starts it; its output is kept for `end`.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child: Some(child) }
    }

    /// One that was started elsewhere.
    pub(crate) fn of(child: Child) -> Self {
        Self { child: Some(child) }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Whether it ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Presses Ctrl-C again and again until it ends: two signals that come at once count as one.
    /// Its exit code.
    #[track_caller]
    pub(crate) fn interrupt_until_it_ends(mut self) -> Option<i32> {
        wait_until("it ends", || {
            self.signal(Signal::INT);
            self.child
                .as_mut()
                .unwrap()
                .try_wait()
                .unwrap()
                .map(|status| status.code())
        })
    }

    /// Waits for its end. The output must fit into a pipe's buffer of 64 KiB.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let mut child = self.child.take().unwrap();
        let give_up_at = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= give_up_at {
                let _ = child.kill();
                let output = child.wait_with_output().unwrap();
                panic!("it goes on: {}", String::from_utf8_lossy(&output.stderr));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks again and again until there is an answer.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < give_up_at, "waited in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
