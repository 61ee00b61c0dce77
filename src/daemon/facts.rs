//! Gathers what must be known before a configuration is admitted: questions to the engine, to the
//! running server, to the host's ports, to what is kept of other projects. It runs as a task, so
//! that a slow answer holds up no supervision.

mod held_ports;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use held_ports::held_ports;
use held_ports::is_held_unseen;

use super::admit::Claims;
use super::admit::Directory;
use super::admit::Facts;
use super::admit::Known;
use super::admit::Login;
use super::admit::NodeKey;
use super::admit::Online;
use super::admit::Owners;
use super::admit::Saving;
use super::admit::Sibling;
use super::admit::foreign;
use super::admit::has_data;
use super::admit::has_directory;
use super::admit::is_our_container;
use super::admit::kinship;
use super::admit::missing_networks;
use super::admit::volume_users;
use super::back_up;
use super::before_upgrade;
use super::message::Denied;
use super::message::GivingWay;
use super::places;
use super::store;
use super::store::Data;
use crate::config::Config;
use crate::config::Pull;
use crate::config::Secret;
use crate::config::project::ProjectName;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::inventory::AnyContainer;
use crate::engine::inventory::Inventory;
use crate::engine::inventory::Thing;
use crate::engine::ours;
use crate::reconcile::Observed;
use crate::reconcile::observed::Stranger;
use crate::spec::ContainerSpec;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::labels;
use crate::sql;
use crate::web::settings::CertificateFiles;
use crate::web::tls;
use crate::web::tls::BadCertificate;

/// How long a question to a database may take when a request waits for it.
const DATABASE_LIMIT: Duration = Duration::from_secs(3);

/// How long the engine's list may be behind the ports of what starts and ends.
const LIST_LAGS: Duration = Duration::from_secs(1);
/// How often it is asked for again meanwhile.
const LIST_AGAIN: Duration = Duration::from_millis(100);
/// How long it may take to see whose directories are, in a handful of calls.
const OWNERS_LIMIT: Duration = Duration::from_secs(5);

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
    pub(super) config: Config,
    /// What the configuration means here, its master key aside.
    pub(super) spec: StackSpec,
    /// The engine that what is kept is about, and this one, where they differ.
    pub(super) elsewhere: Option<(String, String)>,
    pub(super) name_on_purpose: bool,
    pub(super) seen: Observed,
    /// The units that serve, as far as they were asked.
    pub(super) ready: BTreeSet<UnitId>,
    /// The data that what runs was applied with.
    pub(super) applied_data: Option<Data>,
    /// Where what is kept of each project is.
    pub(super) state_root: PathBuf,
    /// What gives way before this is applied.
    pub(super) giving_way: Option<GivingWay>,
    /// Where this project's own front door listens.
    pub(super) own_listeners: Vec<SocketAddr>,
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

    /// What the engine has. A port of a container of ours that is just starting or ending is no
    /// other process's: the list is asked for again until it shows who has it.
    async fn inventory(&self) -> Result<Inventory, EngineError> {
        let until = Instant::now() + LIST_LAGS;
        loop {
            let mut all = self.engine.inventory().await?;
            if let Some(leaving) = &self.giving_way {
                give_way(&mut all, leaving, &self.spec);
            }
            let may_be_ours = self.engine.endpoint.is_local()
                && !self.seen.containers.is_empty()
                && is_held_unseen(
                    &self.config,
                    &self.project,
                    &all,
                    &self.seen,
                    &self.own_listeners,
                );
            if !may_be_ours || Instant::now() >= until {
                return Ok(all);
            }
            tokio::time::sleep(LIST_AGAIN).await;
        }
    }

    async fn facts(&self) -> Result<Facts, EngineError> {
        let all = self.inventory().await?;
        let strangers = &self.seen.strangers;
        let mut facts = of_inventory(&self.spec, self.name_on_purpose, &all, strangers);
        facts.elsewhere.clone_from(&self.elsewhere);
        facts.siblings = self.siblings(&all).await;
        if self.config.sql.is_some() {
            facts.sa_login = self.sa_login().await;
        } else {
            (facts.external_login, facts.external_database) = external(&self.spec).await;
        }
        if self.engine.endpoint.is_local() {
            facts.ports = held_ports(
                &self.config,
                &self.project,
                &all,
                &self.seen,
                &self.own_listeners,
            );
        }
        facts.ports.certificate = bad_certificate(&self.spec);
        facts.host = self.engine.host().await.ok();
        let maps_users = facts.host.as_ref().is_some_and(|host| host.maps_users);
        let found = places::look(&self.engine, &self.config, &self.spec, maps_users).await?;
        facts.ports.places = found.problems;
        facts
            .ports
            .places
            .extend(missing_networks(&self.spec, &all));
        if let Some(look) = found.data {
            facts.has_data = has_data(look);
        }
        facts.has_data |= self.giving_way.is_some();
        // What runs says something about the data only where it runs on that data.
        let same_data = self
            .applied_data
            .as_ref()
            .is_none_or(|data| *data == Data::of(&self.spec));
        if same_data {
            facts.node.key = self.node_key().await;
        }
        if self.looks_like_an_upgrade() {
            facts.versions.saving = self.saving(&facts).await;
            facts.versions.online = self.online().await;
        }
        if !self.spec.demo {
            facts.versions.image = self.image_version().await?;
            facts.versions.database = self.installed_versions(&facts).await;
            if same_data {
                facts.versions.node = self.node_version().await?;
            }
        }
        facts.node.owners = tokio::time::timeout(OWNERS_LIMIT, self.owners(maps_users))
            .await
            .unwrap_or_default();
        Ok(facts)
    }

    /// Whether a node is there that was made of another image.
    fn looks_like_an_upgrade(&self) -> bool {
        let wanted = self.spec.nodes.first();
        let mut nodes = self.seen.containers.iter();
        let node = nodes.find(|one| one.unit.is_server());
        let both = wanted.zip(node);
        both.is_some_and(|(wanted, node)| wanted.image != node.image)
    }

    async fn saving(&self, facts: &Facts) -> Option<Saving> {
        self.config.sql.as_ref()?;
        let database = match facts.sa_login {
            Login::Accepted => self.running_database().await,
            Login::Refused | Login::Unknown => None,
        };
        let project = self.project.clone();
        let state = self.state_root.join(project.as_str());
        let directory = back_up::before_upgrades_in(&state);
        Some(before_upgrade::saving(directory, project, database.as_ref()).await)
    }

    async fn online(&self) -> Vec<Online> {
        let key = self.config.octopus.admin_api_key.as_ref();
        let mut serving = self.spec.nodes.iter();
        let node = serving.find(|node| self.ready.contains(&node.unit));
        match node.and_then(ContainerSpec::host_address).zip(key) {
            Some((address, key)) => before_upgrade::online(address, key).await,
            None => Vec::new(),
        }
    }

    async fn siblings(&self, all: &Inventory) -> Vec<Sibling> {
        let (root, project) = (self.state_root.clone(), self.project.to_string());
        let reading = tokio::task::spawn_blocking(move || {
            let others = store::others(&root, &project);
            let with_directory = |(project, stored): (String, store::Stored)| {
                let spec = stored.spec.as_ref();
                let has = spec.is_none_or(|spec| has_directory(&spec.working_dir));
                (project, stored, has)
            };
            others.into_iter().map(with_directory).collect::<Vec<_>>()
        });
        let others = reading.await.unwrap_or_default();
        let kin = others
            .iter()
            .filter_map(|(project, stored, has_directory)| {
                let known = Known {
                    project,
                    stored,
                    has_directory: *has_directory,
                };
                kinship(known, &self.config, &self.spec, all)
            });
        kin.collect()
    }

    /// What the SQL Server that runs says of the configured `sa` password. The new configuration
    /// may publish another port, and another login may be Octopus Server's: `sa` is asked where the
    /// server is.
    async fn sa_login(&self) -> Login {
        let Some(target) = self.running_database().await else {
            return Login::Unknown;
        };
        match sql::login(&target, "master", DATABASE_LIMIT).await {
            Ok(_) => Login::Accepted,
            // One that is still starting refuses right passwords too.
            Err(error) if is_refusal(&error) && self.ready.contains(&UnitId::Sql) => Login::Refused,
            Err(_) => Login::Unknown,
        }
    }

    /// The database of the SQL Server that runs, asked as `sa` with the configured password.
    async fn running_database(&self) -> Option<DatabaseTarget> {
        let running = self.seen.container(UnitId::Sql)?;
        let sql = self.config.sql.as_ref()?;
        if !running.is_running() {
            return None;
        }
        let target = self.engine.database_of(&running.id).await?;
        Some(DatabaseTarget {
            password: sql.sa_password.clone(),
            database: self.config.database.name.clone(),
            ..target
        })
    }

    /// With the state file lost, an existing node still knows the key; one that serves knows the
    /// right one.
    async fn node_key(&self) -> Option<NodeKey> {
        let mut nodes = self
            .seen
            .containers
            .iter()
            .filter(|container| container.unit != UnitId::Sql);
        let first = nodes.clone().next()?;
        let serves = |unit| self.ready.contains(&unit);
        let node = nodes.find(|node| serves(node.unit)).unwrap_or(first);
        let mut environment = self.engine.environment(&node.id).await.ok()?;
        let key = environment.remove("MASTER_KEY")?;
        (!key.is_empty()).then(|| NodeKey {
            key: Secret::new(key),
            serves: serves(node.unit),
        })
    }

    /// An image that is fetched again first may be another one than the engine has.
    async fn image_version(&self) -> Result<Option<String>, EngineError> {
        match self.spec.nodes.first() {
            Some(node) if self.config.pull != Pull::Always => {
                self.engine.image_version(&node.image).await
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whose the directories are that nodes have, as one of them shows it; where there is none, as
    /// this host shows the volumes' directories, if the numbers of users are the same there. A
    /// question without an answer is no reason to refuse anything.
    async fn owners(&self, maps_users: bool) -> Owners {
        let wanted = self.spec.nodes.first().filter(|node| node.user.is_some());
        let Some(wanted) = wanted else {
            return Owners::default();
        };
        let mut nodes = self.seen.containers.iter();
        let Some(there) = nodes.find(|one| one.unit != UnitId::Sql) else {
            if maps_users || !self.engine.endpoint.is_local() {
                return Owners::default();
            }
            return places::owners(&self.engine, wanted).await;
        };
        let mut owners = Owners::default();
        if let Ok(Some(file)) = self.engine.first_entry(&there.id, "/etc/passwd").await {
            owners.passwd = String::from_utf8_lossy(&file.content).into_owned();
        }
        for path in wanted.mounts.keys() {
            if let Ok(Some(entry)) = self.engine.first_entry(&there.id, path).await {
                owners.directories.push(Directory {
                    path: path.clone(),
                    uid: entry.uid,
                    gid: entry.gid,
                    mode: entry.mode,
                });
            }
        }
        owners
    }

    /// The versions that were installed on the database, as it says itself: what is kept here may be
    /// lost, or somebody else had the database meanwhile. None where it cannot be asked now.
    async fn installed_versions(&self, facts: &Facts) -> Vec<String> {
        let target = if self.config.sql.is_none() {
            let exists = facts.external_database == Some(true);
            exists.then(|| self.spec.database.clone())
        } else if facts.sa_login == Login::Accepted {
            self.running_database().await
        } else {
            None
        };
        match target {
            Some(target) => sql::history::installed(&target, DATABASE_LIMIT)
                .await
                .unwrap_or_default(),
            None => Vec::new(),
        }
    }

    async fn node_version(&self) -> Result<Option<String>, EngineError> {
        let mut nodes = self.seen.containers.iter();
        let started = nodes.find(|one| one.unit != UnitId::Sql && one.instance().is_some());
        match started {
            Some(node) if !node.image_id.is_empty() => {
                self.engine.image_version(&node.image_id).await
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// What will be gone by then is in nobody's way: its containers count as the project's own, which
/// give back what they hold in time.
fn give_way(all: &mut Inventory, leaving: &GivingWay, spec: &StackSpec) {
    let is_leaving = |one: &&mut AnyContainer| leaving.containers.contains(&one.thing.name);
    for one in all.containers.iter_mut().filter(is_leaving) {
        one.thing.labels = [
            (labels::PROJECT, spec.project.as_str()),
            (labels::WORKING_DIR, &spec.working_dir),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    }
    all.networks
        .retain(|network| leaving.network.as_ref() != Some(&network.name));
}

fn is_refusal(error: &sql::SqlError) -> bool {
    matches!(
        error,
        sql::SqlError::Server {
            code: sql::LOGIN_FAILED,
            ..
        }
    )
}

/// What the external server says of the configured login, and whether it has the database. A login
/// may be one of the database alone, which `master` does not let in.
async fn external(spec: &StackSpec) -> (Login, Option<bool>) {
    let target = &spec.database;
    let refused = match sql::has_database(target, DATABASE_LIMIT).await {
        Ok(exists) => return (Login::Accepted, Some(exists)),
        Err(sql::SqlError::Server { code, .. }) => code == sql::LOGIN_FAILED,
        Err(_) => return (Login::Unknown, None),
    };
    match sql::login(target, &target.database, DATABASE_LIMIT).await {
        Ok(_) => (Login::Accepted, Some(true)),
        Err(error) if refused && is_refusal(&error) => (Login::Refused, None),
        Err(_) => (Login::Unknown, None),
    }
}

/// What the things of an engine say of a desired state.
fn of_inventory(
    spec: &StackSpec,
    name_on_purpose: bool,
    all: &Inventory,
    strangers: &BTreeSet<Stranger>,
) -> Facts {
    let project = spec.project.as_str();
    let is_demo = |labelled: &BTreeMap<String, String>| {
        labelled.get(labels::DEMO).map(String::as_str) == Some("Y")
    };
    let mut containers = all.containers.iter().map(|one| &one.thing);
    let container = containers.find(|thing| is_our_container(thing, project, strangers));
    let container = container.map(|thing| &thing.labels);
    let is_ours = |one: &&Thing| ours::is_volume(&spec.project, &one.name, &one.labels);
    let volume = all.volumes.iter().find(is_ours).map(|one| &one.labels);
    let made_in = container.map(|labelled| labelled.get(labels::WORKING_DIR).cloned());
    let made_in = made_in.map(Option::unwrap_or_default);
    Facts {
        has_data: Data::of(spec).is_in(all),
        is_demo: container.or(volume).map(is_demo),
        other_dir: made_in.filter(|dir| *dir != spec.working_dir && !name_on_purpose),
        foreign: foreign(spec, all),
        volume_users: volume_users(spec, all, strangers),
        claims: Claims::of(&spec.project, all),
        ..Facts::default()
    }
}

/// What is wrong with the front door's certificate, and the variable that says which it is.
fn bad_certificate(spec: &StackSpec) -> Option<(String, String)> {
    let https = spec.front_door.as_ref()?.https.as_ref()?;
    let files = CertificateFiles {
        certificate: https.certificate.clone(),
        key: https.key.clone(),
    };
    let error = tls::read(&files).and_then(|tls| tls::check(&tls)).err()?;
    let is_about_the_key = match &error {
        BadCertificate::Unreadable { path, .. } => *path == https.key.display().to_string(),
        BadCertificate::NoKey | BadCertificate::OtherKey | BadCertificate::Mismatch => true,
        BadCertificate::NoCertificate | BadCertificate::Damaged(_) => false,
    };
    let key = if is_about_the_key {
        "TLS_KEY"
    } else {
        "TLS_CERT"
    };
    Some((key.to_owned(), error.to_string()))
}

#[cfg(test)]
mod tests;
