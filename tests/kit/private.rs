//! A Docker Engine of a test's own, which it may restart, kill, freeze and starve. It lives in a
//! directory and a network namespace of its own, so that its bridges, ports and firewall rules end
//! with it. The machine's engine is not touched.
//!
//! With `OCTO_TEST_ENGINE` set, `dockerd`, `containerd` and its shim are taken from that directory:
//! the same tests then try another engine. Debian 13's `docker.io` and `containerd` packages, only
//! unpacked, run on Debian 12 with its own runc.

mod capabilities;
mod sandbox;

use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use super::disk::Disk;
use super::docker::Witness;
use super::images::Images;
use super::process::wait_until;
use sandbox::Sandbox;

/// How long one question whether the engine answers may take.
const PING_LIMIT: Duration = Duration::from_secs(2);
/// How many of the engine's last words a failed test shows.
const LAST_LINES: usize = 30;

/// An engine. Dropping it ends it with everything that it ran.
pub(crate) struct PrivateEngine {
    sandbox: Sandbox,
    dockerd: Option<Child>,
    /// Whether it lacks a capability, so that it cannot run privileged containers.
    refuses_privileges: bool,
}

/// The way to a private engine, and into its network.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    netns: PathBuf,
    socket: PathBuf,
}

impl Door {
    /// Where the engine listens.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A program in the engine's network.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.netns.display()))
            .arg(program);
        command
    }
}

impl PrivateEngine {
    /// An engine that runs privileged containers, with the stand-ins' images.
    pub(crate) fn start() -> Self {
        Self::with(&json!({}))
    }

    /// The same with more settings of `daemon.json`.
    pub(crate) fn with(settings: &Value) -> Self {
        Self::make(settings, false)
    }

    /// An engine that cannot run privileged containers, as in many sandboxes.
    pub(crate) fn that_refuses_privileges() -> Self {
        Self::make(&json!({}), true)
    }

    /// An engine that keeps its data on a disk of its own, of this size.
    pub(crate) fn on_a_small_disk(kilobytes: u64) -> (Self, Disk) {
        let engine = Self {
            sandbox: Sandbox::begin(),
            dockerd: None,
            refuses_privileges: false,
        };
        fs::create_dir(engine.path("data")).unwrap();
        let disk = Disk::mount(&engine.path("data"), kilobytes);
        (engine.ready(&json!({})), disk)
    }

    fn make(settings: &Value, refuses_privileges: bool) -> Self {
        Self {
            sandbox: Sandbox::begin(),
            dockerd: None,
            refuses_privileges,
        }
        .ready(settings)
    }

    fn ready(self, settings: &Value) -> Self {
        let mut engine = self;
        engine.configure(settings);
        engine.launch();
        Images::load_into(&engine.witness());
        engine
    }

    /// The way to it.
    pub(crate) fn door(&self) -> Door {
        Door {
            netns: self.sandbox.netns(),
            socket: self.path("docker.sock"),
        }
    }

    /// The directory that everything of it is in.
    pub(crate) fn dir(&self) -> String {
        self.sandbox.dir().display().to_string()
    }

    /// The sockets of its containers' shims, which containerd keeps elsewhere.
    pub(crate) fn shims(&self) -> Vec<PathBuf> {
        self.sandbox.shims()
    }

    /// A fresh connection to it.
    pub(crate) fn witness(&self) -> Witness {
        Witness::at(&self.door().url())
    }

    /// Starts dockerd, and waits until it answers.
    pub(crate) fn launch(&mut self) {
        self.launch_only();
        self.wait_until_it_answers();
    }

    /// Starts dockerd and does not wait.
    pub(crate) fn launch_only(&mut self) {
        assert!(self.dockerd.is_none(), "it runs already");
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.path("dockerd.log"))
            .unwrap();
        let mut command = self.door().command("setpriv");
        if self.refuses_privileges {
            command.args(["--bounding-set", "-sys_resource"]);
        }
        command
            .arg("dockerd")
            .arg("--config-file")
            .arg(self.path("daemon.json"));
        if let Some(programs) = std::env::var_os("OCTO_TEST_ENGINE") {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let places =
                std::iter::once(PathBuf::from(programs)).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(places).unwrap());
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.dockerd = Some(command.spawn().unwrap());
    }

    /// Sends dockerd a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(self.dockerd.as_ref().unwrap()), signal)
            .unwrap();
    }

    /// Ends dockerd as `systemctl stop docker` does.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.reap();
    }

    /// Kills dockerd as nothing else can. What it runs goes on.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.reap();
    }

    /// Everything that runs here ends at once, containers and the program under test too, and
    /// `/run` is empty: the host lost its power and came back. Nothing is started.
    pub(crate) fn cut_power(&mut self) {
        self.sandbox.end();
        self.reap();
        fs::remove_dir_all(self.path("exec")).unwrap();
        self.sandbox.restart();
    }

    fn reap(&mut self) {
        let mut dockerd = self.dockerd.take().unwrap();
        wait_until("dockerd ended", || dockerd.try_wait().unwrap());
        self.forget_containerd();
    }

    /// containerd ends with its dockerd. Until somebody reaps it, the next dockerd would take it
    /// for alive and wait in vain.
    fn forget_containerd(&self) {
        let file = self.path("exec/containerd/containerd.pid");
        let Ok(pid) = fs::read_to_string(&file) else {
            return;
        };
        let command = format!("/proc/{}/cmdline", pid.trim());
        // That of a zombie is empty.
        wait_until("containerd ended", || {
            fs::read(&command)
                .unwrap_or_default()
                .is_empty()
                .then_some(())
        });
        fs::remove_file(file).unwrap();
    }

    /// Waits until dockerd answers.
    pub(crate) fn wait_until_it_answers(&mut self) {
        wait_until("the private engine answers", || {
            let ended = self.dockerd.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "dockerd ended\n{}", self.last_words());
            self.answers().ok().filter(|answers| *answers)?;
            Some(())
        });
    }

    fn answers(&self) -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(self.path("docker.sock"))?;
        stream.set_read_timeout(Some(PING_LIMIT))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains(" 200 OK"))
    }

    /// The last lines of dockerd's log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.path("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it, if the test fails"
    )]
    fn tell(&self) {
        eprintln!("--- the private engine's last words\n{}", self.last_words());
    }

    fn configure(&self, settings: &Value) {
        let runtime = self.path("runtime");
        let missing = if self.refuses_privileges {
            Vec::new()
        } else {
            capabilities::missing()
        };
        fs::write(&runtime, capabilities::runtime(&missing)).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        let mut all = json!({
            "data-root": self.path("data"),
            "exec-root": self.path("exec"),
            "pidfile": self.path("docker.pid"),
            "hosts": [self.door().url()],
            "cgroup-parent": format!("/{}", self.sandbox.name()),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "runtimes": { "limited": { "path": runtime } },
            "default-runtime": "limited",
            "log-level": "warn",
        });
        all.as_object_mut()
            .unwrap()
            .extend(settings.as_object().unwrap().clone());
        fs::write(self.path("daemon.json"), all.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join(name)
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        self.sandbox.end();
        if let Some(mut dockerd) = self.dockerd.take() {
            let _ = dockerd.wait();
        }
    }
}
