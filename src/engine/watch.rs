//! The engine's events, as hints about what to look at again. They may be dropped, doubled or late:
//! a slow relist is the truth.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::Stream;
use futures_util::StreamExt as _;

use super::Engine;
use super::EngineError;
use crate::config::project::ProjectName;
use crate::reconcile::container_event::ContainerEvent;
use crate::spec::labels;

/// What to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A container of ours, and what was told of it.
    Container(ContainerEvent),
    /// Networks and volumes.
    Infrastructure,
    /// Images: a reference may stand for another one now.
    Images,
}

impl Engine {
    /// Events of the project's containers, and of all networks and volumes, from now on. The stream
    /// ends when the engine goes away; open it again and look at everything.
    pub fn hints(
        &self,
        project: &ProjectName,
    ) -> impl Stream<Item = Result<Hint, EngineError>> + use<> {
        let filters = HashMap::from([
            (
                "type",
                ["container", "network", "volume", "image"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            (
                "event",
                [
                    "create",
                    "start",
                    "die",
                    "oom",
                    "pause",
                    "unpause",
                    "destroy",
                    "update",
                    "rename",
                    "connect",
                    "disconnect",
                    "remove",
                    "kill",
                    "tag",
                    "untag",
                    "pull",
                    "load",
                    "import",
                    "delete",
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
        ]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let engine = self.clone();
        let project = project.as_str().to_owned();
        let stream = self.docker.events(Some(options));
        stream.filter_map(move |item| {
            let hint = match item {
                Ok(event) => hint_of(event, &project).map(Ok),
                Err(error) => Some(Err(
                    engine.error("follow the engine's events".to_owned(), error)
                )),
            };
            std::future::ready(hint)
        })
    }
}

fn hint_of(event: bollard::models::EventMessage, project: &str) -> Option<Hint> {
    let word = event.typ.map(|word| word.to_string()).unwrap_or_default();
    let action = event.action.unwrap_or_default();
    let actor = event.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    match word.as_str() {
        "container" => {
            let ours = attributes.get(labels::PROJECT).map(String::as_str) == Some(project);
            let at = time::OffsetDateTime::from_unix_timestamp_nanos(
                event.time_nano.unwrap_or_default().into(),
            )
            .ok();
            ours.then(|| {
                Hint::Container(ContainerEvent {
                    id: actor.id.unwrap_or_default(),
                    word: action,
                    at,
                    signal: attributes.get("signal").cloned(),
                    code: attributes
                        .get("exitCode")
                        .and_then(|code| code.parse().ok()),
                })
            })
        }
        "network" => {
            let ours = attributes
                .get("name")
                .is_some_and(|name| name.starts_with(project));
            ours.then_some(Hint::Infrastructure)
        }
        "volume" => actor
            .id
            .is_some_and(|name| name.starts_with(project))
            .then_some(Hint::Infrastructure),
        "image" => Some(Hint::Images),
        _ => None,
    }
}
