//! The front door: one address for all nodes, or none, and what it serves with.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::network::Network;
use super::timing::milliseconds;

/// What `FRONT_DOOR` and the variables beside it say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FrontDoorConfig {
    /// Whether there is one. Without it node 1 itself is published on `OCTOPUS_PORT`. A stack that was
    /// kept before there were front doors has none until its next `up`.
    pub on: bool,
    /// `TLS_CERT`, as written: relative to the project directory.
    pub certificate: Option<String>,
    /// `TLS_KEY`, as written.
    pub key: Option<String>,
    /// `HTTPS_PORT`.
    pub https_port: Option<u16>,
    /// `HOLD_TIMEOUT`: how long a request waits for a node before it is told that there is none.
    #[serde(rename = "hold_ms", with = "milliseconds")]
    pub hold: Duration,
    /// `FRONT_DOOR_TRUSTED_PROXIES`: whose word about a client counts.
    pub trusted_proxies: Vec<Network>,
    /// `FRONT_DOOR_ACCESS_LOG`: whether each request is written down.
    pub access_log: bool,
}
