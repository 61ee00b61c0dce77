//! Tentacles on the real engine: they register once, come back with the same identity, are in
//! nobody's way, and leave nothing behind.

use serde_json::Value;

use super::quick;
use crate::kit::http;
use crate::kit::images::Images;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const KEY: &str = "API-TENTACLES0000000000000000";
const NODE: &str = "octopus-server-1";
const WEB: &str = "tentacle-web";

/// A stack with an API key.
fn keyed(name: &str) -> Stack {
    let stack = quick(name, 1);
    stack.set("ADMIN_API_KEY", KEY);
    stack.secret(KEY);
    stack
}

/// What Octopus Server has of a kind: name and thumbprint.
fn registered(stack: &Stack, kind: &str, key: &str) -> Vec<(String, String)> {
    let path = format!("/api/Spaces-1/{kind}");
    let (status, body) = http::get(stack.port(NODE), &path, key).expect("a node answers");
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let items = body["Items"].as_array().unwrap().iter();
    let of = |item: &Value| (text(&item["Name"]), text(&item["Endpoint"]["Thumbprint"]));
    items.map(of).collect()
}

fn violations(stack: &Stack) -> String {
    http::get(stack.port(NODE), "/api/standin/violations", "")
        .unwrap()
        .1
}

#[test]
fn a_demos_tentacles_register_once_and_keep_who_they_are() {
    let stack = Stack::demo("tentacles-demo");
    stack.run(&["up", "--demo", "--tentacles", "2"]).ok();
    let key = stack.run(&["secrets", "ADMIN_API_KEY"]).ok().out;
    let key = key.trim();
    let (targets, workers) = (
        registered(&stack, "machines", key),
        registered(&stack, "workers", key),
    );
    assert_eq!(
        (targets.len(), workers.len()),
        (1, 1),
        "{targets:?} {workers:?}"
    );
    let list = stack
        .run(&["tentacle", "list", "--format", "json"])
        .ok()
        .json();
    assert_eq!(list["schema"], 1);
    assert_eq!(list["tentacles"][0]["name"], "target-1");
    assert_eq!(
        list["tentacles"][0]["target"]["environments"][0],
        "Development"
    );
    assert_eq!(
        list["tentacles"][1]["worker"]["pool"],
        "Default Worker Pool"
    );
    assert_eq!(list["tentacles"][1]["phase"], "ready");

    // It ends, its container is removed, the daemon dies, the stack goes and comes back.
    let unit = "tentacle-target-1";
    let container = stack.container(unit);
    stack.witness.kill(&container, "KILL");
    wait_until("it was started again", || {
        (stack.unit(unit)["restarts"] == 1 && stack.unit(unit)["phase"] == "ready").then_some(())
    });
    stack.kill_daemon();
    stack.witness.remove(&container);
    stack.run(&["up", "--demo"]).ok();
    stack.wait_for_unit(unit, "ready");
    stack.run(&["down"]).ok();
    assert_eq!(stack.witness.containers(&stack.label()), [] as [String; 0]);
    stack.run(&["up", "--demo"]).ok();
    for unit in [unit, "tentacle-worker-1"] {
        stack.wait_for_unit(unit, "ready");
    }
    assert_eq!(registered(&stack, "machines", key), targets);
    assert_eq!(registered(&stack, "workers", key), workers);
    assert_eq!(violations(&stack), "[]");

    stack
        .run(&["tentacle", "remove", "target-1"])
        .ok()
        .says("so is its registration");
    assert_eq!(registered(&stack, "machines", key), []);
    assert_eq!(registered(&stack, "workers", key), workers);
    let volumes = stack.witness.volumes(&stack.label());
    assert!(
        !volumes
            .iter()
            .any(|name| name.ends_with("_tentacle-target-1")),
        "{volumes:?}"
    );
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(stack.witness.volumes(&stack.label()), [] as [String; 0]);
}

#[test]
fn one_that_cannot_come_up_is_in_nobodys_way() {
    let stack = keyed("tentacles-in-no-way");
    stack.run(&["up"]).ok();
    stack
        .run(&["tentacle", "add", "web", "--worker", "Nowhere"])
        .with(64)
        .says("no such worker pool")
        .says("Default Worker Pool");
    stack
        .run(&[
            "tentacle",
            "add",
            "web",
            "--environment",
            "Test",
            "--role",
            "r",
            "--space",
            "Other",
        ])
        .with(64)
        .says("no such space");
    let worker = ["tentacle", "add", "web", "--worker", "Default Worker Pool"];
    let nowhere = [&worker[..], &["--image", "127.0.0.1:1/nowhere:1"]].concat();
    stack
        .run(&nowhere)
        .with(1)
        .says("127.0.0.1:1/nowhere:1")
        .says("TENTACLE_TAG");
    // It fails on, and everything else goes its way.
    let status = stack.status();
    assert_eq!(status["verdict"], "ready", "{status}");
    assert_eq!(stack.unit(WEB)["cause"], "ImageMissing");
    stack.run(&["status", "--check"]).ok();
    stack.run(&["restart"]).ok();
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up"]).ok();
    assert_eq!(stack.unit("octopus-server-2")["phase"], "ready");
    stack
        .run(&worker)
        .with(1)
        .says("there is a Tentacle web already")
        .says("tentacle remove web");
    stack.run(&["tentacle", "remove", "web"]).ok();
    assert_eq!(stack.unit(WEB), Value::Null);
    stack.run(&["down"]).ok();
}

#[test]
fn a_tentacle_waits_for_a_node_and_goes_without_one_only_when_its_registration_may_stay() {
    let stack = keyed("tentacles-alone");
    stack.run(&["up"]).ok();
    stack.run(&["stop", "octopus-server"]).ok();
    let image = Images::tentacle();
    let add = [
        "tentacle",
        "add",
        "web",
        "--environment",
        "Test",
        "--role",
        "web",
        "--image",
        &image,
    ];
    stack
        .run(&[&add[..], &["--wait-timeout", "1"]].concat())
        .with(75)
        .says("a node that serves");
    assert_eq!(stack.unit(WEB)["phase"], "created");
    stack.run(&["start", "octopus-server"]).ok();
    stack.run(&add).ok().says("web is ready");
    assert_eq!(registered(&stack, "machines", KEY).len(), 1);
    let shown = stack.run(&["logs", "web"]).ok().out;
    assert!(shown.contains("Configuration successful."), "{shown}");
    stack.run(&["explain", "web"]).ok();
    stack.run(&["stop", "web"]).ok();
    wait_until("it is stopped", || {
        let unit = stack.unit(WEB);
        (unit["stopped"] == true && unit["phase"] == "created").then_some(())
    });
    stack.run(&["start", "web"]).ok();
    stack.wait_for_unit(WEB, "ready");

    stack.run(&["stop", "octopus-server"]).ok();
    assert_eq!(
        stack.unit(WEB)["phase"],
        "ready",
        "it runs on without a node"
    );
    stack
        .run(&["tentacle", "remove", "web"])
        .with(1)
        .says("no node serves")
        .says("tentacle remove web --keep-registration");
    assert_eq!(stack.unit(WEB)["phase"], "ready", "nothing was touched");
    stack
        .run(&["tentacle", "remove", "web", "--force"])
        .ok()
        .says("delete web in Octopus");
    stack.run(&["start", "octopus-server"]).ok();
    assert_eq!(registered(&stack, "machines", KEY).len(), 1, "it is left");
    // Added again, it is a new one under the old registration.
    let old = registered(&stack, "machines", KEY);
    stack.run(&add).ok();
    let new = registered(&stack, "machines", KEY);
    assert!(new.len() == 1 && new != old, "{old:?} {new:?}");
    assert_eq!(violations(&stack), "[]");
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
