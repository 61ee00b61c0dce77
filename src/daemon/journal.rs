//! The history of what the daemon saw and did: one JSON object a line, in a bounded file that
//! outlives the daemon.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

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

/// The open history.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// Opens the history at this path.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes one entry. A full or read-only disk costs the entry, never the daemon.
    pub fn write(&self, subject: &str, what: &str) {
        let entry = Entry {
            at_ms: now_ms(),
            subject: subject.to_owned(),
            what: what.to_owned(),
        };
        if let Err(error) = self.append(&entry) {
            tracing::debug!(%error, "an event was not kept");
        }
    }

    fn append(&self, entry: &Entry) -> std::io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.len() > paths::LOG_LIMIT) {
            std::fs::rename(&self.path, paths::older(&self.path))?;
        }
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
