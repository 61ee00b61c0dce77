//! Who holds what: ports, names, networks and volumes that containers of whatever project use.

use std::net::IpAddr;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::observe::filter;
use super::ours;
use super::shown;
use super::shown::Listed;
use super::shown::ListedPort;
use super::wire;
use crate::config::project::ProjectName;

/// The filter that every container passes.
pub(super) const ALL: &str = "{}";

impl Engine {
    /// Every running container that publishes a host port, with the ports.
    pub async fn published_ports(&self) -> Result<Vec<(String, Vec<u16>)>, EngineError> {
        let listed = self.list_containers(false, ALL).await?;
        let of = |one: Listed| {
            let ports = one.ports.iter().filter_map(|port| port.public_port);
            (one.name().to_owned(), ports.collect())
        };
        Ok(listed.into_iter().map(of).collect())
    }

    /// The name of the running container that publishes this port of the host on this address, or
    /// on one that overlaps it. `protocol` is `tcp` or `udp`.
    ///
    /// What listens on the host for a container is a process of the engine's (`docker-proxy`,
    /// `rootlesskit`, `dockerd`), which says nothing to people.
    pub async fn port_holder(
        &self,
        address: IpAddr,
        protocol: &str,
        port: u16,
    ) -> Result<Option<String>, EngineError> {
        let listed = self.list_containers(false, ALL).await?;
        let holds = |one: &&Listed| {
            one.ports
                .iter()
                .any(|published| overlaps(published, address, protocol, port))
        };
        Ok(listed.iter().find(holds).map(|one| one.name().to_owned()))
    }

    /// The names of containers, among those wanted, that exist without our label.
    pub async fn foreign_containers(
        &self,
        project: &ProjectName,
        names: &[&str],
    ) -> Result<Vec<String>, EngineError> {
        let listed = self.list_containers(true, ALL).await?;
        let foreign = listed
            .iter()
            .filter(|one| !ours::carries_label(project, &one.labels))
            .map(|one| one.name().to_owned());
        Ok(foreign
            .filter(|name| names.contains(&name.as_str()))
            .collect())
    }

    /// The running containers that use a volume, except those of the project.
    pub async fn foreign_users(
        &self,
        project: &ProjectName,
        volume: &str,
    ) -> Result<Vec<String>, EngineError> {
        let listed = self
            .list_containers(false, &filter("volume", volume))
            .await?;
        let foreign = listed
            .iter()
            .filter(|one| !ours::is_container(project, one));
        Ok(foreign.map(|one| one.name().to_owned()).collect())
    }

    /// The names of all containers that use a volume, running or not: it cannot be removed while
    /// there is one.
    pub async fn users_of_volume(&self, volume: &str) -> Result<Vec<String>, EngineError> {
        let listed = self
            .list_containers(true, &filter("volume", volume))
            .await?;
        Ok(listed.iter().map(|one| one.name().to_owned()).collect())
    }

    /// The names of the running containers on a network, by its ID: it cannot be removed while
    /// there is one.
    pub async fn users_of_network(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let attempt = || format!("inspect network {id}");
        let path = format!("/networks/{}", wire::encoded(id));
        let bytes = match self.get(attempt, QUICK, &path, &[]).await {
            Err(error) if error.is_absent() => return Ok(Vec::new()),
            other => other?,
        };
        let network: shown::Network =
            serde_json::from_slice(&bytes).map_err(|error| EngineError::Broken {
                attempt: attempt(),
                source: error.into(),
            })?;
        let names = network.containers.into_values().map(|one| one.name);
        Ok(names.filter(|name| !name.is_empty()).collect())
    }

    /// Adds who uses it to a refusal to remove something: the engine does not say that by name.
    pub(super) async fn with_users(&self, error: EngineError, of: InUse<'_>) -> EngineError {
        let EngineError::Refused {
            attempt,
            status,
            message,
        } = error
        else {
            return error;
        };
        let users = match of {
            InUse::Network(id) if message.contains("active endpoints") => {
                self.users_of_network(id).await
            }
            InUse::Volume(name) if message.contains("in use") => self.users_of_volume(name).await,
            InUse::Network(_) | InUse::Volume(_) => Ok(Vec::new()),
        };
        let users = users.unwrap_or_default();
        let message = if users.is_empty() {
            message
        } else {
            format!("{message}; it is used by {}", users.join(", "))
        };
        EngineError::Refused {
            attempt,
            status,
            message,
        }
    }
}

/// What cannot be removed.
#[derive(Clone, Copy, Debug)]
pub(super) enum InUse<'a> {
    /// A network, by ID.
    Network(&'a str),
    /// A volume, by name.
    Volume(&'a str),
}

/// Whether a published port keeps another one from being published.
fn overlaps(published: &ListedPort, address: IpAddr, protocol: &str, port: u16) -> bool {
    let kind = match published.r#type.as_str() {
        "" => "tcp",
        kind => kind,
    };
    // The engine leaves the address of a wildcard out, or writes it.
    let held: Option<IpAddr> = published.ip.parse().ok();
    let is_wild = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    published.public_port == Some(port)
        && kind == protocol
        && (is_wild(held) || address.is_unspecified() || held == Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_of_the_same_protocol_and_address_is_in_the_way() {
        let published = |ip: &str, kind: &str| ListedPort {
            ip: ip.to_owned(),
            public_port: Some(8080),
            r#type: kind.to_owned(),
        };
        let at = |published: &ListedPort, ip: &str, port: u16| {
            overlaps(published, ip.parse().unwrap(), "tcp", port)
        };
        assert!(at(&published("0.0.0.0", "tcp"), "127.0.0.1", 8080));
        assert!(at(&published("", ""), "127.0.0.1", 8080));
        assert!(at(&published("10.0.0.1", "tcp"), "0.0.0.0", 8080));
        assert!(at(&published("10.0.0.1", "tcp"), "10.0.0.1", 8080));
        assert!(!at(&published("10.0.0.1", "tcp"), "127.0.0.1", 8080));
        assert!(!at(&published("0.0.0.0", "udp"), "127.0.0.1", 8080));
        assert!(!at(&published("0.0.0.0", "tcp"), "127.0.0.1", 8081));
    }
}
