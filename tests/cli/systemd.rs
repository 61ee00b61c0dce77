//! The systemd unit, and the daemon that systemd runs: it takes the stack over, and is what `up`
//! and `down` then talk to.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use super::Place;
use super::has;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// The value of a setting, if the unit has it once.
#[track_caller]
fn setting<'a>(unit: &'a str, key: &str) -> &'a str {
    let found: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect();
    assert_eq!(found.len(), 1, "{key} in\n{unit}");
    found[0]
}

fn unit(place: &Place, words: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = place.command(words);
    Running::spawn(command.envs(env.iter().copied()))
        .end()
        .ok()
        .out
}

#[test]
fn the_unit_has_the_paths_of_this_call_and_systemd_takes_it() {
    let place = Place::new();
    place.run(&["init"]).ok();
    let text = std::fs::read_to_string(place.dir().join(".env")).unwrap();
    place.write(
        ".env",
        text.replace("EULA=\n", "EULA=Y\n") + "NODE_STOP_GRACE=100s\nSQL_STOP_LIMIT=20s\n",
    );
    let text = unit(&place, &["-p", "octo", "systemd"], &[]);
    assert!(!text.contains('@'), "{text}");
    assert_eq!(
        setting(&text, "ExecStart"),
        format!("{PROGRAM} -p octo daemon")
    );
    assert_eq!(
        setting(&text, "WorkingDirectory"),
        format!("-{}", place.dir().canonicalize().unwrap().display())
    );
    for (key, value) in [
        ("Type", "notify"),
        ("Restart", "always"),
        ("KillMode", "process"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        // The default DRAIN_TIMEOUT, both graces, and a margin.
        ("TimeoutStopSec", "750s"),
        ("OOMScoreAdjust", "-900"),
        // The state directory of a test is there.
        ("PrivateTmp", "no"),
    ] {
        assert_eq!(setting(&text, key), value);
    }
    assert!(
        text.contains("Environment=DOCKER_HOST=unix:///nowhere.sock\n"),
        "{text}"
    );
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("Requires=") || line.starts_with("BindsTo="))
    );
    verified(&place, &text);
}

#[test]
fn usual_places_are_made_by_systemd_and_odd_ones_are_quoted() {
    let place = Place::new();
    let usual = [
        ("OCTO_LOCAL_STATE_DIR", ""),
        ("OCTO_LOCAL_RUNTIME_DIR", ""),
        ("DOCKER_HOST", ""),
        ("HOME", "/root"),
    ];
    if rustix::process::geteuid().is_root() {
        let text = unit(&place, &["systemd"], &usual);
        assert_eq!(setting(&text, "StateDirectory"), "octo-local/octo");
        assert_eq!(setting(&text, "RuntimeDirectoryPreserve"), "yes");
        assert!(
            setting(&text, "After").contains("docker.service") && !text.contains("DOCKER_HOST"),
            "{text}"
        );
        verified(&place, &text);
    }
    let text = unit(
        &place,
        &["systemd"],
        &[
            ("OCTO_LOCAL_STATE_DIR", "/srv/100% of \"it\""),
            ("DOCKER_HOST", "tcp://far:2375"),
        ],
    );
    assert!(
        text.contains("Environment=\"OCTO_LOCAL_STATE_DIR=/srv/100%% of \\\"it\\\"\"\n"),
        "{text}"
    );
    assert!(!text.contains("docker.service"), "{text}");
    verified(&place, &text);
    let mut command = place.command(&["systemd"]);
    let ended = Running::spawn(command.env("DOCKER_HOST", "unix:///a\nExecStart=/bin/false")).end();
    ended.with(1).says("cannot be written into a unit");
}

/// systemd's own check, where it is.
fn verified(place: &Place, text: &str) {
    if has("systemd-analyze") {
        let path = place.write("octo-local-octo.service", text);
        let checked = Command::new("systemd-analyze")
            .arg("verify")
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(
            checked.status.success() && !said.contains("octo-local"),
            "{said}"
        );
    }
}

/// Reads what systemd is told up to this.
#[track_caller]
fn is_told(manager: &UnixDatagram, expected: &str) {
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut told = Vec::new();
    loop {
        let mut bytes = [0; 4_096];
        let length = manager.recv(&mut bytes);
        let length = length.unwrap_or_else(|error| panic!("{error}; told was {told:#?}"));
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.lines().any(|line| line.starts_with(expected)) {
            return;
        }
        told.push(text);
    }
}

#[test]
fn systemds_daemon_takes_over_and_up_and_down_are_at_home_with_it() {
    let stack = Stack::demo("cli-systemd");
    stack.run(&["up", "--demo"]).ok();
    let (started, first) = (stack.started(), stack.daemon());
    let notify = stack.dir().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let mut command = stack.command(&["daemon"]);
    let daemon = Running::spawn(command.env("NOTIFY_SOCKET", &notify));
    wait_until("another daemon has the project", || {
        stack.daemon().filter(|now| Some(*now) != first)
    });
    let status = stack.wait_for("ready");
    assert_eq!(
        (&status["ends_when_down"], stack.started()),
        (&false.into(), started)
    );
    stack.run(&["daemon"]).with(73).says("runs already");
    stack.run(&["up", "--demo"]).ok();
    is_told(&manager, "READY=1");
    is_told(&manager, "STATUS=ready (2 of 2 ready)");
    stack.run(&["down"]).ok();
    assert!(stack.daemon().is_some(), "systemd's daemon stays");
    assert_eq!(stack.status()["verdict"], "down");
    is_told(&manager, "STATUS=down");
    daemon.signal(rustix::process::Signal::TERM);
    stack.end(daemon).ok();
}

#[test]
fn up_follows_from_one_daemon_to_the_next() {
    let stack = Stack::demo("cli-next");
    stack.set("STANDIN_OCTOPUS_FAULT", "slow-start=4@once");
    let first = stack.spawn(&["daemon"]);
    wait_until("it is there", || stack.daemon());
    let up = stack.spawn(&["up", "--demo"]);
    wait_until("the node was started", || {
        stack
            .starts(stack.since)
            .contains(&"octopus-server-1".to_owned())
            .then_some(())
    });
    stack.kill_daemon();
    let daemon = stack.spawn(&["daemon"]);
    drop(first);
    stack.end(up).ok().says("is ready after");
    assert_eq!(
        stack.status()["ends_when_down"],
        false,
        "it waited for the one that came"
    );
    daemon.signal(rustix::process::Signal::TERM);
    stack.end(daemon).ok();
}
