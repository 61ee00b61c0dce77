//! The front door beside Debian's nginx and haproxy: the same two nodes behind each, the same load
//! before each, in turn and in one run. The door has one core, what asks and what answers another.
//! `cargo bench --bench front_door` measures everything; names of topics after `--` measure only
//! those. It needs wrk and two cores; a peer that is not installed is left out and named. The
//! figures say something on an idle machine only. One table comes out, and the exit code is 1 when
//! a figure that must hold does not.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `OCTO_BENCH_SECONDS` | 4 | how long each load lasts |
//! | `OCTO_BENCH_CONNECTIONS` | 64 | connections of each load |
//! | `OCTO_BENCH_ROUNDS` | 3 | how often each door has its turn |
//! | `OCTO_BENCH_RESTARTS` | 50 | restarts of nodes under load |
//! | `OCTO_BENCH_KILLS` | 20 | how often the daemon is killed under load |
//! | `OCTO_BENCH_REQUESTS` | 200000 | requests that are at least made meanwhile |
//! | `OCTO_BENCH_PROGRAM` | this build's | the program whose front door stands beside the peers |

#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark, as in a test, unwrap is an assertion"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod cores;
mod doors;
#[path = "../environment.rs"]
mod environment;
#[path = "../../kit/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it, the benchmark a part")]
mod kit;
mod load;
#[path = "../machine.rs"]
#[expect(
    dead_code,
    reason = "this benchmark has several peers, and names them in its table"
)]
mod machine;
mod memory;
mod nodes;
mod sizes;
mod stack;
mod steady;
#[path = "../table.rs"]
#[expect(dead_code, reason = "units of the other benchmark")]
mod table;
mod throughput;
#[path = "../topics.rs"]
mod topics;

use std::process::ExitCode;

use cores::Cores;
use doors::Doors;
use nodes::Nodes;
use sizes::Sizes;
use topics::Topic;

/// What every topic is given.
pub(crate) struct Bench {
    pub(crate) sizes: Sizes,
    pub(crate) cores: Cores,
    pub(crate) nodes: Nodes,
    pub(crate) doors: Doors,
}

const TOPICS: [(&str, Topic<Bench>); 6] = [
    ("upload", memory::upload),
    ("idle", memory::idle),
    ("throughput", throughput::throughput),
    ("latency", throughput::latency),
    ("supervision", stack::supervision),
    ("failures", stack::failures),
];

fn main() -> ExitCode {
    if !load::is_there() {
        eprintln!("wrk makes the load and is missing: apt-get install wrk");
        return ExitCode::FAILURE;
    }
    let Some(cores) = Cores::divide() else {
        eprintln!("one core is the door's, and there is no other");
        return ExitCode::FAILURE;
    };
    let before = machine::load();
    let nodes = Nodes::begin();
    let dir = tempfile::Builder::new().prefix("octo-").tempdir().unwrap();
    let doors = cores.on_the_doors(|| doors::open_all(dir.path(), &nodes));
    let bench = Bench {
        sizes: Sizes::read(),
        cores,
        nodes,
        doors,
    };
    let table = topics::measure(&TOPICS, &bench);
    println!(
        "load average {before} before, {} after\n{table}",
        machine::load()
    );
    topics::end(&table)
}
