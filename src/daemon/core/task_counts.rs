//! How many tasks a node that is drained still runs: for people, who wait for it. Only Octopus
//! Server knows, and says so to whoever has an API key.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use crate::daemon::message::Effect;
use crate::reconcile::Mono;
use crate::reconcile::observed::Instance;
use crate::spec::UnitId;

/// Between two questions about one node.
const ASK_EVERY: Duration = Duration::from_secs(3);

/// When the nodes that finish their tasks were last asked about.
#[derive(Debug, Default)]
pub(super) struct TaskCounts {
    asked: BTreeMap<UnitId, Mono>,
}

impl TaskCounts {
    /// Whose tasks are to be counted now, of those that finish them.
    fn due(&mut self, draining: &[(UnitId, Instance)], now: Mono) -> Vec<(UnitId, Instance)> {
        self.asked
            .retain(|unit, _| draining.iter().any(|(drains, _)| drains == unit));
        let mut due = draining.to_vec();
        due.retain(|(unit, _)| {
            let asked = self.asked.get(unit);
            asked.is_none_or(|at| now.since(*at) >= ASK_EVERY)
        });
        self.asked.extend(due.iter().map(|(unit, _)| (*unit, now)));
        due
    }

    /// When somebody is to be asked about next.
    fn due_at(&self) -> Option<Mono> {
        let next = self.asked.values().map(|at| at.after(ASK_EVERY));
        next.min()
    }
}

impl Core {
    /// Has the tasks of nodes counted that finish them, where a key is known to ask with.
    pub(super) fn count_tasks_of_draining_nodes(&mut self) {
        let spec = self.state.desired.spec.as_ref();
        let Some(spec) = spec.filter(|spec| spec.api_key().is_some()) else {
            return;
        };
        let draining: Vec<(UnitId, Instance)> = self
            .state
            .drains()
            .map(|(unit, drain)| (unit, drain.instance.clone()))
            .collect();
        let due = self.learned.task_counts.due(&draining, self.now.mono);
        let asks = due.into_iter().filter_map(|(unit, instance)| {
            let node = spec.container(unit)?.clone();
            Some(Effect::CountTasks(unit, instance, Box::new(node)))
        });
        self.out.extend(asks);
    }

    /// When tasks are to be counted next.
    pub(super) fn counts_tasks_at(&self) -> Option<Mono> {
        self.learned.task_counts.due_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_about_now_and_then_while_it_drains() {
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let run = Instance {
            id: "a".to_owned(),
            started_at: "1".to_owned(),
        };
        let drains = [(UnitId::Node(1), run)];
        let mut counts = TaskCounts::default();
        assert_eq!(counts.due_at(), None);
        assert_eq!(counts.due(&drains, at(1)).len(), 1);
        assert_eq!(counts.due(&drains, at(2)), []);
        assert_eq!(counts.due_at(), Some(at(4)));
        assert_eq!(counts.due(&drains, at(4)).len(), 1);
        assert_eq!(counts.due(&[], at(5)), []);
        assert_eq!(counts.due_at(), None, "nobody drains any more");
        assert_eq!(counts.due(&drains, at(5)).len(), 1, "another drain");
    }
}
