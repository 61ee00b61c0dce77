//! Observed state: only what Docker says, and only of what carries our labels.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::image;
use crate::spec::Digest;
use crate::spec::UnitId;

/// Everything of one project that the engine showed at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Our containers, in start order.
    pub containers: Vec<Container>,
    /// The containers of our Tentacles, by name. They are apart, so that no rule about the stack's
    /// own containers meets one: nobody waits for a Tentacle.
    pub tentacles: Vec<Container>,
    /// Our networks, by ID; more than one only after a race with something else.
    pub networks: BTreeMap<String, String>,
    /// Our volumes, by name.
    pub volumes: BTreeSet<String>,
    /// The image references of the desired state that the engine has, with the image's ID.
    pub images: BTreeMap<String, String>,
    /// What looks like ours and is not: it is named, and left alone.
    pub strangers: BTreeSet<Stranger>,
}

/// Something that looks like ours and is not. It carries our label (set by hand, or inherited from an
/// image that was made of one of our containers) without the name that we would give it, or it has
/// the name without the label. Each holds its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stranger {
    /// A container with our label.
    Container(String),
    /// A network with our label.
    Network(String),
    /// A volume with our label.
    Volume(String),
    /// A container without our label, under a name that one of our containers has: that one cannot
    /// be made.
    Namesake(String),
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(name) | Self::Namesake(name) => write!(out, "container {name}"),
            Self::Network(name) => write!(out, "network {name}"),
            Self::Volume(name) => write!(out, "volume {name}"),
        }
    }
}

/// One of our containers.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The engine's ID.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// The unit it is, by its label.
    pub unit: UnitId,
    /// The fingerprint of the definition it was made from.
    pub digest: Digest,
    /// The image reference it was made from.
    pub image: String,
    /// The ID of the image that the reference stood for when it was made.
    pub image_id: String,
    /// What it is doing.
    pub run: Run,
    /// The networks it is attached to: by ID, or by name while it was never started, when the
    /// engine knows no ID yet.
    pub networks: BTreeSet<String>,
    /// The network mode it was made with, a network's name or ID; empty where only the engine's
    /// list tells of it, which leaves it out on some engines. Newer engines attach a container
    /// whose mode is an ID to no other network.
    pub network_mode: String,
    /// Whether the engine itself would restart it: somebody changed the policy that we set to `no`.
    pub engine_restarts: bool,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// Created and never started.
    Created,
    /// Its process runs since `started_at`, which tells one run of a container from the next.
    Running {
        /// The engine's time of the start, as it wrote it.
        started_at: String,
    },
    /// Its process is frozen by somebody.
    Paused {
        /// The engine's time of the start, as it wrote it.
        started_at: String,
    },
    /// Its process ended.
    Exited {
        /// The engine's time of the start, as it wrote it.
        started_at: String,
        /// The exit code.
        code: i64,
        /// Whether the kernel killed it for memory.
        oom: bool,
        /// The engine's own error text, if it could not start or keep it.
        error: String,
    },
    /// The engine is taking it away.
    Removing,
}

/// One run of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// The container.
    pub id: String,
    /// The engine's time of the start, as it wrote it.
    pub started_at: String,
}

impl Instance {
    /// When it began, by the engine's clock; none where the engine could not be asked.
    pub fn began(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(&self.started_at, &Rfc3339).ok()
    }
}

impl Run {
    /// When it was started, where whoever told of it did not know that.
    pub fn set_started_at(&mut self, known: String) {
        match self {
            Self::Running { started_at }
            | Self::Paused { started_at }
            | Self::Exited { started_at, .. } => *started_at = known,
            Self::Created | Self::Removing => {}
        }
    }
}

impl Container {
    /// The run it is in or was in last, if it was ever started.
    pub fn instance(&self) -> Option<Instance> {
        match &self.run {
            Run::Running { started_at }
            | Run::Paused { started_at }
            | Run::Exited { started_at, .. } => Some(Instance {
                id: self.id.clone(),
                started_at: started_at.clone(),
            }),
            Run::Created | Run::Removing => None,
        }
    }

    /// Whether it is of another version than this reference, which stands for the image of this ID
    /// where that is known. One that was made anew after its tag moved carries an ID in the place
    /// of the reference, which says nothing about tags.
    pub fn is_of_another_version(&self, reference: &str, id: Option<&String>) -> bool {
        let named_otherwise = self.image != reference
            && self.image != self.image_id
            && image::normal(&self.image) != image::normal(reference);
        named_otherwise || id.is_some_and(|id| !self.image_id.is_empty() && *id != self.image_id)
    }

    /// Its run is over.
    pub fn end(&mut self, code: i64, oom: bool) {
        if let Run::Running { started_at } | Run::Paused { started_at } = &self.run {
            self.run = Run::Exited {
                started_at: started_at.clone(),
                code,
                oom,
                error: String::new(),
            };
        }
    }

    /// Whether a process of it exists, frozen or not.
    pub fn is_running(&self) -> bool {
        matches!(self.run, Run::Running { .. } | Run::Paused { .. })
    }
}

impl Observed {
    /// What one look showed, with the Tentacles put apart.
    #[must_use]
    pub fn with_containers(mut self, all: impl IntoIterator<Item = Container>) -> Self {
        (self.tentacles, self.containers) = all
            .into_iter()
            .partition(|container| container.unit.is_tentacle());
        self
    }

    /// All containers, those of Tentacles too.
    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().chain(&self.tentacles)
    }

    /// The same, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        self.containers.iter_mut().chain(&mut self.tentacles)
    }

    /// The container of a unit. Where there are several (a name was freed by hand), the running one
    /// counts.
    pub fn container(&self, unit: UnitId) -> Option<&Container> {
        let mut of_unit = self.all().filter(|container| container.unit == unit);
        let first = of_unit.next()?;
        Some(of_unit.fold(first, |best, next| {
            if next.is_running() && !best.is_running() {
                next
            } else {
                best
            }
        }))
    }

    /// Whether a container is attached to our network, or will be once it starts.
    pub fn is_attached(&self, container: &Container) -> bool {
        let Some(ours) = self.network() else {
            return false;
        };
        let by_name =
            || container.run == Run::Created && container.networks.contains(&self.networks[ours]);
        container.networks.contains(ours) || by_name()
    }

    /// Whether a running container can be attached to our network again: its network mode is the
    /// name of our network, or its ID. One made with the ID of a network that is gone has to be
    /// replaced.
    pub fn can_be_attached(&self, container: &Container) -> bool {
        let mode = &container.network_mode;
        let fits = |(id, name): (&String, &String)| id == mode || name == mode;
        mode.is_empty() || self.networks.iter().any(fits)
    }

    /// Our network. Where there are several (two of a name were made by hand), the one that a
    /// running container uses.
    pub fn network(&self) -> Option<&str> {
        let in_use = |id: &&String| {
            self.containers
                .iter()
                .any(|container| container.is_running() && container.networks.contains(*id))
        };
        self.networks
            .keys()
            .find(in_use)
            .or_else(|| self.networks.keys().next())
            .map(String::as_str)
    }

    /// Whether any container of an Octopus node runs.
    pub fn any_node_runs(&self) -> bool {
        self.containers
            .iter()
            .any(|container| container.unit != UnitId::Sql && container.is_running())
    }
}
