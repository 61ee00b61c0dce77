//! The driver's hands: starts the actions of a plan as tasks, takes in how they ended, and passes
//! on what came of it.

use time::OffsetDateTime;

use super::driver::Driver;
use super::effects::Means;
use super::event::Event;
use super::guard::guarded;
use crate::engine::logs::Span;
use crate::reconcile::Action;
use crate::reconcile::News;
use crate::reconcile::action::Doubt;
use crate::reconcile::action::Trouble;
use crate::reconcile::observed::Instance;
use crate::spec::DatabaseTarget;
use crate::spec::UnitId;

/// What is noted when a demo goes on without privileges.
const UNPRIVILEGED: &str = "this host cannot run privileged containers: the demo goes on without (it needs no Docker-in-Docker)";

impl Driver {
    pub(super) fn start(&mut self, action: Action) {
        let Some(engine) = self.engine.clone() else {
            return;
        };
        let now = self.now();
        self.state.begin(&action, now);
        tracing::info!(subject = action.subject().to_string(), "{}", action.verb());
        if let Action::Start(unit, _) = &action {
            let [_, last] = self.asked.get(unit).copied().unwrap_or_default();
            self.asked
                .insert(*unit, [last, Some(OffsetDateTime::now_utc())]);
        }
        let asked = match &action {
            Action::Examine(unit, instance) => self.span_of(*unit, instance),
            _ => Span::default(),
        };
        let means = Means {
            asked,
            engine,
            spec: self.state.desired.spec.clone(),
            database: self.database(),
            network: self.state.seen.network().map(str::to_owned),
            moved: self.state.moved_images(),
            env: self.env.clone(),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let copy = action.clone();
            let work =
                guarded(async move { with_database(means, &copy).await.carry_out(&copy).await });
            let result = match work.await {
                Ok(result) => result,
                Err(words) => {
                    let _ = events.send(Event::Panicked(words.clone())).await;
                    Err(Trouble::engine(words, Doubt::Unknown))
                }
            };
            let _ = events.send(Event::Done(action, result)).await;
        });
    }

    /// When a run had the word: from the request that made it to the next one.
    fn span_of(&self, unit: UnitId, instance: &Instance) -> Span {
        let asked = self.asked.get(&unit).copied().unwrap_or_default();
        let is_earlier = |at: &OffsetDateTime| instance.began().is_none_or(|began| *at <= began);
        let mut times = asked.iter().flatten().copied();
        Span {
            since: times.clone().rfind(is_earlier),
            until: times.find(|at| !is_earlier(at)),
        }
    }

    fn database(&self) -> Option<DatabaseTarget> {
        self.state
            .desired
            .spec
            .as_ref()
            .filter(|spec| spec.sql.is_some())
            .map(|spec| spec.database.clone())
    }

    /// Makes the next look see afresh what an action worked on.
    pub(super) fn forget_what_it_touched(&mut self, action: &Action) {
        match action {
            Action::Start(_, id)
            | Action::Remove(_, id)
            | Action::Connect(_, id)
            | Action::DisarmRestartPolicy(_, id) => self.stale.containers.push(id.clone()),
            Action::Stop { instance, .. }
            | Action::Kill(_, instance)
            | Action::Examine(_, instance) => {
                self.stale.containers.push(instance.id.clone());
            }
            Action::CreateNetwork
            | Action::CreateVolume(_)
            | Action::RemoveNetwork(_)
            | Action::RemoveVolume(_) => {
                self.stale.infrastructure = true;
            }
            Action::Pull(_) => self.stale.images = true,
            Action::Create(_) => {}
        }
    }

    /// Passes on what the state found: to the history, to the state file, to a prober.
    pub(super) fn pass_on_news(&mut self) {
        for news in self.state.take_news() {
            match news {
                News::Told(subject, what) => {
                    tracing::info!(subject, "{what}");
                    self.journal.write(&subject, &what);
                }
                News::VersionRan => self.remember_version(),
                News::PasswordAccepted => self.remember_password(),
                News::Unprivileged => {
                    self.journal.write("", UNPRIVILEGED);
                    self.notes.push(UNPRIVILEGED.to_owned());
                    self.stored.unprivileged = true;
                    self.stored.spec.clone_from(&self.state.desired.spec);
                    self.save_later();
                }
                News::Ask(unit) => self.nudge(unit),
            }
        }
        if self.stored.images != self.state.desired.images {
            self.stored.images.clone_from(&self.state.desired.images);
            self.save_later();
        }
    }

    /// Notes the version whose nodes run, so that an older one is refused later.
    fn remember_version(&mut self) {
        let tag = self
            .stored
            .config
            .as_ref()
            .map(|config| config.octopus.tag.clone());
        if tag.is_some() && self.stored.ran_tag != tag {
            self.stored.ran_tag = tag;
            self.save_later();
        }
    }

    /// Notes the password that the data proved to know, so that another one is refused later.
    fn remember_password(&mut self) {
        let sql = self
            .stored
            .config
            .as_ref()
            .and_then(|config| config.sql.as_ref());
        let password = sql.map(|sql| sql.sa_password.clone());
        if password.is_some() && self.stored.sa_password != password {
            self.stored.sa_password = password;
            self.save_later();
        }
    }
}

/// Without an applied configuration, how to reach SQL Server is read off its own container.
async fn with_database(mut means: Means, action: &Action) -> Means {
    if let (
        Action::Stop {
            unit: UnitId::Sql,
            instance,
            ..
        },
        None,
    ) = (action, &means.database)
    {
        means.database = means.engine.database_of(&instance.id).await;
    }
    means
}
