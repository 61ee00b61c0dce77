//! The invariants. Each is asserted where an action begins or a process starts, from what the
//! simulation itself knows: the model's truth, and what was delivered to the daemon; not from what
//! the planner made of it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use octo_local::daemon::message::RequestId;
use octo_local::daemon::store::Wish;
use octo_local::reconcile::Action;
use octo_local::reconcile::Cause;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Observed;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::Why;
use octo_local::reconcile::cause;
use octo_local::reconcile::cause::Class;
use octo_local::reconcile::cause::Evidence;
use octo_local::reconcile::container_event::ContainerEvent;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Instance;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::record::HOST_RECHECK;
use octo_local::reconcile::record::WAKING;
use octo_local::spec::ContainerSpec;
use octo_local::spec::Digest;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;

use super::process::OnLost;
use super::process::Phase;
use super::process::Process;
use super::sim::Sim;
use super::tasks::Drains;
use super::world::Doing;
use super::world::Ms;
use super::world::version_of;

/// More actions than these within [`BUSY_WINDOW`] are a busy loop: the biggest stack is made with
/// fewer.
const BUSY: usize = 70;
const BUSY_WINDOW: Ms = 10_000;
/// How old knowledge of a unit's health may be.
const STALE: Ms = 20_000;
/// How far behind the log the daemon may be: it looks every two seconds, and a look takes a while.
const LOG_LAG: Ms = 6_000;

/// What the simulation noted in order to invariants.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    pub(super) violation: Option<String>,
    /// The operator asked for the data to be removed.
    pub(super) volumes_may_go: bool,
    pub(super) last_act: Ms,
    pub(super) actions: u64,
    wanted: BTreeMap<UnitId, Digest>,
    known: Observed,
    /// Runs of whose end an event told since the last look began, with their exit codes.
    pub(super) deaths: BTreeMap<Instance, i64>,
    /// Runs that answered that they serve.
    served: BTreeSet<Instance>,
    served_units: BTreeSet<UnitId>,
    /// Runs whose end counted as a failure.
    counted: BTreeSet<Instance>,
    /// The run that answered last that it serves.
    ready: BTreeMap<UnitId, Instance>,
    ready_since: BTreeMap<UnitId, Ms>,
    streaks: BTreeMap<UnitId, Streak>,
    sql_ready_at: Ms,
    failures: BTreeMap<UnitId, (u32, Ms)>,
    permanent: BTreeMap<UnitId, Cause>,
    /// Runs that we end ourselves.
    ending: BTreeSet<Instance>,
    /// Nodes that we took out by choice and that do not serve again yet.
    out: BTreeSet<UnitId>,
    /// Runs that were asked to finish their tasks.
    pub(super) drains: Drains,
    woke_at: Option<Ms>,
    acts: VecDeque<Ms>,
    /// The last wish that was answered with yes, in the order in which they were asked for.
    promised: Option<(RequestId, Promise)>,
}

/// What a wish that was taken promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Up,
    Down,
}

/// Failures in a row of one run.
#[derive(Debug)]
struct Streak {
    instance: Instance,
    fails: u32,
    since: Ms,
}

/// An action in few words.
pub(super) fn brief(action: &Action) -> String {
    match action {
        Action::Stop {
            unit,
            instance,
            why,
            ..
        } => {
            format!(
                "Stop {unit} {} {}: {why:?}",
                instance.id, instance.started_at
            )
        }
        other => format!("{other:?}"),
    }
}

impl Invariants {
    /// A new daemon remembers nothing.
    pub(super) fn daemon_began(&mut self) {
        self.forgave();
        self.ready.clear();
        self.streaks.clear();
        self.known = Observed::default();
        self.deaths.clear();
        self.served.clear();
        self.served_units.clear();
        self.counted.clear();
        self.sql_ready_at = 0;
        self.woke_at = None;
        self.promised = None;
    }

    /// The configuration changed, or a person asked for another try.
    pub(super) fn forgave(&mut self) {
        self.failures.clear();
        self.permanent.clear();
    }

    /// A person asked for something about one unit.
    pub(super) fn forgave_unit(&mut self, unit: UnitId) {
        self.failures.remove(&unit);
        self.permanent.remove(&unit);
    }

    /// A wish was answered with yes.
    pub(super) fn wished(&mut self, id: RequestId, promise: Promise) {
        if self.promised.is_none_or(|(last, _)| last <= id) {
            self.promised = Some((id, promise));
        }
    }

    pub(super) fn wants(&mut self, spec: &StackSpec) {
        self.wanted = spec
            .containers()
            .chain(&spec.tentacles)
            .map(|container| (container.unit, container.digest()))
            .collect();
    }

    pub(super) fn is_current(&self, container: &Container) -> bool {
        self.wanted.get(&container.unit) == Some(&container.digest)
    }

    pub(super) fn looked(&mut self, seen: &Observed) {
        self.known = seen.clone();
        for one in self.known.all_mut() {
            if let Some(code) = one
                .instance()
                .and_then(|instance| self.deaths.get(&instance))
            {
                one.end(*code, false);
            }
        }
        self.forget_ended();
    }

    /// An event reaches the daemon. It tells of the end of a run that is known, not of one before
    /// it.
    pub(super) fn heard(&mut self, heard: &ContainerEvent) {
        let known = self
            .known
            .all_mut()
            .find(|one| one.id == heard.id && one.is_running());
        let Some((one, code)) = known.zip(heard.code) else {
            return;
        };
        let Some(instance) = one
            .instance()
            .filter(|instance| instance.began() < heard.at)
        else {
            return;
        };
        // Of a container that the engine cannot inspect no start time is known.
        if instance.began().is_some() {
            one.end(code, false);
            self.deaths.insert(instance, code);
            self.forget_ended();
        }
    }

    fn forget_ended(&mut self) {
        let seen = &self.known;
        let latest = |unit: &UnitId| seen.container(*unit).and_then(Container::instance);
        self.ready
            .retain(|unit, instance| latest(unit).as_ref() == Some(instance));
        // Whether one that was frozen serves is not known before it answers again.
        for frozen in seen
            .all()
            .filter(|one| matches!(one.run, Run::Paused { .. }))
        {
            self.ready.remove(&frozen.unit);
        }
    }

    pub(super) fn woke(&mut self, now: Ms) {
        self.woke_at = Some(now);
    }

    /// Whether the last look showed that this container was started at least once.
    pub(super) fn has_seen_run_of(&self, id: &str) -> bool {
        self.known
            .containers
            .iter()
            .any(|one| one.id == id && one.instance().is_some())
    }

    /// A probe's result reaches the daemon.
    pub(super) fn probed(
        &mut self,
        unit: UnitId,
        instance: Option<&Instance>,
        probe: &Probe,
        now: Ms,
    ) {
        let Some(instance) = instance else { return };
        if *probe == Probe::Ready {
            self.streaks.remove(&unit);
            self.ready.insert(unit, instance.clone());
            self.served.insert(instance.clone());
            self.served_units.insert(unit);
            self.out.remove(&unit);
            let since = *self.ready_since.entry(unit).or_insert(now);
            if let Some((count, at)) = self.failures.get_mut(&unit) {
                *at = 0;
                if now - since >= 30_000 {
                    *count = 0;
                }
            }
            if unit == UnitId::Sql {
                self.sql_ready_at = now;
            }
            return;
        }
        if matches!(probe, Probe::Unknown(_)) {
            return;
        }
        self.ready.remove(&unit);
        self.ready_since.remove(&unit);
        if matches!(probe, Probe::Drained(_)) {
            // It is well, and would serve.
            self.served.insert(instance.clone());
            self.served_units.insert(unit);
        }
        if !matches!(probe, Probe::Failure(..)) {
            self.streaks.remove(&unit);
            return;
        }
        let streak = self.streaks.entry(unit).or_insert_with(|| Streak {
            instance: instance.clone(),
            fails: 0,
            since: now,
        });
        if streak.instance != *instance {
            *streak = Streak {
                instance: instance.clone(),
                fails: 0,
                since: now,
            };
        }
        streak.fails += 1;
    }

    fn fail(&mut self, unit: UnitId, cause: Cause, now: Ms) {
        match cause.class() {
            Class::Permanent => {
                self.permanent.insert(unit, cause);
            }
            Class::Host => {
                let count = self.failures.get(&unit).map_or(0, |(count, _)| *count);
                self.failures
                    .insert(unit, (count, now + HOST_RECHECK.as_millis() as Ms));
            }
            Class::Transient => {
                let count = self.failures.get(&unit).map_or(0, |(count, _)| *count) + 1;
                let wait = count.checked_sub(2).map_or(0, |doublings| {
                    (1_000 << doublings.min(10)).min(8_000) * 9 / 10
                });
                self.failures.insert(unit, (count, now + wait));
            }
        }
    }

    /// Whether a run said last that it serves.
    pub(super) fn says_ready(&self, unit: UnitId, instance: &Instance) -> bool {
        self.ready.get(&unit) == Some(instance)
    }

    /// Whether a container runs as far as the daemon was told, and served in that run.
    pub(super) fn is_well(&self, unit: UnitId) -> bool {
        let known = self.known.container(unit);
        let known = known.filter(|container| matches!(container.run, Run::Running { .. }));
        let run = known.and_then(Container::instance);
        run.is_some_and(|run| self.served.contains(&run))
    }

    /// Whether a container runs as far as the daemon was told, and said last that it serves.
    fn serves(&self, unit: UnitId) -> bool {
        let moves = |container: &&Container| matches!(container.run, Run::Running { .. });
        let known = self.known.container(unit).filter(moves);
        known.is_some_and(|container| {
            container.instance().as_ref() == self.ready.get(&unit) && self.ready.contains_key(&unit)
        })
    }
}

impl Sim {
    /// A wish is on the disk before it is answered, where the disk takes it; and an earlier one
    /// does not take its place.
    pub(super) fn check_kept(&mut self, answered: RequestId) {
        let Some((id, promise)) = self.invariants.promised else {
            return;
        };
        if self.world.disk_full || self.disk.full {
            return;
        }
        let wish = self.disk.file.wish;
        let kept = match promise {
            Promise::Up => wish == Wish::Up,
            Promise::Down => matches!(wish, Wish::Down { .. } | Wish::Rest),
        };
        self.must(kept, || {
            format!("{promise:?} of {id:?} was promised, and {wish:?} is kept at {answered:?}")
        });
    }

    /// No node is made with a key that only its container would know.
    pub(super) fn check_key(&mut self, action: &Action) {
        let Action::Create(UnitId::Node(_)) = action else {
            return;
        };
        let kept = self.disk.file.master_key().is_some();
        self.must(kept, || {
            "a node is made with a key that nothing keeps".to_owned()
        });
    }

    /// Notes a violation; the first one counts.
    pub(super) fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.invariants.violation.is_none() {
            let what = what();
            self.trace(|| format!("VIOLATION: {what}"));
            self.invariants.violation = Some(what);
        }
    }

    pub(super) fn goal(&self) -> Goal {
        self.daemon
            .as_ref()
            .map_or(Goal::Hold, |daemon| daemon.state().desired.goal)
    }

    /// Whether the daemon has a reason not to touch what is there: nobody interrupted a start, or
    /// the data is gone.
    fn leaves_all_alone(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| {
            let stored = daemon.stored();
            !stored.held || !stored.is_up() || stored.lost_volume(&daemon.state().seen).is_some()
        })
    }

    /// An action begins.
    pub(super) fn check_action(&mut self, action: &Action) {
        let (now, goal) = (self.now, self.goal());
        self.trace(|| format!("-> {}", brief(action)));
        self.invariants.actions += 1;
        if !matches!(action, Action::Examine(..)) {
            self.invariants.last_act = now;
        }
        self.check_for_busy_loop();
        self.check_lease();
        let allowed = match (goal, action) {
            (_, Action::Examine(..)) => goal == Goal::Up || goal == Goal::Hold,
            (Goal::Hold, _) if self.leaves_all_alone() => false,
            // What has served is kept.
            (Goal::Hold, Action::Start(unit, _)) => self.invariants.served_units.contains(unit),
            (Goal::Hold, Action::Stop { unit, why, .. }) => {
                why.cause().is_some() && self.invariants.served_units.contains(unit)
            }
            (Goal::Hold, action) => matches!(
                action,
                Action::Connect(..) | Action::DisarmRestartPolicy(..)
            ),
            (Goal::Up, action) => !matches!(action, Action::RemoveVolume(_) | Action::Kill(..)),
            (Goal::Halt, action) => matches!(
                action,
                Action::Drain { .. } | Action::Stop { .. } | Action::Kill(..)
            ),
            (Goal::Down { volumes }, Action::RemoveVolume(_)) => {
                volumes && self.invariants.volumes_may_go
            }
            (Goal::Down { .. }, action) => {
                matches!(
                    action,
                    Action::Drain { .. }
                        | Action::Stop { .. }
                        | Action::Kill(..)
                        | Action::Remove(..)
                        | Action::RemoveNetwork(_)
                )
            }
        };
        self.must(allowed, || {
            format!("under {goal:?} nobody asked for {}", brief(action))
        });
        let makes = self.in_flight(|action| matches!(action, Action::Create(_)));
        let takes_away = matches!(action, Action::RemoveVolume(_) | Action::RemoveNetwork(_));
        self.must(goal == Goal::Up || !takes_away || !makes, || {
            format!("{} while a container is being made", brief(action))
        });
        if action.subject().is_of_tentacle() {
            return self.check_tentacle(action);
        }
        match action {
            Action::Start(unit, id) => self.check_start(*unit, id),
            Action::Drain {
                unit,
                instance,
                why,
                ..
            } => self.check_drain(*unit, instance, *why),
            Action::Create(unit) => self.check_try(*unit),
            Action::Stop {
                unit,
                instance,
                why,
                ..
            } => self.check_stop(*unit, instance, why.cause()),
            Action::Remove(unit, id) => self.check_remove(*unit, id),
            Action::Pull(image) => self.check_pull(image),
            Action::RemoveNetwork(id) => self.check_remove_network(id),
            _ => {}
        }
    }

    fn check_for_busy_loop(&mut self) {
        let now = self.now;
        let acts = &mut self.invariants.acts;
        acts.push_back(now);
        while acts.front().is_some_and(|at| now - at > BUSY_WINDOW) {
            acts.pop_front();
        }
        let count = acts.len();
        self.must(count < BUSY, || {
            format!("busy loop: {count} actions within {BUSY_WINDOW} ms")
        });
    }

    /// Never inside the backoff, never for a permanent cause, never what the operator stopped.
    pub(super) fn check_try(&mut self, unit: UnitId) {
        let now = self.now;
        let Some(daemon) = &self.daemon else { return };
        let desired = &daemon.state().desired;
        let stopped = desired.stopped.contains(&unit);
        let wanted = desired
            .spec
            .as_ref()
            .is_some_and(|spec| spec.container(unit).is_some());
        let record = daemon
            .state()
            .records
            .get(unit)
            .cloned()
            .unwrap_or_default();
        let waits = record
            .failures
            .retry_at
            .is_some_and(|until| until > daemon.at(now));
        let gave_up = record.gave_up();
        // One that served and fails for the first time is started again before anybody knows why it
        // ended.
        let first = self
            .invariants
            .failures
            .get(&unit)
            .is_none_or(|(count, _)| *count == 0);
        let unexamined = record
            .unexamined()
            .cloned()
            .filter(|instance| !(first && self.invariants.served.contains(instance)));
        self.must(wanted, || format!("{unit} is not wanted"));
        self.must(!stopped, || format!("{unit} was stopped by the operator"));
        self.must(!waits, || format!("{unit} is tried before its retry_at"));
        self.must(gave_up.is_none(), || {
            format!("{unit} is tried although given up: {gave_up:?}")
        });
        self.must(unexamined.is_none(), || {
            format!("{unit} is tried before its last end was examined")
        });
        let until = self
            .invariants
            .failures
            .get(&unit)
            .copied()
            .unwrap_or_default();
        self.must(now >= until.1, || {
            format!("{unit} is tried inside its backoff: {until:?}")
        });
        let permanent = self.invariants.permanent.get(&unit).copied();
        self.must(permanent.is_none(), || {
            format!("{unit} is tried for a permanent cause: {permanent:?}")
        });
    }

    fn check_start(&mut self, unit: UnitId, id: &str) {
        self.check_try(unit);
        let Some(daemon) = &self.daemon else { return };
        let (state, invariants) = (daemon.state(), &self.invariants);
        let spec = state.desired.spec.clone();
        let fits = invariants
            .known
            .containers
            .iter()
            .find(|one| one.id == id)
            .is_some_and(|one| {
                let asked = state.desired.restart.get(&unit);
                invariants.is_current(one) || asked.is_some() && asked == one.instance().as_ref()
            });
        let sql_stopped = state.desired.stopped.contains(&UnitId::Sql);
        self.must(fits, || {
            format!("{unit} is started from another definition")
        });
        self.must(!sql_stopped, || {
            format!("{unit} is started while the operator keeps db stopped")
        });
        let spec = spec
            .into_iter()
            .flat_map(|spec| spec.units())
            .take_while(|before| *before < unit);
        let stopped = self
            .daemon
            .as_ref()
            .unwrap()
            .state()
            .desired
            .stopped
            .clone();
        for before in spec.filter(|before| !stopped.contains(before)) {
            let serves = self.invariants.serves(before);
            // Order among nodes matters for the migration only.
            let no_matter = before.is_server() && self.is_migrated_for(id);
            self.must(serves || no_matter, || {
                format!("{unit} is started before {before} serves")
            });
            let leaves = self
                .in_flight(|action| matches!(action, Action::Stop { unit, .. } if *unit == before));
            self.must(!leaves || no_matter, || {
                format!("{unit} is started while {before} is being stopped")
            });
        }
        self.count_unexamined(unit, id);
        let others =
            self.in_flight(|action| {
                matches!(action, Action::Start(other, _) if *other != unit && !other.is_tentacle())
            });
        self.must(!others, || {
            format!("{unit} is started while another start is under way")
        });
        self.check_starting(unit, id);
        self.check_versions(unit, id);
    }

    /// The end of a run counts as a failure before anybody looked at it, if its unit is started
    /// again before that.
    fn count_unexamined(&mut self, unit: UnitId, id: &str) {
        let now = self.now;
        let ended = self
            .invariants
            .known
            .containers
            .iter()
            .find(|one| one.id == id)
            .filter(|one| self.invariants.is_current(one));
        let Some(Run::Exited { code, .. }) = ended.map(|one| &one.run) else {
            return;
        };
        let (instance, code) = (ended.and_then(Container::instance), *code);
        let record = self
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.state().records.get(unit));
        if let Some(instance) =
            instance.filter(|instance| record.is_some_and(|it| it.unexamined() == Some(instance)))
        {
            self.invariants.counted.insert(instance);
            let evidence = Evidence {
                code: Some(code),
                ..Evidence::default()
            };
            self.invariants
                .fail(unit, cause::of_unit(unit, &evidence).cause, now);
        }
    }

    /// Whether the daemon waits for the end of such an action.
    /// A wish forgives failures. One that counted at once, as the first of a run that served, does not
    /// count again when its cause is read.
    pub(super) fn forgave(&mut self) {
        self.invariants.forgave();
        let read = self
            .calls
            .iter()
            .filter_map(|(number, call)| match &call.action {
                Action::Examine(_, instance) if !self.answered.contains(number) => Some(instance),
                _ => None,
            });
        let counted = read.filter(|instance| self.invariants.served.contains(*instance));
        let counted: Vec<Instance> = counted.cloned().collect();
        self.invariants.counted.extend(counted);
    }

    fn in_flight(&self, which: impl Fn(&Action) -> bool) -> bool {
        let open = self
            .calls
            .iter()
            .filter(|(number, call)| call.epoch == self.epoch && !self.answered.contains(number));
        open.into_iter().any(|(_, call)| which(&call.action))
    }

    fn check_starting(&mut self, unit: UnitId, id: &str) {
        let starts = |process: &Process| {
            process.by_us && !process.was_ready && process.phase != Phase::Closing
        };
        // SQL Server comes back although a node that lost it is on its way out or frozen; another
        // node would meet that one.
        let no_matter = |other: &String| {
            let instance = self.world.instance(other);
            // Of a container that the engine cannot inspect no start time is known.
            let unknown = Instance {
                id: other.clone(),
                started_at: String::new(),
            };
            let leaves =
                instance.is_some_and(|instance| self.invariants.ending.contains(&instance));
            let leaves = leaves || self.invariants.ending.contains(&unknown);
            let may_go_on = unit == UnitId::Sql || self.is_migrated_for(id);
            may_go_on && (leaves || self.world.containers[other].doing == Doing::Paused)
        };
        let other = self.world.ours().find(|(other, _, made)| {
            *other != id && made.process.as_ref().is_some_and(starts) && !no_matter(other)
        });
        let other = other.map(|(_, unit, _)| unit);
        self.must(other.is_none(), || {
            format!("{unit} is started while {other:?} starts")
        });
    }

    /// Whether the data is of the version of this container already.
    fn is_migrated_for(&self, id: &str) -> bool {
        let volume = self.world.volumes.get("p_sql-data");
        let schema = volume
            .and_then(|volume| volume.data.as_ref())
            .and_then(|data| data.schema);
        let made = self.world.containers.get(id);
        // What somebody removed meanwhile is not started.
        made.is_none_or(|made| schema == Some(version_of(&made.image_id)))
    }

    fn check_versions(&mut self, unit: UnitId, id: &str) {
        let Some(made) = self
            .world
            .containers
            .get(id)
            .filter(|_| unit != UnitId::Sql)
        else {
            return;
        };
        let version = version_of(&made.image_id);
        let differs = self.world.ours().find(|(other, unit, made)| {
            *unit != UnitId::Sql
                && *other != id
                && made.process.as_ref().is_some_and(|process| process.by_us)
                && version_of(&made.image_id) != version
        });
        let differs = differs.map(|(_, unit, made)| format!("{unit} {}", made.image_id));
        self.must(differs.is_none(), || {
            format!("{unit} {version} is started beside {differs:?}")
        });
    }

    /// A process begins: what runs beside it?
    pub(super) fn check_company(&mut self, id: &str, by_us: bool, volumes: &[String]) {
        let of = self.world.containers[id].of.clone();
        let Some((unit, _)) = of.filter(|(unit, _)| by_us && !unit.is_tentacle()) else {
            return;
        };
        if unit == UnitId::Sql {
            let shares = |other: &String| volumes.contains(other);
            let company = self.world.containers.iter().find(|(other, made)| {
                let is_node = made
                    .of
                    .as_ref()
                    .is_some_and(|(unit, _)| *unit != UnitId::Sql);
                *other != id && made.moves() && !is_node && made.volumes.iter().any(shares)
            });
            let company = company.map(|(id, _)| id.clone());
            return self.must(company.is_none(), || {
                format!("two SQL Servers on one volume: {id} and {company:?}")
            });
        }
        self.check_starting(unit, id);
        self.check_versions(unit, id);
        let stops = self.in_flight(|action| {
            matches!(
                action,
                Action::Stop { unit: UnitId::Sql, why, .. } if why.cause().is_none()
            )
        });
        self.must(!stops, || {
            format!("{unit} begins while SQL Server is being stopped")
        });
    }

    /// A node begins to migrate: nobody else of ours may.
    pub(super) fn judge_attempt(&mut self, id: &str, is_done: bool) {
        let by_us = self.process(id).by_us;
        let migrates = |process: &Process| process.by_us && process.phase == Phase::Migrating;
        let other = self
            .world
            .ours()
            .find(|(other, _, made)| *other != id && made.process.as_ref().is_some_and(migrates));
        let other = other.map(|(id, ..)| id.clone());
        self.must(!by_us || is_done || other.is_none(), || {
            format!("{id} and {other:?} migrate at once")
        });
    }

    pub(super) fn judge_downgrade(&mut self, id: &str, version: u32, schema: Option<u32>) {
        let by_us = self.process(id).by_us;
        self.must(!by_us || self.unseen_version, || {
            format!("{id} of version {version} was started on a database of {schema:?}")
        });
    }

    fn check_stop(&mut self, unit: UnitId, instance: &Instance, cause: Option<Cause>) {
        let now = self.now;
        let is_first = self.invariants.ending.insert(instance.clone());
        let forced = matches!(cause, Some(Cause::Hung | Cause::StuckStarting));
        if unit == UnitId::Sql && !forced {
            let node = self.world.ours().find(|(_, unit, made)| {
                *unit != UnitId::Sql && made.process.as_ref().is_some_and(|process| process.by_us)
            });
            let node = node.map(|(_, unit, _)| unit);
            self.must(node.is_none(), || {
                format!("SQL Server is stopped under {node:?}")
            });
            let starts =
                self.in_flight(|action| matches!(action, Action::Start(UnitId::Node(_), _)));
            self.must(!starts, || {
                "SQL Server is stopped while a node is being started".to_owned()
            });
        }
        if let Some(cause) = cause {
            self.invariants.fail(unit, cause, now);
            return self.check_broken(unit, instance, cause);
        }
        // One that was told to end already is told again.
        if is_first {
            self.check_drained(unit, instance);
        }
        if self.goal() != Goal::Up {
            return;
        }
        let known = self
            .invariants
            .known
            .containers
            .iter()
            .find(|one| one.instance().as_ref() == Some(instance))
            .cloned();
        let Some(known) = known else {
            return self.must(false, || format!("{unit} is stopped in a run nobody saw"));
        };
        let sql = self
            .invariants
            .known
            .container(UnitId::Sql)
            .filter(|sql| sql.is_running());
        let stopped = self
            .daemon
            .as_ref()
            .is_some_and(|daemon| daemon.state().desired.stopped.contains(&UnitId::Sql));
        let for_sql =
            unit != UnitId::Sql && (stopped || sql.is_some_and(|sql| self.reason(sql).is_some()));
        let reason = self.reason(&known);
        self.must(reason.is_some() || for_sql, || {
            format!("{unit} is stopped without a reason")
        });
        let one_by_one = matches!(reason, Some(Reason::Replaced | Reason::Asked))
            && !for_sql
            && unit != UnitId::Sql;
        // One that was asked to finish its tasks is out since then.
        let is_out = self.invariants.drains.was_asked(instance);
        if one_by_one && !is_out && !self.changes_version() && self.invariants.serves(unit) {
            self.check_one_out(unit);
        }
    }

    /// A node that finishes its tasks serves nobody any more.
    fn check_drain(&mut self, unit: UnitId, instance: &Instance, why: Option<Why>) {
        self.note_drain(instance);
        let one_by_one = matches!(why, Some(Why::Replaced | Why::Restarted));
        let sql = self.invariants.known.container(UnitId::Sql);
        let for_sql = sql.is_some_and(|sql| sql.is_running() && self.reason(sql).is_some());
        let goes_on = self.invariants.out.contains(&unit);
        if one_by_one
            && !for_sql
            && !goes_on
            && !self.changes_version()
            && self.invariants.serves(unit)
        {
            self.check_one_out(unit);
        }
    }

    /// At most one node that serves is out by our own choice.
    fn check_one_out(&mut self, unit: UnitId) {
        let Some(daemon) = &self.daemon else { return };
        let desired = &daemon.state().desired;
        let nodes = desired
            .spec
            .iter()
            .flat_map(|spec| &spec.nodes)
            .map(|node| node.unit);
        let others: Vec<UnitId> = nodes
            .filter(|other| *other != unit && !desired.stopped.contains(other))
            .filter(|other| !desired.drained.contains(other))
            .collect();
        let silent = others
            .iter()
            .find(|other| !self.invariants.serves(**other))
            .copied();
        self.must(silent.is_none(), || {
            format!("{unit} is taken out while {silent:?} does not serve")
        });
        let out = self
            .invariants
            .out
            .iter()
            .find(|other| others.contains(other))
            .copied();
        self.must(out.is_none(), || {
            format!("{unit} is taken out while {out:?} is out")
        });
        self.invariants.out.insert(unit);
    }

    fn changes_version(&self) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        let desired = &daemon.state().desired;
        let image = desired
            .spec
            .as_ref()
            .and_then(|spec| spec.nodes.first())
            .and_then(|node| desired.images.get(&node.image));
        let mut nodes = self
            .invariants
            .known
            .containers
            .iter()
            .filter(|one| one.unit != UnitId::Sql && one.is_running());
        nodes.any(|node| image.is_some_and(|id| *id != node.image_id))
    }

    /// Why a container that runs may be ended by choice.
    fn reason(&self, container: &Container) -> Option<Reason> {
        let desired = &self.daemon.as_ref()?.state().desired;
        let spec = desired.spec.as_ref()?;
        let Some(wanted) = spec.container(container.unit) else {
            return Some(Reason::Surplus);
        };
        let upgrades = &self.daemon.as_ref()?.stored().backups.upgrades;
        let changes = self.daemon.as_ref()?.stored().sa.changing().is_some();
        let rest = changes || upgrades.waiting().is_some() || upgrades.rolling_back.is_some();
        if desired.stopped.contains(&container.unit) || rest && container.unit.is_server() {
            return Some(Reason::Stopped);
        }
        let is_here = |image: &str| {
            self.invariants.known.images.contains_key(image) && !desired.refresh.contains(image)
        };
        let replaceable = spec
            .containers()
            .all(|wanted| is_here(&wanted.image) || !self.lacks(wanted));
        if self.is_outdated(wanted, container) && replaceable {
            return Some(Reason::Replaced);
        }
        let asked = desired.restart.get(&container.unit);
        (asked.is_some() && asked == container.instance().as_ref()).then_some(Reason::Asked)
    }

    /// Whether a container is of another definition, or of another image than the pinned one.
    fn is_outdated(&self, wanted: &ContainerSpec, container: &Container) -> bool {
        let images = self
            .daemon
            .as_ref()
            .map(|daemon| &daemon.state().desired.images);
        let pinned = images.and_then(|images| images.get(&wanted.image));
        !self.invariants.is_current(container) || pinned.is_some_and(|id| *id != container.image_id)
    }

    /// Whether a container is to be made of what is wanted for a unit.
    fn lacks(&self, wanted: &ContainerSpec) -> bool {
        let stopped = self
            .daemon
            .as_ref()
            .is_some_and(|daemon| daemon.state().desired.stopped.contains(&wanted.unit));
        let known = self.invariants.known.container(wanted.unit);
        !stopped && known.is_none_or(|known| self.is_outdated(wanted, known))
    }

    /// An image is fetched because the operator has all fetched, or because a container is to be
    /// made of it.
    fn check_pull(&mut self, image: &str) {
        let Some(daemon) = &self.daemon else { return };
        let (desired, known) = (&daemon.state().desired, &self.invariants.known);
        let wanted: Vec<&ContainerSpec> = desired
            .spec
            .iter()
            .flat_map(StackSpec::containers)
            .filter(|wanted| wanted.image == image)
            .collect();
        let of = |wanted: &&ContainerSpec| known.container(wanted.unit);
        let cannot_start = |one: &Container| !one.is_running() && !known.is_attached(one);
        let ids: BTreeSet<&String> = wanted
            .iter()
            .filter_map(of)
            .map(|one| &one.image_id)
            .collect();
        let is_needed = ids.len() > 1
            || wanted
                .iter()
                .any(|one| self.lacks(one) || of(one).is_some_and(cannot_start));
        let asked = desired.refresh.contains(image) || desired.wanted_next.contains(image);
        self.must(asked || is_needed, || {
            format!("{image} is fetched, and nothing is to be made of it")
        });
    }

    /// A unit that is ended as broken must be.
    fn check_broken(&mut self, unit: UnitId, instance: &Instance, cause: Cause) {
        let now = self.now;
        let timing = self.timing();
        let truth = self
            .world
            .instance(&instance.id)
            .filter(|truth| truth == instance);
        let made = truth.map(|truth| &self.world.containers[&truth.id]);
        let process = made.and_then(|made| made.process.as_ref());
        match cause {
            Cause::Hung => {
                let streak = self
                    .invariants
                    .streaks
                    .get(&unit)
                    .filter(|streak| streak.instance == *instance);
                let (fails, since) = streak.map_or((0, now), |streak| (streak.fails, streak.since));
                let well = made.zip(process).is_some_and(|(made, process)| {
                    let serves = process.on_lost == OnLost::Serves
                        || unit == UnitId::Sql
                        || self.has_database(&instance.id);
                    let answers = !process.hung && !process.flaps && process.phase == Phase::Ready;
                    answers
                        && serves
                        && made.doing == Doing::Running
                        && now - process.well_since > STALE
                });
                let judged = unit == UnitId::Sql || self.invariants.sql_ready_at >= since;
                let awake = self
                    .invariants
                    .woke_at
                    .is_none_or(|at| now >= at + WAKING.as_millis() as Ms);
                self.must(fails >= 2, || {
                    format!("{unit} counts as hung after {fails} failures")
                });
                self.must(judged, || {
                    format!("{unit} counts as hung while its database was not well")
                });
                self.must(awake, || {
                    format!("{unit} counts as hung though the daemon just woke")
                });
                self.must(!well, || format!("{unit} counts as hung and is well"));
            }
            Cause::StuckStarting => {
                let limit = if unit == UnitId::Sql {
                    timing.sql_start_limit
                } else {
                    timing.node_start_limit
                };
                let moved = process.map_or(0, |process| process.began.max(process.logged_at));
                self.must(now - moved + LOG_LAG >= limit.as_millis() as Ms, || {
                    format!("{unit} counts as stuck and moved at {moved}")
                });
                let was_ready = self.invariants.ready.get(&unit) == Some(instance);
                self.must(!was_ready, || format!("{unit} counts as stuck and serves"));
            }
            Cause::LostDatabase => {
                let sql = self
                    .invariants
                    .known
                    .container(UnitId::Sql)
                    .is_some_and(Container::is_running);
                let was_ready = self.invariants.ready.get(&unit) == Some(instance);
                self.must(!sql && !was_ready, || {
                    format!("{unit} did not lose its database")
                });
            }
            other => self.must(false, || format!("{unit} is stopped for {other:?}")),
        }
    }

    fn check_remove(&mut self, unit: UnitId, id: &str) {
        let moves = self.world.containers.get(id).is_some_and(|made| {
            made.moves() && made.process.as_ref().is_some_and(|process| process.by_us)
        });
        self.must(!moves, || format!("{unit} {id} is removed while it runs"));
        if self.goal() != Goal::Up {
            return;
        }
        let known = &self.invariants.known;
        let Some(container) = known.containers.iter().find(|one| one.id == id) else {
            return self.must(false, || {
                format!("{unit} {id} is removed and nobody saw it")
            });
        };
        let only = known
            .containers
            .iter()
            .filter(|one| one.unit == unit)
            .count()
            == 1;
        let right = self.invariants.is_current(container) && known.is_attached(container) && only;
        let desired = &self.daemon.as_ref().unwrap().state().desired;
        let wanted = desired.spec.as_ref().and_then(|spec| spec.container(unit));
        let pinned = wanted
            .and_then(|wanted| desired.images.get(&wanted.image))
            .is_none_or(|id| *id == container.image_id);
        self.must(!(right && pinned), || {
            format!("{unit} {id} is removed and was right")
        });
    }

    fn check_remove_network(&mut self, id: &str) {
        let used = self
            .world
            .all_ours()
            .any(|(_, _, made)| made.moves() && made.networks.contains(id));
        self.must(!used, || {
            format!("network {id} is removed while it is used")
        });
        let more = self.invariants.known.networks.len() > 1;
        let down = matches!(self.goal(), Goal::Down { .. });
        self.must(more || down, || format!("the only network {id} is removed"));
    }

    /// An action ended, as the daemon is told.
    pub(super) fn judge_end(&mut self, action: &Action, result: &Result<Outcome, Trouble>) {
        self.note_end_of_drain(action);
        let (Action::Examine(unit, instance), Ok(outcome)) = (action, result) else {
            return;
        };
        let found = self
            .invariants
            .known
            .all()
            .find(|one| one.id == instance.id);
        let current = found.is_some_and(|found| self.invariants.is_current(found));
        let latest = found.and_then(Container::instance).as_ref() == Some(instance);
        if !current
            || !latest
            || self.invariants.ending.contains(instance)
            || !self.invariants.counted.insert(instance.clone())
        {
            return;
        }
        let (code, oom, _) = outcome.exit.clone().unwrap_or_default();
        let code = outcome.exit.as_ref().map(|_| code);
        let failure = cause::of_unit(
            *unit,
            &Evidence {
                code,
                oom,
                served: self.invariants.served.contains(instance),
                engine: None,
                lines: &outcome.lines,
            },
        );
        let now = self.now;
        self.invariants.fail(*unit, failure.cause, now);
    }
}

/// Why we end a run by choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Surplus,
    Replaced,
    Stopped,
    Asked,
}
