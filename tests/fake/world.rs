//! What the fake engine has: containers, networks, volumes, images, and the time-line of everything
//! that was asked and happened. Plain data under one lock; whoever holds the lock never waits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use tokio::sync::watch;

use super::call::Api;
use super::call::Refusal;
use super::container::Container;
use super::event::Event;
use super::timeline::Timeline;
use super::timeline::What;

/// A network.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created: String,
}

/// A volume: a directory.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
    pub(crate) created: String,
}

/// Everything that the engine has.
#[derive(Debug)]
pub(crate) struct World {
    /// Where volumes and the roots of containers are.
    pub(crate) dir: PathBuf,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) networks: Vec<Network>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// References, and the IDs of what they name.
    pub(crate) images: BTreeMap<String, String>,
    /// The reference that each image was made under.
    pub(crate) origins: BTreeMap<String, String>,
    /// Repositories that can be pulled from, whatever the tag.
    pub(crate) registry: BTreeSet<String>,
    pub(crate) timeline: Timeline,
    pub(crate) events: Vec<Event>,
    /// How many events there are.
    pub(crate) told: watch::Sender<usize>,
    pub(crate) api: Api,
    /// Whether privileged containers can run.
    pub(crate) privileged: bool,
    /// Whether there is an address range left for another network.
    pub(crate) subnets: bool,
    next: u64,
}

impl World {
    /// Whether no volume holds data; a lease does not.
    pub(crate) fn has_no_data(&self) -> bool {
        self.volumes
            .keys()
            .all(|name| name.contains("_octo-local-lease-"))
    }

    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            containers: BTreeMap::new(),
            networks: Vec::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            origins: BTreeMap::new(),
            api: super::call::API,
            registry: BTreeSet::new(),
            timeline: Timeline::default(),
            events: Vec::new(),
            told: watch::Sender::new(0),
            privileged: true,
            subnets: true,
            next: 0,
        }
    }

    /// An ID as the engine's: 64 hexadecimal digits, no two the same.
    pub(crate) fn new_id(&mut self) -> String {
        self.next += 1;
        let digest =
            <sha2::Sha256 as sha2::Digest>::digest(format!("{}{}", self.dir.display(), self.next));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tells everybody who follows the events.
    pub(crate) fn tell(
        &mut self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let image_id = self
            .containers
            .get(id)
            .map(|container| container.image_id.clone());
        let event = Event {
            image_id,
            ..Event::now(kind, action, id, attributes)
        };
        self.timeline.note(What::Happened(event.clone()));
        self.events.push(event);
        self.told.send_replace(self.events.len());
    }

    /// Tells of a container, with its labels, as the engine does.
    pub(crate) fn tell_of(&mut self, id: &str, action: &str, more: &[(&str, &str)]) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let mut attributes = container.labels.clone();
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.insert("image".to_owned(), container.image.clone());
        attributes.extend(
            more.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        self.tell("container", action, id, attributes);
    }

    /// The ID of the container with this name, ID, or beginning of an ID.
    pub(crate) fn id_of(&self, name: &str) -> Result<String, Refusal> {
        let named = self
            .containers
            .values()
            .find(|container| container.name == name.trim_start_matches('/'));
        let found = named.or_else(|| {
            self.containers
                .values()
                .find(|container| container.id.starts_with(name))
        });
        let absent = || Refusal::new(404, format!("No such container: {name}"));
        found
            .filter(|_| !name.is_empty())
            .map(|container| container.id.clone())
            .ok_or_else(absent)
    }

    pub(crate) fn container(&mut self, name: &str) -> Result<&mut Container, Refusal> {
        let id = self.id_of(name)?;
        Ok(self
            .containers
            .get_mut(&id)
            .expect("an ID that was just found"))
    }

    /// The network with this ID or name. `on` is how the engine ends its sentence about names that
    /// are not unique.
    pub(crate) fn network(&self, name: &str, on: &str) -> Result<&Network, Refusal> {
        if let Some(network) = self.networks.iter().find(|network| network.id == name) {
            return Ok(network);
        }
        let named: Vec<&Network> = self
            .networks
            .iter()
            .filter(|network| network.name == name)
            .collect();
        match named.as_slice() {
            [] => Err(Refusal::new(404, format!("network {name} not found"))),
            [network] => Ok(network),
            many => Err(Refusal::new(
                400,
                format!(
                    "network {name} is ambiguous ({} matches {on} name)",
                    many.len()
                ),
            )),
        }
    }

    /// The volume of this name, made without labels where there is none, as the engine does for a
    /// container's bind.
    pub(crate) fn volume(&mut self, name: &str, labels: BTreeMap<String, String>) -> &Volume {
        if !self.volumes.contains_key(name) {
            let dir = self.dir.join("volumes").join(name);
            std::fs::create_dir_all(&dir).expect("a temporary directory can be written");
            let volume = Volume {
                labels,
                dir,
                created: super::event::time_now(),
            };
            self.volumes.insert(name.to_owned(), volume);
            let driver = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
            self.tell("volume", "create", name, driver);
        }
        &self.volumes[name]
    }

    /// The containers that mount a volume, running or not.
    pub(crate) fn users_of(&self, volume: &str) -> Vec<String> {
        let uses = |container: &&Container| container.binds.iter().any(|(name, _)| name == volume);
        self.containers
            .values()
            .filter(uses)
            .map(|container| container.id.clone())
            .collect()
    }

    /// The labels of what a call is about, if it is there.
    pub(crate) fn labels_of(&self, kind: &str, name: &str) -> Option<BTreeMap<String, String>> {
        match kind {
            "container" => self
                .id_of(name)
                .ok()
                .map(|id| self.containers[&id].labels.clone()),
            "network" => self
                .network(name, "found on")
                .ok()
                .map(|network| network.labels.clone()),
            "volume" => self.volumes.get(name).map(|volume| volume.labels.clone()),
            _ => None,
        }
    }
}

/// The labels in a request's body.
pub(crate) fn labels_in(body: &Value) -> BTreeMap<String, String> {
    let labels = body["Labels"].as_object().into_iter().flatten();
    labels
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}
