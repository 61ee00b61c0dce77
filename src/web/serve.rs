//! One client's connection: TLS, HTTP/1.1 or h2, until it ends or the process does.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::front::Front;
use super::front::Stage;
use super::guard::Client;
use super::guard::Guard;
use super::guard::Stream;
use super::limits::Limits;
use super::pool::BUFFER;
use super::pool::HYPERS_FIELDS;
use super::proxy;

/// What one stream of h2 may send ahead; more makes single uploads no faster on a local network.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What all streams of a connection may send ahead.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a client may have opened and reset while we did not come to them: what is more is
/// an attack (rapid reset), and ends the connection.
const RESET_STREAMS: usize = 32;
/// How long a client that is still there takes to answer a ping.
const PING_WITHIN: Duration = Duration::from_secs(20);

/// Serves one connection with TLS.
pub(super) async fn https(front: Arc<Front>, stream: TcpStream, client: Client) {
    let Some(config) = front.certificate() else {
        return;
    };
    let limit = Duration::from_millis(front.feed().limits.head_ms);
    let accepting = Box::pin(TlsAcceptor::from(config).accept(stream));
    let peer = client.peer.address;
    match tokio::time::timeout(limit, accepting).await {
        // In a place of its own: what the handshake took is given back.
        Ok(Ok(stream)) => Box::pin(http(front, stream, client)).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
        Err(_) => tracing::debug!(%peer, "TLS takes too long"),
    }
}

/// Serves one connection, bare or in TLS.
pub(super) async fn http<S: Stream>(front: Arc<Front>, stream: S, client: Client) {
    let limits = front.feed().limits.clone();
    let client = Arc::new(client);
    let idle = Duration::from_millis(limits.idle_ms);
    let head = Duration::from_millis(limits.head_ms);
    let guard = Guard::new(stream, client.clone(), head, idle);
    let service = {
        let (front, client) = (front.clone(), client.clone());
        service_fn(move |request| {
            // Kept in a place of its own, which an idle connection does not have.
            let answer = Box::pin(proxy::answer(front.clone(), client.clone(), request));
            answer.map(Ok::<_, Infallible>)
        })
    };
    let builder = builder(&limits);
    let stream = TokioIo::new(guard);
    // Pinned where it is made: a connection that is moved is there twice.
    let mut serving = std::pin::pin!(builder.serve_connection_with_upgrades(stream, service));
    let mut stage = front.stage();
    let mut quiet = QuietH2::default();
    loop {
        let now = *stage.borrow_and_update();
        let graceful = now == Stage::Closing || (now == Stage::Leaving && client.is_h2());
        if graceful || quiet.asks_to_close {
            serving.as_mut().graceful_shutdown();
        }
        tokio::select! {
            // Its turn comes with each request, the others' hardly ever.
            biased;
            ended = serving.as_mut() => return note(&client, ended),
            changed = stage.changed() => {
                if changed.is_err() || *stage.borrow() == Stage::Over {
                    return;
                }
            }
            () = tokio::time::sleep(idle) => {
                if quiet.is_over(&client) {
                    return;
                }
            }
        }
    }
}

/// An h2 connection on which nobody asks anything: the guard only knows HTTP/1.
#[derive(Default)]
struct QuietH2 {
    requests: usize,
    asks_to_close: bool,
}

impl QuietH2 {
    /// True when the client did not close after it was asked to.
    fn is_over(&mut self, client: &Client) -> bool {
        let was_quiet = client.is_h2() && !client.is_busy() && client.requests() == self.requests;
        self.requests = client.requests();
        let over = was_quiet && self.asks_to_close;
        self.asks_to_close = was_quiet;
        over
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // The guard knows when a head begins and when a connection is idle.
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes.clamp(8192, BUFFER));
    // For its own number hyper has the place ready; for another it makes it for each request.
    if limits.head_fields != HYPERS_FIELDS {
        builder.http1().max_headers(limits.head_fields);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(Duration::from_millis(limits.idle_ms.max(1000)))
        .keep_alive_timeout(PING_WITHIN);
    builder
}

fn note(client: &Client, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        tracing::debug!(peer = %client.peer.address, ?kind, %error, "a connection broke off");
    }
}
