//! Whatever a `.env` says arrives in the containers byte for byte: a model of what kubectl, the
//! kubelet and compose do with what is written.

use std::collections::BTreeMap;

use octo_local::config::Config;
use octo_local::config::Secret;
use octo_local::export::compose;
use octo_local::spec::ContainerSpec;
use octo_local::spec::UnitId;
use proptest::prelude::*;
use serde_json::Value;

use super::compose::environment;
use super::configurations::Tried;
use super::configurations::config;
use super::configurations::with_source;

/// `secrets.env` as Go's `bufio.ScanLines` and kubectl's reader take it: a line ends at a line
/// feed, a carriage return before it is dropped, white space before the name too.
pub(super) fn secret_of(env_file: &str) -> BTreeMap<String, String> {
    let mut secret = BTreeMap::new();
    for line in env_file.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let before = secret.insert(key.to_owned(), value.to_owned());
        assert_eq!(before, None, "{key} twice");
    }
    secret
}

/// A text with other variables put in, as Kubernetes does (`third_party/forked/golang/expansion`).
fn expanded(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let name = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'));
        rest = match (after.chars().next(), name) {
            (Some('$'), _) => {
                out.push('$');
                &after[1..]
            }
            (_, Some((name, rest))) => {
                match known.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest
            }
            _ => {
                out.push('$');
                after
            }
        };
    }
    out + rest
}

/// The environment that a kubelet gives a container.
pub(super) fn environment_in_pod(
    env: &Value,
    secret: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for variable in env.as_array().unwrap() {
        let Some(name) = variable["name"].as_str() else {
            continue;
        };
        let reference = &variable["valueFrom"];
        let value = match variable["value"].as_str() {
            Some(value) => expanded(value, &known),
            None if reference["fieldRef"].is_object() => "octopus-0".to_owned(),
            None => secret[reference["secretKeyRef"]["key"].as_str().unwrap()].clone(),
        };
        known.insert(name.to_owned(), value);
    }
    known
}

/// Variables that an export decides itself.
const DECIDED: [&str; 4] = [
    "OCTOPUS_SERVER_NODE_NAME",
    "DB_CONNECTION_STRING",
    "DISABLE_DIND",
    "SA_PASSWORD",
];

fn assert_arrives(wanted: &ContainerSpec, found: &BTreeMap<String, String>) {
    for (name, value) in &wanted.env {
        if !DECIDED.contains(&name.as_str()) {
            assert_eq!(
                found.get(name).map(String::as_str),
                Some(value.expose()),
                "{name}"
            );
        }
    }
}

fn with_values(one: &str, other: &str) -> Config {
    let mut config = config(&[]);
    config.octopus.admin_password = Secret::new(one);
    other.clone_into(&mut config.octopus.admin_email);
    let extra = &mut config.octopus.extra;
    extra.insert("ENABLE_USAGE".to_owned(), Secret::new(one));
    extra.insert("ADMIN_EXTERNAL_TOKEN".to_owned(), Secret::new(other));
    let sql = config.sql.as_mut().unwrap();
    sql.sa_password = Secret::new(other);
    sql.extra.insert("MSSQL_LCID".to_owned(), Secret::new(one));
    config
}

fn assert_all_arrive(one: &str, other: &str) {
    let config = with_values(one, other);
    let (stack, files) = with_source(&config, |source| (source.stack(), compose::export(source)));
    let tried = Tried::new(config, "");
    let secret = secret_of(tried.text("secrets.env"));
    for (unit, name) in [(UnitId::Node(1), "octopus"), (UnitId::Sql, "mssql")] {
        let set = tried.object("StatefulSet", name).unwrap();
        let env = &set["spec"]["template"]["spec"]["containers"][0]["env"];
        let found = environment_in_pod(env, &secret);
        assert_arrives(stack.container(unit).unwrap(), &found);
        if unit == UnitId::Sql {
            assert_eq!(found["SQLCMDPASSWORD"], other);
        }
    }
    for container in stack.containers() {
        let found = environment(&files, container.unit);
        let wanted: BTreeMap<String, String> = container
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect();
        assert_eq!(found, wanted, "{}", container.unit);
    }
}

#[test]
fn values_with_a_meaning_elsewhere_arrive_as_they_are() {
    for value in [
        "$(HOME)",
        "$$",
        "$",
        "a$$b$(OTHER)c",
        "${SA_PASSWORD}",
        "a\nb",
        "a\r\nb",
        "\n",
        "\r",
        "a\n",
        " a ",
        "'",
        "\"",
        "\\",
        "a'b\"c\\d$e",
        "#a",
        "a #b",
        "Y",
        "no",
        "1_000",
        "~",
        "%s",
        "{{ .Values }}",
        "é😀",
        "\u{85}\u{2028}\u{feff}",
        "\t",
        "=",
        "a=b",
    ] {
        assert_all_arrive(value, "plain-1");
        assert_all_arrive("plain-1", value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_value_arrives_as_it_is(
        one in "(\\PC|[\\\\'\"$(){}\n\r\t #=]){0,16}",
        other in "(\\PC|[\\\\'\"$(){}\n\r\t #=]){0,16}",
    ) {
        assert_all_arrive(&one, &other);
    }
}
