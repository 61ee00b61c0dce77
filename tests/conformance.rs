//! The `.env` dialect against docker compose's own answers: values, what is rejected, the line, and the warnings.

use std::collections::BTreeMap;

use base64::Engine as _;
use octo_local::dotenv;
use octo_local::dotenv::Source;
use serde_json::Value;

/// compose takes these files, whose values are not UTF-8 text; octo-local refuses them.
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().cloned().unwrap_or_default();
    object.into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned())).collect()
}

fn inputs(vector: &Value) -> Vec<Vec<u8>> {
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    if let Some(texts) = vector["inputs"].as_array() {
        return texts.iter().map(|text| text.as_str().unwrap().as_bytes().to_vec()).collect();
    }
    match vector["input_b64"].as_str() {
        Some(text) => vec![decode(text)],
        None => vec![vector["input"].as_str().unwrap().as_bytes().to_vec()],
    }
}

/// The names in warnings such as `The "X" variable is not set. Defaulting to a blank string.`
fn warned(vector: &Value) -> Vec<String> {
    let warnings = vector["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().filter_map(|text| Some(text.as_str()?.split('"').nth(1)?.to_owned())).collect()
}

/// The line that compose names, where it names one.
fn line_of(error: &str) -> Option<usize> {
    error.split("line ").nth(1)?.split(':').next()?.parse().ok()
}

#[test]
fn env_files_are_read_as_docker_compose_reads_them() {
    let vectors = vectors(include_str!("golden/dotenv.json"));
    let mut wrong = Vec::new();
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        let bytes = inputs(vector);
        let sources: Vec<Source<'_>> = bytes.iter().map(|bytes| Source { name: ".env", bytes }).collect();
        let env = map(&vector["env"]);
        match (dotenv::parse(&sources, &env), vector["error"].as_str()) {
            (Err(_), None) if !bytes.iter().all(|bytes| is_utf8(bytes)) => {}
            (Err(error), None) => wrong.push(format!("{id}: refused: {error}")),
            (Ok(_), Some(error)) => wrong.push(format!("{id}: taken, compose says {error}")),
            (Err(error), Some(expected)) => {
                if line_of(expected).is_some_and(|line| line != error.line)
                    && !matches!(error.kind, dotenv::ErrorKind::NotUtf8)
                {
                    wrong.push(format!("{id}: {error}, compose says {expected}"));
                }
            }
            (Ok(parsed), None) => {
                if parsed.vars != map(&vector["expect"]) {
                    wrong.push(format!("{id}: {:?} and not {:?}", parsed.vars, vector["expect"]));
                }
                if parsed.unset != warned(vector) {
                    wrong.push(format!("{id}: warns of {:?} and not {:?}", parsed.unset, warned(vector)));
                }
                if vector["merged"].is_object() && dotenv::merge(&parsed.vars, &env) != map(&vector["merged"]) {
                    wrong.push(format!("{id}: merged differently"));
                }
            }
        }
    }
    assert_eq!(vectors.len(), 280);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}

#[test]
fn templates_are_resolved_as_docker_compose_resolves_them() {
    let vectors = vectors(include_str!("golden/interp.json"));
    let mut wrong = Vec::new();
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        let env = map(&vector["env"]);
        let answer =
            dotenv::interpolate::interpolate(vector["template"].as_str().unwrap(), &|name| env.get(name).cloned());
        match (answer, vector["error"].as_str()) {
            (Ok((value, unset)), None) => {
                if Some(value.as_str()) != vector["expect"].as_str() || unset != warned(vector) {
                    wrong.push(format!(
                        "{id}: {} gives {value:?} {unset:?}, compose {}",
                        vector["template"], vector["expect"]
                    ));
                }
            }
            (Err(_), Some(_)) => {}
            (Ok(_), Some(error)) => wrong.push(format!("{id}: {} taken, compose says {error}", vector["template"])),
            (Err(error), None) => wrong.push(format!("{id}: {} refused: {error}", vector["template"])),
        }
    }
    assert_eq!(vectors.len(), 199);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}

#[test]
fn no_message_shows_a_value() {
    let secret = "S3cr3tMarker";
    for text in [
        format!("A=\"{secret}"),
        format!("A=${{X?{secret}}}"),
        format!("A={secret}${{"),
        format!("A=1\nno equals sign {secret}!"),
        format!("B='x\n{secret}"),
    ] {
        let error = dotenv::parse(&[Source { name: ".env", bytes: text.as_bytes() }], &BTreeMap::new()).unwrap_err();
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = dotenv::parse(&[Source { name: ".env", bytes: &bytes }], &BTreeMap::new());
    }

    #[test]
    fn no_text_panics(text in "[A-Za-z=\\$\\{\\}'\"\\\\ #\\n:?+-]{0,80}") {
        let _ = dotenv::parse(&[Source { name: ".env", bytes: text.as_bytes() }], &BTreeMap::new());
    }
}
