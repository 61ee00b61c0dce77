//! A small disk of a test's own, which it may fill and make read-only. Dropping it unmounts it.

use std::fs;
use std::io::ErrorKind;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// What fills it.
const FILLER: &str = "filler";

/// A mounted disk.
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts an empty one here.
    pub(crate) fn mount(at: &Path, kilobytes: u64) -> Self {
        let disk = Self { at: at.to_owned() };
        let options = format!("size={kilobytes}k,mode=700");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "octo-test"])
            .arg(at));
        disk
    }

    /// Fills it to its last byte.
    pub(crate) fn fill(&self) {
        let mut file = fs::File::create(self.at.join(FILLER)).unwrap();
        for size in [1 << 16, 1] {
            let bytes = vec![0; size];
            loop {
                match file.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Frees what `fill` took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.at.join(FILLER)).unwrap();
    }

    /// From now on nothing can be opened for writing there. What is open stays so.
    pub(crate) fn make_read_only(&self) {
        run(Command::new("mount")
            .arg("--bind")
            .arg(&self.at)
            .arg(&self.at));
        run(Command::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(&self.at));
    }

    /// Takes `make_read_only` back.
    pub(crate) fn make_writable(&self) {
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Once more than it is mounted, if it was never read-only: then the last one does nothing.
        for _ in 0..2 {
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
