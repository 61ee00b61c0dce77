//! A backup directory: its sets, the lock of the one run that writes, and what killed runs left.
//!
//! A set is written into a hidden directory and gets its name by one rename when all of it is
//! checked and on the disk, so half a set never has a set's name. A set that goes is renamed first
//! as well. Everything hidden is the work of the run that holds the lock, or of one that is dead.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::flock;
use sha2::Digest as _;

use super::manifest;
use super::manifest::BadManifest;
use super::manifest::Manifest;
use super::name;
use super::name::Place;
use super::name::SetName;
use super::part::hex;
use crate::config::project::ProjectName;

/// What `sha256sum -c` reads: every file of the set with its sum, the manifest's among them.
pub const SUMS: &str = "SHA256SUMS";
/// A line for each part and the manifest; what is larger is no such file.
const SUMS_LIMIT: u64 = 64 * 1024;

/// Why something in a backup directory could not be done.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refused.
    #[error("{what} {path}: {error}")]
    Io {
        /// `write`, `read`, `make`, `remove`.
        what: &'static str,
        /// What it was about.
        path: String,
        /// The system's words.
        #[source]
        error: io::Error,
    },
    /// Another run writes sets of this project.
    #[error("another backup of {project} is under way ({owner}); wait for it")]
    Busy {
        /// The project.
        project: ProjectName,
        /// Who, as it says itself.
        owner: String,
    },
    /// The name is taken.
    #[error("there is a backup {0} already; choose another name")]
    Taken(SetName),
    /// No such set.
    #[error(
        "there is no backup {name} in {directory}; `octo-local backup list` shows what is there"
    )]
    Absent {
        /// The name.
        name: SetName,
        /// Where it was looked for.
        directory: String,
    },
    /// It is one, and its manifest is bad.
    #[error("backup {name} cannot be used: {fault}")]
    Bad {
        /// The name.
        name: SetName,
        /// What is wrong.
        fault: BadManifest,
    },
}

fn io_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DirectoryError + 'a {
    move |error| DirectoryError::Io {
        what,
        path: path.display().to_string(),
        error,
    }
}

/// A backup directory.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

/// A set as the list shows it.
#[derive(Debug)]
pub struct Listed {
    /// Its directory's name.
    pub name: SetName,
    /// Its manifest, or what is wrong with it.
    pub manifest: Result<Manifest, BadManifest>,
    /// What is wrong with its files at first sight: missing, or of another size.
    pub faults: Vec<String>,
}

impl Listed {
    /// Whether nothing is wrong at first sight.
    pub fn is_whole(&self) -> bool {
        self.manifest.is_ok() && self.faults.is_empty()
    }
}

impl Directory {
    /// A directory, which need not be there yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All sets, newest first, and how many directories killed runs left. Directories without a
    /// manifest are somebody else's.
    pub fn list(&self) -> Result<(Vec<Listed>, usize), DirectoryError> {
        let mut sets = Vec::new();
        let mut leftovers = 0;
        for place in self.places()? {
            match place.1 {
                Place::Set(name) => sets.extend(self.listed(name)?),
                Place::Partial(_) | Place::Removed(_) => leftovers += 1,
                Place::Foreign => {}
            }
        }
        let made = |set: &Listed| {
            set.manifest
                .as_ref()
                .map_or(0, |manifest| manifest.began_ms)
        };
        sets.sort_by(|one, other| (made(other), &other.name).cmp(&(made(one), &one.name)));
        Ok((sets, leftovers))
    }

    /// Names of directories and what they are. A directory that is not there has none.
    fn places(&self) -> Result<Vec<(PathBuf, Place)>, DirectoryError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read", &self.path)(error)),
        };
        let mut places = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("read", &self.path))?;
            // A link is somebody else's, wherever it leads.
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(name) = entry.file_name().to_str().filter(|_| is_directory) {
                places.push((entry.path(), Place::of(name)));
            }
        }
        Ok(places)
    }

    fn listed(&self, name: SetName) -> Result<Option<Listed>, DirectoryError> {
        match self.manifest(&name) {
            Ok(manifest) => {
                let faults = self.faults_at_sight(&name, &manifest);
                Ok(Some(Listed {
                    name,
                    manifest: Ok(manifest),
                    faults,
                }))
            }
            Err(DirectoryError::Absent { .. }) => Ok(None),
            Err(DirectoryError::Bad { fault, .. }) => Ok(Some(Listed {
                name,
                manifest: Err(fault),
                faults: Vec::new(),
            })),
            // One set that cannot be read hides no other.
            Err(DirectoryError::Io { error, .. }) => {
                let manifest = Err(BadManifest::Damaged(error.to_string()));
                Ok(Some(Listed {
                    name,
                    manifest,
                    faults: Vec::new(),
                }))
            }
            Err(error) => Err(error),
        }
    }

    fn faults_at_sight(&self, name: &SetName, manifest: &Manifest) -> Vec<String> {
        let fault = |part: &manifest::Part| {
            let file = part.kind.file(&manifest.encryption);
            match self.path.join(name.as_str()).join(&file).symlink_metadata() {
                Ok(found) if !found.is_file() => Some(format!("{file} is no file")),
                Ok(found) if found.len() != part.stored_size => Some(format!(
                    "{file} has {} bytes, {} were written",
                    found.len(),
                    part.stored_size
                )),
                Ok(_) => None,
                Err(error) => Some(format!("{file}: {error}")),
            }
        };
        manifest.parts.iter().filter_map(fault).collect()
    }

    /// The manifest of a set, judged, and held against its sum.
    pub fn manifest(&self, name: &SetName) -> Result<Manifest, DirectoryError> {
        let directory = self.path.join(name.as_str());
        let path = directory.join(manifest::FILE);
        let bytes = match read_bounded(&path, manifest::LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.path.display().to_string();
                return Err(DirectoryError::Absent {
                    name: name.clone(),
                    directory,
                });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let bad = |fault| DirectoryError::Bad {
            name: name.clone(),
            fault,
        };
        let manifest = Manifest::parse(&bytes).map_err(bad)?;
        let sums = directory.join(SUMS);
        let sums = read_bounded(&sums, SUMS_LIMIT)
            .map_err(|error| bad(BadManifest::Damaged(format!("{SUMS}: {error}"))))?;
        let line = sum_line(&hex(&sha2::Sha256::digest(&bytes)), manifest::FILE);
        if !String::from_utf8_lossy(&sums).contains(&line) {
            let fault = format!("{} does not fit its sum in {SUMS}", manifest::FILE);
            return Err(bad(BadManifest::Damaged(fault)));
        }
        Ok(manifest)
    }

    /// Opens a part's file. A link is refused: it would lead out of the set.
    pub fn open(&self, name: &SetName, file: &str) -> io::Result<File> {
        let path = self.path.join(name.as_str()).join(file);
        let opened = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        if !opened.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(opened)
    }

    /// Bytes that are free for us where the directory is, or will be.
    pub fn free(&self) -> Result<u64, DirectoryError> {
        let mut there = self.path.as_path();
        while !there.exists() {
            match there.parent() {
                Some(parent) if parent != Path::new("") => there = parent,
                _ => break,
            }
        }
        let stat =
            rustix::fs::statvfs(there).map_err(|error| io_error("read", there)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes the directory, for its owner only, and takes the project's lock in it. While it is
    /// held nobody else writes sets of this project here.
    pub fn lock(&self, project: &ProjectName) -> Result<Locked, DirectoryError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(io_error("make", &self.path))?;
        let path = self.path.join(name::lock(project));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("write", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                let _ = file.take(100).read_to_string(&mut owner);
                let owner = owner
                    .chars()
                    .filter(|letter| !letter.is_control())
                    .collect();
                return Err(DirectoryError::Busy {
                    project: project.clone(),
                    owner,
                });
            }
            Err(error) => return Err(io_error("lock", &path)(error.into())),
        }
        let owner = format!("process {}", rustix::process::getpid());
        // Who holds it is told for people only: the kernel's lock is what counts.
        let _ = file.rewind();
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all(owner.as_bytes()));
        Ok(Locked {
            directory: self.clone(),
            project: project.clone(),
            lock: file,
        })
    }
}

fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn sum_line(sum: &str, file: &str) -> String {
    format!("{sum}  {file}\n")
}

/// A backup directory with the lock of one project.
#[derive(Debug)]
pub struct Locked {
    directory: Directory,
    project: ProjectName,
    lock: File,
}

impl Drop for Locked {
    /// In so many words: a program that is just being started has a copy of the open file until it
    /// runs, which would hold the lock for that long.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Locked {
    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Removes what killed runs of this project left, and gives how many there were.
    pub fn sweep(&self) -> Result<usize, DirectoryError> {
        let mut count = 0;
        for (path, place) in self.directory.places()? {
            if place.is_leftover_of(&self.project) {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Begins a set.
    pub fn begin(&self, name: SetName) -> Result<Draft<'_>, DirectoryError> {
        if self
            .directory
            .path
            .join(name.as_str())
            .symlink_metadata()
            .is_ok()
        {
            return Err(DirectoryError::Taken(name));
        }
        let path = self
            .directory
            .path
            .join(name::partial(&self.project, &name));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(io_error("make", &path))?;
        Ok(Draft {
            locked: self,
            name,
            path,
        })
    }

    /// Removes a set of this project; one of another is left alone, as if it were not there.
    pub fn remove(&self, name: &SetName) -> Result<(), DirectoryError> {
        if self.directory.manifest(name)?.project != self.project {
            let directory = self.directory.path.display().to_string();
            return Err(DirectoryError::Absent {
                name: name.clone(),
                directory,
            });
        }
        let from = self.directory.path.join(name.as_str());
        let to = self.directory.path.join(name::removed(&self.project, name));
        fs::rename(&from, &to).map_err(io_error("remove", &from))?;
        sync(&self.directory.path)?;
        fs::remove_dir_all(&to).map_err(io_error("remove", &to))
    }
}

/// A set that is being written. Dropped before its end it takes itself away.
#[derive(Debug)]
pub struct Draft<'a> {
    locked: &'a Locked,
    name: SetName,
    path: PathBuf,
}

impl Draft<'_> {
    /// The name that it will have.
    pub fn name(&self) -> &SetName {
        &self.name
    }

    /// Makes a file of it, for its owner only.
    pub fn create(&self, file: &str) -> Result<File, DirectoryError> {
        let path = self.path.join(file);
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("write", &path))
    }

    /// Writes the manifest and the sums, and gives the set its name. When this returns, it is whole
    /// and on the disk.
    pub fn commit(self, manifest: &Manifest) -> Result<(), DirectoryError> {
        let text = manifest.to_text();
        let mut sums: String = manifest
            .parts
            .iter()
            .map(|part| sum_line(&part.stored_sha256, &part.kind.file(&manifest.encryption)))
            .collect();
        sums += &sum_line(&hex(&sha2::Sha256::digest(text.as_bytes())), manifest::FILE);
        for (file, content) in [(manifest::FILE, text), (SUMS, sums)] {
            let path = self.path.join(file);
            let mut opened = self.create(file)?;
            opened
                .write_all(content.as_bytes())
                .and_then(|()| opened.sync_all())
                .map_err(io_error("write", &path))?;
        }
        sync(&self.path)?;
        let whole = self.locked.directory.path.join(self.name.as_str());
        if whole.symlink_metadata().is_ok() {
            return Err(DirectoryError::Taken(self.name.clone()));
        }
        fs::rename(&self.path, &whole).map_err(io_error("write", &whole))?;
        sync(&self.locked.directory.path)?;
        // Dropping the draft finds nothing under its hidden name any more.
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sync(directory: &Path) -> Result<(), DirectoryError> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(io_error("write", directory))
}

#[cfg(test)]
mod tests;
