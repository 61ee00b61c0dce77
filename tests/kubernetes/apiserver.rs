//! What the API server behind the stand-in of kubectl says, and what runs in its pods.

use serde_json::Value;
use serde_json::json;

use super::model::Cluster;
use super::model::Database;
use super::model::Doing;
use super::model::Node;
use super::model::image;
use super::model::labels;
use super::model::own_labels;
use super::standin::Answer;
use super::standin::Around;

/// A call that only looks.
pub(super) fn look(cluster: &Cluster, around: &Around, parts: &[&str]) -> Answer {
    match parts[..] {
        ["get", "statefulsets", ..] => {
            let mut items = vec![set_json(cluster, around)];
            if around.has_sql {
                items.push(sql_set());
            }
            Answer::json(&json!({"kind": "List", "items": items}))
        }
        ["get", "statefulset", "octopus", ..] => Answer::json(&set_json(cluster, around)),
        ["get", "pods", "-l", selector, ..] => {
            assert_eq!(
                selector,
                "app.kubernetes.io/instance=octo,app.kubernetes.io/name=octopus"
            );
            let items: Vec<Value> = cluster
                .nodes
                .iter()
                .map(|node| pod_json(node, around))
                .collect();
            Answer::json(&json!({"kind": "List", "items": items}))
        }
        [
            "get",
            "pods",
            "--field-selector",
            "metadata.name=octo-local-handover",
            ..,
        ] => {
            let items: Vec<Value> = around.helper.iter().map(running).collect();
            Answer::json(&json!({"kind": "List", "items": items}))
        }
        ["get", "pod", "mssql-0", ..] if around.sql_pod_is_gone => {
            Answer::server("NotFound", "pods \"mssql-0\" not found")
        }
        ["get", "pod", "mssql-0", ..] if around.has_sql => Answer::json(&json!({
            "metadata": {"name": "mssql-0", "uid": "sql"},
            "spec": {"containers": [{"name": "mssql", "image": "mssql:2022"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        })),
        ["get", "services", ..] => Answer::json(&json!({"items": [{
            "metadata": {"name": "octopus-0-tentacle"},
            "spec": {
                "selector": {"statefulset.kubernetes.io/pod-name": "octopus-0"},
                "ports": [{"port": 10943}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
        }]})),
        ["get", "--raw", path] => ping(cluster, path),
        ["port-forward", _, ":8080"] => match around.node {
            Some(address) => Answer {
                code: "stay".to_owned(),
                ..Answer::good(format!("Forwarding from {address} -> 8080\n"))
            },
            None => Answer::bad("error: unable to forward port"),
        },
        _ => panic!("kubectl was asked for {parts:?}"),
    }
}

fn ping(cluster: &Cluster, path: &str) -> Answer {
    let node = path
        .split("/pods/octopus-")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    let number: u32 = node.unwrap().parse().unwrap();
    let node = cluster.nodes.iter().find(|node| node.number == number);
    match node {
        Some(node) if node.is_drained => Answer::bad(
            "Error from server: the server responded with the status code 418 but did not return more information",
        ),
        Some(_) => Answer::good("{}"),
        None => Answer::server("NotFound", "pods \"octopus-0\" not found"),
    }
}

/// A call that changes something.
pub(super) fn change(
    cluster: &mut Cluster,
    around: &mut Around,
    parts: &[&str],
    input: &[u8],
) -> Answer {
    match parts[..] {
        [
            "patch",
            "statefulset",
            "octopus",
            "--type=strategic",
            "-p",
            patch,
            "-o",
            "name",
        ] => patched(cluster, around, &serde_json::from_str(patch).unwrap()),
        ["delete", "--raw", path, "-f", "-"] => ended(cluster, path, input),
        [
            "delete",
            "pod",
            "octo-local-handover",
            "--ignore-not-found",
            "--wait=false",
        ] => {
            around.helper = None;
            Answer::good("")
        }
        ["create", "-f", "-", "-o", "name"] => {
            around.helper = Some(serde_json::from_slice(input).unwrap());
            Answer::good("pod/octo-local-handover")
        }
        ["exec", ref words @ ..] => in_pod(cluster, around, words, input),
        _ => panic!("kubectl was asked for {parts:?}"),
    }
}

/// A program runs in a pod.
fn in_pod(cluster: &mut Cluster, around: &mut Around, words: &[&str], input: &[u8]) -> Answer {
    match words[..] {
        [
            "-i",
            "mssql-0",
            "-c",
            "mssql",
            "--",
            "/bin/bash",
            "-c",
            _,
            "put",
            file,
        ] => {
            around.sql_files.insert(file.to_owned(), input.to_vec());
            Answer::good("")
        }
        ["mssql-0", "-c", "mssql", "--", ref command @ ..] => in_sql(cluster, around, command),
        [
            "-i",
            "octo-local-handover",
            "-c",
            "octopus",
            "--",
            "/bin/bash",
            "-c",
            _,
            act,
            dir,
        ] => in_helper(around, act, dir, input),
        [
            pod,
            "-c",
            "octopus",
            "--",
            "/Octopus/Octopus.Server",
            "node",
            _,
            "--drain=false",
        ] => {
            cluster.undrain(pod.rsplit('-').next().unwrap().parse().unwrap());
            Answer::good("")
        }
        _ => panic!("kubectl exec was asked for {words:?}"),
    }
}

/// A pod is told to end, if it is the one that is meant.
fn ended(cluster: &mut Cluster, path: &str, input: &[u8]) -> Answer {
    let options: Value = serde_json::from_slice(input).unwrap();
    let uid = options["preconditions"]["uid"].as_str().unwrap();
    let number: u32 = path.rsplit("octopus-").next().unwrap().parse().unwrap();
    assert_eq!(
        path,
        format!("/api/v1/namespaces/octo/pods/octopus-{number}")
    );
    match cluster.nodes.iter().find(|node| node.number == number) {
        None => Answer::server("NotFound", "pods \"octopus-0\" not found"),
        Some(node) if node.uid.to_string() != uid => {
            Answer::server("Conflict", "Precondition failed: UID in precondition")
        }
        Some(node) => {
            let uid = node.uid;
            cluster.end(uid);
            Answer::good("{}")
        }
    }
}

/// A strategic merge patch, onto one version of the object.
fn patched(cluster: &mut Cluster, around: &Around, patch: &Value) -> Answer {
    let onto = patch["metadata"]["resourceVersion"].as_str().unwrap();
    let to = patch["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
    if to.is_some() && cluster.existing > 0 {
        // The exported guard.
        return Answer::bad(
            "The statefulsets \"octopus\" is invalid: : ValidatingAdmissionPolicy 'octopus-upgrade-guard-octo' with binding \
             'octopus-upgrade-guard-octo' denied request: the Octopus image may change only while no node runs",
        );
    }
    let first = around.first_image.clone();
    let is_written = cluster.patch(onto, |cluster| {
        if let Some(nodes) = patch["spec"]["replicas"].as_u64() {
            cluster.wished = u32::try_from(nodes).unwrap();
        }
        if let Some(image) = to {
            let number = image.rsplit(':').next().unwrap().parse();
            cluster.template = if first.as_deref() == Some(image) {
                1
            } else {
                number.unwrap()
            };
        }
        match patch["metadata"]["annotations"].get("octo-local/upgrade") {
            Some(Value::String(text)) => cluster.record = Some(text.clone()),
            Some(_) => cluster.record = None,
            None => {}
        }
    });
    if is_written {
        return Answer::good("statefulset.apps/octopus");
    }
    Answer::server(
        "Conflict",
        "Operation cannot be fulfilled on statefulsets.apps \"octopus\": the object has been modified; please apply your changes \
         to the latest version and try again",
    )
}

fn in_sql(cluster: &mut Cluster, around: &mut Around, command: &[&str]) -> Answer {
    let ended = |said: &str| Answer::bad(format!("{said}\ncommand terminated with exit code 1"));
    match command {
        ["rm", "-f", file] => {
            around.sql_files.remove(*file);
            Answer::good("")
        }
        ["/bin/bash", "-c", _, "sum", file] => {
            use sha2::Digest as _;
            let sum = sha2::Sha256::digest(&around.sql_files[*file]);
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            Answer::good(format!("{sum}  -\n"))
        }
        ["/bin/bash", "-c", _, "sql", statement] if statement.contains("sys.databases") => {
            let name = cluster
                .database
                .map(|_| around.database.as_deref().unwrap_or("Octopus"));
            Answer::good(name.map(|name| format!("{name}\n")).unwrap_or_default())
        }
        ["/bin/bash", "-c", _, "sql", statement] if statement.starts_with("BACKUP DATABASE") => {
            if around.faults.backups {
                return ended(
                    "Msg 3202, Level 16, State 1: Write on \"x.bak\" failed: 112(There is not enough space on the disk.)",
                );
            }
            cluster.back_up(file_of(statement));
            Answer::good("BACKUP DATABASE successfully processed 1 pages")
        }
        ["/bin/bash", "-c", _, "sql", statement] if statement.starts_with("RESTORE VERIFYONLY") => {
            Answer::good("The backup set on file 1 is valid.")
        }
        ["/bin/bash", "-c", _, "sql", statement] if statement.contains("RESTORE DATABASE") => {
            let file = file_of(statement);
            if around.sql_files.contains_key(file) {
                cluster.database = Some(Database {
                    version: 1,
                    work: 100,
                });
                return Answer::good("");
            }
            if cluster.restore(file) {
                return Answer::good("RESTORE DATABASE successfully processed 1 pages");
            }
            ended(
                "Msg 3101: Exclusive access could not be obtained because the database is in use.",
            )
        }
        _ => panic!("SQL Server's pod was asked for {command:?}"),
    }
}

fn file_of(statement: &str) -> &str {
    let (_, rest) = statement.split_once("DISK = N'").unwrap();
    rest.split('\'').next().unwrap()
}

/// Unpacks as tar does, and compares as sha256sum does.
fn in_helper(around: &mut Around, act: &str, dir: &str, input: &[u8]) -> Answer {
    assert!(
        around.helper.is_some(),
        "files go through a pod that is there"
    );
    if act == "compare" {
        use sha2::Digest as _;
        for line in String::from_utf8(input.to_vec()).unwrap().lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let bytes = &around.files[&format!("{dir}/{}", name.trim_start_matches("./"))];
            let is = sha2::Sha256::digest(bytes);
            let is: String = is.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(is, sum, "{name}");
        }
        return Answer::good("");
    }
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if entry.header().entry_type().is_file() {
            around
                .files
                .insert(format!("{dir}/{}", name.trim_start_matches("./")), bytes);
        }
    }
    Answer::good("")
}

/// The image of a version, as this cluster calls it.
fn called(version: u32, around: &Around) -> String {
    match &around.first_image {
        Some(first) if version == 1 => first.clone(),
        Some(_) | None => image(version),
    }
}

/// The StatefulSet as the API server shows it.
pub(super) fn set_json(cluster: &Cluster, around: &Around) -> Value {
    let mut container = json!({
        "name": "octopus",
        "image": called(cluster.template, around),
        "volumeMounts": [{"name": "shared", "mountPath": "/repository", "subPath": "repository"}],
    });
    if let Some(env) = &around.env {
        container["env"] = env.clone();
    }
    if cluster.nature.undrains_itself {
        container["lifecycle"] =
            json!({"postStart": {"exec": {"command": ["/bin/bash", "-c", "x"]}}});
    }
    let policy = if cluster.nature.is_parallel {
        "Parallel"
    } else {
        "OrderedReady"
    };
    let mut annotations = json!({});
    if let Some(record) = &cluster.record {
        annotations["octo-local/upgrade"] = json!(record);
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "octopus",
            "uid": "set",
            "resourceVersion": cluster.resource_version.to_string(),
            "generation": cluster.generation,
            "labels": own_labels(),
            "annotations": annotations,
        },
        "spec": {
            "replicas": cluster.wished,
            "podManagementPolicy": policy,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": around.partition.unwrap_or(1000)}},
            "selector": {"matchLabels": labels()},
            "template": {"spec": {
                "terminationGracePeriodSeconds": 600,
                "securityContext": {"runAsUser": 999, "runAsNonRoot": true},
                "containers": [container],
                "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "octopus-shared"}}],
            }},
        },
        "status": {
            "observedGeneration": cluster.observed,
            "replicas": cluster.existing,
            "currentRevision": format!("octopus-{}", cluster.current),
            "updateRevision": format!("octopus-{}", cluster.update),
        },
    })
}

fn sql_set() -> Value {
    let mut labels = own_labels();
    labels.insert("app.kubernetes.io/name".to_owned(), "mssql".to_owned());
    json!({"metadata": {"name": "mssql", "labels": labels}, "spec": {"replicas": 1}})
}

/// A pod as the API server shows it.
pub(super) fn pod_json(node: &Node, around: &Around) -> Value {
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let (state, is_started) = match node.doing {
        Doing::Pulling { .. } => (waiting("ContainerCreating"), false),
        Doing::NoImage => (waiting("ImagePullBackOff"), false),
        Doing::Starting { .. } => (
            json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            false,
        ),
        Doing::Serving => (
            json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            true,
        ),
        Doing::BackingOff { .. } => (waiting("CrashLoopBackOff"), false),
    };
    let is_ready = node.is_ready();
    let last = if node.restarts > 0 {
        json!({"terminated": {"exitCode": 1, "reason": "Error"}})
    } else {
        json!({})
    };
    let mut metadata =
        json!({"name": format!("octopus-{}", node.number), "uid": node.uid.to_string()});
    if node.ends_at.is_some() {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    json!({
        "metadata": metadata,
        "spec": {
            "nodeName": "worker-1",
            "containers": [
                {"name": "mesh", "image": "mesh:1"},
                {"name": "octopus", "image": called(node.version, around)},
            ],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            "containerStatuses": [
                {"name": "mesh", "ready": true, "restartCount": 0, "state": {"running": {}}},
                {
                    "name": "octopus", "ready": is_ready, "started": is_started,
                    "restartCount": node.restarts, "state": state, "lastState": last,
                },
            ],
        },
    })
}

fn running(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["uid"] = json!("helper");
    pod["status"] = json!({
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "octopus", "ready": true, "started": true, "restartCount": 0, "state": {"running": {}}},
        ],
    });
    pod
}
