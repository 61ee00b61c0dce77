//! Who takes tasks: the flag that the database keeps of each node, the command that sets it, and
//! what must be true of it.

use std::collections::BTreeMap;

use octo_local::reconcile::Action;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Subject;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::observed::Instance;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;

use super::calls::Answer;
use super::sim::Event;
use super::sim::Sim;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;

/// How long tasks may go on in these runs.
pub(super) const DRAIN_TIMEOUT: Ms = 8_000;

/// What became of asking a run to finish its tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Ms,
    /// It was answered, or failed.
    over: bool,
}

/// The runs that were asked.
#[derive(Debug, Default)]
pub(super) struct Drains(BTreeMap<Instance, Asked>);

impl Drains {
    /// Whether a run was asked to finish its tasks: whether it could be spared was judged then.
    pub(super) fn was_asked(&self, instance: &Instance) -> bool {
        self.0.contains_key(instance)
    }
}

impl Sim {
    /// Sets the flag of a node; its tasks take a while.
    pub(super) fn drain(&mut self, number: u64, unit: UnitId, id: &str) -> Option<Answer> {
        if let Err(trouble) = self.takes_commands(id) {
            return Some(Err(trouble));
        }
        self.world.drained.insert(unit);
        let wait = if self.chance.percent(30) {
            self.chance.between(100, DRAIN_TIMEOUT)
        } else {
            0
        };
        self.later(wait, Event::Answer(number, Ok(Outcome::default())));
        None
    }

    pub(super) fn undrain(&mut self, unit: UnitId, id: &str) -> Answer {
        self.takes_commands(id)?;
        self.world.drained.remove(&unit);
        Ok(Outcome::default())
    }

    fn takes_commands(&mut self, id: &str) -> Result<(), Trouble> {
        let made = self.world.containers.get(id);
        let runs = made.is_some_and(|made| made.doing == Doing::Running);
        if !runs {
            return Err(Trouble::refused("the container does not run"));
        }
        if self.chaos && self.chance.percent(5) {
            return Err(Trouble::refused("its command ended with 1"));
        }
        Ok(())
    }

    /// Takes a node off the list, as one that serves is asked to.
    pub(super) fn take_off(&mut self, node: &str) -> Answer {
        let runs = |(_, _, made): (_, _, &Made)| made.node == node && made.doing == Doing::Running;
        let runs = self.world.all_ours().any(runs);
        self.must(!runs, || format!("{node} runs and is taken off the list"));
        if self.chaos && self.chance.percent(20) {
            return Err(Trouble::refused("the API answers 500"));
        }
        self.world.listed.remove(node);
        Ok(Outcome::default())
    }

    /// At rest nobody is listed who left and of whom that is known, but those who could not be
    /// taken off yet.
    pub(super) fn check_who_is_listed(&mut self, spec: &StackSpec) {
        let Some(daemon) = &self.daemon else { return };
        let records = &daemon.state().records;
        let wanted = |name: &String| {
            let mut nodes = spec.nodes.iter();
            nodes.any(|node| node.node_name() == Some(name))
        };
        let is_ready = |unit| records.get(unit).is_some_and(|one| one.health().ready);
        let serves = spec.nodes.iter().any(|node| is_ready(node.unit));
        let known = records.durable.roster.keys().filter(|name| {
            self.world.listed.contains(*name) && !records.unlisted.contains_key(*name)
        });
        let left: Vec<String> = known.filter(|name| !wanted(name)).cloned().collect();
        self.must(left.is_empty() || !serves, || {
            format!("still listed: {left:?}")
        });
    }

    /// A run is asked to finish its tasks.
    pub(super) fn note_drain(&mut self, instance: &Instance) {
        let drains = &mut self.invariants.drains.0;
        drains.entry(instance.clone()).or_insert(Asked {
            at: self.now,
            over: false,
        });
    }

    /// That was answered, or failed.
    pub(super) fn note_end_of_drain(&mut self, action: &Action) {
        if let Action::Drain { instance, .. } = action
            && let Some(asked) = self.invariants.drains.0.get_mut(instance)
        {
            asked.over = true;
        }
    }

    /// A node that serves is not ended by choice before its tasks could end.
    pub(super) fn check_drained(&mut self, unit: UnitId, instance: &Instance) {
        // A person was in a hurry, or said for how long tasks are waited for.
        let now = self.now;
        let until = self.desired().deadlines.tasks;
        let is_over = until.is_some_and(|until| self.daemon.as_ref().unwrap().at(now) >= until);
        let hurries = self.desired().hurry || is_over;
        if !unit.is_server() || hurries || !self.invariants.says_ready(unit, instance) {
            return;
        }
        let asked = self.invariants.drains.0.get(instance).copied();
        let may = asked.is_some_and(|asked| asked.over || now - asked.at >= DRAIN_TIMEOUT);
        let cannot_be_asked = self.cannot_take_tasks(unit);
        self.must(may || cannot_be_asked, || {
            format!("{unit} serves and is stopped before it finished its tasks: {asked:?}")
        });
    }

    /// Whether asking a node about its tasks failed, and waits for its next try.
    pub(super) fn cannot_take_tasks(&self, unit: UnitId) -> bool {
        let blocked = self.daemon.as_ref().map(|it| &it.state().records.blocked);
        blocked.is_some_and(|blocked| blocked.contains_key(&Subject::Tasks(unit)))
    }

    /// At rest nobody is drained but those whom a person drained.
    pub(super) fn check_who_takes_tasks(&mut self, unit: UnitId) {
        let wished = self.desired().drained.contains(&unit);
        let serves = self.world.unit(unit).is_some_and(Made::serves);
        let is_drained = self.world.drained.contains(&unit);
        self.must(!serves || !unit.is_server() || wished == is_drained, || {
            format!("{unit} is drained: {is_drained}, and wished so: {wished}")
        });
    }
}
