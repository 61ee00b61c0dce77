//! Brings bytes from the engine's streams to the thread that compresses and writes them, and back.
//! The queue between them is short, so the slower side holds up the other and memory stays constant.

use std::io;

use futures_util::Stream;
use futures_util::StreamExt as _;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::manifest::Part;
use super::part;
use super::part::Fault;
use super::part::PartFile;
use super::part::PartWriter;
use super::part::Sums;
use super::tar_stream;
use super::tar_stream::TarFault;
use super::tar_stream::TarStream;

/// Pieces that wait. Ours are of 128 KiB.
const WAITING: usize = 8;
/// Pieces of the engine's, of 32 KiB each, that go to the other thread at once where they came at
/// once: waking it for each takes longer than what it does with it.
const AT_ONCE: usize = 16;

/// How the bytes of a stream become those of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are, looked at as a tar stream.
    Archive,
    /// The one file in a tar stream.
    OneFile,
}

/// Why a part could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PumpError<E> {
    /// The source failed.
    #[error("{0}")]
    Source(E),
    /// The source was no whole archive.
    #[error("{0}")]
    Archive(#[source] TarFault),
    /// What should be one file is none or several.
    #[error("{0} files came where one was expected")]
    NotOne(u64),
    /// It could not be written.
    #[error("{0}")]
    Write(#[source] io::Error),
}

/// Pieces, or the end that the source told. A queue that closes without it was cut off.
enum Step {
    Bytes(Vec<Bytes>),
    End,
}

/// What the writing thread says.
enum Trouble {
    Archive(TarFault),
    NotOne(u64),
    Write(io::Error),
}

/// Writes a stream as a part. `moved` is told the bytes of each piece.
pub async fn write<E>(
    writer: PartWriter,
    form: Form,
    stream: impl Stream<Item = Result<Bytes, E>>,
    mut moved: impl FnMut(u64),
) -> Result<Part, PumpError<E>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let writing = tokio::task::spawn_blocking(move || write_all(writer, form, receiver));
    let stream = stream.ready_chunks(AT_ONCE);
    tokio::pin!(stream);
    let mut failure = None;
    while let Some(items) = stream.next().await {
        let mut pieces = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Ok(bytes) => pieces.push(bytes),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let length = pieces.iter().map(|bytes| bytes.len() as u64).sum();
        // A writer that is gone says why itself.
        if failure.is_some() || sender.send(Step::Bytes(pieces)).await.is_err() {
            break;
        }
        moved(length);
    }
    if failure.is_none() {
        let _ = sender.send(Step::End).await;
    }
    drop(sender);
    let written = writing
        .await
        .unwrap_or_else(|error| Err(Trouble::Write(io::Error::other(error))));
    if let Some(error) = failure {
        return Err(PumpError::Source(error));
    }
    written.map_err(|trouble| match trouble {
        Trouble::Archive(fault) => PumpError::Archive(fault),
        Trouble::NotOne(count) => PumpError::NotOne(count),
        Trouble::Write(error) => PumpError::Write(error),
    })
}

fn write_all(
    mut writer: PartWriter,
    form: Form,
    mut receiver: mpsc::Receiver<Step>,
) -> Result<Part, Trouble> {
    let mut archive = TarStream::default();
    loop {
        match receiver.blocking_recv() {
            Some(Step::Bytes(pieces)) => pieces
                .iter()
                .try_for_each(|bytes| take(&mut writer, form, &mut archive, bytes))?,
            Some(Step::End) => break,
            None => return Err(Trouble::Archive(TarFault::Short)),
        }
    }
    archive.finish().map_err(Trouble::Archive)?;
    if form == Form::OneFile && archive.files != 1 {
        return Err(Trouble::NotOne(archive.files));
    }
    let entries = (form == Form::Archive).then_some(archive.entries);
    writer.finish(entries).map_err(Trouble::Write)
}

fn take(
    writer: &mut PartWriter,
    form: Form,
    archive: &mut TarStream,
    bytes: &[u8],
) -> Result<(), Trouble> {
    let mut written = Ok(());
    archive
        .feed(bytes, |data| {
            if form == Form::OneFile && written.is_ok() {
                written = writer.write(data);
            }
        })
        .map_err(Trouble::Archive)?;
    if form == Form::Archive {
        written = writer.write(bytes);
    }
    written.map_err(Trouble::Write)
}

/// The name of the one file that [`read`] wraps, and its owner's number in the container.
pub struct Wrapped {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub uid: u64,
}

/// Reads a part as a tar stream: as it is, or wrapped as one file. A part that is not what was
/// written ends the stream with an error, at its end at the latest.
pub fn read(
    from: PartFile,
    wrapped: Option<Wrapped>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let send = |bytes: &[u8]| {
            sender
                .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
                .is_ok()
        };
        let size = from.part.plain_size;
        if let Some(wrapped) = &wrapped {
            send(&tar_stream::header_of_file(
                &wrapped.name,
                size,
                wrapped.uid,
            ));
        }
        match part::read_plain(&from, Sums::Again, send) {
            Ok(()) if wrapped.is_some() => {
                send(&tar_stream::end_of_file(size));
            }
            Ok(()) | Err(Fault::Stopped) => {}
            Err(fault) => {
                let _ = sender.blocking_send(Err(io::Error::other(fault)));
            }
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use std::fs::File;

    use super::*;
    use crate::backup::manifest::Kind;
    use crate::backup::part::Identities;
    use crate::backup::part::Recipients;

    fn tar(size: usize) -> Vec<u8> {
        let mut tar = tar_stream::header_of_file("x.bak", size as u64, 7);
        tar.extend(vec![3; size]);
        tar.extend(tar_stream::end_of_file(size as u64));
        tar
    }

    fn pieces(bytes: &[u8]) -> Vec<Result<Bytes, String>> {
        bytes
            .chunks(1_000)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect()
    }

    struct Case {
        dir: tempfile::TempDir,
    }

    impl Case {
        async fn write(
            &self,
            form: Form,
            pieces: Vec<Result<Bytes, String>>,
        ) -> Result<Part, PumpError<String>> {
            let path = self.dir.path().join("part");
            let _ = std::fs::remove_file(&path);
            let file = File::create_new(path).unwrap();
            let writer = PartWriter::new(Kind::Repository, file, &Recipients::default()).unwrap();
            write(writer, form, stream::iter(pieces), |_| {}).await
        }

        async fn read(&self, part: Part, wrapped: Option<Wrapped>) -> io::Result<Vec<u8>> {
            let file = File::open(self.dir.path().join("part")).unwrap();
            let from = PartFile {
                part,
                name: "part".to_owned(),
                file,
                identities: Identities::default(),
            };
            let stream = read(from, wrapped);
            tokio::pin!(stream);
            let mut all = Vec::new();
            while let Some(piece) = stream.next().await {
                all.extend_from_slice(&piece?);
            }
            Ok(all)
        }
    }

    fn case() -> Case {
        Case {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    #[tokio::test]
    async fn an_archive_comes_back_as_it_was() {
        let case = case();
        let tar = tar(700_000);
        let part = case.write(Form::Archive, pieces(&tar)).await.unwrap();
        assert_eq!((part.entries, part.plain_size), (Some(1), tar.len() as u64));
        assert_eq!(case.read(part, None).await.unwrap(), tar);
    }

    #[tokio::test]
    async fn one_file_is_unwrapped_and_wrapped_again() {
        let case = case();
        let part = case
            .write(Form::OneFile, pieces(&tar(700_001)))
            .await
            .unwrap();
        assert_eq!((part.entries, part.plain_size), (None, 700_001));
        let wrapped = Wrapped {
            name: "x.bak".to_owned(),
            uid: 7,
        };
        assert_eq!(case.read(part, Some(wrapped)).await.unwrap(), tar(700_001));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_or_ends_early_is_no_part() {
        let case = case();
        let mut broken = pieces(&tar(5_000));
        broken[2] = Err("gone".to_owned());
        let error = case.write(Form::Archive, broken).await.unwrap_err();
        assert!(matches!(error, PumpError::Source(words) if words == "gone"));
        let mut early = pieces(&tar(5_000));
        early.truncate(3);
        let error = case.write(Form::Archive, early).await.unwrap_err();
        assert!(matches!(error, PumpError::Archive(TarFault::Short)));
        let none = vec![0; 1024];
        let error = case.write(Form::OneFile, pieces(&none)).await.unwrap_err();
        assert!(matches!(error, PumpError::NotOne(0)));
    }

    #[tokio::test]
    async fn a_part_that_was_damaged_ends_in_an_error_and_never_as_a_whole_archive() {
        let case = case();
        let part = case
            .write(Form::OneFile, pieces(&tar(700_001)))
            .await
            .unwrap();
        let path = case.dir.path().join("part");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let wrapped = Wrapped {
            name: "x.bak".to_owned(),
            uid: 7,
        };
        assert!(case.read(part, Some(wrapped)).await.is_err());
    }
}
