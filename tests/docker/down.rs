//! `down`: what it takes away, and what it leaves.

use std::collections::BTreeSet;

use super::quick;
use super::running;
use crate::kit::docker::Witness;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// Every volume that the stack's containers mount, anonymous ones too.
fn mounted(stack: &Stack) -> BTreeSet<String> {
    let containers = stack.witness.containers(&stack.label());
    let mounts = containers.iter().flat_map(|name| {
        stack
            .witness
            .inspect(name)
            .unwrap()
            .mounts
            .unwrap_or_default()
    });
    mounts.filter_map(|mount| mount.name).collect()
}

fn exists(witness: &Witness, volume: &str) -> bool {
    witness
        .wait(witness.docker().inspect_volume(volume))
        .is_ok()
}

#[test]
fn down_leaves_the_data_and_down_volumes_leaves_nothing() {
    let stack = running("down", 2);
    let mounted = mounted(&stack);
    let named: BTreeSet<String> = stack.witness.volumes(&stack.label()).into_iter().collect();
    let anonymous: Vec<String> = mounted.difference(&named).cloned().collect();
    assert_eq!(
        anonymous.len(),
        2,
        "each node has one of its own for Docker-in-Docker: {mounted:?}"
    );
    let since = stack.witness.now();
    stack.run(&["down"]).ok();
    assert_eq!(
        stack.deaths(since).last().unwrap(),
        "db",
        "SQL Server stops last"
    );
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
    assert_eq!(stack.witness.networks(&stack.label()), Vec::<String>::new());
    assert_eq!(
        stack.witness.volumes(&stack.label()),
        named.into_iter().collect::<Vec<_>>(),
        "the data stays"
    );
    assert!(
        anonymous.iter().all(|name| !exists(&stack.witness, name)),
        "volumes without a name go with their node"
    );
    wait_until("the daemon that `up` started ends", || {
        stack.processes().is_empty().then_some(())
    });

    stack.run(&["down", "--volumes"]).with(64).says("--yes");
    assert!(
        !stack.witness.volumes(&stack.label()).is_empty(),
        "data is never removed unasked"
    );
    stack.run(&["up"]).ok();
    let down = stack.run(&["down", "--volumes", "--yes"]).ok();
    down.says("and its data is deleted");
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
    assert_eq!(stack.witness.networks(&stack.label()), Vec::<String>::new());
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
    wait_until("the daemon ends", || {
        stack.processes().is_empty().then_some(())
    });
    let kept = std::fs::read_to_string(stack.state().join("state.json")).unwrap_or_default();
    for secret in ["Tests-0f", "Adm1n-of"] {
        assert!(
            !kept.contains(secret),
            "what belonged to the data went with it"
        );
    }
    assert!(kept.contains("==\""), "backups of the data need its key");
    stack
        .run(&["down", "--volumes", "--yes"])
        .ok()
        .says("nothing to take down");
}

#[test]
fn down_needs_neither_a_daemon_nor_a_readable_env() {
    let stack = running("down-alone", 1);
    stack.kill_daemon();
    std::fs::write(stack.dir().join(".env"), "OCTOPUS_NODES='one\n").unwrap();
    stack.run(&["up"]).with(78);
    let since = stack.witness.now();
    std::fs::remove_file(stack.state().join("state.json")).unwrap();
    stack.run(&["down", "-v", "--yes"]).ok();
    assert_eq!(stack.deaths(since), ["octopus-server-1", "db"]);
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
    assert_eq!(stack.witness.networks(&stack.label()), Vec::<String>::new());
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
    stack.wait_for_no_daemon();
}

/// A wish that comes while an older one is still being carried out wins, and the one who made the
/// older one is told.
#[test]
fn an_up_during_down_brings_the_stack_back_and_both_end() {
    let stack = quick("down-up", 2);
    stack.set("STANDIN_OCTOPUS_STOP_MS", "1500");
    stack.run(&["up"]).ok();
    let since = stack.witness.now();
    let down = stack.spawn(&["down"]);
    crate::kit::process::wait_until("a node is told to stop", || {
        let told = stack.events(since);
        told.iter().any(|told| told.action == "kill").then_some(())
    });
    stack.run(&["up"]).ok();
    let ended = stack.end(down);
    assert!(
        ended.code == 0 || ended.code == 1,
        "`down` ends too, one way or the other: {ended:?}"
    );
    assert_eq!(stack.status()["verdict"], "ready");
    stack.assert_no_violation();
}
