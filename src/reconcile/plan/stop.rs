//! What must end, and whose turn it is: nodes before SQL Server, one ready node at a time, save
//! when the version changes.

use std::time::Duration;

use super::Pass;
use super::fit::Fit;
use crate::reconcile::Action;
use crate::reconcile::Cause;
use crate::reconcile::Mono;
use crate::reconcile::Phase;
use crate::reconcile::action::Subject;
use crate::reconcile::action::Verb;
use crate::reconcile::action::Why;
use crate::reconcile::observed::Container;
use crate::reconcile::record::Ending;
use crate::reconcile::record::UnitRecord;
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// How long a node whose process no longer answers gets between SIGTERM and SIGKILL: it will not make use
/// of more.
const HUNG_GRACE: Duration = Duration::from_secs(2);

/// How long a Tentacle gets between SIGTERM and SIGKILL: Docker's own default. What it runs is cut
/// off either way.
const TENTACLE_GRACE: Duration = Duration::from_secs(10);

/// How often SIGTERM is sent again to a node that never served in its run: before its process has
/// a handler the signal is lost, and the first process of a container ignores it then.
const SIGNAL_AGAIN: Duration = Duration::from_secs(3);

impl<'a> Pass<'a> {
    pub(super) fn stop_what_must_end(&mut self, spec: &'a StackSpec) {
        // What cannot be replaced yet goes on: a tag that does not exist must not cost a running
        // stack.
        let is_here = |image: &&str| self.seen.images.contains_key(*image);
        let replaceable = self.desired.refresh.is_empty() && self.needed.iter().all(is_here);
        self.database_ends = self.must_database_end(spec, replaceable);
        for container in &self.seen.containers {
            if container.is_running()
                && let Some(why) = self.why_it_must_end(spec, container, replaceable)
                && self.is_its_turn(spec, container, why)
            {
                self.end(container, why);
            }
        }
    }

    /// Whether SQL Server must end by choice, be it now or when its turn comes. One that the
    /// operator stopped may have ended by itself: nodes that go on without it end all the same.
    fn must_database_end(&self, spec: &StackSpec, replaceable: bool) -> bool {
        let running = self
            .seen
            .container(UnitId::Sql)
            .filter(|sql| sql.is_running());
        self.desired.stopped.contains(&UnitId::Sql)
            || running.is_some_and(|sql| match self.fit(spec, sql) {
                Fit::Replace => replaceable && !self.desired.data_in_use,
                Fit::Restart => !self.desired.data_in_use,
                Fit::Halted | Fit::Surplus => true,
                Fit::Right | Fit::Broken(_) | Fit::Resting => false,
            })
    }

    /// Why a running container must end, if it must.
    fn why_it_must_end(
        &self,
        spec: &StackSpec,
        container: &Container,
        replaceable: bool,
    ) -> Option<Why> {
        let may_change = !(container.unit.is_database() && self.desired.data_in_use);
        match self.fit(spec, container) {
            Fit::Right => match container.unit.role() {
                Role::Server if self.database_ends => Some(Why::DatabaseEnds),
                Role::Server | Role::Database | Role::Tentacle => None,
            },
            Fit::Broken(cause) => Some(Why::Broken(cause)),
            Fit::Surplus => Some(Why::Surplus),
            Fit::Halted => Some(Why::Halted),
            Fit::Resting => Some(Why::Resting),
            Fit::Replace => (replaceable && may_change).then_some(Why::Replaced),
            Fit::Restart => may_change.then_some(Why::Restarted),
        }
    }

    /// Whether a container that must end may end now.
    fn is_its_turn(&mut self, spec: &StackSpec, container: &Container, why: Why) -> bool {
        match (why, container.unit.role()) {
            (Why::Broken(cause), _) => self.may_end_broken(spec, container, cause),
            (Why::Surplus, _) | (_, Role::Tentacle) => true,
            // SQL Server is never taken down under a running node.
            (_, Role::Database) => self.no_node_runs(),
            (Why::Replaced | Why::Restarted, Role::Server) => {
                self.database_ends || self.versions_differ() || self.may_take_out(spec, container)
            }
            (Why::Halted | Why::Resting | Why::Down | Why::DatabaseEnds, Role::Server) => true,
        }
    }

    /// Whether no node runs and none is about to: a start that is under way may have taken effect
    /// already.
    pub(super) fn no_node_runs(&mut self) -> bool {
        let starts = |(subject, (verb, _)): (&Subject, &(Verb, Mono))| {
            *verb == Verb::Start && matches!(subject, Subject::Unit(unit) if unit.is_server())
        };
        !self.seen.any_node_runs()
            && !self.records.busy.iter().any(starts)
            && !self.some_other_may_start(UnitId::Sql)
    }

    /// Two versions must never run together, so a changed image takes all nodes down at once.
    pub(super) fn versions_differ(&self) -> bool {
        let differs = |node: &Container| self.desired.is_another_version(node);
        let mut all = self.seen.containers.iter();
        all.any(|one| one.is_running() && differs(one))
    }

    /// One ready node at a time may be out by our own choice; one that does not serve is no loss,
    /// be it that somebody drained it. One that a person drained stays so over its replacement; the
    /// others do not wait for it. One that is to take tasks again is waited for.
    pub(super) fn may_take_out(&mut self, spec: &StackSpec, container: &Container) -> bool {
        let record = self.records.get(container.unit);
        let is_out_already = record
            .zip(container.instance())
            .is_some_and(|(record, run)| record.drain_of(&run).is_some());
        if self.phase(spec, container.unit) != Phase::Ready || is_out_already {
            return true;
        }
        let others = spec
            .nodes
            .iter()
            .map(|node| node.unit)
            .filter(|unit| *unit != container.unit);
        let others_serve = others
            .filter(|unit| !self.desired.rests(*unit))
            .all(|unit| match self.phase(spec, unit) {
                Phase::Drained => self.desired.drained.contains(&unit),
                Phase::Ready => !self.is_leaving(unit),
                Phase::Absent
                | Phase::Created
                | Phase::Starting
                | Phase::Unready
                | Phase::Draining { .. }
                | Phase::Paused
                | Phase::Dead
                | Phase::Stopping
                | Phase::BackingOff { .. }
                | Phase::CrashLoop { .. }
                | Phase::Failed(_) => false,
            });
        others_serve
            && self.phase(spec, UnitId::Sql) == Phase::Ready
            && !self.stops_a_node_already()
    }

    /// Whether a unit is worked on, or may be on its way out: a stop that failed may have reached
    /// its process all the same.
    fn is_leaving(&mut self, unit: UnitId) -> bool {
        let Some(record) = self.records.get(unit) else {
            return self.records.is_busy(&Subject::Unit(unit));
        };
        let is_current = |ending: &&Ending| record.instance() == Some(&ending.instance);
        let until = record
            .ending
            .as_ref()
            .filter(is_current)
            .map(|ending| ending.at.after(self.stop_grace(unit)))
            .filter(|until| self.now < *until);
        if let Some(until) = until {
            self.wake_at(until);
        }
        let drains = record.instance().and_then(|run| record.drain_of(run));
        until.is_some() || drains.is_some() || self.records.is_busy(&Subject::Unit(unit))
    }

    pub(super) fn stops_a_node_already(&self) -> bool {
        let takes_out = |action: &Action| {
            matches!(action, Action::Stop { unit, .. } if unit.is_server())
                || matches!(action, Action::Drain { why: Some(_), .. })
        };
        self.plan.actions.iter().any(takes_out)
    }

    pub(super) fn is_stopping(&self, unit: UnitId) -> bool {
        matches!(
            self.records.busy.get(&Subject::Unit(unit)),
            Some((Verb::Stop, _))
        )
    }

    pub(super) fn stop(&mut self, container: &Container, why: Why) {
        let Some(instance) = container.instance() else {
            return;
        };
        let unit = container.unit;
        let repeat = match unit.role() {
            Role::Server | Role::Tentacle if !self.has_served(container) => Some(SIGNAL_AGAIN),
            Role::Server | Role::Database | Role::Tentacle => None,
        };
        self.act(Action::Stop {
            unit,
            instance,
            grace: self.grace_of(unit, why),
            repeat,
            why,
        });
    }

    /// How long a run gets between SIGTERM and SIGKILL. SQL Server always gets all of its time:
    /// what looks hung may be writing its pages.
    fn grace_of(&self, unit: UnitId, why: Why) -> Duration {
        let full = self.stop_grace(unit);
        let health = self.records.get(unit).map(UnitRecord::health);
        let spec = self.desired.spec.as_ref();
        let is_gone = |(spec, health)| self.is_certainly_gone(spec, unit, health);
        match unit.role() {
            Role::Database => full,
            Role::Server
                if why == Why::Broken(Cause::Hung) && spec.zip(health).is_some_and(is_gone) =>
            {
                full.min(HUNG_GRACE)
            }
            Role::Server | Role::Tentacle => full,
        }
    }

    pub(super) fn stop_grace(&self, unit: UnitId) -> Duration {
        let timing = self
            .desired
            .spec
            .as_ref()
            .map(|spec| spec.timing.clone())
            .unwrap_or_default();
        match unit.role() {
            Role::Database => timing.sql_stop_limit,
            Role::Server => {
                let end = self.desired.deadlines.end;
                let full = timing.node_stop_grace;
                end.map_or(full, |end| full.min(end.since(self.now)))
            }
            Role::Tentacle => TENTACLE_GRACE,
        }
    }

    /// Whether nodes that are being stopped get no more time. One that a stop was begun for with more
    /// of it is told so at the deadline.
    pub(super) fn gives_no_more_grace(&mut self) -> bool {
        let Some(end) = self.desired.deadlines.end else {
            return self.desired.hurry;
        };
        self.wake_at(end);
        self.desired.hurry || self.now >= end
    }

    /// Ends what is being stopped already, at once.
    pub(super) fn kill(&mut self, container: &Container) {
        if let Some(instance) = container.instance() {
            self.act(Action::Kill(container.unit, instance));
        }
    }
}
