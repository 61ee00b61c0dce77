//! Nodes finish their tasks before they end by choice, and take tasks again when nobody wished that
//! they do not.

use std::time::Duration;

use octo_local::reconcile::Action;
use octo_local::reconcile::Goal;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::Why;
use octo_local::reconcile::desired::NodeDeadlines;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::record::DRAIN_MARGIN;
use octo_local::reconcile::status::PhaseWord;
use octo_local::reconcile::status::Verdict;
use octo_local::spec::UnitId;

use super::scene::DB;
use super::scene::ONE;
use super::scene::Scene;
use super::scene::TWO;
use super::scene::ended;
use super::scene::runs;

const TIMEOUT: Duration = Duration::from_secs(600);

fn scene() -> Scene {
    let mut scene = Scene::all_ready();
    let spec = scene.state.desired.spec.as_mut().unwrap();
    spec.timing.drain_timeout = TIMEOUT;
    scene
}

fn drained() -> Probe {
    Probe::Drained("418".to_owned())
}

/// Who is asked to finish tasks, for how long and why.
fn drains(scene: &Scene) -> Vec<(UnitId, Duration, Option<Why>)> {
    let drains = scene.plan().into_iter().filter_map(|action| match action {
        Action::Drain {
            unit, wait, why, ..
        } => Some((unit, wait, why)),
        _ => None,
    });
    drains.collect()
}

fn undrains(scene: &Scene) -> Vec<UnitId> {
    let undrains = scene.plan().into_iter().filter_map(|action| match action {
        Action::Undrain(unit, _) => Some(unit),
        _ => None,
    });
    undrains.collect()
}

/// The planned step about a unit's tasks begins.
fn begin(scene: &mut Scene, unit: UnitId) -> Action {
    let is_it = |action: &Action| match action {
        Action::Drain { unit: of, .. } | Action::Undrain(of, _) => *of == unit,
        _ => false,
    };
    let action = scene.plan().into_iter().find(is_it).unwrap();
    scene.state.begin(&action, scene.now);
    action
}

fn reason_of(scene: &Scene, unit: UnitId) -> String {
    let units = scene.status().units;
    let unit = units.into_iter().find(|status| status.unit == unit);
    unit.unwrap().reason
}

fn refused() -> Trouble {
    Trouble::refused("its command ended with 1")
}

#[test]
fn a_node_finishes_its_tasks_before_it_is_stopped_by_choice() {
    for goal in [Goal::Halt, Goal::Down { volumes: false }] {
        let mut scene = scene();
        scene.state.desired.goal = goal;
        let both = [
            (ONE, TIMEOUT, Some(Why::Down)),
            (TWO, TIMEOUT, Some(Why::Down)),
        ];
        assert_eq!(drains(&scene), both, "all at once: none serves afterwards");
        assert_eq!(scene.stops(), []);
        let (one, two) = (begin(&mut scene, ONE), begin(&mut scene, TWO));
        assert!(scene.plan().is_empty());
        scene.probe(ONE, &drained());
        scene.end(one, Ok(Outcome::default()));
        assert_eq!(scene.stops(), [(ONE, None)]);
        // The other one is not drained by its own word: it has a moment to say so.
        scene.end(two, Ok(Outcome::default()));
        assert_eq!(scene.stops(), [(ONE, None)]);
        scene.wait(10);
        assert_eq!(scene.stops(), [(ONE, None), (TWO, None)]);
    }
}

/// Work that was cut off is not passed over in silence.
#[test]
fn a_drain_whose_time_ran_out_says_that_tasks_were_cancelled() {
    for (seconds, is_cut_off) in [(TIMEOUT.as_secs() - 1, false), (TIMEOUT.as_secs(), true)] {
        let mut scene = scene();
        scene.state.desired.goal = Goal::Halt;
        let one = begin(&mut scene, ONE);
        scene.state.take_news();
        scene.wait(seconds);
        scene.end(one, Ok(Outcome::default()));
        let told = format!("{:?}", scene.state.take_news());
        assert_eq!(told.contains("were cancelled"), is_cut_off, "{told}");
        assert_eq!(told.contains("none of its tasks"), !is_cut_off, "{told}");
    }
}

/// Somebody interrupted the `up` that a node was drained for: it is not replaced now.
#[test]
fn who_was_drained_for_what_is_held_takes_tasks_again() {
    for is_asked_only in [true, false] {
        let mut scene = scene();
        scene.is_outdated(ONE);
        let one = begin(&mut scene, ONE);
        if !is_asked_only {
            scene.end(one.clone(), Ok(Outcome::default()));
        }
        scene.state.desired.goal = Goal::Hold;
        scene.state.desired.hands_off = false;
        if is_asked_only {
            scene.end(one, Ok(Outcome::default()));
        }
        assert_eq!(scene.stops(), []);
        assert_eq!(undrains(&scene), [ONE]);
        let again = begin(&mut scene, ONE);
        scene.end(again, Ok(Outcome::default()));
        assert_eq!(undrains(&scene), []);
        scene.wait(30);
        assert_eq!(undrains(&scene), [], "it was asked once");
        // A person's own wish stays.
        scene.state.desired.drained.insert(TWO);
        scene.probe(TWO, &drained());
        assert_eq!(undrains(&scene), []);
    }
}

#[test]
fn one_that_could_not_be_asked_before_somebody_thought_better_of_it_serves_as_before() {
    let mut scene = scene();
    scene.state.desired.goal = Goal::Down { volumes: false };
    let one = begin(&mut scene, ONE);
    scene.state.desired.goal = Goal::Up;
    scene.end(one, Err(refused()));
    assert_eq!((scene.plan(), scene.verdict()), (vec![], Verdict::Ready));
}

#[test]
fn tasks_that_do_not_end_are_not_waited_for_without_end() {
    let mut scene = scene();
    scene.state.desired.stopped.insert(ONE);
    begin(&mut scene, ONE);
    scene.probe(ONE, &drained());
    scene.wait(TIMEOUT.as_secs());
    assert_eq!(scene.stops(), []);
    let wakes = scene.state.plan(scene.now).wake_at.unwrap();
    assert!(wakes <= scene.now.after(DRAIN_MARGIN));
    scene.wait(DRAIN_MARGIN.as_secs());
    assert_eq!(
        scene.stops(),
        [(ONE, None)],
        "although the command still runs"
    );
}

#[test]
fn what_cannot_be_asked_delays_nothing() {
    let mut scene = scene();
    scene.state.desired.stopped.insert(ONE);
    let drain = begin(&mut scene, ONE);
    scene.end(drain, Err(refused()));
    assert_eq!(scene.stops(), [(ONE, None)]);
    // One that does not answer is not asked at all.
    let mut scene = self::scene();
    scene.probe(ONE, &Probe::Failure(Miss::Gone, "refused".to_owned()));
    scene.state.desired.stopped.insert(ONE);
    assert_eq!((drains(&scene), scene.stops()), (vec![], vec![(ONE, None)]));
}

#[test]
fn whoever_asks_twice_waits_for_no_tasks() {
    let mut scene = scene();
    scene.state.desired.goal = Goal::Halt;
    begin(&mut scene, ONE);
    begin(&mut scene, TWO);
    scene.state.desired.hurry = true;
    assert_eq!(scene.stops(), [(ONE, None), (TWO, None)]);
}

#[test]
fn a_down_in_so_many_seconds_bounds_tasks_and_end_together() {
    let mut scene = scene();
    scene.state.desired.goal = Goal::Down { volumes: false };
    let within = Some(Duration::from_secs(60));
    let grace = scene.state.timing().node_stop_grace;
    scene.state.desired.deadlines = NodeDeadlines::new(within, false, grace, scene.now);
    let half = Duration::from_secs(30);
    let both = [(ONE, half, Some(Why::Down)), (TWO, half, Some(Why::Down))];
    assert_eq!(drains(&scene), both);
    begin(&mut scene, ONE);
    begin(&mut scene, TWO);
    scene.probe(ONE, &drained());
    let reason = reason_of(&scene, ONE);
    assert!(reason.contains("at most 0:30 longer"), "{reason}");
    let wakes = scene.state.plan(scene.now).wake_at.unwrap();
    assert!(wakes <= scene.now.after(half));
    scene.wait(29);
    assert_eq!(scene.stops(), []);
    scene.wait(1);
    let stops = scene.plan();
    for stop in &stops {
        let Action::Stop { grace, .. } = stop else {
            panic!("{stop:?}");
        };
        assert_eq!(*grace, half, "what is left of the time");
        scene.state.begin(stop, scene.now);
    }
    assert_eq!(stops.len(), 2);
    scene.wait(29);
    assert!(scene.plan().is_empty());
    scene.wait(1);
    let kills = |action: &Action| matches!(action, Action::Kill(..));
    assert_eq!(scene.plan().iter().filter(|one| kills(one)).count(), 2);
}

#[test]
fn tasks_that_are_not_waited_for_cost_a_node_nothing_of_its_own_time() {
    let mut scene = scene();
    scene.state.desired.goal = Goal::Down { volumes: false };
    begin(&mut scene, ONE);
    begin(&mut scene, TWO);
    assert_eq!(scene.stops(), []);
    let grace = scene.state.timing().node_stop_grace;
    scene.state.desired.deadlines = NodeDeadlines::new(None, true, grace, scene.now);
    assert_eq!(scene.stops(), [(ONE, None), (TWO, None)]);
    let is_whole =
        |action: &Action| matches!(action, Action::Stop { grace: got, .. } if *got == grace);
    assert!(scene.plan().iter().all(is_whole), "{:?}", scene.plan());
}

#[test]
fn people_read_how_many_tasks_are_left() {
    let mut scene = scene();
    scene.state.desired.stopped.insert(ONE);
    let Action::Drain { instance, .. } = begin(&mut scene, ONE) else {
        panic!("no drain");
    };
    scene.probe(ONE, &drained());
    let told = |scene: &Scene| reason_of(scene, ONE);
    assert!(told(&scene).contains("finishes its tasks"));
    scene.state.on_tasks_counted(ONE, &instance, Some(2));
    assert!(
        told(&scene).contains("finishes 2 tasks"),
        "{}",
        told(&scene)
    );
    scene.state.on_tasks_counted(ONE, &instance, None);
    assert!(
        told(&scene).contains("finishes 2 tasks"),
        "what was known last"
    );
    scene.state.on_tasks_counted(ONE, &instance, Some(1));
    assert!(
        told(&scene).contains("finishes 1 task "),
        "{}",
        told(&scene)
    );
}

#[test]
fn one_node_serves_while_the_other_finishes_its_tasks_and_until_it_takes_some_again() {
    let mut scene = scene();
    for unit in [ONE, TWO] {
        let run = scene.instance(unit);
        scene.state.desired.restart.insert(unit, run);
    }
    let asked = [(ONE, TIMEOUT, Some(Why::Restarted))];
    assert_eq!(drains(&scene), asked);
    let drain = begin(&mut scene, ONE);
    assert_eq!(scene.verdict(), Verdict::Working);
    scene.probe(ONE, &drained());
    assert_eq!(drains(&scene), []);
    scene.end(drain, Ok(Outcome::default()));
    let stop = scene.begin_stop(ONE);
    scene.is(ONE, ended(0));
    scene.end(stop, Ok(Outcome::default()));
    assert_eq!(drains(&scene), [], "nobody serves but the second");
    // It comes back as the database has it.
    scene.change(|seen| {
        super::scene::of(seen, ONE).run = octo_local::reconcile::observed::Run::Running {
            started_at: "2".to_owned(),
        };
    });
    scene.probe(ONE, &drained());
    assert_eq!((drains(&scene), undrains(&scene)), (vec![], vec![ONE]));
    let undrain = begin(&mut scene, ONE);
    scene.end(undrain, Ok(Outcome::default()));
    assert_eq!(drains(&scene), [], "not before it says so itself");
    assert_eq!(scene.verdict(), Verdict::Working);
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(drains(&scene), [(TWO, TIMEOUT, Some(Why::Restarted))]);
}

#[test]
fn what_a_person_drained_stays_so_and_what_nobody_did_takes_tasks_again() {
    let mut scene = scene();
    scene.probe(ONE, &drained());
    assert_eq!(undrains(&scene), [ONE]);
    scene.state.desired.drained.insert(ONE);
    assert_eq!(
        (undrains(&scene), scene.verdict()),
        (vec![], Verdict::Ready)
    );
    // Somebody else undrained it.
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(drains(&scene), [(ONE, TIMEOUT, None)]);
    let drain = begin(&mut scene, ONE);
    assert_eq!(scene.status().units[1].phase, PhaseWord::Draining);
    assert_eq!(scene.verdict(), Verdict::Working);
    scene.end(drain, Ok(Outcome::default()));
    assert_eq!(drains(&scene), [], "it was asked, and may not say so yet");
    scene.probe(ONE, &drained());
    assert_eq!(scene.status().units[1].phase, PhaseWord::Drained);
    // It holds nobody up, and nobody else takes its tasks for it.
    let run = scene.instance(TWO);
    scene.state.desired.restart.insert(TWO, run);
    assert_eq!(drains(&scene), [(TWO, TIMEOUT, Some(Why::Restarted))]);
    scene.state.desired.drained.clear();
    assert_eq!(undrains(&scene), [ONE]);
}

#[test]
fn a_node_that_cannot_be_undrained_is_asked_again_and_the_last_one_that_serves_is_kept() {
    let mut scene = scene();
    scene.probe(ONE, &drained());
    let undrain = begin(&mut scene, ONE);
    scene.end(undrain, Err(refused()));
    assert_eq!(undrains(&scene), [], "not at once");
    let run = scene.instance(TWO);
    scene.state.desired.restart.insert(TWO, run);
    assert_eq!((drains(&scene), scene.stops()), (vec![], vec![]));
    assert_eq!(scene.verdict(), Verdict::Working);
    scene.wait(5);
    scene.probe(DB, &Probe::Ready);
    let undrain = begin(&mut scene, ONE);
    scene.end(undrain, Ok(Outcome::default()));
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(drains(&scene), [(TWO, TIMEOUT, Some(Why::Restarted))]);
}

#[test]
fn who_waits_for_a_node_that_stays_drained_is_told_so_in_the_end() {
    let mut scene = scene();
    scene.probe(ONE, &drained());
    let run = scene.instance(TWO);
    scene.state.desired.restart.insert(TWO, run);
    for tries in 1..=5 {
        assert_eq!(scene.verdict(), Verdict::Working, "{tries}");
        while undrains(&scene).is_empty() {
            scene.wait(1);
        }
        let undrain = begin(&mut scene, ONE);
        scene.end(undrain, Err(refused()));
    }
    assert_eq!(scene.verdict(), Verdict::Failed);
    let detail = scene.status().detail;
    assert!(
        detail.contains("octopus-server-1: it is drained, and could not"),
        "{detail}"
    );
    assert_eq!(scene.stops(), [], "the last one that serves is kept");
    scene.wait(60);
    assert_eq!(undrains(&scene), [ONE], "it is tried on");
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(drains(&scene), [(TWO, TIMEOUT, Some(Why::Restarted))]);
}

#[test]
fn a_drain_that_an_earlier_daemon_began_has_what_is_left_of_its_time() {
    let mut scene = scene().adopted();
    let until = scene.now.after(Duration::from_secs(45));
    for unit in [DB, ONE, TWO] {
        scene.probe(unit, &Probe::Ready);
    }
    let run = scene.instance(ONE);
    scene.state.go_on_with_drain(ONE, run, until);
    scene.probe(ONE, &drained());
    scene.state.desired.stopped.insert(ONE);
    let left = Duration::from_secs(30);
    assert_eq!(drains(&scene), [(ONE, left, Some(Why::Halted))]);
    begin(&mut scene, ONE);
    scene.wait(45);
    assert_eq!(scene.stops(), [(ONE, None)]);
}

#[test]
fn a_wish_that_is_taken_back_gives_the_node_its_tasks_again() {
    let mut scene = scene();
    scene.state.desired.stopped.insert(ONE);
    let drain = begin(&mut scene, ONE);
    scene.probe(ONE, &drained());
    scene.state.desired.stopped.clear();
    scene.end(drain, Ok(Outcome::default()));
    assert_eq!((undrains(&scene), scene.stops()), (vec![ONE], vec![]));
    scene.is(ONE, runs());
}

#[test]
fn a_stack_is_not_ready_between_the_end_of_tasks_and_the_nodes_own_word() {
    let mut scene = scene();
    let run = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, run);
    let drain = begin(&mut scene, ONE);
    scene.end(drain, Ok(Outcome::default()));
    assert_eq!(scene.plan(), [], "it has a moment to say so itself");
    assert_eq!(scene.verdict(), Verdict::Working);
}

#[test]
fn a_node_that_was_drained_and_stopped_leaves_a_stack_at_rest() {
    let mut scene = scene();
    scene.state.desired.stopped.insert(ONE);
    let drain = begin(&mut scene, ONE);
    scene.probe(ONE, &drained());
    scene.end(drain, Ok(Outcome::default()));
    let stop = scene.begin_stop(ONE);
    scene.is(ONE, ended(0));
    scene.end(stop, Ok(Outcome::default()));
    assert_eq!(scene.verdict(), Verdict::Ready);
}
