//! A file that is read again, from the disk, while more of it is written: when the last byte is
//! there, almost all of it has been seen already.

use std::fs::File;
use std::io;
use std::io::Write;
use std::num::NonZero;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::fs::Advice;
use sha2::Digest as _;
use sha2::Sha256;

/// So much is brought to the disk and read from there at a time.
const STRETCH: u64 = 32 * 1024 * 1024;
/// Reads are of this size.
const BUFFER: usize = 128 * 1024;

/// A file that is written, and read again behind that.
pub(super) struct Reread {
    file: File,
    written: u64,
    told: u64,
    tell: mpsc::Sender<u64>,
    reading: JoinHandle<io::Result<Vec<u8>>>,
}

impl Reread {
    /// Of a file that is empty, and open for reading too.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let (tell, told) = mpsc::channel();
        let again = file.try_clone()?;
        let reading = std::thread::Builder::new()
            .name("reread".to_owned())
            .spawn(move || read(&again, &told))?;
        Ok(Self {
            file,
            written: 0,
            told: 0,
            tell,
            reading,
        })
    }

    /// Ends it: everything is on the disk. The SHA-256 of what is there.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.file.sync_all()?;
        // One that ended says why below.
        let _ = self.tell.send(self.written);
        drop(self.tell);
        let read = self.reading.join();
        read.unwrap_or_else(|_| Err(io::Error::other("the thread that reads again is gone")))
    }
}

impl Write for Reread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.told >= STRETCH {
            self.told = self.written;
            let _ = self.tell.send(self.written);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads up to each length that is told; the last one is the whole.
fn read(file: &File, told: &mpsc::Receiver<u64>) -> io::Result<Vec<u8>> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut done = 0;
    // Several reads of the disk at once: it is far quicker at these.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
    while let Ok(until) = told.recv() {
        // What was told meanwhile comes along.
        let until = told.try_iter().last().unwrap_or(until);
        file.sync_data()?;
        // What is on the disk is read from there, not from memory.
        let _ = rustix::fs::fadvise(file, done, NonZero::new(until - done), Advice::DontNeed);
        while done < until {
            let most = usize::try_from(until - done).map_or(BUFFER, |left| left.min(BUFFER));
            file.read_exact_at(&mut buffer[..most], done)?;
            sha.update(&buffer[..most]);
            done += most as u64;
        }
    }
    Ok(sha.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8], spoil: bool) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create_new(&path).unwrap();
        let mut reread = Reread::new(file).unwrap();
        for piece in content.chunks(1_000_003) {
            reread.write_all(piece).unwrap();
        }
        if spoil {
            let cut = File::options().write(true).open(&path).unwrap();
            cut.set_len(content.len() as u64 / 2).unwrap();
        }
        reread.finish()
    }

    #[test]
    fn what_is_read_again_is_the_whole_file() {
        for size in [0, 1, 70_000_000] {
            let content = vec![7; size];
            let sum = Sha256::digest(&content).to_vec();
            assert_eq!(written(&content, false).unwrap(), sum, "{size}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_seen() {
        assert!(written(&vec![7; 300_000], true).is_err());
    }
}
