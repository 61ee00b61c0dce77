//! The daemon without I/O: no tokio, no clock, no files. Events go in, effects come out, and the
//! simulation in the tests owns the same value.
//!
//! ```text
//!  events of the engine ─┐                       ┌─> actions, looks, probes ──> Docker, SQL, nodes
//!  probes, looks ────────┼─> absorb ─> decide ───┼─> writes ──> the state file
//!  requests, signals ────┘    (plan)             └─> replies, history, status
//! ```
//!
//! An event never triggers an action: it changes what is known and wished, and [`Core::decide`]
//! asks the planner once for everything that was taken in together. What is wished has one owner,
//! [`keeping`]: [`Core::derive`] makes the desired state of it and of what is passing (a daemon
//! that is ending, one that waits for its first request).
//!
//! A request comes in by [`requests`], is judged by [`admission`] when its turn comes, and is kept
//! and carried out by [`carry_out`]; what runs teach is in [`learned`], what goes out in [`actions`].
//!
//! To add an event: a variant in `message`, an arm in [`Core::absorb`]. To add an effect: a variant
//! in `message`, an arm in `shell`, and one in the simulation's `perform`. To add a request: a
//! variant of `Request` and of `Answer` in `message`, an arm in [`requests`] and, where it is a wish, in
//! [`wish`], [`admission`] and [`carry_out`]; a route in `api`.

mod actions;
mod admission;
mod carry_out;
mod desire;
mod down;
mod front_door;
mod keeping;
mod learned;
mod looks;
mod probe_pacing;
mod quiesce;
mod replaced;
mod requests;
mod roll_back;
mod sa_password;
mod schedule;
mod shortage;
mod shutdown;
mod sleep_detector;
mod task_counts;
mod tentacle;
mod tenure;
mod upgrade;
mod wish;

use time::OffsetDateTime;

use super::message::Effect;
use super::message::Event;
use super::message::Leave;
use super::message::Moment;
use super::message::Session;
use super::store::Loaded;
use super::store::Stored;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::State;
use crate::reconcile::status::Note;
use crate::reconcile::status::Status;
use crate::reconcile::status::StatusInput;
use crate::reconcile::status::status;
use crate::spec::UnitId;
use desire::Passing;
use front_door::FrontDoor;
use keeping::Keeping;
use learned::Learned;
use looks::EngineView;
use looks::Looks;
use probe_pacing::ProbePacing;
use requests::Requests;
use shortage::Shortage;
use shortage::Throttled;
use shutdown::Shutdown;
use sleep_detector::SleepDetector;
use tenure::Tenure;

pub use front_door::REQUESTS_END_WITHIN;
pub use probe_pacing::TENTACLE_PACE;
pub use probe_pacing::judged;
pub use sleep_detector::SLEEP_GAP;

/// What a daemon is, for as long as it lives.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The project.
    pub project: ProjectName,
    /// Where its engine is.
    pub endpoint: Endpoint,
    /// What this host is called.
    pub host_name: String,
    /// The state file, for messages.
    pub state_file: String,
    /// The daemon ends when the stack is down: `up` started it. One that systemd started stays.
    pub ends_when_down: bool,
    /// What it is for.
    pub duty: Duty,
    /// When a backup of this pattern is due next after a time, both in milliseconds since 1970:
    /// the host's time zone is part of it.
    pub next_backup: fn(&str, u64) -> Option<u64>,
}

/// What a core is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It supervises, from its first look on.
    Supervise,
    /// It supervises too, and starts nothing before it is asked to: a request follows.
    AwaitRequest,
    /// It answers one request, out of what it reads and sees. It changes nothing, and leaves.
    Answer,
}

/// Everything that the daemon knows and wishes.
#[derive(Debug)]
pub struct Core {
    setup: Setup,
    state: State,
    keeping: Keeping,
    looks: Looks,
    pacing: ProbePacing,
    requests: Requests,
    shutdown: Shutdown,
    host: Host,
    tenure: Tenure,
    passing: Passing,
    notes: Vec<Note>,
    learned: Learned,
    decided: Decided,
    now: Moment,
    out: Vec<Effect>,
}

/// How long the last decision stands.
#[derive(Debug)]
struct Decided {
    /// When the plan wants to be made again.
    plan_wakes_at: Option<Mono>,
    /// When something else is due, the plan included.
    until: Mono,
    /// Something was taken in since that the next decision may hang on.
    has_news: bool,
}

/// How the host fares: whether it slept, whether it is short of something, and how the front door on
/// it is.
#[derive(Debug)]
struct Host {
    sleep: SleepDetector,
    shortage: Shortage,
    throttled: Throttled,
    front_door: FrontDoor,
}

impl Core {
    /// Begins with what was read from the state file.
    pub fn new(setup: Setup, loaded: Loaded, now: Moment) -> Self {
        let (keeping, notes) = Keeping::begin(loaded);
        let passing = Passing {
            awaits_request: setup.duty != Duty::Supervise,
            ..Passing::default()
        };
        let seed = seed_of(&setup.project);
        let mut core = Self {
            setup,
            state: State::new(crate::reconcile::Desired::default(), seed),
            keeping,
            looks: Looks::new(now.mono),
            pacing: ProbePacing::default(),
            requests: Requests::default(),
            shutdown: Shutdown::default(),
            host: Host {
                sleep: SleepDetector::awake(now),
                shortage: Shortage::default(),
                throttled: Throttled::default(),
                front_door: FrontDoor::default(),
            },
            tenure: Tenure::default(),
            passing,
            notes,
            learned: Learned::default(),
            decided: Decided {
                plan_wakes_at: None,
                until: now.mono,
                has_news: true,
            },
            now,
            out: Vec::new(),
        };
        core.go_on_with_drains();
        core.go_on_with_rollback();
        let known = &core.keeping.stored().durable;
        core.state.records.durable.clone_from(known);
        core.derive();
        core.learned.goal_since = None;
        core.write_down("", "the daemon began");
        if let Goal::Down { .. } = core.state.desired.goal {
            core.tell("", "goes on with a `down` that was broken off");
        }
        core
    }

    /// Takes in one event and decides what is to be done: [`Core::absorb`] and [`Core::decide`].
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        self.absorb(event, now);
        self.decide(now)
    }

    /// Takes in one event.
    pub fn absorb(&mut self, event: Event, now: Moment) {
        self.notice_time(now);
        let mut is_news = true;
        match event {
            Event::Hinted(hint) => self.on_hint(hint),
            Event::StreamOpened => self.looks.invalidate_everything(),
            Event::StreamClosed(why) => {
                tracing::info!(why, "the engine's events ended");
                self.state.on_engine_left();
                self.looks.on_events_ended();
            }
            Event::Looked(seen) => self.on_looked(seen),
            Event::Probed {
                number,
                unit,
                instance,
                probe,
            } => is_news = self.on_probed(unit, number, instance.as_ref(), probe),
            Event::LogRead {
                unit,
                instance,
                lines,
            } => self.on_log_read(unit, &instance, &lines),
            Event::PressureRead(pressure) => self.on_pressure_read(pressure),
            Event::ThrottlingRead(unit, instance, starves) => {
                self.on_throttling_read(unit, &instance, starves);
            }
            Event::Done(action, result) => {
                self.looks.invalidate_what_it_touched(&action);
                if self.state.end(action, result, now.mono) {
                    self.looks.want();
                }
            }
            Event::Gathered {
                id,
                asker_left,
                found,
            } => self.on_gathered(id, asker_left, found),
            Event::Leased(answer) => self.on_leased(answer),
            Event::VersionRead(ran) => self.on_version_read(ran),
            Event::TasksCounted(unit, instance, tasks) => {
                self.state.on_tasks_counted(unit, &instance, tasks);
            }
            Event::BackedUp(of, result) => self.on_backed_up(of, result),
            Event::SetRead(set, result) => self.on_set_read(&set, result),
            Event::BroughtBack(result) => self.on_brought_back(result),
            Event::ReplacedDropped(result) => self.on_replaced_dropped(result),
            Event::PasswordChanged(result) => self.on_password_changed(result),
            Event::Saved { number, result } => {
                if let Err(error) = &result {
                    tracing::error!(error, "the state file cannot be written");
                }
                if let Some(kept) = self.keeping.on_saved(number, result, now.mono) {
                    self.on_kept(&kept);
                }
            }
            Event::Panicked(words) => {
                tracing::error!(words, "a panic");
                self.write_down("", words);
                self.shutdown.on_panic(now.mono);
            }
            Event::Requested(id, request) => self.on_request(id, request),
            Event::Terminated => self.on_terminated(),
            Event::Left(leave) => self.leave(leave),
            Event::SessionEnded(Session::Up(number)) => self.requests.end_session(number),
            Event::SessionEnded(Session::Quiesce(number)) => self.end_quiesce(number),
            Event::FrontDoor(report) => self.on_front_door(report),
        }
        self.pass_on_news();
        self.decided.has_news |= is_news || !self.out.is_empty();
    }

    /// Whether [`Core::decide`] may come to something: it is time, or something was taken in that
    /// matters. One more good answer of a stack that is well does not.
    pub fn has_to_decide(&self, now: Mono) -> bool {
        self.decided.has_news || now >= self.decided.until.min(self.wake_at())
    }

    /// Decides what is to be done now, by what was taken in so far.
    pub fn decide(&mut self, now: Moment) -> Vec<Effect> {
        self.notice_time(now);
        if !self.has_to_decide(now.mono) {
            return Vec::new();
        }
        self.decided.has_news = false;
        if self.setup.duty == Duty::Answer {
            return self.look_and_answer();
        }
        if let Some(kept) = self.keeping.give_up_late_write(now.mono) {
            self.on_kept(&kept);
        }
        self.answer_those_who_waited_long();
        self.begin_next_wish();
        if self.state.contradicted() {
            self.looks.want_again(now.mono);
        }
        self.settle_who_rests();
        let looks = self.begin_look();
        let plan = self.state.plan(now.mono);
        self.decided.plan_wakes_at = plan.wake_at;
        self.look_after_the_lease(!plan.actions.is_empty());
        if self.looks.may_act() && self.tenure.may_act(now.mono) {
            // In this order: what the disk was told is begun at once.
            let actions = self.let_requests_end(plan.actions);
            self.keep_back_stops(actions)
                .into_iter()
                .for_each(|action| self.begin_action(action));
        }
        self.pass_on_news();
        self.end_hold();
        self.probe(looks);
        self.count_tasks_of_draining_nodes();
        if self.is_down() && self.passing.went_down.is_none() {
            self.finish_down();
        }
        self.back_up_when_due();
        self.drop_replaced_when_ready();
        self.go_on_with_version_change();
        self.go_on_with_password_change();
        self.keep_what_is_known();
        self.out.extend(self.keeping.write_changes(now.mono));
        self.note_a_lost_engine();
        self.feed_the_front_door();
        if self.passing.went_down.is_some() {
            let step = self.tenure.release();
            self.out.extend(step.map(Effect::Lease));
        }
        if let Some(leave) = self
            .shutdown
            .leaving()
            .or_else(|| self.is_over().then_some(Leave::End))
        {
            if leave == Leave::End && *self.looks.engine() == EngineView::Answers {
                let step = self.tenure.give_up();
                self.out.extend(step.map(Effect::Lease));
            }
            self.tell("", "the daemon ended");
            self.out.extend(self.keeping.write_at_the_end(now.mono));
            self.out.push(Effect::Leave(leave));
        }
        self.decided.until = self.wake_at();
        std::mem::take(&mut self.out)
    }

    /// What one does that only answers.
    fn look_and_answer(&mut self) -> Vec<Effect> {
        self.answer_those_who_waited_long();
        self.begin_look();
        self.out.extend(self.shutdown.leaving().map(Effect::Leave));
        std::mem::take(&mut self.out)
    }

    /// When the core is to be called again if nothing happens before.
    pub fn wake_at(&self) -> Mono {
        let now = self.now.mono;
        let farewell = match self.looks.engine() {
            EngineView::Fails { since, .. } => self.shutdown.farewell_at(*since),
            EngineView::Unknown | EngineView::Answers => None,
        };
        let due = [
            self.decided.plan_wakes_at,
            self.pacing.due_at(),
            self.keeping.due_at(),
            self.requests.due_at(),
            self.tenure.due_at(self.requests.waits_for_the_lease()),
            self.requests_end_at(),
            self.counts_tasks_at(),
            farewell,
            self.backup_due_at(),
            self.drop_due_at(),
            self.password_due_at(),
        ];
        let due = due.into_iter().flatten().min();
        let look = self.looks.due_at(now);
        due.map_or(look, |due| due.min(look))
    }

    /// What people are told now.
    pub fn status(&self, now: Mono) -> Status {
        let not_written = self.keeping.problem().map(|why| Note::StateUnwritable {
            why: why.to_string(),
        });
        let gone = self.passing.lost_volume.clone();
        let data_gone = gone.map(|volume| Note::DataGone { volume });
        let lost = self
            .tenure
            .lost_to()
            .map(|by| Note::LookedAfter { by: by.to_owned() });
        let held_back = self
            .keeping
            .stored()
            .held_back(&self.setup.endpoint)
            .filter(|_| self.state.desired.goal == Goal::Hold);
        let around = StatusInput {
            project: self.setup.project.to_string(),
            generation: self.requests.generation(),
            engine_problem: self.looks.engine_problem().map(str::to_owned),
            goal_since: self.learned.goal_since,
            unsure: self.looks.is_outdated(),
            notes: self
                .notes
                .iter()
                .cloned()
                .chain(not_written)
                .chain(data_gone)
                .chain(lost)
                .chain(held_back)
                .chain(self.unfinished_restore())
                .chain(self.way_back_from_restore())
                .chain(self.failed_backup())
                .chain(self.notes_of_version_change())
                .chain(self.notes_of_password())
                .chain(self.left_to_others())
                .collect(),
            ends_when_down: self.setup.ends_when_down,
            front_door: self.front_door_status(),
            version_change: self.version_change(),
            host_name: self.setup.host_name.clone(),
        };
        status(
            &around,
            &self.state.desired,
            &self.state.seen,
            &self.state.records,
            now,
        )
    }

    /// What is known and wanted, for those who hold it against something else.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is kept of the project.
    pub fn stored(&self) -> &Stored {
        self.keeping.stored()
    }

    /// Whether what Docker looks like is known, and not older than the last wish.
    pub fn may_act(&self) -> bool {
        self.looks.may_act()
    }

    /// Whether the answer to this probe still says something: nobody waits for that of a run that
    /// is not probed any more.
    pub fn awaits_probe(&self, unit: UnitId, number: u64) -> bool {
        self.pacing.awaits(unit, number)
    }

    /// Whether the daemon was asked to end.
    pub fn is_ending(&self) -> bool {
        self.shutdown.is_under_way()
    }

    fn notice_time(&mut self, now: Moment) {
        if let Some(slept) = self.host.sleep.slept(now) {
            self.state.woke(slept, now.mono);
            self.tenure.woke(now.mono);
            self.decided.has_news = true;
        }
        self.now = now;
    }

    /// Says what happened in the log and in the history.
    fn tell(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        let (subject, what) = (subject.into(), what.into());
        if subject.is_empty() {
            tracing::info!("{what}");
        } else {
            self.log(&subject, &what);
        }
        self.write_down(subject, what);
    }

    /// Says it in the log, of a unit with the phase that it has now and why, if there is more to say.
    fn log(&self, subject: &str, what: &str) {
        let Ok(unit) = subject.parse::<UnitId>() else {
            tracing::info!(subject, "{what}");
            return;
        };
        let status = self.status(self.now.mono);
        let mut all = status.units.iter().chain(&status.tentacles);
        match all.find(|one| one.unit == unit) {
            Some(one) => {
                let phase = one.phase.to_string();
                let reason = Some(one.reason.as_str()).filter(|reason| !reason.is_empty());
                tracing::info!(unit = subject, phase, reason, "{what}");
            }
            None => tracing::info!(unit = subject, "{what}"),
        }
    }

    /// Says it in the history alone, where the log has a line of its own for it.
    fn write_down(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.out.push(Effect::Tell(subject.into(), what.into()));
    }
}

/// Milliseconds since 1970.
fn millis(wall: OffsetDateTime) -> i64 {
    i64::try_from(wall.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// A number of the project's own, by which its waits differ from others'.
fn seed_of(project: &ProjectName) -> u64 {
    project.as_str().bytes().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    })
}
