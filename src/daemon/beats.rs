//! The signs that the daemon advances, for systemd's watchdog: a process that hangs is better
//! killed than believed.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Counts of what was done. The driver's loop and its looks at the engine each have one.
#[derive(Debug, Default)]
pub struct Beats {
    driver: AtomicU64,
    engine: AtomicU64,
    ending: AtomicBool,
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

    /// The daemon was asked to end.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether the daemon was asked to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
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
}
