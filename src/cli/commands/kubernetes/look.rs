//! Looks at the cluster.

use serde::Deserialize;

use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::export::kubernetes::cluster::CHART;
use crate::export::kubernetes::cluster::MSSQL;
use crate::export::kubernetes::cluster::OCTOPUS;
use crate::kubernetes::Seen;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::seen::Pod;
use crate::kubernetes::seen::Set;

/// The label that says what something is.
const NAME: &str = "app.kubernetes.io/name";
/// The label that says who made it.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who makes what an export writes.
const OURS: &str = "octo-local";

/// SQL Server's pod.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    /// Its name.
    pub(super) pod: String,
    /// Its image.
    pub(super) image: String,
    /// It serves.
    pub(super) is_ready: bool,
}

/// Where things are in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The nodes' StatefulSet.
    pub(super) set: String,
    /// Whether SQL Server runs there.
    pub(super) has_sql: bool,
}

impl Places {
    /// Finds what an export made, and nothing else.
    pub(super) async fn find(kubectl: &Kubectl) -> Result<Self, Failure> {
        let what = "look for StatefulSets";
        let said = kubectl
            .call(&["get", "statefulsets", "-o", "json"], what)
            .await?;
        let all = Set::parse_list(&said).map_err(|error| unreadable(what, error))?;
        let label = |set: &Set, key: &str| set.labels.get(key).cloned().unwrap_or_default();
        let is_ours = |set: &Set| label(set, MANAGED_BY) == OURS;
        // The vendor's chart labels its set itself; its name is one that only the export gives.
        let is_nodes =
            |set: &&Set| (is_ours(set) && label(set, NAME) == OCTOPUS) || label(set, NAME) == CHART;
        let nodes: Vec<&Set> = all.iter().filter(is_nodes).collect();
        let namespace = &kubectl.namespace;
        let set = match nodes[..] {
            [one] => one.name.clone(),
            [] => {
                let line = format!(
                    "the namespace {namespace} has no nodes that `octo-local export kubernetes` wrote: apply an export \
                     first, or name another namespace with --namespace, another cluster with --context"
                );
                return Err(Failure::new(CONFIGURATION, line));
            }
            _ => {
                let names: Vec<&str> = nodes.iter().map(|set| set.name.as_str()).collect();
                let line = format!(
                    "the namespace {namespace} has several sets of nodes: {}; keep one in each namespace",
                    names.join(", ")
                );
                return Err(Failure::new(CONFIGURATION, line));
            }
        };
        let has_sql = all
            .iter()
            .any(|set| is_ours(set) && label(set, NAME) == MSSQL);
        Ok(Self { set, has_sql })
    }

    /// The nodes: the set first, so that a set without wishes and a list without pods go together.
    pub(super) async fn seen(&self, kubectl: &Kubectl) -> Result<Seen, KubectlError> {
        let what = format!("look at statefulset/{}", self.set);
        let said = kubectl
            .call(&["get", "statefulset", &self.set, "-o", "json"], &what)
            .await?;
        let set = Set::parse(&said).map_err(|error| unreadable(&what, error))?;
        let what = "look at the nodes' pods";
        let selector = set.selector_text();
        let said = kubectl
            .call(&["get", "pods", "-l", &selector, "-o", "json"], what)
            .await?;
        let pods = Pod::parse_list(&said).map_err(|error| unreadable(what, error))?;
        Ok(Seen { set, pods })
    }

    /// SQL Server's pod, if it runs there and is there.
    pub(super) async fn sql(&self, kubectl: &Kubectl) -> Result<Option<Sql>, KubectlError> {
        if !self.has_sql {
            return Ok(None);
        }
        let pod = format!("{MSSQL}-0");
        let what = format!("look at pod/{pod}");
        let said = match kubectl
            .call(&["get", "pod", &pod, "-o", "json"], &what)
            .await
        {
            Err(error) if error.is_absent() => return Ok(None),
            said => said?,
        };
        let found: SqlPod =
            serde_json::from_slice(&said).map_err(|error| unreadable(&what, error))?;
        let is_ready = |one: &Condition| one.kind == "Ready" && one.status == "True";
        Ok(Some(Sql {
            pod,
            image: found
                .spec
                .containers
                .into_iter()
                .next()
                .unwrap_or_default()
                .image,
            is_ready: found.status.conditions.iter().any(is_ready),
        }))
    }
}

impl Places {
    /// SQL Server's pod, where nothing goes on without it.
    pub(super) async fn must_have_sql(&self, kubectl: &Kubectl) -> Result<Sql, KubectlError> {
        self.sql(kubectl)
            .await?
            .ok_or_else(|| KubectlError::Refused {
                what: "look for SQL Server".to_owned(),
                refusal: Refusal::Busy("its pod is not there".to_owned()),
            })
    }
}

pub(super) fn unreadable(what: &str, error: serde_json::Error) -> KubectlError {
    KubectlError::Unreadable {
        what: what.to_owned(),
        error,
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct SqlPod {
    spec: SqlSpec,
    status: SqlStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SqlSpec {
    containers: Vec<SqlContainer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SqlContainer {
    image: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SqlStatus {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}
