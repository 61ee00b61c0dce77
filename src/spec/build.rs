//! Configuration to desired state: names, environments, mounts and ports, with no choice left open.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use super::ContainerSpec;
use super::DatabaseTarget;
use super::ExtraMount;
use super::FrontDoorSpec;
use super::Port;
use super::StackSpec;
use super::Storage;
use super::UnitId;
use crate::config::Config;
use crate::config::Secret;
use crate::config::SqlConfig;
use crate::config::mounts::HOST_GATEWAY;
use crate::config::ports::HostPort;
use crate::config::ports::Whose;
use crate::config::project::ProjectName;
use crate::config::storage::KINDS;
use crate::config::storage::Place;
use crate::config::vendor;

/// The key of the volume that holds SQL Server's data.
pub const SQL_DATA: &str = "sql-data";
/// What all nodes share besides, where a variable has them use it.
const CLUSTER_SHARED: (&str, &str) = ("cluster-shared", "/clusterShared");
const EXECUTIONS_SHARED: (&str, &str) = ("executions-cluster-shared", "/executionsClusterShared");
/// The names by which containers of other setups reach the host (docs.docker.com, networking).
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];
const SQL_PORT: u16 = 1433;
/// The variables that SQL Server's image takes the password of `sa` from, at its first start.
const SA_PASSWORD: [&str; 2] = ["MSSQL_SA_PASSWORD", "SA_PASSWORD"];
/// The variable that a node has its way to the database in.
const CONNECTION_STRING: &str = "DB_CONNECTION_STRING";

/// What the configuration does not say.
#[derive(Clone, Debug)]
pub struct BuildInput<'a> {
    /// The project.
    pub project: &'a ProjectName,
    /// The directory the configuration came from.
    pub working_dir: &'a str,
    /// The master key that all nodes get: the person's, or the one kept for this data.
    pub master_key: &'a Secret,
    /// False where the host refused full privileges to a demo.
    pub may_be_privileged: bool,
}

/// Builds the desired state.
pub fn build(config: &Config, around: &BuildInput<'_>) -> StackSpec {
    let project = around.project;
    let mut volumes = BTreeMap::new();
    let mut volume = |key: &str| {
        let storage = storage(config, around, key);
        volumes.insert(key.to_owned(), storage.clone());
        storage
    };
    let sql = config
        .sql
        .as_ref()
        .map(|sql| sql_container(config, sql, project, volume(SQL_DATA)));
    let extra = &config.octopus.extra;
    let more = [
        (CLUSTER_SHARED, vendor::has_cluster_shared(extra)),
        (EXECUTIONS_SHARED, vendor::has_executions_shared(extra)),
    ];
    let more = more.iter().filter(|(_, wanted)| *wanted);
    let shared: BTreeMap<String, Storage> = KINDS
        .iter()
        .filter(|kind| !kind.of_sql)
        .filter(|kind| !kind.optional || config.storage.contains_key(kind.key))
        .map(|kind| (kind.key, kind.path))
        .chain(more.map(|(volume, _)| *volume))
        .map(|(key, path)| (path.to_owned(), volume(key)))
        .collect();
    let nodes = (1..=config.octopus.nodes)
        .map(|number| {
            let mut mounts = shared.clone();
            mounts.insert("/cache".to_owned(), volume(&format!("cache-{number}")));
            node_container(config, around, number, mounts)
        })
        .collect();
    StackSpec {
        project: project.clone(),
        demo: config.demo,
        working_dir: around.working_dir.to_owned(),
        network: format!("{project}_default"),
        front_door: FrontDoorSpec::of(config, around.working_dir),
        database: database(config, sql.as_ref()),
        sql,
        nodes,
        tentacles: Vec::new(),
        volumes,
        pull: config.pull,
        timing: config.timing.clone(),
        admin_username: config.octopus.admin_username.clone(),
    }
}

/// Where a kind of data is: where a person wants it, else in a volume of the project's own.
fn storage(config: &Config, around: &BuildInput<'_>, key: &str) -> Storage {
    match config.storage.get(key) {
        Some(place) => theirs(around, place),
        None => Storage::Ours(format!("{}_{key}", around.project)),
    }
}

/// A place that a person chose.
fn theirs(around: &BuildInput<'_>, place: &Place) -> Storage {
    match place {
        Place::Volume(name) => Storage::Theirs(name.clone()),
        Place::Directory(path) => Storage::Directory(directory(around.working_dir, path)),
    }
}

fn extra_mounts(config: &Config, around: &BuildInput<'_>) -> Vec<ExtraMount> {
    let mounts = config.octopus.extra_mounts.iter();
    let mounts = mounts.map(|mount| ExtraMount {
        target: mount.target.clone(),
        source: theirs(around, &mount.source),
        read_only: mount.read_only,
    });
    mounts.collect()
}

/// A path as an engine takes it: absolute, with nothing in it that means nothing.
fn directory(working_dir: &str, path: &str) -> String {
    let path: PathBuf = Path::new(working_dir).join(path).components().collect();
    path.display().to_string()
}

fn database(config: &Config, sql: Option<&ContainerSpec>) -> DatabaseTarget {
    let database = &config.database;
    let published = sql.and_then(ContainerSpec::host_address);
    let (host, port) = match published {
        Some(address) => (address.ip().to_string(), address.port()),
        // What a node reaches by the host's name is reached from the host over loopback.
        None if is_host(&database.host) => ("127.0.0.1".to_owned(), database.port),
        None => (database.host.clone(), database.port),
    };
    let (user, password) = (database.user.clone(), database.password.clone());
    DatabaseTarget {
        host,
        port,
        user,
        password,
        database: database.name.clone(),
    }
}

/// The same stack with the passwords of another configuration's database. Nothing else of that counts.
#[must_use]
pub fn with_passwords_of(spec: &StackSpec, config: &Config) -> StackSpec {
    let mut spec = spec.clone();
    if let (Some(container), Some(sql)) = (&mut spec.sql, &config.sql) {
        for key in SA_PASSWORD {
            container
                .env
                .insert(key.to_owned(), sql.sa_password.clone());
        }
    }
    let database = &config.database;
    for node in &mut spec.nodes {
        let string = database.connection_string.clone();
        node.env.insert(CONNECTION_STRING.to_owned(), string);
    }
    spec.database.password.clone_from(&database.password);
    spec
}

fn is_host(name: &str) -> bool {
    HOST_NAMES
        .iter()
        .any(|host| host.eq_ignore_ascii_case(name))
}

/// The engine puts the host's own address in the place of `host-gateway`.
fn extra_hosts(config: &Config) -> Vec<String> {
    let host = &config.database.host;
    let database =
        (config.sql.is_none() && is_host(host)).then(|| format!("{host}:{HOST_GATEWAY}"));
    let mut hosts: Vec<String> = database.into_iter().collect();
    for named in &config.octopus.extra_hosts {
        let line = named.to_string();
        if !hosts.contains(&line) {
            hosts.push(line);
        }
    }
    hosts
}

fn sql_container(
    config: &Config,
    sql: &SqlConfig,
    project: &ProjectName,
    data: Storage,
) -> ContainerSpec {
    let mut env = sql.extra.clone();
    env.extend([
        ("ACCEPT_EULA".to_owned(), Secret::new("Y")),
        (SA_PASSWORD[0].to_owned(), sql.sa_password.clone()),
        (SA_PASSWORD[1].to_owned(), sql.sa_password.clone()),
        ("MSSQL_PID".to_owned(), Secret::new(&sql.edition)),
        (
            "MSSQL_MEMORY_LIMIT_MB".to_owned(),
            Secret::new(sql.memory_limit_mb.to_string()),
        ),
    ]);
    let mut aliases = vec!["db".to_owned()];
    if config.database.host != "db" {
        aliases.push(config.database.host.clone());
    }
    ContainerSpec {
        unit: UnitId::Sql,
        name: format!("{project}-db-1"),
        image: sql.image.clone(),
        hostname: "db".to_owned(),
        env,
        mounts: BTreeMap::from([("/var/opt/mssql".to_owned(), data)]),
        ports: vec![Port {
            container: SQL_PORT,
            host_ip: sql.bind,
            host: sql.port,
        }],
        aliases,
        privileged: false,
        open_stdin: false,
        stop_timeout_s: 120,
        log_max_size: config.log_max_size.clone(),
        log_max_files: config.log_max_files,
        user: None,
        extra_hosts: Vec::new(),
        networks: Vec::new(),
        extra_mounts: Vec::new(),
        limits: sql.limits,
    }
}

fn node_container(
    config: &Config,
    around: &BuildInput<'_>,
    number: u8,
    mounts: BTreeMap<String, Storage>,
) -> ContainerSpec {
    let octopus = &config.octopus;
    let unit = UnitId::Node(number);
    ContainerSpec {
        unit,
        name: format!("{}-{unit}", around.project),
        image: octopus.reference(),
        hostname: unit.to_string(),
        env: node_environment(config, around, number),
        mounts,
        ports: node_ports(config, number),
        aliases: vec![unit.to_string()],
        privileged: !octopus.disable_dind && around.may_be_privileged,
        open_stdin: true,
        stop_timeout_s: 60,
        log_max_size: config.log_max_size.clone(),
        log_max_files: config.log_max_files,
        user: octopus.user.clone(),
        extra_hosts: extra_hosts(config),
        networks: octopus.networks.clone(),
        extra_mounts: extra_mounts(config, around),
        limits: octopus.limits,
    }
}

/// Where a node's services are published, its web port first: by that it is asked how it is.
fn node_ports(config: &Config, number: u8) -> Vec<Port> {
    let published = |one: HostPort| match one.whose {
        Whose::Node(of, service) if of == number => Some(Port {
            container: config.port_inside(service),
            host_ip: one.ip,
            host: one.port,
        }),
        Whose::Node(..) | Whose::Door(_) | Whose::Sql => None,
    };
    let mut ports: Vec<Port> = config
        .host_ports()
        .into_iter()
        .filter_map(published)
        .collect();
    ports.sort_by_key(|port| port.container != vendor::WEB_PORT);
    ports
}

/// The first node always has the given name, so that more nodes later recreate nothing and leave no
/// ghost in the licence count.
fn node_environment(
    config: &Config,
    around: &BuildInput<'_>,
    number: u8,
) -> BTreeMap<String, Secret> {
    let octopus = &config.octopus;
    let name = if number == 1 {
        octopus.node_name.clone()
    } else {
        format!("{}-{number}", octopus.node_name)
    };
    let yes_or_no = |yes: bool| Secret::new(if yes { "Y" } else { "N" });
    let mut env = octopus.extra.clone();
    env.extend([
        ("ACCEPT_EULA".to_owned(), Secret::new("Y")),
        ("OCTOPUS_SERVER_NODE_NAME".to_owned(), Secret::new(name)),
        (
            CONNECTION_STRING.to_owned(),
            config.database.connection_string.clone(),
        ),
        ("MASTER_KEY".to_owned(), around.master_key.clone()),
        (
            "ADMIN_USERNAME".to_owned(),
            Secret::new(&octopus.admin_username),
        ),
        ("ADMIN_EMAIL".to_owned(), Secret::new(&octopus.admin_email)),
        ("DISABLE_DIND".to_owned(), yes_or_no(octopus.disable_dind)),
    ]);
    let password = Some(octopus.admin_password.clone()).filter(|password| !password.is_empty());
    let own = octopus.node_task_caps.get(&number).copied();
    let cap = own.or(octopus.task_cap);
    let optional = [
        ("ADMIN_PASSWORD", password),
        ("ADMIN_API_KEY", octopus.admin_api_key.clone()),
        ("OCTOPUS_SERVER_BASE64_LICENSE", octopus.licence.clone()),
        ("TASK_CAP", cap.map(|cap| Secret::new(cap.to_string()))),
    ];
    env.extend(
        optional
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    env
}
