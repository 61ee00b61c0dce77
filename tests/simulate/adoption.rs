//! The daemon dies again and again while all is well: who takes its place adopts what runs, and
//! does nothing to it.

use super::mix::ADOPTION;
use super::sim::Outcome;
use super::sim::Sim;

impl Sim {
    /// A stack comes up, and its daemon is killed so often, at any instant of its life. What runs
    /// must run on untouched, and at the end be called ready.
    pub(super) fn adoption(seed: u64, kills: u64) -> Outcome {
        let mut sim = Self::new(seed, ADOPTION, false);
        let env = sim.env.clone();
        sim.up_as_announced(&env);
        let (before, actions) = (sim.snapshot(), sim.invariants.actions);
        sim.must(
            !before.is_empty() && before.values().all(|(.., runs)| *runs),
            || "not everything runs".to_owned(),
        );
        // From now on looks fail, events get lost, and probes cannot be judged.
        sim.chaos = true;
        for _ in 0..kills {
            // Most die young: while they look for the first time, or probe for the first time.
            let life = if sim.chance.percent(2) {
                sim.chance.between(2_000, 40_000)
            } else {
                sim.chance.below(1_000)
            };
            sim.run_until(sim.now + life);
            sim.kill_daemon();
            let pause = sim.chance.below(300);
            sim.run_until(sim.now + pause);
            sim.begin_daemon(false, false);
            sim.judge_adoption(&before, actions);
        }
        sim.chaos = false;
        sim.settle();
        sim.judge_adoption(&before, actions);
        sim.outcome()
    }

    fn judge_adoption(&mut self, before: &super::rest::Snapshot, actions: u64) {
        let now = self.snapshot();
        self.must(now == *before, || format!("{before:?} became {now:?}"));
        let done = self.invariants.actions - actions;
        self.must(done == 0, || {
            format!("{done} actions, and nothing was to be done")
        });
    }
}
