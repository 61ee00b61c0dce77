//! Something happens at the k-th call of the daemon to the engine, for every k of a cold `up`, of
//! two changes and of a `down`: it is killed, or the call fails in one way or another. Whoever
//! comes next brings it to its end, and nothing that served is restarted.
//!
//! `OCTO_CRASH_PAIRS` sets how many pairs of deaths are tried (24; `all` for every pair, which
//! takes hours), and `OCTO_CRASH_SEED` draws others.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::journey_runner::Journey;
use super::journey_runner::in_parallel;
use crate::fake::call::Verb;
use crate::fake::script::Act;
use crate::fake::script::Fault;
use crate::fake::script::Turn;
use crate::kit::chance::Chance;

/// No journey has as many calls; a sweep that gets here does not end.
const LIMIT: usize = 400;
/// The calls of a `down` before which it does not matter whether the data goes too.
const BEFORE_THE_DATA: usize = 36;
/// How far into a journey the deaths of a pair are drawn: no journey is longer by much.
const REACH: usize = 75;

#[test]
fn f02_f03_a_cold_up_survives_a_kill_at_every_call() {
    kill_at_each(Journey::Cold, 1);
}

#[test]
fn f04_a_change_survives_a_kill_at_every_call() {
    kill_at_each(Journey::Change, 1);
}

#[test]
fn f04_a_new_version_survives_a_kill_at_every_call() {
    kill_before_each(Journey::Version, 1);
}

#[test]
fn f04_a_down_survives_a_kill_at_every_call() {
    kill_at_each(Journey::Down, 1);
}

#[test]
fn f04_a_down_with_the_data_survives_a_kill_at_every_call() {
    kill_before_each(Journey::DownWithData, BEFORE_THE_DATA);
}

#[test]
fn f04_pairs_of_kills_are_survived() {
    let pairs = pairs();
    let next = AtomicUsize::new(0);
    let failures = in_parallel(|journey_runner| {
        while let Some((journey, first, second)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let death = |(at, act): &Death| Turn::new(*at, act.clone());
            journey_runner.travel(*journey, &[death(first), death(second)]);
        }
    });
    told(&failures);
}

#[test]
fn f24_an_engine_that_goes_away_at_any_call_and_comes_again_loses_nothing() {
    let leaves = Fault::Leaves(Duration::from_millis(100));
    sweep(1, |journey_runner, at| {
        journey_runner.travel(Journey::Cold, &[Turn::new(at, Act::Fails(leaves.clone()))])
    });
}

#[test]
fn f32_calls_that_take_effect_and_get_no_answer_are_not_made_twice() {
    fail_at_each_change(&Fault::BreaksAfter);
}

#[test]
fn f32_calls_that_take_effect_and_are_refused_are_not_made_twice() {
    fail_at_each_change(&Fault::RefusedAfter(
        500,
        "the fake engine did it and says that it did not",
    ));
}

#[test]
fn f32_calls_without_effect_are_made_again() {
    fail_at_each_change(&Fault::Breaks);
    fail_at_each_change(&Fault::Refused(500, "the fake engine would rather not"));
}

#[test]
fn f32_calls_that_are_refused_and_take_effect_later_do_no_harm() {
    let later = Duration::from_millis(30);
    fail_at_each_change(&Fault::RefusedBefore(
        500,
        "the fake engine does it later",
        later,
    ));
}

/// The daemon is killed at each call before its effect and, where it has one, after.
fn kill_at_each(journey: Journey, first: usize) {
    sweep(first, |journey_runner, at| {
        let verb = journey_runner.travel(journey, &[Turn::new(at, Act::Dies)])?;
        if verb.changes() {
            journey_runner.travel(journey, &[Turn::new(at, Act::DiesAfter)]);
        }
        Some(verb)
    });
}

/// The daemon is killed at each call before its effect: for journeys that differ from another one in
/// few calls. A death after a call leaves the engine as one before the next call does.
fn kill_before_each(journey: Journey, first: usize) {
    sweep(first, |journey_runner, at| {
        journey_runner.travel(journey, &[Turn::new(at, Act::Dies)])
    });
}

/// A fault at each call that changes something.
fn fail_at_each_change(fault: &Fault) {
    for journey in [Journey::Cold, Journey::Change, Journey::Down] {
        sweep(1, |journey_runner, at| {
            journey_runner.travel(
                journey,
                &[Turn::new(at, Act::Fails(fault.clone())).of_changes()],
            )
        });
    }
}

/// Every k, until a journey ends before its k-th call.
fn sweep(
    first: usize,
    travel: impl Fn(&mut super::journey_runner::JourneyRunner, usize) -> Option<Verb> + Sync,
) {
    let (next, over) = (AtomicUsize::new(first), AtomicUsize::new(usize::MAX));
    let failures = in_parallel(|journey_runner| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at > over.load(Ordering::Relaxed) {
                return;
            }
            assert!(at < LIMIT, "the sweep does not end");
            if travel(journey_runner, at).is_none() {
                over.fetch_min(at, Ordering::Relaxed);
            }
        }
    });
    told(&failures);
}

#[track_caller]
fn told(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} journeys failed\n{}",
        failures.len(),
        failures.join("\n")
    );
}

type Death = (usize, Act);

/// Pairs of deaths, the second counted from the first.
fn pairs() -> Vec<(Journey, Death, Death)> {
    let var = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let journeys = [
        Journey::Cold,
        Journey::Change,
        Journey::Version,
        Journey::Down,
        Journey::DownWithData,
    ];
    if var("OCTO_CRASH_PAIRS").is_some_and(|text| text == "all") {
        let calls = || (1..=REACH).flat_map(|at| [(at, Act::Dies), (at, Act::DiesAfter)]);
        let both = move |first: Death| calls().map(move |second| (first.clone(), second));
        let of = |journey| {
            calls()
                .flat_map(both)
                .map(move |(first, second)| (journey, first, second))
        };
        return journeys.into_iter().flat_map(of).collect();
    }
    let count = var("OCTO_CRASH_PAIRS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(24);
    let mut dice = Chance::new(
        var("OCTO_CRASH_SEED")
            .and_then(|text| text.parse().ok())
            .unwrap_or(1),
    );
    let death = |dice: &mut Chance| {
        let act = if dice.below(2) == 0 {
            Act::Dies
        } else {
            Act::DiesAfter
        };
        let at = usize::try_from(dice.between(1, REACH as u64)).unwrap();
        (at, act)
    };
    (0..count)
        .map(|_| {
            (
                *dice.pick(&journeys).unwrap(),
                death(&mut dice),
                death(&mut dice),
            )
        })
        .collect()
}
