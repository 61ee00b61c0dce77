//! The history of what the daemon saw and did: one JSON object a line, in a bounded file that
//! outlives the daemon.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::paths;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since 1970, by the wall clock: for people, never for decisions.
    pub at_ms: u64,
    /// The unit or thing it is about; empty for the daemon itself.
    pub subject: String,
    /// What happened, as one phrase.
    pub what: String,
}

/// How many entries may wait for the disk. A storm of them is thinned rather than waited for.
const WAITING: usize = 1024;

/// The open history. Entries are written beside whoever tells them: a disk may take long.
#[derive(Debug)]
pub struct Journal {
    entries: SyncSender<Entry>,
    written: Receiver<()>,
}

impl Journal {
    /// Opens the history at this path.
    pub fn at(path: PathBuf) -> Self {
        let (entries, inbox) = sync_channel(WAITING);
        let (done, written) = sync_channel(1);
        std::thread::spawn(move || {
            for entry in inbox {
                // A full or read-only disk costs the entry, never the daemon.
                if let Err(error) = append(&path, &entry) {
                    tracing::debug!(%error, "an event was not kept");
                }
            }
            let _ = done.send(());
        });
        Self { entries, written }
    }

    /// Nothing is written down.
    pub fn nowhere() -> Self {
        let ((entries, _), (_, written)) = (sync_channel(0), sync_channel(0));
        Self { entries, written }
    }

    /// Writes one entry soon.
    pub fn write(&self, subject: &str, what: &str) {
        let entry = Entry {
            at_ms: now_ms(),
            subject: subject.to_owned(),
            what: what.to_owned(),
        };
        if self.entries.try_send(entry).is_err() {
            tracing::debug!("an event was not kept: the disk is too slow");
        }
    }

    /// Waits until everything is written, but no longer than this.
    pub fn close(self, limit: Duration) {
        drop(self.entries);
        let _ = self.written.recv_timeout(limit);
    }
}

fn append(path: &Path, entry: &Entry) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > paths::LOG_LIMIT) {
        std::fs::rename(path, paths::older(path))?;
    }
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
