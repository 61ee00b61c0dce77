//! Data in places that are not octo-local's: nothing waits for them to be made, and nothing makes or
//! removes them.

use octo_local::reconcile::Action;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Observed;
use octo_local::reconcile::preview;
use octo_local::spec::Storage;

use super::scene::DB;
use super::scene::ONE;
use super::scene::Scene;
use super::scene::TWO;

/// A stack whose database is in a directory, and whose artifacts are in somebody's volume.
fn elsewhere() -> Scene {
    let mut scene = Scene::all_ready();
    let spec = scene.state.desired.spec.as_mut().unwrap();
    let places = [
        ("sql-data", Storage::Directory("/srv/sql".to_owned())),
        ("artifacts", Storage::Theirs("theirs".to_owned())),
    ];
    for (key, place) in places {
        let before = spec.volumes.insert(key.to_owned(), place.clone()).unwrap();
        let containers = spec.sql.iter_mut().chain(&mut spec.nodes);
        let mounts = containers.flat_map(|container| container.mounts.values_mut());
        mounts
            .filter(|mounted| **mounted == before)
            .for_each(|mounted| *mounted = place.clone());
    }
    scene
}

fn is_about_a_volume(action: &Action) -> bool {
    matches!(action, Action::CreateVolume(_) | Action::RemoveVolume(_))
}

#[test]
fn what_is_not_ours_is_neither_made_nor_waited_for() {
    let mut scene = elsewhere();
    let spec = scene.state.desired.spec.clone().unwrap();
    let network = scene.state.seen.networks.clone();
    let images = scene.state.seen.images.clone();
    scene.look(Observed {
        networks: network,
        images,
        ..Observed::default()
    });
    let ours: Vec<String> = spec.our_volumes().map(str::to_owned).collect();
    assert!(!ours.is_empty() && !ours.iter().any(|name| name == "theirs"));
    let made: Vec<Action> = scene.plan().into_iter().filter(is_about_a_volume).collect();
    let wanted: Vec<Action> = ours.iter().cloned().map(Action::CreateVolume).collect();
    assert_eq!(made, wanted);
    assert!(
        scene.plan().contains(&Action::Create(DB)),
        "it needs no volume of ours"
    );
    assert!(
        !scene.plan().contains(&Action::Create(ONE)),
        "others it needs"
    );
    scene.change(|seen| seen.volumes = ours.iter().cloned().collect());
    for unit in [DB, ONE, TWO] {
        assert!(scene.plan().contains(&Action::Create(unit)), "{unit}");
    }
    let told = preview::changes(None, &spec, &Observed::default(), false);
    let names: Vec<&str> = told.iter().map(|change| change.name.as_str()).collect();
    assert!(
        !names.contains(&"theirs") && !names.contains(&"/srv/sql"),
        "{names:?}"
    );
}

#[test]
fn down_with_the_data_removes_what_is_ours_alone() {
    let mut scene = elsewhere();
    let ours: Vec<String> = scene
        .state
        .desired
        .spec
        .as_ref()
        .unwrap()
        .our_volumes()
        .map(str::to_owned)
        .collect();
    scene.state.desired.goal = Goal::Down { volumes: true };
    scene.change(|seen| {
        seen.containers.clear();
        seen.volumes = ours.iter().cloned().collect();
    });
    let removed: Vec<Action> = scene.plan().into_iter().filter(is_about_a_volume).collect();
    let wanted: Vec<Action> = ours.into_iter().map(Action::RemoveVolume).collect();
    assert_eq!(removed, wanted);
}
