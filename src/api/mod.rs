//! The control API: HTTP and JSON on a unix socket that only its owner may open. It converts types
//! and errors, no more.

pub mod client;
pub mod server;

use serde::Deserialize;
use serde::Serialize;

use crate::daemon::message::PasswordStep;
use crate::daemon::message::RestoreStep;
use crate::daemon::message::TentacleStep;
use crate::engine::Endpoint;
use crate::spec::UnitId;
use crate::spec::tentacle::TentacleName;

/// The form of requests and answers. A daemon of another form is replaced before it is asked for
/// more.
pub const FORM: u32 = 1;
/// A configuration with a licence and many variables is some kilobytes; what is larger is not one.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// Where each request goes: the daemon's routes and what asks for them are the same words.
pub mod route {
    /// Who answers.
    pub const IDENTITY: &str = "/v1/identity";
    /// The status now.
    pub const STATUS: &str = "/v1/status";
    /// The status, and each one after it.
    pub const STATUS_STREAM: &str = "/v1/status/stream";
    /// What is kept of the project.
    pub const STORED: &str = "/v1/stored";
    /// Apply a configuration.
    pub const UP: &str = "/v1/up";
    /// What applying one would do.
    pub const PLAN: &str = "/v1/plan";
    /// Take the stack down.
    pub const DOWN: &str = "/v1/down";
    /// Restart units.
    pub const RESTART: &str = "/v1/restart";
    /// Stop units.
    pub const STOP: &str = "/v1/stop";
    /// Start units.
    pub const START: &str = "/v1/start";
    /// Let nodes take no more tasks.
    pub const DRAIN: &str = "/v1/drain";
    /// Let nodes take tasks again.
    pub const UNDRAIN: &str = "/v1/undrain";
    /// A restore begins or has ended.
    pub const RESTORE: &str = "/v1/restore";
    /// Take the last upgrade back.
    pub const ROLLBACK: &str = "/v1/rollback";
    /// The password of `sa` is changed, or was written down.
    pub const SA_PASSWORD: &str = "/v1/sa-password";
    /// Have all nodes finish their tasks and take no more, as long as the answer is read: it is the
    /// stream of statuses.
    pub const QUIESCE: &str = "/v1/quiesce";
    /// Add or remove a Tentacle.
    pub const TENTACLE: &str = "/v1/tentacle";
    /// Begin nothing further of an `up`.
    pub const CANCEL: &str = "/v1/cancel";
    /// Nobody follows an `up` any more.
    pub const SESSION_END: &str = "/v1/session/end";
    /// Go, for a newer daemon.
    pub const HANDOVER: &str = "/v1/handover";
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The version of the program.
    pub version: Vec<u32>,
    /// When the program's file was written, in seconds since 1970: tells two builds of one version
    /// apart.
    pub built: u64,
    /// The form of the API.
    pub form: u32,
}

impl Identity {
    /// This very program.
    pub fn own() -> Self {
        let version = env!("CARGO_PKG_VERSION")
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        let written = std::env::current_exe()
            .and_then(std::fs::metadata)
            .and_then(|file| file.modified());
        let built = written
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Self {
            version,
            built: built.map_or(0, |since| since.as_secs()),
            form: FORM,
        }
    }
}

/// Take the stack down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DownBody {
    /// The data too.
    pub volumes: bool,
    /// Seconds that nodes get in all, from now on.
    pub timeout_s: Option<u64>,
    /// Tasks that run are not waited for.
    #[serde(default)]
    pub skips_tasks: bool,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// Units to act on; none means all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnitsBody {
    /// The units.
    pub units: Vec<UnitId>,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// Take the last upgrade back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RollbackBody {
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// Have all nodes finish their tasks and take no more, for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuiesceBody {
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// The password of `sa` is changed, or was written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PasswordBody {
    /// Which.
    pub step: PasswordStep,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// Add or remove a Tentacle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TentacleBody {
    /// Its name.
    pub name: TentacleName,
    /// What is to become of it.
    pub step: TentacleStep,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// A restore begins or has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestoreBody {
    /// Which.
    pub step: RestoreStep,
    /// The engine that is meant.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}
