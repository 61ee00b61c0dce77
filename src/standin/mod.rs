//! The stand-ins for SQL Server and Octopus Server: what `up --demo` and the tests run where the real images cannot be had.

pub mod image;
pub mod octopus;
pub mod sql;

use std::process::ExitCode;

/// The exit code for wrong arguments, as sysexits(3) has it.
const USAGE: u8 = 64;

/// Runs a stand-in until it ends, as the one process of its container.
pub fn run(which: &str, args: &[String]) -> ExitCode {
    match which {
        "sql" => sql::run(),
        "octopus" => octopus::run(args),
        _ => ExitCode::from(USAGE),
    }
}
