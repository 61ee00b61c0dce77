//! The program: arguments in, one command run, its outcome as an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use octo_local::cli;
use octo_local::cli::Args;
use octo_local::cli::Command;
use octo_local::cli::Outcome;
use octo_local::cli::candidates;
use octo_local::cli::outcome::BUG;
use octo_local::cli::outcome::Failure;
use octo_local::cli::outcome::USAGE;
use octo_local::cli::panic_hook;
use octo_local::cli::terminal::print;
use octo_local::cli::tips;
use octo_local::standin;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let texts: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(standin) = texts.first().and_then(|program| standin::named(program)) {
        return standin::run(standin, &texts[1..]);
    }
    // A shell that asks for candidates is answered, and the program ends.
    clap_complete::CompleteEnv::with_factory(candidates::command)
        .var(cli::COMPLETE)
        .bin("octo-local")
        .complete();
    let args = match Args::try_parse_from(&words) {
        Ok(args) => args,
        Err(error) => {
            if let Some(tip) = tip(&error) {
                print::tell(tip);
                return ExitCode::from(USAGE);
            }
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Command::Standin { args } = &args.command {
        let (which, rest) = args
            .split_first()
            .map_or(("", [].as_slice()), |(which, rest)| (which.as_str(), rest));
        return standin::run(which, rest);
    }
    match panic_hook::guard(|| run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.lines.iter().for_each(print::tell);
            ExitCode::from(failure.code)
        }
    }
}

/// What is said of a command of another tool.
fn tip(error: &clap::Error) -> Option<String> {
    use clap::error::ContextKind;
    use clap::error::ContextValue;
    match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(word) => tips::tip(word),
        _ => None,
    }
}

fn run(args: Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(BUG, format!("begin: {error}")))?;
    let outcome = runtime.block_on(cli::run(args));
    // What still waits for a terminal or a name server must not keep the process.
    runtime.shutdown_background();
    outcome
}
