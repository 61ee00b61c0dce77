//! The loop, and the state that it alone owns.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::event::Event;
use super::journal::Journal;
use super::paths::Paths;
use super::probing::Running;
use super::store;
use super::store::Stored;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::Memory;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
use crate::reconcile::Desired;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::Tracks;
use crate::reconcile::plan;
use crate::reconcile::status::Circumstances;
use crate::reconcile::status::Status;
use crate::reconcile::status::status;
use crate::spec::UnitId;

/// How often everything is looked at even if the engine said nothing: events may be lost.
const RELIST_EVERY: Duration = Duration::from_secs(5);
/// How long to wait before the engine is tried again.
const ENGINE_RETRY: Duration = Duration::from_secs(1);
/// How the note about a state file that cannot be written begins.
const NOTE: &str = "the state file cannot be written";

/// Everything the daemon knows. One task owns it.
pub struct Driver {
    pub(super) project: ProjectName,
    pub(super) endpoint: Endpoint,
    pub(super) paths: Paths,
    pub(super) env: BTreeMap<String, String>,
    pub(super) engine: Option<Engine>,
    pub(super) stored: Stored,
    /// False when the state file is of a newer form: it is not ours to write.
    pub(super) may_write: bool,
    pub(super) desired: Desired,
    pub(super) seen: Observed,
    pub(super) tracks: Tracks,
    pub(super) generation: u64,
    pub(super) notes: Vec<String>,
    pub(super) engine_problem: Option<String>,
    /// How many people follow an `up`.
    pub(super) sessions: u32,
    /// Ends when the stack is down: `up` started it. One that systemd started stays.
    pub(super) ends_when_down: bool,
    /// Asked to end: stop the stack, then leave.
    pub(super) terminating: bool,
    /// Leave at once, containers untouched.
    pub(super) leaving: bool,
    pub(super) journal: Journal,
    /// What remains once the stack is down was done.
    pub(super) finished: bool,
    pub(super) memory: Memory,
    pub(super) probers: BTreeMap<UnitId, Running>,
    /// Failed calls that are judged after the next look: they may have taken effect.
    pub(super) doubtful: Vec<(Action, EngineError)>,
    pub(super) watcher: Option<JoinHandle<()>>,
    clock: Instant,
    inputs: mpsc::Receiver<Event>,
    pub(super) events: mpsc::Sender<Event>,
    published: watch::Sender<Status>,
}

/// What a driver is made from.
pub struct Setup {
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
    /// Whether it starts nothing before it is asked to.
    pub held: bool,
}

impl Driver {
    /// Reads the state file and makes a driver with its queue and status.
    pub fn new(setup: Setup) -> (Self, mpsc::Sender<Event>, watch::Receiver<Status>) {
        let (events, inputs) = mpsc::channel(super::event::QUEUE);
        let (published, receiver) = watch::channel(Status::default());
        let mut notes = Vec::new();
        let mut may_write = true;
        let stored = match store::load(&setup.paths.store()) {
            store::Loaded::Fine(stored) => *stored,
            store::Loaded::Quarantined(aside) => {
                notes.push(format!("the state file was damaged and set aside as {aside}; `octo-local up` applies the configuration anew"));
                Stored::default()
            }
            store::Loaded::Newer(form) => {
                may_write = false;
                notes.push(format!(
                    "the state file has form {form}, of a newer octo-local: nothing is written; use that version"
                ));
                Stored::default()
            }
        };
        let desired = Desired {
            goal: if stored.up && !setup.held { Goal::Up } else { Goal::Hold },
            spec: stored.spec.clone(),
            stopped: stored.stopped.clone(),
            ..Desired::default()
        };
        let driver = Self {
            project: setup.project,
            endpoint: setup.endpoint,
            journal: Journal::at(setup.paths.events()),
            paths: setup.paths,
            env: setup.env,
            engine: None,
            stored,
            may_write,
            desired,
            seen: Observed::default(),
            tracks: Tracks::default(),
            generation: 0,
            notes,
            engine_problem: None,
            sessions: 0,
            ends_when_down: setup.ends_when_down,
            terminating: false,
            leaving: false,
            finished: false,
            memory: Memory::default(),
            probers: BTreeMap::new(),
            doubtful: Vec::new(),
            watcher: None,
            clock: Instant::now(),
            inputs,
            events: events.clone(),
            published,
        };
        (driver, events, receiver)
    }

    /// Runs until the daemon is to end.
    pub async fn run(mut self) {
        self.journal.write("", "the daemon began");
        let mut wake_at: Option<Mono> = None;
        let mut look = true;
        loop {
            if look {
                self.look().await;
            }
            let plan = plan(&self.desired, &self.seen, &self.tracks, self.now());
            wake_at = plan.wake_at.filter(|_| self.engine_problem.is_none()).or(wake_at.filter(|at| *at > self.now()));
            if self.engine_problem.is_none() {
                for action in plan.actions {
                    self.start(action);
                }
            }
            self.probe();
            let over = self.is_over();
            if self.is_down() && !self.finished {
                self.finish().await;
            }
            self.publish();
            if over || self.leaving {
                self.journal.write("", "the daemon ended");
                return;
            }
            look = self.take_in(wake_at).await;
        }
    }

    pub(super) fn now(&self) -> Mono {
        Mono(self.clock.elapsed())
    }

    /// Waits for something to happen and takes it in, with all that waits behind it. True when Docker must be looked at.
    async fn take_in(&mut self, wake_at: Option<Mono>) -> bool {
        let patience = if self.engine_problem.is_some() { ENGINE_RETRY } else { RELIST_EVERY };
        let until = wake_at.map_or(patience, |at| at.since(self.now()).min(patience));
        // Cancel-safe: a receive that times out has taken nothing from the queue.
        let first = match tokio::time::timeout(until, self.inputs.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) => {
                if until >= RELIST_EVERY {
                    self.memory.forget();
                }
                Event::Ticked
            }
        };
        let mut look = self.absorb(first).await;
        while let Ok(event) = self.inputs.try_recv() {
            look |= self.absorb(event).await;
        }
        look
    }

    /// Takes in one event. True when Docker must be looked at.
    async fn absorb(&mut self, event: Event) -> bool {
        match event {
            Event::Hinted(Hint::Container(id)) => self.memory.forget_container(&id),
            Event::Hinted(Hint::Infrastructure) => self.memory.forget_infrastructure(),
            Event::StreamOpened => self.memory.forget(),
            Event::StreamClosed(why) => {
                tracing::info!(why, "the engine's events ended");
                self.memory.forget();
                self.watcher = None;
            }
            Event::Probed(unit, instance, probe) => {
                self.probed(unit, instance.as_ref(), &probe);
                return false;
            }
            Event::Progressed(unit) => {
                self.tracks.of(unit).progress_at = self.now();
                return false;
            }
            Event::Done(action, result) => self.done(action, result),
            Event::Requested(request) => self.requested(request).await,
            Event::Terminated => self.terminate(),
            Event::SessionEnded => self.sessions = self.sessions.saturating_sub(1),
            Event::Ticked => {}
        }
        true
    }

    fn terminate(&mut self) {
        if self.terminating {
            self.leaving = true;
            return;
        }
        self.terminating = true;
        self.journal.write("", "asked to end: the stack stops in order");
        self.desired.goal = Goal::Halt;
    }

    /// Whether what `down` asked for is true.
    fn is_down(&self) -> bool {
        self.engine_problem.is_none() && crate::reconcile::status::is_down(&self.desired, &self.seen, &self.tracks)
    }

    fn is_over(&self) -> bool {
        let nothing_runs = self.engine_problem.is_none()
            && self.tracks.busy.is_empty()
            && !self.seen.containers.iter().any(crate::reconcile::observed::Container::is_running);
        match self.desired.goal {
            Goal::Halt => self.terminating && nothing_runs,
            Goal::Down { .. } => self.is_down() && (self.ends_when_down || self.terminating),
            Goal::Up | Goal::Hold => self.terminating && self.desired.spec.is_none(),
        }
    }

    pub(super) fn status(&self) -> Status {
        let around = Circumstances {
            project: self.project.to_string(),
            generation: self.generation,
            engine_problem: self.engine_problem.clone(),
            notes: self.notes.clone(),
            ends_when_down: self.ends_when_down,
        };
        status(&around, &self.desired, &self.seen, &self.tracks, self.now())
    }

    fn publish(&self) {
        let now = self.status();
        self.published.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    /// Writes the state file. A full or read-only disk costs durability, never supervision.
    pub(super) fn save(&mut self) {
        if !self.may_write {
            return;
        }
        self.notes.retain(|note| !note.starts_with(NOTE));
        if let Err(error) = store::save(&self.paths.store(), &self.stored) {
            tracing::error!(%error, "{NOTE}");
            self.notes.push(format!("{NOTE}: {error}"));
        }
    }

    /// What remains to be done once the stack is down.
    async fn finish(&mut self) {
        let Goal::Down { volumes } = self.desired.goal else { return };
        self.finished = true;
        self.stored.up = false;
        if volumes {
            let images = self.desired.spec.as_ref().filter(|spec| spec.demo).map(|spec| spec.images().join("\n"));
            let external = self.desired.spec.as_ref().is_some_and(|spec| spec.sql.is_none());
            let kept = if external { self.stored.master_key.clone() } else { None };
            self.stored = Stored { master_key: kept, ..Stored::default() };
            if let (Some(engine), Some(images)) = (&self.engine, images) {
                for image in images.lines() {
                    let _ = engine.remove_image(image).await;
                }
            }
        }
        self.save();
        self.journal.write("", "the stack is down");
    }
}
