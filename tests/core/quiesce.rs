//! Nodes that take no tasks for a while: as long as whoever asked is there, and no longer.

use octo_local::daemon::message::Session;

use super::known::ready;
use super::*;

const NODE: UnitId = UnitId::Node(1);

fn quiesce(bench: &mut Bench, number: u64) -> RequestId {
    bench.ask(Request::Quiesce(Session::Quiesce(number), None))
}

fn left(bench: &mut Bench, number: u64) {
    bench.on(Event::SessionEnded(Session::Quiesce(number)));
    bench.settle();
}

fn drained(bench: &Bench) -> bool {
    bench.core.state().desired.drained.contains(&NODE)
}

#[test]
fn nodes_take_no_tasks_as_long_as_somebody_is_there() {
    let mut bench = ready();
    let one = quiesce(&mut bench, 1);
    let two = quiesce(&mut bench, 2);
    assert!(
        bench.is_taken(one) && bench.is_taken(two),
        "{:?}",
        bench.answers
    );
    assert!(drained(&bench));
    assert!(
        bench.core.stored().drains.drained.is_empty(),
        "nobody wished it for good"
    );
    left(&mut bench, 1);
    assert!(drained(&bench));
    // What an `up` is followed by has numbers of its own.
    bench.on(Event::SessionEnded(Session::Up(2)));
    assert!(drained(&bench));
    left(&mut bench, 2);
    assert!(!drained(&bench));
}

#[test]
fn what_a_person_drained_stays_so_and_the_next_daemon_knows_of_no_other() {
    let mut bench = ready();
    quiesce(&mut bench, 1);
    assert!(!drained(&Bench::awake(bench.core.stored().clone())));
    bench.ask(Request::Units(About::Drain, vec![NODE], None));
    left(&mut bench, 1);
    assert!(drained(&bench));
}

#[test]
fn whoever_left_before_it_was_their_turn_has_nobody_drained() {
    let mut bench = ready();
    bench.disk_takes_its_time = true;
    // A wish whose write is under way comes first.
    bench.ask(Request::Units(About::Stop, vec![NODE], None));
    let id = quiesce(&mut bench, 1);
    left(&mut bench, 1);
    assert!(!bench.answers.contains_key(&id));
    let save = bench.effects.iter().find_map(|effect| match effect {
        Effect::Save { number, .. } => Some(*number),
        _ => None,
    });
    let number = save.unwrap();
    bench.on(Event::Saved {
        number,
        result: Ok(()),
    });
    bench.settle();
    assert!(!drained(&bench), "{:?}", bench.answers);
}

#[test]
fn a_stack_that_is_not_up_has_no_tasks_to_wait_for() {
    let mut bench = ready();
    bench.ask(down(false));
    let id = quiesce(&mut bench, 1);
    assert!(!bench.is_taken(id), "{:?}", bench.answers);
}
