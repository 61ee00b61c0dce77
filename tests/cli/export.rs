//! `export`: which files, with which permissions, and what is left alone.

use std::os::unix::fs::PermissionsExt as _;

use super::Place;
use super::words;

/// A place with a configuration that could be applied.
fn place(more: &str) -> Place {
    let place = Place::new();
    let text = "ACCEPT_EULA=Y\nACCEPT_OCTOPUS_EULA=Y\nSA_PASSWORD=Str0ng-m4rker\nADMIN_PASSWORD='Adm1n-m4rker $x'\n\
                OCTOPUS_SERVER_TAG=2026.2.7\n";
    place.write(".env", format!("{text}{more}"));
    place
}

const KEY: &str = "MASTER_KEY=AAAAAAAAAAAAAAAAAAAAAA==\n";

#[test]
fn an_export_lists_its_files_and_hides_its_secrets() {
    let place = place(KEY);
    let ended = place
        .run(&words(
            "export kubernetes --out k --ingress octopus.example.com",
        ))
        .ok()
        .says("HANDOVER.md");
    for path in [
        "k/kustomization.yaml",
        "k/octopus.yaml",
        "k/ingress.yaml",
        "k/optional/upgrade-guard.yaml",
    ] {
        assert!(
            ended.out.lines().any(|line| line == path),
            "{path}: {}",
            ended.out
        );
        assert!(place.dir().join(path).exists(), "{path}");
    }
    let mode = |path: &str| {
        place
            .dir()
            .join(path)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("k/secrets.env"), 0o600);
    assert_eq!(mode("k/octopus.yaml"), 0o644);
    assert_eq!(mode("k/upgrade.sh"), 0o755);
    let secrets = std::fs::read_to_string(place.dir().join("k/secrets.env")).unwrap();
    assert!(
        secrets.contains("\nADMIN_PASSWORD=Adm1n-m4rker $x\n"),
        "{secrets}"
    );
    assert!(!ended.out.contains("m4rker") && !ended.err.contains("m4rker"));
}

#[test]
fn a_later_export_takes_the_place_of_an_earlier_one_and_of_nothing_else() {
    let place = place(KEY);
    place
        .run(&words("export kubernetes --out k --ingress o.example.com"))
        .ok();
    place
        .run(&words("export kubernetes --out k"))
        .ok()
        .says("removed k/ingress.yaml");
    assert!(!place.dir().join("k/ingress.yaml").exists());
    std::fs::create_dir(place.dir().join("mine")).unwrap();
    place.write("mine/octopus.yaml", "mine");
    for line in ["export kubernetes --out mine", "export compose --out mine"] {
        place.run(&words(line)).with(78).says("left as it is");
    }
    assert_eq!(
        std::fs::read_to_string(place.dir().join("mine/octopus.yaml")).unwrap(),
        "mine"
    );
    place.run(&words("export compose --out .env")).with(78);
}

#[test]
fn compose_files_hold_no_secret_but_the_env() {
    let place = place(KEY);
    let shown = place.run(&words("export compose")).ok().says("--out DIR");
    assert!(shown.out.contains("octo_sql-data") && !shown.out.contains("m4rker"));
    place.run(&words("export compose --out c")).ok();
    let file = std::fs::read_to_string(place.dir().join("c/docker-compose.yml")).unwrap();
    assert_eq!(file, shown.out);
    let mode = place
        .dir()
        .join("c/.env")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // What it wrote is a configuration of the same stack.
    let env = std::fs::read_to_string(place.dir().join("c/.env")).unwrap();
    assert!(env.contains("SA_PASSWORD='Str0ng-m4rker'\n"), "{env}");
}

#[test]
fn an_export_without_a_key_or_a_class_says_what_is_missing() {
    let without = place("");
    without
        .run(&words("export kubernetes --out k"))
        .with(78)
        .says("MASTER_KEY")
        .says("show-master-key");
    without
        .run(&words("export compose"))
        .with(78)
        .says("MASTER_KEY");
    let with = place(KEY);
    with.run(&words("export kubernetes --out k --nodes 2"))
        .with(78)
        .says("--storage-class")
        .says("ReadWriteMany");
    assert!(!with.dir().join("k").exists(), "nothing was made");
}
