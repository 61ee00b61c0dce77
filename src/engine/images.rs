//! Images: whether they are there, fetching them, and making the stand-ins' out of this very
//! program.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use futures_util::StreamExt as _;
use hyper::Method;
use serde::Deserialize;

use super::Engine;
use super::EngineError;
use super::PullTrouble;
use super::SLOW;
use super::credentials;
use super::observe::filter;
use super::shown::lenient;
use super::wire::Lines;

/// How long a question about one image may take: it is answered from memory, and a look waits for
/// it.
const INSPECT_LIMIT: Duration = Duration::from_secs(10);
/// A pull that shows no progress for this long is given up: the connection is dead (Nomad's
/// `pull_activity_timeout`).
pub(super) const PULL_SILENCE: std::time::Duration = std::time::Duration::from_secs(120);

impl Engine {
    /// The ID of an image, if the engine has it. What is no reference to an image at all is not
    /// there either.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        match self
            .call(
                || format!("inspect image {image}"),
                INSPECT_LIMIT,
                self.docker.inspect_image(image),
            )
            .await
        {
            Ok(answer) => Ok(Some(answer.id.unwrap_or_default())),
            Err(error) if error.blames_the_request() => Ok(None),
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
        let attempt = || format!("pull image {image}");
        let refused = |error: EngineError| match error {
            EngineError::Refused { message, .. } => pull_error(image, message),
            other => other,
        };
        let mut headers = Vec::new();
        if let Some(login) = credentials::for_image(image, env).await {
            let text = serde_json::to_string(&login).unwrap_or_default();
            let encoded = base64::engine::general_purpose::URL_SAFE.encode(text);
            headers.push(("X-Registry-Auth", encoded));
        }
        let silent = |_| EngineError::TimedOut {
            attempt: attempt(),
            limit: PULL_SILENCE,
        };
        let query = [("fromImage", image)];
        let opening = self.stream(attempt, Method::POST, "/images/create", &query, &headers);
        let opened = tokio::time::timeout(PULL_SILENCE, opening).await;
        let mut lines = Lines::new(opened.map_err(silent)?.map_err(refused)?);
        loop {
            let next = tokio::time::timeout(PULL_SILENCE, lines.next()).await;
            let line = next.map_err(silent)?.map_err(|error| EngineError::Broken {
                attempt: attempt(),
                source: error.into(),
            })?;
            let Some(line) = line else {
                return Ok(());
            };
            let step: Step = serde_json::from_slice(&line).unwrap_or_default();
            let words = [step.error_detail.message, step.error];
            if let Some(words) = words.into_iter().find(|words| !words.is_empty()) {
                return Err(pull_error(image, super::bounded(&words)));
            }
            progress(&step.status);
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
        let listed = self.list_containers(true, &filter("ancestor", image)).await;
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

/// A line of a pull's progress.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    #[serde(deserialize_with = "lenient")]
    status: String,
    #[serde(deserialize_with = "lenient")]
    error: String,
    #[serde(deserialize_with = "lenient", rename = "errorDetail")]
    error_detail: ErrorDetail,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    #[serde(deserialize_with = "lenient")]
    message: String,
}

fn pull_error(image: &str, message: String) -> EngineError {
    EngineError::Pull {
        image: image.to_owned(),
        trouble: PullTrouble::of_words(&message),
        message,
    }
}

impl Engine {
    /// Whether a volume of this name exists, whosever it is.
    pub async fn has_volume(&self, name: &str) -> Result<bool, EngineError> {
        match self
            .call(
                || format!("inspect volume {name}"),
                super::QUICK,
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
