//! How much of everything is measured. The defaults keep a whole run under six minutes.

use crate::environment::number;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Cold starts.
    pub(crate) rounds: u32,
    /// Seconds over which the idle daemon is watched.
    pub(crate) idle_s: u32,
    /// How often the daemon is killed.
    pub(crate) kills: u32,
}

impl Sizes {
    /// As the environment says.
    pub(crate) fn read() -> Self {
        Self {
            rounds: number("OCTO_BENCH_ROUNDS", 5),
            idle_s: number("OCTO_BENCH_IDLE_S", 60),
            kills: number("OCTO_BENCH_KILLS", 20),
        }
    }
}
