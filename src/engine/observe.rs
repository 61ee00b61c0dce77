//! Looks at everything of one project: what carries our labels, and the images that it needs.

mod cache;

use std::collections::BTreeMap;
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
use crate::reconcile::observed::Stranger;
use crate::spec::Digest;
use crate::spec::labels;

pub use cache::Around;
pub use cache::ObservationCache;
pub use cache::SILENT_FOR;

/// How long one inspection may take before the container counts as silent. It takes milliseconds.
pub const INSPECT_LIMIT: Duration = Duration::from_secs(3);
/// What an inspection showed.
enum Look {
    Container(Box<Container>),
    Gone,
    /// No answer came in time: it is not asked again for a while.
    Silent,
    /// It was refused, or its answer makes no sense.
    Strange,
}

/// Takes apart what carries our label: ours, and what only looks so.
fn sort(
    cache: &mut ObservationCache,
    project: &ProjectName,
    listed: Vec<Listed>,
) -> (Vec<Listed>, Vec<Stranger>) {
    let present = listed.iter().map(|one| one.id.as_str()).collect();
    cache.begin(&present, Instant::now());
    let (ours, others): (Vec<Listed>, Vec<Listed>) = listed
        .into_iter()
        .partition(|one| ours::is_container(project, one) || cache.kept().contains(&one.id));
    cache.keep(ours.iter().map(|one| one.id.clone()));
    let stranger = |one: Listed| {
        Stranger::Container(match one.name() {
            "" => one.id.clone(),
            name => name.to_owned(),
        })
    };
    (ours, others.into_iter().map(stranger).collect())
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
        let (listed, strangers) = sort(cache, project, listed);
        let stale: Vec<&Listed> = listed.iter().filter(|one| is_stale(one, cache)).collect();
        let asked = stale
            .iter()
            .map(|one| self.inspect_unless_silent(&one.id, cache));
        let looks = join_all(asked).await;
        for (one, look) in stale.into_iter().zip(looks) {
            match look? {
                Look::Container(container) => cache.note(*container),
                Look::Gone => cache.forget_container(&one.id),
                Look::Silent => {
                    cache.note_silent(&one.id, Instant::now());
                    note_listed(cache, one);
                }
                Look::Strange => note_listed(cache, one),
            }
        }
        if cache.lacks_infrastructure() {
            cache.note_infrastructure(self.around(project).await?);
        }
        self.find_images(images, cache).await?;
        let mut seen = cache.seen();
        seen.strangers.extend(strangers);
        Ok(seen)
    }

    /// Looks for images that are not known to be there. One that the engine refuses to speak of is
    /// not there: whoever needs it is told why when it is fetched.
    async fn find_images(
        &self,
        images: &[String],
        cache: &mut ObservationCache,
    ) -> Result<(), EngineError> {
        for image in cache.lacking_images(images) {
            match self.image_id(image).await {
                Ok(Some(id)) => cache.note_image(image, id),
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
        cache: &ObservationCache,
    ) -> Result<Look, EngineError> {
        if cache.is_silent(id) {
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

    pub(super) async fn inspected(&self, id: &str) -> Result<shown::Inspected, EngineError> {
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
        Ok(u32::try_from(pid).ok().filter(|pid| *pid > 0))
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
pub(super) fn nonsense(attempt: &str) -> EngineError {
    EngineError::Broken {
        attempt: attempt.to_owned(),
        source: "the engine's answer makes no sense".into(),
    }
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

/// Whether a container has to be inspected. One that the engine restarts again and again is always
/// looked at.
fn is_stale(listed: &Listed, cache: &ObservationCache) -> bool {
    let fits = listed_container(listed).is_some_and(|one| cache.fits(&one));
    !fits || listed.state == "restarting"
}

/// Keeps of a container what the list says.
fn note_listed(cache: &mut ObservationCache, listed: &Listed) {
    if let Some(container) = listed_container(listed) {
        cache.note_listed(container);
    }
}

/// A container as the list shows it, which tells no start time. None where it carries no label of a
/// unit.
fn listed_container(listed: &Listed) -> Option<Container> {
    let found = &listed.labels;
    Some(Container {
        id: listed.id.clone(),
        name: listed.name().to_owned(),
        unit: found.get(labels::UNIT)?.parse().ok()?,
        digest: Digest(found.get(labels::DIGEST).cloned().unwrap_or_default()),
        image: listed.image.clone(),
        image_id: listed.image_id.clone(),
        run: listed.run(String::new()),
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
