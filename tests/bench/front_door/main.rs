//! The front door beside Debian's nginx and haproxy: the same two nodes behind each, the same load of
//! wrk before each, in turn and in one run. `cargo bench --bench front_door` takes two minutes; a peer
//! that is not installed is left out and named. The figures say something on an idle machine only.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `OCTO_BENCH_SECONDS` | 10 | how long each load lasts |
//! | `OCTO_BENCH_CONNECTIONS` | 64 | connections of each load |

#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark, as in a test, unwrap is an assertion"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod doors;
mod load;
mod nodes;

use std::process::ExitCode;

use doors::Door;
use load::Figures;
use load::Load;
use nodes::Nodes;

/// What is asked for: a name, the path, and whether over TLS.
const TOPICS: [(&str, &str, bool); 3] = [
    ("a small answer", "/small", false),
    ("64 KiB", "/large", false),
    ("a small answer over TLS", "/small", true),
];

fn main() -> ExitCode {
    let Some(load) = Load::read() else {
        eprintln!("wrk makes the load and is missing: apt-get install wrk");
        return ExitCode::FAILURE;
    };
    let nodes = Nodes::begin();
    let dir = tempfile::Builder::new().prefix("octo-").tempdir().unwrap();
    let (doors, missing) = doors::all(dir.path(), &nodes);
    for (name, package) in missing {
        eprintln!("peer: {name} is missing: apt-get install {package}");
    }
    println!("{load}; load average before: {}", load::average());
    println!("| what | door | requests a second | median | 99 % | failed | memory |");
    println!("|---|---|---|---|---|---|---|");
    let mut all_answered = true;
    for (what, path, tls) in TOPICS {
        for door in &doors {
            let figures = load.on(&door.url(path, tls));
            all_answered &= figures.failed == 0 && figures.requests > 0.0;
            println!("{}", row(what, door, &figures));
        }
    }
    println!("load average after: {}", load::average());
    if all_answered {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn row(what: &str, door: &Door, figures: &Figures) -> String {
    format!(
        "| {what} | {} | {:.0} | {} | {} | {} | {:.1} MiB |",
        door.name,
        figures.requests,
        figures.median,
        figures.ninety_nine,
        figures.failed,
        door.memory()
    )
}
