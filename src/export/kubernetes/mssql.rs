//! SQL Server in the cluster: one pod that keeps its name and its data.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::cluster::Database;
use super::cluster::MSSQL;
use super::cluster::TDS;
use super::cluster::TDS_PORT;
use super::octopus;
use crate::config::limits::Memory;
use crate::export::object::Capabilities;
use crate::export::object::Check;
use crate::export::object::Claim;
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
use crate::export::object::Seccomp;
use crate::export::object::Selector;
use crate::export::object::Service;
use crate::export::object::ServicePort;
use crate::export::object::StatefulSet;
use crate::export::object::StorageResources;

/// The user of the image since 2019 (learn.microsoft.com, `sql-server-linux-docker-container-security`).
const USER: u32 = 10001;
/// SQL Server Express ends at 10 GB a database; logs and backups come to that.
const DATA_SIZE: &str = "30Gi";
const DATA: &str = "data";

/// Its Service: names without an address, so that a connection is to the pod itself.
pub fn service(cluster: &Cluster<'_>) -> Object<Service> {
    Object {
        api_version: "v1",
        kind: "Service",
        metadata: cluster.metadata(MSSQL, MSSQL),
        spec: Some(Service {
            kind: "ClusterIP",
            cluster_ip: Some("None"),
            publish_not_ready_addresses: false,
            selector: cluster.selector(MSSQL),
            ports: vec![ServicePort {
                name: TDS,
                port: TDS_PORT,
                target_port: TDS_PORT,
            }],
        }),
    }
}

/// Its pod.
pub fn stateful_set(cluster: &Cluster<'_>, database: &Database) -> Object<StatefulSet> {
    Object {
        api_version: "apps/v1",
        kind: "StatefulSet",
        metadata: cluster.metadata(MSSQL, MSSQL),
        spec: Some(StatefulSet {
            replicas: 1,
            service_name: MSSQL,
            pod_management_policy: "OrderedReady",
            // An edit takes effect when the set is scaled to nothing on purpose, with the nodes down.
            update_strategy: octopus::guard(),
            persistent_volume_claim_retention_policy: ClaimRetention {
                when_deleted: "Retain",
                when_scaled: "Retain",
            },
            selector: Selector {
                match_labels: cluster.selector(MSSQL),
            },
            template: PodTemplate {
                metadata: Metadata {
                    labels: cluster.labels(MSSQL),
                    ..Metadata::default()
                },
                spec: pod(cluster, database),
            },
            volume_claim_templates: vec![claim(cluster)],
        }),
    }
}

fn claim(cluster: &Cluster<'_>) -> Object<Claim> {
    Object {
        api_version: "v1",
        kind: "PersistentVolumeClaim",
        metadata: Metadata {
            name: DATA.to_owned(),
            ..Metadata::default()
        },
        spec: Some(Claim {
            access_modes: vec!["ReadWriteOnce"],
            storage_class_name: cluster.options.sql_storage_class.clone(),
            resources: StorageResources {
                requests: BTreeMap::from([("storage", DATA_SIZE.to_owned())]),
            },
        }),
    }
}

fn pod(cluster: &Cluster<'_>, database: &Database) -> Pod {
    Pod {
        termination_grace_period_seconds: database.grace_s,
        enable_service_links: false,
        automount_service_account_token: false,
        priority_class_name: cluster.options.priority_class.clone(),
        security_context: PodSecurity {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch"),
            seccomp_profile: Some(Seccomp {
                kind: "RuntimeDefault",
            }),
        },
        affinity: None,
        topology_spread_constraints: Vec::new(),
        containers: vec![container(database)],
        volumes: Vec::new(),
    }
}

fn container(database: &Database) -> Container {
    let probe = |check, period_seconds, failure_threshold| Probe {
        check,
        period_seconds,
        timeout_seconds: 10,
        failure_threshold,
    };
    let listens = || Check::TcpSocket { port: TDS };
    Container {
        name: MSSQL,
        image: database.image.clone(),
        image_pull_policy: "IfNotPresent",
        env: database.environment.variables.clone(),
        ports: vec![ContainerPort {
            name: TDS,
            container_port: TDS_PORT,
        }],
        // The server's file has the capability to bind low ports, and is refused where the
        // container may not have it.
        security_context: ContainerSecurity {
            privileged: None,
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: vec!["ALL"],
                add: vec!["NET_BIND_SERVICE"],
            }),
        },
        resources: resources(database),
        lifecycle: Lifecycle {
            post_start: None,
            // SQL Server 2022 takes no notice of SIGTERM.
            pre_stop: Some(Hook {
                exec: sqlcmd("SHUTDOWN"),
            }),
        },
        startup_probe: probe(listens(), 5, database.start_limit_s.div_ceil(5)),
        liveness_probe: probe(listens(), 20, 6),
        readiness_probe: probe(Check::Exec(sqlcmd("SELECT 1")), 10, 3),
        volume_mounts: vec![Mount {
            name: DATA,
            mount_path: "/var/opt/mssql".to_owned(),
            sub_path: None,
        }],
    }
}

/// What it may have here, else a third more memory than SQL Server may use, for what it needs beside
/// its own limit.
fn resources(database: &Database) -> Resources {
    let needed = u64::from(database.memory_mb) * 4 / 3 + 1;
    let memory = database.limits.memory.map_or(needed, Memory::mebibytes);
    octopus::amounts(500, memory, memory, database.limits.processors)
}

/// A statement by the image's own client, which newer images have at another place and which then
/// checks certificates. The password is in the environment.
fn sqlcmd(statement: &str) -> Exec {
    let script = format!(
        "new=/opt/mssql-tools18/bin/sqlcmd; old=/opt/mssql-tools/bin/sqlcmd; \
         if [ -x $new ]; then exec $new -C -b -l 5 -S 127.0.0.1 -U sa -Q '{statement}'; fi; \
         exec $old -b -l 5 -S 127.0.0.1 -U sa -Q '{statement}'"
    );
    Exec {
        command: ["/bin/bash", "-c", &script].map(str::to_owned).to_vec(),
    }
}
