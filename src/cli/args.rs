//! What can be typed; what several commands about one thing take is in a file of that thing.

mod backup;
mod cluster;
mod secrets;
mod tentacle;

use std::path::PathBuf;

use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::ValueHint;

use crate::config::MAX_NODES;
use crate::config::Pull;
use crate::spec::tentacle::MOST;

pub use backup::BackupCommand;
pub use backup::BackupFlags;
pub use backup::RestoreFlags;
pub use backup::VerifyFlags;
pub use cluster::ExportCommand;
pub use cluster::ExportFlags;
pub use cluster::HandoverFlags;
pub use cluster::KubernetesCommand;
pub use cluster::KubernetesFlags;
pub use cluster::KubernetesUpgradeFlags;
pub use cluster::Patience;
pub use secrets::MasterKeyCommand;
pub use secrets::RotateFlags;
pub use secrets::SaPasswordCommand;
pub use tentacle::TentacleAddFlags;
pub use tentacle::TentacleCommand;
pub use tentacle::TentacleFlags;

/// What somebody reads who does not know the program yet.
const FIRST_STEPS: &str = "\
First steps:
  octo-local up --demo        try it: no registry, no licence, no .env needed
  octo-local init             write a .env for the real images, then `octo-local up`
  octo-local status           what runs; `octo-local explain` says why
  octo-local down             take it away; the data stays";

/// What every command takes, apart from its own options.
const GLOBAL: &str = "Options of every command";

/// Runs Octopus Deploy and its SQL Server on one Docker host, in order, and keeps them running.
#[derive(Debug, Parser)]
#[command(name = "octo-local", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Args {
    /// The project's name [default: COMPOSE_PROJECT_NAME, else made from the directory]
    #[arg(short = 'p', long, global = true, value_name = "NAME", help_heading = GLOBAL, display_order = 900)]
    pub project_name: Option<String>,
    /// Where `.env` is, and what the project is named after [default: the current directory]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = GLOBAL, display_order = 901)]
    pub project_directory: Option<PathBuf>,
    /// Read this file instead of `.env`; may be given several times, later files win
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = GLOBAL, display_order = 902)]
    pub env_file: Vec<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the stack up, or to what `.env` says now, and keep it running
    Up(UpFlags),
    /// Stop the stack in order and remove it; the data stays
    Down(DownFlags),
    /// Show what runs and what does not
    #[command(visible_alias = "ps")]
    Status(StatusFlags),
    /// Show the projects that are known here
    Ls {
        /// How to show it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Taken for compose's sake: everything is always shown
        #[arg(short = 'a', long, hide = true)]
        all: bool,
    },
    /// Show logs of units, or of the daemon itself (`logs daemon`)
    Logs(LogFlags),
    /// Show what `up` would do and why; exit code 2 when there are changes
    Plan(PlanFlags),
    /// Show the resolved configuration, secrets masked
    Config(ConfigFlags),
    /// Show passwords and keys in clear, or one value alone
    Secrets(SecretFlags),
    /// Restart units in order; a restart of db stops the nodes first
    Restart(UnitNames),
    /// Stop units until `start` or `up`; containers and data stay
    Stop(UnitNames),
    /// Let nodes finish their tasks and take no more, until `undrain`; restarts change nothing about it
    Drain(UnitNames),
    /// Let nodes that were drained take tasks again
    Undrain(UnitNames),
    /// Start units that were stopped, or try failed ones again
    Start(UnitNames),
    /// Apply another version of Octopus Server, with a backup before it, and write it into `.env`
    Upgrade(UpgradeFlags),
    /// Take the last upgrade back: image, database and files as they were before it
    Rollback {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show the key that the database is encrypted with, or whether it fits the data
    MasterKey {
        /// What to do
        #[command(subcommand)]
        command: MasterKeyCommand,
    },
    /// Change the password of SQL Server's login sa, everywhere at once
    SaPassword {
        /// What to do
        #[command(subcommand)]
        command: SaPasswordCommand,
    },
    /// Explain what a unit is doing, why, and what happens next
    Explain(ExplainFlags),
    /// Show what the daemon saw and did
    Events(EventFlags),
    /// Add, remove and list Tentacles of the stack: deployment targets and workers
    Tentacle(TentacleFlags),
    /// Back up the stack while it serves; list and check backup sets
    Backup(BackupFlags),
    /// Write the stack as files for another tool: a Kubernetes cluster, or docker compose
    Export(ExportFlags),
    /// Look after what runs in a cluster, or hand this stack over to one, through your own kubectl
    Kubernetes(KubernetesFlags),
    /// Take over a docker compose stack of SQL Server and Octopus Server with its data, or go back
    Adopt(AdoptFlags),
    /// Write a commented `.env` with generated passwords
    Init,
    /// Print a systemd unit that supervises this project from boot on
    Systemd,
    /// Supervise in the foreground, as systemd wants it
    Daemon {
        /// In a session of its own, its log in a file, ending when the stack is down
        #[arg(long, hide = true)]
        detached: bool,
        /// Start nothing before it is asked to
        #[arg(long, hide = true)]
        held: bool,
    },
    /// Be the front door: own the listening sockets, as whoever connects to the control socket says
    #[command(hide = true)]
    Web(WebFlags),
    /// Show the version
    Version,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Run a stand-in server: what the demo's images contain
    #[command(hide = true)]
    Standin {
        /// sql, octopus or tentacle, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// What `web` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct WebFlags {
    /// The control socket
    #[arg(long, value_name = "SOCKET")]
    pub control: PathBuf,
    /// Take over from the front door that has the control socket, and its listening sockets
    #[arg(long)]
    pub take_over: bool,
    /// As root: go on as this user and group once everything is open
    #[arg(long, value_name = "UID")]
    pub user: Option<u32>,
    /// A bounded log file in the place of standard error
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Where requests are written once that is wished; the directory must be that user's
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
}

/// The units that a command is about.
#[derive(Clone, Debug, clap::Args)]
pub struct UnitNames {
    /// db, octopus-server-1, … [default: all]
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
    /// Refused with a word on what counts instead
    #[arg(short = 't', long, hide = true, value_name = "SECONDS", value_parser = no_timeout)]
    pub timeout: Option<u64>,
}

/// compose's `restart -t 5`: how long a unit may take is configured, and known to the daemon.
fn no_timeout(_: &str) -> Result<u64, String> {
    let why = "how long a unit may take to stop is configured: NODE_STOP_GRACE, SQL_STOP_LIMIT";
    Err(why.to_owned())
}

/// What `status` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusFlags {
    /// Only these: db, octopus-server-1, … [default: all]
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Tell it by the exit code too: 0 serves, 75 not yet, 1 does not, 69 no engine
    #[arg(long)]
    pub check: bool,
    /// Taken for compose's sake: everything is always shown
    #[arg(short = 'a', long, hide = true)]
    pub all: bool,
}

/// What `explain` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainFlags {
    /// db, octopus-server-1, … [default: all]
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What `secrets` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct SecretFlags {
    /// Print the value of this one alone: MASTER_KEY, SA_PASSWORD, ADMIN_PASSWORD, …
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How to show something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For machines
    Json,
}

/// What configures `up`, and `plan` too.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// How many Octopus nodes, for this time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
    pub nodes: Option<u8>,
    /// When to fetch images
    #[arg(long, value_enum)]
    pub pull: Option<Pull>,
    /// Run octo-local's own stand-ins: no registry, no licence, no `.env` needed
    #[arg(long)]
    pub demo: bool,
    /// Make a new, empty database although this machine has data that looks like the project's, or
    /// although the project's own is gone; nothing is deleted
    #[arg(long)]
    pub fresh: bool,
    /// Apply another version of Octopus Server without a backup: there is no way back from it
    #[arg(long)]
    pub no_backup: bool,
    /// The version, in the place of what the variables say.
    #[arg(skip)]
    pub tag: Option<String>,
}

/// What `plan` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PlanFlags {
    /// What configures the stack besides the variables.
    #[command(flatten)]
    pub overrides: Overrides,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What `up` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct UpFlags {
    /// What configures the stack besides the variables.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Give up waiting after this many seconds; the daemon goes on [default: wait as long as
    /// something moves]
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
    /// Run here again what was handed over to a cluster: its nodes there must be gone
    #[arg(long)]
    pub again: bool,
    /// Return as soon as the daemon has taken the configuration
    #[arg(long)]
    pub no_wait: bool,
    /// Add so many stand-in Tentacles to a demo, a target and a worker by turns
    #[arg(long, value_name = "N", requires = "demo", conflicts_with = "no_wait", value_parser = clap::value_parser!(u8).range(1..=MOST as i64))]
    pub tentacles: Option<u8>,
    /// Taken for compose's sake: the stack always runs in the background
    #[arg(short = 'd', long, hide = true)]
    pub detach: bool,
    /// Taken for compose's sake: waiting is what happens anyway
    #[arg(long, hide = true, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Taken for compose's sake: what the configuration does not name is always removed
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What `upgrade` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct UpgradeFlags {
    /// The version: the tag of the image
    #[arg(value_name = "TAG")]
    pub tag: String,
    /// Only show what would be done, or what speaks against it
    #[arg(long)]
    pub plan: bool,
    /// Make no backup: there is no way back then
    #[arg(long)]
    pub no_backup: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// When to fetch images
    #[arg(long, value_enum)]
    pub pull: Option<Pull>,
    /// Give up waiting after this many seconds; the daemon goes on [default: wait as long as
    /// something moves]
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What `adopt` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AdoptFlags {
    /// The compose project [default: the one of this project's name]
    #[arg(long, value_name = "PROJECT")]
    pub from: Option<String>,
    /// Only say what was found and what would be done
    #[arg(long)]
    pub plan: bool,
    /// Go back to the old containers
    #[arg(long, conflicts_with_all = ["from", "plan", "forget"])]
    pub undo: bool,
    /// Remove the old containers: from then on there is no way back
    #[arg(long, conflicts_with_all = ["from", "plan"])]
    pub forget: bool,
    /// Make no backup first
    #[arg(long)]
    pub no_backup: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What `down` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct DownFlags {
    /// Remove the data as well: databases, packages, artifacts, logs, and the master key
    #[arg(short = 'v', long)]
    pub volumes: bool,
    /// Do not ask before removing data
    #[arg(long)]
    pub yes: bool,
    /// Seconds that nodes get in all, to finish their tasks and to stop [default: DRAIN_TIMEOUT,
    /// then NODE_STOP_GRACE]; SQL Server always gets its own
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Taken for compose's sake: what the configuration does not name is always removed
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
}

/// What `logs` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFlags {
    /// db, octopus-server-1, … or `daemon` [default: all units]
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
    /// Go on as lines are written
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Only the last lines, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "all", hide_default_value = true, value_parser = tail)]
    pub tail: Tail,
    /// Only since a time (2026-01-31T12:00:00Z) or for a while (90s, 10m, 2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Begin each line with its time
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// On a terminal too, hand on control characters as they are
    #[arg(long)]
    pub raw: bool,
}

/// How many lines of a log; none is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(pub Option<u32>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        number => number
            .parse()
            .map(|count| Tail(Some(count)))
            .map_err(|_| "write a number of lines, or all".to_owned()),
    }
}

/// What `config` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigFlags {
    /// The variables themselves, before any validation
    #[arg(long)]
    pub environment: bool,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Show secrets in clear
    #[arg(long)]
    pub show_secrets: bool,
    /// As `up --demo` would resolve it
    #[arg(long)]
    pub demo: bool,
}

/// What `events` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct EventFlags {
    /// Only since a time (2026-01-31T12:00:00Z) or for a while (90s, 10m, 2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Go on as things happen
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}
