//! Desired state: a `StackSpec` is wholly decided, so nothing after it has a choice left about what
//! to run.
//!
//! `build` turns a validated configuration and the secrets of this project into containers, volumes
//! and ports; `digest` gives each container definition the fingerprint by which a later run knows
//! its own work again.

pub mod build;
pub mod diff;
pub mod digest;
pub mod front_door;
pub mod labels;
pub mod storage;
pub mod tentacle;
pub mod tentacle_name;
pub mod unit;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;

use serde::Deserialize;
use serde::Serialize;

use crate::config::Pull;
use crate::config::Secret;
use crate::config::Timing;
use crate::config::limits::Limits;
use crate::config::ports::loopback;
use crate::config::project::ProjectName;
pub use digest::Digest;
pub use front_door::FrontDoorSpec;
pub use storage::Storage;
pub use unit::Role;
pub use unit::UnitId;

/// What is to run, for one project.
///
/// The state file keeps it: a field that is added means by default what was done before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StackSpec {
    /// The project: the prefix of every name and the value of our project label.
    pub project: ProjectName,
    /// Whether the images are octo-local's own stand-ins.
    pub demo: bool,
    /// The directory the configuration came from, as compose's label records it.
    pub working_dir: String,
    /// The network all containers join.
    pub network: String,
    /// Where each kind of data is, by its key.
    pub volumes: BTreeMap<String, Storage>,
    /// The SQL Server container; `None` when the database is somebody else's.
    pub sql: Option<ContainerSpec>,
    /// Where and as whom the daemon asks the database whether it is well.
    pub database: DatabaseTarget,
    /// The one address for all nodes, if there is to be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_door: Option<FrontDoorSpec>,
    /// The Octopus Server containers, node 1 first.
    pub nodes: Vec<ContainerSpec>,
    /// The Tentacles. They are made anew of what is kept of each, so they are not kept with this.
    #[serde(skip)]
    pub tentacles: Vec<ContainerSpec>,
    /// When images are fetched.
    pub pull: Pull,
    /// How long things may take, and how often they are asked. Changing it recreates nothing.
    pub timing: Timing,
    /// The person's own name and the address to open, for the summary of `up`.
    pub admin_username: String,
}

/// One container definition. Every field is part of the digest: what must not recreate a container
/// is kept elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Which unit of the stack it is.
    pub unit: UnitId,
    /// The container's name.
    pub name: String,
    /// The image reference, `repository:tag`.
    pub image: String,
    /// The stable host name.
    pub hostname: String,
    /// The environment. All of it may be secret, so none of it can be formatted.
    pub env: BTreeMap<String, Secret>,
    /// What is mounted, by path in the container.
    pub mounts: BTreeMap<String, Storage>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Names on the network besides the container's own.
    pub aliases: Vec<String>,
    /// Full privileges, which Docker-in-Docker needs.
    pub privileged: bool,
    /// Keep standard input open: Octopus Server waits on it to close.
    pub open_stdin: bool,
    /// Seconds between SIGTERM and SIGKILL when somebody else stops it.
    pub stop_timeout_s: u32,
    /// Bounds of the container's log: size of one file, and how many.
    pub log_max_size: String,
    /// How many log files the engine keeps.
    pub log_max_files: u32,
    /// The user it runs as, and a group after a colon; none is the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Host names beyond the network's, as `name:address`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// Networks of others, by name, that it joins beside the stack's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// What else of the host it sees, by path in the container. It is no data of the stack's: in no
    /// backup, no export and no copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_mounts: Vec<ExtraMount>,
    /// What it may have at most.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

/// Something that a person wants mounted beside the stack's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtraMount {
    /// Where in the container.
    pub target: String,
    /// What.
    pub source: Storage,
    /// The container may not write to it.
    pub read_only: bool,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The port inside the container.
    pub container: u16,
    /// The address on the host it is bound to.
    pub host_ip: IpAddr,
    /// The port on the host.
    pub host: u16,
}

impl Default for Port {
    fn default() -> Self {
        Self {
            container: 0,
            host_ip: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            host: 0,
        }
    }
}

impl Port {
    /// Where the host itself reaches it. A wildcard is reached over loopback.
    pub fn reached_at(&self) -> SocketAddr {
        let ip = if self.host_ip.is_unspecified() {
            loopback(self.host_ip)
        } else {
            self.host_ip
        };
        SocketAddr::new(ip, self.host)
    }
}

/// How the daemon reaches the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseTarget {
    /// Host name or address, as seen from the host.
    pub host: String,
    /// TCP port, as seen from the host.
    pub port: u16,
    /// The login.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The database Octopus uses; the probe logs in to `master`, since this one may not exist yet.
    pub database: String,
}

impl DatabaseTarget {
    /// The server as it is told from others, `host:port`: one spelling, however it was written.
    /// Names are in lower case and without the root's dot, addresses in their one short form.
    pub fn server(&self) -> String {
        let host = self.host.to_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let address = host.trim_start_matches('[').trim_end_matches(']');
        match address.parse::<std::net::IpAddr>() {
            Ok(address) => format!("{}:{}", address.to_canonical(), self.port),
            Err(_) => format!("{host}:{}", self.port),
        }
    }
}

impl StackSpec {
    /// All containers in start order. Tentacles have none, and are not among them.
    pub fn containers(&self) -> impl DoubleEndedIterator<Item = &ContainerSpec> {
        self.sql.iter().chain(self.nodes.iter())
    }

    /// The definition of one unit.
    pub fn container(&self, unit: UnitId) -> Option<&ContainerSpec> {
        let mut all = self.containers().chain(&self.tentacles);
        all.find(|container| container.unit == unit)
    }

    /// The volumes that are ours: what is to be made, and what may be removed.
    pub fn our_volumes(&self) -> impl Iterator<Item = &str> {
        self.volumes.values().filter_map(Storage::ours)
    }

    /// Where SQL Server's data is; none where the database is somebody else's.
    pub fn data(&self) -> Option<&Storage> {
        self.volumes
            .get(build::SQL_DATA)
            .filter(|_| self.sql.is_some())
    }

    /// Every image, once.
    pub fn images(&self) -> Vec<&str> {
        let mut images: Vec<&str> = self
            .containers()
            .map(|container| container.image.as_str())
            .collect();
        images.sort_unstable();
        images.dedup();
        images
    }

    /// Every unit in start order. The database is a unit also when it is external: it is probed,
    /// never touched.
    pub fn units(&self) -> Vec<UnitId> {
        std::iter::once(UnitId::Sql)
            .chain(self.nodes.iter().map(|node| node.unit))
            .collect()
    }

    /// The API key of the first user, if it has one.
    pub fn api_key(&self) -> Option<&Secret> {
        self.nodes.first()?.env.get("ADMIN_API_KEY")
    }

    /// The same stack as it is kept: its Tentacles are kept apart.
    #[must_use]
    pub fn without_tentacles(mut self) -> Self {
        self.tentacles.clear();
        self
    }

    /// The same stack without full privileges, for hosts that refuse them.
    #[must_use]
    pub fn without_privileges(mut self) -> Self {
        for node in &mut self.nodes {
            node.privileged = false;
        }
        self
    }
}

impl ContainerSpec {
    /// The fingerprint of this definition.
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// What a node is called on Octopus Server's list of nodes.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.env.get("OCTOPUS_SERVER_NODE_NAME")?;
        Some(name.expose())
    }

    /// The address on the host where the unit answers: its first published port. A wildcard is
    /// reached over loopback.
    pub fn host_address(&self) -> Option<SocketAddr> {
        self.ports.first().map(Port::reached_at)
    }

    /// What of the host leads to this port of the container.
    pub fn published(&self, inside: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.container == inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ado::ConnectionString;

    #[test]
    fn a_server_is_one_however_it_is_spelled() {
        let server = |text: &str| {
            let read = ConnectionString::parse(&format!("Server={text};User Id=sa")).unwrap();
            let target = DatabaseTarget {
                host: read.host,
                port: read.port,
                ..DatabaseTarget::default()
            };
            target.server()
        };
        for text in [
            "sql.example.com",
            "SQL.Example.com,1433",
            "tcp:sql.example.com , 1433",
            "TCP:sql.example.com.",
        ] {
            assert_eq!(server(text), "sql.example.com:1433", "{text}");
        }
        for text in ["fd00::1", "[FD00:0:0::1]", "tcp:fd00:0:0:0:0:0:0:1,1433"] {
            assert_eq!(server(text), "fd00::1:1433", "{text}");
        }
        assert_eq!(server("::ffff:10.0.0.9"), server("10.0.0.9"));
        assert_ne!(server("sql.example.com,1434"), server("sql.example.com"));
        assert_ne!(server("sql2.example.com"), server("sql.example.com"));
    }
}
