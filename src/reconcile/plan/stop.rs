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
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// How long a process that no longer answers gets between SIGTERM and SIGKILL: it will not make use
/// of more.
const HUNG_GRACE: Duration = Duration::from_secs(2);

impl<'a> Pass<'a> {
    pub(super) fn stop_what_must_end(&mut self, spec: &'a StackSpec) {
        // What cannot be replaced yet goes on: a tag that does not exist must not cost a running
        // stack.
        let is_here = |image: &&str| self.seen.images.contains_key(*image);
        let replaceable = self.desired.refresh.is_empty() && self.needed.iter().all(is_here);
        let running_sql = self
            .seen
            .container(UnitId::Sql)
            .filter(|sql| sql.is_running());
        // One that the operator stopped may have ended by itself: nodes that go on without it end
        // all the same.
        let is_stopped = self.desired.stopped.contains(&UnitId::Sql);
        let sql_must_end = is_stopped
            || running_sql.is_some_and(|sql| match self.fit(spec, sql) {
                Fit::Replace => replaceable,
                Fit::Halted | Fit::Surplus | Fit::Restart => true,
                Fit::Right | Fit::Broken(_) => false,
            });
        self.database_ends = sql_must_end;
        let versions_differ = self.versions_differ(spec);
        for container in self
            .seen
            .containers
            .iter()
            .filter(|container| container.is_running())
        {
            let is_node = container.unit.is_server();
            // SQL Server is never taken down under a running node.
            let turn = is_node || self.no_node_runs();
            match self.fit(spec, container) {
                Fit::Right if is_node && sql_must_end => {
                    self.stop(container, Why::DatabaseEnds);
                }
                Fit::Right => {}
                Fit::Broken(cause) => self.stop(container, Why::Broken(cause)),
                Fit::Surplus => self.stop(container, Why::Surplus),
                Fit::Halted if turn => self.stop(container, Why::Halted),
                Fit::Replace if !replaceable => {}
                fit @ (Fit::Replace | Fit::Restart) => {
                    let why = if fit == Fit::Replace {
                        Why::Replaced
                    } else {
                        Why::Restarted
                    };
                    let may = if is_node {
                        sql_must_end || versions_differ || self.may_take_out(spec, container)
                    } else {
                        turn
                    };
                    if may {
                        self.stop(container, why);
                    }
                }
                Fit::Halted => {}
            }
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
    pub(super) fn versions_differ(&self, spec: &StackSpec) -> bool {
        let Some(wanted) = spec.nodes.first() else {
            return false;
        };
        let pinned = self.desired.images.get(&wanted.image);
        let differs = |node: &Container| node.is_of_another_version(&wanted.image, pinned);
        let mut nodes = self
            .seen
            .containers
            .iter()
            .filter(|container| container.unit.is_server());
        nodes.any(|node| node.is_running() && differs(node))
    }

    /// One ready node at a time may be out by our own choice; one that does not serve is no loss.
    pub(super) fn may_take_out(&mut self, spec: &StackSpec, container: &Container) -> bool {
        if !matches!(self.phase(spec, container.unit), Phase::Ready) {
            return true;
        }
        let others = spec
            .nodes
            .iter()
            .map(|node| node.unit)
            .filter(|unit| *unit != container.unit);
        let others_serve = others
            .filter(|unit| !self.desired.stopped.contains(unit))
            .all(|unit| self.phase(spec, unit) == Phase::Ready && !self.is_leaving(unit));
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
        let until = record.ending_at.after(self.stop_grace(unit));
        let told_to_end =
            record.ending.is_some() && record.ending == record.instance && self.now < until;
        if told_to_end {
            self.wake_at(until);
        }
        told_to_end || self.records.is_busy(&Subject::Unit(unit))
    }

    pub(super) fn stops_a_node_already(&self) -> bool {
        self.plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Stop { unit, .. } if unit.is_server()))
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
        let grace = if why == Why::Broken(Cause::Hung) {
            HUNG_GRACE
        } else {
            self.stop_grace(unit)
        };
        self.act(Action::Stop {
            unit,
            instance,
            grace,
            why,
        });
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
            Role::Server => timing.node_stop_grace,
        }
    }

    /// Ends what is being stopped already, at once.
    pub(super) fn kill(&mut self, container: &Container) {
        if let Some(instance) = container.instance() {
            self.act(Action::Kill(container.unit, instance));
        }
    }
}
