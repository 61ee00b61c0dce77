//! What the driver's queue carries. An event triggers no action: it changes state and wakes the
//! loop.

use tokio::sync::oneshot;

use super::driver::Leave;
use super::requests::Gathered;
use super::store::Stored;

use crate::config::Config;
use crate::config::Problem;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::observe::ObservationCache;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
use crate::reconcile::Observed;
use crate::reconcile::action::Outcome;
use crate::reconcile::action::Trouble;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::reconcile::preview::Change;
use crate::spec::UnitId;

/// How many events may wait. Senders wait when it is full: nothing is lost, and nothing grows.
pub const QUEUE: usize = 256;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The engine spoke of something of ours.
    Hinted(Hint),
    /// The engine's event stream is open again: anything may have happened.
    StreamOpened,
    /// The engine's event stream ended.
    StreamClosed(String),
    /// A probe ended. No instance: the database is external.
    Probed(UnitId, Option<Instance>, Probe),
    /// A starting unit's log moved.
    Progressed(UnitId),
    /// An action ended.
    Done(Action, Result<Outcome, Trouble>),
    /// A look at Docker ended.
    Looked(Box<Looked>),
    /// What must be known of a configuration was gathered.
    Gathered(Box<Gathered>),
    /// The state file was written beside the loop, or not.
    Saved(Result<(), String>),
    /// A task panicked, with these words.
    Panicked(String),
    /// Somebody asks for something.
    Requested(Request),
    /// The process was asked to end.
    Terminated,
    /// The process was asked to go, or to start its program anew, and to leave every container as
    /// it is.
    Left(Leave),
    /// Whoever followed the `up` of this generation left.
    SessionEnded(u64),
}

/// What a look at Docker showed.
#[derive(Debug)]
pub struct Looked {
    /// The engine that answered and what it showed, or why there is nothing.
    pub seen: Result<(Engine, Observed), String>,
    /// What the next look may trust.
    pub cache: ObservationCache,
}

/// What can be asked of the daemon over its socket.
#[derive(Debug)]
pub enum Request {
    /// Apply a configuration.
    Up(Box<UpRequest>, oneshot::Sender<Result<Accepted, Denied>>),
    /// Say what applying it would do.
    Plan(Box<UpRequest>, oneshot::Sender<Result<Vec<Change>, Denied>>),
    /// Take the stack down.
    Down {
        /// The data too.
        volumes: bool,
        /// Seconds that nodes get.
        timeout_s: Option<u64>,
        /// The engine that is meant.
        endpoint: Option<Endpoint>,
        /// Answered with the wish's generation once it is noted.
        reply: oneshot::Sender<Result<u64, Denied>>,
    },
    /// Do something about units, on the engine that is meant; none named means all.
    Units(
        About,
        Vec<UnitId>,
        Option<Endpoint>,
        oneshot::Sender<Result<u64, Denied>>,
    ),
    /// Whoever follows the `up` of this generation (0: it was not taken yet) wants nothing further
    /// started, unless another `up` is followed.
    Cancel(u64, oneshot::Sender<bool>),
    /// Tell what is kept of the project.
    Stored(oneshot::Sender<Stored>),
    /// Leave without touching a container: a newer daemon takes over.
    Handover(oneshot::Sender<()>),
}

/// What is to be done about units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Restart them in order.
    Restart,
    /// Stop them until they are started again.
    Stop,
    /// Start those that were stopped, and try failed ones again.
    Start,
}

/// An `up`, or what `plan` is asked about.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct UpRequest {
    /// The configuration.
    pub config: Config,
    /// Where it came from.
    pub working_dir: String,
    /// Whether the project's name was given on purpose.
    pub name_on_purpose: bool,
    /// Passwords made for a demo that had none: sa, then the first user.
    pub generated: Option<(crate::config::Secret, crate::config::Secret)>,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// An `up` that was taken.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accepted {
    /// The status of this generation, or a later one, tells how it goes.
    pub generation: u64,
    /// Things to tell the person: where the master key is, for instance.
    pub notes: Vec<String>,
    /// What it does and why.
    pub changes: Vec<Change>,
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Denied {
    /// The configuration cannot be applied.
    Problems(Vec<Problem>),
    /// It cannot be done now.
    Because(String),
    /// The engine does not answer.
    Engine(String),
}
