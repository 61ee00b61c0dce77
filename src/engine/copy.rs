//! Files from one container to another through the engine's archives, and whether they are the
//! same there.

use std::io;
use std::io::Read as _;

use futures_util::StreamExt as _;
use sha2::Digest as _;
use tokio_util::io::StreamReader;
use tokio_util::io::SyncIoBridge;

use super::Engine;
use super::EngineError;

/// The largest file that is read into memory.
const SMALL: u64 = 1 << 20;

/// What is at a path, whoever has it: equal where names, kinds, owners, modes, links and contents
/// are, and the times of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many things there are.
    pub entries: usize,
    /// How large the files are together.
    pub bytes: u64,
    digest: [u8; 32],
}

impl Engine {
    /// Copies what is in a directory of a container into one of another, or of the same: each is a
    /// container and a path that it mounts or has. Neither needs to run.
    pub async fn copy_directory(
        &self,
        (from, path): (&str, &str),
        (to, target): (&str, &str),
    ) -> Result<(), EngineError> {
        let stream = self.archive(from, &format!("{path}/."));
        let stream = stream.map(|piece| piece.map_err(io::Error::other));
        self.unpack(to, target, stream).await
    }

    /// Reads all that is in a directory of a container.
    pub async fn fingerprint(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Fingerprint, EngineError> {
        let content = format!("{path}/.");
        self.read_archive(container, &content, fingerprint_of).await
    }

    /// A small file of a container as text; none where there is none.
    pub async fn small_file(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<String>, EngineError> {
        match self.read_archive(container, path, first_file).await {
            Ok(text) => Ok(text),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_archive<T: Send + 'static>(
        &self,
        container: &str,
        path: &str,
        read: fn(Box<dyn io::Read>) -> io::Result<T>,
    ) -> Result<T, EngineError> {
        let broken = |message: String| EngineError::Broken {
            attempt: format!("read {path} of the container"),
            source: message.into(),
        };
        // The engine's own error says more than that the stream ended.
        let (sender, receiver) = std::sync::mpsc::channel();
        let stream = self.archive(container, path).map(move |piece| {
            piece.map_err(|error| {
                let words = error.to_string();
                let _ = sender.send(error);
                io::Error::other(words)
            })
        });
        let reader = StreamReader::new(Box::pin(stream));
        let bridge = SyncIoBridge::new(reader);
        let reading = tokio::task::spawn_blocking(move || read(Box::new(bridge)));
        let result = reading.await.map_err(|error| broken(error.to_string()))?;
        result.map_err(|error| {
            let told = receiver.try_recv().ok();
            told.unwrap_or_else(|| broken(error.to_string()))
        })
    }
}

fn first_file(reader: Box<dyn io::Read>) -> io::Result<Option<String>> {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut text = Vec::new();
            entry.take(SMALL).read_to_end(&mut text)?;
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Ok(None)
}

fn fingerprint_of(reader: Box<dyn io::Read>) -> io::Result<Fingerprint> {
    let mut archive = tar::Archive::new(reader);
    let (mut all, mut bytes) = (Vec::new(), 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let kind = header.entry_type();
        let time = if kind.is_file() { header.mtime()? } else { 0 };
        let numbers = [
            u64::from(kind.as_byte()),
            header.uid()?,
            header.gid()?,
            u64::from(header.mode()?),
            time,
            entry.size(),
        ];
        bytes += entry.size();
        let mut hash = sha2::Sha256::new();
        let (path, link) = (entry.path_bytes(), entry.link_name_bytes());
        for text in [&path[..], link.as_deref().unwrap_or_default()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        for number in numbers {
            hash.update(number.to_be_bytes());
        }
        drop((path, link));
        io::copy(&mut entry, &mut HashWriter(&mut hash))?;
        let digest: [u8; 32] = hash.finalize().into();
        all.push(digest);
    }
    // Whatever order the engine walks them in.
    all.sort_unstable();
    let mut hash = sha2::Sha256::new();
    for digest in &all {
        hash.update(digest);
    }
    Ok(Fingerprint {
        entries: all.len(),
        bytes,
        digest: hash.finalize().into(),
    })
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, content, time.
    type File<'a> = (&'a str, &'a [u8], u64);

    fn archive(files: &[File<'_>]) -> Box<dyn io::Read> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content, time) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mtime(*time);
            header.set_mode(0o644);
            header.set_uid(10_001);
            header.set_gid(0);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        Box::new(io::Cursor::new(tar.into_inner().unwrap()))
    }

    #[test]
    fn the_same_files_have_the_same_fingerprint_in_any_order_and_others_not() {
        let of = |files: &[File<'_>]| fingerprint_of(archive(files)).unwrap();
        let (a, b): (File<'_>, File<'_>) = (("a", b"1", 5), ("b", b"22", 5));
        let one = of(&[a, b]);
        assert_eq!(one, of(&[b, a]));
        assert_eq!((one.entries, one.bytes), (2, 3));
        for other in [
            of(&[a]),
            of(&[("a", b"2", 5), b]),
            of(&[("a", b"1", 6), b]),
            of(&[("c", b"1", 5), b]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_is_no_success() {
        let whole = archive(&[("a", &[7; 4096], 5)]);
        let cut = whole.take(2048);
        assert!(fingerprint_of(Box::new(cut)).is_err());
    }
}
