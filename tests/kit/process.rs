//! The program under test as processes: run to its end, or left running and killed when dropped.

use std::io::Read;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
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

/// What comes out of a pipe, read as it comes.
struct Heard {
    text: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Heard {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let all = text.clone();
        let reading = std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut some) {
                all.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        Self { text, reading }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn until_its_end(self) -> String {
        self.reading.join().unwrap();
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }
}

/// A command that goes on while the test does. Killed when dropped.
pub(crate) struct Running {
    child: Option<Child>,
    out: Option<Heard>,
    err: Option<Heard>,
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
        Self::of(child)
    }

    /// One that was started elsewhere.
    pub(crate) fn of(mut child: Child) -> Self {
        Self {
            out: child.stdout.take().map(Heard::of),
            err: child.stderr.take().map(Heard::of),
            child: Some(child),
        }
    }

    /// Waits until it says this on its standard error.
    #[track_caller]
    pub(crate) fn wait_until_it_says(&self, words: &str) {
        let err = self.err.as_ref().unwrap();
        wait_until(words, || err.so_far().contains(words).then_some(()));
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

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let mut child = self.child.take().unwrap();
        let give_up_at = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= give_up_at {
                let _ = child.kill();
                let _ = child.wait();
                let err = self.err.as_ref().map(Heard::so_far);
                panic!("it goes on: {}", err.unwrap_or_default());
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let text = |heard: Option<Heard>| heard.map(Heard::until_its_end).unwrap_or_default();
        Ended {
            code: status.code().unwrap_or(-1),
            out: text(self.out.take()),
            err: text(self.err.take()),
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

/// The front doors whose control socket's path ends so.
pub(crate) fn front_doors(control: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let is_one = |entry: std::fs::DirEntry| {
        let words = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let mut words = words.split('\0');
        words
            .any(|word| word.ends_with(control))
            .then(|| Pid::from_raw(pid))?
    };
    entries.filter_map(is_one).collect()
}

/// Whether a process is gone, or all that it held is (proc(5), `stat`: one in state Z has closed its
/// files, and waits for its parent).
pub(crate) fn is_over(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| matches!(state, 'Z' | 'X'))
}
