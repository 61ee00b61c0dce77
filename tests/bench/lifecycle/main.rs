//! The benchmark of a stack's life: stops, upgrades, rollbacks, backups and restores on the
//! machine's engine. `cargo bench --bench lifecycle` measures everything and takes ten minutes;
//! names of topics after `--` measure only those. One table comes out, and the exit code is 1 when
//! a figure that must hold does not.
//!
//! The stand-ins say themselves what is cut off, mixed or lost, and their own times are taken off:
//! from the engine's events and the containers' logs of the very run that is measured.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `OCTO_BENCH_OUTAGES` | 5 | upgrades of an idle stack whose outage is measured |
//! | `OCTO_BENCH_RESTARTS` | 50 | restarts of nodes while tasks run |
//! | `OCTO_BENCH_UPGRADES` | 20 | upgrades while tasks run |
//! | `OCTO_BENCH_STOPS` | 100 | stops of SQL Server |
//! | `OCTO_BENCH_DRILLS` | 50 | upgrades that are taken back |
//! | `OCTO_BENCH_MIB` | 1024 | MiB that are backed up and restored |
//! | `OCTO_BENCH_VOLUMES` | 3 | how often |

#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark, as in a test, unwrap is an assertion"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod data;
#[path = "../environment.rs"]
mod environment;
mod files;
#[path = "../../kit/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it, the benchmark a part")]
mod kit;
#[path = "../machine.rs"]
mod machine;
mod memory;
mod nodes;
mod outage;
mod rollbacks;
mod sizes;
mod stops;
#[path = "../stopwatch.rs"]
#[expect(dead_code, reason = "it belongs to all benchmarks")]
mod stopwatch;
#[path = "../table.rs"]
#[expect(
    dead_code,
    reason = "each of the benchmarks prints a table, and uses a part of what tables can"
)]
mod table;
mod tasks;
#[path = "../topics.rs"]
mod topics;
mod versions;
mod volume;

use std::process::ExitCode;

use kit::docker::Witness;
use kit::images::Images;
use sizes::Sizes;
use topics::Topic;

const TOPICS: [(&str, Topic<Sizes>); 5] = [
    ("outage", outage::measure),
    ("tasks", tasks::measure),
    ("stops", stops::measure),
    ("rollbacks", rollbacks::measure),
    ("volume", volume::measure),
];

fn main() -> ExitCode {
    let before = machine::load();
    // Held to the end, so that the images are made once.
    let images = Images::acquire(&Witness::new());
    let sizes = Sizes::read();
    let table = topics::measure(&TOPICS, &sizes);
    drop(images);
    println!(
        "{}\nload average {before} before, {} after",
        machine::describe(&volume::peer()),
        machine::load()
    );
    println!("{table}");
    topics::end(&table)
}
