//! The command line as people and scripts meet it: words, exit codes, terminals, and what it says
//! without a daemon, without an engine, with a broken `.env`.

mod adopt;
mod backup;
mod codes;
mod drift;
mod environment;
mod export;
mod observe;
mod systemd;
mod terminal;
mod usage;
mod words;

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::kit::process::Ended;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;

/// A project directory on a machine where no engine answers.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("octo-").tempdir().unwrap());
        std::fs::create_dir(place.dir()).unwrap();
        place
    }

    /// The project directory.
    fn dir(&self) -> PathBuf {
        self.0.path().join("octo")
    }

    /// Writes a file there.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).current_dir(self.dir()).env_clear();
        command
            .env("DOCKER_HOST", "unix:///nowhere.sock")
            .env("HOME", self.0.path());
        command.env("OCTO_LOCAL_STATE_DIR", self.0.path().join("s"));
        command.env("OCTO_LOCAL_RUNTIME_DIR", self.0.path().join("r"));
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        Running::spawn(&mut self.command(words)).end()
    }
}

/// The words of a shell, for the commands of a test's table.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Whether this machine has a program.
fn has(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists())
}
