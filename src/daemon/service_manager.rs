//! What systemd is told of the daemon (sd_notify(3)): that it is ready, that it advances, that it
//! needs more time to stop, and in one line what the stack does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::beats;
use super::beats::Beats;
use crate::reconcile::status::Status;
use crate::reconcile::status::status_line;
use crate::service_manager;
use crate::service_manager::Word;
use crate::service_manager::say;

/// How often systemd is asked for more time while the stack stops. Each time it is given twice as
/// much.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How long the last word may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Says that the daemon is ready; then feeds the watchdog while both loops advance, asks for more
/// time while the stack stops, and shows in `systemctl status` what the stack does.
pub(super) async fn tell(beats: Arc<Beats>, mut status: watch::Receiver<Status>) {
    say(Word::Ready).await;
    let watchdog = service_manager::watchdog();
    let mut beat =
        tokio::time::interval(watchdog.map_or(EXTEND_EVERY, |limit| (limit / 2).min(EXTEND_EVERY)));
    let mut fed = beats.counts();
    let mut line = Line::default();
    loop {
        // Cancel-safe: neither a tick nor a change is lost by waiting for the other.
        tokio::select! {
            _ = beat.tick() => {}
            changed = status.changed() => {
                // The daemon has ended.
                let Ok(()) = changed else { return };
                let new = line.changed(&status.borrow_and_update()).map(str::to_owned);
                if let Some(new) = new {
                    say(Word::Status(&new)).await;
                }
                continue;
            }
        }
        if beats.is_ending() {
            say(Word::MoreTime(EXTEND_EVERY * 2)).await;
        }
        let now = beats.counts();
        if watchdog.is_some() && beats::advanced(fed, now) {
            fed = now;
            say(Word::Watchdog).await;
        }
    }
}

/// Says that the daemon ends.
pub(super) async fn say_that_it_ends() {
    service_manager::say_within(Word::Stopping, FAREWELL).await;
}

/// The line that was told last.
#[derive(Debug, Default)]
struct Line(String);

impl Line {
    /// The line to tell, if it is another one: a status changes with every second, its line seldom.
    fn changed(&mut self, status: &Status) -> Option<&str> {
        let line = status_line(status);
        if line == self.0 {
            return None;
        }
        self.0 = line;
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_once() {
        let mut line = Line::default();
        let mut status = Status::default();
        assert_eq!(line.changed(&status), None, "nothing is known yet");
        status.set_unsupervised("working", "db is starting");
        assert_eq!(line.changed(&status), Some("working: db is starting"));
        status.goal_for_seconds = Some(1);
        assert_eq!(line.changed(&status), None, "only its age changed");
        status.set_unsupervised("ready", "");
        assert_eq!(line.changed(&status), Some("ready"));
    }
}
