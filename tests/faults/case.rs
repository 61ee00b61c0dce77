//! One stack on one fake engine: its directories, its address, the program called for it. Dropping
//! it takes everything away.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::fake::FakeEngine;
use crate::fake::Nodes;
use crate::fake::invariants::Allowed;
use crate::fake::invariants::violations;
use crate::kit::docker::Witness;
use crate::kit::process::Ended;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;
use crate::kit::process::front_doors;
use crate::kit::process::is_over;
use crate::kit::process::wait_until;

/// The project of every case: each has an engine and directories of its own.
pub(super) const PROJECT: &str = "case";
/// The image of Octopus Server in every `.env`.
pub(super) const OCTOPUS: &str = "fake-octopus";
/// The cases so far in this process.
static CASES: AtomicU32 = AtomicU32::new(0);

/// A case.
pub(super) struct Case {
    pub(super) engine: FakeEngine,
    vars: RefCell<BTreeMap<String, String>>,
    dir: TempDir,
}

impl Case {
    /// A real configuration of two nodes on an engine that has its images.
    pub(super) fn new() -> Self {
        Self::with(Nodes::Inside)
    }

    /// The same, brought up.
    #[track_caller]
    pub(super) fn up() -> Self {
        let case = Self::new();
        case.run(&["up"]).ok();
        case
    }

    /// The same with this kind of nodes.
    pub(super) fn with(nodes: Nodes) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("octo-case-")
            .tempdir()
            .unwrap();
        for name in [PROJECT, "engine"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let engine = FakeEngine::new(&dir.path().join("engine"), nodes);
        for image in ["fake-sql:1", "fake-octopus:1.0", "fake-octopus:1.1"] {
            engine.add_image(image);
        }
        let case = Self {
            engine,
            vars: RefCell::default(),
            dir,
        };
        let address = free_address();
        for (key, value) in [
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
            ("SA_PASSWORD", "Tests-0f-octo-local"),
            ("ADMIN_PASSWORD", "Adm1n-of-octo-local"),
            ("SQL_IMAGE", "fake-sql:1"),
            ("OCTOPUS_IMAGE", OCTOPUS),
            ("OCTOPUS_SERVER_TAG", "1.0"),
            ("OCTOPUS_NODES", "2"),
            ("DISABLE_DIND", "Y"),
            ("SQL_BIND_ADDRESS", address.as_str()),
            ("BIND_ADDRESS", address.as_str()),
            ("START_PROBE_INTERVAL", "20ms"),
            ("PROBE_INTERVAL", "1s"),
            ("RESTART_BACKOFF_FIRST", "50ms"),
            ("RESTART_BACKOFF_MAX", "200ms"),
            ("STANDIN_SQL_START_DELAY_MS", "0"),
            ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
            ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
            ("STANDIN_OCTOPUS_STOP_MS", "0"),
        ] {
            case.set(key, value);
        }
        case
    }

    /// Sets a variable of `.env`.
    pub(super) fn set(&self, key: &str, value: &str) {
        self.vars
            .borrow_mut()
            .insert(key.to_owned(), value.to_owned());
        let mut text = String::new();
        for (key, value) in self.vars.borrow().iter() {
            writeln!(text, "{key}='{value}'").unwrap();
        }
        std::fs::write(self.dir.path().join(PROJECT).join(".env"), text).unwrap();
    }

    /// The project's state directory.
    pub(super) fn state(&self) -> PathBuf {
        self.dir.path().join("s").join(PROJECT)
    }

    /// The program, called from the project directory with the way to the engine and nothing else
    /// of the environment.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words)
            .current_dir(self.dir.path().join(PROJECT))
            .env_clear();
        command.env("DOCKER_HOST", self.engine.url());
        command.env("OCTO_LOCAL_STATE_DIR", self.dir.path().join("s"));
        command.env("OCTO_LOCAL_RUNTIME_DIR", self.dir.path().join("r"));
        command
    }

    /// Starts the program and lets it run.
    pub(super) fn spawn(&self, words: &[&str]) -> Running {
        Running::spawn(&mut self.command(words))
    }

    /// The engine as a person uses it: their calls always go well.
    pub(super) fn person(&self) -> Witness {
        Witness::at(&self.engine.url())
    }

    /// Runs the program to its end.
    #[track_caller]
    pub(super) fn run(&self, words: &[&str]) -> Ended {
        self.spawn(words).end()
    }

    /// The status as JSON.
    #[track_caller]
    pub(super) fn status(&self) -> Value {
        self.run(&["status", "--format", "json"]).ok().json()
    }

    /// Waits until the daemon says this word of the stack.
    #[track_caller]
    pub(super) fn wait_for(&self, verdict: &str) -> Value {
        wait_until(&format!("the stack is {verdict}"), || {
            Some(self.status())
                .filter(|status| status["verdict"] == verdict && status["supervised"] == true)
        })
    }

    /// One unit of the status.
    #[track_caller]
    pub(super) fn unit(&self, unit: &str) -> Value {
        let status = self.status();
        status["units"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["unit"] == unit)
            .cloned()
            .unwrap_or_default()
    }

    /// Ends the process of a unit as fate does, and waits until another one of it serves.
    #[track_caller]
    pub(super) fn strike(&self, unit: &str) {
        let before = self.starts()[unit];
        self.engine.strike(&Self::container(unit), Signal::KILL);
        wait_until(&format!("{unit} was started again"), || {
            (self.starts()[unit] > before).then_some(())
        });
        self.wait_for("ready");
    }

    /// The name of a unit's container.
    pub(super) fn container(unit: &str) -> String {
        if unit == "db" {
            format!("{PROJECT}-db-1")
        } else {
            format!("{PROJECT}-{unit}")
        }
    }

    /// The process that holds the daemon's lock, if any does.
    pub(super) fn daemon(&self) -> Option<Pid> {
        let lock = self.state().join("daemon.lock");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&lock)
            .ok()?;
        match file.try_lock() {
            Ok(()) => None,
            Err(_) => Pid::from_raw(std::fs::read_to_string(&lock).ok()?.trim().parse().ok()?),
        }
    }

    /// Kills the daemon as nothing else can.
    pub(super) fn kill_daemon(&self) {
        if let Some(daemon) = self.daemon() {
            let _ = rustix::process::kill_process(daemon, Signal::KILL);
        }
        wait_until("no daemon runs", || self.daemon().is_none().then_some(()));
    }

    /// Kills the front door, which outlives its daemon, and waits until its ports are free.
    fn kill_front_door(&self) {
        let control = self.dir.path().join("r").join(PROJECT).join("web.sock");
        for door in front_doors(&control.display().to_string()) {
            let _ = rustix::process::kill_process(door, Signal::KILL);
            wait_until("the front door is gone", || is_over(door).then_some(()));
        }
    }

    /// How often each unit's container was started so far.
    pub(super) fn starts(&self) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for (_, event) in self.engine.world().timeline.happened() {
            if let Some(unit) = event.unit().filter(|_| event.action == "start") {
                *starts.entry(unit.to_owned()).or_default() += 1;
            }
        }
        starts
    }

    /// Whether the state file wishes the stack to run.
    pub(super) fn is_wanted_up(&self) -> bool {
        let text = std::fs::read_to_string(self.state().join("state.json")).unwrap_or_default();
        let state: Value = serde_json::from_str(&text).unwrap_or_default();
        state["stored"]["up"] == true
    }

    /// Nothing of the project is left on the engine, save its data.
    pub(super) fn is_gone(&self) -> bool {
        let world = self.engine.world();
        world.containers.is_empty() && world.networks.is_empty()
    }

    /// Fails the test if the product broke an invariant.
    #[track_caller]
    pub(super) fn check(&self, allowed: &Allowed) {
        let found = violations(&self.engine.world(), PROJECT, allowed);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// Everything goes but the images and the `.env`: a machine on which nothing was done yet.
    pub(super) fn clear(&self) {
        self.kill_daemon();
        self.kill_front_door();
        self.engine.clear();
        for name in ["s", "r"] {
            let _ = std::fs::remove_dir_all(self.dir.path().join(name));
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.kill_daemon();
        self.kill_front_door();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default();
            let told = self.engine.world().timeline.told();
            let _ = std::io::stderr()
                .write_all(format!("--- time-line\n{told}--- daemon.log\n{log}\n").as_bytes());
        }
    }
}

/// A loopback address that no other case of this machine uses now, so that every case has all ports
/// for itself.
fn free_address() -> String {
    let (process, case) = (std::process::id(), CASES.fetch_add(1, Ordering::Relaxed));
    // A thousand numbers for each process, which has fewer cases at a time; no two share an address.
    let number = process.wrapping_mul(4 * 254) + case % (4 * 254);
    let (low, rest) = (1 + number % 254, number / 254);
    format!("127.{}.{}.{low}", 64 + rest / 256 % 128, rest % 256)
}
