//! A front door of the test's own, and clients that say exactly what they are told to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use octo_local::web::limits::Limits;
use octo_local::web::link::Link;
use octo_local::web::message::Feed;
use octo_local::web::message::Listener;
use octo_local::web::message::Node;
use octo_local::web::message::NodeState;
use octo_local::web::message::Purpose;
use octo_local::web::message::State;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::kit::process::PATIENCE;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running front door, its feed, and the connection that feeds it.
pub(super) struct Door {
    dir: TempDir,
    pub(super) running: Running,
    pub(super) link: Link,
    pub(super) feed: Feed,
}

impl Door {
    /// One that listens on a free port for the web, before these nodes.
    pub(super) async fn before(nodes: &[Node]) -> Self {
        Self::with(nodes, |_| ()).await
    }

    /// The same, with another feed.
    pub(super) async fn with(nodes: &[Node], change: impl FnOnce(&mut Feed)) -> Self {
        let dir = tempfile::Builder::new().prefix("octo-").tempdir().unwrap();
        let mut feed = Feed {
            listeners: vec![listener(free_port(), Purpose::Http)],
            nodes: nodes.to_vec(),
            doing: vec!["db: <starting>".to_owned()],
            limits: Limits {
                probe_ms: 20,
                ..Limits::default()
            },
            ..Feed::default()
        };
        change(&mut feed);
        let control = dir.path().join("web.sock");
        let log = dir.path().join("access.log").display().to_string();
        let running = start(&control, &["--access-log", &log]);
        let link = linked(&control).await;
        let mut door = Self {
            dir,
            running,
            link,
            feed,
        };
        let state = door.tell().await;
        let failed = state.listeners.iter().find(|one| one.failure.is_some());
        assert!(failed.is_none(), "{failed:?}");
        door
    }

    pub(super) fn control(&self) -> PathBuf {
        self.dir.path().join("web.sock")
    }

    pub(super) fn access_log(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }

    /// The web address.
    pub(super) fn address(&self) -> SocketAddr {
        self.feed.listeners[0].address
    }

    /// Feeds it again.
    pub(super) async fn tell(&mut self) -> State {
        self.link.feed(&self.feed).await.unwrap()
    }

    /// Feeds another state of a node.
    pub(super) async fn set(&mut self, node: usize, state: NodeState) {
        self.feed.nodes[node].state = state;
        self.tell().await;
    }

    /// Asks for its state until it is as wished.
    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&State) -> bool) -> State {
        let looking = async {
            loop {
                let state = self.link.state().await.unwrap();
                if is(&state) {
                    return state;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let patient = timeout(PATIENCE, looking).await;
        patient.unwrap_or_else(|_| panic!("waited in vain until {what}"))
    }

    /// Bytes of memory that the process itself holds.
    pub(super) fn memory(&self) -> u64 {
        let pid = self.link.hello().pid;
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find(|line| line.starts_with("RssAnon:"));
        let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }
}

/// Starts a front door's process.
pub(super) fn start(control: &std::path::Path, more: &[&str]) -> Running {
    let mut command = Command::new(PROGRAM);
    command.arg("web").arg("--control").arg(control).args(more);
    Running::spawn(&mut command)
}

/// Connects to its control socket as soon as it is there.
pub(super) async fn linked(control: &std::path::Path) -> Link {
    let connecting = async {
        loop {
            if let Ok(link) = Link::connect(control).await {
                return link;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    timeout(PATIENCE, connecting).await.unwrap()
}

pub(super) fn listener(address: SocketAddr, purpose: Purpose) -> Listener {
    Listener { address, purpose }
}

/// An address on loopback that nobody has at the moment.
pub(super) fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Sends bytes on a new connection and reads to its end, which must come.
pub(super) async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever refuses may close before all was said.
    let _ = stream.write_all(bytes).await;
    rest(&mut stream).await
}

/// What comes until the connection's end; what came before a reset counts.
pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..count]);
        }
    };
    timeout(PATIENCE, reading)
        .await
        .expect("the connection goes on");
    String::from_utf8_lossy(&all).into_owned()
}

/// One GET on a connection of its own.
pub(super) async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: octo\r\nConnection: close\r\n\r\n");
    say(address, request.as_bytes()).await
}

/// The status of an answer; 0 for none.
pub(super) fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1).unwrap_or_default();
    word.parse().unwrap_or_default()
}

/// The body of an answer.
pub(super) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
