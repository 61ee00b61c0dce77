//! Notices that this process did not run for a while: it was stopped, starved, or the whole host
//! slept. What was silent meanwhile may be well.

use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::time::Instant;

use super::look::RELIST_EVERY;

/// The loop waits no longer than between two looks, so a much longer gap is sleep.
const GAP: Duration = Duration::from_secs(RELIST_EVERY.as_secs() * 2);
/// How far the clock that runs on in a suspended host may be ahead before that counts as sleep.
const SUSPENDED: Duration = Duration::from_secs(2);

/// When the loop last came round, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awake {
    at: Instant,
    /// How far the clock that counts suspension is ahead of the one that does not.
    ahead: Duration,
}

impl Awake {
    /// Awake now.
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            ahead: ahead(),
        }
    }

    /// How long it was not awake since the last call, if it was not.
    pub(super) fn slept(&mut self) -> Option<Duration> {
        let before = std::mem::replace(self, Self::now());
        slept(self.at - before.at, self.ahead.saturating_sub(before.ahead))
    }
}

fn slept(gap: Duration, suspended: Duration) -> Option<Duration> {
    (gap > GAP || suspended > SUSPENDED).then_some(gap + suspended)
}

fn ahead() -> Duration {
    let of = |clock| {
        let time = clock_gettime(clock);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    };
    let steady = of(ClockId::Monotonic);
    of(ClockId::Boottime).saturating_sub(steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gap_and_a_suspension_are_sleep() {
        let second = Duration::from_secs(1);
        assert_eq!(slept(second * 5, Duration::ZERO), None);
        assert_eq!(slept(second * 300, Duration::ZERO), Some(second * 300));
        assert_eq!(slept(second, second * 3600), Some(second * 3601));
        assert_eq!(Awake::now().slept(), None);
    }
}
