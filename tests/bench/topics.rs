//! Topics of a benchmark: those that were asked for are measured one after another, and make one table.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use crate::table::Row;
use crate::table::Table;

/// Measures something and gives the table's rows.
pub(crate) type Topic<Bench> = fn(&Bench) -> Vec<Row>;

/// Measures the topics that the command line names, or all where it names none.
pub(crate) fn measure<Bench>(topics: &[(&'static str, Topic<Bench>)], bench: &Bench) -> Table {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let mut table = Table::default();
    for (name, topic) in topics {
        if asked.is_empty() || asked.iter().any(|word| word == name) {
            eprintln!("measuring: {name}");
            // A topic that fails has cleaned up while it unwound; the others still count.
            match std::panic::catch_unwind(AssertUnwindSafe(|| topic(bench))) {
                Ok(rows) => table.add(rows),
                Err(_) => table.fail(name),
            }
        }
    }
    table
}

/// How a benchmark ends: with 1 when a figure that must hold does not.
pub(crate) fn end(table: &Table) -> ExitCode {
    if table.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
