//! Wishes about what is applied: take it down, restart, stop or start units. A wish is kept before it is answered.

use super::driver::Driver;
use super::event::Denied;
use crate::reconcile::Goal;
use crate::reconcile::plan::restart_wish;
use crate::spec::UnitId;

impl Driver {
    /// A wish came: it is not fulfilled before a look that began after it says so.
    pub(super) fn wish(&mut self) {
        self.unsure.wish();
        self.look_wanted = true;
    }

    pub(super) fn down(&mut self, volumes: bool, timeout_s: Option<u64>) -> u64 {
        self.journal.write("", if volumes { "down, with the data" } else { "down" });
        self.state.desired.goal = Goal::Down { volumes };
        self.finished = false;
        self.state.tracks.blocked.clear();
        if let (Some(spec), Some(seconds)) = (&mut self.state.desired.spec, timeout_s) {
            spec.timing.node_stop_grace_ms = seconds.saturating_mul(1_000);
        }
        // A daemon that comes after this one, however this one ends, must not bring up what was to go.
        self.stored.up = false;
        self.stored.going_down = Some(volumes);
        self.save();
        self.look_at_everything();
        self.wish();
        self.generation += 1;
        self.generation
    }

    /// The stack is to run from now on, also for a daemon that comes after this one.
    pub(super) fn wish_up(&mut self) {
        self.state.desired.goal = Goal::Up;
        self.stored.up = true;
        self.stored.going_down = None;
    }

    fn known(&self, units: &[UnitId]) -> Result<Vec<UnitId>, Denied> {
        let Some(spec) = &self.state.desired.spec else {
            return Err(Denied::Because("nothing was applied yet: `octo-local up` first".to_owned()));
        };
        let ours: Vec<UnitId> = spec.containers().map(|container| container.unit).collect();
        if let Some(unit) = units.iter().find(|unit| !ours.contains(unit)) {
            return Err(Denied::Because(format!("this stack has no {unit}")));
        }
        Ok(if units.is_empty() { ours } else { units.to_vec() })
    }

    pub(super) fn restart(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        for unit in self.known(units)? {
            if let Some(instance) = restart_wish(&self.state.seen, unit) {
                self.state.desired.restart.insert(unit, instance);
            }
        }
        self.journal.write("", "restart was asked for");
        if self.state.desired.goal != Goal::Up {
            self.wish_up();
            self.save();
        }
        self.generation += 1;
        self.state.tracks.forgive();
        self.wish();
        Ok(self.generation)
    }

    pub(super) fn stop_units(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        for unit in self.known(units)? {
            self.state.desired.stopped.insert(unit);
        }
        Ok(self.keep_stopped())
    }

    pub(super) fn start_units(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        for unit in self.known(units)? {
            self.state.desired.stopped.remove(&unit);
        }
        self.wish_up();
        self.state.tracks.forgive();
        Ok(self.keep_stopped())
    }

    fn keep_stopped(&mut self) -> u64 {
        self.stored.stopped.clone_from(&self.state.desired.stopped);
        self.generation += 1;
        self.wish();
        self.save();
        self.generation
    }
}
