//! Looking at a stack: names of units, streams that end with Ctrl-C, JSON for machines, one line a
//! transition in a pipe.

use std::fs::File;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// A command whose standard output can be read while it goes on, and may be long.
struct Followed {
    running: Running,
    path: PathBuf,
}

impl Followed {
    fn spawn(stack: &Stack, words: &[&str]) -> Self {
        let path = stack.dir().join(words.join("-"));
        let mut command =
            stack.command_of("/bin/sh".as_ref(), &["-c", "exec \"$0\" \"$@\" >\"$OUT\""]);
        command
            .arg(crate::kit::process::PROGRAM)
            .args(words)
            .env("OUT", &path);
        File::create(&path).unwrap();
        Self {
            running: Running::spawn(&mut command),
            path,
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn end(self, stack: &Stack, code: i32) -> String {
        stack.end(self.running).with(code);
        std::fs::read_to_string(&self.path).unwrap()
    }
}

/// Every line as JSON.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("standard output is JSON only"))
        .collect()
}

#[test]
fn a_stack_can_be_looked_at_by_people_and_machines() {
    let stack = Stack::demo("cli-look");
    let statuses =
        lines(&Followed::spawn(&stack, &["up", "--demo", "--format", "json"]).end(&stack, 0));
    assert_eq!(statuses.last().unwrap()["verdict"], "ready");
    assert!(statuses.iter().any(|status| status["verdict"] == "working"));
    let again = stack.run(&["up", "--demo"]).ok();
    assert!(
        again.out.is_empty() && !again.err.contains('\x1b') && again.err.contains("is ready after"),
        "{again:?}"
    );
    let plan = stack
        .run(&["plan", "--demo", "--nodes", "2", "--format", "json"])
        .with(2);
    assert!(
        plan.json()["changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|change| change["what"] == "create")
    );
    let happened = lines(&stack.run(&["events", "--format", "json"]).ok().out);
    assert!(
        happened
            .iter()
            .any(|entry| entry["subject"] == "octopus-server-1" && entry["what"] == "ready")
    );
    assert_eq!(
        lines(
            &stack
                .run(&[
                    "events",
                    "--since",
                    "2126-01-01T00:00:00Z",
                    "--format",
                    "json"
                ])
                .ok()
                .out
        )
        .len(),
        0
    );
    machines(&stack);
    names(&stack);
    followed(&stack);
}

/// What machines read has the number of its form, and exit codes tell whether it serves.
fn machines(stack: &Stack) {
    stack.run(&["status", "--check"]).ok();
    let status = stack.run(&["status", "db", "--format", "json"]).ok().json();
    assert_eq!(status["units"].as_array().unwrap().len(), 1, "{status}");
    assert!(status["schema"].as_u64() >= Some(2) && status["boot"]["unit"].is_null());
    let told = stack.run(&["explain", "--format", "json"]).ok().json();
    assert_eq!(
        (&told["schema"], &told["verdict"]),
        (&1.into(), &"ready".into())
    );
    assert_eq!(told["units"][0]["unit"], "db");
    assert!(
        !told["units"][1]["log"].as_array().unwrap().is_empty(),
        "{told}"
    );
    let list = stack.run(&["ls", "--format", "json"]).ok().json();
    assert_eq!(list["projects"][0]["project"], stack.name.as_str());
    assert_eq!(list["projects"][0]["verdict"], "ready");
    let table = stack.run(&["status"]).ok().out;
    assert!(
        table.contains("boot: not set up, see `octo-local systemd`"),
        "{table}"
    );
    assert_eq!(stack.run(&["plan", "--demo"]).ok().out.lines().count(), 1);
    let key = stack.run(&["secrets", "MASTER_KEY"]).ok().out;
    assert!(key.trim_end().len() >= 22, "a key, and nothing else");
    let mut elsewhere = stack.command(&["-p", "octo-test-nobody", "stop"]);
    Running::spawn(elsewhere.current_dir("/"))
        .end()
        .with(1)
        .says(&stack.name);
}

/// Unknown units are answered with those that there are.
fn names(stack: &Stack) {
    let known = "has db, octopus-server-1";
    for words in [
        ["stop", "web"],
        ["start", "octopus-server-7"],
        ["restart", "sql"],
        ["explain", "x"],
        ["logs", "x"],
    ] {
        stack.run(&words).with(64).says(known);
    }
    let pipe = stack
        .run(&["stop", &stack.container("octopus-server-1")])
        .ok();
    assert_eq!(stack.unit("octopus-server-1")["stopped"], true);
    let told: Vec<&str> = pipe
        .err
        .lines()
        .filter(|line| line.contains("octopus-server-1: stopping"))
        .collect();
    assert_eq!(told.len(), 1, "{}", pipe.err);
    let why = stack.run(&["explain", "octopus-server-1"]).ok().out;
    assert!(
        why.contains("next   nothing until `octo-local start octopus-server-1`"),
        "{why}"
    );
    stack.run(&["start", "octopus-server"]).ok();
}

/// `-f` shows what comes, until Ctrl-C.
fn followed(stack: &Stack) {
    let events = Followed::spawn(stack, &["events", "-f", "--since", "1s"]);
    let logs = Followed::spawn(stack, &["logs", "-f", "-n", "all", "octopus-server-1"]);
    let daemon = Followed::spawn(stack, &["logs", "daemon", "-f"]);
    let runs = |logs: &Followed| logs.said().matches("Web server is ready").count();
    wait_until("the two runs so far were shown", || {
        (runs(&logs) == 2).then_some(())
    });
    let since = stack.witness.now();
    stack
        .witness
        .kill(&stack.container("octopus-server-1"), "KILL");
    wait_until("it was started again", || {
        (!stack.starts(since).is_empty()).then_some(())
    });
    stack.wait_for("ready");
    wait_until("the history has it", || {
        stack
            .run(&["events"])
            .out
            .trim_end()
            .ends_with("ready")
            .then_some(())
    });
    let told = stack.run(&["events"]).ok().out;
    for (running, word) in [
        (&events, "octopus-server-1"),
        (&logs, "octopus-server-1 | "),
        (&daemon, "the daemon begins"),
    ] {
        wait_until(word, || running.said().contains(word).then_some(()));
    }
    wait_until("the last event was shown", || {
        events
            .said()
            .contains(told.lines().last().unwrap())
            .then_some(())
    });
    wait_until("the log is followed into the next run", || {
        (runs(&logs) == 3).then_some(())
    });
    for followed in [events, daemon, logs] {
        followed.running.signal(Signal::INT);
        let said = followed.end(stack, 130);
        assert!(
            said.matches("Web server is ready").count() <= 3,
            "no line comes twice: {said}"
        );
    }
}
