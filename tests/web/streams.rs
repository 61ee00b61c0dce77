//! Long bodies, trailers, upgrades, and connections that are passed through.

use std::time::Duration;

use octo_local::web::message::NodeState;
use octo_local::web::message::Purpose;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::Door;
use super::door::body;
use super::door::free_port;
use super::door::get;
use super::door::listener;
use super::door::rest;
use super::door::say;
use super::door::status;
use super::node::Node;

/// What goes up in a test; the benchmark sends several GiB.
const UPLOAD: usize = 768 << 20;
/// What the process may grow by meanwhile. Its buffers are some hundred KiB; the rest is the
/// allocator's.
const GROWTH: u64 = 8 << 20;

#[tokio::test]
async fn uploads_and_downloads_take_no_memory() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    get(door.address(), "/name").await;
    let before = door.memory();
    let mut most = before;
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    let head = format!(
        "PUT /length HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nContent-Length: {UPLOAD}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1 << 20];
    for count in 0..UPLOAD >> 20 {
        stream.write_all(&piece).await.unwrap();
        if count % 64 == 0 {
            most = most.max(door.memory());
        }
    }
    assert_eq!(body(&rest(&mut stream).await), format!("{UPLOAD} "));
    // Down, to a client that reads slowly: what it does not read waits in the node.
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    stream
        .write_all(b"GET /big HTTP/1.1\r\nHost: octo\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    most = most.max(door.memory());
    let mut total = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        total += count;
    }
    assert!(total > 64 << 20, "{total}");
    most = most.max(door.memory());
    assert!(most - before < GROWTH, "{before} grew to {most}");
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    let up = "PUT /length HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nTrailer: x-sum\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n";
    let answer = say(door.address(), up.as_bytes()).await;
    assert_eq!(body(&answer).to_lowercase(), "3 x-sum: 9");
    let down =
        "GET /trailers HTTP/1.1\r\nHost: octo\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n";
    let answer = say(door.address(), down.as_bytes()).await;
    assert!(answer.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn early_answers_and_early_ends_hurt_nobody_else() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let head =
        "PUT /early HTTP/1.1\r\nHost: octo\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(status(&say(door.address(), head.as_bytes()).await), 413);
    // The client goes in the middle of its body, and in the middle of an answer.
    for _ in 0..20 {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        let head = "PUT /length HTTP/1.1\r\nHost: octo\r\nContent-Length: 9000000\r\n\r\nabc";
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream);
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        let head = "GET /big HTTP/1.1\r\nHost: octo\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        drop(stream);
    }
    let state = door.until("all is over", |state| {
        state.connections == 0 && state.nodes[0].requests == 0
    });
    assert!(state.await.nodes[0].serves, "no client takes a node out");
    assert_eq!(status(&get(door.address(), "/name").await), 200);
}

async fn upgraded(door: &Door) -> TcpStream {
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    let head = "GET /switch HTTP/1.1\r\nHost: octo\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert_eq!(status(&head), 101, "{head}");
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"));
    stream
}

#[tokio::test]
async fn an_upgraded_connection_carries_any_bytes_and_closes_each_way_by_itself() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let mut stream = upgraded(&door).await;
    // What would be two requests and nonsense in HTTP.
    let bytes = b"GET / HTTP/1.1\r\n\r\n\0\n\nGET /smuggled HTTP/1.1\r\n\r\n";
    stream.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, bytes);
    let state = door.until("it is counted", |state| state.nodes[0].tunnels == 1);
    assert_eq!(state.await.nodes[0].requests, 0);
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "bye");
    door.until("it is over", |state| state.nodes[0].tunnels == 0)
        .await;
    assert_eq!(node.requests(), 1);
}

#[tokio::test]
async fn bytes_before_the_switch_are_requests_and_no_tunnel() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    // The node refuses to switch: what follows stays HTTP, and is checked as such.
    let text = "GET /name HTTP/1.1\r\nHost: octo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
                GET /name HTTP/1.1\r\nHost: octo\r\n\r\nGET /smuggled HTTP/1.1\nHost: octo\n\n";
    let answer = say(door.address(), text.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");
    assert_eq!(node.requests(), 2);
}

#[tokio::test]
async fn idle_tunnels_end() {
    let node = Node::new("a").await;
    let door = Door::with(&[node.fed()], |feed| feed.limits.tunnel_idle_ms = 200).await;
    let mut stream = upgraded(&door).await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn grpc_is_passed_through_to_a_ready_node() {
    let (a, b) = (Node::new("a").await, Node::new("b").await);
    let mut door = Door::with(&[a.fed(), b.fed()], |feed| {
        feed.listeners.push(listener(free_port(), Purpose::Grpc));
        feed.nodes[1].state = NodeState::Draining;
    })
    .await;
    let grpc = door.feed.listeners[1].address;
    for _ in 0..3 {
        assert_eq!(body(&get(grpc, "/name").await), "a", "only ready nodes");
    }
    // Byte for byte: nothing is added, and each way closes by itself.
    let mut stream = TcpStream::connect(grpc).await.unwrap();
    let head = "GET /head HTTP/1.1\r\nHost: octo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(body(&rest(&mut stream).await), head);
    door.set(0, NodeState::Down).await;
    assert_eq!(get(grpc, "/name").await, "", "nobody is ready");
    door.set(0, NodeState::Ready).await;
    door.set(1, NodeState::Ready).await;
    drop(a);
    assert_eq!(body(&get(grpc, "/name").await), "b", "the other is tried");
}
