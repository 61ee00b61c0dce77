//! A manifest is believed only where it agrees with itself, whatever a disk holds.

use proptest::prelude::*;

use super::*;

/// A good manifest.
pub(crate) fn manifest() -> Manifest {
    let part = |kind| Part {
        kind,
        plain_size: 10,
        plain_sha256: "a".repeat(64),
        stored_size: 7,
        stored_sha256: "0".repeat(64),
        entries: None,
    };
    Manifest {
        form: FORM,
        name: "one".parse().unwrap(),
        project: crate::config::project::resolve(Some("octo"), None, "x")
            .unwrap()
            .0,
        octo_local: "0.1.0".to_owned(),
        demo: false,
        pinned: false,
        began_ms: 1,
        ended_ms: 2,
        octopus: Ran {
            image: "octopusdeploy/octopusdeploy:2026.2".to_owned(),
            ..Ran::default()
        },
        sql_server: Some(Ran::default()),
        database: Database::Included {
            name: "OctopusDeploy".to_owned(),
        },
        quiesced: false,
        consistency: String::new(),
        encryption: Encryption::None,
        has_secrets: true,
        master_key_print: None,
        parts: Kind::ALL.map(part).to_vec(),
    }
}

/// The manifest as JSON, with one value of it changed.
fn changed(pointer: &str, value: serde_json::Value) -> Vec<u8> {
    let mut json = serde_json::to_value(manifest()).unwrap();
    *json.pointer_mut(pointer).unwrap() = value;
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn a_manifest_can_be_read_again() {
    let text = manifest().to_text();
    assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest()));
    assert_eq!(
        (manifest().stored_size(), manifest().plain_size()),
        (49, 70)
    );
}

#[test]
fn a_newer_form_is_named_as_such_whatever_else_it_has() {
    let newer = br#"{"form": 2, "things": "otherwise"}"#;
    assert_eq!(Manifest::parse(newer), Err(BadManifest::Newer(2)));
}

#[test]
fn hostile_manifests_are_refused() {
    let cases = [
        ("/form", 0.into()),
        ("/name", "../../etc".into()),
        ("/name", "/etc/passwd".into()),
        ("/project", "../x".into()),
        ("/ended_ms", 0.into()),
        ("/parts/0/kind", "../../etc/passwd".into()),
        ("/parts/1/kind", "database".into()),
        ("/parts/0/plain_size", u64::MAX.into()),
        ("/parts/0/plain_size", (-1).into()),
        ("/parts/0/stored_size", (1u64 << 51).into()),
        ("/parts/0/stored_sha256", "A".repeat(64).into()),
        ("/parts/0/plain_sha256", "".into()),
        ("/has_secrets", false.into()),
        (
            "/database",
            serde_json::json!({ "is": "missing", "why": "" }),
        ),
        ("/parts", serde_json::json!([])),
        ("/encryption", serde_json::json!({ "by": "rot13" })),
    ];
    for (pointer, value) in cases {
        let bytes = changed(pointer, value.clone());
        let refused = matches!(Manifest::parse(&bytes), Err(BadManifest::Damaged(_)));
        assert!(refused, "{pointer} = {value}");
    }
}

#[test]
fn a_missing_part_is_named() {
    let mut short = manifest();
    short.parts.retain(|part| part.kind != Kind::Artifacts);
    let error = Manifest::parse(short.to_text().as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its manifest is damaged: it lacks artifacts"
    );
}

#[test]
fn files_are_named_by_what_they_are() {
    let sealed = Encryption::Recipients { recipients: vec![] };
    assert_eq!(Kind::Database.file(&Encryption::None), "database.bak.zst");
    assert_eq!(Kind::TaskLogs.file(&sealed), "task-logs.tar.zst.age");
    assert_eq!(Kind::Secrets.file(&sealed), "secrets.json.zst.age");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..2000) {
        let _ = Manifest::parse(&bytes);
        let text = manifest().to_text();
        let cut = cut.min(text.len().saturating_sub(3));
        prop_assert!(Manifest::parse(&text.as_bytes()[..cut]).is_err());
    }
}
