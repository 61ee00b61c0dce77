//! Everything that an engine has, whosever it is: what must be known before something new is made
//! beside it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use bollard::models::ContainerSummary;
use bollard::models::PortSummaryTypeEnum;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::query_parameters::ListNetworksOptions;
use bollard::query_parameters::ListVolumesOptions;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::ours;

/// Where an image says its version (opencontainers/image-spec, `annotations.md`).
const IMAGE_VERSION: &str = "org.opencontainers.image.version";

/// What an engine has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// All containers, also those that do not run.
    pub containers: Vec<AnyContainer>,
    /// All volumes.
    pub volumes: Vec<Thing>,
    /// All networks.
    pub networks: Vec<Thing>,
}

/// Something with a name and labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thing {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A container, whosever it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnyContainer {
    /// Its name and labels.
    pub thing: Thing,
    /// Its process runs, or is frozen.
    pub runs: bool,
    /// The volumes, by name, and the directories of the host that it mounts.
    pub mounts: BTreeSet<String>,
    /// The ports of the host that it holds.
    pub ports: Vec<HeldPort>,
}

/// A TCP port of the host that a container holds. Other protocols are in nobody's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPort {
    /// The address that it is bound to.
    pub ip: IpAddr,
    /// Its number.
    pub port: u16,
}

impl HeldPort {
    /// Whether nobody else can bind this port of this address meanwhile.
    pub fn is_in_the_way_of(&self, ip: IpAddr, port: u16) -> bool {
        let covers = self.ip == ip
            || self.ip.is_unspecified() && (self.ip.is_ipv6() || ip.is_ipv4())
            || ip.is_unspecified() && (ip.is_ipv6() || self.ip.is_ipv4());
        self.port == port && covers
    }
}

impl Engine {
    /// Looks at everything.
    pub async fn inventory(&self) -> Result<Inventory, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.call(
            || "list containers".to_owned(),
            QUICK,
            self.docker.list_containers(Some(options)),
        );
        let volumes = self.call(
            || "list volumes".to_owned(),
            QUICK,
            self.docker.list_volumes(None::<ListVolumesOptions>),
        );
        let networks = self.call(
            || "list networks".to_owned(),
            QUICK,
            self.docker.list_networks(None::<ListNetworksOptions>),
        );
        let (containers, volumes, networks) =
            futures_util::future::try_join3(containers, volumes, networks).await?;
        Ok(Inventory {
            containers: containers.into_iter().map(container_of).collect(),
            volumes: volumes
                .volumes
                .unwrap_or_default()
                .into_iter()
                // The right to act, and nobody's data.
                .filter(|volume| !ours::is_any_lease(&volume.name, volume.labels.keys()))
                .map(|volume| Thing {
                    name: volume.name,
                    labels: volume.labels.into_iter().collect(),
                })
                .collect(),
            networks: networks
                .into_iter()
                .map(|network| Thing {
                    name: network.name.unwrap_or_default(),
                    labels: network.labels.unwrap_or_default().into_iter().collect(),
                })
                .collect(),
        })
    }

    /// A volume, whosever it is; none where there is no such one.
    pub async fn volume(&self, name: &str) -> Result<Option<bollard::models::Volume>, EngineError> {
        let call = self.docker.inspect_volume(name);
        let attempt = || format!("inspect volume {name}");
        match self.call(attempt, QUICK, call).await {
            Ok(volume) => Ok(Some(volume)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The user that an image names; none where it is not there.
    pub async fn image_user(&self, image: &str) -> Result<Option<String>, EngineError> {
        let call = self.docker.inspect_image(image);
        let attempt = || format!("inspect image {image}");
        match self.call(attempt, QUICK, call).await {
            Ok(answer) => Ok(answer.config.map(|config| config.user.unwrap_or_default())),
            Err(error) if !error.is_unreachable() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The version that an image says of itself; none where it says nothing or is not there.
    pub async fn image_version(&self, image: &str) -> Result<Option<String>, EngineError> {
        let call = self.docker.inspect_image(image);
        let answer = self
            .call(|| format!("inspect image {image}"), QUICK, call)
            .await;
        match answer {
            Ok(answer) => {
                let labels = answer.config.and_then(|config| config.labels);
                let version = labels.and_then(|mut labels| labels.remove(IMAGE_VERSION));
                Ok(version.filter(|version| !version.is_empty()))
            }
            // It is about this image alone: nothing is known of it.
            Err(error) if !error.is_unreachable() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn container_of(summary: ContainerSummary) -> AnyContainer {
    let name = summary.names.unwrap_or_default().into_iter().next();
    let state = summary.state.map(|state| state.to_string());
    let mounts = summary.mounts.unwrap_or_default().into_iter();
    let ports = summary.ports.unwrap_or_default().into_iter();
    AnyContainer {
        thing: Thing {
            name: name.unwrap_or_default().trim_start_matches('/').to_owned(),
            labels: summary.labels.unwrap_or_default().into_iter().collect(),
        },
        runs: state
            .is_some_and(|word| matches!(word.as_str(), "running" | "paused" | "restarting")),
        mounts: mounts
            .filter_map(|mount| mount.name.filter(|name| !name.is_empty()).or(mount.source))
            .collect(),
        ports: ports
            .filter(|port| port.typ.is_none_or(|kind| kind == PortSummaryTypeEnum::TCP))
            .filter_map(|port| {
                // Some engines leave the address out where it is every address.
                let ip = port.ip.as_deref().filter(|ip| !ip.is_empty());
                Some(HeldPort {
                    ip: ip.unwrap_or("0.0.0.0").parse().ok()?,
                    port: port.public_port?,
                })
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_at_its_address_and_not_at_others() {
        let held = |ip: &str| HeldPort {
            ip: ip.parse().unwrap(),
            port: 8080,
        };
        let cases = [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0", "127.0.0.1", true),
            ("127.0.0.1", "0.0.0.0", true),
            ("::", "127.0.0.1", true),
            ("::1", "127.0.0.1", false),
            ("::1", "::", true),
            ("0.0.0.0", "::1", false),
        ];
        for (ours, theirs, expected) in cases {
            let theirs = theirs.parse().unwrap();
            assert_eq!(
                held(ours).is_in_the_way_of(theirs, 8080),
                expected,
                "{ours} {theirs}"
            );
            assert!(!held(ours).is_in_the_way_of(theirs, 8081));
        }
    }
}
