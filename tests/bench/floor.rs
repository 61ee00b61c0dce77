//! The floor under a cold `up`: the calls that octo-local made, made again by a bare client that
//! decides nothing and waits for nothing but what it must: SQL Server before the first node, each
//! node before the next. What remains is the engine's time and the stand-ins' own.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::models::EndpointSettings;
use bollard::models::NetworkCreateRequest;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use futures_util::future::join;
use futures_util::future::try_join_all;
use octo_local::config::Secret;
use octo_local::octopus;
use octo_local::reconcile::health::Probe;
use octo_local::spec::DatabaseTarget;
use octo_local::sql;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::kit::docker::Witness;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;
use crate::proxy::Call;

/// Between two questions whether a server is ready: tight, yet they must not take the processor
/// from the server.
const ASK_EVERY: Duration = Duration::from_millis(3);
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What a cold `up` asks of the engine.
pub(crate) struct Script {
    network: NetworkCreateRequest,
    volumes: Vec<VolumeCreateRequest>,
    /// In start order, by name.
    containers: Vec<(String, ContainerCreateBody)>,
}

impl Script {
    /// Reads it off the calls of a cold `up`.
    pub(crate) fn of(calls: &[Call]) -> Self {
        let posted = |path: &str| -> Vec<&Call> {
            calls
                .iter()
                .filter(|call| call.method == "POST" && call.path.starts_with(path))
                .collect()
        };
        let network: NetworkCreateRequest = body_of(
            posted("/networks/create")
                .first()
                .expect("it makes a network"),
        );
        let mut containers: Vec<_> = posted("/containers/create")
            .into_iter()
            .map(container_of)
            .collect();
        for (_, body) in &mut containers {
            attach(body, &network.name);
        }
        // `NAME-db-1`, then `NAME-octopus-server-1`, …
        containers.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(containers.len(), 3, "a cold `up` makes everything once");
        Self {
            network,
            volumes: posted("/volumes/create").into_iter().map(body_of).collect(),
            containers,
        }
    }

    /// Plays it, and says how long it took until the last node was ready.
    pub(crate) fn play(&self, witness: &Witness, stack: &Stack) -> Duration {
        let begun = Instant::now();
        witness.wait(self.run(witness, stack));
        begun.elapsed()
    }

    async fn run(&self, witness: &Witness, stack: &Stack) {
        let docker = witness.docker();
        let volumes = try_join_all(
            self.volumes
                .iter()
                .map(|volume| docker.create_volume(volume.clone())),
        );
        let (network, volumes) = join(docker.create_network(self.network.clone()), volumes).await;
        network.unwrap();
        volumes.unwrap();
        let (sql, nodes) = self.containers.split_first().unwrap();
        let database = async {
            create(witness, sql).await;
            docker.start_container(&sql.0, None).await.unwrap();
            while sql::probe(&database(stack), ASK_LIMIT).await != Probe::Ready {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        join(
            database,
            futures_util::future::join_all(nodes.iter().map(|node| create(witness, node))),
        )
        .await;
        for (name, _) in nodes {
            docker.start_container(name, None).await.unwrap();
            while octopus::ping(address(stack, name), ASK_LIMIT).await != Probe::Ready {
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
    }
}

/// By name: the network that was recorded, by ID, is gone.
fn attach(body: &mut ContainerCreateBody, network: &str) {
    body.host_config.as_mut().unwrap().network_mode = Some(network.to_owned());
    let attachments = body
        .networking_config
        .as_mut()
        .unwrap()
        .endpoints_config
        .take()
        .unwrap();
    let by_name = |endpoint| EndpointSettings {
        network_id: None,
        ..endpoint
    };
    let attachments = attachments
        .into_values()
        .map(|endpoint| (network.to_owned(), by_name(endpoint)))
        .collect();
    body.networking_config.as_mut().unwrap().endpoints_config = Some(attachments);
}

async fn create(witness: &Witness, (name, body): &(String, ContainerCreateBody)) {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    witness
        .docker()
        .create_container(Some(options), body.clone())
        .await
        .unwrap();
}

fn container_of(call: &Call) -> (String, ContainerCreateBody) {
    let query = call.path.split_once('?').unwrap().1;
    let name = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("name="))
        .unwrap();
    (name.to_owned(), body_of(call))
}

fn body_of<T: DeserializeOwned>(call: &Call) -> T {
    serde_json::from_slice(&call.body).unwrap()
}

fn database(stack: &Stack) -> DatabaseTarget {
    DatabaseTarget {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: stack.port("db"),
        user: "sa".to_owned(),
        password: Secret::new(SA_PASSWORD),
        database: "OctopusDeploy".to_owned(),
    }
}

fn address(stack: &Stack, container: &str) -> SocketAddr {
    let unit = container.strip_prefix(&format!("{}-", stack.name)).unwrap();
    SocketAddr::from((Ipv4Addr::LOCALHOST, stack.port(unit)))
}
