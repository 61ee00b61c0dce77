//! What a plan is made of. An action is idempotent and leaves no choice to whoever carries it out.

use std::time::Duration;

use super::Cause;
use super::Mono;
use super::Observed;
use super::observed::Container;
use super::observed::Instance;
use crate::spec::UnitId;

/// One step. It names the container by ID wherever one exists, so that it cannot hit another of the
/// same name.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fetch an image.
    Pull(String),
    /// Make the project's network.
    CreateNetwork,
    /// Make the volume of this name.
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
    /// Let a node finish its tasks and take no more.
    Drain {
        /// The node.
        unit: UnitId,
        /// The run that is asked.
        instance: Instance,
        /// How long its tasks may go on; those that are left then are cancelled.
        wait: Duration,
        /// Why it is ended afterwards; none, if a person only wants it drained.
        why: Option<Why>,
    },
    /// Let a node take tasks again; what still waits for the end of its tasks is broken off, so that
    /// none of them is cancelled.
    Undrain(UnitId, Instance),
    /// Take a node that left off Octopus Server's list of nodes.
    TakeOff {
        /// Its name there.
        node: String,
        /// The node that is asked to do it.
        by: UnitId,
    },
    /// Take a Tentacle that leaves off Octopus Server and remove its identity. Its container is
    /// gone.
    Retire {
        /// The Tentacle.
        unit: UnitId,
        /// What is deleted there; none: a registration stays, for a person to delete.
        from: Option<Registered>,
        /// The volume with its identity, if that is there.
        volume: Option<String>,
    },
    /// End a run: for SQL Server by `SHUTDOWN`, then SIGTERM; SIGKILL after the grace.
    Stop {
        /// The unit.
        unit: UnitId,
        /// The run that is to end.
        instance: Instance,
        /// How long it may take before SIGKILL.
        grace: Duration,
        /// How often SIGTERM is sent again until then, where it may have come before the process
        /// could take it.
        repeat: Option<Duration>,
        /// Why; a failure, if the run is not ended by choice.
        why: Why,
    },
    /// End a run at once: somebody asked twice to end, and will not wait for its grace.
    Kill(UnitId, Instance),
    /// Remove a container that does not run, with its anonymous volumes.
    Remove(UnitId, String),
    /// Remove a network by ID.
    RemoveNetwork(String),
    /// Remove a data volume by name.
    RemoveVolume(String),
}

/// What Octopus Server knows of a Tentacle, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The node that is asked to delete it.
    pub by: UnitId,
    /// The space, by name.
    pub space: String,
    /// It is a worker, not a target.
    pub is_worker: bool,
}

/// Why a run is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another container takes its place: its definition changed.
    Replaced,
    /// A person asked for a restart.
    Restarted,
    /// The configuration has fewer nodes now.
    Surplus,
    /// The operator stopped this unit.
    Halted,
    /// The data is saved, or is brought back, and no node runs meanwhile.
    Resting,
    /// The whole stack is stopped or taken down.
    Down,
    /// A node ends because its database is about to.
    DatabaseEnds,
    /// It is beyond waiting for, and is started again.
    Broken(Cause),
}

impl Why {
    /// Whether a node that serves finishes its tasks first.
    pub fn drains(self) -> bool {
        match self {
            Self::Replaced
            | Self::Restarted
            | Self::Surplus
            | Self::Halted
            | Self::Resting
            | Self::Down
            | Self::DatabaseEnds => true,
            Self::Broken(_) => false,
        }
    }

    /// The failure that ends the run, if it is not ended by choice.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Broken(cause) => Some(cause),
            Self::Replaced
            | Self::Restarted
            | Self::Surplus
            | Self::Halted
            | Self::Resting
            | Self::Down
            | Self::DatabaseEnds => None,
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Replaced => "it is replaced",
            Self::Restarted => "it is restarted, as somebody asked",
            Self::Surplus => "it is one node too many",
            Self::Halted => "the operator stopped it",
            Self::Resting => "the database is worked on, and no node runs meanwhile",
            Self::Down => "the stack goes down",
            Self::DatabaseEnds => "SQL Server is stopped too",
            Self::Broken(cause) => cause.title(),
        })
    }
}

/// What an action works on. At most one action at a time on each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A unit and its container.
    Unit(UnitId),
    /// The process of a unit that is being stopped already.
    Process(UnitId),
    /// The tasks that a node finishes: stopping it waits for nothing that works on this.
    Tasks(UnitId),
    /// Whether a node takes tasks again: that breaks off what works on [`Self::Tasks`].
    TasksAgain(UnitId),
    /// The log of a unit: reading it is in nobody's way.
    Log(UnitId),
    /// The place of a node, by its name, on Octopus Server's list.
    Place(String),
    /// The project's network.
    Network,
    /// A volume.
    Volume(String),
    /// An image.
    Image(String),
}

impl Subject {
    /// Whether it is about a Tentacle, which is in nobody's way.
    pub fn is_of_tentacle(&self) -> bool {
        match self {
            Self::Unit(unit)
            | Self::Process(unit)
            | Self::Tasks(unit)
            | Self::TasksAgain(unit)
            | Self::Log(unit) => unit.is_tentacle(),
            Self::Place(_) | Self::Network | Self::Volume(_) | Self::Image(_) => false,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(unit)
            | Self::Process(unit)
            | Self::Tasks(unit)
            | Self::TasksAgain(unit)
            | Self::Log(unit) => unit.fmt(out),
            Self::Place(node) => write!(out, "node {node}"),
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
            | Self::Remove(unit, _)
            | Self::Retire { unit, .. }
            | Self::Stop { unit, .. } => Subject::Unit(*unit),
            Self::Kill(unit, _) => Subject::Process(*unit),
            Self::Drain { unit, .. } => Subject::Tasks(*unit),
            Self::Undrain(unit, _) => Subject::TasksAgain(*unit),
            Self::TakeOff { node, .. } => Subject::Place(node.clone()),
            Self::Examine(unit, _) => Subject::Log(*unit),
        }
    }

    /// What is being done.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Pull(_) => Verb::Pull,
            Self::CreateNetwork | Self::CreateVolume(_) | Self::Create(_) => Verb::Create,
            Self::Connect(..) => Verb::Connect,
            Self::DisarmRestartPolicy(..) => Verb::Disarm,
            Self::Start(..) => Verb::Start,
            Self::Examine(..) => Verb::Examine,
            Self::Drain { .. } => Verb::Drain,
            Self::Undrain(..) => Verb::Undrain,
            Self::TakeOff { .. } => Verb::TakeOff,
            Self::Retire { .. } => Verb::Retire,
            Self::Stop { .. } => Verb::Stop,
            Self::Kill(..) => Verb::Kill,
            Self::Remove(..) | Self::RemoveNetwork(_) | Self::RemoveVolume(_) => Verb::Remove,
        }
    }
}

/// What an action does to its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// An image is fetched.
    Pull,
    /// A container, the network or a volume is made.
    Create,
    /// A container is attached to the network again.
    Connect,
    /// The engine's restart policy is set back to `no`.
    Disarm,
    /// A container is started.
    Start,
    /// The log of an ended run is read.
    Examine,
    /// A node finishes its tasks.
    Drain,
    /// A node takes tasks again.
    Undrain,
    /// A node that left is taken off Octopus Server's list.
    TakeOff,
    /// A Tentacle that leaves is taken off Octopus Server.
    Retire,
    /// A run is ended with grace.
    Stop,
    /// A run is ended at once.
    Kill,
    /// A container, a network or a volume is removed.
    Remove,
}

/// What people read while it is under way.
impl std::fmt::Display for Verb {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Pull => "pulling",
            Self::Create => "creating",
            Self::Connect => "connecting",
            Self::Disarm => "disarming the engine's restart policy",
            Self::Start => "starting",
            Self::Examine => "examining",
            Self::Drain => "draining",
            Self::Undrain => "undraining",
            Self::TakeOff => "taking off the list",
            Self::Retire => "deregistering",
            Self::Stop => "stopping",
            Self::Kill => "killing",
            Self::Remove => "removing",
        })
    }
}

/// What an action found out, besides being done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The last lines of an ended run.
    pub lines: Vec<String>,
    /// Its exit code, whether it was killed for memory, and the engine's words.
    pub exit: Option<(i64, bool, String)>,
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// What kind of failure this is.
    pub kind: TroubleKind,
    /// The engine's words, or ours, for people.
    pub words: String,
    /// Whether it may have been done all the same.
    pub doubt: Doubt,
}

/// Kinds of failures of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// The engine answered, or did not: what its words mean is looked up.
    Engine,
    /// A data volume is mounted by a container that is not ours: nothing was asked of the engine.
    VolumeInUse,
    /// A volume that a person named is not there: nothing was asked of the engine.
    PlaceGone,
    /// The image is not there, and the configuration forbids to fetch it.
    MayNotPull,
    /// A volume or network of that name is not ours.
    NotOurs,
    /// Octopus Server did not do what it was asked about a Tentacle: nothing of the engine failed.
    Registration,
    /// A network or volume cannot be removed, since somebody else's container uses it.
    InUse,
}

/// How far an action that failed may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was refused.
    Refused,
    /// No answer came, or a broken one: it was done or was not.
    Unknown,
    /// No answer came in time: it may still be done.
    MayStillHappen,
}

impl Trouble {
    /// The engine refused, with these words.
    pub fn refused(words: impl Into<String>) -> Self {
        Self::engine(words, Doubt::Refused)
    }

    /// The engine failed in a call.
    pub fn engine(words: impl Into<String>, doubt: Doubt) -> Self {
        Self {
            kind: TroubleKind::Engine,
            words: words.into(),
            doubt,
        }
    }

    /// Whether nothing was learnt about the thing itself.
    pub fn is_unknown(&self) -> bool {
        self.doubt != Doubt::Refused
    }
}

/// Whether an action that failed took effect all the same, by what the engine shows now.
pub fn took_effect(action: &Action, seen: &Observed) -> bool {
    let container = |unit: &UnitId, id: &str| {
        seen.all()
            .find(|found| found.unit == *unit && found.id == id)
    };
    match action {
        Action::Create(unit) => seen.container(*unit).is_some(),
        Action::CreateNetwork => !seen.networks.is_empty(),
        Action::CreateVolume(name) => seen.volumes.contains(name),
        Action::Pull(image) => seen.images.contains_key(image),
        Action::Start(unit, id) => container(unit, id).is_some_and(Container::is_running),
        Action::Remove(unit, id) => container(unit, id).is_none(),
        Action::Stop { unit, instance, .. } | Action::Kill(unit, instance) => {
            container(unit, &instance.id).is_none_or(|found| !found.is_running())
        }
        Action::RemoveNetwork(id) => !seen.networks.contains_key(id),
        Action::RemoveVolume(name) => !seen.volumes.contains(name),
        Action::Connect(unit, id) => {
            container(unit, id).is_some_and(|found| seen.is_attached(found))
        }
        Action::DisarmRestartPolicy(unit, id) => {
            container(unit, id).is_some_and(|found| !found.engine_restarts)
        }
        // Nothing of these shows in the engine.
        Action::Examine(..)
        | Action::Drain { .. }
        | Action::Undrain(..)
        | Action::TakeOff { .. }
        | Action::Retire { .. } => false,
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
