//! The loop, and the state that it alone owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::effects::Means;
use super::effects::took_effect;
use super::event::Event;
use super::event::Outcome;
use super::journal::Journal;
use super::paths::Paths;
use super::prober::Prober;
use super::prober::Target;
use super::store;
use super::store::Stored;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::Memory;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
use crate::reconcile::Cause;
use crate::reconcile::Desired;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::Tracks;
use crate::reconcile::action::Subject;
use crate::reconcile::cause;
use crate::reconcile::cause::Evidence;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::reconcile::plan;
use crate::reconcile::status::Circumstances;
use crate::reconcile::status::Status;
use crate::reconcile::status::status;
use crate::reconcile::track::Blocked;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::sql;

/// How often everything is looked at even if the engine said nothing: events may be lost.
const RELIST_EVERY: Duration = Duration::from_secs(5);
/// How long to wait before the engine is tried again.
const ENGINE_RETRY: Duration = Duration::from_secs(1);
/// How the note about a state file that cannot be written begins.
const NOTE: &str = "the state file cannot be written";
/// How long to wait before a call whose outcome is unknown is made again.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

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
    memory: Memory,
    probers: BTreeMap<UnitId, Running>,
    /// Failed calls that are judged after the next look: they may have taken effect.
    doubtful: Vec<(Action, EngineError)>,
    watcher: Option<JoinHandle<()>>,
    clock: Instant,
    inputs: mpsc::Receiver<Event>,
    pub(super) events: mpsc::Sender<Event>,
    published: watch::Sender<Status>,
}

struct Running {
    instance: Option<Instance>,
    target: String,
    task: JoinHandle<()>,
    nudge: Arc<Notify>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
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

    /// One look at Docker. A failure is part of the status, and is tried again.
    async fn look(&mut self) {
        match self.observe().await {
            Ok(seen) => {
                self.engine_problem = None;
                self.seen = seen;
                let now = self.now();
                self.tracks.absorb(&self.seen, now);
                self.settle_doubts();
                self.desired.restart.retain(|unit, instance| {
                    let container = self.seen.container(*unit);
                    container.and_then(crate::reconcile::observed::Container::instance).as_ref() == Some(instance)
                });
                self.watch();
            }
            Err(error) => {
                if self.engine_problem.is_none() {
                    self.journal.write("", &format!("the engine does not answer: {error}"));
                    tracing::warn!(%error, "the engine does not answer");
                }
                self.engine_problem = Some(error.to_string());
                self.memory.forget();
                self.engine = None;
            }
        }
    }

    async fn observe(&mut self) -> Result<Observed, EngineError> {
        if self.engine.is_none() {
            self.engine = Some(Engine::connect(self.endpoint.clone()).await?);
        }
        let Some(engine) = &self.engine else { return Ok(Observed::default()) };
        let images = self.desired.spec.as_ref().map(StackSpec::images).unwrap_or_default();
        engine.observe(&self.project, &images, &mut self.memory).await
    }

    /// Follows the engine's events, if nobody does.
    fn watch(&mut self) {
        use futures_util::StreamExt as _;
        let followed = self.watcher.as_ref().is_some_and(|watcher| !watcher.is_finished());
        let Some(engine) = self.engine.clone().filter(|_| !followed) else { return };
        let (project, events) = (self.project.clone(), self.events.clone());
        self.watcher = Some(tokio::spawn(async move {
            let mut hints = Box::pin(engine.hints(&project));
            // The first look may have come before the stream was open, so everything is looked at again.
            let _ = events.send(Event::StreamOpened).await;
            let mut why = "it was closed".to_owned();
            while let Some(hint) = hints.next().await {
                match hint {
                    Ok(hint) => {
                        let _ = events.send(Event::Hinted(hint)).await;
                    }
                    Err(error) => {
                        why = error.to_string();
                        break;
                    }
                }
            }
            let _ = events.send(Event::StreamClosed(why)).await;
        }));
    }

    /// Failed calls that took effect are no failures; the others are.
    fn settle_doubts(&mut self) {
        for (action, error) in std::mem::take(&mut self.doubtful) {
            if !took_effect(&action, &self.seen) {
                self.failed(&action, &error);
            }
        }
    }

    fn failed(&mut self, action: &Action, error: &EngineError) {
        let now = self.now();
        let text = error.to_string();
        tracing::warn!(subject = ?action.subject(), error = text, "{} failed", action.verb());
        let subject = action.subject();
        let failure = cause::of_unit(UnitId::Node(0), &Evidence { engine: Some(&text), ..Evidence::default() });
        if error.is_unreachable() {
            let retry_at = now.after(UNKNOWN_RETRY);
            self.tracks.blocked.insert(subject, Blocked { failure, failures: 1, retry_at });
            return;
        }
        self.journal.write(&name_of(&subject), &format!("{} failed: {text}", action.verb()));
        match (&subject, action) {
            (Subject::Unit(unit), Action::Create(_) | Action::Start(..)) => self.unit_failed(*unit, failure),
            (Subject::Unit(_) | Subject::Network | Subject::Volume(_) | Subject::Image(_), _) => {
                let failures = self.tracks.blocked.get(&subject).map_or(0, |blocked| blocked.failures) + 1;
                let timing = self.timing();
                let wait = crate::reconcile::backoff::wait(failures + 1, u64::from(failures), &timing);
                self.tracks.blocked.insert(subject, Blocked { failure, failures, retry_at: now.after(wait) });
            }
        }
    }

    fn unit_failed(&mut self, unit: UnitId, failure: cause::Failure) {
        if failure.cause == Cause::PrivilegedRefused && self.go_on_without_privileges() {
            return;
        }
        let (now, timing, seed) = (self.now(), self.timing(), self.seed(unit));
        self.journal.write(&unit.to_string(), &format!("{}: {}", failure.cause.title(), failure.detail));
        tracing::warn!(%unit, cause = ?failure.cause, detail = failure.detail, "failed");
        self.tracks.of(unit).fail(failure, seed, &timing, now);
    }

    /// A demo needs no Docker-in-Docker, so it goes on without privileges where the host refuses them.
    fn go_on_without_privileges(&mut self) -> bool {
        let Some(spec) = self.desired.spec.take_if(|spec| spec.demo && spec.nodes.iter().any(|node| node.privileged))
        else {
            return false;
        };
        let note =
            "this host cannot run privileged containers: the demo goes on without (it needs no Docker-in-Docker)";
        self.journal.write("", note);
        self.notes.push(note.to_owned());
        self.stored.unprivileged = true;
        self.desired.spec = Some(spec.without_privileges());
        self.stored.spec.clone_from(&self.desired.spec);
        self.save();
        true
    }

    pub(super) fn timing(&self) -> crate::config::Timing {
        self.desired.spec.as_ref().map(|spec| spec.timing.clone()).unwrap_or_default()
    }

    fn seed(&self, unit: UnitId) -> u64 {
        let name =
            self.project.as_str().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        name ^ u64::from(unit.number()) ^ if unit == UnitId::Sql { 1 << 32 } else { 0 }
    }

    fn start(&mut self, action: Action) {
        let Some(engine) = self.engine.clone() else { return };
        let now = self.now();
        let subject = match &action {
            Action::CreateVolume(key) => Subject::Volume(self.volume_name(key)),
            other => other.subject(),
        };
        if let Action::Stop { unit, instance, why, cause, .. } = &action {
            self.tracks.of(*unit).ending = Some(instance.clone());
            self.journal.write(&unit.to_string(), &format!("stopping: {why}"));
            if let Some(cause) = cause {
                let detail = self.tracks.of(*unit).health.last_problem.clone().unwrap_or_default();
                self.unit_failed(*unit, cause::Failure { cause: *cause, detail, lines: Vec::new(), code: None });
            }
        }
        tracing::info!(subject = name_of(&subject), "{}", action.verb());
        self.tracks.busy.insert(subject, (action.verb(), now));
        let means = Means {
            engine,
            spec: self.desired.spec.clone(),
            database: self.database(),
            network: self.seen.networks.keys().next().cloned(),
            env: self.env.clone(),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let means = with_database(means, &action).await;
            let result = means.carry_out(&action).await;
            let _ = events.send(Event::Done(action, result)).await;
        });
    }

    fn volume_name(&self, key: &str) -> String {
        let name = self.desired.spec.as_ref().and_then(|spec| spec.volumes.get(key));
        name.cloned().unwrap_or_else(|| key.to_owned())
    }

    fn database(&self) -> Option<DatabaseTarget> {
        self.desired.spec.as_ref().filter(|spec| spec.sql.is_some()).map(|spec| spec.database.clone())
    }

    fn done(&mut self, action: Action, result: Result<Outcome, EngineError>) {
        let subject = match &action {
            Action::CreateVolume(key) => Subject::Volume(self.volume_name(key)),
            other => other.subject(),
        };
        self.tracks.busy.remove(&subject);
        match &action {
            Action::Start(_, id)
            | Action::Remove(_, id)
            | Action::Connect(_, id)
            | Action::DisarmRestartPolicy(_, id) => {
                self.memory.forget_container(id);
            }
            Action::Stop { instance, .. } | Action::Examine(_, instance) => self.memory.forget_container(&instance.id),
            Action::CreateNetwork | Action::CreateVolume(_) | Action::RemoveNetwork(_) | Action::RemoveVolume(_) => {
                self.memory.forget_infrastructure();
            }
            Action::Pull(_) | Action::Create(_) => {}
        }
        match result {
            Ok(outcome) => {
                self.tracks.blocked.remove(&subject);
                self.succeeded(&action, &outcome);
            }
            Err(error) => self.doubtful.push((action, error)),
        }
    }

    fn succeeded(&mut self, action: &Action, outcome: &Outcome) {
        match action {
            Action::Start(unit, _) => {
                let track = self.tracks.of(*unit);
                if track.failure.is_some() {
                    track.restarts = track.restarts.saturating_add(1);
                }
                self.journal.write(&unit.to_string(), "started");
                if *unit != UnitId::Sql {
                    self.remember_version();
                }
            }
            Action::Examine(unit, instance) => self.examined(*unit, instance, outcome),
            Action::Create(unit) => self.journal.write(&unit.to_string(), "created"),
            Action::Remove(unit, _) => self.journal.write(&unit.to_string(), "removed"),
            Action::Stop { unit, .. } => self.journal.write(&unit.to_string(), "stopped"),
            Action::Connect(unit, _) => self.journal.write(&unit.to_string(), "attached to the network again"),
            Action::DisarmRestartPolicy(unit, _) => {
                self.journal.write(&unit.to_string(), "the engine's restart policy was set back to no");
            }
            Action::Pull(_)
            | Action::CreateNetwork
            | Action::CreateVolume(_)
            | Action::RemoveNetwork(_)
            | Action::RemoveVolume(_) => {}
        }
    }

    /// Notes the version whose nodes run, so that an older one is refused later.
    fn remember_version(&mut self) {
        let tag = self.stored.config.as_ref().map(|config| config.octopus.tag.clone());
        if tag.is_some() && self.stored.ran_tag != tag {
            self.stored.ran_tag = tag;
            self.save();
        }
    }

    fn examined(&mut self, unit: UnitId, instance: &Instance, outcome: &Outcome) {
        let track = self.tracks.of(unit);
        if track.unexamined.as_ref() != Some(instance) {
            return;
        }
        track.unexamined = None;
        let (code, oom, engine) = outcome.exit.clone().unwrap_or_default();
        let evidence = Evidence {
            code: outcome.exit.as_ref().map(|_| code),
            oom,
            engine: Some(engine.as_str()).filter(|text| !text.is_empty()),
            lines: &outcome.lines,
        };
        let failure = cause::of_unit(unit, &evidence);
        self.unit_failed(unit, failure);
    }

    fn probed(&mut self, unit: UnitId, instance: Option<&Instance>, probe: &Probe) {
        let (now, timing) = (self.now(), self.timing());
        let track = self.tracks.of(unit);
        if track.instance.as_ref() != instance || track.ended {
            return;
        }
        let was_ready = track.health.ready;
        track.health.record(probe, now);
        if track.health.ready {
            track.settle(&timing, now);
        }
        let is_ready = track.health.ready;
        if was_ready != is_ready {
            let what = if is_ready { "ready".to_owned() } else { format!("not ready: {probe:?}") };
            tracing::info!(%unit, ready = is_ready, "{what}");
            self.journal.write(&unit.to_string(), if is_ready { "ready" } else { "not ready" });
        }
        if matches!(probe, Probe::Failure(_)) && unit != UnitId::Sql {
            self.nudge(UnitId::Sql);
        }
        self.judge_refusal(unit, probe);
    }

    /// A refused password and a suspect database are believed once nothing moves any more.
    fn judge_refusal(&mut self, unit: UnitId, probe: &Probe) {
        let (now, timing) = (self.now(), self.timing());
        let track = self.tracks.of(unit);
        if track.failure.is_some() {
            return;
        }
        let (cause, detail) = match probe {
            Probe::Refused(why) => {
                let since = track.health.refused_since.unwrap_or(now).max(track.progress_at);
                if now.since(since) < Duration::from_millis(timing.refused_grace_ms) {
                    return;
                }
                (Cause::PasswordRefused, why.clone())
            }
            Probe::Alive(why) if why.starts_with(sql::SUSPECT) => (Cause::DatabaseSuspect, why.clone()),
            Probe::Ready | Probe::Alive(_) | Probe::Failure(_) | Probe::Unknown(_) => return,
        };
        self.unit_failed(unit, cause::Failure { cause, detail, lines: Vec::new(), code: None });
    }

    pub(super) fn nudge(&self, unit: UnitId) {
        if let Some(running) = self.probers.get(&unit) {
            running.nudge.notify_one();
        }
    }

    /// Keeps one prober for each run, and none for what does not run.
    fn probe(&mut self) {
        let (Some(spec), Some(engine)) = (self.desired.spec.clone(), self.engine.clone()) else {
            self.probers.clear();
            return;
        };
        let mut wanted: BTreeMap<UnitId, (Option<Instance>, Target)> = BTreeMap::new();
        if spec.sql.is_none() {
            wanted.insert(UnitId::Sql, (None, Target::Database(spec.database.clone())));
        }
        for container in self.seen.containers.iter().filter(|container| container.is_running()) {
            let current = spec.container(container.unit).filter(|wanted| wanted.digest() == container.digest);
            let target = match (container.unit, current) {
                (_, None) => None,
                (UnitId::Sql, Some(_)) => Some(Target::Database(spec.database.clone())),
                (UnitId::Node(_), Some(node)) => node.host_address().map(Target::Node),
            };
            if let Some(target) = target {
                wanted.insert(container.unit, (container.instance(), target));
            }
        }
        self.probers.retain(|unit, running| {
            let want = wanted.get(unit);
            want.is_some_and(|(instance, target)| {
                *instance == running.instance && format!("{target:?}") == running.target
            })
        });
        for (unit, (instance, target)) in wanted {
            if !self.probers.contains_key(&unit) {
                self.begin_probing(unit, instance, target, &spec, &engine);
            }
        }
    }

    fn begin_probing(
        &mut self,
        unit: UnitId,
        instance: Option<Instance>,
        target: Target,
        spec: &StackSpec,
        engine: &Engine,
    ) {
        let nudge = Arc::new(Notify::new());
        let text = format!("{target:?}");
        let prober = Prober {
            unit,
            instance: instance.clone(),
            target,
            timing: spec.timing.clone(),
            engine: engine.clone(),
            events: self.events.clone(),
            nudge: nudge.clone(),
        };
        let task = tokio::spawn(prober.run());
        self.probers.insert(unit, Running { instance, target: text, task, nudge });
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

    pub(super) fn forget(&mut self) {
        self.memory.forget();
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

/// Without an applied configuration, how to reach SQL Server is read off its own container.
async fn with_database(mut means: Means, action: &Action) -> Means {
    if let (Action::Stop { unit: UnitId::Sql, instance, .. }, None) = (action, &means.database) {
        means.database = means.engine.database_of(&instance.id).await;
    }
    means
}

/// A subject's name for logs and the history.
pub fn name_of(subject: &Subject) -> String {
    match subject {
        Subject::Unit(unit) => unit.to_string(),
        Subject::Network => "network".to_owned(),
        Subject::Volume(name) => format!("volume {name}"),
        Subject::Image(image) => format!("image {image}"),
    }
}
