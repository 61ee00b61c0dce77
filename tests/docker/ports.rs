//! Ports of single nodes: polling Tentacles reach each node end to end on a port that stays its own,
//! gRPC reaches one that is ready, and what cannot be had is told before anything is made.

use std::net::TcpListener;

use super::quick;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;
use crate::kit::tls::Secure;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";

/// A stack of two nodes behind a front door, with everything published; the ports of gRPC and
/// polling, one a node each.
fn published(name: &str) -> (Stack, u16, u16) {
    let stack = quick(name, 2);
    // The front door's, and two of nodes, are before them.
    let grpc = stack.web() + 3;
    let polling = grpc + 3;
    stack.set("OCTOPUS_GRPC_PORT", &grpc.to_string());
    stack.set("OCTOPUS_POLLING_PORT_BASE", &polling.to_string());
    (stack, grpc, polling)
}

#[track_caller]
fn is_answered_by(port: u16, node: &str) {
    let answered = Secure::connect(port).map(|one| one.greeting);
    assert_eq!(answered, Some(format!("stand-in {node} on 10943")));
}

#[test]
fn a_node_keeps_its_polling_port_and_status_says_what_to_register() {
    let (stack, _, polling) = published("ports-polling");
    let up = |stack: &Stack| {
        stack.run(&["up"]).ok();
    };
    up(&stack);
    is_answered_by(polling, "octopus");
    is_answered_by(polling + 1, "octopus-2");
    let first = format!("https://127.0.0.1:{polling}");
    let second = format!("https://127.0.0.1:{}", polling + 1);
    assert_eq!(stack.unit(NODE_1)["polling"], first);
    assert_eq!(stack.unit(NODE_2)["polling"], second);
    let shown = stack.run(&["status"]).ok().out;
    let line = format!("poll-server: {first} {NODE_1}, {second} {NODE_2}");
    assert!(shown.replace('\n', " ").contains(&line), "{shown}");
    // Both are recreated, and fewer and more nodes move nobody.
    stack.set("TASK_CAP", "3");
    up(&stack);
    is_answered_by(polling, "octopus");
    is_answered_by(polling + 1, "octopus-2");
    stack.set("OCTOPUS_NODES", "1");
    up(&stack);
    is_answered_by(polling, "octopus");
    assert!(Secure::connect(polling + 1).is_none(), "nobody is there");
    stack.set("OCTOPUS_NODES", "2");
    up(&stack);
    is_answered_by(polling + 1, "octopus-2");
    stack.run(&["down"]).ok();
}

#[test]
fn grpc_reaches_a_ready_node_while_nodes_restart_and_the_daemon_dies() {
    let (stack, grpc, _) = published("ports-grpc");
    stack.run(&["up"]).ok();
    let on = |node: &str| {
        let wanted = format!("stand-in {node} on 8443");
        wait_until(&format!("a connection reached {node}"), || {
            Secure::connect(grpc).filter(|one| one.greeting == wanted)
        })
    };
    let (mut one, mut two) = (on("octopus"), on("octopus-2"));
    let restart = stack.spawn(&["restart", NODE_1]);
    wait_until("the connection to node 1 ended", || {
        (!one.echoes("still")).then_some(())
    });
    let answered = Secure::connect(grpc).map(|one| one.greeting);
    assert_eq!(answered.as_deref(), Some("stand-in octopus-2 on 8443"));
    stack.end(restart).ok();
    assert!(two.echoes("there"), "node 2 was not restarted");
    stack.kill_daemon();
    assert!(two.echoes("still there"), "the front door goes on");
    on("octopus");
    stack.run(&["up"]).ok();
    assert!(two.echoes("and now"), "the next daemon adopts it");
    stack.run(&["down"]).ok();
    assert!(Secure::connect(grpc).is_none());
}

#[test]
fn ports_that_cannot_be_had_are_told_by_plan_and_up_before_anything_is_made() {
    let (stack, grpc, polling) = published("ports-refused");
    let refused = |words: &[&str], keys: &[&str]| {
        let told = stack.run(words).with(78);
        for key in keys {
            assert!(told.err.contains(key), "{words:?}: {}", told.err);
        }
    };
    let held = [grpc, polling + 1].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let taken = format!(
        "OCTOPUS_POLLING_PORT_BASE: port {} of 127.0.0.1",
        polling + 1
    );
    for words in [&["plan"], &["up"]] {
        refused(words, &[&taken, "OCTOPUS_GRPC_PORT"]);
    }
    drop(held);
    // Among themselves, and with what is there anyway.
    let sql = stack.port("db").to_string();
    stack.set("OCTOPUS_POLLING_PORT_BASE", &sql);
    stack.set("OCTOPUS_NODE_PORT_BASE", &grpc.to_string());
    for words in [&["plan"], &["up"]] {
        refused(words, &["OCTOPUS_POLLING_PORT_BASE", "OCTOPUS_GRPC_PORT"]);
    }
    let made = stack.witness.containers(&stack.label());
    assert_eq!(made, Vec::<String>::new());
    assert_eq!(stack.front_doors(), []);
    // A node that would wait for the port of a later one would wait for ever.
    stack.unset("OCTOPUS_NODE_PORT_BASE");
    stack.set("OCTOPUS_POLLING_PORT_BASE", &polling.to_string());
    stack.run(&["up"]).ok();
    let started = stack.started();
    stack.set("OCTOPUS_POLLING_PORT_BASE", &(polling + 1).to_string());
    for words in [&["plan"], &["up"]] {
        refused(
            words,
            &[
                "OCTOPUS_POLLING_PORT_BASE",
                NODE_2,
                "`octo-local down` first",
            ],
        );
    }
    assert_eq!(stack.started(), started);
    stack.run(&["down"]).ok();
    stack.run(&["up"]).ok();
    is_answered_by(polling + 1, "octopus");
    stack.run(&["down"]).ok();
}
