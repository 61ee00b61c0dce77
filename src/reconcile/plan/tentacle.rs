//! Tentacles: each is made, started, mended, ended and taken off Octopus Server for itself. They
//! are in no order: one starts when any node serves, and no rule about nodes or SQL Server asks for
//! one. Their containers are apart from the stack's ([`Observed::tentacles`]), what they need
//! beside a container (an image, a volume) is a part of making it, and their failures are theirs
//! alone. So a Tentacle that does not come up holds up no start, no version change and no `down`.
//!
//! [`Observed::tentacles`]: crate::reconcile::Observed::tentacles

use super::Pass;
use super::fit::Fit;
use crate::reconcile::Action;
use crate::reconcile::Goal;
use crate::reconcile::action::Registered;
use crate::reconcile::action::Why;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Run;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle;
use crate::spec::tentacle::Registration;

impl<'a> Pass<'a> {
    /// What is to be done about Tentacles now.
    pub(super) fn tentacles(&mut self) {
        match (&self.desired.spec, self.desired.goal) {
            (Some(spec), Goal::Up) => {
                self.end_tentacles_that_must(spec);
                self.remove_tentacles_that_must(spec);
                self.create_tentacles(spec);
                self.start_tentacles(spec);
                self.retire_who_leaves(spec);
            }
            (Some(spec), Goal::Hold) if !self.desired.hands_off => {
                self.end_broken_tentacles(spec);
                self.start_tentacles(spec);
            }
            (_, Goal::Up | Goal::Hold) => {}
            (_, Goal::Halt) => self.end_all_tentacles(),
            (_, Goal::Down { .. }) => {
                self.end_all_tentacles();
                for container in &self.seen.tentacles {
                    if !container.is_running() && container.run != Run::Removing {
                        self.remove_tentacle(container);
                    }
                }
            }
        }
    }

    fn end_all_tentacles(&mut self) {
        for container in &self.seen.tentacles {
            if !container.is_running() {
                continue;
            }
            self.stop(container, Why::Down);
            if self.desired.hurry && self.is_stopping(container.unit) {
                self.kill(container);
            }
        }
    }

    fn end_tentacles_that_must(&mut self, spec: &'a StackSpec) {
        for container in self.seen.tentacles.iter().filter(|one| one.is_running()) {
            let why = match self.fit(spec, container) {
                _ if self.is_one_too_many(container) => Why::Surplus,
                Fit::Right => {
                    self.mend(container);
                    continue;
                }
                Fit::Broken(cause) => Why::Broken(cause),
                Fit::Surplus => Why::Surplus,
                Fit::Halted | Fit::Resting => Why::Halted,
                Fit::Replace => Why::Replaced,
                Fit::Restart => Why::Restarted,
            };
            self.stop(container, why);
        }
    }

    /// While nothing new is begun, only what has served and is beyond waiting for is ended.
    fn end_broken_tentacles(&mut self, spec: &'a StackSpec) {
        for container in self.seen.tentacles.iter().filter(|one| one.is_running()) {
            if let Fit::Broken(cause) = self.broken(spec, container)
                && self.has_served_once(container.unit)
            {
                self.stop(container, Why::Broken(cause));
            }
        }
    }

    /// Two containers of one Tentacle would be one registration with two hosts.
    fn is_one_too_many(&self, container: &Container) -> bool {
        let best = self.seen.container(container.unit);
        best.is_some_and(|best| best.id != container.id)
    }

    fn remove_tentacles_that_must(&mut self, spec: &'a StackSpec) {
        for container in &self.seen.tentacles {
            let is_at_rest = !container.is_running() && container.run != Run::Removing;
            let is_unwanted = matches!(self.fit(spec, container), Fit::Replace | Fit::Surplus);
            if is_at_rest && (is_unwanted || self.is_one_too_many(container)) {
                self.remove_tentacle(container);
            }
        }
    }

    fn remove_tentacle(&mut self, container: &Container) {
        self.act(Action::Remove(container.unit, container.id.clone()));
    }

    fn create_tentacles(&mut self, spec: &'a StackSpec) {
        if self.seen.networks.is_empty() {
            return;
        }
        for wanted in &spec.tentacles {
            let unit = wanted.unit;
            let is_missing = self.seen.container(unit).is_none() && !self.desired.rests(unit);
            if is_missing && self.may_try(unit) {
                self.act(Action::Create(unit));
            }
        }
    }

    /// One registers at a node when it starts for the first time, and is of no use without any.
    fn start_tentacles(&mut self, spec: &'a StackSpec) {
        if !self.any_node_serves(spec) {
            return;
        }
        for wanted in &spec.tentacles {
            let unit = wanted.unit;
            let may_begin = self.desired.goal != Goal::Hold || self.has_served_once(unit);
            if !may_begin || self.desired.rests(unit) {
                continue;
            }
            if let Some(id) = self.startable(spec, unit) {
                self.act(Action::Start(unit, id));
            }
        }
    }

    /// Whether any node serves, or would if it were not drained: its API answers.
    pub(super) fn any_node_serves(&self, spec: &StackSpec) -> bool {
        let mut nodes = spec.nodes.iter();
        nodes.any(|node| self.phase(spec, node.unit).is_well())
    }

    /// One that leaves is taken off Octopus Server once its container is gone, so that nothing can
    /// register again; then it is forgotten.
    fn retire_who_leaves(&mut self, spec: &'a StackSpec) {
        let mut nodes = spec.nodes.iter().map(|node| node.unit);
        let by = nodes.find(|unit| self.phase(spec, *unit).is_well());
        for (name, wish) in &self.desired.leaving {
            let unit = UnitId::Tentacle(*name);
            if self.seen.container(unit).is_some() {
                continue;
            }
            let from = match wish.leaves {
                Some(Registration::Deleted) => {
                    let Some(by) = by else { continue };
                    Some(Registered {
                        by,
                        space: wish.space.clone(),
                        is_worker: wish.purpose.is_worker(),
                    })
                }
                Some(Registration::Kept) | None => None,
            };
            let volume = tentacle::volume(spec, *name);
            let volume = Some(volume).filter(|name| self.seen.volumes.contains(name));
            self.act(Action::Retire { unit, from, volume });
        }
    }
}
