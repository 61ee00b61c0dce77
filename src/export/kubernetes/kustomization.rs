//! The file that `kubectl apply -k` begins with.

use serde::Serialize;
use serde_json::Value;

use super::cluster::Cluster;
use super::cluster::SECRET;
use crate::export::object::Labels;

/// kustomize's own file (kubectl.docs.kubernetes.io, `kustomization`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kustomization {
    api_version: &'static str,
    kind: &'static str,
    /// Of everything.
    namespace: String,
    /// Files.
    resources: Vec<String>,
    /// Secrets made of files. Without a hash in the name, so that pods are not replaced when a
    /// value changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secret_generator: Vec<Generator>,
    /// Changes of what the files have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    patches: Vec<Value>,
}

#[derive(Clone, Debug, Serialize)]
struct Generator {
    name: &'static str,
    envs: Vec<&'static str>,
    options: GeneratorOptions,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GeneratorOptions {
    disable_name_suffix_hash: bool,
    labels: Labels,
}

/// All manifests, and the Secret made of `secrets.env`.
pub fn kustomization(cluster: &Cluster<'_>, resources: &[&str]) -> Kustomization {
    Kustomization {
        secret_generator: vec![Generator {
            name: SECRET,
            envs: vec!["secrets.env"],
            options: GeneratorOptions {
                disable_name_suffix_hash: true,
                labels: cluster.labels(super::cluster::OCTOPUS),
            },
        }],
        ..patched(cluster, resources, Vec::new())
    }
}

/// Manifests with changes.
pub fn patched(cluster: &Cluster<'_>, resources: &[&str], patches: Vec<Value>) -> Kustomization {
    Kustomization {
        api_version: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        namespace: cluster.namespace.clone(),
        resources: resources.iter().map(|path| (*path).to_owned()).collect(),
        secret_generator: Vec::new(),
        patches,
    }
}
