//! The core's hands and ears: receives what happens, lets the [`Core`] decide, performs its effects
//! as tasks, and publishes the status. It decides nothing, and waits for nothing but its queue.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustix::time::ClockId;
use rustix::time::clock_gettime;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::beats::Beats;
use super::bring_back;
use super::core::Core;
use super::core::Duty;
use super::core::Setup;
use super::facts::Question;
use super::guard::guarded;
use super::journal::Journal;
use super::message::ActionInput;
use super::message::Answer;
use super::message::BackupFor;
use super::message::Denied;
use super::message::DoorWish;
use super::message::Effect;
use super::message::Event;
use super::message::Found;
use super::message::Inquiry;
use super::message::Invalidated;
use super::message::LeaseStep;
use super::message::Leave;
use super::message::Moment;
use super::message::NoLease;
use super::message::NotBroughtBack;
use super::message::PasswordNotChanged;
use super::message::Request;
use super::message::RequestId;
use super::paths::Paths;
use super::state_writer::StateDisk as _;
use super::state_writer::StateFile;
use super::state_writer::StateWriter;
use super::store;
use super::store::PasswordChange;
use super::store::Ran;
use super::store::Stored;
use super::tasks::back_up;
use super::tasks::execute::ActionContext;
use super::tasks::front_door;
use super::tasks::lease;
use super::tasks::node_tasks;
use super::tasks::observe;
use super::tasks::observe::Looked;
use super::tasks::pressure;
use super::tasks::probe;
use super::tasks::sa_password;
use crate::backup::schedule;
use crate::config::Secret;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::lease::Lease;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Action;
use crate::reconcile::Mono;
use crate::reconcile::action::Doubt;
use crate::reconcile::action::Trouble;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::reconcile::status::Status;
use crate::spec::UnitId;
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
            let mut leave = None;
            for effect in self.core.decide(self.clock.now()) {
                if let Effect::Leave(how) = effect {
                    leave = Some(how);
                } else {
                    self.perform(effect);
                }
            }
            self.publish(&published);
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

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Look {
                invalidated,
                images,
            } => self.look(invalidated, images),
            Effect::FollowEvents => self.follow_events(),
            Effect::Act(action, input) => self.act(action, *input),
            Effect::Probe {
                number,
                unit,
                instance,
                target,
                limit,
            } => {
                let login = self.contact.login.clone();
                let engine = self.contact.engine.clone();
                let work =
                    async move { probe::probe(&login, &target, engine.as_ref(), limit).await };
                self.spawn_and_tell("probe", work, move |probe| {
                    Input::Event(Event::Probed {
                        number,
                        unit,
                        instance,
                        probe: probe.unwrap_or_else(Probe::Unknown),
                    })
                });
            }
            Effect::ReadLog(unit, instance) => self.read_log(unit, instance),
            Effect::Lease(step) => self.lease(step),
            Effect::ReadPressure => {
                self.spawn_and_tell("pressure", pressure::read(), |pressure| {
                    Input::Event(Event::PressureRead(pressure.ok().flatten()))
                });
            }
            Effect::ReadThrottling(unit, instance) => self.read_throttling(unit, instance),
            Effect::AskVersion(address, ran) => {
                let work = probe::version(address);
                self.spawn_and_tell("version", work, |told| {
                    let version = told.ok().flatten().unwrap_or_default();
                    Input::Event(Event::VersionRead(Ran { version, ..ran }))
                });
            }
            Effect::CountTasks(unit, instance, node) => {
                let work = async move { node_tasks::running(&node).await };
                self.spawn_and_tell("count tasks", work, move |told| {
                    Input::Event(Event::TasksCounted(unit, instance, told.ok().flatten()))
                });
            }
            Effect::ChangePassword { container, change } => {
                self.change_password(container, *change);
            }
            Effect::BackUp(of, stored) => self.back_up(of, *stored),
            Effect::BringBack(stored) => self.bring_back(*stored),
            Effect::Gather(id, inquiry) => self.gather(id, *inquiry),
            Effect::Save { number, stored } => self.writer.write(number, stored),
            Effect::Reply(id, answer) => {
                if let Some(reply) = self.askers.waiting.remove(&id) {
                    let _ = reply.send(*answer);
                }
            }
            Effect::Tell(subject, what) => self.journal.write(&subject, &what),
            Effect::RemoveImages(images) => self.remove_images(images),
            Effect::FrontDoor(wish) => self.keep_the_front_door(wish),
            Effect::Leave(_) => {}
        }
    }

    fn back_up(&self, of: BackupFor, stored: Stored) {
        let (engine, paths) = (self.contact.engine.clone(), self.paths.clone());
        let work = back_up::make(engine, paths, of, stored);
        self.spawn_and_tell("backup", work, move |made| {
            Input::Event(Event::BackedUp(of, made.unwrap_or_else(Err)))
        });
    }

    fn bring_back(&self, stored: Stored) {
        let (engine, paths) = (self.contact.engine.clone(), self.paths.clone());
        let work = bring_back::roll_back(engine, paths, stored);
        self.spawn_and_tell("bring back", work, |back| {
            // What ended without a word may have begun.
            let broken = |why| NotBroughtBack {
                why,
                is_touched: true,
            };
            let back = back.unwrap_or_else(|why| Err(broken(why)));
            Input::Event(Event::BroughtBack(back))
        });
    }

    fn change_password(&self, container: String, change: PasswordChange) {
        let (engine, paths) = (self.contact.engine.clone(), self.paths.clone());
        let work = sa_password::change(engine, paths, container, change);
        self.spawn_and_tell("password", work, |changed| {
            // What ended without a word may have been done: it is asked again.
            let broken = |why| PasswordNotChanged {
                why,
                is_final: false,
            };
            let changed = changed.unwrap_or_else(|why| Err(broken(why)));
            Input::Event(Event::PasswordChanged(changed))
        });
    }

    fn follow_events(&mut self) {
        if let Some(engine) = self.contact.engine.clone() {
            let work = observe::follow_events(engine, self.project.clone(), self.queue.clone());
            // Also one that met a bug has ended: the events are followed anew.
            self.spawn_and_tell("events", work, |why| {
                let why = why.unwrap_or_else(|words| words);
                Input::Event(Event::StreamClosed(why))
            });
        }
    }

    fn act(&mut self, action: Action, input: ActionInput) {
        let Some(engine) = self.contact.engine.clone() else {
            // The core acts only on an engine that answered, and it is kept until one does not.
            return;
        };
        let context = ActionContext {
            engine,
            input,
            env: self.env.clone(),
        };
        let copy = action.clone();
        self.spawn_and_tell(
            "action",
            async move { context.carry_out(&copy).await },
            move |result| {
                let result =
                    result.unwrap_or_else(|words| Err(Trouble::engine(words, Doubt::Unknown)));
                Input::Event(Event::Done(action, result))
            },
        );
    }

    fn read_throttling(&mut self, unit: UnitId, instance: Instance) {
        let (engine, id) = (self.contact.engine.clone(), instance.id.clone());
        let work = async move { pressure::is_throttled(engine, &id).await };
        self.spawn_and_tell("throttling", work, move |starves| {
            let starves = starves.unwrap_or_default();
            Input::Event(Event::ThrottlingRead(unit, instance, starves))
        });
    }

    fn read_log(&mut self, unit: UnitId, instance: Instance) {
        let (engine, id) = (self.contact.engine.clone(), instance.id.clone());
        let work = async move {
            match engine {
                Some(engine) => probe::log_lines(&engine, &id).await,
                None => Vec::new(),
            }
        };
        self.spawn_and_tell("log", work, move |lines| {
            Input::Event(Event::LogRead {
                unit,
                instance,
                lines: lines.unwrap_or_default(),
            })
        });
    }

    /// Waited for when the daemon ends.
    fn remove_images(&mut self, images: Vec<String>) {
        let engine = self.contact.engine.clone();
        self.tasks.spawn(async move {
            for image in images {
                if let Some(engine) = &engine {
                    let _ = engine.remove_unused_image(&image).await;
                }
            }
        });
    }

    /// Takes, renews or gives back the lease. Giving it back is waited for when the daemon ends.
    fn lease(&mut self, step: LeaseStep) {
        let (engine, project, lease) = (
            self.contact.engine.clone(),
            self.project.clone(),
            self.contact.lease.clone(),
        );
        let work = async move {
            match engine {
                Some(engine) => lease::carry_out(&engine, &project, step, lease).await,
                None => Err(NoLease::Unknown("it does not answer any more".to_owned())),
            }
        };
        if step == LeaseStep::Release {
            self.contact.lease = None;
            let queue = self.queue.clone();
            self.tasks.spawn(async move {
                let _ = queue.send(Input::Leased(work.await)).await;
            });
        } else {
            self.spawn_and_tell("lease", work, |answer| {
                Input::Leased(answer.unwrap_or_else(|words| Err(NoLease::Unknown(words))))
            });
        }
    }

    /// Not cancelled when the daemon ends: a front door that is to end is told so first.
    fn keep_the_front_door(&mut self, wish: Option<Box<DoorWish>>) {
        if let Some(wished) = &self.front_door.wished {
            wished.send_replace(wish);
            return;
        }
        let (wished, receiver) = watch::channel(wish);
        let start = self.front_door.start.clone();
        let keeping = front_door::keep(start, receiver, self.queue.clone());
        self.front_door.wished = Some(wished);
        self.tasks.spawn(async move {
            if let Err(words) = guarded(keeping).await {
                tracing::error!(words, "the front door is not looked after any more");
            }
        });
    }

    fn look(&mut self, invalidated: Invalidated, images: Vec<String>) {
        let work = observe::look(
            self.contact.engine.clone(),
            self.contact.endpoint.clone(),
            self.project.clone(),
            images,
            invalidated,
            std::mem::take(&mut self.contact.cache),
        );
        self.spawn_and_tell("look", work, |looked| {
            let looked = looked.unwrap_or_else(|words| Looked {
                seen: Err(words),
                cache: ObservationCache::default(),
            });
            Input::Looked(Box::new(LookedInput(looked)))
        });
    }

    fn gather(&mut self, id: RequestId, inquiry: Inquiry) {
        let (engine, project) = (self.contact.engine.clone(), self.project.clone());
        let state_root = self.paths.root();
        let work = async move {
            match engine {
                Some(engine) => {
                    let question = Question {
                        engine,
                        project,
                        config: inquiry.config,
                        spec: inquiry.spec,
                        elsewhere: inquiry.elsewhere,
                        name_on_purpose: inquiry.name_on_purpose,
                        seen: inquiry.seen,
                        ready: inquiry.ready,
                        applied_data: inquiry.applied_data,
                        giving_way: inquiry.giving_way,
                        own_listeners: inquiry.own_listeners,
                        state_root,
                    };
                    question.insist().await
                }
                None => Err(Denied::Engine("it does not answer any more".to_owned())),
            }
        };
        self.spawn_and_tell("facts", work, move |found| {
            let found = found.unwrap_or_else(|words| Err(Denied::Because(words)));
            let found = found.map(|found| {
                Box::new(Found {
                    facts: found.facts,
                    images: found.images,
                    fresh_key: fresh_key(),
                })
            });
            Input::Gathered(id, found)
        });
    }

    /// Starts work whose end is told, also if that is a panic: then with its words.
    fn spawn_and_tell<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
        tell: impl FnOnce(Result<T, String>) -> Input + Send + 'static,
    ) {
        let queue = self.queue.clone();
        let work = async move {
            let result = guarded(work).await;
            if let Err(words) = &result {
                let panicked = Event::Panicked(words.clone());
                let _ = queue.send(Input::Event(panicked)).await;
            }
            let _ = queue.send(tell(result)).await;
        };
        self.spawn_named(name, work);
    }

    fn spawn_named(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        let work = async move {
            ended.run_until_cancelled(work).await;
        };
        self.tasks
            .spawn(work.instrument(tracing::debug_span!("task", name)));
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

/// 128 random bits in base64, the form of a master key that the vendor documents.
fn fresh_key() -> Secret {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    Secret::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}
