//! A whole stack out of a set: database, files, master key and wishes, also on another machine and
//! after a restore that was killed.

use octo_local::sql;
use rustix::process::Signal;
use serde_json::Value;

use super::backup::Entry;
use super::backup::NODE;
use super::backup::get;
use super::backup::odd_files;
use super::backup::put;
use super::quick;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

/// Which database a node serves.
pub(super) fn installation(stack: &Stack) -> String {
    let (status, body) = http::get(stack.port(NODE), "/api", "").unwrap();
    assert_eq!(status, 200, "{body}");
    let api: Value = serde_json::from_str(&body).unwrap();
    api["InstallationId"].as_str().unwrap().to_owned()
}

/// The files of a node, save the one that each run of the stand-in writes.
fn files(stack: &Stack) -> Vec<Entry> {
    let mut files = get(stack, NODE, "/artifacts/.");
    files.retain(|entry| entry.0 != "./octopus.seen");
    files
}

fn kept(stack: &Stack) -> Value {
    let text = std::fs::read_to_string(stack.state().join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    state["stored"].clone()
}

fn key(stack: &Stack) -> String {
    let key = kept(stack)["keys"]["current"]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    stack.secret(&key);
    key
}

fn one_file(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    tar.append_data(&mut header, name, std::io::empty())
        .unwrap();
    tar.into_inner().unwrap()
}

/// A set named `good` of a stack that has packages, in a directory that others can read.
pub(super) fn made(name: &str) -> (Stack, String) {
    let stack = quick(name, 1);
    stack.run(&["up"]).ok();
    put(&stack, NODE, "/artifacts", odd_files());
    let sets = stack.dir().join("sets").display().to_string();
    stack.run(&["backup", "--to", &sets, "--name", "good"]).ok();
    (stack, sets)
}

/// Whether no restore's old data is here any more.
fn keeps_nothing(stack: &Stack) -> bool {
    let volumes = stack.witness.volumes(&stack.label());
    let is_kept = |name: &String| name.contains("-replaced-");
    kept(stack)["replaced"].is_null() && !volumes.iter().any(is_kept)
}

/// Kills a restore once what it replaces is kept and being overwritten.
fn die_in_the_middle(stack: &Stack, words: &[&str]) {
    let running = stack.spawn(words);
    wait_until("it overwrites", || {
        let is_whole = kept(stack)["replaced"]["whole"] == true;
        let names = stack.witness.containers(&stack.label());
        let has_nodes = names.iter().any(|name| name.contains("octopus-server"));
        (is_whole && !has_nodes).then_some(())
    });
    running.signal(Signal::KILL);
    stack.end(running);
}

#[test]
fn a_set_comes_back_whole_on_another_stack_and_what_was_wished_there_counts() {
    let (source, sets) = made("restore-source");
    let (there, wanted) = (installation(&source), files(&source));
    let stack = quick("restore-target", 2);
    stack.run(&["up"]).ok();
    assert_ne!(
        (installation(&stack), key(&stack)),
        (there.clone(), key(&source))
    );
    put(
        &stack,
        NODE,
        "/artifacts",
        one_file("of-the-data-that-goes"),
    );
    stack.run(&["stop", "octopus-server-2"]).ok();
    let before = stack.started();
    let (own, own_key) = (installation(&stack), key(&stack));
    let own_files = files(&stack);
    let restore = ["backup", "restore", "good", "--from", &sets];
    stack.run(&restore).with(64).says("--yes");
    stack
        .run(&[&restore[..], &["--yes"]].concat())
        .with(1)
        .says("the set is of project octo-test-restore-source")
        .says("this project has data")
        .says("nothing was touched");
    assert_eq!(stack.started(), before);

    stack
        .run(&["backup", "restore", "--back", "--yes"])
        .with(1)
        .says("nothing is kept");
    // Once it is replaced in part there is a way back, whoever died.
    let wholly = [&restore[..], &["--yes", "--force"]].concat();
    die_in_the_middle(&stack, &wholly);
    stack.kill_daemon();
    let back = stack.run(&["backup", "restore", "--back", "--yes"]).ok();
    back.says("what it was before the restore");
    assert_eq!((installation(&stack), key(&stack)), (own, own_key));
    assert_eq!(files(&stack), own_files);
    wait_until("what was kept is gone", || {
        keeps_nothing(&stack).then_some(())
    });

    stack.run(&wholly).ok().says("backup good is restored");
    assert_eq!(
        stack.unit("octopus-server-2")["phase"],
        "absent",
        "it was stopped"
    );
    assert_eq!(installation(&stack), there);
    assert_eq!(key(&stack), key(&source));
    assert_eq!(files(&stack), wanted);
    wait_until("what was replaced is gone", || {
        keeps_nothing(&stack).then_some(())
    });
    assert_eq!(stack.recorded(NODE, "somebody removed its container"), 0);
    stack.run(&["start"]).ok();
    assert_eq!(stack.status()["verdict"], "ready");
    stack.run(&["up"]).ok();
    stack.assert_no_violation();
    for stack in [&stack, &source] {
        stack.run(&["down", "--volumes", "--yes"]).ok();
    }
}

#[test]
fn a_killed_restore_lets_no_node_start_and_can_be_run_again() {
    let (stack, sets) = made("restore-killed");
    let there = installation(&stack);
    let (wanted, first) = (files(&stack), key(&stack));
    let words = [
        "backup", "restore", "good", "--from", &sets, "--yes", "--force",
    ];
    let running = stack.spawn(&words);
    wait_until("it has begun", || {
        kept(&stack)["restoring"]["set"].as_str().map(|_| ())
    });
    running.signal(Signal::KILL);
    stack.end(running);
    stack.kill_daemon();
    stack.run(&["up"]).with(1).says("a restore of backup good");
    stack
        .run(&["start"])
        .with(1)
        .says("a restore of backup good");
    wait_until("no node runs", || {
        (stack.unit(NODE)["phase"] != "ready").then_some(())
    });
    let notes = stack.status()["notes"].to_string();
    assert!(notes.contains("backup restore good --force"), "{notes}");

    stack.run(&words).ok();
    assert_eq!((installation(&stack), key(&stack)), (there, first));
    assert_eq!(files(&stack), wanted);
    assert_eq!(stack.status()["notes"], serde_json::json!([]));
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// What SQL Server wrote of the database that a restore replaces, in bytes.
fn kept_by_the_server(stack: &Stack) -> usize {
    let files = get(stack, "db", "/var/opt/mssql/.");
    let is_kept = |file: &&Entry| file.0.contains("-replaced-");
    files.iter().filter(is_kept).map(|file| file.7.len()).sum()
}

#[test]
fn a_restore_that_died_while_it_kept_says_so_and_leaves_nothing_of_it() {
    let (stack, sets) = made("restore-keeping");
    let there = installation(&stack);
    stack.set("STANDIN_SQL_BACKUP_MS", "3000");
    stack.run(&["up"]).ok();
    let words = [
        "backup", "restore", "good", "--from", &sets, "--yes", "--force",
    ];
    let running = stack.spawn(&words);
    wait_until("SQL Server writes what is replaced", || {
        let has_begun = !kept(&stack)["restoring"].is_null();
        (has_begun && kept_by_the_server(&stack) > 0).then_some(())
    });
    running.signal(Signal::KILL);
    stack.end(running);

    let told = stack.run(&["status", "--check"]).with(75).out;
    let head = told.lines().next().unwrap_or_default();
    assert!(head.contains("a restore is not finished"), "{told}");
    assert!(head.contains("of backup good"), "{told}");
    assert!(!told.contains("operator"), "{told}");
    let told = stack.run(&["explain", NODE]).ok().out;
    assert!(told.contains("until the restore is finished"), "{told}");
    let node = stack.unit(NODE);
    assert_eq!(node["stopped"], false);
    assert_eq!(node["reason"], "rests while a restore is not finished");

    stack
        .run(&["backup", "restore", "--back", "--yes"])
        .ok()
        .says("what it was before the restore");
    assert_eq!(installation(&stack), there);
    wait_until("nothing is kept, also not half", || {
        (keeps_nothing(&stack) && kept_by_the_server(&stack) == 0).then_some(())
    });
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// A damaged database is what a backup is for: SQL Server serves, and only nodes have to wait.
#[test]
fn a_database_that_cannot_be_opened_is_restored_over() {
    let (stack, sets) = made("restore-damaged");
    let there = installation(&stack);
    let wanted = files(&stack);
    let damaged = ("STANDIN_SQL_FAULT", "suspect=OctopusDeploy");
    stack.set(damaged.0, damaged.1);
    stack
        .run(&["up"])
        .with(1)
        .says("restore the database from a backup");

    // What cannot be opened cannot be kept, and nothing is lost by saying so.
    let words = [
        "backup", "restore", "good", "--from", &sets, "--yes", "--force",
    ];
    stack
        .run(&words)
        .with(1)
        .says("what it replaces cannot be kept")
        .says("--discard");
    stack.set("STANDIN_SQL_BACKUP_MS", "1500");
    let discard = [&words[..], &["--discard"]].concat();
    stack.run(&discard).ok().says("backup good is restored");
    stack.wait_for("ready");
    stack
        .run(&["backup", "restore", "--back", "--yes"])
        .with(1)
        .says("nothing is kept")
        .says("--discard");
    assert_eq!(installation(&stack), there);
    assert_eq!(files(&stack), wanted);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// SQL Server goes on alone where whoever asked for a restore died, or ends it half done.
#[test]
fn a_restore_that_died_while_sql_server_read_is_run_again() {
    let (stack, sets) = made("restore-half");
    let there = installation(&stack);
    stack.set("STANDIN_SQL_BACKUP_MS", "3000");
    stack.run(&["up"]).ok();
    let words = [
        "backup",
        "restore",
        "good",
        "--from",
        &sets,
        "--yes",
        "--force",
        "--discard",
    ];
    let running = stack.spawn(&words);
    wait_until("SQL Server restores", || {
        let state = ask(&stack, "state_desc");
        (state == ["RESTORING"]).then_some(())
    });
    running.signal(Signal::KILL);
    stack.end(running);
    stack.kill_daemon();
    stack.run(&words).ok().says("backup good is restored");
    assert_eq!(installation(&stack), there);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// Each minute, so that a test sees one: it waits for the history to tell it.
#[test]
fn the_daemon_makes_the_backup_that_is_due_and_tells_one_that_fails() {
    let stack = quick("schedule", 1);
    stack.set("BACKUP_SCHEDULE", "* * * * *");
    stack.set("BACKUP_DIR", "sets");
    stack.set("BACKUP_KEEP", "1");
    // No directory can be made there.
    std::fs::write(stack.dir().join("sets"), "").unwrap();
    stack.run(&["up"]).ok();
    let failed = "the last scheduled backup failed";
    wait_until("the first one fails", || {
        stack.status()["notes"]
            .to_string()
            .contains(failed)
            .then_some(())
    });
    std::fs::remove_file(stack.dir().join("sets")).unwrap();
    wait_until("the next one is made", || {
        let events = stack.run(&["events"]).ok();
        events.out.contains("is made, as scheduled").then_some(())
    });
    assert_eq!(stack.status()["notes"], serde_json::json!([]));
    let listed = stack.run(&["backup", "list"]).ok();
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
    assert!(!listed.out.contains("NOT"), "{}", listed.out);
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// The databases of the server that are there, those of the system excepted.
fn databases(stack: &Stack) -> Vec<String> {
    let mut names = ask(stack, "name");
    names.sort();
    names
}

/// What SQL Server tells of each database that is not its own.
fn ask(stack: &Stack, column: &str) -> Vec<String> {
    let target = octo_local::spec::DatabaseTarget {
        host: "127.0.0.1".to_owned(),
        port: stack.port("db"),
        user: "sa".to_owned(),
        password: octo_local::config::Secret::new(SA_PASSWORD),
        database: "OctopusDeploy".to_owned(),
    };
    let asking = async {
        let limit = std::time::Duration::from_secs(10);
        let mut client = sql::login(&target, "master", limit).await.unwrap();
        let question = format!(
            "SELECT CAST({column} AS NVARCHAR(128)) FROM sys.databases WHERE database_id > 4"
        );
        sql::rows(&mut client, &question, limit)
            .await
            .unwrap()
            .concat()
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().build().unwrap().block_on(asking)
}

#[test]
fn a_set_is_restored_for_a_test_beside_the_database_that_serves() {
    let (stack, directory) = made("restore-test");
    let test = [
        "backup",
        "verify",
        "good",
        "--from",
        &directory,
        "--restore-test",
    ];
    let before = installation(&stack);
    let started = stack.started();
    stack
        .run(&test)
        .ok()
        .says("every byte")
        .says("DBCC CHECKDB");
    assert_eq!(databases(&stack), ["OctopusDeploy"]);
    let told = stack
        .run(&[&test[..], &["--format", "json"]].concat())
        .ok()
        .json();
    assert_eq!(
        (&told["good"], &told["restored"]),
        (&true.into(), &true.into())
    );
    assert_eq!((installation(&stack), stack.started()), (before, started));

    // One that was killed in the middle is cleaned up after by the next.
    stack.set("STANDIN_SQL_BACKUP_MS", "2000");
    stack.run(&["up"]).ok();
    let killed = stack.spawn(&test);
    wait_until("the database is restored beside", || {
        databases(&stack)
            .contains(&"octo-local-restore-test".to_owned())
            .then_some(())
    });
    killed.signal(Signal::KILL);
    stack.end(killed);
    stack.unset("STANDIN_SQL_BACKUP_MS");
    stack.set("STANDIN_SQL_FAULT", "corrupt=octo-local-restore-test");
    stack.run(&["up"]).ok();
    stack
        .run(&test)
        .with(1)
        .says("cannot be restored")
        .says("do not rely on it");
    assert_eq!(databases(&stack), ["OctopusDeploy"]);

    stack.run(&["stop", "db"]).ok();
    stack.run(&test).with(1).says("octo-local start db");
    stack.run(&["backup"]).with(1).says("octo-local start db");
    stack.run(&["down"]).ok();
    for words in [&test[..], &["backup"]] {
        let told = stack.run(words).with(1).says("octo-local up");
        assert!(!told.err.contains("start db"), "{}", told.err);
    }
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
