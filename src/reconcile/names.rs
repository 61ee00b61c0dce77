//! Names that somebody else took: known as soon as they are seen, not only once another container is
//! to be made.

use super::Cause;
use super::Goal;
use super::Mono;
use super::action::Subject;
use super::cause::Failure;
use super::observed::Stranger;
use super::record::UnitRecord;
use super::state::State;
use crate::spec::UnitId;

impl State {
    /// A unit whose container is gone cannot be made again while a container of somebody else has
    /// its name. What is under way for it ends by itself, with the engine's own words.
    pub(super) fn notice_names_that_are_taken(&mut self, now: Mono) {
        for (unit, name) in self.names_that_are_taken() {
            let failure = Failure {
                cause: Cause::NameTaken,
                detail: format!("there is a container {name} of somebody else"),
                lines: Vec::new(),
                code: None,
            };
            self.unit_failed(unit, failure, now);
        }
    }

    fn names_that_are_taken(&self) -> Vec<(UnitId, String)> {
        let Some(spec) = self.desired.spec.as_ref() else {
            return Vec::new();
        };
        if self.desired.goal != Goal::Up {
            return Vec::new();
        }
        let is_taken = |unit: UnitId, name: &str| {
            let gave_up = self.records.get(unit).and_then(UnitRecord::gave_up);
            gave_up.is_none()
                && self.seen.container(unit).is_none()
                && !self.desired.rests(unit)
                && !self.records.is_busy(&Subject::Unit(unit))
                && self
                    .seen
                    .strangers
                    .contains(&Stranger::Namesake(name.to_owned()))
        };
        let wanted = spec.containers().map(|one| (one.unit, one.name.clone()));
        wanted
            .filter(|(unit, name)| is_taken(*unit, name))
            .collect()
    }
}
