//! Parts that are volumes which this host has as directories: written from there and laid down
//! there, on threads of their own and without the engine.

use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::directory_tar;
use super::directory_tar::UnpackError;
use super::manifest::Part;
use super::part;
use super::part::Fault;
use super::part::PartFile;
use super::part::PartWriter;
use super::part::Sums;
use crate::engine::archive::ARCHIVE_SILENCE;
use crate::engine::on_host::HostDirectory;

/// Pieces that wait, of 128 KiB each: the slower side holds up the other.
const WAITING: usize = 4;

/// Writes a volume as a part. `moved` is told the bytes of each piece. When this is dropped, the
/// writing ends.
pub(super) async fn write(
    writer: PartWriter,
    from: HostDirectory,
    moved: impl FnMut(u64) + Send + 'static,
) -> io::Result<Part> {
    let stop = CancellationToken::new();
    let _stops_when_dropped = stop.clone().drop_guard();
    let passed = Arc::new(AtomicU64::new(0));
    let counted = passed.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Watched {
            writer,
            moved: told_and_counted(moved, counted.clone()),
            stop,
        };
        let entries = directory_tar::write(&from.opened, &mut out)?;
        counted.store(OVER, Ordering::Relaxed);
        out.writer.finish(Some(entries))
    });
    unless_silent(writing, &passed)
        .await?
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Everything went through, and what is left is the disk's.
const OVER: u64 = u64::MAX;

/// Tells the bytes of each piece, and notes that there was one.
fn told_and_counted(
    mut moved: impl FnMut(u64) + Send + 'static,
    passed: Arc<AtomicU64>,
) -> impl FnMut(u64) + Send + 'static {
    move |more| {
        passed.fetch_add(1, Ordering::Relaxed);
        moved(more);
    }
}

/// Waits for work on a volume, as long as pieces go through: a disk or a server of files that is
/// silent for so long is given up, as the engine's streams are.
async fn unless_silent<T>(
    mut work: JoinHandle<T>,
    passed: &AtomicU64,
) -> io::Result<Result<T, JoinError>> {
    let mut before = passed.load(Ordering::Relaxed);
    loop {
        if let Ok(ended) = tokio::time::timeout(ARCHIVE_SILENCE, &mut work).await {
            return Ok(ended);
        }
        let now = passed.load(Ordering::Relaxed);
        if now == before && now != OVER {
            let seconds = ARCHIVE_SILENCE.as_secs();
            let why = format!("nothing was read or written for {seconds} s");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        before = now;
    }
}

/// Tells of what passes, and ends when it is told to.
struct Watched<Moved> {
    writer: PartWriter,
    moved: Moved,
    stop: CancellationToken,
}

impl<Moved: FnMut(u64)> Write for Watched<Moved> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("it was stopped"));
        }
        self.writer.write(bytes)?;
        (self.moved)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a part was not laid down.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayError {
    /// It is not what was written.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It is, and could not be laid down.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// Lays a part down in a volume. `moved` is told the bytes of each piece. When this is dropped, the
/// work ends.
pub(super) async fn lay_down(
    file: PartFile,
    to: HostDirectory,
    moved: impl FnMut(u64) + Send + 'static,
) -> Result<(), LayError> {
    let stop = CancellationToken::new();
    let _stops_when_dropped = stop.clone().drop_guard();
    let passed = Arc::new(AtomicU64::new(0));
    let moved = told_and_counted(moved, passed.clone());
    let laying = tokio::task::spawn_blocking(move || lay(file, &to, moved, &stop));
    unless_silent(laying, &passed)
        .await
        .map_err(UnpackError::from)?
        .unwrap_or_else(|error| Err(UnpackError::from(io::Error::other(error)).into()))
}

fn lay(
    file: PartFile,
    to: &HostDirectory,
    mut moved: impl FnMut(u64) + Send,
    stop: &CancellationToken,
) -> Result<(), LayError> {
    let (give, next) = mpsc::sync_channel::<Vec<u8>>(WAITING);
    let (used, free) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            part::read_plain(&file, Sums::Again, |bytes: &[u8]| {
                moved(bytes.len() as u64);
                let mut piece = free.try_recv().unwrap_or_default();
                piece.clear();
                piece.extend_from_slice(bytes);
                !stop.is_cancelled() && give.send(piece).is_ok()
            })
        });
        let mut pieces = Pieces {
            next,
            used,
            piece: Vec::new(),
            at: 0,
        };
        let unpacked = directory_tar::unpack(&to.opened, &mut pieces);
        // What follows the archive's end is read too: only then its sum is known.
        let drained = io::copy(&mut pieces, &mut io::sink());
        drop(pieces);
        let read = reading.join().unwrap_or(Err(Fault::Stopped));
        match (read, unpacked) {
            (Err(Fault::Stopped), Err(error)) => Err(error.into()),
            (Err(fault), _) => Err(fault.into()),
            (Ok(()), unpacked) => {
                unpacked?;
                drained
                    .map(drop)
                    .map_err(|error| UnpackError::from(error).into())
            }
        }
    })
}

/// Reads pieces as they come.
struct Pieces {
    next: mpsc::Receiver<Vec<u8>>,
    /// Where pieces go that were used, to be filled again.
    used: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Ok(piece) = self.next.recv() else {
                return Ok(0);
            };
            // The reader may have ended.
            let _ = self.used.send(std::mem::replace(&mut self.piece, piece));
            self.at = 0;
        }
        let read = (&self.piece[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_is_silent_is_given_up_and_work_that_moves_or_syncs_is_not() {
        let passed = AtomicU64::new(0);
        let silent = tokio::spawn(std::future::pending::<()>());
        let error = unless_silent(silent, &passed).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        for (step, start) in [(1, 0), (0, OVER)] {
            let passed = Arc::new(AtomicU64::new(start));
            let counted = passed.clone();
            let slow = tokio::spawn(async move {
                for _ in 0..5 {
                    tokio::time::sleep(ARCHIVE_SILENCE * 9 / 10).await;
                    counted.fetch_add(step, Ordering::Relaxed);
                }
            });
            assert!(unless_silent(slow, &passed).await.unwrap().is_ok());
        }
    }
}
