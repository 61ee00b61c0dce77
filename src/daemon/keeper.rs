//! Writes the state file, at once or beside the loop: a disk may take long to say that it has
//! something. An older state never replaces a newer one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::event::Event;
use super::store;
use super::store::Stored;
use super::store::Wish;

/// The way to the state file.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// Counts what was given to be written.
    given: u64,
    written: Arc<Mutex<Written>>,
}

/// What is on the disk.
#[derive(Debug, Default)]
struct Written {
    /// The newest that was written.
    number: u64,
    /// What the file wishes; where a write failed, whichever takes more away.
    wish: Wish,
}

impl Keeper {
    /// Keeps in this file, which wishes this so far.
    pub(super) fn at(path: PathBuf, wish: Wish) -> Self {
        Self {
            path,
            given: 0,
            written: Arc::new(Mutex::new(Written { number: 0, wish })),
        }
    }

    /// Whether a daemon that comes later would take away what this wish leaves, because the file
    /// still says so.
    pub(super) fn takes_more_than(&self, wish: Wish) -> bool {
        let written = self
            .written
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        matches!(written.wish, Wish::Down { .. }) && written.wish > wish
    }

    /// Writes at once: what comes after must be able to rely on it.
    pub(super) fn save(&mut self, stored: &Stored) -> std::io::Result<()> {
        self.given += 1;
        write(&self.path, self.given, &self.written, stored)
    }

    /// Writes beside the loop, which is told how it went.
    pub(super) fn save_later(&mut self, stored: Stored, events: mpsc::Sender<Event>) {
        self.given += 1;
        let (path, number, written) = (self.path.clone(), self.given, self.written.clone());
        tokio::spawn(async move {
            let writing =
                tokio::task::spawn_blocking(move || write(&path, number, &written, &stored));
            let result = writing
                .await
                .unwrap_or_else(|_| Err(std::io::Error::other("a bug of octo-local's")));
            let _ = events
                .send(Event::Saved(result.map_err(|error| error.to_string())))
                .await;
        });
    }
}

fn write(
    path: &std::path::Path,
    number: u64,
    written: &Mutex<Written>,
    stored: &Stored,
) -> std::io::Result<()> {
    let mut written = written
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if written.number > number {
        return Ok(());
    }
    // A write that fails may have been made all the same.
    written.wish = written.wish.max(stored.wish);
    store::save(path, stored)?;
    *written = Written {
        number,
        wish: stored.wish,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_older_state_never_replaces_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (events, mut told) = mpsc::channel(1);
        let mut keeper = Keeper::at(path.clone(), Wish::Rest);
        keeper.save_later(Stored::default(), events);
        keeper
            .save(&Stored {
                wish: Wish::Up,
                ..Stored::default()
            })
            .unwrap();
        assert!(matches!(told.recv().await, Some(Event::Saved(Ok(())))));
        assert_eq!(store::read(&path).unwrap().wish, Wish::Up);
    }

    #[test]
    fn what_the_file_takes_away_is_known_also_after_a_failed_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone").join("state.json");
        let mut keeper = Keeper::at(path.clone(), Wish::Rest);
        let down = |volumes| Stored {
            wish: Wish::Down { volumes },
            ..Stored::default()
        };
        assert!(!keeper.takes_more_than(Wish::Up));
        keeper.save(&down(false)).unwrap_err();
        assert!(
            keeper.takes_more_than(Wish::Up)
                && !keeper.takes_more_than(Wish::Down { volumes: false })
        );
        std::fs::create_dir(dir.path().join("gone")).unwrap();
        keeper.save(&down(true)).unwrap();
        assert!(keeper.takes_more_than(Wish::Down { volumes: false }));
        keeper
            .save(&Stored {
                wish: Wish::Up,
                ..Stored::default()
            })
            .unwrap();
        assert!(!keeper.takes_more_than(Wish::Up));
    }
}
