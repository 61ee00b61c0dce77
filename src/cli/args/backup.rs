//! What can be typed about backup sets.

use std::path::PathBuf;

use clap::Subcommand;

use super::Format;

/// What `backup` takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BackupFlags {
    /// What to do with sets, instead of making one
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    /// The directory of sets [default: BACKUP_DIR, else `backups` in the project's state]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// The set's name; BACKUP_KEEP never removes one that was named [default: project and time]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Have all nodes finish their tasks first, and take no more until it is made: it is of one moment
    #[arg(long)]
    pub quiesce: bool,
    /// Leave out master key, licence and passwords
    #[arg(long)]
    pub without_secrets: bool,
}

/// What can be done with backup sets.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Show the sets of a backup directory, newest first
    List {
        /// The directory [default: BACKUP_DIR, else `backups` in the project's state]
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// How to show them
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Bring a set back: database, files and master key, as they were when it was made
    Restore(RestoreFlags),
    /// Read every byte of a set; exit code 1 when one is not what was written
    Verify(VerifyFlags),
}

/// Which set is read, and how it is opened.
#[derive(Clone, Debug, clap::Args)]
pub struct SetFlags {
    /// The set's name, as `backup list` shows it
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub place: PlaceFlags,
}

/// Where a set is, and how it is opened.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceFlags {
    /// The directory [default: BACKUP_DIR, else `backups` in the project's state]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// A file of age identities, to open an encrypted set
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// What `backup verify` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyFlags {
    #[command(flatten)]
    pub set: SetFlags,
    /// Have the SQL Server that runs restore the set's database beside its own, check and drop it
    #[arg(long)]
    pub restore_test: bool,
    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What `backup restore` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreFlags {
    /// The set's name, as `backup list` shows it
    #[arg(value_name = "NAME", required_unless_present = "back")]
    pub name: Option<String>,
    #[command(flatten)]
    pub place: PlaceFlags,
    /// Replace data that is newer than the set, or take a set of another project
    #[arg(long)]
    pub force: bool,
    /// Keep nothing of what is replaced, nor what an earlier restore kept; else that is kept until the
    /// stack is ready
    #[arg(long)]
    pub discard: bool,
    /// Bring back what the last restore replaced, while it is kept
    #[arg(long, conflicts_with_all = ["name", "from", "identity", "force", "discard"])]
    pub back: bool,
    /// Do not ask before data is replaced
    #[arg(long)]
    pub yes: bool,
}
