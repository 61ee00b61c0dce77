//! The peer: docker compose as Debian packages it, fetched into a directory that goes away with it.
//! The system's own packages and their state are left alone. It runs `compose/docker-compose.yml`,
//! with health checks every second instead of every ten.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::kit::process::Ended;
use crate::kit::stack::Stack;
use crate::proxy::Proxy;
use crate::stopwatch::timed;

/// The package, and the last version of the second series, which the figures to beat are from.
const PACKAGE: &str = "docker-compose=2.40.3-3";
/// The suite of Debian that has it. It depends on libc6 alone and runs on older suites unchanged.
const SUITE: &str = "sid";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long each step of fetching it may take, in seconds.
const STEP_LIMIT: &str = "60";
/// The stand-in of Octopus Server has no curl, but the vendor's own health check.
const FASTER: &str = "\
services:
  db: {healthcheck: {interval: 1s}}
  octopus-server: &node {healthcheck: {test: [CMD, /Octopus/Octopus.Server, container-healthcheck], interval: 1s}}
  octopus-server-2: *node
";
/// 16 bytes in base64; compose makes no master key.
const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

/// A docker compose. Dropping it takes it away.
pub(crate) struct Compose {
    dir: TempDir,
    /// As it says itself.
    pub(crate) version: String,
}

impl Compose {
    /// Fetches it from the mirror that this machine's apt uses, or says why it cannot be had.
    pub(crate) fn fetch() -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("octo-bench-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let mirror = mirror().ok_or("this machine's apt names no mirror")?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n");
        let prepared = ["lists/partial", "cache/archives/partial"]
            .iter()
            .try_for_each(|name| std::fs::create_dir_all(dir.path().join(name)))
            .and_then(|()| std::fs::write(dir.path().join("sources.list"), source))
            .and_then(|()| std::fs::write(dir.path().join("faster.yml"), FASTER));
        prepared.map_err(|error| error.to_string())?;
        step(&mut apt(dir.path(), &["update"]))?;
        step(&mut apt(dir.path(), &["download", PACKAGE]))?;
        let package = package_in(dir.path()).ok_or("apt-get fetched no package")?;
        step(
            bounded("dpkg-deb")
                .arg("-x")
                .arg(package)
                .arg(dir.path().join("x")),
        )?;
        let mut compose = Self {
            dir,
            version: String::new(),
        };
        compose.version = step(Command::new(compose.program()).args(["version", "--short"]))?;
        Ok(compose)
    }

    /// The program itself, which is called without the word `compose`.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir
            .path()
            .join("x/usr/libexec/docker/cli-plugins/docker-compose")
    }

    /// A stack of SQL Server and two nodes, of which nothing exists yet.
    pub(crate) fn project(&self, name: &str) -> Project<'_> {
        let stack = Stack::real(name);
        let second = (stack.web() + 1).to_string();
        for (key, value) in [
            ("MASTER_KEY", MASTER_KEY),
            ("PRIVILEGED", "false"),
            ("OCTOPUS_PORT_2", &second),
        ] {
            stack.set(key, value);
        }
        let project = Project {
            compose: self,
            stack,
        };
        project.sweep();
        project
    }
}

/// A stack that docker compose runs. Dropping it takes everything away.
pub(crate) struct Project<'a> {
    compose: &'a Compose,
    /// Its `.env`, its ports and its name.
    pub(crate) stack: Stack,
}

impl Project<'_> {
    /// The program, called for this project.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.stack.command_of(&self.compose.program(), &[]);
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/compose/docker-compose.yml");
        command
            .args(["-p", &self.stack.name, "-f", file, "-f"])
            .arg(self.compose.dir.path().join("faster.yml"));
        command
            .arg("--env-file")
            .arg(self.stack.dir().join(".env"))
            .args(["--profile", "two-nodes"])
            .args(words);
        command
    }

    /// Its `up`, which returns when everything is healthy.
    pub(crate) fn up(&self) -> Command {
        self.command(&["up", "-d", "--wait"])
    }

    /// The same, every call written down.
    pub(crate) fn up_through(&self, proxy: &Proxy) -> Ended {
        timed(proxy.lead(&mut self.up())).1.ok()
    }

    /// Takes all of it away at once.
    pub(crate) fn sweep(&self) {
        self.stack
            .witness
            .sweep(&format!("com.docker.compose.project={}", self.stack.name));
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        self.sweep();
    }
}

/// The first mirror in apt's sources, in either of their forms.
fn mirror() -> Option<String> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let new = text("/etc/apt/sources.list.d/debian.sources");
    let named = new.lines().find_map(|line| {
        line.strip_prefix("URIs:")?
            .split_whitespace()
            .next()
            .map(str::to_owned)
    });
    let old = text("/etc/apt/sources.list");
    let is_address = |word: &&str| word.contains("://");
    named.or_else(|| {
        old.lines().find_map(|line| {
            line.strip_prefix("deb ")?
                .split(' ')
                .find(is_address)
                .map(str::to_owned)
        })
    })
}

fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([STEP_LIMIT, program]);
    command
}

/// apt-get with lists and a cache of its own.
fn apt(dir: &Path, words: &[&str]) -> Command {
    let mut command = bounded("apt-get");
    for (option, name) in [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::State::lists", "lists"),
        ("Dir::Cache", "cache"),
    ] {
        command
            .arg("-o")
            .arg(format!("{option}={}", dir.join(name).display()));
    }
    command
        .args([
            "-o",
            "Dir::Etc::sourceparts=-",
            "-o",
            "APT::Sandbox::User=root",
            "-qq",
        ])
        .args(words);
    command.current_dir(dir);
    command
}

fn package_in(dir: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|ending| ending == "deb"))
}

fn step(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said
        .lines()
        .last()
        .unwrap_or("a step of fetching it failed")
        .to_owned())
}
