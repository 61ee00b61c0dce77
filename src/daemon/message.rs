//! What goes into the daemon's core and what comes out of it: events, requests, effects. A leaf:
//! it names types of the pure half and of the engine's vocabulary, and decides nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use super::admit::Facts;
use super::pressure::Pressure;
use super::store::Data;
use super::store::PasswordChange;
use super::store::Ran;
use super::store::Restored;
use super::store::Stored;
use crate::config::Config;
use crate::config::Problem;
use crate::config::Secret;
use crate::engine::Endpoint;
use crate::engine::logs::Span;
use crate::engine::observe::ObservationCache;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::action::Outcome;
use crate::reconcile::action::Trouble;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::reconcile::preview::Change;
use crate::spec::ContainerSpec;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle::Registration;
use crate::spec::tentacle::Tentacle;
use crate::spec::tentacle::TentacleName;
use crate::web;
use crate::web::settings::CertificateFiles;

/// The three clocks, read once for everything that is taken in together.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Time since the daemon began: what decisions are made by.
    pub mono: Mono,
    /// How far the clock that runs on in a suspended host is ahead of the one that does not.
    pub suspended: Duration,
    /// The wall clock: for naming lines of logs, never for waiting.
    pub wall: OffsetDateTime,
}

/// Names one request until it is answered. A later request has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Somebody who is there as long as a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Session {
    /// Who follows the `up` of this generation.
    Up(u64),
    /// Who has nodes drained for a while, by the number that this daemon gave it.
    Quiesce(u64),
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The engine spoke of something of ours.
    Hinted(Hint),
    /// The engine's event stream is open: anything may have happened before.
    StreamOpened,
    /// The engine's event stream ended.
    StreamClosed(String),
    /// A look at the engine ended, with what it showed or why there is nothing.
    Looked(Result<Box<Observed>, String>),
    /// A probe ended. No instance: the database is external.
    Probed {
        /// The probe, by the number that it was asked under.
        number: u64,
        /// The unit.
        unit: UnitId,
        /// The run that was asked.
        instance: Option<Instance>,
        /// What it said.
        probe: Probe,
    },
    /// The last lines of a starting unit's log; none where they cannot be read.
    LogRead {
        /// The unit.
        unit: UnitId,
        /// The run whose log it is.
        instance: Instance,
        /// The lines, oldest first.
        lines: Vec<String>,
    },
    /// The pressure on the host's processors, memory and disks was read; none where it is not
    /// told.
    PressureRead(Option<Pressure>),
    /// Whether a run wants more processors than it may have was read; false where it is not told.
    ThrottlingRead(UnitId, Instance, bool),
    /// An action ended.
    Done(Action, Result<Outcome, Trouble>),
    /// What must be known before a configuration is admitted was gathered.
    Gathered {
        /// The request that it was gathered for.
        id: RequestId,
        /// Whether whoever asked left meanwhile: Ctrl-C before there was an answer.
        asker_left: bool,
        /// What was found.
        found: Result<Box<Found>, Denied>,
    },
    /// The engine was asked about the lease.
    Leased(Result<(), NoLease>),
    /// A node was asked for its version; it is empty where none was told.
    VersionRead(Ran),
    /// Octopus Server was asked how many tasks run on a run of a node; none where it did not say so.
    TasksCounted(UnitId, Instance, Option<u64>),
    /// A backup ended: what was made, or why there is none.
    BackedUp(BackupFor, Result<BackedUp, String>),
    /// The set of this name was read to its end, or why it cannot be relied on.
    SetRead(String, Result<(), String>),
    /// The data of before an upgrade came back, or did not.
    BroughtBack(Result<Box<Restored>, NotBroughtBack>),
    /// What was kept of what a restore replaced is gone, or why not all of it.
    ReplacedDropped(Result<(), String>),
    /// SQL Server has the new password of `sa`, or is not known to.
    PasswordChanged(Result<(), PasswordNotChanged>),
    /// A write of the state file ended.
    Saved {
        /// Which write.
        number: u64,
        /// How it went.
        result: Result<(), String>,
    },
    /// A task panicked, with these words.
    Panicked(String),
    /// Somebody asks for something.
    Requested(RequestId, Request),
    /// The process was asked to end.
    Terminated,
    /// The process was asked to go, or to start its program anew, and to leave every container as
    /// it is.
    Left(Leave),
    /// Whoever followed an `up`, or had nodes drained for a while, left.
    SessionEnded(Session),
    /// How the front door is.
    FrontDoor(DoorReport),
}

/// How the front door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorReport {
    /// It does not answer.
    Silent,
    /// What it says of itself.
    Is(Box<web::message::State>),
    /// There is none, as was wished: it listens nowhere any more.
    Ended,
}

/// What the daemon makes a backup for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupFor {
    /// Its time has come.
    Schedule,
    /// An upgrade waits for it. Its name is kept; one that is whole already is not made again.
    Upgrade,
}

/// Why the data of before an upgrade did not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotBroughtBack {
    /// Why.
    pub why: String,
    /// Whether data was touched, so that it is neither what it was nor what it will be.
    pub is_touched: bool,
}

/// Why SQL Server is not known to have the new password of `sa`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordNotChanged {
    /// Why.
    pub why: String,
    /// It does not take it, and has the one of before; else it is asked again.
    pub is_final: bool,
}

/// A backup that was made by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The set's name.
    pub name: String,
    /// The sets that nothing keeps any more.
    pub removed: Vec<String>,
}

/// How the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The process ends.
    End,
    /// The program is started anew in this process: its file may be another.
    Reload,
    /// The process ends with an error, so that whoever supervises it starts it afresh.
    Broken,
}

/// What can be asked of the daemon.
#[derive(Clone, Debug)]
pub enum Request {
    /// Apply a configuration.
    Up(Box<UpRequest>),
    /// Say what applying it would do.
    Plan(Box<UpRequest>),
    /// Take the stack down.
    Down {
        /// The data too.
        volumes: bool,
        /// How long nodes may take.
        pace: DownPace,
        /// The engine that is meant.
        endpoint: Option<Endpoint>,
    },
    /// Do something about units, on the engine that is meant; none named means all.
    Units(About, Vec<UnitId>, Option<Endpoint>),
    /// A restore begins or has ended, on the engine that is meant.
    Restore(RestoreStep, Option<Endpoint>),
    /// Take the last upgrade back, on the engine that is meant: image, database and files.
    RollBack(Option<Endpoint>),
    /// The password of `sa` is changed, or was written down, on the engine that is meant.
    Password(PasswordStep, Option<Endpoint>),
    /// All nodes finish their tasks and take no more as long as this session lasts, on the engine that
    /// is meant. Its end is [`Event::SessionEnded`].
    Quiesce(Session, Option<Endpoint>),
    /// Add or remove a Tentacle, on the engine that is meant.
    Tentacle(TentacleName, TentacleStep, Option<Endpoint>),
    /// Whoever follows the `up` of this generation wants nothing further started, unless another
    /// `up` is followed.
    Cancel(u64),
    /// Tell what is kept of the project.
    Stored,
    /// Leave without touching a container: a newer daemon takes over.
    Handover,
}

/// How long nodes may take to end in a `down`, in the place of what is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownPace {
    /// All of them, from now on, for their tasks and their end.
    pub within: Option<Duration>,
    /// Tasks that run are not waited for.
    pub skips_tasks: bool,
}

/// What is to be done about units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Let nodes finish their tasks and take no more, until they are undrained.
    Drain,
    /// Let nodes take tasks again.
    Undrain,
    /// Restart them in order.
    Restart,
    /// Stop them until they are started again.
    Stop,
    /// Start those that were stopped, and try failed ones again.
    Start,
}

/// What is told of a restore, which whoever asked for it carries out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RestoreStep {
    /// It begins: nodes stop, SQL Server runs.
    Begin {
        /// The name of the set.
        set: String,
        /// What it replaces is kept under this name until the stack is ready, if nothing of an
        /// earlier one is.
        keep_as: Option<String>,
    },
    /// What it replaces is kept.
    Kept {
        /// There is a file of the database.
        database: bool,
        /// The volumes whose content is in others.
        volumes: Vec<String>,
    },
    /// The data is that of the set.
    End(Box<Restored>),
    /// The way back from it begins: nodes stop, SQL Server runs.
    BeginBack,
    /// What the set brought is gone, and what it replaced comes back.
    GoingBack,
    /// The data is what it was before the restore.
    Back,
}

/// What is told of a change of the password of `sa`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PasswordStep {
    /// It begins: SQL Server, and all that logs in as `sa`, gets this one.
    Begin(Secret),
    /// The file with the variables says it.
    Written,
}

/// What is to become of a Tentacle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TentacleStep {
    /// It is added, as this says. One that is there so already stays.
    Add(Box<Tentacle>),
    /// It is removed, its registration with it or not.
    Remove(Registration),
}

/// What a Ctrl-C in an `up` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cancelled {
    /// Nothing further is started.
    Held,
    /// Somebody else follows an `up`, so the start goes on.
    Followed,
    /// The version changes, which goes on: half of it would leave nodes out, and a database that only
    /// one of two versions can use.
    VersionChanges,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Request::Up`].
    Up(Result<Accepted, Denied>),
    /// To [`Request::Plan`].
    Plan(Result<Vec<Change>, Denied>),
    /// To [`Request::Down`], [`Request::Units`], [`Request::Restore`], [`Request::RollBack`],
    /// [`Request::Password`], [`Request::Quiesce`] and [`Request::Tentacle`]: the generation that the
    /// wish was given.
    Wished(Result<u64, Denied>),
    /// To [`Request::Cancel`].
    Cancelled(Cancelled),
    /// To [`Request::Stored`].
    Stored(Box<Stored>),
    /// To [`Request::Handover`].
    Leaves,
}

/// An `up`, or what `plan` is asked about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpRequest {
    /// The configuration.
    pub config: Config,
    /// Where it came from.
    pub working_dir: String,
    /// Whether the project's name was given on purpose.
    pub name_on_purpose: bool,
    /// Passwords made for a demo that had none: sa, then the first user.
    pub generated: Option<(Secret, Secret)>,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// A new, empty database is meant, also beside data that looks like this project's.
    #[serde(default)]
    pub fresh: bool,
    /// Another version is applied without a backup, so there is no way back from it.
    #[serde(default)]
    pub no_backup: bool,
    /// What gives way before this is applied: an adoption asks whether it may be.
    #[serde(default)]
    pub giving_way: Option<GivingWay>,
}

/// A stack of somebody else that ends and whose data comes along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivingWay {
    /// Its containers, by name.
    pub containers: BTreeSet<String>,
    /// Its network, by name, if that goes.
    pub network: Option<String>,
}

/// An `up` that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The status of this generation, or a later one, tells how it goes.
    pub generation: u64,
    /// Things to tell the person: where the master key is, for instance.
    pub notes: Vec<String>,
    /// What it does and why.
    pub changes: Vec<Change>,
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Denied {
    /// The configuration cannot be applied.
    Problems(Vec<Problem>),
    /// It cannot be done now.
    Because(String),
    /// The engine does not answer.
    Engine(String),
}

/// What is asked about a configuration before it is admitted, and what is known already.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The configuration.
    pub config: Config,
    /// What it means here, its master key aside.
    pub spec: StackSpec,
    /// The engine that what is kept is about, and this one, where they differ.
    pub elsewhere: Option<(String, String)>,
    /// Whether the project's name was given on purpose.
    pub name_on_purpose: bool,
    /// What the engine showed last.
    pub seen: Observed,
    /// The units that serve, as far as they were asked.
    pub ready: BTreeSet<UnitId>,
    /// The data that what runs was applied with.
    pub applied_data: Option<Data>,
    /// Where this project's own front door listens.
    pub own_listeners: Vec<SocketAddr>,
    /// What gives way before the configuration is applied.
    pub giving_way: Option<GivingWay>,
}

/// What was found out about a configuration.
#[derive(Clone, Debug)]
pub struct Found {
    /// What decides.
    pub facts: Facts,
    /// The images of the configuration that the engine has, with their IDs.
    pub images: BTreeMap<String, String>,
    /// A master key that nobody knows yet, for a database that has none.
    pub fresh_key: Secret,
}

/// What is done about the lease on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Take it.
    Take,
    /// Renew it.
    Renew,
    /// Give it back.
    Release,
}

/// Why the lease is not this daemon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLease {
    /// Somebody else has it: who, for people.
    Held(String),
    /// The engine could not be asked, with these words.
    Unknown(String),
}

/// Something that the shell does for the core. It decides nothing: it makes the call, and what came
/// of it is an [`Event`].
#[derive(Clone, Debug)]
pub enum Effect {
    /// Look at the engine, trusting what is remembered save for what was invalidated. Ends with
    /// [`Event::Looked`].
    Look {
        /// What must be asked afresh.
        invalidated: Invalidated,
        /// The references of the images that are wanted.
        images: Vec<String>,
    },
    /// Follow the engine's events, until [`Event::StreamClosed`].
    FollowEvents,
    /// Carry out an action. Ends with [`Event::Done`].
    Act(Action, Box<ActionInput>),
    /// Ask a run how it is. Ends with [`Event::Probed`].
    Probe {
        /// Names the probe.
        number: u64,
        /// The unit.
        unit: UnitId,
        /// The run; none for an external database.
        instance: Option<Instance>,
        /// Whom to ask.
        target: ProbeTarget,
        /// How long each of its phases may take.
        limit: Duration,
    },
    /// Read the last lines of a starting run's log. Ends with [`Event::LogRead`].
    ReadLog(UnitId, Instance),
    /// Take, renew or give back the lease on the engine. Ends with [`Event::Leased`].
    Lease(LeaseStep),
    /// Read the pressure on this host. Ends with [`Event::PressureRead`].
    ReadPressure,
    /// Find out whether a run wants more processors than it may have. Ends with
    /// [`Event::ThrottlingRead`].
    ReadThrottling(UnitId, Instance),
    /// Ask a node that serves for its version. Ends with [`Event::VersionRead`].
    AskVersion(SocketAddr, Ran),
    /// Ask Octopus Server how many tasks run on a node. Ends with [`Event::TasksCounted`].
    CountTasks(UnitId, Instance, Box<ContainerSpec>),
    /// Find out what must be known of a configuration. Ends with [`Event::Gathered`].
    Gather(RequestId, Box<Inquiry>),
    /// Make a backup of what is kept. Ends with [`Event::BackedUp`].
    BackUp(BackupFor, Box<Stored>),
    /// Read the set of this name whole, which a rollback would bring back. Ends with
    /// [`Event::SetRead`].
    ReadSet(String, Box<Stored>),
    /// Bring the data of before the upgrade back that is taken back. Ends with
    /// [`Event::BroughtBack`].
    BringBack(Box<Stored>),
    /// Removes what is kept of what a restore replaced: [`Event::ReplacedDropped`].
    DropReplaced(Box<Stored>),
    /// Have the SQL Server in this container take the new password of `sa`, if it has not. Ends with
    /// [`Event::PasswordChanged`].
    ChangePassword {
        /// The container's ID.
        container: String,
        /// Both passwords.
        change: Box<PasswordChange>,
    },
    /// Write the state file, after those that were asked for before. Ends with [`Event::Saved`].
    Save {
        /// Names the write.
        number: u64,
        /// What is to be kept.
        stored: Box<Stored>,
    },
    /// Answer a request.
    Reply(RequestId, Box<Answer>),
    /// Keep something in the history: about what (empty: the daemon itself), and what.
    Tell(String, String),
    /// Remove images that nothing uses, before the daemon ends.
    RemoveImages(Vec<String>),
    /// Keep the front door as this says; none: end it. Reports come as [`Event::FrontDoor`].
    FrontDoor(Option<Box<DoorWish>>),
    /// End, with every container as it is. The last effect there is.
    Leave(Leave),
}

/// What the front door is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorWish {
    /// All that it is to know, its certificate aside.
    pub feed: web::Feed,
    /// The files of its certificate, which whoever feeds it reads.
    pub certificate: Option<CertificateFiles>,
}

/// What the next look must not trust its memory about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalidated {
    /// All of it.
    pub everything: bool,
    /// These containers, by ID.
    pub containers: Vec<String>,
    /// Networks and volumes.
    pub infrastructure: bool,
    /// Images.
    pub images: bool,
}

impl Invalidated {
    /// Makes a look forget it.
    pub fn forget_in(&self, cache: &mut ObservationCache) {
        if self.everything {
            return cache.forget();
        }
        for id in &self.containers {
            cache.forget_container(id);
        }
        if self.infrastructure {
            cache.forget_infrastructure();
        }
        if self.images {
            cache.forget_images();
        }
    }
}

/// What carrying out an action needs besides the action.
#[derive(Clone, Debug, Default)]
pub struct ActionInput {
    /// The desired state, which creating needs.
    pub spec: Option<StackSpec>,
    /// Passwords that `sa` may have, the likeliest first: SQL Server is asked to shut down.
    pub sa_passwords: Vec<Secret>,
    /// The network's ID.
    pub network: Option<String>,
    /// The image, by ID, that a reference stood for at the last `up`, where it stands for another
    /// one now.
    pub moved: BTreeMap<String, String>,
    /// A database is known to have been in the place of the data.
    pub had_data: bool,
    /// When the run that is examined was asked to start, and the one after it: its own words lie
    /// between. The engine's start time is taken after the first of them.
    pub asked: Span,
}

/// Whom a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeTarget {
    /// The database.
    Database(DatabaseTarget),
    /// A node's web port on the host.
    Node(SocketAddr),
    /// The port of a Tentacle, in the container of this ID: the engine knows where on the host that
    /// is.
    Tentacle(String),
}
