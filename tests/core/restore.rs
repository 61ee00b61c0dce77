//! What the daemon makes of a restore: nodes rest until it is done, whoever asks for what meanwhile.

use octo_local::daemon::message::RestoreStep;
use octo_local::daemon::store::Restored;
use octo_local::reconcile::status::Note;

use super::*;

fn begin(bench: &mut Bench, set: &str) -> RequestId {
    bench.ask(Request::Restore(
        RestoreStep::Begin {
            set: set.to_owned(),
            keep_as: Some("1".to_owned()),
        },
        None,
    ))
}

fn end(bench: &mut Bench) -> RequestId {
    let restored = Restored {
        master_key: Some(Secret::new("BBBBBBBBBBBBBBBBBBBBBA==")),
        ..Restored::default()
    };
    bench.ask(Request::Restore(RestoreStep::End(Box::new(restored)), None))
}

/// The words of a refusal.
fn refused(bench: &Bench, id: RequestId) -> String {
    match &bench.answers[&id] {
        Answer::Up(Err(denied)) | Answer::Plan(Err(denied)) | Answer::Wished(Err(denied)) => {
            format!("{denied:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_node_runs_while_a_restore_goes_on_and_it_is_kept_before_it_is_answered() {
    let mut bench = applied();
    let writes = bench.writes;
    let id = begin(&mut bench, "one");
    assert!(bench.is_taken(id) && bench.writes > writes);
    let desired = &bench.core.state().desired;
    assert_eq!(desired.stopped, [UnitId::Node(1)].into());
    assert_eq!(desired.goal, Goal::Up, "SQL Server runs");
    let note = Note::RestoreUnfinished {
        set: "one".to_owned(),
        kept: true,
    };
    let status = bench.core.status(Mono(bench.now));
    assert!(status.notes.contains(&note), "{:?}", status.notes);
}

#[test]
fn nothing_starts_a_node_on_half_of_the_data() {
    let mut bench = applied();
    begin(&mut bench, "one");
    let asked = [
        bench.ask(Request::Up(up(&[("OCTOPUS_NODES", "2")]))),
        bench.ask(Request::Units(About::Start, Vec::new(), None)),
        bench.ask(Request::Units(About::Restart, Vec::new(), None)),
    ];
    for id in asked {
        let words = refused(&bench, id);
        assert!(words.contains("a restore of backup one"), "{words}");
    }
    assert_eq!(bench.core.state().desired.stopped, [UnitId::Node(1)].into());
}

#[test]
fn another_daemon_goes_on_with_it_and_it_can_be_begun_again() {
    let mut bench = applied();
    begin(&mut bench, "one");
    let mut next = Bench::awake(bench.core.stored().clone());
    assert_eq!(next.core.state().desired.stopped, [UnitId::Node(1)].into());
    let id = begin(&mut next, "one");
    assert!(next.is_taken(id));
    let id = end(&mut next);
    assert!(next.is_taken(id));
    let stored = next.core.stored();
    assert!(stored.backups.restoring.is_none() && stored.stopped.is_empty());
    let key = Secret::new("BBBBBBBBBBBBBBBBBBBBBA==");
    let spec = next.core.state().desired.spec.clone().unwrap();
    assert_eq!(spec.nodes[0].env["MASTER_KEY"], key);
    let id = next.ask(Request::Units(About::Start, Vec::new(), None));
    assert!(next.is_taken(id), "{:?}", next.answers);
}

#[test]
fn an_end_that_nobody_waits_for_changes_nothing() {
    let mut bench = applied();
    let before = bench.core.stored().clone();
    let id = end(&mut bench);
    assert!(refused(&bench, id).contains("another command took over"));
    assert_eq!(*bench.core.stored(), before);
    let mut blank = Bench::awake(Stored::default());
    let id = begin(&mut blank, "one");
    assert!(refused(&blank, id).contains("`octo-local up` first"));
}

#[test]
fn data_that_is_deleted_leaves_no_restore() {
    let mut bench = applied();
    begin(&mut bench, "one");
    let id = bench.ask(down(true));
    assert!(bench.is_taken(id));
    bench.finish_actions();
    bench.settle();
    assert_eq!(bench.core.stored().backups.restoring, None);
}
