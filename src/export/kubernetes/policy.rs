//! The namespace, and what keeps people from harm: a budget of pods that may go, and a guard that a
//! new version waits for the last node of the old one.

use serde_json::Value;
use serde_json::json;

use super::cluster::Cluster;
use super::cluster::OCTOPUS;
use crate::export::object::DisruptionBudget;
use crate::export::object::Metadata;
use crate::export::object::Nothing;
use crate::export::object::Object;
use crate::export::object::Selector;

/// The namespace. Nothing in it may be privileged, unless Docker-in-Docker needs that
/// (kubernetes.io, Pod Security Standards).
pub fn namespace(cluster: &Cluster<'_>) -> Object<Nothing> {
    let level = if cluster.options.dind {
        "privileged"
    } else {
        "restricted"
    };
    let mut labels = cluster.labels(OCTOPUS);
    labels.insert("pod-security.kubernetes.io/enforce", level.to_owned());
    Object {
        api_version: "v1",
        kind: "Namespace",
        metadata: Metadata {
            name: cluster.namespace.clone(),
            labels,
            ..Metadata::default()
        },
        spec: None,
    }
}

/// When machines are emptied, one node at a time goes. SQL Server has none: there is one pod, and a
/// budget would keep its machine from being emptied at all.
pub fn budget(cluster: &Cluster<'_>) -> Object<DisruptionBudget> {
    Object {
        api_version: "policy/v1",
        kind: "PodDisruptionBudget",
        metadata: cluster.metadata(OCTOPUS, OCTOPUS),
        spec: Some(DisruptionBudget {
            max_unavailable: 1,
            unhealthy_pod_eviction_policy: "AlwaysAllow",
            selector: Selector {
                match_labels: cluster.selector(OCTOPUS),
            },
        }),
    }
}

/// Refuses another image while a node runs. It belongs to the whole cluster, so only its
/// administrators can apply it.
pub fn upgrade_guard(cluster: &Cluster<'_>) -> Vec<Object<Value>> {
    let name = format!("octopus-upgrade-guard-{}", cluster.namespace);
    let images = |object: &str| {
        format!(
            "{object}.spec.template.spec.containers.filter(c, c.name == '{OCTOPUS}').map(c, c.image)"
        )
    };
    let is_same = format!("{} == {}", images("object"), images("oldObject"));
    let rule = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["statefulsets"],
    });
    let policy = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "octopus", "expression": format!("object.metadata.name == '{}'", cluster.set_name())}],
        "validations": [{
            "expression": format!("{is_same} || oldObject.status.replicas == 0"),
            "message": "the Octopus image may change only while no node runs: scale the StatefulSet to 0 first, as upgrade.sh does",
        }],
    });
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}});
    let binding = json!({
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selector},
    });
    let object = |kind, spec| Object {
        api_version: "admissionregistration.k8s.io/v1",
        kind,
        metadata: Metadata {
            name: name.clone(),
            labels: cluster.labels(OCTOPUS),
            ..Metadata::default()
        },
        spec: Some(spec),
    };
    vec![
        object("ValidatingAdmissionPolicy", policy),
        object("ValidatingAdmissionPolicyBinding", binding),
    ]
}
