//! One address for all nodes: it is open while nodes restart and the daemon dies, and goes with the
//! stack.

use std::net::TcpListener;

use super::quick;
use crate::kit::clients::Clients;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";

/// A stack of two nodes behind a front door.
fn behind_a_door(name: &str) -> Stack {
    quick(name, 2)
}

#[test]
fn restarts_of_nodes_and_a_killed_daemon_lose_no_request() {
    let stack = behind_a_door("front-door");
    let port = stack.web();
    let url = format!("http://127.0.0.1:{port}");
    stack.run(&["up"]).ok().says(&url);
    let status = stack.status();
    assert_eq!(status["front_door"]["open"], true, "{status}");
    assert_eq!(status["url"], url);
    let shown = stack.run(&["status"]).ok().out;
    let line = format!("front door: {url}, 2 of 2 nodes get requests");
    assert!(shown.contains(&line), "{shown}");
    let door = stack.front_doors();
    assert_eq!(door.len(), 1);
    let clients = Clients::of(port);
    let since = stack.witness.now();
    stack.run(&["restart", NODE_1, NODE_2]).ok();
    stack.wait_for("ready");
    // Once more, and the daemon dies while node 1 is away.
    let again = stack.witness.now();
    let restart = stack.spawn(&["restart", NODE_1, NODE_2]);
    wait_until("node 1 was ended", || {
        stack
            .deaths(again)
            .contains(&NODE_1.to_owned())
            .then_some(())
    });
    stack.kill_daemon();
    stack.end(restart);
    stack.run(&["up"]).ok();
    stack.run(&["restart", NODE_2]).ok();
    stack.wait_for("ready");
    assert_eq!(stack.front_doors(), door, "it was there all the while");
    clients.end();
    let starts = stack.starts(since);
    for node in [NODE_1, NODE_2] {
        assert!(
            starts.iter().filter(|unit| *unit == node).count() >= 2,
            "{starts:?}"
        );
    }
    stack.run(&["down"]).ok();
    wait_until("the front door is gone", || {
        stack.front_doors().is_empty().then_some(())
    });
    assert_eq!(http::get(port, "/api", ""), None);
}

#[test]
fn a_long_connection_lasts_as_long_as_its_node_and_outlives_the_daemon() {
    let stack = behind_a_door("front-door-socket");
    let port = stack.web();
    stack.run(&["up"]).ok();
    let on = |node: &str| {
        wait_until(&format!("a connection reached {node}"), || {
            http::Upgraded::on(port).filter(|one| one.node == node)
        })
    };
    let (mut one, mut two) = (on("octopus"), on("octopus-2"));
    stack.run(&["restart", NODE_1]).ok();
    assert!(
        !one.echoes("still there"),
        "its node is another process now"
    );
    assert!(two.echoes("still there"));
    stack.kill_daemon();
    assert!(two.echoes("without a daemon"));
    let mut next = on("octopus");
    stack.run(&["up"]).ok();
    assert!(two.echoes("with the next one") && next.echoes("so is this"));
    stack.run(&["down"]).ok();
    assert!(!two.echoes("after the end"));
}

#[test]
fn a_stack_that_is_stopped_with_its_daemon_leaves_no_front_door() {
    let stack = behind_a_door("front-door-end");
    stack.run(&["up"]).ok();
    assert_eq!(stack.front_doors().len(), 1);
    stack.signal_daemon(rustix::process::Signal::TERM);
    stack.wait_for_no_daemon();
    wait_until("the front door is gone", || {
        stack.front_doors().is_empty().then_some(())
    });
    // Without one node 1 has its port again.
    stack.set("FRONT_DOOR", "off");
    stack.run(&["up"]).ok();
    assert_eq!(stack.front_doors(), []);
    assert_eq!(http::get(stack.web(), "/api", "").unwrap().0, 200);
    stack.run(&["down"]).ok();
}

#[test]
fn what_a_front_door_cannot_have_is_told_before_anything_is_made() {
    let stack = behind_a_door("front-door-refused");
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    std::fs::write(stack.dir().join("cert.pem"), one.cert.pem()).unwrap();
    std::fs::write(
        stack.dir().join("key.pem"),
        other.signing_key.serialize_pem(),
    )
    .unwrap();
    let port = stack.web();
    stack.set("TLS_CERT", "cert.pem");
    stack.set("TLS_KEY", "key.pem");
    stack.set("HTTPS_PORT", &(port + 5).to_string());
    let held = [port, port + 5].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let refused = stack.run(&["up"]).with(78);
    let refused = refused.says("do not belong together");
    for key in ["TLS_KEY", "OCTOPUS_PORT", "HTTPS_PORT"] {
        assert!(refused.err.contains(key), "{}", refused.err);
    }
    drop(held);
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
    assert_eq!(stack.front_doors(), []);
    std::fs::write(stack.dir().join("key.pem"), one.signing_key.serialize_pem()).unwrap();
    let url = format!("https://127.0.0.1:{}", port + 5);
    stack.run(&["up"]).ok().says(&url);
    let (status, _) = http::get(port, "/", "").unwrap();
    assert_eq!(status, 308, "plain HTTP is sent to HTTPS");
    stack.run(&["down"]).ok();
}

#[test]
fn requests_are_written_down_where_asked_with_the_client_that_a_trusted_proxy_names() {
    let stack = behind_a_door("front-door-log");
    let port = stack.web();
    stack.set("FRONT_DOOR_TRUSTED_PROXIES", "127.0.0.0/8,proxy");
    stack.set("FRONT_DOOR_ACCESS_LOG", "yes");
    for words in [&["plan"], &["up"]] {
        let refused = stack.run(words).with(78).says("\"proxy\" is no address");
        assert!(
            refused.err.contains("FRONT_DOOR_ACCESS_LOG"),
            "{}",
            refused.err
        );
    }
    stack.set("FRONT_DOOR_TRUSTED_PROXIES", "127.0.0.0/8");
    stack.set("FRONT_DOOR_ACCESS_LOG", "off");
    stack.run(&["up"]).ok();
    let log = stack.state().join("access").join("access.log");
    http::get(port, "/api?before=1", "");
    assert!(!log.exists(), "it is off");
    let (door, started) = (stack.front_doors(), stack.started());
    stack.set("FRONT_DOOR_ACCESS_LOG", "on");
    stack.run(&["up"]).ok();
    let asked = http::get_as_proxy(port, "/api?apiKey=API-SECRET", "203.0.113.9");
    assert_eq!(asked.unwrap().0, 200);
    let text = wait_until("the request is written", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("203.0.113.9").then_some(text)
    });
    assert!(text.contains(" 203.0.113.9 GET /api 200 "), "{text}");
    assert!(
        !text.contains("SECRET") && !text.contains("before"),
        "{text}"
    );
    assert_eq!(stack.front_doors(), door, "it is the same process");
    assert_eq!(stack.started(), started, "no container is made anew");
    let status = stack.status();
    assert_eq!(
        status["front_door"]["without_access_log"],
        serde_json::Value::Null
    );
    stack.run(&["down"]).ok();
}
