//! The variables that the vendors' images honour beyond octo-local's own, and what octo-local does
//! with each: hand it on, or refuse what cannot work here with the reason. To add one, add a row;
//! to add a way to judge a value, add a [`Rule`].

use std::collections::BTreeMap;

use super::Secret;

/// One variable of a vendor's image.
#[derive(Clone, Copy, Debug)]
pub struct Vendor {
    /// Its name.
    pub name: &'static str,
    /// Which values are handed on.
    pub rule: Rule,
}

/// Which values of a variable are handed on.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Every one.
    Any,
    /// None: the reason, and what to do.
    Never(&'static str, &'static str),
    /// These only, in whatever case; else the reason, and what to do.
    Only(&'static [&'static str], &'static str, &'static str),
    /// Paths inside the volume of SQL Server's data: whatever lies elsewhere goes with the
    /// container.
    InDataVolume,
    /// Paths outside the volumes that all nodes share: each node writes its own things there.
    OwnDirectory,
    /// Collations by which `a` and `A` are equal.
    CaseInsensitive,
    /// Ports that nothing else in the container listens on.
    FreePort,
}

const fn any(name: &'static str) -> Vendor {
    Vendor {
        name,
        rule: Rule::Any,
    }
}

const fn ruled(name: &'static str, rule: Rule) -> Vendor {
    Vendor { name, rule }
}

const NO_TLS: Rule = Rule::Never(
    "Octopus Server would look for a certificate in a file that no volume brings, and would not start",
    "leave it out, and let the front door speak TLS (FRONT_DOOR, TLS_CERT, TLS_KEY, HTTPS_PORT)",
);

/// Octopus Server's (octopus.com/docs `hardened-image`, `docker-compose-linux`,
/// `multi-node-polling-tentacles`; the vendor's Helm chart).
pub const OCTOPUS: &[Vendor] = &[
    any("ADMIN_EXTERNAL_ID"),
    any("ADMIN_OIDCIDENTITY_NAME"),
    any("ADMIN_OIDCIDENTITY_ISSUER"),
    any("ADMIN_OIDCIDENTITY_SUBJECT"),
    any("ADMIN_OIDCIDENTITY_AUDIENCE"),
    any("OCTOPUS_SERVER_URI"),
    ruled("SSL_CERTIFICATE_FILE", NO_TLS),
    ruled("SSL_CERTIFICATE_PASSWORD", NO_TLS),
    ruled(
        "WEB_FORCE_SSL",
        Rule::Only(
            &["false", "n", "no", "0"],
            "the port that is published speaks HTTP, and would turn everybody away",
            "set it to False, or leave it out",
        ),
    ),
    any("ENABLE_INSECURE_GRPC_LISTENER"),
    ruled(GRPC_PORT_KEY, Rule::FreePort),
    any("ENABLE_USAGE"),
    any("SERVICE_MODE"),
    ruled("OCTOPUS_SERVER_CONFIGURATION_DIRECTORY", Rule::OwnDirectory),
    any("HTTP_PROXY"),
    any("HTTPS_PROXY"),
    any("ALL_PROXY"),
    any("NO_PROXY"),
    any(REDIS),
    ruled(
        CLUSTER_SHARED_MODE,
        Rule::Only(
            &[
                "SEPARATE_VOLUMES",
                "SEPARATE_VOLUMES_WITH_CLUSTER_SHARED",
                "CLUSTER_SHARED",
            ],
            "it is none of the modes that Octopus Server knows",
            "set it to SEPARATE_VOLUMES, SEPARATE_VOLUMES_WITH_CLUSTER_SHARED or CLUSTER_SHARED",
        ),
    ),
    any(EXECUTIONS_SHARED),
    any(TIME_ZONE),
];

/// The queue that nodes share, which needs a directory that they share.
pub const REDIS: &str = "OCTOPUS_MULTI_NODE_POLLING_TENTACLES_REDIS_CONNECTION_STRING";
/// Which directories nodes share.
pub const CLUSTER_SHARED_MODE: &str = "CLUSTER_SHARED_MODE";
/// Whether transient data of executions has a directory that nodes share.
pub const EXECUTIONS_SHARED: &str = "USE_EXECUTIONS_CLUSTER_SHARED";
/// The time zone, which both images know.
pub const TIME_ZONE: &str = "TZ";
/// Paths in a node's container that are on volumes shared by all nodes.
const SHARED_PATHS: &[&str] = &["/repository", "/artifacts", "/taskLogs", "/eventExports"];
/// Where a node serves the portal and the API in its container (octopus.com/docs, Linux container).
pub const WEB_PORT: u16 = 8080;
/// Where it serves Tentacles that poll (the same).
pub const POLLING_PORT: u16 = 10943;
/// Where it serves gRPC for the Kubernetes monitor unless it is told otherwise (octopus.com/docs,
/// load balancers).
pub const GRPC_PORT: u16 = 8443;
/// What tells it otherwise.
pub const GRPC_PORT_KEY: &str = "OCTOPUS_GRPC_SERVICES_PORT";
/// The ports that Octopus Server listens on anyway.
const USED_PORTS: [u16; 2] = [WEB_PORT, POLLING_PORT];
/// Where SQL Server's volume is in its container.
pub const SQL_VOLUME: &str = "/var/opt/mssql";

/// SQL Server's (learn.microsoft.com, `sql-server-linux-configure-environment-variables`).
pub const SQL: &[Vendor] = &[
    ruled("MSSQL_COLLATION", Rule::CaseInsensitive),
    any("MSSQL_AGENT_ENABLED"),
    any("MSSQL_LCID"),
    ruled("MSSQL_BACKUP_DIR", Rule::InDataVolume),
    ruled("MSSQL_DATA_DIR", Rule::InDataVolume),
    ruled("MSSQL_LOG_DIR", Rule::InDataVolume),
    any("MSSQL_DUMP_DIR"),
    any("MSSQL_ENABLE_HADR"),
    ruled(
        "MSSQL_TCP_PORT",
        Rule::Only(
            &["1433"],
            "inside its network SQL Server is always reached at port 1433",
            "leave it out; SQL_PORT is the port on this host",
        ),
    ),
    ruled(
        "MSSQL_IP_ADDRESS",
        Rule::Only(
            &["0.0.0.0", "::"],
            "Octopus Server reaches SQL Server at an address that the engine chooses",
            "leave it out; SQL_BIND_ADDRESS is the address on this host",
        ),
    ),
    ruled("MSSQL_MASTER_DATA_FILE", Rule::InDataVolume),
    ruled("MSSQL_MASTER_LOG_FILE", Rule::InDataVolume),
    any("MSSQL_ERROR_LOG_FILE"),
    any(TIME_ZONE),
];

/// Whether a node keeps things in `/clusterShared`.
pub fn has_cluster_shared(extra: &BTreeMap<String, Secret>) -> bool {
    extra.get(CLUSTER_SHARED_MODE).is_some_and(|mode| {
        mode.expose()
            .trim()
            .to_uppercase()
            .ends_with("CLUSTER_SHARED")
    })
}

/// Whether a node keeps things in `/executionsClusterShared`.
pub fn has_executions_shared(extra: &BTreeMap<String, Secret>) -> bool {
    let is_yes = |value: &str| {
        matches!(
            value.trim().to_lowercase().as_str(),
            "true" | "y" | "yes" | "1"
        )
    };
    extra
        .get(EXECUTIONS_SHARED)
        .is_some_and(|value| is_yes(value.expose()))
}

impl Rule {
    /// Why a value is not handed on, and what to do; none for one that is.
    pub fn refusal(self, value: &str) -> Option<(&'static str, &'static str)> {
        let value = value.trim();
        match self {
            Self::Never(why, fix) => Some((why, fix)),
            Self::Only(values, why, fix) => {
                let is_one = values.iter().any(|good| good.eq_ignore_ascii_case(value));
                (!is_one).then_some((why, fix))
            }
            Self::InDataVolume => (!is_within(value, SQL_VOLUME)).then_some((
                "what lies outside the data volume is lost with the container",
                "choose a path below /var/opt/mssql, or leave it out",
            )),
            Self::OwnDirectory => {
                let is_shared = SHARED_PATHS.iter().any(|path| is_within(value, path));
                is_shared.then_some((
                    "all nodes share that volume, and each must have a directory of its own",
                    "choose another path, or leave it out",
                ))
            }
            Self::CaseInsensitive => {
                let upper = value.to_ascii_uppercase();
                let is_sensitive = upper.contains("_CS") || upper.contains("_BIN");
                is_sensitive.then_some((
                    "Octopus Server needs a collation by which `a` and `A` are equal",
                    "choose one with _CI in its name, such as Latin1_General_CI_AS, or leave it out",
                ))
            }
            Self::FreePort => {
                let port = value.parse::<u16>().ok();
                let is_free = port.is_some_and(|port| port > 0 && !USED_PORTS.contains(&port));
                (!is_free).then_some((
                    "it is no port that is free in the container",
                    "choose another than 8080 and 10943, from 1 to 65535",
                ))
            }
            Self::Any => None,
        }
    }
}

/// Where a node serves gRPC in its container.
pub fn grpc_port(extra: &BTreeMap<String, Secret>) -> u16 {
    let given = extra.get(GRPC_PORT_KEY);
    let given = given.and_then(|port| port.expose().trim().parse().ok());
    given.unwrap_or(GRPC_PORT)
}

/// Whether an absolute path lies in a directory or is it, `.` and `..` resolved as a path has them.
fn is_within(path: &str, directory: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let wanted = directory.split('/').filter(|part| !part.is_empty());
    let mut parts = parts.into_iter();
    wanted.into_iter().all(|part| parts.next() == Some(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(name: &str, value: &str) -> bool {
        let row = OCTOPUS.iter().chain(SQL).find(|row| row.name == name);
        row.unwrap().rule.refusal(value).is_some()
    }

    #[test]
    fn what_cannot_work_is_refused_and_the_rest_handed_on() {
        for (name, value) in [
            ("MSSQL_DATA_DIR", "/data"),
            ("MSSQL_DATA_DIR", "data"),
            ("MSSQL_DATA_DIR", "/var/opt/mssql-data"),
            ("MSSQL_LOG_DIR", "/var/opt/mssql/../log"),
            ("MSSQL_MASTER_DATA_FILE", "/master.mdf"),
            ("MSSQL_BACKUP_DIR", "/backup"),
            ("MSSQL_TCP_PORT", "1434"),
            ("MSSQL_IP_ADDRESS", "127.0.0.1"),
            ("MSSQL_COLLATION", "SQL_Latin1_General_CP1_CS_AS"),
            ("MSSQL_COLLATION", "Latin1_General_100_BIN2"),
            ("SSL_CERTIFICATE_FILE", "/certificate.pfx"),
            ("WEB_FORCE_SSL", "True"),
            ("OCTOPUS_GRPC_SERVICES_PORT", "8080"),
            ("OCTOPUS_GRPC_SERVICES_PORT", "many"),
            ("CLUSTER_SHARED_MODE", "SHARED"),
            (
                "OCTOPUS_SERVER_CONFIGURATION_DIRECTORY",
                "/artifacts/config",
            ),
        ] {
            assert!(is_refused(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("MSSQL_DATA_DIR", "/var/opt/mssql/data2/"),
            ("MSSQL_DATA_DIR", "/var/opt/mssql"),
            ("MSSQL_LOG_DIR", "/var/opt/./mssql//log"),
            ("MSSQL_TCP_PORT", "1433"),
            ("MSSQL_IP_ADDRESS", "0.0.0.0"),
            ("MSSQL_COLLATION", "Latin1_General_CI_AS"),
            ("WEB_FORCE_SSL", "False"),
            ("OCTOPUS_GRPC_SERVICES_PORT", "8443"),
            ("CLUSTER_SHARED_MODE", "CLUSTER_SHARED"),
            (
                "OCTOPUS_SERVER_CONFIGURATION_DIRECTORY",
                "/home/octopus/configuration",
            ),
            ("TZ", "Europe/Berlin"),
        ] {
            assert!(!is_refused(name, value), "{name}={value}");
        }
    }
}
