//! Moving in from docker compose: each shape with its data as it was, the way back, and a command
//! that dies at every step.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::backup::Entry;
use super::backup::get_out_of;
use super::backup::odd_files;
use super::backup::put_into;
use super::quick;
use crate::kit::http;
use crate::kit::old_stack::KEPT;
use crate::kit::old_stack::OldStack;
use crate::kit::old_stack::Shape;
use crate::kit::process::wait_until;
use crate::kit::stack::ADMIN_PASSWORD;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;
use crate::kit::tls::Secure;

const NODE: &str = "octopus-server-1";
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

/// The article's: everything in the containers' own layers; without a key, only the node knows it.
fn article(env: Vec<(&'static str, &'static str)>) -> Shape {
    Shape {
        services: ["db", "octopus-server"],
        separator: '_',
        mounts: [Vec::new(), Vec::new()],
        env,
        ports: Vec::new(),
    }
}

/// The vendor's: named volumes, two of which are named as octo-local's own would be.
fn vendors(project: &str, polling: u16) -> Shape {
    let volume = |name: &str| format!("{project}_{name}");
    Shape {
        services: ["db", "octopus-server"],
        separator: '-',
        mounts: [
            vec![(volume("sqlvolume"), "/var/opt/mssql")],
            vec![
                (volume("repository"), "/repository"),
                (volume("artifacts"), "/artifacts"),
                (volume("taskLogs"), "/taskLogs"),
                (volume("eventExports"), "/eventExports"),
                (volume("cache"), "/cache"),
                (volume("import"), "/import"),
            ],
        ],
        env: vec![("MASTER_KEY", KEY)],
        ports: vec![(polling, 10943)],
    }
}

/// Somebody's own: other names, directories, and a volume of which the place inside is mounted.
fn relatives(project: &str, dir: &Path) -> Shape {
    let directory = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    Shape {
        services: ["mssql", "octo"],
        separator: '-',
        mounts: [
            vec![(format!("{project}_mssql_data"), "/var/opt/mssql/data")],
            vec![
                (directory("files/packages"), "/repository"),
                (directory("files/artifacts"), "/artifacts"),
                (directory("files/certificates"), "/certificates"),
            ],
        ],
        env: vec![("MASTER_KEY", KEY)],
        ports: Vec::new(),
    }
}

fn installation(stack: &Stack) -> String {
    let (status, body) = http::get(stack.web(), "/api", "").unwrap();
    assert_eq!(status, 200, "{body}");
    let api: Value = serde_json::from_str(&body).unwrap();
    api["InstallationId"].as_str().unwrap().to_owned()
}

/// The files of a node, save the one that each run of the stand-in writes.
fn files(stack: &Stack, name: &str) -> Vec<Entry> {
    let mut files = get_out_of(stack, name, "/artifacts/.");
    files.retain(|entry| !entry.0.contains(".seen"));
    files
}

fn ours(stack: &Stack) -> Vec<String> {
    let mut names = stack.witness.volumes(&stack.label());
    names.retain(|name| !name.contains("lease"));
    names
}

/// What the stack has after an adoption is what the old one had.
#[track_caller]
fn is_the_same(stack: &Stack, there: &str, wanted: &[Entry]) {
    assert_eq!(installation(stack), there);
    assert_eq!(files(stack, &stack.container(NODE)), wanted);
    assert_eq!(stack.status()["verdict"], "ready");
    stack.assert_no_violation();
}

/// `--forget` removes the old containers, and none of the volumes that only their images wanted.
fn forgets(stack: &Stack, old: &OldStack) {
    let kept = old.names.iter().map(|name| format!("{name}{KEPT}"));
    let unnamed: Vec<String> = kept
        .flat_map(|name| stack.witness.unnamed_volumes(&name))
        .collect();
    stack.run(&["adopt", "--forget", "--yes"]).ok();
    for volume in &unnamed {
        assert!(stack.witness.remove_volume(volume), "{volume} stayed");
    }
    for name in &old.names {
        assert!(stack.witness.inspect(&format!("{name}{KEPT}")).is_none());
    }
}

#[test]
fn named_volumes_are_used_as_they_are_and_the_old_stack_can_come_back() {
    let stack = quick("adopt-vendor", 1);
    stack.secret(KEY);
    let polling = stack.web() + 5;
    let old = OldStack::up(&stack, &stack.name, &vendors(&stack.name, polling));
    put_into(&stack, &old.names[1], "/artifacts", odd_files());
    let (there, wanted) = (installation(&stack), files(&stack, &old.names[1]));
    let things = old.things();

    stack.run(&["up"]).with(78).says("octo-local adopt");
    let planned = stack.run(&["adopt", "--plan"]).ok().out;
    for says in [
        &format!("SQL Server: container {}-db-1", stack.name),
        &format!(
            "/var/opt/mssql: in {}_sqlvolume, which is used as it is",
            stack.name
        ),
        "MASTER_KEY=***",
        &format!("OCTOPUS_POLLING_PORT_BASE={polling}"),
    ] {
        assert!(planned.contains(says), "{says}: {planned}");
    }
    stack.run(&["adopt"]).with(64).says("--yes");
    assert_eq!((old.things(), ours(&stack)), (things.clone(), Vec::new()));
    assert!(old.runs());

    stack.run(&["adopt", "--yes"]).ok().says("is adopted");
    is_the_same(&stack, &there, &wanted);
    let tentacles = Secure::connect(polling).map(|one| one.greeting);
    assert_eq!(tentacles.unwrap(), "stand-in octo-old on 10943");
    assert!(old.is_kept() && old.has_its_volumes());
    assert_eq!(
        ours(&stack).len(),
        1,
        "a cache, and no data: {:?}",
        ours(&stack)
    );
    let sets = stack.run(&["backup", "list"]).ok().out;
    assert_eq!(sets.lines().count(), 2, "{sets}");
    stack.run(&["plan"]).ok();
    stack.run(&["adopt"]).ok().says("adopted already");

    stack.run(&["adopt", "--undo", "--yes"]).ok();
    old.wait_until_it_serves();
    assert!(old.runs() && old.has_its_volumes());
    assert_eq!(old.things(), things);
    assert_eq!(installation(&stack), there);
    let ping = "/api/octopusservernodes/ping";
    let (status, _) = http::get(stack.web(), ping, "").unwrap();
    assert_eq!(status, 200, "it takes tasks again");
    assert_eq!(files(&stack, &old.names[1]), wanted);
    stack.run(&["up"]).with(78).says("octo-local adopt");

    stack.run(&["adopt", "--yes", "--no-backup"]).ok();
    forgets(&stack, &old);
    stack
        .run(&["adopt", "--undo", "--yes"])
        .with(1)
        .says("no way back");
    let down = stack.run(&["down", "--volumes", "--yes"]).ok();
    assert!(
        down.err
            .contains("_sqlvolume is not octo-local's: it stays"),
        "{}",
        down.err
    );
    assert!(old.has_its_volumes());
    stack.run(&["up"]).ok();
    is_the_same(&stack, &there, &wanted);
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn what_is_in_a_containers_layer_is_copied_whole_under_another_name_and_without_a_word_in_env() {
    let stack = quick("adopt-article", 1);
    let from = format!("{}-before", stack.name);
    let old = OldStack::up(&stack, &from, &article(Vec::new()));
    put_into(&stack, &old.names[1], "/artifacts", odd_files());
    let (there, wanted) = (installation(&stack), files(&stack, &old.names[1]));
    // What the old containers say is enough.
    for key in [
        "ACCEPT_EULA",
        "ACCEPT_OCTOPUS_EULA",
        "SA_PASSWORD",
        "ADMIN_PASSWORD",
        "SQL_IMAGE",
        "OCTOPUS_IMAGE",
        "OCTOPUS_SERVER_TAG",
        "OCTOPUS_PORT",
        "SQL_PORT",
        "OCTOPUS_NODES",
    ] {
        stack.unset_in_env_alone(key);
    }
    let adopt = ["adopt", "--from", &from];
    stack.run(&[&adopt[..], &["--plan"]].concat()).ok();
    stack
        .run(&[&adopt[..], &["--yes"]].concat())
        .ok()
        .says("compared");
    is_the_same(&stack, &there, &wanted);
    assert!(old.is_kept());
    let data = format!("{}_sql-data", stack.name);
    assert!(ours(&stack).contains(&data), "{:?}", ours(&stack));
    let node = stack.witness.inspect(&stack.container(NODE)).unwrap();
    let env = node.config.unwrap().env.unwrap();
    assert!(env.contains(&"OCTOPUS_SERVER_NODE_NAME=octo-old".to_owned()));
    assert!(env.contains(&format!("ADMIN_PASSWORD={ADMIN_PASSWORD}")));
    assert!(!env.iter().any(|line| line == "MASTER_KEY="));

    // A node that was made without its key does not start again: that is told, and nothing is lost.
    let undone = stack.run(&["adopt", "--undo", "--yes"]).with(1);
    assert!(undone.out.contains("which stay"), "{}", undone.out);
    for says in ["ended again", "master key", "octo-local secrets MASTER_KEY"] {
        assert!(undone.err.contains(says), "{says}: {}", undone.err);
    }
    assert_eq!(files(&stack, &old.names[1]), wanted);
    assert!(ours(&stack).contains(&data), "no data is removed unasked");
    let key = stack.run(&["secrets", "MASTER_KEY"]).ok();
    assert_eq!(key.out.trim().len(), 24);
    stack.run(&["adopt"]).with(78).says("not finished");
}

#[test]
fn other_names_directories_and_a_mount_inside_of_the_data_are_recognised() {
    let stack = quick("adopt-others", 1);
    stack.secret(KEY);
    let old = OldStack::up(&stack, &stack.name, &relatives(&stack.name, &stack.dir()));
    put_into(&stack, &old.names[1], "/artifacts", odd_files());
    let (there, wanted) = (installation(&stack), files(&stack, &old.names[1]));
    let directory = stack.dir().join("files/artifacts").display().to_string();
    let planned = stack.run(&["adopt", "--plan"]).ok().out;
    assert!(
        planned.contains(&format!("/artifacts: in {directory}")),
        "{planned}"
    );
    assert!(
        planned.contains("/var/opt/mssql: in the container itself"),
        "{planned}"
    );

    // Another database, another key, a password that is not the data's: nothing is touched.
    let other = format!("Server=mssql;Database=Another;User=sa;Password={SA_PASSWORD}");
    for (key, value, says) in [
        (
            "DB_CONNECTION_STRING",
            other.as_str(),
            "names the database Another",
        ),
        ("MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAA==", "cannot decrypt"),
        ("SA_PASSWORD", "An0ther-password", "SA_PASSWORD"),
        (
            "OCTOPUS_SERVER_TAG",
            "2026.2.7",
            "adopting changes no version",
        ),
        ("ARTIFACTS", "./elsewhere", "leave it out"),
    ] {
        let before = stack.replace(key, value);
        stack.run(&["adopt", "--yes"]).with(78).says(says);
        stack.put_back(key, before);
    }
    assert!(old.runs());

    stack.run(&["adopt", "--yes"]).ok();
    is_the_same(&stack, &there, &wanted);
    assert!(Path::new(&directory).join("plain.txt").exists());
    let node = stack.witness.inspect(&stack.container(NODE)).unwrap();
    let mut mounts = node.mounts.iter().flatten();
    let certificates = stack.dir().join("files/certificates").display().to_string();
    assert!(
        mounts.any(|mount| mount.source.as_ref() == Some(&certificates)),
        "a further mount comes along"
    );
    stack.run(&["adopt", "--undo", "--yes"]).ok();
    old.wait_until_it_serves();
    assert_eq!(installation(&stack), there);
    assert_eq!(files(&stack, &old.names[1]), wanted);
}

/// Runs `adopt` until something is true, and kills it.
#[track_caller]
fn dies_when(stack: &Stack, words: &[&str], what: &str, is_so: impl Fn() -> bool) {
    let running = stack.spawn(words);
    wait_until(what, || is_so().then_some(()));
    running.signal(Signal::KILL);
    stack.end(running);
}

#[test]
fn a_command_that_dies_at_any_step_goes_on_or_back() {
    let stack = quick("adopt-dies", 1);
    let old = OldStack::up(&stack, &stack.name, &article(vec![("MASTER_KEY", KEY)]));
    put_into(&stack, &old.names[1], "/artifacts", odd_files());
    let (there, wanted) = (installation(&stack), files(&stack, &old.names[1]));
    let adopt = ["adopt", "--yes", "--no-backup"];
    let undo = ["adopt", "--undo", "--yes"];
    let runs = |name: &str| {
        let seen = stack.witness.inspect(name);
        seen.and_then(|seen| seen.state?.running) == Some(true)
    };
    let kept = |name: &str| stack.witness.inspect(&format!("{name}{KEPT}")).is_some();
    let record = stack.state().join("adopted.json");
    let [db, node] = &old.names;

    // Forward from each step, and back once.
    dies_when(&stack, &adopt, "it is begun", || record.exists());
    stack.run(&["up"]).with(78).says("adopt --undo");
    dies_when(&stack, &adopt, "the node is stopped", || !runs(node));
    dies_when(&stack, &adopt, "SQL Server is stopped", || !runs(db));
    dies_when(&stack, &adopt, "something is copied", || {
        !ours(&stack).is_empty()
    });
    stack.run(&undo).ok();
    old.wait_until_it_serves();
    assert!(old.runs() && !record.exists());
    assert_eq!(installation(&stack), there);
    assert_eq!(files(&stack, node), wanted);
    // The half copy that it left is octo-local's own, and of no use.
    stack.run(&["down", "--volumes", "--yes"]).ok();

    dies_when(&stack, &adopt, "a copy is done", || {
        let text = std::fs::read_to_string(&record).unwrap_or_default();
        text.contains("\"done\": true")
    });
    dies_when(&stack, &adopt, "a container is renamed", || {
        kept(node) || kept(db)
    });
    dies_when(&stack, &adopt, "the old network is gone", || {
        stack
            .witness
            .networks(&format!("com.docker.compose.project={}", stack.name))
            .is_empty()
            || !stack.witness.networks(&stack.label()).is_empty()
    });
    dies_when(&stack, &adopt, "ours is made", || {
        stack.witness.inspect(&stack.container("db")).is_some()
    });
    stack.run(&adopt).ok();
    is_the_same(&stack, &there, &wanted);

    // Back from each step.
    dies_when(&stack, &undo, "ours is going", || {
        stack.witness.inspect(&stack.container(NODE)).is_none()
    });
    stack.run(&["up"]).with(78).says("not finished");
    stack.run(&["adopt"]).with(78).says("adopt --undo");
    dies_when(&stack, &undo, "a name is back", || {
        stack.witness.inspect(node).is_some() || stack.witness.inspect(db).is_some()
    });
    dies_when(&stack, &undo, "SQL Server is back", || runs(db));
    stack.run(&undo).ok();
    old.wait_until_it_serves();
    assert!(old.runs());
    assert_eq!(installation(&stack), there);
    assert_eq!(files(&stack, node), wanted);
}
