//! The process: one at a time, fed again, alone, taken over, opened by systemd.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use octo_local::web::link;
use octo_local::web::link::Link;
use octo_local::web::link::LinkError;
use octo_local::web::link::Start;
use octo_local::web::message::NodeState;
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::Door;
use super::door::body;
use super::door::get;
use super::door::linked;
use super::door::rest;
use super::door::start;
use super::door::status;
use super::node::Node;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;

#[tokio::test]
async fn a_second_front_door_names_the_first_and_ends() {
    let door = Door::before(&[]).await;
    let second = start(&door.control(), &[]).end();
    second
        .with(75)
        .says("another front door has")
        .says("--take-over");
    assert_eq!(status(&get(door.address(), "/").await), 503);
}

#[tokio::test]
async fn it_goes_on_without_its_feeder_and_is_adopted() {
    let (a, b) = (Node::new("a").await, Node::new("b").await);
    let door = Door::before(&[a.fed(), b.fed()]).await;
    let pid = door.link.hello().pid;
    // A connection that breaks off in the middle of a message, and one that speaks nonsense.
    let mut broken = tokio::net::UnixStream::connect(door.control())
        .await
        .unwrap();
    broken.write_all(b"{\"ask\":\"fe").await.unwrap();
    drop(broken);
    let mut nonsense = tokio::net::UnixStream::connect(door.control())
        .await
        .unwrap();
    nonsense.write_all(b"{\"ask\":\"dance\"}\n").await.unwrap();
    let mut words = String::new();
    nonsense.read_to_string(&mut words).await.unwrap();
    assert!(words.contains("\"refused\""), "{words}");
    // The feeder dies; meanwhile one node begins to drain and ends that again: nobody else tells.
    let address = door.address();
    let control = door.control();
    drop(door.link);
    a.shared.drains.store(true, Ordering::SeqCst);
    until_only(address, "b").await;
    a.shared.drains.store(false, Ordering::SeqCst);
    until_only(address, "a").await;
    let mut link = linked(&control).await;
    assert_eq!(link.hello().pid, pid);
    let state = link.feed(&door.feed).await.unwrap();
    assert!(state.nodes.iter().all(|node| node.serves), "{state:?}");
}

/// Asks until the wished node answers and, of two in turns, the next answer is its own too if the
/// other is out.
async fn until_only(address: SocketAddr, name: &str) {
    let looking = async {
        loop {
            let (one, two) = (get(address, "/name").await, get(address, "/name").await);
            let names = [body(&one), body(&two)];
            if names == [name, name] || (name == "a" && names.contains(&"a")) {
                return;
            }
        }
    };
    tokio::time::timeout(crate::kit::process::PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {name}"));
}

#[tokio::test]
async fn the_same_feed_changes_nothing_and_another_moves_only_what_differs() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let mut kept = TcpStream::connect(door.address()).await.unwrap();
    let ask = b"GET /name HTTP/1.1\r\nHost: octo\r\n\r\n";
    let first = door.tell().await;
    for _ in 0..3 {
        kept.write_all(ask).await.unwrap();
        let mut bytes = [0; 1024];
        let count = kept.read(&mut bytes).await.unwrap();
        assert_eq!(status(&String::from_utf8_lossy(&bytes[..count])), 200);
        let again = door.tell().await;
        assert_eq!(again.listeners, first.listeners);
        let port = super::door::free_port();
        let purpose = octo_local::web::message::Purpose::Http;
        door.feed
            .listeners
            .push(super::door::listener(port, purpose));
        door.tell().await;
        assert_eq!(status(&get(port, "/name").await), 200);
        door.feed.listeners.pop();
        door.tell().await;
        assert!(TcpStream::connect(port).await.is_err(), "it is closed");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_opened_when_it_is_free() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let purpose = octo_local::web::message::Purpose::Http;
    door.feed
        .listeners
        .push(super::door::listener(address, purpose));
    let state = door.tell().await;
    assert!(state.listeners[0].failure.is_none());
    assert!(
        state.listeners[1]
            .failure
            .as_ref()
            .unwrap()
            .contains("in use")
    );
    drop(other);
    door.until("it is open", |state| state.listeners[1].failure.is_none())
        .await;
    assert_eq!(status(&get(address, "/name").await), 200);
}

/// Clients with connections of their own for each request, and one that keeps its connection as
/// long as it may.
async fn client(address: SocketAddr, keep: bool, stop: Arc<AtomicBool>) -> Result<usize, String> {
    let mut count = 0;
    let mut kept: Option<TcpStream> = None;
    while !stop.load(Ordering::SeqCst) {
        let told = |error: std::io::Error| format!("after {count}: {error}");
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => TcpStream::connect(address).await.map_err(told)?,
        };
        let close = if keep { "" } else { "Connection: close\r\n" };
        let text = format!("GET /name HTTP/1.1\r\nHost: octo\r\n{close}\r\n");
        stream.write_all(text.as_bytes()).await.map_err(told)?;
        let mut answer = String::new();
        if keep {
            let mut bytes = [0; 4096];
            let got = stream.read(&mut bytes).await.map_err(told)?;
            answer.push_str(&String::from_utf8_lossy(&bytes[..got]));
            if !answer.to_lowercase().contains("connection: close") {
                kept = Some(stream);
            }
        } else {
            answer = rest(&mut stream).await;
        }
        if status(&answer) != 200 {
            return Err(format!("after {count}: {answer:?}"));
        }
        count += 1;
    }
    Ok(count)
}

#[tokio::test]
async fn a_newer_program_takes_over_under_load_and_no_connection_is_refused() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let address = door.address();
    let running = {
        let request = async move { get(address, "/wait").await };
        tokio::spawn(request)
    };
    door.until("it runs", |state| state.nodes[0].requests == 1)
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| tokio::spawn(client(address, number % 2 == 0, stop.clone())))
        .collect();
    let newer = start(&door.control(), &["--take-over"]);
    let mut older = vec![std::mem::replace(&mut door.running, newer)];
    for _ in 0..3 {
        let link = next(&door, &door.link).await;
        door.link = link;
        let state = door.link.state().await.unwrap();
        assert!(
            state.fed && state.nodes[0].serves,
            "it knows what the other knew: {state:?}"
        );
        let newer = start(&door.control(), &["--take-over"]);
        older.push(std::mem::replace(&mut door.running, newer));
    }
    door.link = next(&door, &door.link).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let count = client.await.unwrap().unwrap();
        assert!(count > 0);
    }
    assert!(!older[0].has_ended(), "what runs is finished");
    node.shared.gate.add_permits(1);
    assert_eq!(body(&running.await.unwrap()), "a");
    for older in older {
        older.end().ok();
    }
    assert_eq!(status(&get(address, "/name").await), 200);
}

/// The one after this one.
async fn next(door: &Door, before: &Link) -> Link {
    let looking = async {
        loop {
            let link = linked(&door.control()).await;
            if link.hello().pid != before.hello().pid {
                return link;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::kit::process::PATIENCE, looking)
        .await
        .unwrap()
}

#[tokio::test]
async fn it_is_started_once_and_replaced_by_a_newer_program_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut how = Start {
        program: PROGRAM.into(),
        built: 0,
        control: dir.path().join("web.sock"),
        log: dir.path().join("web.log"),
        access_log: dir.path().join("access").join("access.log"),
        user: None,
    };
    assert!(matches!(
        Link::connect(&how.control).await,
        Err(LinkError::Absent)
    ));
    let first = link::ensure(&how).await.unwrap();
    let second = link::ensure(&how).await.unwrap();
    assert_eq!(first.hello().pid, second.hello().pid);
    how.built = first.hello().built + 1;
    let mut newer = link::ensure(&how).await.unwrap();
    assert_ne!(newer.hello().pid, first.hello().pid);
    newer.end().await.unwrap();
    how.program = "/nowhere/octo-local".into();
    how.control = dir.path().join("other.sock");
    assert!(matches!(
        link::ensure(&how).await,
        Err(LinkError::NotStarted(_))
    ));
}

#[tokio::test]
async fn a_terminated_one_finishes_what_runs() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let address = door.address();
    let running = tokio::spawn(async move { get(address, "/wait").await });
    door.until("it runs", |state| state.nodes[0].requests == 1)
        .await;
    door.running.signal(Signal::TERM);
    crate::kit::process::wait_until("it accepts no more", || {
        std::net::TcpStream::connect(address).err()
    });
    node.shared.gate.add_permits(1);
    assert_eq!(body(&running.await.unwrap()), "a");
    door.running.end().ok();
}

#[tokio::test]
async fn one_that_no_daemon_can_find_any_more_ends_by_itself() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    std::fs::remove_file(door.control()).unwrap();
    std::fs::remove_file(door.control().with_extension("lock")).unwrap();
    // Somebody feeds it: it is not lost.
    door.tell().await;
    assert_eq!(body(&get(door.address(), "/name").await), "a");
    drop(door.link);
    door.running.end().ok();
}

#[tokio::test]
async fn sockets_of_systemd_are_used_from_the_first_connection_on() {
    let node = Node::new("a").await;
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("web.sock");
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listening.local_addr().unwrap();
    // Somebody connects before anything runs.
    let mut early = TcpStream::connect(address).await.unwrap();
    let script = format!(
        "exec 3<&0; LISTEN_FDS=1 LISTEN_PID=$$ exec {PROGRAM} web --control {}",
        control.display()
    );
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .stdin(Stdio::from(OwnedFd::from(listening)))
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let child = Running::of(child);
    let mut link = linked(&control).await;
    let purpose = octo_local::web::message::Purpose::Http;
    let feed = octo_local::web::Feed {
        listeners: vec![super::door::listener(address, purpose)],
        nodes: vec![node.fed()],
        ..octo_local::web::Feed::default()
    };
    let state = link.feed(&feed).await.unwrap();
    assert_eq!(state.listeners[0].failure, None);
    early
        .write_all(b"GET /name HTTP/1.1\r\nHost: octo\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(body(&rest(&mut early).await), "a");
    drop(child);
}

#[tokio::test]
async fn as_root_it_gives_its_rights_up() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("web.sock");
    let running = start(&control, &["--user", "65534"]);
    let mut link = linked(&control).await;
    let node = Node::new("a").await;
    // A port for root alone: the feeder opens it.
    let purpose = octo_local::web::message::Purpose::Http;
    let low: SocketAddr = (900..1000)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .unwrap();
    let mut feed = octo_local::web::Feed {
        listeners: vec![super::door::listener(low, purpose)],
        nodes: vec![node.fed()],
        ..octo_local::web::Feed::default()
    };
    let state = link.feed(&feed).await.unwrap();
    assert_eq!(state.listeners[0].failure, None);
    assert_eq!(status(&get(low, "/name").await), 200);
    feed.nodes[0].state = NodeState::Down;
    link.feed(&feed).await.unwrap();
    let status_file = format!("/proc/{}/status", link.hello().pid);
    let text = std::fs::read_to_string(status_file).unwrap();
    let of = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert_eq!(of("Uid:"), "Uid:\t65534\t65534\t65534\t65534");
    assert_eq!(of("Gid:"), "Gid:\t65534\t65534\t65534\t65534");
    assert_eq!(of("Groups:").trim(), "Groups:");
    assert!(of("CapEff:").ends_with("0000000000000000"));
    assert!(of("NoNewPrivs:").ends_with('1'));
    drop(running);
}
