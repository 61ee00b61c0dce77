//! Two nodes that do as little as a server can, in this process: a door is always slower, so that
//! what is measured is the door.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Bytes of the small answer, which any path but the large one's gets.
pub(crate) const SMALL: usize = 1024;
/// Bytes of the large answer.
const LARGE: usize = 1024 * 1024;
/// The path of the large answer.
pub(crate) const LARGE_PATH: &str = "/large";
/// Bytes of a body that are read at once.
const PIECE: usize = 256 * 1024;

/// The nodes, for as long as the value lives.
pub(crate) struct Nodes {
    _runtime: tokio::runtime::Runtime,
    pub(crate) addresses: [SocketAddr; 2],
}

impl Nodes {
    /// Listens on two free ports; serves on one thread, on the core of the one who calls.
    pub(crate) fn begin() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let addresses = [(); 2].map(|()| runtime.block_on(node()));
        Self {
            _runtime: runtime,
            addresses,
        }
    }
}

async fn node() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

fn answer(size: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}");
    [head.as_bytes(), b"\r\n\r\n", &vec![b'x'; size]].concat()
}

/// Serves one connection whose client waits for each answer.
async fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (small, large) = (answer(SMALL), answer(LARGE));
    let mut bytes = vec![0; PIECE];
    loop {
        let mut filled = 0;
        let head = loop {
            match stream.read(&mut bytes[filled..]).await.ok()? {
                0 => return None,
                count => filled += count,
            }
            let end = bytes[..filled]
                .windows(4)
                .position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        let is_large = bytes[..head].starts_with(b"GET /large ");
        let mut left = body_length(&bytes[..head])? - (filled - head);
        while left > 0 {
            match stream.read(&mut bytes).await.ok()? {
                0 => return None,
                count => left -= count,
            }
        }
        let answer = if is_large { &large } else { &small };
        stream.write_all(answer).await.ok()?;
    }
}

/// Of a request that is not in chunks; a GET is not searched for one.
fn body_length(head: &[u8]) -> Option<usize> {
    if head.starts_with(b"GET") {
        return Some(0);
    }
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.split("content-length:").nth(1)?;
    length.lines().next()?.trim().parse().ok()
}
