//! Nodes that left are taken off Octopus Server's list, by a node that serves, once nothing of them
//! is there; where that cannot be done people are told.

use octo_local::config::Secret;
use octo_local::reconcile::Action;
use octo_local::reconcile::action::Doubt;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::status::Note;
use octo_local::reconcile::status::Verdict;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;

use super::scene::DB;
use super::scene::ONE;
use super::scene::Scene;
use super::scene::TWO;
use super::scene::ended;

/// Two nodes that serve, with an API key or without.
fn scene(has_key: bool) -> Scene {
    let mut scene = Scene::all_ready();
    let spec = scene.state.desired.spec.as_mut().unwrap();
    for node in &mut spec.nodes {
        if has_key {
            node.env
                .insert("ADMIN_API_KEY".into(), Secret::new("API-KEY"));
        }
    }
    let spec = spec.clone();
    scene.change(|seen| {
        for container in &mut seen.containers {
            container.digest = spec.container(container.unit).unwrap().digest();
        }
    });
    for unit in [DB, ONE, TWO] {
        scene.probe(unit, &Probe::Ready);
    }
    scene
}

/// The configuration has one node now.
fn shrink(scene: &mut Scene) {
    let spec = scene.state.desired.spec.as_mut().unwrap();
    spec.nodes.truncate(1);
}

fn is_gone(scene: &mut Scene, unit: UnitId) {
    scene.change(|seen| seen.containers.retain(|one| one.unit != unit));
}

fn taken_off(scene: &Scene) -> Vec<(String, UnitId)> {
    let plan = scene.plan().into_iter();
    let taken = plan.filter_map(|action| match action {
        Action::TakeOff { node, by } => Some((node, by)),
        _ => None,
    });
    taken.collect()
}

fn notes(scene: &Scene) -> Vec<Note> {
    let mut notes = scene.status().notes;
    notes.retain(|note| matches!(note, Note::StillListed { .. }));
    notes
}

/// The planned step is done, or fails.
fn try_it(scene: &mut Scene, result: Result<Outcome, Trouble>) {
    let is_it = |action: &Action| matches!(action, Action::TakeOff { .. });
    let action = scene.plan().into_iter().find(is_it).unwrap();
    scene.state.begin(&action, scene.now);
    assert_eq!(scene.status().verdict, Verdict::Working);
    assert!(
        !scene.state.end(action, result, scene.now),
        "Docker shows nothing of it"
    );
}

#[test]
fn one_that_left_is_taken_off_the_list_once_nothing_of_it_is_there() {
    let mut scene = scene(true);
    assert_eq!(scene.plan(), []);
    shrink(&mut scene);
    assert_eq!(taken_off(&scene), [], "it still runs");
    scene.is(TWO, ended(0));
    assert_eq!(taken_off(&scene), [], "it may be started again");
    is_gone(&mut scene, TWO);
    assert_eq!(taken_off(&scene), [("octopus-2".to_owned(), ONE)]);
    try_it(&mut scene, Ok(Outcome::default()));
    assert_eq!(scene.plan(), []);
    assert_eq!(notes(&scene), []);
}

#[test]
fn one_that_comes_back_before_that_stays_on_it() {
    let mut scene = scene(true);
    let all = scene.state.desired.spec.clone();
    shrink(&mut scene);
    is_gone(&mut scene, TWO);
    scene.state.desired.spec = all;
    assert_eq!(taken_off(&scene), []);
}

#[test]
fn a_node_that_serves_is_asked_and_no_other() {
    let mut scene = scene(true);
    shrink(&mut scene);
    is_gone(&mut scene, TWO);
    scene.probe(ONE, &Probe::Drained("418".to_owned()));
    assert_eq!(taken_off(&scene), []);
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(taken_off(&scene).len(), 1);
}

#[test]
fn a_name_that_a_running_node_still_has_stays_on_the_list() {
    let mut scene = scene(true);
    let spec = scene.state.desired.spec.as_mut().unwrap();
    let name = "OCTOPUS_SERVER_NODE_NAME".to_owned();
    spec.nodes[1].env.insert(name, Secret::new("renamed"));
    assert_eq!(taken_off(&scene), [], "it runs under its old name");
    let digest = scene.state.desired.spec.as_ref().unwrap().nodes[1].digest();
    scene.change(|seen| seen.containers[2].digest = digest);
    assert_eq!(taken_off(&scene), [("octopus-2".to_owned(), ONE)]);
}

/// All are wanted again, and the second node's container is made.
fn grow_again(scene: &mut Scene, all: StackSpec, mut made: Container) {
    made.run = Run::Created;
    scene.state.desired.spec = Some(all);
    scene.change(|seen| seen.containers.push(made));
    scene.probe(ONE, &Probe::Ready);
    scene.probe(DB, &Probe::Ready);
}

#[test]
fn one_that_may_still_be_taken_off_is_not_started_before_that_is_over() {
    for (doubt, is_held) in [
        (Doubt::MayStillHappen, true),
        (Doubt::Unknown, false),
        (Doubt::Refused, false),
    ] {
        let mut scene = scene(true);
        let all = scene.state.desired.spec.clone().unwrap();
        let second = scene.state.seen.container(TWO).cloned().unwrap();
        shrink(&mut scene);
        is_gone(&mut scene, TWO);
        let take_off = scene.plan().remove(0);
        assert!(matches!(take_off, Action::TakeOff { .. }), "{take_off:?}");
        scene.state.begin(&take_off, scene.now);
        grow_again(&mut scene, all, second);
        assert_eq!(scene.starts(), [], "it is being taken off");
        scene.wait(10);
        let no_answer = Err(Trouble::engine("no answer within 10 s", doubt));
        scene.state.end(take_off, no_answer, scene.now);
        assert_eq!(scene.starts().is_empty(), is_held, "{doubt:?}");
        scene.wait(59);
        assert_eq!(scene.starts().is_empty(), is_held, "{doubt:?}");
        scene.wait(1);
        assert_eq!(scene.starts(), [TWO]);
    }
}

#[test]
fn what_fails_is_tried_again_with_growing_waits_and_then_told() {
    let mut scene = scene(true);
    shrink(&mut scene);
    is_gone(&mut scene, TWO);
    let mut tries = 0;
    while notes(&scene).is_empty() {
        while taken_off(&scene).is_empty() {
            scene.wait(1);
            scene.probe(ONE, &Probe::Ready);
            scene.probe(DB, &Probe::Ready);
        }
        try_it(&mut scene, Err(Trouble::refused("the API answers 403")));
        tries += 1;
        assert!(tries < 100, "it ends");
        assert_eq!(
            scene.status().verdict,
            Verdict::Ready,
            "it holds nothing up"
        );
    }
    assert!(tries >= 5, "{tries} tries");
    let told = notes(&scene)[0].to_string();
    assert!(told.contains("octopus-2") && told.contains("403"), "{told}");
    assert!(told.contains("Configuration > Nodes"), "{told}");
    scene.wait(3_600);
    assert_eq!(taken_off(&scene), [], "it is left to a person");
    scene.state.records.forgive();
    scene.probe(DB, &Probe::Ready);
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(taken_off(&scene).len(), 1, "who asked for another try");
}

#[test]
fn without_a_key_people_are_told_once() {
    let mut scene = scene(false);
    shrink(&mut scene);
    assert_eq!(notes(&scene), [], "it is not gone yet");
    is_gone(&mut scene, TWO);
    assert_eq!(taken_off(&scene), []);
    let told = notes(&scene);
    let Note::StillListed { node, why } = &told[0] else {
        panic!("{told:?}");
    };
    assert_eq!(node, "octopus-2");
    assert!(why.contains("ADMIN_API_KEY"), "{why}");
    assert_eq!(scene.status().verdict, Verdict::Ready);
    let spec = scene.state.desired.spec.clone().unwrap();
    let durable = &mut scene.state.records.durable;
    durable.forget_who_was_told(&spec, &spec);
    assert_eq!(notes(&scene), []);
    assert!(scene.state.records.durable.roster.contains_key("octopus"));
}

#[test]
fn another_database_has_another_list() {
    let mut scene = scene(true);
    shrink(&mut scene);
    is_gone(&mut scene, TWO);
    scene.state.desired.spec.as_mut().unwrap().database.database = "Other".to_owned();
    assert_eq!(taken_off(&scene), []);
}
