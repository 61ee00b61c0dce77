//! A container as the engine shows it when asked for it alone, whosever it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::config::Secret;

/// The project of docker compose that something belongs to (docker/compose `pkg/api/labels.go`).
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Set to `True` on what `docker compose run` made for one command.
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// A container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Its ID.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// The reference of its image, as it was asked for.
    pub image: String,
    /// The ID of its image.
    pub image_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its environment.
    pub env: BTreeMap<String, Secret>,
    /// Its process exists, frozen or not.
    pub running: bool,
    /// What is mounted in it.
    pub mounts: Vec<Mounted>,
    /// Whether the engine itself would restart it.
    pub restart: Restart,
    /// The TCP ports that it publishes.
    pub published: Vec<Published>,
    /// The networks that it is on, by name.
    pub networks: BTreeMap<String, Attachment>,
    /// The user that it runs as; empty for the image's.
    pub user: String,
    /// It has full privileges.
    pub privileged: bool,
    /// Host names that it knows beyond its networks', as `name:address`.
    pub extra_hosts: Vec<String>,
    /// The memory that it may have, in bytes; 0 is no limit.
    pub memory: u64,
    /// The processors that it may have, in thousand-millionths of one; 0 is no limit.
    pub nano_cpus: u64,
}

/// Something mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where in the container, without a slash at its end.
    pub target: String,
    /// What.
    pub source: Source,
    /// The container may not write to it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A volume, by name.
    Volume(String),
    /// A directory of the host.
    Directory(String),
    /// What is gone when the container stops.
    Memory,
}

/// The engine's restart policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restart {
    /// Its name: `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// How often, for `on-failure`.
    pub max: i64,
}

impl Restart {
    /// Whether the engine starts the container by itself.
    pub fn is_armed(&self) -> bool {
        !matches!(self.name.as_str(), "" | "no")
    }
}

/// A published TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// In the container.
    pub container: u16,
    /// The host's address; empty for all.
    pub ip: String,
    /// On the host; none where the engine chooses.
    pub host: Option<u16>,
}

/// How a container is on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network's ID.
    pub id: String,
    /// The names that it has there.
    pub aliases: Vec<String>,
}

impl Seen {
    /// Reads the engine's answer (Engine API, `ContainerInspect`).
    pub fn parse(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        let text = |pointer: &str| {
            let text = value.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let is = |pointer: &str| value.pointer(pointer).and_then(Value::as_bool) == Some(true);
        let seen = Self {
            id: text("/Id"),
            name: text("/Name").trim_start_matches('/').to_owned(),
            image: text("/Config/Image"),
            image_id: text("/Image"),
            labels: labels(&value),
            env: environment(&value),
            running: is("/State/Running") || is("/State/Paused") || is("/State/Restarting"),
            mounts: mounts(&value),
            restart: Restart {
                name: text("/HostConfig/RestartPolicy/Name"),
                max: value
                    .pointer("/HostConfig/RestartPolicy/MaximumRetryCount")
                    .and_then(Value::as_i64)
                    .unwrap_or_default(),
            },
            published: published(&value),
            networks: networks(&value),
            user: text("/Config/User"),
            privileged: is("/HostConfig/Privileged"),
            extra_hosts: items(&value, "/HostConfig/ExtraHosts")
                .filter_map(|host| Some(host.as_str()?.to_owned()))
                .collect(),
            memory: number(&value, "/HostConfig/Memory"),
            nano_cpus: processors(&value),
        };
        (!seen.id.is_empty()).then_some(seen)
    }

    /// Whether it is of a compose project: by its label, or by its name where nobody labelled it.
    pub fn is_of(&self, project: &str) -> bool {
        is_of(project, &self.name, &self.labels)
    }

    /// Whether compose made it for one command.
    pub fn is_one_off(&self) -> bool {
        let label = self.labels.get(ONE_OFF);
        label.is_some_and(|label| label.eq_ignore_ascii_case("true"))
    }

    /// A variable of its environment that says something.
    pub fn variable(&self, name: &str) -> Option<&Secret> {
        self.env.get(name).filter(|value| !value.is_empty())
    }

    /// Where this host reaches a port of it.
    pub fn address_of(&self, container: u16) -> Option<SocketAddr> {
        let mut published = self.published.iter();
        let port = published.find_map(|port| {
            let host = port.host.filter(|_| port.container == container)?;
            Some((port.ip.parse().ok(), host))
        });
        let (ip, port) = port?;
        let ip = ip.filter(|ip: &IpAddr| !ip.is_unspecified());
        Some(SocketAddr::new(
            ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port,
        ))
    }

    /// What its image sets by itself says nothing of the person's.
    #[must_use]
    pub fn without(mut self, of_image: &[String], user_of_image: &str) -> Self {
        self.env.retain(|key, value| {
            let line = format!("{key}={}", value.expose());
            !of_image.contains(&line)
        });
        if self.user == user_of_image {
            self.user.clear();
        }
        self
    }
}

/// Whether a container is of a compose project: by its label, or by its name where nobody labelled
/// it.
pub fn is_of(project: &str, name: &str, labels: &BTreeMap<String, String>) -> bool {
    match labels.get(COMPOSE_PROJECT) {
        Some(label) => label == project,
        None => is_named_as_of(project, name),
    }
}

/// Whether a container is named as compose names a project's: with `_` between the words in its first
/// version, with `-` in its second.
pub fn is_named_as_of(project: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(project) else {
        return false;
    };
    ['_', '-'].into_iter().any(|separator| {
        let mut parts = rest.rsplit(separator);
        let number = parts.next().unwrap_or_default();
        rest.starts_with(separator)
            && number.parse::<u16>().is_ok()
            && parts.next().is_some_and(|service| !service.is_empty())
    })
}

fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let labels = entries(value, "/Config/Labels");
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn environment(value: &Value) -> BTreeMap<String, Secret> {
    let lines = items(value, "/Config/Env").filter_map(Value::as_str);
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), Secret::new(value)))
        .collect()
}

fn mounts(value: &Value) -> Vec<Mounted> {
    let text = |mount: &Value, key: &str| mount[key].as_str().unwrap_or_default().to_owned();
    let of = |mount: &Value| Mounted {
        target: text(mount, "Destination").trim_end_matches('/').to_owned(),
        source: match mount["Type"].as_str() {
            Some("bind") => Source::Directory(text(mount, "Source")),
            Some("tmpfs") => Source::Memory,
            _ => Source::Volume(text(mount, "Name")),
        },
        read_only: mount["RW"].as_bool() == Some(false),
    };
    let listed = items(value, "/Mounts").map(of);
    // The engine lists these elsewhere.
    let memory = entries(value, "/HostConfig/Tmpfs").map(|(path, _)| Mounted {
        target: path.trim_end_matches('/').to_owned(),
        source: Source::Memory,
        read_only: false,
    });
    listed.chain(memory).collect()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

/// As `--cpus` says it, or as a share of a period of the scheduler's (0.1 s where it is not said).
fn processors(value: &Value) -> u64 {
    let period = match number(value, "/HostConfig/CpuPeriod") {
        0 => 100_000,
        period => period,
    };
    let by_share =
        u128::from(number(value, "/HostConfig/CpuQuota")) * 1_000_000_000 / u128::from(period);
    match number(value, "/HostConfig/NanoCpus") {
        0 => u64::try_from(by_share).unwrap_or(u64::MAX),
        said => said,
    }
}

fn published(value: &Value) -> Vec<Published> {
    let mut all = Vec::new();
    for (port, bindings) in entries(value, "/HostConfig/PortBindings") {
        let number = match port.split_once('/') {
            Some((number, "tcp")) => number,
            Some(_) => continue,
            None => port,
        };
        let Ok(container) = number.parse() else {
            continue;
        };
        for binding in bindings.as_array().into_iter().flatten() {
            all.push(Published {
                container,
                ip: binding["HostIp"].as_str().unwrap_or_default().to_owned(),
                host: binding["HostPort"]
                    .as_str()
                    .and_then(|port| port.parse().ok())
                    .filter(|port| *port > 0),
            });
        }
    }
    all
}

fn networks(value: &Value) -> BTreeMap<String, Attachment> {
    let of = |(name, endpoint): (&String, &Value)| {
        let aliases = items(endpoint, "/Aliases").filter_map(Value::as_str);
        let attachment = Attachment {
            id: endpoint["NetworkID"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            aliases: aliases.map(str::to_owned).collect(),
        };
        (name.clone(), attachment)
    };
    entries(value, "/NetworkSettings/Networks")
        .map(of)
        .collect()
}
