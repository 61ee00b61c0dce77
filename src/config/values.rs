//! A configuration as the variables that make it: what `config` shows, and what tells two
//! configurations apart by name.

use std::collections::BTreeMap;

use super::AfterFailedUpgrade;
use super::Config;
use super::Pull;
use super::Secret;
use super::Timing;
use super::front_door::FrontDoorConfig;
use super::keys;
use super::ports::PortsConfig;
use super::storage::KINDS;
use super::storage::Places;
use super::timing::shown;

/// Every known variable with the value it has here, empty where it has none, and the vendors' that
/// are handed on. A password has one name only: `SA_PASSWORD` stands for `MSSQL_SA_PASSWORD` too.
pub fn values(config: &Config) -> BTreeMap<String, Secret> {
    let mut values = stack(config);
    values.extend(timing(&config.timing));
    values.extend(front_door(&config.front_door));
    values.extend(ports(&config.ports));
    values.extend(storage(&config.storage));
    let mut values: BTreeMap<String, Secret> = values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let caps = config.octopus.node_task_caps.iter();
    let cap = |(number, cap): (&u8, &u32)| {
        (
            keys::task_cap_of_node(*number),
            Secret::new(cap.to_string()),
        )
    };
    values.extend(caps.map(cap));
    values.extend(config.octopus.extra.clone());
    values.extend(config.sql.iter().flat_map(|sql| sql.extra.clone()));
    values
}

/// The variables whose values differ, in alphabetical order. Names only: a value may be secret.
pub fn differences(one: &Config, other: &Config) -> Vec<String> {
    let (one, other) = (values(one), values(other));
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .cloned()
        .collect()
}

fn stack(config: &Config) -> Vec<(&'static str, Secret)> {
    [of_database(config), of_octopus(config), of_the_rest(config)].concat()
}

fn text(value: &dyn ToString) -> Secret {
    Secret::new(value.to_string())
}

fn shown_or_empty<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn list<T: ToString>(all: &[T]) -> Secret {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    Secret::new(all.join(","))
}

fn of_database(config: &Config) -> Vec<(&'static str, Secret)> {
    let sql = config.sql.as_ref();
    let of_sql =
        |value: fn(&super::SqlConfig) -> String| Secret::new(sql.map(value).unwrap_or_default());
    let accepted = if config.demo { "" } else { "Y" };
    vec![
        (
            "ACCEPT_EULA",
            Secret::new(if sql.is_some() { accepted } else { "" }),
        ),
        ("ACCEPT_OCTOPUS_EULA", Secret::new(accepted)),
        (
            "SA_PASSWORD",
            sql.map(|sql| sql.sa_password.clone()).unwrap_or_default(),
        ),
        ("SQL_IMAGE", of_sql(|sql| sql.image.clone())),
        ("SQL_PORT", of_sql(|sql| sql.port.to_string())),
        ("SQL_BIND_ADDRESS", of_sql(|sql| sql.bind.to_string())),
        (
            "SQL_MEMORY_LIMIT_MB",
            of_sql(|sql| sql.memory_limit_mb.to_string()),
        ),
        ("MSSQL_PID", of_sql(|sql| sql.edition.clone())),
        (
            "SQL_MEMORY",
            of_sql(|sql| shown_or_empty(sql.limits.memory)),
        ),
        (
            "SQL_CPUS",
            of_sql(|sql| shown_or_empty(sql.limits.processors)),
        ),
        ("DB_CONNECTION_STRING", given_connection_string(config)),
    ]
}

fn of_octopus(config: &Config) -> Vec<(&'static str, Secret)> {
    let octopus = &config.octopus;
    vec![
        ("OCTOPUS_IMAGE", text(&octopus.image)),
        ("OCTOPUS_SERVER_TAG", text(&octopus.tag)),
        ("OCTOPUS_NODES", text(&octopus.nodes)),
        ("OCTOPUS_SERVER_NODE_NAME", text(&octopus.node_name)),
        ("OCTOPUS_PORT", text(&octopus.port)),
        ("BIND_ADDRESS", text(&octopus.bind)),
        ("ADMIN_USERNAME", text(&octopus.admin_username)),
        ("ADMIN_PASSWORD", octopus.admin_password.clone()),
        ("ADMIN_EMAIL", text(&octopus.admin_email)),
        (
            "ADMIN_API_KEY",
            octopus.admin_api_key.clone().unwrap_or_default(),
        ),
        (
            "OCTOPUS_SERVER_BASE64_LICENSE",
            octopus.licence.clone().unwrap_or_default(),
        ),
        ("MASTER_KEY", octopus.master_key.clone().unwrap_or_default()),
        (
            "DISABLE_DIND",
            Secret::new(if octopus.disable_dind { "Y" } else { "N" }),
        ),
        (
            "CONTAINER_USER",
            text(&octopus.user.clone().unwrap_or_default()),
        ),
        ("EXTRA_NETWORKS", text(&octopus.networks.join(","))),
        ("EXTRA_MOUNTS", list(&octopus.extra_mounts)),
        ("EXTRA_HOSTS", list(&octopus.extra_hosts)),
        (
            "OCTOPUS_MEMORY",
            text(&shown_or_empty(octopus.limits.memory)),
        ),
        (
            "OCTOPUS_CPUS",
            text(&shown_or_empty(octopus.limits.processors)),
        ),
        (
            "TASK_CAP",
            octopus.task_cap.map(|cap| text(&cap)).unwrap_or_default(),
        ),
        (
            "UPGRADE_ROLLBACK",
            Secret::new(match octopus.after_failed_upgrade {
                AfterFailedUpgrade::Ask => "ask",
                AfterFailedUpgrade::RollBack => "auto",
            }),
        ),
    ]
}

fn of_the_rest(config: &Config) -> Vec<(&'static str, Secret)> {
    vec![
        ("PULL", Secret::new(pull(config.pull))),
        ("LOG_MAX_SIZE", text(&config.log_max_size)),
        ("LOG_MAX_FILES", text(&config.log_max_files)),
        ("TENTACLE_TAG", version_in(&config.tentacle_image)),
        (
            "BACKUP_DIR",
            text(config.backup.dir.as_ref().unwrap_or(&String::new())),
        ),
        ("BACKUP_KEEP", text(&config.backup.keep)),
        (
            "BACKUP_SCHEDULE",
            text(config.backup.schedule.as_ref().unwrap_or(&String::new())),
        ),
        (
            "BACKUP_RECIPIENT",
            text(&config.backup.recipients.join(",")),
        ),
    ]
}

/// The version in a reference, as a key of a version has it.
fn version_in(image: &str) -> Secret {
    let version = match image.split_once('@') {
        Some((_, digest)) => format!("@{digest}"),
        None => image.rsplit_once(':').map_or("", |(_, tag)| tag).to_owned(),
    };
    Secret::new(version)
}

/// Empty where it is made from the password: then it says nothing of its own.
fn given_connection_string(config: &Config) -> Secret {
    if config.makes_its_connection_string() {
        Secret::default()
    } else {
        config.database.connection_string.clone()
    }
}

fn timing(timing: &Timing) -> Vec<(&'static str, Secret)> {
    let durations = [
        ("START_PROBE_INTERVAL", timing.start_probe_fast),
        ("START_PROBE_SLOW_INTERVAL", timing.start_probe_slow),
        ("START_PROBE_FAST_WINDOW", timing.fast_window),
        ("PROBE_INTERVAL", timing.steady_probe),
        ("PROBE_TIMEOUT", timing.probe_timeout),
        ("NODE_START_LIMIT", timing.node_start_limit),
        ("SQL_START_LIMIT", timing.sql_start_limit),
        ("SQL_REFUSED_GRACE", timing.refused_grace),
        ("DRAIN_TIMEOUT", timing.drain_timeout),
        ("NODE_STOP_GRACE", timing.node_stop_grace),
        ("SQL_STOP_LIMIT", timing.sql_stop_limit),
        ("RESTART_BACKOFF_FIRST", timing.backoff_first),
        ("RESTART_BACKOFF_MAX", timing.backoff_max),
        ("RESTART_BACKOFF_RESET", timing.backoff_reset),
    ];
    let mut values: Vec<_> = durations
        .into_iter()
        .map(|(key, duration)| (key, Secret::new(shown(duration))))
        .collect();
    values.push(("PROBE_MISSES", Secret::new(timing.misses.to_string())));
    values
}

fn front_door(door: &FrontDoorConfig) -> Vec<(&'static str, Secret)> {
    let path = |path: &Option<String>| Secret::new(path.clone().unwrap_or_default());
    let port = door.https_port.map(|port| port.to_string());
    let on_or_off = |on| Secret::new(if on { "on" } else { "off" });
    let proxies = door.trusted_proxies.iter().map(ToString::to_string);
    let proxies: Vec<String> = proxies.collect();
    vec![
        ("FRONT_DOOR", on_or_off(door.on)),
        ("TLS_CERT", path(&door.certificate)),
        ("TLS_KEY", path(&door.key)),
        ("HTTPS_PORT", Secret::new(port.unwrap_or_default())),
        ("HOLD_TIMEOUT", Secret::new(shown(door.hold))),
        ("FRONT_DOOR_TRUSTED_PROXIES", Secret::new(proxies.join(","))),
        ("FRONT_DOOR_ACCESS_LOG", on_or_off(door.access_log)),
    ]
}

fn ports(ports: &PortsConfig) -> Vec<(&'static str, Secret)> {
    let port =
        |port: Option<u16>| Secret::new(port.map(|port| port.to_string()).unwrap_or_default());
    let address =
        |ip: Option<std::net::IpAddr>| Secret::new(ip.map(|ip| ip.to_string()).unwrap_or_default());
    vec![
        ("OCTOPUS_NODE_PORT_BASE", port(ports.node_base)),
        ("OCTOPUS_NODE_BIND_ADDRESS", address(ports.node_bind)),
        ("OCTOPUS_POLLING_PORT_BASE", port(ports.polling_base)),
        ("OCTOPUS_POLLING_BIND_ADDRESS", address(ports.polling_bind)),
        ("OCTOPUS_GRPC_PORT", port(ports.grpc)),
    ]
}

fn storage(places: &Places) -> impl Iterator<Item = (&'static str, Secret)> {
    KINDS.iter().map(|kind| {
        let place = places.get(kind.key).map(ToString::to_string);
        (kind.variable, Secret::new(place.unwrap_or_default()))
    })
}

fn pull(pull: Pull) -> &'static str {
    match pull {
        Pull::Missing => "missing",
        Pull::Always => "always",
        Pull::Never => "never",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Input;
    use crate::config::read;

    fn config(more: &[(&str, &str)]) -> Config {
        let good = [
            ("SA_PASSWORD", "Str0ng-enough"),
            ("ADMIN_PASSWORD", "whatever-1"),
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
        ];
        let vars: BTreeMap<String, String> = good
            .iter()
            .chain(more)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let origins = vars
            .keys()
            .map(|key| (key.clone(), ".env:1".to_owned()))
            .collect();
        read(&Input {
            vars,
            origins,
            ..Input::default()
        })
        .unwrap()
        .config
    }

    /// A value of each key that is not its default.
    const OTHER: &[(&str, &str)] = &[
        ("SA_PASSWORD", "0ther-enough"),
        ("SQL_IMAGE", "mssql:1"),
        ("SQL_PORT", "1402"),
        ("SQL_BIND_ADDRESS", "10.0.0.1"),
        ("SQL_MEMORY_LIMIT_MB", "4096"),
        ("MSSQL_PID", "Developer"),
        (
            "DB_CONNECTION_STRING",
            "Server=mssql;Database=O;User=octo;Password=p",
        ),
        ("OCTOPUS_IMAGE", "octo"),
        ("OCTOPUS_SERVER_TAG", "2026.2"),
        ("OCTOPUS_NODES", "2"),
        ("OCTOPUS_SERVER_NODE_NAME", "first"),
        ("OCTOPUS_PORT", "9080"),
        ("BIND_ADDRESS", "::1"),
        ("ADMIN_USERNAME", "root"),
        ("ADMIN_PASSWORD", "0ther-one"),
        ("ADMIN_EMAIL", "a@b"),
        ("ADMIN_API_KEY", "API-X"),
        (
            "OCTOPUS_SERVER_BASE64_LICENSE",
            "PExpY2Vuc2U+PC9MaWNlbnNlPg==",
        ),
        ("MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("EXTRA_NETWORKS", "a,b"),
        ("EXTRA_MOUNTS", "/srv/a:/a,tools:/opt/tools:ro"),
        ("EXTRA_HOSTS", "a:10.0.0.1,b:host-gateway"),
        ("OCTOPUS_MEMORY", "4g"),
        ("OCTOPUS_CPUS", "1.5"),
        ("SQL_MEMORY", "6g"),
        ("SQL_CPUS", "2"),
        ("DISABLE_DIND", "Y"),
        ("TASK_CAP", "7"),
        ("OCTOPUS_NODE_2_TASK_CAP", "0"),
        ("PULL", "always"),
        ("LOG_MAX_SIZE", "1g"),
        ("LOG_MAX_FILES", "9"),
        ("TENTACLE_TAG", "8.3"),
        ("START_PROBE_INTERVAL", "51ms"),
        ("START_PROBE_SLOW_INTERVAL", "251ms"),
        ("START_PROBE_FAST_WINDOW", "3m"),
        ("PROBE_INTERVAL", "6s"),
        ("PROBE_TIMEOUT", "3s"),
        ("PROBE_MISSES", "4"),
        ("NODE_START_LIMIT", "1h"),
        ("SQL_START_LIMIT", "11m"),
        ("SQL_REFUSED_GRACE", "21s"),
        ("DRAIN_TIMEOUT", "5m"),
        ("NODE_STOP_GRACE", "0"),
        ("SQL_STOP_LIMIT", "61s"),
        ("RESTART_BACKOFF_FIRST", "2s"),
        ("RESTART_BACKOFF_MAX", "61s"),
        ("RESTART_BACKOFF_RESET", "11m"),
        ("UPGRADE_ROLLBACK", "auto"),
        ("BACKUP_DIR", "/mnt/backups"),
        ("BACKUP_KEEP", "7,4w"),
        ("BACKUP_SCHEDULE", "0 3 * * *"),
        (
            "BACKUP_RECIPIENT",
            "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
        ),
        ("FRONT_DOOR", "on"),
        ("TLS_CERT", "tls/cert.pem"),
        ("TLS_KEY", "tls/key.pem"),
        ("HTTPS_PORT", "8443"),
        ("OCTOPUS_NODE_PORT_BASE", "7080"),
        ("OCTOPUS_NODE_BIND_ADDRESS", "10.0.0.2"),
        ("OCTOPUS_POLLING_PORT_BASE", "10943"),
        ("OCTOPUS_POLLING_BIND_ADDRESS", "10.0.0.3"),
        ("OCTOPUS_GRPC_PORT", "8543"),
        ("HOLD_TIMEOUT", "15s"),
        ("FRONT_DOOR_TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.7"),
        ("FRONT_DOOR_ACCESS_LOG", "on"),
        ("SQL_DATA", "shop_sqlvolume"),
        ("REPOSITORY", "/srv/repository"),
        ("ARTIFACTS", "./artifacts"),
        ("TASK_LOGS", "logs"),
        ("EVENT_EXPORTS", "exports"),
        ("IMPORT", "./import"),
        ("ENABLE_USAGE", "N"),
        ("MSSQL_COLLATION", "Latin1_General_CI_AS"),
    ];

    /// What the password of before needed quotes for is no reason that the next one has them.
    #[test]
    fn a_new_password_of_sa_is_what_a_file_that_says_it_means() {
        let passwords = ["Pa;ss 'w0rd=", "Plain-w0rd", "Qu\"oted1"];
        for (before, after) in passwords.iter().flat_map(|before| {
            let others = passwords.iter().filter(move |after| *after != before);
            others.map(move |after| (*before, *after))
        }) {
            let changed = config(&[("SA_PASSWORD", before)]).with_sa_password(&Secret::new(after));
            assert_eq!(changed, Some(config(&[("SA_PASSWORD", after)])));
        }
    }

    #[test]
    fn every_variable_makes_a_difference_of_its_own_name() {
        // Parts of HTTPS are taken one by one only where there is no front door.
        let off = ("FRONT_DOOR", "off");
        let base = config(&[off]);
        for (key, value) in OTHER {
            let found = differences(&base, &config(&[off, (key, value)]));
            assert_eq!(found, [*key]);
        }
        // It asks for nodes without Docker-in-Docker.
        let dind = ("DISABLE_DIND", "Y");
        let as_somebody = config(&[dind, ("CONTAINER_USER", "octopus")]);
        assert_eq!(
            differences(&config(&[dind]), &as_somebody),
            ["CONTAINER_USER"]
        );
        assert_eq!(differences(&base, &base), Vec::<String>::new());
        let alike = [
            "ACCEPT_EULA",
            "ACCEPT_OCTOPUS_EULA",
            "MSSQL_SA_PASSWORD",
            "CONTAINER_USER",
        ];
        let tried = |name: &str| OTHER.iter().any(|(key, _)| *key == name) || alike.contains(&name);
        let forgotten: Vec<_> = keys::KEYS
            .iter()
            .map(|key| key.name)
            .filter(|name| !tried(name))
            .collect();
        assert_eq!(forgotten, Vec::<&str>::new());
    }

    #[test]
    fn a_configuration_can_be_made_again_from_its_values() {
        for wanted in [config(&[]), config(OTHER)] {
            let shown = values(&wanted);
            let vars: Vec<(&str, &str)> = shown
                .iter()
                .map(|(key, value)| (key.as_str(), value.expose()))
                .filter(|(_, v)| !v.is_empty())
                .collect();
            assert_eq!(config(&vars), wanted);
        }
    }
}
