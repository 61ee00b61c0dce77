//! What a failure, an ended run or a probe means for a unit.

use std::time::Duration;

use super::Action;
use super::Cause;
use super::Mono;
use super::action::Outcome;
use super::action::Subject;
use super::action::Trouble;
use super::action::TroubleKind;
use super::backoff;
use super::cause;
use super::cause::Class;
use super::cause::Evidence;
use super::cause::Failure;
use super::health::Probe;
use super::observed::Instance;
use super::observed::Run;
use super::record::Blocked;
use super::record::is_there;
use super::state::News;
use super::state::State;
use crate::spec::UnitId;

/// How long to wait before a call whose outcome is unknown is made again.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

/// How often a container that is being removed is no failure. One that the engine cannot get rid of
/// is.
const REMOVAL_TRIES: u32 = 3;
/// The engine's words about a container that is on its way out.
const MARKED_FOR_REMOVAL: &str = "marked for removal";

impl State {
    /// A call failed, and what it was to do was not done.
    pub(super) fn failed(&mut self, action: &Action, trouble: &Trouble, now: Mono) {
        let subject = action.subject();
        let failure = failure_of(action, trouble);
        self.tell(
            &subject,
            format!("{} failed: {}", action.verb(), trouble.words),
        );
        let failures = self
            .records
            .blocked
            .get(&subject)
            .map_or(0, |blocked| blocked.failures)
            + 1;
        // Somebody removes the container: nothing is wrong with the unit, and another one is made
        // when this one is gone.
        let goes =
            matches!(action, Action::Start(..)) && trouble.words.contains(MARKED_FOR_REMOVAL);
        if trouble.is_unknown() || goes && failures <= REMOVAL_TRIES {
            self.block(subject, failure, failures, now.after(UNKNOWN_RETRY));
            return;
        }
        match (&subject, action) {
            (Subject::Unit(unit), Action::Create(_) | Action::Start(..)) => {
                if failure.cause == Cause::ImageMissing {
                    self.miss_image_of(*unit);
                }
                self.unit_failed(*unit, failure, now);
            }
            _ => {
                let wait = backoff::wait(failures + 1, u64::from(failures), &self.timing());
                self.block(subject, failure, failures, now.after(wait));
            }
        }
    }

    /// The engine does not have an image after all: the look that showed it trusted what it saw
    /// before. It is fetched again.
    fn miss_image_of(&mut self, unit: UnitId) {
        let moved = self.moved_images();
        let wanted = self
            .desired
            .spec
            .as_ref()
            .and_then(|spec| spec.container(unit));
        // One that was asked for by its ID would not come back under its name.
        if let Some(wanted) = wanted.filter(|wanted| !moved.contains_key(&wanted.image)) {
            self.seen.images.remove(&wanted.image);
        }
    }

    fn block(&mut self, subject: Subject, failure: Failure, failures: u32, retry_at: Mono) {
        let there = is_there(&subject, &self.seen);
        self.records.blocked.insert(
            subject,
            Blocked {
                failure,
                failures,
                retry_at,
                there,
            },
        );
    }

    pub(super) fn unit_failed(&mut self, unit: UnitId, failure: Failure, now: Mono) {
        if failure.cause == Cause::PrivilegedRefused && self.go_on_without_privileges() {
            return;
        }
        let (timing, seed) = (self.timing(), self.seed_of(unit));
        self.tell(
            &unit,
            format!("{}: {}", failure.cause.title(), failure.detail),
        );
        self.records.of(unit).fail(failure, seed, &timing, now);
    }

    pub(super) fn examined(
        &mut self,
        unit: UnitId,
        instance: &Instance,
        outcome: &Outcome,
        now: Mono,
    ) {
        let record = self.records.of(unit);
        if record.unread.as_ref() == Some(instance) {
            record.unread = None;
            return self.read(unit, outcome);
        }
        if record.unexamined.as_ref() != Some(instance) {
            return;
        }
        record.unexamined = None;
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

    /// A unit is started although nobody looked at why its last run ended: that counts as a failure
    /// all the same, and is looked at meanwhile.
    pub(super) fn note_what_is_not_examined(&mut self, unit: UnitId, now: Mono) {
        let Some(instance) = self.records.of(unit).unexamined.take() else {
            return;
        };
        let run = self
            .seen
            .container(unit)
            .map(|container| container.run.clone());
        let Some(Run::Exited {
            code, oom, error, ..
        }) = run
        else {
            return;
        };
        let engine = Some(error.as_str()).filter(|text| !text.is_empty());
        let mut failure = cause::of_unit(
            unit,
            &Evidence {
                code: Some(code),
                oom,
                engine,
                lines: &[],
            },
        );
        // Whether nothing helps is seen by how the next run goes.
        if failure.cause.class() != Class::Transient {
            failure.cause = Cause::Crashed;
        }
        self.unit_failed(unit, failure, now);
        self.records.of(unit).unread = Some(instance);
    }

    /// The last lines of a run whose failure counted already. They may name its cause, unless that
    /// is known better.
    fn read(&mut self, unit: UnitId, outcome: &Outcome) {
        let Some(failure) = &mut self.records.of(unit).failure else {
            return;
        };
        failure.quote(&outcome.lines);
        if !matches!(failure.cause, Cause::Crashed | Cause::ExitedZero) {
            return;
        }
        let named = cause::of_unit(
            unit,
            &Evidence {
                code: failure.code,
                lines: &outcome.lines,
                ..Evidence::default()
            },
        );
        if named.cause == failure.cause {
            return;
        }
        // It was started again already, and how that goes shows whether the cause is one that only
        // a person can cure.
        if named.cause.class() == Class::Transient {
            (failure.cause, failure.detail) = (named.cause, named.detail.clone());
        }
        self.tell(&unit, format!("{}: {}", named.cause.title(), named.detail));
    }

    /// A starting unit's log moved.
    pub fn progressed(&mut self, unit: UnitId, now: Mono) {
        self.records.of(unit).progress_at = now;
    }

    /// Takes in the result of a probe of a run; of no run where the database is external.
    pub fn probed(&mut self, unit: UnitId, instance: Option<&Instance>, probe: &Probe, now: Mono) {
        let timing = self.timing();
        let record = self.records.of(unit);
        if record.instance.as_ref() != instance || record.ended {
            return;
        }
        // A database that goes from one state to the next is on its way.
        if matches!(probe, Probe::Alive(why) if record.health.last_problem.as_ref() != Some(why)) {
            record.progress_at = now;
        }
        let was_ready = record.health.ready;
        record.health.record(probe, now);
        let is_ready = record.health.ready;
        // One that could not be judged says nothing of how long it has been well.
        if *probe == Probe::Ready {
            record.settle(&timing, now);
        }
        if unit.is_database() && is_ready && !was_ready {
            self.records.nodes_reconnect(now);
        }
        match (was_ready, is_ready, probe) {
            (false, true, _) => self.tell(&unit, "ready"),
            (
                true,
                false,
                Probe::Alive(why) | Probe::Drained(why) | Probe::Failure(why) | Probe::Refused(why),
            ) => {
                self.tell(&unit, format!("not ready: {why}"));
            }
            _ => {}
        }
        if matches!(probe, Probe::Failure(_)) && unit.is_server() {
            self.announce(News::Ask(UnitId::Sql));
        }
        if is_ready && unit.is_database() && !was_ready {
            self.announce(News::PasswordAccepted);
        }
        self.judge_refusal(unit, probe, now);
    }

    /// A refused password and an unknown host are believed once nothing moves any more; a suspect
    /// database at once.
    fn judge_refusal(&mut self, unit: UnitId, probe: &Probe, now: Mono) {
        let timing = self.timing();
        let is_current = self.is_current(
            unit,
            self.records
                .get(unit)
                .and_then(|record| record.instance.as_ref()),
        );
        let record = self.records.of(unit);
        if record.gave_up().is_some() || !is_current {
            return;
        }
        let grace = timing.refused_grace;
        let believed =
            |since: Option<Mono>| now.since(since.unwrap_or(now).max(record.progress_at)) >= grace;
        let (cause, detail) = match probe {
            Probe::Refused(why) if believed(record.health.refused_since) => {
                (Cause::PasswordRefused, why.clone())
            }
            // One of our own containers is asked at an address.
            Probe::Failure(why)
                if cause::is_unknown_host(why) && believed(record.health.failing_since) =>
            {
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
        let instance = record.instance.clone();
        self.unit_failed(
            unit,
            Failure {
                cause,
                detail,
                lines: Vec::new(),
                code: None,
            },
            now,
        );
        self.records.of(unit).unread = instance;
    }
}

/// What a failed call means: what we found out ourselves needs no words, the engine's are looked
/// up.
fn failure_of(action: &Action, trouble: &Trouble) -> Failure {
    let looked_up = || match cause::of_words(&trouble.words) {
        Some(cause) => cause,
        // Whatever words a registry or the way to it has: the image is not there and cannot be
        // fetched.
        None if matches!(action, Action::Pull(_)) => Cause::ImageMissing,
        None => Cause::EngineError,
    };
    let cause = match trouble.kind {
        TroubleKind::Engine => looked_up(),
        TroubleKind::VolumeInUse => Cause::VolumeInUse,
        TroubleKind::MayNotPull => Cause::ImageMissing,
        TroubleKind::NotOurs => Cause::NameTaken,
    };
    Failure {
        cause,
        detail: trouble.words.clone(),
        lines: Vec::new(),
        code: None,
    }
}

/// How a probe's words begin when a database cannot be opened at all.
pub const SUSPECT: &str = "suspect database:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Observed;
    use crate::reconcile::container_event::ContainerEvent;
    use crate::reconcile::observed::Container;
    use crate::spec::Digest;

    const NODE: UnitId = UnitId::Node(1);
    const BEGAN: &str = "2026-01-01T00:00:10Z";

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn seen(started_at: &str) -> Observed {
        let container = Container {
            id: "c".to_owned(),
            name: "p-octopus-server-1".to_owned(),
            unit: NODE,
            digest: Digest(String::new()),
            image: "octopus:1".to_owned(),
            image_id: "1".to_owned(),
            run: Run::Running {
                started_at: started_at.to_owned(),
            },
            networks: std::collections::BTreeSet::new(),
            network_mode: String::new(),
            engine_restarts: false,
        };
        Observed {
            containers: vec![container],
            ..Observed::default()
        }
    }

    fn death(at: &str, code: Option<i64>) -> ContainerEvent {
        let at = Instance {
            id: String::new(),
            started_at: at.to_owned(),
        }
        .began();
        ContainerEvent {
            id: "c".to_owned(),
            word: "die".to_owned(),
            at,
            signal: None,
            code,
        }
    }

    fn state(started_at: &str) -> State {
        let mut state = State::default();
        state.looked(seen(started_at), at(1));
        let instance = state.seen.container(NODE).and_then(Container::instance);
        state.probed(NODE, instance.as_ref(), &Probe::Ready, at(2));
        state
    }

    fn is_over(state: &State) -> bool {
        state
            .seen
            .container(NODE)
            .is_some_and(|container| !container.is_running())
    }

    #[test]
    fn the_engines_word_of_an_end_counts_at_once_unless_it_is_of_an_earlier_run() {
        let cases = [
            (BEGAN, death("2026-01-01T00:00:11Z", Some(1)), true),
            (BEGAN, death("2026-01-01T00:00:09Z", Some(1)), false),
            (BEGAN, death("2026-01-01T00:00:11Z", None), false),
            // No start time is known of a container that does not answer.
            ("", death("2026-01-01T00:00:11Z", Some(1)), false),
        ];
        for (started_at, heard, over) in cases {
            let mut state = state(started_at);
            state.heard(&heard, at(3));
            assert_eq!(is_over(&state), over, "{started_at} {heard:?}");
        }
    }

    #[test]
    fn a_look_from_before_an_end_does_not_bring_the_run_back_and_one_from_after_it_may() {
        let mut state = state(BEGAN);
        state.look_begins();
        state.heard(&death("2026-01-01T00:00:11Z", Some(1)), at(3));
        state.looked(seen(BEGAN), at(4));
        assert!(is_over(&state));
        state.look_begins();
        state.looked(seen(BEGAN), at(5));
        assert!(!is_over(&state));
    }

    #[test]
    fn a_run_that_served_is_started_again_before_it_is_examined_and_only_the_first_time() {
        let mut state = state(BEGAN);
        state.heard(&death("2026-01-01T00:00:11Z", Some(3)), at(3));
        assert!(!state.records.of(NODE).waits_for_examination());
        state.begin(&Action::Start(NODE, "c".to_owned()), at(3));
        let record = state.records.of(NODE);
        assert_eq!(
            (
                record.failures,
                record.failure.as_ref().and_then(|failure| failure.code)
            ),
            (1, Some(3))
        );
        let first = record.unread.clone().expect("its log is to be read");
        state.end(
            Action::Start(NODE, "c".to_owned()),
            Ok(Outcome::default()),
            at(4),
        );
        state.look_begins();
        state.looked(seen("2026-01-01T00:00:12Z"), at(4));
        let lines =
            vec!["Connection test to \"master\" timed out after trying for 30 seconds".to_owned()];
        state.end(
            Action::Examine(NODE, first),
            Ok(Outcome {
                lines: lines.clone(),
                exit: None,
            }),
            at(5),
        );
        let record = state.records.of(NODE);
        let failure = record.failure.clone().expect("it is not ready again");
        assert_eq!(
            (record.failures, failure.cause, failure.lines),
            (1, Cause::DatabaseUnreachable, lines)
        );
        state.heard(&death("2026-01-01T00:00:13Z", Some(3)), at(6));
        assert!(
            state.records.of(NODE).waits_for_examination(),
            "the second end is examined first"
        );
    }
}
