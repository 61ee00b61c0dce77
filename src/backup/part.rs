//! One part of a set, written and read as a stream: compressed (zstd), encrypted (age) where that
//! is wished, hashed before and after. The memory that it takes does not grow with the part.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt as _;

use age::stream::StreamReader;
use age::stream::StreamWriter;
use sha2::Digest as _;
use sha2::Sha256;

use super::ahead::Ahead;
use super::handoff::Handoff;
use super::manifest::Kind;
use super::manifest::Part;
use super::reread::Reread;
use crate::engine::AnyError;

/// Quicker than the engine's stream on one core, and within some percent of the larger levels for
/// what is mostly packages, compressed already.
const LEVEL: i32 = 1;
/// zstd looks this far back (2^19 bytes): it is what bounds the memory of both ends.
const WINDOW_LOG: u32 = 19;
/// What a reader accepts, for sets that a later program wrote with a larger one.
const WINDOW_LOG_MAX: u32 = 23;
/// Writes of the file and reads of it are of this size.
const BUFFER: usize = 128 * 1024;

/// For whom a part is written.
#[derive(Clone, Default)]
pub struct Recipients(pub Vec<age::x25519::Recipient>);

/// What can open an encrypted part.
#[derive(Clone, Default)]
pub struct Identities(pub Vec<age::x25519::Identity>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} identities", self.0.len())
    }
}

/// Counts and hashes what passes.
struct Hashing<Inner> {
    inner: Inner,
    sha: Sha256,
    size: u64,
}

impl<Inner> Hashing<Inner> {
    fn new(inner: Inner) -> Self {
        Self {
            inner,
            sha: Sha256::new(),
            size: 0,
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn sum(self) -> (Inner, u64, String) {
        (self.inner, self.size, hex(&self.sha.finalize()))
    }
}

impl<Inner: Write> Write for Hashing<Inner> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.take_in(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<Inner: Read> Read for Hashing<Inner> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.take_in(&buffer[..read]);
        Ok(read)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Summed and written beside what compresses.
type Stored = Handoff<Hashing<Reread>>;

/// The last step before the file.
enum Sealed {
    Clear(Stored),
    Age(StreamWriter<Stored>),
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(inner) => inner.write(bytes),
            Self::Age(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(inner) => inner.flush(),
            Self::Age(inner) => inner.flush(),
        }
    }
}

/// Writes one part.
pub struct PartWriter {
    kind: Kind,
    /// Summed beside what compresses.
    plain: Hashing<Handoff<zstd::Encoder<'static, Sealed>>>,
}

impl PartWriter {
    /// Begins a part in this file, which is empty and open for reading too.
    pub fn new(kind: Kind, file: File, recipients: &Recipients) -> io::Result<Self> {
        let stored = Handoff::to(Hashing::new(Reread::new(file)?), "store")?;
        let sealed = if recipients.0.is_empty() {
            Sealed::Clear(stored)
        } else {
            let recipients = recipients.0.iter().map(|one| one as &dyn age::Recipient);
            let encryptor =
                age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            Sealed::Age(encryptor.wrap_output(stored)?)
        };
        let mut encoder = zstd::Encoder::new(sealed, LEVEL)?;
        encoder.window_log(WINDOW_LOG)?;
        // Whoever lays a part down that was summed before need not sum it again.
        encoder.include_checksum(true)?;
        Ok(Self {
            kind,
            plain: Hashing::new(Handoff::to(encoder, "compress")?),
        })
    }

    /// Writes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.plain.write_all(bytes)
    }

    /// Ends the part: it is on the disk when this returns, and was read from there.
    pub fn finish(self, entries: Option<u64>) -> io::Result<Part> {
        let (compressing, plain_size, plain_sha256) = self.plain.sum();
        let stored = match compressing.finish()?.finish()? {
            Sealed::Clear(stored) => stored,
            Sealed::Age(writer) => writer.finish()?,
        };
        let (file, stored_size, stored_sha256) = stored.finish()?.sum();
        if hex(&file.finish()?) != stored_sha256 {
            let why = "what was written is not what is read again from the disk";
            return Err(io::Error::other(why));
        }
        Ok(Part {
            kind: self.kind,
            plain_size,
            plain_sha256,
            stored_size,
            stored_sha256,
            entries,
        })
    }
}

/// What is wrong with a part.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its file is not there, or cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file's name.
        file: String,
        /// Why.
        source: AnyError,
    },
    /// It has another size or other bytes than when it was written.
    #[error("{file} is damaged: {source}")]
    Damaged {
        /// The file's name.
        file: String,
        /// What differs.
        source: AnyError,
    },
    /// It is encrypted, and what was given does not open it.
    #[error("{file} is encrypted, and {why}")]
    Sealed {
        /// The file's name.
        file: String,
        /// Why it is not opened.
        why: String,
    },
    /// Somebody asked to stop.
    #[error("it was stopped")]
    Stopped,
}

/// A part's file, open for reading, and what opens it.
pub struct PartFile {
    /// What it should hold.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// It.
    pub file: File,
    /// What opens it, where it is encrypted.
    pub identities: Identities,
}

/// What of a part is summed while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// What is stored, and what it unpacks to.
    Both,
    /// It was summed just before, and may only have changed since: its own checksum tells that where
    /// it has one, and else the sum of what is stored.
    Again,
}

/// Where the plain bytes of a part go.
pub trait Sink {
    /// Takes the next bytes; false ends the reading.
    fn take(&mut self, bytes: &[u8]) -> bool;
}

impl<Take: FnMut(&[u8]) -> bool> Sink for Take {
    fn take(&mut self, bytes: &[u8]) -> bool {
        self(bytes)
    }
}

/// Reads the stored bytes of a part and compares them with what was written. This needs no key.
pub fn check_stored(
    part: &Part,
    name: &str,
    file: File,
    mut moved: impl Sink,
) -> Result<(), Fault> {
    must_have_size(part, name, &file)?;
    let mut stored = Hashing::new(file);
    drain(name, &mut stored, &mut moved)?;
    stored_agrees(part, name, &stored.sha.finalize())
}

/// Reads a part to its end and gives its plain bytes to `sink`, in order. Only when this returns
/// without a fault were they what was written: whoever cannot take them back checks first.
pub fn read_plain(from: &PartFile, sums: Sums, sink: impl Sink) -> Result<(), Fault> {
    let PartFile {
        part,
        name,
        file,
        identities,
    } = from;
    must_have_size(part, name, file)?;
    let is_summed = sums == Sums::Both || !has_checksum(name, file);
    let file = file.try_clone().map_err(|error| unreadable(name, error))?;
    std::thread::scope(|scope| {
        let mut stored = Ahead::of(scope, file, is_summed);
        if is_sealed(name) {
            let opened = open(name, &mut stored, identities)?;
            plain(part, name, sums, opened, sink)?;
        } else {
            plain(part, name, sums, &mut stored, sink)?;
        }
        // What follows the last frame belongs to the file, too.
        drain(name, &mut stored, &mut |_: &[u8]| true)?;
        let sum = stored.sum();
        sum.map_or(Ok(()), |sum| stored_agrees(part, name, &sum))
    })
}

fn is_sealed(name: &str) -> bool {
    name.strip_suffix(".age").is_some()
}

/// Whether what a file unpacks to is held against something in the file: what is encrypted is
/// authenticated in pieces, and a frame of zstd may end with a checksum (RFC 8878, 3.1.1.1.1).
fn has_checksum(name: &str, file: &File) -> bool {
    const AFTER_MAGIC: usize = 4;
    const CONTENT_CHECKSUM: u8 = 1 << 2;
    let mut head = [0; AFTER_MAGIC + 1];
    let read = file.read_exact_at(&mut head, 0);
    is_sealed(name) || read.is_ok() && head[AFTER_MAGIC] & CONTENT_CHECKSUM != 0
}

/// Whether what is given opens an encrypted part. Its content is not looked at.
pub fn must_open(from: &PartFile) -> Result<(), Fault> {
    let mut file = &from.file;
    open(&from.name, &mut file, &from.identities).map(drop)
}

fn must_have_size(part: &Part, name: &str, file: &File) -> Result<(), Fault> {
    let size = file
        .metadata()
        .map_err(|error| unreadable(name, error))?
        .len();
    if size == part.stored_size {
        return Ok(());
    }
    let why = format!("it has {size} bytes, {} were written", part.stored_size);
    Err(damaged(name, why))
}

fn open<'a, Stored: Read>(
    name: &str,
    stored: &'a mut Stored,
    identities: &Identities,
) -> Result<StreamReader<&'a mut Stored>, Fault> {
    let sealed = |why: &str| Fault::Sealed {
        file: name.to_owned(),
        why: why.to_owned(),
    };
    if identities.0.is_empty() {
        return Err(sealed(
            "no identity was given; name its file with --identity",
        ));
    }
    let decryptor = age::Decryptor::new(stored).map_err(|error| damaged(name, error))?;
    let identities = identities.0.iter().map(|one| one as &dyn age::Identity);
    decryptor.decrypt(identities).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => sealed("none of the given identities opens it"),
        error => damaged(name, error),
    })
}

fn plain(
    part: &Part,
    name: &str,
    sums: Sums,
    from: impl Read,
    mut sink: impl Sink,
) -> Result<(), Fault> {
    let decoder = zstd::Decoder::new(from).and_then(|mut decoder| {
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(decoder)
    });
    let mut plain = decoder.map_err(|error| unreadable(name, error))?;
    let mut sha = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(name, error)),
        };
        // A few bytes can expand to a disk full of zeros.
        size += read as u64;
        if sums == Sums::Both {
            sha.update(&buffer[..read]);
        }
        if size > part.plain_size {
            return Err(damaged(
                name,
                format!(
                    "it holds more than the {} bytes that were written",
                    part.plain_size
                ),
            ));
        }
        if !sink.take(&buffer[..read]) {
            return Err(Fault::Stopped);
        }
    }
    if size != part.plain_size {
        return Err(damaged(
            name,
            format!("it holds {size} bytes, {} were written", part.plain_size),
        ));
    }
    if sums == Sums::Both && hex(&sha.finalize()) != part.plain_sha256 {
        return Err(damaged(name, "its content has another SHA-256"));
    }
    Ok(())
}

fn drain(name: &str, from: &mut impl Read, moved: &mut impl Sink) -> Result<(), Fault> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if moved.take(&buffer[..read]) => {}
            Ok(_) => return Err(Fault::Stopped),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(name, error)),
        }
    }
}

fn stored_agrees(part: &Part, name: &str, sha: &[u8]) -> Result<(), Fault> {
    if hex(sha) == part.stored_sha256 {
        return Ok(());
    }
    Err(damaged(
        name,
        "its bytes have another SHA-256 than when it was written",
    ))
}

fn unreadable(name: &str, error: io::Error) -> Fault {
    Fault::Unreadable {
        file: name.to_owned(),
        source: error.into(),
    }
}

fn damaged(name: &str, source: impl Into<AnyError>) -> Fault {
    Fault::Damaged {
        file: name.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
