//! When what a restore replaced is given up: once the stack is ready on what came in its place.

use std::time::Duration;

use super::Core;
use super::EngineView;
use crate::daemon::message::Effect;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::status::Note;
use crate::spec::UnitId;

/// The wait after it could not all be removed; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// See [`FIRST_WAIT`].
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// What is under way of it.
#[derive(Debug, Default)]
pub(super) struct Dropping {
    runs: bool,
    failures: u32,
    retry_at: Option<Mono>,
}

impl Core {
    /// Has what a restore replaced removed, once the stack is ready without it.
    pub(super) fn drop_replaced_when_ready(&mut self) {
        let waits = self.learned.dropping.retry_at;
        let is_time = waits.is_none_or(|at| self.now.mono >= at);
        if self.learned.dropping.runs || !is_time || !self.is_ready_without_what_was_replaced() {
            return;
        }
        self.learned.dropping.runs = true;
        self.keeping
            .edit(|stored| stored.backups.give_up_replaced());
        let stored = Box::new(self.keeping.stored().clone());
        self.out.push(Effect::DropReplaced(stored));
    }

    /// Whether a node serves on what came, and nothing that should serve does not.
    fn is_ready_without_what_was_replaced(&self) -> bool {
        let backups = &self.keeping.stored().backups;
        let Some(spec) = self.state.desired.spec.as_ref() else {
            return false;
        };
        let is_over = backups.replaced.is_some() && backups.unfinished().is_none();
        if !is_over
            || self.state.desired.goal != Goal::Up
            || *self.looks.engine() != EngineView::Answers
            || !self.looks.may_act()
            || !self.tenure.may_act(self.now.mono)
        {
            return false;
        }
        let serves = |unit: &UnitId| {
            let record = self.state.records.get(*unit);
            record.is_some_and(|record| record.health().ready || record.health().drained)
        };
        let mut wanted = spec.nodes.iter().map(|node| node.unit);
        let mut nodes = wanted.clone();
        serves(&UnitId::Sql)
            && nodes.any(|unit| serves(&unit))
            && wanted.all(|unit| self.state.desired.rests(unit) || serves(&unit))
    }

    /// It is gone, or not all of it.
    pub(super) fn on_replaced_dropped(&mut self, result: Result<(), String>) {
        let dropping = &mut self.learned.dropping;
        dropping.runs = false;
        match result {
            Ok(()) => {
                self.learned.dropping = Dropping::default();
                // Another restore may keep something since, under another name.
                self.keeping.edit(|stored| {
                    stored.backups.replaced.take_if(|one| one.given_up);
                });
                self.tell(
                    "",
                    "the stack is ready: what the restore replaced is removed",
                );
            }
            Err(why) => {
                let wait = FIRST_WAIT * 2u32.pow(dropping.failures.min(16));
                dropping.failures = dropping.failures.saturating_add(1);
                dropping.retry_at = Some(self.now.mono.after(wait.min(LONGEST_WAIT)));
                self.tell(
                    "",
                    format!("what the restore replaced is not removed: {why}"),
                );
            }
        }
    }

    /// When it is tried again.
    pub(super) fn drop_due_at(&self) -> Option<Mono> {
        let replaced = self.keeping.stored().backups.replaced.as_ref();
        let dropping = &self.learned.dropping;
        replaced.and(dropping.retry_at.filter(|at| *at > self.now.mono))
    }

    /// That there is a way back from a restore that is done, for people.
    pub(super) fn way_back_from_restore(&self) -> Option<Note> {
        let backups = &self.keeping.stored().backups;
        let replaced = backups.way_back_from_restore();
        let replaced = replaced.filter(|_| backups.unfinished().is_none());
        replaced.map(|replaced| Note::ReplacedKept {
            set: replaced.set.clone(),
        })
    }
}
