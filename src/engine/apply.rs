//! Carries out one action each. Idempotent: what is already so counts as done.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::models::ContainerUpdateBody;
use bollard::models::EndpointSettings;
use bollard::models::HostConfig;
use bollard::models::HostConfigLogConfig;
use bollard::models::Mount;
use bollard::models::MountType;
use bollard::models::NetworkConnectRequest;
use bollard::models::NetworkCreateRequest;
use bollard::models::NetworkingConfig;
use bollard::models::PortBinding;
use bollard::models::RestartPolicy;
use bollard::models::RestartPolicyNameEnum;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use bollard::query_parameters::KillContainerOptionsBuilder;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use bollard::query_parameters::StopContainerOptionsBuilder;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::SLOW;
use super::START;
use super::holders::InUse;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::labels;

impl Engine {
    /// Makes the project's network, unless one with our label is there.
    pub async fn create_network(&self, spec: &StackSpec) -> Result<(), EngineError> {
        let request = NetworkCreateRequest {
            name: spec.network.clone(),
            driver: Some("bridge".to_owned()),
            labels: Some(labels::of_network(spec).into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        let attempt = || format!("create network {}", spec.network);
        self.call(attempt, SLOW, self.docker.create_network(request))
            .await
            .map(|_| ())
    }

    /// Makes a volume with our labels. An existing one of that name is taken as it is.
    pub async fn create_volume(&self, spec: &StackSpec, name: &str) -> Result<(), EngineError> {
        let known = spec.volumes.iter();
        let mut known = known.filter(|(_, known)| known.ours() == Some(name));
        // Those of Tentacles are named for their keys as well.
        let by_name = || name.strip_prefix(spec.project.as_str())?.strip_prefix('_');
        let key = known.next().map(|(key, _)| key.as_str());
        let key = key.or_else(by_name).unwrap_or_default();
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels::of_volume(spec, key).into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        self.call(
            || format!("create volume {name}"),
            SLOW,
            self.docker.create_volume(request),
        )
        .await
        .map(|_| ())
    }

    /// Makes a container of this image, on the network with this ID: two networks may have the same
    /// name.
    ///
    /// Its network mode is the network's *name*. Docker 24 and newer attach a container whose mode
    /// is an ID to no other network ever again (moby `daemon/container_operations.go`: `could not
    /// find a network matching network mode`), so one that lost its network could not be mended.
    pub async fn create_container(
        &self,
        spec: &StackSpec,
        wanted: &ContainerSpec,
        network: &str,
        image: &str,
    ) -> Result<(), EngineError> {
        let options = CreateContainerOptionsBuilder::default()
            .name(&wanted.name)
            .build();
        let body = body_of(spec, wanted, network, image);
        let attempt = || format!("create container {}", wanted.name);
        self.call(
            attempt,
            SLOW,
            self.docker.create_container(Some(options), body),
        )
        .await?;
        self.join_networks(wanted).await
    }

    /// Attaches a new container to the networks of others: older engines take one at its creation.
    /// A container that is not on all of them must not start, so it goes again.
    async fn join_networks(&self, wanted: &ContainerSpec) -> Result<(), EngineError> {
        for network in &wanted.networks {
            let request = NetworkConnectRequest {
                container: wanted.name.clone(),
                endpoint_config: None,
            };
            let attempt = || format!("attach {} to the network {network}", wanted.name);
            let call = self.docker.connect_network(network, request);
            if let Err(error) = self.call(attempt, SLOW, call).await {
                let _ = self.remove_container(&wanted.name).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        self.call(
            || "start the container".to_owned(),
            START,
            self.docker.start_container(id, None),
        )
        .await
    }

    /// SIGTERM, then SIGKILL after the grace. Done when it does not run, for whatever reason.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let call = self.docker.stop_container(id, Some(options));
        let result = self
            .call(|| "stop the container".to_owned(), grace + SLOW, call)
            .await;
        absent_is_done(result)
    }

    /// SIGKILL. Done when it does not run, for whatever reason.
    pub async fn kill_container(&self, id: &str) -> Result<(), EngineError> {
        self.signal_container(id, "KILL").await
    }

    /// Sends a signal to a container's first process. Done when it does not run any more.
    pub async fn signal_container(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default()
            .signal(signal)
            .build();
        let call = self.docker.kill_container(id, Some(options));
        let attempt = || format!("send {signal} to the container");
        match self.call(attempt, QUICK, call).await {
            Err(error) if error.is_conflict() => Ok(()),
            other => absent_is_done(other),
        }
    }

    /// Removes a stopped container with its anonymous volumes.
    pub async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .v(true)
            .force(false)
            .build();
        let call = self.docker.remove_container(id, Some(options));
        let result = self
            .call(|| "remove the container".to_owned(), SLOW, call)
            .await;
        let under_way = |error: &EngineError| {
            error.is_conflict() && error.to_string().contains("already in progress")
        };
        match result {
            Err(error) if under_way(&error) => Ok(()),
            other => absent_is_done(other),
        }
    }

    /// Removes a network by ID. A refusal names the containers that are on it.
    pub async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        let call = self.docker.remove_network(id);
        let result = self
            .call(|| "remove the network".to_owned(), SLOW, call)
            .await;
        self.absent_is_done_or_who_uses(result, InUse::Network(id))
            .await
    }

    /// Removes a volume by name. A refusal names the containers that use it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let call = self
            .docker
            .remove_volume(name, None::<bollard::query_parameters::RemoveVolumeOptions>);
        let result = self
            .call(|| format!("remove volume {name}"), SLOW, call)
            .await;
        self.absent_is_done_or_who_uses(result, InUse::Volume(name))
            .await
    }

    async fn absent_is_done_or_who_uses(
        &self,
        result: Result<(), EngineError>,
        what: InUse<'_>,
    ) -> Result<(), EngineError> {
        match absent_is_done(result) {
            Err(error) => Err(self.with_users(error, what).await),
            Ok(()) => Ok(()),
        }
    }

    /// Attaches a container to our network again, under its names.
    pub async fn connect_network(
        &self,
        network: &str,
        id: &str,
        wanted: &ContainerSpec,
    ) -> Result<(), EngineError> {
        let request = NetworkConnectRequest {
            container: id.to_owned(),
            endpoint_config: Some(endpoint_of(wanted)),
        };
        let call = self.docker.connect_network(network, request);
        self.call(
            || "attach the container to the network".to_owned(),
            SLOW,
            call,
        )
        .await
    }

    /// Sets the engine's restart policy back to `no`.
    pub async fn disarm(&self, id: &str) -> Result<(), EngineError> {
        let body = ContainerUpdateBody {
            restart_policy: Some(no_restarts()),
            ..ContainerUpdateBody::default()
        };
        self.call(
            || "set the restart policy to no".to_owned(),
            QUICK,
            self.docker.update_container(id, body),
        )
        .await
    }
}

fn absent_is_done(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

fn no_restarts() -> RestartPolicy {
    RestartPolicy {
        name: Some(RestartPolicyNameEnum::NO),
        maximum_retry_count: None,
    }
}

/// The volumes among what is mounted.
pub(super) fn binds_of(mounts: &BTreeMap<String, Storage>) -> Vec<String> {
    let volumes = mounts.iter();
    volumes
        .filter_map(|(path, storage)| Some(format!("{}:{path}", storage.volume()?)))
        .collect()
}

/// The directories among it. So mounted, one that is gone is refused; by `binds`, the engine would
/// make an empty one.
pub(super) fn directories_of(mounts: &BTreeMap<String, Storage>) -> Vec<Mount> {
    let of = |(path, storage): (&String, &Storage)| match storage {
        Storage::Directory(source) => Some(directory(path, source)),
        Storage::Ours(_) | Storage::Theirs(_) => None,
    };
    mounts.iter().filter_map(of).collect()
}

/// What else of the host is mounted. A volume goes by `binds`, as those of data do.
fn extra_of(wanted: &ContainerSpec) -> (Vec<String>, Vec<Mount>) {
    let (mut binds, mut directories) = (Vec::new(), Vec::new());
    for extra in &wanted.extra_mounts {
        let mode = if extra.read_only { "ro" } else { "rw" };
        match &extra.source {
            Storage::Ours(name) | Storage::Theirs(name) => {
                binds.push(format!("{name}:{}:{mode}", extra.target));
            }
            Storage::Directory(source) => directories.push(Mount {
                read_only: Some(extra.read_only),
                ..directory(&extra.target, source)
            }),
        }
    }
    (binds, directories)
}

/// A directory, or a file, of the host.
fn directory(path: &str, source: &str) -> Mount {
    Mount {
        target: Some(path.to_owned()),
        source: Some(source.to_owned()),
        typ: Some(MountType::BIND),
        ..Mount::default()
    }
}

fn endpoint_of(wanted: &ContainerSpec) -> EndpointSettings {
    let mut aliases = wanted.aliases.clone();
    aliases.push(wanted.unit.service().to_owned());
    aliases.sort_unstable();
    aliases.dedup();
    EndpointSettings {
        aliases: Some(aliases),
        ..EndpointSettings::default()
    }
}

fn body_of(
    spec: &StackSpec,
    wanted: &ContainerSpec,
    network: &str,
    image: &str,
) -> ContainerCreateBody {
    let env = wanted
        .env
        .iter()
        .map(|(key, value)| format!("{key}={}", value.expose()))
        .collect();
    // The engine goes by the name, which two networks may have, unless the ID stands here as well.
    // The mode is the name: see `create_container`.
    let endpoint = EndpointSettings {
        network_id: Some(network.to_owned()),
        ..endpoint_of(wanted)
    };
    ContainerCreateBody {
        hostname: Some(wanted.hostname.clone()),
        user: wanted.user.clone(),
        image: Some(image.to_owned()),
        env: Some(env),
        open_stdin: Some(wanted.open_stdin),
        stop_timeout: Some(i64::from(wanted.stop_timeout_s)),
        labels: Some(labels::of_container(spec, wanted).into_iter().collect()),
        exposed_ports: Some(
            wanted
                .ports
                .iter()
                .map(|port| format!("{}/tcp", port.container))
                .collect(),
        ),
        host_config: Some(host_config(&spec.network, wanted)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(spec.network.clone(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(network_name: &str, wanted: &ContainerSpec) -> HostConfig {
    let binding = |port: &crate::spec::Port| PortBinding {
        host_ip: Some(port.host_ip.to_string()),
        host_port: Some(port.host.to_string()),
    };
    let ports = wanted
        .ports
        .iter()
        .map(|port| (format!("{}/tcp", port.container), Some(vec![binding(port)])));
    let limits = [
        ("max-size", wanted.log_max_size.clone()),
        ("max-file", wanted.log_max_files.to_string()),
    ];
    let (more_binds, more_directories) = extra_of(wanted);
    let binds = [binds_of(&wanted.mounts), more_binds].concat();
    let mounts = [directories_of(&wanted.mounts), more_directories].concat();
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    HostConfig {
        binds: Some(binds),
        mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        memory: wanted.limits.memory.map(|memory| number(memory.0)),
        nano_cpus: wanted.limits.processors.map(|all| number(all.0)),
        port_bindings: Some(ports.collect()),
        extra_hosts: Some(wanted.extra_hosts.clone()).filter(|hosts| !hosts.is_empty()),
        network_mode: Some(network_name.to_owned()),
        restart_policy: Some(no_restarts()),
        privileged: Some(wanted.privileged),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(
                limits
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            ),
        }),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Engines from 24 on attach a container that was made with an ID as its mode to no other
    /// network, so one that was made anew could never be joined.
    #[test]
    fn a_containers_mode_is_the_networks_name_and_its_endpoint_the_id() {
        let spec = StackSpec {
            network: "p_default".to_owned(),
            ..StackSpec::default()
        };
        let body = body_of(&spec, &ContainerSpec::default(), "3f2a", "sha256:1");
        let mode = body.host_config.and_then(|host| host.network_mode);
        assert_eq!(mode.as_deref(), Some("p_default"));
        let networks = body.networking_config.and_then(|all| all.endpoints_config);
        let endpoint = networks.unwrap().remove("p_default").unwrap();
        assert_eq!(endpoint.network_id.as_deref(), Some("3f2a"));
    }
}
