//! The engine's events closed, stalled, thinned out, doubled and mixed up: they are hints, and
//! looking is the truth.

use std::time::Duration;

use tokio::time::Instant;

use super::case::Case;
use crate::fake::call::Caller;
use crate::fake::call::Verb;
use crate::fake::event::Trouble;
use crate::fake::invariants::Allowed;
use crate::kit::process::wait_until;

/// How long a change may go unseen when no event tells of it: the daemon looks every 5 s all the
/// same.
const UNTOLD: Duration = Duration::from_secs(12);

/// How often the daemon asked for this.
fn asked(case: &Case, verb: Verb) -> usize {
    let world = case.engine.world();
    let daemon = |caller: Caller| matches!(caller, Caller::Daemon(_));
    world
        .timeline
        .asked()
        .filter(|(_, asked)| asked.verb == verb && daemon(asked.caller))
        .count()
}

/// A stack that comes up, changes and loses a node while its events are in this trouble.
fn lives_with(trouble: Trouble) {
    let case = Case::new();
    case.engine.trouble(trouble);
    case.run(&["up"]).ok();
    case.set("TASK_CAP", "3");
    case.run(&["up"]).ok();
    let begun = Instant::now();
    case.strike("octopus-server-2");
    assert!(begun.elapsed() < UNTOLD, "{:?}", begun.elapsed());
    case.run(&["plan"]).with(0);
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 2, 3]);
    case.run(&["down"]).ok();
    assert!(case.is_gone());
    case.check(&Allowed::default());
}

#[test]
fn f27_an_event_stream_that_closes_is_opened_again_at_once() {
    let case = Case::up();
    let before = asked(&case, Verb::Events);
    case.engine.close_streams();
    wait_until("the events are followed again", || {
        (asked(&case, Verb::Events) > before).then_some(())
    });
    let begun = Instant::now();
    case.strike("octopus-server-1");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the new stream tells: {:?}",
        begun.elapsed()
    );
    case.check(&Allowed::default());
}

#[test]
fn f27_event_streams_that_close_at_once_cause_no_storm_of_looks() {
    let case = Case::up();
    case.engine.trouble(Trouble::Closed);
    wait_until("the stream is closed", || {
        (asked(&case, Verb::Events) > 1).then_some(())
    });
    let before = (
        asked(&case, Verb::Events),
        asked(&case, Verb::ListContainers),
    );
    std::thread::sleep(Duration::from_secs(3));
    let openings = asked(&case, Verb::Events) - before.0;
    let looks = asked(&case, Verb::ListContainers) - before.1;
    assert!((1..=4).contains(&openings), "{openings} openings in 3 s");
    // A few for each: when a stream ends, when the next is open, and once more where the engine told
    // of something that was not seen yet; and those that come anyway.
    assert!(looks <= 3 * openings + 3, "{looks} looks in 3 s");
    case.check(&Allowed::default());
}

#[test]
fn f27_a_stack_lives_without_events() {
    lives_with(Trouble::Closed);
}

#[test]
fn f28_a_stalled_event_stream_hides_nothing_for_long() {
    lives_with(Trouble::Stalled);
}

#[test]
fn f29_events_that_are_lost_are_not_missed() {
    lives_with(Trouble::Thinned);
}

#[test]
fn f30_events_that_come_twice_do_no_harm() {
    lives_with(Trouble::Doubled);
}

#[test]
fn f30_events_that_come_in_another_order_do_no_harm() {
    lives_with(Trouble::Reordered);
}
