//! What the driver's queue carries. An event triggers no action: it changes state and wakes the loop.

use tokio::sync::oneshot;

use crate::config::Config;
use crate::config::Problem;
use crate::engine::EngineError;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
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
    Done(Action, Result<Outcome, EngineError>),
    /// Somebody asks for something.
    Requested(Request),
    /// The process was asked to end.
    Terminated,
    /// Somebody followed an `up` and left.
    SessionEnded,
    /// Nothing happened for a while.
    Ticked,
}

/// What an action found out, besides being done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The last lines of an ended run.
    pub lines: Vec<String>,
    /// Its exit code, whether it was killed for memory, and the engine's words.
    pub exit: Option<(i64, bool, String)>,
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
        /// Answered with the wish's generation once it is noted.
        reply: oneshot::Sender<Result<u64, Denied>>,
    },
    /// Restart units in order; none named means all.
    Restart(Vec<UnitId>, oneshot::Sender<Result<u64, Denied>>),
    /// Stop units until they are started again.
    Stop(Vec<UnitId>, oneshot::Sender<Result<u64, Denied>>),
    /// Start units that were stopped, or try failed ones again.
    Start(Vec<UnitId>, oneshot::Sender<Result<u64, Denied>>),
    /// Start nothing further, unless another `up` follows.
    Cancel(oneshot::Sender<bool>),
    /// Leave without touching a container: a newer daemon takes over.
    Handover(oneshot::Sender<()>),
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
