//! An engine that goes away and comes again, with the containers and without them.

use std::time::Duration;

use tokio::time::Instant;

use super::case::Case;
use crate::fake::call::Caller;
use crate::fake::call::Verb;
use crate::fake::invariants::Allowed;
use crate::fake::script::Fault;
use crate::fake::script::Rule;
use crate::kit::process::Running;
use crate::kit::process::wait_until;

/// The units in the order of their last starts.
fn last_starts(case: &Case) -> Vec<String> {
    let world = case.engine.world();
    let starts = world
        .timeline
        .happened()
        .filter(|(_, event)| event.action == "start");
    let units: Vec<String> = starts
        .filter_map(|(_, event)| event.unit().map(str::to_owned))
        .collect();
    units[units.len() - 3..].to_vec()
}

#[test]
fn f22_containers_that_went_with_their_engine_come_back_in_order() {
    let case = Case::up();
    case.engine.go();
    case.engine.end_all();
    case.wait_for("engine-down");
    case.engine.come();
    case.wait_for("ready");
    assert_eq!(
        last_starts(&case),
        ["db", "octopus-server-1", "octopus-server-2"]
    );
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [2, 2, 2]);
    case.check(&Allowed::default());
}

#[test]
fn f23_containers_that_outlive_their_engine_are_not_touched() {
    let case = Case::up();
    let before = case.engine.running();
    case.engine.go();
    case.wait_for("engine-down");
    case.engine.come();
    case.wait_for("ready");
    assert_eq!(case.engine.running(), before);
    case.check(&Allowed::default());
}

#[test]
fn f24_an_engine_that_comes_and_goes_burns_no_restarts() {
    let case = Case::up();
    let before = case.engine.running();
    for _ in 0..5 {
        case.engine.go();
        case.wait_for("engine-down");
        case.engine.come();
        case.wait_for("ready");
    }
    assert_eq!(case.engine.running(), before);
    for unit in ["db", "octopus-server-1", "octopus-server-2"] {
        assert_eq!(case.unit(unit)["restarts"], 0);
    }
    case.check(&Allowed::default());
}

#[test]
fn f24_an_engine_that_is_away_is_asked_about_once_a_second() {
    let case = Case::up();
    case.engine.go();
    case.wait_for("engine-down");
    std::thread::sleep(Duration::from_secs(2));
    let asked = |case: &Case| {
        let world = case.engine.world();
        world
            .timeline
            .asked()
            .filter(|(_, asked)| matches!(asked.caller, Caller::Daemon(_)))
            .count()
    };
    let (before, begun) = (asked(&case), Instant::now());
    case.engine.come();
    wait_until("the daemon asks again", || {
        (asked(&case) > before).then_some(())
    });
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it came back after {:?}",
        begun.elapsed()
    );
    case.wait_for("ready");
}

#[test]
fn f45_without_an_engine_up_says_where_it_looked_and_leaves_nothing() {
    let case = Case::new();
    case.engine.go();
    let begun = Instant::now();
    case.run(&["up"])
        .with(69)
        .says(&case.engine.url().replace("unix://", ""));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        begun.elapsed()
    );
    wait_until("no daemon stays", || case.daemon().is_none().then_some(()));
    case.engine.come();
}

/// One stack's `down` is nothing for another engine, with a daemon, without one, and over what a
/// broken-off `down` left.
#[test]
fn f45_a_down_that_means_another_engine_removes_nothing_and_forgets_nothing() {
    let (case, other) = (Case::up(), Case::up());
    let elsewhere = |words: &[&str]| {
        Running::spawn(case.command(words).env("DOCKER_HOST", other.engine.url())).end()
    };
    let down = ["down", "--volumes", "--yes"];
    let refused = || {
        let before = std::fs::read(case.state().join("state.json")).unwrap();
        for words in [down.as_slice(), &["down"]] {
            elsewhere(words)
                .with(78)
                .says(&case.engine.url())
                .says(&other.engine.url());
        }
        assert_eq!(
            std::fs::read(case.state().join("state.json")).unwrap(),
            before
        );
    };
    refused();
    for words in [["restart"], ["stop"], ["start"]] {
        elsewhere(&words).with(78).says(&other.engine.url());
    }
    case.run(&["down"]).ok();
    wait_until("no daemon runs", || case.daemon().is_none().then_some(()));
    refused();
    assert!(case.daemon().is_none());
    let status = elsewhere(&["status"]).ok();
    assert!(status.out.contains(&case.engine.url()), "{}", status.out);
    case.run(&["up"]).ok();
    case.engine.fault(Rule::on(
        Verb::Stop,
        Fault::Slow(Duration::from_millis(300)),
    ));
    let broken_off = case.spawn(&down);
    wait_until("the stack goes down", || {
        (case.engine.hits() > 0).then_some(())
    });
    drop(broken_off);
    case.kill_daemon();
    case.engine.heal();
    other.kill_daemon();
    let daemon = Running::spawn(
        case.command(&["daemon"])
            .env("DOCKER_HOST", other.engine.url()),
    );
    let notes = wait_until("it says that it holds", || {
        Some(case.status()).filter(|status| status["verdict"] == "held")
    });
    assert!(
        notes["notes"].to_string().contains(&case.engine.url()),
        "{notes}"
    );
    drop(daemon);
    assert_eq!(
        (
            other.engine.world().containers.len(),
            case.engine.world().has_no_data()
        ),
        (3, false)
    );
    case.run(&down).ok();
    assert!(case.is_gone() && case.engine.world().has_no_data());
}

/// The key of data on one engine is not lost over a new stack on another; and an engine may get
/// another address.
#[test]
fn f45_an_up_elsewhere_is_refused_where_it_would_cost_the_key_and_taken_where_the_data_is() {
    let (case, other) = (Case::up(), Case::new());
    case.run(&["down"]).ok();
    wait_until("no daemon runs", || case.daemon().is_none().then_some(()));
    let up = |url: &str| Running::spawn(case.command(&["up"]).env("DOCKER_HOST", url)).end();
    up(&other.engine.url())
        .with(78)
        .says(&case.engine.url())
        .says(&other.engine.url());
    wait_until("no daemon stays", || case.daemon().is_none().then_some(()));
    assert!(other.engine.world().has_no_data());
    let path = case.engine.url().replace("unix://", "");
    let moved = std::path::Path::new(&path).with_file_name("moved.sock");
    std::fs::hard_link(&path, &moved).unwrap();
    let url = format!("unix://{}", moved.display());
    let down = || Running::spawn(case.command(&["down"]).env("DOCKER_HOST", &url)).end();
    down().with(78).says("`octo-local up` first");
    up(&url).ok();
    down().ok();
    assert!(case.is_gone());
}

#[test]
fn f32_an_engine_that_takes_connections_and_says_nothing_is_an_answer_after_five_seconds() {
    let case = Case::new();
    case.engine.fault(Rule::everywhere(Fault::Hangs));
    let begun = Instant::now();
    case.run(&["up"]).with(69).says("says nothing");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "it took {:?}",
        begun.elapsed()
    );
    case.engine.heal();
}

#[test]
fn f45_an_up_that_means_another_engine_than_the_daemon_changes_nothing() {
    let (case, other) = (Case::up(), Case::new());
    let calls = case.engine.world().timeline.asked().count();
    for words in [["up"], ["plan"]] {
        let ended =
            Running::spawn(case.command(&words).env("DOCKER_HOST", other.engine.url())).end();
        ended
            .with(78)
            .says(&case.engine.url())
            .says(&other.engine.url());
    }
    assert!(other.engine.world().containers.is_empty() && other.engine.world().has_no_data());
    let changes = |case: &Case| {
        case.engine
            .world()
            .timeline
            .asked()
            .skip(calls)
            .filter(|(_, asked)| asked.verb.changes())
            .count()
    };
    assert_eq!(changes(&case), 0);
    case.run(&["up"]).ok();
    case.check(&Allowed::default());
}

#[test]
fn f24_an_engine_that_comes_while_up_waits_is_no_failure() {
    let case = Case::new();
    case.engine.go();
    let up = case.spawn(&["up"]);
    wait_until("there is a daemon", || case.daemon());
    case.engine.come();
    up.end().ok();
}

#[test]
fn f32_one_call_that_breaks_before_anything_is_done_refuses_no_up() {
    for verb in [
        Verb::Version,
        Verb::ListContainers,
        Verb::ListVolumes,
        Verb::InspectImage,
    ] {
        let case = Case::new();
        case.engine.fault(Rule::on(verb, Fault::Breaks).once());
        case.run(&["up"]).ok();
        assert_eq!(case.engine.hits(), 1, "{verb:?} was asked");
    }
}

#[test]
fn f24_up_asks_the_engine_and_not_what_the_daemon_last_heard_of_it() {
    let case = Case::up();
    case.engine.go();
    case.wait_for("engine-down");
    case.engine.come();
    case.run(&["up"]).ok();
    case.check(&Allowed::default());
}
