//! The engine's events, as hints about what to look at again. They may be dropped, doubled or late:
//! a slow relist is the truth.

use std::collections::BTreeMap;

use futures_util::Stream;
use hyper::Method;
use serde::Deserialize;

use super::Engine;
use super::EngineError;
use super::SLOW;
use super::ours;
use super::shown::lenient;
use super::wire::Lines;
use crate::config::project::ProjectName;
use crate::reconcile::container_event::ContainerEvent;

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

/// What the engine is asked to tell of.
const KINDS: [&str; 4] = ["container", "network", "volume", "image"];
/// The events that change something.
const EVENTS: [&str; 19] = [
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
];

/// An event. What is of another kind than expected counts as absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Message {
    #[serde(deserialize_with = "lenient")]
    r#type: String,
    #[serde(deserialize_with = "lenient")]
    action: String,
    #[serde(deserialize_with = "lenient")]
    actor: Actor,
    #[serde(deserialize_with = "lenient", rename = "timeNano")]
    time_nano: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(deserialize_with = "lenient", rename = "ID")]
    id: String,
    #[serde(deserialize_with = "lenient", rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

/// The stream of events, as far as it was read.
enum Reading {
    Closed,
    Open(Lines),
    Broken,
}

impl Engine {
    /// Events of the project's containers, and of all networks and volumes, from now on. The stream
    /// ends when the engine goes away; open it again and look at everything.
    ///
    /// An event that cannot be read is passed over: a slow relist finds what it told.
    pub fn hints(
        &self,
        project: &ProjectName,
    ) -> impl Stream<Item = Result<Hint, EngineError>> + use<> {
        let (engine, project) = (self.clone(), project.clone());
        futures_util::stream::unfold(Reading::Closed, move |reading| {
            let (engine, project) = (engine.clone(), project.clone());
            async move {
                let mut lines = match reading {
                    Reading::Broken => return None,
                    Reading::Open(lines) => lines,
                    Reading::Closed => match engine.open_events().await {
                        Ok(lines) => lines,
                        Err(error) => return Some((Err(error), Reading::Broken)),
                    },
                };
                loop {
                    match lines.next().await {
                        Ok(None) => return None,
                        Ok(Some(line)) => {
                            let told = serde_json::from_slice(&line).ok();
                            if let Some(hint) = told.and_then(|told| hint_of(told, &project)) {
                                return Some((Ok(hint), Reading::Open(lines)));
                            }
                        }
                        Err(error) => {
                            let error = EngineError::Broken {
                                attempt: "follow the engine's events".to_owned(),
                                source: error.into(),
                            };
                            return Some((Err(error), Reading::Broken));
                        }
                    }
                }
            }
        })
    }

    async fn open_events(&self) -> Result<Lines, EngineError> {
        let attempt = || "follow the engine's events".to_owned();
        let filters = serde_json::json!({ "type": KINDS, "event": EVENTS }).to_string();
        let query = [("filters", filters.as_str())];
        let opening = self.stream(attempt, Method::GET, "/events", &query, &[]);
        match tokio::time::timeout(SLOW, opening).await {
            Ok(body) => Ok(Lines::new(body?)),
            Err(_) => Err(EngineError::TimedOut {
                attempt: attempt(),
                limit: SLOW,
            }),
        }
    }
}

fn hint_of(event: Message, project: &ProjectName) -> Option<Hint> {
    let Actor { id, attributes } = event.actor;
    let name = attributes.get("name").map_or("", String::as_str);
    match event.r#type.as_str() {
        "container" if ours::carries_label(project, &attributes) => {
            let nanos = i128::from(event.time_nano);
            Some(Hint::Container(ContainerEvent {
                id,
                word: event.action,
                at: time::OffsetDateTime::from_unix_timestamp_nanos(nanos).ok(),
                signal: attributes.get("signal").cloned(),
                code: attributes
                    .get("exitCode")
                    .and_then(|code| code.parse().ok()),
            }))
        }
        // Somebody else takes or frees one of our names.
        "container" => ours::has_our_name(project, name).then_some(Hint::Infrastructure),
        "network" => name
            .starts_with(project.as_str())
            .then_some(Hint::Infrastructure),
        "volume" => (id.starts_with(project.as_str()) && !ours::is_lease(project, &id))
            .then_some(Hint::Infrastructure),
        "image" => Some(Hint::Images),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str) -> Option<Hint> {
        let project = crate::config::project::normalise("shop").unwrap();
        serde_json::from_str(text)
            .ok()
            .and_then(|told| hint_of(told, &project))
    }

    #[test]
    fn a_name_of_ours_that_somebody_takes_is_looked_at_and_a_renewed_lease_is_not() {
        let container = |name: &str| {
            hint(&format!(
                r#"{{"Type":"container","Action":"create","Actor":{{"ID":"x","Attributes":{{"name":"{name}"}}}}}}"#
            ))
        };
        assert_eq!(container("shop-db-1"), Some(Hint::Infrastructure));
        assert_eq!(container("shop-web-1"), None);
        let volume = |name: &str| {
            hint(&format!(
                r#"{{"Type":"volume","Action":"create","Actor":{{"ID":"{name}","Attributes":{{}}}}}}"#
            ))
        };
        assert_eq!(volume("shop_sql-data"), Some(Hint::Infrastructure));
        assert_eq!(volume("shop_octo-local-lease-7"), None);
    }

    #[test]
    fn words_that_nobody_knows_yet_are_passed_over() {
        assert_eq!(hint(r#"{"Type":"hologram","Action":"beam"}"#), None);
        assert_eq!(hint(r#"{"Type":7}"#), None);
    }
}
