//! The model of what runs in a container: an Octopus node or a SQL Server, from its start to its
//! end, well or not.

use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::spec::Digest;
use octo_local::spec::UnitId;
use time::format_description::well_known::Rfc3339;

use super::sim::Event;
use super::sim::Sim;
use super::tentacles::no_answer;
use super::tentacles::nobody_listens;
use super::world::Data;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;
use super::world::version_of;

/// A process, in the run of this number.
#[derive(Debug)]
pub(super) struct Process {
    /// Our own call started it, and its daemon knows.
    pub(super) by_us: bool,
    pub(super) began: Ms,
    pub(super) phase: Phase,
    /// It served at least once.
    pub(super) was_ready: bool,
    /// Lines of its log, and when the last was written.
    pub(super) log: u64,
    pub(super) logged_at: Ms,
    pub(super) hung: bool,
    /// Its start takes long, and shows progress.
    pub(super) slow: bool,
    /// Fails about every second probe.
    pub(super) flaps: bool,
    /// When it last stopped being hung, paused, flapping or without its database.
    pub(super) well_since: Ms,
    pub(super) on_lost: OnLost,
    /// It ends when asked to, after so long.
    pub(super) ends_in: Option<Ms>,
    /// What would have happened while it was frozen.
    pub(super) deferred: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Boot,
    /// A node looks for its database, and gives up at this time.
    Connecting(Ms),
    Migrating,
    /// A Tentacle asked whether it is registered, and is about to.
    Registering {
        is_known: bool,
    },
    /// SQL Server's first start: it knows no password yet.
    Refusing,
    Recovering,
    Ready,
    Closing,
    /// It will never be ready.
    Stuck,
    /// Something of somebody else's.
    Foreign,
}

/// What a node does when its database goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLost {
    Dies,
    Waits,
    Freezes,
    /// It answers on as if nothing were wrong.
    Serves,
}

/// Something that happens in a process.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// It goes on to its next phase.
    Next,
    Log(u32),
    Crash(i64, &'static str),
    /// A node that lost its database a while ago.
    StillLost,
    Ended,
    Killed,
    WellAgain,
}

pub(super) const UNREACHABLE: &str =
    "Connection test to \"master\" timed out after trying for 30 seconds";

/// The code and the words with which a process ends that was configured to fail.
fn end_of(mark: &str) -> Option<(i64, &'static str)> {
    match mark {
        "crash-loop" => Some((1, "Unhandled exception")),
        "licence" => Some((1, "would not be compliant with your license")),
        super::operator::WEAK_MARK => Some((255, "Password validation failed")),
        _ => None,
    }
}

impl Sim {
    /// A process begins in a container. Its networks, ports and images were checked before.
    pub(super) fn begin_process(&mut self, id: &str, by_us: bool) {
        let now = self.now;
        let on_lost = [OnLost::Dies, OnLost::Waits, OnLost::Freezes, OnLost::Serves]
            [self.chance.below(4) as usize];
        let ends_in = (!self.chance.percent(self.mix.deaf)).then(|| self.chance.between(50, 4_000));
        let at = self.world.clock(now);
        let made = self.world.containers.get_mut(id).unwrap();
        made.runs += 1;
        made.started_at = at.format(&Rfc3339).unwrap();
        made.doing = Doing::Running;
        (made.code, made.oom) = (0, false);
        made.lines.clear();
        let phase = [Phase::Foreign, Phase::Boot][usize::from(made.of.is_some())];
        made.process = Some(Process {
            by_us,
            began: now,
            phase,
            was_ready: false,
            log: 1,
            logged_at: now,
            hung: false,
            slow: false,
            flaps: false,
            well_since: now,
            on_lost,
            ends_in,
            deferred: Vec::new(),
        });
        let started = made.of.as_ref().map(|(unit, _)| *unit);
        if let Some(unit) = started.filter(|_| by_us) {
            self.judge_start_on_data(unit);
            self.judge_password(id, unit);
        }
        let made = &self.world.containers[id];
        let (of, mark, volumes) = (made.of.clone(), made.mark.clone(), made.volumes.clone());
        self.check_company(id, by_us, &volumes);
        self.hint(id, "start", None);
        let Some((unit, _)) = of else { return };
        // What somebody else starts may take the database to another version than anybody asked us
        // for.
        self.unseen_version |= !by_us && unit.is_server();
        self.trace(|| format!("{unit} {id} runs{}", if by_us { "" } else { ", not by us" }));
        self.begin_life(id, unit, &mark);
    }

    fn begin_life(&mut self, id: &str, unit: UnitId, mark: &str) {
        let boot = self.chance.between(100, 2_000);
        if let Some((code, words)) = end_of(mark) {
            self.step(id, boot, Step::Crash(code, words));
        }
        if self.chaos && self.chance.percent(self.mix.bad_runs) {
            match self.chance.below(4) {
                0 => self.step(id, boot / 2, Step::Crash(139, "")),
                1 => self.process(id).phase = Phase::Stuck,
                2 => self.is_slow(id),
                _ => {
                    let later = self.chance.between(500, 20_000);
                    self.step(id, later, Step::Crash(0, ""));
                }
            }
        }
        let process = self.process(id);
        let is_slow = unit == UnitId::Sql && process.phase == Phase::Boot && process.slow;
        let slow = if is_slow {
            self.chance.between(20_000, 60_000)
        } else {
            0
        };
        self.step(id, boot + slow, Step::Next);
    }

    /// A long start that shows progress in its log.
    fn is_slow(&mut self, id: &str) {
        self.process(id).slow = true;
        self.step(id, 3_000, Step::Log(12));
    }

    pub(super) fn process(&mut self, id: &str) -> &mut Process {
        self.world
            .containers
            .get_mut(id)
            .and_then(|made| made.process.as_mut())
            .unwrap()
    }

    pub(super) fn step(&mut self, id: &str, wait: Ms, step: Step) {
        let run = self.world.containers[id].runs;
        self.later(wait, Event::Step(id.to_owned(), run, step));
    }

    pub(super) fn stepped(&mut self, id: &str, run: u64, step: Step) {
        let made = self.world.containers.get_mut(id);
        let Some(made) = made.filter(|made| made.runs == run) else {
            return;
        };
        let frozen = made.doing == Doing::Paused;
        let Some(process) = made.process.as_mut() else {
            return;
        };
        if frozen && step != Step::Killed {
            return process.deferred.push(step);
        }
        match step {
            Step::Next => self.next_phase(id),
            Step::Log(left) => {
                process.log += 1;
                process.logged_at = self.now;
                if left > 0 {
                    let wait = self.chance.between(3_000, 9_000);
                    self.step(id, wait, Step::Log(left - 1));
                }
            }
            Step::Crash(code, line) => {
                let sticks = end_of(&made.mark).is_some();
                if self.chaos || sticks || !line.is_empty() {
                    self.exit(id, code, line);
                }
            }
            Step::StillLost => {
                if !self.has_database(id) {
                    self.exit(id, 1, UNREACHABLE);
                }
            }
            Step::Ended => self.exit(id, 0, ""),
            Step::Killed => self.exit(id, 137, ""),
            Step::WellAgain => {
                (process.hung, process.flaps) = (false, false);
                process.well_since = self.now;
            }
        }
    }

    fn next_phase(&mut self, id: &str) {
        let made = &self.world.containers[id];
        let Some((unit, _)) = made.of else { return };
        let phase = made.process.as_ref().unwrap().phase;
        match (unit, phase) {
            (_, Phase::Ready | Phase::Closing | Phase::Stuck | Phase::Foreign) => {}
            (UnitId::Tentacle(_), phase) => self.tentacle_goes_on(id, phase),
            (UnitId::Sql, Phase::Boot) => self.sql_booted(id),
            (UnitId::Sql, _) => self.sql_ready(id),
            (UnitId::Node(_), Phase::Boot) => {
                let until = match self.process(id).on_lost {
                    OnLost::Waits => Ms::MAX,
                    OnLost::Dies | OnLost::Freezes | OnLost::Serves => self.now + 30_000,
                };
                self.enter(id, Phase::Connecting(until));
                self.next_phase(id);
            }
            (UnitId::Node(_), Phase::Connecting(until)) => self.connect(id, until),
            (UnitId::Node(_), _) => self.migrated(id),
        }
    }

    pub(super) fn enter(&mut self, id: &str, phase: Phase) {
        let now = self.now;
        let process = self.process(id);
        process.phase = phase;
        process.log += 1;
        process.logged_at = now;
        if phase == Phase::Ready {
            process.was_ready = true;
            process.well_since = now;
        }
        let made = &self.world.containers[id];
        let is_node = made.of.as_ref().is_some_and(|(unit, _)| unit.is_server());
        let node = made.node.clone();
        if phase == Phase::Ready && is_node && !node.is_empty() {
            self.world.listed.insert(node);
        }
        self.trace(|| format!("{id} is {phase:?}"));
    }

    fn sql_booted(&mut self, id: &str) {
        let data = self.data_of(id).cloned();
        let (phase, wait) = match data {
            None => (Phase::Refusing, self.chance.between(500, 4_000)),
            Some(Data { dirty: true, .. }) => (Phase::Recovering, self.chance.between(500, 8_000)),
            Some(_) => (Phase::Recovering, self.chance.between(50, 500)),
        };
        self.enter(id, phase);
        self.step(id, wait, Step::Next);
        let password = self.world.containers[id].password.clone();
        if let Some(data) = self.data_mut(id) {
            // Only the first start takes a password.
            let new = || Data {
                password,
                ..Data::default()
            };
            data.get_or_insert_with(new).dirty = true;
        }
    }

    fn sql_ready(&mut self, id: &str) {
        self.enter(id, Phase::Ready);
        let now = self.now;
        let all = self.world.containers.values_mut();
        for process in all.filter_map(|made| made.process.as_mut()) {
            process.well_since = process.well_since.max(now);
        }
    }

    fn data_mut(&mut self, sql: &str) -> Option<&mut Option<Data>> {
        let volume = self.world.containers.get(sql)?.volumes.first()?;
        Some(&mut self.world.volumes.get_mut(volume)?.data)
    }

    fn data_of(&self, sql: &str) -> Option<&Data> {
        let volume = self.world.containers.get(sql)?.volumes.first()?;
        self.world.volumes.get(volume)?.data.as_ref()
    }

    /// The SQL Server that a node reaches: one that serves, on a network of the node's.
    fn database_of(&self, node: &str) -> Option<String> {
        let node = &self.world.containers[node];
        let reached = |(_, unit, made): &(&String, UnitId, &Made)| {
            *unit == UnitId::Sql && made.answers() && !made.networks.is_disjoint(&node.networks)
        };
        self.world.ours().find(reached).map(|(id, ..)| id.clone())
    }

    pub(super) fn has_database(&self, node: &str) -> bool {
        self.database_of(node).is_some()
    }

    fn connect(&mut self, id: &str, until: Ms) {
        let Some(sql) = self.database_of(id) else {
            if self.now >= until {
                return self.exit(id, 1, UNREACHABLE);
            }
            return self.step(id, 1_000, Step::Next);
        };
        let made = &self.world.containers[id];
        let (version, key) = (version_of(&made.image_id), made.key.clone());
        let Some(data) = self.data_of(&sql).cloned() else {
            return self.step(id, 1_000, Step::Next);
        };
        if data.schema.is_some_and(|schema| schema > version) {
            self.judge_downgrade(id, version, data.schema);
            return self.exit(id, 3, "the database schema is newer");
        }
        if data.schema.is_some() && data.key != key {
            return self.exit(id, 1, "the master key is invalid");
        }
        self.judge_attempt(id, data.schema == Some(version));
        if let Some(Some(data)) = self.data_mut(&sql) {
            data.key = key;
        }
        self.enter(id, Phase::Migrating);
        let slow = self.process(id).slow;
        let wait = match (data.schema == Some(version), slow) {
            (_, true) => self.chance.between(20_000, 60_000),
            (true, false) => self.chance.between(100, 1_500),
            (false, false) => self.chance.between(1_000, 9_000),
        };
        self.step(id, wait, Step::Next);
    }

    fn migrated(&mut self, id: &str) {
        let version = version_of(&self.world.containers[id].image_id);
        let Some(sql) = self.database_of(id) else {
            self.enter(id, Phase::Connecting(self.now + 30_000));
            return self.step(id, 1_000, Step::Next);
        };
        if let Some(Some(data)) = self.data_mut(&sql) {
            data.schema = data.schema.max(Some(version));
        }
        self.enter(id, Phase::Ready);
    }

    /// A process ends.
    pub(super) fn exit(&mut self, id: &str, code: i64, line: &'static str) {
        let Some(made) = self.world.containers.get_mut(id) else {
            return;
        };
        let Some(process) = made.process.take() else {
            return;
        };
        made.doing = Doing::Exited;
        made.code = code;
        let line = Some(line).filter(|line| !line.is_empty());
        made.lines = line.map(str::to_owned).into_iter().collect();
        let unit = made.of.as_ref().map(|(unit, _)| *unit);
        let armed = made.armed && process.ends_in.is_some();
        let line = line.unwrap_or_default();
        self.trace(|| format!("{id} ended with {code} {line}"));
        self.hint(id, "die", None);
        self.answer_waiters(id);
        if unit == Some(UnitId::Sql) {
            let clean = process.phase == Phase::Closing;
            if let Some(Some(data)) = self.data_mut(id) {
                data.dirty = !clean;
            }
            self.database_lost();
        }
        if armed && code != 0 && !self.world.down {
            let wait = self.chance.between(100, 1_000);
            self.later(wait, Event::Rearm(id.to_owned()));
        }
    }

    /// Nodes notice that their database went away.
    pub(super) fn database_lost(&mut self) {
        let nodes: Vec<String> = self
            .world
            .ours()
            .filter(|(_, unit, made)| unit.is_server() && made.moves())
            .map(|(id, ..)| id.clone())
            .collect();
        for id in nodes {
            if self.has_database(&id) {
                continue;
            }
            let (phase, on_lost) = (self.process(&id).phase, self.process(&id).on_lost);
            match (phase, on_lost) {
                (Phase::Migrating, OnLost::Dies) => {
                    self.step(&id, 700, Step::Crash(1, UNREACHABLE));
                }
                (Phase::Migrating, OnLost::Waits) => {
                    self.enter(&id, Phase::Connecting(Ms::MAX));
                    self.step(&id, 1_000, Step::Next);
                }
                (Phase::Migrating, _) => self.process(&id).phase = Phase::Stuck,
                (Phase::Ready, OnLost::Dies) => {
                    let wait = self.chance.between(3_000, 15_000);
                    self.step(&id, wait, Step::StillLost);
                }
                _ => {}
            }
        }
    }

    /// What a node answers at its port, and after how long.
    pub(super) fn node_answers(&mut self, port: u16, limit: Ms) -> (Probe, Ms) {
        let flip = self.chance.percent(50);
        let quick = self.chance.between(1, 20);
        let Some((id, made, process)) = self.world.listener(port) else {
            return (nobody_listens(), quick);
        };
        if made.is_silent() {
            return no_answer(limit);
        }
        let broken = |code: u16| Probe::Failure(Miss::Broken, format!("it answers {code}"));
        let drained = |(unit, _): &(UnitId, Digest)| self.world.drained.contains(unit);
        let serves = process.on_lost == OnLost::Serves || self.has_database(id);
        let probe = match process.phase {
            Phase::Ready if process.flaps && flip => broken(500),
            Phase::Ready if serves && made.of.as_ref().is_some_and(drained) => {
                Probe::Drained("it is drained (418)".to_owned())
            }
            Phase::Ready if serves => Probe::Ready,
            Phase::Boot | Phase::Foreign => nobody_listens(),
            _ => broken(503),
        };
        (probe, quick)
    }

    /// What SQL Server answers at its port, and after how long.
    pub(super) fn sql_answers(&mut self, port: u16, password: &str, limit: Ms) -> (Probe, Ms) {
        let quick = self.chance.between(1, 20);
        let Some((id, made, process)) = self.world.listener(port) else {
            return (nobody_listens(), quick);
        };
        if made.is_silent() {
            return no_answer(limit);
        }
        let has = self.data_of(id);
        let is_known = has.is_none_or(|data| data.password == password);
        let probe = match process.phase {
            Phase::Ready if is_known => Probe::Ready,
            Phase::Ready | Phase::Refusing => Probe::Refused("error 18456".to_owned()),
            Phase::Recovering => Probe::Alive("database Octopus is RECOVERING".to_owned()),
            _ => nobody_listens(),
        };
        (probe, quick)
    }
}
