//! Everything that an engine has, whosever it is: what must be known before something new is made
//! beside it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::ours;
use super::shown::Listed;
use super::shown::ListedPort;
use super::shown::Mount;
use super::shown::Volume;

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
    /// Looks at everything. What makes no sense costs nobody but itself.
    pub async fn inventory(&self) -> Result<Inventory, EngineError> {
        let (containers, volumes, networks) = futures_util::future::try_join3(
            self.list_containers(true, "{}"),
            self.list_volumes("{}"),
            self.list_networks("{}"),
        )
        .await?;
        // The right to act, and nobody's data.
        let is_lease = |volume: &Volume| ours::is_any_lease(&volume.name, volume.labels.keys());
        let volumes = volumes.into_iter().filter(|volume| !is_lease(volume));
        Ok(Inventory {
            containers: containers.into_iter().map(container_of).collect(),
            volumes: volumes
                .map(|volume| Thing {
                    name: volume.name,
                    labels: volume.labels,
                })
                .collect(),
            networks: networks
                .into_iter()
                .map(|network| Thing {
                    name: network.name,
                    labels: network.labels,
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

fn container_of(listed: Listed) -> AnyContainer {
    let runs = matches!(listed.state.as_str(), "running" | "paused" | "restarting");
    let name = listed.name().to_owned();
    let place = |mount: Mount| {
        if mount.name.is_empty() {
            mount.source
        } else {
            mount.name
        }
    };
    let tcp = listed.ports.iter();
    let tcp = tcp.filter(|port| matches!(port.r#type.as_str(), "" | "tcp"));
    let held = |port: &ListedPort| {
        // Some engines leave the address out where it is every address.
        let ip = if port.ip.is_empty() {
            "0.0.0.0"
        } else {
            &port.ip
        };
        Some(HeldPort {
            ip: ip.parse().ok()?,
            port: port.public_port?,
        })
    };
    AnyContainer {
        runs,
        ports: tcp.filter_map(held).collect(),
        mounts: listed
            .mounts
            .into_iter()
            .map(place)
            .filter(|place| !place.is_empty())
            .collect(),
        thing: Thing {
            name,
            labels: listed.labels,
        },
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
