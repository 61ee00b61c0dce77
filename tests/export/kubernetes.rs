//! The manifests: of the API's own types without a field left over, and every choice where it
//! belongs.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use octo_local::config::Problem;
use octo_local::export::file::Access;
use octo_local::export::kubernetes;
use octo_local::export::kubernetes::options::Format;
use octo_local::kubernetes::seen::Set;
use serde_json::Value;
use serde_json::json;

use super::configurations::KEY;
use super::configurations::Tried;
use super::configurations::all;
use super::configurations::config;
use super::configurations::documents;
use super::configurations::has_ending;
use super::configurations::options;
use super::configurations::with_source;
use super::lint::lint;
use super::values::secret_of;

/// Read as its type and written again: a field with a name or a form that the API does not have is
/// lost or refused.
fn through<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{error}: {object:#}"));
    serde_json::to_value(typed).unwrap()
}

fn typed(object: &Value) -> Value {
    match object["kind"].as_str().unwrap() {
        "Namespace" => through::<Namespace>(object),
        "StatefulSet" => through::<StatefulSet>(object),
        "Service" => through::<Service>(object),
        "PersistentVolumeClaim" => through::<PersistentVolumeClaim>(object),
        "Ingress" => through::<Ingress>(object),
        "NetworkPolicy" => through::<NetworkPolicy>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        "ValidatingAdmissionPolicy" => through::<ValidatingAdmissionPolicy>(object),
        "ValidatingAdmissionPolicyBinding" => through::<ValidatingAdmissionPolicyBinding>(object),
        other => panic!("no type for {other}"),
    }
}

#[test]
fn every_object_is_what_the_api_knows() {
    for tried in all() {
        for object in tried.objects() {
            assert_eq!(typed(&object), object, "{}", tried.name);
        }
    }
    let wrong = serde_json::json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ClusterIP", "prots": []}});
    assert_ne!(typed(&wrong), wrong, "a misspelt field is found");
}

#[test]
fn nothing_in_an_export_points_at_what_is_not_there() {
    for tried in all() {
        let found = lint(&tried);
        assert!(found.is_empty(), "{}:\n{}", tried.name, found.join("\n"));
    }
}

/// An export in which one thing is wrong is found out.
#[test]
fn what_points_at_nothing_is_found() {
    for (path, right, wrong) in [
        ("octopus.yaml", "partition: 1000", "partition: 1"),
        (
            "octopus.yaml",
            "serviceName: octopus-nodes",
            "serviceName: octopus",
        ),
        (
            "octopus.yaml",
            "claimName: octopus-shared",
            "claimName: other",
        ),
        ("octopus.yaml", "key: MASTER_KEY", "key: OTHER_KEY"),
        ("octopus.yaml", "Seconds: 600", "Seconds: 599"),
        (
            "octopus.yaml",
            "failureThreshold: 360",
            "failureThreshold: 359",
        ),
        ("octopus.yaml", "port: web", "port: http"),
        (
            "octopus.yaml",
            "enableServiceLinks: false",
            "enableServiceLinks: true",
        ),
        (
            "services.yaml",
            "pod-name: octopus-1",
            "pod-name: octopus-2",
        ),
        ("services.yaml", "targetPort: 10943", "targetPort: 10944"),
        ("storage.yaml", "ReadWriteMany", "ReadWriteOnce"),
        ("pdb.yaml", "name: octopus", "name: server"),
        ("networkpolicy.yaml", "name: mssql", "name: sql"),
        ("networkpolicy.yaml", "port: 1433", "port: 1401"),
        ("ingress.yaml", "name: web", "name: http"),
    ] {
        let two = config(&[("OCTOPUS_NODES", "2")]);
        let mut tried = Tried::new(two, "--storage-class files --ingress o.example.com");
        let text = tried.text(path);
        assert!(text.contains(right), "{path}: {right}");
        let file = octo_local::export::File::open(path, text.replace(right, wrong));
        tried.files.insert(path.to_owned(), file);
        assert!(!lint(&tried).is_empty(), "{path}: {wrong}");
    }
}

#[test]
fn secrets_are_in_one_file_for_its_owner() {
    for tried in all() {
        for (path, file) in &tried.files {
            let text = file.contents.expose();
            let has = text.to_lowercase().contains("m4rker") || text.contains(KEY);
            assert_eq!(has, path == "secrets.env", "{}: {path}", tried.name);
            assert_eq!(has, file.access == Access::Owner, "{}: {path}", tried.name);
        }
        assert_eq!(tried.text(".gitignore"), "secrets.env\n");
    }
}

#[test]
fn templates_are_filled() {
    for tried in all() {
        for path in ["HANDOVER.md", "upgrade.sh"] {
            let text = tried.text(path);
            assert!(!text.contains('@') || !text.contains("@if "), "{path}");
            let words = [
                "@NAMESPACE@",
                "@SELECTOR@",
                "@SET@",
                "@NODES@",
                "@GRACE@",
                "@START@",
                "@end@",
                "@SECRET@",
            ];
            assert!(words.iter().all(|word| !text.contains(word)), "{path}");
        }
    }
}

#[test]
fn kustomize_is_given_every_manifest() {
    for tried in all() {
        if tried.options.format != Format::Kustomize {
            continue;
        }
        let kustomization = &documents(tried.text("kustomization.yaml"))[0];
        let mut listed: Vec<&str> = kustomization["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap())
            .collect();
        listed.sort_unstable();
        let is_manifest = |path: &&String| {
            has_ending(path, "yaml") && !path.contains('/') && *path != "kustomization.yaml"
        };
        let manifests: Vec<&String> = tried.files.keys().filter(is_manifest).collect();
        assert_eq!(listed, manifests, "{}", tried.name);
        let generator = &kustomization["secretGenerator"][0];
        assert_eq!(generator["name"], "octopus-secrets");
        assert_eq!(generator["envs"][0], "secrets.env");
        assert_eq!(generator["options"]["disableNameSuffixHash"], true);
    }
}

fn connection(tried: &Tried) -> String {
    secret_of(tried.text("secrets.env"))["DB_CONNECTION_STRING"].clone()
}

#[test]
fn octopus_is_told_where_its_database_is() {
    let own = connection(&Tried::new(config(&[]), ""));
    assert!(own.starts_with("Server=mssql,1433;"), "{own}");
    assert!(
        own.contains(";Encrypt=True;TrustServerCertificate=True"),
        "{own}"
    );
    let other = Tried::new(
        config(&[]),
        "--sql external --sql-server sql.example.com,1444",
    );
    assert!(connection(&other).starts_with("Server=sql.example.com,1444;"));
    assert!(!other.files.contains_key("mssql.yaml"));
    assert!(!secret_of(other.text("secrets.env")).contains_key("MSSQL_SA_PASSWORD"));
    let text = "Server=db.example.com;Database=O;User=octo;Password=m4rker;Max Pool Size=50";
    let external = config(&[("SQL_IMAGE", ""), ("DB_CONNECTION_STRING", text)]);
    assert_eq!(connection(&Tried::new(external, "")), text);
}

fn octopus_pod(tried: &Tried) -> Value {
    let set = tried.object("StatefulSet", "octopus").unwrap();
    set["spec"]["template"]["spec"].clone()
}

#[test]
fn images_follow_the_flavour_and_never_move() {
    let image = |words: &str, tag: &str| {
        let tried = Tried::new(config(&[("OCTOPUS_SERVER_TAG", tag)]), words);
        octopus_pod(&tried)["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let name = "octopusdeploy/octopusdeploy";
    assert_eq!(image("", "2026.2.5"), format!("{name}:2026.2.5"));
    assert_eq!(image("", "latest"), format!("{name}:2026.2.7"));
    let hardened = "--image-flavour hardened";
    assert_eq!(
        image(hardened, "2026.2.5"),
        format!("{name}:2026.2.5-hardened")
    );
    assert_eq!(
        image(hardened, "2026.2.5-hardened"),
        format!("{name}:2026.2.5-hardened")
    );
}

/// What looks after a cluster reads what was exported as it is meant, and a handover begins with no
/// node.
#[test]
fn an_exported_set_is_read_by_what_looks_after_it() {
    for (words, undrains_itself) in [("", true), ("--image-flavour hardened", false)] {
        let two = || config(&[("OCTOPUS_NODES", "2")]);
        let words = format!("{words} --storage-class files");
        let tried = Tried::new(two(), &words);
        let object = tried.object("StatefulSet", "octopus").unwrap();
        let set = Set::parse(object.to_string().as_bytes()).unwrap();
        assert!(set.is_guarded() && set.wished == 2, "{set:?}");
        assert_eq!(set.undrains_itself, undrains_itself);
        assert_eq!(set.grace, std::time::Duration::from_secs(600));
        let selector = "app.kubernetes.io/instance=my-shop,app.kubernetes.io/name=octopus";
        assert_eq!(set.selector_text(), selector);
        assert_eq!(set.labels["app.kubernetes.io/managed-by"], "octo-local");
        assert!(
            set.image.starts_with("octopusdeploy/octopusdeploy:"),
            "{}",
            set.image
        );
        let tried = Tried::new(two(), &format!("{words} --for-handover"));
        let object = tried.object("StatefulSet", "octopus").unwrap();
        assert_eq!(object["spec"]["replicas"], 0);
        let services = tried.objects().into_iter();
        let tentacles = services.filter(|it| {
            it["metadata"]["name"]
                .as_str()
                .unwrap()
                .ends_with("-tentacle")
        });
        assert_eq!(tentacles.count(), 2);
    }
}

#[test]
fn a_node_has_no_more_rights_than_the_strictest_standard_gives() {
    for words in ["", "--image-flavour hardened"] {
        let tried = Tried::new(config(&[]), words);
        let enforced = "pod-security.kubernetes.io/enforce";
        let namespace = tried.object("Namespace", "my-shop").unwrap();
        assert_eq!(namespace["metadata"]["labels"][enforced], "restricted");
        for name in ["octopus", "mssql"] {
            let set = tried.object("StatefulSet", name).unwrap();
            let pod = &set["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            let container = &pod["containers"][0]["securityContext"];
            assert_eq!(container["allowPrivilegeEscalation"], false);
            assert_eq!(container["capabilities"]["drop"][0], "ALL");
            assert!(container["privileged"].is_null());
        }
    }
    let dind = Tried::new(config(&[]), "--dind");
    assert_eq!(
        octopus_pod(&dind)["containers"][0]["securityContext"]["privileged"],
        true
    );
}

/// What the hardened image does not have: a shell and curl.
#[test]
fn nothing_needs_a_shell_in_the_hardened_image() {
    let tried = Tried::new(config(&[]), "--image-flavour hardened");
    let container = octopus_pod(&tried)["containers"][0].to_string();
    assert!(
        !container.contains("bash") && !container.contains("curl"),
        "{container}"
    );
    assert!(container.contains("container-healthcheck") && container.contains("--drain=true"));
    assert!(tried.files.contains_key("undrain.sh"));
}

#[test]
fn the_portal_is_served_over_tls_and_takes_large_packages() {
    let tried = Tried::new(
        config(&[]),
        "--ingress octopus.example.com --tls-secret web --ingress-class nginx",
    );
    let portal = tried.object("Ingress", "octopus").unwrap();
    assert_eq!(portal["spec"]["tls"][0]["secretName"], "web");
    assert_eq!(portal["spec"]["ingressClassName"], "nginx");
    let annotations = &portal["metadata"]["annotations"];
    assert_eq!(
        annotations["nginx.ingress.kubernetes.io/proxy-body-size"],
        "0"
    );
    let grpc = tried.object("Ingress", "octopus-grpc").unwrap();
    assert_eq!(grpc["spec"]["rules"][0]["host"], "grpc.octopus.example.com");
}

/// What the chart's values cannot say is in the patch.
#[test]
fn the_patch_of_the_chart_has_what_its_values_cannot_say() {
    let tried = Tried::new(
        config(&[("OCTOPUS_NODES", "2")]),
        "--format helm-values --storage-class files --drain-wait 100",
    );
    let values = &documents(tried.text("values.yaml"))[0];
    assert_eq!(values["octopus"]["createSecrets"], false);
    assert_eq!(values["octopus"]["replicaCount"], 2);
    assert_eq!(values["octopus"]["service"]["type"], "ClusterIP");
    let patches = &documents(tried.text("post-render/kustomization.yaml"))[0]["patches"];
    assert_eq!(patches[0]["target"]["name"], "octopus-octopus-deploy");
    assert_eq!(patches[0]["path"], "nodes.yaml");
    let patch = &documents(tried.text("post-render/nodes.yaml"))[0];
    let pod = &patch["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 160);
    assert_eq!(
        patch["spec"]["updateStrategy"]["rollingUpdate"]["partition"],
        1000
    );
    let container = &pod["containers"][0];
    assert!(container["lifecycle"]["preStop"].is_object());
    assert_eq!(
        container["readinessProbe"]["httpGet"]["path"],
        "/api/octopusservernodes/ping"
    );
}

fn refused(config: &octo_local::config::Config, words: &str) -> Vec<Problem> {
    let options = options(words);
    with_source(config, |source| kubernetes::export(source, &options)).unwrap_err()
}

#[test]
fn choices_that_cannot_work_are_refused_all_at_once() {
    let own = config(&[]);
    let two = config(&[("OCTOPUS_NODES", "2")]);
    let external = config(&[
        ("SQL_IMAGE", ""),
        (
            "DB_CONNECTION_STRING",
            "Server=s;Database=O;User=octo;Password=m4rker",
        ),
    ]);
    let here = config(&[
        ("SQL_IMAGE", ""),
        (
            "DB_CONNECTION_STRING",
            "Server=host.docker.internal;Database=O;User=octo;Password=m4rker",
        ),
    ]);
    Tried::new(here.clone(), "--sql-server sql.example.com");
    for (config, words, flags) in [
        (&here, "", vec!["DB_CONNECTION_STRING"]),
        (&two, "", vec!["--storage-class"]),
        (&own, "--sql external", vec!["--sql"]),
        (&own, "--sql-server x", vec!["--sql-server"]),
        (
            &own,
            "--sql external --sql-server a;b",
            vec!["--sql-server"],
        ),
        (&external, "--sql internal", vec!["--sql"]),
        (&own, "--dind --image-flavour hardened", vec!["--dind"]),
        (
            &two,
            "--namespace A_b --ingress under_score",
            vec!["--namespace", "--ingress", "--storage-class"],
        ),
    ] {
        let problems = refused(config, words);
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(keys, flags, "{words}");
        assert!(!format!("{problems:?}").contains("m4rker"));
    }
}

#[test]
fn what_will_hurt_is_said() {
    let warned = |config: &octo_local::config::Config, words: &str| {
        let options = options(words);
        let export = with_source(config, |source| kubernetes::export(source, &options)).unwrap();
        let keys = export.warnings.into_iter().map(|warning| warning.key);
        keys.collect::<Vec<String>>()
    };
    let careless = config(&[("OCTOPUS_SERVER_TAG", "2026.2")]);
    assert_eq!(
        warned(&careless, "--ingress o.example.com"),
        [
            "OCTOPUS_SERVER_TAG",
            "DISABLE_DIND",
            "--ingress",
            "SQL_IMAGE",
            "DB_CONNECTION_STRING"
        ]
    );
    let careful = config(&[
        ("EXTRA_NETWORKS", "old"),
        ("DISABLE_DIND", "Y"),
        (
            "SQL_IMAGE",
            "mcr.microsoft.com/mssql/server:2022-CU21-ubuntu-22.04",
        ),
        (
            "DB_CONNECTION_STRING",
            "Server=db;Database=O;User=octo;Password=m4rker",
        ),
    ]);
    assert_eq!(warned(&careful, ""), ["EXTRA_NETWORKS"]);
}

/// A pod's directories are those of the stack: what a person mounts of this host would be empty ones
/// of the claim.
#[test]
fn limits_become_the_pods_and_what_is_mounted_of_this_host_is_said_to_stay() {
    let limited = config(&[
        ("DISABLE_DIND", "Y"),
        ("EXTRA_MOUNTS", "/srv/tools:/opt/tools"),
        ("EXTRA_HOSTS", "git:10.0.0.5"),
        ("OCTOPUS_MEMORY", "1536m"),
        ("OCTOPUS_CPUS", "0.25"),
        ("SQL_MEMORY", "6g"),
    ]);
    let plain = config(&[("DISABLE_DIND", "Y")]);
    let options = options("");
    let export =
        |config| with_source(config, |source| kubernetes::export(source, &options)).unwrap();
    let resources = |config, file: &str| {
        let export: kubernetes::Export = export(config);
        let found = export.files.iter().find(|one| one.path.ends_with(file));
        let all = serde_saphyr::from_multiple::<Value>(found.unwrap().contents.expose()).unwrap();
        let set = all
            .into_iter()
            .find(|one| one["kind"] == "StatefulSet")
            .unwrap();
        set["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let node = resources(&limited, "octopus.yaml");
    assert_eq!(
        node["resources"],
        json!({"requests": {"cpu": "250m", "memory": "1536Mi"}, "limits": {"cpu": "250m", "memory": "1536Mi"}})
    );
    let mounts = node["volumeMounts"].as_array().unwrap();
    assert!(
        !mounts
            .iter()
            .any(|mount| mount["mountPath"] == "/opt/tools"),
        "{mounts:?}"
    );
    assert_eq!(
        resources(&plain, "octopus.yaml")["resources"],
        json!({"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}})
    );
    let sql = resources(&limited, "mssql.yaml");
    assert_eq!(sql["resources"]["limits"]["memory"], "6Gi");
    let keys: Vec<String> = export(&limited)
        .warnings
        .into_iter()
        .map(|one| one.key)
        .collect();
    for key in ["EXTRA_MOUNTS", "EXTRA_HOSTS"] {
        assert!(keys.contains(&key.to_owned()), "{keys:?}");
    }
}
