//! What the container's environment asks of the stand-in: the vendor's variables, and
//! `STANDIN_OCTOPUS_*` for trials.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `STANDIN_OCTOPUS_VERSION` | 2026.2.0 | the version it claims to be |
//! | `STANDIN_OCTOPUS_PORT`, `_BIND` | 8080, 0.0.0.0 | where it serves HTTP; on another port than in a container it serves neither polling Tentacles nor gRPC |
//! | `STANDIN_OCTOPUS_ROOT` | / | where `/repository`, `/cache` and `/Octopus` are looked for |
//! | `STANDIN_OCTOPUS_DB_TIMEOUT_S` | 30 | how long it tries to reach the database |
//! | `STANDIN_OCTOPUS_MIGRATE_MS` | 400 | how long it checks and upgrades the schema |
//! | `STANDIN_OCTOPUS_UPGRADE_MS` | 0 | how much longer the scripts of an upgrade take, with a line for each |
//! | `STANDIN_OCTOPUS_GHOST_MS` | 3000 | how long a node that vanished holds up an upgrade (a heartbeat comes every second) |
//! | `STANDIN_OCTOPUS_POLL_MS` | 250 | between two looks at the queue of tasks; the vendor's take 20 s |
//! | `STANDIN_OCTOPUS_ABANDON_MS` | 3600000 | after how long other nodes give up a vanished node's tasks |
//! | `STANDIN_OCTOPUS_FILE_KB` | 4 | the size of the artifact and the package that a task leaves |
//! | `STANDIN_OCTOPUS_STOP_MS` | 100 | how long it takes to stop |
//! | `STANDIN_OCTOPUS_FAULT`, `STANDIN_OCTOPUS_FAULT_<NODE>` | none | see [`super::faults`] |

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::fatal::Fatal;
use super::faults::Faults;
use super::licence::Licence;
use crate::config::Secret;
use crate::config::ado::ConnectionString;
use crate::config::vendor;
use crate::spec::DatabaseTarget;

/// The version it claims to be when nothing says another.
const VERSION: &str = "2026.2.0";
/// The vendor's default for `TASK_CAP`.
const TASK_CAP: u32 = 5;

/// The environment, read.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Whether the vendor's licence agreement was accepted.
    pub(super) eula: bool,
    /// The node's name: `OCTOPUS_SERVER_NODE_NAME`, else the host's.
    pub(super) node: String,
    /// The version it claims to be.
    pub(super) version: String,
    /// `DB_CONNECTION_STRING`, as it came.
    pub(super) connection_string: Secret,
    /// `MASTER_KEY`; empty when not given.
    pub(super) master_key: Secret,
    /// `ADMIN_API_KEY`; empty when not given, and then calls that need a key are refused.
    pub(super) api_key: Secret,
    /// `TASK_CAP`.
    pub(super) task_cap: u32,
    /// Where it serves HTTP.
    pub(super) address: SocketAddr,
    /// The ports for Tentacles that poll and for gRPC. None outside a container, where the host's
    /// own may be on them.
    pub(super) direct_ports: Vec<u16>,
    /// Where the vendor's directories are.
    pub(super) root: PathBuf,
    /// How long it tries to reach the database.
    pub(super) database_timeout: Duration,
    /// How long the check and upgrade of the schema takes.
    pub(super) migration: Duration,
    /// How long the scripts of an upgrade take beyond that, all together.
    pub(super) upgrade: Duration,
    /// How long stopping takes.
    pub(super) stop: Duration,
    /// Between two looks at the queue of tasks.
    pub(super) poll: Duration,
    /// After how long other nodes give up the tasks of a node that vanished.
    pub(super) abandon: Duration,
    /// How long a node that vanished looks as if it ran, and holds up an upgrade.
    pub(super) ghost: Duration,
    /// The size of each file that a task leaves.
    pub(super) file_kilobytes: usize,
    /// `OCTOPUS_SERVER_BASE64_LICENSE`, where it is given and one.
    pub(super) licence: Option<Licence>,
    /// The faults that are switched on for this node.
    pub(super) faults: Faults,
}

impl Settings {
    /// Reads them; `var` gives a variable's value.
    pub(super) fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, Fatal> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let node = var("OCTOPUS_SERVER_NODE_NAME").unwrap_or_else(host_name);
        let faults = [var("STANDIN_OCTOPUS_FAULT"), var(&fault_variable(&node))];
        let bind = number(
            &var,
            "STANDIN_OCTOPUS_BIND",
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        )?;
        let port = number(&var, "STANDIN_OCTOPUS_PORT", vendor::WEB_PORT)?;
        let millis = |name, default| number(&var, name, default).map(Duration::from_millis);
        Ok(Self {
            eula: var("ACCEPT_EULA").is_some_and(|value| value.eq_ignore_ascii_case("y")),
            version: var("STANDIN_OCTOPUS_VERSION").unwrap_or_else(|| VERSION.to_owned()),
            connection_string: Secret::new(var("DB_CONNECTION_STRING").unwrap_or_default()),
            master_key: Secret::new(var("MASTER_KEY").unwrap_or_default()),
            api_key: Secret::new(var("ADMIN_API_KEY").unwrap_or_default()),
            task_cap: number(&var, "TASK_CAP", TASK_CAP)?,
            address: SocketAddr::new(bind, port),
            direct_ports: if port == vendor::WEB_PORT {
                vec![
                    vendor::POLLING_PORT,
                    number(&var, vendor::GRPC_PORT_KEY, vendor::GRPC_PORT)?,
                ]
            } else {
                Vec::new()
            },
            root: var("STANDIN_OCTOPUS_ROOT")
                .unwrap_or_else(|| "/".to_owned())
                .into(),
            database_timeout: Duration::from_secs(number(
                &var,
                "STANDIN_OCTOPUS_DB_TIMEOUT_S",
                30,
            )?),
            migration: millis("STANDIN_OCTOPUS_MIGRATE_MS", 400)?,
            upgrade: millis("STANDIN_OCTOPUS_UPGRADE_MS", 0)?,
            stop: millis("STANDIN_OCTOPUS_STOP_MS", 100)?,
            poll: millis("STANDIN_OCTOPUS_POLL_MS", 250)?,
            abandon: millis("STANDIN_OCTOPUS_ABANDON_MS", 3_600_000)?,
            ghost: millis("STANDIN_OCTOPUS_GHOST_MS", 3000)?,
            file_kilobytes: number(&var, "STANDIN_OCTOPUS_FILE_KB", 4)?,
            licence: var("OCTOPUS_SERVER_BASE64_LICENSE").and_then(|text| Licence::parse(&text)),
            faults: Faults::parse(&faults.into_iter().flatten().collect::<Vec<_>>().join(","))?,
            node,
        })
    }

    /// The database that the connection string names.
    pub(super) fn target(&self) -> Result<DatabaseTarget, Fatal> {
        let read = ConnectionString::parse(self.connection_string.expose())?;
        if read.database.is_empty() {
            return Err(Fatal::Setting(
                "DB_CONNECTION_STRING names no database".to_owned(),
            ));
        }
        let ConnectionString {
            host,
            port,
            user,
            password,
            database,
            ..
        } = read;
        Ok(DatabaseTarget {
            host,
            port,
            user,
            password,
            database,
        })
    }
}

fn number<T: FromStr>(
    var: &dyn Fn(&str) -> Option<String>,
    name: &str,
    default: T,
) -> Result<T, Fatal> {
    let wrong = |value: String| Fatal::Setting(format!("{name} cannot be `{value}`"));
    var(name).map_or(Ok(default), |value| value.parse().map_err(|_| wrong(value)))
}

/// The variable that switches faults on for one node: its name in capitals, all but letters and
/// digits as `_`.
fn fault_variable(node: &str) -> String {
    let name: String = node
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    format!("STANDIN_OCTOPUS_FAULT_{name}")
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() {
        "octopus".to_owned()
    } else {
        name.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Fatal> {
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        Settings::read(&|name| {
            variables
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn the_vendors_variables_and_ours_are_read() {
        let settings = read(&[
            ("ACCEPT_EULA", "Y"),
            ("OCTOPUS_SERVER_NODE_NAME", "octopus-2"),
            (
                "DB_CONNECTION_STRING",
                "Server=db,1499;Database=Octopus;User Id=SA;Password=x",
            ),
            ("STANDIN_OCTOPUS_PORT", "8123"),
            ("STANDIN_OCTOPUS_FAULT", "flap=3"),
            ("STANDIN_OCTOPUS_FAULT_OCTOPUS_2", "slow-start=2@once"),
            ("STANDIN_OCTOPUS_FAULT_OCTOPUS_1", "eula"),
        ])
        .unwrap();
        assert!(settings.eula);
        assert_eq!(settings.address.to_string(), "0.0.0.0:8123");
        assert_eq!(settings.direct_ports, [0; 0], "it is in no container");
        let in_a_container = read(&[("OCTOPUS_GRPC_SERVICES_PORT", "9443")]).unwrap();
        assert_eq!(in_a_container.direct_ports, [10943, 9443]);
        assert_eq!(settings.target().unwrap().database, "Octopus");
        assert_eq!(settings.faults.to_string(), "flap=3,slow-start=2@once");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [
            ("STANDIN_OCTOPUS_PORT", "x"),
            ("STANDIN_OCTOPUS_FAULT", "meteor"),
            ("TASK_CAP", "-1"),
        ] {
            assert!(
                matches!(read(&[(name, value)]), Err(Fatal::Setting(_))),
                "{name}"
            );
        }
        let nameless =
            read(&[("DB_CONNECTION_STRING", "Server=db;User Id=SA;Password=x")]).unwrap();
        assert!(nameless.target().is_err());
    }
}
