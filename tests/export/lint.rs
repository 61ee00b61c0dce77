//! What neither a schema nor an API server sees: that every reference inside an export finds its
//! object, and that no number contradicts another.

use std::collections::BTreeSet;

use octo_local::export::kubernetes::options::Format;
use serde_json::Value;

use super::configurations::Tried;
use super::configurations::documents;
use super::values::secret_of;

/// Everything that is wrong, one line each.
pub(super) fn lint(tried: &Tried) -> Vec<String> {
    let mut found = Vec::new();
    let objects = tried.objects();
    let of =
        |kind: &str| -> Vec<&Value> { objects.iter().filter(|it| it["kind"] == kind).collect() };
    let sets = of("StatefulSet");
    for set in &sets {
        pods(tried, set, &objects, &mut found);
    }
    if tried.options.format == Format::HelmValues {
        chart(tried, &mut found);
    } else {
        for service in of("Service") {
            service_finds_pods(service, &sets, &mut found);
        }
        for object in [of("PodDisruptionBudget"), of("NetworkPolicy")].concat() {
            let Some(set) = sets.iter().find(|set| fits(selector(object), set)) else {
                found.push(format!("{} selects no pod", name(object)));
                continue;
            };
            for rule in object["spec"]["ingress"].as_array().into_iter().flatten() {
                let mut ports = rule["ports"].as_array().unwrap().iter();
                if !ports.all(|port| numbers(set).contains(&port["port"].as_u64().unwrap())) {
                    found.push(format!("{} allows a port that no pod has", name(object)));
                }
            }
        }
        tentacles(tried, &of("Service"), &mut found);
    }
    for ingress in of("Ingress") {
        ingress_finds_service(ingress, &of("Service"), &mut found);
    }
    names(&objects, &mut found);
    found
}

fn name(object: &Value) -> String {
    format!("{} {}", object["kind"], object["metadata"]["name"])
}

fn selector(object: &Value) -> &Value {
    let spec = &object["spec"];
    let labels = [
        &spec["selector"]["matchLabels"],
        &spec["podSelector"]["matchLabels"],
        &spec["selector"],
    ];
    labels.into_iter().find(|it| it.is_object()).unwrap()
}

/// Whether a selector fits the pods of a set.
fn fits(selector: &Value, set: &Value) -> bool {
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let pods_own = "statefulset.kubernetes.io/pod-name";
    let wanted = selector.as_object().unwrap().iter();
    let mut wanted = wanted.filter(|(key, _)| *key != pods_own);
    wanted.all(|(key, value)| labels[key] == *value)
}

fn ports(set: &Value) -> BTreeSet<&str> {
    let ports = &set["spec"]["template"]["spec"]["containers"][0]["ports"];
    let names = ports.as_array().unwrap().iter();
    names.map(|port| port["name"].as_str().unwrap()).collect()
}

fn numbers(set: &Value) -> BTreeSet<u64> {
    let ports = &set["spec"]["template"]["spec"]["containers"][0]["ports"];
    let numbers = ports.as_array().unwrap().iter();
    numbers
        .map(|port| port["containerPort"].as_u64().unwrap())
        .collect()
}

fn pods(tried: &Tried, set: &Value, objects: &[Value], found: &mut Vec<String>) {
    let mut wrong = |is_good: bool, what: &str| {
        if !is_good {
            found.push(format!("{}: {what}", name(set)));
        }
    };
    let spec = &set["spec"];
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    wrong(
        fits(&spec["selector"]["matchLabels"], set),
        "its selector does not fit its pods",
    );
    let headless = objects
        .iter()
        .find(|it| it["kind"] == "Service" && it["metadata"]["name"] == spec["serviceName"]);
    wrong(
        headless.is_some_and(|service| service["spec"]["clusterIP"] == "None"),
        "its service is missing or not headless",
    );
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_u64();
    wrong(
        partition >= spec["replicas"].as_u64(),
        "an edit replaces pods",
    );
    wrong(
        spec["podManagementPolicy"] == "OrderedReady",
        "its pods start at once",
    );
    wrong(pod["enableServiceLinks"] == false, "variables of Services");
    wrong(
        pod["automountServiceAccountToken"] == false,
        "a token of the cluster",
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let probe = &container[probe];
        let port = [&probe["httpGet"]["port"], &probe["tcpSocket"]["port"]];
        let mut port = port.into_iter().filter_map(Value::as_str);
        wrong(
            port.all(|port| ports(set).contains(port)),
            "a probe of no port",
        );
        wrong(probe.is_object(), "a probe is missing");
    }
    wrong(
        container["resources"]["requests"]["memory"].is_string(),
        "no memory asked for",
    );
    wrong(
        container["resources"]["limits"]["memory"].is_string(),
        "no limit of memory",
    );
    let paths = mounts(set, objects, &mut wrong);
    environment(tried, &container["env"], &mut wrong);
    if set["metadata"]["name"] == "octopus" {
        time_to_end(tried, pod, &mut wrong);
        for path in [
            "/repository",
            "/artifacts",
            "/taskLogs",
            "/eventExports",
            "/cache",
        ] {
            wrong(paths.contains(path), "a directory is missing");
        }
        shared_by_all(tried, objects, &mut wrong);
    }
}

/// Every mount is of a volume that is there. Gives their paths.
fn mounts<'a>(
    set: &'a Value,
    objects: &[Value],
    wrong: &mut impl FnMut(bool, &str),
) -> BTreeSet<&'a str> {
    let spec = &set["spec"];
    let pod = &spec["template"]["spec"];
    let claims: BTreeSet<&str> = objects
        .iter()
        .filter(|it| it["kind"] == "PersistentVolumeClaim")
        .map(|claim| claim["metadata"]["name"].as_str().unwrap())
        .collect();
    let mut volumes = BTreeSet::new();
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        volumes.insert(volume["name"].as_str().unwrap());
        let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
        wrong(
            claim.is_none_or(|claim| claims.contains(claim)),
            "a claim that is not there",
        );
    }
    for template in spec["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
    {
        volumes.insert(template["metadata"]["name"].as_str().unwrap());
    }
    let mut paths = BTreeSet::new();
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        wrong(
            volumes.contains(mount["name"].as_str().unwrap()),
            "a mount of no volume",
        );
        wrong(
            paths.insert(mount["mountPath"].as_str().unwrap()),
            "two mounts at one path",
        );
    }
    paths
}

/// Every key is in the Secret, and no variable stands there twice.
fn environment(tried: &Tried, env: &Value, wrong: &mut impl FnMut(bool, &str)) {
    let secret = secret_of(tried.text("secrets.env"));
    let mut names = BTreeSet::new();
    for variable in env.as_array().unwrap() {
        if variable["$patch"].is_string() {
            continue;
        }
        let reference = &variable["valueFrom"]["secretKeyRef"];
        if let Some(key) = reference["key"].as_str() {
            wrong(
                secret.contains_key(key),
                "a key that the Secret does not have",
            );
            wrong(reference["name"] == "octopus-secrets", "another Secret");
        }
        wrong(
            names.insert(variable["name"].as_str().unwrap()),
            "a variable twice",
        );
    }
}

/// The drain, then the end itself, within the grace period; the start within its probe.
fn time_to_end(tried: &Tried, pod: &Value, wrong: &mut impl FnMut(bool, &str)) {
    let container = &pod["containers"][0];
    let command = container["lifecycle"]["preStop"]["exec"]["command"].to_string();
    let wait = command.split("--wait=").nth(1).and_then(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        rest[..end].parse::<u64>().ok()
    });
    let stop = tried.config.timing.node_stop_grace.as_secs().max(60);
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    wrong(
        wait.is_some_and(|wait| grace >= Some(wait + stop)),
        "a drain is not over when the pod is",
    );
    wrong(
        wait == Some(u64::from(tried.options.drain_wait)),
        "another wait",
    );
    let startup = &container["startupProbe"];
    let patience = startup["periodSeconds"]
        .as_u64()
        .zip(startup["failureThreshold"].as_u64());
    let limit = tried.config.timing.node_start_limit.as_secs();
    wrong(
        patience.is_some_and(|(period, times)| period * times >= limit),
        "a start is broken off",
    );
    let is_alive_by_http = container["livenessProbe"]["httpGet"].is_object();
    wrong(!is_alive_by_http, "a drained node counts as dead");
}

fn shared_by_all(tried: &Tried, objects: &[Value], wrong: &mut impl FnMut(bool, &str)) {
    let claim = objects
        .iter()
        .find(|it| it["kind"] == "PersistentVolumeClaim");
    let mode = claim.map(|claim| &claim["spec"]["accessModes"][0]);
    let many = tried.config.octopus.nodes > 1;
    wrong(
        mode.is_some_and(|mode| (*mode == "ReadWriteMany") == many),
        "the shared claim is of the wrong mode",
    );
}

fn service_finds_pods(service: &Value, sets: &[&Value], found: &mut Vec<String>) {
    let Some(set) = sets.iter().find(|set| fits(selector(service), set)) else {
        found.push(format!("{} selects no pod", name(service)));
        return;
    };
    for port in service["spec"]["ports"].as_array().unwrap() {
        if !numbers(set).contains(&port["targetPort"].as_u64().unwrap()) {
            found.push(format!(
                "{}: no container has port {}",
                name(service),
                port["targetPort"]
            ));
        }
    }
}

/// One Service for each node that a Tentacle polls, which the node keeps while it drains, and plain
/// HTTP nowhere outside the cluster.
fn tentacles(tried: &Tried, services: &[&Value], found: &mut Vec<String>) {
    for number in 0..tried.config.octopus.nodes {
        let pod = format!("octopus-{number}");
        let of_node = services.iter().filter(|service| {
            service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == pod
        });
        let good = of_node.filter(|service| service["spec"]["publishNotReadyAddresses"] == true);
        if good.count() != 1 {
            found.push(format!("{pod} has not one Service for Tentacles"));
        }
    }
    let count = services
        .iter()
        .filter(|it| {
            it["metadata"]["name"]
                .as_str()
                .unwrap()
                .ends_with("-tentacle")
        })
        .count();
    if count != usize::from(tried.config.octopus.nodes) {
        found.push(format!("{count} Services for Tentacles"));
    }
    for service in services
        .iter()
        .filter(|it| it["spec"]["type"] != "ClusterIP")
    {
        let ports = service["spec"]["ports"].as_array().unwrap();
        if ports.iter().any(|port| port["name"] != "polling") {
            found.push(format!("{} shows more than polling", name(service)));
        }
    }
}

fn ingress_finds_service(ingress: &Value, services: &[&Value], found: &mut Vec<String>) {
    for rule in ingress["spec"]["rules"].as_array().unwrap() {
        let backend = &rule["http"]["paths"][0]["backend"]["service"];
        let service = services
            .iter()
            .find(|it| it["metadata"]["name"] == backend["name"]);
        let ports = service.map(|service| service["spec"]["ports"].as_array().unwrap());
        if !ports.is_some_and(|ports| {
            ports
                .iter()
                .any(|port| port["name"] == backend["port"]["name"])
        }) {
            found.push(format!("{} leads nowhere", name(ingress)));
        }
        let hosts = &ingress["spec"]["tls"][0]["hosts"];
        if hosts[0] != rule["host"] {
            found.push(format!("{} has no TLS", name(ingress)));
        }
    }
}

/// Names that every server takes, each once, in one namespace.
fn names(objects: &[Value], found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let namespace = objects.iter().find(|it| it["kind"] == "Namespace").unwrap();
    for object in objects {
        let text = object["metadata"]["name"].as_str().unwrap();
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_good = text.len() <= 63
            && text.starts_with(|letter: char| letter.is_ascii_lowercase())
            && text.bytes().all(is_inner)
            && !text.ends_with('-');
        if !is_good {
            found.push(format!(
                "{}: a name that not every server takes",
                name(object)
            ));
        }
        if !seen.insert(name(object)) {
            found.push(format!("{} twice", name(object)));
        }
        let is_inside = object["metadata"]["namespace"] == namespace["metadata"]["name"];
        let is_of_cluster = object["metadata"]["namespace"].is_null();
        let kind = object["kind"].as_str().unwrap();
        if is_of_cluster != (kind == "Namespace" || kind.starts_with("Validating")) {
            found.push(format!("{}: in no namespace", name(object)));
        } else if !is_of_cluster && !is_inside {
            found.push(format!("{}: in another namespace", name(object)));
        }
        let labels = &object["metadata"]["labels"];
        if labels["app.kubernetes.io/part-of"] != "octopus-deploy" {
            found.push(format!("{}: says not what it belongs to", name(object)));
        }
    }
}

/// The patch of the chart's StatefulSet.
fn chart(tried: &Tried, found: &mut Vec<String>) {
    let patch = &documents(tried.text("post-render/nodes.yaml"))[0];
    let pod = &patch["spec"]["template"]["spec"];
    let mut wrong = |is_good: bool, what: &str| {
        if !is_good {
            found.push(format!("the patch: {what}"));
        }
    };
    environment(tried, &pod["containers"][0]["env"], &mut wrong);
    time_to_end(tried, pod, &mut wrong);
    let values = &documents(tried.text("values.yaml"))[0]["octopus"];
    wrong(
        values["replicaCount"] == tried.config.octopus.nodes,
        "another number of nodes",
    );
    let mode = &values["packageRepositoryVolume"]["storageAccessMode"];
    wrong(
        (*mode == "ReadWriteMany") == (tried.config.octopus.nodes > 1),
        "files of the wrong mode",
    );
}
