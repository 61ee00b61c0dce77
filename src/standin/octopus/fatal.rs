//! Why the stand-in ends: the vendor's words where they are known, and the exit code.

use std::process::ExitCode;

use crate::config::ado::AdoError;
use crate::sql::SqlError;

/// Two nodes, or two versions, met on one database: what the stand-in is there to find.
const COLLIDED: u8 = 3;
/// A setting that cannot be used (sysexits' `EX_CONFIG`).
const MISCONFIGURED: u8 = 78;

/// A reason to end. Its `Display` is the line that is logged, so these begin as the vendor's lines
/// do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fatal {
    /// A variable cannot be used.
    #[error("ERROR: {0}")]
    Setting(String),
    /// The connection string cannot be read.
    #[error("ERROR: DB_CONNECTION_STRING cannot be used: {0}")]
    ConnectionString(#[from] AdoError),
    /// The licence agreement was not accepted.
    #[error("ERROR: You must accept the EULA")]
    Eula,
    /// The database server could not be reached or logged in to.
    #[error("Connection test to \"master\" timed out after trying for {seconds} seconds{why}")]
    Unreachable {
        /// How long it tried.
        seconds: u64,
        /// Why, where that is sure; begins with a colon.
        why: String,
    },
    /// The database went away while the node was starting.
    #[error("FATAL: the database went away during start: {0}")]
    DatabaseLost(#[from] SqlError),
    /// The database has a master key and none was given.
    #[error("Please enter a valid master key")]
    MasterKeyMissing,
    /// The database was made with another master key.
    #[error("The master key is invalid")]
    MasterKeyWrong,
    /// A directory cannot be written.
    #[error("Access to the path '{0}' is denied.")]
    Denied(String),
    /// A directory cannot be written for another reason.
    #[error("FATAL: write {path}: {why}")]
    Storage {
        /// The file.
        path: String,
        /// The system's words.
        why: std::io::Error,
    },
    /// Another node was starting or upgrading at the same time.
    #[error("FATAL: two nodes are migrating the same database: {0}")]
    TwoMigrating(String),
    /// A dead connection kept the upgrade lock.
    #[error("FATAL: the upgrade lock was not free within {0} seconds")]
    Locked(u64),
    /// A node of another version was running.
    #[error("FATAL: mixed versions on one database: {0}")]
    MixedVersions(String),
    /// The database was upgraded by a newer version.
    #[error("FATAL: the database schema is newer than this version: {0}")]
    SchemaNewer(String),
    /// An upgrade, and other nodes look as if they ran.
    #[error(
        "The database upgrade was aborted because other Octopus Server nodes are still running: {0}. Stop all nodes before upgrading."
    )]
    NodesRunning(String),
    /// The port could not be opened.
    #[error("FATAL: listen on {address}: {why}")]
    Port {
        /// The address.
        address: String,
        /// The system's words.
        why: std::io::Error,
    },
    /// A fault that was asked for.
    #[error("{0}")]
    Injected(String),
    /// A fault that was asked for: ending with success.
    #[error("The server ends, as it was asked to")]
    EndedWell,
}

impl Fatal {
    /// The process' exit code.
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::EndedWell => ExitCode::SUCCESS,
            Self::TwoMigrating(_) | Self::MixedVersions(_) | Self::SchemaNewer(_) => {
                ExitCode::from(COLLIDED)
            }
            Self::Setting(_) | Self::ConnectionString(_) => ExitCode::from(MISCONFIGURED),
            Self::Eula
            | Self::Unreachable { .. }
            | Self::DatabaseLost(_)
            | Self::MasterKeyMissing
            | Self::MasterKeyWrong
            | Self::Denied(_)
            | Self::Storage { .. }
            | Self::Locked(_)
            | Self::NodesRunning(_)
            | Self::Port { .. }
            | Self::Injected(_) => ExitCode::FAILURE,
        }
    }
}
