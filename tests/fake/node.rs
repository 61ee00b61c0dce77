//! An Octopus node in a few lines: it boots for a while, needs its database, answers its ping, and
//! can be made to misbehave.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::process::serving;
use super::timeline::What;
use octo_local::config::ado::ConnectionString;

/// No request is larger.
const REQUEST_LIMIT: usize = 4096;

/// How a node behaves. It is looked at again for each request.
#[derive(Clone, Debug)]
pub(crate) struct Conduct {
    /// How long it takes until it may serve.
    pub(crate) boot: Duration,
    /// It takes connections and answers nothing.
    pub(crate) hangs: bool,
    /// It ends as soon as it started, with this code and this line in its log.
    pub(crate) fails: Option<(i64, &'static str)>,
    /// How long it takes to stop.
    pub(crate) stop: Duration,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            boot: Duration::from_millis(20),
            hangs: false,
            fails: None,
            stop: Duration::ZERO,
        }
    }
}

/// Lives until a signal ends it; gives the exit code.
pub(super) async fn live(
    shared: &Arc<Shared>,
    id: &str,
    listener: Option<std::net::TcpListener>,
    mut signals: mpsc::UnboundedReceiver<Signal>,
) -> i64 {
    let node = Node {
        shared: shared.clone(),
        id: id.to_owned(),
        booted_at: Instant::now(),
    };
    if let Some((code, line)) = node.conduct().fails {
        node.say(line);
        return code;
    }
    let serving = tokio::spawn(node.clone().serve(listener));
    let code = loop {
        match signals.recv().await {
            Some(Signal::KILL) | None => break 128 + 9,
            Some(Signal::TERM | Signal::INT) => {
                let stop = node.conduct().stop;
                // Cancel-safe: a receive; SIGKILL cuts the stop short.
                tokio::select! {
                    () = tokio::time::sleep(stop) => break 0,
                    Some(Signal::KILL) = signals.recv() => break 128 + 9,
                }
            }
            Some(_) => {}
        }
    };
    serving.abort();
    let _ = serving.await;
    code
}

#[derive(Clone)]
struct Node {
    shared: Arc<Shared>,
    id: String,
    booted_at: Instant,
}

impl Node {
    fn conduct(&self) -> Conduct {
        let world = self.shared.world();
        let name = world
            .containers
            .get(&self.id)
            .map(|container| container.name.clone())
            .unwrap_or_default();
        drop(world);
        self.shared
            .script()
            .conducts
            .get(&name)
            .cloned()
            .unwrap_or_default()
    }

    fn say(&self, line: &str) {
        if let Some(container) = self.shared.world().containers.get(&self.id) {
            container.say(line);
        }
    }

    async fn serve(self, listener: Option<std::net::TcpListener>) {
        let Some(listener) = listener.filter(|listener| listener.set_nonblocking(true).is_ok())
        else {
            return;
        };
        let Ok(listener) = TcpListener::from_std(listener) else {
            return;
        };
        let mut served = false;
        let mut held = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let conduct = self.conduct();
            let stuck = conduct.hangs || self.is_paused();
            let ready = self.booted_at.elapsed() >= conduct.boot && self.has_database();
            if ready && !stuck && !served {
                served = true;
                self.serves();
            }
            // A hung node keeps the connection.
            held.spawn(answer(stream, (!stuck).then_some(ready)));
        }
    }

    fn is_paused(&self) -> bool {
        use super::container::Word;
        self.shared
            .world()
            .containers
            .get(&self.id)
            .is_some_and(|container| container.word == Word::Paused)
    }

    fn has_database(&self) -> bool {
        let world = self.shared.world();
        let Some(container) = world.containers.get(&self.id) else {
            return false;
        };
        let read = container
            .var("DB_CONNECTION_STRING")
            .and_then(|text| ConnectionString::parse(text).ok());
        read.is_some_and(|read| serving(&world, container, &read.host).is_some())
    }

    fn serves(&self) {
        let mut world = self.shared.world();
        if let Some(name) = world
            .containers
            .get(&self.id)
            .map(|container| container.name.clone())
        {
            world.timeline.note(What::Served(name));
        }
    }
}

/// Answers one request; none for a node that hangs.
async fn answer(mut stream: TcpStream, ready: Option<bool>) {
    let mut request = vec![0; REQUEST_LIMIT];
    let mut length = 0;
    while !request[..length].ends_with(b"\r\n\r\n") && length < REQUEST_LIMIT {
        match stream.read(&mut request[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(count) => length += count,
        }
    }
    let Some(ready) = ready else {
        return std::future::pending().await;
    };
    let status = if ready {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
