//! What a plan is made of. An action is idempotent and leaves no choice to whoever carries it out.

use std::time::Duration;

use super::Cause;
use super::Mono;
use super::observed::Instance;
use crate::spec::UnitId;

/// One step. It names the container by ID wherever one exists, so that it cannot hit another of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fetch an image.
    Pull(String),
    /// Make the project's network.
    CreateNetwork,
    /// Make the volume with this key.
    CreateVolume(String),
    /// Make the unit's container.
    Create(UnitId),
    /// Attach a container to our network again.
    Connect(UnitId, String),
    /// Set the engine's restart policy back to `no`: one supervisor is enough.
    DisarmRestartPolicy(UnitId, String),
    /// Start the unit's container.
    Start(UnitId, String),
    /// Read the last log lines of a run that ended, so that its cause can be named.
    Examine(UnitId, Instance),
    /// End a run: for SQL Server by `SHUTDOWN`, then SIGTERM; SIGKILL after the grace.
    Stop {
        /// The unit.
        unit: UnitId,
        /// The run that is to end.
        instance: Instance,
        /// How long it may take before SIGKILL.
        grace: Duration,
        /// Why, for people.
        why: String,
        /// The failure that this is, if the run is not ended by choice.
        cause: Option<Cause>,
    },
    /// Remove a container that does not run, with its anonymous volumes.
    Remove(UnitId, String),
    /// Remove a network by ID.
    RemoveNetwork(String),
    /// Remove a data volume by name.
    RemoveVolume(String),
}

/// What an action works on. At most one action at a time on each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A unit and its container.
    Unit(UnitId),
    /// The project's network.
    Network,
    /// A volume.
    Volume(String),
    /// An image.
    Image(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(unit) => unit.fmt(out),
            Self::Network => out.write_str("network"),
            Self::Volume(name) => write!(out, "volume {name}"),
            Self::Image(name) => write!(out, "image {name}"),
        }
    }
}

impl Action {
    /// What it works on.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Pull(image) => Subject::Image(image.clone()),
            Self::CreateNetwork | Self::RemoveNetwork(_) => Subject::Network,
            Self::CreateVolume(name) | Self::RemoveVolume(name) => Subject::Volume(name.clone()),
            Self::Create(unit)
            | Self::Connect(unit, _)
            | Self::DisarmRestartPolicy(unit, _)
            | Self::Start(unit, _)
            | Self::Examine(unit, _)
            | Self::Remove(unit, _)
            | Self::Stop { unit, .. } => Subject::Unit(*unit),
        }
    }

    /// What people read while it is under way.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Pull(_) => "pulling",
            Self::CreateNetwork | Self::CreateVolume(_) | Self::Create(_) => "creating",
            Self::Connect(..) => "connecting",
            Self::DisarmRestartPolicy(..) => "disarming the engine's restart policy",
            Self::Start(..) => "starting",
            Self::Examine(..) => "examining",
            Self::Stop { .. } => "stopping",
            Self::Remove(..) | Self::RemoveNetwork(_) | Self::RemoveVolume(_) => "removing",
        }
    }
}

/// One step of the way, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// All of these may run at once.
    pub actions: Vec<Action>,
    /// The next instant at which time alone changes the plan.
    pub wake_at: Option<Mono>,
}
