//! `kubernetes status` and `kubernetes upgrade` through a stand-in of kubectl: what they say, their
//! exit codes, and what they leave in the cluster, whatever their calls come to.

use std::process::Command;

use octo_local::kubernetes::seen::Pod;
use octo_local::kubernetes::seen::Set;

use super::apiserver::pod_json;
use super::apiserver::set_json;
use super::model::Cluster;
use super::model::Doing;
use super::model::Nature;
use super::model::image;
use super::standin::Around;
use super::standin::Faults;
use super::standin::Standin;
use crate::kit::process::Ended;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;

const WELL: Nature = Nature {
    is_parallel: false,
    undrains_itself: true,
    broken: None,
    missing: None,
};

fn serving(nodes: u32) -> Standin {
    Standin::new(Cluster::serving(WELL, nodes))
}

fn command(standin: &Standin, words: &str) -> Command {
    let project = standin.project();
    let mut command = Command::new(PROGRAM);
    command
        .args(["-p", "octo", "kubernetes"])
        .args(words.split_whitespace())
        .current_dir(&project)
        .env_clear()
        .env("PATH", standin.path())
        .env("HOME", &project)
        .env("DOCKER_HOST", "unix:///nowhere.sock")
        .env("OCTO_LOCAL_STATE_DIR", project.join("s"))
        .env("OCTO_LOCAL_RUNTIME_DIR", project.join("r"));
    command
}

fn run(standin: &Standin, words: &str) -> Ended {
    Running::spawn(&mut command(standin, words)).end()
}

/// Nothing that must never happen did, and all nodes of the version serve on a database of it.
#[track_caller]
fn must_serve(standin: &Standin, version: u32, nodes: usize) {
    let mut state = standin.state();
    let cluster = &mut state.0;
    assert_eq!(cluster.violations, Vec::<String>::new());
    let seen = cluster.seen();
    assert_eq!(seen.pods.len(), nodes, "{seen:#?}");
    assert!(
        seen.pods
            .iter()
            .all(|pod| pod.is_ready && pod.image == image(version)),
        "{seen:#?}"
    );
    assert_eq!(
        (cluster.template, cluster.database.unwrap().version),
        (version, version)
    );
    assert_eq!(cluster.record, None);
}

#[test]
fn what_the_api_server_writes_is_read_as_it_is_meant() {
    let mut cluster = Cluster::serving(
        Nature {
            broken: Some(2),
            ..WELL
        },
        3,
    );
    cluster.end(1);
    cluster.nodes[1].doing = Doing::BackingOff { until: 9 };
    cluster.nodes[1].restarts = 4;
    cluster.nodes[2].doing = Doing::NoImage;
    cluster.record = Some("{}".to_owned());
    let around = Around::default();
    let mut seen = cluster.seen();
    let set = Set::parse(set_json(&cluster, &around).to_string().as_bytes()).unwrap();
    assert_eq!(set, seen.set);
    let items: Vec<_> = cluster
        .nodes
        .iter()
        .rev()
        .map(|node| pod_json(node, &around))
        .collect();
    let list = serde_json::json!({"items": items}).to_string();
    seen.pods.sort_by_key(|pod| pod.number);
    assert_eq!(Pod::parse_list(list.as_bytes()).unwrap(), seen.pods);
}

#[test]
fn status_shows_nodes_sql_server_and_what_is_wrong() {
    let standin = serving(2);
    let shown = run(&standin, "status").ok().out;
    assert!(
        shown.contains("octopus in octo: ready, 2 of 2 nodes serve"),
        "{shown}"
    );
    assert!(shown.contains("mssql-0  ready  mssql:2022"), "{shown}");
    {
        let mut state = standin.state();
        let nodes = &mut state.0.nodes;
        nodes[0].is_drained = true;
        nodes[1].doing = Doing::BackingOff { until: 1_000_000 };
        nodes[1].restarts = 4;
        state.1.partition = Some(0);
    }
    let ended = run(&standin, "status --format json").ok();
    let json = ended.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["verdict"], "not-ready");
    assert_eq!(json["nodes"][0]["state"], "drained", "{json}");
    assert_eq!(json["nodes"][1]["state"], "crash-loop");
    assert_eq!(
        json["nodes"][1]["reason"],
        "it ended 4 times, the last time with exit code 1"
    );
    assert_eq!(json["set"]["guarded"], false);
    assert!(run(&standin, "status").ok().out.contains("mixes versions"));
    standin.state().1.has_sql = false;
    assert!(
        run(&standin, "status")
            .ok()
            .out
            .contains("not in this namespace")
    );
}

/// A cluster that has what was exported differs in nothing; what is edited afterwards is named, and
/// no value is shown.
#[test]
fn status_names_what_an_export_would_have_otherwise() {
    let standin = serving(2);
    let env = standin.project().join(".env");
    let variables = "ACCEPT_EULA=Y\nACCEPT_OCTOPUS_EULA=Y\nSA_PASSWORD=Never-shown-0f-us\nADMIN_PASSWORD=N3ver-shown-either\n\
                     MASTER_KEY=5qJcW9E6B99teMmrOzaYNA==\nOCTOPUS_SERVER_TAG=2026.2.7\nOCTOPUS_NODES=2\nTASK_CAP=7\n";
    std::fs::write(&env, variables).unwrap();
    let mut export = command(&standin, "");
    export = {
        let mut of_project = Command::new(PROGRAM);
        of_project
            .args("-p octo export kubernetes --out out --storage-class files".split(' '))
            .current_dir(standin.project());
        for (key, value) in export
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?)))
        {
            of_project.env(key, value);
        }
        of_project
    };
    Running::spawn(&mut export).end().ok();
    let text = std::fs::read_to_string(standin.project().join("out/octopus.yaml")).unwrap();
    let object: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    standin.state().1.env = Some(container["env"].clone());
    standin.state().1.first_image = container["image"].as_str().map(str::to_owned);
    let differences = |words: &str| run(&standin, words).ok().json()["differences"].clone();
    assert_eq!(differences("status --format json"), serde_json::json!([]));
    let edited = variables
        .replace("2026.2.7", "2026.3.1")
        .replace("TASK_CAP=7", "TASK_CAP=9");
    std::fs::write(&env, edited.replace("NODES=2", "NODES=3")).unwrap();
    let found = differences("status --format json").to_string();
    for words in [
        "2026.2.7 there",
        "nodes: 2 there, 3 here",
        "TASK_CAP: another value",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
    assert!(!found.contains("ever-shown"), "{found}");
}

#[test]
fn a_cluster_that_cannot_be_reached_or_used_is_told_with_the_fix() {
    let standin = serving(1);
    let mut without = command(&standin, "status");
    without.env("PATH", "/nowhere");
    Running::spawn(&mut without)
        .end()
        .with(78)
        .says("no kubectl in PATH");
    let with = |faults: Faults| {
        standin.state().1.faults = faults;
        run(&standin, "status")
    };
    let old = Faults {
        minor: Some("19"),
        ..Faults::default()
    };
    with(old)
        .with(78)
        .says("version 1.19: 1.27 or newer is needed");
    let everything = |words: &str| {
        with(Faults {
            everything: Some(words.to_owned()),
            ..Faults::default()
        })
    };
    everything("Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout")
        .with(69)
        .says("does not answer");
    everything("Error in configuration: context was not found for specified context: nope")
        .with(78)
        .says("--context names one");
    everything("error: You must be logged in to the server (Unauthorized)")
        .with(78)
        .says("log in");
    with(Faults {
        forbidden: vec!["list statefulsets.apps".to_owned()],
        ..Faults::default()
    })
    .with(78)
    .says("you may not list statefulsets.apps in the namespace octo");
    run(&standin, "status --namespace Not_one")
        .with(64)
        .says("no name of a namespace");
}

#[test]
fn every_right_that_is_missing_is_named_before_anything_is_touched() {
    let standin = serving(2);
    standin.state().1.faults.forbidden = ["patch statefulsets.apps", "create pods/exec"]
        .map(str::to_owned)
        .to_vec();
    run(&standin, "upgrade 2 --yes")
        .with(78)
        .says("patch statefulsets.apps")
        .says("create pods/exec");
    assert_eq!(standin.calls("patch"), Vec::<String>::new());
    must_serve(&standin, 1, 2);
}

#[test]
fn an_upgrade_ends_all_backs_up_and_brings_one_up_first() {
    let standin = serving(3);
    let plan = run(&standin, "upgrade 2 --plan").ok().out;
    assert!(
        plan.contains("octopusdeploy/octopusdeploy:1 -> octopusdeploy/octopusdeploy:2"),
        "{plan}"
    );
    assert_eq!(standin.calls("patch"), Vec::<String>::new());
    run(&standin, "upgrade 2")
        .with(64)
        .says("--yes does it unasked");
    run(&standin, "upgrade 2 --yes")
        .ok()
        .says("3 nodes serve on");
    must_serve(&standin, 2, 3);
    assert_eq!(standin.state().0.backups.len(), 1);
    let patches = standin.calls("patch");
    let replicas: Vec<&str> = patches
        .iter()
        .filter_map(|call| call.split("\"replicas\":").nth(1))
        .map(|rest| &rest[..1])
        .collect();
    assert_eq!(replicas, ["0", "1", "3"], "{patches:#?}");
    assert!(
        patches.iter().all(|call| call.contains("resourceVersion")),
        "{patches:#?}"
    );
    run(&standin, "upgrade 2 --yes").ok().says("already");
    run(&standin, "upgrade 1 --yes").with(78).says("older");
}

#[test]
fn a_version_that_does_not_come_up_goes_back_with_the_database() {
    for nature in [
        Nature {
            broken: Some(2),
            ..WELL
        },
        Nature {
            broken: Some(2),
            is_parallel: true,
            undrains_itself: false,
            ..WELL
        },
    ] {
        let standin = Standin::new(Cluster::serving(nature, 2));
        run(&standin, "upgrade 2 --yes")
            .with(1)
            .says("did not come up: it ended")
            .says("octopusdeploy/octopusdeploy:1 serves again");
        must_serve(&standin, 1, 2);
    }
    let standin = Standin::new(Cluster::serving(
        Nature {
            broken: Some(2),
            ..WELL
        },
        2,
    ));
    run(&standin, "upgrade 2 --yes --no-backup")
        .with(1)
        .says("no backup to go back with");
    assert_eq!(standin.state().0.violations, Vec::<String>::new());
    // It is known what it is in the middle of, and nothing else begins.
    run(&standin, "upgrade 3 --yes")
        .with(78)
        .says("`octo-local kubernetes upgrade 2` goes on");
    let json = run(&standin, "status --format json").ok().json();
    assert_eq!(json["verdict"], "upgrading");
}

#[test]
fn without_a_backup_the_old_version_comes_back_or_nothing_begins() {
    let standin = serving(2);
    standin.state().1.faults.backups = true;
    run(&standin, "upgrade 2 --yes")
        .with(1)
        .says("not enough space")
        .says("nothing was changed");
    must_serve(&standin, 1, 2);
    let standin = serving(2);
    standin.state().1.sql_pod_is_gone = true;
    run(&standin, "upgrade 2 --yes")
        .with(78)
        .says("SQL Server does not serve");
    standin.state().1.sql_pod_is_gone = false;
    standin.state().1.has_sql = false;
    run(&standin, "upgrade 2 --yes")
        .with(78)
        .says("--no-backup");
    assert_eq!(standin.calls("patch"), Vec::<String>::new());
    run(&standin, "upgrade 2 --yes --no-backup").ok();
    must_serve(&standin, 2, 2);
}

#[test]
fn versions_that_would_mix_are_refused() {
    let standin = serving(2);
    standin.state().1.partition = Some(0);
    run(&standin, "upgrade 2 --yes")
        .with(78)
        .says("mix versions");
    standin.state().1.partition = None;
    standin.state().0.nodes[1].version = 2;
    run(&standin, "upgrade 3 --yes")
        .with(78)
        .says("different images");
    standin.state().0.nodes[1].version = 1;
    run(&standin, "upgrade 3-hardened --yes")
        .with(78)
        .says("--image-flavour hardened");
}

/// Calls that never arrive, and such whose answer is lost, change only how long it takes.
#[test]
fn lost_calls_and_lost_answers_lose_nothing() {
    for many in [150, 300, 450] {
        let standin = serving(2);
        standin.state().1.faults = Faults {
            lost: many,
            unanswered: many,
            ..Faults::default()
        };
        // What is asked before anything is touched is asked again by the person.
        let mut asked = (0..20).map(|_| run(&standin, "upgrade 2 --yes"));
        asked.find(|ended| ended.code != 69).unwrap().ok();
        must_serve(&standin, 2, 2);
    }
}

/// The command dies over each of its changes in turn, and the next call goes on.
#[test]
fn an_upgrade_goes_on_after_death_at_every_step() {
    for broken in [None, Some(2)] {
        let nature = Nature {
            undrains_itself: false,
            broken,
            ..WELL
        };
        let mut at = 1;
        loop {
            let standin = Standin::new(Cluster::serving(nature, 2));
            standin.state().1.faults.dies_at = Some(at);
            let first = run(&standin, "upgrade 2 --yes");
            let (code, version) = if broken.is_some() { (1, 1) } else { (0, 2) };
            if first.code != -1 {
                first.with(code);
                break;
            }
            let next = run(&standin, "upgrade 2 --yes");
            let ended_already = next.code == 0 && next.err.contains("already");
            assert!(next.code == code || ended_already, "{at}: {next:?}");
            must_serve(&standin, version, 2);
            at += 1;
        }
        assert!(at > 8, "{at} changes");
    }
}
