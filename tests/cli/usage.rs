//! Words that are wrong, and the first seconds of somebody new: every answer names the way on.

use std::os::unix::fs::PermissionsExt as _;

use super::Place;
use super::has;
use super::words;

#[test]
fn no_words_at_all_show_the_first_steps() {
    let ended = Place::new().run(&[]).with(64);
    for step in [
        "up --demo",
        "octo-local init",
        "octo-local status",
        "octo-local down",
    ] {
        assert!(ended.err.contains(step), "{step}: {}", ended.err);
    }
    let help = Place::new().run(&["--help"]).ok();
    assert!(help.out.contains("First steps") && help.err.is_empty());
}

#[test]
fn wrong_words_are_64_and_say_what_would_be_right() {
    let place = Place::new();
    for (line, fix) in [
        ("statsu", "status"),
        ("up extra", "Usage: octo-local up"),
        ("up --nodes 0", "1..=16"),
        ("up --nodes 99", "1..=16"),
        ("up --nodes many", "--nodes"),
        ("up --pull sometimes", "missing, always, never"),
        ("up --wait --no-wait", "cannot be used with"),
        ("status --format yaml", "table, json"),
        ("export", "Usage: octo-local export"),
        ("export kubernetes", "--out <DIR>"),
        (
            "export kubernetes --out k --format json",
            "kustomize, yaml, helm-values",
        ),
        ("export kubernetes --out k --drain-wait 0", "1..=86400"),
        ("export kubernetes --out k --tls-secret web", "--ingress"),
        ("logs --tail few", "number of lines, or all"),
        ("logs --since yesterday", "10m"),
        ("events --since 2026-01", "2026-01-31T12:00:00Z"),
        ("logs daemon db", "logs daemon"),
        ("tentacle", "Usage: octo-local tentacle"),
        ("tentacle add", "<NAME>"),
        ("tentacle add web", "--worker <POOL>"),
        ("tentacle add web --environment Test", "--role <ROLE>"),
        ("tentacle add web --role web", "--environment"),
        (
            "tentacle add web --worker P --role web",
            "cannot be used with",
        ),
        ("tentacle add Web --worker P", "small letters"),
        (
            "tentacle add web --worker P,Q",
            "--worker: \"P,Q\" has a comma",
        ),
        ("tentacle add web --worker P --image a:b:c", "--image: "),
        ("tentacle remove We_b", "small letters"),
        ("up --tentacles 2", "--demo"),
        ("up --demo --tentacles 17", "1..=16"),
        ("-p Bad status", "lower-case letters"),
        ("-p _x up", "choose such a name"),
        ("--project-directory /nowhere status", "/nowhere"),
        ("completions tcsh", "bash"),
        ("down --volumes", "--yes"),
        ("--env-file a --env-file b init", "once"),
    ] {
        place.run(&words(line)).with(64).says(fix);
    }
}

#[test]
fn a_bad_name_that_no_argument_gave_is_a_bad_configuration() {
    let place = Place::new();
    place.write(".env", "COMPOSE_PROJECT_NAME='Bad Name'\n");
    place
        .run(&["status"])
        .with(78)
        .says("COMPOSE_PROJECT_NAME=Bad Name");
    place.run(&["config", "--environment"]).ok();
}

#[test]
fn up_in_an_empty_directory_names_the_two_ways_on() {
    let place = Place::new();
    let ended = place.run(&["up"]).with(78);
    for word in [
        "ACCEPT_EULA",
        "ACCEPT_OCTOPUS_EULA",
        "SA_PASSWORD",
        "ADMIN_PASSWORD",
        "octo-local init",
        "--demo",
    ] {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
    assert!(
        !place.0.path().join("s").exists() && !place.0.path().join("r").exists(),
        "nothing was made"
    );
}

#[test]
fn init_writes_what_up_takes_for_its_owner_only_and_never_overwrites() {
    let place = Place::new();
    place.run(&["init"]).ok().says("ACCEPT_EULA");
    let path = place.dir().join(".env");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    place.run(&["init"]).with(78).says("left as it is");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let problems = place.run(&["config"]).with(78);
    assert!(
        problems.err.contains("2 problems") && problems.err.contains("ACCEPT_OCTOPUS_EULA"),
        "{}",
        problems.err
    );
    let accepted = text
        .replace("ACCEPT_EULA=\n", "ACCEPT_EULA=Y\n")
        .replace("OCTOPUS_EULA=\n", "OCTOPUS_EULA=Y\n");
    place.write(".env", accepted);
    let shown = place.run(&["config"]).ok();
    assert!(
        shown.out.contains("SA_PASSWORD=***\n") && shown.out.contains("OCTOPUS_NODES=1\n"),
        "{}",
        shown.out
    );
    place
        .run(&["-p", "shop", "--env-file", "other.env", "init"])
        .ok();
    let other = std::fs::read_to_string(place.dir().join("other.env")).unwrap();
    assert!(other.contains("\nCOMPOSE_PROJECT_NAME=shop\n"), "{other}");
}

#[test]
fn all_problems_come_at_once_with_place_and_fix_and_no_secret() {
    let place = Place::new();
    place.write(
        ".env",
        "ACCEPT_EULA=Y\nACCEPT_OCTOPUS_EULA=Y\nSA_PASSWORD=m4rker\nSA_PASWORD=m4rker\nOCTOPUS_PORT=http\n\
         DB_CONNECTION_STRING=Server=10.0.0.1;User=sa;Password=m4rker-2\nPULL=often\n",
    );
    let ended = place.run(&["up"]).with(78);
    for word in [
        "SA_PASSWORD (.env:3)",
        "OCTOPUS_PORT=http (.env:5)",
        "DB_CONNECTION_STRING (.env:6)",
        "PULL=often",
        "ADMIN_PASSWORD",
    ] {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
    assert!(!ended.err.contains("m4rker"), "{}", ended.err);
}

#[test]
fn a_typing_mistake_in_the_env_is_warned_about_with_what_was_meant() {
    let place = Place::new();
    place.run(&["init"]).ok();
    let text = std::fs::read_to_string(place.dir().join(".env")).unwrap();
    let text = text.replace("EULA=\n", "EULA=Y\n") + "OCTOPUS_NODE=2\nUSES=$NOBODY\n";
    place.write(".env", text);
    place
        .run(&["config"])
        .ok()
        .says("did you mean OCTOPUS_NODES?")
        .says("NOBODY, which is not set");
}

#[test]
fn completions_are_scripts_that_their_shell_reads() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).ok().out;
        assert!(
            script.contains("octo-local") && script.contains("COMPLETE"),
            "{shell}"
        );
        if has(shell) && ["bash", "zsh", "fish"].contains(&shell) {
            let path = place.write("script", script);
            let read = std::process::Command::new(shell)
                .arg("-n")
                .arg(path)
                .status()
                .unwrap();
            assert!(read.success(), "{shell}");
        }
    }
}

#[test]
fn the_version_is_told_in_every_way_that_people_ask_for_it() {
    let place = Place::new();
    for line in ["version", "--version", "-V"] {
        assert_eq!(
            place.run(&words(line)).ok().out,
            format!("octo-local {}\n", env!("CARGO_PKG_VERSION")),
            "{line}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_and_a_full_disk_are_no_bugs() {
    let place = Place::new();
    let output = |target: std::fs::File| {
        place
            .command(&["config", "--environment"])
            .stdout(target)
            .output()
            .unwrap()
    };
    let full = output(
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap(),
    );
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left"));
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let gone = output(writer.into());
    assert_eq!(
        (gone.status.code(), gone.stderr.as_slice()),
        (Some(141), b"".as_slice())
    );
}
