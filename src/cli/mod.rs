//! The command line: arguments in, one function a command, an exit code out. The only code that prints.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place that talks to people")]

pub mod args;
pub mod context;
pub mod demo;
pub mod down;
pub mod explain;
pub mod init;
pub mod logs;
pub mod outcome;
pub mod progress;
pub mod show;
pub mod spawn;
pub mod status;
pub mod units;
pub mod up;

use clap::CommandFactory as _;

pub use args::Args;
pub use args::Command;
use context::Context;
pub use outcome::Outcome;

/// Runs one command.
pub async fn run(args: Args) -> Outcome {
    match &args.command {
        Command::Version => {
            println!("octo-local {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Args::command(), "octo-local", &mut std::io::stdout());
            return Ok(());
        }
        _ => {}
    }
    let context = Context::new(&args)?;
    match args.command {
        Command::Up(flags) => up::up(&context, &flags).await,
        Command::Plan(flags) => up::plan(&context, &flags).await,
        Command::Down(flags) => down::down(&context, &flags).await,
        Command::Status { format } => status::status(&context, format).await,
        Command::Logs(flags) => logs::logs(&context, &flags).await,
        Command::Config(flags) => show::config(&context, &flags),
        Command::Restart { units } => units::restart(&context, &units).await,
        Command::Stop { units } => units::stop(&context, &units).await,
        Command::Start { units } => units::start(&context, &units).await,
        Command::Explain { units } => explain::explain(&context, &units).await,
        Command::Events(flags) => explain::events(&context, &flags).await,
        Command::Init => init::init(&context),
        Command::Daemon { detached, held } => spawn::daemon(&context, detached, held).await,
        Command::Version | Command::Completions { .. } | Command::Standin { .. } => Ok(()),
    }
}
