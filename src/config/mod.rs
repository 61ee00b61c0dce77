//! From variables to a configuration: every problem at once, each with the key, the reason and the
//! fix, and never a secret.

pub mod ado;
pub mod backup;
mod defaults;
pub mod front_door;
pub mod image;
pub mod keys;
pub mod licence;
pub mod limits;
pub mod mounts;
pub mod network;
pub mod password;
pub mod ports;
pub mod project;
pub mod read;
pub mod secret;
pub mod storage;
pub mod timing;
pub mod values;
pub mod vendor;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

pub use read::Input;
pub use read::Read;
pub use read::read;
pub use secret::Secret;
pub use timing::Timing;

/// Something wrong with the input, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The key or flag it is about.
    pub key: String,
    /// Its value, unless that may be secret.
    pub value: Option<String>,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub fix: String,
    /// Where it was written, such as `.env:12`.
    pub origin: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.key)?;
        if let Some(value) = &self.value {
            let between = if self.key.starts_with('-') { ' ' } else { '=' };
            write!(out, "{between}{value}")?;
        }
        if let Some(origin) = &self.origin {
            write!(out, " ({origin})")?;
        }
        write!(out, ": {}", self.why)?;
        if !self.fix.is_empty() {
            write!(out, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// A configuration without a mistake that can be seen in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Whether the images are stand-ins.
    pub demo: bool,
    /// The SQL Server to run; `None` when the database is somebody else's.
    pub sql: Option<SqlConfig>,
    /// Where Octopus and the daemon find the database, from inside the network.
    pub database: DatabaseConfig,
    /// The Octopus nodes.
    pub octopus: OctopusConfig,
    /// When images are fetched.
    pub pull: Pull,
    /// How often and how long.
    pub timing: Timing,
    /// Size of one log file of a container, in the engine's notation.
    pub log_max_size: String,
    /// How many log files the engine keeps for each container.
    pub log_max_files: u32,
    /// How it is backed up.
    pub backup: backup::BackupConfig,
    /// The one address for all nodes.
    pub front_door: front_door::FrontDoorConfig,
    /// Ports beside those of SQL Server and the web address.
    pub ports: ports::PortsConfig,
    /// Where a person wants data to be.
    pub storage: storage::Places,
    /// The image of Tentacles that name none of their own.
    pub tentacle_image: String,
}

impl Config {
    /// The same with another password of `sa`, also where Octopus Server logs in as `sa`. None where
    /// there is no SQL Server of the stack's own.
    #[must_use]
    pub fn with_sa_password(&self, password: &Secret) -> Option<Self> {
        let mut config = self.clone();
        config.sql.as_mut()?.sa_password = password.clone();
        // Quotes that the password of before needed are of the string that somebody wrote alone.
        if self.makes_its_connection_string() {
            config.database = read::generated_database(config.sql.as_ref());
            return Some(config);
        }
        let database = &mut config.database;
        if database.user.eq_ignore_ascii_case("sa") {
            let string = database.connection_string.expose();
            database.connection_string = ado::with_password(string, password.expose())?;
            database.password = password.clone();
        }
        Some(config)
    }

    /// Whether the connection string is made from the password of `sa`, since nobody gave one.
    fn makes_its_connection_string(&self) -> bool {
        self.sql.is_some() && self.database == read::generated_database(self.sql.as_ref())
    }
}

/// The SQL Server container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SqlConfig {
    /// Image reference.
    pub image: String,
    /// The password of `sa`.
    pub sa_password: Secret,
    /// The port on the host.
    pub port: u16,
    /// The address on the host.
    pub bind: IpAddr,
    /// `MSSQL_MEMORY_LIMIT_MB`.
    pub memory_limit_mb: u32,
    /// `MSSQL_PID`, the edition.
    pub edition: String,
    /// What its container may have at most.
    #[serde(default)]
    pub limits: limits::Limits,
    /// Vendor variables that a `.env` names.
    pub extra: BTreeMap<String, Secret>,
}

/// The database as Octopus sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseConfig {
    /// Host name inside the network.
    pub host: String,
    /// Port inside the network.
    pub port: u16,
    /// The login.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The database.
    pub name: String,
    /// The connection string for Octopus: as written, or made.
    pub connection_string: Secret,
}

/// The Octopus Server containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OctopusConfig {
    /// Image without tag.
    pub image: String,
    /// The tag, which is the version; with a digest after it, `2026.2@sha256:…`, or a digest alone,
    /// `@sha256:…`.
    pub tag: String,
    /// How many nodes.
    pub nodes: u8,
    /// The first node's name.
    pub node_name: String,
    /// The web port on the host: the front door's, else the first node's.
    pub port: u16,
    /// The address on the host.
    pub bind: IpAddr,
    /// The first user.
    pub admin_username: String,
    /// The first user's password; empty where an API key or an OIDC identity makes the user.
    pub admin_password: Secret,
    /// The first user's mail address.
    pub admin_email: String,
    /// An API key for the first user.
    pub admin_api_key: Option<Secret>,
    /// The licence.
    pub licence: Option<Secret>,
    /// The master key, if a person gave it.
    pub master_key: Option<Secret>,
    /// Run without Docker-in-Docker, and so without privileges.
    pub disable_dind: bool,
    /// The user that the nodes run as, instead of the image's.
    #[serde(default)]
    pub user: Option<String>,
    /// Networks of others that the nodes join too.
    #[serde(default)]
    pub networks: Vec<String>,
    /// What else they see of the host.
    #[serde(default)]
    pub extra_mounts: Vec<mounts::ExtraMount>,
    /// Host names that they know beyond the network's.
    #[serde(default)]
    pub extra_hosts: Vec<mounts::ExtraHost>,
    /// What each container may have at most.
    #[serde(default)]
    pub limits: limits::Limits,
    /// What is done when a new version does not come up.
    pub after_failed_upgrade: AfterFailedUpgrade,
    /// Tasks at once, per node.
    pub task_cap: Option<u32>,
    /// `OCTOPUS_NODE_<N>_TASK_CAP`: the same of single nodes, by their numbers.
    #[serde(default)]
    pub node_task_caps: BTreeMap<u8, u32>,
    /// Vendor variables that a `.env` names.
    pub extra: BTreeMap<String, Secret>,
}

impl OctopusConfig {
    /// The reference of the nodes' image.
    pub fn reference(&self) -> String {
        versioned(&self.image, &self.tag)
    }
}

/// A reference of an image without a version, and its version: a tag, perhaps with a digest after
/// it, or a digest alone, `@sha256:…`.
fn versioned(image: &str, version: &str) -> String {
    match version.strip_prefix('@') {
        Some(digest) => format!("{image}@{digest}"),
        None => format!("{image}:{version}"),
    }
}

/// What is done when the first node of a new version does not come up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterFailedUpgrade {
    /// A person decides.
    #[default]
    Ask,
    /// What was before comes back: image, database and files.
    RollBack,
}

/// When images are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// When the engine does not have them.
    #[default]
    Missing,
    /// At every `up`.
    Always,
    /// Never; what is missing is an error.
    Never,
}

/// Far more nodes than one host carries.
pub const MAX_NODES: u8 = 16;

/// The commented file that `init` begins with.
pub const ENV_EXAMPLE: &str = include_str!("../../compose/env.example");
