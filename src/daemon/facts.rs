//! Gathers what must be known before a configuration is admitted: questions to the engine, to the
//! running server, to the host's ports. It runs as a task, so that a slow answer holds up no
//! supervision.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::admit::Facts;
use super::message::Denied;
use super::ports;
use crate::config::Secret;
use crate::config::project::ProjectName;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::reconcile::Observed;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::sql;

/// How long a question to a database may take when a request waits for it.
const DATABASE_LIMIT: Duration = Duration::from_secs(3);

/// How long a request waits for an engine that does not answer: a call may break, and an engine may
/// just be starting.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);
/// How soon it is asked again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What is asked about, and what is known already.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) engine: Engine,
    pub(super) project: ProjectName,
    /// What the configuration means here, its master key aside.
    pub(super) spec: StackSpec,
    /// The engine that what is kept is about, and this one, where they differ.
    pub(super) elsewhere: Option<(String, String)>,
    pub(super) working_dir: String,
    pub(super) name_on_purpose: bool,
    pub(super) seen: Observed,
    /// The SQL Server that runs answered that it serves.
    pub(super) sql_is_ready: bool,
    /// Whether a master key is known already.
    pub(super) key_is_known: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) facts: Facts,
    /// The images of the configuration that the engine has, with their IDs.
    pub(super) images: BTreeMap<String, String>,
}

impl Question {
    /// Asks everything, and once more where an answer of the engine did not come.
    pub(super) async fn insist(&self) -> Result<Found, Denied> {
        let give_up_at = Instant::now() + ENGINE_PATIENCE;
        loop {
            match self.answer().await {
                Err(Denied::Engine(_)) if Instant::now() < give_up_at => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    async fn answer(&self) -> Result<Found, Denied> {
        let facts = self
            .facts()
            .await
            .map_err(|error| Denied::Engine(error.to_string()))?;
        let mut images = BTreeMap::new();
        for image in self.spec.images() {
            if let Ok(Some(id)) = self.engine.image_id(image).await {
                images.insert(image.to_owned(), id);
            }
        }
        Ok(Found { facts, images })
    }

    async fn facts(&self) -> Result<Facts, EngineError> {
        let (engine, spec) = (&self.engine, &self.spec);
        let mut facts = Facts {
            elsewhere: self.elsewhere.clone(),
            ..Facts::default()
        };
        let data = spec
            .volumes
            .get(crate::spec::build::SQL_DATA)
            .filter(|_| spec.sql.is_some());
        if let Some(volume) = data {
            facts.has_data = engine.has_volume(volume).await?;
            if facts.has_data {
                facts.volume_users = engine.foreign_users(&self.project, volume).await?;
            }
        } else if !self.key_is_known {
            facts.external_database = sql::has_database(&spec.database, DATABASE_LIMIT).await.ok();
        }
        let origin = engine.origin(&self.project).await?;
        facts.is_demo = origin.as_ref().map(|origin| origin.demo);
        if facts.is_demo.is_none() {
            facts.is_demo = engine.volumes_are_demo(&self.project).await?;
        }
        let elsewhere =
            origin.filter(|origin| origin.working_dir != self.working_dir && !self.name_on_purpose);
        facts.other_dir = elsewhere.map(|origin| origin.working_dir);
        facts.password_accepted = self.password_accepted().await;
        facts.running_master_key = self.running_master_key().await;
        let names: Vec<&str> = spec
            .containers()
            .map(|container| container.name.as_str())
            .collect();
        facts.foreign = engine.foreign_containers(&self.project, &names).await?;
        if engine.endpoint.is_local() {
            facts.taken = self.taken_ports().await?;
        }
        if !spec.demo {
            facts.host = engine.host().await.ok();
        }
        Ok(facts)
    }

    async fn password_accepted(&self) -> Option<bool> {
        let running = self
            .seen
            .container(UnitId::Sql)
            .filter(|container| container.is_running())?;
        // The new configuration may publish another port; the server that runs is asked where it
        // is.
        let mut target = self.engine.database_of(&running.id).await?;
        target.password = self.spec.database.password.clone();
        target.user.clone_from(&self.spec.database.user);
        match sql::login(&target, "master", DATABASE_LIMIT).await {
            Ok(_) => Some(true),
            Err(sql::SqlError::Server {
                code: sql::LOGIN_FAILED,
                ..
            }) => self.sql_is_ready.then_some(false),
            Err(_) => None,
        }
    }

    /// With the state file lost, an existing node still knows the key.
    async fn running_master_key(&self) -> Option<Secret> {
        let node = self
            .seen
            .containers
            .iter()
            .find(|container| container.unit != UnitId::Sql)?;
        let key = self
            .engine
            .environment(&node.id)
            .await
            .ok()?
            .remove("MASTER_KEY")?;
        (!key.is_empty()).then(|| Secret::new(key))
    }

    /// Ports that something else holds. Those that our own running containers publish are ours.
    async fn taken_ports(&self) -> Result<Vec<(String, u16, String)>, EngineError> {
        let published = self.engine.published_ports().await?;
        let ours: Vec<&str> = self
            .seen
            .containers
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        let mut taken = Vec::new();
        for container in self.spec.containers() {
            let key = if container.unit == UnitId::Sql {
                "SQL_PORT"
            } else {
                "OCTOPUS_PORT"
            };
            for port in &container.ports {
                let holder = published
                    .iter()
                    .find(|(_, ports)| ports.contains(&port.host));
                let holder = match holder {
                    Some((name, _)) if ours.contains(&name.as_str()) => None,
                    Some((name, _)) => Some(format!("container {name}")),
                    None => bound_elsewhere(port.host_ip, port.host),
                };
                taken.extend(holder.map(|holder| (key.to_owned(), port.host, holder)));
            }
        }
        Ok(taken)
    }
}

fn bound_elsewhere(ip: IpAddr, port: u16) -> Option<String> {
    match std::net::TcpListener::bind((ip, port)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Some(ports::holder(port)),
        Ok(_) | Err(_) => None,
    }
}
