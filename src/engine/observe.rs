//! Looks at everything of one project: what carries our labels, and the images that it needs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::future::try_join3;
use tokio::time::Instant;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::ours;
use super::shown;
use super::shown::Listed;
use super::wire;
use crate::config::project::ProjectName;
use crate::reconcile::Observed;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Run;
use crate::reconcile::observed::Stranger;
use crate::spec::Digest;
use crate::spec::labels;

/// How long one inspection may take before the container counts as silent. It takes milliseconds.
pub const INSPECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a silent container is not inspected again.
pub const SILENT_FOR: Duration = Duration::from_secs(30);

/// What an inspection showed.
enum Look {
    Container(Box<Container>),
    Gone,
    /// No answer came in time: it is not asked again for a while.
    Silent,
    /// It was refused, or its answer makes no sense.
    Strange,
}

/// What is not a container of ours.
#[derive(Clone, Debug, Default)]
struct Around {
    /// Our networks, by ID.
    networks: BTreeMap<String, String>,
    /// Our volumes.
    volumes: BTreeSet<String>,
    /// What looks like ours and is not.
    strangers: BTreeSet<Stranger>,
}

/// What was seen last, so that a look costs one call when nothing changed.
#[derive(Clone, Debug, Default)]
pub struct ObservationCache {
    /// Containers by ID, as inspected.
    containers: BTreeMap<String, Container>,
    /// Containers that had our name once: they are ours whatever they are called now.
    kept: BTreeSet<String>,
    /// The networks and volumes.
    rest: Option<Around>,
    /// Images known to be there.
    images: BTreeMap<String, String>,
    /// Containers whose inspection got no answer, and since when: they are known from the list
    /// alone for a while.
    silent: BTreeMap<String, Instant>,
}

impl ObservationCache {
    /// Forgets one container: an event spoke of it.
    pub fn forget_container(&mut self, id: &str) {
        self.containers.remove(id);
    }

    /// Forgets networks and volumes.
    pub fn forget_infrastructure(&mut self) {
        self.rest = None;
    }

    /// Forgets images.
    pub fn forget_images(&mut self) {
        self.images.clear();
    }

    /// Forgets everything: the next look is a full one.
    pub fn forget(&mut self) {
        *self = Self {
            silent: std::mem::take(&mut self.silent),
            kept: std::mem::take(&mut self.kept),
            ..Self::default()
        };
    }

    /// The IDs of containers that had our name once, for whoever keeps them over a restart.
    pub fn kept(&self) -> &BTreeSet<String> {
        &self.kept
    }

    /// Takes containers for ours whatever they are called now.
    pub fn keep(&mut self, ids: impl IntoIterator<Item = String>) {
        self.kept.extend(ids);
    }

    /// Keeps of one container what the list says, with what is known of the run that it is still
    /// in.
    fn keep_listed(&mut self, listed: &Listed) {
        let known = self.containers.get(&listed.id);
        if let Some(container) = listed_container(listed, known) {
            self.containers.insert(listed.id.clone(), container);
        }
    }

    /// Takes apart what carries our label: ours, and what only looks so.
    fn sort(&mut self, project: &ProjectName, listed: Vec<Listed>) -> (Vec<Listed>, Vec<Stranger>) {
        let present: BTreeSet<&str> = listed.iter().map(|one| one.id.as_str()).collect();
        self.kept.retain(|id| present.contains(id.as_str()));
        self.containers
            .retain(|id, _| present.contains(id.as_str()));
        self.silent
            .retain(|id, since| present.contains(id.as_str()) && since.elapsed() < SILENT_FOR);
        let (ours, others): (Vec<Listed>, Vec<Listed>) = listed
            .into_iter()
            .partition(|one| ours::is_container(project, one) || self.kept.contains(&one.id));
        self.kept.extend(ours.iter().map(|one| one.id.clone()));
        let stranger = |one: Listed| {
            Stranger::Container(match one.name() {
                "" => one.id.clone(),
                name => name.to_owned(),
            })
        };
        (ours, others.into_iter().map(stranger).collect())
    }
}

impl Engine {
    /// One look. Containers that are unknown or were forgotten are inspected; the list itself is
    /// always fresh.
    ///
    /// Only an engine that cannot list is an engine that does not answer. What it says, or does not
    /// say, about one container or one image costs that one only.
    pub async fn observe(
        &self,
        project: &ProjectName,
        images: &[String],
        cache: &mut ObservationCache,
    ) -> Result<Observed, EngineError> {
        let listed = self.labelled_containers(project).await?;
        let (listed, strangers) = cache.sort(project, listed);
        let stale: Vec<&Listed> = listed
            .iter()
            .filter(|one| is_stale(one, &cache.containers))
            .collect();
        let asked = stale
            .iter()
            .map(|one| self.inspect_unless_silent(&one.id, &cache.silent));
        let looks = join_all(asked).await;
        for (one, look) in stale.into_iter().zip(looks) {
            match look? {
                Look::Container(container) => {
                    cache.containers.insert(container.id.clone(), *container);
                }
                Look::Gone => {
                    cache.containers.remove(&one.id);
                }
                Look::Silent => {
                    let silent = cache.silent.entry(one.id.clone());
                    silent.or_insert_with(Instant::now);
                    cache.keep_listed(one);
                }
                Look::Strange => cache.keep_listed(one),
            }
        }
        if cache.rest.is_none() {
            cache.rest = Some(self.around(project).await?);
        }
        self.find_images(images, cache).await?;
        let around = cache.rest.clone().unwrap_or_default();
        let seen = Observed {
            networks: around.networks,
            volumes: around.volumes,
            images: cache.images.clone(),
            strangers: strangers.into_iter().chain(around.strangers).collect(),
            ..Observed::default()
        };
        Ok(seen.with_containers(in_start_order(cache.containers.values())))
    }

    /// Looks for images that are not known to be there. One that the engine refuses to speak of is
    /// not there: whoever needs it is told why when it is fetched.
    async fn find_images(
        &self,
        images: &[String],
        cache: &mut ObservationCache,
    ) -> Result<(), EngineError> {
        cache.images.retain(|image, _| images.contains(image));
        for image in images {
            if cache.images.contains_key(image) {
                continue;
            }
            match self.image_id(image).await {
                Ok(Some(id)) => {
                    cache.images.insert(image.clone(), id);
                }
                Ok(None) => {}
                Err(error) if error.is_about_one_thing() => {
                    tracing::warn!(%error, image, "an image cannot be looked at");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One container that hangs in the engine, or that it cannot describe, must not hide the
    /// others.
    async fn inspect_unless_silent(
        &self,
        id: &str,
        silent: &BTreeMap<String, Instant>,
    ) -> Result<Look, EngineError> {
        if silent.contains_key(id) {
            return Ok(Look::Silent);
        }
        match tokio::time::timeout(INSPECT_LIMIT, self.inspect(id)).await {
            Err(_) => Ok(Look::Silent),
            Ok(Ok(Some(container))) => Ok(Look::Container(Box::new(container))),
            Ok(Ok(None)) => Ok(Look::Gone),
            Ok(Err(error)) if error.is_about_one_thing() => {
                tracing::warn!(%error, "one container is known from the list alone");
                Ok(Look::Strange)
            }
            Ok(Err(error)) => Err(error),
        }
    }

    /// Every container that carries our label.
    pub(super) async fn labelled_containers(
        &self,
        project: &ProjectName,
    ) -> Result<Vec<Listed>, EngineError> {
        self.list_containers(true, &filter("label", &label_of(project)))
            .await
    }

    /// The containers that pass a filter, running ones or all.
    pub(super) async fn list_containers(
        &self,
        all: bool,
        filters: &str,
    ) -> Result<Vec<Listed>, EngineError> {
        let all = if all { "true" } else { "false" };
        let query = [("all", all), ("filters", filters)];
        let attempt = || "list containers".to_owned();
        let bytes = self.get(attempt, QUICK, "/containers/json", &query).await?;
        shown::entries(&bytes).ok_or_else(|| nonsense("list containers"))
    }

    async fn around(&self, project: &ProjectName) -> Result<Around, EngineError> {
        let names = filter("name", &format!("^/?{project}-"));
        let (networks, volumes, namesakes) = try_join3(
            self.labelled_networks(project),
            self.labelled_volumes(project),
            self.list_containers(true, &names),
        )
        .await?;
        let mut around = Around::default();
        for network in networks {
            if ours::is_network(project, &network.name, &network.labels) {
                around.networks.insert(network.id, network.name);
            } else {
                around.strangers.insert(Stranger::Network(network.name));
            }
        }
        for volume in volumes {
            if ours::is_lease(project, &volume.name) {
                continue;
            }
            if ours::is_volume(project, &volume.name, &volume.labels) {
                around.volumes.insert(volume.name);
            } else {
                around.strangers.insert(Stranger::Volume(volume.name));
            }
        }
        let is_foreign = |one: &Listed| {
            ours::has_our_name(project, one.name()) && !ours::carries_label(project, &one.labels)
        };
        let foreign = namesakes.iter().filter(|one| is_foreign(one));
        let names = foreign.map(|one| Stranger::Namesake(one.name().to_owned()));
        around.strangers.extend(names);
        Ok(around)
    }

    async fn labelled_networks(
        &self,
        project: &ProjectName,
    ) -> Result<Vec<shown::Network>, EngineError> {
        self.list_networks(&filter("label", &label_of(project)))
            .await
    }

    /// The networks that pass a filter.
    pub(super) async fn list_networks(
        &self,
        filters: &str,
    ) -> Result<Vec<shown::Network>, EngineError> {
        let attempt = || "list networks".to_owned();
        let query = [("filters", filters)];
        let bytes = self.get(attempt, QUICK, "/networks", &query).await?;
        shown::entries(&bytes).ok_or_else(|| nonsense("list networks"))
    }

    pub(super) async fn labelled_volumes(
        &self,
        project: &ProjectName,
    ) -> Result<Vec<shown::Volume>, EngineError> {
        self.list_volumes(&filter("label", &label_of(project)))
            .await
    }

    /// The volumes that pass a filter.
    pub(super) async fn list_volumes(
        &self,
        filters: &str,
    ) -> Result<Vec<shown::Volume>, EngineError> {
        let attempt = || "list volumes".to_owned();
        let query = [("filters", filters)];
        let bytes = self.get(attempt, QUICK, "/volumes", &query).await?;
        shown::volumes(&bytes).ok_or_else(|| nonsense("list volumes"))
    }

    /// Inspects one container; `None` when it is gone, or is not one of ours after all.
    pub async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        match self.inspected(id).await {
            Ok(answer) => container_of(answer),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn inspected(&self, id: &str) -> Result<shown::Inspected, EngineError> {
        let attempt = || format!("inspect container {id}");
        let path = format!("/containers/{}/json", wire::encoded(id));
        let bytes = self.get(attempt, QUICK, &path, &[]).await?;
        serde_json::from_slice(&bytes).map_err(|_| nonsense(&attempt()))
    }

    /// The environment of a container, for what only it remembers.
    pub async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, EngineError> {
        Ok(environment_in(&self.inspected(id).await?))
    }

    /// The first process of a container that runs, as the engine's host numbers it.
    pub async fn process_of(&self, id: &str) -> Result<Option<u32>, EngineError> {
        let pid = self.inspected(id).await?.state.pid;
        Ok(Some(pid).filter(|pid| *pid > 0))
    }

    /// How to reach the SQL Server in a container, read off its environment and its published port,
    /// or its address on a bridge of this host where it publishes none.
    pub async fn database_of(&self, id: &str) -> Option<crate::spec::DatabaseTarget> {
        const SQL: u16 = 1433;
        let answer = self.inspected(id).await.ok()?;
        let mut env = environment_in(&answer);
        let password = env.remove("MSSQL_SA_PASSWORD");
        let password = password.or_else(|| env.remove("SA_PASSWORD"))?;
        let (host, port) = address_in(&answer, SQL)?;
        Some(crate::spec::DatabaseTarget {
            host,
            port,
            user: "sa".to_owned(),
            password: crate::config::Secret::new(password),
            database: String::new(),
        })
    }

    /// Where this host reaches a port of a container: where it is published, or on its address on a
    /// bridge of this host. None while it is nowhere.
    pub async fn published_port(
        &self,
        id: &str,
        port: u16,
    ) -> Result<Option<SocketAddr>, EngineError> {
        let answer = self.inspected(id).await?;
        let found = address_in(&answer, port);
        Ok(found.and_then(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, port))))
    }

    /// A label of a container of the project that says where it was made.
    pub async fn origin(&self, project: &ProjectName) -> Result<Option<Origin>, EngineError> {
        let listed = self.labelled_containers(project).await?;
        let mut ours = listed
            .into_iter()
            .filter(|one| ours::is_container(project, one));
        Ok(ours.next().map(|mut one| Origin {
            working_dir: one.labels.remove(labels::WORKING_DIR).unwrap_or_default(),
            demo: is_demo(&one.labels),
        }))
    }

    /// Whether a volume is the project's own; none where there is none of this name.
    pub async fn is_our_volume(
        &self,
        project: &ProjectName,
        name: &str,
    ) -> Result<Option<bool>, EngineError> {
        if self.volume(name).await?.is_none() {
            return Ok(None);
        }
        let listed = self.labelled_volumes(project).await?;
        let is_it = |one: &shown::Volume| {
            one.name == name && ours::is_volume(project, &one.name, &one.labels)
        };
        Ok(Some(listed.iter().any(is_it)))
    }

    /// Whether the project's volumes belong to a demo; `None` when there are none.
    pub async fn volumes_are_demo(
        &self,
        project: &ProjectName,
    ) -> Result<Option<bool>, EngineError> {
        let listed = self.labelled_volumes(project).await?;
        let first = listed
            .iter()
            .find(|one| ours::is_volume(project, &one.name, &one.labels));
        Ok(first.map(|volume| is_demo(&volume.labels)))
    }
}

fn is_demo(found: &BTreeMap<String, String>) -> bool {
    found.get(labels::DEMO).map(String::as_str) == Some("Y")
}

fn address_in(answer: &shown::Inspected, port: u16) -> Option<(String, u16)> {
    let settings = &answer.network_settings;
    let bindings = settings.ports.get(&format!("{port}/tcp"));
    let bindings = bindings.and_then(Option::as_ref);
    let Some(binding) = bindings.and_then(|bindings| bindings.first()) else {
        let mut networks = settings.networks.values();
        let endpoint = networks.find(|endpoint| !endpoint.ip_address.is_empty())?;
        return Some((endpoint.ip_address.clone(), port));
    };
    let host = match binding.host_ip.as_str() {
        "" | "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
        ip => ip.to_owned(),
    };
    Some((host, binding.host_port.parse().ok()?))
}

fn environment_in(answer: &shown::Inspected) -> BTreeMap<String, String> {
    let pairs = answer.config.env.iter();
    pairs
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What came is not what was asked for.
fn nonsense(attempt: &str) -> EngineError {
    EngineError::Broken {
        attempt: attempt.to_owned(),
        source: "the engine's answer makes no sense".into(),
    }
}

fn in_start_order<'a>(containers: impl Iterator<Item = &'a Container>) -> Vec<Container> {
    let mut sorted: Vec<Container> = containers.cloned().collect();
    sorted.sort_by(|one, other| (one.unit, &one.id).cmp(&(other.unit, &other.id)));
    sorted
}

/// Where and as what a stack was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The directory.
    pub working_dir: String,
    /// Whether its images are stand-ins.
    pub demo: bool,
}

fn label_of(project: &ProjectName) -> String {
    format!("{}={project}", labels::PROJECT)
}

/// A filter as the engine's API takes it.
pub(super) fn filter(key: &str, value: &str) -> String {
    serde_json::json!({ key: [value] }).to_string()
}

/// Whether what is remembered of a container no longer fits what the list says. One that the engine
/// restarts again and again is always looked at.
fn is_stale(listed: &Listed, known: &BTreeMap<String, Container>) -> bool {
    let Some(container) = known.get(&listed.id) else {
        return true;
    };
    let says = listed.run(String::new());
    let is_another = std::mem::discriminant(&says) != std::mem::discriminant(&container.run);
    let has_moved = || listed.networks() != container.networks && container.run != Run::Created;
    is_another || listed.state == "restarting" || listed.name() != container.name || has_moved()
}

/// A container as the list shows it. The list tells no start time: it is taken from what is known
/// of the same run.
fn listed_container(listed: &Listed, known: Option<&Container>) -> Option<Container> {
    let started_at = known
        .and_then(Container::instance)
        .map(|instance| instance.started_at)
        .unwrap_or_default();
    let found = &listed.labels;
    Some(Container {
        id: listed.id.clone(),
        name: listed.name().to_owned(),
        unit: found.get(labels::UNIT)?.parse().ok()?,
        digest: Digest(found.get(labels::DIGEST).cloned().unwrap_or_default()),
        image: listed.image.clone(),
        image_id: listed.image_id.clone(),
        run: listed.run(started_at),
        networks: listed.networks(),
        network_mode: listed.host_config.network_mode.clone(),
        engine_restarts: false,
    })
}

/// None where it carries no label of a unit.
fn container_of(answer: shown::Inspected) -> Result<Option<Container>, EngineError> {
    let Some(run) = answer.run().filter(|_| !answer.id.is_empty()) else {
        return Err(nonsense(&format!("inspect container {}", answer.id)));
    };
    let (networks, mut found) = (answer.networks(), answer.config.labels);
    let unit = found
        .remove(labels::UNIT)
        .and_then(|unit| unit.parse().ok());
    Ok(unit.map(|unit| Container {
        id: answer.id,
        name: answer.name.trim_start_matches('/').to_owned(),
        unit,
        digest: Digest(found.remove(labels::DIGEST).unwrap_or_default()),
        image: answer.config.image,
        image_id: answer.image,
        run,
        networks,
        network_mode: answer.host_config.network_mode,
        engine_restarts: !matches!(answer.host_config.restart_policy.name.as_str(), "" | "no"),
    }))
}
