//! The signs that the daemon advances, for systemd's watchdog: a process that hangs is better
//! killed than believed.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

/// Counts of what was done. The driver's loop and its looks at the engine each have one.
#[derive(Debug, Default)]
pub struct Beats {
    driver: AtomicU64,
    engine: AtomicU64,
    ends_by: OnceLock<Instant>,
}

impl Beats {
    /// The driver's loop came round.
    pub(super) fn driver(&self) {
        self.driver.fetch_add(1, Ordering::Relaxed);
    }

    /// A look at the engine ended, well or not.
    pub(super) fn engine(&self) {
        self.engine.fetch_add(1, Ordering::Relaxed);
    }

    /// The daemon was asked to end, and what it is given for that is over then.
    pub(super) fn end(&self, by: Instant) {
        self.ends_by.get_or_init(|| by);
    }

    /// Whether the daemon was asked to end and is within the time for it: what cannot be ended must
    /// not hold up the end of a host.
    pub fn is_ending(&self) -> bool {
        self.ends_by.get().is_some_and(|by| Instant::now() < *by)
    }

    /// Both counts, to be compared with later ones.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.driver.load(Ordering::Relaxed),
            self.engine.load(Ordering::Relaxed),
        )
    }
}

/// Whether both loops came round since an earlier count.
pub fn advanced(before: (u64, u64), now: (u64, u64)) -> bool {
    now.0 != before.0 && now.1 != before.1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_loop_alone_is_no_life() {
        let beats = Beats::default();
        let before = beats.counts();
        beats.driver();
        assert!(!advanced(before, beats.counts()), "the engine's loop hangs");
        beats.engine();
        assert!(advanced(before, beats.counts()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_under_way_for_as_long_as_it_may_take() {
        let beats = Beats::default();
        assert!(!beats.is_ending());
        let limit = Duration::from_secs(60);
        beats.end(Instant::now() + limit);
        tokio::time::sleep(Duration::from_secs(59)).await;
        beats.end(Instant::now() + limit);
        assert!(beats.is_ending());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!beats.is_ending(), "the first word counts");
    }
}
