//! What can be typed about the master key and the password of `sa`.

use clap::Subcommand;

use super::Format;

/// What can be done about the master key.
#[derive(Clone, Debug, Subcommand)]
pub enum MasterKeyCommand {
    /// Print the key, also while the stack is down
    Show {
        /// How to show it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Ask the nodes that serve whether it is the one that the data is encrypted with; exit code 1 when
    /// it is not, or nothing shows that it is
    Verify {
        /// How to show the result
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

/// What can be done about the password of `sa`.
#[derive(Clone, Debug, Subcommand)]
pub enum SaPasswordCommand {
    /// Give SQL Server, `.env` and all containers a new one; nodes finish their tasks and are out meanwhile
    Rotate(RotateFlags),
}

/// What `sa-password rotate` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RotateFlags {
    /// Ask for the new password on the terminal, instead of making one
    #[arg(long, conflicts_with = "stdin")]
    pub ask: bool,
    /// Read the new password from the first line of standard input
    #[arg(long)]
    pub stdin: bool,
    /// Do not ask whether it is meant
    #[arg(long)]
    pub yes: bool,
}
