//! Nodes that left are taken off Octopus Server's list once nothing of them is there any more.

use super::Pass;
use crate::reconcile::Action;
use crate::reconcile::Phase;
use crate::reconcile::action::Subject;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;

impl Pass<'_> {
    /// Any node that serves can be asked to do it.
    pub(super) fn take_off_who_left(&mut self, spec: &StackSpec) {
        let mut left = self.records.durable.who_left(spec).peekable();
        let is_to_be_done = left.peek().is_some() && spec.api_key().is_some();
        if !is_to_be_done || !self.all_are_as_wanted() {
            return;
        }
        let mut nodes = spec.nodes.iter().map(|node| node.unit);
        let Some(by) = nodes.find(|unit| self.phase(spec, *unit) == Phase::Ready) else {
            return;
        };
        for node in left {
            match self.records.unlisted.get(node).map(|one| one.retry_at) {
                Some(None) => continue,
                Some(Some(at)) if at > self.now => {
                    self.wake_at(at);
                    continue;
                }
                Some(Some(_)) | None => {}
            }
            self.act(Action::TakeOff {
                node: node.clone(),
                by,
            });
        }
    }

    /// Whether the name of a node is being taken off Octopus Server's list, or still may be by a call
    /// that nobody waits for any more: one that started meanwhile would serve and not be listed.
    /// Asks to be woken when that is over.
    pub(super) fn may_leave_list(&mut self, spec: &StackSpec, unit: UnitId) -> bool {
        let mut nodes = spec.nodes.iter();
        let name = nodes.find(|node| node.unit == unit);
        let Some(name) = name.and_then(ContainerSpec::node_name) else {
            return false;
        };
        let until = self.records.may_leave_list_until.get(name).copied();
        let until = until.filter(|until| *until > self.now);
        if let Some(until) = until {
            self.wake_at(until);
        }
        until.is_some() || self.records.is_busy(&Subject::Place(name.to_owned()))
    }

    /// Whether no container is there but of wanted nodes as they are wanted: one of another
    /// definition may have another name, under which it would enter itself again.
    fn all_are_as_wanted(&self) -> bool {
        let mut containers = self.seen.containers.iter();
        containers.all(|one| self.digests.get(&one.unit) == Some(&one.digest))
    }
}
