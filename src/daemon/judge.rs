//! The driver's judgement: what a failure, an ended run or a probe means for a unit, and what is remembered of it.

use std::time::Duration;

use super::driver::Driver;
use super::event::Outcome;
use super::ports;
use crate::engine::EngineError;
use crate::reconcile::Action;
use crate::reconcile::Cause;
use crate::reconcile::Mono;
use crate::reconcile::action::Subject;
use crate::reconcile::cause;
use crate::reconcile::cause::Evidence;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::reconcile::track::Blocked;
use crate::reconcile::track::is_there;
use crate::spec::UnitId;
use crate::sql;

/// How long to wait before a call whose outcome is unknown is made again.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn failed(&mut self, action: &Action, error: &EngineError) {
        let now = self.now();
        let text = error.to_string();
        tracing::warn!(subject = ?action.subject(), error = text, "{} failed", action.verb());
        let subject = action.subject();
        let failure = cause::of_unit(UnitId::Node(0), &Evidence { engine: Some(&text), ..Evidence::default() });
        let there = is_there(&subject, &self.seen);
        if error.is_unreachable() {
            let retry_at = now.after(UNKNOWN_RETRY);
            self.tracks.blocked.insert(subject, Blocked { failure, failures: 1, retry_at, there });
            return;
        }
        self.journal.write(&subject.to_string(), &format!("{} failed: {text}", action.verb()));
        match (&subject, action) {
            (Subject::Unit(unit), Action::Create(_) | Action::Start(..)) => {
                let detail = self.with_holder(*unit, failure.cause, failure.detail);
                self.unit_failed(*unit, cause::Failure { detail, ..failure });
            }
            (Subject::Unit(_) | Subject::Network | Subject::Volume(_) | Subject::Image(_), _) => {
                let failures = self.tracks.blocked.get(&subject).map_or(0, |blocked| blocked.failures) + 1;
                let timing = self.timing();
                let wait = crate::reconcile::backoff::wait(failures + 1, u64::from(failures), &timing);
                let retry_at = now.after(wait);
                self.tracks.blocked.insert(subject, Blocked { failure, failures, retry_at, there });
            }
        }
    }

    /// The engine says that a port is taken, and not by whom.
    fn with_holder(&self, unit: UnitId, cause: Cause, detail: String) -> String {
        let is_local = self.engine.as_ref().is_some_and(|engine| engine.endpoint.is_local());
        if cause != Cause::PortTaken || !is_local {
            return detail;
        }
        let wanted = self.desired.spec.as_ref().and_then(|spec| spec.container(unit));
        let mut ports = wanted.into_iter().flat_map(|wanted| &wanted.ports).map(|port| port.host);
        match ports.find_map(ports::known_holder) {
            Some(holder) => format!("{detail}; {holder} has it"),
            None => detail,
        }
    }

    pub(super) fn unit_failed(&mut self, unit: UnitId, failure: cause::Failure) {
        if failure.cause == Cause::PrivilegedRefused && self.go_on_without_privileges() {
            return;
        }
        let (now, timing, seed) = (self.now(), self.timing(), self.seed(unit));
        self.journal.write(&unit.to_string(), &format!("{}: {}", failure.cause.title(), failure.detail));
        tracing::warn!(%unit, cause = ?failure.cause, detail = failure.detail, "failed");
        self.tracks.of(unit).fail(failure, seed, &timing, now);
    }

    /// A demo needs no Docker-in-Docker, so it goes on without privileges where the host refuses them.
    pub(super) fn go_on_without_privileges(&mut self) -> bool {
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

    pub(super) fn seed(&self, unit: UnitId) -> u64 {
        let name =
            self.project.as_str().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        name ^ u64::from(unit.number()) ^ if unit == UnitId::Sql { 1 << 32 } else { 0 }
    }

    /// Notes the version whose nodes run, so that an older one is refused later.
    pub(super) fn remember_version(&mut self) {
        let tag = self.stored.config.as_ref().map(|config| config.octopus.tag.clone());
        if tag.is_some() && self.stored.ran_tag != tag {
            self.stored.ran_tag = tag;
            self.save();
        }
    }

    /// Notes the password that the data proved to know, so that another one is refused later.
    fn remember_password(&mut self) {
        let sql = self.stored.config.as_ref().and_then(|config| config.sql.as_ref());
        let password = sql.map(|sql| sql.sa_password.clone());
        if password.is_some() && self.stored.sa_password != password {
            self.stored.sa_password = password;
            self.save();
        }
    }

    pub(super) fn examined(&mut self, unit: UnitId, instance: &Instance, outcome: &Outcome) {
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
            self.unit_failed(unit, failure);
        }
    }

    /// Whether a run is of the definition that is wanted now, and goes on if it can: how another one fared says nothing
    /// about what a changed configuration will do. An external database has no definition.
    fn is_current(&self, unit: UnitId, instance: Option<&Instance>) -> bool {
        let Some(instance) = instance else { return true };
        let wanted = self.desired.spec.as_ref().and_then(|spec| spec.container(unit));
        let found = self.seen.containers.iter().find(|container| container.id == instance.id);
        let is_ending = self.tracks.get(unit).is_some_and(|track| track.ending.as_ref() == Some(instance));
        !is_ending && found.zip(wanted).is_some_and(|(found, wanted)| found.digest == wanted.digest())
    }

    pub(super) fn probed(&mut self, unit: UnitId, instance: Option<&Instance>, probe: &Probe) {
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
        if is_ready && unit == UnitId::Sql {
            self.remember_password();
        }
        self.judge_refusal(unit, probe);
    }

    /// A refused password and an unknown host are believed once nothing moves any more; a suspect database at once.
    pub(super) fn judge_refusal(&mut self, unit: UnitId, probe: &Probe) {
        let (now, timing) = (self.now(), self.timing());
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
            Probe::Alive(why) if why.starts_with(sql::SUSPECT) => (Cause::DatabaseSuspect, why.clone()),
            Probe::Ready | Probe::Alive(_) | Probe::Refused(_) | Probe::Failure(_) | Probe::Unknown(_) => return,
        };
        track.unread.clone_from(&track.instance);
        self.unit_failed(unit, cause::Failure { cause, detail, lines: Vec::new(), code: None });
    }
}
