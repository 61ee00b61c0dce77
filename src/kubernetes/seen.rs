//! What the cluster shows of the nodes, as `kubectl get -o json` tells it (kubernetes.io, API
//! reference: StatefulSet v1 apps, Pod v1 core).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::record::ANNOTATION;
use super::record::BadRecord;
use super::record::Record;
use crate::export::kubernetes::cluster::OCTOPUS;

/// The nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Their StatefulSet.
    pub set: Set,
    /// Their pods, those that end among them, in order.
    pub pods: Vec<Pod>,
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The version of the object, onto which alone a change is written.
    pub resource_version: String,
    /// Counts changes of what is wished.
    pub generation: i64,
    /// The generation that its controller has seen.
    pub observed_generation: i64,
    /// How many pods are wished.
    pub wished: u32,
    /// How many there are, those that end among them.
    pub existing: u32,
    /// The revision that pods below the partition are made of.
    pub current_revision: String,
    /// The revision of the template as it is now.
    pub update_revision: String,
    /// Below it no pod is replaced for a change of the template; none where the strategy is none
    /// of `RollingUpdate`.
    pub partition: Option<u32>,
    /// Whether pods start beside each other, instead of one after another.
    pub is_parallel: bool,
    /// The image in the template.
    pub image: String,
    /// Whether a node that starts lets itself take tasks again after a drain.
    pub undrains_itself: bool,
    /// How long a node gets to end.
    pub grace: Duration,
    /// The labels that its pods have.
    pub selector: BTreeMap<String, String>,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// The environment in the template, as it stands there.
    pub env: Vec<Value>,
    /// The annotation about an upgrade.
    pub record: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Tells it from another one of that name.
    pub uid: String,
    /// The number in its name.
    pub number: u32,
    /// The image that it was made with.
    pub image: String,
    /// The machine that it is on.
    pub machine: Option<String>,
    /// It was told to end.
    pub is_ending: bool,
    /// It serves.
    pub is_ready: bool,
    /// What its container does.
    pub life: Life,
    /// How often the container was started again.
    pub restarts: u32,
    /// How its container ended the last time.
    pub last_end: Option<End>,
}

/// What a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Nothing is told yet.
    #[default]
    Unknown,
    /// No machine takes it.
    Unplaced {
        /// The scheduler's words.
        why: String,
    },
    /// It does not run.
    Waiting {
        /// `ContainerCreating`, `ImagePullBackOff`, `CrashLoopBackOff`, …
        reason: String,
        /// The kubelet's words.
        message: String,
    },
    /// It runs.
    Running {
        /// Its startup probe succeeded.
        is_started: bool,
    },
    /// It ended.
    Ended(End),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its exit code.
    pub code: i32,
    /// `Error`, `OOMKilled`, `Completed`, …
    pub reason: String,
}

impl Set {
    /// What is kept of an upgrade.
    pub fn record(&self) -> Result<Option<Record>, BadRecord> {
        self.record.as_deref().map(Record::parse).transpose()
    }

    /// Whether its controller knows what is wished.
    pub fn is_observed(&self) -> bool {
        self.observed_generation >= self.generation
    }

    /// Whether an edit of the image replaces no pod by itself.
    pub fn is_guarded(&self) -> bool {
        self.partition
            .is_some_and(|partition| partition >= self.wished.max(1))
    }

    /// The labels of its pods as `kubectl -l` takes them.
    pub fn selector_text(&self) -> String {
        let pairs: Vec<String> = self
            .selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }

    /// Reads one of `kubectl get statefulset -o json`.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<SetWire>(json).map(Self::from)
    }

    /// Reads a list of them.
    pub fn parse_list(json: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let list: List<SetWire> = serde_json::from_slice(json)?;
        Ok(list.items.into_iter().map(Self::from).collect())
    }
}

impl Pod {
    /// Reads a list of pods; they are in the order of their numbers then.
    pub fn parse_list(json: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let list: List<PodWire> = serde_json::from_slice(json)?;
        let mut pods: Vec<Self> = list.items.into_iter().map(Self::from).collect();
        pods.sort_by(|one, other| (one.number, &one.name).cmp(&(other.number, &other.name)));
        Ok(pods)
    }
}

#[derive(Deserialize)]
struct List<Item> {
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    generation: i64,
    deletion_timestamp: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SetWire {
    metadata: Metadata,
    spec: SetSpec,
    status: SetStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetSpec {
    replicas: u32,
    pod_management_policy: String,
    update_strategy: Strategy,
    selector: Selector,
    template: Template,
}

impl Default for SetSpec {
    /// What the API server takes where nothing is said.
    fn default() -> Self {
        Self {
            replicas: 1,
            pod_management_policy: String::new(),
            update_strategy: Strategy::default(),
            selector: Selector::default(),
            template: Template::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: RollingUpdate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RollingUpdate {
    partition: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Vec<Container>,
    node_name: Option<String>,
    termination_grace_period_seconds: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
    env: Vec<Value>,
    lifecycle: Lifecycle,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Lifecycle {
    post_start: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetStatus {
    observed_generation: i64,
    replicas: u32,
    current_revision: String,
    update_revision: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodWire {
    metadata: Metadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    ready: bool,
    started: Option<bool>,
    restart_count: u32,
    state: State,
    last_state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Reason>,
    running: Option<serde::de::IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    exit_code: i32,
    reason: String,
}

impl From<SetWire> for Set {
    fn from(wire: SetWire) -> Self {
        let strategy = &wire.spec.update_strategy;
        let is_rolling = strategy.kind == "RollingUpdate";
        let pod = wire.spec.template.spec;
        let grace = Duration::from_secs(pod.termination_grace_period_seconds);
        let container = own_container(pod.containers);
        let mut annotations = wire.metadata.annotations;
        Self {
            name: wire.metadata.name,
            resource_version: wire.metadata.resource_version,
            generation: wire.metadata.generation,
            observed_generation: wire.status.observed_generation,
            wished: wire.spec.replicas,
            existing: wire.status.replicas,
            current_revision: wire.status.current_revision,
            update_revision: wire.status.update_revision,
            partition: is_rolling.then_some(strategy.rolling_update.partition),
            is_parallel: wire.spec.pod_management_policy == "Parallel",
            image: container.image,
            env: container.env,
            undrains_itself: container.lifecycle.post_start.is_some(),
            grace,
            selector: wire.spec.selector.match_labels,
            labels: wire.metadata.labels,
            record: annotations.remove(ANNOTATION),
        }
    }
}

/// The container with Octopus Server: a mesh may add others.
fn own_container(containers: Vec<Container>) -> Container {
    let mut others = containers.into_iter();
    others
        .find(|container| container.name == OCTOPUS)
        .unwrap_or_default()
}

impl From<PodWire> for Pod {
    fn from(wire: PodWire) -> Self {
        let number = wire.metadata.name.rsplit('-').next();
        let number = number.and_then(|number| number.parse().ok());
        let status = wire
            .status
            .container_statuses
            .into_iter()
            .find(|status| status.name == OCTOPUS);
        let is_ready = wire
            .status
            .conditions
            .iter()
            .any(|one| one.kind == "Ready" && one.status == "True");
        let unplaced = wire
            .status
            .conditions
            .into_iter()
            .find(|one| one.kind == "PodScheduled" && one.status == "False");
        let restarts = status.as_ref().map_or(0, |status| status.restart_count);
        let last_end = status
            .as_ref()
            .and_then(|status| status.last_state.terminated.as_ref());
        Self {
            name: wire.metadata.name,
            uid: wire.metadata.uid,
            number: number.unwrap_or(u32::MAX),
            is_ending: wire.metadata.deletion_timestamp.is_some(),
            machine: wire.spec.node_name,
            image: own_container(wire.spec.containers).image,
            is_ready,
            restarts,
            last_end: last_end.map(End::from),
            life: life(status, unplaced),
        }
    }
}

impl From<&Terminated> for End {
    fn from(wire: &Terminated) -> Self {
        Self {
            code: wire.exit_code,
            reason: wire.reason.clone(),
        }
    }
}

fn life(status: Option<ContainerStatus>, unplaced: Option<Condition>) -> Life {
    let Some(status) = status else {
        return unplaced.map_or(Life::Unknown, |condition| Life::Unplaced {
            why: condition.message,
        });
    };
    let is_started = status.started.unwrap_or(status.ready);
    if let Some(ended) = &status.state.terminated {
        return Life::Ended(ended.into());
    }
    if status.state.running.is_some() {
        return Life::Running { is_started };
    }
    status
        .state
        .waiting
        .map_or(Life::Unknown, |waiting| Life::Waiting {
            reason: waiting.reason,
            message: waiting.message,
        })
}
