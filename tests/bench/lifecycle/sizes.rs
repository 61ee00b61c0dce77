//! How much of everything is measured. The defaults keep a whole run under twelve minutes.

use crate::environment::number;

/// How often and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Upgrades whose outage is measured.
    pub(crate) outages: u32,
    /// Restarts of nodes while tasks run.
    pub(crate) restarts: u32,
    /// Upgrades while tasks run.
    pub(crate) upgrades: u32,
    /// Stops of SQL Server.
    pub(crate) stops: u32,
    /// Upgrades that are taken back.
    pub(crate) drills: u32,
    /// MiB that are backed up and restored.
    pub(crate) mebibytes: u32,
    /// How often they are.
    pub(crate) volumes: u32,
}

impl Sizes {
    /// As the environment says.
    pub(crate) fn read() -> Self {
        Self {
            outages: number("OCTO_BENCH_OUTAGES", 5),
            restarts: number("OCTO_BENCH_RESTARTS", 50),
            upgrades: number("OCTO_BENCH_UPGRADES", 20),
            stops: number("OCTO_BENCH_STOPS", 100),
            drills: number("OCTO_BENCH_DRILLS", 50),
            mebibytes: number("OCTO_BENCH_MIB", 1024),
            volumes: number("OCTO_BENCH_VOLUMES", 3),
        }
    }
}
