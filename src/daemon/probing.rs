//! One prober for each run of a unit, and none for what does not run.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::driver::Driver;
use super::prober::Prober;
use super::prober::Target;
use crate::engine::Engine;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::reconcile::observed::Run;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// A prober at work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    instance: Option<Instance>,
    target: String,
    task: JoinHandle<()>,
    nudge: Arc<Notify>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    pub(super) fn nudge(&self, unit: UnitId) {
        if let Some(running) = self.probers.get(&unit) {
            running.nudge.notify_one();
        }
    }

    /// Keeps one prober for each run, and none for what does not run.
    pub(super) fn probe(&mut self) {
        let (Some(spec), Some(engine)) = (self.state.desired.spec.clone(), self.engine.clone())
        else {
            self.probers.clear();
            return;
        };
        let mut wanted: BTreeMap<UnitId, (Option<Instance>, Target)> = BTreeMap::new();
        if spec.sql.is_none() {
            wanted.insert(UnitId::Sql, (None, Target::Database(spec.database.clone())));
        }
        // A frozen process cannot answer, and is not asked.
        let moves = |container: &&Container| matches!(container.run, Run::Running { .. });
        for container in self.state.seen.containers.iter().filter(moves) {
            let current = spec
                .container(container.unit)
                .filter(|wanted| wanted.digest() == container.digest);
            let target = match (container.unit, current) {
                (_, None) => None,
                (UnitId::Sql, Some(_)) => Some(Target::Database(spec.database.clone())),
                (UnitId::Node(_), Some(node)) => node.host_address().map(Target::Node),
            };
            if let Some(target) = target {
                wanted.insert(container.unit, (container.instance(), target));
            }
        }
        self.probers.retain(|unit, running| {
            let want = wanted.get(unit);
            // One that ended without being told to met a bug; another takes its place.
            let works = !running.task.is_finished();
            want.is_some_and(|(instance, target)| {
                works && *instance == running.instance && format!("{target:?}") == running.target
            })
        });
        for (unit, (instance, target)) in wanted {
            if !self.probers.contains_key(&unit) {
                self.begin_probing(unit, instance, target, &spec, &engine);
            }
        }
    }

    pub(super) fn begin_probing(
        &mut self,
        unit: UnitId,
        instance: Option<Instance>,
        target: Target,
        spec: &StackSpec,
        engine: &Engine,
    ) {
        let nudge = Arc::new(Notify::new());
        let text = format!("{target:?}");
        let prober = Prober {
            unit,
            instance: instance.clone(),
            target,
            timing: spec.timing.clone(),
            engine: engine.clone(),
            events: self.events.clone(),
            nudge: nudge.clone(),
        };
        let task = tokio::spawn(prober.run());
        self.probers.insert(
            unit,
            Running {
                instance,
                target: text,
                task,
                nudge,
            },
        );
    }
}
