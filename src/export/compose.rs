//! A project for docker compose: the same containers on the same volumes, so that nobody is locked
//! in. The file says what is; `.env` has the secrets and nothing else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::file::File;
use super::source::Source;
use super::yaml::document;
use crate::config::Pull;
use crate::config::Secret;
use crate::config::keys;
use crate::dotenv::quote::quoted;
use crate::spec::ContainerSpec;
use crate::spec::ExtraMount;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::UnitId;

/// The compose file's name.
pub const FILE: &str = "docker-compose.yml";

/// A compose file (compose-spec `spec.md`), with what a stack uses of it.
#[derive(Clone, Debug, Serialize)]
struct Project {
    services: BTreeMap<String, Service>,
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, Volume>,
}

#[derive(Clone, Debug, Serialize)]
struct Service {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_name: Option<String>,
    hostname: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pull_policy: Option<&'static str>,
    restart: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    privileged: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stdin_open: bool,
    stop_grace_period: String,
    environment: BTreeMap<String, String>,
    ports: Vec<String>,
    volumes: Vec<Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<String>,
    networks: BTreeMap<String, Joined>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra_hosts: Vec<String>,
    logging: Logging,
    healthcheck: Healthcheck,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    depends_on: BTreeMap<String, Condition>,
}

/// What a service mounts.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Mount {
    /// As `source:target`.
    Short(String),
    /// What else of the host.
    Long(Box<LongMount>),
}

#[derive(Clone, Debug, Serialize)]
struct LongMount {
    r#type: &'static str,
    source: String,
    target: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
}

/// How a service joins a network.
#[derive(Clone, Debug, Serialize)]
struct Joined {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Logging {
    driver: &'static str,
    options: BTreeMap<&'static str, String>,
}

#[derive(Clone, Debug, Serialize)]
struct Healthcheck {
    test: Vec<String>,
    interval: String,
    timeout: String,
    retries: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Condition {
    condition: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Network {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    external: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Volume {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    external: bool,
}

/// The compose file, `.env` for its owner only, and what git must not see.
pub fn export(source: &Source<'_>) -> Vec<File> {
    let stack = source.stack();
    let heading = heading(source);
    vec![
        File::open(FILE, heading + &document(&project(source, &stack))),
        File::secret(".env", env_file(&stack)),
        File::open(".gitignore", ".env\n"),
    ]
}

fn heading(source: &Source<'_>) -> String {
    let name = source.project;
    format!(
        "# The stack of octo-local's project {name}, for docker compose. Its data stays where it is: take octo-local's\n\
         # containers away first, `octo-local -p {name} down`, then `docker compose up -d` here. To go back,\n\
         # `docker compose down`, then `octo-local -p {name} up`.\n"
    )
}

fn project(source: &Source<'_>, stack: &StackSpec) -> Project {
    let services = stack
        .containers()
        .map(|container| (service_name(container.unit), service(stack, container)));
    let others = stack
        .nodes
        .first()
        .into_iter()
        .flat_map(|node| &node.networks);
    let others = others.enumerate().map(|(number, name)| {
        let network = Network {
            name: Some(name.clone()),
            external: true,
        };
        (extra_network(number), network)
    });
    let own = Network {
        name: None,
        external: false,
    };
    let volumes = stack.volumes.iter().filter_map(|(key, storage)| {
        let volume = Volume {
            name: storage.volume()?.to_owned(),
            external: source.has_data || storage.ours().is_none(),
        };
        Some((key.clone(), volume))
    });
    let theirs = stack.nodes.first().into_iter();
    let theirs = theirs.flat_map(|node| &node.extra_mounts);
    let theirs = theirs.filter_map(|mount| mount.source.volume());
    let extra = theirs.enumerate().map(|(number, name)| {
        let volume = Volume {
            name: name.to_owned(),
            external: true,
        };
        (extra_volume(number), volume)
    });
    Project {
        services: services.collect(),
        networks: others.chain([("default".to_owned(), own)]).collect(),
        volumes: volumes.chain(extra).collect(),
    }
}

fn service_name(unit: UnitId) -> String {
    match unit {
        UnitId::Sql => "db".to_owned(),
        UnitId::Node(1) => "octopus-server".to_owned(),
        UnitId::Node(_) | UnitId::Tentacle(_) => unit.to_string(),
    }
}

fn extra_network(number: usize) -> String {
    format!("extra-{}", number + 1)
}

fn extra_volume(number: usize) -> String {
    format!("extra-{}", number + 1)
}

/// What else a container mounts.
fn extra_mounts(container: &ContainerSpec) -> Vec<Mount> {
    let mut volumes = 0;
    let of = |mount: &ExtraMount| {
        let (r#type, source) = match &mount.source {
            Storage::Directory(path) => ("bind", escaped(path)),
            Storage::Ours(_) | Storage::Theirs(_) => {
                volumes += 1;
                ("volume", extra_volume(volumes - 1))
            }
        };
        Mount::Long(Box::new(LongMount {
            r#type,
            source,
            target: escaped(&mount.target),
            read_only: mount.read_only,
        }))
    };
    container.extra_mounts.iter().map(of).collect()
}

fn service(stack: &StackSpec, container: &ContainerSpec) -> Service {
    let own = container.unit.service() == service_name(container.unit);
    let volumes = container.mounts.iter().map(|(path, storage)| {
        if let Storage::Directory(directory) = storage {
            return escaped(&format!("{directory}:{path}"));
        }
        let mut known = stack.volumes.iter();
        let key = known.find(|(_, known)| *known == storage);
        let key = key.map_or(storage.source(), |(key, _)| key);
        format!("{key}:{path}")
    });
    Service {
        image: escaped(&container.image),
        // compose would call it <project>-octopus-server-2-1.
        container_name: (!own).then(|| container.name.clone()),
        hostname: container.hostname.clone(),
        pull_policy: match stack.pull {
            Pull::Missing => None,
            Pull::Always => Some("always"),
            Pull::Never => Some("never"),
        },
        restart: "unless-stopped",
        user: container.user.as_deref().map(escaped),
        privileged: container.privileged,
        stdin_open: container.open_stdin,
        stop_grace_period: format!("{}s", container.stop_timeout_s),
        environment: environment(container),
        ports: container.ports.iter().map(published).collect(),
        volumes: volumes
            .map(Mount::Short)
            .chain(extra_mounts(container))
            .collect(),
        mem_limit: container.limits.memory.map(|limit| limit.to_string()),
        cpus: container.limits.processors.map(|limit| limit.to_string()),
        networks: networks(container),
        extra_hosts: container
            .extra_hosts
            .iter()
            .map(|host| escaped(host))
            .collect(),
        logging: Logging {
            driver: "json-file",
            options: BTreeMap::from([
                ("max-size", container.log_max_size.clone()),
                ("max-file", container.log_max_files.to_string()),
            ]),
        },
        healthcheck: healthcheck(stack, container),
        depends_on: depends_on(stack, container.unit),
    }
}

fn published(port: &crate::spec::Port) -> String {
    match port.host_ip {
        std::net::IpAddr::V4(ip) => format!("{ip}:{}:{}", port.host, port.container),
        std::net::IpAddr::V6(ip) => format!("[{ip}]:{}:{}", port.host, port.container),
    }
}

fn networks(container: &ContainerSpec) -> BTreeMap<String, Joined> {
    let others = (0..container.networks.len()).map(|number| {
        let aliases = Vec::new();
        (extra_network(number), Joined { aliases })
    });
    let mut aliases = container.aliases.clone();
    let service = container.unit.service().to_owned();
    if !aliases.contains(&service) {
        aliases.push(service);
    }
    others
        .chain([("default".to_owned(), Joined { aliases })])
        .collect()
}

/// Nodes start one after another: two that upgrade one database at the same time corrupt it.
fn depends_on(stack: &StackSpec, unit: UnitId) -> BTreeMap<String, Condition> {
    let before = stack.containers().take_while(|other| other.unit != unit);
    before
        .map(|other| {
            let condition = "service_healthy";
            (service_name(other.unit), Condition { condition })
        })
        .collect()
}

/// A value as it is: compose takes `$$` for one dollar.
fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

/// Secrets are read from `.env`, all else is written out.
fn environment(container: &ContainerSpec) -> BTreeMap<String, String> {
    let value = |name: &str, value: &Secret| {
        if is_secret(name, value) {
            format!("${{{}}}", name_in_env(name))
        } else {
            escaped(value.expose())
        }
    };
    container
        .env
        .iter()
        .map(|(name, secret)| (name.clone(), value(name, secret)))
        .collect()
}

fn is_secret(name: &str, value: &Secret) -> bool {
    keys::is_secret(name) || keys::shown(name, value.expose()) != value.expose()
}

/// Both names of the `sa` password are one variable, the one that octo-local reads.
fn name_in_env(name: &str) -> &str {
    match name {
        "MSSQL_SA_PASSWORD" => "SA_PASSWORD",
        name => name,
    }
}

fn env_file(stack: &StackSpec) -> String {
    let all = stack.containers().flat_map(|container| &container.env);
    let secrets: BTreeMap<&str, &Secret> = all
        .filter(|(name, value)| is_secret(name, value))
        .map(|(name, value)| (name_in_env(name), value))
        .collect();
    let lines = secrets
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value.expose())));
    let heading = format!(
        "# The secrets of docker-compose.yml: only its owner may read it.\nCOMPOSE_PROJECT_NAME={}\n",
        stack.project
    );
    lines.fold(heading, |text, line| text + &line)
}

fn healthcheck(stack: &StackSpec, container: &ContainerSpec) -> Healthcheck {
    const INTERVAL_S: u64 = 10;
    let timing = &stack.timing;
    let (test, limit) = match container.unit {
        UnitId::Sql => (sql_test(), timing.sql_start_limit),
        UnitId::Node(_) | UnitId::Tentacle(_) => (node_test(), timing.node_start_limit),
    };
    Healthcheck {
        test,
        interval: format!("{INTERVAL_S}s"),
        timeout: "5s".to_owned(),
        retries: limit.as_secs().div_ceil(INTERVAL_S).max(60),
    }
}

/// By the image's own client, wherever it is, with the password from the container's environment:
/// one in the command line would be in the definition for everybody to see.
fn sql_test() -> Vec<String> {
    let script = "export SQLCMDPASSWORD=\"$MSSQL_SA_PASSWORD\"; new=/opt/mssql-tools18/bin/sqlcmd; \
                  if [ -x $new ]; then exec $new -C -b -l 3 -U sa -Q 'SELECT 1'; fi; \
                  exec /opt/mssql-tools/bin/sqlcmd -b -l 3 -U sa -Q 'SELECT 1'";
    vec!["CMD-SHELL".to_owned(), escaped(script)]
}

fn node_test() -> Vec<String> {
    let address = "http://localhost:8080/api/octopusservernodes/ping";
    ["CMD", "curl", "-fsS", address].map(str::to_owned).to_vec()
}
