//! What the driver keeps: read once, written with every wish, and bound to one engine.

use std::path::PathBuf;

use super::admit;
use super::driver::Driver;
use super::event::Denied;
use super::keeper::Keeper;
use super::store;
use super::store::Stored;
use super::store::UNFINISHED;
use super::store::Wish;
use crate::engine::Endpoint;
use crate::reconcile::Goal;

/// How the note about a state file that cannot be written begins.
const NOTE: &str = "the state file cannot be written";

/// What a daemon begins with.
pub(super) struct Read {
    pub(super) stored: Stored,
    pub(super) keeper: Keeper,
    pub(super) may_write: bool,
    pub(super) on_trial: bool,
    pub(super) notes: Vec<String>,
}

/// Reads the state file. Something is taken away only by the word of the last file that was
/// written, whole: where this may be another, its `down` is forgotten at once, so that no later
/// daemon finds it in a file that this one wrote.
pub(super) fn read(path: PathBuf) -> Read {
    let (mut stored, may_write, on_trial, note) = match store::load(&path) {
        store::Loaded::Fine(stored) => (*stored, true, false, None),
        store::Loaded::Quarantined(aside, copy) => {
            let note = damaged(&aside, copy.is_some());
            (
                copy.map(|copy| *copy).unwrap_or_default(),
                true,
                true,
                Some(note),
            )
        }
        store::Loaded::Newer(form, understood) => {
            let note = format!(
                "the state file has form {form}, of a newer octo-local: nothing is written; use that version"
            );
            (
                understood.map(|stored| *stored).unwrap_or_default(),
                false,
                true,
                Some(note),
            )
        }
    };
    let keeper = Keeper::at(path, stored.wish);
    let mut notes: Vec<String> = note.into_iter().collect();
    if on_trial && stored.is_going_down() {
        stored.wish = Wish::Rest;
        notes.push(UNFINISHED.to_owned());
    }
    Read {
        stored,
        keeper,
        may_write,
        on_trial,
        notes,
    }
}

fn damaged(aside: &str, copied: bool) -> String {
    let then = if copied {
        "its copy counts"
    } else {
        "`octo-local up` applies the configuration anew"
    };
    format!("the state file was damaged and set aside as {aside}; {then}")
}

impl Driver {
    /// Writes the state file at once. A full or read-only disk costs durability, never supervision.
    pub(super) fn save(&mut self) {
        if self.may_write {
            let result = self
                .keeper
                .save(&self.stored)
                .map_err(|error| error.to_string());
            self.saved(result);
        }
    }

    /// The same beside the loop, for what a restart could find out again.
    pub(super) fn save_later(&mut self) {
        if self.may_write {
            self.keeper
                .save_later(self.stored.clone(), self.events.clone());
        }
    }

    pub(super) fn saved(&mut self, result: Result<(), String>) {
        self.notes.retain(|note| !note.starts_with(NOTE));
        self.unsaved = result.is_err();
        if let Err(error) = result {
            tracing::error!(error, "{NOTE}");
            self.notes.push(format!("{NOTE}: {error}"));
        }
    }

    /// What is wished from now on, also for a daemon that comes after this one. Refused where that
    /// one would take away what is wished, because the file says so and cannot be written.
    pub(super) fn keep(&mut self, stored: Stored) -> Result<(), Denied> {
        let wish = stored.wish;
        let before = std::mem::replace(&mut self.stored, stored);
        if self.stored != before || self.unsaved || self.keeper.takes_more_than(wish) {
            self.save();
        }
        if !self.keeper.takes_more_than(wish) {
            self.notes.retain(|note| note != UNFINISHED);
            return Ok(());
        }
        self.stored = before;
        let why = self
            .notes
            .iter()
            .find(|note| note.starts_with(NOTE))
            .map_or(NOTE, String::as_str);
        Err(Denied::Because(format!(
            "{why}; it says that a `down` goes on, so nothing else is begun"
        )))
    }

    /// Whoever asks means this engine, and what is applied is here too.
    pub(super) fn must_be_here(&self, asked: Option<&Endpoint>) -> Result<(), Denied> {
        let here = &self.endpoint;
        let problem = match asked.filter(|asked| !asked.is_same(here)) {
            Some(asked) => Some(admit::another_engine(&here.0, &asked.0)),
            None => self
                .stored
                .elsewhere(here)
                .map(|there| admit::moved(&there.0, &here.0)),
        };
        problem.map_or(Ok(()), |problem| Err(Denied::Problems(vec![problem])))
    }

    /// Why a wish that is kept is not carried out.
    pub(super) fn held_back(&self) -> Option<String> {
        self.stored
            .held_back(&self.endpoint)
            .filter(|_| self.state.desired.goal == Goal::Hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_down_that_only_the_copy_knows_is_written_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let down = Stored {
            wish: Wish::Down { volumes: true },
            ..Stored::default()
        };
        store::save(&path, &down).unwrap();
        assert_eq!(read(path.clone()).stored.wish, down.wish);
        std::fs::write(&path, "damaged").unwrap();
        let Read {
            stored,
            mut keeper,
            on_trial,
            notes,
            ..
        } = read(path.clone());
        assert!(on_trial && notes.iter().any(|note| note == UNFINISHED));
        keeper.save(&stored).unwrap();
        assert_eq!(
            read(path)
                .stored
                .goal(&Endpoint("unix:///nowhere".to_owned())),
            Goal::Hold
        );
    }
}
