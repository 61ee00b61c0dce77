//! The stack at rest: reached within bounded time once nothing goes wrong any more, and as it was
//! wished and announced.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use octo_local::reconcile::Goal;
use octo_local::reconcile::Plan;
use octo_local::reconcile::preview;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::PhaseWord;
use octo_local::reconcile::status::Status;
use octo_local::reconcile::status::UnitStatus;
use octo_local::spec::UnitId;

use super::operator::Env;
use super::operator::Mistake;
use super::operator::Wish;
use super::process::Phase;
use super::sim::Sim;
use super::trouble::Undo;
use super::world::Doing;
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
        let begun = self
            .now
            .max(self.daemon.as_ref().map_or(0, |daemon| daemon.frozen_until));
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
        let mut begun = daemon
            .state()
            .records
            .busy
            .values()
            .map(|(_, since)| daemon.at(self.now).since(*since));
        begun.any(|ago| ago.as_millis() > u128::from(HUNG))
    }

    fn is_at_rest(&self, status: &Status) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        let plan = daemon.state().plan(daemon.at(self.now));
        // Tentacles are waited for here only: nothing of the product does. One that hangs is asked
        // seldom.
        let serves = |unit: &UnitStatus| unit.unit.is_server() && unit.phase == PhaseWord::Ready;
        let hangs = |(_, unit, made): (&String, UnitId, &super::world::Made)| {
            let hangs = made.process.as_ref().is_some_and(|process| process.hung);
            unit.is_tentacle() && hangs
        };
        let mut tentacles = status.tentacles.iter();
        let settled = status.verdict.is_at_rest()
            && (!status.units.iter().any(serves)
                || tentacles.all(|one| one.stopped || one.phase == PhaseWord::Ready)
                    && !self.world.all_ours().any(hangs));
        settled && plan == Plan::default() && daemon.state().records.busy.is_empty()
    }

    fn check_rest(&mut self, status: &Status) {
        self.trace(|| format!("at rest: {:?}", status.verdict));
        self.check_password();
        let daemon = self.daemon.as_ref().unwrap();
        let desired = daemon.state().desired.clone();
        match desired.goal {
            Goal::Down { .. } => return self.check_gone(),
            Goal::Hold | Goal::Halt => return,
            Goal::Up => {}
        }
        let seen = daemon.state().seen.clone();
        let Some(spec) = desired.spec.clone() else {
            return;
        };
        for unit in spec.units() {
            let kept = desired.stopped.contains(&unit) || desired.stopped.contains(&UnitId::Sql);
            self.check_unit(unit, kept);
            self.check_who_takes_tasks(unit);
        }
        self.check_who_is_listed(&spec);
        self.check_tentacles_at_rest();
        let surplus: Vec<String> = self
            .world
            .all_ours()
            .filter(|(_, unit, _)| spec.container(*unit).is_none())
            .map(|(id, unit, _)| format!("{unit} {id}"))
            .collect();
        self.must(surplus.is_empty(), || format!("left over: {surplus:?}"));
        let networks = self.world.our_networks();
        let idle = |id: &&String| {
            !self
                .world
                .containers
                .values()
                .any(|made| made.networks.contains(*id))
        };
        let idle: Vec<String> = networks
            .keys()
            .filter(|_| networks.len() > 1)
            .filter(idle)
            .cloned()
            .collect();
        self.must(idle.is_empty(), || format!("networks left over: {idle:?}"));
        self.must(self.knows_all(), || {
            "what is known is not what is".to_owned()
        });
        // What is stopped has nothing to restart.
        let keeps = |unit: &UnitId| {
            desired.stopped.contains(unit) || desired.stopped.contains(&UnitId::Sql)
        };
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

    fn check_unit(&mut self, unit: UnitId, stopped: bool) {
        let ids = self.world.ids_of(unit);
        let Some(id) = ids.first().filter(|_| ids.len() == 1) else {
            return self.must(stopped && ids.is_empty(), || {
                format!("{unit} has the containers {ids:?}")
            });
        };
        let made = &self.world.containers[id];
        let current = self
            .world
            .inspect(id)
            .is_some_and(|container| self.invariants.is_current(&container));
        let serves = made
            .process
            .as_ref()
            .is_some_and(|process| process.phase == Phase::Ready && !process.hung);
        self.must(stopped || !made.armed, || {
            format!("the engine would restart {unit} as well")
        });
        let made = &self.world.containers[id];
        let (moves, attached) = (
            made.doing == Doing::Running,
            made.networks
                .iter()
                .any(|id| self.world.networks.contains_key(id)),
        );
        if stopped {
            return self.must(!moves, || format!("{unit} was stopped and runs"));
        }
        self.must(current, || format!("{unit} runs from another definition"));
        self.must(moves && serves, || {
            format!("{unit} is called ready and does not serve")
        });
        self.must(attached, || format!("{unit} is not on the network"));
        let sql = self
            .world
            .unit(UnitId::Sql)
            .map(|made| made.networks.clone())
            .unwrap_or_default();
        let meets = !self.world.containers[id].networks.is_disjoint(&sql);
        self.must(meets, || {
            format!("{unit} is on another network than SQL Server")
        });
    }

    /// After `down` nothing is left but volumes; after a signal containers stay, and none runs.
    fn check_gone(&mut self) {
        if self.did_late && self.daemon.is_none() {
            // Nobody is left who could see what came after the end.
            return;
        }
        let goal = self
            .daemon
            .as_ref()
            .map(|daemon| daemon.state().desired.goal)
            .or(self.ended_with);
        let Some(Goal::Down { volumes: all }) = goal else {
            // What somebody else starts after the end, nobody can see.
            let is_later = |made: &super::world::Made| {
                let process = made.process.as_ref();
                let later = process.is_some_and(|one| !one.by_us && one.began > self.ended_at);
                self.daemon.is_none() && later
            };
            let running = self
                .world
                .all_ours()
                .find(|(_, _, made)| made.moves() && !is_later(made))
                .map(|(_, unit, _)| unit);
            return self.must(running.is_none(), || {
                format!("halted, and {running:?} runs")
            });
        };
        let left: Vec<String> = self
            .world
            .all_ours()
            .map(|(id, unit, _)| format!("{unit} {id}"))
            .collect();
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
            let networks: Vec<String> = self.world.our_networks().into_keys().collect();
            for id in &networks {
                self.world.networks.remove(id);
            }
        }
        if self.chance.percent(50) {
            self.undo(Undo::Daemon);
            return self.settle();
        }
        let env = self.good_env();
        self.up_as_announced(&env);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let of = |(id, unit, _): (&String, UnitId, &super::world::Made)| {
            let made = &self.world.containers[id];
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
            let name = if *unit == UnitId::Sql {
                "p-db-1".to_owned()
            } else {
                format!("p-{unit}")
            };
            did.insert((name, format!("{step:?}")));
        }
        let saved = self.world.sets.names().filter(|name| !sets.contains(*name));
        did.extend(saved.map(|name| (name.clone(), format!("{:?}", Step::BackUp))));
        let made = |name: &String| (name.clone(), format!("{:?}", Step::Create));
        let is_of_stack = |name: &&String| !name.starts_with("p_tentacle-");
        let new = self.world.our_volumes();
        did.extend(new.difference(&volumes).filter(is_of_stack).map(made));
        did.extend(
            self.world
                .our_networks()
                .iter()
                .filter(|(id, _)| !networks.contains_key(*id))
                .map(|(_, name)| made(name)),
        );
        let fetched = self.world.images.keys().filter(|image| {
            !images.contains_key(*image) || env.pull == octo_local::config::Pull::Always
        });
        let wanted = self
            .disk
            .file
            .spec
            .as_ref()
            .map(|spec| spec.images())
            .unwrap_or_default();
        // A demo's images are imported before the daemon is asked.
        let fetched = fetched.filter(|image| !env.demo && wanted.contains(&image.as_str()));
        did.extend(fetched.map(|image| (image.clone(), format!("{:?}", Step::Pull))));
        let said: BTreeSet<(String, String)> = announced
            .iter()
            .filter(|change| !change.name.starts_with("p-tentacle-"))
            .map(|change| (change.name.clone(), format!("{:?}", change.what)))
            .collect();
        self.must(said == did, || {
            format!("announced {said:?}\nand did {did:?}")
        });
    }
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
