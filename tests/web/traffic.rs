//! Which node gets what, what happens when one fails, and what is said while none is ready.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use octo_local::web::message::NodeState;
use octo_local::web::page::STATUS_PATH;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::Door;
use super::door::body;
use super::door::get;
use super::door::rest;
use super::door::say;
use super::door::status;
use super::node::Node;

#[tokio::test]
async fn requests_go_to_ready_nodes_in_turns() {
    let (a, b, c) = (
        Node::new("a").await,
        Node::new("b").await,
        Node::new("c").await,
    );
    let mut door = Door::before(&[a.fed(), b.fed(), c.fed()]).await;
    door.set(2, NodeState::Down).await;
    for _ in 0..10 {
        assert_eq!(status(&get(door.address(), "/name").await), 200);
    }
    assert_eq!((a.requests(), b.requests(), c.requests()), (5, 5, 0));
}

#[tokio::test]
async fn a_draining_node_finishes_what_runs_and_gets_nothing_new() {
    let (a, b) = (Node::new("a").await, Node::new("b").await);
    let mut door = Door::before(&[a.fed(), b.fed()]).await;
    let address = door.address();
    let running = tokio::spawn(get_owned(address, "/wait"));
    door.until("it runs", |state| state.nodes[0].requests == 1)
        .await;
    door.set(0, NodeState::Draining).await;
    for _ in 0..6 {
        assert_eq!(body(&get(address, "/name").await), "b");
    }
    a.shared.gate.add_permits(1);
    assert_eq!(body(&running.await.unwrap()), "a");
    let state = door.until("it is over", |state| state.nodes[0].requests == 0);
    assert!(!state.await.nodes[0].serves);
}

async fn get_owned(address: std::net::SocketAddr, path: &'static str) -> String {
    get(address, path).await
}

/// Clients that ask on and on until told to stop; how many requests were answered and how not.
async fn load(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut fine, mut bad) = (0, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let answer = get(address, "/name").await;
        if status(&answer) == 200 {
            fine += 1;
        } else {
            bad.push(answer);
        }
    }
    (fine, bad)
}

#[tokio::test]
async fn a_node_that_dies_under_load_costs_no_request_and_comes_back_by_itself() {
    let (a, b) = (Node::new("a").await, Node::new("b").await);
    let mut door = Door::before(&[a.fed(), b.fed()]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| tokio::spawn(load(door.address(), stop.clone())))
        .collect();
    let mut a = Some(a);
    for _ in 0..3 {
        let at = a.take().unwrap().address;
        let gone = door.until("it is out", |state| !state.nodes[0].serves);
        assert!(gone.await.nodes[1].serves);
        a = Some(Node::at("a", at).await);
        door.until("it is back", |state| state.nodes[0].serves)
            .await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (fine, bad) = client.await.unwrap();
        assert!(fine > 0 && bad.is_empty(), "{fine} fine, {bad:?}");
    }
    assert!(a.unwrap().requests() > 0, "it is used again");
}

#[tokio::test]
async fn what_may_not_be_repeated_is_sent_once() {
    let (a, b) = (Node::new("a").await, Node::new("b").await);
    let door = Door::before(&[a.fed(), b.fed()]).await;
    let post =
        "POST /drop HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(status(&say(door.address(), post.as_bytes()).await), 502);
    assert_eq!(a.requests() + b.requests(), 1);
    // What may be is tried on each node, and then told.
    assert_eq!(status(&get(door.address(), "/drop").await), 503);
    assert_eq!(a.requests() + b.requests(), 3);
    assert_eq!(
        status(&get(door.address(), "/name").await),
        200,
        "they are well"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    let answer = get(door.address(), "/half").await;
    assert_eq!((status(&answer), body(&answer)), (200, "half"));
    assert!(answer.to_lowercase().contains("content-length: 1000"));
    assert_eq!(node.requests(), 1);
}

#[tokio::test]
async fn without_a_node_programs_are_told_to_come_back_and_browsers_get_a_page() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let address = door.address();
    door.set(0, NodeState::Down).await;
    let answer = get(address, "/api").await;
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("retry-after: "), "{answer}");
    let browser =
        "GET /app HTTP/1.1\r\nHost: octo\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
    let page = say(address, browser.as_bytes()).await;
    assert_eq!(status(&page), 503);
    assert!(page.contains("<li>db: &lt;starting&gt;</li>"), "{page}");
    let now = |answer: &str| serde_json::from_str::<serde_json::Value>(body(answer)).unwrap();
    let status_text = get(address, STATUS_PATH).await;
    assert_eq!(now(&status_text)["ready"], false);
    assert_eq!(now(&status_text)["doing"][0], "db: <starting>");
    door.set(0, NodeState::Ready).await;
    assert_eq!(now(&get(address, STATUS_PATH).await)["ready"], true);
    assert_eq!(body(&say(address, browser.as_bytes()).await), "a");
}

#[tokio::test]
async fn an_upload_is_not_asked_for_while_no_node_would_take_it() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let head = "PUT /length HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nExpect: 100-continue\r\n\
                Content-Length: 3\r\n\r\n";
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    assert_eq!(body(&rest(&mut stream).await), "3 ");
    door.set(0, NodeState::Down).await;
    let answer = say(door.address(), head.as_bytes()).await;
    assert_eq!(status(&answer), 503, "{answer}");
}

#[tokio::test]
async fn held_requests_are_served_when_a_node_comes_and_told_when_none_does() {
    let node = Node::new("a").await;
    let mut door = Door::with(&[node.fed()], |feed| {
        feed.hold_ms = 60_000;
        feed.limits.held = 2;
        feed.nodes[0].state = NodeState::Down;
    })
    .await;
    let address = door.address();
    let post =
        "POST /length HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    let first = tokio::spawn(async move { say(address, post.as_bytes()).await });
    let second = tokio::spawn(get_owned(address, "/name"));
    door.until("both wait", |state| state.held == 2).await;
    assert_eq!(status(&get(address, "/name").await), 503, "one too many");
    door.set(0, NodeState::Ready).await;
    assert_eq!(body(&first.await.unwrap()), "3 ");
    assert_eq!(body(&second.await.unwrap()), "a");
    door.feed.hold_ms = 50;
    door.set(0, NodeState::Down).await;
    assert_eq!(status(&get(address, "/name").await), 503);
    door.until("none waits", |state| state.held == 0).await;
}

#[tokio::test]
async fn a_silent_node_is_given_up_and_told() {
    let node = Node::new("a").await;
    let door = Door::with(&[node.fed()], |feed| feed.limits.silence_ms = 200).await;
    assert_eq!(status(&get(door.address(), "/wait").await), 504);
    // A request that moves is not: its sender is slow, the node waits.
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    let head =
        "PUT /length HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nContent-Length: 8\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        stream.write_all(b"x").await.unwrap();
    }
    assert_eq!(body(&rest(&mut stream).await), "8 ");
}
