//! A writer whose bytes are taken by a thread of its own: what is done with them there goes on
//! beside what makes the next ones.

use std::io;
use std::io::Write;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Bytes go over in pieces of this size.
const PIECE: usize = 128 * 1024;
/// Pieces that wait. A slower taker holds up the giver, so memory stays constant.
const WAITING: usize = 4;

/// Gives what is written to another writer, on its own thread.
pub(super) struct Handoff<Inner> {
    piece: Vec<u8>,
    give: Option<mpsc::SyncSender<Vec<u8>>>,
    /// Where pieces come back from, to be filled again.
    used: mpsc::Receiver<Vec<u8>>,
    /// None once it was waited for.
    taking: Option<JoinHandle<io::Result<Inner>>>,
}

impl<Inner: Write + Send + 'static> Handoff<Inner> {
    /// To this writer, on a thread of this name.
    pub(super) fn to(inner: Inner, thread: &str) -> io::Result<Self> {
        let (give, given) = mpsc::sync_channel(WAITING);
        let (back, used) = mpsc::channel();
        let taking = std::thread::Builder::new()
            .name(thread.to_owned())
            .spawn(move || take(inner, &given, &back))?;
        Ok(Self {
            piece: Vec::with_capacity(PIECE),
            give: Some(give),
            used,
            taking: Some(taking),
        })
    }

    /// Waits until everything was taken. Gives the writer back.
    pub(super) fn finish(mut self) -> io::Result<Inner> {
        self.hand_over()?;
        self.wait()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let empty = self.used.try_recv();
        let piece = std::mem::replace(
            &mut self.piece,
            empty.unwrap_or_else(|_| Vec::with_capacity(PIECE)),
        );
        let give = self.give.as_ref();
        match give.map(|give| give.send(piece)) {
            Some(Ok(())) => Ok(()),
            // It ended before its time, and says why.
            Some(Err(_)) | None => Err(self.wait().err().unwrap_or_else(gone)),
        }
    }

    fn wait(&mut self) -> io::Result<Inner> {
        self.give = None;
        let taking = self.taking.take().ok_or_else(gone)?;
        taking.join().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes is gone")
}

impl<Inner: Write + Send + 'static> Write for Handoff<Inner> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.hand_over()?;
        }
        Ok(taken)
    }

    /// What is written goes on; whether it arrived is told by [`Self::finish`].
    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

fn take<Inner: Write>(
    mut inner: Inner,
    given: &mpsc::Receiver<Vec<u8>>,
    back: &mpsc::Sender<Vec<u8>>,
) -> io::Result<Inner> {
    while let Ok(mut piece) = given.recv() {
        inner.write_all(&piece)?;
        piece.clear();
        // Whoever gave it may have ended.
        let _ = back.send(piece);
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_in_order() {
        for size in [0, 1, PIECE, 9 * PIECE + 7] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut handoff = Handoff::to(Vec::new(), "test").unwrap();
            for piece in content.chunks(100_003) {
                handoff.write_all(piece).unwrap();
            }
            assert!(handoff.finish().unwrap() == content, "{size}");
        }
    }

    /// Takes so many bytes, then no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let left = self.0.checked_sub(bytes.len());
            self.0 = left.ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_takers_own_error_is_told() {
        let mut handoff = Handoff::to(Full(3 * PIECE), "test").unwrap();
        let piece = vec![1; PIECE];
        // The giver hears of it as soon as the queue says so.
        let error = loop {
            if let Err(error) = handoff.write_all(&piece) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(handoff.finish().is_err());
        let mut late = Handoff::to(Full(1), "test").unwrap();
        late.write_all(&piece[..10]).unwrap();
        let error = late.finish().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
