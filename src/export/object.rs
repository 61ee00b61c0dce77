//! The objects of Kubernetes that an export has, with the fields that it uses and no others
//! (kubernetes.io, API reference; a test reads each with the generated types of the API).

use std::collections::BTreeMap;

use serde::Serialize;

/// Labels, and what selects by them.
pub type Labels = BTreeMap<&'static str, String>;

/// Any object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object<S> {
    /// Group and version.
    pub api_version: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// Name and labels.
    pub metadata: Metadata,
    /// What is wanted; a namespace has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<S>,
}

/// Name and labels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metadata {
    /// The name; a pod template has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The namespace; none for what belongs to the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// What tools look for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a namespace wants: nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Nothing {}

/// A selector.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// All of these.
    pub match_labels: Labels,
}

/// Numbered pods, each with its own name and storage.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSet {
    /// How many.
    pub replicas: u8,
    /// The headless Service that gives each pod a name.
    pub service_name: &'static str,
    /// One after another.
    pub pod_management_policy: &'static str,
    /// What happens when the template changes.
    pub update_strategy: UpdateStrategy,
    /// What happens to claims.
    pub persistent_volume_claim_retention_policy: ClaimRetention,
    /// Which pods.
    pub selector: Selector,
    /// What each pod is.
    pub template: PodTemplate,
    /// Claims of each pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<Object<Claim>>,
}

/// What happens when a template changes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// `RollingUpdate`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Of which pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Of which pods.
#[derive(Clone, Debug, Serialize)]
pub struct RollingUpdate {
    /// Those from this number on.
    pub partition: u32,
}

/// What happens to claims of pods that go.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRetention {
    /// With the whole set.
    pub when_deleted: &'static str,
    /// When it is made smaller.
    pub when_scaled: &'static str,
}

/// Claimed storage.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// By how many nodes of the cluster at once.
    pub access_modes: Vec<&'static str>,
    /// Of which class; none is the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// How much.
    pub resources: StorageResources,
}

/// How much storage.
#[derive(Clone, Debug, Serialize)]
pub struct StorageResources {
    /// At least.
    pub requests: Amounts,
}

/// Amounts by resource.
pub type Amounts = BTreeMap<&'static str, String>;

/// What each pod is.
#[derive(Clone, Debug, Serialize)]
pub struct PodTemplate {
    /// Labels.
    pub metadata: Metadata,
    /// Containers and the rest.
    pub spec: Pod,
}

/// A pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Seconds between the request to end and SIGKILL, the hook before it included.
    pub termination_grace_period_seconds: u32,
    /// Variables of every Service in the namespace.
    pub enable_service_links: bool,
    /// The way to the API of the cluster.
    pub automount_service_account_token: bool,
    /// Which pods give way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Of all containers.
    pub security_context: PodSecurity,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Where, by zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<Spread>,
    /// What runs.
    pub containers: Vec<Container>,
    /// What is mounted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// Where pods are put.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Not beside these.
    pub pod_anti_affinity: AntiAffinity,
}

/// What pods are not put beside.
#[derive(Clone, Debug, Serialize)]
pub struct AntiAffinity {
    /// If that is possible.
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub preferred: Vec<WeightedTerm>,
}

/// A wish, and how much it weighs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedTerm {
    /// From 1 to 100.
    pub weight: u8,
    /// The wish.
    pub pod_affinity_term: AffinityTerm,
}

/// Which pods, and what counts as beside them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityTerm {
    /// Which pods.
    pub label_selector: Selector,
    /// The label that places beside each other share.
    pub topology_key: &'static str,
}

/// How pods spread.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// By how many they may differ.
    pub max_skew: u8,
    /// Over what.
    pub topology_key: &'static str,
    /// What if they cannot.
    pub when_unsatisfiable: &'static str,
    /// Which pods.
    pub label_selector: Selector,
}

/// As whom a pod runs.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurity {
    /// Not as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// As this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// As this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Volumes belong to this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
    /// When that is seen to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group_change_policy: Option<&'static str>,
    /// System calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<Seccomp>,
}

/// Which system calls are possible.
#[derive(Clone, Debug, Serialize)]
pub struct Seccomp {
    /// `RuntimeDefault`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// A container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: &'static str,
    /// Its image.
    pub image: String,
    /// When the image is fetched.
    pub image_pull_policy: &'static str,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// Its ports.
    pub ports: Vec<ContainerPort>,
    /// What it may do.
    pub security_context: ContainerSecurity,
    /// What it gets.
    pub resources: Resources,
    /// What is done at its start and before its end.
    #[serde(skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
    /// Whether it has started.
    pub startup_probe: Probe,
    /// Whether it hangs.
    pub liveness_probe: Probe,
    /// Whether it serves.
    pub readiness_probe: Probe,
    /// Its mounts.
    pub volume_mounts: Vec<Mount>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueFrom {
    /// In a Secret.
    SecretKeyRef(KeyRef),
    /// In the pod itself.
    #[serde(rename_all = "camelCase")]
    FieldRef {
        /// Which field.
        field_path: &'static str,
    },
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyRef {
    /// The Secret.
    pub name: String,
    /// The key.
    pub key: String,
}

impl EnvVar {
    /// A value as it is written.
    pub fn literal(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value.into()),
            value_from: None,
        }
    }

    /// A value that is in a Secret.
    pub fn of_secret(name: &str, secret: &str, key: &str) -> Self {
        let (name, key) = (name.to_owned(), key.to_owned());
        let secret = secret.to_owned();
        Self {
            name,
            value: None,
            value_from: Some(ValueFrom::SecretKeyRef(KeyRef { name: secret, key })),
        }
    }

    /// The pod's name.
    pub fn pod_name(name: &str) -> Self {
        let field_path = "metadata.name";
        Self {
            name: name.to_owned(),
            value: None,
            value_from: Some(ValueFrom::FieldRef { field_path }),
        }
    }
}

/// A port of a container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Its name, at most 15 letters.
    pub name: &'static str,
    /// Its number.
    pub container_port: u16,
}

/// What a container may do.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSecurity {
    /// Everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// More than its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
}

/// Capabilities.
#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    /// Without these.
    pub drop: Vec<&'static str>,
    /// With these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<&'static str>,
}

/// What a container gets.
#[derive(Clone, Debug, Serialize)]
pub struct Resources {
    /// At least.
    pub requests: Amounts,
    /// At most.
    pub limits: Amounts,
}

/// What is done at a container's start and before its end.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Beside its start. No probe runs before it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    /// Before SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
}

impl Lifecycle {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.post_start.is_none() && self.pre_stop.is_none()
    }
}

/// A command in a container.
#[derive(Clone, Debug, Serialize)]
pub struct Hook {
    /// The command.
    pub exec: Exec,
}

/// A command.
#[derive(Clone, Debug, Serialize)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// A question to a container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// What is asked.
    #[serde(flatten)]
    pub check: Check,
    /// How often.
    pub period_seconds: u32,
    /// How long the answer may take.
    pub timeout_seconds: u32,
    /// How many failures in a row count.
    pub failure_threshold: u32,
}

/// What is asked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    /// A command succeeds.
    Exec(Exec),
    /// A page is there.
    HttpGet {
        /// Its path.
        path: &'static str,
        /// The port's name.
        port: &'static str,
    },
    /// Somebody listens.
    TcpSocket {
        /// The port's name.
        port: &'static str,
    },
}

/// A mount.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The volume.
    pub name: &'static str,
    /// Where.
    pub mount_path: String,
    /// Which directory of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
}

/// A volume of a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its name.
    pub name: &'static str,
    /// A claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimRef>,
    /// A directory that goes with the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<BTreeMap<String, String>>,
}

/// A claim by name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRef {
    /// The name.
    pub claim_name: &'static str,
}

/// An address for pods.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `None` for names without an address.
    #[serde(rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<&'static str>,
    /// Pods that start or end too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
    /// Which pods.
    pub selector: Labels,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub port: u16,
    /// The container's port, by number: the vendor's chart has other names for them.
    pub target_port: u16,
}

/// How many pods may be taken away at once on purpose.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// At most.
    pub max_unavailable: u8,
    /// What of those that do not serve.
    pub unhealthy_pod_eviction_policy: &'static str,
    /// Which pods.
    pub selector: Selector,
}
