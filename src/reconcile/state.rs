//! Everything that decisions are made from, and how it takes in what happens. The daemon's loop
//! owns one; the simulation another: both live by these rules, and neither has rules of its own.
//!
//! An action that ended is judged only by a look at Docker that began after its end. Until then its
//! subject stays busy, so no plan is ever made from what Docker looked like before.

mod looks;
mod pinned;
mod settled;

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
use super::action::Why;
use super::cause::Failure;
use super::observed::Container;
use super::observed::Instance;
use super::phase::phase_of;
use super::plan;
use super::record::CONFIRMED_WITHIN;
use super::record::DRAIN_MARGIN;
use super::record::Drain;
use super::record::DrainStep;
use super::record::Ending;
use super::record::LATE_TAKE_OFF;
use super::record::Refusal;
use super::record::UnitRecord;
use crate::config::Timing;
use crate::spec::StackSpec;
use crate::spec::UnitId;
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
    /// The data was to be replaced when a look was taken in last.
    pub(super) data_was_replaced: bool,
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
            let may_still_leave = result
                .as_ref()
                .is_err_and(|trouble| trouble.doubt == Doubt::MayStillHappen);
            if may_still_leave {
                let in_doubt = &mut self.records.may_leave_list_until;
                in_doubt.retain(|_, until| *until > now);
                in_doubt.insert(node.clone(), now.after(LATE_TAKE_OFF));
            }
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
        if let Action::Drain { unit, instance, .. } = action
            && !self.waits_for_tasks(*unit, instance)
        {
            // It was broken off since: the node takes tasks again.
            return;
        }
        match (action, result) {
            (Action::Drain { unit, instance, .. }, Ok(())) => {
                self.records.blocked.remove(&action.subject());
                let drain = self.records.of(*unit).drain_of(instance);
                let is_late = drain.is_some_and(|drain| drain.time_is_up(now));
                self.step_of_drain(*unit, instance, DrainStep::Done { at: now });
                let what = if is_late {
                    "drained: its time for that is over, and tasks that still ran were cancelled"
                } else {
                    "drained: none of its tasks runs any more"
                };
                self.tell(unit, what);
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

    /// Whether a run of a node is still to finish its tasks.
    fn waits_for_tasks(&self, unit: UnitId, instance: &Instance) -> bool {
        let drain = self
            .records
            .get(unit)
            .and_then(|record| record.drain_of(instance));
        drain.is_some_and(|drain| drain.step == DrainStep::Asked)
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

    /// Whether every container is one that is wanted as it is.
    pub fn fits_what_runs(&self) -> bool {
        let wanted = |container: &Container| self.desired.spec.as_ref()?.container(container.unit);
        self.seen
            .containers
            .iter()
            .all(|one| wanted(one).is_some_and(|wanted| wanted.digest() == one.digest))
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
