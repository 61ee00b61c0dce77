//! Decisions one by one, where the simulation would need luck to meet them: a scene, and what is
//! planned in it.

mod drain;
mod faults;
mod places;
mod roster;
pub(crate) mod scene;
mod strangers;
mod told;

use octo_local::reconcile::Action;
use octo_local::reconcile::Cause;
use octo_local::reconcile::Goal;
use octo_local::reconcile::action::Doubt;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Subject;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::Verdict;
use std::collections::BTreeMap;

use scene::DB;
use scene::ONE;
use scene::Scene;
use scene::TWO;
use scene::ended;
use scene::of;
use scene::runs;

fn broken() -> Probe {
    Probe::Failure(Miss::Broken, "503".to_owned())
}

fn gone() -> Probe {
    Probe::Failure(Miss::Gone, "refused".to_owned())
}

fn drained() -> Probe {
    Probe::Drained("418".to_owned())
}

#[test]
fn a_drained_node_holds_nobody_up_even_on_its_way_out() {
    let mut scene = Scene::all_ready();
    scene.probe(ONE, &drained());
    scene.is(TWO, Run::Created);
    assert_eq!(scene.starts(), [TWO]);
    let wish = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, wish);
    assert_eq!(scene.stops(), [(ONE, None)]);
    assert_eq!(scene.starts(), [TWO]);
}

#[test]
fn what_the_operator_stopped_stops_although_no_image_is_there_to_replace_it() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(ONE);
    scene.change(|seen| seen.images.clear());
    assert_eq!(scene.stops(), [], "what cannot be replaced goes on");
    scene.state.desired.stopped.insert(ONE);
    assert_eq!(scene.stops(), [(ONE, None)]);
}

#[test]
fn images_of_what_runs_well_are_neither_fetched_nor_missed() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.images.clear());
    assert_eq!(
        (scene.plan(), scene.verdict(), scene.preview()),
        (vec![], Verdict::Ready, vec![])
    );
    scene.state.desired.refresh.insert("sql:1".to_owned());
    assert_eq!(
        scene.plan(),
        [Action::Pull("sql:1".to_owned())],
        "asked for"
    );
    scene.state.desired.refresh.clear();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    assert_eq!(
        scene.plan(),
        [Action::Pull("octopus:1".to_owned())],
        "the other node's is not here"
    );
    let name = |change: &(String, Step)| (change.0.clone(), change.1);
    let expected = [
        ("octopus:1".to_owned(), Step::Pull),
        ("p-octopus-server-2".to_owned(), Step::Create),
    ];
    assert_eq!(
        scene.preview().iter().map(name).collect::<Vec<_>>(),
        expected
    );
    scene.state.desired.stopped.insert(TWO);
    assert_eq!(scene.plan(), [], "nobody wants it");
}

#[test]
fn what_runs_pins_a_reference_that_is_gone() {
    let mut scene = Scene::all_ready();
    scene.state.desired.images.clear();
    scene.change(|seen| seen.images.clear());
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    scene.change(|seen| {
        drop(
            seen.images
                .insert("octopus:1".to_owned(), "a newer one".to_owned()),
        );
    });
    assert_eq!(
        scene.plan(),
        [Action::Create(TWO)],
        "the other node keeps its version"
    );
    assert_eq!(
        scene
            .state
            .moved_images()
            .get("octopus:1")
            .map(String::as_str),
        Some("id of octopus:1")
    );
}

#[test]
fn a_missing_image_holds_no_other_replacement_up_than_one_that_needs_it() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(ONE);
    scene.change(|seen| drop(seen.images.remove("sql:1")));
    assert_eq!(scene.stops(), [(ONE, None)]);
    scene.is_outdated(DB);
    assert_eq!(scene.stops(), []);
}

#[test]
fn no_node_starts_on_a_database_that_is_about_to_end() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    assert_eq!(scene.starts(), [TWO]);
    scene.is_outdated(DB);
    assert_eq!((scene.starts(), scene.stops()), (vec![], vec![(ONE, None)]));
}

#[test]
fn a_second_network_goes_once_nothing_is_attached_to_it() {
    let mut scene = Scene::all_ready();
    let other = "another".to_owned();
    scene.change(|seen| drop(seen.networks.insert(other.clone(), "p_default".to_owned())));
    assert_eq!(
        scene.plan(),
        [Action::RemoveNetwork(other.clone())],
        "not the one in use"
    );
    scene.is(TWO, ended(0));
    scene.change(|seen| of(seen, TWO).networks = [other].into());
    assert!(
        !scene
            .plan()
            .iter()
            .any(|action| matches!(action, Action::RemoveNetwork(_))),
        "{:?}",
        scene.plan()
    );
}

#[test]
fn of_two_containers_the_one_that_runs_counts() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| {
        let mut twin = of(seen, TWO).clone();
        (twin.id, twin.name, twin.run) = ("a twin".to_owned(), "renamed".to_owned(), ended(0));
        seen.containers.insert(0, twin);
    });
    assert_eq!(scene.plan(), [Action::Remove(TWO, "a twin".to_owned())]);
}

/// Newer engines attach a container whose network mode is an ID to no other network.
#[test]
fn a_unit_made_for_a_network_that_is_gone_is_replaced_and_others_are_attached_again() {
    for (mode, replaced) in [
        ("net", false),
        ("", false),
        ("id of a network that is gone", true),
    ] {
        let mut scene = Scene::all_ready();
        scene.change(|seen| {
            for container in &mut seen.containers {
                container.networks.clear();
            }
            of(seen, TWO).network_mode = mode.to_owned();
        });
        let plan = scene.plan();
        let connects = |action: &Action| matches!(action, Action::Connect(unit, _) if *unit == TWO);
        assert_eq!(plan.iter().any(connects), !replaced, "{mode}: {plan:?}");
        let stops = scene.stops().iter().any(|(unit, _)| *unit == TWO);
        assert_eq!(stops, replaced, "{mode}: {plan:?}");
    }
}

#[test]
fn nobody_is_killed_before_somebody_asked_twice() {
    let mut scene = Scene::all_ready();
    scene.state.desired.goal = Goal::Halt;
    scene.begin_stop(ONE);
    scene.begin_stop(TWO);
    assert_eq!(scene.plan(), []);
    scene.state.desired.hurry = true;
    assert_eq!(
        scene.plan(),
        [
            Action::Kill(ONE, scene.instance(ONE)),
            Action::Kill(TWO, scene.instance(TWO))
        ]
    );
}

#[test]
fn an_adopted_node_is_asked_before_it_counts_as_having_lost_its_database() {
    let mut scene = Scene::all_ready();
    scene.is(DB, ended(137));
    let mut scene = scene.adopted();
    assert_eq!(scene.stops(), []);
    scene.probe(ONE, &broken());
    assert_eq!(scene.stops(), [(ONE, Some(Cause::LostDatabase))]);
}

#[test]
fn the_end_of_what_we_end_is_no_failure() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(ONE);
    let stop = scene.begin_stop(ONE);
    scene.is(ONE, ended(137));
    scene.end(stop, Ok(Outcome::default()));
    let record = scene.state.records.get(ONE).unwrap();
    assert_eq!(
        (
            record.unexamined(),
            &record.failures.last,
            record.failures.count
        ),
        (None, &None, 0)
    );
    assert_eq!(
        scene.plan(),
        [Action::Remove(ONE, "p-octopus-server-1".to_owned())]
    );
}

#[test]
fn a_database_that_we_end_is_not_blamed_for_what_it_says() {
    let mut scene = Scene::all_ready();
    scene.state.desired.goal = Goal::Halt;
    scene.change(|seen| seen.containers.retain(|one| one.unit == DB));
    scene.begin_stop(DB);
    scene.probe(DB, &Probe::Suspect("suspect database: Octopus".to_owned()));
    assert_eq!(scene.state.records.get(DB).unwrap().failures.last, None);
}

#[test]
fn a_start_without_an_answer_in_time_keeps_others_from_starting_while_the_engine_may_still_do_it() {
    for (doubt, is_held) in [(Doubt::MayStillHappen, true), (Doubt::Unknown, false)] {
        let mut scene = Scene::all_ready();
        scene.is(TWO, Run::Created);
        let start = scene.plan().remove(0);
        scene.state.begin(&start, scene.now);
        scene.wait(20);
        scene.is(ONE, Run::Created);
        scene.end(start, Err(Trouble::engine("nothing", doubt)));
        assert_eq!(scene.starts().is_empty(), is_held, "{doubt:?}");
        scene.wait(39);
        assert_eq!(scene.starts().is_empty(), is_held, "{doubt:?}");
        scene.wait(1);
        assert_eq!(scene.starts(), [ONE]);
    }
}

#[test]
fn an_unknown_outcome_is_no_failure_of_the_unit() {
    for (doubt, failures) in [
        (Doubt::Unknown, 0),
        (Doubt::MayStillHappen, 0),
        (Doubt::Refused, 1),
    ] {
        let unknown = doubt != Doubt::Refused;
        let mut scene = Scene::all_ready();
        scene.is(TWO, Run::Created);
        let start = scene.plan().remove(0);
        scene.state.begin(&start, scene.now);
        scene.end(start, Err(Trouble::engine("broken", doubt)));
        assert_eq!(
            scene.state.records.get(TWO).unwrap().failures.count,
            failures
        );
        assert_eq!(
            scene.starts().is_empty(),
            unknown,
            "nothing is known before a while"
        );
        scene.wait(2);
        assert_eq!(scene.starts(), [TWO]);
    }
}

#[test]
fn a_volume_of_somebody_else_does_not_count_as_made() {
    let mut scene = Scene::all_ready();
    let name = scene.state.seen.volumes.pop_first().unwrap();
    scene.change(|seen| seen.volumes.retain(|volume| *volume != name));
    let create = Action::CreateVolume(name.clone());
    assert_eq!(scene.plan(), std::slice::from_ref(&create));
    scene.state.begin(&create, scene.now);
    scene.end(create, Ok(Outcome::default()));
    assert!(
        scene
            .state
            .records
            .blocked
            .contains_key(&Subject::Volume(name))
    );
}

#[test]
fn a_host_that_is_well_again_is_not_called_ill() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    let create = Action::Create(TWO);
    scene.state.begin(&create, scene.now);
    scene.end(
        create.clone(),
        Err(Trouble::refused("no space left on device")),
    );
    assert_eq!(
        scene
            .state
            .records
            .get(TWO)
            .unwrap()
            .failures
            .last
            .as_ref()
            .map(|failure| failure.cause),
        Some(Cause::DiskFull)
    );
    assert_eq!(scene.verdict(), Verdict::Failed);
    scene.wait(10);
    scene.state.begin(&create, scene.now);
    let made = Scene::all_ready()
        .state
        .seen
        .container(TWO)
        .cloned()
        .unwrap();
    scene.state.end(create, Ok(Outcome::default()), scene.now);
    scene.change(|seen| {
        seen.containers.push(Container {
            run: Run::Created,
            ..made
        });
    });
    assert_eq!(
        (scene.verdict(), scene.starts()),
        (Verdict::Working, vec![TWO])
    );
}

#[test]
fn an_up_announces_what_a_moved_tag_changes() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| {
        drop(
            seen.images
                .insert("octopus:1".to_owned(), "a newer one".to_owned()),
        );
    });
    assert_eq!(scene.plan(), [], "nothing before the next `up`");
    let nodes = ["p-octopus-server-1", "p-octopus-server-2"];
    assert_eq!(
        scene.preview(),
        nodes.map(|node| (node.to_owned(), Step::Recreate))
    );
}

#[test]
fn a_silent_node_gets_one_grace_after_its_database_came_back() {
    let mut scene = Scene::all_ready();
    scene.probe(DB, &gone());
    for _ in 0..9 {
        scene.probe(ONE, &broken());
        scene.wait(1);
        assert_eq!(scene.stops(), []);
    }
    scene.probe(DB, &Probe::Ready);
    for _ in 0..9 {
        scene.wait(1);
        scene.probe(ONE, &gone());
        scene.probe(DB, &Probe::Ready);
        scene.change(|_| {});
        assert_eq!(scene.stops(), []);
    }
    scene.wait(1);
    assert_eq!(scene.stops(), [(ONE, Some(Cause::Hung))]);
}

#[test]
fn a_restart_is_done_once_also_where_two_runs_look_the_same() {
    let mut scene = Scene::all_ready();
    let wish = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, wish);
    let stop = scene.begin_stop(ONE);
    scene.is(ONE, ended(0));
    scene.end(stop, Ok(Outcome::default()));
    scene.wait(1);
    scene.probe(DB, &Probe::Ready);
    assert_eq!(scene.starts(), [ONE]);
    scene.is(ONE, runs());
    assert_eq!(
        (scene.plan(), scene.verdict()),
        (vec![], Verdict::Working),
        "the later run is yet to be asked"
    );
    scene.probe(ONE, &Probe::Ready);
    assert_eq!((scene.plan(), scene.verdict()), (vec![], Verdict::Ready));
}

#[test]
fn a_call_that_took_effect_did_not_fail_whatever_its_answer_was() {
    let refused = || Err(Trouble::refused("the engine says no"));
    let mut scene = Scene::all_ready();
    let name = scene.state.seen.volumes.first().cloned().unwrap();
    let made = scene.instance(TWO).id;
    for (action, result) in [
        (Action::Create(TWO), refused()),
        (Action::Start(TWO, made.clone()), refused()),
        (Action::Connect(TWO, made), refused()),
        (Action::Pull("sql:1".to_owned()), refused()),
        (Action::CreateNetwork, refused()),
        (Action::CreateVolume(name), Ok(Outcome::default())),
    ] {
        scene.state.begin(&action, scene.now);
        scene.end(action, result);
    }
    let record = scene.state.records.get(TWO).unwrap();
    assert_eq!((record.failures.count, &record.failures.last), (0, &None));
    assert_eq!(
        (&scene.state.records.blocked, scene.verdict()),
        (&BTreeMap::new(), Verdict::Ready)
    );
}

#[test]
fn nodes_of_two_images_need_one_that_is_gone() {
    let mut scene = Scene::all_ready();
    scene.state.desired.images.clear();
    scene.change(|seen| {
        seen.images.remove("octopus:1");
        "another".clone_into(&mut of(seen, TWO).image_id);
    });
    assert_eq!(
        scene.plan(),
        [Action::Pull("octopus:1".to_owned())],
        "nobody knows which of the two to keep"
    );
}

#[test]
fn a_unit_that_was_ready_for_long_begins_its_waits_anew() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    let start = scene.plan().remove(0);
    scene.state.begin(&start, scene.now);
    scene.end(start, Err(Trouble::refused("no")));
    scene.wait(2);
    scene.is(TWO, runs());
    let failures = |scene: &Scene| scene.state.records.get(TWO).unwrap().failures.count;
    scene.probe(TWO, &Probe::Ready);
    scene.wait(60);
    scene.probe(TWO, &Probe::Ready);
    assert_eq!(failures(&scene), 1, "not long enough");
    scene.wait(600);
    scene.probe(TWO, &Probe::Ready);
    assert_eq!(failures(&scene), 0);
}

#[test]
fn what_was_under_way_for_an_earlier_wish_is_not_held_against_the_next() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    let start = scene.plan().remove(0);
    scene.state.begin(&start, scene.now);
    scene.state.records.forgive();
    scene.end(start, Err(Trouble::refused("no space left on device")));
    assert_eq!(scene.state.records.get(TWO).unwrap().failures.last, None);
    assert_eq!(scene.starts(), [TWO]);
}

#[test]
fn an_image_that_turns_out_to_be_missing_is_fetched() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    let create = scene.plan().remove(0);
    assert_eq!(create, Action::Create(TWO));
    scene.state.begin(&create, scene.now);
    scene.end(create, Err(Trouble::refused("No such image: octopus:1")));
    assert_eq!(scene.plan(), [Action::Pull("octopus:1".to_owned())]);
}

#[test]
fn nothing_is_made_of_an_image_that_is_to_be_fetched_again() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    scene.state.desired.refresh.insert("octopus:1".to_owned());
    assert_eq!(scene.plan(), [Action::Pull("octopus:1".to_owned())]);
}

#[test]
fn no_node_that_serves_is_taken_out_while_the_database_does_not() {
    let mut scene = Scene::all_ready();
    let wish = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, wish);
    assert_eq!(scene.stops(), [(ONE, None)]);
    scene.probe(DB, &gone());
    assert_eq!(scene.stops(), []);
}

#[test]
fn a_node_without_its_network_is_attached_again_and_not_called_hung() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| of(seen, ONE).networks.clear());
    for _ in 0..9 {
        scene.wait(1);
        scene.probe(ONE, &gone());
        scene.probe(DB, &Probe::Ready);
    }
    assert_eq!(scene.plan(), [Action::Connect(ONE, scene.instance(ONE).id)]);
}

#[test]
fn nodes_end_with_a_database_that_the_operator_stopped_even_if_it_ended_by_itself() {
    let mut scene = Scene::all_ready();
    scene.state.desired.stopped.insert(DB);
    assert_eq!(scene.stops(), [(ONE, None), (TWO, None)]);
    scene.is(DB, ended(137));
    assert_eq!(
        scene.stops(),
        [(ONE, None), (TWO, None)],
        "they serve on without it"
    );
    scene.change(|seen| seen.containers.retain(|one| one.unit != DB));
    assert_eq!(
        scene.stops(),
        [(ONE, None), (TWO, None)],
        "nor with none at all"
    );
}

#[test]
fn a_stack_that_rests_because_somebody_wished_it_is_not_simply_ready() {
    let mut scene = Scene::all_ready();
    assert_eq!(scene.status().message, "ready");
    scene.is(TWO, Run::Created);
    scene.state.desired.stopped.insert(TWO);
    assert_eq!(
        scene.status().message,
        "ready, save what the operator stopped"
    );
    for unit in [ONE, DB] {
        scene.is(unit, Run::Created);
        scene.state.desired.stopped.insert(unit);
    }
    assert_eq!(
        scene.status().message,
        "everything was stopped by the operator"
    );
}
