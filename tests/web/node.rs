//! A small node on loopback: strict about what it reads, and able to misbehave on request.
//!
//! | path | answer |
//! |---|---|
//! | `/name` | its name |
//! | `/head` | the head that it got |
//! | `/length` | how many bytes the body had, and the trailer fields |
//! | `/wait` | its name, once the test lets it |
//! | `/big` | 64 MiB |
//! | `/trailers` | a body with a trailer field |
//! | `/drop` | none: it closes |
//! | `/half` | less than it announced, then it closes |
//! | `/switch` | 101, then every byte back |
//! | the ping | 200, or 418 while it drains |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use octo_local::web::message;
use octo_local::web::message::NodeState;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// What is shared with its connections.
pub(super) struct Shared {
    name: String,
    pub(super) drains: AtomicBool,
    /// Requests so far, pings aside.
    pub(super) requests: AtomicUsize,
    /// Lets `/wait` go on.
    pub(super) gate: Semaphore,
    /// Request lines so far, pings aside.
    pub(super) lines: Mutex<Vec<String>>,
}

/// A node. It is gone, connections too, when dropped.
pub(super) struct Node {
    pub(super) address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Node {
    pub(super) async fn new(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    /// At this address, which another one may have left.
    pub(super) async fn at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            drains: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            lines: Mutex::default(),
        });
        let node = Self {
            address: listener.local_addr().unwrap(),
            shared: shared.clone(),
            tasks: Arc::default(),
        };
        let tasks = node.tasks.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = tokio::spawn(serve(shared.clone(), stream));
                tasks.lock().unwrap().push(connection.abort_handle());
            }
        });
        node.tasks.lock().unwrap().push(accepting.abort_handle());
        node
    }

    /// As it is fed to a front door.
    pub(super) fn fed(&self) -> message::Node {
        message::Node {
            name: self.shared.name.clone(),
            state: NodeState::Ready,
            run: 0,
            web: Some(self.address),
            grpc: Some(self.address),
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap().iter() {
            task.abort();
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    while let Some(head) = head(&mut stream).await {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        if path != "/api/octopusservernodes/ping" {
            shared.requests.fetch_add(1, Ordering::SeqCst);
            shared.lines.lock().unwrap().push(line);
        }
        let answered = answer(&shared, &mut stream, &path, &head).await;
        if answered.is_none() || head.contains("Connection: close\r\n") {
            return;
        }
    }
}

async fn answer(
    shared: &Shared,
    stream: &mut BufReader<TcpStream>,
    path: &str,
    head: &str,
) -> Option<()> {
    let plain = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    if path == "/early" {
        let text = plain("413 Too Large", "too large")
            .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.ok()?;
        return None;
    }
    let (length, trailers) = skip_body(stream, head).await?;
    let text = match path.split('?').next().unwrap_or_default() {
        "/api/octopusservernodes/ping" if shared.drains.load(Ordering::SeqCst) => {
            plain("418 Drains", "")
        }
        "/drop" => return None,
        "/half" => {
            let text = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf";
            stream.write_all(text.as_bytes()).await.ok()?;
            return None;
        }
        "/head" => plain("200 OK", head),
        "/length" => plain("200 OK", &format!("{length} {trailers}")),
        "/wait" => {
            shared.gate.acquire().await.ok()?.forget();
            plain("200 OK", &shared.name)
        }
        "/big" => return big(stream).await,
        "/trailers" => "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                        3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"
            .to_owned(),
        "/switch" => return switch(stream, head).await,
        _ => plain("200 OK", &shared.name),
    };
    stream.write_all(text.as_bytes()).await.ok()
}

async fn big(stream: &mut BufReader<TcpStream>) -> Option<()> {
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20);
    stream.write_all(text.as_bytes()).await.ok()?;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        stream.write_all(&piece).await.ok()?;
    }
    Some(())
}

async fn switch(stream: &mut BufReader<TcpStream>, head: &str) -> Option<()> {
    if !head.to_ascii_lowercase().contains("\nupgrade: websocket") {
        let text = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(text.as_bytes()).await.ok();
    }
    let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.ok()?;
        if count == 0 {
            stream.write_all(b"bye").await.ok()?;
            return None;
        }
        stream.write_all(&piece[..count]).await.ok()?;
    }
}

/// The next head; none at the end. Anything but CR LF at a line's end fails the test's node.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
        let line = &head[before..];
        assert!(line.ends_with("\r\n"), "a bare line feed reached a node");
        if line == "\r\n" {
            return Some(head);
        }
    }
}

/// Reads a body and forgets it: its length, and its trailer fields as text.
async fn skip_body(stream: &mut BufReader<TcpStream>, head: &str) -> Option<(u64, String)> {
    let field = |name: &str| {
        let lower = head.to_ascii_lowercase();
        let of = |line: &str| Some(line.strip_prefix(name)?.trim().to_owned());
        lower.lines().filter_map(of).collect::<Vec<_>>()
    };
    let (length, encoding) = (field("content-length:"), field("transfer-encoding:"));
    assert!(
        length.len() + encoding.len() < 2,
        "two kinds of length reached a node"
    );
    if let Some(length) = length.first() {
        let length: u64 = length.parse().unwrap();
        let mut part = (&mut *stream).take(length);
        let read = tokio::io::copy_buf(&mut part, &mut tokio::io::sink()).await;
        return (read.ok()? == length).then_some((length, String::new()));
    }
    if encoding.is_empty() {
        return Some((0, String::new()));
    }
    let (mut total, mut trailers) = (0, String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        if size == 0 {
            break;
        }
        total += size;
        let mut part = (&mut *stream).take(size + 2);
        tokio::io::copy_buf(&mut part, &mut tokio::io::sink())
            .await
            .ok()?;
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.trim().is_empty() {
            return Some((total, trailers));
        }
        trailers.push_str(line.trim());
    }
}
