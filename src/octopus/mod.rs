//! An Octopus node, asked over HTTP from the host: one short connection, no redirects, bounded in
//! time and size. Nothing inside the image is needed, since hardened images have neither shell nor
//! curl.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::reconcile::health::Probe;

/// Answers 200 when the node takes work, 418 when it is drained, anything else when it is broken
/// (octopus.com/docs, "Load balancing": the health endpoint needs no login).
pub const PING: &str = "/api/octopusservernodes/ping";
/// A ping's answer is one small JSON object; what is larger is not it.
const BODY_LIMIT: usize = 64 * 1024;

/// Asks a node how it is. `limit` bounds the whole exchange.
pub async fn ping(address: SocketAddr, limit: Duration) -> Probe {
    match tokio::time::timeout(limit, get(address, PING)).await {
        Err(_) => Probe::Failure(format!("no answer within {} ms", limit.as_millis())),
        Ok(Err(Refusal { os_error, why })) => Probe::of_error(os_error, why),
        Ok(Ok(status)) => judge(status),
    }
}

fn judge(status: u16) -> Probe {
    match status {
        200 => Probe::Ready,
        418 => Probe::Drained("it is drained (418)".to_owned()),
        status => Probe::Failure(format!("it answers {status}")),
    }
}

/// Why there was no answer.
struct Refusal {
    os_error: Option<i32>,
    why: String,
}

fn refusal(error: impl std::error::Error) -> Refusal {
    Refusal {
        os_error: None,
        why: error.to_string(),
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<u16, Refusal> {
    let tcp = TcpStream::connect(address).await.map_err(|error| Refusal {
        os_error: error.raw_os_error(),
        why: error.to_string(),
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BODY_LIMIT)
        .handshake(TokioIo::new(tcp))
        .await
        .map_err(refusal)?;
    let exchange = async {
        let request = Request::get(path)
            .header(hyper::header::HOST, address.to_string())
            .header(hyper::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(refusal)?;
        let answer = sender.send_request(request).await.map_err(refusal)?;
        let status = answer.status().as_u16();
        // The body is read to its end, so that a node that dribbles one for ever counts as hung.
        let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        body.map_err(|error| Refusal {
            os_error: None,
            why: error.to_string(),
        })?;
        Ok(status)
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
    use super::*;

    #[test]
    fn drained_is_alive_and_not_ready() {
        assert_eq!(judge(200), Probe::Ready);
        assert!(matches!(judge(418), Probe::Drained(_)));
        for status in [301, 404, 500, 503] {
            assert!(matches!(judge(status), Probe::Failure(_)), "{status}");
        }
    }
}
