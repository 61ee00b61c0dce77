//! Notices that this process did not run for a while: it was stopped, starved, or the whole host
//! slept. What was silent meanwhile may be well.

use std::time::Duration;

use super::looks::RELIST_EVERY;
use crate::daemon::message::Moment;

/// The core is called no later than between two looks, so a much longer gap is sleep.
pub const SLEEP_GAP: Duration = Duration::from_secs(RELIST_EVERY.as_secs() * 2);
/// How far the clock that runs on in a suspended host may be ahead before that counts as sleep.
const SUSPENDED: Duration = Duration::from_secs(2);

/// When the core was last called, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct SleepDetector {
    before: Moment,
}

impl SleepDetector {
    /// Awake now.
    pub(super) fn awake(now: Moment) -> Self {
        Self { before: now }
    }

    /// How long the process was not awake since the last call, if it was not.
    pub(super) fn slept(&mut self, now: Moment) -> Option<Duration> {
        let before = std::mem::replace(&mut self.before, now);
        let gap = now.mono.since(before.mono);
        let suspended = now.suspended.saturating_sub(before.suspended);
        (gap > SLEEP_GAP || suspended > SUSPENDED).then_some(gap + suspended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Mono;

    #[test]
    fn a_long_gap_and_a_suspension_are_sleep() {
        let moment = |mono: u64, suspended: u64| Moment {
            mono: Mono(Duration::from_secs(mono)),
            suspended: Duration::from_secs(suspended),
            wall: time::OffsetDateTime::UNIX_EPOCH,
        };
        let mut detector = SleepDetector::awake(moment(0, 0));
        assert_eq!(detector.slept(moment(5, 0)), None);
        assert_eq!(
            detector.slept(moment(305, 0)),
            Some(Duration::from_secs(300))
        );
        assert_eq!(
            detector.slept(moment(306, 3_600)),
            Some(Duration::from_secs(3_601))
        );
        assert_eq!(detector.slept(moment(307, 3_600)), None);
    }
}
