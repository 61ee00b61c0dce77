//! What the daemon alone saw: probes, failures, waits, actions under way. Its loss is harmless,
//! because Docker is the store.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

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
use super::start_log::StartLog;
use crate::config::Timing;
use crate::spec::StackSpec;
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

/// How long Octopus Server may take a node off its list after the call was given up.
pub const LATE_TAKE_OFF: Duration = Duration::from_secs(60);

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
    /// Nodes that could not be taken off Octopus Server's list, by their names there.
    pub unlisted: BTreeMap<String, Refusal>,
    /// Until then Octopus Server may still take a node off its list by a call of which nothing was
    /// heard, by the node's name there.
    pub may_leave_list_until: BTreeMap<String, Mono>,
    /// What is known of the past, and kept.
    pub durable: Durable,
}

/// How often it is tried to take a node off the list. A node that just ended may count as alive
/// there for a minute.
const TAKE_OFF_TRIES: u32 = 10;
/// The wait after the first try that failed; it doubles up to [`LONGEST_TAKE_OFF_WAIT`].
const FIRST_TAKE_OFF_WAIT: Duration = Duration::from_secs(2);
/// See [`FIRST_TAKE_OFF_WAIT`].
const LONGEST_TAKE_OFF_WAIT: Duration = Duration::from_secs(60);

/// Tries to take a node off the list that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// How many.
    pub tries: u32,
    /// When it is tried again; none: not before a person asks for something.
    pub retry_at: Option<Mono>,
    /// What was said last.
    pub why: String,
}

impl Refusal {
    /// One more try failed.
    pub(super) fn after(before: Option<&Self>, why: &str, now: Mono) -> Self {
        let tries = before.map_or(0, |before| before.tries) + 1;
        let wait = FIRST_TAKE_OFF_WAIT * 2_u32.saturating_pow(tries - 1);
        Self {
            tries,
            retry_at: (tries < TAKE_OFF_TRIES).then(|| now.after(wait.min(LONGEST_TAKE_OFF_WAIT))),
            why: why.to_owned(),
        }
    }
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
    /// Somebody else uses it, and it is left to them: it is not tried again.
    pub is_left: bool,
    /// Whether it was there at that time. Once that differs, somebody else did what failed, and it
    /// is past.
    pub there: bool,
}

/// The memory of one unit: its last run, and its failures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitRecord {
    /// The run that was seen last, if its container is still there. An external database is always
    /// in a run.
    pub run: Option<Seen>,
    /// Its failures in a row.
    pub failures: Failures,
    /// The run that we are ending ourselves, since when: its end is no failure.
    pub ending: Option<Ending>,
    /// The run that was asked to finish its tasks.
    pub drain: Option<Drain>,
    /// Whether any run of it served since this daemon began: it is kept running also where nothing
    /// new is started.
    pub served_once: bool,
    /// Until then its failures may be those of its database, which just came back.
    pub reconnects_until: Mono,
    /// Until then the engine may still do a start of which nothing was heard: the time it may take,
    /// from the first such one.
    pub may_start_until: Option<Mono>,
    /// How often its container ran again after a failure since the daemon began.
    pub restarts: u32,
}

/// A run, as far as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Its process exists, frozen or not.
    Running(Running),
    /// Its process ended.
    Ended(Ended),
}

/// A run whose process exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// Which; none for an external database.
    pub instance: Option<Instance>,
    /// When this daemon first saw it.
    pub seen_at: Mono,
    /// What its probes said.
    pub health: Health,
    /// When it last made progress while starting: a new log line, a database that moved on.
    pub progress_at: Mono,
    /// What its log said about its start.
    pub log: StartLog,
    /// Whether the kernel killed a process of it for memory.
    pub oom: bool,
}

/// A run whose process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Which.
    pub instance: Instance,
    /// When this daemon learnt of the end.
    pub at: Mono,
    /// Whether it had served.
    pub served: bool,
    /// Whether the kernel killed a process of it for memory.
    pub oom: bool,
    /// Whether its last log lines are to be read before its cause is known.
    pub to_examine: bool,
}

/// A run that we are ending.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Which.
    pub instance: Instance,
    /// Since when.
    pub at: Mono,
}

/// How much longer than its tasks may take a node is waited for: those that are left are cancelled
/// then, which takes a moment.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(15);

/// How long after it was asked well about its tasks a node has to say so itself.
pub const CONFIRMED_WITHIN: Duration = Duration::from_secs(10);

/// A run that was asked to finish its tasks and take no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// Which.
    pub instance: Instance,
    /// It is not waited for any longer.
    pub until: Mono,
    /// How far it is.
    pub step: DrainStep,
    /// How many tasks ran on it when Octopus Server was last asked.
    pub tasks: Option<u64>,
}

impl Drain {
    /// Whether the time is over that its tasks had: Octopus Server cancels what is left then.
    pub fn time_is_up(&self, now: Mono) -> bool {
        now.after(DRAIN_MARGIN) >= self.until
    }
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// It was asked, and finishes its tasks.
    Asked,
    /// No task runs on it any more.
    Done {
        /// When it said so.
        at: Mono,
    },
    /// It could not be asked.
    Failed,
    /// It takes tasks again.
    Undone {
        /// When it said so.
        at: Mono,
    },
}

/// The failures of a unit in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failures {
    /// How many count for the backoff.
    pub count: u32,
    /// The last one, until the unit is ready again.
    pub last: Option<Failure>,
    /// The run that the last one is about, until its log lines were read, where nothing waits for
    /// that.
    pub unread: Option<Instance>,
    /// No start before this.
    pub retry_at: Option<Mono>,
}

/// What this daemon knows of the past, to be kept beside what is wished: another daemon that is
/// not told begins without it, which is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durable {
    /// The runs that we ended in order: how they ended says nothing about what they ran.
    pub ended_by_us: BTreeMap<UnitId, Instance>,
    /// The data volume of SQL Server was made by us, and its server never served since.
    pub is_data_new: bool,
    /// The version of Octopus Server that last served on which database.
    pub migrated: Option<Migrated>,
    /// The names of nodes that Octopus Server lists, each with the database of the list.
    pub roster: BTreeMap<String, String>,
}

/// A version that served on a database, which it therefore has migrated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Migrated {
    /// The ID of the image.
    pub image_id: String,
    /// The address and name of the database.
    pub database: String,
}

impl Migrated {
    /// The address and name of the database that a stack uses.
    pub(super) fn name_of_database(spec: &StackSpec) -> String {
        let target = &spec.database;
        format!("{}/{}", target.server(), target.database.to_lowercase())
    }
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

    /// Whether the kernel killed a process of the unit's last run for memory.
    pub fn saw_oom(&self, unit: UnitId) -> bool {
        match self.get(unit).and_then(|record| record.run.as_ref()) {
            Some(Seen::Running(running)) => running.oom,
            Some(Seen::Ended(ended)) => ended.oom,
            None => false,
        }
    }

    /// Whether no action works on anything of the stack's own. Those on Tentacles do not count.
    pub fn is_idle(&self) -> bool {
        self.busy.keys().all(Subject::is_of_tentacle)
    }

    /// What cannot be done to anything of the stack's own.
    pub fn blocked_of_stack(&self) -> impl Iterator<Item = (&Subject, &Blocked)> {
        let blocked = self.blocked.iter();
        blocked.filter(|(subject, _)| !subject.is_of_tentacle())
    }

    /// Whether an action works on this now.
    pub fn is_busy(&self, subject: &Subject) -> bool {
        self.busy.contains_key(subject)
    }

    /// Takes in what Docker showed: new runs begin with clean health, ended runs wait to be
    /// examined.
    pub fn absorb(&mut self, seen: &Observed, now: Mono) {
        let units: BTreeSet<UnitId> = seen.all().map(|container| container.unit).collect();
        for unit in units {
            let Some(container) = seen.container(unit) else {
                continue;
            };
            let Some(instance) = container.instance() else {
                continue;
            };
            let ended = matches!(container.run, Run::Exited { .. });
            let by_us = self.durable.ended_by_us.get(&unit) == Some(&instance);
            self.of(unit).absorb(instance, ended, by_us, now);
            if matches!(container.run, Run::Paused { .. }) {
                self.of(unit).pause(now);
                if let Some(running) = self.of(unit).running_mut() {
                    running.health.doubt();
                }
            }
        }
        for (unit, record) in &mut self.units {
            // An external database has no container, and what is remembered of it is of no
            // instance.
            if record.instance().is_some() && seen.container(*unit).is_none() {
                record.run = None;
                record.drain = None;
                record.failures.unread = None;
                record.may_start_until = None;
            }
        }
        let units = &self.units;
        self.durable.ended_by_us.retain(|unit, instance| {
            let latest = units.get(unit).and_then(UnitRecord::instance);
            latest.is_none_or(|latest| latest == instance)
        });
        let busy = &self.busy;
        self.blocked.retain(|subject, blocked| {
            let is_wanted = busy.contains_key(subject)
                || blocked.is_left
                || now < blocked.retry_at.after(UNTRIED);
            is_wanted && blocked.there == is_there(subject, seen)
        });
    }

    /// Takes in that this process did not run for a while: what was silent meanwhile may be well.
    pub fn wake(&mut self, now: Mono) {
        self.lenient_until = now.after(WAKING);
        self.units.values_mut().for_each(|record| record.pause(now));
    }

    /// Takes in that this run of a unit gets too little to answer.
    pub fn starve(&mut self, unit: UnitId, instance: &Instance, now: Mono) {
        let record = self.units.get_mut(&unit);
        if let Some(record) = record.filter(|record| record.instance() == Some(instance)) {
            record.pause(now);
        }
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
        self.unlisted.clear();
        self.excused = self.busy.keys().cloned().collect();
        for record in self.units.values_mut() {
            record.failures = Failures::default();
        }
    }

    /// Forgets the failures of one Tentacle: a person asked for something about it.
    pub fn forgive_tentacle(&mut self, unit: UnitId) {
        let subject = Subject::Unit(unit);
        self.blocked.remove(&subject);
        if self.busy.contains_key(&subject) {
            self.excused.insert(subject);
        }
        if let Some(record) = self.units.get_mut(&unit) {
            record.failures = Failures::default();
        }
    }

    /// What `down` leaves to its other users, with their names as far as the engine told: a
    /// network or volume that somebody else's container uses.
    pub fn left_to_others(&self) -> Vec<(&Subject, &str)> {
        let left = self.blocked.iter().filter(|(_, blocked)| blocked.is_left);
        left.map(|(subject, blocked)| (subject, blocked.failure.detail.as_str()))
            .collect()
    }

    /// Whether this is left to somebody else who uses it.
    pub fn is_left(&self, subject: &Subject) -> bool {
        self.blocked
            .get(subject)
            .is_some_and(|blocked| blocked.is_left)
    }
}

/// The health of what does not run.
static UNKNOWN: Health = Health::unknown();

impl UnitRecord {
    /// The run that was seen last.
    pub fn instance(&self) -> Option<&Instance> {
        match self.run.as_ref()? {
            Seen::Running(running) => running.instance.as_ref(),
            Seen::Ended(ended) => Some(&ended.instance),
        }
    }

    /// The drain of a run, if it was asked for one and takes no tasks again since.
    pub fn drain_of(&self, instance: &Instance) -> Option<&Drain> {
        let drain = self.drain.as_ref()?;
        let is_undone = matches!(drain.step, DrainStep::Undone { .. });
        (drain.instance == *instance && !is_undone).then_some(drain)
    }

    /// The run, while its process exists.
    pub fn running(&self) -> Option<&Running> {
        match self.run.as_ref()? {
            Seen::Running(running) => Some(running),
            Seen::Ended(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn running_mut(&mut self) -> Option<&mut Running> {
        match self.run.as_mut()? {
            Seen::Running(running) => Some(running),
            Seen::Ended(_) => None,
        }
    }

    /// The run, once its process ended.
    pub fn ended(&self) -> Option<&Ended> {
        match self.run.as_ref()? {
            Seen::Running(_) => None,
            Seen::Ended(ended) => Some(ended),
        }
    }

    /// What the probes of the run said; nothing is known of one that ended.
    pub fn health(&self) -> &Health {
        self.running().map_or(&UNKNOWN, |running| &running.health)
    }

    /// When this daemon first saw the run that goes on; zero for none.
    pub fn seen_at(&self) -> Mono {
        self.running()
            .map_or(Mono::default(), |running| running.seen_at)
    }

    /// The run that ended and is to be examined.
    pub fn unexamined(&self) -> Option<&Instance> {
        self.ended()
            .filter(|ended| ended.to_examine)
            .map(|ended| &ended.instance)
    }

    /// Whether this is the run that we are ending.
    pub fn is_ending(&self, instance: &Instance) -> bool {
        self.ending
            .as_ref()
            .is_some_and(|ending| ending.instance == *instance)
    }

    fn absorb(&mut self, instance: Instance, ended: bool, by_us: bool, now: Mono) {
        // Of a container that the engine cannot inspect no start time is known: two runs look the
        // same, save for the end between.
        let runs_again = self.ended().is_some() && !ended;
        if self.instance() != Some(&instance) || runs_again {
            let ran_before = self.instance().is_some_and(|last| last.id == instance.id);
            if ran_before && self.failures.last.is_some() {
                self.restarts = self.restarts.saturating_add(1);
            }
            self.may_start_until = None;
            self.drain
                .take_if(|drain| drain.instance != instance || runs_again);
            self.run = Some(Seen::Running(Running {
                instance: Some(instance.clone()),
                seen_at: now,
                progress_at: now,
                ..Running::default()
            }));
        }
        let by_us = by_us || self.is_ending(&instance);
        if let (true, Some(running)) = (ended, self.running()) {
            // A run that this daemon only ever saw ended is examined as well: its cause may be
            // permanent.
            self.run = Some(Seen::Ended(Ended {
                instance,
                at: now,
                served: running.health.started,
                oom: running.oom,
                to_examine: !by_us,
            }));
        }
    }

    /// A frozen process cannot answer and cannot move: that says nothing about it.
    fn pause(&mut self, now: Mono) {
        if let Some(running) = self.running_mut() {
            running.health.forget_misses();
            running.progress_at = now;
        }
    }

    /// Counts a failure and sets when the next start may be. What was to be read about an earlier
    /// one no longer matters.
    pub fn fail(&mut self, failure: Failure, seed: u64, timing: &Timing, now: Mono) {
        let count = match failure.cause.class() {
            Class::Permanent | Class::Host => self.failures.count,
            Class::Transient => self.failures.count.saturating_add(1),
        };
        self.failures = Failures {
            count,
            retry_at: match failure.cause.class() {
                Class::Permanent => None,
                Class::Host => Some(now.after(HOST_RECHECK)),
                Class::Transient => Some(now.after(backoff::wait(count, seed, timing))),
            },
            last: Some(failure),
            unread: None,
        };
    }

    /// Takes in that what the host had refused was done.
    pub fn clear_host_failure(&mut self) {
        let is_of_host = |failure: &Failure| failure.cause.class() == Class::Host;
        if self.failures.last.as_ref().is_some_and(is_of_host) {
            self.failures.last = None;
            self.failures.retry_at = None;
        }
    }

    /// Takes in that the unit is ready: the failure is past, and after long enough the count of
    /// failures too.
    pub fn settle(&mut self, timing: &Timing, now: Mono) {
        let Some(since) = self.health().ready_since else {
            return;
        };
        let is_long = now.since(since) >= timing.backoff_reset;
        self.failures = Failures {
            count: if is_long { 0 } else { self.failures.count },
            ..Failures::default()
        };
    }

    /// Whether a start must wait until the end of the last run was examined: its cause may be
    /// permanent. One that served and fails for the first time is started again at once, and
    /// examined meanwhile.
    pub fn waits_for_examination(&self) -> bool {
        let first = self.failures.count == 0 && self.failures.last.is_none();
        self.ended()
            .is_some_and(|ended| ended.to_examine && !(ended.served && first))
    }

    /// Whether the last failure stops the retrying and its log lines are still to come.
    pub fn is_unread(&self) -> bool {
        self.failures.unread.is_some() && self.gave_up().is_some()
    }

    /// Whether the last failure stops the retrying.
    pub fn gave_up(&self) -> Option<Cause> {
        self.failures
            .last
            .as_ref()
            .map(|failure| failure.cause)
            .filter(|cause| cause.class() == Class::Permanent)
    }
}

/// Whether the engine has it.
pub fn is_there(subject: &Subject, seen: &Observed) -> bool {
    match subject {
        Subject::Unit(unit) => seen.container(*unit).is_some(),
        Subject::Process(_)
        | Subject::Tasks(_)
        | Subject::TasksAgain(_)
        | Subject::Log(_)
        | Subject::Place(_) => false,
        Subject::Network => !seen.networks.is_empty(),
        Subject::Volume(name) => seen.volumes.contains(name),
        Subject::Image(image) => seen.images.contains_key(image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::health::Miss;
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
        let failure = Failure {
            cause: Cause::ImageMissing,
            detail: "no such image: octopus:1".to_owned(),
            lines: Vec::new(),
            code: None,
        };
        let subject = Subject::Image("octopus:1".to_owned());
        let mut records = UnitRecords::default();
        for there in [false, true] {
            let blocked = Blocked {
                failure: failure.clone(),
                failures: 1,
                retry_at: at(9),
                is_left: false,
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
            let record = records.of(UnitId::Node(1));
            let silent = Probe::Failure(Miss::Broken, "silent".into());
            record
                .running_mut()
                .unwrap()
                .health
                .record(&silent, at(second));
        }
        records.absorb(
            &seen(Run::Paused {
                started_at: "1".into(),
            }),
            at(500),
        );
        let running = records.of(UnitId::Node(1)).running_mut().unwrap();
        assert_eq!(
            (
                running.health.misses,
                running.health.failing_since,
                running.progress_at
            ),
            (0, None, at(500))
        );
    }
}
