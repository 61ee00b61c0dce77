//! Calls that are slow, and calls that hang for one container: the others must not notice.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::case::Case;
use crate::fake::call::Verb;
use crate::fake::invariants::Allowed;
use crate::fake::script::Fault;
use crate::fake::script::Rule;
use crate::kit::process::wait_until;

/// What a person waits for an answer without wondering.
const PROMPT: Duration = Duration::from_secs(2);

#[test]
fn f31_a_slow_engine_makes_everything_slow_and_nothing_wrong() {
    let case = Case::new();
    case.engine
        .fault(Rule::everywhere(Fault::Slow(Duration::from_millis(150))));
    case.run(&["up"]).ok();
    case.run(&["plan"]).with(0);
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 1, 1]);
    case.run(&["down"]).ok();
    assert!(case.is_gone());
    case.check(&Allowed::default());
}

#[test]
fn f31_while_a_look_takes_seconds_the_daemon_answers_at_once_and_nobody_is_restarted() {
    let case = Case::up();
    case.engine.fault(Rule::on(
        Verb::ListContainers,
        Fault::Slow(Duration::from_secs(3)),
    ));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        let asked = Instant::now();
        assert_eq!(case.status()["verdict"], "ready");
        assert!(
            asked.elapsed() < PROMPT,
            "the status took {:?}",
            asked.elapsed()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    case.engine.heal();
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 1, 1]);
    case.check(&Allowed::default());
}

#[test]
fn f31_a_look_that_is_never_answered_is_given_up_and_what_it_hid_is_seen() {
    let case = Case::up();
    case.engine
        .fault(Rule::on(Verb::ListContainers, Fault::Hangs).once());
    wait_until("a look hangs", || (case.engine.hits() > 0).then_some(()));
    case.strike("octopus-server-2");
    case.check(&Allowed::default());
}

#[test]
fn f33_a_container_that_cannot_be_inspected_hides_no_other() {
    let case = Case::up();
    let silent = Case::container("octopus-server-2");
    case.engine
        .fault(Rule::on(Verb::InspectContainer, Fault::Hangs).about(&silent));
    case.engine.strike(&silent, Signal::KILL);
    wait_until("its inspection hangs", || {
        (case.engine.hits() > 0).then_some(())
    });
    case.engine
        .strike(&Case::container("octopus-server-1"), Signal::KILL);
    wait_until("the other node serves again", || {
        (case.starts()["octopus-server-1"] == 2
            && case.unit("octopus-server-1")["phase"] == "ready")
            .then_some(())
    });
    case.engine.heal();
    case.wait_for("ready");
    case.check(&Allowed::default());
}

#[test]
fn f33_a_dead_node_is_started_again_although_the_engine_says_nothing_more_about_it() {
    let case = Case::up();
    let silent = Case::container("octopus-server-2");
    case.engine
        .fault(Rule::on(Verb::InspectContainer, Fault::Hangs).about(&silent));
    case.engine
        .fault(Rule::on(Verb::Logs, Fault::Hangs).about(&silent));
    case.engine.strike(&silent, Signal::KILL);
    wait_until("it was started again", || {
        (case.starts()["octopus-server-2"] == 2).then_some(())
    });
    wait_until("it was asked about, and did not answer", || {
        (case.engine.hits() > 0).then_some(())
    });
    case.engine.heal();
    case.wait_for("ready");
    case.check(&Allowed::default());
}

#[test]
fn f33_a_start_that_hangs_is_given_up_after_seconds_and_tried_again() {
    let case = Case::up();
    let stuck = Case::container("octopus-server-2");
    case.engine
        .fault(Rule::on(Verb::Start, Fault::Hangs).about(&stuck).once());
    case.engine.strike(&stuck, Signal::KILL);
    wait_until("its start hangs", || (case.engine.hits() > 0).then_some(()));
    let begun = Instant::now();
    case.wait_for("ready");
    assert!(
        begun.elapsed() < octo_local::engine::START + Duration::from_secs(5),
        "it took {:?}",
        begun.elapsed()
    );
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 1, 2]);
    case.check(&Allowed::default());
}

#[test]
fn f33_a_stop_that_hangs_keeps_no_other_unit_from_being_restarted() {
    let case = Case::up();
    let stuck = Case::container("octopus-server-2");
    case.engine
        .fault(Rule::on(Verb::Stop, Fault::Hangs).about(&stuck));
    let command = case.spawn(&["stop", "octopus-server-2"]);
    wait_until("its stop hangs", || (case.engine.hits() > 0).then_some(()));
    case.engine
        .strike(&Case::container("octopus-server-1"), Signal::KILL);
    wait_until("the other node serves again", || {
        (case.starts()["octopus-server-1"] == 2
            && case.unit("octopus-server-1")["phase"] == "ready")
            .then_some(())
    });
    drop(command);
    case.check(&Allowed::default());
}
