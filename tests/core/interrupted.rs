//! What comes between: data that is gone, a host that slept, a daemon that died.

use std::time::Duration;

use octo_local::daemon::admit::Facts;
use octo_local::daemon::core::Duty;
use octo_local::daemon::core::judged;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::LeaseStep;
use octo_local::daemon::message::Leave;
use octo_local::daemon::message::Moment;
use octo_local::daemon::message::NoLease;
use octo_local::daemon::message::Request;
use octo_local::daemon::store::Loaded;
use octo_local::daemon::store::Stored;
use octo_local::daemon::store::Wish;
use octo_local::reconcile::Action;
use octo_local::reconcile::Goal;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::status::Note;
use octo_local::spec::UnitId;

use super::Bench;
use super::applied;
use super::applied_with;
use super::down;
use super::known::answer;
use super::known::ready;
use super::known::ready_with;
use super::known::stops;
use super::known::wait;
use super::moment;
use super::up;
use crate::decide::scene::running_as;

const DB: UnitId = UnitId::Sql;
const NODE: UnitId = UnitId::Node(1);
const TWO: UnitId = UnitId::Node(2);

#[test]
fn nothing_is_made_in_the_place_of_data_that_is_gone_before_it_is_back() {
    let mut bench = ready();
    bench.effects.clear();
    let there = bench.seen.clone();
    bench.seen.containers.clear();
    bench.seen.volumes.clear();
    for _ in 0..20 {
        wait(&mut bench, 1_000);
    }
    assert_eq!(bench.goal(), Goal::Hold);
    assert!(bench.acts().is_empty(), "{:?}", bench.acts());
    let status = bench.core.status(moment(bench.now).mono);
    let is_told = |note: &Note| matches!(note, Note::DataGone { .. });
    assert!(status.notes.iter().any(is_told), "{:?}", status.notes);
    bench.seen = there;
    wait(&mut bench, 6_000);
    assert_eq!(bench.goal(), Goal::Up);
    let status = bench.core.status(moment(bench.now).mono);
    assert!(!status.notes.iter().any(is_told), "{:?}", status.notes);
}

/// Takes in that the host slept for an hour, in which the clock of this process stood still.
fn sleep(bench: &mut Bench) -> Vec<Effect> {
    bench.now += Duration::from_secs(1);
    let woken = Moment {
        suspended: Duration::from_secs(3_600),
        ..moment(bench.now)
    };
    bench.core.decide(woken)
}

#[test]
fn a_host_that_slept_asks_for_the_lease_before_it_acts() {
    let mut bench = ready();
    bench.effects.clear();
    bench.lease = Err(NoLease::Held("process 7 of user 0 on another".to_owned()));
    let effects = sleep(&mut bench);
    let asks = |effect: &Effect| matches!(effect, Effect::Lease(LeaseStep::Renew));
    assert!(effects.iter().any(asks), "{effects:?}");
    bench.take(effects);
    assert_eq!(bench.goal(), Goal::Hold);
    assert!(bench.acts().is_empty(), "{:?}", bench.acts());
}

/// Answers the node's next probe with silence.
fn is_silent(bench: &mut Bench) {
    let mut told = 0;
    while told == 0 {
        wait(bench, 100);
        answer(bench, |unit, _| (unit == DB).then_some(Probe::Ready));
        told += answer(bench, |unit, limit| {
            (unit == NODE).then(|| Probe::Failure(Miss::Silent(limit), "nothing".to_owned()))
        });
    }
}

#[test]
fn what_was_silent_before_the_host_slept_is_asked_anew_before_it_is_ended() {
    let mut ends = Vec::new();
    for sleeps in [false, true] {
        let mut bench = ready();
        let mut asked = 0;
        while stops(&bench.effects).is_empty() && asked < 1_000 {
            is_silent(&mut bench);
            asked += 1;
        }
        if sleeps {
            // As long as before, and the host slept just before the last answer.
            bench = ready();
            (1..asked).for_each(|_| is_silent(&mut bench));
            assert_eq!(stops(&bench.effects), []);
            let effects = sleep(&mut bench);
            bench.take(effects);
            is_silent(&mut bench);
        }
        ends.push(stops(&bench.effects));
    }
    assert_eq!(ends, [vec![NODE], Vec::new()]);
}

/// Drains that the planner asked for.
fn drains(bench: &Bench) -> Vec<UnitId> {
    let drain = |effect: &Effect| match effect {
        Effect::Act(Action::Drain { unit, .. }, _) => Some(*unit),
        _ => None,
    };
    bench.effects.iter().filter_map(drain).collect()
}

#[test]
fn a_node_that_finishes_its_tasks_has_the_rest_of_its_time_with_the_next_daemon() {
    let mut bench = ready_with(&[("OCTOPUS_NODES", "2"), ("DRAIN_TIMEOUT", "300")]);
    bench.effects.clear();
    let id = bench.ask(Request::Units(About::Restart, vec![TWO], None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    wait(&mut bench, 100);
    assert_eq!(drains(&bench), [TWO], "{:?}", bench.effects);
    wait(&mut bench, 100);
    let kept = bench.core.stored().clone();
    let drain = kept.drains.draining.get(&TWO).expect("it is kept").clone();
    let until = bench.core.state().drains().find(|(unit, _)| *unit == TWO);
    let until = until.expect("it drains").1.until;
    let later = bench.now + Duration::from_secs(10);
    let mut next = Bench::beginning_at(later, kept, Duty::Supervise);
    next.seen = running_as(&next.core.stored().spec.clone().unwrap());
    next.on(Event::StreamOpened);
    let goes_on = next.core.state().drains().find(|(unit, _)| *unit == TWO);
    assert_eq!(
        goes_on.map(|(_, drain)| drain.until),
        Some(until),
        "{drain:?}"
    );
    assert!(next.core.state().desired.restart.contains_key(&TWO));
}

#[test]
fn an_answer_that_came_late_because_this_process_did_not_run_says_nothing_of_the_unit() {
    let limit = Duration::from_secs(1);
    let silence = Probe::Failure(Miss::Silent(limit), "nothing".to_owned());
    let unknown = Probe::Unknown("nothing".to_owned());
    for (unit, took, counts_as) in [
        (NODE, 1_400, &silence),
        (NODE, 1_600, &unknown),
        (DB, 4_400, &silence),
        (DB, 4_600, &unknown),
    ] {
        let took = Duration::from_millis(took);
        assert_eq!(
            judged(silence.clone(), took, unit, limit),
            *counts_as,
            "{unit} {took:?}"
        );
        assert_eq!(judged(Probe::Ready, took, unit, limit), Probe::Ready);
    }
    // And the core goes by that: nobody is ended for minutes of it.
    let mut bench = ready();
    for _ in 0..200 {
        let asks = |effect: &Effect| matches!(effect, Effect::Probe { unit, .. } if *unit == NODE);
        while !bench.effects.iter().any(asks) {
            wait(&mut bench, 100);
            answer(&mut bench, |unit, _| (unit == DB).then_some(Probe::Ready));
        }
        bench.now += Duration::from_secs(8);
        answer(&mut bench, |unit, limit| {
            Some(match unit {
                DB | UnitId::Tentacle(_) => Probe::Ready,
                UnitId::Node(_) => Probe::Failure(Miss::Silent(limit), "nothing".to_owned()),
            })
        });
    }
    assert_eq!(stops(&bench.effects), []);
}

#[test]
fn a_configuration_is_judged_by_an_engine_that_was_looked_at() {
    let mut bench = Bench::new(Stored::default(), Duty::AwaitRequest);
    let request = Event::Requested(super::RequestId(1), Request::Up(up(&[])));
    let effects = bench.core.on(request, moment(bench.now));
    let gathers = |effect: &Effect| matches!(effect, Effect::Gather(..));
    let looks = |effect: &Effect| matches!(effect, Effect::Look { .. });
    assert!(
        !effects.iter().any(gathers) && effects.iter().any(looks),
        "{effects:?}"
    );
    bench.take(effects);
    assert!(bench.effects.iter().any(gathers), "{:?}", bench.effects);
}

/// Tells the core that the disk has what it was given.
fn saved(bench: &mut Bench) {
    let number = |effect: &Effect| match effect {
        Effect::Save { number, .. } => Some(*number),
        _ => None,
    };
    let given = bench.effects.iter().filter_map(number).next_back();
    let number = given.expect("the disk was given something");
    bench.on(Event::Saved {
        number,
        result: Ok(()),
    });
}

/// Else the next daemon would find a `down` that is done, and go on with it.
#[test]
fn a_daemon_ends_once_the_disk_has_that_the_stack_is_down() {
    let mut bench = Bench::new(applied().core.stored().clone(), Duty::AwaitRequest);
    bench.settle();
    bench.disk_takes_its_time = true;
    let id = bench.ask(down(false));
    assert!(!bench.is_taken(id));
    saved(&mut bench);
    assert!(bench.is_taken(id));
    wait(&mut bench, 1_000);
    assert_eq!(bench.core.stored().wish, Wish::Rest, "it is down");
    assert_eq!(bench.left, None);
    saved(&mut bench);
    wait(&mut bench, 100);
    assert_eq!(bench.left, Some(Leave::End));
}

#[test]
fn what_was_ended_for_a_down_is_forgotten_with_it() {
    let mut bench = ready();
    bench.ask(down(false));
    wait(&mut bench, 1_000);
    assert_eq!(stops(&bench.effects), [NODE]);
    assert!(bench.core.stored().durable.ended_by_us.contains_key(&NODE));
    bench.seen.containers.clear();
    bench.seen.networks.clear();
    bench.finish_actions();
    wait(&mut bench, 6_000);
    assert_eq!(bench.core.stored().wish, Wish::Rest, "it is down");
    let known = &bench.core.stored().durable.ended_by_us;
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn another_run_is_asked_for_itself_and_nobody_waits_for_the_answer_of_the_last_one() {
    let mut bench = ready();
    let asked = |effect: &Effect| match effect {
        Effect::Probe { number, unit, .. } => (*unit == NODE).then_some(*number),
        _ => None,
    };
    wait(&mut bench, 6_000);
    let before = bench.effects.iter().find_map(asked).expect("it is asked");
    bench.effects.clear();
    let node = bench.seen.containers.iter_mut();
    for node in node.filter(|one| one.unit == NODE) {
        node.run = Run::Running {
            started_at: "2".to_owned(),
        };
    }
    bench.on(Event::StreamOpened);
    let next = bench.effects.iter().find_map(asked);
    assert!(
        next.is_some_and(|next| next != before),
        "{:?}",
        bench.effects
    );
    assert!(!bench.core.awaits_probe(NODE, before));
}

/// Else an image that never ran would count as what ran on the database.
#[test]
fn what_serves_by_an_earlier_definition_says_nothing_of_the_next_one() {
    let mut bench = ready_with(&[("OCTOPUS_NODES", "2")]);
    bench.effects.clear();
    let more = [("OCTOPUS_NODES", "2"), ("TASK_CAP", "7")];
    let id = bench.ask(Request::Up(up(&more)));
    let facts = Facts {
        has_data: true,
        ..Facts::default()
    };
    bench.found(id, facts);
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.seen.containers.retain(|one| one.unit != NODE);
    bench.on(Event::StreamOpened);
    wait(&mut bench, 1_000);
    let asks = |effect: &Effect| matches!(effect, Effect::AskVersion(..));
    assert!(!bench.effects.iter().any(asks), "{:?}", bench.effects);
}

/// Neither one that is asked for then, nor one whose facts were still gathered.
#[test]
fn nothing_is_applied_by_a_daemon_that_ends() {
    let mut bench = ready();
    let before = bench.ask(Request::Up(up(&[("TASK_CAP", "7")])));
    bench.on(Event::Terminated);
    let facts = Facts {
        has_data: true,
        ..Facts::default()
    };
    bench.found(before, facts);
    let after = bench.ask(Request::Up(up(&[("TASK_CAP", "8")])));
    for id in [before, after] {
        let answer = format!("{:?}", bench.answers.get(&id));
        assert!(answer.contains("the daemon is ending"), "{answer}");
    }
    let kept = bench.core.stored();
    assert_eq!(
        kept.wish,
        Wish::Up,
        "the next daemon goes on with what was applied"
    );
}

#[test]
fn an_end_has_the_time_that_everything_in_it_may_take_and_no_more() {
    let mut bench = applied_with(&[("NODE_STOP_GRACE", "20s"), ("SQL_STOP_LIMIT", "30s")]);
    assert_eq!(bench.core.ends_by(), None);
    bench.on(Event::Terminated);
    let begun = moment(bench.now).mono;
    let allowed = Duration::from_secs(20 + 30 + 30);
    assert_eq!(bench.core.ends_by(), Some(begun.after(allowed)));
    bench.now += Duration::from_secs(50);
    bench.on(Event::Terminated);
    assert_eq!(
        bench.core.ends_by(),
        Some(begun.after(allowed)),
        "the first word counts"
    );
}

#[test]
fn a_daemon_that_ends_gives_the_lease_back() {
    let mut bench = applied();
    assert_eq!(bench.leases, [LeaseStep::Take]);
    bench.on(Event::Terminated);
    bench.finish_actions();
    bench.settle();
    assert_eq!(bench.left, Some(Leave::End));
    assert_eq!(bench.leases.last(), Some(&LeaseStep::Release));
}

#[test]
fn a_copy_of_what_was_kept_counts_only_if_it_is_what_runs() {
    let kept = ready_with(&[("TASK_CAP", "1")]).core.stored().clone();
    for (cap, fits) in [("1", true), ("2", false)] {
        let made = applied_with(&[("TASK_CAP", cap)]);
        let copy = Some(Box::new(kept.clone()));
        let loaded = Loaded::Quarantined("aside".to_owned(), copy);
        let mut bench = Bench::loaded(Duration::ZERO, loaded, Duty::Supervise);
        bench.seen = running_as(&made.core.stored().spec.clone().unwrap());
        bench.settle();
        wait(&mut bench, 1_000);
        let status = bench.core.status(moment(bench.now).mono);
        let is_told = |note: &Note| matches!(note, Note::MadeOtherwise);
        assert_eq!(
            status.notes.iter().any(is_told),
            !fits,
            "{:?}",
            status.notes
        );
        assert_eq!(bench.goal(), if fits { Goal::Up } else { Goal::Hold });
        assert!(bench.acts().is_empty(), "{:?}", bench.acts());
        assert_eq!(bench.writes > 0, fits);
    }
}

/// The lines of a log that count are those of the run that ended.
#[test]
fn the_log_of_a_run_is_read_from_when_it_was_asked_to_start() {
    let mut bench = ready();
    let ends = |bench: &mut Bench| {
        let nodes = bench.seen.containers.iter_mut();
        nodes
            .filter(|one| one.unit == NODE)
            .for_each(|one| one.end(1, false));
        bench.on(Event::StreamOpened);
        bench.settle();
    };
    let starts = |effect: &Effect| matches!(effect, Effect::Act(Action::Start(NODE, _), _));
    let examined = |effect: &Effect| match effect {
        Effect::Act(Action::Examine(NODE, _), input) => Some(input.asked),
        _ => None,
    };
    ends(&mut bench);
    while !bench.effects.iter().any(starts) {
        bench.finish_actions();
        wait(&mut bench, 1_000);
    }
    let asked = moment(bench.now).wall;
    bench.finish_actions();
    bench.now += Duration::from_secs(1);
    let began = moment(bench.now).wall;
    let nodes = bench.seen.containers.iter_mut();
    for node in nodes.filter(|one| one.unit == NODE) {
        node.run = Run::Running {
            started_at: began
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap(),
        };
    }
    bench.on(Event::StreamOpened);
    wait(&mut bench, 1_000);
    bench.effects.clear();
    ends(&mut bench);
    let span = bench
        .effects
        .iter()
        .find_map(examined)
        .expect("its log is read");
    assert_eq!((span.since, span.until), (Some(asked), None));
}

#[test]
fn a_daemon_that_is_to_end_waits_a_while_only_for_an_engine_that_does_not_answer() {
    let mut bench = ready();
    bench.engine = Err("it says nothing".to_owned());
    bench.on(Event::StreamOpened);
    bench.on(Event::Terminated);
    for _ in 0..9 {
        wait(&mut bench, 1_000);
    }
    assert_eq!(bench.left, None, "a call may break");
    wait(&mut bench, 1_000);
    assert_eq!(bench.left, Some(Leave::End));
}
