//! A directory of this host as a tar stream, and back, with what the engine's own archives keep:
//! owners by number, modes, times, links, pipes and devices; no sockets.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::OsStr;
use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::io::Errno;
use tar::EntryType;
use tar::GnuHeader;
use tar::Header;

/// Reads and writes are of this size.
const BUFFER: usize = 128 * 1024;

/// Writes all that is in a directory, under `./`. Gives how many entries there are.
///
/// It may change meanwhile: what is gone when its turn comes is left out, what grows is written as
/// long as it was; what became shorter ends this, since nobody knows what it is then. No link is
/// followed.
pub(super) fn write(directory: &File, out: impl Write) -> io::Result<u64> {
    let mut tar = tar::Builder::new(out);
    tar.sparse(false);
    let mut walk = Walk {
        tar,
        known: HashMap::new(),
        entries: 0,
    };
    let root = rustix::fs::fstat(directory)?;
    walk.put(Path::new("."), &root, EntryType::Directory)?;
    walk.content(directory, Path::new("."))?;
    walk.tar.into_inner()?.flush()?;
    Ok(walk.entries)
}

struct Walk<Out: Write> {
    tar: tar::Builder<Out>,
    /// The first path of each file that has several, by device and number.
    known: HashMap<(u64, u64), PathBuf>,
    entries: u64,
}

impl<Out: Write> Walk<Out> {
    fn content(&mut self, directory: &File, path: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        for name in &names {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(directory, name, &path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    fn entry(&mut self, directory: &File, name: &CStr, path: &Path) -> io::Result<()> {
        let Some(stat) = unless_gone(rustix::fs::statat(
            directory,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        ))?
        else {
            return Ok(());
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let Some(inside) = open(directory, name, OFlags::DIRECTORY)? else {
                    return Ok(());
                };
                self.put(path, &stat, EntryType::Directory)?;
                self.content(&inside, path)
            }
            FileType::RegularFile => self.file(directory, name, path, &stat),
            FileType::Symlink => {
                let Some(target) =
                    unless_gone(rustix::fs::readlinkat(directory, name, Vec::new()))?
                else {
                    return Ok(());
                };
                self.link(
                    path,
                    &stat,
                    EntryType::Symlink,
                    Path::new(OsStr::from_bytes(target.to_bytes())),
                )
            }
            FileType::Fifo => self.put(path, &stat, EntryType::Fifo),
            FileType::CharacterDevice => self.put(path, &stat, EntryType::Char),
            FileType::BlockDevice => self.put(path, &stat, EntryType::Block),
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn file(&mut self, directory: &File, name: &CStr, path: &Path, stat: &Stat) -> io::Result<()> {
        let id = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.known.get(&id).cloned() {
            return self.link(path, stat, EntryType::Link, &first);
        }
        let Some(file) = open(directory, name, OFlags::NONBLOCK)? else {
            return Ok(());
        };
        // Another file may have taken its name.
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let mut header = header(&stat, EntryType::Regular);
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        header.set_size(size);
        let most = usize::try_from(size).map_or(BUFFER, |size| size.clamp(1, BUFFER));
        let content = BufReader::with_capacity(most, Exactly { file, left: size });
        self.append(header, path, None, content)?;
        // Only what is in the archive can be linked to.
        if stat.st_nlink > 1 {
            self.known
                .insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, stat: &Stat, kind: EntryType, target: &Path) -> io::Result<()> {
        self.append(header(stat, kind), path, Some(target), io::empty())
    }

    fn put(&mut self, path: &Path, stat: &Stat, kind: EntryType) -> io::Result<()> {
        let mut header = header(stat, kind);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(rustix::fs::major(stat.st_rdev))?;
            header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
        }
        self.append(header, path, None, io::empty())
    }

    /// The names are written as they are: the library's own methods take the `./` off that the
    /// engine's archives have.
    fn append(
        &mut self,
        mut header: Header,
        path: &Path,
        target: Option<&Path>,
        content: impl Read,
    ) -> io::Result<()> {
        self.entries += 1;
        let mut name = path.as_os_str().as_bytes().to_vec();
        if header.entry_type() == EntryType::Directory {
            name.push(b'/');
        }
        let target = target.map_or(&[][..], |target| target.as_os_str().as_bytes());
        for (kind, text) in [
            (EntryType::GNULongLink, target),
            (EntryType::GNULongName, &name),
        ] {
            if text.len() > SHORT {
                let mut before = Header::new_gnu();
                before.set_entry_type(kind);
                before.set_size(text.len() as u64 + 1);
                fields(&mut before).name[..LONG.len()].copy_from_slice(LONG);
                before.set_cksum();
                self.tar.append(&before, text.chain(&[0][..]))?;
            }
        }
        let (short, target) = (
            &name[..name.len().min(SHORT)],
            &target[..target.len().min(SHORT)],
        );
        let fields = fields(&mut header);
        fields.name[..short.len()].copy_from_slice(short);
        fields.linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        self.tar.append(&header, content)
    }
}

/// A header has so much room for a name; a longer one goes before it (GNU tar, `tar.h`).
const SHORT: usize = 100;
/// What such an entry is called.
const LONG: &[u8] = b"././@LongLink";

fn fields(header: &mut Header) -> &mut GnuHeader {
    header.as_gnu_mut().expect("it was made as GNU's")
}

/// None where it is gone.
fn unless_gone<T>(found: Result<T, Errno>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// None where it is gone, or is a link by now.
fn open(directory: &File, name: &CStr, how: OFlags) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened.into())),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    // With the bits of the kind, as the engine writes it.
    header.set_mode(stat.st_mode);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header
}

/// As many bytes of a file as its header promised.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            let why = "it became shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Why an archive was not laid down in a directory.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// It has something that only the engine makes: a pipe or a device.
    #[error("{0} is neither a file nor a directory nor a link")]
    Unfit(PathBuf),
    /// It cannot be read, or cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Lays a tar stream down in a directory that nobody else uses. What is in the way is replaced,
/// and nothing is written outside: the kernel follows no link and no `..` on the way to an entry.
pub(super) fn unpack(directory: &File, tar: impl Read) -> Result<(), UnpackError> {
    let mut archive = tar::Archive::new(tar);
    let mut buffer = vec![0; BUFFER];
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let laid = match entry.header().entry_type() {
            EntryType::Directory => {
                directories.push((path.clone(), entry.header().clone()));
                make_directory(directory, &path)
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                return Err(UnpackError::Unfit(path));
            }
            EntryType::Symlink | EntryType::Link => link(directory, &path, &entry),
            _ => file(directory, &path, &mut entry, &mut buffer),
        };
        laid.map_err(|error| named(&error, &path))?;
    }
    // Their times and modes last: what comes into them changes those.
    directories.sort_by(|(one, _), (other, _)| other.cmp(one));
    for (path, header) in directories {
        let settled = beneath(directory, &path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|directory| settle(&directory, &header));
        settled.map_err(|error| named(&error, &path))?;
    }
    Ok(())
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens what is below a directory, through no link.
fn beneath(directory: &File, path: &Path, how: OFlags) -> io::Result<File> {
    let how = how | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = if how.contains(OFlags::CREATE) {
        Mode::RUSR | Mode::WUSR
    } else {
        Mode::empty()
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(directory, path, how, mode, resolve)?.into())
}

/// The directory that an entry is made in, and its name there. What is in its way goes.
fn place<'a>(directory: &File, path: &'a Path) -> io::Result<(File, &'a OsStr)> {
    let name = path.file_name();
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = beneath(
        directory,
        parent.unwrap_or(Path::new(".")),
        OFlags::PATH | OFlags::DIRECTORY,
    )?;
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok((parent, name)),
        Err(error) => Err(error.into()),
    }
}

/// One that is there already stays.
fn make_directory(directory: &File, path: &Path) -> io::Result<()> {
    if beneath(directory, path, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
        return Ok(());
    }
    let (parent, name) = place(directory, path)?;
    Ok(rustix::fs::mkdirat(&parent, name, Mode::RWXU)?)
}

fn link<R: Read>(directory: &File, path: &Path, entry: &tar::Entry<'_, R>) -> io::Result<()> {
    let target = entry.link_name()?;
    let target = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let (parent, name) = place(directory, path)?;
    if entry.header().entry_type() == EntryType::Symlink {
        rustix::fs::symlinkat(target.as_ref(), &parent, name)?;
        let (owner, group) = owners(entry.header())?;
        rustix::fs::chownat(
            &parent,
            name,
            Some(owner),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        let changed = Timespec {
            tv_sec: changed_of(entry.header())?,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: changed,
            last_modification: changed,
        };
        return Ok(rustix::fs::utimensat(
            &parent,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?);
    }
    let (from, other) = {
        let whole: &Path = target.as_ref();
        let up = whole.parent().filter(|up| !up.as_os_str().is_empty());
        let other = whole.file_name();
        let other = other.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
        let up = up.unwrap_or(Path::new("."));
        (
            beneath(directory, up, OFlags::PATH | OFlags::DIRECTORY)?,
            other.to_owned(),
        )
    };
    Ok(rustix::fs::linkat(
        &from,
        other,
        &parent,
        name,
        AtFlags::empty(),
    )?)
}

fn file<R: Read>(
    directory: &File,
    path: &Path,
    entry: &mut tar::Entry<'_, R>,
    buffer: &mut [u8],
) -> io::Result<()> {
    let (parent, name) = place(directory, path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut file = beneath(&parent, Path::new(name), flags)?;
    loop {
        match entry.read(buffer) {
            Ok(0) => break,
            Ok(read) => file.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    settle(&file, entry.header())
}

/// Gives what is complete its owner, its mode and its time, in the order in which one does not undo
/// the other.
fn settle(file: &File, header: &Header) -> io::Result<()> {
    let (owner, group) = owners(header)?;
    rustix::fs::fchown(file, Some(owner), Some(group))?;
    file.set_permissions(Permissions::from_mode(header.mode()? & 0o7777))?;
    let changed = u64::try_from(changed_of(header)?).unwrap_or_default();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(changed))
}

fn owners(header: &Header) -> io::Result<(Uid, Gid)> {
    let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
    Ok((
        Uid::from_raw(id(header.uid()?)?),
        Gid::from_raw(id(header.gid()?)?),
    ))
}

/// Seconds since 1970.
fn changed_of(header: &Header) -> io::Result<i64> {
    i64::try_from(header.mtime()?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
