//! How often things are asked and how long they may take. Changing any of it recreates no
//! container.

use serde::Deserialize;
use serde::Serialize;

/// All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between probes of a unit that starts, in the first `fast_window_ms`.
    pub start_probe_fast_ms: u64,
    /// Between probes of a unit that starts, later.
    pub start_probe_slow_ms: u64,
    /// How long a start is probed fast.
    pub fast_window_ms: u64,
    /// Between probes of a unit that is ready.
    pub steady_probe_ms: u64,
    /// How long one probe may take.
    pub probe_timeout_ms: u64,
    /// Failures in a row after which a unit counts as hung. After one failure the next probe
    /// follows at once.
    pub misses: u32,
    /// How long a node's start may go without progress.
    pub node_start_limit_ms: u64,
    /// How long SQL Server's start may go without progress.
    pub sql_start_limit_ms: u64,
    /// How long SQL Server may refuse our password, its log standing still, before that is
    /// believed.
    pub refused_grace_ms: u64,
    /// How long a node gets between SIGTERM and SIGKILL.
    pub node_stop_grace_ms: u64,
    /// How long SQL Server gets to shut down before SIGKILL.
    pub sql_stop_limit_ms: u64,
    /// The wait before the second restart in a row; the first is immediate.
    pub backoff_first_ms: u64,
    /// The longest wait between restarts.
    pub backoff_max_ms: u64,
    /// How long a unit must be ready for its failures to be forgotten.
    pub backoff_reset_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start_probe_fast_ms: 50,
            start_probe_slow_ms: 250,
            fast_window_ms: 120_000,
            steady_probe_ms: 5_000,
            probe_timeout_ms: 2_000,
            misses: 3,
            node_start_limit_ms: 15 * 60_000,
            sql_start_limit_ms: 10 * 60_000,
            refused_grace_ms: 20_000,
            node_stop_grace_ms: 60_000,
            sql_stop_limit_ms: 120_000,
            backoff_first_ms: 1_000,
            backoff_max_ms: 60_000,
            backoff_reset_ms: 10 * 60_000,
        }
    }
}
