//! Carries out one action of a plan. No choice is left: which container, which grace, which image
//! is in the action.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::message::ActionInput;
use crate::daemon::places;
use crate::daemon::ports;
use crate::daemon::tasks::node_tasks as tasks;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::logs::Span;
use crate::octopus::ApiFailure;
use crate::octopus::drain::Wanted;
use crate::reconcile::Action;
use crate::reconcile::Cause;
use crate::reconcile::action::Doubt;
use crate::reconcile::action::Outcome;
use crate::reconcile::action::Trouble;
use crate::reconcile::action::TroubleKind;
use crate::reconcile::cause;
use crate::reconcile::observed::Instance;
use crate::spec::ContainerSpec;
use crate::spec::DatabaseTarget;
use crate::spec::Port;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::UnitId;
use crate::sql;
use crate::standin::image;
use crate::standin::image::Kind;

/// How many of the last log lines a diagnosis reads.
const LAST_LINES: u32 = 60;
/// How long SQL Server may take to accept the request to shut down.
const SHUTDOWN_REQUEST: Duration = Duration::from_secs(10);

/// What carrying out an action needs besides the action.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct ActionContext {
    /// The engine.
    pub(in crate::daemon) engine: Engine,
    /// What the core knows.
    pub(in crate::daemon) input: ActionInput,
    /// The process environment, for `docker login`'s credentials.
    pub(in crate::daemon) env: Arc<BTreeMap<String, String>>,
}

/// Why an attempt failed: the engine's error, or what was found without asking for the action.
pub(super) enum Failed {
    Engine(EngineError),
    Known(Trouble),
}

impl Failed {
    pub(super) fn known(kind: TroubleKind, words: String) -> Self {
        Self::Known(Trouble {
            kind,
            words,
            doubt: Doubt::Refused,
        })
    }
}

/// Whether the engine keeps a network or a volume because a container uses it.
fn is_in_use(action: &Action, error: &EngineError) -> bool {
    let removes = matches!(action, Action::RemoveNetwork(_) | Action::RemoveVolume(_));
    removes
        && matches!(
            error,
            EngineError::Refused {
                status: 403 | 409,
                ..
            }
        )
}

impl From<String> for Failed {
    fn from(words: String) -> Self {
        Self::Known(Trouble::refused(words))
    }
}

impl From<ApiFailure> for Failed {
    fn from(failure: ApiFailure) -> Self {
        let doubt = if failure.may_still_happen {
            Doubt::MayStillHappen
        } else {
            Doubt::Refused
        };
        Self::Known(Trouble::engine(failure.words, doubt))
    }
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl ActionContext {
    /// Does it.
    pub(in crate::daemon) async fn carry_out(&self, action: &Action) -> Result<Outcome, Trouble> {
        Err(match self.attempt(action).await {
            Ok(outcome) => return Ok(outcome),
            Err(Failed::Known(trouble)) => trouble,
            Err(Failed::Engine(error)) if is_in_use(action, &error) => Trouble {
                kind: TroubleKind::InUse,
                ..Trouble::refused(error.to_string())
            },
            Err(Failed::Engine(error)) => {
                let doubt = match &error {
                    EngineError::TimedOut { .. } => Doubt::MayStillHappen,
                    other if other.is_unreachable() => Doubt::Unknown,
                    _ => Doubt::Refused,
                };
                Trouble::engine(self.words_of(action, &error).await, doubt)
            }
        })
    }

    /// The engine says that a port is taken, and not by whom.
    async fn words_of(&self, action: &Action, error: &EngineError) -> String {
        let words = error.to_string();
        let Action::Start(unit, _) = action else {
            return words;
        };
        if cause::of_words(&words) != Some(Cause::PortTaken) {
            return words;
        }
        let spec = self.input.spec.as_ref();
        let wanted = spec.and_then(|spec| spec.container(*unit));
        for port in wanted.into_iter().flat_map(|wanted| &wanted.ports) {
            if let Some(holder) = self.holder_of(port).await {
                return format!("{words}; {holder} has it");
            }
        }
        words
    }

    /// Who has a port: the container that publishes it, for which a process of the engine's listens
    /// here, else a process of this host.
    async fn holder_of(&self, port: &Port) -> Option<String> {
        let held = self.engine.port_holder(port.host_ip, "tcp", port.host);
        match held.await {
            Ok(Some(name)) => Some(format!("container {name}")),
            Ok(None) | Err(_) if self.engine.endpoint.is_local() => ports::known_holder(port.host),
            Ok(None) | Err(_) => None,
        }
    }

    async fn attempt(&self, action: &Action) -> Result<Outcome, Failed> {
        let engine = &self.engine;
        match (action, &self.input.spec) {
            (Action::Examine(_, instance), _) => return Ok(self.examine(instance).await?),
            (
                Action::Drain {
                    unit,
                    instance,
                    wait,
                    ..
                },
                spec,
            ) => {
                let node = spec.as_ref().and_then(|spec| spec.container(*unit));
                let wanted = Wanted::Drained(*wait);
                tasks::settle(engine, &instance.id, node, wanted).await?;
            }
            (Action::Undrain(unit, instance), spec) => {
                let node = spec.as_ref().and_then(|spec| spec.container(*unit));
                tasks::settle(engine, &instance.id, node, Wanted::Working).await?;
            }
            (Action::TakeOff { node, by }, Some(spec)) => tasks::take_off(spec, node, *by).await?,
            (Action::Retire { unit, from, volume }, Some(spec)) => {
                self.retire(spec, *unit, from.as_ref(), volume.as_deref())
                    .await?;
            }
            (Action::Start(unit, id), spec) => {
                self.refuse_company(*unit, spec.as_ref()).await?;
                self.refuse_lost_data(*unit, spec.as_ref()).await?;
                engine.start_container(id).await?;
            }
            (
                Action::Stop {
                    unit,
                    instance,
                    grace,
                    repeat,
                    ..
                },
                _,
            ) => self.stop(*unit, instance, *grace, *repeat).await?,
            (Action::Kill(_, instance), _) => engine.kill_container(&instance.id).await?,
            (Action::Remove(_, id), _) => engine.remove_container(id).await?,
            (Action::RemoveNetwork(id), _) => engine.remove_network(id).await?,
            (Action::RemoveVolume(name), _) => engine.remove_volume(name).await?,
            (Action::DisarmRestartPolicy(_, id), _) => engine.disarm(id).await?,
            (Action::Pull(image), Some(spec)) => self.pull(spec, image).await?,
            (Action::CreateNetwork, Some(spec)) => engine.create_network(spec).await?,
            (Action::CreateVolume(name), Some(spec)) => engine.create_volume(spec, name).await?,
            (Action::Create(unit), Some(spec)) => self.create(spec, *unit).await?,
            (Action::Connect(unit, id), Some(spec)) => {
                if let (Some(wanted), Some(network)) = (spec.container(*unit), &self.input.network)
                {
                    engine.connect_network(network, id, wanted).await?;
                }
            }
            (
                Action::Pull(_)
                | Action::CreateNetwork
                | Action::CreateVolume(_)
                | Action::Create(_)
                | Action::Connect(..)
                | Action::TakeOff { .. }
                | Action::Retire { .. },
                None,
            ) => {}
        }
        Ok(Outcome::default())
    }

    /// Two SQL Servers on one volume destroy it, so one that somebody else started meanwhile is
    /// looked for each time.
    async fn refuse_company(&self, unit: UnitId, spec: Option<&StackSpec>) -> Result<(), Failed> {
        let Some(spec) = spec.filter(|_| unit == UnitId::Sql) else {
            return Ok(());
        };
        let Some(data) = spec.data() else {
            return Ok(());
        };
        let users = self
            .engine
            .foreign_users(&spec.project, data.source())
            .await?;
        if users.is_empty() {
            return Ok(());
        }
        let words = format!("the data ({data}) is mounted by {}", users.join(", "));
        Err(Failed::known(TroubleKind::VolumeInUse, words))
    }

    /// A tag that was moved since the last `up` must not slip in another version next to the one
    /// that runs.
    async fn create(&self, spec: &StackSpec, unit: UnitId) -> Result<(), Failed> {
        let (Some(wanted), Some(network)) = (spec.container(unit), &self.input.network) else {
            return Ok(());
        };
        self.refuse_lost_places(wanted).await?;
        self.refuse_lost_data(unit, Some(spec)).await?;
        if unit.is_tentacle() {
            self.provide_for_tentacle(spec, wanted).await?;
        }
        let image = self.input.moved.get(&wanted.image).unwrap_or(&wanted.image);
        let made = self.engine.create_container(spec, wanted, network, image);
        Ok(made.await?)
    }

    /// An empty directory where the data was is a disk that is not mounted: SQL Server would begin a
    /// new database beside it, and Octopus Server fill it.
    async fn refuse_lost_data(&self, unit: UnitId, spec: Option<&StackSpec>) -> Result<(), Failed> {
        let is_at_risk = unit.is_database() && self.input.had_data;
        let data = spec.filter(|_| is_at_risk).and_then(StackSpec::data);
        let Some(Storage::Directory(path)) = data else {
            return Ok(());
        };
        if !self.engine.endpoint.is_local() || !places::is_empty_or_gone(path).await {
            return Ok(());
        }
        let words =
            format!("there is nothing in {path}, where the database was; is its disk mounted?");
        Err(Failed::known(TroubleKind::PlaceGone, words))
    }

    /// The engine makes a new, empty volume in the place of one that is gone. A directory that is
    /// gone it refuses itself.
    async fn refuse_lost_places(&self, wanted: &ContainerSpec) -> Result<(), Failed> {
        let extra = wanted.extra_mounts.iter().map(|extra| &extra.source);
        for storage in wanted.mounts.values().chain(extra) {
            let Storage::Theirs(name) = storage else {
                continue;
            };
            if self.engine.volume(name.as_str()).await?.is_none() {
                let words = format!("there is no volume {name}");
                return Err(Failed::known(TroubleKind::PlaceGone, words));
            }
        }
        Ok(())
    }

    /// A demo's images are in no registry: they are made of this program, as `up --demo` made them.
    async fn make_standin(&self, spec: &StackSpec, reference: &str) -> Result<(), Failed> {
        let is_sql = spec.sql.as_ref().is_some_and(|sql| sql.image == reference);
        let is_tentacle = spec.tentacles.iter().any(|one| one.image == reference);
        let kind = match () {
            () if is_sql => Kind::Sql,
            () if is_tentacle => Kind::Tentacle,
            () => Kind::Octopus,
        };
        let owned = reference.to_owned();
        let making = tokio::task::spawn_blocking(move || image::of_this_program(&owned, kind));
        let archive = match making.await {
            Ok(Ok(archive)) => archive,
            Ok(Err(error)) => return Err(format!("make the image {reference}: {error}").into()),
            Err(error) => return Err(format!("make the image {reference}: {error}").into()),
        };
        Ok(self.engine.load(archive).await?)
    }

    pub(super) async fn pull(&self, spec: &StackSpec, image: &str) -> Result<(), Failed> {
        if spec.demo {
            return self.make_standin(spec, image).await;
        }
        if spec.pull == crate::config::Pull::Never {
            let words = format!("no such image: {image}, and PULL=never");
            return Err(Failed::known(TroubleKind::MayNotPull, words));
        }
        self.engine
            .pull(image, &self.env, |step| {
                tracing::debug!(image, step, "pulling");
            })
            .await?;
        Ok(())
    }

    /// Today's SQL Server images do not hand SIGTERM on to the server (mssql-docker issue 968), so
    /// it is asked in T-SQL first.
    async fn stop(
        &self,
        unit: UnitId,
        instance: &Instance,
        grace: Duration,
        repeat: Option<Duration>,
    ) -> Result<(), EngineError> {
        if !unit.is_database() {
            let stopping = self.engine.stop_container(&instance.id, grace);
            return match repeat {
                Some(every) => self.signal_until(stopping, &instance.id, every).await,
                None => stopping.await,
            };
        }
        let begun = tokio::time::Instant::now();
        if self.ask_to_shut_down(instance, grace).await {
            self.wait_for_exit(instance, grace).await?;
        }
        let rest = grace.saturating_sub(begun.elapsed());
        self.engine.stop_container(&instance.id, rest).await
    }

    /// Asks the server where it is, not where the configuration would have it, and as `sa`: no
    /// other login need be allowed to. True when it shuts down.
    async fn ask_to_shut_down(&self, instance: &Instance, grace: Duration) -> bool {
        let Some(found) = self.engine.database_of(&instance.id).await else {
            tracing::warn!("SQL Server publishes no port that SHUTDOWN could be sent to");
            return false;
        };
        let mut passwords = self.input.sa_passwords.clone();
        passwords.push(found.password.clone());
        passwords.dedup();
        for password in passwords {
            let target = DatabaseTarget {
                password,
                ..found.clone()
            };
            match sql::shutdown(&target, SHUTDOWN_REQUEST.min(grace)).await {
                Ok(()) => return true,
                Err(sql::SqlError::Server {
                    code: sql::LOGIN_FAILED,
                    ..
                }) => {}
                Err(error) => {
                    tracing::warn!(%error, "SQL Server did not take SHUTDOWN; it gets SIGTERM");
                    return false;
                }
            }
        }
        tracing::warn!("SQL Server refuses every known password of sa; it gets SIGTERM");
        false
    }

    /// Sends SIGTERM again and again until the engine has ended the container: the first one may
    /// have come before the process could take it.
    async fn signal_until(
        &self,
        stopping: impl Future<Output = Result<(), EngineError>>,
        id: &str,
        every: Duration,
    ) -> Result<(), EngineError> {
        tokio::pin!(stopping);
        loop {
            // Cancel-safe: the call to the engine goes on in the next round.
            match tokio::time::timeout(every, &mut stopping).await {
                Ok(result) => return result,
                Err(_) => {
                    if let Err(error) = self.engine.signal_container(id, "SIGTERM").await {
                        tracing::debug!(%error, "SIGTERM was not sent again");
                    }
                }
            }
        }
    }

    async fn wait_for_exit(&self, instance: &Instance, grace: Duration) -> Result<(), EngineError> {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        let deadline = tokio::time::Instant::now() + grace;
        while tokio::time::Instant::now() < deadline {
            match self.engine.inspect(&instance.id).await? {
                Some(container) if container.is_running() => tokio::time::sleep(LOOK_EVERY).await,
                Some(_) | None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn examine(&self, instance: &Instance) -> Result<Outcome, EngineError> {
        use crate::reconcile::observed::Run;
        let exit = match self
            .engine
            .inspect(&instance.id)
            .await?
            .map(|container| container.run)
        {
            Some(Run::Exited {
                code, oom, error, ..
            }) => Some((code, oom, error)),
            Some(Run::Created | Run::Running { .. } | Run::Paused { .. } | Run::Removing)
            | None => None,
        };
        // Another host's clock may differ, and a run that we did not start has no such time.
        let asked = if self.engine.endpoint.is_local() {
            self.input.asked
        } else {
            Span::default()
        };
        let lines = self
            .engine
            .last_lines_within(&instance.id, LAST_LINES, asked)
            .await;
        let lines = match lines {
            // A log that cannot be read does not keep anybody from being started again.
            Err(error) if !error.is_unreachable() => {
                tracing::warn!(%error, "the log of an ended run cannot be read");
                Vec::new()
            }
            other => other?,
        };
        Ok(Outcome { lines, exit })
    }
}
