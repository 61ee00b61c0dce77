//! Looks at everything of one project: what carries our labels, and the images that it needs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::query_parameters::ListNetworksOptionsBuilder;
use bollard::query_parameters::ListVolumesOptionsBuilder;
use futures_util::future::join_all;
use futures_util::future::try_join;
use tokio::time::Instant;

use super::Engine;
use super::EngineError;
use super::QUICK;
use crate::config::project::ProjectName;
use crate::reconcile::Observed;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Run;
use crate::spec::Digest;
use crate::spec::labels;

/// How long one inspection may take before the container counts as silent. It takes milliseconds.
pub const INSPECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a silent container is not inspected again.
pub const SILENT_FOR: Duration = Duration::from_secs(30);

/// What an inspection showed.
enum Inspected {
    Container(Box<Container>),
    Gone,
    Silent,
}

/// What was seen last, so that a look costs one call when nothing changed.
#[derive(Clone, Debug, Default)]
pub struct ObservationCache {
    /// Containers by ID, as inspected.
    containers: BTreeMap<String, Container>,
    /// The networks and volumes.
    rest: Option<(BTreeMap<String, String>, BTreeSet<String>)>,
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
            ..Self::default()
        };
    }

    /// Keeps of one container what the list says, with what is known of the run that it is still
    /// in.
    fn keep_listed(&mut self, summary: &ContainerSummary) {
        let Some(id) = summary.id.clone() else { return };
        let known = self.containers.get(&id);
        if let Some(listed) = listed_container(summary, known) {
            self.containers.insert(id, listed);
        }
    }
}

impl Engine {
    /// One look. Containers that are unknown or were forgotten are inspected; the list itself is
    /// always fresh.
    pub async fn observe(
        &self,
        project: &ProjectName,
        images: &[String],
        cache: &mut ObservationCache,
    ) -> Result<Observed, EngineError> {
        let listed = self.our_containers(project).await?;
        let ids: BTreeSet<&str> = listed
            .iter()
            .filter_map(|summary| summary.id.as_deref())
            .collect();
        cache.containers.retain(|id, _| ids.contains(id.as_str()));
        cache
            .silent
            .retain(|id, since| ids.contains(id.as_str()) && since.elapsed() < SILENT_FOR);
        let stale: Vec<&ContainerSummary> = listed
            .iter()
            .filter(|summary| is_stale(summary, &cache.containers))
            .collect();
        let asked = stale
            .iter()
            .map(|summary| self.inspect_unless_silent(summary, &cache.silent));
        let inspected = join_all(asked).await;
        for (summary, inspected) in stale.into_iter().zip(inspected) {
            match inspected? {
                Inspected::Container(container) => {
                    cache.containers.insert(container.id.clone(), *container);
                }
                Inspected::Gone => {}
                Inspected::Silent => {
                    let id = summary.id.clone().unwrap_or_default();
                    cache.silent.entry(id).or_insert_with(Instant::now);
                    cache.keep_listed(summary);
                }
            }
        }
        if cache.rest.is_none() {
            cache.rest =
                Some(try_join(self.our_networks(project), self.our_volumes(project)).await?);
        }
        cache.images.retain(|image, _| images.contains(image));
        for image in images {
            if !cache.images.contains_key(image)
                && let Some(id) = self.image_id(image).await?
            {
                cache.images.insert(image.clone(), id);
            }
        }
        let (networks, volumes) = cache.rest.clone().unwrap_or_default();
        Ok(Observed {
            containers: in_start_order(cache.containers.values()),
            networks,
            volumes,
            images: cache.images.clone(),
        })
    }

    /// One container that hangs in the engine must not hide the others.
    async fn inspect_unless_silent(
        &self,
        summary: &ContainerSummary,
        silent: &BTreeMap<String, Instant>,
    ) -> Result<Inspected, EngineError> {
        let id = summary.id.as_deref().unwrap_or_default();
        if silent.contains_key(id) {
            return Ok(Inspected::Silent);
        }
        match tokio::time::timeout(INSPECT_LIMIT, self.inspect(id)).await {
            Err(_) => Ok(Inspected::Silent),
            Ok(answer) => Ok(answer?.map_or(Inspected::Gone, |container| {
                Inspected::Container(Box::new(container))
            })),
        }
    }

    async fn our_containers(
        &self,
        project: &ProjectName,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filter(project))
            .build();
        self.call(
            || "list containers".to_owned(),
            QUICK,
            self.docker.list_containers(Some(options)),
        )
        .await
    }

    async fn our_networks(
        &self,
        project: &ProjectName,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let options = ListNetworksOptionsBuilder::default()
            .filters(&filter(project))
            .build();
        let listed = self
            .call(
                || "list networks".to_owned(),
                QUICK,
                self.docker.list_networks(Some(options)),
            )
            .await?;
        Ok(listed
            .into_iter()
            .filter_map(|network| Some((network.id?, network.name?)))
            .collect())
    }

    async fn our_volumes(&self, project: &ProjectName) -> Result<BTreeSet<String>, EngineError> {
        let options = ListVolumesOptionsBuilder::default()
            .filters(&filter(project))
            .build();
        let listed = self
            .call(
                || "list volumes".to_owned(),
                QUICK,
                self.docker.list_volumes(Some(options)),
            )
            .await?;
        Ok(listed
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| volume.name)
            .collect())
    }

    /// Inspects one container; `None` when it is gone, or is not one of ours after all.
    pub async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let call = self.docker.inspect_container(id, None);
        match self
            .call(|| format!("inspect container {id}"), QUICK, call)
            .await
        {
            Ok(answer) => Ok(container_of(answer)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The environment of a container, for what only it remembers.
    pub async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, EngineError> {
        let call = self.docker.inspect_container(id, None);
        let answer = self
            .call(|| format!("inspect container {id}"), QUICK, call)
            .await?;
        let lines = answer
            .config
            .and_then(|config| config.env)
            .unwrap_or_default();
        Ok(lines
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }

    /// A label of a container, network or volume of the project that says where it was made.
    pub async fn origin(&self, project: &ProjectName) -> Result<Option<Origin>, EngineError> {
        let listed = self.our_containers(project).await?;
        let labels = listed.into_iter().find_map(|summary| summary.labels);
        Ok(labels.map(|mut found| Origin {
            working_dir: found.remove(labels::WORKING_DIR).unwrap_or_default(),
            demo: found.get(labels::DEMO).map(String::as_str) == Some("Y"),
        }))
    }

    /// Whether the project's volumes belong to a demo; `None` when there are none.
    pub async fn volumes_are_demo(
        &self,
        project: &ProjectName,
    ) -> Result<Option<bool>, EngineError> {
        let options = ListVolumesOptionsBuilder::default()
            .filters(&filter(project))
            .build();
        let listed = self
            .call(
                || "list volumes".to_owned(),
                QUICK,
                self.docker.list_volumes(Some(options)),
            )
            .await?;
        let first = listed.volumes.unwrap_or_default().into_iter().next();
        Ok(first.map(|volume| volume.labels.get(labels::DEMO).map(String::as_str) == Some("Y")))
    }

    /// Every running container that publishes a host port, with the ports.
    pub async fn published_ports(&self) -> Result<Vec<(String, Vec<u16>)>, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(false).build();
        let listed = self
            .call(
                || "list containers".to_owned(),
                QUICK,
                self.docker.list_containers(Some(options)),
            )
            .await?;
        let of = |summary: ContainerSummary| {
            let ports = summary
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(|port| port.public_port)
                .collect();
            (name_of(summary.names.as_deref()), ports)
        };
        Ok(listed.into_iter().map(of).collect())
    }

    /// The names of containers, among those wanted, that exist without our label.
    pub async fn foreign_containers(
        &self,
        project: &ProjectName,
        names: &[&str],
    ) -> Result<Vec<String>, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = self
            .call(
                || "list containers".to_owned(),
                QUICK,
                self.docker.list_containers(Some(options)),
            )
            .await?;
        let is_foreign = |summary: &ContainerSummary| {
            let ours = summary
                .labels
                .as_ref()
                .and_then(|labels| labels.get(labels::PROJECT));
            ours.map(String::as_str) != Some(project.as_str())
        };
        let foreign = listed
            .into_iter()
            .filter(is_foreign)
            .map(|summary| name_of(summary.names.as_deref()));
        Ok(foreign
            .filter(|name| names.contains(&name.as_str()))
            .collect())
    }

    /// The containers that use a volume, except those of the project.
    pub async fn foreign_users(
        &self,
        project: &ProjectName,
        volume: &str,
    ) -> Result<Vec<String>, EngineError> {
        let filters = HashMap::from([("volume", vec![volume.to_owned()])]);
        let options = ListContainersOptionsBuilder::default()
            .filters(&filters)
            .build();
        let listed = self
            .call(
                || "list containers".to_owned(),
                QUICK,
                self.docker.list_containers(Some(options)),
            )
            .await?;
        let is_ours = |summary: &ContainerSummary| {
            summary
                .labels
                .as_ref()
                .and_then(|labels| labels.get(labels::PROJECT))
                .map(String::as_str)
                == Some(project.as_str())
        };
        Ok(listed
            .iter()
            .filter(|summary| !is_ours(summary))
            .map(|summary| name_of(summary.names.as_deref()))
            .collect())
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

fn filter(project: &ProjectName) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![format!("{}={project}", labels::PROJECT)])])
}

fn name_of(names: Option<&[String]>) -> String {
    names
        .and_then(<[String]>::first)
        .map(|name| name.trim_start_matches('/').to_owned())
        .unwrap_or_default()
}

/// Whether what is remembered of a container no longer fits what the list says.
fn is_stale(summary: &ContainerSummary, known: &BTreeMap<String, Container>) -> bool {
    let Some(container) = summary.id.as_deref().and_then(|id| known.get(id)) else {
        return true;
    };
    let word = summary
        .state
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let remembered = match &container.run {
        Run::Created => "created",
        Run::Running { .. } => "running",
        Run::Paused { .. } => "paused",
        Run::Exited { .. } => "exited",
        Run::Removing => "removing",
    };
    let networks = summary
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    let attached: BTreeSet<String> = networks
        .into_iter()
        .flatten()
        .filter_map(|(_, endpoint)| endpoint.network_id.clone())
        .collect();
    word != remembered || (attached != container.networks && !matches!(container.run, Run::Created))
}

/// A container as the list shows it. The list tells no start time: it is taken from what is known
/// of the same run.
fn listed_container(summary: &ContainerSummary, known: Option<&Container>) -> Option<Container> {
    let found = summary.labels.as_ref()?;
    let word = summary
        .state
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let started_at = known
        .and_then(Container::instance)
        .map(|instance| instance.started_at)
        .unwrap_or_default();
    let run = match word.as_str() {
        "created" => Run::Created,
        "running" | "restarting" => Run::Running { started_at },
        "paused" => Run::Paused { started_at },
        "removing" => Run::Removing,
        _ => Run::Exited {
            started_at,
            code: -1,
            oom: false,
            error: String::new(),
        },
    };
    let networks = summary
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    Some(Container {
        id: summary.id.clone()?,
        name: name_of(summary.names.as_deref()),
        unit: found.get(labels::UNIT)?.parse().ok()?,
        digest: Digest(found.get(labels::DIGEST).cloned().unwrap_or_default()),
        image: summary.image.clone().unwrap_or_default(),
        image_id: summary.image_id.clone().unwrap_or_default(),
        run,
        networks: networks
            .into_iter()
            .flatten()
            .filter_map(|(_, endpoint)| endpoint.network_id.clone())
            .collect(),
        network_mode: summary
            .host_config
            .as_ref()
            .and_then(|host| host.network_mode.clone())
            .unwrap_or_default(),
        engine_restarts: false,
    })
}

fn container_of(answer: ContainerInspectResponse) -> Option<Container> {
    let config = answer.config?;
    let mut found = config.labels?;
    let state = answer.state?;
    let started_at = state.started_at.unwrap_or_default();
    let word = state
        .status
        .map(|status| status.to_string())
        .unwrap_or_default();
    let run = match word.as_str() {
        "created" => Run::Created,
        "running" | "restarting" => Run::Running { started_at },
        "paused" => Run::Paused { started_at },
        "removing" => Run::Removing,
        _ => Run::Exited {
            started_at,
            code: state.exit_code.unwrap_or(-1),
            oom: state.oom_killed.unwrap_or(false),
            error: state.error.unwrap_or_default(),
        },
    };
    let networks = answer
        .network_settings
        .and_then(|settings| settings.networks)
        .unwrap_or_default();
    let (network_mode, policy) = answer
        .host_config
        .map(|host| (host.network_mode, host.restart_policy))
        .unwrap_or_default();
    let policy = policy.and_then(|policy| policy.name);
    Some(Container {
        id: answer.id?,
        name: answer
            .name
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned(),
        unit: found.remove(labels::UNIT)?.parse().ok()?,
        digest: Digest(found.remove(labels::DIGEST).unwrap_or_default()),
        image: config.image.unwrap_or_default(),
        image_id: answer.image.unwrap_or_default(),
        run,
        networks: networks
            .into_iter()
            .map(|(name, endpoint)| {
                endpoint
                    .network_id
                    .filter(|id| !id.is_empty())
                    .unwrap_or(name)
            })
            .collect(),
        network_mode: network_mode.unwrap_or_default(),
        engine_restarts: policy
            .is_some_and(|policy| !matches!(policy.to_string().as_str(), "" | "no")),
    })
}

impl Engine {
    /// How to reach the SQL Server in a container, read off its environment and published port.
    pub async fn database_of(&self, id: &str) -> Option<crate::spec::DatabaseTarget> {
        let password = self
            .environment(id)
            .await
            .ok()?
            .remove("MSSQL_SA_PASSWORD")?;
        let call = self.docker.inspect_container(id, None);
        let answer = self
            .call(|| format!("inspect container {id}"), QUICK, call)
            .await
            .ok()?;
        let ports = answer.network_settings?.ports?;
        let binding = ports.get("1433/tcp")?.as_ref()?.first()?.clone();
        let host = binding
            .host_ip
            .filter(|ip| ip != "0.0.0.0" && ip != "::")
            .unwrap_or_else(|| "127.0.0.1".to_owned());
        Some(crate::spec::DatabaseTarget {
            host,
            port: binding.host_port?.parse().ok()?,
            user: "sa".to_owned(),
            password: crate::config::Secret::new(password),
            database: String::new(),
        })
    }
}
