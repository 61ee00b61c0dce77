//! What is checked after each fault, and what is told at the end.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tokio::time::Instant;

use super::NODES;
use super::Soak;
use super::faults::Fault;
use super::faults::Moved;
use crate::kit::chance::Chance;
use crate::kit::http;
use crate::kit::process::wait_until;

/// What was seen so far.
pub(super) struct Watch {
    seed: u64,
    tried: BTreeMap<Fault, usize>,
    slowest: Option<(Duration, Fault)>,
}

impl Watch {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            tried: BTreeMap::new(),
            slowest: None,
        }
    }

    /// How many faults were tried.
    pub(super) fn tried(&self) -> usize {
        self.tried.values().sum()
    }

    /// Does a fault, waits until the stack is well, and checks the invariants.
    pub(super) fn observe(&mut self, soak: &mut Soak, fault: Fault, chance: &mut Chance) {
        self.say(&format!("fault {}: {fault:?}", self.tried() + 1));
        let (since, before) = (soak.stack.witness.now(), soak.stack.started());
        let moved = fault.strike(soak, chance);
        let struck = Instant::now();
        if moved.must_move {
            wait_until("what was struck runs anew", || {
                (!soak.stack.starts(since).is_empty()).then_some(())
            });
        }
        soak.stack.wait_for("ready");
        let took = struck.elapsed();
        *self.tried.entry(fault).or_default() += 1;
        self.slowest = self.slowest.max(Some((took, fault)));
        self.check(soak, &before, &moved);
    }

    /// The invariants of `design`: no version mixed, no two starts at once, nothing moved that was
    /// well, nothing left over.
    fn check(&self, soak: &Soak, before: &BTreeMap<String, String>, moved: &Moved) {
        let stack = &soak.stack;
        // A node that lost its database for a moment first reconnects.
        let violations = wait_until("node 1 has its database", || {
            http::get(
                stack.port("octopus-server-1"),
                "/api/standin/violations",
                "",
            )
            .filter(|(code, _)| *code == 200)
        });
        assert_eq!(violations.1, "[]", "seed {}", self.seed);
        let after = stack.started();
        for unit in units().iter().filter(|unit| !moved.units.contains(unit)) {
            let name = stack.container(unit);
            assert_eq!(
                before.get(&name),
                after.get(&name),
                "{unit} was well and was moved (seed {})",
                self.seed
            );
        }
        assert_eq!(
            after.len(),
            units().len(),
            "one container a unit: {after:?}"
        );
        assert_eq!(stack.witness.networks(&stack.label()).len(), 1);
        // SQL Server's data, four shared volumes, and a cache for each node.
        assert_eq!(
            stack.witness.volumes(&stack.label()).len(),
            5 + usize::from(NODES)
        );
        let file = std::fs::metadata(stack.state().join("state.json")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(stack.status()["supervised"], true);
    }

    /// Says how it went.
    pub(super) fn tell(&self, growth: Option<u64>) {
        let slowest = self
            .slowest
            .map(|(took, fault)| format!("{:.1} s after {fault:?}", took.as_secs_f64()));
        let growth = growth.map_or("not measured".to_owned(), |growth| format!("{growth} KiB"));
        self.say(&format!(
            "{} faults of {} kinds, 0 violations, slowest recovery {}, the daemon grew by {growth}; seed {}: {:?}",
            self.tried(),
            self.tried.len(),
            slowest.unwrap_or_default(),
            self.seed,
            self.tried,
        ));
    }

    /// Past the test runner's capture: a soak of hours should be seen to go on.
    #[expect(clippy::unused_self, reason = "what is said is said by the watch")]
    fn say(&self, text: &str) {
        let _ = std::io::stderr().write_all(format!("soak: {text}\n").as_bytes());
    }
}

fn units() -> Vec<String> {
    let nodes = (1..=NODES).map(|number| format!("octopus-server-{number}"));
    std::iter::once("db".to_owned()).chain(nodes).collect()
}
