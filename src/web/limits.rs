//! The bounds of the front door. Pure.

use serde::Deserialize;
use serde::Serialize;

/// The bounds of the front door, each with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of a request's head: browsers send a few KiB, Octopus' own cookies included.
    pub head_bytes: usize,
    /// Fields of a head.
    pub head_fields: usize,
    /// Milliseconds from a head's first byte to its last, and for a TLS handshake: a slow sender
    /// keeps a connection no longer than this.
    pub head_ms: u64,
    /// Milliseconds that a connection may lie idle between requests.
    pub idle_ms: u64,
    /// Connections in all; the process' descriptors may allow fewer.
    pub connections: usize,
    /// Connections from one address, trusted proxies excepted.
    pub per_address: usize,
    /// Requests that wait for a node at once; more are told at once that there is none.
    pub held: usize,
    /// Requests at once on one h2 connection.
    pub streams: u32,
    /// Milliseconds for a connection to a node, which is on the same host.
    pub connect_ms: u64,
    /// Milliseconds in which neither the request moves nor an answer begins.
    pub silence_ms: u64,
    /// Milliseconds without a byte in either direction of an upgraded or passed-through connection.
    /// A Tentacle that polls says something every few seconds.
    pub tunnel_idle_ms: u64,
    /// Milliseconds that running requests get when the process ends or hands over.
    pub finish_ms: u64,
    /// Milliseconds between two looks at a node that a failed connection took out.
    pub probe_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            head_fields: 100,
            head_ms: 10_000,
            idle_ms: 75_000,
            connections: 8192,
            per_address: 1024,
            held: 1024,
            streams: 128,
            connect_ms: 2000,
            silence_ms: 15 * 60_000,
            tunnel_idle_ms: 60 * 60_000,
            finish_ms: 120_000,
            probe_ms: 250,
        }
    }
}
