//! How long a backup or restore takes, and what is told of it meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cancel::Cancel;
use super::server::Server;
use super::tokens::Reply;

/// How often a pause looks whether the statement was cancelled.
const LOOK: Duration = Duration::from_millis(10);
/// Between two lines of progress where `STATS` says nothing, in percent.
pub(super) const STATS: u64 = 10;

/// The progress of one statement.
pub(super) struct Pace {
    server: Arc<Server>,
    cancel: Arc<Cancel>,
    spid: u32,
    total: u64,
    began: Instant,
    stats: u64,
    said: Vec<u64>,
}

impl Pace {
    /// It begins; `total` in bytes.
    pub(super) fn new(server: &Arc<Server>, cancel: &Arc<Cancel>, spid: u32, total: u64) -> Self {
        Self {
            server: server.clone(),
            cancel: cancel.clone(),
            spid,
            total: total.max(1),
            began: Instant::now(),
            stats: STATS,
            said: Vec::new(),
        }
    }

    /// Tells its progress every so many percent.
    pub(super) fn every(mut self, stats: u64) -> Self {
        self.stats = stats.clamp(1, 100);
        self
    }

    /// After some bytes; `false` when the statement was cancelled.
    pub(super) fn step(&mut self, done: u64) -> bool {
        let share = done.min(self.total) as f64 / self.total as f64;
        self.server
            .store
            .sessions
            .progress(self.spid, share * 100.0);
        let mut next = self.said.last().copied().unwrap_or_default() + self.stats;
        while next <= (share * 100.0) as u64 {
            self.said.push(next);
            next += self.stats;
        }
        let due = self.began + self.server.pace.mul_f64(share);
        while Instant::now() < due && !self.cancel.asked() {
            std::thread::sleep(LOOK.min(due.saturating_duration_since(Instant::now())));
        }
        !self.cancel.asked()
    }

    /// The vendor's messages: the percents, the pages, and the whole. Gives the seconds it took.
    pub(super) fn tell(&self, what: &str, files: &[(String, u64)], reply: &mut Reply) {
        for percent in &self.said {
            reply.notice(3211, &format!("{percent} percent processed."));
        }
        for (file, pages) in files {
            reply.notice(4035, &format!("Processed {pages} pages for {file}."));
        }
        let pages: u64 = files.iter().map(|(_, pages)| pages).sum();
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = self.total as f64 / 1_048_576.0 / seconds;
        reply.notice(
            3014,
            &format!(
                "{what} successfully processed {pages} pages in {seconds:.3} seconds ({rate:.3} MB/sec)."
            ),
        );
    }
}
