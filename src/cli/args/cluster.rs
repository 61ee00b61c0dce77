//! What can be typed about exports, and about the cluster that one went to.

use std::path::PathBuf;

use clap::Subcommand;

use super::Format;
use crate::config::MAX_NODES;
use crate::export::kubernetes::options::Options;

/// What `export` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportFlags {
    /// For which tool
    #[command(subcommand)]
    pub command: ExportCommand,
}

/// For which tool a stack is exported.
#[derive(Clone, Debug, Subcommand)]
pub enum ExportCommand {
    /// Write manifests for a cluster, its secrets in a file of their own, and the way there
    Kubernetes {
        /// The directory: a new or empty one, or that of an earlier export
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How many Octopus nodes, for this time
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
        nodes: Option<u8>,
        /// What a configuration for one host does not say
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Write a compose file and a `.env` that run the same stack on the same volumes
    Compose {
        /// The directory: a new or empty one, or that of an earlier export [default: show the
        /// compose file]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// What `kubernetes` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct KubernetesFlags {
    /// What to do
    #[command(subcommand)]
    pub command: KubernetesCommand,
    /// The context of kubectl [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace [default: the project's name]
    #[arg(short = 'n', long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// What can be done about a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum KubernetesCommand {
    /// Show the nodes, SQL Server, what is under way, and what differs from the configuration
    Status {
        /// How to show it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Move all nodes to another version, with a backup before it and a way back
    Upgrade(KubernetesUpgradeFlags),
    /// Hand this stack over to the cluster with its data, or go back
    Handover(HandoverFlags),
}

/// What `kubernetes upgrade` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct KubernetesUpgradeFlags {
    /// The version, such as 2026.3.1
    pub tag: String,
    /// Only say what would be done
    #[arg(long)]
    pub plan: bool,
    /// Make no backup: there is no way back then
    #[arg(long)]
    pub no_backup: bool,
    /// The database [default: the only one that SQL Server has]
    #[arg(long, value_name = "NAME", conflicts_with = "no_backup")]
    pub database: Option<String>,
    /// Whether it asks, and how long it waits.
    #[command(flatten)]
    pub patience: Patience,
}

/// What `kubernetes handover` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct HandoverFlags {
    /// Only say what would be done
    #[arg(long)]
    pub plan: bool,
    /// Go back: the nodes there end, and `up` works here again
    #[arg(long, conflicts_with = "plan")]
    pub undo: bool,
    /// The image of the pod that files are copied through; it needs bash, tar and sha256sum
    /// [default: the nodes' own, SQL Server's where that has no shell]
    #[arg(long, value_name = "IMAGE")]
    pub helper_image: Option<String>,
    /// Whether it asks, and how long it waits.
    #[command(flatten)]
    pub patience: Patience,
}

/// What asks before a cluster is changed, and how long its command waits.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Patience {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Give up waiting after so long [default: 7200]; calling it again goes on
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 7200,
        hide_default_value = true
    )]
    pub wait_timeout: u64,
}
