//! The access log, and the bounded file that it is written to. A thread of its own writes: a full
//! or slow disk costs lines, never a request.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The size from which the file is set aside: this newer part and one older are kept.
const LIMIT: u64 = 8 * 1024 * 1024;
/// Lines that wait for the disk; more are lost.
const WAITING: usize = 1024;
/// The longest path that is written.
const LONGEST_PATH: usize = 512;

/// Where requests are written, if they are.
#[derive(Debug, Default)]
pub(super) struct Access {
    place: Option<Place>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether requests are to be written.
    wished: bool,
    /// Whether the process is who it stays: files that are made before would be another user's.
    may_open: bool,
    lines: Option<SyncSender<String>>,
    failure: Option<String>,
}

/// One answered request. Of its target only the path: queries carry tokens.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) client: IpAddr,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) node: String,
}

impl Access {
    /// To be written to this place, once it is wished.
    pub(super) fn at(place: Option<Place>) -> Self {
        Self {
            place,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files may be opened from now on.
    pub(super) fn begin(&self) {
        let mut inner = self.inner();
        inner.may_open = true;
        self.open(&mut inner);
    }

    /// Whether requests are to be written from now on.
    pub(super) fn wish(&self, wished: bool) {
        let mut inner = self.inner();
        if inner.wished != wished {
            inner.wished = wished;
            self.open(&mut inner);
        }
    }

    fn open(&self, inner: &mut Inner) {
        (inner.lines, inner.failure) = (None, None);
        if !inner.wished || !inner.may_open {
            return;
        }
        let opened = match &self.place {
            Some(place) => place
                .try_clone()
                .and_then(|place| BoundedFile::open(place, LIMIT))
                .and_then(start)
                .map_err(|error| format!("{}: {error}", place.shown.display())),
            None => Err("it was started without a place for one".to_owned()),
        };
        match opened {
            Ok(lines) => inner.lines = Some(lines),
            Err(why) => inner.failure = Some(why),
        }
    }

    /// Why there is none, if one is wished.
    pub(super) fn failure(&self) -> Option<String> {
        self.inner().failure.clone()
    }

    /// Whether lines are written at all.
    pub(super) fn is_on(&self) -> bool {
        self.inner().lines.is_some()
    }

    pub(super) fn write(&self, line: &Line) {
        if let Some(lines) = &self.inner().lines {
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
            self.client,
            self.method,
            self.status,
            self.bytes,
            self.took.as_secs_f64() * 1000.0,
        )
    }
}

/// Where a file is.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory; none where the name is a path.
    dir: Option<OwnedFd>,
    name: OsString,
    /// The path, for people.
    shown: PathBuf,
}

impl Place {
    /// A path, which a process that gave its rights up may not be able to walk any more: then what
    /// is open is cut in the place of being set aside.
    pub(super) fn by_path(path: &Path) -> Self {
        Self {
            dir: None,
            name: path.to_owned().into(),
            shown: path.to_owned(),
        }
    }

    /// A name in a directory, which must be there and stays open: in it a process that gave its
    /// rights up still makes and renames its files.
    pub(super) fn in_directory(path: &Path) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Self {
            dir: Some(rustix::fs::open(dir, flags, Mode::empty())?),
            name: name.to_owned(),
            shown: path.to_owned(),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            dir: self.dir.as_ref().map(OwnedFd::try_clone).transpose()?,
            name: self.name.clone(),
            shown: self.shown.clone(),
        })
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd)
    }

    /// Opens for appending, 0600. A link is not followed: who may write there is no one's guide.
    fn open(&self) -> io::Result<File> {
        let flags = OFlags::APPEND | OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(self.dir(), &self.name, flags, mode)?.into())
    }

    fn set_aside(&self) -> io::Result<()> {
        let mut older = self.name.clone();
        older.push(".1");
        Ok(rustix::fs::renameat(
            self.dir(),
            &self.name,
            self.dir(),
            older,
        )?)
    }
}

/// A file that is set aside when it grew too large, so that it and its predecessor are bounded.
#[derive(Debug)]
pub(super) struct BoundedFile {
    place: Place,
    file: File,
    size: u64,
    limit: u64,
}

impl BoundedFile {
    /// Opens for appending.
    pub(super) fn open(place: Place, limit: u64) -> io::Result<Self> {
        let file = place.open()?;
        Ok(Self {
            size: file.metadata()?.len(),
            place,
            file,
            limit,
        })
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.place.set_aside()?;
        self.file = self.place.open()?;
        self.size = self.file.metadata()?.len();
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
        let mut file = BoundedFile::open(Place::by_path(&path), 100).unwrap();
        for _ in 0..50 {
            file.write_all(b"0123456789\n").unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) <= 111 && size(&dir.path().join("access.log.1")) <= 111);
    }

    #[test]
    fn it_is_opened_once_it_may_be_and_why_there_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let access = Access::at(Some(Place::in_directory(&path).unwrap()));
        access.wish(true);
        assert!(!access.is_on() && !path.exists(), "not before it may be");
        access.begin();
        assert!(access.is_on() && path.exists());
        access.wish(false);
        std::fs::remove_file(&path).unwrap();
        // Whoever may write there must not choose another file of the system for us.
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        access.wish(true);
        assert!(!access.is_on());
        let told = access.failure().unwrap();
        assert!(told.starts_with(&format!("{}: ", path.display())), "{told}");
        access.wish(false);
        assert_eq!(access.failure(), None);
        let without = Access::at(None);
        without.begin();
        without.wish(true);
        assert!(without.failure().is_some());
    }
}
