//! The driver's hands: starts the actions of a plan as tasks, and takes in how they ended.

use super::driver::Driver;
use super::effects::Means;
use super::event::Event;
use super::event::Outcome;
use crate::engine::EngineError;
use crate::reconcile::Action;
use crate::reconcile::action::Subject;
use crate::reconcile::cause;
use crate::spec::DatabaseTarget;
use crate::spec::UnitId;

impl Driver {
    pub(super) fn start(&mut self, action: Action) {
        let Some(engine) = self.engine.clone() else { return };
        let now = self.now();
        let subject = match &action {
            Action::CreateVolume(key) => Subject::Volume(self.volume_name(key)),
            other => other.subject(),
        };
        if let Action::Stop { unit, instance, why, cause, .. } = &action {
            self.tracks.of(*unit).ending = Some(instance.clone());
            self.journal.write(&unit.to_string(), &format!("stopping: {why}"));
            if let Some(cause) = cause {
                let detail = self.tracks.of(*unit).health.last_problem.clone().unwrap_or_default();
                self.tracks.of(*unit).unread = Some(instance.clone());
                self.unit_failed(*unit, cause::Failure { cause: *cause, detail, lines: Vec::new(), code: None });
            }
        }
        tracing::info!(subject = subject.to_string(), "{}", action.verb());
        self.tracks.busy.insert(subject, (action.verb(), now));
        let means = Means {
            engine,
            spec: self.desired.spec.clone(),
            database: self.database(),
            network: self.seen.networks.keys().next().cloned(),
            env: self.env.clone(),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let means = with_database(means, &action).await;
            let result = means.carry_out(&action).await;
            let _ = events.send(Event::Done(action, result)).await;
        });
    }

    pub(super) fn volume_name(&self, key: &str) -> String {
        let name = self.desired.spec.as_ref().and_then(|spec| spec.volumes.get(key));
        name.cloned().unwrap_or_else(|| key.to_owned())
    }

    pub(super) fn database(&self) -> Option<DatabaseTarget> {
        self.desired.spec.as_ref().filter(|spec| spec.sql.is_some()).map(|spec| spec.database.clone())
    }

    pub(super) fn done(&mut self, action: Action, result: Result<Outcome, EngineError>) {
        let subject = match &action {
            Action::CreateVolume(key) => Subject::Volume(self.volume_name(key)),
            other => other.subject(),
        };
        self.tracks.busy.remove(&subject);
        match &action {
            Action::Start(_, id)
            | Action::Remove(_, id)
            | Action::Connect(_, id)
            | Action::DisarmRestartPolicy(_, id) => {
                self.memory.forget_container(id);
            }
            Action::Stop { instance, .. } | Action::Examine(_, instance) => self.memory.forget_container(&instance.id),
            Action::CreateNetwork | Action::CreateVolume(_) | Action::RemoveNetwork(_) | Action::RemoveVolume(_) => {
                self.memory.forget_infrastructure();
            }
            Action::Pull(_) | Action::Create(_) => {}
        }
        match result {
            Ok(outcome) => {
                self.tracks.blocked.remove(&subject);
                self.succeeded(&action, &outcome);
            }
            Err(error) => self.doubtful.push((action, error)),
        }
    }

    pub(super) fn succeeded(&mut self, action: &Action, outcome: &Outcome) {
        match action {
            Action::Start(unit, _) => {
                let track = self.tracks.of(*unit);
                if track.failure.is_some() {
                    track.restarts = track.restarts.saturating_add(1);
                }
                self.journal.write(&unit.to_string(), "started");
                if *unit != UnitId::Sql {
                    self.remember_version();
                }
            }
            Action::Examine(unit, instance) => self.examined(*unit, instance, outcome),
            Action::Create(unit) => self.journal.write(&unit.to_string(), "created"),
            Action::Remove(unit, _) => self.journal.write(&unit.to_string(), "removed"),
            Action::Stop { unit, .. } => self.journal.write(&unit.to_string(), "stopped"),
            Action::Connect(unit, _) => self.journal.write(&unit.to_string(), "attached to the network again"),
            Action::DisarmRestartPolicy(unit, _) => {
                self.journal.write(&unit.to_string(), "the engine's restart policy was set back to no");
            }
            Action::Pull(_)
            | Action::CreateNetwork
            | Action::CreateVolume(_)
            | Action::RemoveNetwork(_)
            | Action::RemoveVolume(_) => {}
        }
    }
}

/// Without an applied configuration, how to reach SQL Server is read off its own container.
async fn with_database(mut means: Means, action: &Action) -> Means {
    if let (Action::Stop { unit: UnitId::Sql, instance, .. }, None) = (action, &means.database) {
        means.database = means.engine.database_of(&instance.id).await;
    }
    means
}
