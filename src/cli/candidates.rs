//! What a shell offers while a command is typed: projects and units as they are known here. Only
//! files are read: a key press waits for nobody.

use clap::Arg;
use clap::Command;
use clap::CommandFactory as _;
use clap::builder::Resettable;
use clap_complete::engine::ArgValueCandidates;
use clap_complete::engine::CompletionCandidate;

use crate::cli::args;
use crate::cli::args::Args;
use crate::cli::context::Context;
use crate::cli::known;
use crate::daemon::store;
use crate::spec::UnitId;

/// The commands that are offered: none that is not meant for people.
pub fn command() -> Command {
    let all = Args::command();
    let visible: Vec<Command> = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .map(by_its_name)
        .map(with_units)
        .collect();
    Command::new("octo-local")
        .args(all.get_arguments().cloned().map(with_projects))
        .subcommands(visible)
}

/// The option that names the project, with those that are known.
fn with_projects(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "project_name" => arg.add(ArgValueCandidates::new(projects)),
        _ => arg,
    }
}

/// A command about units, with those of the project.
fn with_units(command: Command) -> Command {
    let offered = match command.get_name() {
        "tentacle" => {
            return command.mut_subcommand("remove", |remove| {
                remove.mut_arg("name", |arg| arg.add(ArgValueCandidates::new(tentacles)))
            });
        }
        "logs" => ArgValueCandidates::new(logs),
        _ => ArgValueCandidates::new(units),
    };
    command.mut_args(|arg| match arg.get_id().as_str() {
        "units" => arg.add(offered.clone()),
        _ => arg,
    })
}

/// Of a command and its visible alias only the first in the alphabet would be offered: `ps` for
/// `status`. What is not offered is completed all the same.
fn by_its_name(command: Command) -> Command {
    match command.get_name() {
        "status" => command.visible_alias(Resettable::Reset).alias("ps"),
        _ => command,
    }
}

/// The names of the known projects.
fn projects() -> Vec<CompletionCandidate> {
    let Some(context) = context() else {
        return Vec::new();
    };
    let known = known::all(&context).into_iter();
    known
        .map(|known| CompletionCandidate::new(known.project.as_str()))
        .collect()
}

/// The units of the project that is meant.
fn units() -> Vec<CompletionCandidate> {
    let stored = context().and_then(|context| store::read(&context.paths.store()));
    let stored = stored.unwrap_or_default();
    let first = || vec![UnitId::Sql, UnitId::Node(1)];
    let units = stored.spec.map_or_else(first, |spec| spec.units());
    let tentacles = stored.tentacles.into_keys().map(UnitId::Tentacle);
    units
        .into_iter()
        .chain(tentacles)
        .map(|unit| CompletionCandidate::new(unit.to_string()))
        .collect()
}

/// The Tentacles of the project that is meant, by name.
fn tentacles() -> Vec<CompletionCandidate> {
    let stored = context().and_then(|context| store::read(&context.paths.store()));
    let names = stored.unwrap_or_default().tentacles.into_keys();
    names
        .map(|name| CompletionCandidate::new(name.as_str()))
        .collect()
}

/// What `logs` shows.
fn logs() -> Vec<CompletionCandidate> {
    let mut all = units();
    all.push(CompletionCandidate::new("daemon"));
    all
}

/// The project of the words that are there so far.
fn context() -> Option<Context> {
    let words: Vec<String> = std::env::args().collect();
    let value = |names: [&str; 2]| {
        let at = words
            .iter()
            .position(|word| names.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    let args = Args {
        project_name: value(["-p", "--project-name"]).filter(|name| !name.is_empty()),
        project_directory: value(["--project-directory", "--project-directory"]).map(Into::into),
        env_file: Vec::new(),
        command: args::Command::Version,
    };
    Context::new(&args).ok()
}
