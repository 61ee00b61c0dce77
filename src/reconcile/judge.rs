//! What a failure, an ended run or a probe means for a unit.

use std::time::Duration;

use super::Action;
use super::Cause;
use super::Mono;
use super::action::Outcome;
use super::action::Subject;
use super::action::Trouble;
use super::backoff;
use super::cause;
use super::cause::Evidence;
use super::cause::Failure;
use super::health::Probe;
use super::observed::Instance;
use super::state::News;
use super::state::State;
use super::track::Blocked;
use super::track::is_there;
use crate::spec::UnitId;

/// How long to wait before a call whose outcome is unknown is made again.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

impl State {
    /// A call failed, and what it was to do was not done.
    pub(super) fn failed(&mut self, action: &Action, trouble: &Trouble, now: Mono) {
        let subject = action.subject();
        let evidence = Evidence { engine: Some(&trouble.words), ..Evidence::default() };
        let mut failure = cause::of_unit(UnitId::Node(0), &evidence);
        // Whatever words a registry or the way to it has: the image is not there and cannot be fetched.
        if matches!(action, Action::Pull(_)) && failure.cause == Cause::EngineError {
            failure.cause = Cause::ImageMissing;
        }
        self.tell(&subject, format!("{} failed: {}", action.verb(), trouble.words));
        if trouble.unknown {
            self.block(subject, failure, 1, now.after(UNKNOWN_RETRY));
            return;
        }
        match (&subject, action) {
            (Subject::Unit(unit), Action::Create(_) | Action::Start(..)) => {
                if failure.cause == Cause::ImageMissing {
                    self.miss_image_of(*unit);
                }
                self.unit_failed(*unit, failure, now);
            }
            (Subject::Unit(_) | Subject::Process(_) | Subject::Network | Subject::Volume(_) | Subject::Image(_), _) => {
                let failures = self.tracks.blocked.get(&subject).map_or(0, |blocked| blocked.failures) + 1;
                let wait = backoff::wait(failures + 1, u64::from(failures), &self.timing());
                self.block(subject, failure, failures, now.after(wait));
            }
        }
    }

    /// The engine does not have an image after all: the look that showed it trusted what it saw before. It is fetched again.
    fn miss_image_of(&mut self, unit: UnitId) {
        let moved = self.moved_images();
        let wanted = self.desired.spec.as_ref().and_then(|spec| spec.container(unit));
        // One that was asked for by its ID would not come back under its name.
        if let Some(wanted) = wanted.filter(|wanted| !moved.contains_key(&wanted.image)) {
            self.seen.images.remove(&wanted.image);
        }
    }

    fn block(&mut self, subject: Subject, failure: Failure, failures: u32, retry_at: Mono) {
        let there = is_there(&subject, &self.seen);
        self.tracks.blocked.insert(subject, Blocked { failure, failures, retry_at, there });
    }

    pub(super) fn unit_failed(&mut self, unit: UnitId, failure: Failure, now: Mono) {
        if failure.cause == Cause::PrivilegedRefused && self.go_on_without_privileges() {
            return;
        }
        let (timing, seed) = (self.timing(), self.seed_of(unit));
        self.tell(&unit, format!("{}: {}", failure.cause.title(), failure.detail));
        self.tracks.of(unit).fail(failure, seed, &timing, now);
    }

    pub(super) fn examined(&mut self, unit: UnitId, instance: &Instance, outcome: &Outcome, now: Mono) {
        let track = self.tracks.of(unit);
        if track.unread.as_ref() == Some(instance) {
            track.unread = None;
            track.failure.iter_mut().for_each(|failure| failure.quote(&outcome.lines));
        }
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
        if self.is_current(unit, Some(instance)) {
            self.unit_failed(unit, failure, now);
        }
    }

    /// A starting unit's log moved.
    pub fn progressed(&mut self, unit: UnitId, now: Mono) {
        self.tracks.of(unit).progress_at = now;
    }

    /// Takes in the result of a probe of a run; of no run where the database is external.
    pub fn probed(&mut self, unit: UnitId, instance: Option<&Instance>, probe: &Probe, now: Mono) {
        let timing = self.timing();
        let track = self.tracks.of(unit);
        if track.instance.as_ref() != instance || track.ended {
            return;
        }
        // A database that goes from one state to the next is on its way.
        if matches!(probe, Probe::Alive(why) if track.health.last_problem.as_ref() != Some(why)) {
            track.progress_at = now;
        }
        let was_ready = track.health.ready;
        track.health.record(probe, now);
        let is_ready = track.health.ready;
        if is_ready {
            track.settle(&timing, now);
        }
        if unit == UnitId::Sql && is_ready && !was_ready {
            self.tracks.forget_misses_of_nodes(now);
        }
        match (was_ready, is_ready, probe) {
            (false, true, _) => self.tell(&unit, "ready"),
            (true, false, Probe::Alive(why) | Probe::Drained(why) | Probe::Failure(why) | Probe::Refused(why)) => {
                self.tell(&unit, format!("not ready: {why}"));
            }
            _ => {}
        }
        if matches!(probe, Probe::Failure(_)) && unit != UnitId::Sql {
            self.announce(News::Ask(UnitId::Sql));
        }
        if is_ready && unit == UnitId::Sql && !was_ready {
            self.announce(News::PasswordAccepted);
        }
        self.judge_refusal(unit, probe, now);
    }

    /// A refused password and an unknown host are believed once nothing moves any more; a suspect database at once.
    fn judge_refusal(&mut self, unit: UnitId, probe: &Probe, now: Mono) {
        let timing = self.timing();
        let is_current = self.is_current(unit, self.tracks.get(unit).and_then(|track| track.instance.as_ref()));
        let track = self.tracks.of(unit);
        if track.gave_up().is_some() || !is_current {
            return;
        }
        let grace = Duration::from_millis(timing.refused_grace_ms);
        let believed = |since: Option<Mono>| now.since(since.unwrap_or(now).max(track.progress_at)) >= grace;
        let (cause, detail) = match probe {
            Probe::Refused(why) if believed(track.health.refused_since) => (Cause::PasswordRefused, why.clone()),
            // One of our own containers is asked at an address.
            Probe::Failure(why) if cause::is_unknown_host(why) && believed(track.health.failing_since) => {
                (Cause::WrongHost, why.clone())
            }
            Probe::Alive(why) if why.starts_with(SUSPECT) => (Cause::DatabaseSuspect, why.clone()),
            Probe::Ready
            | Probe::Alive(_)
            | Probe::Drained(_)
            | Probe::Refused(_)
            | Probe::Failure(_)
            | Probe::Unknown(_) => return,
        };
        track.unread.clone_from(&track.instance);
        self.unit_failed(unit, Failure { cause, detail, lines: Vec::new(), code: None }, now);
    }
}

/// How a probe's words begin when a database cannot be opened at all.
pub const SUSPECT: &str = "suspect database:";
