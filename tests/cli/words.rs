//! Words of other tools, completions, lists and secrets: what is answered without an engine.

use std::process::Command;
use std::time::SystemTime;

use super::Place;
use super::has;
use super::words;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;

#[test]
fn words_of_other_tools_get_the_way_that_leads_there() {
    let place = Place::new();
    for (line, way) in [
        ("exec db sh", "docker exec"),
        ("pull", "up --pull always"),
        ("update", "OCTOPUS_SERVER_TAG"),
        ("scale 3", "--nodes"),
        ("rm", "octo-local down"),
        ("restart -t 5 db", "NODE_STOP_GRACE"),
    ] {
        place.run(&words(line)).with(64).says(way);
    }
}

#[test]
fn help_keeps_the_options_of_every_command_apart() {
    let place = Place::new();
    let up = place.run(&["up", "--help"]).ok().out;
    let (own, global) = up.split_once("Options of every command").unwrap();
    assert!(own.contains("--wait-timeout") && !own.contains("--project-name"));
    assert!(global.contains("--project-name") && global.contains("--env-file"));
    let plan = place.run(&["plan", "--help"]).ok().out;
    assert!(
        plan.contains("--nodes") && !plan.contains("--wait-timeout"),
        "{plan}"
    );
}

/// What bash offers behind these words.
fn offered(place: &Place, line: &str) -> Vec<String> {
    let script = place.run(&["completions", "bash"]).ok().out;
    let path = place.write("completions.bash", script);
    let typed = words(line);
    let last = if line.ends_with(' ') {
        typed.len()
    } else {
        typed.len() - 1
    };
    let ask = format!(
        "source {}; COMP_WORDS=({line}); COMP_CWORD={last}; \
         name=$(complete -p octo-local | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
         $name octo-local \"${{COMP_WORDS[COMP_CWORD]}}\" \"\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        path.display(),
    );
    let mut bash = place.command(&[]);
    let mut command = Command::new("bash");
    command
        .args(["--norc", "-c", &ask])
        .current_dir(place.dir());
    command.envs(
        bash.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    bash.env_clear();
    let answer = command.output().unwrap();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_offers_commands_options_and_units_below_the_top_level() {
    if !has("bash") {
        return;
    }
    let place = Place::new();
    let commands = offered(&place, "octo-local ");
    for word in ["up", "status", "secrets", "ls"] {
        assert!(
            commands.iter().any(|one| one == word),
            "{word}: {commands:?}"
        );
    }
    assert!(!commands.iter().any(|one| one == "standin"), "{commands:?}");
    let flags = offered(&place, "octo-local up --wait-");
    assert_eq!(flags, ["--wait-timeout"]);
    for command in ["stop", "drain", "status", "explain", "logs"] {
        let units = offered(&place, &format!("octo-local {command} oct"));
        assert_eq!(units, ["octopus-server-1"], "{command}");
    }
    let logs = offered(&place, "octo-local logs da");
    assert_eq!(logs, ["daemon"]);
}

#[test]
fn events_since_a_time_are_those_of_then_and_none_is_said_with_the_time() {
    let place = Place::new();
    let yet = place.run(&["events"]).ok();
    assert!(
        yet.err.contains("octo: nothing has happened yet"),
        "{}",
        yet.err
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_millis();
    let entry = |ago: u128, what: &str| {
        let at = now - ago * 60_000;
        format!("{{\"at_ms\":{at},\"subject\":\"db\",\"what\":\"{what}\"}}\n")
    };
    let state = place.0.path().join("s/octo");
    std::fs::create_dir_all(&state).unwrap();
    let history = entry(180, "started") + &entry(30, "ready");
    std::fs::write(state.join("events.jsonl"), history).unwrap();
    let told = |since: &str| place.run(&["events", "--since", since]).ok();
    let hour = told("1h");
    assert!(
        hour.out.contains("ready") && !hour.out.contains("started"),
        "{}",
        hour.out
    );
    assert_eq!(told("4h").out.lines().count(), 2);
    let none = told("10m");
    assert_eq!(
        (none.out.as_str(), none.err.trim_end()),
        ("", "octo: nothing has happened since 10m")
    );
    place
        .run(&["events", "--since", "soon"])
        .with(64)
        .says("soon");
}

#[test]
fn a_machine_without_projects_says_so() {
    let place = Place::new();
    place.run(&["ls"]).ok().says("no project is known");
    let list = place.run(&["ls", "--format", "json"]).ok().json();
    assert_eq!(
        (&list["schema"], &list["projects"]),
        (&1.into(), &serde_json::json!([]))
    );
    place
        .run(&["secrets"])
        .with(1)
        .says("nothing is kept of octo");
    place.run(&["stop"]).with(1).says("nothing was applied");
    place.run(&["status", "--check"]).with(69);
}

#[test]
fn one_secret_is_its_value_alone_and_all_are_named() {
    let place = Place::new();
    let mut init = place.command(&["init"]);
    init.env("ACCEPT_EULA", "Y").env("ACCEPT_OCTOPUS_EULA", "Y");
    Running::spawn(&mut init)
        .end()
        .ok()
        .says("next: `octo-local up`");
    let text = std::fs::read_to_string(place.dir().join(".env")).unwrap();
    let of_file = |key: &str| {
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(key))
            .unwrap()
            .to_owned()
    };
    let alone = place.run(&["secrets", "SA_PASSWORD"]).ok().out;
    assert_eq!(alone.trim_end(), of_file("SA_PASSWORD="));
    let all = place.run(&["secrets", "--format", "json"]).ok().json();
    assert_eq!(all["secrets"]["ADMIN_PASSWORD"], of_file("ADMIN_PASSWORD="));
    assert_eq!(all["schema"], 1);
    place
        .run(&["secrets", "NOTHING"])
        .with(64)
        .says("it has ADMIN_PASSWORD");
}

#[test]
fn init_says_what_is_left_to_do_before_up() {
    let place = Place::new();
    let mut init = place.command(&["init"]);
    init.env("ACCEPT_EULA", "Y");
    let ended = Running::spawn(&mut init).end().ok();
    assert!(
        ended
            .err
            .contains("next: set ACCEPT_OCTOPUS_EULA to Y in it"),
        "{}",
        ended.err
    );
}

#[test]
fn the_program_is_the_one_that_the_completions_ask() {
    let script = Place::new().run(&["completions", "bash"]).ok().out;
    assert!(script.contains(PROGRAM), "{script}");
}
