//! What can be asked of the daemon. A configuration is first considered: facts are gathered, then
//! it is admitted or refused. A wish is kept before it is answered, and carried out after that; one
//! at a time, in the order in which they were asked for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use super::Core;
use super::keeping::Kept;
use super::looks::EngineView;
use super::tenure::Admission;
use super::wish::Admitted;
use super::wish::NewKey;
use super::wish::Up;
use crate::config::Pull;
use crate::config::Secret;
use crate::daemon::admit;
use crate::daemon::admit::MasterKey;
use crate::daemon::message::About;
use crate::daemon::message::Accepted;
use crate::daemon::message::Answer;
use crate::daemon::message::Denied;
use crate::daemon::message::Effect;
use crate::daemon::message::Found;
use crate::daemon::message::Inquiry;
use crate::daemon::message::Leave;
use crate::daemon::message::Request;
use crate::daemon::message::RequestId;
use crate::daemon::message::RestoreStep;
use crate::daemon::message::UpRequest;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::daemon::store::Wish;
use crate::engine::Endpoint;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::plan::restart_wish;
use crate::reconcile::preview;
use crate::reconcile::status::Note;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::BuildInput;
use crate::spec::build::build;

/// How long a request waits for an engine that does not answer: a call may break, and an engine may
/// just be starting.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits for one that takes connections and says nothing: a busy machine may be slow.
const SILENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How soon it is asked again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What was asked and is not answered yet, and what came of what was.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Configurations that facts are gathered for.
    considered: BTreeMap<RequestId, Considered>,
    /// Configurations that came while nothing was known of the engine.
    waiting: Vec<(RequestId, Considered)>,
    /// Wishes that wait for their turn.
    queue: VecDeque<(RequestId, Wished)>,
    /// The wish whose write is under way.
    being_kept: Option<(RequestId, Admitted)>,
    /// The `up`s that somebody follows, by the generation that each was given.
    sessions: BTreeSet<u64>,
    /// Counts the wishes that were taken.
    generation: u64,
    /// The last wish that a configuration asked for earlier must not overrule.
    last_decisive: Option<RequestId>,
}

/// A configuration under consideration.
#[derive(Clone, Debug)]
struct Considered {
    request: UpRequest,
    purpose: Purpose,
    asked_at: Mono,
}

/// What a configuration is considered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To be applied.
    Apply,
    /// To say what applying it would do.
    Preview,
}

/// A wish that waits for its turn.
#[derive(Debug)]
enum Wished {
    Up(Box<UpRequest>, Evidence),
    Down {
        volumes: bool,
        node_grace: Option<Duration>,
    },
    Units(About, Vec<UnitId>),
    Restore(RestoreStep),
}

/// What a configuration is judged by.
#[derive(Debug)]
enum Evidence {
    /// It is the one that is applied: there is nothing to be found out.
    Unchanged,
    /// What was found out.
    Found(Box<Found>),
}

impl Wished {
    fn denied(&self, denied: Denied) -> Answer {
        match self {
            Self::Up(..) => Answer::Up(Err(denied)),
            Self::Down { .. } | Self::Units(..) | Self::Restore(_) => Answer::Wished(Err(denied)),
        }
    }
}

impl Requests {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a wish waits for its turn: nothing is promised that somebody else's daemon would undo.
    pub(super) fn waits_for_the_lease(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
    }

    /// When a request that waits for the engine is answered, whatever a look does.
    pub(super) fn due_at(&self) -> Option<Mono> {
        let waiting = self.waiting.iter();
        waiting
            .map(|(_, waiting)| waiting.asked_at.after(SILENCE_PATIENCE))
            .min()
    }

    fn is_idle(&self) -> bool {
        self.considered.is_empty()
            && self.waiting.is_empty()
            && self.queue.is_empty()
            && self.being_kept.is_none()
    }
}

impl Core {
    pub(super) fn on_request(&mut self, id: RequestId, request: Request) {
        let asked_at = self.now.mono;
        let considered = |request: Box<UpRequest>, purpose| Considered {
            request: *request,
            purpose,
            asked_at,
        };
        match request {
            Request::Up(request) => self.consider(id, considered(request, Purpose::Apply)),
            Request::Plan(request) => self.consider(id, considered(request, Purpose::Preview)),
            Request::Down {
                volumes,
                node_grace,
                endpoint,
            } => {
                let wished = Wished::Down {
                    volumes,
                    node_grace,
                };
                self.queue_if_here(id, wished, endpoint.as_ref());
            }
            Request::Units(about, units, endpoint) => {
                self.queue_if_here(id, Wished::Units(about, units), endpoint.as_ref());
            }
            Request::Restore(step, endpoint) => {
                self.queue_if_here(id, Wished::Restore(step), endpoint.as_ref());
            }
            Request::Cancel(session) => {
                let alone = self.on_cancelled(session);
                self.reply(id, Answer::Alone(alone));
            }
            Request::Stored => {
                let stored = Box::new(self.keeping.stored().clone());
                self.reply(id, Answer::Stored(stored));
            }
            Request::Handover => {
                self.tell("", "a newer daemon takes over");
                self.shutdown.leave(Leave::End);
                self.reply(id, Answer::Leaves);
            }
        }
    }

    fn reply(&mut self, id: RequestId, answer: Answer) {
        self.out.push(Effect::Reply(id, Box::new(answer)));
    }

    /// Whoever follows an `up` pressed Ctrl-C: nothing further is started, unless somebody else
    /// follows one. One whose `up` was never taken has nothing to hold.
    fn on_cancelled(&mut self, session: u64) -> bool {
        let alone = self.requests.sessions.iter().all(|other| *other == session);
        // Its stream may have ended just before.
        let its_own = (1..=self.requests.generation).contains(&session);
        if alone && its_own && self.state.desired.goal == Goal::Up {
            self.tell("", "interrupted: nothing further is started");
            self.keeping.edit(|stored| stored.held = true);
            self.derive();
        }
        alone
    }

    /// Whoever asks means this engine, and what is applied is here too.
    fn queue_if_here(&mut self, id: RequestId, wished: Wished, asked: Option<&Endpoint>) {
        let here = &self.setup.endpoint;
        let problem = match asked.filter(|asked| !asked.is_same(here)) {
            Some(asked) => Some(admit::another_engine(&here.0, &asked.0)),
            None => {
                let elsewhere = self.keeping.stored().elsewhere(here);
                elsewhere.map(|there| admit::moved(&there.0, &here.0))
            }
        };
        match problem {
            Some(problem) => {
                self.reply(id, Answer::Wished(Err(Denied::Problems(vec![problem]))));
            }
            None => self.requests.queue.push_back((id, wished)),
        }
    }

    /// Begins to find out whether a configuration may be applied, or what it would do.
    fn consider(&mut self, id: RequestId, considered: Considered) {
        let Considered {
            request, purpose, ..
        } = &considered;
        // What `up` would not be, `plan` is not either.
        if let Some(denied) = self.deny_any_up() {
            return self.refuse(id, *purpose, denied);
        }
        let other = request.endpoint.as_ref();
        if let Some(asked) = other.filter(|asked| !asked.is_same(&self.setup.endpoint)) {
            let problem = admit::another_engine(&self.setup.endpoint.0, &asked.0);
            return self.refuse(id, *purpose, Denied::Problems(vec![problem]));
        }
        if self.unchanged(request).is_some() {
            return self.conclude(id, *purpose, considered.request, Evidence::Unchanged);
        }
        if *self.looks.engine() != EngineView::Answers {
            return self.wait_for_the_engine(id, considered);
        }
        let inquiry = Box::new(self.inquiry(request));
        self.requests.considered.insert(id, considered);
        self.out.push(Effect::Gather(id, inquiry));
    }

    /// A look that failed is repeated soon while somebody waits for it, and only then told as the
    /// answer. One that goes on and on is an answer too.
    fn wait_for_the_engine(&mut self, id: RequestId, considered: Considered) {
        let waited = self.now.mono.since(considered.asked_at);
        let problem = self.looks.engine_problem().map(str::to_owned);
        let fails = problem.is_some();
        let failed = problem.filter(|_| waited >= ENGINE_PATIENCE);
        let silent = (waited >= SILENCE_PATIENCE).then(|| silence(&self.setup.endpoint));
        if let Some(problem) = failed.or(silent) {
            return self.refuse(id, considered.purpose, Denied::Engine(problem));
        }
        if fails {
            self.looks.want_by(self.now.mono.after(ASK_AGAIN));
        }
        self.requests.waiting.push((id, considered));
    }

    /// Requests that came while nothing was known of the engine are considered after each look.
    pub(super) fn consider_those_who_waited(&mut self) {
        for (id, considered) in std::mem::take(&mut self.requests.waiting) {
            self.consider(id, considered);
        }
    }

    pub(super) fn answer_those_who_waited_long(&mut self) {
        let due = self.requests.due_at();
        if due.is_some_and(|at| at <= self.now.mono) {
            self.consider_those_who_waited();
        }
    }

    fn deny_any_up(&self) -> Option<Denied> {
        if self.shutdown.is_under_way() {
            let words = "the daemon is ending; try again when it has";
            return Some(Denied::Because(words.to_owned()));
        }
        if let Some(note) = self.unfinished_restore() {
            return Some(Denied::Because(note.to_string()));
        }
        if self.keeping.may_write() {
            return None;
        }
        let forbids =
            |note: &&Note| matches!(note, Note::StateNewer { .. } | Note::StateUnreadable { .. });
        let why = self.notes.iter().find(forbids).map(ToString::to_string);
        Some(Denied::Because(why.unwrap_or_default()))
    }

    fn inquiry(&self, request: &UpRequest) -> Inquiry {
        let kept = self.keeping.stored();
        let here = &self.setup.endpoint;
        let records = self.state.records.units.iter();
        Inquiry {
            config: request.config.clone(),
            spec: self.spec_for(request, &Secret::default()),
            elsewhere: kept
                .elsewhere(here)
                .map(|there| (there.0.clone(), here.0.clone())),
            name_on_purpose: request.name_on_purpose,
            seen: self.state.seen.clone(),
            ready: records
                .filter(|(_, record)| record.health().ready)
                .map(|(unit, _)| *unit)
                .collect(),
            applied_data: kept.spec.as_ref().map(Data::of),
            giving_way: request.giving_way.clone(),
            own_listeners: self.own_listeners(),
        }
    }

    /// The facts are there.
    pub(super) fn on_gathered(
        &mut self,
        id: RequestId,
        asker_left: bool,
        found: Result<Box<Found>, Denied>,
    ) {
        let Some(considered) = self.requests.considered.remove(&id) else {
            return;
        };
        let Considered {
            request, purpose, ..
        } = considered;
        match found {
            _ if asker_left && purpose == Purpose::Apply => self.go_on_as_before(),
            Ok(found) => self.conclude(id, purpose, request, Evidence::Found(found)),
            Err(denied) => self.refuse(id, purpose, denied),
        }
    }

    /// A configuration whose facts are known is previewed, or waits for its turn to be applied.
    fn conclude(&mut self, id: RequestId, purpose: Purpose, request: UpRequest, by: Evidence) {
        match purpose {
            Purpose::Preview => {
                let changes = self.admit_up(&request, &by).map(|up| up.changes);
                self.reply(id, Answer::Plan(changes));
                self.go_on_as_before();
            }
            Purpose::Apply => {
                let wished = Wished::Up(Box::new(request), by);
                self.requests.queue.push_back((id, wished));
            }
        }
    }

    fn refuse(&mut self, id: RequestId, purpose: Purpose, denied: Denied) {
        let answer = match purpose {
            Purpose::Apply => Answer::Up(Err(denied)),
            Purpose::Preview => Answer::Plan(Err(denied)),
        };
        self.reply(id, answer);
        self.go_on_as_before();
    }

    /// A refused configuration, or one that was only previewed, changes nothing: what was applied
    /// goes on, and where nothing was, nobody is needed.
    fn go_on_as_before(&mut self) {
        let here = &self.setup.endpoint;
        let kept = self.keeping.stored();
        if !self.passing.awaits_request || !self.requests.is_idle() {
            return;
        }
        let is_elsewhere = kept.elsewhere(here).is_some();
        let has_nothing = is_elsewhere || kept.spec.is_none();
        let nobody_is_needed = has_nothing && self.state.seen.containers.is_empty();
        if nobody_is_needed && self.setup.ends_when_down {
            return self.shutdown.leave(Leave::End);
        }
        if kept.goal(here) == Goal::Up {
            self.passing.awaits_request = false;
            self.derive();
        }
    }

    /// Takes up the next wish, if the one before is done with.
    pub(super) fn begin_next_wish(&mut self) {
        while self.requests.being_kept.is_none()
            && (self.keeping.is_idle() || self.keeping.is_stuck())
            && let Some(admission) = self.admission_by_lease()
            && let Some((id, wished)) = self.requests.queue.pop_front()
        {
            let admitted = match admission {
                Ok(()) => self.admit_wish(id, wished),
                Err(denied) => Err(wished.denied(denied)),
            };
            match admitted {
                Ok(admitted) => self.keep_wish(id, admitted),
                Err(answer) => {
                    self.reply(id, answer);
                    self.go_on_as_before();
                }
            }
        }
    }

    /// Whether a wish may be taken as far as the lease on the engine goes; none while that is not
    /// known. One that waits for an engine that does not answer is kept all the same.
    fn admission_by_lease(&self) -> Option<Result<(), Denied>> {
        match self.tenure.admit(self.now.mono) {
            Admission::Taken => Some(Ok(())),
            Admission::Waits if *self.looks.engine() != EngineView::Answers => Some(Ok(())),
            Admission::Waits => None,
            Admission::Refused(by) => {
                Some(Err(Denied::Because(Note::LookedAfter { by }.to_string())))
            }
        }
    }

    fn admit_wish(&mut self, id: RequestId, wished: Wished) -> Result<Admitted, Answer> {
        match wished {
            Wished::Up(request, by) => self
                .admit_up_in_order(id, &request, &by)
                .map(|up| Admitted::Up(Box::new(up)))
                .map_err(|denied| Answer::Up(Err(denied))),
            Wished::Down {
                volumes,
                node_grace,
            } => Ok(Admitted::Down {
                volumes,
                node_grace,
            }),
            Wished::Restore(step) => {
                let admitted = self.admit_restore(step);
                admitted.map_err(|denied| Answer::Wished(Err(denied)))
            }
            Wished::Units(About::Start | About::Restart, _)
                if self.unfinished_restore().is_some() =>
            {
                let words = self.unfinished_restore().map(|note| note.to_string());
                let denied = Denied::Because(words.unwrap_or_default());
                Err(Answer::Wished(Err(denied)))
            }
            Wished::Units(about, units) => {
                let is_named = !units.is_empty();
                let units = self
                    .known(&units)
                    .map_err(|denied| Answer::Wished(Err(denied)))?;
                Ok(match about {
                    About::Restart => Admitted::Restart(units),
                    About::Stop => Admitted::Stop(units),
                    About::Drain => Admitted::Drain(Self::nodes_of(units, is_named)?),
                    About::Undrain => Admitted::Undrain(Self::nodes_of(units, is_named)?),
                    About::Start => Admitted::Start(units),
                })
            }
        }
    }

    /// A restore that is not finished: on half of its data no node may run.
    pub(super) fn unfinished_restore(&self) -> Option<Note> {
        let restoring = self.keeping.stored().backups.restoring.as_ref()?;
        Some(Note::RestoreUnfinished {
            set: restoring.set.clone(),
        })
    }

    fn admit_restore(&self, step: RestoreStep) -> Result<Admitted, Denied> {
        let kept = self.keeping.stored();
        let because = |words: &str| Err(Denied::Because(words.to_owned()));
        if self.shutdown.is_under_way() {
            return because("the daemon is ending; try again when it has");
        }
        match &step {
            RestoreStep::Begin(_) if kept.spec.is_none() => {
                because("nothing was applied yet: `octo-local up` first")
            }
            RestoreStep::Begin(_) if kept.is_going_down() => {
                because("a `down` goes on; restore when it is done")
            }
            RestoreStep::End(_) if kept.backups.restoring.is_none() => {
                because("no restore is under way: another command took over")
            }
            RestoreStep::Begin(_) | RestoreStep::End(_) => Ok(Admitted::Restore(step)),
        }
    }

    /// The units that are nodes; only these have tasks.
    fn nodes_of(units: Vec<UnitId>, named: bool) -> Result<Vec<UnitId>, Answer> {
        let is_node = |unit: &UnitId| unit.is_server();
        if let Some(unit) = units.iter().find(|unit| named && !is_node(unit)) {
            let words = format!("{unit} has no tasks: only nodes can be drained");
            return Err(Answer::Wished(Err(Denied::Because(words))));
        }
        Ok(units.into_iter().filter(is_node).collect())
    }

    fn known(&self, units: &[UnitId]) -> Result<Vec<UnitId>, Denied> {
        let Some(spec) = &self.keeping.stored().spec else {
            let words = "nothing was applied yet: `octo-local up` first";
            return Err(Denied::Because(words.to_owned()));
        };
        let ours: Vec<UnitId> = spec.containers().map(|container| container.unit).collect();
        if let Some(unit) = units.iter().find(|unit| !ours.contains(unit)) {
            return Err(Denied::Because(format!("this stack has no {unit}")));
        }
        Ok(if units.is_empty() {
            ours
        } else {
            units.to_vec()
        })
    }

    /// Facts take a while to gather. A wish that was taken meanwhile and was asked for later is not
    /// overruled.
    fn admit_up_in_order(
        &self,
        id: RequestId,
        request: &UpRequest,
        by: &Evidence,
    ) -> Result<Up, Denied> {
        if let Some(denied) = self.deny_any_up() {
            return Err(denied);
        }
        let is_overruled = self.requests.last_decisive.is_some_and(|last| last > id);
        let kept = self.keeping.stored();
        // Two who ask for the same overrule nobody.
        let is_what_counts = kept.wish == Wish::Up && kept.config.as_ref() == Some(&request.config);
        if is_overruled && !is_what_counts {
            let words = "another command was taken meanwhile, and it was asked for later";
            return Err(Denied::Because(words.to_owned()));
        }
        self.admit_up(request, by)
    }

    /// What applying a configuration means here, or why it cannot be applied.
    fn admit_up(&self, request: &UpRequest, by: &Evidence) -> Result<Up, Denied> {
        let kept = self.keeping.stored();
        let mut notes = Vec::new();
        let (spec, key, seen) = match by {
            Evidence::Unchanged => match self.unchanged(request) {
                Some(spec) => (spec, None, self.state.seen.clone()),
                None => {
                    let words = "what was applied changed meanwhile; ask again";
                    return Err(Denied::Because(words.to_owned()));
                }
            },
            Evidence::Found(found) => {
                let plain = self.spec_for(request, &Secret::default());
                let asked = admit::Asked {
                    config: &request.config,
                    spec: &plain,
                    fresh: request.fresh,
                    name_on_purpose: request.name_on_purpose,
                };
                let admitted =
                    admit::admit(&asked, kept, &found.facts).map_err(Denied::Problems)?;
                notes.extend(admitted.notes);
                let (key, is_new) = match admitted.key {
                    MasterKey::Known(key) => (key, false),
                    MasterKey::Generate => (found.fresh_key.clone(), true),
                };
                if is_new {
                    notes.push(self.note_of_a_new_key());
                }
                let new = NewKey {
                    key: key.clone(),
                    is_new,
                    data: Data::of(&plain),
                    begins_anew: found.facts.makes_database(&request.config) == Some(true),
                };
                let seen = Observed {
                    images: found.images.clone(),
                    ..self.state.seen.clone()
                };
                (self.spec_for(request, &key), Some(new), seen)
            }
        };
        let refetch = request.config.pull == Pull::Always;
        let changes = preview::changes(kept.spec.as_ref(), &spec, &seen, refetch);
        Ok(Up {
            config: request.config.clone(),
            spec,
            endpoint: self.setup.endpoint.clone(),
            generated: request.generated.clone(),
            key,
            notes,
            changes,
        })
    }

    fn note_of_a_new_key(&self) -> String {
        format!(
            "a master key was made for this new database, and is kept in {}; back it up: without \
             it, backups of the database are useless",
            self.setup.state_file
        )
    }

    /// The applied desired state, when the same configuration is applied again to a stack that is
    /// up, as far as that was seen.
    fn unchanged(&self, request: &UpRequest) -> Option<StackSpec> {
        let kept = self.keeping.stored();
        let spec = kept.spec.clone()?;
        let same = kept.config.as_ref() == Some(&request.config)
            && self.state.desired.goal == Goal::Up
            && self.state.seen != Observed::default()
            && self.has_its_data(&spec)
            && (spec.working_dir == request.working_dir || request.name_on_purpose)
            && request.config.pull != Pull::Always;
        same.then_some(spec)
    }

    /// Whether what was seen has the data that a desired state runs on, as far as it is here.
    fn has_its_data(&self, spec: &StackSpec) -> bool {
        match Data::of(spec) {
            Data::Volume(name) => self.state.seen.volumes.contains(&name),
            Data::Theirs(_) | Data::Directory(_) | Data::External { .. } => true,
        }
    }

    fn spec_for(&self, request: &UpRequest, key: &Secret) -> StackSpec {
        let unprivileged = request.config.demo && self.keeping.stored().unprivileged;
        build(
            &request.config,
            &BuildInput {
                project: &self.setup.project,
                working_dir: &request.working_dir,
                master_key: key,
                may_be_privileged: !unprivileged,
            },
        )
    }

    /// Asks the disk to keep a wish. It is carried out and answered once that has ended.
    fn keep_wish(&mut self, id: RequestId, admitted: Admitted) {
        let mut candidate = self.keeping.stored().clone();
        admitted.edit(&mut candidate);
        if self.keeping.is_stuck() {
            let why = "the disk gives no answer".to_owned();
            return self.carry_out(id, admitted, &Kept::InMemoryOnly(why));
        }
        match self.keeping.write_wish(candidate, self.now.mono) {
            Some(write) => {
                self.out.push(write);
                self.requests.being_kept = Some((id, admitted));
            }
            None => self.carry_out(id, admitted, &Kept::Safely),
        }
    }

    /// A write ended. A wish that waited for it is carried out, or refused.
    pub(super) fn on_kept(&mut self, kept: &Kept) {
        if let Some((id, admitted)) = self.requests.being_kept.take() {
            self.carry_out(id, admitted, kept);
        }
    }

    /// A wish that the disk does not take is carried out all the same, with a note; but none that
    /// leaves what the file says is to be taken away, and none with a key that nothing would keep.
    fn carry_out(&mut self, id: RequestId, admitted: Admitted, kept: &Kept) {
        let mut candidate: Stored = self.keeping.stored().clone();
        admitted.edit(&mut candidate);
        if let Kept::InMemoryOnly(why) = kept
            && let Some(words) = self.refusal_without_a_disk(&admitted, &candidate, why)
        {
            let denied = Denied::Because(words);
            self.reply(
                id,
                match admitted {
                    Admitted::Up(_) => Answer::Up(Err(denied)),
                    Admitted::Down { .. }
                    | Admitted::Restart(_)
                    | Admitted::Stop(_)
                    | Admitted::Drain(_)
                    | Admitted::Undrain(_)
                    | Admitted::Restore(_)
                    | Admitted::Start(_) => Answer::Wished(Err(denied)),
                },
            );
            return self.go_on_as_before();
        }
        self.keeping.edit(|stored| *stored = candidate);
        self.requests.generation += 1;
        if admitted.is_decisive() {
            self.requests.last_decisive = self.requests.last_decisive.max(Some(id));
        }
        self.apply(&admitted);
        let generation = self.requests.generation;
        let answer = match admitted {
            Admitted::Up(up) => {
                self.requests.sessions.insert(generation);
                Answer::Up(Ok(Accepted {
                    generation,
                    notes: up.notes,
                    changes: up.changes,
                }))
            }
            Admitted::Down { .. }
            | Admitted::Restart(_)
            | Admitted::Stop(_)
            | Admitted::Drain(_)
            | Admitted::Undrain(_)
            | Admitted::Restore(_)
            | Admitted::Start(_) => Answer::Wished(Ok(generation)),
        };
        self.reply(id, answer);
    }

    fn refusal_without_a_disk(
        &self,
        admitted: &Admitted,
        candidate: &Stored,
        why: &str,
    ) -> Option<String> {
        if self.keeping.takes_more_than(candidate.wish) {
            return Some(format!(
                "the state file cannot be written: {why}; it says that a `down` goes on, so \
                 nothing else is begun"
            ));
        }
        // No node may start with a key that only its container would know.
        let needs_key = self.keeping.stored().keys != candidate.keys;
        let is_up = matches!(admitted, Admitted::Up(_) | Admitted::Restore(_));
        (is_up && needs_key).then(|| {
            format!(
                "the master key cannot be kept in {}, so nothing is started: {why}",
                self.setup.state_file
            )
        })
    }

    /// Carries out what was kept: the desired state follows from it, and failures are forgiven
    /// where a person asks for another try. While the daemon ends, nothing more happens than that
    /// the wish is kept.
    fn apply(&mut self, admitted: &Admitted) {
        self.notes.retain(|note| *note != Note::Unfinished);
        self.passing = super::Passing::default();
        // A person decided: what was read no longer has to prove itself.
        self.keeping.take_trial();
        let before = self.state.desired.spec.clone();
        let records = &mut self.state.records;
        match admitted {
            Admitted::Up(up) => {
                records.forgive();
                let images = up.spec.images().into_iter().map(str::to_owned);
                self.state.desired.refresh = match up.config.pull {
                    Pull::Always => images.collect(),
                    Pull::Missing | Pull::Never => BTreeSet::new(),
                };
                self.tell("", format!("up: {}", counted(up.changes.len())));
            }
            Admitted::Down {
                volumes,
                node_grace,
            } => {
                records.blocked.clear();
                self.passing.node_grace = *node_grace;
                self.looks.invalidate_everything();
                let what = if *volumes {
                    "down, with the data"
                } else {
                    "down"
                };
                self.tell("", what);
            }
            Admitted::Restart(units) => {
                records.forgive();
                for unit in units {
                    if let Some(instance) = restart_wish(&self.state.seen, *unit) {
                        self.state.desired.restart.insert(*unit, instance);
                    }
                }
                self.tell("", "restart was asked for");
            }
            Admitted::Stop(_) | Admitted::Drain(_) | Admitted::Undrain(_) => {}
            Admitted::Restore(RestoreStep::Begin(set)) => {
                records.forgive();
                self.tell("", format!("a restore of backup {set} begins: nodes stop"));
            }
            Admitted::Restore(RestoreStep::End(_)) => {
                records.forgive();
                // Whether a version ran on this data is not known of this one.
                records.durable.migrated = None;
                self.tell("", "the restore is done");
            }
            Admitted::Start(_) => records.forgive(),
        }
        self.derive();
        if self.state.desired.spec != before {
            self.looks.invalidate_everything();
        }
        // A name that somebody had taken may be free again: whoever asked for another try knows.
        self.looks.invalidate_infrastructure();
        self.looks.renew_for_a_wish();
    }
}

fn counted(changes: usize) -> String {
    match changes {
        0 => "nothing to change".to_owned(),
        1 => "1 change".to_owned(),
        more => format!("{more} changes"),
    }
}

fn silence(endpoint: &Endpoint) -> String {
    format!(
        "{endpoint} takes connections and says nothing for {} s",
        SILENCE_PATIENCE.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_is_not_many() {
        let told = [0, 1, 2].map(counted);
        assert_eq!(told, ["nothing to change", "1 change", "2 changes"]);
    }
}
