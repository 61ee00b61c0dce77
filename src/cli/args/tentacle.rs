//! What can be typed about Tentacles.

use clap::Subcommand;

use super::Format;
use crate::spec::tentacle::DEFAULT_SPACE;

/// What `tentacle` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct TentacleFlags {
    /// What to do
    #[command(subcommand)]
    pub command: TentacleCommand,
}

/// What can be done with Tentacles.
#[derive(Clone, Debug, Subcommand)]
pub enum TentacleCommand {
    /// Run a Tentacle beside the stack, and register it at Octopus Server
    Add(TentacleAddFlags),
    /// Delete a Tentacle's registration, its container and its identity
    #[command(visible_alias = "rm")]
    Remove {
        /// The Tentacle's name, as `tentacle list` shows it
        #[arg(value_name = "NAME")]
        name: String,
        /// Leave it registered at Octopus Server, for you to delete there
        #[arg(long, visible_alias = "force")]
        keep_registration: bool,
    },
    /// Show the Tentacles that were added
    #[command(visible_alias = "ls")]
    List {
        /// How to show them
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

/// What `tentacle add` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct TentacleAddFlags {
    /// A name for it, in Octopus and here: small letters, digits and hyphens
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Make it a worker of this pool
    #[arg(long, value_name = "POOL", conflicts_with_all = ["environment", "role"], required_unless_present = "environment")]
    pub worker: Option<String>,
    /// Make it a deployment target of this environment; may be given several times
    #[arg(long, value_name = "ENVIRONMENT", requires = "role")]
    pub environment: Vec<String>,
    /// A role of the deployment target; may be given several times
    #[arg(long, value_name = "ROLE", requires = "environment")]
    pub role: Vec<String>,
    /// The space that it belongs to
    #[arg(long, value_name = "SPACE", default_value = DEFAULT_SPACE)]
    pub space: String,
    /// Another image than octopusdeploy/tentacle of TENTACLE_TAG
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Run Docker inside of it, with full privileges
    #[arg(long)]
    pub dind: bool,
    /// Give up waiting after this many seconds; the daemon goes on
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
    /// Return as soon as the daemon has taken it
    #[arg(long)]
    pub no_wait: bool,
}
