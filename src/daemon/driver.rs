//! The loop, and the state that it alone owns.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::awake::Awake;
use super::beats::Beats;
use super::event::Event;
use super::journal::Journal;
use super::keeper::Keeper;
use super::keeping::Read;
use super::keeping::read;
use super::look::RELIST_EVERY;
use super::look::Stale;
use super::look::Unsure;
use super::paths::Paths;
use super::probing::Running;
use super::requests::Considered;
use super::store::Stored;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::observe::ObservationCache;
use crate::engine::watch::Hint;
use crate::reconcile::Desired;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::State;
use crate::reconcile::status::Status;
use crate::reconcile::status::StatusInput;
use crate::reconcile::status::status;
use crate::spec::UnitId;

/// So many panics within [`PANIC_WINDOW`] are no accident: the process ends, and whoever supervises
/// it starts it afresh.
const PANICS: usize = 5;
/// See [`PANICS`].
const PANIC_WINDOW: Duration = Duration::from_secs(60);

/// Everything the daemon knows. One task owns it.
pub struct Driver {
    pub(super) project: ProjectName,
    pub(super) endpoint: Endpoint,
    pub(super) paths: Paths,
    pub(super) env: BTreeMap<String, String>,
    pub(super) engine: Option<Engine>,
    pub(super) stored: Stored,
    pub(super) keeper: Keeper,
    /// The last write failed: it is tried again at every relist.
    pub(super) unsaved: bool,
    /// False when the state file is of a newer form: it is not ours to write.
    pub(super) may_write: bool,
    /// What is wanted was read from a file that may not be the last one: it counts only if it is
    /// what runs.
    pub(super) on_trial: bool,
    pub(super) state: State,
    pub(super) generation: u64,
    pub(super) notes: Vec<String>,
    pub(super) engine_problem: Option<String>,
    /// The `up`s that somebody follows, by the generation that each was given.
    pub(super) sessions: BTreeSet<u64>,
    /// Ends when the stack is down: `up` started it. One that systemd started stays.
    pub(super) ends_when_down: bool,
    /// How often it was asked to end: stop the stack, then leave; the second time nodes get no
    /// grace; then leave at once.
    pub(super) terminations: u32,
    /// How to leave at once, containers untouched, if it is to.
    pub(super) leaving: Option<Leave>,
    pub(super) journal: Journal,
    /// What remains once the stack is down was done.
    pub(super) finished: bool,
    pub(super) cache: ObservationCache,
    pub(super) stale: Stale,
    pub(super) look_wanted: bool,
    pub(super) looking: bool,
    pub(super) relist_at: Instant,
    pub(super) recheck_at: Instant,
    pub(super) unsure: Unsure,
    /// Requests that came while nothing was known of the engine.
    pub(super) waiting: Vec<Considered>,
    /// How many requests facts are gathered for.
    pub(super) considering: usize,
    pub(super) probers: BTreeMap<UnitId, Running>,
    pub(super) watcher: Option<JoinHandle<()>>,
    /// The last two times that each unit was asked to start, by the wall clock, as lines of its log
    /// are.
    pub(super) asked: BTreeMap<UnitId, [Option<time::OffsetDateTime>; 2]>,
    pub(super) beats: Arc<Beats>,
    awake: Awake,
    panics: Vec<Instant>,
    pub(super) engine_lost_at: Option<Instant>,
    pub(super) chores: Option<JoinHandle<()>>,
    clock: Instant,
    inputs: mpsc::Receiver<Event>,
    pub(super) events: mpsc::Sender<Event>,
    published: watch::Sender<Status>,
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
    /// Where it shows that it advances.
    pub beats: Arc<Beats>,
}

impl Driver {
    /// Reads the state file and makes a driver with its queue and status.
    pub fn new(setup: Setup) -> (Self, mpsc::Sender<Event>, watch::Receiver<Status>) {
        let (events, inputs) = mpsc::channel(super::event::QUEUE);
        let (published, receiver) = watch::channel(Status::default());
        let Read {
            stored,
            keeper,
            may_write,
            on_trial,
            notes,
        } = read(setup.paths.store());
        let desired = Desired {
            goal: if setup.held {
                Goal::Hold
            } else {
                stored.goal(&setup.endpoint)
            },
            spec: stored.spec.clone(),
            stopped: stored.stopped.clone(),
            images: stored.images.clone(),
            ..Desired::default()
        };
        let seed = seed_of(&setup.project);
        let mut unsure = Unsure::default();
        unsure.wish();
        let driver = Self {
            project: setup.project,
            endpoint: setup.endpoint,
            journal: Journal::at(setup.paths.events()),
            paths: setup.paths,
            env: setup.env,
            engine: None,
            stored,
            keeper,
            unsaved: false,
            may_write,
            on_trial,
            state: State::new(desired, seed),
            generation: 0,
            notes,
            engine_problem: None,
            sessions: BTreeSet::new(),
            ends_when_down: setup.ends_when_down,
            terminations: 0,
            leaving: None,
            finished: false,
            cache: ObservationCache::default(),
            stale: Stale::default(),
            look_wanted: true,
            looking: false,
            relist_at: Instant::now(),
            recheck_at: Instant::now(),
            unsure,
            waiting: Vec::new(),
            considering: 0,
            probers: BTreeMap::new(),
            watcher: None,
            asked: BTreeMap::new(),
            beats: setup.beats,
            awake: Awake::now(),
            panics: Vec::new(),
            engine_lost_at: None,
            chores: None,
            clock: Instant::now(),
            inputs,
            events: events.clone(),
            published,
        };
        (driver, events, receiver)
    }

    /// Runs until the daemon is to end, and says how.
    pub async fn run(mut self) -> Leave {
        self.journal.write("", "the daemon began");
        if let Goal::Down { .. } = self.state.desired.goal {
            self.journal
                .write("", "goes on with a `down` that was broken off");
        }
        loop {
            self.look();
            let plan = self.state.plan(self.now());
            if self.may_act() {
                plan.actions
                    .into_iter()
                    .for_each(|action| self.start(action));
            }
            self.pass_on_news();
            self.probe();
            if self.is_down() && !self.finished {
                self.finish();
            }
            self.publish();
            self.beats.driver();
            if let Some(leave) = self
                .leaving
                .or_else(|| self.is_over().then_some(Leave::End))
            {
                self.end().await;
                return leave;
            }
            self.take_in(plan.wake_at).await;
        }
    }

    /// Whether what Docker looks like is known, and not older than the last wish: a changed
    /// configuration asks about other images.
    pub(super) fn may_act(&self) -> bool {
        self.engine.is_some() && self.engine_problem.is_none() && !self.unsure.is()
    }

    pub(super) fn now(&self) -> Mono {
        Mono(self.clock.elapsed())
    }

    /// Waits for something to happen and takes it in, with all that waits behind it.
    async fn take_in(&mut self, wake_at: Option<Mono>) {
        // A look that is under way reports itself.
        let patience = if self.looking {
            RELIST_EVERY
        } else {
            self.relist_at.saturating_duration_since(Instant::now())
        };
        let patience = wake_at.map_or(patience, |at| at.since(self.now()).min(patience));
        let until = self
            .patience_of_requests()
            .map_or(patience, |limit| limit.min(patience));
        // Cancel-safe: a receive that times out has taken nothing from the queue.
        let first = tokio::time::timeout(until, self.inputs.recv()).await;
        if let Some(slept) = self.awake.slept() {
            let now = self.now();
            self.state.woke(slept, now);
        }
        if let Ok(Some(event)) = first {
            self.absorb(event);
        }
        while let Ok(event) = self.inputs.try_recv() {
            self.absorb(event);
        }
        if self
            .patience_of_requests()
            .is_some_and(|limit| limit.is_zero())
        {
            self.consider_what_waits();
        }
        self.note_a_lost_engine();
    }

    /// Takes in one event.
    fn absorb(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Hinted(hint) => self.hinted(hint),
            Event::StreamOpened => self.look_at_everything(),
            Event::StreamClosed(why) => {
                tracing::info!(why, "the engine's events ended");
                self.watcher = None;
                self.look_at_everything();
            }
            Event::Looked(looked) => {
                self.looked(*looked);
                self.consider_what_waits();
            }
            Event::Probed(unit, instance, probe) => {
                self.state.probed(unit, instance.as_ref(), &probe, now);
            }
            Event::Progressed(unit) => self.state.progressed(unit, now),
            Event::Done(action, result) => {
                self.forget_what_it_touched(&action);
                self.look_wanted |= self.state.end(action, result, now);
            }
            Event::Saved(result) => self.saved(result),
            Event::Panicked(words) => self.panicked(&words),
            Event::Requested(request) => self.requested(request),
            Event::Gathered(gathered) => self.gathered(*gathered),
            Event::Terminated => self.terminate(),
            Event::Left(leave) => self.leave(leave),
            Event::SessionEnded(session) => {
                self.sessions.remove(&session);
            }
        }
    }

    fn hinted(&mut self, hint: Hint) {
        match hint {
            Hint::Container(heard) => {
                let now = self.now();
                self.state.heard(&heard, now);
                self.stale.containers.push(heard.id);
            }
            Hint::Infrastructure => self.stale.infrastructure = true,
            Hint::Images => self.stale.images = true,
        }
        self.look_wanted = true;
    }

    /// The next look trusts nothing that is remembered.
    pub(super) fn look_at_everything(&mut self) {
        self.stale.everything = true;
        self.look_wanted = true;
    }

    fn panicked(&mut self, words: &str) {
        tracing::error!(words, "a panic");
        self.journal.write("", words);
        self.panics.retain(|at| at.elapsed() < PANIC_WINDOW);
        self.panics.push(Instant::now());
        if self.panics.len() >= PANICS {
            self.leaving = Some(Leave::Broken);
        }
    }

    pub(super) fn status(&self) -> Status {
        let around = StatusInput {
            project: self.project.to_string(),
            generation: self.generation,
            engine_problem: self.engine_problem.clone(),
            unsure: self.unsure.is(),
            notes: self.notes.iter().cloned().chain(self.held_back()).collect(),
            ends_when_down: self.ends_when_down,
        };
        status(
            &around,
            &self.state.desired,
            &self.state.seen,
            &self.state.records,
            self.now(),
        )
    }

    fn publish(&self) {
        let now = self.status();
        self.published.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }
}

/// A number of the project's own, by which its waits differ from others'.
fn seed_of(project: &ProjectName) -> u64 {
    project.as_str().bytes().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The driver of a detached daemon that was asked for nothing yet, and that has no engine.
    pub(in crate::daemon) fn idle(dir: &std::path::Path) -> Driver {
        let project = ProjectName::given("idle").unwrap();
        let env = BTreeMap::from([("OCTO_LOCAL_STATE_DIR".to_owned(), dir.display().to_string())]);
        let (driver, ..) = Driver::new(Setup {
            paths: Paths::of(&project, &env),
            project,
            endpoint: Endpoint("unix:///nowhere".to_owned()),
            env,
            ends_when_down: true,
            held: true,
            beats: Arc::default(),
        });
        driver
    }

    #[tokio::test]
    async fn a_panic_is_met_and_too_many_end_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut driver = idle(dir.path());
        for _ in 1..PANICS {
            driver.absorb(Event::Panicked("met on purpose".to_owned()));
            assert_eq!(driver.leaving, None);
        }
        driver.absorb(Event::Panicked("met on purpose".to_owned()));
        assert_eq!(driver.leaving, Some(Leave::Broken));
    }
}
