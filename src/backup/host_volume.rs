//! Parts that are volumes which this host has as directories: written from there and laid down
//! there, on threads of their own and without the engine.

use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::mpsc;

use tokio_util::sync::CancellationToken;

use super::directory_tar;
use super::directory_tar::UnpackError;
use super::manifest::Part;
use super::part;
use super::part::Fault;
use super::part::PartFile;
use super::part::PartWriter;
use super::part::Sums;
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
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Watched {
            writer,
            moved,
            stop,
        };
        let entries = directory_tar::write(&from.opened, &mut out)?;
        out.writer.finish(Some(entries))
    });
    writing
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
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
    let laying = tokio::task::spawn_blocking(move || lay(file, &to, moved, &stop));
    laying
        .await
        .unwrap_or_else(|error| Err(UnpackError::from(io::Error::other(error)).into()))
}

fn lay(
    file: PartFile,
    to: &HostDirectory,
    mut moved: impl FnMut(u64) + Send,
    stop: &CancellationToken,
) -> Result<(), LayError> {
    let (give, next) = mpsc::sync_channel::<Vec<u8>>(WAITING);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            part::read_plain(&file, Sums::Stored, |bytes: &[u8]| {
                moved(bytes.len() as u64);
                !stop.is_cancelled() && give.send(bytes.to_vec()).is_ok()
            })
        });
        let mut pieces = Pieces {
            next,
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
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Ok(piece) = self.next.recv() else {
                return Ok(0);
            };
            self.piece = piece;
            self.at = 0;
        }
        let read = (&self.piece[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}
