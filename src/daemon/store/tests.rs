//! What is kept is read as it was meant, by every form, and never lost with a damaged file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::file::Envelope;
use super::file::check;
use super::file::copy_of;
use super::file::parse;
use super::*;
use crate::reconcile::record::Migrated;

fn known(password: &str) -> SaPassword {
    SaPassword {
        known: Some(Secret::new(password)),
        ..SaPassword::default()
    }
}

#[test]
fn a_wish_counts_only_on_the_engine_that_it_was_made_for() {
    let at = |socket: &str| Endpoint::at(format!("unix:///nowhere/{socket}"));
    let wishes = [
        (Wish::Up, Goal::Up),
        (Wish::Rest, Goal::Hold),
        (Wish::Down { volumes: false }, Goal::Down { volumes: false }),
        (Wish::Down { volumes: true }, Goal::Down { volumes: true }),
    ];
    for (wish, goal) in wishes {
        let stored = |endpoint| Stored {
            wish,
            endpoint,
            ..Stored::default()
        };
        assert_eq!(
            stored(None).goal(&at("a")),
            goal,
            "an older file does not say where"
        );
        assert_eq!(stored(Some(at("a"))).goal(&at("a")), goal);
        assert_eq!(stored(Some(at("a"))).goal(&at("b")), Goal::Hold);
    }
}

#[test]
fn wishes_are_written_as_they_always_were() {
    let stored = |wish| Stored {
        wish,
        ..Stored::default()
    };
    let down = |volumes| Wish::Down { volumes };
    for (wish, up, going_down) in [
        (Wish::Up, true, None),
        (Wish::Rest, false, None),
        (down(false), false, Some(false)),
        (down(true), false, Some(true)),
    ] {
        let mut value = serde_json::to_value(stored(wish)).unwrap();
        assert_eq!(
            (&value["up"], &value["going_down"]),
            (&up.into(), &serde_json::json!(going_down))
        );
        assert_eq!(
            serde_json::from_value::<Stored>(value.clone()).unwrap(),
            stored(wish)
        );
        // Before `down`s were kept.
        let older = value.as_object_mut().unwrap();
        older.retain(|key, _| !matches!(key.as_str(), "going_down" | "endpoint"));
        let read: Stored = serde_json::from_value(value).unwrap();
        assert_eq!(read.wish, if up { Wish::Up } else { Wish::Rest });
    }
}

#[test]
fn what_is_saved_is_read_and_only_its_owner_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let stored = Stored {
        wish: Wish::Up,
        sa: known("k"),
        ..Stored::default()
    };
    save(&path, &stored).unwrap();
    save(&path, &stored).unwrap();
    assert!(matches!(load(&path), Loaded::Fine(read) if *read == stored));
    for file in std::fs::read_dir(dir.path()).unwrap() {
        assert_eq!(
            file.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "the file and its copy"
    );
}

#[test]
fn a_damaged_file_is_set_aside_for_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let keyed = |key: &str| Stored {
        sa: known(key),
        ..Stored::default()
    };
    save(&path, &keyed("one")).unwrap();
    save(&path, &keyed("two")).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let one_letter_off = whole.replace("two", "tvo");
    for broken in [
        "",
        &whole[..whole.len() / 2],
        "[]",
        "\0\0\0",
        one_letter_off.as_str(),
    ] {
        std::fs::write(&path, broken).unwrap();
        assert_eq!(read(&path), Some(keyed("two")));
        let Loaded::Quarantined(_, Some(copy)) = load(&path) else {
            panic!("{broken:?}")
        };
        assert_eq!(*copy, keyed("two"));
        assert!(!path.exists());
    }
    std::fs::remove_file(copy_of(&path)).unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(matches!(load(&path), Loaded::Quarantined(_, None)));
}

#[test]
fn a_newer_file_is_left_alone_and_read_as_far_as_possible() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let up = Stored {
        wish: Wish::Up,
        ..Stored::default()
    };
    save(&path, &up).unwrap();
    let newer = std::fs::read_to_string(&path)
        .unwrap()
        .replacen("\"form\": 2", "\"form\": 99", 1);
    std::fs::write(&path, &newer).unwrap();
    assert!(matches!(load(&path), Loaded::Newer(99, Some(read)) if *read == up));
    std::fs::write(&path, "{\"form\":99}").unwrap();
    assert!(matches!(load(&path), Loaded::Newer(99, None)));
    assert!(path.exists());
}

#[test]
fn the_second_lock_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let held = lock(&path).unwrap().unwrap();
    assert_eq!(
        lock(&path).unwrap().unwrap_err(),
        std::process::id().to_string()
    );
    drop(held);
    assert!(lock(&path).unwrap().is_ok());
}

/// A file of each form, as the program of that time wrote it. Never change one: add one when
/// the form changes.
const GOLDEN: [&[u8]; 2] = [
    include_bytes!("../../../tests/golden/state-form-1.json"),
    include_bytes!("../../../tests/golden/state-form-2.json"),
];

/// Of the containers in the golden files.
const DIGESTS: [&str; 2] = [
    "daac554b836c73c39f9fcac4a096a340",
    "fafc7a71632e25272000c196b3e0d83f",
];

#[test]
fn files_of_every_form_are_read_and_mean_what_they_meant() {
    for text in GOLDEN {
        let stored = parse(text).expect("a whole file");
        assert!(stored.is_up() && stored.stopped == [UnitId::Node(2)].into());
        let config = stored.config.as_ref().expect("a configuration");
        assert_eq!(config.octopus.nodes, 1);
        assert_eq!(config.octopus.tag, "2026.2.7");
        let spec = stored.spec.as_ref().expect("a desired state");
        let digests: Vec<String> = spec.containers().map(|one| one.digest().0).collect();
        assert_eq!(digests, DIGESTS, "or healthy containers would be recreated");
        let data = Data::of(spec);
        assert_eq!(data, Data::Volume("shop_sql-data".to_owned()));
        let key = stored.keys.proven_for(&data).expect("the data's key");
        assert!(key.generated && key.key.expose() == "bmV2ZXJ1c2VkYXRhbGwhIQ==");
        let ran = stored.ran_on(&data).expect("what ran");
        assert_eq!(ran.image, "octopusdeploy/octopusdeploy:2026.2.7");
        assert_eq!(stored.sa.known.unwrap().expose(), "Str0ng-enough");
    }
}

/// A file in which everything that may be absent is there.
fn full() -> Stored {
    let mut stored = parse(GOLDEN[1]).expect("a whole file");
    let run = Instance {
        id: "c1".to_owned(),
        started_at: "2026-01-31T12:00:00Z".to_owned(),
    };
    stored.durable = Durable {
        ended_by_us: [(UnitId::Node(1), run.clone())].into(),
        is_data_new: true,
        migrated: Some(Migrated {
            image_id: "sha256:1".to_owned(),
            database: "db/octopus".to_owned(),
        }),
        roster: [("octopus-1".to_owned(), "db/octopus".to_owned())].into(),
    };
    let drain = KeptDrain { run, until_ms: 1 };
    stored.drains.draining = [(UnitId::Node(1), drain)].into();
    let applied = || Applied {
        config: stored.config.clone().unwrap(),
        spec: stored.spec.clone().unwrap(),
        images: stored.images.clone(),
    };
    let upgrade = Upgrade {
        from: "octopus:1".to_owned(),
        to: "octopus:2".to_owned(),
        set: "before".to_owned(),
        before: Box::new(applied()),
    };
    stored.backups = Backups {
        restoring: Some(Restoring::default()),
        replaced: Some(Replaced::default()),
        schedule: Schedule::default(),
        upgrades: Upgrades {
            upgrading: Some(Upgrading {
                upgrade: upgrade.clone(),
                needs: ["octopus:2".to_owned()].into(),
                next: Some(Box::new(applied())),
            }),
            last: Some(upgrade.clone()),
            rolling_back: Some(RollingBack {
                upgrade,
                failure: Some("a reason".to_owned()),
                ..RollingBack::default()
            }),
            rolled_back: Some(RolledBack {
                undone: "2".to_owned(),
            }),
            failure: Some("a reason".to_owned()),
        },
    };
    stored
}

#[test]
fn a_field_that_an_older_file_lacks_damages_nothing() {
    fn without(value: &serde_json::Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
        for (key, inner) in value.as_object().into_iter().flatten() {
            path.push(key.clone());
            all.push(path.clone());
            without(inner, path, all);
            path.pop();
        }
    }
    let full = serde_json::to_value(full()).unwrap();
    let mut paths = Vec::new();
    without(&full, &mut Vec::new(), &mut paths);
    let is_told = |name: &str| paths.iter().any(|path| path.last().unwrap() == name);
    for name in [
        "until_ms",
        "database",
        "started_at",
        "front_door",
        "may_be_touched",
        "next",
        "set",
    ] {
        assert!(is_told(name), "{name} is in no path");
    }
    // A choice without its word is no older file.
    paths.retain(|path| {
        path.iter()
            .rev()
            .nth(1)
            .is_none_or(|parent| parent != "data")
    });
    for path in paths {
        let mut stored = full.clone();
        let (last, before) = path.split_last().unwrap();
        let place = before
            .iter()
            .fold(&mut stored, |value, key| &mut value[key]);
        place.as_object_mut().unwrap().remove(last);
        let read = serde_json::from_value::<Stored>(stored);
        assert!(read.is_ok(), "without {path:?}: {}", read.unwrap_err());
    }
}

#[test]
fn a_key_that_nodes_of_an_older_file_ran_with_is_the_current_one() {
    let mut envelope: Envelope = serde_json::from_slice(GOLDEN[0]).unwrap();
    envelope.stored["master_key"] = "another".into();
    envelope.check = check(&envelope.stored);
    let stored = parse(&serde_json::to_vec(&envelope).unwrap()).unwrap();
    assert_eq!(
        stored.master_key().unwrap().expose(),
        "bmV2ZXJ1c2VkYXRhbGwhIQ=="
    );
    assert_eq!(stored.keys.replaced[0].key.expose(), "another");
}

#[test]
fn an_unreadable_file_costs_nothing_that_its_copy_holds() {
    let keyed = Stored {
        sa: known("kept"),
        ..Stored::default()
    };
    let take_away: [fn(&Path); 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        },
        // A name that leads to itself: reading fails, and nobody knows what it would show.
        |path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(path, path).unwrap();
        },
    ];
    for take in take_away {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        save(&path, &keyed).unwrap();
        take(&path);
        assert_eq!(read(&path).as_ref(), Some(&keyed));
        let Loaded::Quarantined(_, Some(copy)) = load(&path) else {
            panic!("the copy is whole")
        };
        assert_eq!(*copy, keyed);
        save(&path, &copy).unwrap();
        assert!(matches!(load(&path), Loaded::Fine(stored) if *stored == keyed));
    }
}

#[test]
fn what_cannot_be_read_at_all_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(load(&path), Loaded::Unreadable(why) if why.contains("state.json")));
    assert!(std::fs::symlink_metadata(&path).is_ok());
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(copy_of(&path), copy_of(&path)).unwrap();
    assert!(matches!(load(&path), Loaded::Unreadable(_)));
    std::fs::remove_file(copy_of(&path)).unwrap();
    std::fs::write(copy_of(&path), "damaged").unwrap();
    assert!(matches!(load(&path), Loaded::Quarantined(_, None)));
    let aside = dir.path().join("state.json.copy.corrupt");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "damaged");
}

#[test]
fn a_copy_of_another_project_is_not_taken_for_this_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store").join("state.json");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(copy_of(&path), GOLDEN[1]).unwrap();
    assert!(matches!(load(&path), Loaded::Quarantined(_, None)));
    assert!(path.with_file_name("state.json.copy.corrupt").exists());
}

#[test]
fn what_a_killed_writer_left_is_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    save(&path, &Stored::default()).unwrap();
    std::fs::write(dir.path().join(".stateXYZ123"), "a secret").unwrap();
    std::fs::write(dir.path().join("events.jsonl"), "").unwrap();
    assert!(matches!(load(&path), Loaded::Fine(_)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn tentacles_are_kept_with_what_stopped_them_and_older_files_have_none() {
    let mut stored = parse(GOLDEN[1]).unwrap();
    assert!(stored.tentacles.is_empty());
    assert!(
        serde_json::to_value(&stored)
            .unwrap()
            .get("tentacles")
            .is_none()
    );
    let text = r#"{"web":{"purpose":{"worker":{"pool":"P"}},"space":"Default"}}"#;
    stored.tentacles = serde_json::from_str(text).unwrap();
    let again = serde_json::to_value(&stored).unwrap();
    assert_eq!(again["tentacles"].to_string(), text);
    stored.stopped.clear();
    let web = UnitId::Tentacle("web".parse().unwrap());
    stored.note_stopped(&[web, UnitId::Node(1)], true);
    assert_eq!(stored.stopped, BTreeSet::from([UnitId::Node(1)]));
    assert_eq!(stored.all_stopped(), BTreeSet::from([UnitId::Node(1), web]));
    stored.note_stopped(&[web, UnitId::Node(1)], false);
    assert!(stored.all_stopped().is_empty());
}

#[test]
fn a_volume_with_a_database_that_is_gone_is_missed_until_its_end_was_asked_for() {
    let mut stored = parse(GOLDEN[1]).unwrap();
    let there = Observed {
        volumes: ["shop_sql-data".to_owned()].into(),
        ..Observed::default()
    };
    assert_eq!(stored.lost_volume(&there), None);
    let gone = Observed::default();
    assert_eq!(stored.lost_volume(&gone).as_deref(), Some("shop_sql-data"));
    stored.begin_anew(&Data::Volume("shop_sql-data".to_owned()));
    assert_eq!(stored.lost_volume(&gone), None);
    let mut down = parse(GOLDEN[1]).unwrap();
    down.wish = Wish::Down { volumes: true };
    assert_eq!(down.lost_volume(&gone), None);
}

#[test]
fn deleted_data_leaves_its_keys_and_what_ran_on_external_ones() {
    let volume = Data::Volume("p_sql-data".to_owned());
    let external = Data::External {
        server: "sql:1433".to_owned(),
        database: "octopus".to_owned(),
    };
    let ran = |data: &Data| Ran {
        version: "2026.2.7".to_owned(),
        data: Some(data.clone()),
        ..Ran::default()
    };
    let key = Secret::new("k");
    let mut stored = Stored {
        wish: Wish::Down { volumes: true },
        ..Stored::default()
    };
    stored.keys.set(&key, true, &volume);
    assert!(stored.key_proven(&key, &volume) && stored.had_data(&volume));
    assert!(stored.version_ran(ran(&external)) && stored.version_ran(ran(&volume)));
    let left = stored.data_deleted();
    assert!(left.is_blank() && !left.had_data(&volume) && left.had_data(&external));
    assert_eq!(
        left.master_key(),
        Some(&key),
        "it is used again: backups need it"
    );
    // A given key that no node came up with is not taken for the right one.
    let mut wrong = Stored::default();
    wrong.keys.set(&key, false, &external);
    let left = wrong.data_deleted();
    assert!(left.master_key().is_none() && left.keys.replaced.len() == 1);
}
