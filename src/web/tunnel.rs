//! Two connections that are handed through to each other, byte for byte, each direction closed by
//! itself, until both are closed or nothing moves for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::watch;

use super::front::Stage;

/// Bytes that are under way in each direction.
const BUFFER: usize = 16 * 1024;
/// How long one direction may be silent when the other is closed: whoever still has something to
/// say says it.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// Hands through until the end. `stage`: a process that is over cuts off.
pub(super) async fn carry<A, B>(
    mut one: A,
    other: B,
    idle: Duration,
    mut stage: watch::Receiver<Stage>,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moves = Arc::new(Moves::default());
    let mut one = Watched {
        stream: &mut one,
        moves: moves.clone(),
    };
    let mut other = Watched {
        stream: other,
        moves: moves.clone(),
    };
    let copying = tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER);
    tokio::select! {
        _ = copying => {}
        () = silence(&moves, idle) => {}
        _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
    }
}

/// Ends when nothing moved for so long.
async fn silence(moves: &Moves, idle: Duration) {
    let mut seen = moves.count.load(Ordering::Relaxed);
    let mut quiet = Duration::ZERO;
    let step = (idle / 4).min(HALF_CLOSED / 4);
    loop {
        tokio::time::sleep(step).await;
        let now = moves.count.load(Ordering::Relaxed);
        quiet = if now == seen {
            quiet + step
        } else {
            Duration::ZERO
        };
        seen = now;
        let half = moves.half_closed.load(Ordering::Relaxed);
        if quiet >= if half { idle.min(HALF_CLOSED) } else { idle } {
            return;
        }
    }
}

#[derive(Debug, Default)]
struct Moves {
    count: AtomicU64,
    half_closed: AtomicBool,
}

struct Watched<S> {
    stream: S,
    moves: Arc<Moves>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &read {
            self.moves.count.fetch_add(1, Ordering::Relaxed);
            if buf.filled().len() == before {
                self.moves.half_closed.store(true, Ordering::Relaxed);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.moves.count.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
