//! Every variable octo-local knows: the one table behind defaults, `env.example`, masking and the
//! suggestion for a typing mistake.

use super::vendor;

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The value when it is not set; `None` when there is none.
    pub default: Option<&'static str>,
    /// Whether its value is never shown.
    pub secret: bool,
}

const fn key(name: &'static str, default: &'static str) -> Key {
    Key {
        name,
        default: Some(default),
        secret: false,
    }
}

const fn unset(name: &'static str) -> Key {
    Key {
        name,
        default: None,
        secret: false,
    }
}

const fn secret(name: &'static str) -> Key {
    Key {
        name,
        default: None,
        secret: true,
    }
}

/// The variables that octo-local itself reads.
pub const KEYS: &[Key] = &[
    secret("SA_PASSWORD"),
    secret("MSSQL_SA_PASSWORD"),
    key("OCTOPUS_SERVER_TAG", "latest"),
    key("SQL_IMAGE", "mcr.microsoft.com/mssql/server"),
    key("ADMIN_USERNAME", "admin"),
    secret("ADMIN_PASSWORD"),
    key("ADMIN_EMAIL", "octopus@example.local"),
    unset("ACCEPT_EULA"),
    unset("ACCEPT_OCTOPUS_EULA"),
    key("OCTOPUS_SERVER_NODE_NAME", "octopus"),
    secret("DB_CONNECTION_STRING"),
    secret("OCTOPUS_SERVER_BASE64_LICENSE"),
    secret("MASTER_KEY"),
    secret("ADMIN_API_KEY"),
    key("DISABLE_DIND", "N"),
    unset("CONTAINER_USER"),
    key("OCTOPUS_NODES", "1"),
    key("OCTOPUS_IMAGE", "octopusdeploy/octopusdeploy"),
    key("TENTACLE_TAG", "latest"),
    key("OCTOPUS_PORT", "8080"),
    unset("EXTRA_NETWORKS"),
    unset("EXTRA_MOUNTS"),
    unset("EXTRA_HOSTS"),
    unset("OCTOPUS_MEMORY"),
    unset("OCTOPUS_CPUS"),
    unset("SQL_MEMORY"),
    unset("SQL_CPUS"),
    key("SQL_PORT", "1401"),
    key("BIND_ADDRESS", "127.0.0.1"),
    key("SQL_BIND_ADDRESS", "127.0.0.1"),
    key("SQL_MEMORY_LIMIT_MB", "2048"),
    key("MSSQL_PID", "Express"),
    unset("TASK_CAP"),
    key("PULL", "missing"),
    key("LOG_MAX_SIZE", "10m"),
    key("LOG_MAX_FILES", "3"),
    key("START_PROBE_INTERVAL", "50ms"),
    key("START_PROBE_SLOW_INTERVAL", "250ms"),
    key("START_PROBE_FAST_WINDOW", "2m"),
    key("PROBE_INTERVAL", "5s"),
    key("PROBE_TIMEOUT", "2s"),
    key("PROBE_MISSES", "3"),
    key("NODE_START_LIMIT", "30m"),
    key("SQL_START_LIMIT", "10m"),
    key("SQL_REFUSED_GRACE", "20s"),
    key("DRAIN_TIMEOUT", "10m"),
    key("NODE_STOP_GRACE", "60s"),
    key("SQL_STOP_LIMIT", "120s"),
    key("RESTART_BACKOFF_FIRST", "1s"),
    key("RESTART_BACKOFF_MAX", "60s"),
    key("RESTART_BACKOFF_RESET", "10m"),
    key("UPGRADE_ROLLBACK", "ask"),
    unset("BACKUP_DIR"),
    unset("BACKUP_KEEP"),
    unset("BACKUP_SCHEDULE"),
    unset("BACKUP_RECIPIENT"),
    key("FRONT_DOOR", "on"),
    unset("TLS_CERT"),
    unset("TLS_KEY"),
    unset("HTTPS_PORT"),
    key("HOLD_TIMEOUT", "0"),
    unset("FRONT_DOOR_TRUSTED_PROXIES"),
    key("FRONT_DOOR_ACCESS_LOG", "off"),
    unset("OCTOPUS_NODE_PORT_BASE"),
    unset("OCTOPUS_NODE_BIND_ADDRESS"),
    unset("OCTOPUS_POLLING_PORT_BASE"),
    unset("OCTOPUS_POLLING_BIND_ADDRESS"),
    unset("OCTOPUS_GRPC_PORT"),
    unset("SQL_DATA"),
    unset("REPOSITORY"),
    unset("ARTIFACTS"),
    unset("TASK_LOGS"),
    unset("EVENT_EXPORTS"),
    unset("IMPORT"),
];

/// The prefixes of what stand-ins honour: fault switches and delays.
pub const STANDIN_SQL: &str = "STANDIN_SQL_";
/// See [`STANDIN_SQL`].
pub const STANDIN_OCTOPUS: &str = "STANDIN_OCTOPUS_";
/// The vendor's image of a Tentacle, without a version.
pub const TENTACLE_IMAGE: &str = "octopusdeploy/tentacle";

/// Variables that other tools put into the same file.
const FOREIGN: &[&str] = &[
    "COMPOSE_",
    "DOCKER_",
    "OCTO_LOCAL_",
    STANDIN_SQL,
    STANDIN_OCTOPUS,
];

/// Keys of newer vendor files that mean nothing here, because octo-local decides it itself.
const DECIDED: &[&str] = &["PRIVILEGED"];

/// Names that other tools, older images and people give to known keys, where the spelling alone
/// does not tell.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("OCTOPUS_SERVER_NODE", "OCTOPUS_SERVER_NODE_NAME"),
    ("OCTOPUS_NODE_NAME", "OCTOPUS_SERVER_NODE_NAME"),
    ("NODE_NAME", "OCTOPUS_SERVER_NODE_NAME"),
    ("OCTOPUS_VERSION", "OCTOPUS_SERVER_TAG"),
    ("OCTOPUS_SERVER_VERSION", "OCTOPUS_SERVER_TAG"),
    ("OCTOPUS_TAG", "OCTOPUS_SERVER_TAG"),
    ("OCTOPUS_IMAGE_TAG", "OCTOPUS_SERVER_TAG"),
    ("OCTOPUS_SERVER_IMAGE", "OCTOPUS_IMAGE"),
    ("TENTACLE_VERSION", "TENTACLE_TAG"),
    ("OCTOPUS_TENTACLE_TAG", "TENTACLE_TAG"),
    ("TENTACLE_IMAGE_TAG", "TENTACLE_TAG"),
    ("OCTOPUS_ACCEPT_EULA", "ACCEPT_OCTOPUS_EULA"),
    ("OCTOPUS_EULA", "ACCEPT_OCTOPUS_EULA"),
    ("MSSQL_ACCEPT_EULA", "ACCEPT_EULA"),
    ("SQL_ACCEPT_EULA", "ACCEPT_EULA"),
    ("ACCEPT_SQL_EULA", "ACCEPT_EULA"),
    ("OCTOPUS_ADMIN_USERNAME", "ADMIN_USERNAME"),
    ("OCTOPUS_ADMIN_USER", "ADMIN_USERNAME"),
    ("ADMIN_USER", "ADMIN_USERNAME"),
    ("OCTOPUS_USERNAME", "ADMIN_USERNAME"),
    ("OCTOPUS_ADMIN_PASSWORD", "ADMIN_PASSWORD"),
    ("OCTOPUS_PASSWORD", "ADMIN_PASSWORD"),
    ("OCTOPUS_ADMIN_EMAIL", "ADMIN_EMAIL"),
    ("OCTOPUS_ADMIN_API_KEY", "ADMIN_API_KEY"),
    ("OCTOPUS_MASTER_KEY", "MASTER_KEY"),
    ("OCTOPUS_SERVER_MASTER_KEY", "MASTER_KEY"),
    ("OCTOPUS_LICENSE", "OCTOPUS_SERVER_BASE64_LICENSE"),
    ("OCTOPUS_LICENCE", "OCTOPUS_SERVER_BASE64_LICENSE"),
    ("OCTOPUS_LICENSE_BASE64", "OCTOPUS_SERVER_BASE64_LICENSE"),
    ("OCTOPUS_BASE64_LICENSE", "OCTOPUS_SERVER_BASE64_LICENSE"),
    ("OCTOPUS_SERVER_LICENSE", "OCTOPUS_SERVER_BASE64_LICENSE"),
    (
        "OCTOPUS_SERVER_LICENSE_BASE64",
        "OCTOPUS_SERVER_BASE64_LICENSE",
    ),
    ("LICENSE_BASE64", "OCTOPUS_SERVER_BASE64_LICENSE"),
    ("BASE64_LICENSE", "OCTOPUS_SERVER_BASE64_LICENSE"),
    ("CONNSTRING", "DB_CONNECTION_STRING"),
    ("CONNECTION_STRING", "DB_CONNECTION_STRING"),
    ("SQL_CONNECTION_STRING", "DB_CONNECTION_STRING"),
    ("OCTOPUS_DB_CONNECTION_STRING", "DB_CONNECTION_STRING"),
    ("OCTOPUS_CONNECTION_STRING", "DB_CONNECTION_STRING"),
    ("SQL_PASSWORD", "SA_PASSWORD"),
    ("SQL_SA_PASSWORD", "SA_PASSWORD"),
    ("SQL_SERVER_PASSWORD", "SA_PASSWORD"),
    ("MSSQL_PASSWORD", "SA_PASSWORD"),
    ("DB_PASSWORD", "SA_PASSWORD"),
    ("MSSQL_IMAGE", "SQL_IMAGE"),
    ("SQL_SERVER_IMAGE", "SQL_IMAGE"),
    ("MSSQL_PORT", "SQL_PORT"),
    ("MSSQL_MEMORY_LIMIT_MB", "SQL_MEMORY_LIMIT_MB"),
    ("SQL_EDITION", "MSSQL_PID"),
    ("SQL_COLLATION", "MSSQL_COLLATION"),
    ("OCTOPUS_SERVER_PORT", "OCTOPUS_PORT"),
    ("OCTOPUS_HTTP_PORT", "OCTOPUS_PORT"),
    ("HTTP_PORT", "OCTOPUS_PORT"),
    ("TLS_CERTIFICATE", "TLS_CERT"),
    ("SSL_CERT", "TLS_CERT"),
    ("SSL_KEY", "TLS_KEY"),
    ("OCTOPUS_HTTPS_PORT", "HTTPS_PORT"),
    ("LOAD_BALANCER", "FRONT_DOOR"),
    ("TRUSTED_PROXIES", "FRONT_DOOR_TRUSTED_PROXIES"),
    ("ACCESS_LOG", "FRONT_DOOR_ACCESS_LOG"),
    ("OCTOPUS_NODE_PORT", "OCTOPUS_NODE_PORT_BASE"),
    ("POLLING_PORT", "OCTOPUS_POLLING_PORT_BASE"),
    ("POLLING_PORT_BASE", "OCTOPUS_POLLING_PORT_BASE"),
    ("OCTOPUS_POLLING_PORT", "OCTOPUS_POLLING_PORT_BASE"),
    ("GRPC_PORT", "OCTOPUS_GRPC_PORT"),
    ("OCTOPUS_TASK_CAP", "TASK_CAP"),
    ("EXTRA_VOLUMES", "EXTRA_MOUNTS"),
    ("OCTOPUS_VOLUMES", "EXTRA_MOUNTS"),
    ("OCTOPUS_EXTRA_HOSTS", "EXTRA_HOSTS"),
    ("OCTOPUS_MEMORY_LIMIT", "OCTOPUS_MEMORY"),
    ("OCTOPUS_MEM_LIMIT", "OCTOPUS_MEMORY"),
    ("OCTOPUS_CPU_LIMIT", "OCTOPUS_CPUS"),
    ("SQL_MEM_LIMIT", "SQL_MEMORY"),
    ("SQL_CPU_LIMIT", "SQL_CPUS"),
    ("OCTOPUS_NODE_COUNT", "OCTOPUS_NODES"),
    ("OCTOPUS_SERVER_NODES", "OCTOPUS_NODES"),
    ("OCTOPUS_REPLICAS", "OCTOPUS_NODES"),
    ("OCTOPUS_DISABLE_DIND", "DISABLE_DIND"),
    ("TIMEZONE", "TZ"),
    ("TIME_ZONE", "TZ"),
];

/// The number in `OCTOPUS_NODE_<N>_TASK_CAP`, if a name is that of a node's own task cap.
pub fn node_of_task_cap(name: &str) -> Option<u32> {
    let number = name
        .strip_prefix("OCTOPUS_NODE_")?
        .strip_suffix("_TASK_CAP")?;
    let is_number = !number.is_empty() && number.bytes().all(|one| one.is_ascii_digit());
    is_number.then(|| number.parse().unwrap_or(u32::MAX))
}

/// The name of a node's own task cap.
pub fn task_cap_of_node(number: u8) -> String {
    format!("OCTOPUS_NODE_{number}_TASK_CAP")
}

/// The default of a known key.
pub fn default_of(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .find(|key| key.name == name)
        .and_then(|key| key.default)
}

/// The default of a known key that has one, as what it means.
pub fn default_as<T: std::str::FromStr>(name: &str) -> T {
    default_of(name)
        .and_then(|text| text.parse().ok())
        .expect("whoever asks names a key whose default is of this type, and tests read each")
}

/// Words in the names of variables whose values are secret.
const SECRET_WORDS: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "LICENSE",
    "LICENCE",
    "CONNECTION_STRING",
    "PRIVATE",
];
/// How the names of others end.
const SECRET_ENDINGS: &[&str] = &["_KEY", "APIKEY", "_PASS", "_AUTH", "_DSN"];
/// Names that would fit and are those of directories.
const NOT_SECRET: &[&str] = &["PWD", "OLDPWD"];

/// Whether a value of this key must never be shown.
pub fn is_secret(name: &str) -> bool {
    let upper = name.to_uppercase();
    let fits = SECRET_WORDS.iter().any(|word| upper.contains(word))
        || SECRET_ENDINGS.iter().any(|ending| upper.ends_with(ending));
    let is_known = |name: &str| KEYS.iter().any(|key| key.name == name && key.secret);
    // A mistyped secret is one.
    is_known(&upper)
        || suggestion(name).is_some_and(is_known)
        || (fits && !NOT_SECRET.contains(&name))
}

/// A value as it may be shown: stars for a secret one, and for an address with a password in it.
pub fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    let has_password = value
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('@'));
    if (is_secret(name) || has_password) && !value.is_empty() {
        "***"
    } else {
        value
    }
}

/// The known key that an unknown one was probably meant to be.
pub fn suggestion(name: &str) -> Option<&'static str> {
    let known = || {
        let ours = KEYS.iter().map(|key| key.name);
        let vendors = vendor::OCTOPUS.iter().chain(vendor::SQL);
        ours.chain(vendors.map(|row| row.name))
    };
    let is_a_nodes = node_of_task_cap(name).is_some();
    let ignored = is_a_nodes
        || DECIDED.contains(&name)
        || FOREIGN.iter().any(|prefix| name.starts_with(prefix));
    if ignored || known().any(|key| key == name) {
        return None;
    }
    let folded = fold(name);
    if let Some((_, key)) = OTHER_NAMES.iter().find(|(other, _)| fold(other) == folded) {
        return Some(key);
    }
    // Names of very different length are no mistake of typing, and need not be compared.
    let tolerance = |key: &str| match key.len() {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    };
    known()
        .filter(|key| key.len().abs_diff(name.len()) <= MAX_UNDERSCORES)
        .map(|key| (distance(&folded, &fold(key)), key))
        .filter(|(distance, key)| *distance <= tolerance(key))
        .min()
        .map(|(_, key)| key)
}

/// By how much a mistyped name may differ in length: all underscores left out, and two letters.
const MAX_UNDERSCORES: usize = 10;

fn fold(name: &str) -> String {
    name.to_uppercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .collect()
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, against) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised_and_other_keys_left_alone() {
        assert_eq!(suggestion("SA_PASWORD"), Some("SA_PASSWORD"));
        assert_eq!(suggestion("OCTOPUS_NODE"), Some("OCTOPUS_NODES"));
        assert_eq!(suggestion("MasterKey"), Some("MASTER_KEY"));
        assert_eq!(
            suggestion("OCTOPUS_SERVER_NODE"),
            Some("OCTOPUS_SERVER_NODE_NAME")
        );
        assert_eq!(suggestion("octopus_version"), Some("OCTOPUS_SERVER_TAG"));
        let long = "A".repeat(1_000_000);
        for fine in [
            long.as_str(),
            "T",
            "SA_PASSWORD",
            "COMPOSE_PROJECT_NAME",
            "MY_OWN_THING",
            "PATH",
            "PRIVILEGED",
            "NO_PROXY",
            "OCTOPUS_NODE_2_TASK_CAP",
        ] {
            assert_eq!(suggestion(fine), None, "{fine}");
        }
    }

    #[test]
    fn secrets_are_known_by_name() {
        for key in [
            "SA_PASSWORD",
            "db_connection_string",
            "MASTER_KEY",
            "MY_TOKEN",
            "ADMIN_API_KEY",
            "SA_PASWORD",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "ADMIN_USERNAME",
            "PWD",
            "OLDPWD",
            "OCTOPUS_SERVER_TAG",
            "SSH_AUTH_SOCK",
        ] {
            assert!(!is_secret(key), "{key}");
        }
        assert_eq!(
            shown("HTTP_PROXY", "http://proxy:3128"),
            "http://proxy:3128"
        );
        assert_eq!(shown("HTTP_PROXY", "http://me:secret@proxy:3128"), "***");
        assert_eq!(shown("SA_PASSWORD", ""), "");
    }

    /// Every known key with a default; `MSSQL_SA_PASSWORD` stands with `SA_PASSWORD`.
    fn expected() -> Vec<(&'static str, Option<&'static str>)> {
        KEYS.iter().map(|key| (key.name, key.default)).collect()
    }

    #[test]
    fn the_example_names_every_key_once_with_its_default() {
        for (name, default) in expected() {
            if name == "MSSQL_SA_PASSWORD" {
                continue;
            }
            let values: Vec<&str> = super::super::ENV_EXAMPLE
                .lines()
                .filter_map(|line| line.trim_start_matches("# ").split_once('='))
                .filter_map(|(key, value)| (key == name).then_some(value))
                .collect();
            assert_eq!(values.len(), 1, "{name}");
            assert!(
                default.is_none_or(|default| values == [default]),
                "{name}: {values:?}"
            );
        }
    }

    /// The names and defaults of one row of the README's tables: a default is what stands in
    /// backticks as a whole.
    fn row(line: &str) -> Vec<(String, Option<String>)> {
        let cells: Vec<&str> = line.split(" | ").collect();
        let (Some(names), Some(defaults)) = (cells.first(), cells.get(1)) else {
            return Vec::new();
        };
        let names = names.split('`').skip(1).step_by(2);
        let plain = |text: &str| {
            let inner = text.trim().strip_prefix('`')?.strip_suffix('`')?;
            (!inner.contains('`')).then(|| inner.to_owned())
        };
        let defaults: Vec<Option<String>> = defaults.split(", ").map(plain).collect();
        names
            .enumerate()
            .map(|(at, name)| (name.to_owned(), defaults.get(at).cloned().flatten()))
            .collect()
    }

    #[test]
    fn the_manual_names_every_key_once_with_its_default() {
        let manual = include_str!("../../README.md");
        let rows: Vec<_> = manual
            .split_once("\n## Configuration\n")
            .and_then(|(_, rest)| rest.split_once("\n## "))
            .map(|(section, _)| section.lines().filter(|line| line.starts_with("| `")))
            .unwrap()
            .flat_map(row)
            .collect();
        for (name, default) in expected() {
            let found: Vec<_> = rows.iter().filter(|(key, _)| key == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].1.as_deref(), default, "{name}");
        }
    }
}
