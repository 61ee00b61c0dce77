//! Whether the host is so short of something that a unit's silence is not the unit's. Asked only
//! while somebody is silent, and believed only for so long: a unit that hangs on a host that is
//! always short is restarted all the same.

use std::time::Duration;

use super::Core;
use crate::daemon::message::Effect;
use crate::daemon::pressure::Pressure;
use crate::reconcile::Mono;
use crate::reconcile::health::Miss;
use crate::reconcile::health::Probe;

/// Between two readings.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How long a shortage excuses silence, from its first sign.
const EXCUSES_FOR: Duration = Duration::from_secs(2 * 60);
/// After so long without a sign the next one is of another shortage.
const IS_OVER: Duration = Duration::from_secs(60);

/// What is known of the host's shortage.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    reading: bool,
    read_at: Option<Mono>,
    /// The first and the last sign of it.
    signs: Option<(Mono, Mono)>,
}

impl Shortage {
    /// Somebody is silent. True when the host's pressure is to be read.
    pub(super) fn on_silence(&mut self, now: Mono) -> bool {
        let is_due = self.read_at.is_none_or(|at| now.since(at) >= READ_EVERY);
        let reads = is_due && !self.reading;
        self.reading |= reads;
        reads
    }

    /// The pressure was read. True when silence is to be excused now.
    pub(super) fn on_read(&mut self, pressure: Option<Pressure>, now: Mono) -> bool {
        (self.reading, self.read_at) = (false, Some(now));
        if !pressure.is_some_and(|pressure| pressure.starves()) {
            return false;
        }
        let same = self.signs.filter(|(_, last)| now.since(*last) < IS_OVER);
        let first = same.map_or(now, |(first, _)| first);
        self.signs = Some((first, now));
        now.since(first) < EXCUSES_FOR
    }
}

impl Core {
    /// A unit says nothing at all: on a host that is short of something that may be no fault of
    /// its own. Of another host nothing is known.
    pub(super) fn ask_whether_the_host_is_short(&mut self, probe: &Probe) {
        let is_silent = matches!(probe, Probe::Failure(Miss::Silent(_), _));
        if is_silent
            && self.setup.endpoint.is_local()
            && self.host.shortage.on_silence(self.now.mono)
        {
            self.out.push(Effect::ReadPressure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    const SHORT: Pressure = Pressure {
        processors: 99.0,
        memory: 0.0,
        disks: 0.0,
    };

    #[test]
    fn a_shortage_excuses_silence_for_minutes_and_not_for_ever() {
        let mut shortage = Shortage::default();
        for second in (0..120).step_by(10) {
            assert!(shortage.on_silence(at(second)));
            assert!(shortage.on_read(Some(SHORT), at(second)), "{second}");
        }
        assert!(!shortage.on_read(Some(SHORT), at(120)));
        assert!(!shortage.on_read(Some(SHORT), at(170)));
        assert!(shortage.on_read(Some(SHORT), at(320)), "another one");
    }

    #[test]
    fn a_host_that_is_well_excuses_nobody_and_is_not_asked_without_end() {
        let mut shortage = Shortage::default();
        assert!(shortage.on_silence(at(1)));
        assert!(!shortage.on_silence(at(9)), "one reading at a time");
        assert!(!shortage.on_read(Some(Pressure::default()), at(9)));
        assert!(!shortage.on_silence(at(10)));
        assert!(shortage.on_silence(at(11)));
        assert!(!shortage.on_read(None, at(11)));
    }
}
