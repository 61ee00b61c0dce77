//! The driver's judgement: what a failure, an ended run or a probe means for a unit, and what is remembered of it.

use std::time::Duration;

use super::driver::Driver;
use super::event::Outcome;
use crate::engine::EngineError;
use crate::reconcile::Action;
use crate::reconcile::Cause;
use crate::reconcile::action::Subject;
use crate::reconcile::cause;
use crate::reconcile::cause::Evidence;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::reconcile::track::Blocked;
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
        if error.is_unreachable() {
            let retry_at = now.after(UNKNOWN_RETRY);
            self.tracks.blocked.insert(subject, Blocked { failure, failures: 1, retry_at });
            return;
        }
        self.journal.write(&subject.to_string(), &format!("{} failed: {text}", action.verb()));
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

    pub(super) fn examined(&mut self, unit: UnitId, instance: &Instance, outcome: &Outcome) {
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
        self.judge_refusal(unit, probe);
    }

    /// A refused password and a suspect database are believed once nothing moves any more.
    pub(super) fn judge_refusal(&mut self, unit: UnitId, probe: &Probe) {
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
}
