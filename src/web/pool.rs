//! Connections to nodes: kept for the next request, made when none is free. hyper speaks HTTP/1.1
//! on them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Body;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::message::Node;
use super::message::NodeState;

/// How long a connection waits for its next request. Octopus' web server closes its own after two
/// minutes, so it is never it that closes first.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Connections that wait, for each node.
const MOST_KEPT: usize = 256;
/// Bytes that hyper buffers in each direction of a connection.
pub(super) const BUFFER: usize = 64 * 1024;
/// Fields of a head that hyper takes when it is told nothing, so also those of an answer: haproxy
/// takes one more.
pub(super) const HYPERS_FIELDS: usize = 100;

/// The way to send requests over one connection.
pub(super) type Sender = http1::SendRequest<Upload>;

/// The kept connections, by the node's name.
#[derive(Debug, Default)]
pub(super) struct Pools(Mutex<HashMap<String, Pool>>);

#[derive(Debug)]
struct Pool {
    address: SocketAddr,
    run: u64,
    kept: Vec<(Sender, Instant)>,
}

impl Pools {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is free, the one that was used last.
    pub(super) fn take(&self, node: &Node) -> Option<Sender> {
        let mut all = self.all();
        let pool = all.get_mut(&node.name)?;
        if Some(pool.address) != node.web || pool.run != node.run {
            all.remove(&node.name);
            return None;
        }
        let mut place = pool.kept.len();
        while place > 0 {
            place -= 1;
            let (sender, _) = &pool.kept[place];
            if sender.is_closed() {
                pool.kept.remove(place);
            } else if sender.is_ready() {
                return Some(pool.kept.remove(place).0);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, node: &Node, sender: Sender) {
        let Some(address) = node.web.filter(|_| !sender.is_closed()) else {
            return;
        };
        let mut all = self.all();
        let fresh = || Pool {
            address,
            run: node.run,
            kept: Vec::new(),
        };
        let pool = all.entry(node.name.clone()).or_insert_with(fresh);
        if pool.address != address || pool.run != node.run {
            return;
        }
        if pool.kept.len() >= MOST_KEPT {
            pool.kept.remove(0);
        }
        pool.kept.push((sender, Instant::now()));
    }

    /// Lets go of what belongs to no node that takes requests.
    pub(super) fn keep(&self, nodes: &[Node]) {
        self.all().retain(|name, pool| {
            nodes.iter().any(|node| {
                node.name == *name
                    && node.run == pool.run
                    && node.web == Some(pool.address)
                    && node.state == NodeState::Ready
            })
        });
    }

    /// Lets go of what waited too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for pool in self.all().values_mut() {
            pool.kept
                .retain(|(sender, since)| !sender.is_closed() && now - *since < KEPT_FOR);
        }
    }
}

/// Makes a connection and lets hyper speak on it.
pub(super) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<Sender> {
    let stream = tcp(address, limit).await?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a node ended");
        }
    });
    Ok(sender)
}

/// A TCP connection to a node.
pub(super) async fn tcp(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The body of a request on its way to a node.
#[derive(Debug, Default)]
pub(super) struct Upload {
    body: Option<(Incoming, Arc<Progress>)>,
}

/// How far a body came.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Counts pieces.
    pieces: AtomicU64,
    /// The client failed to send it all.
    broken: std::sync::atomic::AtomicBool,
}

impl Progress {
    pub(super) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Upload {
    /// Of this request. A body that is empty is none.
    pub(super) fn of(body: Incoming) -> Self {
        Self {
            body: (!body.is_end_stream()).then(|| (body, Arc::default())),
        }
    }

    pub(super) fn is_some(&self) -> bool {
        self.body.is_some()
    }

    /// Of a body, if there is one.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.body.as_ref().map(|(_, progress)| progress.clone())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some((body, progress)) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Err(_))) => progress.broken.store(true, Ordering::Relaxed),
            Poll::Ready(_) => {
                progress.pieces.fetch_add(1, Ordering::Relaxed);
            }
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let body = self.body.as_ref();
        body.is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        let body = self.body.as_ref();
        body.map_or_else(none, |(body, _)| body.size_hint())
    }
}
