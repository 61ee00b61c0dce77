//! The stack at rest: reached within bounded time once nothing goes wrong any more, and as it was
//! wished and announced.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use octo_local::config::Pull;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Plan;
use octo_local::reconcile::preview;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::PhaseWord;
use octo_local::reconcile::status::Status;
use octo_local::reconcile::status::UnitStatus;
use octo_local::reconcile::status::Verdict;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;

use super::operator::Env;
use super::operator::Mistake;
use super::operator::Wish;
use super::sim::Sim;
use super::trouble::Undo;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;

/// Long enough for everything that waits: hung calls, stuck starts, waits between restarts, one
/// node after the other.
const LIMIT: Ms = 400_000;
/// Nothing happens for so long at rest.
const QUIET: Ms = 12_000;
/// After so long everything was looked at again, whatever events were lost.
const RECHECKED: Ms = 90_000;
/// A failure that stays for so long is final.
const FINAL: Ms = 40_000;

/// A call that takes longer hangs.
const HUNG: Ms = 20_000;

/// What there is of each unit, for comparing: container, run, whether it runs.
pub(super) type Snapshot = BTreeMap<UnitId, (String, String, bool)>;

impl Sim {
    fn status(&self) -> Option<Status> {
        Some(self.daemon.as_ref()?.status(self.now))
    }

    /// Lets time pass until all is quiet, and checks that it is as it was wished.
    pub(super) fn settle(&mut self) {
        let frozen = self.daemon.as_ref().map_or(0, |daemon| daemon.frozen_until);
        let begun = self.now.max(frozen);
        let limit = begun + LIMIT;
        let mut failed_since = None;
        while !self.is_over() {
            self.run_until(self.now + 1_000);
            let quiet = self.now.saturating_sub(self.invariants.last_act.max(begun)) >= QUIET
                && !self.will_do();
            match self.status() {
                None => {
                    if self.left_early {
                        self.begin_daemon(false, false);
                    } else if quiet {
                        return self.check_gone();
                    }
                }
                Some(status) if status.verdict.has_failed() => {
                    // An old call that hangs must end before its unit can be mended.
                    if self.has_hung_call() {
                        failed_since = None;
                    }
                    // A frozen daemon cannot know better yet.
                    let since = *failed_since.get_or_insert(self.now.max(begun));
                    if self.now.saturating_sub(since) >= FINAL && self.insists_without_a_backup() {
                        failed_since = None;
                        continue;
                    }
                    if self.now.saturating_sub(since) >= FINAL {
                        return self.check_failed(&status);
                    }
                }
                Some(status) => {
                    // One that crashes again and again is called failed while it waits, and starts
                    // in between.
                    failed_since =
                        failed_since.filter(|_| self.env.mistake == Some(Mistake::CrashLoop));
                    if quiet
                        && self.is_at_rest(&status)
                        && (self.knows_all() || self.now - begun > RECHECKED)
                    {
                        return self.check_rest(&status);
                    }
                }
            }
            if self.now >= limit {
                let status = self.status().as_ref().map(brief);
                self.must(false, || format!("no rest within {LIMIT} ms: {status:?}"));
            }
        }
    }

    /// Whether the last look showed everything as it is.
    fn knows_all(&self) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        let (seen, world) = (&daemon.state().seen, &self.world);
        let true_of = |image: &String, id: &String| world.images.get(image) == Some(id);
        seen.networks == world.our_networks()
            && seen.volumes == world.our_volumes()
            && seen.images.iter().all(|(image, id)| true_of(image, id))
            && seen
                .all()
                .all(|one| world.inspect(&one.id).as_ref() == Some(one))
    }

    fn has_hung_call(&self) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        let now = daemon.at(self.now);
        let mut busy = daemon.state().records.busy.values();
        busy.any(|(_, since)| now.since(*since).as_millis() > u128::from(HUNG))
    }

    fn is_at_rest(&self, status: &Status) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        let plan = daemon.state().plan(daemon.at(self.now));
        // Tentacles are waited for here only: nothing of the product does. One that hangs is asked
        // seldom.
        let serves = |unit: &UnitStatus| unit.unit.is_server() && unit.phase == PhaseWord::Ready;
        let hangs = |(_, unit, made): (&String, UnitId, &Made)| {
            let process = made.process.as_ref();
            unit.is_tentacle() && process.is_some_and(|process| process.hung)
        };
        let mut tentacles = status.tentacles.iter();
        // Of a stack that is held none is begun that was added meanwhile.
        let settled = status.verdict.is_at_rest()
            && (status.verdict == Verdict::Held
                || !status.units.iter().any(serves)
                || tentacles.all(|one| one.stopped || one.phase == PhaseWord::Ready)
                    && !self.world.all_ours().any(hangs));
        settled && plan == Plan::default() && daemon.state().records.busy.is_empty()
    }

    fn check_rest(&mut self, status: &Status) {
        self.trace(|| format!("at rest: {:?}", status.verdict));
        self.check_password();
        let desired = self.desired().clone();
        match desired.goal {
            Goal::Down { .. } => return self.check_gone(),
            Goal::Hold | Goal::Halt => return,
            Goal::Up => {}
        }
        let seen = self.daemon.as_ref().unwrap().state().seen.clone();
        let Some(spec) = desired.spec.clone() else {
            return;
        };
        // Nothing runs without its database.
        let keeps = |unit: &UnitId| {
            desired.stopped.contains(unit) || desired.stopped.contains(&UnitId::Sql)
        };
        for unit in spec.units() {
            self.check_unit(unit, keeps(&unit));
            self.check_who_takes_tasks(unit);
        }
        self.check_who_is_listed(&spec);
        self.check_tentacles_at_rest();
        let surplus = self.ours_but(|unit| spec.container(unit).is_some());
        self.must(surplus.is_empty(), || format!("left over: {surplus:?}"));
        let networks = self.world.our_networks();
        let is_used = |id: &String| {
            let mut all = self.world.containers.values();
            all.any(|made| made.networks.contains(id))
        };
        let idle = networks.keys().filter(|id| !is_used(id));
        let idle: Vec<_> = idle.filter(|_| networks.len() > 1).collect();
        self.must(idle.is_empty(), || format!("networks left over: {idle:?}"));
        self.must(self.knows_all(), || {
            "what is known is not what is".to_owned()
        });
        // What is stopped has nothing to restart.
        let forgotten = desired.restart.keys().find(|unit| !keeps(unit));
        self.must(forgotten.is_none(), || {
            format!("a restart was forgotten: {:?}", desired.restart)
        });
        self.must(desired.refresh.is_empty(), || {
            format!("a fetch was forgotten: {:?}", desired.refresh)
        });
        if desired.stopped.iter().all(|unit| unit.is_tentacle()) {
            // A tag that moved since the last `up` would be a change of the next one.
            let pinned = octo_local::reconcile::Observed {
                images: desired.images.clone(),
                ..seen
            };
            let changes = preview::changes(Some(&spec), &spec, &pinned, false);
            self.must(changes.is_empty(), || {
                format!("at rest, but an `up` would do {changes:?}")
            });
        }
    }

    /// Our containers, but for those of some units.
    fn ours_but(&self, except: impl Fn(UnitId) -> bool) -> Vec<String> {
        let ours = self.world.all_ours().filter(|(_, unit, _)| !except(*unit));
        ours.map(|(id, unit, _)| format!("{unit} {id}")).collect()
    }

    fn check_unit(&mut self, unit: UnitId, stopped: bool) {
        let ids = self.world.ids_of(unit);
        let Some(id) = ids.first().filter(|_| ids.len() == 1) else {
            return self.must(stopped && ids.is_empty(), || {
                format!("{unit} has the containers {ids:?}")
            });
        };
        let (made, seen) = (&self.world.containers[id], self.world.inspect(id));
        let current = seen.is_some_and(|seen| self.invariants.is_current(&seen));
        let (moves, answers) = (made.doing == Doing::Running, made.answers());
        let mut networks = made.networks.iter();
        let attached = networks.any(|id| self.world.networks.contains_key(id));
        let sql = self.world.unit(UnitId::Sql);
        let meets = sql.is_some_and(|sql| !sql.networks.is_disjoint(&made.networks));
        let is_left = stopped || !made.armed;
        self.must_of(unit, is_left, "would be restarted by the engine as well");
        if stopped {
            return self.must_of(unit, !moves, "was stopped and runs");
        }
        self.must_of(unit, current, "runs from another definition");
        self.must_of(unit, answers, "is called ready and does not serve");
        self.must_of(unit, attached, "is not on the network");
        self.must_of(unit, meets, "is on another network than SQL Server");
    }

    /// After `down` nothing is left but volumes; after a signal containers stay, and none runs.
    fn check_gone(&mut self) {
        if self.did_late && self.daemon.is_none() {
            // Nobody is left who could see what came after the end.
            return;
        }
        let goal = self.daemon.as_ref().map(|_| self.goal());
        let Some(Goal::Down { volumes: all }) = goal.or(self.ended_with) else {
            // What somebody else starts after the end, nobody can see.
            let is_later = |made: &Made| {
                let process = made.process.as_ref();
                let later = process.is_some_and(|one| !one.by_us && one.began > self.ended_at);
                self.daemon.is_none() && later
            };
            let runs = |(_, _, made): &(_, _, &Made)| made.moves() && !is_later(made);
            let running = self.world.all_ours().find(runs).map(|(_, unit, _)| unit);
            return self.must(running.is_none(), || {
                format!("halted, and {running:?} runs")
            });
        };
        let left = self.ours_but(|_| false);
        let networks = self.world.our_networks();
        self.must(left.is_empty() && networks.is_empty(), || {
            format!("left after down: {left:?} {networks:?}")
        });
        let volumes = self.world.our_volumes();
        self.must(!all || volumes.is_empty(), || {
            format!("volumes left: {volumes:?}")
        });
    }

    /// A failure that stays has a name, and is true.
    fn check_failed(&mut self, status: &Status) {
        self.trace(|| format!("failed for good: {}", status.message));
        let named = status.units.iter().any(|unit| unit.cause.is_some()) || !status.work.is_empty();
        self.must(named, || {
            format!("failed without a cause: {}", status.message)
        });
        // A rollback that broke off in the middle of the data waits for a person to ask again.
        let true_cause = self.env.mistake.is_some()
            || self.name_was_taken
            || self.unseen_version
            || self.has_half_data();
        self.must(true_cause, || {
            format!("failed, and nothing is wrong: {}", brief(status))
        });
    }

    /// The daemon is asked to end, and begins again: what was wished comes back.
    pub(super) fn end_calmly(&mut self) {
        self.terminate();
        self.settle();
        if self.is_over() {
            return;
        }
        if self.chance.percent(30) {
            // Somebody tidies up while nothing runs.
            self.world.networks.retain(|_, network| !network.ours);
        }
        if self.chance.percent(50) {
            self.undo(Undo::Daemon);
            return self.settle();
        }
        let env = self.good_env();
        self.up_as_announced(&env);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let of = |(id, unit, made): (&String, UnitId, &Made)| {
            (unit, (id.clone(), made.started_at.clone(), made.moves()))
        };
        self.world.ours().map(of).collect()
    }

    /// An `up` from rest does exactly what it said that it would do.
    pub(super) fn up_as_announced(&mut self, env: &Env) {
        let (before, volumes) = (self.snapshot(), self.world.our_volumes());
        let sets: BTreeSet<String> = self.world.sets.names().cloned().collect();
        let (networks, images) = (self.world.our_networks(), self.world.images.clone());
        (self.announced, self.denied) = (None, None);
        self.command(Wish::Up(env.clone()));
        self.run_until(self.now + 2_000);
        self.settle();
        let Some(announced) = self.announced.take() else {
            let (denied, older) = (self.denied.take(), env.tag < self.env.tag);
            return self.must(older && denied.is_some(), || {
                format!("a good configuration is refused: {denied:?}")
            });
        };
        let after = self.snapshot();
        let mut did: BTreeSet<(String, String)> = BTreeSet::new();
        for unit in before.keys().chain(after.keys()) {
            let step = match (before.get(unit), after.get(unit)) {
                (None, Some(_)) => Step::Create,
                (Some(_), None) => Step::Remove,
                (Some((one, ..)), Some((other, ..))) if one != other => Step::Recreate,
                (Some((_, _, false)), Some((_, _, true))) => Step::Start,
                (Some((_, one, true)), Some((_, other, true))) if one != other => Step::Restart,
                _ => continue,
            };
            did.insert(done(step)(&super::world::name_of(*unit)));
        }
        let saved = self.world.sets.names().filter(|name| !sets.contains(*name));
        did.extend(saved.map(done(Step::BackUp)));
        let is_of_stack = |name: &&String| !name.starts_with("p_tentacle-");
        let new = self.world.our_volumes();
        let new = new.difference(&volumes).filter(is_of_stack);
        did.extend(new.map(done(Step::Create)));
        let mut made = self.world.our_networks();
        made.retain(|id, _| !networks.contains_key(id));
        did.extend(made.values().map(done(Step::Create)));
        let is_fetched = |image: &&String| !images.contains_key(*image) || env.pull == Pull::Always;
        let spec = self.disk.file.spec.as_ref();
        let wanted = spec.map(StackSpec::images).unwrap_or_default();
        // A demo's images are imported before the daemon is asked.
        let fetched = self.world.images.keys().filter(is_fetched);
        let fetched = fetched.filter(|image| !env.demo && wanted.contains(&image.as_str()));
        did.extend(fetched.map(done(Step::Pull)));
        let announced = announced.iter();
        let said = announced.filter(|change| !change.name.starts_with("p-tentacle-"));
        let said: BTreeSet<_> = said.map(|change| done(change.what)(&change.name)).collect();
        self.must(said == did, || {
            format!("announced {said:?}\nand did {did:?}")
        });
    }
}

/// What is done to whom, as words that can be put in an order.
fn done(step: Step) -> impl Fn(&String) -> (String, String) {
    move |name| (name.clone(), format!("{step:?}"))
}

/// A status in one line.
fn brief(status: &Status) -> String {
    let units = status
        .units
        .iter()
        .map(|unit| format!("{} {} {}", unit.unit, unit.phase, unit.reason));
    format!(
        "{:?} {} {:?} {:?}",
        status.verdict,
        status.message,
        units.collect::<Vec<_>>(),
        status.work
    )
}
