//! Things of somebody else on the engine: they carry no label of ours, so the product must leave them alone.

use bollard::models::ContainerCreateBody;
use bollard::models::HostConfig;
use bollard::query_parameters as query;

use super::docker::Witness;
use super::images::Images;
use super::stack::SA_PASSWORD;
use super::stack::Stack;

/// A container of somebody else. Dropping it takes it away; it must go before the stack whose images it uses.
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
        let host = HostConfig { binds, ..HostConfig::default() };
        let foreign = Self::create(&format!("{}-foreign", stack.name), host);
        foreign.witness.wait(foreign.witness.docker().start_container(&foreign.name, None)).unwrap();
        foreign
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its process runs.
    pub(crate) fn runs(&self) -> bool {
        self.witness.inspect(&self.name).unwrap().state.unwrap().running.unwrap()
    }

    fn create(name: &str, host: HostConfig) -> Self {
        let foreign = Self { name: name.to_owned(), witness: Witness::new() };
        let options = query::CreateContainerOptionsBuilder::default().name(name).build();
        let body = ContainerCreateBody {
            image: Some(Images::sql()),
            env: Some(vec!["ACCEPT_EULA=Y".to_owned(), format!("MSSQL_SA_PASSWORD={SA_PASSWORD}")]),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        foreign.witness.wait(foreign.witness.docker().create_container(Some(options), body)).unwrap();
        foreign
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.witness.remove(&self.name);
    }
}
