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
use super::health::NotOpen;
use super::health::Probe;
use super::observed::Container;
use super::observed::Instance;
use super::observed::Run;
use super::record::Blocked;
use super::record::Migrated;
use super::record::Running;
use super::record::Seen;
use super::record::UnitRecord;
use super::record::is_there;
use super::state::News;
use super::state::State;
use crate::spec::Role;
use crate::spec::UnitId;

/// How long to wait before a call whose outcome is unknown is made again.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

/// How often a container that is being removed is no failure. One that the engine cannot get rid of
/// is.
const REMOVAL_TRIES: u32 = 3;
/// How often a network or a volume that somebody else uses is tried to be removed: one that is on
/// its way out may still hold it.
const IN_USE_TRIES: u32 = 3;
/// How often the log of an ended run is tried to be read before its unit is judged without.
const EXAMINE_TRIES: u32 = 3;
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
        if let Action::Create(unit) | Action::Start(unit, _) = action {
            if failure.cause == Cause::ImageMissing {
                self.miss_image_of(*unit);
            }
            self.unit_failed(*unit, failure, now);
            return;
        }
        let wait = backoff::wait(failures + 1, u64::from(failures), &self.timing());
        self.block(subject.clone(), failure, failures, now.after(wait));
        let is_used = trouble.kind == TroubleKind::InUse && failures >= IN_USE_TRIES;
        if let Some(blocked) = self.records.blocked.get_mut(&subject).filter(|_| is_used) {
            blocked.is_left = true;
            let why = format!("left where it is: {}", trouble.words);
            self.tell(&subject, why);
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
                is_left: false,
                there,
            },
        );
    }

    pub(super) fn unit_failed(&mut self, unit: UnitId, failure: Failure, now: Mono) {
        let is_refused = failure.cause == Cause::PrivilegedRefused && !unit.is_tentacle();
        if is_refused && self.go_on_without_privileges() {
            return;
        }
        let (timing, seed) = (self.timing(), self.seed_of(unit));
        self.tell(
            &unit,
            format!("{}: {}", failure.cause.title(), failure.detail),
        );
        self.records.of(unit).fail(failure, seed, &timing, now);
    }

    /// An ended run could not be examined. Its log is not waited for without end: after a few tries
    /// its unit is judged by what the engine showed.
    pub(super) fn not_examined(
        &mut self,
        action: &Action,
        unit: UnitId,
        instance: &Instance,
        trouble: &Trouble,
        now: Mono,
    ) {
        // What only explains a failure is not asked for twice.
        self.records
            .of(unit)
            .failures
            .unread
            .take_if(|unread| unread == instance);
        self.failed(action, trouble, now);
        let tries = self.records.blocked.get(&action.subject());
        if tries.is_some_and(|blocked| blocked.failures >= EXAMINE_TRIES)
            && self.records.of(unit).unexamined() == Some(instance)
        {
            self.records.blocked.remove(&action.subject());
            let outcome = Outcome {
                lines: Vec::new(),
                exit: self.exit_of(instance),
            };
            self.examined(unit, instance, &outcome, now);
        }
    }

    /// How a run ended, as far as the engine's last answer tells.
    fn exit_of(&self, instance: &Instance) -> Option<(i64, bool, String)> {
        let ended = |one: &&Container| one.instance().as_ref() == Some(instance);
        match &self.seen.all().find(ended)?.run {
            Run::Exited {
                code, oom, error, ..
            } => Some((*code, *oom, error.clone())),
            Run::Created | Run::Running { .. } | Run::Paused { .. } | Run::Removing => None,
        }
    }

    /// The end of a run is not to be examined any more. Gives whether the run had served.
    fn take_unexamined(&mut self, unit: UnitId) -> Option<(Instance, bool)> {
        let ended = match self.records.of(unit).run.as_mut()? {
            Seen::Ended(ended) if ended.to_examine => ended,
            Seen::Ended(_) | Seen::Running(_) => return None,
        };
        ended.to_examine = false;
        Some((ended.instance.clone(), ended.served))
    }

    pub(super) fn examined(
        &mut self,
        unit: UnitId,
        instance: &Instance,
        outcome: &Outcome,
        now: Mono,
    ) {
        let record = self.records.of(unit);
        if record.failures.unread.as_ref() == Some(instance) {
            record.failures.unread = None;
            return self.read(unit, outcome);
        }
        if record.unexamined() != Some(instance) {
            return;
        }
        let Some((_, served)) = self.take_unexamined(unit) else {
            return;
        };
        let (code, oom, engine) = outcome.exit.clone().unwrap_or_default();
        let evidence = Evidence {
            code: outcome.exit.as_ref().map(|_| code),
            oom,
            served,
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
        let Some((instance, served)) = self.take_unexamined(unit) else {
            return;
        };
        let Some((code, oom, error)) = self.exit_of(&instance) else {
            return;
        };
        let engine = Some(error.as_str()).filter(|text| !text.is_empty());
        let evidence = Evidence {
            code: Some(code),
            oom,
            served,
            engine,
            lines: &[],
        };
        let mut failure = cause::of_unit(unit, &evidence);
        // Whether nothing helps is seen by how the next run goes.
        if failure.cause.class() != Class::Transient {
            failure.cause = Cause::Crashed;
        }
        self.unit_failed(unit, failure, now);
        self.records.of(unit).failures.unread = Some(instance);
    }

    /// The last lines of a run whose failure counted already. They may name its cause, unless that
    /// is known better.
    fn read(&mut self, unit: UnitId, outcome: &Outcome) {
        let Some(failure) = &mut self.records.of(unit).failures.last else {
            return;
        };
        failure.quote(&outcome.lines);
        if !matches!(failure.cause, Cause::Crashed | Cause::ExitedZero) {
            return;
        }
        // It was started again already, and how that goes shows whether the cause is one that only
        // a person can cure: the lines of a run that served name none.
        let evidence = Evidence {
            code: failure.code,
            served: true,
            lines: &outcome.lines,
            ..Evidence::default()
        };
        let named = cause::of_unit(unit, &evidence);
        if named.cause == failure.cause {
            return;
        }
        if named.cause.class() == Class::Transient {
            (failure.cause, failure.detail) = (named.cause, named.detail.clone());
        }
        self.tell(&unit, format!("{}: {}", named.cause.title(), named.detail));
    }

    /// A starting unit's log moved.
    pub fn progressed(&mut self, unit: UnitId, now: Mono) {
        if let Some(running) = self.records.of(unit).running_mut() {
            running.progress_at = now;
        }
    }

    /// Takes in the last lines of the log of a run that starts, oldest first; twenty are enough. A
    /// server that says that it is open is asked at once.
    pub fn on_log_read(&mut self, unit: UnitId, instance: &Instance, lines: &[String], now: Mono) {
        let Some(running) = self.records.of(unit).running_mut() else {
            return;
        };
        if running.instance.as_ref() != Some(instance) {
            return;
        }
        let was_open = running.log.open_since.is_some();
        if running.log.take_in(lines, now) {
            running.progress_at = now;
        }
        if running.log.open_since.is_some() && !was_open && unit.is_database() {
            self.announce(News::Ask(unit));
        }
    }

    /// How long to wait for the answer to the next probe of a unit.
    pub fn patience_with(&self, unit: UnitId) -> Duration {
        let first = self.timing().probe_timeout;
        self.records
            .get(unit)
            .map_or(first, |record| record.health().patience(first))
    }

    /// Takes in the result of a probe of a run; of no run where the database is external. False
    /// where it is one more good answer of a unit of a stack that is well: no decision hangs on it.
    pub fn probed(
        &mut self,
        unit: UnitId,
        instance: Option<&Instance>,
        probe: &Probe,
        now: Mono,
    ) -> bool {
        let meant = self.meaning_of(unit, probe, now);
        let probe = meant.as_ref().unwrap_or(probe);
        let was_well = self.is_well_without_exception();
        let failures = self.records.get(unit).map(|record| record.failures.count);
        self.take_in_probe(unit, instance, probe, now);
        let is_as_before = failures == self.records.get(unit).map(|record| record.failures.count);
        !(was_well && *probe == Probe::Ready && is_as_before)
    }

    /// What it means that the database of Octopus is not open. Where it is to be replaced, SQL Server
    /// is as ready for that as it will be, unless the database may yet be recovered: nothing can be
    /// restored over one that is.
    fn meaning_of(&self, unit: UnitId, probe: &Probe, now: Mono) -> Option<Probe> {
        let Probe::NotOpen(state, why) = probe else {
            return None;
        };
        let is_final = match state {
            NotOpen::Recovering => false,
            NotOpen::RecoveryPending => self.stands_still(unit, now),
            NotOpen::Restoring | NotOpen::Damaged => true,
        };
        Some(if self.desired.data_is_replaced && is_final {
            Probe::Ready
        } else if *state == NotOpen::Damaged {
            Probe::Suspect(why.clone())
        } else {
            Probe::Alive(why.clone())
        })
    }

    /// Whether a run that is asked makes no progress any more.
    fn stands_still(&self, unit: UnitId, now: Mono) -> bool {
        let running = self.records.get(unit).and_then(UnitRecord::running);
        running.is_some_and(|running| now.since(running.progress_at) >= self.timing().refused_grace)
    }

    /// Whether every unit that is known serves and nothing is asked of any: a node that finishes
    /// its tasks is watched more closely.
    fn is_well_without_exception(&self) -> bool {
        let is_well = |record: &UnitRecord| record.health().ready && record.drain.is_none();
        self.records.units.values().all(is_well)
    }

    fn take_in_probe(
        &mut self,
        unit: UnitId,
        instance: Option<&Instance>,
        probe: &Probe,
        now: Mono,
    ) {
        let timing = self.timing();
        let record = self.records.of(unit);
        if record.run.is_none() && instance.is_none() {
            record.run = Some(Seen::Running(Running::default()));
        }
        let Some(running) = record.running_mut() else {
            return;
        };
        if running.instance.as_ref() != instance {
            return;
        }
        // A database that goes from one state to the next is on its way.
        if matches!(probe, Probe::Alive(why) if running.health.last_problem.as_ref() != Some(why)) {
            running.progress_at = now;
        }
        let was_ready = running.health.ready;
        running.health.record(probe, now);
        let (is_ready, has_started) = (running.health.ready, running.health.started);
        record.served_once |= has_started;
        // One that could not be judged says nothing of how long it has been well.
        if *probe == Probe::Ready {
            record.settle(&timing, now);
        }
        if is_ready && !was_ready {
            self.became_ready(unit, now);
        }
        if was_ready
            && !is_ready
            && let Some(why) = probe.words()
        {
            self.tell(&unit, format!("not ready: {why}"));
        }
        if matches!(probe, Probe::Failure(..)) && unit.is_server() {
            self.announce(News::Ask(UnitId::Sql));
        }
        self.judge_probe(unit, probe, now);
    }

    fn became_ready(&mut self, unit: UnitId, now: Mono) {
        self.tell(&unit, "ready");
        match unit.role() {
            Role::Database => {
                self.records.nodes_reconnect(now);
                self.records.durable.is_data_new = false;
                self.announce(News::PasswordAccepted);
            }
            Role::Server => self.note_migration(unit),
            Role::Tentacle => {}
        }
    }

    /// A node that serves has migrated its database.
    fn note_migration(&mut self, unit: UnitId) {
        let container = self.seen.container(unit);
        let Some((spec, container)) = self.desired.spec.as_ref().zip(container) else {
            return;
        };
        if !container.image_id.is_empty() {
            self.records.durable.migrated = Some(Migrated {
                image_id: container.image_id.clone(),
                database: Migrated::name_of_database(spec),
            });
        }
    }

    /// A refused password and an unknown host are believed once nothing moves any more; a suspect
    /// database at once.
    fn judge_probe(&mut self, unit: UnitId, probe: &Probe, now: Mono) {
        let instance = self.records.of(unit).instance().cloned();
        if self.records.of(unit).gave_up().is_some() || !self.is_current(unit, instance.as_ref()) {
            return;
        }
        let (cause, detail) = match probe {
            Probe::Refused(why) if self.is_refusal_believed(unit, now) => {
                (Cause::PasswordRefused, why)
            }
            // One of our own containers is asked at an address.
            Probe::Failure(_, why)
                if cause::is_unknown_host(why) && self.fails_for_long(unit, now) =>
            {
                (Cause::WrongHost, why)
            }
            Probe::Suspect(why) => (Cause::DatabaseSuspect, why),
            Probe::Ready
            | Probe::Alive(_)
            | Probe::NotOpen(..)
            | Probe::Drained(_)
            | Probe::Refused(_)
            | Probe::Failure(..)
            | Probe::Unknown(_) => return,
        };
        let failure = Failure {
            cause,
            detail: detail.clone(),
            lines: Vec::new(),
            code: None,
        };
        self.unit_failed(unit, failure, now);
        self.records.of(unit).failures.unread = instance;
    }

    fn fails_for_long(&self, unit: UnitId, now: Mono) -> bool {
        let running = self.records.get(unit).and_then(UnitRecord::running);
        running.is_some_and(|running| {
            let since = running.health.failing_since.unwrap_or(now);
            now.since(since.max(running.progress_at)) >= self.timing().refused_grace
        })
    }

    /// Whether a refused login says something about the password. A server that starts refuses ours
    /// until it is set up or its databases are recovered, however long that takes.
    fn is_refusal_believed(&self, unit: UnitId, now: Mono) -> bool {
        let Some(running) = self.records.get(unit).and_then(UnitRecord::running) else {
            return false;
        };
        let timing = self.timing();
        let since = running.health.refused_since.unwrap_or(now);
        let moved = running.progress_at.max(running.seen_at);
        let is_past_limit = now >= moved.after(timing.sql_start_limit);
        if running.instance.is_none() || running.health.started {
            return now.since(since) >= timing.refused_grace;
        }
        if self.records.durable.is_data_new || running.log.is_still_opening() {
            return is_past_limit;
        }
        // Once it is open, what else its log says is no sign of a start.
        let from = running.log.open_since.unwrap_or(moved);
        now.since(since.max(from)) >= timing.refused_grace
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
        TroubleKind::PlaceGone => Cause::PlaceGone,
        TroubleKind::MayNotPull => Cause::ImageMissing,
        TroubleKind::NotOurs => Cause::NameTaken,
        TroubleKind::Registration => Cause::NotRegistered,
        TroubleKind::InUse => Cause::EngineError,
    };
    Failure {
        cause,
        detail: trouble.words.clone(),
        lines: Vec::new(),
        code: None,
    }
}

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
                record.failures.count,
                record
                    .failures
                    .last
                    .as_ref()
                    .and_then(|failure| failure.code)
            ),
            (1, Some(3))
        );
        let first = record
            .failures
            .unread
            .clone()
            .expect("its log is to be read");
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
        let failure = record.failures.last.clone().expect("it is not ready again");
        assert_eq!(
            (record.failures.count, failure.cause, failure.lines),
            (1, Cause::DatabaseUnreachable, lines)
        );
        state.heard(&death("2026-01-01T00:00:13Z", Some(3)), at(6));
        assert!(
            state.records.of(NODE).waits_for_examination(),
            "the second end is examined first"
        );
    }
}
