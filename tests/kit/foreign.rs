//! Things of somebody else on the engine: they carry no label of ours, so the product must leave
//! them alone.

use std::collections::HashMap;

use bollard::errors::Error as BollardError;
use bollard::models::ContainerCreateBody;
use bollard::models::HostConfig;
use bollard::models::NetworkCreateRequest;
use bollard::models::PortBinding;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters as query;

use super::docker::Witness;
use super::images::Images;
use super::stack::SA_PASSWORD;
use super::stack::Stack;

/// A container of somebody else. Dropping it takes it away; it must go before the stack whose
/// images it uses.
pub(crate) struct Foreign {
    name: String,
    witness: Witness,
}

impl Foreign {
    /// A container of this name that does nothing.
    pub(crate) fn named(_stack: &Stack, name: &str) -> Self {
        Self::create(name, HostConfig::default())
    }

    /// A SQL Server on a volume of the stack.
    pub(crate) fn sql_on(stack: &Stack, volume: &str) -> Self {
        let binds = Some(vec![format!("{}_{volume}:/var/opt/mssql", stack.name)]);
        let host = HostConfig {
            binds,
            ..HostConfig::default()
        };
        let foreign = Self::create(&format!("{}-foreign", stack.name), host);
        foreign
            .witness
            .wait(
                foreign
                    .witness
                    .docker()
                    .start_container(&foreign.name, None),
            )
            .unwrap();
        foreign
    }

    /// A SQL Server that is published on a port of the engine's own bridge and of loopback, which
    /// containers and the host can reach and nobody else. It does not run yet. Gives the bridge's address too.
    pub(crate) fn sql_at(stack: &Stack, port: u16) -> (Self, String) {
        let bridge = stack
            .witness
            .wait(stack.witness.docker().inspect_network("bridge", None))
            .unwrap();
        let subnet = bridge
            .ipam
            .unwrap()
            .config
            .unwrap()
            .remove(0)
            .subnet
            .unwrap();
        let first: std::net::Ipv4Addr = subnet.split('/').next().unwrap().parse().unwrap();
        // The engine gives its bridge the first address of the range.
        let address = std::net::Ipv4Addr::from(u32::from(first) + 1).to_string();
        let binding = |address: &str| PortBinding {
            host_ip: Some(address.to_owned()),
            host_port: Some(port.to_string()),
        };
        let port_bindings = Some(HashMap::from([(
            "1433/tcp".to_owned(),
            Some(vec![binding(&address), binding("127.0.0.1")]),
        )]));
        let host = HostConfig {
            port_bindings,
            ..HostConfig::default()
        };
        (
            Self::create(&format!("{}-foreign", stack.name), host),
            address,
        )
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its process runs.
    pub(crate) fn runs(&self) -> bool {
        self.witness
            .inspect(&self.name)
            .unwrap()
            .state
            .unwrap()
            .running
            .unwrap()
    }

    fn create(name: &str, host: HostConfig) -> Self {
        let foreign = Self {
            name: name.to_owned(),
            witness: Witness::new(),
        };
        let options = query::CreateContainerOptionsBuilder::default()
            .name(name)
            .build();
        let body = ContainerCreateBody {
            image: Some(Images::sql()),
            env: Some(vec![
                "ACCEPT_EULA=Y".to_owned(),
                format!("MSSQL_SA_PASSWORD={SA_PASSWORD}"),
            ]),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        foreign
            .witness
            .wait(
                foreign
                    .witness
                    .docker()
                    .create_container(Some(options), body),
            )
            .unwrap();
        foreign
    }
}

/// A network of somebody else. Dropping it takes it away.
pub(crate) struct ForeignNetwork {
    /// Its ID.
    pub(crate) id: String,
    witness: Witness,
}

impl ForeignNetwork {
    /// One of this name on the stack's engine; an engine from 25 on refuses a second one of a name.
    pub(crate) fn named(stack: &Stack, name: &str) -> Option<Self> {
        let witness = Witness::at(&stack.engine());
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            ..NetworkCreateRequest::default()
        };
        match witness.wait(witness.docker().create_network(request)) {
            Ok(made) => Some(Self {
                id: made.id,
                witness,
            }),
            Err(BollardError::DockerResponseServerError {
                status_code: 409, ..
            }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether it is still there.
    pub(crate) fn exists(&self) -> bool {
        self.witness
            .wait(self.witness.docker().inspect_network(&self.id, None))
            .is_ok()
    }
}

impl Drop for ForeignNetwork {
    fn drop(&mut self) {
        let _ = self
            .witness
            .wait(self.witness.docker().remove_network(&self.id));
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.witness.remove(&self.name);
    }
}

/// A volume of somebody else, with these labels. Dropping it takes it away; whatever mounts it must
/// be gone by then.
pub(crate) struct ForeignVolume {
    name: String,
    witness: Witness,
}

impl ForeignVolume {
    /// One without labels.
    pub(crate) fn create(name: &str) -> Self {
        Self::labelled(name, HashMap::new())
    }

    /// One with these labels.
    pub(crate) fn labelled(name: &str, labels: HashMap<String, String>) -> Self {
        let volume = Self {
            name: name.to_owned(),
            witness: Witness::new(),
        };
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let call = volume.witness.docker().create_volume(request);
        volume.witness.wait(call).unwrap();
        volume
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is still there.
    pub(crate) fn exists(&self) -> bool {
        self.inspected().is_some()
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> HashMap<String, String> {
        self.inspected().unwrap().labels
    }

    fn inspected(&self) -> Option<bollard::models::Volume> {
        let call = self.witness.docker().inspect_volume(&self.name);
        self.witness.wait(call).ok()
    }
}

impl Drop for ForeignVolume {
    fn drop(&mut self) {
        let call = self
            .witness
            .docker()
            .remove_volume(&self.name, None::<query::RemoveVolumeOptions>);
        let _ = self.witness.wait(call);
    }
}
