//! All nodes finish their tasks and take no more for a while, so that what is read meanwhile is of one
//! moment. It lasts as long as whoever asked is there, and is kept nowhere: after a death on either
//! side nodes take tasks again, save those that a person drained.

use std::collections::BTreeSet;

use super::Core;
use crate::daemon::message::Denied;
use crate::reconcile::Goal;

/// How many sessions are remembered that ended before their turn; far more than wait at once.
const REMEMBERED: usize = 64;

/// Who has all nodes drained for a while, by the numbers of their sessions.
#[derive(Debug, Default)]
pub(super) struct Quiesce {
    on: BTreeSet<u64>,
    /// Sessions that ended before their wish was carried out.
    ended: BTreeSet<u64>,
}

impl Quiesce {
    pub(super) fn is_on(&self) -> bool {
        !self.on.is_empty()
    }

    /// False where whoever asked has left already.
    fn begin(&mut self, number: u64) -> bool {
        let is_there = !self.ended.remove(&number);
        if is_there {
            self.on.insert(number);
        }
        is_there
    }

    /// True where nobody wants it any more.
    fn end(&mut self, number: u64) -> bool {
        if !self.on.remove(&number) {
            // One that was refused comes here too: only the last ones can still be in the queue.
            self.ended.insert(number);
            if self.ended.len() > REMEMBERED {
                self.ended.pop_first();
            }
            return false;
        }
        self.on.is_empty()
    }
}

impl Core {
    /// Whether nodes may be drained for a while now.
    pub(super) fn admit_quiesce(&self) -> Result<(), Denied> {
        let because = |words: &str| Err(Denied::Because(words.to_owned()));
        if let Some(denied) = self.deny_any_up().or_else(|| self.deny_for_password()) {
            return Err(denied);
        }
        let kept = self.keeping.stored();
        if kept.goal(&self.setup.endpoint) != Goal::Up {
            return because("the stack is not up: what no node runs on is of one moment anyway");
        }
        if kept.backups.upgrades.upgrading.is_some() {
            return because("an upgrade is not done: ask again when it is");
        }
        Ok(())
    }

    pub(super) fn begin_quiesce(&mut self, number: u64) {
        if self.learned.quiesce.begin(number) {
            self.tell(
                "",
                "all nodes finish their tasks and take no more, for a backup",
            );
        }
    }

    /// Whoever asked for it left, or is done.
    pub(super) fn end_quiesce(&mut self, number: u64) {
        if self.learned.quiesce.end(number) {
            self.tell("", "nodes take tasks again");
            self.derive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_as_long_as_somebody_is_there() {
        let mut quiesce = Quiesce::default();
        assert!(quiesce.begin(1) && quiesce.begin(2));
        assert!(!quiesce.end(1) && quiesce.is_on());
        assert!(quiesce.end(2) && !quiesce.is_on());
        assert!(!quiesce.end(3), "it left before it was its turn");
        assert!(!quiesce.begin(3) && !quiesce.is_on());
    }
}
