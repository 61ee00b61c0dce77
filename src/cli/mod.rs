//! The command line: arguments in, one function a command, an exit code out. Only `terminal::print`
//! prints.
//!
//! # To add a command
//!
//! 1. `args.rs`: a variant of [`Command`] with a line that says what it does, and its flags.
//! 2. `commands/NAME.rs`: one function of that name, given the [`Context`] and the flags, which
//!    gives an [`Outcome`]. What it shows goes through `terminal::print`; JSON carries `schema`.
//! 3. Below: the arm of `run` that calls it.
//! 4. If it changes something: a route in `api`, whose wish the daemon keeps before it answers.
//! 5. `tests/cli/`: what it says and its exit codes, also without an engine and without a daemon.
//! 6. `README.md`: its row in the table of commands; `.github/CHANGELOG.md`: a line.
//!
//! A name that compose has and octo-local has not gets a tip in `tips.rs` instead.

pub mod adopted;
pub mod args;
pub mod boot;
pub mod candidates;
pub mod commands;
pub mod context;
pub mod daemon_client;
pub mod demo;
pub mod drift;
pub mod env_file;
pub mod environment;
pub mod exported;
pub mod handed_over;
pub mod known;
pub mod node_key;
pub mod outcome;
pub mod panic_hook;
pub mod passwords;
pub mod supervisor;
pub mod terminal;
pub mod tips;
pub mod unfinished;
pub mod unit_names;
pub mod variables;

pub use args::Args;
pub use args::Command;
use context::Context;
pub use outcome::Outcome;

use commands::adopt;
use commands::backup;
use commands::config;
use commands::down;
use commands::drain;
use commands::events;
use commands::explain;
use commands::export;
use commands::init;
use commands::kubernetes;
use commands::logs;
use commands::ls;
use commands::master_key;
use commands::plan;
use commands::restart;
use commands::rollback;
use commands::sa_password;
use commands::secrets;
use commands::start;
use commands::status;
use commands::stop;
use commands::systemd;
use commands::tentacle;
use commands::up;
use commands::upgrade;
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
        Command::Completions { shell } => return completions(*shell),
        // Before any validation: a bad name of the project is a value like any other.
        Command::Config(flags) if flags.environment => return config::environment_of(&args, flags),
        _ => {}
    }
    if let Command::Web(flags) = args.command {
        return web::web(flags).await;
    }
    let context = Context::new(&args)?;
    if starts_something(&args.command) {
        context.must_not_be_moving()?;
    }
    if serves_here(&args.command) {
        context.must_not_be_handed_over()?;
    }
    match args.command {
        Command::Adopt(flags) => adopt::adopt(context, &flags).await,
        Command::Up(flags) => up::up(&context, &flags).await,
        Command::Plan(flags) => plan::plan(&context, &flags).await,
        Command::Down(flags) => down::down(&context, &flags).await,
        Command::Upgrade(flags) => upgrade::upgrade(&context, &flags).await,
        Command::MasterKey { command } => master_key::master_key(&context, &command).await,
        Command::SaPassword { command } => sa_password::sa_password(&context, &command).await,
        Command::Rollback { yes } => Box::pin(rollback::rollback(&context, yes)).await,
        Command::Status(flags) => status::status(&context, &flags).await,
        Command::Ls { format, .. } => ls::ls(&context, format).await,
        Command::Logs(flags) => logs::logs(&context, &flags).await,
        Command::Config(flags) => config::config(&context, &flags).await,
        Command::Secrets(flags) => secrets::secrets(&context, &flags).await,
        Command::Restart(names) => restart::restart(&context, &names.units).await,
        Command::Drain(names) => drain::drain(&context, &names.units).await,
        Command::Undrain(names) => drain::undrain(&context, &names.units).await,
        Command::Stop(names) => stop::stop(&context, &names.units).await,
        Command::Start(names) => start::start(&context, &names.units).await,
        Command::Explain(flags) => Box::pin(explain::explain(&context, &flags)).await,
        Command::Events(flags) => events::events(&context, &flags).await,
        Command::Tentacle(flags) => tentacle::tentacle(&context, flags).await,
        Command::Backup(flags) => backup::backup(&context, &flags).await,
        Command::Export(flags) => export::export(&context, &flags).await,
        Command::Kubernetes(flags) => kubernetes::kubernetes(&context, &flags).await,
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

/// Whether a command may start something on the data, or reads it as a whole.
fn starts_something(command: &Command) -> bool {
    matches!(
        command,
        Command::Up(_)
            | Command::Plan(_)
            | Command::Start(_)
            | Command::Restart(_)
            | Command::Backup(_)
            | Command::SaPassword { .. }
            | Command::Tentacle(_)
    )
}

/// Whether a command may make the stack serve on this host. `up --again` says that this is meant.
fn serves_here(command: &Command) -> bool {
    match command {
        Command::Up(flags) => !flags.again,
        Command::Plan(_)
        | Command::Start(_)
        | Command::Restart(_)
        | Command::Upgrade(_)
        | Command::Rollback { .. }
        | Command::SaPassword { .. }
        | Command::Adopt(_) => true,
        Command::Tentacle(flags) => matches!(flags.command, args::TentacleCommand::Add(_)),
        Command::Backup(flags) => {
            matches!(flags.command, None | Some(args::BackupCommand::Restore(_)))
        }
        Command::Down(_)
        | Command::Status(_)
        | Command::Ls { .. }
        | Command::Logs(_)
        | Command::Config(_)
        | Command::Secrets(_)
        | Command::MasterKey { .. }
        | Command::Stop(_)
        | Command::Drain(_)
        | Command::Undrain(_)
        | Command::Explain(_)
        | Command::Events(_)
        | Command::Export(_)
        | Command::Kubernetes(_)
        | Command::Init
        | Command::Systemd
        | Command::Daemon { .. }
        | Command::Web(_)
        | Command::Version
        | Command::Completions { .. }
        | Command::Standin { .. } => false,
    }
}

/// The variable with which a shell asks for candidates: the registered script sets it.
pub const COMPLETE: &str = "COMPLETE";

/// Prints what a shell reads once: from then on it asks this program for candidates.
fn completions(shell: clap_complete::Shell) -> Outcome {
    let failure = |why: String| outcome::Failure::new(outcome::FAILED, why);
    let program =
        std::env::current_exe().map_err(|error| failure(format!("find this program: {error}")))?;
    let program = daemon_process::program_of(&program).display().to_string();
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells
        .completer(&shell.to_string())
        .ok_or_else(|| failure(format!("there are no completions for {shell}")))?;
    let mut script = Vec::new();
    completer
        .write_registration(COMPLETE, "octo_local", "octo-local", &program, &mut script)
        .map_err(|error| failure(format!("write the completions: {error}")))?;
    print::bytes(&script);
    Ok(())
}
