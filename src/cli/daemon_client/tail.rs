//! A bounded file as the daemon writes it: lines are added, and when it has grown it is set aside
//! and begun anew.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::daemon::paths;

/// A file and its predecessor, read line by line as they grow.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// The file that is read now.
    file: Option<File>,
    /// The predecessor was read, if there was one.
    begun: bool,
    /// What follows the last whole line.
    rest: Vec<u8>,
}

impl Tail {
    /// Begins with the oldest line that is kept.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            begun: false,
            rest: Vec::new(),
        }
    }

    /// The lines since the last look. A file that cannot be read has none.
    pub fn lines(&mut self) -> Vec<String> {
        let mut bytes = std::mem::take(&mut self.rest);
        if !self.begun {
            self.begun = true;
            bytes.extend(std::fs::read(paths::older(&self.path)).unwrap_or_default());
        }
        self.read_on(&mut bytes);
        if self.was_set_aside() {
            self.file = None;
            self.read_on(&mut bytes);
        }
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.rest = bytes.split_off(end);
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn read_on(&mut self, bytes: &mut Vec<u8>) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            // What was read before an error stays; the next look goes on.
            let _ = file.read_to_end(bytes);
        }
    }

    /// Whether the path is another file by now.
    fn was_set_aside(&self) -> bool {
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let there = std::fs::metadata(&self.path).ok();
        matches!((open, there), (Some(open), Some(there)) if (open.dev(), open.ino()) != (there.dev(), there.ino()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn no_line_is_lost_or_doubled_when_the_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(paths::older(&path), "one\n").unwrap();
        let mut tail = Tail::of(path.clone());
        assert_eq!(tail.lines(), ["one"]);
        std::fs::write(&path, "two\nthr").unwrap();
        assert_eq!(tail.lines(), ["two"]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"ee\nfour\n").unwrap();
        std::fs::rename(&path, paths::older(&path)).unwrap();
        std::fs::write(&path, "five\n").unwrap();
        assert_eq!(tail.lines(), ["three", "four", "five"]);
        assert_eq!(tail.lines(), Vec::<String>::new());
    }
}
