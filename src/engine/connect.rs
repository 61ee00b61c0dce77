//! Finds the engine as the docker command does: `DOCKER_HOST`, the current context, the usual
//! sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bollard::API_DEFAULT_VERSION;
use bollard::BollardRequest;
use bollard::Docker;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::shown::lenient;
use super::wire::ANSWER_LIMIT;
use super::wire::Peer;
use super::wire::Wire;

/// Where an engine listens, as a URL (`unix:///var/run/docker.sock`, `tcp://host:2375`), and which
/// engine that is. The disk is asked about that once, where an endpoint is made or read: whoever
/// compares two of them asks nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Endpoint {
    url: String,
    /// The one name of all that lead to the same engine: links are followed, `http://` and `tcp://`
    /// are one.
    identity: String,
}

impl From<String> for Endpoint {
    fn from(url: String) -> Self {
        let identity = identity(&url);
        Self { url, identity }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.strip_prefix(CONTEXT) {
            Some(name) => write!(out, "docker context {name:?}"),
            None => out.write_str(&self.url),
        }
    }
}

/// How the endpoint of a docker context begins that nobody knows; its name follows. It cannot be
/// connected to, and says so.
const CONTEXT: &str = "docker-context:";

impl Endpoint {
    /// The engine that listens there.
    pub fn at(url: impl Into<String>) -> Self {
        Self::from(url.into())
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The one name of all that lead to the same engine.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether ports that the engine publishes can be looked at from here: one that it answers on
    /// from elsewhere is refused at first contact.
    pub fn is_local(&self) -> bool {
        !self.url.starts_with(CONTEXT)
    }

    /// Whether both name one engine. A socket may have several names, also while it is not there.
    pub fn is_same(&self, other: &Self) -> bool {
        self.url == other.url || self.identity == other.identity
    }
}

fn identity(url: &str) -> String {
    let Some(path) = url.strip_prefix("unix://").map(Path::new) else {
        let host = url.strip_prefix("tcp://").or(url.strip_prefix("http://"));
        let host = host.unwrap_or(url).trim_end_matches('/');
        return if host.starts_with(CONTEXT) {
            host.to_owned()
        } else {
            format!("tcp://{host}")
        };
    };
    format!("unix://{}", followed(path, MOST_LINKS).display())
}

/// So many links to links to a socket that is not there are followed.
const MOST_LINKS: u8 = 8;

/// What a path leads to, also while that is not there.
fn followed(path: &Path, links: u8) -> PathBuf {
    if let Ok(file) = std::fs::canonicalize(path) {
        return file;
    }
    let dir = path
        .parent()
        .map(std::fs::canonicalize)
        .and_then(Result::ok);
    let Some((dir, name)) = dir.zip(path.file_name()) else {
        return path.to_owned();
    };
    let file = dir.join(name);
    match std::fs::read_link(&file) {
        Ok(target) if links > 0 => followed(&dir.join(target), links - 1),
        _ => file,
    }
}

/// The newest API that bollard 0.21 understands.
const NEWEST_API: (usize, usize) = (
    API_DEFAULT_VERSION.major_version,
    API_DEFAULT_VERSION.minor_version,
);
/// The port of an engine without TLS.
const PLAIN_PORT: u16 = 2375;
/// bollard's own limit, which covers a response's headers only; ours are set per call and are
/// shorter, save for stops.
const BOLLARD_LIMIT_S: u64 = 600;

/// Chooses the endpoint. `env` is the process environment.
pub fn endpoint(env: &BTreeMap<String, String>) -> Endpoint {
    if let Some(host) = env.get("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return Endpoint::at(host);
    }
    context(env).unwrap_or_else(|| default_socket(env))
}

fn default_socket(env: &BTreeMap<String, String>) -> Endpoint {
    let rootless = env
        .get("XDG_RUNTIME_DIR")
        .map(|dir| format!("{dir}/docker.sock"));
    let home = env
        .get("HOME")
        .map(|home| format!("{home}/.docker/run/docker.sock"));
    let usual = "/var/run/docker.sock".to_owned();
    let found = [Some(usual.clone()), rootless, home]
        .into_iter()
        .flatten()
        .find(|path| Path::new(path).exists());
    Endpoint::at(format!("unix://{}", found.unwrap_or(usual)))
}

/// The endpoint of the current docker context (docker/cli `cli/context/store`: `meta/<sha256 of the
/// name>/meta.json`). One that is named and not there is an endpoint that says so: the docker
/// command refuses it too, and another engine is not what was meant.
fn context(env: &BTreeMap<String, String>) -> Option<Endpoint> {
    let dir = docker_config_dir(env);
    let name = match env.get("DOCKER_CONTEXT").filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None => read_json(&dir.as_ref()?.join("config.json"))?
            .get("currentContext")?
            .as_str()?
            .to_owned(),
    };
    if name == "default" || name.is_empty() {
        return None;
    }
    let host = dir.and_then(|dir| host_of_context(&dir, &name));
    Some(Endpoint::at(
        host.unwrap_or_else(|| format!("{CONTEXT}{name}")),
    ))
}

fn host_of_context(dir: &Path, name: &str) -> Option<String> {
    let hash: String = sha2::Sha256::digest(name.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let meta = read_json(&dir.join("contexts/meta").join(hash).join("meta.json"))?;
    let host = meta.get("Endpoints")?.get("docker")?.get("Host")?;
    Some(host.as_str()?.to_owned())
}

/// The directory of the docker command's configuration.
pub fn docker_config_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let given = env
        .get("DOCKER_CONFIG")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    given.or_else(|| env.get("HOME").map(|home| Path::new(home).join(".docker")))
}

/// A JSON file, if it can be read.
pub fn read_json(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// What an engine says about itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct About {
    #[serde(deserialize_with = "lenient")]
    api_version: String,
    #[serde(deserialize_with = "lenient", rename = "MinAPIVersion")]
    min_api_version: String,
    #[serde(deserialize_with = "lenient")]
    components: Vec<Component>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Component {
    #[serde(deserialize_with = "lenient")]
    name: String,
}

/// What tells an engine's host from ours.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Info {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    kernel_version: String,
    #[serde(deserialize_with = "lenient")]
    operating_system: String,
}

/// What to do about an engine that runs elsewhere. Ports are published there, and it is here that
/// SQL Server and the nodes are asked whether they are well.
const ELSEWHERE: &str = "the engine runs on another host, whose published ports cannot be reached as this host's: \
                         run octo-local on that host (`ssh HOST octo-local up`)";
const NO_PODMAN: &str = "this is Podman, which octo-local does not work with: it names images otherwise and has states and refusals \
                         of its own; use Docker Engine 20.10 or newer and set DOCKER_HOST to its socket";
const NO_TLS: &str = "octo-local speaks to unix:// sockets, and to plain tcp:// of this host; run it on the engine's host";

impl Engine {
    /// Connects and agrees on an API version; every later request carries it.
    ///
    /// What octo-local does not work with is refused here, by name: Podman, an engine on another
    /// host, one that speaks newer versions of the API only.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, EngineError> {
        let peer = peer_of(&endpoint).await?;
        let engine = Self::at(&endpoint, peer, "")?;
        let attempt = || "ask for the engine's version".to_owned();
        let bytes = engine.get(attempt, QUICK, "/version", &[]).await?;
        if engine.is_tunnel().await {
            return Err(unsupported(&endpoint, ELSEWHERE));
        }
        let version: About = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_podman = |part: &Component| part.name.starts_with("Podman");
        if version.components.iter().any(is_podman) {
            return Err(unsupported(&endpoint, NO_PODMAN));
        }
        let newest = parse_version(&version.api_version).unwrap_or(NEWEST_API);
        let api = newest.min(NEWEST_API);
        if parse_version(&version.min_api_version).is_some_and(|oldest| oldest > api) {
            let why = format!(
                "the engine speaks only API {} and newer, and this octo-local at most {}.{}: update octo-local",
                version.min_api_version, api.0, api.1
            );
            return Err(unsupported(&endpoint, &why));
        }
        let engine = Self::at(
            &endpoint,
            engine.wire.peer,
            &format!("/v{}.{}", api.0, api.1),
        )?;
        if matches!(engine.wire.peer, Peer::Tcp(_)) && engine.is_elsewhere().await? {
            return Err(unsupported(&endpoint, ELSEWHERE));
        }
        Ok(engine)
    }

    fn at(endpoint: &Endpoint, peer: Peer, prefix: &str) -> Result<Self, EngineError> {
        let wire = Wire {
            peer,
            prefix: Arc::from(prefix),
            taker: Arc::default(),
        };
        let way = wire.clone();
        let transport = move |request: BollardRequest| {
            let way = way.clone();
            async move { way.send(request, ANSWER_LIMIT).await }
        };
        let docker = Docker::connect_with_custom_transport(
            transport,
            Some("http://docker"),
            BOLLARD_LIMIT_S,
            API_DEFAULT_VERSION,
        );
        Ok(Self {
            docker: docker.map_err(|error| unsupported(endpoint, &super::chain(&error)))?,
            wire,
            endpoint: endpoint.clone(),
        })
    }

    /// Whether a socket of this host leads to another one: `ssh -L` listens on it.
    async fn is_tunnel(&self) -> bool {
        let Some(pid) = self.wire.taker.get() else {
            return false;
        };
        let name = tokio::fs::read_to_string(format!("/proc/{pid}/comm")).await;
        name.is_ok_and(|name| is_tunnel(name.trim()))
    }

    /// Whether an engine behind an address of this host is on another one: a tunnel leads anywhere.
    async fn is_elsewhere(&self) -> Result<bool, EngineError> {
        let attempt = || "ask the engine about its host".to_owned();
        let bytes = self.get(attempt, QUICK, "/info", &[]).await?;
        let info: Info = serde_json::from_slice(&bytes).unwrap_or_default();
        let ours = |name: &str| tokio::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
        let (name, kernel) = tokio::join!(ours("hostname"), ours("osrelease"));
        let (name, kernel) = (name.unwrap_or_default(), kernel.unwrap_or_default());
        Ok(info.is_elsewhere(name.trim(), kernel.trim()))
    }
}

impl Info {
    /// Docker Desktop's engine is in a machine of its own, and publishes ports here all the same.
    fn is_elsewhere(&self, name: &str, kernel: &str) -> bool {
        let differs = |theirs: &str, ours: &str| !theirs.is_empty() && theirs != ours;
        !self.operating_system.contains("Docker Desktop")
            && differs(&self.name, name)
            && differs(&self.kernel_version, kernel)
    }
}

fn unsupported(endpoint: &Endpoint, why: &str) -> EngineError {
    EngineError::Unsupported {
        endpoint: endpoint.to_string(),
        why: why.to_owned(),
    }
}

/// Nobody took the connection.
pub(super) fn unreachable(endpoint: &Endpoint, why: String, source: std::io::Error) -> EngineError {
    EngineError::Unreachable {
        endpoint: endpoint.to_string(),
        why,
        source,
    }
}

/// The system's words, and what helps.
pub(super) fn why_unreachable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}; add yourself to the docker group, or use root")
        }
        _ => format!("{error}; is Docker installed and running?"),
    }
}

/// What to connect to; whatever could not work is refused.
async fn peer_of(endpoint: &Endpoint) -> Result<Peer, EngineError> {
    let url = endpoint.url();
    if let Some(name) = url.strip_prefix(CONTEXT) {
        let why = format!(
            "there is no such context; `docker context ls` lists them, `docker context use` chooses another than {name:?}"
        );
        return Err(unsupported(endpoint, &why));
    }
    if let Some(path) = url.strip_prefix("unix://") {
        return Ok(Peer::Unix(PathBuf::from(path)));
    }
    let tcp = url
        .strip_prefix("tcp://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(host) = tcp.map(|host| host.trim_end_matches('/')) else {
        return Err(unsupported(endpoint, NO_TLS));
    };
    let host = if host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        host.to_owned()
    } else {
        format!("{host}:{PLAIN_PORT}")
    };
    let found = tokio::time::timeout(QUICK, tokio::net::lookup_host(host.clone())).await;
    let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let mut addresses =
        found.map_err(|error| unreachable(endpoint, why_unreachable(&error), error))?;
    if addresses.all(|address| !is_of_this_host(address.ip())) {
        return Err(unsupported(endpoint, ELSEWHERE));
    }
    Ok(Peer::Tcp(host))
}

/// Only what an interface of this host has can be bound to.
fn is_of_this_host(address: std::net::IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

fn is_tunnel(program: &str) -> bool {
    matches!(program, "ssh" | "sshd" | "autossh" | "sshd-session")
}

fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests;
