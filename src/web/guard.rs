//! Between a client's socket and hyper: refuses what [`framing`](super::framing) refuses, and ends
//! connections that are slow with a head or idle.

use std::future::Future as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tokio::time::Sleep;

use super::forwarded::Peer;
use super::framing::Framing;
use super::front::Admitted;

/// What no parser of HTTP takes anywhere in a head or a chunk's size: in the place of the first
/// offending byte it makes hyper answer 400 and close, in turn with earlier requests' answers.
const POISON: u8 = 0;
/// What follows it: hyper parses a head that came in parts only once its end is there.
const POISONED_END: &[u8] = b"\r\n\r\n";

/// How long a client whose bytes are not all read may go on sending after its answer. Closed at
/// once, the kernel would take the answer back (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read and forgotten meanwhile.
const FORGOTTEN: u64 = 1024 * 1024;

/// A client's connection, bare or in TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// What a connection and its requests share.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Peer,
    /// Requests that are being answered.
    running: AtomicUsize,
    /// Requests so far.
    requests: AtomicUsize,
    /// The next bytes are no HTTP: an upgrade was answered with 101.
    opened: AtomicBool,
    h2: AtomicBool,
    /// Counts the connection until its last part is gone, an upgraded one too.
    _admitted: Admitted,
}

impl Client {
    pub(super) fn new(address: IpAddr, tls: bool, admitted: Admitted) -> Self {
        Self {
            peer: Peer::new(address, tls),
            _admitted: admitted,
            running: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            opened: AtomicBool::new(false),
            h2: AtomicBool::new(false),
        }
    }

    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0 || self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// An upgrade is about to be answered with 101.
    pub(super) fn open(&self) {
        self.opened.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_h2(&self) -> bool {
        self.h2.load(Ordering::Relaxed)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Running(Arc<Client>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The guarded stream.
pub(super) struct Guard<S: Stream> {
    /// None only while it is dropped.
    stream: Option<S>,
    client: Arc<Client>,
    framing: Framing,
    over: bool,
    /// What hyper is still to read of the end of a refused head.
    end: &'static [u8],
    /// The client closed its side.
    ended: bool,
    head_within: Duration,
    idle_for: Duration,
    /// When the last bytes came.
    last: Instant,
    head_began: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S: Stream> Guard<S> {
    pub(super) fn new(
        stream: S,
        client: Arc<Client>,
        head_within: Duration,
        idle_for: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream: Some(stream),
            client,
            framing: Framing::default(),
            over: false,
            end: &[],
            ended: false,
            head_within,
            idle_for,
            last: now,
            head_began: None,
            timer: Box::pin(tokio::time::sleep_until(now + idle_for)),
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        let stream = self.stream.as_mut();
        stream
            .map(Pin::new)
            .ok_or(io::ErrorKind::NotConnected.into())
    }

    /// When the connection is given up if nothing more comes; none while something runs.
    fn deadline(&self) -> Option<Instant> {
        if let Some(began) = self.head_began {
            return Some(began + self.head_within);
        }
        let idle = !self.client.is_busy() && self.framing.is_between();
        idle.then(|| self.last + self.idle_for)
    }

    /// True when the connection is to be given up. Leaves a timer behind that wakes this task.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.framing.is_opaque() {
            return false;
        }
        if let Some(deadline) = self.deadline()
            && deadline < self.timer.deadline()
        {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.deadline() {
                Some(deadline) if deadline <= now => return true,
                Some(deadline) => self.timer.as_mut().reset(deadline),
                None => self.timer.as_mut().reset(now + self.idle_for),
            }
        }
        false
    }

    /// Reads along. What is refused is cut off at its first offending byte.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if self.client.opened.load(Ordering::Relaxed) {
            self.framing.open();
        }
        let was_between = self.framing.is_between();
        match self.framing.read(&buf.filled()[before..]) {
            Ok(()) => {}
            Err((place, bad)) => {
                tracing::debug!(peer = %self.client.peer.address, %bad, "a request was refused");
                buf.filled_mut()[before + place] = POISON;
                buf.set_filled(before + place + 1);
                self.over = true;
                self.end = POISONED_END;
            }
        }
        if self.framing.is_opaque() {
            self.client
                .h2
                .store(!self.client.is_busy(), Ordering::Relaxed);
            self.head_began = None;
            return;
        }
        self.last = Instant::now();
        if !self.framing.in_head() {
            self.head_began = None;
        } else if was_between || self.head_began.is_none() {
            self.head_began = Some(self.last);
        }
    }
}

impl<S: Stream> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.over {
            let (now, later) = this.end.split_at(this.end.len().min(buf.remaining()));
            buf.put_slice(now);
            this.end = later;
            return Poll::Ready(Ok(()));
        }
        if this.framing.is_opaque() {
            return this.stream()?.poll_read(cx, buf);
        }
        let before = buf.filled().len();
        match this.stream()?.poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                this.check(buf, before);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(read) => {
                this.ended = true;
                Poll::Ready(read)
            }
            Poll::Pending if this.is_late(cx) => {
                this.over = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Stream> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl<S: Stream> Drop for Guard<S> {
    fn drop(&mut self) {
        let unread = !self.framing.is_opaque() && !self.framing.is_between();
        let (Some(mut stream), Ok(runtime)) =
            (self.stream.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        if self.ended || !(unread || self.over) || self.client.opened.load(Ordering::Relaxed) {
            return;
        }
        let client = self.client.clone();
        runtime.spawn(async move {
            let forgetting = async {
                stream.shutdown().await?;
                let mut rest = stream.take(FORGOTTEN);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
            };
            let _ = tokio::time::timeout(LINGER, forgetting).await;
            drop(client);
        });
    }
}
