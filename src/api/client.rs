//! The command line's side of the control API: one connection a request.

use super::route;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Identity;
use super::QuiesceBody;
use crate::daemon::message::Denied;
use crate::reconcile::status::Status;

/// A request is answered once it was admitted, which may ask the engine and the database some
/// questions.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// One status line is some kilobytes; what is longer is not one.
const LINE_LIMIT: usize = 1024 * 1024;

/// An answer holds a configuration and a desired state at the most, some hundred kilobytes.
const ANSWER_SIZE: usize = 16 * 1024 * 1024;

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
    /// Somebody else listens there: nothing is told.
    #[error(
        "{socket} is listened to by the user with uid {uid}, who is told nothing; look at OCTO_LOCAL_RUNTIME_DIR and \
         XDG_RUNTIME_DIR"
    )]
    Foreign {
        /// The socket.
        socket: String,
        /// Whose process that is.
        uid: u32,
    },
    /// It takes connections and does not answer.
    #[error("talk to the daemon: no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Whether what listens there may be told a configuration, which has secrets: it is a process of our
/// own or of root's. The directory of the socket may be one that somebody else can write to.
fn is_trusted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
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
            read(answer).await
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
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if is_trusted(peer.uid(), own) => {}
            Ok(peer) => {
                return Err(ClientError::Foreign {
                    socket: self.socket.display().to_string(),
                    uid: peer.uid(),
                });
            }
            Err(error) => return Err(broken(&error)),
        }
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

    /// Has all nodes finish their tasks and take no more, for as long as the stream is read.
    pub async fn quiesce(&self, body: &QuiesceBody) -> Result<Statuses, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        let asking = async {
            let answer = self.send(Method::POST, route::QUIESCE, body).await?;
            if answer.status().as_u16() == 200 {
                return Ok(Statuses {
                    body: answer.into_body(),
                    buffer: Vec::new(),
                });
            }
            let refused: Result<(), ClientError> = read(answer).await;
            Err(refused.err().unwrap_or(ClientError::Absent))
        };
        tokio::time::timeout(ANSWER_LIMIT, asking)
            .await
            .unwrap_or(Err(ClientError::Late(ANSWER_LIMIT)))
    }

    async fn stream(&self, path: &str) -> Result<Statuses, ClientError> {
        let answer = self.send(Method::GET, path, Vec::new()).await?;
        Ok(Statuses {
            body: answer.into_body(),
            buffer: Vec::new(),
        })
    }
}

/// What an answer says, or why it was refused.
async fn read<T: DeserializeOwned>(answer: hyper::Response<Incoming>) -> Result<T, ClientError> {
    let status = answer.status();
    let bytes = Limited::new(answer.into_body(), ANSWER_SIZE)
        .collect()
        .await
        .map_err(|error| broken(error.as_ref()))?
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn nobody_is_told_a_configuration_but_ourselves_and_root() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }

    /// A client of what answers so, and then with the same again and again.
    fn client_of(head: &'static str, again: &'static str) -> (Client, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let more = again.repeat(4096);
                while stream.write_all(more.as_bytes()).await.is_ok() {}
            }
        });
        (Client::at(path), dir)
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (client, _dir) = client_of("HTTP/1.1 200 OK\r\n\r\n[", "0,");
        let answer = client.get::<Vec<u8>>(route::STORED).await;
        assert!(matches!(answer, Err(ClientError::Broken(_))), "{answer:?}");
        let mut followed = client.follow().await.unwrap();
        let answer = followed.next().await;
        assert!(matches!(answer, Err(ClientError::Broken(_))), "{answer:?}");
        let (client, _dir) = client_of("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n");
        let answer = client.status().await;
        assert!(matches!(answer, Err(ClientError::Broken(_))), "{answer:?}");
    }
}
