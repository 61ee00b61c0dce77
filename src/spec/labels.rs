//! The labels that say what is ours, and compose's, by which other tools show the stack.

use std::collections::BTreeMap;

use super::ContainerSpec;
use super::StackSpec;

/// The project a container, network or volume belongs to.
pub const PROJECT: &str = "octo-local.project";
/// The unit a container is.
pub const UNIT: &str = "octo-local.unit";
/// The fingerprint of the definition a container was made from.
pub const DIGEST: &str = "octo-local.digest";
/// The octo-local that made it. Not part of the digest.
pub const VERSION: &str = "octo-local.version";
/// `Y` on what belongs to a stack of stand-ins, so that a demo and a real stack never share data.
pub const DEMO: &str = "octo-local.demo";
/// The directory the stack was made from, which guards against two directories of the same name.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";

fn common(spec: &StackSpec) -> BTreeMap<String, String> {
    let demo = if spec.demo { "Y" } else { "N" };
    [
        (PROJECT, spec.project.as_str()),
        (VERSION, env!("CARGO_PKG_VERSION")),
        (DEMO, demo),
        ("com.docker.compose.project", spec.project.as_str()),
        (
            "com.docker.compose.version",
            concat!("octo-local-", env!("CARGO_PKG_VERSION")),
        ),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The labels of a container (docker/compose `pkg/api/labels.go` names the compose half).
pub fn of_container(spec: &StackSpec, container: &ContainerSpec) -> BTreeMap<String, String> {
    let mut labels = common(spec);
    let digest = container.digest().0;
    let depends_on = match container.unit {
        super::UnitId::Node(_) if spec.sql.is_some() => "db:service_healthy:false",
        super::UnitId::Node(_) | super::UnitId::Sql | super::UnitId::Tentacle(_) => "",
    };
    // Compose's services have numbered instances; each Tentacle has a name of its own.
    let service = match container.unit {
        super::UnitId::Tentacle(_) => container.unit.to_string(),
        super::UnitId::Node(_) | super::UnitId::Sql => container.unit.service().to_owned(),
    };
    labels.extend(
        [
            (UNIT, container.unit.to_string()),
            (DIGEST, digest.clone()),
            ("com.docker.compose.service", service),
            (
                "com.docker.compose.container-number",
                container.unit.number().to_string(),
            ),
            ("com.docker.compose.oneoff", "False".to_owned()),
            ("com.docker.compose.config-hash", digest),
            ("com.docker.compose.depends_on", depends_on.to_owned()),
            (WORKING_DIR, spec.working_dir.clone()),
            ("com.docker.compose.project.config_files", String::new()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels
}

/// The labels of the network.
pub fn of_network(spec: &StackSpec) -> BTreeMap<String, String> {
    let mut labels = common(spec);
    labels.insert(
        "com.docker.compose.network".to_owned(),
        "default".to_owned(),
    );
    labels
}

/// The labels of the volume with this key.
pub fn of_volume(spec: &StackSpec, key: &str) -> BTreeMap<String, String> {
    let mut labels = common(spec);
    labels.insert("com.docker.compose.volume".to_owned(), key.to_owned());
    labels
}
