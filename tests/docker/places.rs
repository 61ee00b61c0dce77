//! Data in places that a person chose: used as they are, never labelled, never removed.

use std::os::unix::fs::PermissionsExt as _;

use super::quick;
use crate::kit::foreign::ForeignVolume;
use crate::kit::http;
use crate::kit::stack::Stack;

const NODE: &str = "octopus-server-1";

fn installation(stack: &Stack) -> String {
    let (status, body) = http::get(stack.port(NODE), "/api", "").unwrap();
    assert_eq!(status, 200, "{body}");
    let api: serde_json::Value = serde_json::from_str(&body).unwrap();
    api["InstallationId"].as_str().unwrap().to_owned()
}

#[test]
fn data_is_where_a_person_wants_it_and_outlives_down_with_volumes() {
    let stack = quick("places", 1);
    let theirs = ForeignVolume::create(&format!("{}-theirs", stack.name));
    std::fs::create_dir(stack.dir().join("sql")).unwrap();
    stack.set("SQL_DATA", "./sql");
    stack.set("ARTIFACTS", theirs.name());
    let planned = stack.run(&["plan"]).with(2).out;
    assert!(
        !planned.contains(theirs.name()) && !planned.contains("_sql-data"),
        "{planned}"
    );
    stack.run(&["up"]).ok();
    let there = installation(&stack);
    assert!(stack.dir().join("sql/data/master.mdf").exists());
    let made = stack.witness.volumes(&stack.label());
    assert_eq!(
        made.iter().filter(|name| !name.contains("lease")).count(),
        4,
        "{made:?}"
    );
    assert!(theirs.labels().is_empty(), "it is not labelled");
    let node = stack.witness.inspect(&stack.container(NODE)).unwrap();
    let mounts = node.mounts.unwrap();
    let artifacts = mounts
        .iter()
        .find(|mount| mount.destination.as_deref() == Some("/artifacts"));
    assert_eq!(artifacts.unwrap().name.as_deref(), Some(theirs.name()));

    stack.run(&["plan"]).ok();
    // What a set brings back is what was there, and what is not octo-local's is not emptied.
    let put = |name: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &b"1"[..]).unwrap();
        super::backup::put(&stack, NODE, "/artifacts", tar.into_inner().unwrap());
    };
    let has = |name: &str| {
        let files = super::backup::get(&stack, NODE, "/artifacts/.");
        files.iter().any(|file| file.0 == format!("./{name}"))
    };
    put("saved");
    stack.run(&["backup", "--name", "one"]).ok();
    put("later");
    let restore = ["backup", "restore", "one", "--force", "--yes"];
    stack.run(&restore).ok().says("others stay");
    assert!(has("saved") && has("later"));
    assert_eq!(installation(&stack), there);

    let down = stack.run(&["down", "--volumes", "--yes"]).ok();
    for stays in ["is not octo-local's: it stays", theirs.name(), "/sql"] {
        assert!(down.err.contains(stays), "{stays}: {}", down.err);
    }
    assert!(theirs.exists() && stack.dir().join("sql/data/master.mdf").exists());
    stack.run(&["up"]).ok();
    assert_eq!(
        installation(&stack),
        there,
        "it is the same database, with its key"
    );
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn places_that_are_not_there_or_cannot_be_written_are_refused_before_anything_is_made() {
    let stack = quick("no-places", 1);
    let refused = |says: &[&str]| {
        for command in ["plan", "up"] {
            let ended = stack.run(&[command]).with(78);
            for words in says {
                assert!(ended.err.contains(words), "{words}: {}", ended.err);
            }
        }
        assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
    };
    stack.set("SQL_DATA", "./sql");
    stack.set("ARTIFACTS", "octo-test-no-such-volume");
    stack.set("DISABLE_DIND", "Y");
    stack.set("CONTAINER_USER", "999:999");
    let shut = stack.dir().join("logs");
    std::fs::create_dir(&shut).unwrap();
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o700)).unwrap();
    stack.set("TASK_LOGS", "./logs");
    refused(&[
        "SQL_DATA=",
        "there is no such directory",
        "ARTIFACTS=octo-test-no-such-volume: there is no volume of this name",
        "TASK_LOGS=",
        "runs as user 999 and may not write there",
    ]);
    // Nobody knows the key of what is in it.
    std::fs::create_dir(stack.dir().join("sql")).unwrap();
    std::fs::write(stack.dir().join("sql/master.mdf"), "").unwrap();
    for key in ["ARTIFACTS", "CONTAINER_USER"] {
        stack.unset(key);
    }
    refused(&["MASTER_KEY", "nothing knows the key"]);
}

#[test]
fn a_place_that_is_gone_is_named_and_no_empty_one_is_made() {
    let stack = quick("gone-place", 1);
    let theirs = ForeignVolume::create(&format!("{}-theirs", stack.name));
    std::fs::create_dir(stack.dir().join("sql")).unwrap();
    stack.set("SQL_DATA", "./sql");
    stack.set("ARTIFACTS", theirs.name());
    stack.run(&["up"]).ok();
    stack.run(&["down"]).ok();
    let (sql, away) = (stack.dir().join("sql"), stack.dir().join("away"));
    std::fs::rename(&sql, &away).unwrap();
    let name = theirs.name().to_owned();
    drop(theirs);
    let refused = stack.run(&["up"]).with(78);
    for says in [
        "there is no such directory",
        "there is no volume of this name",
    ] {
        assert!(refused.err.contains(says), "{says}: {}", refused.err);
    }
    // An empty directory is no database either.
    let theirs = ForeignVolume::create(&name);
    std::fs::create_dir(&sql).unwrap();
    stack.run(&["up"]).with(78).says("was here and is gone");
    std::fs::remove_dir(&sql).unwrap();
    std::fs::rename(&away, &sql).unwrap();
    stack.run(&["up"]).ok();

    // A daemon that makes a container while it is gone makes nothing in its place.
    let node = stack.container(NODE);
    stack.run(&["stop", NODE]).ok();
    stack.witness.remove(&node);
    drop(theirs);
    let started = stack.run(&["start"]).with(1);
    assert!(started.err.contains(&name), "{}", started.err);
    let made = stack.witness.docker().inspect_volume(&name);
    assert!(stack.witness.wait(made).is_err(), "no empty volume is made");
    let theirs = ForeignVolume::create(&name);
    stack.wait_for("ready");
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert!(theirs.exists());
}

/// A disk that is not mounted at boot leaves an empty directory.
#[test]
fn an_empty_directory_in_the_place_of_the_data_gets_no_new_database() {
    let stack = quick("unmounted", 1);
    let (sql, away) = (stack.dir().join("sql"), stack.dir().join("away"));
    std::fs::create_dir(&sql).unwrap();
    stack.set("SQL_DATA", "./sql");
    stack.run(&["up"]).ok();
    let there = installation(&stack);
    stack.run(&["stop", "db", NODE]).ok();
    std::fs::rename(&sql, &away).unwrap();
    std::fs::create_dir(&sql).unwrap();
    let start = stack.run(&["start", "db", NODE]);
    start.with(1).says("is its disk mounted?");
    assert_eq!(
        std::fs::read_dir(&sql).unwrap().count(),
        0,
        "nothing is made in it"
    );
    std::fs::remove_dir(&sql).unwrap();
    std::fs::rename(&away, &sql).unwrap();
    stack.run(&["start"]).ok();
    stack.wait_for_unit(NODE, "ready");
    assert_eq!(installation(&stack), there);
}
