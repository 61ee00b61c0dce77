//! The command line: arguments in, one function a command, an exit code out. Only `terminal::print`
//! prints.

pub mod args;
pub mod commands;
pub mod context;
pub mod daemon_client;
pub mod demo;
pub mod drift;
pub mod outcome;
pub mod panic_hook;
pub mod terminal;
pub mod variables;

use clap::CommandFactory as _;

pub use args::Args;
pub use args::Command;
use context::Context;
pub use outcome::Outcome;

use commands::backup;
use commands::config;
use commands::down;
use commands::events;
use commands::explain;
use commands::export;
use commands::init;
use commands::logs;
use commands::plan;
use commands::status;
use commands::systemd;
use commands::units;
use commands::up;
use commands::web;
use daemon_client::daemon_process;
use terminal::print;

/// Runs one command.
pub async fn run(args: Args) -> Outcome {
    match &args.command {
        Command::Version => {
            print::line(format_args!("octo-local {}", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "octo-local", &mut script);
            print::bytes(&script);
            return Ok(());
        }
        // Before any validation: a bad name of the project is a value like any other.
        Command::Config(flags) if flags.environment => return config::environment_of(&args, flags),
        _ => {}
    }
    if let Command::Web(flags) = args.command {
        return web::web(flags).await;
    }
    let context = Context::new(&args)?;
    match args.command {
        Command::Up(flags) => up::up(&context, &flags).await,
        Command::Plan(flags) => plan::plan(&context, &flags).await,
        Command::Down(flags) => down::down(&context, &flags).await,
        Command::Status { format, .. } => status::status(&context, format).await,
        Command::Logs(flags) => logs::logs(&context, &flags).await,
        Command::Config(flags) => config::config(&context, &flags).await,
        Command::Restart(names) => units::restart(&context, &names.units).await,
        Command::Stop(names) => units::stop(&context, &names.units).await,
        Command::Start(names) => units::start(&context, &names.units).await,
        Command::Explain(names) => explain::explain(&context, &names.units).await,
        Command::Events(flags) => events::events(&context, &flags).await,
        Command::Backup(flags) => backup::backup(&context, &flags).await,
        Command::Export(flags) => export::export(&context, &flags).await,
        Command::Init => init::init(&context),
        Command::Systemd => systemd::systemd(&context).await,
        Command::Daemon { detached, held } => {
            daemon_process::daemon(&context, detached, held).await
        }
        Command::Version
        | Command::Completions { .. }
        | Command::Standin { .. }
        | Command::Web(_) => Ok(()),
    }
}
