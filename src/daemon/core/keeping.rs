//! What is kept: the one owner of what is wished. It is written before a wish is answered, by
//! writes that run beside the core, one at a time; and it is bound to one engine.

use std::time::Duration;

use crate::daemon::message::Effect;
use crate::daemon::store::Loaded;
use crate::daemon::store::Stored;
use crate::daemon::store::Wish;
use crate::reconcile::Mono;
use crate::reconcile::status::Note;

/// How long a write may take before the disk counts as one that does not take it. A busy one needs
/// a second or two.
const SAVE_LIMIT: Duration = Duration::from_secs(10);
/// How soon a write that failed is tried again.
const SAVE_RETRY: Duration = Duration::from_secs(5);

/// What is kept, and what the disk has of it.
#[derive(Debug)]
pub(super) struct Keeping {
    stored: Stored,
    /// False when the state file is of a newer form: it is not ours to write.
    may_write: bool,
    /// What was read may not be what was written last: it counts only if it is what runs, and is
    /// not written back before that or a wish.
    on_trial: bool,
    /// Nothing is written before a wish: what the disk has may hold more than what is known.
    waits_for_a_wish: bool,
    /// What the file wishes; where a write failed, whichever takes more away.
    wish_on_disk: Wish,
    /// What the file holds, as far as that is known.
    written: Option<Stored>,
    under_way: Option<Write>,
    last_number: u64,
    /// Why the last write failed, and when it is tried again.
    failed: Option<(String, Mono)>,
}

/// A write under way.
#[derive(Debug)]
struct Write {
    number: u64,
    stored: Stored,
    give_up_at: Mono,
    /// Nobody waits for it any more. The disk is given nothing else before it answers.
    given_up: bool,
}

/// Whether a wish may be carried out once its write has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is on the disk.
    Safely,
    /// The disk did not take it, for this reason.
    InMemoryOnly(String),
}

impl Keeping {
    /// Begins with what was read. Something is taken away only by the word of the last file that
    /// was written, whole: where this may be another, its `down` is forgotten at once, so that no
    /// later daemon finds it in a file that this one wrote. Gives notes for people.
    pub(super) fn begin(loaded: Loaded) -> (Self, Vec<Note>) {
        let (mut stored, may_write, on_trial, note) = match loaded {
            Loaded::Fine(stored) => (*stored, true, false, None),
            Loaded::Quarantined(aside, copy) => {
                let note = Note::StateDamaged {
                    aside,
                    copied: copy.is_some(),
                };
                (
                    copy.map(|copy| *copy).unwrap_or_default(),
                    true,
                    true,
                    Some(note),
                )
            }
            Loaded::Unreadable(why) => {
                let note = Note::StateUnreadable { why };
                (Stored::default(), false, true, Some(note))
            }
            Loaded::Newer(form, understood) => {
                let note = Note::StateNewer { form };
                (
                    understood.map(|stored| *stored).unwrap_or_default(),
                    false,
                    true,
                    Some(note),
                )
            }
        };
        let wish_on_disk = stored.wish;
        let written = (!on_trial).then(|| stored.clone());
        let mut notes: Vec<Note> = note.into_iter().collect();
        if on_trial && stored.is_going_down() {
            stored.wish = Wish::Rest;
            notes.push(Note::Unfinished);
        }
        let keeping = Self {
            stored,
            may_write,
            on_trial,
            waits_for_a_wish: on_trial,
            wish_on_disk,
            written,
            under_way: None,
            last_number: 0,
            failed: None,
        };
        (keeping, notes)
    }

    /// What is kept.
    pub(super) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Changes what is kept. It is written soon.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.stored);
    }

    /// Whether the state file may be written at all.
    pub(super) fn may_write(&self) -> bool {
        self.may_write
    }

    /// Whether what was read is still to be held against what runs. Asked once.
    pub(super) fn take_trial(&mut self) -> bool {
        std::mem::take(&mut self.on_trial)
    }

    /// What was read is what runs: it may be written back.
    pub(super) fn confirm(&mut self) {
        self.waits_for_a_wish = false;
    }

    /// Why the disk does not have what is kept, if it does not.
    pub(super) fn problem(&self) -> Option<&str> {
        self.failed.as_ref().map(|(why, _)| why.as_str())
    }

    /// Whether a daemon that comes later would take away what this wish leaves, because the file
    /// still says so.
    pub(super) fn takes_more_than(&self, wish: Wish) -> bool {
        matches!(self.wish_on_disk, Wish::Down { .. }) && self.wish_on_disk > wish
    }

    /// Begins to write what a wish would keep. `None` where nothing needs to be written, or can be.
    pub(super) fn write_wish(&mut self, candidate: Stored, now: Mono) -> Option<Effect> {
        let needed = self.written.as_ref() != Some(&candidate)
            || self.failed.is_some()
            || self.takes_more_than(candidate.wish);
        self.waits_for_a_wish = false;
        (self.may_write && needed).then(|| self.write(candidate, now))
    }

    /// Begins to write what changed meanwhile, unless a write is under way or has to wait.
    pub(super) fn write_changes(&mut self, now: Mono) -> Option<Effect> {
        let waits = self.failed.as_ref().is_some_and(|(_, at)| *at > now);
        let changed = self.written.as_ref() != Some(&self.stored);
        let may = self.may_write && !self.waits_for_a_wish && self.under_way.is_none();
        if !may || !changed || waits {
            return None;
        }
        Some(self.write(self.stored.clone(), now))
    }

    /// Gives the disk what it lacks before the daemon ends, behind what is under way. Nobody hears
    /// how that went.
    pub(super) fn write_at_the_end(&mut self, now: Mono) -> Option<Effect> {
        let under_way = self.under_way.as_ref().map(|write| &write.stored);
        let given = under_way.or(self.written.as_ref());
        let lacks = self.may_write && !self.waits_for_a_wish && given != Some(&self.stored);
        lacks.then(|| self.write(self.stored.clone(), now))
    }

    fn write(&mut self, stored: Stored, now: Mono) -> Effect {
        self.last_number += 1;
        self.under_way = Some(Write {
            number: self.last_number,
            stored: stored.clone(),
            give_up_at: now.after(SAVE_LIMIT),
            given_up: false,
        });
        Effect::Save {
            number: self.last_number,
            stored: Box::new(stored),
        }
    }

    /// Whether what is kept can be expected to be on the disk soon: the last write of it did not
    /// fail, nor does it hang.
    pub(super) fn is_well(&self) -> bool {
        self.may_write && !self.waits_for_a_wish && self.failed.is_none() && !self.is_stuck()
    }

    /// Whether the disk has what is kept, or does not take it.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_well() || self.written.as_ref() == Some(&self.stored)
    }

    /// What the disk is known to have.
    pub(super) fn on_disk(&self) -> Option<&Stored> {
        self.written.as_ref()
    }

    /// Whether the disk can be given something: nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Whether the disk was given something that it does not answer about any more.
    pub(super) fn is_stuck(&self) -> bool {
        self.under_way.as_ref().is_some_and(|write| write.given_up)
    }

    /// A write ended. Says what that means for who waits for it; `None` where nobody does.
    pub(super) fn on_saved(
        &mut self,
        number: u64,
        result: Result<(), String>,
        now: Mono,
    ) -> Option<Kept> {
        let write = self.under_way.take_if(|write| write.number == number)?;
        let kept = match result {
            Ok(()) => {
                (self.wish_on_disk, self.failed) = (write.stored.wish, None);
                self.written = Some(write.stored);
                Kept::Safely
            }
            Err(why) => self.fail(write.stored.wish, why, now),
        };
        (!write.given_up).then_some(kept)
    }

    /// A write takes too long: whoever waits for it is answered.
    pub(super) fn give_up_late_write(&mut self, now: Mono) -> Option<Kept> {
        let write = self.under_way.as_mut()?;
        if write.given_up || now < write.give_up_at {
            return None;
        }
        write.given_up = true;
        let wish = write.stored.wish;
        let why = format!("the disk gave no answer within {} s", SAVE_LIMIT.as_secs());
        Some(self.fail(wish, why, now))
    }

    /// A write that fails may have been made all the same.
    fn fail(&mut self, wish: Wish, why: String, now: Mono) -> Kept {
        self.written = None;
        self.wish_on_disk = self.wish_on_disk.max(wish);
        self.failed = Some((why.clone(), now.after(SAVE_RETRY)));
        Kept::InMemoryOnly(why)
    }

    /// When something here is due if nothing happens before.
    pub(super) fn due_at(&self) -> Option<Mono> {
        match &self.under_way {
            Some(write) if write.given_up => None,
            Some(write) => Some(write.give_up_at),
            None => self.failed.as_ref().map(|(_, at)| *at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn keeping(stored: Stored) -> Keeping {
        Keeping::begin(Loaded::Fine(Box::new(stored))).0
    }

    fn wishing(wish: Wish) -> Stored {
        Stored {
            wish,
            ..Stored::default()
        }
    }

    fn number_of(effect: Option<Effect>) -> u64 {
        match effect {
            Some(Effect::Save { number, .. }) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_down_that_only_the_copy_knows_is_written_by_nobody() {
        let down = wishing(Wish::Down { volumes: true });
        let (keeping, notes) = Keeping::begin(Loaded::Quarantined("x".into(), Some(down.into())));
        assert_eq!(keeping.stored().wish, Wish::Rest);
        assert!(notes.contains(&Note::Unfinished));
        assert!(
            keeping.takes_more_than(Wish::Up),
            "the file may still say it"
        );
    }

    #[test]
    fn what_the_file_takes_away_is_known_also_after_a_failed_write() {
        let mut keeping = keeping(wishing(Wish::Up));
        let number = number_of(keeping.write_wish(wishing(Wish::Down { volumes: false }), at(0)));
        keeping.on_saved(number, Err("full".into()), at(0)).unwrap();
        assert!(keeping.takes_more_than(Wish::Up));
        assert!(!keeping.takes_more_than(Wish::Down { volumes: false }));
        let number = number_of(keeping.write_wish(wishing(Wish::Up), at(1)));
        assert_eq!(keeping.on_saved(number, Ok(()), at(1)), Some(Kept::Safely));
        assert!(!keeping.takes_more_than(Wish::Up));
    }

    #[test]
    fn what_is_the_same_as_on_the_disk_is_not_written() {
        let mut keeping = keeping(wishing(Wish::Up));
        assert!(keeping.write_wish(wishing(Wish::Up), at(0)).is_none());
        keeping.edit(|stored| stored.wish = Wish::Up);
        assert!(keeping.write_changes(at(0)).is_none());
    }

    #[test]
    fn a_failed_write_is_made_again_and_an_older_success_does_not_hide_it() {
        let mut keeping = keeping(wishing(Wish::Up));
        keeping.edit(|stored| stored.demo.unprivileged = true);
        let first = number_of(keeping.write_changes(at(0)));
        keeping.edit(|stored| stored.wish = Wish::Rest);
        assert!(keeping.write_changes(at(0)).is_none(), "one at a time");
        keeping.on_saved(first, Ok(()), at(1)).unwrap();
        let second = number_of(keeping.write_changes(at(1)));
        keeping.on_saved(second, Err("full".into()), at(2)).unwrap();
        assert_eq!(keeping.problem(), Some("full"));
        assert!(keeping.write_changes(at(3)).is_none(), "not at once");
        assert_eq!(keeping.due_at(), Some(at(7)));
        let third = number_of(keeping.write_changes(at(7)));
        assert_eq!(keeping.on_saved(first, Ok(()), at(8)), None, "long past");
        keeping.on_saved(third, Ok(()), at(8)).unwrap();
        assert_eq!(keeping.problem(), None);
    }

    #[test]
    fn what_is_kept_is_settled_once_the_disk_has_it_or_does_not_take_it() {
        let mut keeping = keeping(wishing(Wish::Up));
        assert!(keeping.is_settled());
        keeping.edit(|stored| stored.wish = Wish::Rest);
        assert!(!keeping.is_settled());
        let number = number_of(keeping.write_changes(at(0)));
        assert!(!keeping.is_settled(), "it is under way");
        keeping.on_saved(number, Ok(()), at(1)).unwrap();
        assert!(keeping.is_settled());
        keeping.edit(|stored| stored.wish = Wish::Up);
        let number = number_of(keeping.write_changes(at(2)));
        keeping.on_saved(number, Err("full".into()), at(3)).unwrap();
        assert!(keeping.is_settled(), "nobody waits for a full disk");
    }

    #[test]
    fn what_the_disk_lacks_is_given_to_it_before_the_daemon_ends() {
        let mut keeping = keeping(wishing(Wish::Up));
        assert!(keeping.write_at_the_end(at(0)).is_none(), "it has it");
        keeping.edit(|stored| stored.demo.unprivileged = true);
        number_of(keeping.write_changes(at(0)));
        assert!(keeping.write_at_the_end(at(0)).is_none(), "it was given it");
        keeping.edit(|stored| stored.wish = Wish::Rest);
        let last = keeping.write_at_the_end(at(0));
        let is_whole = |effect: &Effect| {
            matches!(effect, Effect::Save { stored, .. }
                if stored.wish == Wish::Rest && stored.demo.unprivileged)
        };
        assert!(last.as_ref().is_some_and(is_whole), "{last:?}");
    }

    #[test]
    fn a_disk_that_hangs_keeps_nobody_waiting_and_gets_nothing_more() {
        let mut keeping = keeping(wishing(Wish::Up));
        let number = number_of(keeping.write_wish(wishing(Wish::Rest), at(0)));
        assert_eq!(keeping.give_up_late_write(at(9)), None);
        assert!(matches!(
            keeping.give_up_late_write(at(10)),
            Some(Kept::InMemoryOnly(_))
        ));
        assert!(keeping.is_stuck() && keeping.give_up_late_write(at(11)).is_none());
        keeping.edit(|stored| stored.demo.unprivileged = true);
        assert!(keeping.write_changes(at(60)).is_none());
        assert_eq!(keeping.on_saved(number, Ok(()), at(61)), None);
        assert!(keeping.write_changes(at(61)).is_some());
    }
}
