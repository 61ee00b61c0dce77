//! `compose/docker-compose.yml` is the stack that octo-local runs: read as compose reads it, it is
//! what `build` makes of the same `.env`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use octo_local::config::Secret;
use octo_local::config::project::ProjectName;
use octo_local::config::read::Input;
use octo_local::config::read::read;
use octo_local::dotenv::interpolate::interpolate;
use octo_local::spec::ContainerSpec;
use octo_local::spec::StackSpec;
use octo_local::spec::Storage;
use octo_local::spec::UnitId;
use octo_local::spec::build::BuildInput;
use octo_local::spec::build::build;
use octo_local::spec::labels;
use serde_json::Value;

const PROJECT: &str = "shop";
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
/// What every `.env` must say; each test adds its own.
const NEEDED: [(&str, &str); 6] = [
    ("ACCEPT_EULA", "Y"),
    // It is octo-local's own: docker compose publishes the nodes.
    ("FRONT_DOOR", "off"),
    ("ACCEPT_OCTOPUS_EULA", "Y"),
    ("SA_PASSWORD", "Str0ng-enough"),
    ("ADMIN_PASSWORD", "Adm1n-enough"),
    ("MASTER_KEY", KEY),
];

fn variables(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    NEEDED
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// What octo-local makes of the variables.
fn stack(vars: &BTreeMap<String, String>) -> StackSpec {
    let config = read(&Input {
        vars: vars.clone(),
        nodes: Some(2),
        ..Input::default()
    })
    .unwrap()
    .config;
    let (project, master_key) = (ProjectName::given(PROJECT).unwrap(), Secret::new(KEY));
    let around = BuildInput {
        project: &project,
        working_dir: "/",
        master_key: &master_key,
        may_be_privileged: true,
    };
    build(&config, &around)
}

/// The file as compose resolves it: anchors and merges by the YAML reader, variables by the rules
/// of `.env`.
fn file(vars: &BTreeMap<String, String>) -> Value {
    let text = include_str!("../compose/docker-compose.yml");
    let raw: Value = serde_saphyr::from_str(text).unwrap();
    let lookup = |name: &str| match name {
        "COMPOSE_PROJECT_NAME" => Some(PROJECT.to_owned()),
        name => vars.get(name).cloned(),
    };
    resolved(&raw, &lookup)
}

fn resolved(value: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => Value::String(interpolate(text, lookup).unwrap().0),
        Value::Array(items) => items.iter().map(|item| resolved(item, lookup)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, item)| (key.clone(), resolved(item, lookup)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

/// A variable without a value is handed on if it is set.
fn environment(service: &Value, vars: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let given = service["environment"].as_object().unwrap().iter();
    given
        .filter_map(|(key, value)| match value {
            Value::Null => vars.get(key).map(|value| (key.clone(), value.clone())),
            value => Some((key.clone(), value.as_str().unwrap().to_owned())),
        })
        .collect()
}

#[track_caller]
fn assert_same(
    name: &str,
    service: &Value,
    wanted: &ContainerSpec,
    vars: &BTreeMap<String, String>,
) {
    let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
    // The tag that the engine assumes may be left out.
    assert_eq!(
        text("image").trim_end_matches(":latest"),
        wanted.image.trim_end_matches(":latest"),
        "{name}"
    );
    assert_eq!(text("hostname"), wanted.hostname, "{name}");
    let env = wanted
        .env
        .iter()
        .map(|(key, value)| (key.clone(), value.expose().to_owned()))
        .collect();
    assert_eq!(environment(service, vars), env, "{name}");
    let mounts = wanted.mounts.iter().map(|(path, volume)| {
        let key = volume
            .ours()
            .unwrap()
            .strip_prefix(&format!("{PROJECT}_"))
            .unwrap();
        format!("{key}:{path}")
    });
    assert_eq!(texts(&service["volumes"]), mounts.collect(), "{name}");
    let ports = wanted
        .ports
        .iter()
        .map(|port| format!("{}:{}:{}", port.host_ip, port.host, port.container));
    assert_eq!(texts(&service["ports"]), ports.collect(), "{name}");
    let privileged = service["privileged"].as_str().map(|text| text == "true");
    assert_eq!(privileged.unwrap_or(false), wanted.privileged, "{name}");
    assert_eq!(
        service["stdin_open"].as_bool().unwrap_or(false),
        wanted.open_stdin,
        "{name}"
    );
    assert_eq!(
        text("stop_grace_period"),
        format!("{}s", wanted.stop_timeout_s),
        "{name}"
    );
    let options = &service["logging"]["options"];
    assert_eq!(service["logging"]["driver"], "json-file", "{name}");
    assert_eq!(options["max-size"], wanted.log_max_size.as_str(), "{name}");
    assert_eq!(
        options["max-file"],
        wanted.log_max_files.to_string(),
        "{name}"
    );
    let limits = (wanted.limits.memory, wanted.limits.processors);
    let (memory, processors) = limits;
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "0".to_owned());
    assert_eq!(
        text("mem_limit"),
        or_none(memory.map(|one| one.to_string())),
        "{name}"
    );
    assert_eq!(
        text("cpus"),
        or_none(processors.map(|one| one.to_string())),
        "{name}"
    );
    // compose adds a service's own name by itself; ours is the same for all nodes.
    let mut names = texts(&service["networks"]["default"]["aliases"]);
    names.insert(name.to_owned());
    let mut aliases: BTreeSet<String> = wanted.aliases.iter().cloned().collect();
    aliases.insert(wanted.unit.service().to_owned());
    assert_eq!(names, aliases, "{name}");
}

#[track_caller]
fn assert_equal(more: &[(&str, &str)]) {
    let vars = variables(more);
    let (stack, file) = (stack(&vars), file(&vars));
    let services = file["services"].as_object().unwrap();
    assert_eq!(
        services.keys().collect::<Vec<_>>(),
        ["db", "octopus-server", "octopus-server-2"]
    );
    let units = [UnitId::Sql, UnitId::Node(1), UnitId::Node(2)];
    for ((name, service), unit) in services.iter().zip(units) {
        assert_same(name, service, stack.container(unit).unwrap(), &vars);
        let container = service["container_name"].as_str().map(str::to_owned);
        let container = container.unwrap_or_else(|| format!("{PROJECT}-{name}-1"));
        assert_eq!(container, stack.container(unit).unwrap().name);
        assert_eq!(
            service["networks"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["default"]
        );
    }
    let volumes: BTreeMap<String, Storage> = file["volumes"]
        .as_object()
        .unwrap()
        .keys()
        .map(|key| (key.clone(), Storage::Ours(format!("{PROJECT}_{key}"))))
        .collect();
    assert_eq!(volumes, stack.volumes);
    assert_eq!(stack.network, format!("{PROJECT}_default"));
}

#[test]
fn the_compose_file_is_the_stack_with_defaults() {
    assert_equal(&[]);
}

#[test]
fn the_compose_file_is_the_stack_with_every_variable_set() {
    assert_equal(&[
        ("SQL_IMAGE", "example.com/sql:2022"),
        ("OCTOPUS_IMAGE", "example.com/octopus"),
        ("OCTOPUS_SERVER_TAG", "2026.2.1"),
        (
            "DB_CONNECTION_STRING",
            "Server=db,1433;Database=Other;User Id=SA;Password=Str0ng-enough",
        ),
        ("ADMIN_USERNAME", "ann"),
        ("ADMIN_EMAIL", "ann@example.com"),
        ("ADMIN_API_KEY", "API-ABCDEFGHIJKLMNOPQRSTUVWX"),
        (
            "OCTOPUS_SERVER_BASE64_LICENSE",
            "PExpY2Vuc2U+PC9MaWNlbnNlPg==",
        ),
        ("TASK_CAP", "7"),
        ("OCTOPUS_SERVER_NODE_NAME", "pan"),
        ("DISABLE_DIND", "Y"),
        ("PRIVILEGED", "false"),
        ("MSSQL_PID", "Developer"),
        ("SQL_MEMORY_LIMIT_MB", "4096"),
        ("SQL_MEMORY", "5g"),
        ("SQL_CPUS", "2"),
        ("OCTOPUS_MEMORY", "4g"),
        ("OCTOPUS_CPUS", "1.5"),
        ("SQL_BIND_ADDRESS", "127.0.0.2"),
        ("SQL_PORT", "1500"),
        ("BIND_ADDRESS", "127.0.0.3"),
        ("OCTOPUS_PORT", "8090"),
        ("OCTOPUS_PORT_2", "8091"),
        ("LOG_MAX_SIZE", "1m"),
        ("LOG_MAX_FILES", "2"),
    ]);
}

/// Nodes wait for their database in compose's way, which other tools read off our labels too, and
/// for each other.
#[test]
fn the_compose_file_gates_each_start() {
    let vars = variables(&[]);
    let (stack, file) = (stack(&vars), file(&vars));
    for (name, unit) in [
        ("octopus-server", UnitId::Node(1)),
        ("octopus-server-2", UnitId::Node(2)),
    ] {
        let waits = &file["services"][name]["depends_on"];
        assert_eq!(waits["db"]["condition"], "service_healthy");
        let told = labels::of_container(&stack, stack.container(unit).unwrap());
        assert!(told["com.docker.compose.depends_on"].starts_with("db:service_healthy"));
    }
    assert_eq!(
        file["services"]["octopus-server-2"]["depends_on"]["octopus-server"]["condition"],
        "service_healthy"
    );
    for name in ["db", "octopus-server", "octopus-server-2"] {
        assert!(
            file["services"][name]["healthcheck"]["test"].is_array(),
            "{name}"
        );
    }
}
