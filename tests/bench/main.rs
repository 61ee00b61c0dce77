//! The benchmark: octo-local on the machine's engine, beside docker compose and beside a bare
//! client that makes the same calls, in one run. `cargo bench --bench stack` measures everything
//! and takes five minutes; names of topics after `--` measure only those. One table comes out, and
//! the exit code is 1 when a figure that must hold does not.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `OCTO_BENCH_ROUNDS` | 5 | cold starts |
//! | `OCTO_BENCH_IDLE_S` | 60 | seconds over which the idle daemon is watched |
//! | `OCTO_BENCH_KILLS` | 20 | how often the daemon is killed |

#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark, as in a test, unwrap is an assertion"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod adoption;
mod cold;
mod compose;
mod elf;
mod environment;
mod failures;
mod floor;
mod footprint;
mod handoff;
#[path = "../kit/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it, the benchmark a part")]
mod kit;
mod machine;
mod proxy;
mod repeat;
mod sizes;
mod stopwatch;
#[expect(
    dead_code,
    reason = "each of the benchmarks prints a table, and uses a part of what tables can"
)]
mod table;
mod topics;

use std::process::ExitCode;

use compose::Compose;
use kit::docker::Witness;
use kit::images::Images;
use sizes::Sizes;
use topics::Topic;

/// What every topic is given.
pub(crate) struct Bench {
    /// How much of everything.
    pub(crate) sizes: Sizes,
    /// The peer, or why there is none.
    pub(crate) compose: Result<Compose, String>,
}

const TOPICS: [(&str, Topic<Bench>); 6] = [
    ("cold", cold::measure),
    ("repeat", repeat::measure),
    ("handoff", handoff::measure),
    ("footprint", footprint::measure),
    ("failures", failures::measure),
    ("adoption", adoption::measure),
];

fn main() -> ExitCode {
    let before = machine::load();
    // Held to the end, so that the images are made once.
    let images = Images::acquire(&Witness::new());
    let compose = Compose::fetch();
    match &compose {
        Ok(compose) => eprintln!("peer: docker compose {}", compose.version),
        Err(why) => eprintln!("peer: docker compose is missing: {why}"),
    }
    let bench = Bench {
        sizes: Sizes::read(),
        compose,
    };
    let table = topics::measure(&TOPICS, &bench);
    drop(images);
    let peer = match &bench.compose {
        Ok(compose) => format!("docker compose {}", compose.version),
        Err(_) => "no docker compose".to_owned(),
    };
    println!(
        "{}\nload average {before} before, {} after",
        machine::describe(&peer),
        machine::load()
    );
    println!("{table}");
    topics::end(&table)
}
