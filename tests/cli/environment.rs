//! `config --environment` against docker compose's own answers, through the program: one object,
//! before any validation.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

use super::Place;
use crate::kit::process::Running;

/// Values that are not UTF-8 text: compose passes the bytes on, octo-local refuses the file.
const NOT_TEXT: [&str; 3] = ["dotenv-463", "dotenv-464", "dotenv-469"];
/// What the test's own call sets.
const OURS: [&str; 4] = [
    "DOCKER_HOST",
    "HOME",
    "OCTO_LOCAL_STATE_DIR",
    "OCTO_LOCAL_RUNTIME_DIR",
];

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The files of a vector, in order.
fn files(vector: &Value) -> Vec<Vec<u8>> {
    match (&vector["input_b64"], &vector["inputs"]) {
        (Value::String(base64), _) => vec![
            base64::engine::general_purpose::STANDARD
                .decode(base64)
                .unwrap(),
        ],
        (_, Value::Array(inputs)) => inputs
            .iter()
            .map(|input| text(input).into_bytes())
            .collect(),
        _ => vec![text(&vector["input"]).into_bytes()],
    }
}

fn map(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

/// The files' own variables.
fn expected(vector: &Value) -> BTreeMap<String, String> {
    let decode = |base64: &Value| {
        base64::engine::general_purpose::STANDARD
            .decode(text(base64))
            .unwrap()
    };
    match &vector["expect_b64"] {
        Value::Object(vars) => vars
            .iter()
            .map(|(key, value)| (key.clone(), String::from_utf8(decode(value)).unwrap()))
            .collect(),
        _ => map(&vector["expect"]),
    }
}

/// What differs from compose's answer.
fn difference(place: &Place, vector: &Value) -> Option<String> {
    let env = map(&vector["env"]);
    let files = files(vector);
    let mut words = Vec::new();
    if let [only] = files.as_slice() {
        place.write(".env", only);
    } else {
        for (number, file) in files.iter().enumerate() {
            words.extend([
                "--env-file".to_owned(),
                place
                    .write(&format!("{number}.env"), file)
                    .display()
                    .to_string(),
            ]);
        }
    }
    words.extend(
        [
            "config",
            "--environment",
            "--format",
            "json",
            "--show-secrets",
        ]
        .map(str::to_owned),
    );
    let mut command = place.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let ended = Running::spawn(command.envs(&env)).end();
    if !vector["error"].is_null() || NOT_TEXT.contains(&vector["id"].as_str().unwrap()) {
        return (ended.code != 78 || !ended.out.is_empty())
            .then(|| format!("{} {}", ended.code, ended.out));
    }
    let mut shown = map(&ended.with(0).json()["variables"]);
    shown.retain(|key, _| !OURS.contains(&key.as_str()));
    let expected = match &vector["merged"] {
        Value::Null => {
            let mut merged = expected(vector);
            merged.extend(env);
            merged
        }
        merged => map(merged),
    };
    (shown != expected).then(|| format!("{shown:?} instead of {expected:?}"))
}

#[test]
fn the_environment_is_the_one_that_docker_compose_would_use() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../golden/dotenv.json")).unwrap();
    let place = Place::new();
    let differences: Vec<String> = vectors
        .iter()
        .filter_map(|vector| Some(format!("{}: {}", vector["id"], difference(&place, vector)?)))
        .collect();
    assert_eq!(vectors.len(), 280);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn secrets_are_masked_unless_they_are_asked_for() {
    let place = Place::new();
    place.write(
        ".env",
        "SA_PASSWORD=m4rker\nPLAIN=shown\nHTTP_PROXY=http://me:m4rker@proxy\nEMPTY_TOKEN=\n",
    );
    for words in [
        &["config", "--environment"][..],
        &["config", "--environment", "--format", "json"],
    ] {
        let ended = place.run(words).ok();
        assert!(
            !ended.out.contains("m4rker") && ended.out.contains("shown"),
            "{}",
            ended.out
        );
    }
    let shown = place
        .run(&[
            "config",
            "--environment",
            "--format",
            "json",
            "--show-secrets",
        ])
        .ok()
        .json();
    assert_eq!(shown["schema"], 2);
    let shown = &shown["variables"];
    assert_eq!(
        (
            &shown["SA_PASSWORD"],
            &shown["HTTP_PROXY"],
            &shown["EMPTY_TOKEN"]
        ),
        (
            &"m4rker".into(),
            &"http://me:m4rker@proxy".into(),
            &"".into()
        )
    );
}
