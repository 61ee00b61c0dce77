//! Upgrades and rollbacks: what is applied when, who rests meanwhile, and what is kept of the way
//! back.

use octo_local::daemon::core::Duty;
use octo_local::daemon::message::BackedUp;
use octo_local::daemon::message::BackupFor;
use octo_local::daemon::message::NotBroughtBack;
use octo_local::daemon::store::Data;
use octo_local::daemon::store::Ran;
use octo_local::daemon::store::Restored;
use octo_local::daemon::store::Upgrade;
use octo_local::reconcile::Action;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::Note;
use octo_local::reconcile::status::VersionStep;

use super::known::answer;
use super::known::ready;
use super::known::stops;
use super::*;
use crate::decide::scene::running_as;

const NEXT: &str = "octopusdeploy/octopusdeploy:2026.2.1";

fn to_next() -> Box<UpRequest> {
    up(&[("OCTOPUS_SERVER_TAG", "2026.2.1")])
}

/// A stack that serves, and whose version is known to have run on its data.
fn serving() -> Bench {
    let before = ready();
    let mut stored = before.core.stored().clone();
    let spec = stored.spec.clone().unwrap();
    stored.version_ran(Ran {
        version: "2026.1.1".to_owned(),
        image: spec.nodes[0].image.clone(),
        image_id: format!("id of {}", spec.nodes[0].image),
        data: Some(Data::of(&spec)),
    });
    next_daemon(&before, stored)
}

/// Another daemon of what is kept, which sees what the one before saw.
fn next_daemon(before: &Bench, stored: Stored) -> Bench {
    let mut bench = before.followed_by(stored);
    answer(&mut bench, |_, _| Some(Probe::Ready));
    bench
}

/// An upgrade was asked for, and its image is there.
fn asked() -> Bench {
    asked_for(to_next())
}

fn asked_for(next: Box<UpRequest>) -> Bench {
    let mut bench = serving();
    applies(&mut bench, next);
    bench.seen.images.insert(NEXT.to_owned(), "next".to_owned());
    bench.look();
    bench
}

/// A configuration is applied over data that is there.
fn applies(bench: &mut Bench, request: Box<UpRequest>) {
    let id = bench.ask(Request::Up(request));
    let facts = Facts {
        has_data: true,
        ..Facts::default()
    };
    bench.found(id, facts);
    assert!(bench.is_taken(id), "{:?}", bench.answers);
}

/// No node runs any more, and the database answers.
fn nodes_ended(bench: &mut Bench) {
    bench.end_nodes();
    answer(bench, |_, _| Some(Probe::Ready));
}

fn saves(bench: &Bench) -> usize {
    let is_it = |effect: &&Effect| matches!(effect, Effect::BackUp(BackupFor::Upgrade, _));
    bench.effects.iter().filter(is_it).count()
}

fn brings_back(bench: &Bench) -> usize {
    let is_it = |effect: &&Effect| matches!(effect, Effect::BringBack(_));
    bench.effects.iter().filter(is_it).count()
}

fn saved(bench: &Bench) -> Event {
    let upgrades = &bench.core.stored().backups.upgrades;
    let (upgrade, _) = upgrades.waiting().unwrap();
    Event::BackedUp(
        BackupFor::Upgrade,
        Ok(BackedUp {
            name: upgrade.set.clone(),
            removed: Vec::new(),
        }),
    )
}

fn reads(bench: &Bench) -> usize {
    let is_it = |effect: &&Effect| matches!(effect, Effect::ReadSet(..));
    bench.effects.iter().filter(is_it).count()
}

fn rests(bench: &Bench) -> bool {
    bench.core.state().desired.nodes_rest
}

/// The upgrade that is to be taken back.
fn waits(bench: &Bench) -> Upgrade {
    let upgrades = &bench.core.stored().backups.upgrades;
    upgrades.waits_to_go_back().unwrap().clone()
}

fn set_read(bench: &mut Bench, result: Result<(), String>) {
    let set = waits(bench).set;
    bench.on(Event::SetRead(set, result));
    bench.settle();
}

/// The engine has the image of before.
fn image_of_before(bench: &mut Bench) {
    let before = waits(bench).before;
    let image = before.spec.nodes[0].image.clone();
    let id = before.images.get(&image).cloned();
    bench.seen.images.insert(image, id.unwrap_or_default());
    bench.look();
}

/// The last upgrade is taken back, and all that this needs is there.
fn go_back(bench: &mut Bench) {
    let id = bench.ask(Request::RollBack(None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    image_of_before(bench);
    set_read(bench, Ok(()));
}

fn tag(bench: &Bench) -> String {
    bench
        .core
        .stored()
        .config
        .as_ref()
        .unwrap()
        .octopus
        .tag
        .clone()
}

fn step(bench: &Bench) -> Option<VersionStep> {
    let change = bench.core.status(Mono(bench.now)).version_change;
    change.map(|change| change.step)
}

/// The next version is applied, and no node serves with it yet.
fn migrating() -> Bench {
    let mut bench = asked();
    nodes_ended(&mut bench);
    let event = saved(&bench);
    bench.on(event);
    bench.settle();
    assert_eq!(
        (tag(&bench).as_str(), step(&bench)),
        ("2026.2.1", Some(VersionStep::Migrating))
    );
    bench
}

/// A node serves with the next version.
fn upgraded() -> Bench {
    let mut bench = migrating();
    bench.seen = running_as(bench.core.stored().spec.as_ref().unwrap());
    for container in &mut bench.seen.containers {
        container.run = Run::Running {
            started_at: "2".to_owned(),
        };
    }
    bench.finish_actions();
    bench.look();
    answer(&mut bench, |_, _| Some(Probe::Ready));
    bench.finish_actions();
    bench.look();
    assert_eq!(step(&bench), None);
    bench
}

#[test]
fn nothing_is_applied_before_no_node_runs_and_the_backup_is_made() {
    let mut bench = asked();
    assert_eq!(tag(&bench), "2026.1.1");
    assert_eq!(stops(&bench.effects), [UnitId::Node(1)]);
    assert_eq!(
        (saves(&bench), step(&bench)),
        (0, Some(VersionStep::Resting))
    );
    nodes_ended(&mut bench);
    assert_eq!(
        (saves(&bench), step(&bench)),
        (1, Some(VersionStep::Saving))
    );
    assert_eq!(tag(&bench), "2026.1.1");
    let event = saved(&bench);
    bench.on(event);
    bench.settle();
    assert_eq!(tag(&bench), "2026.2.1");
    assert!(!bench.core.state().desired.nodes_rest);
}

#[test]
fn nobody_is_out_before_the_image_is_there() {
    let mut bench = serving();
    let id = bench.ask(Request::Up(to_next()));
    bench.found(
        id,
        Facts {
            has_data: true,
            ..Facts::default()
        },
    );
    let Answer::Up(Ok(accepted)) = &bench.answers[&id] else {
        panic!("{:?}", bench.answers);
    };
    assert_eq!(accepted.changes[0].what, Step::BackUp);
    bench.look();
    assert_eq!(
        (stops(&bench.effects), step(&bench)),
        (vec![], Some(VersionStep::Fetching))
    );
    let pull = |effect: &Effect| matches!(effect, Effect::Act(octo_local::reconcile::Action::Pull(image), _) if image == NEXT);
    assert!(bench.effects.iter().any(pull), "{:?}", bench.effects);
}

#[test]
fn a_backup_that_fails_leaves_what_ran() {
    let mut bench = asked();
    nodes_ended(&mut bench);
    bench.on(Event::BackedUp(
        BackupFor::Upgrade,
        Err("the disk is full".to_owned()),
    ));
    bench.settle();
    assert_eq!((tag(&bench).as_str(), step(&bench)), ("2026.1.1", None));
    assert!(!bench.core.state().desired.nodes_rest);
    let told = bench.core.status(Mono(bench.now)).notes;
    let is_it =
        |note: &Note| matches!(note, Note::VersionKept { why } if why.contains("the disk is full"));
    assert!(told.iter().any(is_it), "{told:?}");
}

/// Else it would end in the middle of the backup.
#[test]
fn a_database_that_is_to_be_replaced_is_so_before_the_backup() {
    let mut bench = asked();
    let sql = bench.seen.containers.iter_mut();
    let sql = sql.into_iter().find(|one| one.unit == UnitId::Sql).unwrap();
    sql.digest = octo_local::spec::Digest("another".to_owned());
    nodes_ended(&mut bench);
    assert_eq!(saves(&bench), 0);
    let stops = |effect: &Effect| {
        matches!(
            effect,
            Effect::Act(
                Action::Stop {
                    unit: UnitId::Sql,
                    ..
                },
                _
            )
        )
    };
    assert!(bench.effects.iter().any(stops), "{:?}", bench.effects);
}

#[test]
fn a_database_that_cannot_serve_is_not_waited_for() {
    let mut bench = asked();
    nodes_ended(&mut bench);
    assert_eq!(saves(&bench), 1, "it serves");
    let mut next = Bench::new(bench.core.stored().clone(), Duty::Supervise);
    next.seen = bench.seen.clone();
    next.now = bench.now;
    for container in &mut next.seen.containers {
        container.run = Run::Exited {
            started_at: "1".to_owned(),
            code: 1,
            oom: false,
            error: String::new(),
        };
    }
    next.settle();
    let instance = next
        .seen
        .container(UnitId::Sql)
        .unwrap()
        .instance()
        .unwrap();
    let examined = octo_local::reconcile::Action::Examine(UnitId::Sql, instance);
    let outcome = Outcome {
        lines: vec![
            "ERROR: Unable to set system administrator password: Password validation failed"
                .to_owned(),
        ],
        exit: Some((1, false, String::new())),
    };
    next.on(Event::Done(examined, Ok(outcome)));
    next.settle();
    assert_eq!(
        (tag(&next).as_str(), step(&next)),
        ("2026.1.1", None),
        "{:?}",
        next.core.status(Mono(next.now))
    );
    let told = next.core.status(Mono(next.now)).notes;
    let is_it =
        |note: &Note| matches!(note, Note::VersionKept { why } if why.contains("--no-backup"));
    assert!(told.iter().any(is_it), "{told:?}");
}

#[test]
fn sql_server_is_not_stopped_on_purpose_while_its_data_is_needed() {
    let stop = |bench: &mut Bench| {
        let id = bench.ask(Request::Units(About::Stop, vec![], None));
        format!("{:?}", bench.answers.get(&id))
    };
    let mut waits = asked();
    let denied = stop(&mut waits);
    assert!(denied.contains("octo-local down"), "{denied}");
    let mut back = upgraded();
    go_back(&mut back);
    let denied = stop(&mut back);
    assert!(denied.contains("brought back"), "{denied}");
    let mut one = asked();
    let id = one.ask(Request::Units(About::Stop, vec![UnitId::Node(1)], None));
    assert!(one.is_taken(id), "{:?}", one.answers);
}

#[test]
fn two_who_ask_for_the_same_upgrade_at_once_are_both_taken() {
    let mut bench = serving();
    let facts = || Facts {
        has_data: true,
        ..Facts::default()
    };
    let first = bench.ask(Request::Up(to_next()));
    let other = bench.ask(Request::Up(up(&[("TASK_CAP", "7")])));
    let second = bench.ask(Request::Up(to_next()));
    // Facts of the last one are there first.
    for id in [second, first, other] {
        bench.found(id, facts());
    }
    let answers = &bench.answers;
    assert!(
        bench.is_taken(second) && bench.is_taken(first),
        "{answers:?}"
    );
    assert!(!bench.is_taken(other), "{answers:?}");
    assert_eq!(step(&bench), Some(VersionStep::Fetching));
}

#[test]
fn an_up_with_what_was_before_takes_a_waiting_upgrade_back() {
    let mut bench = asked();
    let id = bench.ask(Request::Up(up(&[])));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.settle();
    assert_eq!((tag(&bench).as_str(), step(&bench)), ("2026.1.1", None));
    assert!(!bench.core.state().desired.nodes_rest);
}

/// Whoever followed the last `up` presses Ctrl-C.
fn interrupted(bench: &mut Bench) -> Cancelled {
    let taken = bench.answers.values().filter_map(|answer| match answer {
        Answer::Up(Ok(accepted)) => Some(accepted.generation),
        _ => None,
    });
    let session = taken.max().unwrap();
    let id = bench.ask(Request::Cancel(session));
    match &bench.answers[&id] {
        Answer::Cancelled(cancelled) => *cancelled,
        other => panic!("{other:?}"),
    }
}

/// Half of a change would leave nodes out, on a database that only one of two versions can use.
#[test]
fn an_interrupted_change_of_the_version_goes_on() {
    let unsaved = || {
        let mut bench = serving();
        let request = UpRequest {
            no_backup: true,
            ..*to_next()
        };
        let id = bench.ask(Request::Up(Box::new(request)));
        let facts = Facts {
            has_data: true,
            ..Facts::default()
        };
        bench.found(id, facts);
        bench
    };
    let goes_back = || {
        let mut bench = upgraded();
        bench.ask(Request::RollBack(None));
        bench
    };
    let changes: [fn() -> Bench; 4] = [asked, migrating, unsaved, goes_back];
    for begin in changes {
        let mut bench = begin();
        assert_eq!(interrupted(&mut bench), Cancelled::VersionChanges);
        assert_eq!((bench.goal(), bench.core.stored().held), (Goal::Up, false));
    }
    let mut bench = asked_for(up(&[("TASK_CAP", "7")]));
    assert_eq!(interrupted(&mut bench), Cancelled::Held);
}

#[test]
fn the_next_daemon_goes_on_where_the_one_before_was() {
    let mut bench = asked();
    nodes_ended(&mut bench);
    let mut next = next_daemon(&bench, bench.core.stored().clone());
    assert_eq!((saves(&next), step(&next)), (1, Some(VersionStep::Saving)));
    assert!(next.core.state().desired.nodes_rest);
    let event = saved(&next);
    next.on(event);
    next.settle();
    assert_eq!(tag(&next), "2026.2.1");
}

#[test]
fn no_node_starts_with_the_next_version_before_the_disk_knows() {
    let mut bench = asked();
    nodes_ended(&mut bench);
    bench.disk = Err("full".to_owned());
    let event = saved(&bench);
    bench.on(event);
    bench.settle();
    assert_eq!(tag(&bench), "2026.2.1");
    assert!(bench.core.state().desired.nodes_rest);
    bench.disk = Ok(());
    bench.now += Duration::from_secs(60);
    bench.settle();
    bench.settle();
    assert!(!bench.core.state().desired.nodes_rest);
}

#[test]
fn the_way_back_of_an_upgrade_that_is_not_done_stays_the_first_one() {
    let mut bench = migrating();
    let set = bench
        .core
        .stored()
        .backups
        .upgrades
        .migrating()
        .unwrap()
        .set
        .clone();
    applies(&mut bench, up(&[("OCTOPUS_SERVER_TAG", "2026.3.1")]));
    let upgrades = &bench.core.stored().backups.upgrades;
    let upgrade = upgrades.migrating().unwrap();
    assert_eq!(
        (
            upgrade.set.as_str(),
            upgrade.before.config.octopus.tag.as_str()
        ),
        (set.as_str(), "2026.1.1")
    );
    assert_eq!(tag(&bench), "2026.3.1");
}

#[test]
fn a_rollback_brings_image_data_and_key_back_and_no_node_runs_before() {
    let mut bench = upgraded();
    go_back(&mut bench);
    bench.look();
    assert_eq!(stops(&bench.effects), [UnitId::Node(1)]);
    assert_eq!(brings_back(&bench), 0);
    for request in [
        Request::Up(up(&[])),
        Request::Units(About::Start, Vec::new(), None),
    ] {
        let id = bench.ask(request);
        assert!(!bench.is_taken(id), "{:?}", bench.answers);
    }
    nodes_ended(&mut bench);
    assert_eq!(
        (brings_back(&bench), step(&bench)),
        (1, Some(VersionStep::BringingBack))
    );
    let key = Secret::new("CCCCCCCCCCCCCCCCCCCCCA==");
    bench.on(Event::BroughtBack(Ok(Box::new(Restored {
        master_key: Some(key.clone()),
        ..Restored::default()
    }))));
    bench.settle();
    let stored = bench.core.stored();
    assert_eq!(tag(&bench), "2026.1.1");
    assert_eq!(
        stored.spec.as_ref().unwrap().nodes[0].env["MASTER_KEY"],
        key
    );
    assert!(stored.backups.upgrades.way_back().is_none());
    assert!(!bench.core.state().desired.nodes_rest);
}

#[test]
fn half_of_the_data_lets_no_node_start_also_in_the_next_daemon() {
    let mut bench = upgraded();
    go_back(&mut bench);
    nodes_ended(&mut bench);
    bench.on(Event::BroughtBack(Err(NotBroughtBack {
        why: "the set is gone".to_owned(),
        is_touched: true,
    })));
    bench.settle();
    assert_eq!(step(&bench), Some(VersionStep::NotBroughtBack));
    assert!(bench.core.state().desired.nodes_rest);
    let mut next = next_daemon(&bench, bench.core.stored().clone());
    assert!(next.core.state().desired.nodes_rest);
    assert_eq!(brings_back(&next), 0, "somebody has to ask");
    let id = next.ask(Request::RollBack(None));
    assert!(next.is_taken(id), "{:?}", next.answers);
    // How far the one before came is not known, whatever this try says.
    next.on(Event::BroughtBack(Err(NotBroughtBack {
        why: "no".to_owned(),
        is_touched: false,
    })));
    next.settle();
    assert!(next.core.state().desired.nodes_rest);
}

/// What keeps SQL Server from serving may have come with the upgrade, and nothing comes back then.
#[test]
fn a_rollback_gives_sql_server_the_settings_of_before_and_leaves_its_image() {
    let mut bench = asked_for(up(&[
        ("OCTOPUS_SERVER_TAG", "2026.2.1"),
        ("MSSQL_PID", "Web"),
        ("SQL_IMAGE", "mssql:newer"),
    ]));
    nodes_ended(&mut bench);
    bench.on(saved(&bench));
    let before = serving().core.stored().spec.clone().unwrap().sql.unwrap();
    let sql = |bench: &Bench| {
        bench
            .core
            .state()
            .desired
            .spec
            .clone()
            .unwrap()
            .sql
            .unwrap()
    };
    assert_ne!(sql(&bench).env, before.env);
    go_back(&mut bench);
    assert_eq!(sql(&bench).env, before.env);
    assert_eq!(
        sql(&bench).image,
        "mssql:newer",
        "it may not be older than its files"
    );
}

#[test]
fn a_rollback_whose_set_cannot_be_read_changes_nothing() {
    let mut bench = upgraded();
    go_back(&mut bench);
    nodes_ended(&mut bench);
    bench.on(Event::BroughtBack(Err(NotBroughtBack {
        why: "a byte is another".to_owned(),
        is_touched: false,
    })));
    bench.settle();
    assert_eq!((tag(&bench).as_str(), step(&bench)), ("2026.2.1", None));
    assert!(!bench.core.state().desired.nodes_rest);
    assert!(bench.core.stored().backups.upgrades.way_back().is_some());
}

#[test]
fn a_rollback_that_nothing_would_remember_is_refused() {
    let mut bench = upgraded();
    bench.disk = Err("full".to_owned());
    let id = bench.ask(Request::RollBack(None));
    assert!(!bench.is_taken(id), "{:?}", bench.answers);
    assert!(!bench.core.state().desired.nodes_rest);
}

#[test]
fn without_a_backup_the_next_version_is_applied_at_once_and_there_is_no_way_back() {
    let mut bench = serving();
    let request = UpRequest {
        no_backup: true,
        ..*to_next()
    };
    let id = bench.ask(Request::Up(Box::new(request)));
    bench.found(
        id,
        Facts {
            has_data: true,
            ..Facts::default()
        },
    );
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    assert_eq!((tag(&bench).as_str(), step(&bench)), ("2026.2.1", None));
    let id = bench.ask(Request::RollBack(None));
    assert!(!bench.is_taken(id), "{:?}", bench.answers);
}

#[test]
fn nothing_is_out_for_a_rollback_before_its_set_is_whole_and_its_image_there() {
    let mut bench = upgraded();
    let id = bench.ask(Request::RollBack(None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.look();
    assert_eq!(
        (reads(&bench), step(&bench)),
        (1, Some(VersionStep::Checking))
    );
    set_read(&mut bench, Ok(()));
    let before = waits(&bench).from;
    let pulls =
        |effect: &Effect| matches!(effect, Effect::Act(Action::Pull(image), _) if *image == before);
    assert!(bench.effects.iter().any(pulls), "{:?}", bench.effects);
    let id = bench.ask(Request::Up(up(&[("TASK_CAP", "7")])));
    assert!(!bench.is_taken(id), "{:?}", bench.answers);
    assert!(!rests(&bench));
    image_of_before(&mut bench);
    bench.look();
    assert!(rests(&bench));
    assert_eq!(step(&bench), Some(VersionStep::BringingBack));
}

/// What is told of one that was given up, and that all is as it was.
fn given_up(bench: &Bench, why: &str) {
    assert_eq!((rests(bench), step(bench)), (false, None));
    assert!(bench.core.stored().backups.upgrades.way_back().is_some());
    assert_eq!(tag(bench), "2026.2.1");
    let told = bench.core.status(Mono(bench.now)).notes;
    let is_it = |note: &Note| matches!(note, Note::VersionKept { why: told } if told.contains(why));
    assert!(told.iter().any(is_it), "{told:?}");
}

#[test]
fn a_rollback_whose_set_cannot_be_relied_on_is_given_up_before_anything_is_out() {
    let mut bench = upgraded();
    bench.ask(Request::RollBack(None));
    image_of_before(&mut bench);
    set_read(&mut bench, Err("a byte is another".to_owned()));
    given_up(&bench, "a byte is another");
    go_back(&mut bench);
    assert!(rests(&bench), "it is asked anew");
}

#[test]
fn a_rollback_whose_image_cannot_be_had_is_given_up_before_anything_is_out() {
    let mut bench = upgraded();
    bench.ask(Request::RollBack(None));
    bench.look();
    set_read(&mut bench, Ok(()));
    let pull = Action::Pull(waits(&bench).from);
    let trouble = Trouble::refused("no such host");
    bench.on(Event::Done(pull, Err(trouble)));
    bench.settle();
    given_up(&bench, "no such host");
}

/// A tag that moved stands for another image by now: that of before is known by its ID.
#[test]
fn a_rollback_to_a_tag_that_moved_needs_the_image_that_it_stood_for() {
    let mut bench = upgraded();
    bench.ask(Request::RollBack(None));
    let before = waits(&bench).before;
    let (image, id) = before
        .images
        .iter()
        .find(|(image, _)| image.contains("octopus"))
        .unwrap();
    bench
        .seen
        .images
        .insert(image.clone(), "another".to_owned());
    bench.look();
    set_read(&mut bench, Ok(()));
    bench.look();
    assert!(!rests(&bench));
    bench.seen.images.insert(id.clone(), id.clone());
    bench.look();
    assert!(rests(&bench));
}

#[test]
fn a_rollback_that_waits_is_gone_on_with_by_the_next_daemon_and_taken_back_by_a_down() {
    let mut bench = upgraded();
    bench.ask(Request::RollBack(None));
    let mut next = next_daemon(&bench, bench.core.stored().clone());
    assert_eq!(
        (reads(&next), step(&next)),
        (1, Some(VersionStep::Checking))
    );
    let back = next.core.stored().backups.upgrades.rolling_back.clone();
    assert!(!back.unwrap().may_be_touched, "nothing was begun");
    let id = next.ask(down(false));
    assert!(next.is_taken(id), "{:?}", next.answers);
    let upgrades = &next.core.stored().backups.upgrades;
    assert!(upgrades.rolling_back.is_none() && upgrades.last.is_some());
}

#[test]
fn a_rollback_that_is_done_may_be_asked_for_again_until_something_else_is_applied() {
    let mut bench = upgraded();
    go_back(&mut bench);
    nodes_ended(&mut bench);
    bench.on(Event::BroughtBack(Ok(Box::new(Restored {
        master_key: Some(Secret::new("CCCCCCCCCCCCCCCCCCCCCA==")),
        key_is_ours: true,
        ran: Ran {
            version: "2026.1.1".to_owned(),
            image: "octopusdeploy/octopusdeploy:2026.1.1".to_owned(),
            ..Ran::default()
        },
    }))));
    bench.settle();
    let id = bench.ask(Request::RollBack(None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.settle();
    assert_eq!((tag(&bench).as_str(), rests(&bench)), ("2026.1.1", false));
    let back = bench.core.stored().backups.upgrades.rolled_back.clone();
    assert_eq!(back.unwrap().undone, "2026.2.1");
    applies(&mut bench, up(&[("TASK_CAP", "7")]));
    let id = bench.ask(Request::RollBack(None));
    assert!(!bench.is_taken(id), "{:?}", bench.answers);
}

#[test]
fn a_rollback_by_itself_that_cannot_be_done_is_not_tried_again_and_again() {
    let mut bench = asked_for(up(&[
        ("OCTOPUS_SERVER_TAG", "2026.2.1"),
        ("UPGRADE_ROLLBACK", "auto"),
    ]));
    nodes_ended(&mut bench);
    bench.on(saved(&bench));
    bench.settle();
    bench.seen.containers.retain(|one| !one.unit.is_server());
    bench.finish_actions();
    bench.look();
    let trouble = Trouble::refused("the name is already in use by another container");
    let create = Action::Create(UnitId::Node(1));
    bench.on(Event::Done(create, Err(trouble)));
    bench.settle();
    assert_eq!(step(&bench), Some(VersionStep::Checking));
    set_read(&mut bench, Err("a byte is another".to_owned()));
    bench.look();
    assert_eq!(
        (step(&bench), reads(&bench)),
        (Some(VersionStep::Migrating), 1)
    );
}
