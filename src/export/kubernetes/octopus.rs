//! The nodes: one StatefulSet that never runs two versions, drains before it stops, and waits long
//! enough at a start.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::cluster::GRPC;
use super::cluster::NODES;
use super::cluster::OCTOPUS;
use super::cluster::POLLING;
use super::cluster::SHARED_CLAIM;
use super::cluster::WEB;
use super::options::Flavour;
use crate::config::limits::Memory;
use crate::config::limits::Processors;
use crate::config::vendor::POLLING_PORT;
use crate::config::vendor::WEB_PORT;
use crate::export::object::Affinity;
use crate::export::object::AffinityTerm;
use crate::export::object::AntiAffinity;
use crate::export::object::Capabilities;
use crate::export::object::Check;
use crate::export::object::Claim;
use crate::export::object::ClaimRef;
use crate::export::object::ClaimRetention;
use crate::export::object::Container;
use crate::export::object::ContainerPort;
use crate::export::object::ContainerSecurity;
use crate::export::object::Exec;
use crate::export::object::Hook;
use crate::export::object::Lifecycle;
use crate::export::object::Metadata;
use crate::export::object::Mount;
use crate::export::object::Object;
use crate::export::object::Pod;
use crate::export::object::PodSecurity;
use crate::export::object::PodTemplate;
use crate::export::object::Probe;
use crate::export::object::Resources;
use crate::export::object::RollingUpdate;
use crate::export::object::Seccomp;
use crate::export::object::Selector;
use crate::export::object::Spread;
use crate::export::object::StatefulSet;
use crate::export::object::StorageResources;
use crate::export::object::UpdateStrategy;
use crate::export::object::Volume;
use crate::export::object::WeightedTerm;

/// More than there are ever nodes: no change of the template replaces a pod by itself. The new one
/// counts once the set has been scaled to nothing, which `upgrade.sh` does: so two versions never
/// run on one database.
pub const PARTITION: u32 = 1000;
/// What answers 200 when a node serves, 418 when it is drained (octopus.com/docs, load balancers).
pub const PING: &str = "/api/octopusservernodes/ping";
/// The program in both images.
pub const SERVER: &str = "/Octopus/Octopus.Server";
/// How much the nodes share at first. A class that allows it makes it larger.
const SHARED_SIZE: &str = "100Gi";
/// How often a node that starts is asked.
const START_PERIOD_S: u32 = 5;
/// The directory of the claims and of `/cache` and the home of a node.
const SHARED: &str = "shared";
const HOME: &str = "home";
const CACHE: &str = "cache";

/// The claim of what the nodes share, which every pod mounts.
pub fn claim(cluster: &Cluster<'_>) -> Object<Claim> {
    let mode = if cluster.nodes > 1 {
        "ReadWriteMany"
    } else {
        "ReadWriteOnce"
    };
    Object {
        api_version: "v1",
        kind: "PersistentVolumeClaim",
        metadata: cluster.metadata(OCTOPUS, SHARED_CLAIM),
        spec: Some(Claim {
            access_modes: vec![mode],
            storage_class_name: cluster.options.storage_class.clone(),
            resources: StorageResources {
                requests: BTreeMap::from([("storage", SHARED_SIZE.to_owned())]),
            },
        }),
    }
}

/// The nodes.
pub fn stateful_set(cluster: &Cluster<'_>) -> Object<StatefulSet> {
    let mut metadata = cluster.metadata(OCTOPUS, OCTOPUS);
    if let Some(version) = &cluster.version {
        metadata
            .labels
            .insert("app.kubernetes.io/version", version.clone());
    }
    Object {
        api_version: "apps/v1",
        kind: "StatefulSet",
        metadata,
        spec: Some(StatefulSet {
            replicas: cluster.replicas(),
            service_name: NODES,
            pod_management_policy: "OrderedReady",
            update_strategy: guard(),
            persistent_volume_claim_retention_policy: ClaimRetention {
                when_deleted: "Retain",
                when_scaled: "Retain",
            },
            selector: Selector {
                match_labels: cluster.selector(OCTOPUS),
            },
            template: PodTemplate {
                metadata: Metadata {
                    labels: cluster.labels(OCTOPUS),
                    ..Metadata::default()
                },
                spec: pod(cluster),
            },
            volume_claim_templates: Vec::new(),
        }),
    }
}

/// See [`PARTITION`].
pub fn guard() -> UpdateStrategy {
    UpdateStrategy {
        kind: "RollingUpdate",
        rolling_update: Some(RollingUpdate {
            partition: PARTITION,
        }),
    }
}

fn pod(cluster: &Cluster<'_>) -> Pod {
    Pod {
        termination_grace_period_seconds: cluster.grace_s,
        enable_service_links: false,
        automount_service_account_token: false,
        priority_class_name: cluster.options.priority_class.clone(),
        security_context: pod_security(cluster),
        affinity: Some(apart(cluster)),
        topology_spread_constraints: vec![Spread {
            max_skew: 1,
            topology_key: "topology.kubernetes.io/zone",
            when_unsatisfiable: "ScheduleAnyway",
            label_selector: Selector {
                match_labels: cluster.selector(OCTOPUS),
            },
        }],
        containers: vec![container(cluster)],
        volumes: volumes(),
    }
}

/// Nodes on different machines where that is possible.
fn apart(cluster: &Cluster<'_>) -> Affinity {
    Affinity {
        pod_anti_affinity: AntiAffinity {
            preferred: vec![WeightedTerm {
                weight: 100,
                pod_affinity_term: AffinityTerm {
                    label_selector: Selector {
                        match_labels: cluster.selector(OCTOPUS),
                    },
                    topology_key: "kubernetes.io/hostname",
                },
            }],
        },
    }
}

/// The users that the vendor's images have (octopus.com/docs, hardened image; the vendor's chart).
/// Docker-in-Docker needs root.
pub fn pod_security(cluster: &Cluster<'_>) -> PodSecurity {
    if cluster.options.dind {
        return PodSecurity::default();
    }
    let (user, group) = match cluster.options.image_flavour {
        Flavour::Standard => (999, 999),
        Flavour::Hardened => (1001, 0),
    };
    PodSecurity {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(group),
        fs_group: Some(if group == 0 { user } else { group }),
        fs_group_change_policy: Some("OnRootMismatch"),
        seccomp_profile: Some(Seccomp {
            kind: "RuntimeDefault",
        }),
    }
}

/// What the container may do.
pub fn container_security(cluster: &Cluster<'_>) -> ContainerSecurity {
    if cluster.options.dind {
        return ContainerSecurity {
            privileged: Some(true),
            ..ContainerSecurity::default()
        };
    }
    ContainerSecurity {
        privileged: None,
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: vec!["ALL"],
            add: Vec::new(),
        }),
    }
}

fn container(cluster: &Cluster<'_>) -> Container {
    let port = |name, container_port| ContainerPort {
        name,
        container_port,
    };
    Container {
        name: OCTOPUS,
        image: cluster.image.clone(),
        image_pull_policy: "IfNotPresent",
        env: cluster.octopus.variables.clone(),
        ports: vec![
            port(WEB, WEB_PORT),
            port(GRPC, cluster.grpc_port),
            port(POLLING, POLLING_PORT),
        ],
        security_context: container_security(cluster),
        resources: resources(cluster),
        lifecycle: lifecycle(cluster),
        startup_probe: startup(cluster),
        liveness_probe: liveness(cluster),
        readiness_probe: readiness(),
        volume_mounts: mounts(cluster),
    }
}

/// What they may have here, else what a small installation needs (octopus.com/docs, requirements: 2
/// cores, 4 GB).
pub fn resources(cluster: &Cluster<'_>) -> Resources {
    let limits = &cluster.limits;
    let most = limits.memory.map_or(4096, Memory::mebibytes);
    amounts(500, most.min(2048), most, limits.processors)
}

/// Thousandths of a processor and megabytes at least, and both at most.
pub fn amounts(cpu: u64, memory: u64, most: u64, processors: Option<Processors>) -> Resources {
    let mebibytes = |memory: u64| {
        if memory.is_multiple_of(1024) {
            format!("{}Gi", memory / 1024)
        } else {
            format!("{memory}Mi")
        }
    };
    let of = |cpu: Option<u64>, memory: u64| {
        let cpu = cpu.map(|cpu| ("cpu", format!("{cpu}m")));
        cpu.into_iter()
            .chain([("memory", mebibytes(memory))])
            .collect()
    };
    let all = processors.map(Processors::thousandths);
    Resources {
        requests: of(Some(all.map_or(cpu, |all| cpu.min(all))), memory),
        limits: of(all, most),
    }
}

fn mounts(cluster: &Cluster<'_>) -> Vec<Mount> {
    let home = if cluster.options.dind {
        "/root/.octopus"
    } else {
        "/home/octopus"
    };
    let own = |name, path: &str| Mount {
        name,
        mount_path: path.to_owned(),
        sub_path: None,
    };
    let shared = cluster.shared.iter().map(|(path, directory)| Mount {
        name: SHARED,
        mount_path: path.clone(),
        sub_path: Some(directory.clone()),
    });
    shared
        .chain([own(CACHE, "/cache"), own(HOME, home)])
        .collect()
}

/// Git clones, the cache and the server's own logs belong to one node, and go with its pod.
fn volumes() -> Vec<Volume> {
    let own = |name| Volume {
        name,
        persistent_volume_claim: None,
        empty_dir: Some(BTreeMap::new()),
    };
    let shared = Volume {
        name: SHARED,
        persistent_volume_claim: Some(ClaimRef {
            claim_name: SHARED_CLAIM,
        }),
        empty_dir: None,
    };
    vec![shared, own(CACHE), own(HOME)]
}

fn exec<const N: usize>(words: [&str; N]) -> Exec {
    Exec {
        command: words.map(str::to_owned).to_vec(),
    }
}

/// Before the end: no new tasks, then the running ones get their time. After the start of a node
/// that was drained before: it serves again. What is drained is kept in the database, so a new pod
/// of the same name comes up drained. The hook itself returns at once: no probe runs before.
pub fn lifecycle(cluster: &Cluster<'_>) -> Lifecycle {
    let wait = cluster.options.drain_wait;
    if cluster.options.image_flavour == Flavour::Hardened {
        let wait = format!("--wait={wait}");
        let words = [
            SERVER,
            "node",
            "--instance=OctopusServer",
            "--drain=true",
            &wait,
            "--cancel-tasks",
        ];
        return Lifecycle {
            post_start: None,
            pre_stop: Some(Hook { exec: exec(words) }),
        };
    }
    let node = format!("{SERVER} node --instance=OctopusServer");
    let drain = format!(
        "touch /tmp/ending; {node} --drain=true --wait={wait} --cancel-tasks >/proc/1/fd/1 2>&1 || true"
    );
    let tries = cluster.start_limit_s / 2;
    let undrain = format!(
        "(tries=0; while [ $tries -lt {tries} ] && [ ! -e /tmp/ending ]; do \
         case $({code}) in 200) break;; 418) {node} --drain=false;; esac; \
         tries=$((tries + 1)); sleep 2; done) </dev/null >/proc/1/fd/1 2>&1 &",
        code = status_code(),
    );
    let bash = |script: &str| Hook {
        exec: exec(["/bin/bash", "-c", script]),
    };
    Lifecycle {
        post_start: Some(bash(&undrain)),
        pre_stop: Some(bash(&drain)),
    }
}

fn status_code() -> String {
    format!("curl -s -o /dev/null -m 4 -w '%{{http_code}}' http://127.0.0.1:8080{PING}")
}

/// A drained node answers 418 and is well: an HTTP probe would take that for a failure.
fn alive(cluster: &Cluster<'_>) -> Check {
    Check::Exec(match cluster.options.image_flavour {
        Flavour::Hardened => exec([SERVER, "container-healthcheck"]),
        Flavour::Standard => {
            let script = format!("case $({}) in 200|418) ;; *) exit 1;; esac", status_code());
            exec(["/bin/bash", "-c", &script])
        }
    })
}

/// A start may change a large database, and is not broken off meanwhile.
pub fn startup(cluster: &Cluster<'_>) -> Probe {
    Probe {
        check: alive(cluster),
        period_seconds: START_PERIOD_S,
        timeout_seconds: 5,
        failure_threshold: cluster.start_limit_s.div_ceil(START_PERIOD_S),
    }
}

/// A node that hangs for five minutes is restarted.
pub fn liveness(cluster: &Cluster<'_>) -> Probe {
    Probe {
        check: alive(cluster),
        period_seconds: 30,
        timeout_seconds: 5,
        failure_threshold: 10,
    }
}

/// A node that is drained or does not answer gets no visitors.
pub fn readiness() -> Probe {
    let (path, port) = (PING, WEB);
    Probe {
        check: Check::HttpGet { path, port },
        period_seconds: 5,
        timeout_seconds: 5,
        failure_threshold: 3,
    }
}
