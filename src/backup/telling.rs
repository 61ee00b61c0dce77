//! Tells a watcher how far a run is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::progress::Progress;

/// How often a step that moves is told of.
const EVERY: Duration = Duration::from_millis(100);

/// Counts the bytes of one part of a run.
pub(super) struct Telling {
    to: watch::Sender<Progress>,
    began: Instant,
    done: u64,
    told: Option<Instant>,
}

impl Telling {
    /// Of a run that began then, and has had so many bytes.
    pub(super) fn of(to: &watch::Sender<Progress>, began: Instant, done: u64) -> Self {
        Self {
            to: to.clone(),
            began,
            done,
            told: None,
        }
    }

    /// So many more bytes went through.
    pub(super) fn moved(&mut self, more: u64) {
        self.done += more;
        if self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let (done, elapsed) = (self.done, self.began.elapsed());
        self.to
            .send_modify(|progress| progress.moved(done, elapsed));
    }
}
