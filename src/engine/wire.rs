//! How requests reach the engine: one connection for each, and a bound on what is read from it, so
//! that no answer can fill the memory. bollard speaks through it too.
//!
//! bollard 0.21 alone would read any answer to its end, buffer a line or a log frame of any length,
//! end the stream of events at the first word that it does not know, and send no API version.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bollard::BollardRequest;
use bollard::errors::Error as BollardError;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Response;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

use super::Engine;
use super::EngineError;
use super::QUICK;

/// How much of one answer is read. A container takes about 1.5 KB in a list, so this is a list of
/// ten thousand.
pub(super) const ANSWER_LIMIT: u64 = 16 << 20;
/// The longest line of a stream (events, progress): the real ones have some hundred bytes.
pub(super) const LINE_LIMIT: usize = 1 << 20;
/// For answers that last, whose parts are bounded one by one.
const ENDLESS: u64 = u64::MAX;

/// Where the engine listens.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// A socket of this host.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// The way to an engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) peer: Peer,
    /// What every path begins with: nothing, or the API version agreed on.
    pub(super) prefix: Arc<str>,
    /// The process that took the first connection to a socket of this host.
    pub(super) taker: Arc<OnceLock<i32>>,
}

/// Nobody took the connection.
#[derive(Debug)]
pub(super) struct NotConnected(pub(super) io::Error);

impl fmt::Display for NotConnected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl std::error::Error for NotConnected {}

/// The error of a connection that nobody took, if this is one.
pub(super) fn not_connected(error: &io::Error) -> Option<&io::Error> {
    error
        .get_ref()?
        .downcast_ref::<NotConnected>()
        .map(|refused| &refused.0)
}

/// An answer that is longer than any real one.
#[derive(Debug, thiserror::Error)]
#[error("its answer is longer than {} MiB", ANSWER_LIMIT >> 20)]
struct TooLong;

impl Wire {
    /// Sends a request and gives the head of the answer.
    pub(super) async fn send(
        &self,
        mut request: BollardRequest,
        limit: u64,
    ) -> Result<Response<Incoming>, BollardError> {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("{}{path}", self.prefix)
            .parse()
            .map_err(|_| io::Error::other("the request has no proper path"))?;
        let host = match &self.peer {
            Peer::Unix(_) => HeaderValue::from_static("docker"),
            Peer::Tcp(host) => HeaderValue::from_str(host)
                .map_err(|_| io::Error::other("the engine's address has no proper host"))?,
        };
        request.headers_mut().insert(HOST, host);
        let refused = |error| io::Error::other(NotConnected(error));
        match &self.peer {
            Peer::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(refused)?;
                if let Some(pid) = stream.peer_cred().ok().and_then(|peer| peer.pid()) {
                    self.taker.get_or_init(|| pid);
                }
                exchange(stream, request, limit).await
            }
            Peer::Tcp(host) => {
                let stream = TcpStream::connect(host).await.map_err(refused)?;
                exchange(stream, request, limit).await
            }
        }
    }
}

async fn exchange<S>(
    stream: S,
    request: BollardRequest,
    left: u64,
) -> Result<Response<Incoming>, BollardError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(Bounded { stream, left })).await?;
    // It ends with the answer, or when nobody reads that any more.
    // A command's output comes after a change of protocol.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// A connection from which only so many bytes can be read.
#[derive(Debug)]
struct Bounded<S> {
    stream: S,
    left: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let came = (buffer.filled().len() - before) as u64;
        Poll::Ready(match self.left.checked_sub(came) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(io::Error::other(TooLong)),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A request that has no body.
pub(super) fn request(
    method: Method,
    path: &str,
    query: &[(&str, &str)],
    headers: &[(&'static str, String)],
) -> Result<BollardRequest, BollardError> {
    let mut target = path.to_owned();
    for (number, (key, value)) in query.iter().enumerate() {
        target.push(if number == 0 { '?' } else { '&' });
        target.push_str(key);
        target.push('=');
        target.push_str(&encoded(value));
    }
    let uri: Uri = target
        .parse()
        .map_err(|_| io::Error::other("the request has no proper path"))?;
    let mut builder = hyper::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    Ok(builder.body(bollard::body_full(Bytes::new()))?)
}

/// A text as a part of a path or a query (RFC 3986: only unreserved characters stay).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Engine {
    /// The whole answer to a question, within the limit.
    pub(super) async fn get(
        &self,
        attempt: impl Fn() -> String,
        limit: Duration,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Bytes, EngineError> {
        let asking = async {
            let response = self.response(&attempt, Method::GET, path, query, &[], ANSWER_LIMIT);
            let body = response.await?.into_body().collect().await;
            body.map(http_body_util::Collected::to_bytes)
                .map_err(|error| self.error(attempt(), error.into()))
        };
        tokio::time::timeout(limit, asking)
            .await
            .unwrap_or_else(|_| {
                Err(EngineError::TimedOut {
                    attempt: attempt(),
                    limit,
                })
            })
    }

    /// An answer that lasts. The caller bounds its parts, and how long it waits for each.
    pub(super) async fn stream(
        &self,
        attempt: impl Fn() -> String,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&'static str, String)],
    ) -> Result<Incoming, EngineError> {
        let response = self.response(&attempt, method, path, query, headers, ENDLESS);
        Ok(response.await?.into_body())
    }

    /// What goes before an answer, without the answer.
    pub(super) async fn head(
        &self,
        attempt: impl Fn() -> String,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<HeaderMap, EngineError> {
        let asking = self.response(&attempt, Method::HEAD, path, query, &[], ANSWER_LIMIT);
        let limit = QUICK;
        let response = tokio::time::timeout(limit, asking).await.map_err(|_| {
            let attempt = attempt();
            EngineError::TimedOut { attempt, limit }
        })?;
        Ok(response?.into_parts().0.headers)
    }

    async fn response(
        &self,
        attempt: &impl Fn() -> String,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&'static str, String)],
        limit: u64,
    ) -> Result<Response<Incoming>, EngineError> {
        let refused = |error| self.error(attempt(), error);
        let request = request(method, path, query, headers).map_err(refused)?;
        let response = self.wire.send(request, limit).await.map_err(refused)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = http_body_util::Limited::new(response.into_body(), LINE_LIMIT);
        let words = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let told = serde_json::from_slice::<serde_json::Value>(&words).ok();
        let told = told.and_then(|told| Some(told.get("message")?.as_str()?.to_owned()));
        let message = told.unwrap_or_else(|| String::from_utf8_lossy(&words).into_owned());
        Err(self.error(
            attempt(),
            BollardError::DockerResponseServerError {
                status_code: status.as_u16(),
                message,
            },
        ))
    }
}

/// A lasting answer in lines.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no end of a line.
    searched: usize,
}

/// Why a lasting answer cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    #[error("a line has no end")]
    Line,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next line that says something, without its end; none when the answer is over.
    ///
    /// Cancel-safe: what came stays in the buffer.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_LIMIT {
                return Err(StreamError::Line);
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => self
                    .buffer
                    .extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..])),
                None => {
                    let last = std::mem::take(&mut self.buffer);
                    self.searched = 0;
                    return Ok(Some(last).filter(|last| !last.is_empty()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_or_a_query_carries_cannot_become_another_request() {
        assert_eq!(
            encoded("a/b:1@sha256?x&y#z é"),
            "a%2Fb%3A1%40sha256%3Fx%26y%23z%20%C3%A9"
        );
        let made = request(
            Method::GET,
            "/containers/json",
            &[("all", "1"), ("filters", "{\"a\"}")],
            &[],
        );
        assert_eq!(
            made.unwrap().uri(),
            "/containers/json?all=1&filters=%7B%22a%22%7D"
        );
    }
}
