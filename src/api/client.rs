//! The command line's side of the control API: one connection a request.

use super::route;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Identity;
use crate::daemon::message::Denied;
use crate::reconcile::status::Status;

/// A request is answered once it was admitted, which may ask the engine and the database some
/// questions.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// One status line is some kilobytes; what is longer is not one.
const LINE_LIMIT: usize = 1024 * 1024;

/// A way to the daemon of one project.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why a request had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: there is no daemon.
    #[error("no daemon answers")]
    Absent,
    /// The daemon refused.
    #[error("the daemon refused")]
    Denied(Denied),
    /// The connection broke or the answer made no sense.
    #[error("talk to the daemon: {0}")]
    Broken(String),
    /// It takes connections and does not answer.
    #[error("talk to the daemon: no answer within {} s", .0.as_secs())]
    Late(Duration),
}

fn broken(error: &dyn std::error::Error) -> ClientError {
    ClientError::Broken(crate::engine::chain(error))
}

impl Client {
    /// A client for the daemon behind this socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Who answers, if anybody does.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        self.get(route::IDENTITY).await
    }

    /// The status now.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(route::STATUS).await
    }

    /// Asks for something without a body.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, path, Vec::new()).await
    }

    /// Asks for something with a body.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        self.exchange(Method::POST, path, body).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let asking = async {
            let answer = self.send(method, path, body).await?;
            let status = answer.status();
            let bytes = answer
                .into_body()
                .collect()
                .await
                .map_err(|error| broken(&error))?
                .to_bytes();
            match status.as_u16() {
                200 => serde_json::from_slice(&bytes).map_err(|error| broken(&error)),
                409 => Err(ClientError::Denied(
                    serde_json::from_slice(&bytes).map_err(|error| broken(&error))?,
                )),
                code => Err(ClientError::Broken(format!(
                    "it answered {code}: {}",
                    String::from_utf8_lossy(&bytes)
                ))),
            }
        };
        tokio::time::timeout(ANSWER_LIMIT, asking)
            .await
            .unwrap_or(Err(ClientError::Late(ANSWER_LIMIT)))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        use std::io::ErrorKind::ConnectionRefused;
        use std::io::ErrorKind::ConnectionReset;
        use std::io::ErrorKind::NotFound;
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|error| match error.kind() {
                    // Reset: it died between our connection and its accepting it.
                    NotFound | ConnectionRefused | ConnectionReset => ClientError::Absent,
                    _ => ClientError::Broken(format!("open {}: {error}", self.socket.display())),
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "octo-local")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))
    }

    /// The status now and at each change.
    pub async fn follow(&self) -> Result<Statuses, ClientError> {
        self.stream(route::STATUS_STREAM).await
    }

    /// The same for whoever asked for the `up` of this generation: as long as the stream is read,
    /// somebody wants it.
    pub async fn follow_up(&self, generation: u64) -> Result<Statuses, ClientError> {
        self.stream(&format!("/v1/status/stream?session={generation}"))
            .await
    }

    async fn stream(&self, path: &str) -> Result<Statuses, ClientError> {
        let answer = self.send(Method::GET, path, Vec::new()).await?;
        Ok(Statuses {
            body: answer.into_body(),
            buffer: Vec::new(),
        })
    }
}

/// A stream of statuses.
#[derive(Debug)]
pub struct Statuses {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Statuses {
    /// The next status; `None` when the daemon ended. Cancel-safe: what was read stays in the
    /// buffer.
    pub async fn next(&mut self) -> Result<Option<Status>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| broken(&error));
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(ClientError::Broken("a status line does not end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend(
                    frame
                        .data_ref()
                        .map(|bytes| bytes.to_vec())
                        .unwrap_or_default(),
                ),
                Some(Err(_)) => return Ok(None),
            }
        }
    }
}
