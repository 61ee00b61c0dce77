//! What a look at Docker shows: when it began, what it says of actions that ended, and whether it
//! is in question.

use super::News;
use super::REPEATS;
use super::State;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::UnitRecords;
use crate::reconcile::record::UnitRecord;
use crate::spec::UnitId;
use crate::spec::build::SQL_DATA;

impl State {
    /// A look begins: it will show what the actions that ended so far have done.
    pub fn look_begins(&mut self) {
        for (unit, record) in &mut self.records.units {
            if record.health().failing_since.is_some() {
                self.failing.insert(*unit);
            }
        }
        self.asked_again = std::mem::take(&mut self.told_of_change) || self.contradicted();
        self.covered.append(&mut self.ended);
        self.deaths.clear();
        self.signals
            .iter_mut()
            .for_each(|one| one.is_covered = true);
    }

    /// The look that began failed: another one will show it.
    pub fn look_failed(&mut self) {
        self.on_engine_left();
        self.failing.clear();
        let later = std::mem::take(&mut self.ended);
        self.ended = std::mem::take(&mut self.covered);
        self.ended.extend(later);
    }

    /// Takes in what Docker showed.
    pub fn looked(&mut self, seen: Observed, now: Mono) {
        let before = std::mem::replace(&mut self.seen, seen);
        self.count_contradictions(&before);
        self.tell_of_what_somebody_removed(&before);
        self.tell_of_signals();
        for container in self.seen.all_mut() {
            if let Some(code) = container
                .instance()
                .and_then(|instance| self.deaths.get(&instance))
            {
                container.end(*code, self.records.saw_oom(container.unit));
            }
        }
        self.forget_restarts_that_were_done();
        self.take_in_runs(now);
        if let Some(spec) = &self.desired.spec {
            self.records.durable.note_who_started(spec, &self.seen);
        }
        self.believe_what_fails();
        self.forget_lost_data();
        for (action, result) in std::mem::take(&mut self.covered) {
            self.settle(&action, result, now);
        }
        self.notice_names_that_are_taken(now);
        self.pin_images();
        self.learn_of_moved_images();
        if self.version_ran() {
            self.announce(News::VersionRan);
        }
    }

    /// Takes in the runs that were seen. The database is asked at once when another unit ended: a
    /// start needs an answer that is younger than that.
    pub(in crate::reconcile) fn take_in_runs(&mut self, now: Mono) {
        let runs = |records: &UnitRecords| -> Vec<UnitId> {
            let runs = |(_, record): &(&UnitId, &UnitRecord)| record.running().is_some();
            records
                .units
                .iter()
                .filter(runs)
                .map(|(unit, _)| *unit)
                .collect()
        };
        let before = runs(&self.records);
        self.records.absorb(&self.seen, now);
        let after = runs(&self.records);
        let ended = |unit: &UnitId| unit.is_server() && !after.contains(unit);
        if before.iter().any(ended) {
            self.announce(News::Ask(UnitId::Sql));
        }
    }

    /// A unit that fails since before the look began, and that the look shows running and attached
    /// to its network, is not only cut off.
    fn believe_what_fails(&mut self) {
        for unit in std::mem::take(&mut self.failing) {
            let container = self.seen.container(unit);
            let is_reachable = container
                .is_none_or(|container| container.is_running() && self.seen.is_attached(container));
            if let Some(running) = self.records.of(unit).running_mut() {
                let health = &mut running.health;
                health.failing_seen |= is_reachable && health.failing_since.is_some();
            }
        }
    }

    /// What was known of data that is gone says nothing about what comes in its place.
    fn forget_lost_data(&mut self) {
        let spec = self.desired.spec.as_ref();
        let data = spec.and_then(|spec| spec.volumes.get(SQL_DATA)?.ours());
        if data.is_some_and(|data| !self.seen.volumes.contains(data)) {
            self.records.durable.migrated = None;
            self.records.durable.roster.clear();
        }
    }

    /// The engine told of a change to something of ours, of what kind it may be: the next look is
    /// to show one. Some engines tell before their own records say so.
    pub fn on_change_told(&mut self) {
        (self.told_of_change, self.repeats) = (true, REPEATS);
    }

    /// A look that was asked for because something changed shows what the one before it did.
    fn count_contradictions(&mut self, before: &Observed) {
        if !std::mem::take(&mut self.asked_again) {
            return;
        }
        self.repeats = if self.seen == *before {
            self.repeats.saturating_sub(1)
        } else {
            0
        };
    }

    /// Whether the last look is in question, so that another one is to be made soon, afresh: it did
    /// not show a change that the engine told of, or a unit began to fail after it.
    pub fn contradicted(&self) -> bool {
        let is_unseen = |record: &UnitRecord| {
            let health = record.health();
            health.misses >= 2 && !health.failing_seen && record.instance().is_some()
        };
        let waits = self.repeats > 0 && !self.told_of_change;
        waits || self.records.units.values().any(is_unseen)
    }
}
