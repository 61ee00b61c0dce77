//! The stand-ins for SQL Server and Octopus Server: what `up --demo` and the tests run where the real images cannot be had.

pub mod image;

use std::process::ExitCode;

/// Runs a stand-in until it ends, as the one process of its container.
pub fn run(which: &str, args: &[String]) -> ExitCode {
    let _ = (which, args);
    ExitCode::from(crate::cli::outcome::USAGE)
}
