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
//! To add an event: a variant in `message`, an arm in [`Core::absorb`]. To add an effect: a variant
//! in `message`, an arm in `shell`, and one in the simulation's `perform`. To add a request: a
//! variant of `Request` and of `Answer` in `message`, an arm in [`requests`], a route in `api`.

mod front_door;
mod keeping;
mod looks;
mod probe_pacing;
mod requests;
mod schedule;
mod shortage;
mod shutdown;
mod sleep_detector;
mod tenure;
mod wish;

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

pub use front_door::REQUESTS_END_WITHIN;
pub use probe_pacing::judged;
pub use sleep_detector::SLEEP_GAP;

use front_door::FrontDoor;
use keeping::Keeping;
use looks::EngineView;
use looks::Looks;
use probe_pacing::ProbePacing;
use requests::Requests;
use schedule::Scheduled;
use shortage::Shortage;
use shutdown::Asked;
use shutdown::Shutdown;
use sleep_detector::SleepDetector;
use tenure::Tenure;

use super::message::ActionInput;
use super::message::Effect;
use super::message::Event;
use super::message::Leave;
use super::message::Moment;
use super::message::ProbeTarget;
use super::store::Data;
use super::store::KeptDrain;
use super::store::Loaded;
use super::store::Ran;
use super::store::Stored;
use super::store::Wish;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::logs::Span;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::News;
use crate::reconcile::Observed;
use crate::reconcile::State;
use crate::reconcile::action::Subject;
use crate::reconcile::action::Verb;
use crate::reconcile::health::Miss;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::reconcile::observed::Run;
use crate::reconcile::record::Durable;
use crate::reconcile::status::Note;
use crate::reconcile::status::Status;
use crate::reconcile::status::StatusInput;
use crate::reconcile::status::is_down;
use crate::reconcile::status::status;
use crate::spec::StackSpec;
use crate::spec::UnitId;

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
    /// It starts nothing before it is asked to: a request follows.
    pub held: bool,
    /// When a backup of this pattern is due next after a time, both in milliseconds since 1970:
    /// the host's time zone is part of it.
    pub next_backup: fn(&str, u64) -> Option<u64>,
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
    plan_wakes_at: Option<Mono>,
    now: Moment,
    out: Vec<Effect>,
}

/// How the host fares: whether it slept, whether it is short of something, and how the front door on
/// it is.
#[derive(Debug)]
struct Host {
    sleep: SleepDetector,
    shortage: Shortage,
    front_door: FrontDoor,
}

/// What was learned of runs, beside what the planner knows of them.
#[derive(Debug, Default)]
struct Learned {
    /// Since when the goal is what it is; none where that is older than this daemon.
    goal_since: Option<Mono>,
    /// The run of a node that proved its key last.
    proved: Option<Instance>,
    /// The last two times that each unit was asked to start, by the wall clock, as lines of its log
    /// are.
    asked_to_start: BTreeMap<UnitId, [Option<OffsetDateTime>; 2]>,
    /// Runs that are to be ended once the disk has that it is we who end them.
    stops_to_come: BTreeMap<UnitId, Instance>,
    /// The next backup that is made by itself.
    scheduled: Scheduled,
}

/// What overlays what is kept, and goes with this process.
#[derive(Debug, Default)]
struct Passing {
    /// The request that the daemon was started for has not come yet.
    awaits_request: bool,
    /// What was read is not what runs: nothing is done before a wish.
    left_alone: bool,
    /// The volume with the database, while it is missed: nothing is started.
    lost_volume: Option<String>,
    /// What `down` asked for is true, with the data or without.
    went_down: Option<bool>,
    /// How long nodes get to stop in this `down`, in place of what was configured.
    node_grace: Option<Duration>,
}

impl Core {
    /// Begins with what was read from the state file.
    pub fn new(setup: Setup, loaded: Loaded, now: Moment) -> Self {
        let (keeping, notes) = Keeping::begin(loaded);
        let passing = Passing {
            awaits_request: setup.held,
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
                front_door: FrontDoor::default(),
            },
            tenure: Tenure::default(),
            passing,
            notes,
            learned: Learned::default(),
            plan_wakes_at: None,
            now,
            out: Vec::new(),
        };
        core.go_on_with_drains();
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
            } => {
                let timing = self.state.timing();
                let paced = self
                    .pacing
                    .on_probed(unit, number, probe, &timing, now.mono);
                if let Some((probe, reads_log)) = paced {
                    self.state.probed(unit, instance.as_ref(), &probe, now.mono);
                    self.out.extend(reads_log);
                    self.ask_whether_the_host_is_short(&probe);
                }
            }
            Event::LogRead {
                unit,
                instance,
                lines,
            } => {
                if self.pacing.on_log_read(unit, &instance, now.mono) {
                    self.state.on_log_read(unit, &instance, &lines, now.mono);
                }
            }
            Event::PressureRead(pressure) => {
                if self.host.shortage.on_read(pressure, now.mono) {
                    self.state.on_host_starved(now.mono);
                }
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
            Event::Leased(answer) => {
                if self.tenure.on_answer(answer, now.mono) {
                    self.on_tenure_changed();
                }
            }
            Event::VersionRead(ran) => self.keeping.edit(|stored| {
                stored.version_ran(ran);
            }),
            Event::BackedUp(result) => self.on_backed_up(result),
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
            Event::SessionEnded(session) => self.requests.end_session(session),
            Event::FrontDoor(report) => self.on_front_door(report),
        }
        self.pass_on_news();
    }

    /// Decides what is to be done now, by what was taken in so far.
    pub fn decide(&mut self, now: Moment) -> Vec<Effect> {
        self.notice_time(now);
        if let Some(kept) = self.keeping.give_up_late_write(now.mono) {
            self.on_kept(&kept);
        }
        self.answer_those_who_waited_long();
        self.begin_next_wish();
        if self.state.contradicted() {
            self.looks.want_again(now.mono);
        }
        self.begin_look();
        let plan = self.state.plan(now.mono);
        self.plan_wakes_at = plan.wake_at;
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
        self.probe();
        if self.is_down() && self.passing.went_down.is_none() {
            self.finish_down();
        }
        self.back_up_when_due();
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
            self.plan_wakes_at,
            self.pacing.due_at(),
            self.keeping.due_at(),
            self.requests.due_at(),
            self.tenure.due_at(self.requests.waits_for_the_lease()),
            self.requests_end_at(),
            farewell,
            self.backup_due_at(),
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
                .chain(self.failed_backup())
                .chain(self.left_to_others())
                .collect(),
            ends_when_down: self.setup.ends_when_down,
            front_door: self.front_door_status(),
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

    /// What a `down` leaves where it is, for people.
    fn left_to_others(&self) -> Vec<Note> {
        let Goal::Down { .. } = self.state.desired.goal else {
            return Vec::new();
        };
        let left = self.state.records.left_to_others().into_iter();
        let note = |(subject, words): (&Subject, &str)| Note::LeftToOthers {
            what: subject.to_string(),
            why: words.to_owned(),
        };
        left.map(note).collect()
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
        }
        self.now = now;
    }

    /// Makes the desired state of what is kept and what is passing.
    fn derive(&mut self) {
        let kept = self.keeping.stored();
        let (passing, desired) = (&self.passing, &mut self.state.desired);
        let before = desired.goal;
        let waits = passing.awaits_request || passing.left_alone || self.tenure.lost_to().is_some();
        desired.goal = match passing.went_down {
            _ if self.shutdown.is_under_way() => Goal::Halt,
            Some(volumes) => Goal::Down { volumes },
            None if waits => Goal::Hold,
            None => match kept.goal(&self.setup.endpoint) {
                Goal::Up if passing.lost_volume.is_some() => Goal::Hold,
                goal => goal,
            },
        };
        // Only a start that was interrupted is held with what serves kept running.
        let is_here = kept.elsewhere(&self.setup.endpoint).is_none();
        let is_interrupted = kept.held && kept.is_up() && is_here;
        let is_touched = is_interrupted && passing.lost_volume.is_none() && !waits;
        desired.hands_off = desired.goal == Goal::Hold && !is_touched;
        if desired.goal != before {
            self.learned.goal_since = Some(self.now.mono);
        }
        desired.hurry = self.shutdown.hurries();
        desired.stopped.clone_from(&kept.stopped);
        desired.drained.clone_from(&kept.drains.drained);
        desired.images.clone_from(&kept.images);
        if desired.want(kept.spec.as_ref()) {
            self.state.records.units.remove(&UnitId::Sql);
        }
        if let (Some(spec), Some(grace)) = (&mut desired.spec, passing.node_grace) {
            spec.timing.node_stop_grace = grace;
        }
    }

    /// Says what happened in the log and in the history.
    fn tell(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        let (subject, what) = (subject.into(), what.into());
        if subject.is_empty() {
            tracing::info!("{what}");
        } else {
            tracing::info!(subject, "{what}");
        }
        self.write_down(subject, what);
    }

    /// Says it in the history alone, where the log has a line of its own for it.
    fn write_down(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.out.push(Effect::Tell(subject.into(), what.into()));
    }

    fn on_hint(&mut self, hint: Hint) {
        match hint {
            Hint::Container(event) => {
                self.state.heard(&event, self.now.mono);
                self.looks.invalidate_container(event.id);
            }
            Hint::Infrastructure => {
                self.state.on_change_told();
                self.looks.invalidate_infrastructure();
            }
            Hint::Images => self.looks.invalidate_images(),
        }
        self.looks.want();
    }

    fn begin_look(&mut self) {
        let Some(invalidated) = self.looks.begin(self.now.mono) else {
            return;
        };
        self.state.look_begins();
        let spec = self.state.desired.spec.as_ref();
        let images = spec.map(StackSpec::images).unwrap_or_default();
        self.out.push(Effect::Look {
            invalidated,
            images: images.into_iter().map(str::to_owned).collect(),
        });
    }

    /// Takes in what a look showed. A failure is part of the status, and is tried again.
    fn on_looked(&mut self, seen: Result<Box<Observed>, String>) {
        let now = self.now.mono;
        match seen {
            Ok(seen) => {
                if self.looks.on_success(now) {
                    self.tell("", "the engine answers again");
                }
                self.state.looked(*seen, now);
                self.try_what_was_read();
                self.hold_while_data_is_gone();
                if self.looks.follow_events() {
                    self.out.push(Effect::FollowEvents);
                }
            }
            Err(words) => {
                self.state.look_failed();
                if self.looks.on_failure(words.clone(), now) {
                    tracing::warn!(words, "the engine does not answer");
                    self.write_down("", format!("the engine does not answer: {words}"));
                }
            }
        }
        self.consider_those_who_waited();
    }

    /// What was read from an older or a newer file is not applied to containers that were made from
    /// something else.
    fn try_what_was_read(&mut self) {
        if !self.keeping.take_trial() {
            return;
        }
        if !self.state.fits_what_runs() {
            self.passing.left_alone = true;
            self.notes.push(Note::MadeOtherwise);
            self.derive();
        } else if !self.state.seen.containers.is_empty() {
            self.keeping.confirm();
        }
    }

    /// Takes the lease on the engine before the first action, and renews it while there is something
    /// to look after.
    fn look_after_the_lease(&mut self, has_actions: bool) {
        if *self.looks.engine() != EngineView::Answers || self.shutdown.leaving().is_some() {
            return;
        }
        let looks_after = self.looks.may_act() && self.state.desired.goal == Goal::Up;
        let needed = (looks_after || has_actions) && !self.is_over();
        let urgent = self.requests.waits_for_the_lease();
        let step = self.tenure.step(needed, urgent, self.now.mono);
        self.out.extend(step.map(Effect::Lease));
    }

    fn on_tenure_changed(&mut self) {
        let told = match self.tenure.lost_to() {
            Some(by) => Note::LookedAfter { by: by.to_owned() }.to_string(),
            None => "nobody else looks after this project any more".to_owned(),
        };
        self.tell("", told);
        self.derive();
    }

    /// Keeps each stop back until the disk has that it is we who end this run: another daemon may
    /// be the one that sees its end, and must not take it for a failure. A disk that does not take
    /// it keeps nobody waiting, and nor does anything once a person is in a hurry.
    fn keep_back_stops(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let waits = self.keeping.is_well() && !self.state.desired.hurry;
        let on_disk = self.keeping.on_disk();
        let kept = on_disk.map(|stored| &stored.durable.ended_by_us);
        let mut stops_to_come = BTreeMap::new();
        let may_begin = |action: &Action| match action {
            Action::Stop { unit, instance, .. } => {
                let is_kept = kept.is_some_and(|kept| kept.get(unit) == Some(instance));
                if waits && !is_kept {
                    stops_to_come.insert(*unit, instance.clone());
                }
                !waits || is_kept
            }
            _ => true,
        };
        let begin = actions.into_iter().filter(may_begin).collect();
        self.learned.stops_to_come = stops_to_come;
        begin
    }

    /// What the state knows of the past is kept beside what is wished.
    fn keep_what_is_known(&mut self) {
        let mut durable = self.state.records.durable.clone();
        durable
            .ended_by_us
            .extend(self.learned.stops_to_come.clone());
        if self.keeping.stored().durable != durable {
            self.keeping.edit(|stored| stored.durable = durable);
        }
    }

    /// A unit says nothing at all: on a host that is short of something that may be no fault of
    /// its own. Of another host nothing is known.
    fn ask_whether_the_host_is_short(&mut self, probe: &Probe) {
        let is_silent = matches!(probe, Probe::Failure(Miss::Silent(_), _));
        if is_silent
            && self.setup.endpoint.is_local()
            && self.host.shortage.on_silence(self.now.mono)
        {
            self.out.push(Effect::ReadPressure);
        }
    }

    fn begin_action(&mut self, action: Action) {
        let now = self.now.mono;
        let input = self.input_of(&action);
        self.state.begin(&action, now);
        // Of a stop that tells already, with its reason.
        if action.verb() != Verb::Stop {
            tracing::info!(subject = %action.subject(), "{}", action.verb());
        }
        if let Action::Start(unit, _) = &action {
            let [_, last] = self
                .learned
                .asked_to_start
                .get(unit)
                .copied()
                .unwrap_or_default();
            self.learned
                .asked_to_start
                .insert(*unit, [last, Some(self.now.wall)]);
        }
        self.out.push(Effect::Act(action, Box::new(input)));
    }

    fn input_of(&self, action: &Action) -> ActionInput {
        let asked = match action {
            Action::Examine(unit, instance) => self.span_of(*unit, instance),
            _ => Span::default(),
        };
        let kept = self.keeping.stored();
        let configured = self
            .state
            .desired
            .spec
            .as_ref()
            .filter(|spec| spec.sql.is_some());
        let configured = configured.map(|spec| spec.database.password.clone());
        ActionInput {
            spec: self.state.desired.spec.clone(),
            sa_passwords: kept
                .sa_password
                .clone()
                .into_iter()
                .chain(configured)
                .collect(),
            network: self.state.seen.network().map(str::to_owned),
            moved: self.state.moved_images(),
            asked,
        }
    }

    /// When a run had the word: from the request that made it to the next one.
    fn span_of(&self, unit: UnitId, instance: &Instance) -> Span {
        let asked = self
            .learned
            .asked_to_start
            .get(&unit)
            .copied()
            .unwrap_or_default();
        let is_earlier = |at: &OffsetDateTime| instance.began().is_none_or(|began| *at <= began);
        let mut times = asked.iter().flatten().copied();
        Span {
            since: times.clone().rfind(is_earlier),
            until: times.find(|at| !is_earlier(at)),
        }
    }

    /// Passes on what the state found: to the history, to what is kept, to a prober.
    fn pass_on_news(&mut self) {
        for news in self.state.take_news() {
            match news {
                News::Told(subject, what) => self.tell(subject, what),
                News::VersionRan => self.remember_version(),
                News::PasswordAccepted => self.keeping.edit(|stored| {
                    // Only the password that was tried: another login says nothing of `sa`'s.
                    let config = stored.config.as_ref();
                    let tried = config
                        .filter(|config| config.database.user.eq_ignore_ascii_case("sa"))
                        .and_then(|config| config.sql.as_ref());
                    let password = tried.map(|sql| sql.sa_password.clone());
                    stored.sa_password = password.or(stored.sa_password.take());
                }),
                News::Unprivileged => {
                    self.tell("", Note::Unprivileged.to_string());
                    self.notes.push(Note::Unprivileged);
                    let spec = self.state.desired.spec.clone();
                    self.keeping.edit(|stored| {
                        stored.unprivileged = true;
                        stored.spec = spec;
                    });
                }
                News::Ask(unit) => self.pacing.nudge(unit, self.now.mono),
            }
        }
        self.learn_of_what_serves();
        self.keep_drains();
        let images = &self.state.desired.images;
        if self.keeping.stored().images != *images {
            self.keeping.edit(|stored| stored.images.clone_from(images));
        }
    }

    /// Nodes that finish their tasks are kept with their time, by the wall clock: a daemon that comes
    /// after goes on with what is left of it.
    fn keep_drains(&mut self) {
        let now = self.now;
        let kept = &self.keeping.stored().drains.draining;
        let drains: BTreeMap<UnitId, KeptDrain> = self
            .state
            .drains()
            .map(|(unit, drain)| {
                let left = i64::try_from(drain.until.since(now.mono).as_millis());
                let known = kept.get(&unit).filter(|known| known.run == drain.instance);
                let kept = known.cloned().unwrap_or_else(|| KeptDrain {
                    run: drain.instance.clone(),
                    until_ms: millis(now.wall).saturating_add(left.unwrap_or(i64::MAX)),
                });
                (unit, kept)
            })
            .collect();
        if drains != *kept {
            self.keeping.edit(|stored| stored.drains.draining = drains);
        }
    }

    fn go_on_with_drains(&mut self) {
        let now = self.now;
        for (unit, kept) in &self.keeping.stored().drains.draining {
            let left = u64::try_from(kept.until_ms.saturating_sub(millis(now.wall)));
            let left = Duration::from_millis(left.unwrap_or(0));
            self.state
                .go_on_with_drain(*unit, kept.run.clone(), now.mono.after(left));
        }
    }

    /// Notes the version whose nodes started, so that an older one is refused later.
    fn remember_version(&mut self) {
        let spec = self.state.desired.spec.as_ref();
        let Some((spec, wanted)) = spec.and_then(|spec| Some((spec, spec.nodes.first()?))) else {
            return;
        };
        let mut nodes = self.state.seen.containers.iter();
        let node = nodes.find(|one| one.unit == wanted.unit && one.instance().is_some());
        let ran = Ran {
            version: String::new(),
            image: wanted.image.clone(),
            image_id: node.map(|node| node.image_id.clone()).unwrap_or_default(),
            data: Some(Data::of(spec)),
        };
        self.keeping.edit(|stored| {
            stored.version_ran(ran);
        });
    }

    /// A node that serves proves that its key is the database's, and is asked for its version.
    fn learn_of_what_serves(&mut self) {
        let Some(spec) = &self.state.desired.spec else {
            return;
        };
        let serving = spec.nodes.iter().find_map(|node| {
            let record = self.state.records.get(node.unit)?;
            let container = self.state.seen.container(node.unit)?;
            let is_its =
                record.health().ready && record.instance() == container.instance().as_ref();
            is_its.then_some((node, container))
        });
        let Some((node, container)) = serving else {
            return;
        };
        // Only what was made as it is wanted has the key and the image that are wanted.
        if self.learned.proved == container.instance() || node.digest() != container.digest {
            return;
        }
        let data = Data::of(spec);
        let ran = Ran {
            version: String::new(),
            image: node.image.clone(),
            image_id: container.image_id.clone(),
            data: Some(data.clone()),
        };
        let (key, address) = (node.env.get("MASTER_KEY").cloned(), node.host_address());
        self.learned.proved = container.instance();
        if let Some(key) = key {
            self.keeping.edit(|stored| {
                stored.key_proven(&key, &data);
            });
        }
        let asks = address.map(|address| Effect::AskVersion(address, ran));
        self.out.extend(asks);
    }

    /// No empty database is made in the place of one that is gone: the engine's data directory may
    /// not be mounted yet. It goes on when the volume is back.
    fn hold_while_data_is_gone(&mut self) {
        let lost = self.keeping.stored().lost_volume(&self.state.seen);
        if self.passing.lost_volume == lost {
            return;
        }
        let told = match &lost {
            Some(volume) => Note::DataGone {
                volume: volume.clone(),
            }
            .to_string(),
            None => "the volume with the database is not missed any more".to_owned(),
        };
        self.tell("", told);
        self.passing.lost_volume = lost;
        self.derive();
    }

    /// Keeps one prober for each run that can be asked, and asks those whose turn it is.
    fn probe(&mut self) {
        let wanted = match &self.state.desired.spec {
            Some(spec) if *self.looks.engine() != EngineView::Unknown => self.who_is_probed(spec),
            Some(_) | None => BTreeMap::new(),
        };
        let now = self.now.mono;
        self.pacing.keep_only(wanted, now);
        let soon = now.after(self.state.timing().start_probe_slow);
        for unit in self.state.unconfirmed(now) {
            self.pacing.want_by(unit, soon);
        }
        let due = self.pacing.due(|unit| self.state.patience_with(unit), now);
        self.out.extend(due);
    }

    fn who_is_probed(&self, spec: &StackSpec) -> BTreeMap<UnitId, (Option<Instance>, ProbeTarget)> {
        let mut wanted = BTreeMap::new();
        if spec.sql.is_none() {
            let target = ProbeTarget::Database(spec.database.clone());
            wanted.insert(UnitId::Sql, (None, target));
        }
        // A frozen process cannot answer, and is not asked.
        let moves = |container: &&Container| matches!(container.run, Run::Running { .. });
        for container in self.state.seen.containers.iter().filter(moves) {
            let current = spec
                .container(container.unit)
                .filter(|wanted| wanted.digest() == container.digest);
            let target = match (container.unit, current) {
                (_, None) => None,
                (UnitId::Sql, Some(_)) => Some(ProbeTarget::Database(spec.database.clone())),
                (UnitId::Node(_), Some(node)) => node.host_address().map(ProbeTarget::Node),
            };
            if let Some(target) = target {
                wanted.insert(container.unit, (container.instance(), target));
            }
        }
        wanted
    }

    /// A start that somebody interrupted is over once everything serves all the same.
    fn end_hold(&mut self) {
        if !self.keeping.stored().held || self.state.desired.goal != Goal::Hold {
            return;
        }
        if self.state.hold_is_over(self.now.mono) {
            self.keeping.edit(|stored| stored.held = false);
            self.tell("", "everything is ready: no longer held");
            self.derive();
        }
    }

    fn on_terminated(&mut self) {
        match self.shutdown.on_asked() {
            Asked::StopInOrder => self.tell("", "asked to end: the stack stops in order"),
            Asked::Hurry => self.tell("", "asked again: nodes get no more grace"),
            Asked::LeaveNow => self.tell("", "asked a third time: leaves at once"),
        }
        self.derive();
    }

    fn leave(&mut self, leave: Leave) {
        let what = match leave {
            Leave::End => "leaves; containers are left as they are",
            Leave::Reload => "starts its program anew; containers are left as they are",
            Leave::Broken => "gives up",
        };
        self.tell("", format!("the daemon {what}"));
        self.shutdown.leave(leave);
    }

    /// Whether what `down` asked for is true.
    fn is_down(&self) -> bool {
        self.looks.may_act() && is_down(&self.state.desired, &self.state.seen, &self.state.records)
    }

    fn is_over(&self) -> bool {
        let nothing_runs = || {
            self.looks.may_act()
                && self.state.records.busy.is_empty()
                && !self.state.seen.containers.iter().any(Container::is_running)
        };
        match self.state.desired.goal {
            Goal::Halt => nothing_runs(),
            // A later daemon must not find a `down` that is done and go on with it.
            Goal::Down { .. } => {
                self.setup.ends_when_down && self.is_down() && self.keeping.is_settled()
            }
            Goal::Up | Goal::Hold => false,
        }
    }

    fn note_a_lost_engine(&mut self) {
        let EngineView::Fails { since, .. } = self.looks.engine() else {
            return;
        };
        let farewell = self.shutdown.farewell_at(*since);
        if farewell.is_some_and(|at| self.now.mono >= at) {
            self.tell("", "the engine does not answer, so nothing can be stopped");
            self.shutdown.leave(Leave::End);
        }
    }

    /// What remains to be done once the stack is down.
    fn finish_down(&mut self) {
        let Goal::Down { volumes } = self.state.desired.goal else {
            return;
        };
        if volumes {
            let spec = self.state.desired.spec.as_ref();
            let demo = spec.filter(|spec| spec.demo).map(StackSpec::images);
            let images: Vec<String> = demo.into_iter().flatten().map(str::to_owned).collect();
            if !images.is_empty() {
                self.out.push(Effect::RemoveImages(images));
            }
        }
        self.keeping.edit(|stored| {
            stored.wish = Wish::Rest;
            if volumes {
                *stored = stored.data_deleted();
            }
        });
        // What is gone has no runs that could be taken for others.
        let durable = &mut self.state.records.durable;
        durable.ended_by_us.clear();
        if volumes {
            *durable = Durable::default();
        }
        self.passing.went_down = Some(volumes);
        self.passing.node_grace = None;
        self.derive();
        self.tell("", "the stack is down");
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
