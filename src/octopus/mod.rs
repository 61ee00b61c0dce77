//! An Octopus node, asked over HTTP from the host: one short connection, no redirects, bounded in
//! time and size. Nothing inside the image is needed, since hardened images have neither shell nor
//! curl.

pub mod drain;
pub mod master_key;
pub mod tentacle;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Empty;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::Secret;
use crate::reconcile::health::Miss;
use crate::reconcile::health::Probe;

/// Answers 200 when the node takes work, 418 when it is drained, anything else when it is broken
/// (octopus.com/docs, "Load balancing": the health endpoint needs no login).
pub const PING: &str = "/api/octopusservernodes/ping";
/// Says the server's version, without a login (octopus.com/docs, "Auto-scaling high availability
/// nodes").
pub const API: &str = "/api";
/// A ping's answer is one small JSON object; what is larger is not it.
const BODY_LIMIT: usize = 64 * 1024;
/// The answer about the version lists every resource, some tens of kilobytes.
const API_LIMIT: usize = 1024 * 1024;
/// The header that carries an API key.
const API_KEY: &str = "X-Octopus-ApiKey";
/// A version is a few numbers and a word; what is longer is not one.
const VERSION_LIMIT: usize = 64;

/// Asks a node how it is. `limit` bounds the whole exchange.
pub async fn ping(address: SocketAddr, limit: Duration) -> Probe {
    match tokio::time::timeout(limit, get(address, PING, BODY_LIMIT)).await {
        Err(_) => {
            let why = format!("no answer within {} ms", limit.as_millis());
            Probe::Failure(Miss::Silent(limit), why)
        }
        Ok(Err(Refusal::Gone { os_error, why })) => Probe::of_error(os_error, why),
        Ok(Err(Refusal::Broken(why))) => Probe::Failure(Miss::Broken, why),
        Ok(Ok((status, _))) => judge(status),
    }
}

/// The version that a node reports, such as `2026.2.7`. `limit` bounds the whole exchange.
pub async fn version(address: SocketAddr, limit: Duration) -> Option<String> {
    let answer = tokio::time::timeout(limit, get(address, API, API_LIMIT)).await;
    let (status, body) = answer.ok()?.ok()?;
    (status == 200).then(|| version_in(&body))?
}

fn version_in(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let version = answer.get("Version")?.as_str()?;
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '-' | '+');
    let is_version = version.len() <= VERSION_LIMIT
        && version.starts_with(|sign: char| sign.is_ascii_digit())
        && version.chars().all(is_sign);
    is_version.then(|| version.to_owned())
}

fn judge(status: u16) -> Probe {
    match status {
        200 => Probe::Ready,
        418 => Probe::Drained("it is drained (418)".to_owned()),
        status => Probe::Failure(Miss::Broken, format!("it answers {status}")),
    }
}

/// Why there was no answer.
enum Refusal {
    /// Nobody was there, or whoever took the connection closed it without a word: a published port
    /// whose process is gone does that.
    Gone { os_error: Option<i32>, why: String },
    /// It said something, and that was no answer.
    Broken(String),
}

impl Refusal {
    fn into_words(self) -> String {
        match self {
            Self::Gone { why, .. } | Self::Broken(why) => why,
        }
    }

    fn of_connection(error: &std::io::Error) -> Self {
        Self::Gone {
            os_error: error.raw_os_error(),
            why: match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "not listening yet".to_owned(),
                _ => error.to_string(),
            },
        }
    }

    fn of_exchange(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Self::Gone {
                os_error: None,
                why: "the connection was closed without an answer".to_owned(),
            };
        }
        let source = std::error::Error::source(error);
        let os_error = source.and_then(|source| source.downcast_ref::<std::io::Error>());
        match os_error {
            Some(error) => Self::Gone {
                os_error: error.raw_os_error(),
                why: error.to_string(),
            },
            None => Self::Broken(error.to_string()),
        }
    }
}

async fn get(address: SocketAddr, path: &str, most: usize) -> Result<(u16, Bytes), Refusal> {
    let request = Request::get(path)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Refusal::Broken(error.to_string()))?;
    exchange(address, request, most).await
}

/// Why the API did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct ApiFailure {
    /// What happened, for people.
    pub words: String,
    /// No answer came in time: it may still be done.
    pub may_still_happen: bool,
}

impl From<String> for ApiFailure {
    fn from(words: String) -> Self {
        Self {
            words,
            may_still_happen: false,
        }
    }
}

impl From<ApiFailure> for String {
    fn from(failure: ApiFailure) -> Self {
        failure.words
    }
}

/// Asks the API for something with the administrator's key. `limit` bounds the whole exchange.
pub(crate) async fn ask(
    address: SocketAddr,
    key: &Secret,
    limit: Duration,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, ApiFailure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(API_KEY, key.expose())
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| "the API key cannot be sent as a header".to_owned())?;
    match tokio::time::timeout(limit, exchange(address, request, API_LIMIT)).await {
        Err(_) => Err(ApiFailure {
            words: format!("no answer within {} s", limit.as_secs()),
            may_still_happen: true,
        }),
        Ok(Err(refusal)) => Err(refusal.into_words().into()),
        Ok(Ok((200..=204, body))) => Ok(body),
        Ok(Ok((status, _))) => Err(format!("the API answers {status}").into()),
    }
}

/// Sends one request on a connection of its own and reads the whole answer.
async fn exchange<B>(
    address: SocketAddr,
    mut request: Request<B>,
    most: usize,
) -> Result<(u16, Bytes), Refusal>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| Refusal::of_connection(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BODY_LIMIT)
        .handshake(TokioIo::new(tcp))
        .await
        .map_err(|error| Refusal::of_exchange(&error))?;
    let exchange = async {
        let host = HeaderValue::try_from(address.to_string());
        let host = host.map_err(|error| Refusal::Broken(error.to_string()))?;
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(hyper::header::HOST, host);
        request
            .headers_mut()
            .insert(hyper::header::CONNECTION, close);
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| Refusal::of_exchange(&error))?;
        let status = answer.status().as_u16();
        // The body is read to its end, so that a node that dribbles one for ever counts as hung.
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| Refusal::Broken(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // Cancel-safe: the connection only moves bytes for the exchange, which then reports what
        // became of it.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What sends this and then, every so often, the same again without end.
    async fn node_of(head: &'static str, again: &'static str, pause: Duration) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(again.as_bytes()).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_hostile_node_is_given_up_in_time_and_never_called_ready() {
        let (limit, now) = (Duration::from_millis(300), Duration::ZERO);
        let slow = Duration::from_millis(20);
        let ok = "HTTP/1.1 200 OK\r\n";
        let cases = [
            (ok, "X-More: and more\r\n", now),
            (ok, "X", slow),
            ("", "HTTP/1.1 100 Continue\r\n\r\n", now),
            ("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", now),
            ("", "\0\u{7f}nonsense", now),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "1;x=y\r\na\r\n",
                now,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
                "a",
                now,
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
                "",
                slow,
            ),
        ];
        for (head, again, pause) in cases {
            let address = node_of(head, again, pause).await;
            let asked = tokio::time::timeout(limit * 20, ping(address, limit)).await;
            let probe = asked.expect("a probe ends in time");
            assert!(
                matches!(probe, Probe::Failure(Miss::Silent(_) | Miss::Broken, _)),
                "{head:?} {again:?}: {probe:?}"
            );
        }
    }

    #[test]
    fn drained_is_alive_and_not_ready() {
        assert_eq!(judge(200), Probe::Ready);
        assert!(matches!(judge(418), Probe::Drained(_)));
        for status in [301, 404, 500, 503] {
            assert!(
                matches!(judge(status), Probe::Failure(Miss::Broken, _)),
                "{status}"
            );
        }
    }

    #[test]
    fn only_what_looks_like_a_version_is_taken_for_one() {
        let read = |version: &str| version_in(format!(r#"{{"Version":{version}}}"#).as_bytes());
        assert_eq!(read(r#""2026.2.7""#).as_deref(), Some("2026.2.7"));
        assert_eq!(
            read(r#""2026.2.7-hotfix.1+b""#).as_deref(),
            Some("2026.2.7-hotfix.1+b")
        );
        for none in ["7", r#""""#, r#""latest""#, r#""1\u001b[2J""#] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(version_in(b"<html>"), None);
    }
}
