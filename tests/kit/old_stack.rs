//! Stacks of docker compose, made with plain calls to the engine as compose makes them, of the
//! stand-ins' images. Dropping one takes everything of it away.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::models::EndpointSettings;
use bollard::models::HostConfig;
use bollard::models::NetworkCreateRequest;
use bollard::models::NetworkingConfig;
use bollard::models::PortBinding;
use bollard::models::RestartPolicy;
use bollard::models::RestartPolicyNameEnum;
use bollard::query_parameters as query;

use super::docker::Witness;
use super::foreign::ForeignVolume;
use super::http;
use super::images::Images;
use super::images::TAGS;
use super::process::wait_until;
use super::stack::ADMIN_PASSWORD;
use super::stack::SA_PASSWORD;
use super::stack::Stack;

/// What an old container's name ends in while it is kept.
pub(crate) const KEPT: &str = "-before-octo-local";
const PROJECT: &str = "com.docker.compose.project";

/// How a compose file has it.
pub(crate) struct Shape {
    /// The names of the services: SQL Server's and Octopus Server's.
    pub(crate) services: [&'static str; 2],
    /// Between project, service and number: `_` in compose's first version, `-` in its second.
    pub(crate) separator: char,
    /// What is mounted in SQL Server's container, and in the node's: source and target.
    pub(crate) mounts: [Vec<(String, &'static str)>; 2],
    /// More of the node's environment.
    pub(crate) env: Vec<(&'static str, &'static str)>,
    /// More ports of the node: of the host, of the container.
    pub(crate) ports: Vec<(u16, u16)>,
}

/// A stack of compose's.
pub(crate) struct OldStack {
    /// SQL Server's container, and the node's.
    pub(crate) names: [String; 2],
    /// Its compose project.
    pub(crate) project: String,
    port: u16,
    /// The stack of octo-local's that may be made of it.
    successor: String,
    volumes: Vec<ForeignVolume>,
    witness: Witness,
}

impl OldStack {
    /// Makes it, and waits until it serves. Its ports are those that the stack's `.env` has.
    pub(crate) fn up(stack: &Stack, project: &str, shape: &Shape) -> Self {
        let witness = Witness::new();
        let [db, node] = shape.services;
        let name = |service: &str| {
            let separator = shape.separator;
            format!("{project}{separator}{service}{separator}1")
        };
        let sources = shape.mounts.iter().flatten().map(|(source, _)| source);
        let volumes = sources
            .filter(|source| !source.starts_with('/'))
            .map(|source| ForeignVolume::labelled(source, labels(project, "volume", source)))
            .collect();
        let old = Self {
            names: [name(db), name(node)],
            project: project.to_owned(),
            port: stack.web(),
            successor: stack.label(),
            volumes,
            witness,
        };
        let network = NetworkCreateRequest {
            name: format!("{project}_default"),
            labels: Some(labels(project, "network", "default")),
            ..NetworkCreateRequest::default()
        };
        let made = old.witness.docker().create_network(network);
        old.witness.wait(made).unwrap();
        old.create(
            0,
            shape,
            Images::sql(),
            sql_env(),
            &[(stack.port("db"), 1433)],
        );
        let mut ports = vec![(old.port, 8080)];
        ports.extend(&shape.ports);
        let image = format!("{}:{}", Images::octopus(), TAGS[0]);
        old.create(1, shape, image, node_env(db, &shape.env), &ports);
        old.wait_until_it_serves();
        old
    }

    /// Makes the container of a service, by its number, and starts it.
    fn create(
        &self,
        number: usize,
        shape: &Shape,
        image: String,
        env: Vec<String>,
        ports: &[(u16, u16)],
    ) {
        let (service, network) = (shape.services[number], format!("{}_default", self.project));
        let mounts = shape.mounts[number].iter();
        let binds = mounts.map(|(source, target)| format!("{source}:{target}"));
        let endpoint = EndpointSettings {
            aliases: Some(vec![service.to_owned()]),
            ..EndpointSettings::default()
        };
        let body = ContainerCreateBody {
            image: Some(image),
            env: Some(env),
            labels: Some(labels(&self.project, "service", service)),
            open_stdin: Some(true),
            host_config: Some(HostConfig {
                binds: Some(binds.collect()),
                port_bindings: Some(ports.iter().copied().map(published).collect()),
                network_mode: Some(network.clone()),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::ALWAYS),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network, endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        let name = &self.names[number];
        let options = query::CreateContainerOptionsBuilder::default()
            .name(name)
            .build();
        let made = self.witness.docker().create_container(Some(options), body);
        self.witness.wait(made).unwrap();
        self.witness.start(name);
    }

    pub(crate) fn wait_until_it_serves(&self) {
        wait_until("the old stack serves", || {
            let (status, _) = http::get(self.port, "/api", "")?;
            (status == 200).then_some(())
        });
    }

    /// Whether its containers run under their names, with their restart policy.
    pub(crate) fn runs(&self) -> bool {
        self.names.iter().all(|name| {
            let seen = self.witness.inspect(name);
            let policy = seen
                .as_ref()
                .and_then(|seen| seen.host_config.clone()?.restart_policy?.name);
            policy == Some(RestartPolicyNameEnum::ALWAYS)
                && seen.and_then(|seen| seen.state?.running) == Some(true)
        })
    }

    /// Whether its containers are kept, stopped, under other names.
    pub(crate) fn is_kept(&self) -> bool {
        self.names.iter().all(|name| {
            let seen = self.witness.inspect(&format!("{name}{KEPT}"));
            seen.and_then(|seen| seen.state?.running) == Some(false)
        })
    }

    /// What the engine has of it: containers by ID, volumes, with labels.
    pub(crate) fn things(&self) -> BTreeMap<String, String> {
        let containers = self.names.iter().filter_map(|name| {
            let seen = self.witness.inspect(name)?;
            Some((name.clone(), format!("{:?}", seen.id)))
        });
        let volumes = self.volumes.iter().map(|volume| {
            let labels: BTreeMap<_, _> = volume.labels().into_iter().collect();
            (volume.name().to_owned(), format!("{labels:?}"))
        });
        containers.chain(volumes).collect()
    }

    /// Whether the volumes are there with the labels that they had.
    pub(crate) fn has_its_volumes(&self) -> bool {
        let is_labelled = |volume: &ForeignVolume| {
            let labels = volume.labels();
            labels.get(PROJECT) == Some(&self.project) && labels.len() == 2
        };
        self.volumes.iter().all(is_labelled)
    }
}

fn labels(project: &str, key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([
        (PROJECT.to_owned(), project.to_owned()),
        (format!("com.docker.compose.{key}"), value.to_owned()),
    ])
}

fn lines(env: &[(&str, &str)]) -> Vec<String> {
    let lines = env.iter().map(|(key, value)| format!("{key}={value}"));
    lines.collect()
}

fn sql_env() -> Vec<String> {
    lines(&[
        ("ACCEPT_EULA", "Y"),
        ("SA_PASSWORD", SA_PASSWORD),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
    ])
}

fn node_env(db: &str, more: &[(&str, &str)]) -> Vec<String> {
    let connection =
        format!("Server={db},1433;Database=OctopusDeploy;User=sa;Password={SA_PASSWORD};");
    let mut env = lines(&[
        ("ACCEPT_EULA", "Y"),
        ("ADMIN_USERNAME", "admin"),
        ("ADMIN_EMAIL", "octopus@example.local"),
        ("ADMIN_PASSWORD", ADMIN_PASSWORD),
        ("OCTOPUS_SERVER_NODE_NAME", "octo-old"),
        ("DB_CONNECTION_STRING", &connection),
        ("DISABLE_DIND", "Y"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
        ("STANDIN_OCTOPUS_STOP_MS", "0"),
    ]);
    env.extend(lines(more));
    env
}

fn published((host, container): (u16, u16)) -> (String, Option<Vec<PortBinding>>) {
    let binding = PortBinding {
        host_ip: Some("127.0.0.1".to_owned()),
        host_port: Some(host.to_string()),
    };
    (format!("{container}/tcp"), Some(vec![binding]))
}

impl Drop for OldStack {
    fn drop(&mut self) {
        let label = format!("{PROJECT}={}", self.project);
        // A test that failed may have left its successor on the volumes.
        for label in [&self.successor, &label] {
            for name in self.witness.containers(label) {
                self.witness.remove(&name);
            }
        }
        for id in self.witness.networks(&label) {
            let _ = self.witness.wait(self.witness.docker().remove_network(&id));
        }
    }
}
