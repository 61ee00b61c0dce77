//! Before a node is ended by choice it finishes its tasks and takes no more; and a node that nobody
//! wished drained takes tasks again. The flag is in the database and outlives the node's restarts.

use std::time::Duration;

use super::Pass;
use super::fit::Fit;
use crate::reconcile::Action;
use crate::reconcile::Goal;
use crate::reconcile::action::Subject;
use crate::reconcile::action::Why;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::reconcile::observed::Run;
use crate::reconcile::record::CONFIRMED_WITHIN;
use crate::reconcile::record::DRAIN_MARGIN;
use crate::reconcile::record::Drain;
use crate::reconcile::record::DrainStep;
use crate::reconcile::record::UnitRecord;
use crate::spec::Role;
use crate::spec::StackSpec;

impl<'a> Pass<'a> {
    /// Ends a container by choice or because it is beyond waiting for; a node that serves finishes
    /// its tasks first.
    pub(super) fn end(&mut self, container: &Container, why: Why) {
        if self.is_done_with_its_tasks(container, why) {
            self.stop(container, why);
        }
    }

    /// Whether a container may be stopped as far as tasks go. Asks it to finish them otherwise.
    fn is_done_with_its_tasks(&mut self, container: &Container, why: Why) -> bool {
        let (Some(instance), Role::Server) = (container.instance(), container.unit.role()) else {
            return true;
        };
        let spec = self.desired.spec.as_ref();
        let timing = spec.map(|spec| spec.timing.clone()).unwrap_or_default();
        let is_frozen = matches!(container.run, Run::Paused { .. });
        if !why.drains() || self.desired.hurry || timing.drain_timeout.is_zero() || is_frozen {
            return true;
        }
        let unknown = UnitRecord::default();
        let record = self.records.get(container.unit).unwrap_or(&unknown);
        // It was told to end already, or is not waited for any longer.
        let deadline = self.desired.deadlines.tasks;
        if record.is_ending(&instance) || deadline.is_some_and(|deadline| self.now >= deadline) {
            return true;
        }
        let until_deadline =
            |wait: Duration| deadline.map_or(wait, |deadline| wait.min(deadline.since(self.now)));
        let health = record.health();
        let is_its = record.instance() == Some(&instance);
        let answers = is_its && (health.ready || health.drained);
        let Some(drain) = record.drain_of(&instance) else {
            // What does not answer cannot be asked, and what could not be asked is not asked again.
            let is_blocked = self
                .records
                .blocked
                .contains_key(&Subject::Tasks(container.unit));
            if answers && !is_blocked {
                let wait = until_deadline(timing.drain_timeout);
                self.drain(container, instance, wait, Some(why));
            }
            return !answers || is_blocked;
        };
        let is_gone = health.misses >= timing.misses.max(1);
        if self.now >= drain.until || is_gone {
            return true;
        }
        match drain.step {
            DrainStep::Failed | DrainStep::Undone { .. } => true,
            DrainStep::Asked => {
                // Also what an earlier daemon began: it has what is left of the time.
                let left = drain.until.since(self.now).saturating_sub(DRAIN_MARGIN);
                let left = until_deadline(left);
                self.wake_at(deadline.map_or(drain.until, |deadline| deadline.min(drain.until)));
                self.drain(container, instance, left, Some(why));
                false
            }
            DrainStep::Done { at } => {
                // Only what is as it is wanted is still probed.
                let is_probed = self.digests.get(&container.unit) == Some(&container.digest);
                let until = at.after(CONFIRMED_WITHIN).min(drain.until);
                let until = deadline.map_or(until, |deadline| until.min(deadline));
                let is_over = health.drained || !is_probed || self.now >= until;
                if !is_over {
                    self.wake_at(until);
                }
                is_over
            }
        }
    }

    fn drain(
        &mut self,
        container: &Container,
        instance: Instance,
        wait: Duration,
        why: Option<Why>,
    ) {
        // Whichever of the two came second would win.
        if self.records.is_busy(&Subject::TasksAgain(container.unit)) {
            return;
        }
        self.act(Action::Drain {
            unit: container.unit,
            instance,
            wait,
            why,
        });
    }

    /// Nobody whom a person drained takes tasks, and everybody else does.
    pub(super) fn settle_who_takes_tasks(&mut self, spec: &'a StackSpec) {
        if self.database_ends {
            return;
        }
        for container in &self.seen.containers {
            let (Some(instance), Role::Server) = (container.instance(), container.unit.role())
            else {
                continue;
            };
            let runs = matches!(container.run, Run::Running { .. });
            let stays = self.desired.goal == Goal::Hold || self.fit(spec, container) == Fit::Right;
            let is_wished = self.desired.drained.contains(&container.unit);
            // A wish of before that start was interrupted waits with everything else that is new.
            let is_held = self.desired.goal == Goal::Hold;
            if !runs || !stays || is_held && is_wished {
                continue;
            }
            let Some(record) = self.records.get(container.unit) else {
                continue;
            };
            let is_its = record.instance() == Some(&instance);
            let health = record.health();
            // Only what is as it is wanted is still probed: of another it is known what we asked.
            let is_probed = self.digests.get(&container.unit) == Some(&container.digest);
            let was_drained = record
                .drain_of(&instance)
                .is_some_and(|drain| matches!(drain.step, DrainStep::Done { .. }));
            let is_drained = if is_probed {
                health.drained
            } else {
                was_drained
            };
            let asked = record
                .drain_of(&instance)
                .filter(|drain| drain.step == DrainStep::Asked);
            // A daemon that died asked it, and nobody heard whether its tasks ended.
            let unheard = asked.filter(|_| is_drained);
            // What was begun and is not wished any more would cancel tasks at its end.
            let differs = if is_wished {
                health.ready || unheard.is_some()
            } else {
                is_drained || asked.is_some()
            };
            if !is_its || !differs {
                continue;
            }
            // It was asked, and may not say so yet.
            let asked_at = match record.drain.as_ref().map(|drain| drain.step) {
                Some(DrainStep::Done { at }) if is_wished => Some(at),
                Some(DrainStep::Undone { at }) if !is_wished => Some(at),
                _ => None,
            };
            let until = asked_at.map(|at| at.after(CONFIRMED_WITHIN));
            match until.filter(|until| self.now < *until) {
                Some(until) => self.wake_at(until),
                None if is_wished => {
                    let left =
                        |drain: &Drain| drain.until.since(self.now).saturating_sub(DRAIN_MARGIN);
                    let wait = unheard.map_or(spec.timing.drain_timeout, left);
                    self.drain(container, instance, wait, None);
                }
                None => self.act(Action::Undrain(container.unit, instance)),
            }
        }
    }
}
