//! The stand-ins for SQL Server, Octopus Server and its Tentacle: what `up --demo` and the tests run where the
//! real images cannot be had.

pub mod image;
pub mod octopus;
pub mod sql;
pub mod tentacle;

use std::process::ExitCode;

/// The exit code for wrong arguments, as sysexits(3) has it.
const USAGE: u8 = 64;

/// The stand-in that a program's name calls: the images hold links of the vendors' names to this
/// program.
pub fn named(program: &str) -> Option<&'static str> {
    match program.rsplit('/').next() {
        Some("Octopus.Server") => Some("octopus"),
        Some("sqlcmd") => Some("sqlcmd"),
        Some("dotnet") => Some("dotnet"),
        Some(_) | None => None,
    }
}

/// The older images' way to the vendor's program: `dotnet /Octopus/Octopus.Server.dll node ..`.
fn dotnet(args: &[String]) -> ExitCode {
    match args.split_first() {
        Some((program, rest)) if program.ends_with("/Octopus.Server.dll") => octopus::run(rest),
        Some(_) | None => ExitCode::from(USAGE),
    }
}

/// Runs a stand-in until it ends, as the one process of its container.
pub fn run(which: &str, args: &[String]) -> ExitCode {
    match which {
        "sql" => sql::run(),
        "sqlcmd" => sql::sqlcmd(args),
        "octopus" => octopus::run(args),
        "dotnet" => dotnet(args),
        "tentacle" => tentacle::run(),
        _ => ExitCode::from(USAGE),
    }
}
