//! The planner: one pure function that starts the stack, supervises it, replaces containers, and
//! takes the stack down.
//!
//! A plan is one step, not a script: do it, look again, ask again. Everything that may happen next
//! is decided here, so the invariants of the project are properties of this function
//! (`tests/simulate.rs` checks them).

mod drain;
mod fit;
mod roster;
mod stop;
mod tentacle;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Action;
use super::Desired;
use super::Goal;
use super::Mono;
use super::Observed;
use super::Phase;
use super::Plan;
use super::UnitRecords;
use super::action::Subject;
use super::action::Verb;
use super::action::Why;
use super::images;
use super::observed::Container;
use super::observed::Instance;
use super::observed::Run;
use super::phase::phase_of;
use super::record::Migrated;
use super::record::UnitRecord;
use crate::spec::ContainerSpec;
use crate::spec::Digest;
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::UnitId;
use crate::spec::build::SQL_DATA;
pub(super) use fit::Fit;

/// What to do now, and when to ask again.
pub fn plan(desired: &Desired, seen: &Observed, records: &UnitRecords, now: Mono) -> Plan {
    let there = |wanted: &&ContainerSpec| seen.container(wanted.unit).is_some();
    let wanted = desired
        .spec
        .iter()
        .flat_map(|spec| spec.containers().chain(&spec.tentacles))
        .filter(there);
    let digests = wanted
        .map(|wanted| (wanted.unit, wanted.digest()))
        .collect();
    let mut pass = Pass {
        desired,
        seen,
        records,
        now,
        digests,
        needed: BTreeSet::new(),
        database_ends: false,
        plan: Plan::default(),
    };
    match (&desired.spec, desired.goal) {
        (Some(spec), Goal::Up) => pass.up(spec),
        (Some(_), Goal::Hold) if desired.hands_off => pass.examine(),
        (Some(spec), Goal::Hold) => pass.hold(spec),
        (None, Goal::Up | Goal::Hold) => {}
        (_, Goal::Halt) => {
            pass.halt();
        }
        (_, Goal::Down { volumes }) => pass.down(volumes),
    }
    pass.tentacles();
    pass.plan
}

/// How well a container fits what is wanted, by what the engine shows alone: nothing is remembered
/// of its run. `plan` shows people by it what `up` will do.
pub(super) fn fit_of(desired: &Desired, seen: &Observed, container: &Container) -> Fit {
    let Some(spec) = &desired.spec else {
        return Fit::Surplus;
    };
    let wanted = spec.container(container.unit);
    let pass = Pass {
        desired,
        seen,
        records: &UnitRecords::default(),
        now: Mono::default(),
        digests: wanted
            .map(|one| (one.unit, one.digest()))
            .into_iter()
            .collect(),
        needed: BTreeSet::new(),
        database_ends: false,
        plan: Plan::default(),
    };
    pass.fit(spec, container)
}

/// Whether no node runs and none can be started by what is under way.
pub fn no_node_runs(desired: &Desired, seen: &Observed, records: &UnitRecords, now: Mono) -> bool {
    let mut pass = Pass {
        desired,
        seen,
        records,
        now,
        digests: BTreeMap::new(),
        needed: BTreeSet::new(),
        database_ends: false,
        plan: Plan::default(),
    };
    pass.no_node_runs()
}

struct Pass<'a> {
    desired: &'a Desired,
    seen: &'a Observed,
    records: &'a UnitRecords,
    now: Mono,
    /// The fingerprints of what is wanted: they are asked for often, and cost more than all else
    /// here.
    digests: BTreeMap<UnitId, Digest>,
    /// The images that something is to be made of.
    needed: BTreeSet<&'a str>,
    /// SQL Server must end, be it now or when its turn comes.
    database_ends: bool,
    plan: Plan,
}

impl<'a> Pass<'a> {
    fn up(&mut self, spec: &'a StackSpec) {
        self.needed = images::needed(spec, self.seen, |wanted, found| {
            self.is_made(spec, wanted, found)
        });
        self.infrastructure(spec);
        self.stop_what_must_end(spec);
        self.remove_what_must_go(spec);
        self.create_what_is_missing(spec);
        self.mend_attachments(spec);
        self.start_next(spec);
        self.settle_who_takes_tasks(spec);
        self.take_off_who_left(spec);
        // Last, because a start need not wait for what only names the cause.
        self.examine();
    }

    /// Keeps what has served, and begins nothing new: somebody interrupted a start.
    fn hold(&mut self, spec: &'a StackSpec) {
        let containers = self.seen.containers.iter();
        for container in containers.filter(|container| container.is_running()) {
            if let Fit::Broken(cause) = self.broken(spec, container)
                && self.has_served_once(container.unit)
                && self.may_end_broken(spec, container, cause)
            {
                self.stop(container, Why::Broken(cause));
            }
        }
        self.mend_attachments(spec);
        self.start_next(spec);
        // One that was drained to be replaced is not replaced now.
        self.settle_who_takes_tasks(spec);
        self.examine();
    }

    /// Whether any run of a unit served since this daemon began.
    fn has_served_once(&self, unit: UnitId) -> bool {
        self.records
            .get(unit)
            .is_some_and(|record| record.served_once)
    }

    /// Stops everything in order. True when nothing runs any more.
    fn halt(&mut self) -> bool {
        let running: Vec<&Container> = self
            .seen
            .containers
            .iter()
            .filter(|container| container.is_running())
            .collect();
        for container in &running {
            if container.unit.is_server() || self.no_node_runs() {
                self.end(container, Why::Down);
            }
            if container.unit.is_server()
                && self.is_stopping(container.unit)
                && self.gives_no_more_grace()
            {
                self.kill(container);
            }
        }
        running.is_empty()
    }

    fn down(&mut self, volumes: bool) {
        let stopped = self.halt();
        for container in &self.seen.containers {
            if !container.is_running() && (container.unit.is_server() || self.no_node_runs()) {
                self.act(Action::Remove(container.unit, container.id.clone()));
            }
        }
        // A container that is still being made would bring a volume back, and nobody would know it
        // by its labels.
        let at_work = self
            .records
            .busy
            .keys()
            .any(|subject| matches!(subject, Subject::Unit(_)));
        // So would one that is still there keep the network.
        let is_there = self.seen.all().next().is_some();
        if !stopped || is_there || at_work {
            return;
        }
        for id in self.seen.networks.keys() {
            self.remove_unless_left(Action::RemoveNetwork(id.clone()));
        }
        if volumes {
            for name in &self.seen.volumes {
                self.remove_unless_left(Action::RemoveVolume(name.clone()));
            }
        }
    }

    /// What somebody else uses is left to them after a few tries, so that `down` ends.
    fn remove_unless_left(&mut self, action: Action) {
        if !self.records.is_left(&action.subject()) {
            self.act(action);
        }
    }

    fn infrastructure(&mut self, spec: &StackSpec) {
        match self.seen.network() {
            None => self.act(Action::CreateNetwork),
            // Two networks of one name, made by hand, block every later call by that name.
            Some(kept) => {
                let attached = |id: &str| {
                    self.seen
                        .containers
                        .iter()
                        .any(|one| one.networks.contains(id))
                };
                let mut surplus = self
                    .seen
                    .networks
                    .keys()
                    .filter(|id| *id != kept && !attached(id));
                surplus
                    .next()
                    .into_iter()
                    .for_each(|id| self.act(Action::RemoveNetwork(id.clone())));
            }
        }
        for name in spec
            .our_volumes()
            .filter(|name| !self.seen.volumes.contains(*name))
        {
            self.act(Action::CreateVolume(name.to_owned()));
        }
        let next = self.desired.wanted_next.iter().map(String::as_str);
        let needed = self.needed.iter().copied().chain(next);
        let missing = needed.filter(|image| !self.seen.images.contains_key(*image));
        let refreshed = self.desired.refresh.iter().map(String::as_str);
        for image in missing.chain(refreshed).collect::<BTreeSet<_>>() {
            self.act(Action::Pull(image.to_owned()));
        }
    }

    /// Whether a unit's container is to be made: there is none, or it is to be replaced. Nodes that
    /// rest for a while are made after it, so what they need is fetched before anything else ends
    /// for a replacement.
    fn is_made(&self, spec: &StackSpec, wanted: &ContainerSpec, found: Option<&Container>) -> bool {
        let is_stopped = self.desired.stopped.contains(&wanted.unit);
        found.map_or(!is_stopped, |found| match self.fit(spec, found) {
            Fit::Replace => true,
            Fit::Resting => self.is_outdated(wanted, found),
            Fit::Right | Fit::Broken(_) | Fit::Surplus | Fit::Halted | Fit::Restart => false,
        })
    }

    fn examine(&mut self) {
        for (unit, record) in &self.records.units {
            let unread = record.failures.unread.as_ref();
            if let Some(instance) = record.unexamined().or(unread) {
                self.act(Action::Examine(*unit, instance.clone()));
            }
        }
    }

    fn remove_what_must_go(&mut self, spec: &StackSpec) {
        for container in &self.seen.containers {
            let surplus = self
                .seen
                .container(container.unit)
                .is_some_and(|best| best.id != container.id);
            let unwanted = matches!(self.fit(spec, container), Fit::Replace | Fit::Surplus);
            if !container.is_running() && container.run != Run::Removing && (surplus || unwanted) {
                self.act(Action::Remove(container.unit, container.id.clone()));
            }
        }
    }

    /// A container is created as soon as it can be, so that the wait for its turn costs nothing.
    fn create_what_is_missing(&mut self, spec: &StackSpec) {
        for wanted in spec.containers() {
            let exists = self.seen.container(wanted.unit).is_some();
            if !exists && self.can_be_created(spec, wanted) && self.may_try(wanted.unit) {
                self.act(Action::Create(wanted.unit));
            }
        }
    }

    fn can_be_created(&self, spec: &StackSpec, wanted: &ContainerSpec) -> bool {
        let volumes = || {
            wanted
                .mounts
                .values()
                .filter_map(Storage::ours)
                .all(|volume| self.seen.volumes.contains(volume))
        };
        !self.seen.networks.is_empty()
            && self.seen.images.contains_key(&wanted.image)
            && !self.desired.refresh.contains(&wanted.image)
            && volumes()
            && !self.desired.rests(wanted.unit)
            && spec.container(wanted.unit).is_some()
    }

    /// Whether a failed unit may be tried again now. Asks to be woken when it may.
    fn may_try(&mut self, unit: UnitId) -> bool {
        let Some(record) = self.records.get(unit) else {
            return true;
        };
        if record.gave_up().is_some() || record.waits_for_examination() {
            return false;
        }
        match record.failures.retry_at {
            Some(until) if until > self.now => {
                self.wake_at(until);
                false
            }
            Some(_) | None => true,
        }
    }

    /// What a person did to a container that can be undone without a restart.
    fn mend_attachments(&mut self, spec: &StackSpec) {
        for container in &self.seen.containers {
            if self.fit(spec, container) == Fit::Right {
                self.mend(container);
            }
        }
    }

    fn mend(&mut self, container: &Container) {
        let (unit, id) = (container.unit, container.id.clone());
        if container.engine_restarts {
            self.act(Action::DisarmRestartPolicy(unit, id.clone()));
        }
        let is_cut_off = !self.seen.is_attached(container) && !self.seen.networks.is_empty();
        if is_cut_off && container.is_running() {
            self.act(Action::Connect(unit, id));
        }
    }

    /// Starts the first unit in order that does not serve, if nothing stands in its way. Never two.
    ///
    /// The order of nodes matters while the database may still be migrated: the first one does
    /// that. Afterwards one that does not serve and cannot be started now holds up nobody.
    fn start_next(&mut self, spec: &StackSpec) {
        if self.versions_differ() {
            return;
        }
        let is_migrated = self.is_migrated(spec);
        for unit in spec.units() {
            if self.desired.rests(unit) {
                match unit.role() {
                    Role::Database => return,
                    Role::Server | Role::Tentacle => continue,
                }
            }
            if self.phase(spec, unit).is_well() {
                continue;
            }
            let may_begin = self.desired.goal != Goal::Hold || self.has_served_once(unit);
            let container = self.startable(spec, unit).filter(|_| may_begin);
            if let Some(id) = &container
                && self.may_start_beside_others(spec, unit)
            {
                self.act(Action::Start(unit, id.clone()));
            }
            match unit.role() {
                Role::Database => return,
                Role::Server if container.is_some() || !is_migrated => return,
                Role::Server | Role::Tentacle => {}
            }
        }
    }

    /// Whether the database serves a unit that is to be started, and nothing is in its way.
    fn may_start_beside_others(&mut self, spec: &StackSpec, unit: UnitId) -> bool {
        let database_serves = match unit.role() {
            Role::Database | Role::Tentacle => true,
            Role::Server => !self.database_ends && self.database_served_after_end_of(spec, unit),
        };
        database_serves && !self.something_starts(spec, unit)
    }

    /// Whether the database answered that it serves since the last run of this node ended: both may
    /// have ended at once, and the engine tells of one first.
    fn database_served_after_end_of(&self, spec: &StackSpec, unit: UnitId) -> bool {
        let ended = self.records.get(unit).and_then(UnitRecord::ended);
        let database = self.records.get(UnitId::Sql).map(UnitRecord::health);
        let answered_at = database.and_then(|health| health.last_ready_at);
        self.phase(spec, UnitId::Sql) == Phase::Ready
            && ended.is_none_or(|ended| answered_at >= Some(ended.at))
    }

    /// Whether a node of the version that is wanted served on the database that is wanted.
    fn is_migrated(&self, spec: &StackSpec) -> bool {
        let Some(migrated) = &self.records.durable.migrated else {
            return false;
        };
        let wanted = spec.nodes.first().map(|node| &node.image);
        let pinned = wanted.and_then(|image| self.desired.images.get(image));
        let has_data = spec
            .volumes
            .get(SQL_DATA)
            .and_then(Storage::ours)
            .is_none_or(|data| self.seen.volumes.contains(data));
        has_data
            && pinned == Some(&migrated.image_id)
            && migrated.database == Migrated::name_of_database(spec)
    }

    /// Whether another unit is in the way of this one: it is between its start and its first
    /// readiness. A node also meets one that is being stopped, or is frozen, before it ever served:
    /// until it ends it may migrate the database, unless that is done. So the database waits for
    /// the end of one that is being stopped: it lost the database once in its migration.
    fn something_starts(&mut self, spec: &StackSpec, unit: UnitId) -> bool {
        let is_migrated = self.is_migrated(spec);
        let in_the_way = |container: &&Container| match unit.role() {
            Role::Server if !is_migrated => !self.has_served(container),
            Role::Database
                if !is_migrated
                    && self.is_stopping(container.unit)
                    && !self.has_served(container) =>
            {
                true
            }
            Role::Server | Role::Database | Role::Tentacle => {
                self.phase(spec, container.unit) == Phase::Starting
            }
        };
        let mut running = self
            .seen
            .containers
            .iter()
            .filter(|container| container.is_running());
        running.any(|container| in_the_way(&container))
            || self
                .records
                .busy
                .iter()
                .any(|(subject, (verb, _))| *verb == Verb::Start && !subject.is_of_tentacle())
            || self.some_other_may_start(unit)
    }

    /// Whether the engine may still start another unit, although it said nothing about that for too
    /// long. Asks to be woken when it may not any more.
    fn some_other_may_start(&mut self, unit: UnitId) -> bool {
        let others = self
            .records
            .units
            .iter()
            .filter(|(other, _)| **other != unit && !other.is_tentacle());
        let last = others
            .filter_map(|(_, record)| record.may_start_until)
            .max()
            .filter(|until| *until > self.now);
        if let Some(until) = last {
            self.wake_at(until);
        }
        last.is_some()
    }

    /// Whether a container was ready at least once in the run that it is in.
    fn has_served(&self, container: &Container) -> bool {
        let record = self.records.get(container.unit);
        record.is_some_and(|record| {
            record.health().started && record.instance() == container.instance().as_ref()
        })
    }

    /// The container of a unit that can be started now, as far as that is the unit's own affair.
    fn startable(&mut self, spec: &StackSpec, unit: UnitId) -> Option<String> {
        let container = self.seen.container(unit)?;
        let may_run = match &container.run {
            Run::Created | Run::Exited { .. } => {
                self.fit(spec, container) == Fit::Right || self.is_restart(container)
            }
            Run::Running { .. } | Run::Paused { .. } | Run::Removing => false,
        };
        let can = may_run
            && self.seen.is_attached(container)
            && self.may_try(unit)
            && !self.may_leave_list(spec, unit);
        can.then(|| container.id.clone())
    }

    /// A container that was stopped in order to be started again.
    fn is_restart(&self, container: &Container) -> bool {
        self.desired.restart.get(&container.unit) == container.instance().as_ref()
    }

    fn phase(&self, spec: &StackSpec, unit: UnitId) -> Phase {
        phase_of(
            unit,
            unit.is_database() && spec.sql.is_none(),
            self.seen,
            self.records,
            self.now,
        )
    }

    /// Adds an action unless something already works on its subject, or its last failure asks to
    /// wait.
    fn act(&mut self, action: Action) {
        let subject = action.subject();
        if self.records.is_busy(&subject)
            || self
                .plan
                .actions
                .iter()
                .any(|other| other.subject() == subject)
        {
            return;
        }
        if let Some(blocked) = self.records.blocked.get(&subject)
            && blocked.retry_at > self.now
        {
            self.wake_at(blocked.retry_at);
            return;
        }
        self.plan.actions.push(action);
    }

    fn wake_at(&mut self, at: Mono) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The run that a restart wish is about, for a unit that has one.
pub fn restart_wish(seen: &Observed, unit: UnitId) -> Option<Instance> {
    seen.container(unit).and_then(Container::instance)
}
