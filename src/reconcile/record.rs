//! What the daemon alone saw: probes, failures, waits, actions under way. Its loss is harmless,
//! because Docker is the store.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use super::Mono;
use super::action::Subject;
use super::action::Verb;
use super::backoff;
use super::cause::Cause;
use super::cause::Class;
use super::cause::Failure;
use super::health::Health;
use super::observed::Instance;
use super::observed::Observed;
use super::observed::Run;
use crate::config::Timing;
use crate::spec::UnitId;

/// How long after this process or the host slept silence is not held against a unit.
pub const WAKING: Duration = Duration::from_secs(30);

/// How long after its database came back a node that lived through that is not held to account: it
/// connects again first.
pub const RECONNECTING: Duration = Duration::from_secs(10);

/// What is not tried again for so long although it may be is no longer wanted, so its failure is
/// past.
const UNTRIED: Duration = Duration::from_secs(10);

/// How long the engine may take for a start although nobody waits for its answer any more.
pub const LATE_START: Duration = Duration::from_secs(60);

/// How often a cause that the host may cure is looked at again.
pub const HOST_RECHECK: Duration = Duration::from_secs(5);

/// The memory of all units, and of what is under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitRecords {
    /// By unit.
    pub units: BTreeMap<UnitId, UnitRecord>,
    /// What an action is working on now, with its verb and since when.
    pub busy: BTreeMap<Subject, (Verb, Mono)>,
    /// Failures of what is no unit: images, networks, volumes.
    pub blocked: BTreeMap<Subject, Blocked>,
    /// What was under way when failures were forgiven: how it ends says nothing about what is
    /// wanted now.
    pub excused: BTreeSet<Subject>,
    /// Until then silence of a unit says nothing about it: this process or the whole host was just
    /// asleep.
    pub lenient_until: Mono,
}

/// A failed image, network or volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocked {
    /// Why.
    pub failure: Failure,
    /// Failures in a row.
    pub failures: u32,
    /// When it is tried again.
    pub retry_at: Mono,
    /// Whether it was there at that time. Once that differs, somebody else did what failed, and it
    /// is past.
    pub there: bool,
}

/// The memory of one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitRecord {
    /// The run that `health` is about.
    pub instance: Option<Instance>,
    /// When this daemon first saw that run.
    pub seen_at: Mono,
    /// Whether that run is known to have ended.
    pub ended: bool,
    /// What its probes said.
    pub health: Health,
    /// Until then its failures may be those of its database, which just came back.
    pub reconnects_until: Mono,
    /// When it last made progress while starting: a new log line, a database that moved on.
    pub progress_at: Mono,
    /// The run that we are ending ourselves: its end is no failure.
    pub ending: Option<Instance>,
    /// When we began to end it last.
    pub ending_at: Mono,
    /// Whether the run that ended had served.
    pub served: bool,
    /// Whether the kernel killed a process of that run for memory.
    pub oom: bool,
    /// The run that ended and was not examined yet.
    pub unexamined: Option<Instance>,
    /// The run that `failure` is about, until its last log lines were read, where nothing waits for
    /// that.
    pub unread: Option<Instance>,
    /// The last failure, until the unit is ready again.
    pub failure: Option<Failure>,
    /// Failures in a row, for the backoff.
    pub failures: u32,
    /// Until then the engine may still do a start of which nothing was heard: the time it may take,
    /// from the first such one.
    pub may_start_until: Option<Mono>,
    /// No start before this.
    pub retry_at: Option<Mono>,
    /// Restarts since the daemon began.
    pub restarts: u32,
}

impl UnitRecords {
    /// The memory of a unit, made when first needed.
    pub fn of(&mut self, unit: UnitId) -> &mut UnitRecord {
        self.units.entry(unit).or_default()
    }

    /// The memory of a unit, if there is any.
    pub fn get(&self, unit: UnitId) -> Option<&UnitRecord> {
        self.units.get(&unit)
    }

    /// Whether an action works on this now.
    pub fn is_busy(&self, subject: &Subject) -> bool {
        self.busy.contains_key(subject)
    }

    /// Takes in what Docker showed: new runs begin with clean health, ended runs wait to be
    /// examined.
    pub fn absorb(&mut self, seen: &Observed, now: Mono) {
        let units: BTreeSet<UnitId> = seen
            .containers
            .iter()
            .map(|container| container.unit)
            .collect();
        for unit in units {
            let Some(container) = seen.container(unit) else {
                continue;
            };
            let Some(instance) = container.instance() else {
                continue;
            };
            let ended = matches!(container.run, Run::Exited { .. });
            self.of(unit).absorb(instance, ended, now);
            if matches!(container.run, Run::Paused { .. }) {
                let record = self.of(unit);
                record.pause(now);
                record.health.doubt();
            }
        }
        for (unit, record) in &mut self.units {
            // An external database has no container, and what is remembered of it is of no
            // instance.
            if record.instance.is_some() && seen.container(*unit).is_none() {
                record.instance = None;
                record.health = Health::default();
                record.unexamined = None;
                record.unread = None;
                record.may_start_until = None;
            }
        }
        let busy = &self.busy;
        self.blocked.retain(|subject, blocked| {
            let is_wanted = busy.contains_key(subject) || now < blocked.retry_at.after(UNTRIED);
            is_wanted && blocked.there == is_there(subject, seen)
        });
    }

    /// Takes in that this process did not run for a while: what was silent meanwhile may be well.
    pub fn wake(&mut self, now: Mono) {
        self.lenient_until = now.after(WAKING);
        self.units.values_mut().for_each(|record| record.pause(now));
    }

    /// The database is back: nodes connect again first.
    pub fn nodes_reconnect(&mut self, now: Mono) {
        for (_, record) in self.units.iter_mut().filter(|(unit, _)| unit.is_server()) {
            record.reconnects_until = now.after(RECONNECTING);
        }
    }

    /// Forgets failures: the configuration changed, or a person asked for another try.
    pub fn forgive(&mut self) {
        self.blocked.clear();
        self.excused = self.busy.keys().cloned().collect();
        for record in self.units.values_mut() {
            record.failure = None;
            record.unread = None;
            record.failures = 0;
            record.retry_at = None;
        }
    }
}

impl UnitRecord {
    fn absorb(&mut self, instance: Instance, ended: bool, now: Mono) {
        // Of a container that the engine cannot inspect no start time is known: two runs look the
        // same, save for the end between.
        let runs_again = self.ended && !ended;
        if self.instance.as_ref() != Some(&instance) || runs_again {
            self.seen_at = now;
            self.progress_at = now;
            self.health = Health::default();
            (self.ended, self.served, self.oom) = (false, false, false);
            self.unexamined = None;
            self.may_start_until = None;
            self.instance = Some(instance.clone());
        }
        if ended && !self.ended {
            self.ended = true;
            self.served = self.health.started;
            self.health = Health::default();
            // A run that this daemon only ever saw ended is examined as well: its cause may be
            // permanent.
            self.unexamined = (self.ending.as_ref() != Some(&instance)).then_some(instance);
        }
    }

    /// A frozen process cannot answer and cannot move: that says nothing about it.
    fn pause(&mut self, now: Mono) {
        self.health.forget_misses();
        self.progress_at = now;
    }

    /// Counts a failure and sets when the next start may be. What was to be read about an earlier
    /// one no longer matters.
    pub fn fail(&mut self, failure: Failure, seed: u64, timing: &Timing, now: Mono) {
        match failure.cause.class() {
            Class::Permanent => self.retry_at = None,
            Class::Host => self.retry_at = Some(now.after(HOST_RECHECK)),
            Class::Transient => {
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(now.after(backoff::wait(self.failures, seed, timing)));
            }
        }
        self.failure = Some(failure);
        self.unread = None;
    }

    /// Takes in that what the host had refused was done.
    pub fn host_is_well(&mut self) {
        if self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.cause.class() == Class::Host)
        {
            self.failure = None;
            self.retry_at = None;
        }
    }

    /// Takes in that the unit is ready: the failure is past, and after long enough the count of
    /// failures too.
    pub fn settle(&mut self, timing: &Timing, now: Mono) {
        let Some(since) = self.health.ready_since else {
            return;
        };
        self.failure = None;
        self.unread = None;
        self.retry_at = None;
        if now.since(since) >= timing.backoff_reset {
            self.failures = 0;
        }
    }

    /// Whether a start must wait until the end of the last run was examined: its cause may be
    /// permanent. One that served and fails for the first time is started again at once, and
    /// examined meanwhile.
    pub fn waits_for_examination(&self) -> bool {
        let first = self.failures == 0 && self.failure.is_none();
        self.unexamined.is_some() && !(self.served && first)
    }

    /// Whether the last failure stops the retrying and its log lines are still to come.
    pub fn is_unread(&self) -> bool {
        self.unread.is_some() && self.gave_up().is_some()
    }

    /// Whether the last failure stops the retrying.
    pub fn gave_up(&self) -> Option<Cause> {
        self.failure
            .as_ref()
            .map(|failure| failure.cause)
            .filter(|cause| cause.class() == Class::Permanent)
    }
}

/// Whether the engine has it.
pub fn is_there(subject: &Subject, seen: &Observed) -> bool {
    match subject {
        Subject::Unit(unit) => seen.container(*unit).is_some(),
        Subject::Process(_) | Subject::Log(_) => false,
        Subject::Network => !seen.networks.is_empty(),
        Subject::Volume(name) => seen.volumes.contains(name),
        Subject::Image(image) => seen.images.contains_key(image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::cause::Evidence;
    use crate::reconcile::cause::of_unit;
    use crate::reconcile::health::Probe;
    use crate::reconcile::observed::Container;
    use crate::spec::Digest;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn seen(run: Run) -> Observed {
        let container = Container {
            id: "c".into(),
            name: "p-octopus-server-1".into(),
            unit: UnitId::Node(1),
            digest: Digest(String::new()),
            image: "octopus:1".into(),
            image_id: "1".into(),
            run,
            networks: std::collections::BTreeSet::new(),
            network_mode: String::new(),
            engine_restarts: false,
        };
        Observed {
            containers: vec![container],
            ..Observed::default()
        }
    }

    #[test]
    fn what_somebody_else_did_meanwhile_is_no_failure_any_more() {
        let engine = Some("no such image: octopus:1");
        let failure = of_unit(
            UnitId::Node(1),
            &Evidence {
                engine,
                ..Evidence::default()
            },
        );
        let subject = Subject::Image("octopus:1".to_owned());
        let mut records = UnitRecords::default();
        for there in [false, true] {
            let blocked = Blocked {
                failure: failure.clone(),
                failures: 1,
                retry_at: at(9),
                there,
            };
            records.blocked.insert(subject.clone(), blocked);
            let mut seen = Observed::default();
            records.absorb(&seen, at(1));
            assert_eq!(records.blocked.contains_key(&subject), !there);
            seen.images.insert("octopus:1".to_owned(), "id".to_owned());
            records.absorb(&seen, at(2));
            assert!(records.blocked.is_empty());
        }
    }

    #[test]
    fn a_frozen_unit_is_neither_hung_nor_stuck_when_it_thaws() {
        let mut records = UnitRecords::default();
        records.absorb(
            &seen(Run::Running {
                started_at: "1".into(),
            }),
            at(1),
        );
        for second in 2..9 {
            records
                .of(UnitId::Node(1))
                .health
                .record(&Probe::Failure("silent".into()), at(second));
        }
        records.absorb(
            &seen(Run::Paused {
                started_at: "1".into(),
            }),
            at(500),
        );
        let record = records.of(UnitId::Node(1));
        assert_eq!(
            (
                record.health.misses,
                record.health.failing_since,
                record.progress_at
            ),
            (0, None, at(500))
        );
    }
}
