//! The seeded simulation of what decides: the daemon's own core, the planner under it and what looks
//! remember, against a model of Docker, SQL Server, Octopus nodes, people, the operator, the engine's
//! failures, and the daemon's own death, on a virtual clock.
//!
//! A seed gives one run, the same every time. Its mix says what goes wrong. The invariants of the
//! project are assertions (`invariants.rs`, where something begins; `rest.rs`, once all is quiet),
//! made from the model's truth and from what was delivered to the daemon. When the planner or the
//! core is changed, it should be mutated too: a mutant that survives names an invariant that is
//! missing here, or a test in `core.rs`.
//!
//! ```text
//! SIMULATE_SEEDS=100000 cargo test --test main simulate     more seeds
//! SIMULATE_SEED=42 cargo test --test main simulate          one seed, with its whole trace
//! ```

mod adoption;
mod backups;
mod calls;
mod daemon;
mod front_door;
mod invariants;
mod lease;
mod mix;
mod observation;
mod operator;
mod passwords;
mod process;
mod rest;
mod sim;
mod tasks;
mod tentacles;
mod trouble;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use sim::Outcome;
use sim::Sim;

/// How many seeds a plain test run tries.
const SEEDS: u64 = 2_400;
/// How often the daemon is killed while all is well.
const KILLS: u64 = 10_000;
/// How much of a failed run's trace is shown.
const TAIL: usize = 120;

#[expect(
    clippy::disallowed_methods,
    reason = "a person asks for other seeds through the environment"
)]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_the_invariants() {
    if let Some(seed) = asked("SIMULATE_SEED") {
        let outcome = Sim::run(seed, true);
        println!("{}", outcome.trace.join("\n"));
        return assert!(
            outcome.violation.is_none(),
            "seed {seed}: {:?}",
            outcome.violation
        );
    }
    let (first, seeds) = (
        asked("SIMULATE_FIRST").unwrap_or(0),
        asked("SIMULATE_SEEDS").unwrap_or(SEEDS),
    );
    let outcomes = in_parallel(first, seeds, |seed| Sim::run(seed, false));
    if let Some((seed, _)) = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.violation.is_some())
        .min_by_key(|(seed, _)| *seed)
    {
        tell(*seed);
    }
    let mut by_mix: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for (_, outcome) in &outcomes {
        let sums = by_mix.entry(outcome.mix).or_default();
        *sums = (
            sums.0 + 1,
            sums.1 + outcome.actions,
            sums.2 + outcome.took / 1_000,
        );
    }
    for (mix, (runs, actions, seconds)) in by_mix {
        println!("{mix}: {runs} runs, {actions} actions, {seconds} virtual seconds");
        assert!(actions > runs, "{mix} does something");
    }
}

/// Runs so many seeds on all processors, until the first violation.
fn in_parallel(first: u64, seeds: u64, run: impl Fn(u64) -> Outcome + Sync) -> Vec<(u64, Outcome)> {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        let mut outcomes = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                break;
            }
            let outcome = run(seed);
            if outcome.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
            outcomes.push((seed, outcome));
        }
        outcomes
    };
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Runs a failed seed again, and shows how it came to that.
fn tell(seed: u64) {
    let Outcome {
        mix,
        violation,
        trace,
        ..
    } = Sim::run(seed, true);
    let tail = &trace[trace.len().saturating_sub(TAIL)..];
    panic!(
        "{}\nseed {seed} ({mix}): {}",
        tail.join("\n"),
        violation.unwrap_or_default()
    );
}

#[test]
fn ten_thousand_kills_of_the_daemon_restart_no_healthy_container() {
    const STACKS: u64 = 40;
    let outcomes = in_parallel(0, STACKS, |seed| Sim::adoption(seed, KILLS / STACKS));
    for (seed, outcome) in &outcomes {
        assert!(
            outcome.violation.is_none(),
            "seed {seed}: {:?}",
            outcome.violation
        );
    }
    assert_eq!(outcomes.len() as u64, STACKS);
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..8 {
        assert_eq!(
            Sim::run(seed, true).trace,
            Sim::run(seed, true).trace,
            "seed {seed}"
        );
    }
}
