//! The daemon dies under a command: what was wished is kept, and whoever comes next goes on with
//! it.

use std::io::Write as _;
use std::time::Duration;

use octo_local::reconcile::status::Note;
use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::case::Case;
use crate::fake::call::Verb;
use crate::fake::invariants::Allowed;
use crate::fake::script::Act;
use crate::fake::script::Fault;
use crate::fake::script::Rule;
use crate::fake::script::Turn;
use crate::kit::process::PROGRAM;
use crate::kit::process::Running;
use crate::kit::process::wait_until;

/// The calls of a `down` that change something: each of three units is stopped and removed, and
/// then the network goes.
const CHANGES_OF_A_DOWN: usize = 7;

/// A `down` that is killed together with its daemon while a unit stops.
fn broken_off(case: &Case, words: &[&str]) {
    case.engine.fault(Rule::on(
        Verb::Stop,
        Fault::Slow(Duration::from_millis(300)),
    ));
    let down = case.spawn(words);
    wait_until("the stack goes down", || {
        (case.engine.hits() > 0).then_some(())
    });
    drop(down);
    case.kill_daemon();
    case.engine.heal();
    assert!(
        !case.is_wanted_up() && !case.is_gone(),
        "nothing wants up what is half down"
    );
}

/// What the state file keeps.
fn kept(case: &Case) -> Value {
    kept_if_whole(case).unwrap()
}

fn kept_if_whole(case: &Case) -> Option<Value> {
    let text = std::fs::read_to_string(case.state().join("state.json")).ok()?;
    Some(serde_json::from_str::<Value>(&text).ok()?["stored"].take())
}

#[test]
fn f04_a_down_that_was_broken_off_is_finished_by_the_next_daemon_unasked() {
    for (words, data_goes) in [
        (["down"].as_slice(), false),
        (&["down", "--volumes", "--yes"], true),
    ] {
        let case = Case::up();
        broken_off(&case, words);
        let daemon = case.spawn(&["daemon"]);
        wait_until("the rest is taken down", || case.is_gone().then_some(()));
        wait_until("that is done", || {
            kept(&case)["going_down"].is_null().then_some(())
        });
        assert_eq!(
            case.engine.world().has_no_data(),
            data_goes,
            "the data stays or goes"
        );
        assert_eq!(
            kept(&case)["config"].is_null(),
            data_goes,
            "and what is known of it with it"
        );
        assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 1, 1]);
        drop(daemon);
        case.check(&Allowed {
            data_goes,
            ..Allowed::default()
        });
    }
}

#[test]
fn f04_a_down_whose_daemon_is_killed_puts_another_in_its_place() {
    for (words, change) in [
        (["down"].as_slice(), 1),
        (&["down"], CHANGES_OF_A_DOWN),
        (&["down", "-v", "--yes"], 3),
    ] {
        let case = Case::up();
        case.engine
            .at([Turn::new(change, Act::DiesAfter).of_changes()]);
        case.run(words).ok().says("is down");
        assert!(case.engine.turns()[0].came_to.is_some(), "the daemon died");
        assert!(case.is_gone() && kept(&case)["going_down"].is_null());
        case.run(words).ok().says("nothing to take down");
        case.run(&["up"]).ok();
        assert!(case.is_wanted_up());
    }
}

#[test]
fn f04_a_refused_up_leaves_a_broken_off_down_as_it_is_and_both_say_so() {
    let case = Case::up();
    broken_off(&case, &["down"]);
    let left = case.engine.world().containers.len();
    assert_eq!(
        case.status()["notes"],
        json!([Note::Unfinished]),
        "also without a daemon"
    );
    case.set("SA_PASSWORD", "An0ther-password");
    case.run(&["up"])
        .with(78)
        .says("SA_PASSWORD")
        .says(&Note::Unfinished.to_string());
    assert_eq!(case.status()["notes"], json!([Note::Unfinished]));
    assert_eq!(case.engine.world().containers.len(), left);
    case.run(&["down"]).ok();
    assert!(case.is_gone());
}

#[test]
fn f04_a_waiting_up_does_not_overrule_a_later_down() {
    let case = Case::new();
    let (up, _) = stuck_up(&case);
    case.engine.heal();
    case.engine.fault(Rule::on(
        Verb::Stop,
        Fault::Slow(Duration::from_millis(500)),
    ));
    let down = case.spawn(&["down"]);
    wait_until("the stack goes down", || {
        kept(&case)["going_down"].is_boolean().then_some(())
    });
    drop(down);
    case.kill_daemon();
    let daemon = case.spawn(&["daemon"]);
    up.end().with(1).says("another command took over");
    wait_until("everything is taken down", || case.is_gone().then_some(()));
    assert!(!case.is_wanted_up());
    drop(daemon);
}

#[test]
fn f02_a_wait_that_is_bounded_bounds_the_replacement_too() {
    let case = Case::new();
    case.engine.fault(Rule::on(Verb::Start, Fault::Hangs));
    let up = case.spawn(&["up", "--wait-timeout", "3"]);
    wait_until("a start hangs", || (case.engine.hits() > 0).then_some(()));
    let begun = Instant::now();
    // Told to leave: another one is waited for, and none comes.
    rustix::process::kill_process(case.daemon().unwrap(), Signal::QUIT).unwrap();
    up.end().with(75);
    assert!(
        begun.elapsed() < Duration::from_millis(4_500),
        "it took {:?}",
        begun.elapsed()
    );
}

#[test]
fn f18_a_down_that_only_the_copy_knows_is_not_carried_out_by_any_later_daemon() {
    let case = Case::up();
    broken_off(&case, &["down", "--volumes", "--yes"]);
    std::fs::write(case.state().join("state.json"), "damaged").unwrap();
    for _ in 0..2 {
        let daemon = case.spawn(&["daemon"]);
        wait_until("it looked and wrote", || {
            kept_if_whole(&case).filter(|kept| kept["going_down"].is_null())
        });
        case.wait_for("held");
        drop(daemon);
        assert!(!case.engine.world().has_no_data() && !case.is_gone());
    }
}

#[test]
fn f19_what_the_file_would_take_away_is_not_wished_up_on_a_full_disk() {
    let case = Case::up();
    broken_off(&case, &["down", "--volumes", "--yes"]);
    // Nothing can be made in its place.
    let copy = case.state().join("state.json.copy");
    std::fs::remove_file(&copy).unwrap();
    std::fs::create_dir_all(copy.join("in the way")).unwrap();
    case.run(&["up"])
        .with(1)
        .says("cannot be written")
        .says(&Note::Unfinished.to_string());
    for words in [["start"], ["restart"], ["down"]] {
        case.run(&words).with(1).says("cannot be written");
    }
    assert_eq!(kept(&case)["going_down"], true);
    std::fs::remove_dir_all(&copy).unwrap();
    case.run(&["up"]).ok();
    assert!(case.is_wanted_up() && kept(&case)["going_down"].is_null());
    case.check(&Allowed::default());
}

#[test]
fn f04_a_start_that_overrules_a_down_is_kept_for_the_next_daemon() {
    let case = Case::up();
    case.engine.fault(Rule::on(
        Verb::Stop,
        Fault::Slow(Duration::from_millis(300)),
    ));
    let down = case.spawn(&["down"]);
    wait_until("the stack goes down", || {
        (case.engine.hits() > 0).then_some(())
    });
    assert!(!case.is_wanted_up());
    case.run(&["start"]).ok();
    assert!(case.is_wanted_up());
    down.end().with(1).says("another command took over");
    case.kill_daemon();
    let daemon = case.spawn(&["daemon"]);
    case.wait_for("ready");
    drop(daemon);
    case.check(&Allowed::default());
}

/// An `up` that comes to the start of SQL Server and no further, and its daemon.
fn stuck_up(case: &Case) -> (Running, Pid) {
    case.engine.fault(Rule::on(Verb::Start, Fault::Hangs));
    let up = case.spawn(&["up"]);
    wait_until("a start hangs", || (case.engine.hits() > 0).then_some(()));
    (up, case.daemon().unwrap())
}

#[test]
fn f02_an_up_whose_daemon_is_killed_puts_another_in_its_place_at_once() {
    let case = Case::new();
    let (up, daemon) = stuck_up(&case);
    case.engine.heal();
    let begun = Instant::now();
    rustix::process::kill_process(daemon, Signal::KILL).unwrap();
    up.end()
        .ok()
        .says("the daemon is gone; another one goes on");
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        begun.elapsed()
    );
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 1, 1]);
    case.check(&Allowed::default());
}

#[test]
fn f02_an_up_whose_daemon_nobody_restarts_puts_another_in_its_place() {
    let case = Case::new();
    let first = case.spawn(&["daemon"]);
    wait_until("it is there", || case.daemon());
    let (up, _) = stuck_up(&case);
    case.engine.heal();
    // Killed.
    drop(first);
    up.end().ok();
    assert_eq!(case.status()["ends_when_down"], true);
    case.check(&Allowed::default());
}

#[test]
fn f09_a_daemon_that_was_told_to_leave_is_not_brought_back_by_an_up() {
    let case = Case::new();
    let (up, daemon) = stuck_up(&case);
    rustix::process::kill_process(daemon, Signal::QUIT).unwrap();
    up.end().with(1).says("the daemon ended meanwhile");
    assert!(case.daemon().is_none());
}

/// Brings the stack up by a file of the program that was written long ago, and ends with `end`.
fn up_by_an_older_file(case: &Case, end: &[u8]) {
    let older = case.state().parent().unwrap().with_file_name("older");
    std::fs::copy(PROGRAM, &older).unwrap();
    let mut file = std::fs::File::options().append(true).open(&older).unwrap();
    file.write_all(end).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    drop(file);
    let likewise = case.command(&["up"]);
    let mut command = std::process::Command::new(&older);
    command
        .args(likewise.get_args())
        .current_dir(likewise.get_current_dir().unwrap())
        .env_clear();
    command.envs(
        likewise
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    Running::spawn(&mut command).end().ok();
}

#[test]
fn f21_an_up_of_a_newer_program_replaces_the_daemon_and_a_plan_or_a_mere_copy_does_not() {
    for (end, is_newer) in [(b"".as_slice(), false), (b"another build", true)] {
        let case = Case::new();
        up_by_an_older_file(&case, end);
        let daemon = case.daemon();
        case.run(&["plan"]).with(0);
        assert_eq!(case.daemon(), daemon, "it only asks");
        case.run(&["up"]).ok();
        assert_eq!(case.daemon() != daemon, is_newer);
        case.strike("octopus-server-2");
        case.check(&Allowed::default());
    }
}

#[test]
fn f35_what_a_person_took_away_without_a_daemon_is_not_brought_back_after_a_down() {
    for words in [["down"].as_slice(), &["down", "--volumes", "--yes"]] {
        let case = Case::up();
        case.kill_daemon();
        case.engine.clear();
        assert!(case.is_gone() && case.is_wanted_up());
        case.run(words).ok();
        assert!(!case.is_wanted_up());
        case.run(words).ok().says("nothing to take down");
    }
}
