//! A Tentacle, asked whether it listens, and what Octopus Server's API knows of it: targets are its
//! *machines*, and workers are apart from them.
//!
//! Sources: OctopusClients (`MachineResource`, `WorkerResource`, `SpaceResource`), and the vendor's
//! own smoke test of its Linux image, which deletes `/api/{space}/machines|workers/{id}`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::config::Secret;
use crate::reconcile::health::Miss;
use crate::reconcile::health::Probe;
use crate::spec::tentacle::Purpose;

/// The first byte of a record of a TLS handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// So many of anything are asked for at once; the vendor's own clients ask for as many.
const ALL: u32 = 10_000;

/// Asks whether a Tentacle listens. It speaks first by answering the beginning of a TLS handshake:
/// a connection alone says nothing, since the engine's proxy takes one for a process that is gone.
/// `limit` bounds the whole exchange.
pub async fn ping(address: SocketAddr, limit: Duration) -> Probe {
    match tokio::time::timeout(limit, greet(address)).await {
        Err(_) => {
            let why = format!("no answer within {} ms", limit.as_millis());
            Probe::Failure(Miss::Silent(limit), why)
        }
        Ok(Err(error)) => {
            let why = match error.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::UnexpectedEof => {
                    "not listening yet".to_owned()
                }
                _ => error.to_string(),
            };
            Probe::of_error(error.raw_os_error(), why)
        }
        Ok(Ok(HANDSHAKE)) => Probe::Ready,
        Ok(Ok(_)) => Probe::Failure(Miss::Broken, "it does not speak TLS".to_owned()),
    }
}

/// Begins a handshake, and gives the first byte of the answer. The handshake is not gone on with:
/// a Tentacle trusts its server's certificate alone.
async fn greet(address: SocketAddr) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&hello()?).await?;
    stream.read_u8().await
}

/// What a client says first.
fn hello() -> std::io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("tentacle").map_err(std::io::Error::other)?;
    let client = rustls::ClientConnection::new(Arc::new(config), name);
    let mut hello = Vec::new();
    client
        .map_err(std::io::Error::other)?
        .write_tls(&mut hello)?;
    Ok(hello)
}

/// The API of the server, asked about Tentacles.
pub struct Api<'a> {
    /// Where a node that serves answers.
    pub address: SocketAddr,
    /// The administrator's API key.
    pub key: &'a Secret,
    /// How long one exchange may take.
    pub limit: Duration,
}

/// Why the API did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// It did not answer, or with something else than was asked for.
    #[error("{0}")]
    NoAnswer(String),
    /// It has no space of this name.
    #[error("Octopus Server has no space {0:?}")]
    NoSpace(String),
}

/// What a registration names and the server does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The option that names it.
    pub option: &'static str,
    /// Its name.
    pub name: String,
    /// What there is in its place.
    pub there: Vec<String>,
}

impl Api<'_> {
    /// Deletes a target or a worker by its name. One that is not there is deleted already; so is
    /// one of a space that is not.
    pub async fn delete(&self, space: &str, name: &str, is_worker: bool) -> Result<(), ApiError> {
        let space = match self.space(space).await {
            Err(ApiError::NoSpace(_)) => return Ok(()),
            other => other?,
        };
        let kind = if is_worker { "workers" } else { "machines" };
        for id in self.ids(&space, kind, name).await? {
            let path = format!("/api/{space}/{kind}/{id}");
            self.ask(Method::DELETE, &path).await?;
        }
        Ok(())
    }

    /// What a registration names and the server does not have.
    pub async fn missing(&self, space: &str, purpose: &Purpose) -> Result<Vec<Missing>, ApiError> {
        let id = match self.space(space).await {
            Err(ApiError::NoSpace(name)) => {
                let there = names(&self.list("/api/spaces").await?);
                let option = "--space";
                return Ok(vec![Missing {
                    option,
                    name,
                    there,
                }]);
            }
            other => other?,
        };
        let (option, kind, wanted) = match purpose {
            Purpose::Target { environments, .. } => {
                ("--environment", "environments", environments.as_slice())
            }
            Purpose::Worker { pool } => ("--worker", "workerpools", std::slice::from_ref(pool)),
        };
        let there = names(&self.list(&format!("/api/{id}/{kind}")).await?);
        let is_there = |name: &String| there.iter().any(|one| one.eq_ignore_ascii_case(name));
        let missing = wanted.iter().filter(|name| !is_there(name));
        let missing = missing.map(|name| Missing {
            option,
            name: name.clone(),
            there: there.clone(),
        });
        Ok(missing.collect())
    }

    /// The ID of a space by its name. Octopus Server compares names in whatever case.
    async fn space(&self, name: &str) -> Result<String, ApiError> {
        let all = self.list("/api/spaces").await?;
        id_of(&all, name).ok_or_else(|| ApiError::NoSpace(name.to_owned()))
    }

    async fn ids(&self, space: &str, kind: &str, name: &str) -> Result<Vec<String>, ApiError> {
        // An answer is bounded, and there may be thousands.
        let path = format!("/api/{space}/{kind}?partialName={name}");
        let all = self.list(&path).await?;
        Ok(all
            .iter()
            .filter(|one| is_named(one, name))
            .filter_map(id)
            .collect())
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}skip=0&take={ALL}");
        let body = self.ask(Method::GET, &path).await?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        let items = answer
            .as_ref()
            .and_then(|answer| answer.get("Items")?.as_array());
        let items = items.cloned();
        items.ok_or_else(|| ApiError::NoAnswer(format!("the API's answer to {path} is no list")))
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Bytes, ApiError> {
        super::ask(self.address, self.key, self.limit, method, path, Vec::new())
            .await
            .map_err(|failure| ApiError::NoAnswer(failure.words))
    }
}

fn is_named(row: &Value, name: &str) -> bool {
    let known = row.get("Name").and_then(Value::as_str);
    known.is_some_and(|known| known.eq_ignore_ascii_case(name))
}

fn id(row: &Value) -> Option<String> {
    super::drain::id_of(row)
}

fn id_of(rows: &[Value], name: &str) -> Option<String> {
    rows.iter().find(|row| is_named(row, name)).and_then(id)
}

fn names(rows: &[Value]) -> Vec<String> {
    let names = rows.iter().filter_map(|row| row.get("Name")?.as_str());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes a connection, reads what is said, and says this.
    async fn answering(words: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut said = [0; 4096];
                let read = stream.read(&mut said).await.unwrap_or_default();
                assert!(read > 5 && said[0] == HANDSHAKE, "it is greeted in TLS");
                let _ = stream.write_all(words).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn only_what_answers_a_handshake_listens() {
        let limit = Duration::from_secs(5);
        let ready = answering(&[HANDSHAKE, 3, 3, 0, 1, 2]).await;
        assert_eq!(ping(ready, limit).await, Probe::Ready);
        let other = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(matches!(
            ping(other, limit).await,
            Probe::Failure(Miss::Broken, _)
        ));
        // The engine's proxy takes the connection, and closes it where nobody listens behind it.
        let proxy = answering(b"").await;
        assert!(matches!(
            ping(proxy, limit).await,
            Probe::Failure(Miss::Gone, _)
        ));
        let nobody = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        assert!(matches!(
            ping(nobody, limit).await,
            Probe::Failure(Miss::Gone, _)
        ));
    }

    #[test]
    fn rows_are_found_by_name_in_whatever_case_and_an_odd_id_is_none() {
        let rows: Vec<Value> = serde_json::from_str(
            r#"[{"Id":"Machines-1","Name":"Web"},{"Id":"../x","Name":"odd"},{"Name":"none"}]"#,
        )
        .unwrap();
        assert_eq!(id_of(&rows, "web").as_deref(), Some("Machines-1"));
        assert_eq!((id_of(&rows, "odd"), id_of(&rows, "none")), (None, None));
        assert_eq!(names(&rows), ["Web", "odd", "none"]);
    }
}
