//! All choices made: what the manifests are written from.

use super::options::Flavour;
use super::options::Format;
use super::options::Options;
use super::options::Sql;
use super::options::label_of;
use super::options::problem;
use crate::config::OctopusConfig;
use crate::config::Problem;
use crate::config::Secret;
use crate::config::limits::Limits;
use crate::config::vendor;
use crate::export::address;
use crate::export::environment::Environment;
use crate::export::object::EnvVar;
use crate::export::object::Labels;
use crate::export::object::Metadata;
use crate::export::source::Source;
use crate::export::source::moves;
use crate::spec::ContainerSpec;

/// The Secret that everything secret is in.
pub const SECRET: &str = "octopus-secrets";
/// The nodes: the StatefulSet, its container, its web Service.
pub const OCTOPUS: &str = "octopus";
/// SQL Server: its StatefulSet, its container, its Service.
pub const MSSQL: &str = "mssql";
/// The headless Service by which each node has a name.
pub const NODES: &str = "octopus-nodes";
/// The claim of what the nodes share.
pub const SHARED_CLAIM: &str = "octopus-shared";
/// The name of the vendor's Helm chart, and of our release of it.
pub const CHART: &str = "octopus-deploy";
/// See [`CHART`].
pub const RELEASE: &str = "octopus";
/// Where a node that is not root keeps its configuration: the usual place is root's (the vendor's
/// chart does the same).
const CONFIGURATION: (&str, &str) = (
    "OCTOPUS_SERVER_CONFIGURATION_DIRECTORY",
    "/home/octopus/.local",
);
/// Port names.
pub const WEB: &str = "web";
/// See [`WEB`].
pub const POLLING: &str = "polling";
/// See [`WEB`].
pub const GRPC: &str = "grpcs";
/// See [`WEB`].
pub const TDS: &str = "sql";
/// Where SQL Server is in its pod.
pub const TDS_PORT: u16 = 1433;
/// How long a node may take to end after its tasks have, at least.
const STOP_MARGIN_S: u32 = 60;

/// What the manifests are written from.
#[derive(Clone, Debug)]
pub struct Cluster<'a> {
    /// What a person chose.
    pub options: &'a Options,
    /// The namespace.
    pub namespace: String,
    /// What the stack is called in labels.
    pub instance: String,
    /// How many nodes.
    pub nodes: u8,
    /// The nodes' image.
    pub image: String,
    /// The version, where the image names one, for a label.
    pub version: Option<String>,
    /// What each node may have here.
    pub limits: Limits,
    /// The nodes' environment.
    pub octopus: Environment,
    /// Directories that nodes share, by path; the name is the directory in the claim.
    pub shared: Vec<(String, String)>,
    /// Where gRPC is.
    pub grpc_port: u16,
    /// How long a node's start may take.
    pub start_limit_s: u32,
    /// The whole time that a node gets to end.
    pub grace_s: u32,
    /// SQL Server, if it runs in the cluster.
    pub sql: Option<Database>,
    /// What is not wrong, but will hurt.
    pub warnings: Vec<Problem>,
}

/// SQL Server in the cluster.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its image.
    pub image: String,
    /// Its environment.
    pub environment: Environment,
    /// What it may use, in megabytes.
    pub memory_mb: u32,
    /// What its container may have here.
    pub limits: Limits,
    /// How long its start may take.
    pub start_limit_s: u32,
    /// How long it gets to shut down.
    pub grace_s: u32,
}

impl<'a> Cluster<'a> {
    /// Makes all choices, or says everything that is wrong.
    pub fn new(source: &Source<'_>, options: &'a Options) -> Result<Self, Vec<Problem>> {
        let mut problems = options.bad_names();
        let internal = check(source, options, &mut problems);
        let connection = connection_string(source, options, internal, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let stack = source.stack_of_equals();
        let node = &stack.nodes[0];
        let timing = &source.config.timing;
        let image = image(source, options);
        let seconds =
            |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let sql = stack.sql.as_ref().filter(|_| internal);
        Ok(Self {
            options,
            namespace: options
                .namespace
                .clone()
                .unwrap_or_else(|| label_of(source.project.as_str())),
            instance: label_of(source.project.as_str()),
            nodes: source.config.octopus.nodes,
            version: version(&image),
            image,
            limits: node.limits,
            octopus: octopus_environment(options, node, &connection),
            shared: shared(node),
            grpc_port: vendor::grpc_port(&source.config.octopus.extra),
            start_limit_s: seconds(timing.node_start_limit).max(1_800),
            grace_s: options.drain_wait + STOP_MARGIN_S.max(seconds(timing.node_stop_grace)),
            sql: sql.map(|sql| Database {
                image: sql.image.clone(),
                environment: sql_environment(sql),
                memory_mb: source
                    .config
                    .sql
                    .as_ref()
                    .map_or(0, |sql| sql.memory_limit_mb),
                limits: sql.limits,
                start_limit_s: seconds(timing.sql_start_limit).max(600),
                grace_s: seconds(timing.sql_stop_limit).max(120),
            }),
            warnings: warnings(source, options, sql.is_some()),
        })
    }

    /// How many nodes are wished once this is applied.
    pub fn replicas(&self) -> u8 {
        if self.options.for_handover {
            0
        } else {
            self.nodes
        }
    }

    /// The labels of everything.
    pub fn labels(&self, name: &str) -> Labels {
        let mut labels = self.selector(name);
        labels.extend([
            ("app.kubernetes.io/part-of", "octopus-deploy".to_owned()),
            ("app.kubernetes.io/managed-by", "octo-local".to_owned()),
        ]);
        labels
    }

    /// The labels by which pods are selected, which can never change.
    pub fn selector(&self, name: &str) -> Labels {
        let (name, instance) = match self.options.format {
            // The chart makes these labels of its own name and the release's.
            Format::HelmValues if name == OCTOPUS => (CHART, RELEASE),
            Format::HelmValues | Format::Kustomize | Format::Yaml => (name, &*self.instance),
        };
        Labels::from([
            ("app.kubernetes.io/name", name.to_owned()),
            ("app.kubernetes.io/instance", instance.to_owned()),
        ])
    }

    /// The name of the nodes' StatefulSet: each node is that and a number.
    pub fn set_name(&self) -> String {
        match self.options.format {
            Format::HelmValues => format!("{RELEASE}-{CHART}"),
            Format::Kustomize | Format::Yaml => OCTOPUS.to_owned(),
        }
    }

    /// The metadata of an object of this namespace that belongs to nodes or to SQL Server.
    pub fn metadata(&self, of: &str, name: impl Into<String>) -> Metadata {
        Metadata {
            name: name.into(),
            namespace: Some(self.namespace.clone()),
            labels: self.labels(of),
            ..Metadata::default()
        }
    }

    /// All that is secret, by key.
    pub fn secrets(&self) -> std::collections::BTreeMap<String, Secret> {
        let mut secrets = self.octopus.secrets.clone();
        secrets.extend(
            self.sql
                .iter()
                .flat_map(|sql| sql.environment.secrets.clone()),
        );
        secrets
    }
}

/// Whether SQL Server runs in the cluster; what is wrong with the choices goes to the problems.
fn check(source: &Source<'_>, options: &Options, problems: &mut Vec<Problem>) -> bool {
    let has_own = source.config.sql.is_some();
    let internal = options.sql.map_or(has_own, |sql| sql == Sql::Internal);
    if internal && !has_own {
        problems.push(problem(
            "--sql",
            Some("internal"),
            "the configuration has no SQL Server of its own",
            "set SQL_IMAGE and SA_PASSWORD, or leave --sql out",
        ));
    }
    if !internal && has_own && options.sql_server.is_none() {
        problems.push(problem(
            "--sql",
            Some("external"),
            "the configuration's SQL Server is the stack's own, which a cluster cannot reach",
            "name the other one with --sql-server HOST,PORT",
        ));
    }
    let host = source.config.database.host.to_lowercase();
    if !internal && options.sql_server.is_none() && !has_own && is_this_host(&host) {
        problems.push(problem(
            "DB_CONNECTION_STRING",
            None,
            "its server is this host, and in a cluster that name is the pod itself or nobody",
            "name it as the cluster reaches it, with --sql-server HOST,PORT",
        ));
    }
    if internal && options.sql_server.is_some() {
        problems.push(problem(
            "--sql-server",
            None,
            "SQL Server runs in the cluster",
            "leave it out, or add --sql external",
        ));
    }
    if source.config.octopus.nodes > 1 && options.storage_class.is_none() {
        problems.push(problem(
            "--storage-class",
            None,
            "several nodes share their files, which a cluster's default class seldom allows: their pods would wait for ever",
            "name a class that allows ReadWriteMany, such as one of NFS, Azure Files or EFS",
        ));
    }
    if options.dind && options.image_flavour == Flavour::Hardened {
        problems.push(problem(
            "--dind",
            None,
            "the hardened image has no Docker-in-Docker",
            "leave it out, or take the standard image",
        ));
    }
    internal
}

/// Whether a name stands for the machine that it is used on.
fn is_this_host(name: &str) -> bool {
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost"
        || name.ends_with(".docker.internal")
        || address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// The connection string as the cluster needs it.
fn connection_string(
    source: &Source<'_>,
    options: &Options,
    internal: bool,
    problems: &mut Vec<Problem>,
) -> Secret {
    let given = &source.config.database.connection_string;
    let made = if internal {
        address::at(given, MSSQL, TDS_PORT).and_then(|text| address::encrypted(&text))
    } else if let Some(server) = &options.sql_server {
        match server_address(server) {
            Some((host, port)) => address::at(given, host, port),
            None => {
                problems.push(problem(
                    "--sql-server",
                    Some(server),
                    "it is no address",
                    "write HOST or HOST,PORT",
                ));
                return given.clone();
            }
        }
    } else {
        return given.clone();
    };
    made.unwrap_or_else(|error| {
        let why = error.to_string();
        problems.push(problem("DB_CONNECTION_STRING", None, &why, ""));
        given.clone()
    })
}

fn server_address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.split_once(',').unwrap_or((text, "1433"));
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
    let is_host = !host.is_empty() && host.chars().all(is_letter);
    let port = port.trim().parse().ok().filter(|port| *port > 0)?;
    is_host.then_some((host, port))
}

fn image(source: &Source<'_>, options: &Options) -> String {
    let octopus = &source.config.octopus;
    let tag = source.tag();
    let tag = match options.image_flavour {
        Flavour::Hardened if !tag.contains('@') && !tag.ends_with("-hardened") => {
            format!("{tag}-hardened")
        }
        Flavour::Hardened | Flavour::Standard => tag.to_owned(),
    };
    match tag.strip_prefix('@') {
        Some(digest) => format!("{}@{digest}", octopus.image),
        None => format!("{}:{tag}", octopus.image),
    }
}

/// The tag as a label may have it: up to 63 letters.
fn version(image: &str) -> Option<String> {
    let name = image.split('@').next()?;
    let tag = name.rsplit('/').next()?.split_once(':')?.1;
    let ends_well = |letter: Option<char>| letter.is_some_and(|it| it.is_ascii_alphanumeric());
    let is_good = tag.len() <= 63 && ends_well(tag.chars().next()) && ends_well(tag.chars().last());
    is_good.then(|| tag.to_owned())
}

fn octopus_environment(
    options: &Options,
    node: &ContainerSpec,
    connection: &Secret,
) -> Environment {
    let mut environment = Environment::default();
    environment
        .variables
        .push(EnvVar::pod_name("OCTOPUS_SERVER_NODE_NAME"));
    for (name, value) in &node.env {
        match name.as_str() {
            "OCTOPUS_SERVER_NODE_NAME" => {}
            "DB_CONNECTION_STRING" => environment.add(SECRET, name, connection),
            "DISABLE_DIND" => {
                let value = Secret::new(if options.dind { "N" } else { "Y" });
                environment.add(SECRET, name, &value);
            }
            _ => environment.add(SECRET, name, value),
        }
    }
    if !options.dind && options.image_flavour == Flavour::Standard {
        let (name, directory) = CONFIGURATION;
        if !node.env.contains_key(name) {
            environment.add(SECRET, name, &Secret::new(directory));
        }
        environment.add(SECRET, "USER", &Secret::new("octopus"));
    }
    environment
}

/// `SA_PASSWORD` is the old name of `MSSQL_SA_PASSWORD`; sqlcmd takes its own from the environment,
/// so no password stands in a command line.
fn sql_environment(sql: &ContainerSpec) -> Environment {
    let mut environment = Environment::default();
    for (name, value) in &sql.env {
        match name.as_str() {
            "SA_PASSWORD" => {}
            "MSSQL_SA_PASSWORD" => {
                environment.add_secret(SECRET, name, value);
                let same = EnvVar::literal("SQLCMDPASSWORD", "$(MSSQL_SA_PASSWORD)");
                environment.variables.push(same);
            }
            _ => environment.add(SECRET, name, value),
        }
    }
    environment
}

/// What all nodes share: every volume but `/cache`, which each has for itself.
fn shared(node: &ContainerSpec) -> Vec<(String, String)> {
    let paths = node.mounts.keys().filter(|path| *path != "/cache");
    paths
        .map(|path| (path.clone(), path.trim_start_matches('/').to_owned()))
        .collect()
}

fn warnings(source: &Source<'_>, options: &Options, internal: bool) -> Vec<Problem> {
    let octopus = &source.config.octopus;
    let mut warnings = Vec::new();
    let mut warn = |key: &str, why: &str, fix: &str| warnings.push(problem(key, None, why, fix));
    if moves(source.tag()) {
        warn(
            "OCTOPUS_SERVER_TAG",
            "this tag moves: pods that are made at different times may run different versions",
            "name a version of three numbers",
        );
    }
    if !octopus.disable_dind && !options.dind {
        warn(
            "DISABLE_DIND",
            "the nodes had Docker-in-Docker here, and have none in the cluster",
            "use workers, or add --dind for privileged pods",
        );
    }
    if options.ingress.is_some() && options.tls_secret.is_none() {
        warn(
            "--ingress",
            "the Ingress controller's own certificate is used",
            "name the Secret with a certificate for the host with --tls-secret",
        );
    }
    if internal {
        let sql = source.config.sql.as_ref();
        let is_sa = source.config.database.user.eq_ignore_ascii_case("sa");
        if sql.is_some_and(|sql| moves(tag_of(&sql.image))) {
            warn(
                "SQL_IMAGE",
                "this image moves: a new pod may bring a newer SQL Server, and its data cannot go back",
                "name a cumulative update, such as 2022-CU21-ubuntu-22.04",
            );
        }
        if is_sa {
            warn(
                "DB_CONNECTION_STRING",
                "Octopus Server logs in as sa, the administrator of the whole SQL Server",
                "make a login for it, as HANDOVER.md says, and name that one",
            );
        }
    }
    for (key, why, fix) in stays_here(octopus) {
        warn(key, why, fix);
    }
    if vendor::has_cluster_shared(&octopus.extra) && options.storage_class.is_none() {
        warn(
            vendor::CLUSTER_SHARED_MODE,
            "nodes share a directory, and the class of its storage is the cluster's default",
            "name one with --storage-class",
        );
    }
    warnings
}

/// What of this host no cluster has.
fn stays_here(
    octopus: &OctopusConfig,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let all = [
        (
            !octopus.networks.is_empty(),
            "EXTRA_NETWORKS",
            "a cluster does not know Docker's networks, nor the names in them",
            "see that the nodes reach by other names what they reached there",
        ),
        (
            !octopus.extra_mounts.is_empty(),
            "EXTRA_MOUNTS",
            "what is mounted of this host is not there in a cluster, and pods are made without it",
            "put what nodes need of it into a ConfigMap, a Secret or a claim, and mount that with a patch of the StatefulSet",
        ),
        (
            !octopus.extra_hosts.is_empty(),
            "EXTRA_HOSTS",
            "pods do not know these names: the addresses are those that this host sees",
            "have the cluster's name server know them, or add hostAliases to the StatefulSet",
        ),
    ];
    let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
    wanted.map(|(_, key, why, fix)| (key, why, fix))
}

/// The tag of a reference. One of SQL Server with a cumulative update in it does not move.
fn tag_of(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains("-CU") {
        return "@";
    }
    name.split_once(':').map_or("latest", |(_, tag)| tag)
}
