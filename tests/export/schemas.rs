//! The manifests against the strict schemas that Kubernetes' API servers of several versions publish,
//! by a validator that `tests/run.sh` installs. Where it could not be had, that is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;

use super::configurations::all;

/// Oldest to newest, a few apart: the export promises 1.27 and newer, and these have strict schemas
/// of every kind that it writes.
const VERSIONS: [&str; 4] = ["1.29", "1.31", "1.33", "1.36"];
/// The first version with the optional guard's kinds.
const GUARD_SINCE: &str = "1.30";

/// Where `tests/run.sh` puts it.
fn validator() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/schemas/bin/kubernetes-validate");
    program.exists().then_some(program)
}

fn validate(program: &Path, version: &str, files: &[PathBuf]) -> Output {
    let run = Command::new(program)
        .args(["--strict", "--no-warn", "--quiet", "-k", version])
        .args(files)
        .output();
    run.unwrap()
}

fn is_guard(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap();
    kind.starts_with("ValidatingAdmissionPolicy")
}

#[test]
fn every_object_passes_the_strict_schemas_of_several_versions() {
    let Some(program) = validator() else {
        eprintln!("not tried: there is no kubernetes-validate, which tests/run.sh installs");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut objects = BTreeMap::new();
    for tried in all() {
        for object in tried.objects() {
            objects.insert(object.to_string(), object);
        }
    }
    assert!(objects.len() > 40, "{}", objects.len());
    let files = objects.iter().enumerate().map(|(number, (text, object))| {
        let path = dir.path().join(format!("{number}.yaml"));
        std::fs::write(&path, text).unwrap();
        (path, is_guard(object))
    });
    let files: Vec<(PathBuf, bool)> = files.collect();
    for version in VERSIONS {
        let known = |guard: bool| !guard || version >= GUARD_SINCE;
        let files = files.iter().filter(|(_, guard)| known(*guard));
        let files: Vec<PathBuf> = files.map(|(path, _)| path.clone()).collect();
        let run = validate(&program, version, &files);
        assert!(
            run.status.success(),
            "{version}: {}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
    }
    let wrong = dir.path().join("wrong.yaml");
    let text =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"prots":[]}}"#;
    std::fs::write(&wrong, text).unwrap();
    let run = validate(&program, VERSIONS[0], &[wrong]);
    assert!(!run.status.success(), "a misspelt field is found");
}
