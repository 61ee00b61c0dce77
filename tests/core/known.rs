//! What the core does with what decisions know and ask for: it is kept, looked for again, read, and
//! told.

use std::time::Duration;

use octo_local::daemon::core::Duty;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Leave;
use octo_local::daemon::message::Request;
use octo_local::daemon::pressure::Pressure;
use octo_local::daemon::store::Stored;
use octo_local::daemon::store::Wish;
use octo_local::engine::watch::Hint;
use octo_local::reconcile::Action;
use octo_local::reconcile::Goal;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::TroubleKind;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::status::Note;
use octo_local::spec::UnitId;

use super::Bench;
use super::applied;
use super::applied_with;
use super::down;
use super::moment;
use crate::decide::scene::running_as;

const DB: UnitId = UnitId::Sql;
const NODE: UnitId = UnitId::Node(1);

/// A core whose stack runs, and was asked by nobody yet how it is.
fn running() -> Bench {
    running_with(&[])
}

pub(super) fn running_with(more: &[(&str, &str)]) -> Bench {
    let mut bench = applied_with(more);
    let spec = bench.core.stored().spec.clone().unwrap();
    bench.seen = running_as(&spec);
    bench.finish_actions();
    bench.on(Event::StreamOpened);
    bench.settle();
    bench
}

pub(super) fn ready() -> Bench {
    ready_with(&[])
}

/// The same, and everything serves.
pub(super) fn ready_with(more: &[(&str, &str)]) -> Bench {
    let mut bench = running_with(more);
    answer(&mut bench, |_, _| Some(Probe::Ready));
    bench
}

/// Answers the probes that wait, and gives how many there were.
pub(super) fn answer(bench: &mut Bench, says: impl Fn(UnitId, Duration) -> Option<Probe>) -> usize {
    let mut asked = 0;
    for effect in std::mem::take(&mut bench.effects) {
        let Effect::Probe {
            number,
            unit,
            instance,
            limit,
            ..
        } = &effect
        else {
            bench.effects.push(effect);
            continue;
        };
        let Some(probe) = says(*unit, *limit) else {
            bench.effects.push(effect);
            continue;
        };
        asked += 1;
        bench.on(Event::Probed {
            number: *number,
            unit: *unit,
            instance: instance.clone(),
            probe,
        });
    }
    asked
}

pub(super) fn wait(bench: &mut Bench, milliseconds: u64) {
    bench.now += Duration::from_millis(milliseconds);
    bench.settle();
}

pub(super) fn stops(effects: &[Effect]) -> Vec<UnitId> {
    let stop = |effect: &Effect| match effect {
        Effect::Act(Action::Stop { unit, .. }, _) => Some(*unit),
        _ => None,
    };
    effects.iter().filter_map(stop).collect()
}

/// SQL Server refuses logins for minutes while it upgrades its own databases (error 18401), each of
/// them with two lines in its log.
#[test]
fn a_server_of_ours_that_takes_no_logins_yet_is_asked_with_growing_waits() {
    let mut bench = running();
    let upgrading = |unit, _| {
        let alive = Probe::Alive("SQL Server upgrades its own databases (18401)".to_owned());
        (unit == DB).then_some(alive)
    };
    let mut logins = 0;
    let until = bench.now + Duration::from_secs(120);
    while bench.now < until {
        logins += answer(&mut bench, upgrading);
        wait(&mut bench, 50);
    }
    assert!(
        (20..=35).contains(&logins),
        "{logins} logins in two minutes"
    );
}

#[test]
fn a_run_is_ended_only_once_the_disk_has_that_it_is_we_who_end_it() {
    for disk in [Ok(()), Err("no space left on device".to_owned())] {
        let mut bench = ready();
        let effects = bench.core.on(Event::Terminated, moment(bench.now));
        assert_eq!(stops(&effects), []);
        let save = effects.iter().find_map(|effect| match effect {
            Effect::Save { number, stored } => Some((*number, stored.clone())),
            _ => None,
        });
        let (number, stored) = save.expect("it is written first");
        let node = bench.seen.container(NODE).and_then(Container::instance);
        assert_eq!(stored.durable.ended_by_us.get(&NODE), node.as_ref());
        let saved = Event::Saved {
            number,
            result: disk,
        };
        let effects = bench.core.on(saved, moment(bench.now));
        assert_eq!(stops(&effects), [NODE], "a full disk keeps nobody waiting");
        let next = Bench::new(*stored, Duty::Supervise);
        let known = &next.core.state().records.durable;
        assert_eq!(known.ended_by_us.get(&NODE), node.as_ref());
    }
}

#[test]
fn who_is_in_a_hurry_waits_for_no_disk() {
    let mut bench = ready();
    let effects = bench.core.on(Event::Terminated, moment(bench.now));
    assert_eq!(stops(&effects), []);
    let effects = bench.core.on(Event::Terminated, moment(bench.now));
    assert_eq!(stops(&effects), [NODE]);
}

#[test]
fn an_end_that_was_asked_for_waits_for_sql_server_too() {
    let mut bench = ready();
    bench.on(Event::Terminated);
    assert_eq!(stops(&bench.effects), [NODE]);
    bench.end_nodes();
    assert_eq!(stops(&bench.effects), [DB], "it ends after its node");
    assert_eq!(bench.left, None, "SQL Server runs still");
    for container in &mut bench.seen.containers {
        container.end(0, false);
    }
    bench.finish_actions();
    bench.look();
    assert_eq!(bench.left, Some(Leave::End));
}

#[test]
fn nothing_is_wished_up_that_the_file_would_have_taken_away() {
    let mut bench = ready();
    let gone = bench.ask(down(true));
    assert!(bench.is_taken(gone), "and the disk has it");
    bench.disk = Err("no space left on device".to_owned());
    let start = || Request::Units(About::Start, Vec::new(), None);
    let id = bench.ask(start());
    assert!(!bench.is_taken(id), "{:?}", bench.answers);
    assert_eq!(bench.core.stored().wish, Wish::Down { volumes: true });
    bench.disk = Ok(());
    let id = bench.ask(start());
    assert!(bench.is_taken(id), "{:?}", bench.answers);
}

#[test]
fn a_node_that_served_and_misses_is_asked_again_after_half_a_second() {
    let mut bench = ready();
    wait(&mut bench, 10_000);
    let missed = || Probe::Failure(Miss::Gone, "connection refused".to_owned());
    let asked = |bench: &mut Bench| answer(bench, |unit, _| (unit == NODE).then(missed));
    assert_eq!(asked(&mut bench), 1);
    wait(&mut bench, 499);
    assert_eq!(asked(&mut bench), 0);
    wait(&mut bench, 1);
    assert_eq!(asked(&mut bench), 1, "three in a row are to come soon");
}

#[test]
fn what_the_log_of_a_starting_server_says_is_passed_on() {
    let mut bench = running();
    let refused = || Probe::Refused("error 18456".to_owned());
    answer(&mut bench, |unit, _| (unit == DB).then(refused));
    let read = bench.effects.iter().find_map(|effect| match effect {
        Effect::ReadLog(unit, instance) if *unit == DB => Some(instance.clone()),
        _ => None,
    });
    let instance = read.expect("its log is read while it starts");
    let is_asked = |bench: &mut Bench| answer(bench, |unit, _| (unit == DB).then(refused)) > 0;
    let log = |line: &str| Event::LogRead {
        unit: DB,
        instance: instance.clone(),
        lines: vec![line.to_owned()],
    };
    bench.on(log("Starting up database 'master'."));
    bench.settle();
    assert!(!is_asked(&mut bench), "each refusal is a line in its log");
    bench.on(log("Recovery is complete."));
    bench.settle();
    assert!(is_asked(&mut bench), "it is open");
}

#[test]
fn what_the_engine_tells_before_it_shows_it_is_looked_for_again_afresh() {
    let mut bench = ready();
    wait(&mut bench, 4_000);
    answer(&mut bench, |_, _| Some(Probe::Ready));
    bench.looks.clear();
    bench.on(Event::Hinted(Hint::Infrastructure));
    for _ in 0..30 {
        wait(&mut bench, 100);
    }
    let afresh: Vec<bool> = bench.looks.iter().map(|look| look.everything).collect();
    assert_eq!(afresh, [false, true, true], "and not without end");
}

/// A node says nothing for a minute. Gives whether it is ended for that.
fn is_ended_for_silence(pressure: Option<Pressure>, is_throttled: bool) -> bool {
    let mut bench = ready();
    while bench.now < Duration::from_secs(60) {
        wait(&mut bench, 100);
        answer(&mut bench, |unit, _| (unit == DB).then_some(Probe::Ready));
        let silent = |limit| Probe::Failure(Miss::Silent(limit), "nothing".to_owned());
        let asks = |effect: &Effect| match effect {
            Effect::Probe { unit, limit, .. } => (*unit == NODE).then_some(*limit),
            _ => None,
        };
        if let Some(limit) = bench.effects.iter().find_map(asks) {
            bench.now += limit;
            bench.settle();
            answer(&mut bench, |unit, limit| {
                Some(if unit == DB {
                    Probe::Ready
                } else {
                    silent(limit)
                })
            });
        }
        let reads = |effect: &Effect| matches!(effect, Effect::ReadPressure);
        if bench.effects.iter().any(reads) {
            bench.effects.retain(|effect| !reads(effect));
            bench.on(Event::PressureRead(pressure));
        }
        let throttled = |effect: &Effect| match effect {
            Effect::ReadThrottling(unit, instance) => Some((*unit, instance.clone())),
            _ => None,
        };
        if let Some((unit, instance)) = bench.effects.iter().find_map(throttled) {
            assert_eq!(unit, NODE, "nobody else was silent");
            bench.effects.retain(|effect| throttled(effect).is_none());
            bench.on(Event::ThrottlingRead(unit, instance, is_throttled));
        }
    }
    stops(&bench.effects).contains(&NODE)
}

#[test]
fn silence_on_a_host_that_is_short_of_processors_ends_nobody() {
    assert!(is_ended_for_silence(None, false));
    assert!(is_ended_for_silence(Some(Pressure::default()), false));
    let short = Pressure {
        processors: 98.0,
        ..Pressure::default()
    };
    assert!(!is_ended_for_silence(Some(short), false));
}

/// Nothing is read of who answers, and what is said of an earlier run counts for none.
#[test]
fn silence_of_a_node_that_used_up_its_processors_does_not_end_it_at_once() {
    assert!(!is_ended_for_silence(Some(Pressure::default()), true));
    let mut bench = ready();
    wait(&mut bench, 10_000);
    let reads = |effect: &Effect| matches!(effect, Effect::ReadThrottling(..));
    assert!(!bench.effects.iter().any(reads));
    let instance = bench.seen.containers.iter().find(|one| one.unit == NODE);
    let mut other = instance.unwrap().instance().unwrap();
    other.id.push('x');
    bench.on(Event::ThrottlingRead(NODE, other, true));
    bench.settle();
    assert_eq!(bench.goal(), Goal::Up);
}

#[test]
fn a_hold_ends_by_itself_once_everything_serves() {
    let mut bench = running();
    bench.ask(Request::Cancel(1));
    assert_eq!(bench.goal(), Goal::Hold);
    assert!(!bench.core.state().desired.hands_off);
    answer(&mut bench, |unit, _| (unit == DB).then_some(Probe::Ready));
    bench.settle();
    assert_eq!(bench.goal(), Goal::Hold, "the node is not ready");
    answer(&mut bench, |_, _| Some(Probe::Ready));
    bench.settle();
    assert_eq!(bench.goal(), Goal::Up);
    assert!(!bench.core.stored().held);
}

#[test]
fn what_nobody_wished_to_run_is_not_kept_running() {
    let kept = Stored {
        wish: Wish::Rest,
        ..ready().core.stored().clone()
    };
    let spec = kept.spec.clone().unwrap();
    let mut bench = Bench::new(kept, Duty::Supervise);
    bench.seen = running_as(&spec);
    bench.settle();
    answer(&mut bench, |_, _| Some(Probe::Ready));
    let node = bench.seen.containers.iter_mut();
    node.filter(|one| one.unit == NODE)
        .for_each(|one| one.end(137, false));
    bench.on(Event::StreamOpened);
    wait(&mut bench, 1_000);
    answer(&mut bench, |_, _| Some(Probe::Ready));
    let starts = |effect: &Effect| matches!(effect, Effect::Act(Action::Start(..), _));
    assert!(!bench.effects.iter().any(starts), "{:?}", bench.effects);
}

#[test]
fn since_when_something_is_wanted_is_known_where_this_daemon_was_told() {
    let since = |bench: &Bench| bench.core.status(moment(bench.now).mono).goal_for_seconds;
    let mut bench = applied();
    assert_eq!(since(&bench), Some(0));
    wait(&mut bench, 7_000);
    assert_eq!(since(&bench), Some(7));
    bench.ask(Request::Cancel(1));
    assert_eq!((bench.goal(), since(&bench)), (Goal::Hold, Some(0)));
    bench.now += Duration::from_secs(3);
    assert_eq!(since(&bench), Some(3));
    let next = Bench::awake(bench.core.stored().clone());
    assert_eq!((next.goal(), since(&next)), (Goal::Hold, None));
}

#[test]
fn what_a_down_leaves_to_others_is_told() {
    let mut bench = ready();
    bench.seen.containers.clear();
    let id = bench.ask(down(false));
    assert!(bench.is_taken(id));
    for _ in 0..100 {
        wait(&mut bench, 1_000);
        for effect in std::mem::take(&mut bench.effects) {
            if let Effect::Act(action, _) = effect {
                let in_use = Trouble {
                    kind: TroubleKind::InUse,
                    ..Trouble::refused("in use by somebody-1")
                };
                bench.on(Event::Done(action, Err(in_use)));
            }
        }
    }
    let status = bench.core.status(moment(bench.now).mono);
    assert_eq!(bench.core.stored().wish, Wish::Rest, "it is down");
    let told = |note: &Note| note.to_string().contains("in use by somebody-1");
    assert!(status.notes.iter().any(told), "{:?}", status.notes);
}
