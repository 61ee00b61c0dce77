//! A bounded chaos run over a live demo stack: faults are drawn by a seed, the invariants are
//! checked after each, and it ends with an empty plan.
//!
//! `OCTO_SOAK_SECONDS` (default 180) bounds the drawing, `OCTO_SOAK_SEED` repeats a run: for hours
//! by hand, `OCTO_SOAK_SECONDS=7200 cargo test --test main soak -- --nocapture`.

mod faults;
mod host;
mod watch;

use std::time::Duration;

use tokio::time::Instant;

use faults::Fault;
use watch::Watch;

use crate::kit::chance::Chance;
use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// How long faults are drawn.
const SECONDS: u64 = 180;
/// Nodes of the stack.
const NODES: u8 = 3;
/// After so many faults the daemon has seen each of its ways once: from then on it must not grow.
const WARM_AFTER: usize = 8;
/// How much the daemon may grow, in kibibytes.
const GROWTH_LIMIT: u64 = 1024;

/// The stack and the daemon under test.
struct Soak {
    stack: Stack,
    daemon: Option<Running>,
}

impl Soak {
    fn begin() -> Self {
        let stack = Stack::demo("soak");
        for (key, value) in [
            ("STANDIN_SQL_START_DELAY_MS", "50"),
            ("STANDIN_SQL_LOGIN_DELAY_MS", "50"),
            ("STANDIN_SQL_IGNORE_SIGTERM", "Y"),
            ("STANDIN_OCTOPUS_MIGRATE_MS", "100"),
            ("RESTART_BACKOFF_MAX", "2s"),
            // A hang must be found out within the time of this run; the waits before a kill stay
            // the usual ones.
            ("PROBE_INTERVAL", "1s"),
        ] {
            stack.set(key, value);
        }
        let mut soak = Self {
            stack,
            daemon: None,
        };
        soak.attend();
        soak.stack
            .run(&["up", "--demo", "--nodes", &NODES.to_string()])
            .ok();
        soak
    }

    /// Starts a daemon in the foreground, as systemd would after the last one ended.
    fn attend(&mut self) {
        self.daemon = Some(self.stack.spawn(&["daemon"]));
        wait_until("the daemon answers", || {
            (self.stack.daemon().is_some() && self.is_supervised()).then_some(())
        });
    }

    fn is_supervised(&self) -> bool {
        self.stack.status()["supervised"] == true
    }

    /// The memory of the daemon in kibibytes.
    fn memory(&self) -> u64 {
        host::resident(self.stack.daemon().expect("a daemon runs"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the soak chooses its length and seed"
)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_stack_outlives_chaos() {
    let seed = variable("OCTO_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let half = Duration::from_secs(variable("OCTO_SOAK_SECONDS").unwrap_or(SECONDS)) / 2;
    let mut chance = Chance::new(seed);
    let mut soak = Soak::begin();
    let mut watch = Watch::new(seed);

    // One daemon sees all of the first half: it must not grow.
    let until = Instant::now() + half;
    let mut warm = None;
    while Instant::now() < until {
        let fault = *chance.pick(&Fault::OF_THE_STACK).unwrap();
        watch.observe(&mut soak, fault, &mut chance);
        if watch.tried() == WARM_AFTER {
            warm = Some(soak.memory());
        }
    }
    let growth = warm.map(|warm| soak.memory().saturating_sub(warm));

    let until = Instant::now() + half;
    while Instant::now() < until {
        let fault = *chance.pick(&Fault::ALL).unwrap();
        watch.observe(&mut soak, fault, &mut chance);
    }
    soak.stack
        .run(&["plan", "--demo", "--nodes", &NODES.to_string()])
        .ok();
    watch.tell(growth);
    assert!(
        growth.is_none_or(|growth| growth < GROWTH_LIMIT),
        "the daemon grew by {growth:?} KiB (seed {seed})"
    );
    soak.stack.run(&["down", "--volumes", "--yes"]).ok();
}
