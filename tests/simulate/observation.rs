//! The daemon's looks and probes, as `engine/observe.rs`, `daemon/prober.rs` and
//! `daemon/probing.rs` make them: each shows the world at some instant between its beginning and
//! its end, and a look may trust what an earlier one saw.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use octo_local::reconcile::Observed;
use octo_local::reconcile::container_event::ContainerEvent;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Instance;
use octo_local::reconcile::observed::Run;
use octo_local::spec::UnitId;

use super::daemon::Input;
use super::sim::Event;
use super::sim::Sim;
use super::world::Doing;
use super::world::Listed;
use super::world::Ms;

const LOOK_LIMIT: Ms = 20_000;
const INSPECT_LIMIT: Ms = 3_000;
const SILENT_FOR: Ms = 30_000;
const AFTER_MISS: Ms = 500;
const STARVED: Ms = 500;
const PROGRESS_EVERY: Ms = 2_000;

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    containers: BTreeMap<String, Container>,
    rest: Option<(BTreeMap<String, String>, BTreeSet<String>)>,
    images: BTreeMap<String, String>,
    silent: BTreeMap<String, Ms>,
}

/// A look under way.
#[derive(Clone, Debug)]
pub(super) struct Look {
    memory: Memory,
    images: Vec<String>,
    listed: Vec<Listed>,
}

/// One unit's prober.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub(super) number: u64,
    unit: UnitId,
    instance: Option<Instance>,
    port: u16,
    begun: Ms,
    started: bool,
    log: u64,
    log_at: Option<Ms>,
    /// When it asks next; never while it waits for an answer.
    due: Ms,
    nudged: bool,
    /// How long the question under way waits for its answer.
    limit: Ms,
}

impl Sim {
    pub(super) fn begin_look(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let (mut memory, stale) = (
            std::mem::take(&mut daemon.memory),
            std::mem::take(&mut daemon.stale),
        );
        if stale.everything {
            memory = Memory {
                silent: memory.silent,
                ..Memory::default()
            };
        }
        stale.containers.iter().for_each(|id| {
            memory.containers.remove(id);
        });
        if stale.infrastructure {
            memory.rest = None;
        }
        if stale.images {
            memory.images.clear();
        }
        let images = daemon
            .state
            .desired
            .spec
            .as_ref()
            .map(|spec| spec.images())
            .unwrap_or_default();
        let images = images.into_iter().map(str::to_owned).collect();
        let epoch = daemon.epoch;
        let look = Look {
            memory,
            images,
            listed: Vec::new(),
        };
        if self.chaos && self.chance.percent(self.mix.blind) {
            let wait = if self.chance.percent(50) {
                LOOK_LIMIT
            } else {
                self.chance.between(5, 500)
            };
            return self.later(
                wait,
                Event::Deliver(epoch, Input::Looked(Err("blind".to_owned()), look.memory)),
            );
        }
        let wait = self.look_time();
        self.later(wait, Event::List(epoch, Box::new(look)));
    }

    fn look_time(&mut self) -> Ms {
        if self.is_slow_engine() {
            self.chance.between(100, 4_000)
        } else {
            self.chance.between(1, 20)
        }
    }

    /// The first half of a look: the list.
    pub(super) fn list(&mut self, epoch: u64, mut look: Look) {
        if self.world.down {
            return self.deliver(
                epoch,
                Input::Looked(Err("unreachable".to_owned()), look.memory),
            );
        }
        look.listed = self.world.list();
        let silent = look
            .listed
            .iter()
            .any(|one| self.world.containers[&one.id].hangs);
        let wait = if silent {
            INSPECT_LIMIT
        } else {
            self.look_time()
        };
        self.later(wait, Event::Inspect(epoch, Box::new(look)));
    }

    /// The second half: containers that memory does not know as they are listed, and the rest.
    pub(super) fn inspect(&mut self, epoch: u64, look: Look) {
        let Look {
            mut memory,
            images,
            listed,
        } = look;
        if self.world.down {
            return self.deliver(epoch, Input::Looked(Err("unreachable".to_owned()), memory));
        }
        let now = self.now;
        memory
            .containers
            .retain(|id, _| listed.iter().any(|one| one.id == *id));
        memory.silent.retain(|id, since| {
            listed.iter().any(|one| one.id == *id) && now - *since < SILENT_FOR
        });
        for one in &listed {
            if memory
                .containers
                .get(&one.id)
                .is_some_and(|known| !is_stale(one, known))
            {
                continue;
            }
            let hangs = self
                .world
                .containers
                .get(&one.id)
                .is_some_and(|made| made.hangs);
            if hangs || memory.silent.contains_key(&one.id) {
                memory.silent.entry(one.id.clone()).or_insert(now);
                self.keep_listed(&mut memory, one);
            } else if let Some(container) = self.world.inspect(&one.id) {
                memory.containers.insert(one.id.clone(), container);
            }
        }
        if memory.rest.is_none() {
            memory.rest = Some((self.world.our_networks(), self.world.our_volumes()));
        }
        memory.images.retain(|image, _| images.contains(image));
        for image in images {
            if let Some(id) = self.world.images.get(&image) {
                memory.images.entry(image).or_insert_with(|| id.clone());
            }
        }
        let mut containers: Vec<Container> = memory.containers.values().cloned().collect();
        containers.sort_by(|one, other| (one.unit, &one.id).cmp(&(other.unit, &other.id)));
        let (networks, volumes) = memory.rest.clone().unwrap_or_default();
        let seen = Observed {
            containers,
            networks,
            volumes,
            images: memory.images.clone(),
        };
        let wait = self.look_time();
        self.later(wait, Event::Deliver(epoch, Input::Looked(Ok(seen), memory)));
    }

    /// Of a container that does not answer only what the list says is known.
    fn keep_listed(&self, memory: &mut Memory, one: &Listed) {
        let Some(mut container) = self.world.inspect(&one.id) else {
            return;
        };
        let known = memory.containers.get(&one.id).and_then(Container::instance);
        let started_at = known
            .map(|instance| instance.started_at)
            .unwrap_or_default();
        container.run = match one.doing {
            Doing::Created => Run::Created,
            Doing::Running => Run::Running { started_at },
            Doing::Paused => Run::Paused { started_at },
            Doing::Exited => Run::Exited {
                started_at,
                code: -1,
                oom: false,
                error: String::new(),
            },
            Doing::Removing => Run::Removing,
        };
        container.networks.clone_from(&one.networks);
        container.engine_restarts = false;
        memory.containers.insert(one.id.clone(), container);
    }

    /// Something happens to a container, and the engine says so to whom it may concern.
    pub(super) fn hint(&mut self, id: &str, word: &str, signal: Option<&str>) {
        let now = self.now;
        let at = Some(self.world.clock(now));
        let Some(made) = self
            .world
            .containers
            .get(id)
            .filter(|made| made.of.is_some())
        else {
            return;
        };
        let code = (word == "die").then_some(made.code);
        let signal = signal.map(str::to_owned);
        let heard = ContainerEvent {
            id: id.to_owned(),
            word: word.to_owned(),
            at,
            signal,
            code,
        };
        if self.chaos && self.chance.percent(self.mix.lost_events / 2) {
            self.tell_within(3_000, Input::Container(heard.clone()));
        }
        self.tell(Input::Container(heard));
    }

    pub(super) fn hint_infrastructure(&mut self) {
        self.tell(Input::Infrastructure);
    }

    pub(super) fn hint_images(&mut self) {
        self.tell(Input::Images);
    }

    fn tell(&mut self, input: Input) {
        if self.chaos && self.chance.percent(self.mix.lost_events) {
            return;
        }
        self.tell_within(30, input);
    }

    fn tell_within(&mut self, limit: Ms, input: Input) {
        let wait = self.chance.between(1, limit);
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| daemon.follows) else {
            return;
        };
        let epoch = daemon.epoch;
        self.later(wait, Event::Deliver(epoch, input));
    }

    /// Keeps one prober for each run, and none for what does not run.
    pub(super) fn probe(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let Some(spec) = daemon.state.desired.spec.as_ref().filter(|_| daemon.engine) else {
            return daemon.probers.clear();
        };
        let mut wanted = BTreeMap::new();
        let moves = |container: &&Container| matches!(container.run, Run::Running { .. });
        for container in daemon.state.seen.containers.iter().filter(moves) {
            let current = spec
                .container(container.unit)
                .filter(|_| self.invariants.is_current(container));
            if let Some(port) = current.and_then(|current| current.ports.first()) {
                wanted.insert(container.unit, (container.instance(), port.host));
            }
        }
        daemon.probers.retain(|unit, prober| {
            wanted.get(unit).is_some_and(|(instance, port)| {
                *instance == prober.instance && *port == prober.port
            })
        });
        wanted.retain(|unit, _| !daemon.probers.contains_key(unit));
        for (unit, (instance, port)) in wanted {
            self.next_call += 1;
            let number = self.next_call;
            let prober = Prober {
                number,
                unit,
                instance,
                port,
                begun: self.now,
                started: false,
                log: 0,
                log_at: None,
                due: self.now,
                nudged: false,
                limit: 0,
            };
            self.daemon.as_mut().unwrap().probers.insert(unit, prober);
            self.later(0, Event::Ask(number));
        }
    }

    fn prober(&mut self, number: u64) -> Option<&mut Prober> {
        self.daemon
            .as_mut()?
            .probers
            .values_mut()
            .find(|prober| prober.number == number)
    }

    pub(super) fn nudge(&mut self, unit: UnitId) {
        let now = self.now;
        let prober = self
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.probers.get_mut(&unit));
        let Some(prober) = prober else { return };
        prober.nudged = true;
        if prober.due < Ms::MAX {
            prober.due = now;
            let number = prober.number;
            self.later(0, Event::Ask(number));
        }
    }

    /// A prober's turn, unless it was asked earlier.
    pub(super) fn ask(&mut self, number: u64) {
        let now = self.now;
        let frozen_until = self.daemon.as_ref().map_or(0, |daemon| daemon.frozen_until);
        let Some(prober) = self.prober(number).filter(|prober| prober.due == now) else {
            return;
        };
        if frozen_until > now {
            prober.due = frozen_until;
            return self.later(frozen_until - now, Event::Ask(number));
        }
        (prober.due, prober.nudged) = (Ms::MAX, false);
        let (unit, port) = (prober.unit, prober.port);
        let limit = self.patience_with(unit);
        if let Some(prober) = self.prober(number) {
            prober.limit = limit;
        }
        let (probe, wait) = if unit == UnitId::Sql {
            self.sql_answers(port, limit)
        } else {
            self.node_answers(port, limit)
        };
        let unknown = self.chaos && self.chance.percent(self.mix.starved);
        let probe = if unknown {
            Probe::Unknown("starved".to_owned())
        } else {
            probe
        };
        let asked = self.now;
        self.later(wait, Event::Answered(number, asked, probe));
    }

    fn patience_with(&self, unit: UnitId) -> Ms {
        let state = self.daemon.as_ref().map(|daemon| &daemon.state);
        state.map_or(0, |state| state.patience_with(unit).as_millis() as Ms)
    }

    pub(super) fn answered(&mut self, number: u64, asked: Ms, probe: Probe) {
        let (now, epoch) = (self.now, self.epoch);
        let frozen_until = self.daemon.as_ref().map_or(0, |daemon| daemon.frozen_until);
        if frozen_until > now {
            return self.later(frozen_until - now, Event::Answered(number, asked, probe));
        }
        let timing = self.timing();
        let Some(prober) = self.prober(number) else {
            return;
        };
        let limit = prober.limit;
        let longest = if prober.unit == UnitId::Sql {
            limit * 4
        } else {
            limit
        };
        let probe = match probe {
            Probe::Failure(_, why) if now - asked > longest + STARVED => Probe::Unknown(why),
            other => other,
        };
        prober.started |= probe == Probe::Ready;
        let failed = matches!(probe, Probe::Failure(..));
        let (unit, instance, started) = (prober.unit, prober.instance.clone(), prober.started);
        let ms = |duration: std::time::Duration| duration.as_millis() as Ms;
        let pause = if started && failed {
            AFTER_MISS.saturating_sub(now - asked)
        } else if started {
            ms(timing.steady_probe)
        } else if now - prober.begun < ms(timing.fast_window) {
            ms(timing.start_probe_fast)
        } else {
            ms(timing.start_probe_slow)
        };
        let pause = if prober.nudged { 0 } else { pause };
        prober.due = now + pause;
        let looks_at_log = !started && prober.log_at.is_none_or(|at| now - at >= PROGRESS_EVERY);
        self.deliver(epoch, Input::Probed(unit, instance, probe));
        if looks_at_log && self.log_moved(number) {
            self.deliver(epoch, Input::Progressed(unit));
        }
        self.later(pause, Event::Ask(number));
    }

    fn log_moved(&mut self, number: u64) -> bool {
        let now = self.now;
        let Some(prober) = self.prober(number) else {
            return false;
        };
        prober.log_at = Some(now);
        let id = prober
            .instance
            .as_ref()
            .map(|instance| instance.id.clone())
            .unwrap_or_default();
        if self.world.down {
            return false;
        }
        let log = self
            .world
            .containers
            .get(&id)
            .and_then(|made| made.process.as_ref())
            .map_or(0, |process| process.log);
        let Some(prober) = self.prober(number) else {
            return false;
        };
        std::mem::replace(&mut prober.log, log) != log
    }
}

fn is_stale(listed: &Listed, known: &Container) -> bool {
    let same = matches!(
        (listed.doing, &known.run),
        (Doing::Created, Run::Created)
            | (Doing::Running, Run::Running { .. })
            | (Doing::Paused, Run::Paused { .. })
            | (Doing::Exited, Run::Exited { .. })
            | (Doing::Removing, Run::Removing)
    );
    !same || (listed.networks != known.networks && known.run != Run::Created)
}
