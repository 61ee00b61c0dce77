//! Finds the engine as the docker command does: `DOCKER_HOST`, the current context, the usual
//! sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use bollard::API_DEFAULT_VERSION;
use bollard::Docker;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use super::Engine;
use super::EngineError;
use super::QUICK;

/// Where an engine listens, as a URL: `unix:///var/run/docker.sock`, `tcp://host:2375`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint(pub String);

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Endpoint {
    /// Whether the engine runs on this machine, so that ports can be looked at from here.
    pub fn is_local(&self) -> bool {
        self.0.starts_with("unix://")
    }

    /// Whether both name one engine. A socket may have several names, also while it is not there.
    pub fn is_same(&self, other: &Self) -> bool {
        self.plain() == other.plain()
    }

    /// One name for all that lead to the same.
    fn plain(&self) -> String {
        let Some(path) = self.0.strip_prefix("unix://").map(Path::new) else {
            let host = self
                .0
                .strip_prefix("tcp://")
                .or_else(|| self.0.strip_prefix("http://"))
                .unwrap_or(&self.0);
            return host.trim_end_matches('/').to_owned();
        };
        let file = std::fs::canonicalize(path).or_else(|error| {
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error);
            };
            std::fs::canonicalize(dir).map(|dir| dir.join(name))
        });
        format!("unix://{}", file.as_deref().unwrap_or(path).display())
    }
}

/// The newest API that bollard 0.21 understands.
const NEWEST_API: (usize, usize) = (
    API_DEFAULT_VERSION.major_version,
    API_DEFAULT_VERSION.minor_version,
);
/// bollard's own limit, which covers a response's headers only; ours are set per call and are
/// shorter, save for stops.
const BOLLARD_LIMIT_S: u64 = 600;

/// Chooses the endpoint. `env` is the process environment.
pub fn endpoint(env: &BTreeMap<String, String>) -> Endpoint {
    if let Some(host) = env.get("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return Endpoint(host.clone());
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
    Endpoint(format!("unix://{}", found.unwrap_or(usual)))
}

/// The endpoint of the current docker context (docker/cli `cli/context/store`: `meta/<sha256 of the
/// name>/meta.json`).
fn context(env: &BTreeMap<String, String>) -> Option<Endpoint> {
    let dir = docker_config_dir(env)?;
    let name = match env.get("DOCKER_CONTEXT").filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None => read_json(&dir.join("config.json"))?
            .get("currentContext")?
            .as_str()?
            .to_owned(),
    };
    if name == "default" || name.is_empty() {
        return None;
    }
    let hash: String = sha2::Sha256::digest(name.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let meta = read_json(&dir.join("contexts/meta").join(hash).join("meta.json"))?;
    let host = meta
        .get("Endpoints")?
        .get("docker")?
        .get("Host")?
        .as_str()?;
    Some(Endpoint(host.to_owned()))
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

impl Engine {
    /// Connects and agrees on an API version; every later request carries it.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, EngineError> {
        let docker = open(&endpoint)?;
        let engine = Self { docker, endpoint };
        let answer = engine
            .call(
                || "ask for the engine's version".to_owned(),
                QUICK,
                engine.docker.version(),
            )
            .await?;
        let api = answer
            .api_version
            .as_deref()
            .and_then(parse_version)
            .unwrap_or(NEWEST_API)
            .min(NEWEST_API);
        let prefix = format!("/v{}.{}", api.0, api.1);
        let docker = engine
            .docker
            .with_request_modifier(move |request| versioned(request, &prefix));
        Ok(Self {
            docker,
            endpoint: engine.endpoint,
        })
    }
}

fn open(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    let url = endpoint.0.as_str();
    let unreachable = |why: String| EngineError::Unreachable {
        endpoint: endpoint.to_string(),
        why,
    };
    let result = if url.starts_with("unix://") {
        Docker::connect_with_unix(url, BOLLARD_LIMIT_S, API_DEFAULT_VERSION)
    } else if url.starts_with("tcp://") || url.starts_with("http://") {
        Docker::connect_with_http(url, BOLLARD_LIMIT_S, API_DEFAULT_VERSION)
    } else {
        return Err(unreachable(
            "octo-local speaks to unix:// and plain tcp:// engines; reach others through `ssh -L` to their socket"
                .to_owned(),
        ));
    };
    result.map_err(|error| {
        let why = match super::chain(&error) {
            text if text.contains("ermission denied") => {
                format!("{text}; add yourself to the docker group, or use root")
            }
            text => format!("{text}; is Docker installed and running?"),
        };
        unreachable(why)
    })
}

fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn versioned(mut request: bollard::BollardRequest, prefix: &str) -> bollard::BollardRequest {
    let path = request
        .uri()
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    if let Ok(path) = format!("{prefix}{path}").parse() {
        parts.path_and_query = Some(path);
    }
    if let Ok(uri) = bollard_uri(parts) {
        *request.uri_mut() = uri;
    }
    request
}

fn bollard_uri(
    parts: hyper::http::uri::Parts,
) -> Result<hyper::Uri, hyper::http::uri::InvalidUriParts> {
    hyper::Uri::from_parts(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_two_names_is_one_engine() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Endpoint(format!("unix://{}", dir.path().join(name).display()));
        for name in ["docker.sock", "another.sock"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("run")).unwrap();
        assert!(at("docker.sock").is_same(&at("run/docker.sock")));
        assert!(!at("docker.sock").is_same(&at("another.sock")));
        assert!(
            at("gone.sock").is_same(&at("run/gone.sock"))
                && !at("gone.sock").is_same(&at("lost.sock"))
        );
        assert!(
            at("no/gone.sock").is_same(&at("no/gone.sock"))
                && !at("no/gone.sock").is_same(&at("gone.sock"))
        );
        let far = |url: &str| Endpoint(url.to_owned());
        assert!(far("tcp://far:2375").is_same(&far("http://far:2375/")));
        assert!(!far("tcp://far:2375").is_same(&far("tcp://near:2375")));
        assert!(!at("docker.sock").is_same(&far("tcp://far:2375")));
    }

    #[test]
    fn docker_host_comes_first_and_contexts_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let hash: String = sha2::Sha256::digest(b"far")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let meta = dir.path().join("contexts/meta").join(hash);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2375"}}}"#,
        )
        .unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"currentContext":"far"}"#,
        )
        .unwrap();
        let mut env =
            BTreeMap::from([("DOCKER_CONFIG".to_owned(), dir.path().display().to_string())]);
        assert_eq!(endpoint(&env).0, "tcp://far:2375");
        env.insert("DOCKER_HOST".to_owned(), "unix:///here.sock".to_owned());
        assert_eq!(endpoint(&env).0, "unix:///here.sock");
    }
}
