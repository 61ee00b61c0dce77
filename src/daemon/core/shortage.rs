//! Whether the host is so short of something, or a unit's container gets so little of it, that the
//! unit's silence is not its own. Asked only while somebody is silent, and believed only for so long: a unit that hangs on a host that is
//! always short is restarted all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use crate::daemon::message::Effect;
use crate::daemon::pressure::Pressure;
use crate::reconcile::Mono;
use crate::reconcile::health::Miss;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::spec::UnitId;

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

    /// It was read. True when silence is to be excused now.
    pub(super) fn on_read(&mut self, is_short: bool, now: Mono) -> bool {
        (self.reading, self.read_at) = (false, Some(now));
        if !is_short {
            return false;
        }
        let same = self.signs.filter(|(_, last)| now.since(*last) < IS_OVER);
        let first = same.map_or(now, |(first, _)| first);
        self.signs = Some((first, now));
        now.since(first) < EXCUSES_FOR
    }
}

/// What is known of runs that want more processors than they may have.
#[derive(Debug, Default)]
pub(super) struct Throttled(BTreeMap<UnitId, (Instance, Shortage)>);

impl Throttled {
    /// The shortage of this run: that of another one says nothing.
    fn of(&mut self, unit: UnitId, instance: &Instance) -> &mut Shortage {
        let new = || (instance.clone(), Shortage::default());
        let kept = self.0.entry(unit).or_insert_with(new);
        if kept.0 != *instance {
            *kept = new();
        }
        &mut kept.1
    }

    fn known(&mut self, unit: UnitId, instance: &Instance) -> Option<&mut Shortage> {
        let known = self.0.get_mut(&unit);
        let known = known.filter(|(of, _)| of == instance);
        known.map(|(_, shortage)| shortage)
    }
}

impl Core {
    /// A unit says nothing at all: on a host that is short of something, or in a container that
    /// may have little, that may be no fault of its own. Of another host nothing is known.
    pub(super) fn ask_whether_it_starves(
        &mut self,
        unit: UnitId,
        instance: Option<&Instance>,
        probe: &Probe,
    ) {
        let (now, host) = (self.now.mono, &mut self.host);
        let is_silent = matches!(probe, Probe::Failure(Miss::Silent(_), _));
        if !is_silent || !self.setup.endpoint.is_local() {
            return;
        }
        if host.shortage.on_silence(now) {
            self.out.push(Effect::ReadPressure);
        }
        if let Some(instance) = instance
            && host.throttled.of(unit, instance).on_silence(now)
        {
            self.out
                .push(Effect::ReadThrottling(unit, instance.clone()));
        }
    }

    pub(super) fn on_pressure_read(&mut self, pressure: Option<Pressure>) {
        let is_short = pressure.is_some_and(|pressure| pressure.starves());
        if self.host.shortage.on_read(is_short, self.now.mono) {
            self.state.on_host_starved(self.now.mono);
        }
    }

    pub(super) fn on_throttling_read(&mut self, unit: UnitId, instance: &Instance, starves: bool) {
        let now = self.now.mono;
        let known = self.host.throttled.known(unit, instance);
        if known.is_some_and(|shortage| shortage.on_read(starves, now)) {
            self.state.on_unit_starved(unit, instance, self.now.mono);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn a_shortage_excuses_silence_for_minutes_and_not_for_ever() {
        let mut shortage = Shortage::default();
        for second in (0..120).step_by(10) {
            assert!(shortage.on_silence(at(second)));
            assert!(shortage.on_read(true, at(second)), "{second}");
        }
        assert!(!shortage.on_read(true, at(120)));
        assert!(!shortage.on_read(true, at(170)));
        assert!(shortage.on_read(true, at(320)), "another one");
    }

    #[test]
    fn a_host_that_is_well_excuses_nobody_and_is_not_asked_without_end() {
        let mut shortage = Shortage::default();
        assert!(shortage.on_silence(at(1)));
        assert!(!shortage.on_silence(at(9)), "one reading at a time");
        assert!(!shortage.on_read(false, at(9)));
        assert!(!shortage.on_silence(at(10)));
        assert!(shortage.on_silence(at(11)));
        assert!(!shortage.on_read(false, at(11)));
    }
}
