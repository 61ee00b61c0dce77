//! A file that is read, and hashed where that is wished, by a thread of its own, ahead of the one
//! that makes something of its bytes.

use std::fs::File;
use std::io;
use std::io::Read;
use std::sync::mpsc;
use std::thread::Scope;
use std::thread::ScopedJoinHandle;

use sha2::Digest as _;
use sha2::Sha256;

/// Reads are of this size.
const BUFFER: usize = 128 * 1024;
/// Pieces that wait.
const WAITING: usize = 4;

type Piece = io::Result<Vec<u8>>;

/// The bytes of a file, in order.
pub(super) struct Ahead<'scope> {
    pieces: mpsc::Receiver<Piece>,
    /// Where pieces go that were used, to be filled again.
    used: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    reading: ScopedJoinHandle<'scope, Option<Sha256>>,
}

impl<'scope> Ahead<'scope> {
    /// Begins to read a file, and to hash it where that is wished.
    pub(super) fn of<'env>(
        scope: &'scope Scope<'scope, 'env>,
        file: File,
        is_summed: bool,
    ) -> Self {
        let sha = is_summed.then(Sha256::new);
        let (sender, pieces) = mpsc::sync_channel(WAITING);
        let (used, free) = mpsc::channel();
        Self {
            pieces,
            used,
            piece: Vec::new(),
            at: 0,
            reading: scope.spawn(move || read(file, sha, &sender, &free)),
        }
    }

    /// The SHA-256 of all that was read, where it was wished. Whoever wants that of the whole file
    /// reads it to its end before.
    pub(super) fn sum(self) -> Option<Vec<u8>> {
        drop(self.pieces);
        // A thread that panicked has seen nothing.
        let sha = self.reading.join().unwrap_or(Some(Sha256::new()));
        sha.map(|sha| sha.finalize().to_vec())
    }

    /// The next piece that is not empty; none at the end.
    fn refill(&mut self) -> io::Result<bool> {
        let Ok(piece) = self.pieces.recv() else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut self.piece, piece?);
        self.at = 0;
        // The reader may have ended.
        let _ = self.used.send(before);
        Ok(true)
    }
}

impl Read for Ahead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.refill()? {
            return Ok(0);
        }
        let read = (&self.piece[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

fn read(
    mut file: File,
    mut sha: Option<Sha256>,
    send: &mpsc::SyncSender<Piece>,
    free: &mpsc::Receiver<Vec<u8>>,
) -> Option<Sha256> {
    // Several reads of the disk at once: it is far quicker at these.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    loop {
        let mut piece = free.try_recv().unwrap_or_default();
        piece.resize(BUFFER, 0);
        let read = match file.read(&mut piece) {
            Ok(0) => return sha,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = send.send(Err(error));
                return sha;
            }
        };
        piece.truncate(read);
        if let Some(sha) = &mut sha {
            sha.update(&piece);
        }
        if send.send(Ok(piece)).is_err() {
            return sha;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_in_order_and_are_summed() {
        for size in [0, 1, BUFFER, 3 * BUFFER + 7] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &content).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            std::thread::scope(|scope| {
                let mut ahead = Ahead::of(scope, file, true);
                let mut all = Vec::new();
                ahead.read_to_end(&mut all).unwrap();
                assert!(all == content, "{size}");
                assert_eq!(ahead.sum(), Some(Sha256::digest(&content).to_vec()));
            });
        }
    }

    #[test]
    fn one_that_is_given_up_ends() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &vec![1; 9 * BUFFER]).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        std::thread::scope(|scope| drop(Ahead::of(scope, file, false)));
    }
}
