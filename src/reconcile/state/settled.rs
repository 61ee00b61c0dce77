//! What came of an action, as a look that began after its end shows it.

use super::SIGKILLED;
use super::State;
use crate::reconcile::Action;
use crate::reconcile::Desired;
use crate::reconcile::Mono;
use crate::reconcile::action::Doubt;
use crate::reconcile::action::Outcome;
use crate::reconcile::action::Trouble;
use crate::reconcile::action::TroubleKind;
use crate::reconcile::action::took_effect;
use crate::reconcile::observed::Run;
use crate::reconcile::record::LATE_START;
use crate::spec::Role;
use crate::spec::UnitId;
use crate::spec::build::SQL_DATA;

impl State {
    /// A failed call that took effect is no failure; the others are.
    pub(super) fn settle(&mut self, action: &Action, result: Result<Outcome, Trouble>, now: Mono) {
        let subject = action.subject();
        let begun = self
            .records
            .busy
            .remove(&subject)
            .map_or(now, |(_, begun)| begun);
        if let Action::Start(unit, _) = action {
            let may_start = result
                .as_ref()
                .is_err_and(|trouble| trouble.doubt == Doubt::MayStillHappen);
            let record = self.records.of(*unit);
            record.may_start_until = record
                .may_start_until
                .or(Some(begun.after(LATE_START)))
                .filter(|_| may_start);
        }
        let excused = self.records.excused.remove(&subject);
        let fetched_again = |action: &Action, desired: &mut Desired| {
            if let Action::Pull(image) = action {
                desired.refresh.remove(image)
            } else {
                false
            }
        };
        match result {
            // The engine hands out a volume that is there as if it had made it.
            Ok(_)
                if matches!(action, Action::CreateVolume(_))
                    && !took_effect(action, &self.seen) =>
            {
                let trouble = Trouble {
                    kind: TroubleKind::NotOurs,
                    words: format!("{subject} exists and is not ours"),
                    doubt: Doubt::Refused,
                };
                self.failed(action, &trouble, now);
            }
            Ok(_) => {
                self.records.blocked.remove(&subject);
                fetched_again(action, &mut self.desired);
                self.succeeded(action);
            }
            Err(trouble) if took_effect(action, &self.seen) => {
                self.records.blocked.remove(&subject);
                if fetched_again(action, &mut self.desired) {
                    self.tell(
                        &subject,
                        format!(
                            "could not be fetched again and is used as it is: {}",
                            trouble.words
                        ),
                    );
                } else {
                    self.succeeded(action);
                }
            }
            Err(trouble) if excused => {
                self.tell(
                    &subject,
                    format!(
                        "{} failed, for what was wanted before: {}",
                        action.verb(),
                        trouble.words
                    ),
                );
            }
            Err(trouble) => self.failed(action, &trouble, now),
        }
    }

    fn succeeded(&mut self, action: &Action) {
        let subject = action.subject();
        match action {
            Action::Start(unit, _) => self.tell(unit, "started"),
            Action::Create(unit) => {
                let record = self.records.of(*unit);
                record.clear_host_failure();
                // They were another container's.
                record.restarts = 0;
                self.tell(unit, "created");
            }
            Action::Remove(unit, _) => self.tell(unit, "removed"),
            Action::Stop { unit, .. } => self.tell(unit, self.how_it_stopped(*unit)),
            Action::Kill(unit, _) => self.tell(unit, "killed: somebody would not wait"),
            Action::Connect(unit, _) => {
                // What could not be reached meanwhile was not deaf.
                if let Some(running) = self.records.of(*unit).running_mut() {
                    running.health.forget_misses();
                }
                self.tell(unit, "attached to the network again");
            }
            Action::DisarmRestartPolicy(unit, _) => {
                self.tell(unit, "the engine's restart policy was set back to no");
            }
            Action::Pull(_) => self.tell(&subject, "fetched"),
            Action::RemoveNetwork(_) | Action::CreateNetwork => {
                let what = if *action == Action::CreateNetwork {
                    "created"
                } else {
                    "removed"
                };
                self.tell(&subject, what);
            }
            Action::RemoveVolume(_) => self.tell(&subject, "removed"),
            Action::CreateVolume(name) => {
                let spec = self.desired.spec.as_ref();
                let data = spec.and_then(|spec| spec.volumes.get(SQL_DATA)?.ours());
                self.records.durable.is_data_new |= data == Some(name.as_str());
                self.tell(&subject, "created");
            }
            Action::Examine(..)
            | Action::Drain { .. }
            | Action::Undrain(..)
            | Action::TakeOff { .. }
            | Action::Retire { .. } => {}
        }
    }

    /// How a unit that was stopped ended. SQL Server that was killed leaves its databases to be
    /// recovered.
    fn how_it_stopped(&self, unit: UnitId) -> String {
        let run = self.seen.container(unit).map(|container| &container.run);
        match (unit.role(), run) {
            (Role::Database, Some(Run::Exited { code: 0, .. })) => {
                "stopped: it shut down cleanly".to_owned()
            }
            (
                Role::Database,
                Some(Run::Exited {
                    code: SIGKILLED, ..
                }),
            ) => {
                "stopped, not cleanly: it was killed, and recovers its databases at its next start"
                    .to_owned()
            }
            (Role::Database | Role::Server | Role::Tentacle, _) => "stopped".to_owned(),
        }
    }
}
