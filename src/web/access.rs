//! The access log, and the bounded file that it is written to. A thread of its own writes: a full
//! or slow disk costs lines, never a request.

use std::fs::File;
use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The size from which the file is set aside: this newer part and one older are kept.
const LIMIT: u64 = 8 * 1024 * 1024;
/// Lines that wait for the disk; more are lost.
const WAITING: usize = 1024;
/// The longest path that is written.
const LONGEST_PATH: usize = 512;

/// Where requests are written, if anywhere.
#[derive(Debug, Default)]
pub(super) struct Access(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: Option<SyncSender<String>>,
    failure: Option<String>,
}

/// One answered request. Of its target only the path: queries carry tokens.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) peer: IpAddr,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) node: String,
}

impl Access {
    /// Writes to this file from now on.
    pub(super) fn to(&self, path: Option<&Path>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner::default();
        let Some(path) = path else { return };
        match BoundedFile::open(path, LIMIT).and_then(start) {
            Ok(lines) => inner.lines = Some(lines),
            Err(error) => inner.failure = Some(format!("{}: {error}", path.display())),
        }
    }

    /// Why there is none, if one is wished.
    pub(super) fn failure(&self) -> Option<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.failure.clone()
    }

    /// Whether lines are written at all.
    pub(super) fn is_on(&self) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.lines.is_some()
    }

    pub(super) fn write(&self, line: &Line) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &inner.lines {
            let _ = lines.try_send(line.text(OffsetDateTime::now_utc()));
        }
    }
}

fn start(mut file: BoundedFile) -> io::Result<SyncSender<String>> {
    let (sender, lines) = sync_channel::<String>(WAITING);
    std::thread::Builder::new()
        .name("access log".to_owned())
        .spawn(move || {
            for line in lines {
                let _ = file.write_all(line.as_bytes());
            }
        })?;
    Ok(sender)
}

impl Line {
    fn text(&self, now: OffsetDateTime) -> String {
        let path: String = self.path.chars().take(LONGEST_PATH).collect();
        let node = if self.node.is_empty() {
            "-"
        } else {
            &self.node
        };
        format!(
            "{} {} {} {path} {} {} {:.1}ms {node}\n",
            now.format(&Rfc3339).unwrap_or_default(),
            self.peer,
            self.method,
            self.status,
            self.bytes,
            self.took.as_secs_f64() * 1000.0,
        )
    }
}

/// A file that is set aside when it grew too large, so that it and its predecessor are bounded.
#[derive(Debug)]
pub(super) struct BoundedFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl BoundedFile {
    /// Opens for appending, 0600.
    pub(super) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            path: path.to_owned(),
            size: file.metadata()?.len(),
            file,
            limit,
        })
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        std::fs::rename(&self.path, older)?;
        *self = Self::open(&self.path, self.limit)?;
        Ok(())
    }
}

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size >= self.limit && self.set_aside().is_err() {
            // A directory that may not be written to: what is there is cut, so that it is bounded.
            self.file.set_len(0)?;
            self.size = 0;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_its_predecessor_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = BoundedFile::open(&path, 100).unwrap();
        for _ in 0..50 {
            file.write_all(b"0123456789\n").unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) <= 111 && size(&dir.path().join("access.log.1")) <= 111);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told() {
        let access = Access::default();
        access.to(Some(Path::new("/nowhere/at/all")));
        assert!(access.failure().unwrap().starts_with("/nowhere/at/all: "));
        assert!(!access.is_on());
        access.to(None);
        assert_eq!(access.failure(), None);
    }
}
