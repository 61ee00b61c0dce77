//! Images: whether they are there, fetching them, and making the stand-ins' out of this very
//! program.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bollard::query_parameters::CreateImageOptionsBuilder;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use futures_util::StreamExt as _;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::SLOW;
use super::credentials;

/// A pull that shows no progress for this long is given up: the connection is dead (Nomad's
/// `pull_activity_timeout`).
pub(super) const PULL_SILENCE: std::time::Duration = std::time::Duration::from_secs(120);

impl Engine {
    /// The ID of an image, if the engine has it.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        match self
            .call(
                || format!("inspect image {image}"),
                QUICK,
                self.docker.inspect_image(image),
            )
            .await
        {
            Ok(answer) => Ok(Some(answer.id.unwrap_or_default())),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches an image. `progress` is given the engine's words as they come.
    pub async fn pull(
        &self,
        image: &str,
        env: &BTreeMap<String, String>,
        mut progress: impl FnMut(&str),
    ) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(image)
            .build();
        let mut stream =
            self.docker
                .create_image(Some(options), None, credentials::for_image(image, env));
        let attempt = || format!("pull image {image}");
        loop {
            match tokio::time::timeout(PULL_SILENCE, stream.next()).await {
                Err(_) => {
                    return Err(EngineError::TimedOut {
                        attempt: attempt(),
                        limit: PULL_SILENCE,
                    });
                }
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(self.error(attempt(), error)),
                Ok(Some(Ok(step))) => {
                    if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
                        return Err(EngineError::Refused {
                            attempt: attempt(),
                            status: 500,
                            message,
                        });
                    }
                    progress(step.status.as_deref().unwrap_or_default());
                }
            }
        }
    }

    /// Loads an image archive as `docker load` does.
    pub async fn load(&self, archive: Vec<u8>) -> Result<(), EngineError> {
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let mut stream =
            self.docker
                .import_image(options, bollard::body_full(archive.into()), None);
        let attempt = || "load the stand-in images".to_owned();
        let loading = async {
            while let Some(step) = stream.next().await {
                step.map_err(|error| self.error(attempt(), error))?;
            }
            Ok(())
        };
        tokio::time::timeout(SLOW, loading)
            .await
            .unwrap_or_else(|_| {
                Err(EngineError::TimedOut {
                    attempt: attempt(),
                    limit: SLOW,
                })
            })
    }

    /// Removes an image reference that no container, of whatever project, was made of. One that is
    /// gone stays gone.
    ///
    /// The engine itself would take a reference away under a container, as long as its image has
    /// another one.
    pub async fn remove_unused_image(&self, image: &str) -> Result<(), EngineError> {
        let filters = HashMap::from([("ancestor", vec![image.to_owned()])]);
        let users = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let listed = self
            .call(
                || "list containers".to_owned(),
                QUICK,
                self.docker.list_containers(Some(users)),
            )
            .await;
        match listed {
            Ok(users) if users.is_empty() => {}
            Ok(_) => return Ok(()),
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(error),
        }
        let options = RemoveImageOptionsBuilder::default().force(false).build();
        let call = self.docker.remove_image(image, Some(options), None);
        match self
            .call(|| format!("remove image {image}"), SLOW, call)
            .await
        {
            Err(error) if !error.is_absent() && !error.is_conflict() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Engine {
    /// Whether a volume of this name exists, whosever it is.
    pub async fn has_volume(&self, name: &str) -> Result<bool, EngineError> {
        match self
            .call(
                || format!("inspect volume {name}"),
                QUICK,
                self.docker.inspect_volume(name),
            )
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
