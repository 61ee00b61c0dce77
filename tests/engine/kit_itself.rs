//! The private engine leaves nothing behind, however its test ends.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;

use crate::kit::docker::Witness;
use crate::kit::images::Images;
use crate::kit::private::PrivateEngine;
use crate::kit::stack::SA_PASSWORD;

/// Every place where something of an engine in this directory shows.
fn traces(dir: &str) -> Vec<String> {
    let name = dir.rsplit('/').next().unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts
        .lines()
        .filter(|line| line.contains(name))
        .map(str::to_owned);
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let told = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            told.contains(name).then_some(told)
        });
    let trees = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|tree| tree.path());
    let groups = trees
        .filter(|tree| tree.ends_with(name) || tree.join(name).exists())
        .map(|tree| tree.display().to_string());
    let own = fs::metadata(dir).ok().map(|_| dir.to_owned());
    mounts.chain(processes).chain(groups).chain(own).collect()
}

/// Starts a container that goes on.
fn run_something(witness: &Witness) {
    let body = ContainerCreateBody {
        image: Some(Images::sql()),
        env: Some(vec![
            "ACCEPT_EULA=Y".to_owned(),
            format!("MSSQL_SA_PASSWORD={SA_PASSWORD}"),
        ]),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default()
        .name("something")
        .build();
    witness
        .wait(witness.docker().create_container(Some(options), body))
        .unwrap();
    witness
        .wait(witness.docker().start_container("something", None))
        .unwrap();
}

#[test]
fn a_private_engine_leaves_nothing_behind_when_its_test_fails() {
    let mut dir = String::new();
    let mut sockets = Vec::new();
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let engine = PrivateEngine::start();
        dir = engine.dir();
        run_something(&engine.witness());
        sockets = engine.shims();
        assert!(
            traces(&dir).len() > 5 && sockets.iter().any(|socket| socket.exists()),
            "{:?} {sockets:?}",
            traces(&dir)
        );
        panic!("this failure is part of the test");
    }));
    let words = failed.unwrap_err();
    assert_eq!(
        words.downcast_ref::<&str>(),
        Some(&"this failure is part of the test")
    );
    assert_eq!(traces(&dir), Vec::<String>::new());
    assert!(sockets.iter().all(|socket| !socket.exists()), "{sockets:?}");
}
