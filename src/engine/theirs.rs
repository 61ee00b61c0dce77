//! Calls about containers and networks of somebody else, each asked for by a person: an adoption
//! looks at them, stops them, renames them, and starts them again.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bollard::models::ContainerUpdateBody;
use bollard::models::EndpointSettings;
use bollard::models::Ipam;
use bollard::models::IpamConfig;
use bollard::models::NetworkConnectRequest;
use bollard::models::NetworkCreateRequest;
use bollard::models::NetworkDisconnectRequest;
use bollard::models::RestartPolicy;
use bollard::models::RestartPolicyNameEnum;
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;
use bollard::query_parameters::ListNetworksOptions;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use bollard::query_parameters::RenameContainerOptionsBuilder;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::SLOW;
use super::holders::ALL;
use super::wire;
use crate::adopt::Seen;
use crate::adopt::record::OldNetwork;
use crate::adopt::seen::Restart;
use crate::adopt::seen::is_of;
use crate::spec::labels;

impl Engine {
    /// The containers of a compose project, without what their images set.
    pub async fn of_compose(&self, project: &str) -> Result<Vec<Seen>, EngineError> {
        let listed = self.list_containers(true, ALL).await?;
        let mut all = Vec::new();
        for one in listed {
            if !is_of(project, one.name(), &one.labels) {
                continue;
            }
            let Some(seen) = self.seen(&one.id).await? else {
                continue;
            };
            let (env, user) = self.image_defaults(&seen.image_id).await?;
            all.push(seen.without(&env, &user));
        }
        Ok(all)
    }

    /// A container, whosever it is; none where it is gone.
    pub async fn seen(&self, id: &str) -> Result<Option<Seen>, EngineError> {
        let attempt = || format!("inspect container {id}");
        let path = format!("/containers/{}/json", wire::encoded(id));
        match self.get(attempt, QUICK, &path, &[]).await {
            Ok(bytes) => Ok(Seen::parse(&bytes)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn image_defaults(&self, image: &str) -> Result<(Vec<String>, String), EngineError> {
        let call = self.docker.inspect_image(image);
        let attempt = || format!("inspect image {image}");
        match self.call(attempt, QUICK, call).await {
            Ok(answer) => {
                let config = answer.config.unwrap_or_default();
                Ok((
                    config.env.unwrap_or_default(),
                    config.user.unwrap_or_default(),
                ))
            }
            Err(error) if !error.is_unreachable() => Ok((Vec::new(), String::new())),
            Err(error) => Err(error),
        }
    }

    /// The network of this name that is not octo-local's, with its ID.
    pub async fn their_network(
        &self,
        name: &str,
    ) -> Result<Option<(String, OldNetwork)>, EngineError> {
        let call = self.docker.list_networks(None::<ListNetworksOptions>);
        let listed = self
            .call(|| "list networks".to_owned(), QUICK, call)
            .await?;
        let map = |map: Option<HashMap<String, String>>| -> BTreeMap<String, String> {
            map.unwrap_or_default().into_iter().collect()
        };
        for network in listed {
            let labels = map(network.labels);
            if network.name.as_deref() != Some(name) || labels.contains_key(labels::PROJECT) {
                continue;
            }
            let ranges = network.ipam.and_then(|ipam| ipam.config);
            let ranges = ranges.unwrap_or_default().into_iter();
            let found = OldNetwork {
                name: name.to_owned(),
                driver: network.driver.unwrap_or_default(),
                labels,
                options: map(network.options),
                internal: network.internal.unwrap_or_default(),
                attachable: network.attachable.unwrap_or_default(),
                ranges: ranges
                    .filter_map(|range| Some((range.subnet?, range.gateway.unwrap_or_default())))
                    .collect(),
            };
            return Ok(Some((network.id.unwrap_or_default(), found)));
        }
        Ok(None)
    }

    /// Makes a network as it was, in another address range where its own is taken meanwhile.
    pub async fn make_network(&self, network: &OldNetwork) -> Result<(), EngineError> {
        let attempt = || format!("create network {}", network.name);
        let with = |ranges: Option<Ipam>| NetworkCreateRequest {
            name: network.name.clone(),
            driver: Some(network.driver.clone()).filter(|driver| !driver.is_empty()),
            labels: Some(network.labels.clone().into_iter().collect()),
            options: Some(network.options.clone().into_iter().collect()),
            internal: Some(network.internal),
            attachable: Some(network.attachable),
            ipam: ranges,
            ..NetworkCreateRequest::default()
        };
        let ranges = network.ranges.iter().map(|(subnet, gateway)| IpamConfig {
            subnet: Some(subnet.clone()),
            gateway: Some(gateway.clone()).filter(|gateway| !gateway.is_empty()),
            ..IpamConfig::default()
        });
        let ranges = Ipam {
            config: Some(ranges.collect()),
            ..Ipam::default()
        };
        let exact = self.docker.create_network(with(Some(ranges)));
        match self.call(attempt, SLOW, exact).await {
            Err(error) if !error.is_unreachable() => {
                let other = self.docker.create_network(with(None));
                self.call(attempt, SLOW, other).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    /// Attaches a container that does not run to a network in the place of one of the same name
    /// that is gone.
    pub async fn join_again(
        &self,
        id: &str,
        network: &str,
        name: &str,
        aliases: &[String],
    ) -> Result<(), EngineError> {
        let leave = NetworkDisconnectRequest {
            container: id.to_owned(),
            force: Some(true),
        };
        let leaving = self.docker.disconnect_network(name, leave);
        let left = self
            .call(|| format!("leave the network {name}"), SLOW, leaving)
            .await;
        if let Err(error) = left {
            if error.is_unreachable() {
                return Err(error);
            }
            // It is on none of that name any more: that is what was wanted.
            tracing::debug!(%error, "the container was on no network of that name");
        }
        // The engine gives a container its own short ID as an alias, and takes none that is set.
        let own = |alias: &&String| !id.starts_with(alias.as_str());
        let aliases = aliases.iter().filter(own).cloned().collect();
        let join = NetworkConnectRequest {
            container: id.to_owned(),
            endpoint_config: Some(EndpointSettings {
                aliases: Some(aliases),
                ..EndpointSettings::default()
            }),
        };
        let joining = self.docker.connect_network(network, join);
        self.call(|| format!("join the network {name}"), SLOW, joining)
            .await
    }

    /// Gives a container another name.
    pub async fn rename_container(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        let call = self.docker.rename_container(id, options);
        self.call(|| format!("rename a container to {name}"), QUICK, call)
            .await
    }

    /// Gives a container a restart policy.
    pub async fn set_restart(&self, id: &str, restart: &Restart) -> Result<(), EngineError> {
        let name = match restart.name.as_str() {
            "always" => RestartPolicyNameEnum::ALWAYS,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            _ => RestartPolicyNameEnum::NO,
        };
        let body = ContainerUpdateBody {
            restart_policy: Some(RestartPolicy {
                name: Some(name),
                maximum_retry_count: Some(restart.max).filter(|max| *max > 0),
            }),
            ..ContainerUpdateBody::default()
        };
        let call = self.docker.update_container(id, body);
        let attempt = || "set the restart policy of the container".to_owned();
        self.call(attempt, QUICK, call).await
    }

    /// Removes a container that does not run. Its volumes stay, also those without a name: data may
    /// be in them.
    pub async fn remove_container_alone(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .v(false)
            .force(false)
            .build();
        let call = self.docker.remove_container(id, Some(options));
        let removed = self
            .call(|| "remove the container".to_owned(), SLOW, call)
            .await;
        match removed {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }

    /// Whether there is something at a path of a container.
    pub async fn has_path(&self, container: &str, path: &str) -> Result<bool, EngineError> {
        let options = ContainerArchiveInfoOptionsBuilder::default()
            .path(path)
            .build();
        let call = self
            .docker
            .get_container_archive_info(container, Some(options));
        let attempt = || format!("look for {path} in the container");
        match self.call(attempt, QUICK, call).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
