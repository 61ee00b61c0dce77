//! Values for the vendor's Helm chart (1.15 or newer), and a patch of what they cannot say: the
//! chart always gives a node ten seconds to end, replaces nodes one by one, has no hooks, and takes
//! secrets from values.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use super::cluster::CHART;
use super::cluster::Cluster;
use super::cluster::NODES;
use super::cluster::OCTOPUS;
use super::kustomization::patched;
use super::mssql_file;
use super::network;
use super::octopus;
use super::options::Polling;
use super::policy;
use crate::export::file::File;
use crate::export::yaml::document;
use crate::export::yaml::documents;

/// Fills `all.yaml` with what Helm rendered, and gives back what kustomize makes of it. That file
/// has no secret in it: the chart makes none.
const POST_RENDER: &str = "#!/usr/bin/env bash\n\
     # For `helm --post-renderer`: the chart's objects with the patch beside this file.\n\
     set -euo pipefail\n\
     cd \"$(dirname \"$0\")\"\n\
     cat >all.yaml\n\
     kubectl kustomize .\n";

/// The files.
pub fn files(cluster: &Cluster<'_>) -> Vec<File> {
    let all = |documents_of: Vec<String>| documents(&documents_of);
    let policies = network::policies(cluster).iter().map(document).collect();
    let mut files = vec![
        File::open("values.yaml", document(&values(cluster))),
        File::open("namespace.yaml", document(&policy::namespace(cluster))),
        File::open("services.yaml", document(&network::nodes(cluster))),
        File::open("networkpolicy.yaml", all(policies)),
        File::open("pdb.yaml", document(&policy::budget(cluster))),
        File::program("post-render/post-render.sh", POST_RENDER),
        File::open(
            "post-render/kustomization.yaml",
            document(&patched(cluster, &["all.yaml"], patches(cluster))),
        ),
        File::open(
            format!("post-render/{NODES_PATCH}"),
            document(&stateful_set(cluster)),
        ),
        File::open(
            format!("post-render/{SERVICES_PATCH}"),
            document(&services(cluster)),
        ),
    ];
    if let Some(database) = &cluster.sql {
        files.push(File::open("mssql.yaml", mssql_file(cluster, database)));
    }
    files
}

/// What the chart calls things (github.com/OctopusDeploy/helm-charts, `values.yaml`).
fn values(cluster: &Cluster<'_>) -> Value {
    let (repository, tag) = parts(&cluster.image);
    let mut octopus = json!({
        "acceptEula": "Y",
        "createSecrets": false,
        "image": {"repository": repository, "tag": tag},
        "replicaCount": cluster.replicas(),
        "enableDockerInDocker": cluster.options.dind,
        "service": {"type": "ClusterIP"},
        "resources": octopus::resources(cluster),
        "containerSecurityContext": octopus::container_security(cluster),
        "podSecurityContext": octopus::pod_security(cluster),
        "extraVolumes": {"homeoctopus": {"type": "emptyDir", "mountPath": "/home/octopus"}},
    });
    for name in [
        "packageRepositoryVolume",
        "artifactVolume",
        "taskLogVolume",
        "auditLogVolume",
    ] {
        octopus[name] = volume(cluster);
    }
    if let Some(host) = &cluster.options.ingress {
        octopus["ingress"] = ingress(cluster, host);
    }
    json!({"octopus": octopus, "mssql": {"enabled": false}})
}

fn volume(cluster: &Cluster<'_>) -> Value {
    json!({
        "size": "50Gi",
        "storageClassName": cluster.options.storage_class.as_deref().unwrap_or_default(),
        "storageAccessMode": if cluster.nodes > 1 { "ReadWriteMany" } else { "ReadWriteOnce" },
    })
}

fn ingress(cluster: &Cluster<'_>, host: &str) -> Value {
    let mut tls = json!({"hosts": [host]});
    if let Some(secret) = &cluster.options.tls_secret {
        tls["secretName"] = json!(secret);
    }
    let pass_through = json!({"nginx.ingress.kubernetes.io/ssl-passthrough": "true"});
    json!({
        "enabled": true,
        "className": cluster.options.ingress_class.as_deref().unwrap_or_default(),
        "hosts": [host],
        "tls": [tls],
        "annotations": network::UPLOADS.into_iter().collect::<BTreeMap<_, _>>(),
        "grpc": {"enabled": true, "annotations": pass_through, "hostPrefix": "grpc"},
    })
}

/// An image's name and tag. Where a digest stands in the place of the tag, the patch names it.
fn parts(image: &str) -> (&str, &str) {
    let plain = image.split('@').next().unwrap_or(image);
    let slash = plain.rfind('/').map_or(0, |at| at + 1);
    match plain[slash..].split_once(':') {
        Some((name, tag)) => (&plain[..slash + name.len()], tag),
        None => (plain, "latest"),
    }
}

/// A change of one kind of object: everything that its target's name fits.
#[derive(Serialize)]
struct Patch {
    path: &'static str,
    target: Target,
}

#[derive(Serialize)]
struct Target {
    kind: &'static str,
    name: String,
}

/// The patches' files, and what each is of.
const NODES_PATCH: &str = "nodes.yaml";
const SERVICES_PATCH: &str = "services.yaml";

fn patches(cluster: &Cluster<'_>) -> Vec<Value> {
    let patch = |path, kind, name| {
        let target = Target { kind, name };
        serde_json::to_value(Patch { path, target })
            .expect("a patch has only texts for keys, so it serialises")
    };
    vec![
        patch(NODES_PATCH, "StatefulSet", cluster.set_name()),
        patch(SERVICES_PATCH, "Service", format!("{CHART}-node.*")),
    ]
}

/// The chart's Services of single nodes let go of a node that still drains its Tentacles' tasks.
fn services(cluster: &Cluster<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "any"},
        "spec": {"publishNotReadyAddresses": true, "type": service_type(cluster)},
    })
}

fn service_type(cluster: &Cluster<'_>) -> &'static str {
    match cluster.options.expose_polling {
        Polling::LoadBalancer => "LoadBalancer",
        Polling::NodePort => "NodePort",
        Polling::None => "ClusterIP",
    }
}

/// What the values cannot say of the nodes. The environment takes the place of the chart's.
fn stateful_set(cluster: &Cluster<'_>) -> Value {
    let mut env = vec![json!({"$patch": "replace"})];
    env.extend(
        cluster
            .octopus
            .variables
            .iter()
            .map(|variable| json!(variable)),
    );
    let replaced = |probe: crate::export::object::Probe| {
        let mut probe = json!(probe);
        probe["$patch"] = json!("replace");
        probe
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": cluster.set_name()},
        "spec": {
            "serviceName": NODES,
            "updateStrategy": octopus::guard(),
            "template": {"spec": {
                "terminationGracePeriodSeconds": cluster.grace_s,
                "enableServiceLinks": false,
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": OCTOPUS,
                    "image": cluster.image,
                    "env": env,
                    "lifecycle": octopus::lifecycle(cluster),
                    "startupProbe": replaced(octopus::startup(cluster)),
                    "livenessProbe": replaced(octopus::liveness(cluster)),
                    "readinessProbe": replaced(octopus::readiness()),
                }],
            }},
        },
    })
}
