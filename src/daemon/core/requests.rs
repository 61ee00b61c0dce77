//! What can be asked of the daemon. A configuration is first considered: facts are gathered, then
//! it is admitted or refused. A wish is kept before it is answered, and carried out after that; one
//! at a time, in the order in which they were asked for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use super::Core;
use super::Duty;
use super::looks::EngineView;
use super::wish::Admitted;
use crate::config::Secret;
use crate::daemon::admit;
use crate::daemon::message::About;
use crate::daemon::message::Answer;
use crate::daemon::message::Cancelled;
use crate::daemon::message::Denied;
use crate::daemon::message::DownPace;
use crate::daemon::message::Effect;
use crate::daemon::message::Found;
use crate::daemon::message::Inquiry;
use crate::daemon::message::Leave;
use crate::daemon::message::PasswordStep;
use crate::daemon::message::Request;
use crate::daemon::message::RequestId;
use crate::daemon::message::RestoreStep;
use crate::daemon::message::Session;
use crate::daemon::message::TentacleStep;
use crate::daemon::message::UpRequest;
use crate::daemon::store::Data;
use crate::engine::Endpoint;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::spec::UnitId;
use crate::spec::tentacle::TentacleName;

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
pub(super) enum Wished {
    Up(Box<UpRequest>, Evidence),
    Down {
        volumes: bool,
        pace: DownPace,
    },
    Units(About, Vec<UnitId>),
    Restore(RestoreStep),
    RollBack,
    Password(PasswordStep),
    /// By the number of its session.
    Quiesce(u64),
    Tentacle(TentacleName, TentacleStep),
}

/// What a configuration is judged by.
#[derive(Debug)]
pub(super) enum Evidence {
    /// It is the one that is applied: there is nothing to be found out.
    Unchanged,
    /// What was found out.
    Found(Box<Found>),
}

impl Wished {
    pub(super) fn denied(&self, denied: Denied) -> Answer {
        match self {
            Self::Up(..) => Answer::Up(Err(denied)),
            Self::Down { .. }
            | Self::Units(..)
            | Self::Restore(_)
            | Self::RollBack
            | Self::Password(_)
            | Self::Quiesce(_)
            | Self::Tentacle(..) => Answer::Wished(Err(denied)),
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

    /// The next wish in turn, once the one before was kept.
    pub(super) fn next_wish(&mut self) -> Option<(RequestId, Wished)> {
        self.queue.pop_front_if(|_| self.being_kept.is_none())
    }

    /// A wish whose write is under way: no other is taken up before it ended.
    pub(super) fn wait_for_the_disk(&mut self, id: RequestId, admitted: Admitted) {
        self.being_kept = Some((id, admitted));
    }

    /// The wish whose write has ended.
    pub(super) fn kept(&mut self) -> Option<(RequestId, Admitted)> {
        self.being_kept.take()
    }

    /// Whether a wish that was taken was asked for later than this one, and must not be overruled.
    pub(super) fn is_overruled(&self, id: RequestId) -> bool {
        self.last_decisive.is_some_and(|last| last > id)
    }

    /// Counts a wish that is carried out. Gives its generation.
    pub(super) fn on_taken(&mut self, id: RequestId, admitted: &Admitted) -> u64 {
        self.generation += 1;
        if admitted.is_decisive() {
            self.last_decisive = self.last_decisive.max(Some(id));
        }
        if let Admitted::Up(_) = admitted {
            self.sessions.insert(self.generation);
        }
        self.generation
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
                pace,
                endpoint,
            } => {
                let wished = Wished::Down { volumes, pace };
                self.queue_if_here(id, wished, endpoint.as_ref());
            }
            Request::Units(about, units, endpoint) => {
                self.queue_if_here(id, Wished::Units(about, units), endpoint.as_ref());
            }
            Request::Restore(step, endpoint) => {
                self.queue_if_here(id, Wished::Restore(step), endpoint.as_ref());
            }
            Request::RollBack(endpoint) => {
                self.queue_if_here(id, Wished::RollBack, endpoint.as_ref());
            }
            Request::Password(step, endpoint) => {
                self.queue_if_here(id, Wished::Password(step), endpoint.as_ref());
            }
            Request::Quiesce(Session::Quiesce(number), endpoint) => {
                self.queue_if_here(id, Wished::Quiesce(number), endpoint.as_ref());
            }
            // An `up` has nobody drained.
            Request::Quiesce(Session::Up(_), _) => {
                let words = "nodes are drained for a session of their own";
                let denied = Denied::Because(words.to_owned());
                self.reply(id, Answer::Wished(Err(denied)));
            }
            Request::Tentacle(name, step, endpoint) => {
                self.queue_if_here(id, Wished::Tentacle(name, step), endpoint.as_ref());
            }
            Request::Cancel(session) => {
                let cancelled = self.on_cancelled(session);
                self.reply(id, Answer::Cancelled(cancelled));
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

    pub(super) fn reply(&mut self, id: RequestId, answer: Answer) {
        self.out.push(Effect::Reply(id, Box::new(answer)));
    }

    /// Whoever follows an `up` pressed Ctrl-C: nothing further is started, unless somebody else
    /// follows one, or the version changes. One whose `up` was never taken has nothing to hold.
    fn on_cancelled(&mut self, session: u64) -> Cancelled {
        if self.requests.sessions.iter().any(|other| *other != session) {
            return Cancelled::Followed;
        }
        // Its stream may have ended just before.
        let its_own = (1..=self.requests.generation).contains(&session);
        if !its_own || self.state.desired.goal != Goal::Up {
            return Cancelled::Held;
        }
        if self.version_changes() {
            self.tell("", "interrupted; the change of the version goes on");
            return Cancelled::VersionChanges;
        }
        self.tell("", "interrupted: nothing further is started");
        self.keeping.edit(|stored| stored.held = true);
        self.derive();
        Cancelled::Held
    }

    /// Whether an upgrade or a rollback is under way, or nodes are still to be replaced by those of
    /// another version.
    fn version_changes(&self) -> bool {
        let upgrades = &self.keeping.stored().backups.upgrades;
        let is_other = |node| self.state.desired.is_another_version(node);
        upgrades.upgrading.is_some()
            || upgrades.rolling_back.is_some()
            || self.state.seen.containers.iter().any(is_other)
    }

    /// Whoever asks means this engine, and what is applied is here too.
    fn queue_if_here(&mut self, id: RequestId, wished: Wished, asked: Option<&Endpoint>) {
        let here = &self.setup.endpoint;
        let problem = match asked.filter(|asked| !asked.is_same(here)) {
            Some(asked) => Some(admit::another_engine(here.url(), asked.url())),
            None => {
                let elsewhere = self.keeping.stored().elsewhere(here);
                elsewhere.map(|there| admit::moved(there.url(), here.url()))
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
            let problem = admit::another_engine(self.setup.endpoint.url(), asked.url());
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

    fn inquiry(&self, request: &UpRequest) -> Inquiry {
        let kept = self.keeping.stored();
        let here = &self.setup.endpoint;
        let records = self.state.records.units.iter();
        Inquiry {
            config: request.config.clone(),
            spec: self.spec_for(request, &Secret::default()),
            elsewhere: kept
                .elsewhere(here)
                .map(|there| (there.url().to_owned(), here.url().to_owned())),
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
        let waited = self.now.mono.since(considered.asked_at);
        let purpose = considered.purpose;
        match found {
            _ if asker_left && purpose == Purpose::Apply => self.go_on_as_before(),
            // It may just be starting anew: after the next look it is asked again.
            Err(Denied::Engine(_)) if waited < ENGINE_PATIENCE => {
                self.looks.want_by(self.now.mono.after(ASK_AGAIN));
                self.requests.waiting.push((id, considered));
            }
            Ok(found) => self.conclude(id, purpose, considered.request, Evidence::Found(found)),
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
    pub(super) fn go_on_as_before(&mut self) {
        let here = &self.setup.endpoint;
        let kept = self.keeping.stored();
        if !self.passing.awaits_request || !self.requests.is_idle() {
            return;
        }
        if self.setup.duty == Duty::Answer {
            return self.shutdown.leave(Leave::End);
        }
        let is_elsewhere = kept.elsewhere(here).is_some();
        let has_nothing = is_elsewhere || kept.spec.is_none();
        let nobody_is_needed = has_nothing && self.state.seen.all().next().is_none();
        if nobody_is_needed && self.setup.ends_when_down {
            return self.shutdown.leave(Leave::End);
        }
        if kept.goal(here) == Goal::Up {
            self.passing.awaits_request = false;
            self.derive();
        }
    }
}

fn silence(endpoint: &Endpoint) -> String {
    format!(
        "{endpoint} takes connections and says nothing for {} s",
        SILENCE_PATIENCE.as_secs()
    )
}
