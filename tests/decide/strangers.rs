//! What others do and have: names that they took, labels that they set, signals that they sent.

use std::collections::BTreeSet;

use octo_local::reconcile::Action;
use octo_local::reconcile::Cause;
use octo_local::reconcile::News;
use octo_local::reconcile::container_event::ContainerEvent;
use octo_local::reconcile::observed::Stranger;
use octo_local::reconcile::status::Verdict;
use octo_local::spec::UnitId;

use super::ended;
use super::scene::DB;
use super::scene::ONE;
use super::scene::Scene;
use super::scene::TWO;

fn namesake(scene: &Scene) -> Stranger {
    let spec = scene.state.desired.spec.as_ref().unwrap();
    Stranger::Namesake(spec.container(TWO).unwrap().name.clone())
}

/// What was written into the history about a unit since the last call.
fn history(scene: &mut Scene) -> Vec<(String, String)> {
    let told = |news: News| match news {
        News::Told(subject, what) => Some((subject, what)),
        _ => None,
    };
    scene
        .state
        .take_news()
        .into_iter()
        .filter_map(told)
        .collect()
}

#[test]
fn a_name_that_somebody_took_is_the_cause_as_soon_as_it_is_seen() {
    let mut scene = Scene::all_ready();
    let namesake = namesake(&scene);
    scene.change(|seen| seen.strangers = BTreeSet::from([namesake.clone()]));
    assert_eq!(scene.verdict(), Verdict::Ready, "it is in nobody's way");
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    let status = scene.status();
    let unit = status.units.iter().find(|unit| unit.unit == TWO).unwrap();
    assert_eq!(unit.cause, Some(Cause::NameTaken));
    assert!(unit.reason.contains("p-octopus-server-2"), "{unit:?}");
    assert_eq!(status.verdict, Verdict::Failed);
    assert_eq!(scene.plan(), [], "it is not tried in vain");
    let failures = |scene: &mut Scene| {
        let history = history(scene).into_iter();
        history
            .filter(|(subject, _)| *subject == TWO.to_string())
            .count()
    };
    assert!(failures(&mut scene) > 0);
    scene.change(|_| {});
    assert_eq!(failures(&mut scene), 0, "it is told once");
    scene.change(|seen| seen.strangers.clear());
    scene.state.records.forgive();
    assert_eq!(scene.plan(), [Action::Create(TWO)]);
}

#[test]
fn a_name_that_somebody_took_concerns_nobody_who_is_not_wanted() {
    let mut scene = Scene::all_ready();
    scene.state.desired.stopped.insert(TWO);
    let namesake = namesake(&scene);
    scene.change(|seen| {
        seen.containers.retain(|one| one.unit != TWO);
        seen.strangers.insert(namesake);
    });
    assert_eq!(scene.verdict(), Verdict::Ready);
}

#[test]
fn what_only_carries_our_label_is_named() {
    let mut scene = Scene::all_ready();
    let namesake = namesake(&scene);
    let notes = |scene: &Scene| -> Vec<String> {
        let notes = scene.status().notes;
        notes.iter().map(ToString::to_string).collect()
    };
    scene.change(|seen| seen.strangers = BTreeSet::from([namesake]));
    assert_eq!(notes(&scene), Vec::<String>::new());
    scene.change(|seen| {
        let copies = (0..100).map(|number| Stranger::Container(format!("copy-{number:03}")));
        seen.strangers.extend(copies);
        seen.strangers
            .insert(Stranger::Volume("by-hand".to_owned()));
    });
    let told = notes(&scene);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("container copy-000, container copy-001,"));
    assert!(
        told[0].contains(", 93 more: labelled as this project's"),
        "{told:?}"
    );
}

/// A signal that is not ours is heard, and with it the end of the run.
fn signalled() -> Scene {
    let mut scene = Scene::all_ready();
    history(&mut scene);
    let event = ContainerEvent {
        id: scene.instance(ONE).id,
        word: "kill".to_owned(),
        at: None,
        signal: Some("15".to_owned()),
        code: None,
    };
    scene.state.heard(&event, scene.now);
    scene
}

fn told_of_a_signal(scene: &mut Scene) -> Vec<String> {
    let told = history(scene).into_iter();
    let words = told.filter(|(subject, _)| *subject == ONE.to_string());
    words.map(|(_, what)| what).collect()
}

#[test]
fn a_signal_is_somebodys_once_the_engine_answers_after_it() {
    let mut scene = signalled();
    assert_eq!(told_of_a_signal(&mut scene), Vec::<String>::new());
    scene.is(ONE, ended(143));
    let told = told_of_a_signal(&mut scene);
    assert!(
        told[0].starts_with("somebody sent it signal 15"),
        "{told:?}"
    );
    scene.change(|_| {});
    assert_eq!(told_of_a_signal(&mut scene), Vec::<String>::new());
}

#[test]
fn a_signal_before_the_engine_goes_away_is_the_engines() {
    let mut scene = signalled();
    scene.state.on_engine_left();
    let told = told_of_a_signal(&mut scene);
    assert_eq!(
        told,
        ["the engine sent it signal 15 as it went away itself"]
    );
    // A look that was under way already shows nothing of what came after it began.
    let mut scene = Scene::all_ready();
    scene.state.look_begins();
    let event = ContainerEvent {
        id: scene.instance(ONE).id,
        word: "kill".to_owned(),
        at: None,
        signal: Some("15".to_owned()),
        code: None,
    };
    scene.state.heard(&event, scene.now);
    let seen = scene.state.seen.clone();
    scene.state.looked(seen, scene.now);
    history(&mut scene);
    scene.state.look_begins();
    scene.state.look_failed();
    let told = told_of_a_signal(&mut scene);
    assert_eq!(
        told,
        ["the engine sent it signal 15 as it went away itself"]
    );
}

/// A restore and a rollback remove nodes themselves, and it is seen only when it is done.
#[test]
fn nobody_is_blamed_for_nodes_that_go_while_the_data_is_replaced() {
    let blamed = |scene: &mut Scene, unit: UnitId| {
        history(scene);
        scene.change(|seen| seen.containers.retain(|one| one.unit != unit));
        let told = history(scene).into_iter();
        told.filter(|(_, what)| what.starts_with("somebody removed"))
            .count()
    };
    let mut scene = Scene::all_ready();
    scene.state.desired.data_is_replaced = true;
    scene.change(|_| {});
    assert_eq!(blamed(&mut scene, ONE), 0);
    assert_eq!(blamed(&mut scene, DB), 1, "that was somebody else");
    scene.state.desired.data_is_replaced = false;
    assert_eq!(blamed(&mut scene, TWO), 0, "it went before it was done");

    let mut scene = Scene::all_ready();
    assert_eq!(blamed(&mut scene, ONE), 1);
}
