//! Backups that are made by themselves: when one is due, and what came of it. The time is that of
//! the wall clock, since people think of theirs.

use std::time::Duration;

use super::Core;
use super::EngineView;
use super::millis;
use crate::daemon::message::BackedUp;
use crate::daemon::message::BackupFor;
use crate::daemon::message::Effect;
use crate::daemon::store::Schedule;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::status::Note;
use crate::spec::UnitId;

/// Where the next one stands.
#[derive(Debug, Default)]
pub(super) struct Scheduled {
    /// One is being made.
    runs: bool,
    /// When the next is due, in milliseconds since 1970, and what that was worked out from.
    due: Option<(Schedule, Option<u64>)>,
}

impl Scheduled {
    /// Whether a backup is being made, for whatever.
    pub(super) fn is_made(&self) -> bool {
        self.runs
    }

    /// A backup begins that is none of the schedule's.
    pub(super) fn begins(&mut self) {
        self.runs = true;
    }
}

impl Core {
    /// Begins the backup that is due, once the stack can be backed up: one that was missed is made
    /// up for once.
    pub(super) fn back_up_when_due(&mut self) {
        let now = u64::try_from(millis(self.now.wall)).unwrap_or(0);
        let kept = self.keeping.stored();
        let pattern = kept.config.as_ref();
        let pattern = pattern.and_then(|config| config.backup.schedule.as_deref());
        let schedule = kept.backups.schedule.with(pattern, now);
        if schedule != kept.backups.schedule {
            self.keeping
                .edit(|stored| stored.backups.schedule = schedule);
        }
        let due = self.next_backup_ms();
        if self.learned.scheduled.runs || due.is_none_or(|due| due > now) {
            return;
        }
        if self.can_be_backed_up() {
            self.learned.scheduled.runs = true;
            self.tell("", "a scheduled backup begins");
            let stored = Box::new(self.keeping.stored().clone());
            self.out.push(Effect::BackUp(BackupFor::Schedule, stored));
        }
    }

    /// When the next one is due.
    fn next_backup_ms(&mut self) -> Option<u64> {
        let schedule = &self.keeping.stored().backups.schedule;
        if schedule.pattern.is_empty() {
            return None;
        }
        let known = self.learned.scheduled.due.as_ref();
        if let Some((_, due)) = known.filter(|(of, _)| of == schedule) {
            return *due;
        }
        let due = (self.setup.next_backup)(&schedule.pattern, schedule.after_ms);
        self.learned.scheduled.due = Some((schedule.clone(), due));
        due
    }

    /// Whether the data is at rest enough, and ours to read: the stack is wished to run, its
    /// database serves and is no version's in part, and a node's container is there, through which
    /// files are read.
    fn can_be_backed_up(&self) -> bool {
        let database = self.state.records.get(UnitId::Sql);
        let mut containers = self.state.seen.containers.iter();
        self.state.desired.goal == Goal::Up
            && self.unfinished_restore().is_none()
            && self.keeping.stored().backups.upgrades.migrating().is_none()
            && !self.state.desired.nodes_rest
            && *self.looks.engine() == EngineView::Answers
            && self.looks.may_act()
            && self.tenure.may_act(self.now.mono)
            && database.is_some_and(|database| database.health().ready)
            && containers.any(|one| one.unit.is_server())
    }

    /// One was made, or was not.
    pub(super) fn on_backed_up(&mut self, of: BackupFor, result: Result<BackedUp, String>) {
        self.learned.scheduled.runs = false;
        if of == BackupFor::Upgrade {
            return self.on_saved_for_upgrade(result);
        }
        let now = u64::try_from(millis(self.now.wall)).unwrap_or(0);
        let failure = match result {
            Ok(made) => {
                self.tell("", format!("backup {} is made, as scheduled", made.name));
                for name in made.removed {
                    self.tell("", format!("backup {name} is removed: BACKUP_KEEP"));
                }
                None
            }
            Err(why) => {
                self.tell("", Note::BackupFailed { why: why.clone() }.to_string());
                Some(why)
            }
        };
        self.keeping.edit(|stored| {
            stored.backups.schedule.after_ms = now;
            stored.backups.schedule.failure = failure;
        });
    }

    /// When a backup is to be begun, if that is still to come.
    pub(super) fn backup_due_at(&self) -> Option<Mono> {
        let (_, due) = self.learned.scheduled.due.as_ref()?;
        let now = u64::try_from(millis(self.now.wall)).unwrap_or(0);
        let left = due.as_ref()?.checked_sub(now).filter(|left| *left > 0)?;
        let is_off = self.keeping.stored().backups.schedule.pattern.is_empty();
        (!is_off).then(|| self.now.mono.after(Duration::from_millis(left)))
    }

    /// What people should know of it.
    pub(super) fn failed_backup(&self) -> Option<Note> {
        let why = self.keeping.stored().backups.schedule.failure.clone()?;
        Some(Note::BackupFailed { why })
    }
}
