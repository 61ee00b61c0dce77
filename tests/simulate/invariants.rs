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
use octo_local::reconcile::desired::Desired;
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
use super::world::Made;
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

/// What a wish that was taken promises: that the stack comes up, or that it goes.
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
            let death = one.instance().and_then(|run| self.deaths.get(&run));
            if let Some(code) = death {
                one.end(*code, false);
            }
        }
        self.forget_ended();
    }

    /// An event reaches the daemon. It tells of the end of a run that is known, not of one before
    /// it.
    pub(super) fn heard(&mut self, heard: &ContainerEvent) {
        let is_it = |one: &&mut Container| one.id == heard.id && one.is_running();
        let known = self.known.all_mut().find(is_it);
        let Some((one, code)) = known.zip(heard.code) else {
            return;
        };
        // Of a container that the engine cannot inspect no start time is known.
        let is_its_end = |run: &Instance| run.began().is_some() && run.began() < heard.at;
        if let Some(instance) = one.instance().filter(is_its_end) {
            one.end(code, false);
            self.deaths.insert(instance, code);
            self.forget_ended();
        }
    }

    /// The stack's container of this ID, as far as the daemon was told.
    fn known(&self, id: &str) -> Option<&Container> {
        self.known.containers.iter().find(|one| one.id == id)
    }

    /// How often a unit failed, and until when it waits for its next try.
    fn failed(&self, unit: UnitId) -> (u32, Ms) {
        self.failures.get(&unit).copied().unwrap_or_default()
    }

    fn forget_ended(&mut self) {
        let seen = &self.known;
        let latest = |unit: &UnitId| seen.container(*unit).and_then(Container::instance);
        self.ready
            .retain(|unit, instance| latest(unit).as_ref() == Some(instance));
        // Whether one that was frozen serves is not known before it answers again.
        let is_frozen = |one: &&Container| matches!(one.run, Run::Paused { .. });
        for frozen in seen.all().filter(is_frozen) {
            self.ready.remove(&frozen.unit);
        }
    }

    pub(super) fn woke(&mut self, now: Ms) {
        self.woke_at = Some(now);
    }

    /// Whether the last look showed that this container was started at least once.
    pub(super) fn has_seen_run_of(&self, id: &str) -> bool {
        self.known(id).and_then(Container::instance).is_some()
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
        // One that is drained is well, and would serve.
        if matches!(probe, Probe::Ready | Probe::Drained(_)) {
            self.served.insert(instance.clone());
            self.served_units.insert(unit);
        }
        if *probe == Probe::Ready {
            self.streaks.remove(&unit);
            self.ready.insert(unit, instance.clone());
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
        let last = self.streaks.remove(&unit);
        if matches!(probe, Probe::Failure(..)) {
            let goes_on = last.filter(|streak| streak.instance == *instance);
            let mut streak = goes_on.unwrap_or_else(|| Streak {
                instance: instance.clone(),
                fails: 0,
                since: now,
            });
            streak.fails += 1;
            self.streaks.insert(unit, streak);
        }
    }

    fn fail(&mut self, unit: UnitId, cause: Cause, now: Ms) {
        let (count, _) = self.failed(unit);
        match cause.class() {
            Class::Permanent => {
                self.permanent.insert(unit, cause);
            }
            Class::Host => {
                let until = now + HOST_RECHECK.as_millis() as Ms;
                self.failures.insert(unit, (count, until));
            }
            Class::Transient => {
                let count = count + 1;
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
        let run = self.run_of(unit);
        run.is_some_and(|run| self.served.contains(&run))
    }

    /// Whether a container runs as far as the daemon was told, and said last that it serves.
    fn serves(&self, unit: UnitId) -> bool {
        let run = self.run_of(unit);
        run.is_some_and(|run| self.says_ready(unit, &run))
    }

    /// The run that a unit is in as far as the daemon was told, unless it is frozen.
    fn run_of(&self, unit: UnitId) -> Option<Instance> {
        let known = self.known.container(unit)?;
        let moves = matches!(known.run, Run::Running { .. });
        known.instance().filter(|_| moves)
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

    /// Notes a violation that a unit is the subject of.
    pub(super) fn must_of(&mut self, unit: UnitId, holds: bool, what: &str) {
        self.must(holds, || format!("{unit} {what}"));
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
        let daemon = self.daemon.as_ref();
        daemon.map_or(Goal::Hold, |daemon| daemon.state().desired.goal)
    }

    /// What the daemon that acts works towards.
    pub(super) fn desired(&self) -> &Desired {
        &self.daemon.as_ref().unwrap().state().desired
    }

    /// Whether the operator keeps a unit stopped.
    fn is_stopped(&self, unit: UnitId) -> bool {
        self.desired().stopped.contains(&unit)
    }

    /// The container that is wanted for a unit.
    fn wanted(&self, unit: UnitId) -> Option<&ContainerSpec> {
        self.desired().spec.as_ref()?.container(unit)
    }

    /// Whether the daemon has a reason not to touch what is there: nobody interrupted a start, or
    /// the data is gone.
    fn leaves_all_alone(&self) -> bool {
        let (kept, seen) = (self.kept(), &self.daemon.as_ref().unwrap().state().seen);
        !kept.held || !kept.is_up() || kept.lost_volume(seen).is_some()
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
                Action::Connect(..) | Action::DisarmRestartPolicy(..) | Action::Undrain(..)
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
        let daemon = self.daemon.as_ref().unwrap();
        let now = daemon.at(self.now);
        let record = daemon.state().records.get(unit);
        let record = record.cloned().unwrap_or_default();
        let waits = record.failures.retry_at.is_some_and(|until| until > now);
        let gave_up = record.gave_up();
        let failed = self.invariants.failed(unit);
        // One that served and fails for the first time is started again before anybody knows why it
        // ended.
        let served = |run: &Instance| failed.0 == 0 && self.invariants.served.contains(run);
        let is_examined = record.unexamined().is_none_or(served);
        self.must_of(unit, self.wanted(unit).is_some(), "is not wanted");
        self.must_of(unit, !self.is_stopped(unit), "was stopped by the operator");
        self.must_of(unit, !waits, "is tried before its retry_at");
        self.must(gave_up.is_none(), || {
            format!("{unit} is tried although given up: {gave_up:?}")
        });
        self.must_of(unit, is_examined, "is tried before its end was examined");
        self.must(self.now >= failed.1, || {
            format!("{unit} is tried inside its backoff: {failed:?}")
        });
        let permanent = self.invariants.permanent.get(&unit).copied();
        self.must(permanent.is_none(), || {
            format!("{unit} is tried for a permanent cause: {permanent:?}")
        });
    }

    fn check_start(&mut self, unit: UnitId, id: &str) {
        self.check_try(unit);
        let asked = self.desired().restart.get(&unit);
        let fits = self.invariants.known(id).is_some_and(|one| {
            let is_asked = asked.is_some() && asked == one.instance().as_ref();
            self.invariants.is_current(one) || is_asked
        });
        let sql_stopped = self.is_stopped(UnitId::Sql);
        self.must_of(unit, fits, "is started from another definition");
        self.must_of(unit, !sql_stopped, "is started and db is kept stopped");
        let units = self.desired().spec.iter().flat_map(StackSpec::units);
        let before = units.filter(|one| *one < unit && !self.is_stopped(*one));
        for before in before.collect::<Vec<_>>() {
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
        let is_another = |other: &UnitId| *other != unit && !other.is_tentacle();
        let others =
            self.in_flight(|action| matches!(action, Action::Start(it, _) if is_another(it)));
        self.must_of(unit, !others, "is started while another start goes on");
        self.check_starting(unit, id);
        self.check_versions(unit, id);
    }

    /// The end of a run counts as a failure before anybody looked at it, if its unit is started
    /// again before that.
    fn count_unexamined(&mut self, unit: UnitId, id: &str) {
        let ended = self.invariants.known(id);
        let ended = ended.filter(|one| self.invariants.is_current(one));
        let Some(Run::Exited { code, .. }) = ended.map(|one| &one.run) else {
            return;
        };
        let (instance, code) = (ended.and_then(Container::instance), *code);
        let record = self.daemon.as_ref().unwrap().state().records.get(unit);
        let unexamined = record.and_then(|record| record.unexamined());
        if let Some(instance) = instance.filter(|instance| unexamined == Some(instance)) {
            self.invariants.counted.insert(instance);
            let evidence = Evidence {
                code: Some(code),
                ..Evidence::default()
            };
            let cause = cause::of_unit(unit, &evidence).cause;
            self.invariants.fail(unit, cause, self.now);
        }
    }

    /// A wish forgives failures. One that counted at once, as the first of a run that served, does not
    /// count again when its cause is read.
    pub(super) fn forgave(&mut self) {
        self.invariants.forgave();
        let read = self.open_calls().filter_map(|call| match &call.action {
            Action::Examine(_, instance) => Some(instance),
            _ => None,
        });
        let counted = read.filter(|instance| self.invariants.served.contains(*instance));
        let counted: Vec<Instance> = counted.cloned().collect();
        self.invariants.counted.extend(counted);
    }

    /// Whether the daemon waits for the end of such an action.
    fn in_flight(&self, which: impl Fn(&Action) -> bool) -> bool {
        let mut its_own = self.open_calls().filter(|call| call.epoch == self.epoch);
        its_own.any(|call| which(&call.action))
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
            let ending = &self.invariants.ending;
            let leaves = instance.is_some_and(|instance| ending.contains(&instance));
            let leaves = leaves || ending.contains(&unknown);
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
        let schema = self.world.data().and_then(|data| data.schema);
        let made = self.world.containers.get(id);
        // What somebody removed meanwhile is not started.
        made.is_none_or(|made| schema == Some(version_of(&made.image_id)))
    }

    fn check_versions(&mut self, unit: UnitId, id: &str) {
        let made = self.world.containers.get(id);
        let Some(made) = made.filter(|_| unit != UnitId::Sql) else {
            return;
        };
        let version = version_of(&made.image_id);
        let differs = self.world.ours().find(|(other, unit, made)| {
            let is_another = *unit != UnitId::Sql && *other != id;
            is_another && made.runs_by_us() && version_of(&made.image_id) != version
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
            let is_node = |(unit, _): &(UnitId, Digest)| *unit != UnitId::Sql;
            let company = self.world.containers.iter().find(|(other, made)| {
                let runs = *other != id && made.moves() && !made.of.as_ref().is_some_and(is_node);
                runs && made.volumes.iter().any(shares)
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
        self.must_of(unit, !stops, "begins while SQL Server is being stopped");
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
            let node = self.world.node_by_us().map(|(_, unit, _)| unit);
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
        let known = self.invariants.known(&instance.id);
        let Some(known) = known.filter(|one| one.instance().as_ref() == Some(instance)) else {
            return self.must_of(unit, false, "is stopped in a run nobody saw");
        };
        let with_sql = self.is_stopped(UnitId::Sql) || self.sql_ends();
        let for_sql = unit != UnitId::Sql && with_sql;
        let reason = self.reason(known);
        let has_one = reason.is_some() || for_sql;
        self.must_of(unit, has_one, "is stopped without a reason");
        let one_by_one = matches!(reason, Some(Reason::Replaced | Reason::Asked));
        // One that was asked to finish its tasks is out since then.
        let is_out = self.invariants.drains.was_asked(instance);
        if one_by_one && unit != UnitId::Sql && !for_sql && !is_out {
            self.check_one_out(unit);
        }
    }

    /// Whether SQL Server runs and is to be ended by choice.
    fn sql_ends(&self) -> bool {
        let sql = self.invariants.known.container(UnitId::Sql);
        sql.is_some_and(|sql| sql.is_running() && self.reason(sql).is_some())
    }

    /// A node that finishes its tasks serves nobody any more.
    fn check_drain(&mut self, unit: UnitId, instance: &Instance, why: Option<Why>) {
        self.note_drain(instance);
        let one_by_one = matches!(why, Some(Why::Replaced | Why::Restarted));
        let goes_on = self.invariants.out.contains(&unit);
        if one_by_one && !self.sql_ends() && !goes_on {
            self.check_one_out(unit);
        }
    }

    /// At most one node that serves is out by our own choice, save when the version changes.
    fn check_one_out(&mut self, unit: UnitId) {
        if self.changes_version() || !self.invariants.serves(unit) {
            return;
        }
        let desired = self.desired();
        let is_out_by_wish =
            |one: &UnitId| desired.stopped.contains(one) || desired.drained.contains(one);
        let nodes = desired.spec.iter().flat_map(|spec| &spec.nodes);
        let others = nodes.map(|node| node.unit).filter(|other| *other != unit);
        let others: Vec<UnitId> = others.filter(|one| !is_out_by_wish(one)).collect();
        let serves = |other: &UnitId| self.invariants.serves(*other);
        let silent = others.iter().find(|other| !serves(other)).copied();
        self.must(silent.is_none(), || {
            format!("{unit} is taken out while {silent:?} does not serve")
        });
        let mut out = self.invariants.out.iter();
        let out = out.find(|other| others.contains(other)).copied();
        self.must(out.is_none(), || {
            format!("{unit} is taken out while {out:?} is out")
        });
        self.invariants.out.insert(unit);
    }

    fn changes_version(&self) -> bool {
        let desired = self.desired();
        let first = desired.spec.as_ref().and_then(|spec| spec.nodes.first());
        let image = first.and_then(|node| desired.images.get(&node.image));
        let known = self.invariants.known.containers.iter();
        let mut nodes = known.filter(|one| one.unit != UnitId::Sql && one.is_running());
        nodes.any(|node| image.is_some_and(|id| *id != node.image_id))
    }

    /// Why a container that runs may be ended by choice.
    fn reason(&self, container: &Container) -> Option<Reason> {
        let desired = self.desired();
        let spec = desired.spec.as_ref()?;
        let Some(wanted) = spec.container(container.unit) else {
            return Some(Reason::Surplus);
        };
        let upgrades = &self.kept().backups.upgrades;
        let changes = self.kept().sa.changing().is_some();
        let rest = changes || upgrades.waiting().is_some() || upgrades.rolling_back.is_some();
        if self.is_stopped(container.unit) || rest && container.unit.is_server() {
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
        let pinned = self.desired().images.get(&wanted.image);
        !self.invariants.is_current(container) || pinned.is_some_and(|id| *id != container.image_id)
    }

    /// Whether a container is to be made of what is wanted for a unit.
    fn lacks(&self, wanted: &ContainerSpec) -> bool {
        let known = self.invariants.known.container(wanted.unit);
        !self.is_stopped(wanted.unit) && known.is_none_or(|known| self.is_outdated(wanted, known))
    }

    /// An image is fetched because the operator has all fetched, or because a container is to be
    /// made of it.
    fn check_pull(&mut self, image: &str) {
        let (desired, known) = (self.desired(), &self.invariants.known);
        let wanted = desired.spec.iter().flat_map(StackSpec::containers);
        let wanted: Vec<_> = wanted.filter(|wanted| wanted.image == image).collect();
        let of = |wanted: &&ContainerSpec| known.container(wanted.unit);
        let cannot_start = |one: &Container| !one.is_running() && !known.is_attached(one);
        let ids = wanted.iter().filter_map(of).map(|one| &one.image_id);
        let differ = ids.collect::<BTreeSet<_>>().len() > 1;
        let needs = |one| self.lacks(one) || of(&one).is_some_and(cannot_start);
        let is_needed = differ || wanted.iter().any(|one| needs(*one));
        let asked = desired.refresh.contains(image) || desired.wanted_next.contains(image);
        self.must(asked || is_needed, || {
            format!("{image} is fetched, and nothing is to be made of it")
        });
    }

    /// A unit that is ended as broken must be.
    fn check_broken(&mut self, unit: UnitId, instance: &Instance, cause: Cause) {
        let says_ready = self.invariants.says_ready(unit, instance);
        match cause {
            Cause::Hung => self.check_hung(unit, instance),
            Cause::StuckStarting => {
                let timing = self.daemon.as_ref().unwrap().state().timing();
                let limit = match unit {
                    UnitId::Sql => timing.sql_start_limit,
                    UnitId::Node(_) | UnitId::Tentacle(_) => timing.node_start_limit,
                };
                let process = self.process_in(instance).map(|(_, process)| process);
                let moved = process.map_or(0, |process| process.began.max(process.logged_at));
                let is_late = self.now - moved + LOG_LAG >= limit.as_millis() as Ms;
                self.must(is_late, || {
                    format!("{unit} counts as stuck and moved at {moved}")
                });
                self.must_of(unit, !says_ready, "counts as stuck and serves");
            }
            Cause::LostDatabase => {
                let sql = self.invariants.known.container(UnitId::Sql);
                let runs = sql.is_some_and(Container::is_running);
                self.must_of(unit, !runs && !says_ready, "did not lose its database");
            }
            other => self.must(false, || format!("{unit} is stopped for {other:?}")),
        }
    }

    /// The process of this run, if the run goes on.
    fn process_in(&self, instance: &Instance) -> Option<(&Made, &Process)> {
        let goes_on = self.world.instance(&instance.id).as_ref() == Some(instance);
        let made = self.world.containers.get(&instance.id)?;
        made.process
            .as_ref()
            .map(|process| (made, process))
            .filter(|_| goes_on)
    }

    /// A unit that is ended as hung was asked often enough, at times at which its answers counted.
    fn check_hung(&mut self, unit: UnitId, instance: &Instance) {
        let now = self.now;
        let streak = self.invariants.streaks.get(&unit);
        let streak = streak.filter(|streak| streak.instance == *instance);
        let (fails, since) = streak.map_or((0, now), |streak| (streak.fails, streak.since));
        let is_well = self.process_in(instance).is_some_and(|(made, process)| {
            let alone = process.on_lost == OnLost::Serves || unit == UnitId::Sql;
            let serves = alone || self.has_database(&instance.id);
            made.answers() && !process.flaps && serves && now - process.well_since > STALE
        });
        let is_judged = unit == UnitId::Sql || self.invariants.sql_ready_at >= since;
        let woke_at = self.invariants.woke_at;
        let is_awake = woke_at.is_none_or(|at| now >= at + WAKING.as_millis() as Ms);
        self.must(fails >= 2, || {
            format!("{unit} counts as hung after {fails} failures")
        });
        self.must_of(
            unit,
            is_judged,
            "counts as hung, and its database was not well",
        );
        self.must_of(unit, is_awake, "counts as hung though the daemon just woke");
        self.must_of(unit, !is_well, "counts as hung and is well");
    }

    fn check_remove(&mut self, unit: UnitId, id: &str) {
        let made = self.world.containers.get(id);
        let moves = made.is_some_and(|made| made.moves() && made.runs_by_us());
        self.must(!moves, || format!("{unit} {id} is removed while it runs"));
        if self.goal() != Goal::Up {
            return;
        }
        let known = &self.invariants.known;
        let Some(container) = self.invariants.known(id) else {
            return self.must(false, || {
                format!("{unit} {id} is removed and nobody saw it")
            });
        };
        let of_unit = known.containers.iter().filter(|one| one.unit == unit);
        let right = known.is_attached(container) && of_unit.count() == 1;
        let wanted = self.wanted(unit);
        let outdated = match wanted {
            Some(wanted) => self.is_outdated(wanted, container),
            None => !self.invariants.is_current(container),
        };
        self.must(!right || outdated, || {
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
        let is_it = |one: &&Container| one.instance().as_ref() == Some(instance);
        let found = self.invariants.known.all().find(is_it);
        let is_current = found.is_some_and(|found| self.invariants.is_current(found));
        if !is_current
            || self.invariants.ending.contains(instance)
            || !self.invariants.counted.insert(instance.clone())
        {
            return;
        }
        let evidence = Evidence {
            code: outcome.exit.as_ref().map(|(code, ..)| *code),
            oom: outcome.exit.as_ref().is_some_and(|(_, oom, _)| *oom),
            served: self.invariants.served.contains(instance),
            engine: None,
            lines: &outcome.lines,
        };
        let cause = cause::of_unit(*unit, &evidence).cause;
        self.invariants.fail(*unit, cause, self.now);
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
