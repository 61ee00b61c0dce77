//! `backup list` and `backup verify` on sets that the library wrote, without daemon or engine.

use std::path::PathBuf;

use octo_local::backup::Directory;
use octo_local::backup::Manifest;
use octo_local::backup::manifest::Database;
use octo_local::backup::manifest::Encryption;
use octo_local::backup::manifest::FORM;
use octo_local::backup::manifest::Kind;
use octo_local::backup::manifest::Ran;
use octo_local::backup::part::PartWriter;
use octo_local::backup::part::Recipients;
use octo_local::config::project::ProjectName;

use super::Place;

/// Writes a set whose archives are empty.
fn write(directory: &Directory, name: &str, began_ms: u64, key: Option<&age::x25519::Identity>) {
    let project = ProjectName::given("octo").unwrap();
    let locked = directory.lock(&project).unwrap();
    let draft = locked.begin(name.parse().unwrap()).unwrap();
    let recipients = key.map(age::x25519::Identity::to_public);
    let encryption = match &recipients {
        None => Encryption::None,
        Some(one) => Encryption::Recipients {
            recipients: vec![one.to_string()],
        },
    };
    let recipients = Recipients(recipients.into_iter().collect());
    let parts = Kind::ALL.map(|kind| {
        let file = draft.create(&kind.file(&encryption)).unwrap();
        let mut writer = PartWriter::new(kind, file, &recipients).unwrap();
        writer.write(&[0; 1024]).unwrap();
        writer.finish(None).unwrap()
    });
    let manifest = Manifest {
        form: FORM,
        name: name.parse().unwrap(),
        project: project.clone(),
        octo_local: "0.1.0".to_owned(),
        demo: false,
        pinned: false,
        began_ms,
        ended_ms: began_ms + 1,
        octopus: Ran {
            image: "octopusdeploy/octopusdeploy:2026.2".to_owned(),
            ..Ran::default()
        },
        sql_server: Some(Ran::default()),
        database: Database::Included {
            name: "OctopusDeploy".to_owned(),
        },
        quiesced: true,
        consistency: String::new(),
        encryption,
        has_secrets: true,
        master_key_print: None,
        parts: parts.to_vec(),
    };
    draft.commit(&manifest).unwrap();
}

/// A place whose `.env` names a backup directory relative to it.
fn place() -> (Place, Directory, PathBuf) {
    let place = Place::new();
    place.write(".env", "BACKUP_DIR=kept/sets\nBROKEN=${OPEN\n");
    let path = place.dir().join("kept/sets");
    (place, Directory::at(path.clone()), path)
}

fn flip(path: PathBuf) {
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn sets_are_listed_newest_first_and_what_is_not_whole_is_named() {
    let (place, directory, path) = place();
    place.write(".env", "BACKUP_DIR=kept/sets\n");
    place
        .run(&["backup", "list"])
        .ok()
        .says("no backups in")
        .says("kept/sets");
    write(&directory, "older", 1_769_828_405_000, None);
    write(&directory, "newer", 1_769_928_405_000, None);
    std::fs::remove_file(path.join("older/artifacts.tar.zst")).unwrap();
    std::fs::create_dir(path.join(".octo.third.partial")).unwrap();
    let listed = place.run(&["backup", "list"]).ok();
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", listed.out);
    assert!(lines[1].starts_with("newer") && lines[1].contains("octopusdeploy:2026.2, quiesced"));
    assert!(lines[2].contains("2026-01-31T03:00:05Z") && lines[2].contains("NOT WHOLE: artifacts"));
    assert!(listed.err.contains("1 unfinished"), "{}", listed.err);
    let json = place
        .run(&["backup", "list", "--format", "json"])
        .ok()
        .json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(
        json["sets"][0]["manifest"]["octopus"]["image"],
        "octopusdeploy/octopusdeploy:2026.2"
    );
    assert_eq!(
        (&json["sets"][1]["whole"], &json["leftovers"]),
        (&false.into(), &1.into())
    );
}

#[test]
fn a_backup_can_be_looked_at_with_a_broken_env() {
    let (place, directory, path) = place();
    write(&directory, "one", 1, None);
    let from = path.display().to_string();
    place
        .run(&["backup", "verify", "one", "--from", &from])
        .ok();
    let listed = place.run(&["backup", "list", "--from", &from]).ok();
    assert!(listed.out.contains("one"));
}

#[test]
fn verify_reads_every_byte_and_names_the_damaged_part() {
    let (place, directory, path) = place();
    let from = path.display().to_string();
    write(&directory, "one", 1, None);
    let verify = ["backup", "verify", "one", "--from", &from];
    let good = place.run(&verify).ok();
    assert_eq!(good.out.lines().count(), 7, "{}", good.out);
    assert!(good.err.contains("backup one is good"), "{}", good.err);
    flip(path.join("one/database.bak.zst"));
    let bad = place.run(&verify).with(1);
    assert!(bad.err.contains("database.bak.zst is damaged") && bad.out.contains("BAD"));
    let json = place
        .run(&[&verify[..], &["--format", "json"]].concat())
        .with(1)
        .json();
    assert_eq!(
        (&json["good"], &json["parts"][1]["fault"]),
        (&false.into(), &serde_json::Value::Null)
    );
}

#[test]
fn an_encrypted_set_is_opened_with_an_identity_that_is_never_shown() {
    let (place, directory, path) = place();
    let from = path.display().to_string();
    let key = age::x25519::Identity::generate();
    write(&directory, "one", 1, Some(&key));
    let verify = ["backup", "verify", "one", "--from", &from];
    place
        .run(&verify)
        .ok()
        .says("every stored byte")
        .says("--identity FILE");
    let secret = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
    let with = |name: &str, text: &str| {
        let file = place.write(name, text).display().to_string();
        place.run(&[&verify[..], &["--identity", &file]].concat())
    };
    let good = with("key", &format!("# made today\n{secret}\n"))
        .ok()
        .says("every byte");
    let bad = with(
        "bad",
        &secret.replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-2"),
    );
    let bad = bad.with(78).says("age-keygen");
    let other = age::x25519::Identity::generate().to_string();
    let other = age::secrecy::ExposeSecret::expose_secret(&other).to_owned();
    let wrong = with("other", &other)
        .with(78)
        .says("does not open backup one")
        .says("nothing is known of its parts");
    let damage = ["BAD", "damaged", "rely"];
    let all = wrong.out.clone() + &wrong.err;
    assert!(!damage.iter().any(|word| all.contains(word)), "{all}");
    with("empty", "").with(78).says("no file of age identities");
    for told in [good, bad, wrong] {
        let all = told.out + &told.err;
        assert!(
            !all.contains("SECRET-KEY") && !all.contains(&secret[20..]),
            "{all}"
        );
    }
}

#[test]
fn what_is_no_set_is_named_with_the_way_on() {
    let (place, _, path) = place();
    let from = path.display().to_string();
    for name in ["../one", "/etc", ".octo.one.partial"] {
        place
            .run(&["backup", "verify", name, "--from", &from])
            .with(64)
            .says("cannot be the name of a backup");
    }
    place
        .run(&["backup", "verify", "one", "--from", &from])
        .with(1)
        .says("octo-local backup list");
}

#[test]
fn a_restore_asks_first_and_says_what_is_missing() {
    let (place, directory, path) = place();
    let from = path.display().to_string();
    write(&directory, "one", 1, None);
    let restore = |name: &str, more: &[&str]| {
        let words = ["-p", "octo", "backup", "restore", name, "--from", &from];
        place.run(&[&words[..], more].concat())
    };
    restore("one", &[]).with(64).says("--yes");
    restore("../one", &["--yes"])
        .with(64)
        .says("cannot be the name of a backup");
    restore("other", &["--yes"])
        .with(1)
        .says("octo-local backup list");
    let empty = place.write("empty", "").display().to_string();
    restore("one", &["--yes", "--identity", &empty])
        .with(78)
        .says("no file of age identities");
    restore("one", &["--yes"])
        .with(1)
        .says("`octo-local up` first");
}
