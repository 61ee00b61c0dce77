//! Writes the state file, at once or beside the loop: a disk may take long to say that it has something. An older state never
//! replaces a newer one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::event::Event;
use super::store;
use super::store::Stored;

/// The way to the state file.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// Counts what was given to be written.
    given: u64,
    /// The newest that was written.
    written: Arc<Mutex<u64>>,
}

impl Keeper {
    /// Keeps in this file.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, given: 0, written: Arc::default() }
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
            let writing = tokio::task::spawn_blocking(move || write(&path, number, &written, &stored));
            let result = writing.await.unwrap_or_else(|_| Err(std::io::Error::other("a bug of octo-local's")));
            let _ = events.send(Event::Saved(result.map_err(|error| error.to_string()))).await;
        });
    }
}

fn write(path: &std::path::Path, number: u64, written: &Mutex<u64>, stored: &Stored) -> std::io::Result<()> {
    let mut newest = written.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *newest > number {
        return Ok(());
    }
    store::save(path, stored)?;
    *newest = number;
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
        let mut keeper = Keeper::at(path.clone());
        keeper.save_later(Stored::default(), events);
        keeper.save(&Stored { up: true, ..Stored::default() }).unwrap();
        assert!(matches!(told.recv().await, Some(Event::Saved(Ok(())))));
        assert!(store::read(&path).unwrap().up);
    }
}
