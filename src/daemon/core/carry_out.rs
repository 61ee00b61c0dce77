//! A wish that was admitted is kept, then carried out, then answered.

use std::collections::BTreeSet;

use super::Core;
use super::keeping::Kept;
use super::wish::Admitted;
use crate::config::Pull;
use crate::daemon::message::Denied;
use crate::daemon::message::DownPace;
use crate::daemon::message::PasswordStep;
use crate::daemon::message::RequestId;
use crate::daemon::message::RestoreStep;
use crate::daemon::store::Stored;
use crate::reconcile::desired::NodeDeadlines;
use crate::reconcile::plan::restart_wish;
use crate::reconcile::status::Note;

impl Core {
    /// Asks the disk to keep a wish. It is carried out and answered once that has ended.
    pub(super) fn keep_wish(&mut self, id: RequestId, admitted: Admitted) {
        let mut candidate = self.keeping.stored().clone();
        admitted.edit(&mut candidate);
        if self.keeping.is_stuck() {
            let why = "the disk gives no answer".to_owned();
            return self.carry_out(id, admitted, &Kept::InMemoryOnly(why));
        }
        match self.keeping.write_wish(candidate, self.now.mono) {
            Some(write) => {
                self.out.push(write);
                self.requests.wait_for_the_disk(id, admitted);
            }
            None => self.carry_out(id, admitted, &Kept::Safely),
        }
    }

    /// A write ended. A wish that waited for it is carried out, or refused.
    pub(super) fn on_kept(&mut self, kept: &Kept) {
        if let Some((id, admitted)) = self.requests.kept() {
            self.carry_out(id, admitted, kept);
        }
    }

    /// A wish that the disk does not take is carried out all the same, with a note; but none that
    /// leaves what the file says is to be taken away, and none with a key that nothing would keep.
    fn carry_out(&mut self, id: RequestId, admitted: Admitted, kept: &Kept) {
        let mut candidate: Stored = self.keeping.stored().clone();
        admitted.edit(&mut candidate);
        if let Kept::InMemoryOnly(why) = kept
            && let Some(words) = self.refusal_without_a_disk(&admitted, &candidate, why)
        {
            let denied = Denied::Because(words);
            self.reply(id, admitted.answer(Err(denied)));
            return self.go_on_as_before();
        }
        self.keeping.edit(|stored| *stored = candidate);
        let generation = self.requests.on_taken(id, &admitted);
        self.apply(&admitted);
        self.reply(id, admitted.answer(Ok(generation)));
    }

    fn refusal_without_a_disk(
        &self,
        admitted: &Admitted,
        candidate: &Stored,
        why: &str,
    ) -> Option<String> {
        if self.keeping.takes_more_than(candidate.wish) {
            return Some(format!(
                "the state file cannot be written: {why}; it says that a `down` goes on, so \
                 nothing else is begun"
            ));
        }
        // A daemon that comes after would start nodes on half of the data.
        if matches!(
            admitted,
            Admitted::RollBack
                | Admitted::Restore(
                    RestoreStep::Begin { .. }
                        | RestoreStep::Kept { .. }
                        | RestoreStep::BeginBack
                        | RestoreStep::GoingBack
                )
        ) {
            return Some(format!(
                "the state file cannot be written, so no data is replaced: {why}"
            ));
        }
        // Nobody would know the new one after a crash.
        if matches!(admitted, Admitted::Password(PasswordStep::Begin(_))) {
            return Some(format!(
                "the state file cannot be written, so no password is changed: {why}"
            ));
        }
        // No node may start with a key that only its container would know.
        let needs_key = self.keeping.stored().keys != candidate.keys;
        let is_up = matches!(admitted, Admitted::Up(_) | Admitted::Restore(_));
        (is_up && needs_key).then(|| {
            format!(
                "the master key cannot be kept in {}, so nothing is started: {why}",
                self.setup.state_file
            )
        })
    }

    fn apply_down(&mut self, volumes: bool, pace: DownPace) {
        self.state.records.blocked.clear();
        self.passing.deadlines = NodeDeadlines::new(
            pace.within,
            pace.skips_tasks,
            self.state.timing().node_stop_grace,
            self.now.mono,
        );
        self.looks.invalidate_everything();
        self.tell(
            "",
            if volumes {
                "down, with the data"
            } else {
                "down"
            },
        );
    }

    fn apply_restore(&mut self, step: &RestoreStep) {
        let records = &mut self.state.records;
        match step {
            RestoreStep::Begin { set, .. } => {
                records.forgive();
                self.tell("", format!("a restore of backup {set} begins: nodes stop"));
            }
            RestoreStep::BeginBack => {
                records.forgive();
                self.tell("", "the way back from a restore begins: nodes stop");
            }
            RestoreStep::Kept { .. } => {
                self.tell(
                    "",
                    "what the restore replaces is kept until the stack is ready",
                );
            }
            RestoreStep::GoingBack => {
                self.tell("", "what the restore replaced takes its place again");
            }
            RestoreStep::End(_) | RestoreStep::Back => {
                records.forgive();
                // Whether a version ran on this data is not known of this one.
                records.durable.migrated = None;
                let is_done = matches!(step, RestoreStep::End(_));
                self.tell(
                    "",
                    if is_done {
                        "the restore is done"
                    } else {
                        "the data is what it was before the restore"
                    },
                );
            }
        }
    }

    /// Carries out what was kept: the desired state follows from it, and failures are forgiven
    /// where a person asks for another try. While the daemon ends, nothing more happens than that
    /// the wish is kept.
    fn apply(&mut self, admitted: &Admitted) {
        self.notes.retain(|note| *note != Note::Unfinished);
        self.passing = super::Passing::default();
        // A person decided: what was read no longer has to prove itself.
        self.keeping.take_trial();
        let before = self.state.desired.spec.clone();
        let records = &mut self.state.records;
        match admitted {
            Admitted::Up(up) => {
                records.forgive();
                if let Some(before) = &before {
                    records.durable.forget_who_was_told(before, &up.spec);
                }
                let images = up.spec.images().into_iter().map(str::to_owned);
                self.state.desired.refresh = match up.config.pull {
                    Pull::Always => images.collect(),
                    Pull::Missing | Pull::Never => BTreeSet::new(),
                };
                self.tell("", format!("up: {}", counted(up.changes.len())));
            }
            Admitted::Down { volumes, pace } => self.apply_down(*volumes, *pace),
            Admitted::Restart(units) => {
                records.forgive();
                for unit in units {
                    if let Some(instance) = restart_wish(&self.state.seen, *unit) {
                        self.state.desired.restart.insert(*unit, instance);
                    }
                }
                self.tell("", "restart was asked for");
            }
            Admitted::Password(PasswordStep::Begin(_)) => {
                self.tell("", "the password of sa changes: nodes stop");
            }
            Admitted::Quiesce(number) => self.begin_quiesce(*number),
            Admitted::Stop(_)
            | Admitted::Drain(_)
            | Admitted::Undrain(_)
            | Admitted::Password(PasswordStep::Written) => {}
            Admitted::Restore(step) => self.apply_restore(step),
            Admitted::RollBack => {
                let upgrades = &self.keeping.stored().backups.upgrades;
                if upgrades.waits_to_go_back().is_some() {
                    // What failed of the newer version is not started again meanwhile.
                    records.blocked.clear();
                    self.tell("", "a rollback was asked for");
                } else {
                    records.forgive();
                }
            }
            Admitted::Start(_) => records.forgive(),
            Admitted::Tentacle(name, step) => self.take_up_tentacle(*name, step),
        }
        self.derive();
        if self.state.desired.spec != before {
            self.looks.invalidate_everything();
        }
        // A name that somebody had taken may be free again: whoever asked for another try knows.
        self.looks.invalidate_infrastructure();
        self.looks.renew_for_a_wish();
    }
}

fn counted(changes: usize) -> String {
    match changes {
        0 => "nothing to change".to_owned(),
        1 => "1 change".to_owned(),
        more => format!("{more} changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_is_not_many() {
        let told = [0, 1, 2].map(counted);
        assert_eq!(told, ["nothing to change", "1 change", "2 changes"]);
    }
}
