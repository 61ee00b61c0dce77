//! Writes the state file beside the daemon's loop, in the order in which the core asks for it.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::store;
use super::store::Loaded;
use super::store::Stored;

/// Where the state is kept: a disk, or what the simulation has in its place.
pub trait StateDisk: Send + 'static {
    /// Reads what was kept last.
    fn load(&mut self) -> Loaded;

    /// Keeps this from now on, also when the power goes, or says why it does not.
    fn save(&mut self, stored: &Stored) -> std::io::Result<()>;
}

/// The state file on a real disk.
#[derive(Debug)]
pub struct StateFile(pub PathBuf);

impl StateDisk for StateFile {
    fn load(&mut self) -> Loaded {
        store::load(&self.0)
    }

    fn save(&mut self, stored: &Stored) -> std::io::Result<()> {
        store::save(&self.0, stored)
    }
}

/// The thread that writes. The core has one write under way at a time, so nothing piles up here.
#[derive(Debug)]
pub(super) struct StateWriter {
    writes: Sender<(u64, Box<Stored>)>,
    ended: Receiver<()>,
}

impl StateWriter {
    /// Begins to write to this disk, and tells how each write went.
    pub(super) fn begin(
        mut disk: impl StateDisk,
        tell: impl Fn(u64, Result<(), String>) + Send + 'static,
    ) -> Self {
        let (writes, inbox) = channel::<(u64, Box<Stored>)>();
        let (done, ended) = channel();
        std::thread::spawn(move || {
            for (number, stored) in inbox {
                let result = disk.save(&stored).map_err(|error| error.to_string());
                tell(number, result);
            }
            let _ = done.send(());
        });
        Self { writes, ended }
    }

    /// What is to be kept is not.
    pub(super) fn nowhere() -> Self {
        let ((writes, _), (_, ended)) = (channel(), channel());
        Self { writes, ended }
    }

    /// Writes this after what was asked for before.
    pub(super) fn write(&self, number: u64, stored: Box<Stored>) {
        let _ = self.writes.send((number, stored));
    }

    /// Waits until everything is written, but no longer than this.
    pub(super) fn close(self, limit: Duration) {
        drop(self.writes);
        let _ = self.ended.recv_timeout(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::store::Wish;

    #[test]
    fn writes_are_made_in_order_and_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (told, answers) = channel();
        let writer = StateWriter::begin(StateFile(path.clone()), move |number, result| {
            let _ = told.send((number, result));
        });
        for (number, wish) in [(1, Wish::Rest), (2, Wish::Up)] {
            let stored = Stored {
                wish,
                ..Stored::default()
            };
            writer.write(number, Box::new(stored));
        }
        writer.close(Duration::from_secs(30));
        let answers: Vec<_> = answers.iter().collect();
        assert_eq!(answers, [(1, Ok(())), (2, Ok(()))]);
        assert_eq!(store::read(&path).unwrap().wish, Wish::Up);
    }

    #[test]
    fn a_disk_that_does_not_take_it_says_why() {
        let (told, answers) = channel();
        let nowhere = StateFile(PathBuf::from("/nowhere/at/all/state.json"));
        let writer = StateWriter::begin(nowhere, move |number, result| {
            let _ = told.send((number, result));
        });
        writer.write(7, Box::default());
        writer.close(Duration::from_secs(30));
        let (number, result) = answers.recv().unwrap();
        assert!(number == 7 && result.unwrap_err().contains("No such file"));
    }
}
