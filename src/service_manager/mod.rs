//! Whoever runs this process as a service, systemd as a rule: what it is told (sd_notify(3)) and
//! what it hands over (sd_listen_fds(3)). The daemon and the front door speak to it here. Without
//! one nothing is said.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;

/// What a service says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// It is ready.
    Ready,
    /// It is about to read everything anew; followed by [`Word::Ready`].
    Reloading,
    /// It ends.
    Stopping,
    /// It advances.
    Watchdog,
    /// It needs so much more time to start or to end.
    MoreTime(Duration),
    /// What it does, in one line.
    Status(&'a str),
}

impl Word<'_> {
    /// As the protocol has it: one assignment a line.
    fn text(self) -> String {
        match self {
            Self::Ready => NotifyState::Ready.to_string(),
            Self::Reloading => {
                let since = NotifyState::monotonic_usec_now().ok();
                let lines = [Some(NotifyState::Reloading), since].into_iter().flatten();
                lines.map(|line| format!("{line}\n")).collect()
            }
            Self::Stopping => NotifyState::Stopping.to_string(),
            Self::Watchdog => NotifyState::Watchdog.to_string(),
            Self::MoreTime(more) => {
                let more = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
                NotifyState::ExtendTimeoutUsec(more).to_string()
            }
            Self::Status(line) => NotifyState::Status(line).to_string(),
        }
    }

    /// Where the queue of the manager's socket is full, the kernel lets whoever says more wait until
    /// it is read: a thread of its own does that.
    fn send(self, done: impl FnOnce() + Send + 'static) {
        let text = self.text();
        std::thread::spawn(move || {
            // Nobody listens, or it is gone: then nobody is to be told.
            let _ = sd_notify::notify(&[NotifyState::Custom(&text)]);
            done();
        });
    }
}

/// Says something. Nobody waits but who awaits this.
pub async fn say(word: Word<'_>) {
    let (done, said) = oneshot::channel();
    word.send(move || {
        let _ = done.send(());
    });
    let _ = said.await;
}

/// Says something and waits for it no longer than that: one who reads nothing must hold nothing up.
pub async fn say_within(word: Word<'_>, limit: Duration) {
    let _ = tokio::time::timeout(limit, say(word)).await;
}

/// The same for one who cannot await.
pub fn say_and_block(word: Word<'_>, limit: Duration) {
    let (done, said) = std::sync::mpsc::sync_channel(1);
    word.send(move || {
        let _ = done.send(());
    });
    let _ = said.recv_timeout(limit);
}

/// After how long without [`Word::Watchdog`] the process is held to hang; none where nobody looks.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The sockets that it opened for this process.
pub fn sockets() -> io::Result<Vec<OwnedFd>> {
    let Ok(numbers) = sd_notify::listen_fds() else {
        return Ok(Vec::new());
    };
    if numbers.len() == 0 {
        return Ok(Vec::new());
    }
    // A descriptor that is only known by its number is taken from our own process as from another:
    // the kernel checks it, and the copy is owned.
    let own = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )?;
    let flags = rustix::process::PidfdGetfdFlags::empty();
    numbers
        .map(|number| Ok(rustix::process::pidfd_getfd(&own, number, flags)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_protocol() {
        assert_eq!(Word::Ready.text(), "READY=1");
        assert_eq!(Word::Stopping.text(), "STOPPING=1");
        assert_eq!(Word::Watchdog.text(), "WATCHDOG=1");
        assert_eq!(Word::Status("db: ready").text(), "STATUS=db: ready");
        let more = Word::MoreTime(Duration::from_secs(20)).text();
        assert_eq!(more, "EXTEND_TIMEOUT_USEC=20000000");
        let lines = Word::Reloading.text();
        let mut lines = lines.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"));
        assert!(lines.next().unwrap().starts_with("MONOTONIC_USEC="));
    }

    #[test]
    fn without_a_manager_nothing_is_handed_over() {
        assert!(sockets().unwrap().is_empty());
        assert_eq!(watchdog(), None);
    }
}
