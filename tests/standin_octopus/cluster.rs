//! Tasks, drains, upgrades and findings of the stand-in's cluster.

use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use super::PASSWORD;
use super::PATIENCE;
use super::PING;
use super::PROGRAM;
use super::READY;
use super::Running;
use super::Stack;
use super::kinds;

fn json(answer: &(u16, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

impl Running {
    /// Queues a task of so many seconds; gives its id.
    fn queue(&self, seconds: f64) -> String {
        let body = format!(r#"{{"Name":"Trial","Arguments":{{"Seconds":{seconds}}}}}"#);
        let answer = self.ask("POST", "/api/tasks", &body);
        assert_eq!(answer.0, 201, "{answer:?}");
        json(&answer)["Id"].as_str().unwrap().to_owned()
    }

    fn state_of(&self, task: &str) -> String {
        let task = json(&self.get(&format!("/api/tasks/{task}")));
        task["State"].as_str().unwrap().to_owned()
    }

    fn waits_for(&self, task: &str, state: &str) {
        let give_up_at = Instant::now() + PATIENCE;
        while self.state_of(task) != state {
            let is = self.state_of(task);
            assert!(Instant::now() < give_up_at, "{task} is {is}, not {state}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kinds(&self, list: &str) -> Vec<String> {
        let found = json(&self.get(&format!("/api/standin/{list}")));
        let found = found.as_array().unwrap().iter();
        found
            .map(|one| one["Kind"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Stack {
    /// A vendor's command in the container of a node; its exit code and what it said.
    fn vendor(&self, node: &Running, name: &str, words: &[&str]) -> (Option<i32>, String) {
        self.vendor_with(node, name, words, &[])
    }

    fn vendor_with(
        &self,
        node: &Running,
        name: &str,
        words: &[&str],
        settings: &[(&str, &str)],
    ) -> (Option<i32>, String) {
        let port = node.port.to_string();
        let settings = [&[("STANDIN_OCTOPUS_PORT", port.as_str())], settings].concat();
        let mut command = self.command(name, &settings);
        let done = command.args(words).stdout(Stdio::piped()).output().unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    }
}

const DRAIN: [&str; 4] = [
    "node",
    "--instance=OctopusServer",
    "--drain=true",
    "--wait=20",
];

#[test]
fn tasks_run_and_leave_files_and_a_drain_waits_for_them() {
    let stack = Stack::new();
    for dir in ["taskLogs", "artifacts", "eventExports"] {
        std::fs::create_dir(stack.dir.path().join(dir)).unwrap();
    }
    let mut node = stack.ready("octopus-1", &[]);
    let done = node.queue(0.1);
    node.waits_for(&done, "Success");
    for file in [
        "taskLogs/servertasks-1.txt",
        "artifacts/Artifacts-1.bin",
        "repository/Package.1.0.1.zip",
        "eventExports/events-1.jsonl",
    ] {
        assert!(stack.dir.path().join(file).exists(), "{file}");
    }
    let long = node.queue(1.5);
    node.waits_for(&long, "Executing");
    let executing = json(&node.get("/api/tasks?states=Queued,Executing"));
    assert_eq!(executing["TotalResults"], 1);
    assert_eq!(
        executing["Items"][0]["ServerNode"],
        "OctopusServerNodes-octopus-1"
    );
    let summary = json(&node.get("/api/octopusservernodes/summary"));
    assert_eq!(summary["Nodes"][0]["RunningTaskCount"], 1);
    let (code, said) = stack.vendor(&node, "octopus-1", &DRAIN);
    assert!(code == Some(0) && said.contains("No tasks run"), "{said}");
    assert_eq!(node.state_of(&long), "Success", "the drain waited for it");
    assert_eq!(node.get(PING).0, 418);
    let waiting = node.queue(0.1);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(
        node.state_of(&waiting),
        "Queued",
        "a drained node takes none"
    );
    assert!(
        stack
            .vendor(&node, "octopus-1", &["node", "--drain=false"])
            .0
            == Some(0)
    );
    node.waits_for(&waiting, "Success");
    assert!(node.violations().is_empty());
    node.stop();
}

#[test]
fn a_drain_that_waited_long_enough_leaves_or_cancels_tasks() {
    let stack = Stack::new();
    let node = stack.ready("octopus-1", &[]);
    let task = node.queue(60.0);
    node.waits_for(&task, "Executing");
    let short = ["node", "--drain=true", "--wait=1"];
    let (code, said) = stack.vendor(&node, "octopus-1", &short);
    assert!(
        code == Some(0) && said.contains("ServerTasks-1 still run"),
        "{said}"
    );
    assert_eq!(node.state_of(&task), "Executing");
    let (_, said) = stack.vendor(
        &node,
        "octopus-1",
        &[&short[..], &["--cancel-tasks"]].concat(),
    );
    assert!(said.contains("Cancelling ServerTasks-1"), "{said}");
    node.waits_for(&task, "Canceled");
    for (fault, expected) in [("drain-fails", 1), ("no-exec", 126)] {
        let settings = [("STANDIN_OCTOPUS_FAULT", fault)];
        let (code, said) = stack.vendor_with(&node, "octopus-1", &short, &settings);
        assert_eq!(code, Some(expected), "{fault}: {said}");
    }
}

#[test]
fn tasks_that_a_stop_cuts_off_are_found_and_canceled_by_the_nodes_return() {
    let stack = Stack::new();
    let mut node = stack.ready("octopus-1", &[]);
    let second = stack.ready("octopus-2", &[("TASK_CAP", "0")]);
    let cut = node.queue(60.0);
    node.waits_for(&cut, "Executing");
    node.stop();
    assert_eq!(second.state_of(&cut), "Executing", "it looks as if it ran");
    let node = stack.ready("octopus-1", &[]);
    node.waits_for(&cut, "Canceled");
    assert_eq!(node.violations(), ["task-cut-off"]);
    let lost = node.queue(60.0);
    node.waits_for(&lost, "Executing");
    node.signal(Signal::KILL);
    drop(node);
    let node = stack.ready("octopus-1", &[]);
    node.waits_for(&lost, "Canceled");
    assert_eq!(node.violations(), ["task-cut-off"], "a kill is none");
    assert_eq!(node.kinds("notes"), ["task-abandoned"]);
    let silent = node.queue(60.0);
    node.waits_for(&silent, "Executing");
    node.signal(Signal::KILL);
    drop(node);
    let third = stack.ready("octopus-3", &[("STANDIN_OCTOPUS_ABANDON_MS", "500")]);
    third.waits_for(&silent, "TimedOut");
}

#[test]
fn nodes_are_capped_removed_and_told_by_the_api() {
    let stack = Stack::new();
    let node = stack.ready("octopus-1", &[]);
    let mut gone = stack.ready("octopus-2", &[]);
    gone.stop();
    let path = "/api/octopusservernodes/OctopusServerNodes-octopus-1";
    let body = r#"{"IsInMaintenanceMode":false,"MaxConcurrentTasks":1}"#;
    assert_eq!(json(&node.ask("PUT", path, body))["MaxConcurrentTasks"], 1);
    let (one, two) = (node.queue(1.0), node.queue(0.1));
    node.waits_for(&one, "Executing");
    assert_eq!(node.state_of(&two), "Queued");
    node.waits_for(&two, "Success");
    let ghost = "/api/octopusservernodes/OctopusServerNodes-octopus-2";
    assert_eq!(node.ask("DELETE", ghost, "").0, 200);
    assert_eq!(node.get(ghost).0, 404);
    assert_eq!(node.ask("DELETE", path, "").0, 200);
    let give_up_at = Instant::now() + PATIENCE;
    while node.get(path).0 != 200 {
        assert!(Instant::now() < give_up_at, "a running node comes back");
    }
    let maintenance = "/api/maintenanceconfiguration";
    let on = node.ask("PUT", maintenance, r#"{"IsInMaintenanceMode":true}"#);
    assert_eq!(json(&on)["IsInMaintenanceMode"], true);
    assert_eq!(json(&node.get(maintenance))["IsInMaintenanceMode"], true);
    assert_eq!(node.get(PING).0, 200, "maintenance is no drain");
    let health = json(&node.get("/api/serverstatus/health"));
    assert_eq!(health["IsEntireClusterReadOnly"], true);
    assert_eq!(health["IsOperatingNormally"], true);
    assert_eq!(node.get("/api/Spaces-1").0, 200);
    assert_eq!(node.get("/api/serverstatus").0, 200);
    let cap = ["node", "--instance=OctopusServer", "--taskCap=3"];
    assert_eq!(stack.vendor(&node, "octopus-1", &cap).0, Some(0));
    assert_eq!(json(&node.get(path))["MaxConcurrentTasks"], 3);
    assert!(node.violations().is_empty());
}

#[test]
fn a_licence_bounds_the_nodes() {
    use base64::Engine as _;
    let licence = |xml: &str| base64::engine::general_purpose::STANDARD.encode(xml);
    let one = licence("<License Signature=\"x\"><NodeLimit>1</NodeLimit></License>");
    let settings = [("OCTOPUS_SERVER_BASE64_LICENSE", one.as_str())];
    let stack = Stack::new();
    let mut node = stack.ready("octopus-1", &settings);
    node.queue(0.1);
    let mut second = stack.ready("octopus-2", &settings);
    let answer = node.ask("POST", "/api/tasks", "{}");
    assert!(
        answer.0 == 400
            && answer
                .1
                .contains("only allows 1 active nodes. You currently have 2"),
        "{answer:?}"
    );
    let health = json(&node.get("/api/serverstatus/health"));
    assert_eq!(health["IsCompliantWithLicense"], false);
    node.stop();
    second.stop();
    let over = licence("<License><NodeLimit>1</NodeLimit><ValidTo>2020-01-01</ValidTo></License>");
    let settings = [
        ("OCTOPUS_SERVER_BASE64_LICENSE", over.as_str()),
        ("STANDIN_OCTOPUS_VERSION", "2026.3.1"),
    ];
    let (code, log) = stack.node("octopus-1", &settings).end();
    assert!(
        code == 1 && log.contains("not be compliant"),
        "{code}: {log}"
    );
}

#[test]
fn an_upgrade_waits_for_ghosts_and_goes_on_where_it_was_cut_off() {
    let stack = Stack::new();
    let mut node = stack.ready("octopus-1", &[]);
    let ghost = stack.ready("octopus-2", &[]);
    node.stop();
    ghost.signal(Signal::KILL);
    drop(ghost);
    let newer = [
        ("STANDIN_OCTOPUS_VERSION", "2026.3.1"),
        ("STANDIN_OCTOPUS_GHOST_MS", "60000"),
    ];
    let (code, log) = stack.node("octopus-1", &newer).end();
    assert!(
        code == 1 && log.contains("nodes are still running: octopus-2"),
        "{code}: {log}"
    );
    let crash = [
        ("STANDIN_OCTOPUS_VERSION", "2026.3.1"),
        ("STANDIN_OCTOPUS_GHOST_MS", "0"),
        ("STANDIN_OCTOPUS_UPGRADE_MS", "200"),
        ("STANDIN_OCTOPUS_FAULT", "crash-in-upgrade=2"),
    ];
    let (code, log) = stack.node("octopus-1", &crash).end();
    assert!(
        code == 1 && log.contains("(2 of 4)") && !log.contains("(3 of 4)"),
        "{log}"
    );
    let (code, log) = stack.node("octopus-1", &[]).end();
    assert!(
        code == 3 && log.contains("schema is newer"),
        "half upgraded: {log}"
    );
    let mut node = stack.node("octopus-1", &crash[..3]);
    node.says("(3 of 4)");
    node.says(READY);
    assert!(
        !node.log.iter().any(|line| line.contains("(2 of 4)")),
        "{:?}",
        node.log
    );
    assert_eq!(node.violations(), ["downgrade"]);
}

#[test]
fn findings_survive_a_restore_and_one_under_a_node_is_found() {
    let stack = Stack::new();
    let sqlcmd = |query: &str| {
        let server = format!("127.0.0.1,{}", stack.sql.port);
        let words = [
            "standin", "sqlcmd", "-C", "-b", "-l", "20", "-S", &server, "-U", "sa", "-P",
        ];
        let mut command = Command::new(PROGRAM);
        let done = command.args(words).args([PASSWORD, "-Q", query]).output();
        let done = done.unwrap();
        assert!(
            done.status.success(),
            "{query}: {}",
            String::from_utf8_lossy(&done.stdout)
        );
    };
    let node = stack.ready("octopus-1", &[]);
    let disk = "DISK = N'/var/opt/mssql/data/o.bak'";
    sqlcmd(&format!(
        "BACKUP DATABASE Octopus TO {disk} WITH COPY_ONLY, CHECKSUM"
    ));
    let mut node = {
        node.queue(60.0);
        node.waits_for("ServerTasks-1", "Executing");
        node
    };
    node.stop();
    let node = stack.ready("octopus-1", &[]);
    assert_eq!(node.violations(), ["task-cut-off"]);
    let single = "ALTER DATABASE Octopus SET SINGLE_USER WITH ROLLBACK IMMEDIATE;";
    sqlcmd(&format!(
        "{single} RESTORE DATABASE Octopus FROM {disk} WITH REPLACE"
    ));
    let give_up_at = Instant::now() + PATIENCE;
    // It may answer once and not the next time, while its database comes back.
    loop {
        let (status, body) = node.get("/api/standin/violations");
        if status == 200 && kinds(&body) == ["task-cut-off", "database-replaced"] {
            break;
        }
        assert!(Instant::now() < give_up_at, "{status} {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
