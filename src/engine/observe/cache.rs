//! What looks have seen: so that the next one costs one call when nothing changed, and what the
//! engine does not answer about now is still known.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::reconcile::Observed;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Run;
use crate::reconcile::observed::Stranger;

/// How long a silent container is not inspected again.
pub const SILENT_FOR: Duration = Duration::from_secs(30);

/// What is not a container of ours.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Our networks, by ID.
    pub networks: BTreeMap<String, String>,
    /// Our volumes.
    pub volumes: BTreeSet<String>,
    /// What looks like ours and is not.
    pub strangers: BTreeSet<Stranger>,
}

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub struct ObservationCache {
    /// Containers by ID, as inspected.
    containers: BTreeMap<String, Container>,
    /// Containers that had our name once: they are ours whatever they are called now.
    kept: BTreeSet<String>,
    /// The networks and volumes.
    around: Option<Around>,
    /// Images known to be there.
    images: BTreeMap<String, String>,
    /// Containers whose inspection got no answer, and since when: they are known from the list
    /// alone for a while.
    silent: BTreeMap<String, Instant>,
}

impl ObservationCache {
    /// Forgets one container: an event spoke of it, or it is gone.
    pub fn forget_container(&mut self, id: &str) {
        self.containers.remove(id);
    }

    /// Forgets networks and volumes.
    pub fn forget_infrastructure(&mut self) {
        self.around = None;
    }

    /// Forgets images.
    pub fn forget_images(&mut self) {
        self.images.clear();
    }

    /// Forgets everything: the next look is a full one.
    pub fn forget(&mut self) {
        *self = Self {
            silent: std::mem::take(&mut self.silent),
            kept: std::mem::take(&mut self.kept),
            ..Self::default()
        };
    }

    /// The IDs of containers that had our name once, for whoever keeps them over a restart.
    pub fn kept(&self) -> &BTreeSet<String> {
        &self.kept
    }

    /// Takes containers for ours whatever they are called now.
    pub fn keep(&mut self, ids: impl IntoIterator<Item = String>) {
        self.kept.extend(ids);
    }

    /// A list came, of containers with these IDs: what it does not have is gone, and who was silent
    /// for long enough is asked again.
    pub fn begin(&mut self, present: &BTreeSet<&str>, now: Instant) {
        self.kept.retain(|id| present.contains(id.as_str()));
        self.containers
            .retain(|id, _| present.contains(id.as_str()));
        self.silent.retain(|id, since| {
            present.contains(id.as_str()) && now.duration_since(*since) < SILENT_FOR
        });
    }

    /// Whether what is remembered of a container fits what the list says of it.
    pub fn fits(&self, listed: &Container) -> bool {
        let Some(known) = self.containers.get(&listed.id) else {
            return false;
        };
        let does_the_same =
            std::mem::discriminant(&listed.run) == std::mem::discriminant(&known.run);
        let has_moved = || listed.networks != known.networks && known.run != Run::Created;
        does_the_same && listed.name == known.name && !has_moved()
    }

    /// Whether an inspection of this container got no answer a short while ago.
    pub fn is_silent(&self, id: &str) -> bool {
        self.silent.contains_key(id)
    }

    /// An inspection of a container gets no answer.
    pub fn note_silent(&mut self, id: &str, now: Instant) {
        self.silent.entry(id.to_owned()).or_insert(now);
    }

    /// A container was inspected.
    pub fn note(&mut self, container: Container) {
        self.containers.insert(container.id.clone(), container);
    }

    /// Keeps of one container what the list says. The list tells no start time: it is taken from
    /// what is known of the same run.
    pub fn note_listed(&mut self, mut listed: Container) {
        let known = self.containers.get(&listed.id);
        if let Some(known) = known.and_then(Container::instance) {
            listed.run.set_started_at(known.started_at);
        }
        self.note(listed);
    }

    /// Whether networks and volumes have to be looked at.
    pub fn lacks_infrastructure(&self) -> bool {
        self.around.is_none()
    }

    /// Networks and volumes were looked at.
    pub fn note_infrastructure(&mut self, around: Around) {
        self.around = Some(around);
    }

    /// Those of these images that have to be looked at; what is known of others is forgotten.
    pub fn lacking_images<'a>(&mut self, images: &'a [String]) -> Vec<&'a String> {
        self.images.retain(|image, _| images.contains(image));
        let lacks = |image: &&String| !self.images.contains_key(*image);
        images.iter().filter(lacks).collect()
    }

    /// An image is there.
    pub fn note_image(&mut self, image: &str, id: String) {
        self.images.insert(image.to_owned(), id);
    }

    /// What all looks together have shown.
    pub fn seen(&self) -> Observed {
        let around = self.around.clone().unwrap_or_default();
        let mut containers: Vec<Container> = self.containers.values().cloned().collect();
        containers.sort_by(|one, other| (one.unit, &one.id).cmp(&(other.unit, &other.id)));
        let seen = Observed {
            networks: around.networks,
            volumes: around.volumes,
            images: self.images.clone(),
            strangers: around.strangers,
            ..Observed::default()
        };
        seen.with_containers(containers)
    }
}
