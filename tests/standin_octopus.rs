//! The stand-in Octopus Server on the stand-in SQL Server, as processes on the loopback: it must
//! find what it is there to find, and accuse nobody else.

mod cluster;

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_octo-local");
const PASSWORD: &str = "Stand-in-01";
const KEY: &str = "c3RhbmQtaW4ta2V5LTAwMQ==";
const API_KEY: &str = "API-STANDIN0000000000000";
const PING: &str = "/api/octopusservernodes/ping";
const READY: &str = "Web server is ready to process requests";
/// Nothing here takes a tenth of this on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process, its log and its port; killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    port: u16,
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines,
            log: Vec::new(),
            port: 0,
        }
    }

    /// Waits for a line that contains `words`.
    fn says(&mut self, words: &str) -> String {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(give_up_at.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no `{words}` in {:#?}", self.log)
                }
            }
            if let Some(line) = self.log.last().filter(|line| line.contains(words)) {
                return line.clone();
            }
        }
    }

    /// Waits for its end; gives the exit code and the whole log.
    fn end(&mut self) -> (i32, String) {
        let give_up_at = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .lines
            .recv_timeout(give_up_at.saturating_duration_since(Instant::now()))
        {
            self.log.push(line);
        }
        assert!(Instant::now() < give_up_at, "it goes on: {:#?}", self.log);
        (
            self.child.wait().unwrap().code().unwrap_or(-1),
            self.log.join("\n"),
        )
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.end().0, 0);
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        exchange(self.port, method, path, body, PATIENCE).unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "")
    }

    /// Waits until the ping answers `status`.
    fn pings(&self, status: u16) {
        let give_up_at = Instant::now() + PATIENCE;
        while self.get(PING).0 != status {
            assert!(
                Instant::now() < give_up_at,
                "the ping never answered {status}, but {:?}",
                self.get(PING)
            );
            std::thread::yield_now();
        }
    }

    fn violations(&self) -> Vec<String> {
        let (status, body) = self.get("/api/standin/violations");
        assert_eq!(status, 200, "{body}");
        kinds(&body)
    }
}

/// The kinds in an answer about violations.
fn kinds(body: &str) -> Vec<String> {
    let list: Vec<Value> = serde_json::from_str(body).unwrap();
    list.iter()
        .map(|one| one["Kind"].as_str().unwrap().to_owned())
        .collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(
    port: u16,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(limit))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Octopus-ApiKey: {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let (began, mut answer, mut piece) = (Instant::now(), Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            _ if began.elapsed() > limit => return Err(std::io::ErrorKind::TimedOut.into()),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((
        status.ok_or(std::io::ErrorKind::InvalidData)?,
        body.to_owned(),
    ))
}

/// A SQL Server with its volume, and the volume that the nodes share.
struct Stack {
    sql: Running,
    dir: TempDir,
}

impl Stack {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("repository")).unwrap();
        Self {
            sql: sql(dir.path(), 0),
            dir,
        }
    }

    /// A command in the environment of a node's container.
    fn command(&self, name: &str, settings: &[(&str, &str)]) -> Command {
        let server = format!(
            "Server=127.0.0.1,{};Database=Octopus;User Id=SA;Password={PASSWORD}",
            self.sql.port
        );
        octopus(
            self.dir.path(),
            &[
                ("OCTOPUS_SERVER_NODE_NAME", name),
                ("DB_CONNECTION_STRING", &server),
            ],
            settings,
        )
    }

    /// A node whose port is open.
    fn node(&self, name: &str, settings: &[(&str, &str)]) -> Running {
        let mut node = Running::spawn(&mut self.command(name, settings));
        let line = node.says("is open");
        node.port = line
            .split(':')
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap();
        node
    }

    /// A node that serves.
    fn ready(&self, name: &str, settings: &[(&str, &str)]) -> Running {
        let mut node = self.node(name, settings);
        node.says(READY);
        node
    }
}

fn octopus(root: &Path, container: &[(&str, &str)], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["standin", "octopus"])
        .env_clear()
        .env("STANDIN_OCTOPUS_ROOT", root);
    command.envs([
        ("ACCEPT_EULA", "Y"),
        ("MASTER_KEY", KEY),
        ("ADMIN_API_KEY", API_KEY),
    ]);
    command.envs([
        ("STANDIN_OCTOPUS_BIND", "127.0.0.1"),
        ("STANDIN_OCTOPUS_PORT", "0"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "50"),
    ]);
    command
        .envs(container.iter().copied())
        .envs(settings.iter().copied());
    command
}

fn sql(dir: &Path, port: u16) -> Running {
    let mut command = Command::new(PROGRAM);
    command
        .args(["standin", "sql"])
        .env_clear()
        .env("STANDIN_MSSQL_ROOT", dir.join("mssql"));
    command.envs([
        ("ACCEPT_EULA", "Y"),
        ("MSSQL_SA_PASSWORD", PASSWORD),
        ("STANDIN_SQL_ADDRESS", "127.0.0.1"),
    ]);
    command.envs([
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
    ]);
    let mut sql = Running::spawn(command.env("STANDIN_SQL_PORT", port.to_string()));
    let line = sql.says("Server is listening on");
    sql.port = line
        .split("<ipv4> ")
        .nth(1)
        .and_then(|rest| rest.split(']').next()?.parse().ok())
        .unwrap();
    sql
}

#[test]
fn a_node_starts_serves_and_is_joined_by_another() {
    let stack = Stack::new();
    let mut first = stack.node("octopus-1", &[("STANDIN_OCTOPUS_MIGRATE_MS", "700")]);
    for path in [PING, "/api", "/api/serverstatus/hosted/internal", "/"] {
        assert_eq!(first.get(path).0, 503, "{path}");
    }
    first.says("Listening for HTTP requests on");
    first.says(READY);
    assert!(
        first
            .log
            .iter()
            .any(|line| line.starts_with("privileged: "))
    );
    let (status, ping) = first.get(PING);
    let ping: Value = serde_json::from_str(&ping).unwrap();
    assert_eq!(
        (status, &ping["Name"], &ping["IsInMaintenanceMode"]),
        (200, &"octopus-1".into(), &false.into())
    );
    let api: Value = serde_json::from_str(&first.get("/api").1).unwrap();
    assert_eq!(
        (&api["Version"], &api["IsStandIn"]),
        (&"2026.2.0".into(), &true.into())
    );
    assert!(first.get("/").1.contains("stand-in"));
    assert_eq!(first.get("/api/serverstatus/hosted/internal").0, 200);

    let second = stack.ready("octopus-2", &[]);
    let summary: Value =
        serde_json::from_str(&second.get("/api/octopusservernodes/summary").1).unwrap();
    assert_eq!(summary["Nodes"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        serde_json::from_str::<Value>(&second.get("/api").1).unwrap()["InstallationId"],
        api["InstallationId"]
    );
    assert!(stack.dir.path().join("repository/octopus-2.seen").exists());
    assert!(second.violations().is_empty());
    first.stop();
}

#[test]
fn a_drained_node_comes_back_drained() {
    let stack = Stack::new();
    let mut node = stack.ready("octopus-1", &[]);
    let port = node.port.to_string();
    let vendors_path = stack.dir.path().join("Octopus.Server");
    std::os::unix::fs::symlink(PROGRAM, &vendors_path).unwrap();
    let drain = |port: &str, wish: &str| {
        let container = stack.command("octopus-1", &[("STANDIN_OCTOPUS_PORT", port)]);
        let mut command = Command::new(&vendors_path);
        command.env_clear().envs(
            container
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        assert!(
            command
                .args(["node", "--instance", "OctopusServer", wish])
                .stdout(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    };
    drain(&port, "--drain=true");
    assert_eq!(
        node.get(PING).0,
        418,
        "the command returns when the server knows"
    );
    node.stop();
    let node = stack.ready("octopus-1", &[]);
    assert_eq!(node.get(PING).0, 418);
    drain(&node.port.to_string(), "--drain=false");
    assert_eq!(node.get(PING).0, 200);
    let path = "/api/octopusservernodes/OctopusServerNodes-octopus-1";
    assert_eq!(
        node.ask("PUT", path, r#"{"IsInMaintenanceMode":true}"#).0,
        200
    );
    node.pings(418);
}

#[test]
fn the_master_key_is_checked() {
    let stack = Stack::new();
    let mut node = stack.ready("octopus-1", &[("MASTER_KEY", "")]);
    let show = |key: &str| {
        let mut command = stack.command("octopus-1", &[("MASTER_KEY", key)]);
        let shown = command
            .args([
                "show-master-key",
                "--instance",
                "OctopusServer",
                "--format=json",
            ])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&shown.stdout).unwrap()["MasterKey"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let generated = show("");
    assert_eq!(show(KEY), KEY);
    assert!(!node.log.join("\n").contains(&generated));
    node.stop();
    for (key, words) in [
        ("", "Please enter a valid master key"),
        (KEY, "The master key is invalid"),
    ] {
        let (code, log) = stack.node("octopus-1", &[("MASTER_KEY", key)]).end();
        assert!(code == 1 && log.contains(words), "{code}: {log}");
    }
    stack.ready("octopus-1", &[("MASTER_KEY", &generated)]);
}

#[test]
fn two_nodes_that_start_at_once_are_found() {
    let stack = Stack::new();
    let mut first = stack.node("octopus-1", &[("STANDIN_OCTOPUS_FAULT", "slow-start=6")]);
    first.says("Applying script 1");
    let (code, log) = stack.node("octopus-2", &[]).end();
    assert!(
        code == 3 && log.contains("two nodes are migrating the same database: octopus-1"),
        "{code}: {log}"
    );
    first.says(READY);
    assert_eq!(first.violations(), ["concurrent-migration"]);
    stack.ready("octopus-2", &[]);
    assert_eq!(
        first.violations(),
        ["concurrent-migration"],
        "a later start is none"
    );
}

#[test]
fn a_killed_node_accuses_nobody() {
    let stack = Stack::new();
    let mut first = stack.node("octopus-1", &[("STANDIN_OCTOPUS_FAULT", "slow-start=30")]);
    first.says("Applying script 2");
    first.signal(Signal::KILL);
    first.end();
    let second = stack.ready("octopus-2", &[]);
    second.signal(Signal::KILL);
    drop(second);
    let newer = [
        ("STANDIN_OCTOPUS_VERSION", "2026.3.1"),
        ("STANDIN_OCTOPUS_GHOST_MS", "0"),
    ];
    let node = stack.ready("octopus-1", &newer);
    assert!(node.violations().is_empty(), "the old version was dead");
}

#[test]
fn other_versions_are_found() {
    let stack = Stack::new();
    let mut old = stack.ready("octopus-1", &[]);
    let newer = [("STANDIN_OCTOPUS_VERSION", "2026.10.1")];
    let (code, log) = stack.node("octopus-2", &newer).end();
    assert!(code == 3 && log.contains("mixed versions"), "{code}: {log}");
    old.stop();
    let mut new = stack.ready("octopus-2", &newer);
    new.stop();
    let (code, log) = stack.node("octopus-1", &[]).end();
    assert!(
        code == 3 && log.contains("schema is newer"),
        "{code}: {log}"
    );
    assert_eq!(
        stack.ready("octopus-1", &newer).violations(),
        ["mixed-versions", "downgrade"]
    );
}

#[test]
fn without_its_database_it_gives_up_or_waits() {
    let dir = tempfile::tempdir().unwrap();
    for (host, words) in [
        ("127.0.0.1,1", "after trying for 1 seconds"),
        (
            "no-such-host.invalid",
            "Connection test to \"master\" timed out",
        ),
    ] {
        let server = format!("Server={host};Database=Octopus;User Id=SA;Password={PASSWORD}");
        let settings = [
            ("DB_CONNECTION_STRING", server.as_str()),
            ("STANDIN_OCTOPUS_DB_TIMEOUT_S", "1"),
        ];
        let (code, log) = Running::spawn(&mut octopus(dir.path(), &[], &settings)).end();
        assert!(code == 1 && log.contains(words), "{host}: {code}: {log}");
    }

    let mut stack = Stack::new();
    let node = stack.ready("octopus-1", &[]);
    stack.sql.signal(Signal::KILL);
    node.pings(503);
    stack.sql = sql(stack.dir.path(), stack.sql.port);
    node.pings(200);
    assert!(node.violations().is_empty());
}

#[test]
fn faults_end_it_with_the_vendors_words() {
    let stack = Stack::new();
    let (code, log) = Running::spawn(&mut stack.command("n", &[("ACCEPT_EULA", "N")])).end();
    assert!(
        code == 1 && log.ends_with("ERROR: You must accept the EULA"),
        "{code}: {log}"
    );
    for (fault, expected, words) in [
        ("wrong-host", 1, "Name or service not known"),
        (
            "permission",
            1,
            "Access to the path '/repository' is denied",
        ),
        ("disk-full", 1, "No space left on device"),
        ("master-key", 1, "The master key is invalid"),
        (
            "license-expired",
            1,
            "FAIL: Your Octopus Server would not be compliant with your license",
        ),
        ("node-limit", 1, "license only allows 1 active nodes"),
        ("crash-at-start", 1, "Unhandled exception"),
        ("crash-after=0.3", 1, "Unhandled exception"),
        ("exit-zero-after=0.3", 0, "The server ends"),
        ("meteor", 78, "there is no fault `meteor`"),
    ] {
        let (code, log) = Running::spawn(
            &mut stack.command("octopus-1", &[("STANDIN_OCTOPUS_FAULT_OCTOPUS_1", fault)]),
        )
        .end();
        assert!(
            code == expected && log.contains(words),
            "{fault}: {code}: {log}"
        );
    }
    let once = [("STANDIN_OCTOPUS_FAULT", "crash-at-start@once")];
    std::fs::create_dir(stack.dir.path().join("cache")).unwrap();
    assert_eq!(stack.node("octopus-1", &once).end().0, 1);
    stack.ready("octopus-1", &once);
}

#[test]
fn faults_spoil_its_answers() {
    let stack = Stack::new();
    let faulty = |fault| stack.ready("octopus-1", &[("STANDIN_OCTOPUS_FAULT", fault)]);
    assert_eq!(faulty("redirect-loop").get(PING).0, 302);
    let flapping = faulty("flap=3");
    assert_eq!(
        [0; 6].map(|_| flapping.get(PING).0),
        [200, 200, 500, 200, 200, 500]
    );
    drop(flapping);
    let mut hung = faulty("hang-after=0");
    if !hung.log.iter().any(|line| line.contains("answers nothing")) {
        hung.says("answers nothing");
    }
    for node in [hung, faulty("slow-loris")] {
        exchange(node.port, "GET", PING, "", Duration::from_millis(700)).unwrap_err();
    }
    faulty("log-flood=5").says("A line of a flood");
    let mut slow = stack.node("octopus-1", &[("STANDIN_OCTOPUS_FAULT", "stuck-start")]);
    slow.says("database schema for");
    assert_eq!(slow.get(PING).0, 503);
    slow.stop();
}
