//! What must end, and whose turn it is: nodes before SQL Server, one ready node at a time, save when the version changes.

use std::time::Duration;

use super::Pass;
use super::fit::Fit;
use crate::reconcile::Action;
use crate::reconcile::Cause;
use crate::reconcile::Phase;
use crate::reconcile::action::Subject;
use crate::reconcile::observed::Container;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// How long a process that no longer answers gets between SIGTERM and SIGKILL: it will not make use of more.
const HUNG_GRACE: Duration = Duration::from_secs(2);

impl<'a> Pass<'a> {
    pub(super) fn stop_what_must_end(&mut self, spec: &'a StackSpec) {
        // What cannot be replaced yet goes on: a tag that does not exist must not cost a running stack.
        let replaceable = spec.images().iter().all(|image| self.seen.images.contains_key(*image));
        let sql_must_end = self.seen.container(UnitId::Sql).is_some_and(|sql| match self.fit(spec, sql) {
            Fit::Replace => replaceable && sql.is_running(),
            Fit::Halted | Fit::Surplus | Fit::Restart => sql.is_running(),
            Fit::Right | Fit::Broken(_) => false,
        });
        let versions_differ = self.versions_differ(spec);
        for container in self.seen.containers.iter().filter(|container| container.is_running()) {
            let is_node = container.unit != UnitId::Sql;
            // SQL Server is never taken down under a running node.
            let turn = is_node || !self.seen.any_node_runs();
            match self.fit(spec, container) {
                Fit::Right if is_node && sql_must_end => self.stop(container, "SQL Server is stopped too", None),
                Fit::Right => {}
                Fit::Broken(cause) => self.stop(container, cause.title(), Some(cause)),
                Fit::Surplus => self.stop(container, "it is one node too many", None),
                Fit::Halted if turn => self.stop(container, "the operator stopped it", None),
                Fit::Replace if !replaceable => {}
                Fit::Replace | Fit::Restart if is_node => {
                    if sql_must_end || versions_differ || self.may_take_out(spec, container) {
                        self.stop(container, "it is replaced or restarted", None);
                    }
                }
                Fit::Replace | Fit::Restart if turn => self.stop(container, "it is replaced or restarted", None),
                Fit::Halted | Fit::Replace | Fit::Restart => {}
            }
        }
    }

    /// Two versions must never run together, so a changed image takes all nodes down at once.
    pub(super) fn versions_differ(&self, spec: &StackSpec) -> bool {
        let Some(wanted) = spec.nodes.first() else { return false };
        let differs = |node: &Container| match self.desired.images.get(&wanted.image) {
            // One that was made anew after its tag moved carries the ID in the place of the reference.
            Some(id) if !node.image_id.is_empty() => {
                *id != node.image_id || (node.image != wanted.image && node.image != *id)
            }
            Some(_) | None => node.image != wanted.image,
        };
        let mut nodes = self.seen.containers.iter().filter(|container| container.unit != UnitId::Sql);
        nodes.any(|node| node.is_running() && differs(node))
    }

    /// One ready node at a time may be out by our own choice; one that does not serve is no loss.
    pub(super) fn may_take_out(&self, spec: &StackSpec, container: &Container) -> bool {
        if !matches!(self.phase(spec, container.unit), Phase::Ready) {
            return true;
        }
        let others = spec.nodes.iter().map(|node| node.unit).filter(|unit| *unit != container.unit);
        let others_serve = others
            .filter(|unit| !self.desired.stopped.contains(unit))
            .all(|unit| self.phase(spec, unit) == Phase::Ready && !self.is_stopping_now(unit));
        others_serve && self.phase(spec, UnitId::Sql) == Phase::Ready && !self.stops_a_node_already()
    }

    pub(super) fn is_stopping_now(&self, unit: UnitId) -> bool {
        self.tracks.is_busy(&Subject::Unit(unit))
    }

    pub(super) fn stops_a_node_already(&self) -> bool {
        self.plan.actions.iter().any(|action| matches!(action, Action::Stop { unit, .. } if *unit != UnitId::Sql))
    }

    pub(super) fn is_stopping(&self, unit: UnitId) -> bool {
        matches!(self.tracks.busy.get(&Subject::Unit(unit)), Some(("stopping", _)))
    }

    pub(super) fn stop(&mut self, container: &Container, why: &str, cause: Option<Cause>) {
        let Some(instance) = container.instance() else { return };
        let unit = container.unit;
        let grace = if cause == Some(Cause::Hung) { HUNG_GRACE } else { self.stop_grace(unit) };
        self.act(Action::Stop { unit, instance, grace, why: why.to_owned(), cause });
    }

    pub(super) fn stop_grace(&self, unit: UnitId) -> Duration {
        let timing = self.desired.spec.as_ref().map(|spec| spec.timing.clone()).unwrap_or_default();
        match unit {
            UnitId::Sql => Duration::from_millis(timing.sql_stop_limit_ms),
            UnitId::Node(_) => Duration::from_millis(timing.node_stop_grace_ms),
        }
    }

    /// Ends what is being stopped already, at once.
    pub(super) fn kill(&mut self, container: &Container) {
        if let Some(instance) = container.instance() {
            self.act(Action::Kill(container.unit, instance));
        }
    }
}
