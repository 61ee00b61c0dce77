//! What speaks against a restore, told at once and pure.

use super::*;
use crate::backup::manifest::tests::manifest;

struct Scene {
    manifest: Manifest,
    project: ProjectName,
    right: Secret,
    wrong: Secret,
}

fn scene() -> Scene {
    let right = Secret::new("cmlnaHQtcmlnaHQtcmlnaA==");
    let mut manifest = manifest();
    manifest.master_key_print = Some(secrets::print_of(&right, &manifest.name));
    Scene {
        manifest,
        project: ProjectName::given("octo").unwrap(),
        right,
        wrong: Secret::new("d3Jvbmctd3Jvbmctd3Jvbg=="),
    }
}

impl Scene {
    fn here(&self) -> Here<'_> {
        Here {
            project: &self.project,
            demo: false,
            is_external: false,
            has_data: false,
            tag: "2026.2",
            master_key: None,
            key_of_set: Some(&self.right),
            free: None,
            kept: 0,
            force: false,
        }
    }

    fn refusals(&self, here: &Here<'_>) -> Vec<Refusal> {
        refusals(&self.manifest, here)
    }
}

#[test]
fn a_new_machine_takes_a_set_as_it_is() {
    let scene = scene();
    assert_eq!(scene.refusals(&scene.here()), []);
}

#[test]
fn newer_data_and_another_project_yield_to_force_only() {
    let scene = scene();
    let other = ProjectName::given("other").unwrap();
    let mut here = Here {
        project: &other,
        has_data: true,
        ..scene.here()
    };
    let found = scene.refusals(&here);
    assert_eq!(
        found,
        [
            Refusal::OtherProject(scene.project.clone()),
            Refusal::HasData
        ]
    );
    here.force = true;
    assert_eq!(scene.refusals(&here), []);
}

#[test]
fn an_older_server_never_runs_on_newer_data_also_not_by_force() {
    let scene = scene();
    for (tag, refused) in [
        ("2026.1", true),
        ("2025.4.9999", true),
        ("2026.2", false),
        ("2026.2.1", false),
        ("2026.10", false),
        ("2026", false),
        ("latest", false),
    ] {
        let here = Here {
            tag,
            force: true,
            ..scene.here()
        };
        let found = scene.refusals(&here);
        assert_eq!(
            matches!(found[..], [Refusal::OlderServer { .. }]),
            refused,
            "{tag}"
        );
    }
}

#[test]
fn the_key_must_be_the_datas_whoever_brings_it() {
    let scene = scene();
    let (right, wrong) = (Some(&scene.right), Some(&scene.wrong));
    for (given, of_set, refusal) in [
        (right, None, None),
        (right, right, None),
        (None, right, None),
        (wrong, right, Some(Refusal::WrongKey)),
        (wrong, None, Some(Refusal::OtherKey)),
        (None, wrong, Some(Refusal::WrongKeyInSet)),
        (None, None, Some(Refusal::NoKey)),
    ] {
        let here = Here {
            master_key: given,
            key_of_set: of_set,
            force: true,
            ..scene.here()
        };
        assert_eq!(scene.refusals(&here), Vec::from_iter(refusal));
    }
}

/// Nobody is told to leave out what is left out, or to take a key from a set that has none.
#[test]
fn what_is_said_of_a_wrong_key_helps_where_it_is_said() {
    let scene = scene();
    let said = |here: Here<'_>| {
        let refusals = scene.refusals(&here);
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        reasons(&[], &refusals).concat()
    };
    let with_key = said(Here {
        master_key: Some(&scene.wrong),
        ..scene.here()
    });
    let leave_out = "leave it out of .env and `octo-local up`";
    assert!(with_key.contains(leave_out), "{with_key}");
    let without_key = said(Here {
        master_key: Some(&scene.wrong),
        key_of_set: None,
        ..scene.here()
    });
    assert!(
        without_key.contains("brings no master key")
            && without_key.contains("`-p NAME`")
            && !without_key.contains("leave it out"),
        "{without_key}"
    );
    let bad_key = said(Here {
        key_of_set: Some(&scene.wrong),
        ..scene.here()
    });
    assert!(!bad_key.contains("leave it out"), "{bad_key}");
}

#[test]
fn of_a_set_that_cannot_be_opened_no_key_is_missed() {
    let fault = "secrets.json.zst.age is encrypted: give --identity FILE".to_owned();
    for of_key in [Refusal::NoKey, Refusal::OtherKey] {
        let refusals = [Refusal::HasData, of_key];
        let told = reasons(std::slice::from_ref(&fault), &refusals);
        assert_eq!(told, [fault.clone(), Refusal::HasData.to_string()]);
        let told = reasons(&[], &refusals);
        assert_eq!(told, refusals.map(|one| one.to_string()));
    }
    assert_eq!(reasons(&[], &[]), Vec::<String>::new());
}

#[test]
fn the_backup_file_has_to_fit_beside_the_database() {
    let scene = scene();
    let needed = scene.manifest.part(Kind::Database).unwrap().plain_size;
    for (free, has_data, fits) in [
        (None, true, true),
        (Some(needed), true, true),
        (Some(needed), false, false),
        (Some(needed - 1), true, false),
    ] {
        let here = Here {
            free,
            has_data,
            force: true,
            ..scene.here()
        };
        assert_eq!(
            scene.refusals(&here).is_empty(),
            fits,
            "{free:?} {has_data}"
        );
    }
}

#[test]
fn so_has_what_is_replaced_unless_it_is_given_up() {
    let scene = scene();
    let file = scene.manifest.part(Kind::Database).unwrap().plain_size;
    let here = |kept| Here {
        free: Some(file + 10),
        has_data: true,
        kept,
        force: true,
        ..scene.here()
    };
    assert_eq!(scene.refusals(&here(0)), []);
    assert_eq!(scene.refusals(&here(10)), []);
    let found = scene.refusals(&here(11));
    assert!(found[0].to_string().contains("--discard"), "{found:?}");
}

#[test]
fn a_demos_data_and_somebody_elses_database_are_kept_apart() {
    let mut scene = scene();
    let demo = Here {
        demo: true,
        force: true,
        ..scene.here()
    };
    assert_eq!(scene.refusals(&demo), [Refusal::OtherKind("a real stack")]);
    let external = Here {
        is_external: true,
        force: true,
        ..scene.here()
    };
    assert_eq!(scene.refusals(&external), [Refusal::ExternalDatabase]);
    scene.manifest.database = Database::Missing {
        why: "it is elsewhere".to_owned(),
    };
    let external = Here {
        is_external: true,
        ..scene.here()
    };
    assert_eq!(scene.refusals(&external), []);
    let found = scene.refusals(&scene.here());
    assert_eq!(found, [Refusal::NoDatabase("it is elsewhere".to_owned())]);
}

#[test]
fn everything_is_told_at_once_and_no_key_is_shown() {
    let scene = scene();
    let here = Here {
        demo: true,
        has_data: true,
        tag: "2020.1",
        master_key: Some(&scene.wrong),
        ..scene.here()
    };
    let found = scene.refusals(&here);
    assert_eq!(found.len(), 4);
    let told: String = found.iter().map(|one| format!("{one} {one:?}")).collect();
    assert!(!told.contains("d3Jv") && !told.contains("cmln"), "{told}");
}
