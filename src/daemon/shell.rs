//! The core's hands and ears: receives what happens, lets the [`Core`] decide, performs its effects
//! as tasks, and publishes the status. It decides nothing, and waits for nothing but its queue.

mod perform;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::beats::Beats;
use super::core::Core;
use super::core::Duty;
use super::core::Setup;
use super::journal::Journal;
use super::message::Answer;
use super::message::Denied;
use super::message::DoorWish;
use super::message::Effect;
use super::message::Event;
use super::message::Found;
use super::message::Leave;
use super::message::Moment;
use super::message::NoLease;
use super::message::Request;
use super::message::RequestId;
use super::paths::Paths;
use super::state_writer::StateDisk as _;
use super::state_writer::StateFile;
use super::state_writer::StateWriter;
use super::store;
use super::tasks::observe::Looked;
use crate::backup::schedule;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::lease::Lease;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Mono;
use crate::reconcile::status::Status;
use crate::sql::kept_login::KeptLogin;
use crate::web::link::Start;

/// How many inputs may wait. Senders wait when it is full: nothing is lost, and nothing grows.
const QUEUE: usize = 256;
/// How long what is still under way may take when the daemon ends: writes of the state file and the
/// history, and removing the images of a demo.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the shell's queue carries: events for the core, and those that need the shell first.
#[derive(Debug)]
pub enum Input {
    /// For the core as it is.
    Event(Event),
    /// A look ended.
    Looked(Box<LookedInput>),
    /// What must be known of a configuration was gathered.
    Gathered(RequestId, Result<Box<Found>, Denied>),
    /// The engine was asked about the lease: what of it this daemon has now.
    Leased(Result<Option<Lease>, NoLease>),
    /// Somebody asks for something, and waits for the answer.
    Asked(Request, oneshot::Sender<Answer>),
}

impl From<Event> for Input {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// A look that ended. Opaque: only the shell makes and reads it.
#[derive(Debug)]
pub struct LookedInput(Looked);

/// What a shell is made from.
pub struct ShellSetup {
    /// The project.
    pub project: ProjectName,
    /// Where its engine is.
    pub endpoint: Endpoint,
    /// Its files.
    pub paths: Paths,
    /// The process environment.
    pub env: BTreeMap<String, String>,
    /// Whether the daemon ends when the stack is down.
    pub ends_when_down: bool,
    /// What it is for.
    pub duty: Duty,
    /// Where it shows that it advances.
    pub beats: Arc<Beats>,
    /// How the front door is started.
    pub front_door: Start,
}

/// The daemon at work.
pub struct Shell {
    core: Core,
    project: ProjectName,
    /// Its files.
    paths: Paths,
    env: Arc<BTreeMap<String, String>>,
    contact: Contact,
    askers: Askers,
    front_door: FrontDoor,
    writer: StateWriter,
    journal: Journal,
    beats: Arc<Beats>,
    tasks: TaskTracker,
    /// Ends every task that nobody has to wait for.
    ended: CancellationToken,
    inputs: mpsc::Receiver<Input>,
    queue: mpsc::Sender<Input>,
    clock: Clock,
}

/// The engine, and what is remembered of it between calls.
struct Contact {
    endpoint: Endpoint,
    /// While it answers.
    engine: Option<Engine>,
    cache: ObservationCache,
    lease: Option<Lease>,
    /// The database's probe has it.
    login: Arc<KeptLogin>,
}

/// Who waits for an answer.
#[derive(Default)]
struct Askers {
    waiting: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    last: u64,
}

impl Askers {
    fn add(&mut self, reply: oneshot::Sender<Answer>) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        self.waiting.insert(id, reply);
        id
    }
}

/// The front door, and what is wished of it once something was.
struct FrontDoor {
    start: Start,
    wished: Option<watch::Sender<Option<Box<DoorWish>>>>,
}

/// The clocks that the core is given.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
}

impl Clock {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    fn now(self) -> Moment {
        let of = |clock| {
            let time = clock_gettime(clock);
            Duration::new(
                u64::try_from(time.tv_sec).unwrap_or(0),
                u32::try_from(time.tv_nsec).unwrap_or(0),
            )
        };
        let steady = of(ClockId::Monotonic);
        Moment {
            mono: Mono(self.began.elapsed()),
            suspended: of(ClockId::Boottime).saturating_sub(steady),
            wall: OffsetDateTime::now_utc(),
        }
    }

    fn instant(self, at: Mono) -> Instant {
        self.began + at.0
    }
}

/// What this host is called; nothing where the kernel does not say.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_owned()
}

impl Shell {
    /// Reads the state file and makes a shell with its core, and its queue.
    pub fn new(setup: ShellSetup) -> (Self, mpsc::Sender<Input>) {
        let (queue, inputs) = mpsc::channel(QUEUE);
        let clock = Clock::begin();
        let (store, told) = (setup.paths.store(), queue.clone());
        let tell = move |number, result| {
            // Fails only when the daemon has ended, and then nobody waits.
            let _ = told.blocking_send(Input::Event(Event::Saved { number, result }));
        };
        let (loaded, writer, journal) = match setup.duty {
            Duty::Answer => (
                store::peek(&store),
                StateWriter::nowhere(),
                Journal::nowhere(),
            ),
            Duty::Supervise | Duty::AwaitRequest => {
                let mut file = StateFile(store);
                let loaded = file.load();
                let journal = Journal::at(setup.paths.events());
                (loaded, StateWriter::begin(file, tell), journal)
            }
        };
        let core_setup = Setup {
            project: setup.project.clone(),
            endpoint: setup.endpoint.clone(),
            host_name: host_name(),
            state_file: setup.paths.store().display().to_string(),
            ends_when_down: setup.ends_when_down,
            duty: setup.duty,
            next_backup: |pattern, after_ms| schedule::next_due(pattern, after_ms, &chrono::Local),
        };
        let shell = Self {
            core: Core::new(core_setup, loaded, clock.now()),
            project: setup.project,
            env: Arc::new(setup.env),
            contact: Contact {
                endpoint: setup.endpoint,
                engine: None,
                cache: ObservationCache::default(),
                lease: None,
                login: Arc::default(),
            },
            askers: Askers::default(),
            front_door: FrontDoor {
                start: setup.front_door,
                wished: None,
            },
            writer,
            journal,
            paths: setup.paths,
            beats: setup.beats,
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
            inputs,
            queue: queue.clone(),
            clock,
        };
        (shell, queue)
    }

    /// Runs until the daemon is to end, and says how.
    pub async fn run(mut self, published: watch::Sender<Status>) -> Leave {
        loop {
            let now = self.clock.now();
            let mut leave = None;
            if self.core.has_to_decide(now.mono) {
                for effect in self.core.decide(now) {
                    if let Effect::Leave(how) = effect {
                        leave = Some(how);
                    } else {
                        self.perform(effect);
                    }
                }
                self.publish(&published);
            }
            self.beats.driver();
            if let Some(by) = self.core.ends_by() {
                self.beats.end(self.clock.instant(by));
            }
            if let Some(how) = leave {
                Box::pin(self.end()).await;
                return how;
            }
            self.take_in().await;
        }
    }

    /// Waits for something to happen and takes it in, with all that waits behind it.
    async fn take_in(&mut self) {
        let until = self.clock.instant(self.core.wake_at());
        // Cancel-safe: a receive that times out has taken nothing from the queue.
        if let Ok(Some(input)) = tokio::time::timeout_at(until, self.inputs.recv()).await {
            self.absorb(input);
        }
        while let Ok(input) = self.inputs.try_recv() {
            self.absorb(input);
        }
    }

    fn absorb(&mut self, input: Input) {
        let event = match input {
            Input::Event(event) => event,
            Input::Looked(looked) => {
                let Looked { seen, cache } = looked.0;
                self.contact.cache = cache;
                self.beats.engine();
                let seen = seen.map(|(engine, seen)| {
                    self.contact.engine = Some(engine);
                    seen
                });
                if seen.is_err() {
                    self.contact.engine = None;
                }
                Event::Looked(seen)
            }
            Input::Leased(answer) => Event::Leased(answer.map(|lease| self.contact.lease = lease)),
            Input::Gathered(id, found) => Event::Gathered {
                id,
                asker_left: self
                    .askers
                    .waiting
                    .get(&id)
                    .is_none_or(oneshot::Sender::is_closed),
                found,
            },
            Input::Asked(request, reply) => {
                let id = self.askers.add(reply);
                Event::Requested(id, request)
            }
        };
        self.core.absorb(event, self.clock.now());
    }

    fn publish(&self, published: &watch::Sender<Status>) {
        let now = self.core.status(self.clock.now().mono);
        published.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    /// Lets what is still under way end: what was to be kept, told, or removed. Nobody receives
    /// any more, so whoever tells something ends too.
    async fn end(self) {
        let Self {
            writer,
            journal,
            tasks,
            ended,
            inputs,
            askers,
            front_door,
            ..
        } = self;
        drop((inputs, askers, front_door));
        ended.cancel();
        let files = tokio::task::spawn_blocking(move || {
            writer.close(FAREWELL);
            journal.close(FAREWELL);
        });
        tasks.close();
        let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
        let _ = files.await;
    }
}
