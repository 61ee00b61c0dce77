//! Everything that decisions are made from, and how it takes in what happens. The daemon's loop
//! owns one; the simulation another: both live by these rules, and neither has rules of its own.
//!
//! An action that ended is judged only by a look at Docker that began after its end. Until then its
//! subject stays busy, so no plan is ever made from what Docker looked like before.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use super::Action;
use super::Desired;
use super::Goal;
use super::Mono;
use super::Observed;
use super::Phase;
use super::Plan;
use super::UnitRecords;
use super::action::Doubt;
use super::action::Outcome;
use super::action::Subject;
use super::action::Trouble;
use super::action::TroubleKind;
use super::action::Why;
use super::action::took_effect;
use super::cause::Failure;
use super::images;
use super::observed::Container;
use super::observed::Instance;
use super::observed::Run;
use super::phase::phase_of;
use super::plan;
use super::record::CONFIRMED_WITHIN;
use super::record::DRAIN_MARGIN;
use super::record::Drain;
use super::record::DrainStep;
use super::record::Ending;
use super::record::LATE_START;
use super::record::Refusal;
use super::record::UnitRecord;
use crate::config::Timing;
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::SQL_DATA;
use crate::spec::tentacle::TentacleName;

/// The state.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What is wanted.
    pub desired: Desired,
    /// What Docker showed last.
    pub seen: Observed,
    /// What only we saw.
    pub records: UnitRecords,
    seed: u64,
    /// Actions that ended, in order, until a look begins.
    ended: Vec<Ended>,
    /// Actions that ended before the look that is under way began.
    covered: Vec<Ended>,
    /// References that were found to stand for another image than the pinned one, whatever a look
    /// says of them: with it.
    moved: BTreeMap<String, String>,
    /// Runs of whose end the engine told since the last look began, with their exit codes: it may
    /// still show them running.
    pub(super) deaths: BTreeMap<Instance, i64>,
    news: Vec<News>,
    /// The engine told of a change since the last look began.
    told_of_change: bool,
    /// The look under way was made because of such a change.
    asked_again: bool,
    /// How often a look that shows no change may still be repeated.
    repeats: u8,
    /// Units that failed already when the look under way began.
    failing: BTreeSet<UnitId>,
    /// Signals that were not ours, and of which nobody knows yet whose they were.
    pub(super) signals: Vec<Signalled>,
}

/// Somebody sent the process of a unit a signal: a person, or the engine as it goes away.
#[derive(Clone, Debug)]
pub(super) struct Signalled {
    pub(super) unit: UnitId,
    pub(super) signal: String,
    /// The look that is under way began after it.
    pub(super) is_covered: bool,
}

/// How often a look is repeated that did not show what the engine told of: some events, such as
/// those of a container's processes, change nothing that is looked at.
const REPEATS: u8 = 3;

/// The exit code of a process that SIGKILL ended.
const SIGKILLED: i64 = 137;

type Ended = (Action, Result<Outcome, Trouble>);

/// What came of taking something in, for those who act on it or tell it.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something for the history: about what (empty: everything), and what.
    Told(String, String),
    /// The version that is wanted ran on the data.
    VersionRan,
    /// The data knows the password.
    PasswordAccepted,
    /// The host cannot run privileged containers, and the demo goes on without.
    Unprivileged,
    /// Ask this unit now, before its next probe is due.
    Ask(UnitId),
    /// Nothing is left of a Tentacle that was to go.
    Retired(TentacleName),
}

impl State {
    /// Nothing seen yet. `seed` spreads the waits of projects that fail together.
    pub fn new(desired: Desired, seed: u64) -> Self {
        Self {
            desired,
            seed,
            ..Self::default()
        }
    }

    /// The next step.
    pub fn plan(&self, now: Mono) -> Plan {
        plan(&self.desired, &self.seen, &self.records, now)
    }

    /// What there is to tell since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn tell(&mut self, subject: &impl ToString, what: impl Into<String>) {
        self.news.push(News::Told(subject.to_string(), what.into()));
    }

    pub(super) fn announce(&mut self, news: News) {
        self.news.push(news);
    }

    /// Notes that an action is under way.
    pub fn begin(&mut self, action: &Action, now: Mono) {
        self.records
            .busy
            .insert(action.subject(), (action.verb(), now));
        if let Action::Start(unit, _) = action {
            self.note_what_is_not_examined(*unit, now);
        }
        if let Action::Drain {
            unit,
            instance,
            wait,
            why,
        } = action
        {
            self.begin_drain(*unit, instance, *wait, *why, now);
        }
        if let Action::Undrain(unit, _) = action {
            self.records.of(*unit).drain = None;
        }
        let Action::Stop {
            unit,
            instance,
            why,
            ..
        } = action
        else {
            return;
        };
        self.tell(unit, format!("stopping: {why}"));
        let record = self.records.of(*unit);
        record.ending = Some(Ending {
            instance: instance.clone(),
            at: now,
        });
        let detail = record.health().last_problem.clone().unwrap_or_default();
        // Another daemon may be the one that sees the end of it. That of a Tentacle may look like a
        // failure to it, which costs a second, and an older one would not know such a unit.
        if !unit.is_tentacle() {
            let ended = &mut self.records.durable.ended_by_us;
            ended.insert(*unit, instance.clone());
        }
        let Some(cause) = why.cause() else { return };
        self.unit_failed(
            *unit,
            Failure {
                cause,
                detail,
                lines: Vec::new(),
                code: None,
            },
            now,
        );
        self.records.of(*unit).failures.unread = Some(instance.clone());
    }

    /// Takes in that an action ended. True when Docker must be looked at for it.
    pub fn end(&mut self, action: Action, result: Result<Outcome, Trouble>, now: Mono) -> bool {
        // Reading a log changes nothing in Docker.
        if let Action::Examine(unit, instance) = &action {
            self.records.busy.remove(&action.subject());
            match &result {
                Ok(outcome) => {
                    self.records.blocked.remove(&action.subject());
                    self.examined(*unit, instance, outcome, now);
                }
                Err(trouble) => self.not_examined(&action, *unit, instance, trouble, now),
            }
            return false;
        }
        if let Action::Drain { unit, .. } | Action::Undrain(unit, _) = &action {
            self.records.busy.remove(&action.subject());
            self.records.excused.remove(&action.subject());
            self.announce(News::Ask(*unit));
            self.tasks_settled(&action, result.map(|_| ()), now);
            return false;
        }
        if let Action::TakeOff { node, .. } = &action {
            self.records.busy.remove(&action.subject());
            self.records.excused.remove(&action.subject());
            self.taken_off(node, result.map(|_| ()), now);
            return false;
        }
        if let Action::Retire { unit, from, .. } = &action {
            self.records.busy.remove(&action.subject());
            self.records.excused.remove(&action.subject());
            self.retired(*unit, from.is_some(), &action, result.map(|_| ()), now);
            return true;
        }
        self.ended.push((action, result));
        true
    }

    /// Octopus Server was asked to take a node off its list. It is told when that begins to fail,
    /// and when it is given up.
    fn taken_off(&mut self, node: &str, result: Result<(), Trouble>, now: Mono) {
        let subject = Subject::Place(node.to_owned());
        let Err(trouble) = result else {
            self.records.unlisted.remove(node);
            self.records.durable.roster.remove(node);
            self.tell(&subject, "taken off Octopus Server's list of nodes");
            return;
        };
        let before = self.records.unlisted.get(node);
        let refusal = Refusal::after(before, &trouble.words, now);
        if before.is_none() || refusal.retry_at.is_none() {
            let then = match refusal.retry_at {
                Some(_) => "it is tried again",
                None => "it is left to you",
            };
            let words = trouble.words;
            self.tell(
                &subject,
                format!("not taken off Octopus Server's list of nodes, {then}: {words}"),
            );
        }
        self.records.unlisted.insert(node.to_owned(), refusal);
    }

    /// Octopus Server was asked to forget a Tentacle.
    fn retired(
        &mut self,
        unit: UnitId,
        is_deleted: bool,
        action: &Action,
        result: Result<(), Trouble>,
        now: Mono,
    ) {
        if let Err(trouble) = result {
            return self.failed(action, &trouble, now);
        }
        let UnitId::Tentacle(name) = unit else {
            return;
        };
        self.records.blocked.remove(&action.subject());
        self.records.units.remove(&unit);
        self.tell(
            &unit,
            if is_deleted {
                "gone: its registration was deleted at Octopus Server"
            } else {
                "gone: its registration, if it had one, is left at Octopus Server"
            },
        );
        self.announce(News::Retired(name));
    }

    /// A node is asked to finish its tasks. One that an earlier daemon asked has what is left of
    /// its time.
    fn begin_drain(
        &mut self,
        unit: UnitId,
        instance: &Instance,
        wait: Duration,
        why: Option<Why>,
        now: Mono,
    ) {
        let record = self.records.of(unit);
        let goes_on = record.drain_of(instance);
        let goes_on = goes_on.filter(|drain| drain.step == DrainStep::Asked);
        let until = goes_on.map_or(now.after(wait + DRAIN_MARGIN), |drain| drain.until);
        record.drain = Some(Drain {
            instance: instance.clone(),
            until,
            step: DrainStep::Asked,
            tasks: None,
        });
        match why {
            Some(why) => self.tell(&unit, format!("draining: {why}")),
            None => self.tell(&unit, "draining: somebody asked for it"),
        }
    }

    /// A node was asked about its tasks. One that could not be asked is ended all the same, if it
    /// is to end.
    fn tasks_settled(&mut self, action: &Action, result: Result<(), Trouble>, now: Mono) {
        match (action, result) {
            (Action::Drain { unit, instance, .. }, Ok(())) => {
                self.records.blocked.remove(&action.subject());
                self.step_of_drain(*unit, instance, DrainStep::Done { at: now });
                self.tell(unit, "drained: none of its tasks runs any more");
            }
            (
                Action::Drain {
                    unit,
                    instance,
                    why: Some(_),
                    ..
                },
                Err(trouble),
            ) => {
                self.step_of_drain(*unit, instance, DrainStep::Failed);
                let words = trouble.words;
                self.tell(
                    unit,
                    format!("it could not be drained, and ends all the same: {words}"),
                );
            }
            (Action::Undrain(unit, instance), Ok(())) => {
                self.records.blocked.remove(&action.subject());
                self.records.of(*unit).drain = Some(Drain {
                    instance: instance.clone(),
                    until: now,
                    step: DrainStep::Undone { at: now },
                    tasks: None,
                });
                self.tell(unit, "takes tasks again");
            }
            (action, Err(trouble)) => {
                if let Action::Drain { unit, instance, .. } = action {
                    self.step_of_drain(*unit, instance, DrainStep::Failed);
                }
                self.failed(action, &trouble, now);
            }
            (_, Ok(())) => {}
        }
    }

    /// The nodes that finish their tasks now.
    pub fn drains(&self) -> impl Iterator<Item = (UnitId, &Drain)> {
        let records = self.records.units.iter();
        let drains = records.filter_map(|(unit, record)| Some((*unit, record.drain.as_ref()?)));
        drains.filter(|(_, drain)| drain.step == DrainStep::Asked)
    }

    /// The nodes that were asked about their tasks and do not say so themselves yet.
    pub fn unconfirmed(&self, now: Mono) -> impl Iterator<Item = UnitId> + '_ {
        let is_unconfirmed = move |record: &UnitRecord| {
            let health = record.health();
            match record.drain.as_ref().map(|drain| drain.step) {
                Some(DrainStep::Done { at }) => health.ready && now < at.after(CONFIRMED_WITHIN),
                Some(DrainStep::Undone { at }) => {
                    health.drained && now < at.after(CONFIRMED_WITHIN)
                }
                Some(DrainStep::Asked | DrainStep::Failed) | None => false,
            }
        };
        let records = self.records.units.iter();
        records.filter_map(move |(unit, record)| is_unconfirmed(record).then_some(*unit))
    }

    /// An earlier daemon asked a run of a node to finish its tasks, and would have waited until
    /// then.
    pub fn go_on_with_drain(&mut self, unit: UnitId, instance: Instance, until: Mono) {
        self.records.of(unit).drain = Some(Drain {
            instance,
            until,
            step: DrainStep::Asked,
            tasks: None,
        });
    }

    /// Octopus Server was asked how many tasks run on a node that finishes them.
    pub fn on_tasks_counted(&mut self, unit: UnitId, instance: &Instance, tasks: Option<u64>) {
        let drain = self.records.of(unit).drain.as_mut();
        if let Some(drain) = drain.filter(|drain| drain.instance == *instance) {
            drain.tasks = tasks.or(drain.tasks);
        }
    }

    fn step_of_drain(&mut self, unit: UnitId, instance: &Instance, step: DrainStep) {
        let drain = self.records.of(unit).drain.as_mut();
        if let Some(drain) = drain.filter(|drain| drain.instance == *instance) {
            drain.step = step;
        }
    }

    /// A look begins: it will show what the actions that ended so far have done.
    pub fn look_begins(&mut self) {
        for (unit, record) in &mut self.records.units {
            if record.health().failing_since.is_some() {
                self.failing.insert(*unit);
            }
        }
        self.asked_again = std::mem::take(&mut self.told_of_change) || self.contradicted();
        self.covered.append(&mut self.ended);
        self.deaths.clear();
        self.signals
            .iter_mut()
            .for_each(|one| one.is_covered = true);
    }

    /// The look that began failed: another one will show it.
    pub fn look_failed(&mut self) {
        self.on_engine_left();
        self.failing.clear();
        let later = std::mem::take(&mut self.ended);
        self.ended = std::mem::take(&mut self.covered);
        self.ended.extend(later);
    }

    /// Takes in what Docker showed.
    pub fn looked(&mut self, seen: Observed, now: Mono) {
        let before = std::mem::replace(&mut self.seen, seen);
        self.count_contradictions(&before);
        self.tell_of_what_somebody_removed(&before);
        self.tell_of_signals();
        for container in self.seen.all_mut() {
            if let Some(code) = container
                .instance()
                .and_then(|instance| self.deaths.get(&instance))
            {
                container.end(*code, self.records.saw_oom(container.unit));
            }
        }
        self.forget_restarts_that_were_done();
        self.take_in_runs(now);
        if let Some(spec) = &self.desired.spec {
            self.records.durable.note_who_started(spec, &self.seen);
        }
        self.believe_what_fails();
        self.forget_lost_data();
        for (action, result) in std::mem::take(&mut self.covered) {
            self.settle(&action, result, now);
        }
        self.notice_names_that_are_taken(now);
        self.pin_images();
        self.learn_of_moved_images();
        if self.version_ran() {
            self.announce(News::VersionRan);
        }
    }

    /// Takes in the runs that were seen. The database is asked at once when another unit ended: a
    /// start needs an answer that is younger than that.
    pub(super) fn take_in_runs(&mut self, now: Mono) {
        let runs = |records: &UnitRecords| -> Vec<UnitId> {
            let runs = |(_, record): &(&UnitId, &UnitRecord)| record.running().is_some();
            records
                .units
                .iter()
                .filter(runs)
                .map(|(unit, _)| *unit)
                .collect()
        };
        let before = runs(&self.records);
        self.records.absorb(&self.seen, now);
        let after = runs(&self.records);
        let ended = |unit: &UnitId| unit.is_server() && !after.contains(unit);
        if before.iter().any(ended) {
            self.announce(News::Ask(UnitId::Sql));
        }
    }

    /// A unit that fails since before the look began, and that the look shows running and attached
    /// to its network, is not only cut off.
    fn believe_what_fails(&mut self) {
        for unit in std::mem::take(&mut self.failing) {
            let container = self.seen.container(unit);
            let is_reachable = container
                .is_none_or(|container| container.is_running() && self.seen.is_attached(container));
            if let Some(running) = self.records.of(unit).running_mut() {
                let health = &mut running.health;
                health.failing_seen |= is_reachable && health.failing_since.is_some();
            }
        }
    }

    /// What was known of data that is gone says nothing about what comes in its place.
    fn forget_lost_data(&mut self) {
        let spec = self.desired.spec.as_ref();
        let data = spec.and_then(|spec| spec.volumes.get(SQL_DATA)?.ours());
        if data.is_some_and(|data| !self.seen.volumes.contains(data)) {
            self.records.durable.migrated = None;
            self.records.durable.roster.clear();
        }
    }

    /// The engine told of a change to something of ours, of what kind it may be: the next look is
    /// to show one. Some engines tell before their own records say so.
    pub fn on_change_told(&mut self) {
        (self.told_of_change, self.repeats) = (true, REPEATS);
    }

    /// A look that was asked for because something changed shows what the one before it did.
    fn count_contradictions(&mut self, before: &Observed) {
        if !std::mem::take(&mut self.asked_again) {
            return;
        }
        self.repeats = if self.seen == *before {
            self.repeats.saturating_sub(1)
        } else {
            0
        };
    }

    /// Whether the last look is in question, so that another one is to be made soon, afresh: it did
    /// not show a change that the engine told of, or a unit began to fail after it.
    pub fn contradicted(&self) -> bool {
        let is_unseen = |record: &UnitRecord| {
            let health = record.health();
            health.misses >= 2 && !health.failing_seen && record.instance().is_some()
        };
        let waits = self.repeats > 0 && !self.told_of_change;
        waits || self.records.units.values().any(is_unseen)
    }

    /// Takes in that the processor, memory or disk of the host was so short that what is asked
    /// cannot be expected to answer: silence is held against nobody for a while.
    pub fn on_host_starved(&mut self, now: Mono) {
        self.records.wake(now);
    }

    /// Takes in that a run wants more processors than it may have: its silence is not held against
    /// it for a while.
    pub fn on_unit_starved(&mut self, unit: UnitId, instance: &Instance, now: Mono) {
        self.records.starve(unit, instance, now);
    }

    /// Whether a hold has reached its end: everything that is wanted serves as it is wanted.
    pub fn hold_is_over(&self, now: Mono) -> bool {
        let Some(spec) = self.desired.spec.as_ref() else {
            return false;
        };
        if self.desired.goal != Goal::Hold {
            return false;
        }
        let up = Desired {
            goal: Goal::Up,
            ..self.desired.clone()
        };
        let serves = |unit: UnitId| {
            let external = unit.is_database() && spec.sql.is_none();
            let phase = phase_of(unit, external, &self.seen, &self.records, now);
            matches!(phase, Phase::Ready | Phase::Drained)
        };
        let mut wanted = spec.units().into_iter();
        wanted.all(|unit| self.desired.rests(unit) || serves(unit))
            && self.records.is_idle()
            && plan(&up, &self.seen, &self.records, now)
                .actions
                .iter()
                .filter(|action| !action.subject().is_of_tentacle())
                .all(|action| matches!(action, Action::Examine(..)))
    }

    /// A wish is fulfilled by another run. Two runs of a container that the engine cannot inspect
    /// look the same, save for the end between them.
    fn forget_restarts_that_were_done(&mut self) {
        let (seen, records) = (&self.seen, &self.records);
        self.desired.restart.retain(|unit, instance| {
            let Some(container) = seen.container(*unit) else {
                return false;
            };
            let ended = records
                .get(*unit)
                .and_then(UnitRecord::ended)
                .is_some_and(|ended| ended.instance == *instance);
            container.instance().as_ref() == Some(instance) && !(ended && container.is_running())
        });
    }

    /// Whether a node of the definition that is wanted was ever started. What Docker shows counts:
    /// an answer may be lost, and another daemon may have started it.
    fn version_ran(&self) -> bool {
        let is_node = |one: &&Container| one.unit.is_server();
        let mut started = self
            .seen
            .containers
            .iter()
            .filter(is_node)
            .filter(|one| one.instance().is_some());
        let wanted = |one: &Container| self.desired.spec.as_ref()?.container(one.unit);
        started.any(|one| wanted(one).is_some_and(|wanted| wanted.digest() == one.digest))
    }

    /// A failed call that took effect is no failure; the others are.
    fn settle(&mut self, action: &Action, result: Result<Outcome, Trouble>, now: Mono) {
        let subject = action.subject();
        let begun = self
            .records
            .busy
            .remove(&subject)
            .map_or(now, |(_, begun)| begun);
        if let Action::Start(unit, _) = action {
            let may_start = result
                .as_ref()
                .is_err_and(|trouble| trouble.doubt == Doubt::MayStillHappen);
            let record = self.records.of(*unit);
            record.may_start_until = record
                .may_start_until
                .or(Some(begun.after(LATE_START)))
                .filter(|_| may_start);
        }
        let excused = self.records.excused.remove(&subject);
        let fetched_again = |action: &Action, desired: &mut Desired| {
            if let Action::Pull(image) = action {
                desired.refresh.remove(image)
            } else {
                false
            }
        };
        match result {
            // The engine hands out a volume that is there as if it had made it.
            Ok(_)
                if matches!(action, Action::CreateVolume(_))
                    && !took_effect(action, &self.seen) =>
            {
                let trouble = Trouble {
                    kind: TroubleKind::NotOurs,
                    words: format!("{subject} exists and is not ours"),
                    doubt: Doubt::Refused,
                };
                self.failed(action, &trouble, now);
            }
            Ok(_) => {
                self.records.blocked.remove(&subject);
                fetched_again(action, &mut self.desired);
                self.succeeded(action);
            }
            Err(trouble) if took_effect(action, &self.seen) => {
                self.records.blocked.remove(&subject);
                if fetched_again(action, &mut self.desired) {
                    self.tell(
                        &subject,
                        format!(
                            "could not be fetched again and is used as it is: {}",
                            trouble.words
                        ),
                    );
                } else {
                    self.succeeded(action);
                }
            }
            Err(trouble) if excused => {
                self.tell(
                    &subject,
                    format!(
                        "{} failed, for what was wanted before: {}",
                        action.verb(),
                        trouble.words
                    ),
                );
            }
            Err(trouble) => self.failed(action, &trouble, now),
        }
    }

    fn succeeded(&mut self, action: &Action) {
        let subject = action.subject();
        match action {
            Action::Start(unit, _) => {
                let record = self.records.of(*unit);
                if record.failures.last.is_some() {
                    record.restarts = record.restarts.saturating_add(1);
                }
                self.tell(unit, "started");
            }
            Action::Create(unit) => {
                let record = self.records.of(*unit);
                record.clear_host_failure();
                // They were another container's.
                record.restarts = 0;
                self.tell(unit, "created");
            }
            Action::Remove(unit, _) => self.tell(unit, "removed"),
            Action::Stop { unit, .. } => self.tell(unit, self.how_it_stopped(*unit)),
            Action::Kill(unit, _) => self.tell(unit, "killed: somebody would not wait"),
            Action::Connect(unit, _) => {
                // What could not be reached meanwhile was not deaf.
                if let Some(running) = self.records.of(*unit).running_mut() {
                    running.health.forget_misses();
                }
                self.tell(unit, "attached to the network again");
            }
            Action::DisarmRestartPolicy(unit, _) => {
                self.tell(unit, "the engine's restart policy was set back to no");
            }
            Action::Pull(_) => self.tell(&subject, "fetched"),
            Action::RemoveNetwork(_) | Action::CreateNetwork => {
                let what = if *action == Action::CreateNetwork {
                    "created"
                } else {
                    "removed"
                };
                self.tell(&subject, what);
            }
            Action::RemoveVolume(_) => self.tell(&subject, "removed"),
            Action::CreateVolume(name) => {
                let spec = self.desired.spec.as_ref();
                let data = spec.and_then(|spec| spec.volumes.get(SQL_DATA)?.ours());
                self.records.durable.is_data_new |= data == Some(name.as_str());
                self.tell(&subject, "created");
            }
            Action::Examine(..)
            | Action::Drain { .. }
            | Action::Undrain(..)
            | Action::TakeOff { .. }
            | Action::Retire { .. } => {}
        }
    }

    /// How a unit that was stopped ended. SQL Server that was killed leaves its databases to be
    /// recovered.
    fn how_it_stopped(&self, unit: UnitId) -> String {
        let run = self.seen.container(unit).map(|container| &container.run);
        match (unit.role(), run) {
            (Role::Database, Some(Run::Exited { code: 0, .. })) => {
                "stopped: it shut down cleanly".to_owned()
            }
            (
                Role::Database,
                Some(Run::Exited {
                    code: SIGKILLED, ..
                }),
            ) => {
                "stopped, not cleanly: it was killed, and recovers its databases at its next start"
                    .to_owned()
            }
            (Role::Database | Role::Server | Role::Tentacle, _) => "stopped".to_owned(),
        }
    }

    /// References stand for the images that they stood for when they were first seen after an `up`.
    /// One that the engine has no more stands for what runs of it, so that another that is fetched
    /// later changes nothing unasked.
    fn pin_images(&mut self) {
        let Some(spec) = &self.desired.spec else {
            return;
        };
        let wanted = spec.images();
        self.desired
            .images
            .retain(|image, _| wanted.contains(&image.as_str()));
        for image in wanted
            .into_iter()
            .filter(|image| !self.desired.refresh.contains(*image))
        {
            let id = || {
                self.seen
                    .images
                    .get(image)
                    .cloned()
                    .or_else(|| images::running(spec, &self.seen, image))
            };
            if !self.desired.images.contains_key(image)
                && let Some(id) = id()
            {
                self.desired.images.insert(image.to_owned(), id);
            }
        }
    }

    /// A new container that is of another image than the pinned one proves that its reference
    /// moved, although the look that said otherwise is not old: its like would be made and removed
    /// again and again.
    fn learn_of_moved_images(&mut self) {
        let pinned = &self.desired.images;
        self.moved.retain(|image, id| pinned.get(image) == Some(id));
        let fresh = self
            .seen
            .containers
            .iter()
            .filter(|one| one.run == Run::Created && !one.image_id.is_empty());
        for container in fresh {
            if let Some(id) = pinned
                .get(&container.image)
                .filter(|id| **id != container.image_id)
            {
                self.moved.insert(container.image.clone(), id.clone());
            }
        }
    }

    /// Whether every container is one that is wanted as it is.
    pub fn fits_what_runs(&self) -> bool {
        let wanted = |container: &Container| self.desired.spec.as_ref()?.container(container.unit);
        self.seen
            .containers
            .iter()
            .all(|one| wanted(one).is_some_and(|wanted| wanted.digest() == one.digest))
    }

    /// References that stand for another image now than at the last `up`, with the image that they
    /// stood for.
    pub fn moved_images(&self) -> BTreeMap<String, String> {
        let moved = |(image, id): &(&String, &String)| {
            self.seen.images.get(*image) != Some(*id) || self.moved.get(*image) == Some(*id)
        };
        let pinned = self.desired.images.iter().filter(moved);
        pinned
            .map(|(image, id)| (image.clone(), id.clone()))
            .collect()
    }

    /// Takes in that this process did not run for a while.
    pub fn woke(&mut self, slept: std::time::Duration, now: Mono) {
        self.tell(
            &"",
            format!(
                "awake after {} s in which nothing could be seen",
                slept.as_secs()
            ),
        );
        self.records.wake(now);
    }

    /// How long things may take.
    pub fn timing(&self) -> Timing {
        self.desired
            .spec
            .as_ref()
            .map(|spec| spec.timing.clone())
            .unwrap_or_default()
    }

    pub(super) fn seed_of(&self, unit: UnitId) -> u64 {
        let role = match unit {
            UnitId::Sql => 1 << 32,
            UnitId::Node(_) => 0,
            UnitId::Tentacle(name) => 2 << 32 | name.spread(),
        };
        self.seed ^ u64::from(unit.number()) ^ role
    }

    /// Whether a run is of the definition that is wanted now, and goes on if it can: how another
    /// one fared says nothing about what a changed configuration will do. An external database has
    /// no definition.
    pub(super) fn is_current(&self, unit: UnitId, instance: Option<&Instance>) -> bool {
        let Some(instance) = instance else {
            return true;
        };
        let wanted = self
            .desired
            .spec
            .as_ref()
            .and_then(|spec| spec.container(unit));
        let found = self
            .seen
            .all()
            .find(|container| container.id == instance.id);
        let is_ending = self
            .records
            .get(unit)
            .is_some_and(|record| record.is_ending(instance));
        !is_ending
            && found
                .zip(wanted)
                .is_some_and(|(found, wanted)| found.digest == wanted.digest())
    }

    /// A demo needs no Docker-in-Docker, so it goes on without privileges where the host refuses
    /// them.
    pub(super) fn go_on_without_privileges(&mut self) -> bool {
        let privileged =
            |spec: &mut StackSpec| spec.demo && spec.nodes.iter().any(|node| node.privileged);
        let Some(spec) = self.desired.spec.take_if(privileged) else {
            return false;
        };
        self.desired.spec = Some(spec.without_privileges());
        self.announce(News::Unprivileged);
        true
    }
}
