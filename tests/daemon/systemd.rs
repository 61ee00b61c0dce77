//! systemd's protocol: ready, the watchdog that is fed only by a daemon that advances, and more
//! time for an ordered stop.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// What systemd would set as `WATCHDOG_USEC`.
const WATCHDOG: Duration = Duration::from_secs(10);

/// systemd's end of the notification socket.
struct Manager(UnixDatagram);

impl Manager {
    /// Everything that came within a time.
    fn hear(&self, patience: Duration) -> String {
        let until = Instant::now() + patience;
        let mut heard = String::new();
        let mut bytes = [0; 4096];
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            self.0.set_read_timeout(Some(left)).unwrap();
            if let Ok(length) = self.0.recv(&mut bytes) {
                heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
                heard.push('\n');
            }
        }
        heard
    }

    /// Waits for a word.
    fn hears(&self, word: &str) {
        wait_until(word, || {
            self.hear(Duration::from_millis(200))
                .contains(word)
                .then_some(())
        });
    }
}

fn managed(stack: &Stack) -> (Manager, Running) {
    let path = stack.dir().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let mut command = stack.command(&["daemon"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let daemon = Running::spawn(&mut command);
    manager.hears("READY=1");
    (manager, daemon)
}

#[test]
fn f13_the_watchdog_is_fed_by_a_daemon_that_advances_only() {
    let stack = Stack::demo("watchdog");
    let (manager, daemon) = managed(&stack);
    manager.hears("WATCHDOG=1");
    daemon.signal(Signal::STOP);
    manager.hear(Duration::from_millis(100));
    assert!(
        !manager.hear(WATCHDOG).contains("WATCHDOG"),
        "a daemon that does not run feeds nothing"
    );
    daemon.signal(Signal::CONT);
    manager.hears("WATCHDOG=1");
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
    manager.hears("STOPPING=1");
}

#[test]
fn f72_an_ordered_stop_asks_systemd_for_the_time_that_it_takes() {
    let stack = Stack::demo("extend");
    stack.set("STANDIN_OCTOPUS_STOP_MS", "12000");
    let (manager, daemon) = managed(&stack);
    stack.run(&["up", "--demo", "--nodes", "2"]).ok();
    let since = stack.witness.now();
    daemon.signal(Signal::TERM);
    manager.hears("EXTEND_TIMEOUT_USEC=");
    stack.end(daemon).ok();
    let died: Vec<String> = stack
        .events(since)
        .into_iter()
        .filter(|told| told.action == "die")
        .map(|told| told.name)
        .collect();
    assert_eq!(died.last().map(String::as_str), Some("db"), "{died:?}");
    assert_eq!(died.len(), 3);
}

/// Whoever says more than the manager reads would wait for it: the stack must not.
#[test]
fn f13_a_manager_that_reads_nothing_holds_up_nobody() {
    let stack = Stack::demo("deaf-manager");
    let path = stack.dir().join("notify");
    let deaf = UnixDatagram::bind(&path).unwrap();
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    let queued = (0..100_000).take_while(|_| full.send_to(b"x", &path).is_ok());
    assert!(queued.count() < 100_000, "its queue has an end");
    let mut command = stack.command(&["daemon"]);
    command.env("NOTIFY_SOCKET", &path);
    let daemon = Running::spawn(&mut command);
    stack.run(&["up", "--demo"]).ok();
    assert_eq!(stack.status()["verdict"], "ready");
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
    drop(deaf);
}
