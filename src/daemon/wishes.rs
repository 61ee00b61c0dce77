//! Wishes about what is applied: take it down, restart, stop or start units. A wish is kept before
//! it is answered. One that the disk does not take is carried out all the same, with a note; but
//! none that leaves what the file says is to be taken away.

use std::collections::BTreeSet;
use std::time::Duration;

use super::driver::Driver;
use super::event::Denied;
use super::store::Stored;
use super::store::Wish;
use crate::reconcile::Goal;
use crate::reconcile::plan::restart_wish;
use crate::spec::UnitId;

impl Driver {
    /// A wish came: it is not fulfilled before a look that began after it says so.
    pub(super) fn wish(&mut self) {
        self.unsure.wish();
        self.look_wanted = true;
    }

    pub(super) fn down(&mut self, volumes: bool, timeout_s: Option<u64>) -> Result<u64, Denied> {
        // A daemon that comes after this one, however this one ends, must not bring up what was to
        // go.
        self.keep(Stored {
            wish: Wish::Down { volumes },
            ..self.stored.clone()
        })?;
        self.journal.write(
            "",
            if volumes {
                "down, with the data"
            } else {
                "down"
            },
        );
        self.state.desired.goal = Goal::Down { volumes };
        self.finished = false;
        // What runs goes, whatever it was made from.
        self.on_trial = false;
        self.state.records.blocked.clear();
        if let (Some(spec), Some(seconds)) = (&mut self.state.desired.spec, timeout_s) {
            spec.timing.node_stop_grace = Duration::from_secs(seconds);
        }
        self.look_at_everything();
        self.wish();
        self.generation += 1;
        Ok(self.generation)
    }

    fn known(&self, units: &[UnitId]) -> Result<Vec<UnitId>, Denied> {
        let Some(spec) = &self.state.desired.spec else {
            return Err(Denied::Because(
                "nothing was applied yet: `octo-local up` first".to_owned(),
            ));
        };
        let ours: Vec<UnitId> = spec.containers().map(|container| container.unit).collect();
        if let Some(unit) = units.iter().find(|unit| !ours.contains(unit)) {
            return Err(Denied::Because(format!("this stack has no {unit}")));
        }
        Ok(if units.is_empty() {
            ours
        } else {
            units.to_vec()
        })
    }

    pub(super) fn restart(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        let units = self.known(units)?;
        if self.state.desired.goal != Goal::Up {
            self.keep(Stored {
                wish: Wish::Up,
                ..self.stored.clone()
            })?;
            self.state.desired.goal = Goal::Up;
        }
        for unit in units {
            if let Some(instance) = restart_wish(&self.state.seen, unit) {
                self.state.desired.restart.insert(unit, instance);
            }
        }
        self.journal.write("", "restart was asked for");
        self.generation += 1;
        self.state.records.forgive();
        self.wish();
        Ok(self.generation)
    }

    pub(super) fn stop_units(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        let more = self.known(units)?;
        let stopped = self
            .state
            .desired
            .stopped
            .iter()
            .copied()
            .chain(more)
            .collect();
        self.keep_stopped(stopped, self.stored.wish)
    }

    pub(super) fn start_units(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        let less = self.known(units)?;
        let stopped = self
            .state
            .desired
            .stopped
            .iter()
            .copied()
            .filter(|unit| !less.contains(unit))
            .collect();
        self.keep_stopped(stopped, Wish::Up)?;
        self.state.desired.goal = Goal::Up;
        self.state.records.forgive();
        Ok(self.generation)
    }

    fn keep_stopped(&mut self, stopped: BTreeSet<UnitId>, wish: Wish) -> Result<u64, Denied> {
        self.keep(Stored {
            wish,
            stopped: stopped.clone(),
            ..self.stored.clone()
        })?;
        self.state.desired.stopped = stopped;
        self.generation += 1;
        self.wish();
        Ok(self.generation)
    }
}
