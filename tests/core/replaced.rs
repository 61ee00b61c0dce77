//! What a restore replaced: kept until the stack is ready on what came, whoever dies meanwhile.

use octo_local::daemon::message::RestoreStep;
use octo_local::daemon::store::Restored;
use octo_local::reconcile::status::Note;

use super::known::answer;
use super::known::ready;
use super::known::wait;
use super::*;
use crate::decide::scene::running_as;

fn step(bench: &mut Bench, step: RestoreStep) {
    let id = bench.ask(Request::Restore(step, None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
}

fn begin(bench: &mut Bench, set: &str, keeps: bool) {
    let keep_as = keeps.then(|| format!("as-{set}"));
    let set = set.to_owned();
    step(bench, RestoreStep::Begin { set, keep_as });
}

fn keep(bench: &mut Bench) {
    let volumes = vec!["p_repository".to_owned()];
    let database = true;
    step(bench, RestoreStep::Kept { database, volumes });
}

fn end(bench: &mut Bench) {
    let restored = Restored {
        master_key: Some(Secret::new("BBBBBBBBBBBBBBBBBBBBBA==")),
        ..Restored::default()
    };
    step(bench, RestoreStep::End(Box::new(restored)));
}

/// Nodes run as they are wanted now, and answer so.
fn serve(bench: &mut Bench, says: impl Fn(UnitId) -> Probe) {
    let spec = bench.core.state().desired.spec.clone().unwrap();
    bench.finish_actions();
    let before = bench.now.as_millis();
    bench.seen = running_as(&spec);
    for container in &mut bench.seen.containers {
        if container.unit.is_server() {
            container.id = format!("{}-{before}", container.id);
        }
    }
    bench.look();
    answer(bench, |unit, _| Some(says(unit)));
}

fn drops(bench: &mut Bench) -> usize {
    let is_drop = |effect: &Effect| matches!(effect, Effect::DropReplaced(_));
    let found = bench
        .effects
        .iter()
        .filter(|effect| is_drop(effect))
        .count();
    bench.effects.retain(|effect| !is_drop(effect));
    found
}

fn restored() -> Bench {
    let mut bench = ready();
    begin(&mut bench, "one", true);
    bench.end_nodes();
    keep(&mut bench);
    bench
}

#[test]
fn it_is_removed_once_a_node_serves_on_what_came_and_not_before() {
    let mut bench = restored();
    wait(&mut bench, 60_000);
    assert_eq!(drops(&mut bench), 0, "the restore is not finished");
    end(&mut bench);
    let note = Note::ReplacedKept {
        set: "one".to_owned(),
    };
    assert!(bench.core.status(Mono(bench.now)).notes.contains(&note));
    serve(&mut bench, |unit| {
        if unit.is_server() {
            Probe::Failure(Miss::Gone, "not yet".to_owned())
        } else {
            Probe::Ready
        }
    });
    assert_eq!(drops(&mut bench), 0, "nobody serves");
    wait(&mut bench, 1_000);
    answer(&mut bench, |_, _| Some(Probe::Ready));
    assert_eq!(drops(&mut bench), 1);
    wait(&mut bench, 60_000);
    assert_eq!(drops(&mut bench), 0, "it is under way");
    let early = bench.ask(Request::Restore(RestoreStep::BeginBack, None));
    assert!(!bench.is_taken(early), "it would count on what goes");
    bench.on(Event::ReplacedDropped(Ok(())));
    assert_eq!(bench.core.stored().backups.replaced, None);
    assert!(!bench.core.status(Mono(bench.now)).notes.contains(&note));
}

#[test]
fn what_cannot_be_removed_is_tried_again_with_growing_waits() {
    let mut bench = restored();
    end(&mut bench);
    serve(&mut bench, |_| Probe::Ready);
    let mut tries = 0;
    for _ in 0..600 {
        if drops(&mut bench) > 0 {
            tries += 1;
            bench.on(Event::ReplacedDropped(Err("in use".to_owned())));
        }
        answer(&mut bench, |_, _| Some(Probe::Ready));
        wait(&mut bench, 1_000);
    }
    assert!((5..=10).contains(&tries), "{tries} in ten minutes");
    assert!(bench.core.stored().backups.replaced.is_some());
}

#[test]
fn a_second_restore_keeps_what_was_there_first() {
    let mut bench = restored();
    let first = bench.core.stored().backups.replaced.clone().unwrap();
    assert!(first.whole && first.database && first.set == "one");
    end(&mut bench);
    let mut next = bench.followed_by(bench.core.stored().clone());
    begin(&mut next, "two", true);
    assert_eq!(next.core.stored().backups.replaced, Some(first));
    begin(&mut next, "two", false);
    assert!(
        next.core
            .stored()
            .backups
            .replaced
            .as_ref()
            .unwrap()
            .given_up
    );
    begin(&mut next, "three", true);
    let kept = next.core.stored().backups.replaced.clone().unwrap();
    assert_eq!(
        (kept.id.as_str(), kept.whole),
        ("as-three", false),
        "not mixed"
    );
    next.on(Event::ReplacedDropped(Ok(())));
    assert_eq!(next.core.stored().backups.replaced, Some(kept));
}

#[test]
fn the_way_back_ends_with_the_key_and_the_version_of_before() {
    let mut bench = ready();
    let (key, ran) = {
        let stored = bench.core.stored();
        (stored.master_key().cloned(), stored.ran.clone())
    };
    begin(&mut bench, "one", true);
    bench.end_nodes();
    keep(&mut bench);
    end(&mut bench);
    assert_ne!(bench.core.stored().master_key().cloned(), key);
    step(&mut bench, RestoreStep::BeginBack);
    step(&mut bench, RestoreStep::GoingBack);
    let kept = bench.core.stored().backups.replaced.clone().unwrap();
    assert!(!kept.whole, "it must not be emptied again");
    step(&mut bench, RestoreStep::Back);
    let stored = bench.core.stored();
    assert_eq!(stored.master_key().cloned(), key);
    assert_eq!(stored.ran, ran);
    assert_eq!(stored.backups.restoring, None);
    assert_eq!(
        stored.backups.way_back_from_restore(),
        None,
        "nodes change it now"
    );
    let spec = bench.core.state().desired.spec.clone().unwrap();
    assert_eq!(Some(&spec.nodes[0].env["MASTER_KEY"]), key.as_ref());
    serve(&mut bench, |_| Probe::Ready);
    assert_eq!(drops(&mut bench), 1, "what is left of it goes");
}

#[test]
fn it_outlives_a_down_and_goes_with_the_data() {
    let mut bench = restored();
    end(&mut bench);
    let id = bench.ask(down(false));
    assert!(bench.is_taken(id));
    assert!(bench.core.stored().backups.replaced.is_some());
    assert_eq!(drops(&mut bench), 0);
    let id = bench.ask(down(true));
    assert!(bench.is_taken(id));
    bench.seen = Observed::default();
    bench.finish_actions();
    bench.look();
    assert_eq!(bench.core.stored().backups.replaced, None);
}
