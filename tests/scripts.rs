//! The README's two commands: what they make of the machine they are run on. `engine.sh` is run on
//! a made-up machine, whose commands only write down that they were called; `demo.sh` on the real
//! engine, with the program that is already built.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::kit::process::Ended;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;
use crate::kit::stack::Stack;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What every Debian machine has. Nothing else of this machine is on the made-up one's path.
const ESSENTIAL: [&str; 6] = ["bash", "cat", "setsid", "sleep", "tail", "timeout"];

/// A machine that is only a directory of commands. Each writes its name and arguments into `calls`.
struct Machine {
    dir: TempDir,
    variables: HashMap<&'static str, String>,
}

impl Machine {
    /// A machine with a compiler, where the caller is root and no engine answers.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let machine = Self {
            dir,
            variables: HashMap::new(),
        };
        for name in ESSENTIAL {
            symlink(found(name), machine.bin(name)).unwrap();
        }
        machine.command("id", "echo 0");
        machine.command("cc", "echo /");
        machine.command("curl", "false");
        machine
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// Gives it a command. `up` is the file that says that an engine runs.
    fn command(&self, name: &str, does: &str) -> &Self {
        let script = format!("#!/bin/bash\necho \"{name} $*\" >>calls\n{does}\n");
        fs::write(self.bin(name), script).unwrap();
        fs::set_permissions(self.bin(name), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// apt-get that brings an engine, which nobody starts, with the docker command.
    fn with_debian(&self) -> &Self {
        fs::write(self.dir.path().join("docker"), "#!/bin/bash\n[ -e up ]\n").unwrap();
        fs::set_permissions(
            self.dir.path().join("docker"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        self.command(
            "apt-get",
            "case \"$*\" in *docker.io*) cp docker bin/docker; ln -s /bin/true bin/dockerd ;; esac",
        );
        symlink(found("cp"), self.bin("cp")).unwrap();
        symlink(found("ln"), self.bin("ln")).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    /// Calls a function of `engine.sh` there.
    fn run(&self, call: &str) -> Ended {
        let mut command = Command::new(found("bash"));
        command.args([
            "-euo",
            "pipefail",
            "-c",
            &format!(". {ROOT}/tests/engine.sh; {call}"),
        ]);
        command.current_dir(self.dir.path()).env_clear();
        command
            .env("PATH", self.dir.path().join("bin"))
            .env("HOME", self.dir.path());
        command
            .env("ENGINE_LIMIT", "1")
            .env("ENGINE_LOG", self.dir.path().join("dockerd.log"));
        Running::spawn(command.envs(&self.variables)).end()
    }

    /// The calls of commands that change a machine or ask an engine, in order.
    fn calls(&self, names: &[&str]) -> Vec<String> {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        let wanted = |call: &&str| {
            names
                .iter()
                .any(|name| call.split(' ').next() == Some(name))
        };
        calls.lines().filter(wanted).map(str::to_owned).collect()
    }
}

/// Where this machine has a program.
fn found(name: &str) -> PathBuf {
    let dirs = ["/usr/bin", "/bin", "/usr/sbin"];
    dirs.iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
        .expect("Debian has it")
}

const CHANGES: [&str; 4] = ["apt-get", "systemctl", "service", "dockerd"];

#[test]
fn an_engine_that_answers_is_used_as_it_is() {
    let machine = Machine::new();
    machine.command("docker", "true");
    machine.run("need_engine").ok();
    assert_eq!(machine.calls(&CHANGES), Vec::<String>::new());
}

#[test]
fn an_engine_is_found_without_the_docker_command() {
    let machine = Machine::new();
    machine.command("curl", "[ \"$5\" = /var/run/docker.sock ]");
    machine.run("need_engine").ok();
    assert_eq!(
        machine.calls(&["curl"]),
        ["curl -sf -m 20 --unix-socket /var/run/docker.sock http://engine/_ping"]
    );
    let machine = Machine::new().variable("DOCKER_HOST", "tcp://far:2375");
    machine.command("curl", "true");
    machine.run("need_engine").ok();
    assert_eq!(
        machine.calls(&["curl"]),
        ["curl -sf -m 20 http://far:2375/_ping"]
    );
    assert_eq!(machine.calls(&CHANGES), Vec::<String>::new());
}

#[test]
fn an_engine_that_was_named_and_does_not_answer_is_not_replaced() {
    for (variable, value) in [
        ("DOCKER_HOST", "unix:///nowhere.sock"),
        ("DOCKER_CONTEXT", "far"),
    ] {
        let machine = Machine::new().variable(variable, value);
        machine.with_debian();
        machine
            .run("need_engine")
            .with(69)
            .says(&format!("{variable}={value}"));
        assert_eq!(machine.calls(&CHANGES), Vec::<String>::new());
    }
}

#[test]
fn without_root_nothing_is_changed_and_the_way_out_is_named() {
    let machine = Machine::new();
    machine.with_debian().command("id", "echo 1000");
    machine
        .run("need_engine")
        .with(69)
        .says("as root, install docker.io");
    machine
        .run("need_tools missing=some-package")
        .with(69)
        .says("as root, apt-get install some-package");
    assert_eq!(machine.calls(&CHANGES), Vec::<String>::new());
}

#[test]
fn without_an_engine_debians_is_installed_and_started_by_systemd() {
    let machine = Machine::new();
    machine.with_debian().command(
        "systemctl",
        "case $1 in start) >up ;; *) echo running ;; esac",
    );
    machine.run("need_engine").ok();
    let calls = machine.calls(&CHANGES);
    assert!(
        calls[0].ends_with(" update") && calls[0].contains("DPkg::Lock::Timeout="),
        "{calls:?}"
    );
    assert!(
        calls[1].ends_with(" install --no-install-recommends docker.io curl"),
        "{calls:?}"
    );
    assert_eq!(
        calls[2..],
        ["systemctl is-system-running", "systemctl start docker"]
    );
}

#[test]
fn where_no_systemd_runs_the_init_script_starts_the_engine() {
    let machine = Machine::new();
    machine
        .with_debian()
        .command("systemctl", "echo offline; false")
        .command("service", ">up");
    machine.run("need_engine").ok();
    assert_eq!(
        machine.calls(&["systemctl", "service"]),
        ["systemctl is-system-running", "service docker start"]
    );
}

#[test]
fn without_any_init_the_engine_is_started_with_its_log_in_a_file() {
    let machine = Machine::new();
    machine
        .command("docker", "[ -e up ]")
        .command("service", "true")
        .command("dockerd", "echo begun; >up");
    machine.run("need_engine").ok().says("dockerd.log");
    assert_eq!(
        machine.calls(&CHANGES),
        ["service docker start", "dockerd "],
        "it was there: nothing is installed"
    );
    assert_eq!(
        fs::read_to_string(machine.dir.path().join("dockerd.log")).unwrap(),
        "begun\n"
    );
}

#[test]
fn an_engine_that_does_not_come_up_is_named_with_its_log() {
    let machine = Machine::new();
    machine
        .command("docker", "false")
        .command("dockerd", "echo no cgroups");
    machine
        .run("need_engine")
        .with(69)
        .says("no cgroups")
        .says("does not answer");
}

#[test]
fn tools_that_are_missing_are_installed_and_no_others() {
    let machine = Machine::new();
    machine.command("apt-get", "true");
    machine.run("need_tools curl=curl bash=bash").ok();
    assert_eq!(machine.calls(&CHANGES), Vec::<String>::new());
    machine.command("cc", "echo libc.a");
    machine.run("need_tools curl=curl tsql=freetds-bin").ok();
    let calls = machine.calls(&CHANGES);
    assert!(
        calls[1].ends_with(" install --no-install-recommends freetds-bin gcc libc6-dev"),
        "{calls:?}"
    );
}

#[test]
fn another_apt_gets_lock_is_waited_for_and_other_failures_are_shown() {
    let machine = Machine::new();
    machine.command(
        "apt-get",
        "[ -e once ] || { >once; echo 'E: Could not get lock /var/lib/apt/lists/lock' >&2; false; }",
    );
    machine.run("need_tools tsql=freetds-bin").ok();
    assert_eq!(
        machine.calls(&CHANGES).len(),
        3,
        "update, update again, install"
    );
    let machine = Machine::new().variable("LOCK_LIMIT", "1");
    machine.command("apt-get", "echo 'E: Could not get lock' >&2; false");
    machine
        .run("need_tools tsql=freetds-bin")
        .with(69)
        .says("Could not get lock");
    machine.command(
        "apt-get",
        "echo 'E: Temporary failure resolving' >&2; false",
    );
    machine
        .run("need_tools tsql=freetds-bin")
        .with(69)
        .says("Temporary failure resolving");
}

#[test]
fn the_demo_script_ends_with_a_running_stack_and_says_how_to_take_it_away() {
    let stack = Stack::demo("scripts");
    let tools = tempfile::tempdir().unwrap();
    let host = tools.path().join("target/here/debug");
    fs::create_dir_all(&host).unwrap();
    symlink(PROGRAM, host.join("octo-local")).unwrap();
    for (name, does) in [
        ("cargo", "[ \"$1\" = build ]"),
        ("rustc", "echo host: here"),
    ] {
        fs::write(tools.path().join(name), format!("#!/bin/bash\n{does}\n")).unwrap();
        fs::set_permissions(tools.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = stack.command_of(&found("bash"), &[&format!("{ROOT}/tests/demo.sh")]);
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    command.env("PATH", format!("{}:{path}", tools.path().display()));
    command
        .env("CARGO_TARGET_DIR", tools.path().join("target"))
        .env("COMPOSE_PROJECT_NAME", &stack.name);
    let ports = fs::read_to_string(stack.dir().join(".env")).unwrap();
    command.envs(
        ports
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, port)| (key, port.trim_matches('\''))),
    );
    let ended = Running::spawn(&mut command).end().ok();
    assert_eq!(
        stack.starts(stack.since),
        ["db", "octopus-server-1", "octopus-server-2"]
    );
    assert_eq!(stack.status()["verdict"], "ready");
    for (what, word) in [
        ("look at it", "ready"),
        ("what it did", "started"),
        ("take it away", ""),
    ] {
        let line = ended
            .out
            .lines()
            .find_map(|line| line.trim().strip_prefix(what))
            .expect("it is printed");
        let ended = Running::spawn(
            stack
                .command_of(&found("bash"), &["-c", line.trim()])
                .current_dir("/"),
        )
        .end()
        .ok();
        assert!(ended.out.contains(word), "{what}: {}", ended.out);
    }
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
}
