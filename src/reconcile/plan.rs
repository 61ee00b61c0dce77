//! The planner: one pure function that starts the stack, supervises it, replaces containers, and takes the stack down.
//!
//! A plan is one step, not a script: do it, look again, ask again. Everything that may happen next is decided here, so the
//! invariants of the project are properties of this function (`tests/simulate.rs` checks them).

use std::time::Duration;

use super::Action;
use super::Cause;
use super::Desired;
use super::Goal;
use super::Mono;
use super::Observed;
use super::Phase;
use super::Plan;
use super::Tracks;
use super::action::Subject;
use super::observed::Container;
use super::observed::Instance;
use super::observed::Run;
use super::phase::phase_of;
use super::track::Track;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// How long a process that no longer answers gets between SIGTERM and SIGKILL: it will not make use of more.
pub const HUNG_GRACE: Duration = Duration::from_secs(2);

/// What to do now, and when to ask again.
pub fn plan(desired: &Desired, seen: &Observed, tracks: &Tracks, now: Mono) -> Plan {
    let mut pass = Pass { desired, seen, tracks, now, plan: Plan::default() };
    match (&desired.spec, desired.goal) {
        (Some(spec), Goal::Up) => pass.up(spec),
        (Some(_), Goal::Hold) => pass.examine(),
        (None, Goal::Up | Goal::Hold) => {}
        (_, Goal::Halt) => {
            pass.halt();
        }
        (_, Goal::Down { volumes }) => pass.down(volumes),
    }
    pass.plan
}

/// Whether a container may stay as it is.
#[derive(Clone, Debug, PartialEq)]
enum Fit {
    /// It is what is wanted.
    Right,
    /// It must end and start again: a person asked.
    Restart,
    /// It is beyond waiting for and must end, to be started again.
    Broken(Cause),
    /// It must be replaced by another of the same name: its definition changed.
    Replace,
    /// Nobody wants it any more.
    Surplus,
    /// The operator stopped this unit.
    Halted,
}

struct Pass<'a> {
    desired: &'a Desired,
    seen: &'a Observed,
    tracks: &'a Tracks,
    now: Mono,
    plan: Plan,
}

impl<'a> Pass<'a> {
    fn up(&mut self, spec: &'a StackSpec) {
        self.infrastructure(spec);
        self.examine();
        self.stop_what_must_end(spec);
        self.remove_what_must_go(spec);
        self.create_what_is_missing(spec);
        self.mend_attachments(spec);
        self.start_next(spec);
    }

    /// Stops everything in order. True when nothing runs any more.
    fn halt(&mut self) -> bool {
        let running: Vec<&Container> = self.seen.containers.iter().filter(|container| container.is_running()).collect();
        for container in &running {
            if container.unit != UnitId::Sql || !self.seen.any_node_runs() {
                self.stop(container, "the stack goes down", None);
            }
        }
        running.is_empty()
    }

    fn down(&mut self, volumes: bool) {
        let stopped = self.halt();
        for container in &self.seen.containers {
            if !container.is_running() && (container.unit != UnitId::Sql || !self.seen.any_node_runs()) {
                self.act(Action::Remove(container.unit, container.id.clone()));
            }
        }
        if !stopped || !self.seen.containers.is_empty() {
            return;
        }
        for id in self.seen.networks.keys() {
            self.act(Action::RemoveNetwork(id.clone()));
        }
        if volumes {
            for name in &self.seen.volumes {
                self.act(Action::RemoveVolume(name.clone()));
            }
        }
    }

    fn infrastructure(&mut self, spec: &StackSpec) {
        if self.seen.networks.is_empty() {
            self.act(Action::CreateNetwork);
        }
        for (key, name) in &spec.volumes {
            if !self.seen.volumes.contains(name) {
                self.act_on(&Subject::Volume(name.clone()), Action::CreateVolume(key.clone()));
            }
        }
        for image in spec.images() {
            if !self.seen.images.contains_key(image) {
                self.act(Action::Pull(image.to_owned()));
            }
        }
    }

    fn examine(&mut self) {
        for (unit, track) in &self.tracks.units {
            if let Some(instance) = track.unexamined.as_ref().or(track.unread.as_ref()) {
                self.act(Action::Examine(*unit, instance.clone()));
            }
        }
    }

    /// How well a container fits what is wanted.
    fn fit(&self, spec: &StackSpec, container: &Container) -> Fit {
        let unit = container.unit;
        let Some(wanted) = spec.container(unit) else { return Fit::Surplus };
        if wanted.digest() != container.digest {
            return Fit::Replace;
        }
        if self.desired.stopped.contains(&unit) {
            return Fit::Halted;
        }
        let asked = self.desired.restart.get(&unit);
        if asked.is_some() && asked == container.instance().as_ref() {
            return Fit::Restart;
        }
        self.broken(spec, container)
    }

    /// Whether a running container is beyond waiting for.
    fn broken(&self, spec: &StackSpec, container: &Container) -> Fit {
        let unknown = Track::default();
        let track = self.tracks.get(container.unit).unwrap_or(&unknown);
        let database_is_well = container.unit == UnitId::Sql || self.database_was_well_after(spec, track);
        match self.phase(spec, container.unit) {
            Phase::Unready if database_is_well && track.health.misses >= spec.timing.misses => Fit::Broken(Cause::Hung),
            Phase::Starting if container.unit != UnitId::Sql && !self.database_runs(spec) => {
                Fit::Broken(Cause::LostDatabase)
            }
            Phase::Starting if database_is_well && self.now >= start_deadline(container.unit, spec, track) => {
                Fit::Broken(Cause::StuckStarting)
            }
            Phase::Absent
            | Phase::Created
            | Phase::Starting
            | Phase::Ready
            | Phase::Unready
            | Phase::Paused
            | Phase::Dead
            | Phase::Stopping
            | Phase::BackingOff { .. }
            | Phase::CrashLoop { .. }
            | Phase::Failed(_) => Fit::Right,
        }
    }

    /// Whether the database answered after this node began to fail: only then is it the node's own fault.
    fn database_was_well_after(&self, spec: &StackSpec, node: &Track) -> bool {
        let answered = self.tracks.get(UnitId::Sql).and_then(|sql| sql.health.last_ready_at);
        let failing = node.health.failing_since;
        self.phase(spec, UnitId::Sql) == Phase::Ready && failing.is_none_or(|since| answered >= Some(since))
    }

    /// Whether the database can be expected to answer some time: a container of ours runs, or it is external.
    fn database_runs(&self, spec: &StackSpec) -> bool {
        spec.sql.is_none() || self.seen.container(UnitId::Sql).is_some_and(Container::is_running)
    }

    fn stop_what_must_end(&mut self, spec: &'a StackSpec) {
        let sql_must_end = self.seen.container(UnitId::Sql).is_some_and(|sql| {
            sql.is_running() && matches!(self.fit(spec, sql), Fit::Replace | Fit::Halted | Fit::Surplus | Fit::Restart)
        });
        let versions_differ = self.versions_differ(spec);
        for container in self.seen.containers.iter().filter(|container| container.is_running()) {
            let is_node = container.unit != UnitId::Sql;
            // SQL Server is never taken down under a running node.
            let turn = is_node || !self.seen.any_node_runs();
            match self.fit(spec, container) {
                Fit::Right if is_node && sql_must_end => self.stop(container, "SQL Server is stopped too", None),
                Fit::Right => {}
                Fit::Broken(cause) => self.stop(container, cause.title(), Some(cause)),
                Fit::Surplus => self.stop(container, "it is one node too many", None),
                Fit::Halted if turn => self.stop(container, "the operator stopped it", None),
                Fit::Replace | Fit::Restart if is_node => {
                    if sql_must_end || versions_differ || self.may_take_out(spec, container) {
                        self.stop(container, "it is replaced or restarted", None);
                    }
                }
                Fit::Replace | Fit::Restart if turn => self.stop(container, "it is replaced or restarted", None),
                Fit::Halted | Fit::Replace | Fit::Restart => {}
            }
        }
    }

    /// Two versions must never run together, so a changed image takes all nodes down at once.
    fn versions_differ(&self, spec: &StackSpec) -> bool {
        let wanted = spec.nodes.first().map(|node| node.image.as_str());
        let nodes = self.seen.containers.iter().filter(|container| container.unit != UnitId::Sql);
        nodes.filter(|node| node.is_running()).any(|node| Some(node.image.as_str()) != wanted)
    }

    /// One ready node at a time may be out by our own choice; one that does not serve is no loss.
    fn may_take_out(&self, spec: &StackSpec, container: &Container) -> bool {
        if !matches!(self.phase(spec, container.unit), Phase::Ready) {
            return true;
        }
        let others = spec.nodes.iter().map(|node| node.unit).filter(|unit| *unit != container.unit);
        let others_serve = others
            .filter(|unit| !self.desired.stopped.contains(unit))
            .all(|unit| self.phase(spec, unit) == Phase::Ready && !self.is_stopping_now(unit));
        others_serve && self.phase(spec, UnitId::Sql) == Phase::Ready && !self.stops_a_node_already()
    }

    fn is_stopping_now(&self, unit: UnitId) -> bool {
        self.tracks.is_busy(&Subject::Unit(unit))
    }

    fn stops_a_node_already(&self) -> bool {
        self.plan.actions.iter().any(|action| matches!(action, Action::Stop { unit, .. } if *unit != UnitId::Sql))
    }

    fn remove_what_must_go(&mut self, spec: &StackSpec) {
        for container in &self.seen.containers {
            let surplus = self.seen.container(container.unit).is_some_and(|best| best.id != container.id);
            let unwanted = matches!(self.fit(spec, container), Fit::Replace | Fit::Surplus);
            if !container.is_running() && (surplus || unwanted) {
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
        let volumes = || wanted.mounts.values().all(|volume| self.seen.volumes.contains(volume));
        !self.seen.networks.is_empty()
            && self.seen.images.contains_key(&wanted.image)
            && volumes()
            && !self.desired.stopped.contains(&wanted.unit)
            && spec.container(wanted.unit).is_some()
    }

    /// Whether a failed unit may be tried again now. Asks to be woken when it may.
    fn may_try(&mut self, unit: UnitId) -> bool {
        let Some(track) = self.tracks.get(unit) else { return true };
        if track.gave_up().is_some() || track.unexamined.is_some() {
            return false;
        }
        match track.retry_at {
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
            let wanted = self.fit(spec, container) == Fit::Right;
            if container.engine_restarts && wanted {
                self.act(Action::DisarmRestartPolicy(container.unit, container.id.clone()));
            }
            if wanted
                && !self.seen.is_attached(container)
                && !self.seen.networks.is_empty()
                && container.run != Run::Removing
            {
                self.act(Action::Connect(container.unit, container.id.clone()));
            }
        }
    }

    /// Starts the first unit in order that does not serve, if nothing stands in its way. Never two.
    fn start_next(&mut self, spec: &StackSpec) {
        if self.versions_differ(spec) || self.something_starts(spec) {
            return;
        }
        for unit in spec.units() {
            if self.desired.stopped.contains(&unit) {
                if unit == UnitId::Sql {
                    return;
                }
                continue;
            }
            if self.phase(spec, unit) == Phase::Ready && !self.will_stop(unit) {
                continue;
            }
            self.start(spec, unit);
            return;
        }
    }

    fn will_stop(&self, unit: UnitId) -> bool {
        self.plan.actions.iter().any(|action| matches!(action, Action::Stop { unit: stopped, .. } if *stopped == unit))
    }

    /// Whether any unit is between its start and its first readiness, or a start is under way.
    fn something_starts(&self, spec: &StackSpec) -> bool {
        let starting =
            |container: &Container| container.is_running() && self.phase(spec, container.unit) == Phase::Starting;
        self.seen.containers.iter().any(starting) || self.tracks.busy.values().any(|(verb, _)| *verb == "starting")
    }

    fn start(&mut self, spec: &StackSpec, unit: UnitId) {
        let Some(container) = self.seen.container(unit) else { return };
        let startable = match &container.run {
            Run::Created | Run::Exited { .. } => self.fit(spec, container) == Fit::Right || self.is_restart(container),
            Run::Running { .. } | Run::Paused { .. } | Run::Removing => false,
        };
        if startable && self.seen.is_attached(container) && self.may_try(unit) {
            self.act(Action::Start(unit, container.id.clone()));
        }
    }

    /// A container that was stopped in order to be started again.
    fn is_restart(&self, container: &Container) -> bool {
        self.desired.restart.get(&container.unit) == container.instance().as_ref()
    }

    fn phase(&self, spec: &StackSpec, unit: UnitId) -> Phase {
        phase_of(unit, unit == UnitId::Sql && spec.sql.is_none(), self.seen, self.tracks, self.now)
    }

    fn stop(&mut self, container: &Container, why: &str, cause: Option<Cause>) {
        let Some(instance) = container.instance() else { return };
        let unit = container.unit;
        let grace = if cause == Some(Cause::Hung) { HUNG_GRACE } else { self.stop_grace(unit) };
        self.act(Action::Stop { unit, instance, grace, why: why.to_owned(), cause });
    }

    fn stop_grace(&self, unit: UnitId) -> Duration {
        let timing = self.desired.spec.as_ref().map(|spec| spec.timing.clone()).unwrap_or_default();
        match unit {
            UnitId::Sql => Duration::from_millis(timing.sql_stop_limit_ms),
            UnitId::Node(_) => Duration::from_millis(timing.node_stop_grace_ms),
        }
    }

    fn act(&mut self, action: Action) {
        self.act_on(&action.subject(), action);
    }

    /// Adds an action unless something already works on its subject, or its last failure asks to wait.
    fn act_on(&mut self, subject: &Subject, action: Action) {
        if self.tracks.is_busy(subject) || self.plan.actions.iter().any(|other| other.subject() == *subject) {
            return;
        }
        if let Some(blocked) = self.tracks.blocked.get(subject)
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

/// When a unit that is starting and no longer moves counts as stuck. Progress puts it off.
pub fn start_deadline(unit: UnitId, spec: &StackSpec, track: &Track) -> Mono {
    let limit = match unit {
        UnitId::Sql => spec.timing.sql_start_limit_ms,
        UnitId::Node(_) => spec.timing.node_start_limit_ms,
    };
    track.progress_at.max(track.seen_at).after(Duration::from_millis(limit))
}

/// The run that a restart wish is about, for a unit that has one.
pub fn restart_wish(seen: &Observed, unit: UnitId) -> Option<Instance> {
    seen.container(unit).and_then(Container::instance)
}
