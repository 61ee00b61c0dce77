//! The order of the steps, and every death on the way there and back.

use serde_json::Value;
use serde_json::json;

use super::super::record::OldNetwork;
use super::super::record::Record;
use super::super::seen::Restart;
use super::super::steps::Back;
use super::super::steps::Step;
use super::super::steps::Stuck;
use super::super::steps::World;
use super::super::steps::back;
use super::super::steps::next;
use super::super::variables;
use super::shapes::article;
use super::shapes::found;
use super::shapes::relatives;
use super::shapes::vendors;

/// What the engine does when it is asked for a step.
fn take(step: &Step, record: &mut Record, world: &mut World) {
    match step {
        Step::Disarm(id) => world.containers.get_mut(id).unwrap().restart = Restart::default(),
        Step::StopNode(id) | Step::StopSql(id) => {
            world.containers.get_mut(id).unwrap().running = false;
        }
        Step::Copy(number) => record.copies[*number].done = true,
        Step::Rename { id, to } => world.containers.get_mut(id).unwrap().name.clone_from(to),
        Step::RemoveNetwork(_) => world.network = None,
    }
}

fn take_back(step: &Back, record: &Record, world: &mut World) {
    match step {
        Back::MakeNetwork => world.network = Some("net-9".to_owned()),
        Back::Join { id, network } => {
            let networks = &mut world.containers.get_mut(id).unwrap().networks;
            networks
                .get_mut("shop_default")
                .unwrap()
                .id
                .clone_from(network);
        }
        Back::Rename { id, to } => world.containers.get_mut(id).unwrap().name.clone_from(to),
        Back::Start(id) => world.containers.get_mut(id).unwrap().running = true,
        Back::Arm(id) => {
            let old = record.old.iter().find(|old| old.id == *id).unwrap();
            world.containers.get_mut(id).unwrap().restart = old.restart.clone();
        }
    }
}

fn begun(all: &[Value]) -> (Record, World) {
    let found = found(all);
    let network = OldNetwork {
        name: "shop_default".to_owned(),
        ..OldNetwork::default()
    };
    let world = World {
        containers: found
            .containers()
            .map(|one| (one.id.clone(), one.clone()))
            .collect(),
        network: Some("net-1".to_owned()),
    };
    let record = Record::begin(&found, variables::told(&found), Some(network));
    (record, world)
}

/// So many steps are taken, and the command dies.
fn after(steps: usize, record: &mut Record, world: &mut World) -> Vec<Step> {
    let mut taken = Vec::new();
    while taken.len() < steps
        && let Some(step) = next(record, world).unwrap()
    {
        take(&step, record, world);
        taken.push(step);
    }
    taken
}

#[test]
fn nodes_stop_before_their_database_and_nothing_is_copied_or_renamed_while_it_runs() {
    let (mut record, mut world) = begun(&article());
    let steps = after(100, &mut record, &mut world);
    let words: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    let at = |word: &str| words.iter().position(|step| step.contains(word)).unwrap();
    let last = |word: &str| words.iter().rposition(|step| step.contains(word)).unwrap();
    assert!(
        last("Disarm") < at("StopNode") && at("StopNode") < at("StopSql"),
        "{words:?}"
    );
    assert!(
        at("StopSql") < at("Copy") && last("Copy") < at("Rename"),
        "{words:?}"
    );
    assert_eq!(last("RemoveNetwork"), words.len() - 1);
    assert_eq!(
        steps
            .iter()
            .filter(|step| matches!(step, Step::Copy(_)))
            .count(),
        5
    );
}

#[test]
fn whoever_comes_after_a_death_at_any_step_goes_on_to_the_same_end_or_back_to_the_beginning() {
    for shape in [article(), vendors(), relatives()] {
        let (record, world) = begun(&shape);
        let (mut whole, mut end) = (record.clone(), world.clone());
        let steps = after(100, &mut whole, &mut end).len();
        for died in 0..=steps {
            let (mut record, mut at) = (record.clone(), world.clone());
            after(died, &mut record, &mut at);
            // What is kept was written; the rest is seen.
            let kept = serde_json::to_vec(&record).unwrap();
            let mut read: Record = serde_json::from_slice(&kept).unwrap();
            assert_eq!(read, record);
            let (mut on, mut forward) = (read.clone(), at.clone());
            after(100, &mut on, &mut forward);
            assert_eq!((&on, &forward), (&whole, &end), "died after {died}");
            back_from(&mut read, at, &world, died);
        }
        // It is no longer the same network, and all else is.
        let mut again = whole.clone();
        back_from(&mut again, end, &world, steps);
    }
}

/// Goes back, dying after each step once.
#[track_caller]
fn back_from(record: &mut Record, mut at: World, begin: &World, died: usize) {
    let mut taken = Vec::new();
    while let Some(step) = back(record, &at).unwrap() {
        take_back(&step, record, &mut at);
        taken.push(step);
        assert!(taken.len() < 20, "{taken:?}");
    }
    if at.network != begin.network {
        assert_eq!(at.network.as_deref(), Some("net-9"));
        at.network.clone_from(&begin.network);
        for one in at.containers.values_mut() {
            let attached = one.networks.get_mut("shop_default").unwrap();
            assert_eq!(attached.id, "net-9");
            attached.id = "net-1".to_owned();
        }
    }
    assert_eq!(at, *begin, "died after {died}, then {taken:?}");
    let starts: Vec<&Back> = taken
        .iter()
        .filter(|step| matches!(step, Back::Start(_)))
        .collect();
    if let [first, ..] = starts[..]
        && starts.len() == 2
    {
        assert_eq!(*first, Back::Start("id-of-shop_db_1".to_owned()));
    }
}

#[test]
fn what_did_not_run_is_not_started_on_the_way_back() {
    let [mut db, mut node] = vendors();
    for one in [&mut db, &mut node] {
        one["State"] = json!({"Status": "exited", "Running": false});
    }
    let (mut record, mut world) = begun(&[db, node]);
    let steps = after(100, &mut record, &mut world);
    assert!(
        !steps
            .iter()
            .any(|step| matches!(step, Step::StopSql(_) | Step::StopNode(_)))
    );
    while let Some(step) = back(&record, &world).unwrap() {
        assert!(!matches!(step, Back::Start(_)));
        take_back(&step, &record, &mut world);
    }
}

#[test]
fn a_container_that_is_gone_stops_what_needs_it_and_nothing_else() {
    let (mut record, mut world) = begun(&article());
    after(4, &mut record, &mut world);
    world.containers.remove("id-of-shop_db_1");
    let gone = Stuck::DataGone("shop_db_1".to_owned());
    let mut last = next(&record, &world);
    while let Ok(Some(step)) = &last {
        take(&step.clone(), &mut record, &mut world);
        last = next(&record, &world);
    }
    assert_eq!(last, Err(gone));
    assert_eq!(
        back(&record, &world),
        Err(Stuck::Gone("shop_db_1".to_owned()))
    );
    // Data in volumes needs no old container.
    let (mut record, mut world) = begun(&vendors());
    world.containers.clear();
    after(100, &mut record, &mut world);
    assert_eq!(next(&record, &world), Ok(None));
}
