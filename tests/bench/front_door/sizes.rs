//! How much of everything is measured.

use crate::environment::number;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// How long each load lasts.
    pub(crate) seconds: u32,
    /// Connections of each load.
    pub(crate) connections: u32,
    /// How often each door has its turn.
    pub(crate) rounds: u32,
    /// Restarts of nodes, in pairs.
    pub(crate) restarts: u32,
    /// How often the daemon is killed.
    pub(crate) kills: u32,
    /// Requests that are at least made meanwhile.
    pub(crate) requests: u32,
}

impl Sizes {
    /// As the environment says.
    pub(crate) fn read() -> Self {
        Self {
            seconds: number("OCTO_BENCH_SECONDS", 4),
            connections: number("OCTO_BENCH_CONNECTIONS", 64),
            rounds: number("OCTO_BENCH_ROUNDS", 3),
            restarts: number("OCTO_BENCH_RESTARTS", 50),
            kills: number("OCTO_BENCH_KILLS", 20),
            requests: number("OCTO_BENCH_REQUESTS", 200_000),
        }
    }
}
