//! A container that only carries mounts: files reach volumes through it, and no process of it ever
//! runs. Its labels are not those of a stack's containers, so that no daemon takes it for one.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::models::HostConfig;
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::Engine;
use super::EngineError;
use super::SLOW;
use super::apply::binds_of;
use super::apply::directories_of;
use crate::config::project::ProjectName;
use crate::spec::Storage;

/// The project whose volumes it carries.
const CARRIES_FOR: &str = "octo-local.carries-for";

impl Engine {
    /// Makes one of this image, in the place of one that a killed process left. Gives its ID.
    pub async fn make_carrier(
        &self,
        project: &ProjectName,
        image: &str,
        mounts: &BTreeMap<String, Storage>,
    ) -> Result<String, EngineError> {
        self.remove_carrier(project).await?;
        self.make(project, names_of(project)[0].clone(), image, mounts)
            .await
    }

    /// Makes another one beside it: an engine holds a container for as long as its files are read
    /// (moby 20.10, `daemon/archive.go`: the lock is let go with the stream), so what is read from
    /// one cannot be written into the same.
    pub async fn make_second_carrier(
        &self,
        project: &ProjectName,
        image: &str,
        mounts: &BTreeMap<String, Storage>,
    ) -> Result<String, EngineError> {
        self.make(project, names_of(project)[1].clone(), image, mounts)
            .await
    }

    async fn make(
        &self,
        project: &ProjectName,
        name: String,
        image: &str,
        mounts: &BTreeMap<String, Storage>,
    ) -> Result<String, EngineError> {
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            labels: Some(HashMap::from([(
                CARRIES_FOR.to_owned(),
                project.to_string(),
            )])),
            host_config: Some(HostConfig {
                binds: Some(binds_of(mounts)),
                mounts: Some(directories_of(mounts)),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let attempt = || format!("create container {name}");
        let call = self.docker.create_container(Some(options), body);
        Ok(self.call(attempt, SLOW, call).await?.id)
    }

    /// Removes those of a project, if there are any: what only has their names is refused.
    pub async fn remove_carrier(&self, project: &ProjectName) -> Result<(), EngineError> {
        let everything = self.inventory().await?;
        for name in names_of(project) {
            let found = everything
                .containers
                .iter()
                .find(|one| one.thing.name == name);
            let Some(found) = found else {
                continue;
            };
            let carries_for = found.thing.labels.get(CARRIES_FOR).map(String::as_str);
            if carries_for != Some(project.as_str()) {
                let message = format!("the container {name} is somebody else's; rename it");
                return Err(EngineError::Refused {
                    attempt: "make room for a container".to_owned(),
                    status: 409,
                    message,
                });
            }
            self.remove_container(&name).await?;
        }
        Ok(())
    }
}

fn names_of(project: &ProjectName) -> [String; 2] {
    ["files", "copies"].map(|what| format!("{project}-octo-local-{what}"))
}
