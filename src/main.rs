//! The program: arguments in, one command run, its outcome as an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use octo_local::cli;
use octo_local::cli::Args;
use octo_local::cli::Command;
use octo_local::cli::outcome::BUG;
use octo_local::cli::outcome::USAGE;
use octo_local::standin;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let Some(standin) = words.first().and_then(|program| standin::named(program)) {
        return standin::run(standin, &words[1..]);
    }
    let args = match Args::try_parse_from(&words) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Command::Standin { args } = &args.command {
        let (which, rest) = args.split_first().map_or(("", [].as_slice()), |(which, rest)| (which.as_str(), rest));
        return standin::run(which, rest);
    }
    run(args)
}

#[expect(clippy::print_stderr, reason = "a failure is told to the person")]
fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("octo-local: {error}");
            return ExitCode::from(BUG);
        }
    };
    match runtime.block_on(cli::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in &failure.lines {
                eprintln!("{line}");
            }
            ExitCode::from(failure.code)
        }
    }
}
