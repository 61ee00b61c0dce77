//! The compose file is the stack: read as compose reads it, and by compose itself where it is
//! installed.

use std::collections::BTreeMap;
use std::process::Command;

use octo_local::config::Config;
use octo_local::dotenv;
use octo_local::dotenv::interpolate::interpolate;
use octo_local::export::File;
use octo_local::export::compose;
use octo_local::export::file::Access;
use octo_local::spec::ContainerSpec;
use octo_local::spec::StackSpec;
use octo_local::spec::Storage;
use octo_local::spec::UnitId;
use serde_json::Value;

use super::configurations::config;
use super::configurations::with_source;

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    let file = files.iter().find(|file| file.path == path);
    file.unwrap().contents.expose()
}

fn service_name(unit: UnitId) -> String {
    match unit {
        UnitId::Sql => "db".to_owned(),
        UnitId::Node(1) => "octopus-server".to_owned(),
        UnitId::Node(number) => format!("octopus-server-{number}"),
        UnitId::Tentacle(name) => format!("tentacle-{name}"),
    }
}

/// The file as compose resolves it: `.env` by its rules, then every text.
fn resolved(files: &[File]) -> Value {
    let source = dotenv::Source {
        name: ".env",
        bytes: text(files, ".env").as_bytes(),
    };
    let vars = dotenv::parse(&[source], &dotenv::Vars::new()).unwrap().vars;
    let raw: Value = serde_saphyr::from_str(text(files, compose::FILE)).unwrap();
    filled(&raw, &|name| Some(vars[name].clone()))
}

fn filled(value: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => Value::String(interpolate(text, lookup).unwrap().0),
        Value::Array(items) => items.iter().map(|item| filled(item, lookup)).collect(),
        Value::Object(map) => {
            let map = map
                .iter()
                .map(|(key, item)| (key.clone(), filled(item, lookup)));
            map.collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let map = value.as_object().unwrap().iter();
    map.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// The environment that compose gives a unit.
pub(super) fn environment(files: &[File], unit: UnitId) -> BTreeMap<String, String> {
    texts(&resolved(files)["services"][service_name(unit)]["environment"])
}

fn variants() -> Vec<Config> {
    let external = [
        ("SQL_IMAGE", ""),
        (
            "DB_CONNECTION_STRING",
            "Server=host.docker.internal,1433;Database=O;User=octo;Password='m4rker;db'",
        ),
    ];
    let dind = [
        ("DISABLE_DIND", "Y"),
        ("CONTAINER_USER", "octopus"),
        ("EXTRA_NETWORKS", "one,two"),
        ("OCTOPUS_NODES", "2"),
        ("BIND_ADDRESS", "::1"),
        ("PULL", "always"),
    ];
    vec![
        config(&[]),
        config(&[("OCTOPUS_NODES", "3"), ("LOG_MAX_SIZE", "1m")]),
        config(&external),
        config(&dind),
        config(&[("SQL_DATA", "/srv/sql"), ("ARTIFACTS", "theirs")]),
        config(&[
            (
                "EXTRA_MOUNTS",
                "/srv/$tools:/opt/tools:ro,./a:/a,one:/b,two:/c:ro",
            ),
            ("EXTRA_HOSTS", "git:10.0.0.5,me:host-gateway"),
            ("OCTOPUS_MEMORY", "4g"),
            ("OCTOPUS_CPUS", "1.5"),
            ("SQL_MEMORY", "3g"),
            ("OCTOPUS_NODES", "2"),
        ]),
    ]
}

/// What else of the host there is, and of what how much.
fn assert_same_extras(container: &ContainerSpec, service: &Value, file: &Value) {
    let mounts = service["volumes"].as_array().unwrap();
    let long: Vec<&Value> = mounts.iter().filter(|mount| mount.is_object()).collect();
    assert_eq!(long.len(), container.extra_mounts.len());
    for (extra, long) in container.extra_mounts.iter().zip(long) {
        assert_eq!(long["target"], extra.target.as_str());
        assert_eq!(
            long["read_only"].as_bool().unwrap_or(false),
            extra.read_only
        );
        if let Storage::Directory(path) = &extra.source {
            assert_eq!(
                (&long["type"], &long["source"]),
                (&"bind".into(), &path.as_str().into())
            );
        } else {
            let volume = &file["volumes"][long["source"].as_str().unwrap()];
            assert_eq!(
                (&long["type"], &volume["external"]),
                (&"volume".into(), &true.into())
            );
            assert_eq!(volume["name"], extra.source.source());
        }
    }
    let hosts = service["extra_hosts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(hosts, container.extra_hosts);
    let limit = |key: &str| service[key].as_str().map(str::to_owned);
    assert_eq!(
        limit("mem_limit"),
        container.limits.memory.map(|one| one.to_string())
    );
    assert_eq!(
        limit("cpus"),
        container.limits.processors.map(|one| one.to_string())
    );
}

fn assert_same(stack: &StackSpec, file: &Value) {
    let services = file["services"].as_object().unwrap();
    assert_eq!(services.len(), stack.containers().count());
    for container in stack.containers() {
        let name = service_name(container.unit);
        let service = &services[&name];
        assert_eq!(service["image"], container.image.as_str());
        assert_eq!(service["hostname"], container.hostname.as_str());
        assert_eq!(service["user"].as_str(), container.user.as_deref());
        assert_eq!(
            service["privileged"].as_bool().unwrap_or(false),
            container.privileged
        );
        assert_eq!(
            service["stdin_open"].as_bool().unwrap_or(false),
            container.open_stdin
        );
        let made = format!("{}-{name}-1", stack.project);
        let called = service["container_name"].as_str().unwrap_or(&made);
        assert_eq!(called, container.name);
        for (path, volume) in &container.mounts {
            let mounts = service["volumes"].as_array().unwrap();
            if let Storage::Directory(directory) = volume {
                assert!(mounts.contains(&format!("{directory}:{path}").into()));
                continue;
            }
            let key = mounts
                .iter()
                .find_map(|mount| mount.as_str()?.strip_suffix(&format!(":{path}")));
            assert_eq!(file["volumes"][key.unwrap()]["name"], volume.source());
            assert_eq!(file["volumes"][key.unwrap()]["external"], true);
        }
        assert_same_extras(container, service, file);
        let ports = service["ports"].as_array().unwrap();
        for (port, wanted) in ports.iter().zip(&container.ports) {
            let address = std::net::SocketAddr::new(wanted.host_ip, wanted.host);
            assert_eq!(*port, format!("{address}:{}", wanted.container));
        }
        let aliases = service["networks"]["default"]["aliases"]
            .as_array()
            .unwrap();
        let has = |alias: &String| aliases.iter().any(|known| known == alias.as_str());
        assert!(container.aliases.iter().all(has), "{name}");
        let joined = service["networks"].as_object().unwrap().keys();
        let others = joined.filter_map(|key| file["networks"][key]["name"].as_str());
        assert!(
            others.eq(container.networks.iter().map(String::as_str)),
            "{name}"
        );
        let before = stack
            .containers()
            .take_while(|other| other.unit != container.unit);
        for other in before {
            let wait = &service["depends_on"][service_name(other.unit)];
            assert_eq!(wait["condition"], "service_healthy", "{name}");
        }
    }
}

#[test]
fn the_compose_file_is_the_stack_on_its_volumes() {
    for config in variants() {
        let (files, stack) =
            with_source(&config, |source| (compose::export(source), source.stack()));
        assert_same(&stack, &resolved(&files));
    }
}

#[test]
fn secrets_are_in_the_file_for_its_owner_and_nowhere_else() {
    for config in variants() {
        let files = with_source(&config, compose::export);
        for file in &files {
            let has = file.contents.expose().to_lowercase().contains("m4rker");
            assert_eq!(has, file.access == Access::Owner, "{}", file.path);
            assert_eq!(file.path == ".env", has, "{}", file.path);
        }
        assert!(text(&files, ".gitignore").contains(".env\n"));
    }
}

#[test]
fn a_stack_that_was_never_up_gets_volumes_of_its_own() {
    let config = config(&[]);
    let files = with_source(&config, |source| {
        let mut source = source.clone();
        source.has_data = false;
        compose::export(&source)
    });
    let file = resolved(&files);
    assert_eq!(file["volumes"]["sql-data"]["name"], "my_shop_sql-data");
    assert!(file["volumes"]["sql-data"]["external"].is_null());
}

/// A compose of this machine: the plugin, or the program that was before it.
fn installed() -> Option<Vec<&'static str>> {
    let works = |words: &[&str]| {
        let ended = Command::new(words[0])
            .args(&words[1..])
            .arg("version")
            .output();
        ended.is_ok_and(|ended| ended.status.success())
    };
    [vec!["docker", "compose"], vec!["docker-compose"]]
        .into_iter()
        .find(|words| works(words))
}

/// Nothing is held against compose where there is none; the tests above read the file by its rules.
#[test]
fn compose_itself_reads_the_same() {
    let Some(words) = installed() else {
        return;
    };
    for config in variants() {
        let (files, stack) =
            with_source(&config, |source| (compose::export(source), source.stack()));
        let dir = tempfile::tempdir().unwrap();
        for file in &files {
            std::fs::write(dir.path().join(&file.path), file.contents.expose()).unwrap();
        }
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg("config")
            .current_dir(dir.path());
        for secret in ["SA_PASSWORD", "ADMIN_PASSWORD", "MASTER_KEY", "HTTP_PROXY"] {
            command.env_remove(secret);
        }
        let ended = command.output().unwrap();
        assert!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
        let read: Value = serde_saphyr::from_str(str::from_utf8(&ended.stdout).unwrap()).unwrap();
        let read = filled(&read, &|name| panic!("{name} is left"));
        for container in stack.containers() {
            let service = &read["services"][service_name(container.unit)];
            let wanted = container.env.iter();
            let wanted = wanted.map(|(name, value)| (name.clone(), value.expose().to_owned()));
            assert_eq!(
                texts(&service["environment"]),
                wanted.collect(),
                "{}",
                container.unit
            );
            assert_eq!(service["image"], container.image.as_str());
        }
    }
}
