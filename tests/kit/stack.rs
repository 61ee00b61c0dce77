//! One stack for one test: its project directory, state, ports and name. Dropping it takes
//! everything away, and checks that no secret was ever shown.

use std::cell::RefCell;
use std::cell::RefMut;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::disk::Disk;
use super::docker::Told;
use super::docker::Witness;
use super::images::Images;
use super::images::TAGS;
use super::private::Door;
use super::private::PrivateEngine;
use super::process::Ended;
use super::process::PROGRAM;
use super::process::Running;
use super::process::wait_until;
use super::recorder::Recorder;

/// Ports of a stack: SQL Server's, then the web address, then up to eight nodes'.
const PORTS: u16 = 10;
/// Below the ports that the kernel gives to clients.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 31_000;
/// The next ports to try in this process.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// The password of `sa` in every test's `.env`.
pub(crate) const SA_PASSWORD: &str = "Tests-0f-octo-local";
/// The first user's password in every test's `.env`.
pub(crate) const ADMIN_PASSWORD: &str = "Adm1n-of-octo-local";

/// A stack.
pub(crate) struct Stack {
    /// The project.
    pub(crate) name: String,
    /// The engine, seen past the product.
    pub(crate) witness: Witness,
    /// When the stack was made, by the engine's clock.
    pub(crate) since: i64,
    /// What is mounted in `dir`, which goes after it.
    disk: RefCell<Option<Disk>>,
    dir: TempDir,
    vars: RefCell<BTreeMap<String, String>>,
    /// Those that are not in `.env`.
    unwritten: RefCell<BTreeSet<String>>,
    /// What must never be shown.
    secrets: RefCell<Vec<String>>,
    shown: RefCell<String>,
    place: Place,
}

/// Which engine a stack is on.
enum Place {
    /// The machine's, where the images are there as long as somebody uses them.
    Machine { _images: Images, recorder: Recorder },
    /// One of the test's own, with which everything in it ends.
    Private(Door),
}

impl Stack {
    /// A demo's project, with nothing but ports in its `.env`.
    pub(crate) fn demo(name: &str) -> Self {
        let witness = Witness::new();
        let images = Images::acquire(&witness);
        let since = witness.now();
        let recorder = Recorder::new(&label_of(&name_of(name)), since);
        Self::at(
            Place::Machine {
                _images: images,
                recorder,
            },
            witness,
            since,
            name,
        )
    }

    /// The same on an engine of the test's own.
    pub(crate) fn demo_on(engine: &PrivateEngine, name: &str) -> Self {
        let witness = engine.witness();
        let since = witness.now();
        Self::at(Place::Private(engine.door()), witness, since, name)
    }

    /// A real stack's project, whose images are the stand-ins'.
    pub(crate) fn real(name: &str) -> Self {
        Self::demo(name).made_real()
    }

    /// The same on an engine of the test's own.
    pub(crate) fn real_on(engine: &PrivateEngine, name: &str) -> Self {
        Self::demo_on(engine, name).made_real()
    }

    fn at(place: Place, witness: Witness, since: i64, name: &str) -> Self {
        let port = free_ports();
        let stack = Self {
            name: name_of(name),
            since,
            witness,
            place,
            disk: RefCell::default(),
            dir: tempfile::Builder::new().prefix("octo-").tempdir().unwrap(),
            vars: RefCell::default(),
            unwritten: RefCell::default(),
            secrets: RefCell::default(),
            shown: RefCell::default(),
        };
        std::fs::create_dir(stack.dir()).unwrap();
        stack.sweep();
        stack.set("SQL_PORT", &port.to_string());
        stack.set("OCTOPUS_PORT", &(port + 1).to_string());
        stack
    }

    fn made_real(self) -> Self {
        for (key, value) in [
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
            ("SA_PASSWORD", SA_PASSWORD),
            ("ADMIN_PASSWORD", ADMIN_PASSWORD),
            ("SQL_IMAGE", &Images::sql()),
            ("OCTOPUS_IMAGE", &Images::octopus()),
            ("OCTOPUS_SERVER_TAG", TAGS[0]),
            ("DISABLE_DIND", "Y"),
        ] {
            self.set(key, value);
        }
        self.secret(SA_PASSWORD);
        self.secret(ADMIN_PASSWORD);
        self
    }

    /// The project directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// The project's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("s").join(&self.name)
    }

    /// Gives the state directory a disk of its own, of this size.
    pub(crate) fn keep_state_on_a_small_disk(&self, kilobytes: u64) {
        let root = self.dir.path().join("s");
        std::fs::create_dir_all(&root).unwrap();
        *self.disk.borrow_mut() = Some(Disk::mount(&root, kilobytes));
    }

    /// The disk that the state is kept on.
    pub(crate) fn disk(&self) -> RefMut<'_, Disk> {
        RefMut::map(self.disk.borrow_mut(), |disk| disk.as_mut().unwrap())
    }

    /// Where its engine listens.
    pub(crate) fn engine(&self) -> String {
        match &self.place {
            Place::Machine { .. } => super::docker::machine(),
            Place::Private(door) => door.url(),
        }
    }

    /// The label of everything that is the project's.
    pub(crate) fn label(&self) -> String {
        label_of(&self.name)
    }

    /// Removes everything of the stack, a lease that a killed daemon left too.
    fn sweep(&self) {
        self.witness.sweep(&self.label());
        self.witness
            .sweep(&format!("octo-local.lease={}", self.name));
    }

    /// The name of a unit's container.
    pub(crate) fn container(&self, unit: &str) -> String {
        if unit == "db" {
            format!("{}-db-1", self.name)
        } else {
            format!("{}-{unit}", self.name)
        }
    }

    /// The port on the host that a unit publishes: the first node has the web address where there is
    /// no front door, and the port after it behind one.
    pub(crate) fn port(&self, unit: &str) -> u16 {
        let Some(number) = unit.strip_prefix("octopus-server-") else {
            return self.port_in("SQL_PORT");
        };
        let vars = self.vars.borrow();
        let has_door = vars.get("FRONT_DOOR").is_none_or(|value| value == "on");
        self.web() + number.parse::<u16>().unwrap() - u16::from(!has_door)
    }

    /// The port of the web address.
    pub(crate) fn web(&self) -> u16 {
        self.port_in("OCTOPUS_PORT")
    }

    fn port_in(&self, key: &str) -> u16 {
        self.vars.borrow()[key].parse().unwrap()
    }

    /// Sets a variable of `.env`.
    pub(crate) fn set(&self, key: &str, value: &str) {
        self.vars
            .borrow_mut()
            .insert(key.to_owned(), value.to_owned());
        self.write_env();
    }

    /// Takes a variable out of `.env`.
    pub(crate) fn unset(&self, key: &str) {
        self.vars.borrow_mut().remove(key);
        self.write_env();
    }

    /// Takes a variable out of `.env` that the test itself still goes by, as it does by ports.
    pub(crate) fn unset_in_env_alone(&self, key: &str) {
        self.unwritten.borrow_mut().insert(key.to_owned());
        self.write_env();
    }

    /// Sets a variable for a while. Gives what it was.
    pub(crate) fn replace(&self, key: &str, value: &str) -> Option<String> {
        let before = self.vars.borrow().get(key).cloned();
        self.set(key, value);
        before
    }

    /// Sets it to what it was.
    pub(crate) fn put_back(&self, key: &str, before: Option<String>) {
        match before {
            Some(value) => self.set(key, &value),
            None => self.unset(key),
        }
    }

    fn write_env(&self) {
        let mut text = String::new();
        let unwritten = self.unwritten.borrow();
        let vars = self.vars.borrow();
        for (key, value) in vars.iter().filter(|(key, _)| !unwritten.contains(*key)) {
            writeln!(text, "{key}='{value}'").unwrap();
        }
        std::fs::write(self.dir().join(".env"), text).unwrap();
    }

    /// Something that must never be shown.
    pub(crate) fn secret(&self, secret: &str) {
        self.secrets.borrow_mut().push(secret.to_owned());
    }

    /// The program, called for this project from its directory, with nothing of the test's own
    /// environment but the way to the engine.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_of(PROGRAM.as_ref(), words)
    }

    /// The same for another copy of the program.
    pub(crate) fn command_of(&self, program: &std::path::Path, words: &[&str]) -> Command {
        let mut command = match &self.place {
            Place::Machine { .. } => Command::new(program),
            Place::Private(door) => door.command(program.to_str().unwrap()),
        };
        command.args(words).current_dir(self.dir()).env_clear();
        for key in ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        if let Place::Private(door) = &self.place {
            command.env("DOCKER_HOST", door.url());
        }
        command.env("OCTO_LOCAL_STATE_DIR", self.dir.path().join("s"));
        command.env("OCTO_LOCAL_RUNTIME_DIR", self.dir.path().join("r"));
        command
    }

    /// Runs the program to its end.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        self.end(self.spawn(words))
    }

    /// Starts the program and lets it run.
    pub(crate) fn spawn(&self, words: &[&str]) -> Running {
        Running::spawn(&mut self.command(words))
    }

    /// Waits for the end of what `spawn` started.
    #[track_caller]
    pub(crate) fn end(&self, running: Running) -> Ended {
        let ended = running.end();
        writeln!(self.shown.borrow_mut(), "{}\n{}", ended.out, ended.err).unwrap();
        ended
    }

    /// The status as JSON.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--format", "json"]).ok().json()
    }

    /// One unit of the status; null when it has none of that name.
    #[track_caller]
    pub(crate) fn unit(&self, unit: &str) -> Value {
        let status = self.status();
        let of = |list: &str| status[list].as_array().cloned().unwrap_or_default();
        of("units")
            .iter()
            .chain(&of("tentacles"))
            .find(|one| one["unit"] == unit)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until the stack's verdict is this word.
    #[track_caller]
    pub(crate) fn wait_for(&self, verdict: &str) -> Value {
        wait_until(&format!("{} is {verdict}", self.name), || {
            Some(self.status()).filter(|status| status["verdict"] == verdict)
        })
    }

    /// Waits until a unit is in this phase.
    #[track_caller]
    pub(crate) fn wait_for_unit(&self, unit: &str, phase: &str) -> Value {
        wait_until(&format!("{unit} is {phase}"), || {
            Some(self.unit(unit)).filter(|unit| unit["phase"] == phase)
        })
    }

    /// What the engine told about the stack's containers: action and unit, in order.
    pub(crate) fn events(&self, since: i64) -> Vec<Told> {
        let prefix = format!("{}-", self.name);
        let mut told = self.witness.events(&self.label(), since);
        if let Place::Machine { recorder, .. } = &self.place {
            told = recorder.since(since, told);
        }
        for event in &mut told {
            event.name = match event.name.strip_prefix(&prefix).unwrap_or_default() {
                "db-1" => "db".to_owned(),
                unit => unit.to_owned(),
            };
        }
        told
    }

    /// The units that were started since then, in order.
    pub(crate) fn starts(&self, since: i64) -> Vec<String> {
        self.events(since)
            .into_iter()
            .filter(|told| told.action == "start")
            .map(|told| told.name)
            .collect()
    }

    /// When each of the stack's containers was started, by name.
    pub(crate) fn started(&self) -> BTreeMap<String, String> {
        let names = self.witness.containers(&self.label());
        names
            .into_iter()
            .map(|name| (name.clone(), self.witness.started_at(&name)))
            .collect()
    }

    /// The process that holds the daemon's lock, if any does.
    pub(crate) fn daemon(&self) -> Option<Pid> {
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

    /// Sends the daemon a signal.
    #[track_caller]
    pub(crate) fn signal_daemon(&self, signal: Signal) {
        rustix::process::kill_process(self.daemon().expect("a daemon runs"), signal).unwrap();
    }

    /// Kills the daemon as nothing else can, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill_daemon(&self) {
        self.signal_daemon(Signal::KILL);
        self.wait_for_no_daemon();
    }

    /// Waits until no daemon runs.
    #[track_caller]
    pub(crate) fn wait_for_no_daemon(&self) {
        wait_until("no daemon runs", || self.daemon().is_none().then_some(()));
    }

    /// Everything that the product showed or wrote for people.
    fn everything_shown(&self) -> String {
        let mut text = self.shown.borrow().clone();
        for name in [
            "daemon.log",
            "daemon.log.1",
            "web.log",
            "events.jsonl",
            "events.jsonl.1",
        ] {
            text.push_str(&std::fs::read_to_string(self.state().join(name)).unwrap_or_default());
        }
        text
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon() {
            let _ = rustix::process::kill_process(daemon, Signal::KILL);
            wait_until("the daemon is gone", || {
                self.daemon().is_none().then_some(())
            });
        }
        for door in self.front_doors() {
            let _ = rustix::process::kill_process(door, Signal::KILL);
        }
        if let Place::Machine { .. } = self.place {
            self.sweep();
        }
        let shown = self.everything_shown();
        if std::thread::panicking() {
            let _ = std::io::stderr()
                .write_all(format!("--- everything shown by {}\n{shown}\n", self.name).as_bytes());
            return;
        }
        let told = self
            .secrets
            .borrow()
            .iter()
            .any(|secret| shown.contains(secret.as_str()));
        assert!(!told, "a secret was shown:\n{shown}");
    }
}

/// The project's name for a test.
fn name_of(test: &str) -> String {
    format!("octo-test-{test}-{}", checkout())
}

fn label_of(project: &str) -> String {
    format!("octo-local.project={project}")
}

/// Tells checkouts apart: tests of two of them may run on one engine at the same time.
fn checkout() -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(env!("CARGO_MANIFEST_DIR"));
    format!("{:02x}{:02x}", digest[0], digest[1])
}

/// The first of some neighbouring ports that nothing listens on.
fn free_ports() -> u16 {
    let blocks = (LAST_PORT - FIRST_PORT) / PORTS;
    let offset = u16::try_from(std::process::id() % u32::from(blocks)).unwrap();
    (0..blocks)
        .map(|_| FIRST_PORT + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks * PORTS)
        .find(|first| {
            (0..PORTS).all(|number| TcpListener::bind(("127.0.0.1", first + number)).is_ok())
        })
        .expect("some ports are free")
}
