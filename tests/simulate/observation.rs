//! The engine's answers to looks and probes: each shows the world at some instant between its
//! beginning and its end, and a look may trust what an earlier one saw, as `engine/observe.rs` does.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use octo_local::daemon::LOOK_LIMIT;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::daemon::message::Invalidated;
use octo_local::daemon::message::ProbeTarget;
use octo_local::engine::observe::INSPECT_LIMIT;
use octo_local::engine::observe::SILENT_FOR;
use octo_local::engine::watch::Hint;
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

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    containers: BTreeMap<String, Container>,
    rest: Option<(BTreeMap<String, String>, BTreeSet<String>)>,
    images: BTreeMap<String, String>,
    silent: BTreeMap<String, Ms>,
}

/// A look under way.
#[derive(Clone, Debug)]
pub(super) struct Look {
    cache: Cache,
    images: Vec<String>,
    listed: Vec<Listed>,
}

impl Sim {
    pub(super) fn begin_look(&mut self, invalidated: &Invalidated, images: Vec<String>) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let mut cache = std::mem::take(&mut daemon.cache);
        if invalidated.everything {
            cache = Cache {
                silent: cache.silent,
                ..Cache::default()
            };
        }
        invalidated.containers.iter().for_each(|id| {
            cache.containers.remove(id);
        });
        if invalidated.infrastructure {
            cache.rest = None;
        }
        if invalidated.images {
            cache.images.clear();
        }
        let epoch = daemon.epoch;
        let look = Look {
            cache,
            images,
            listed: Vec::new(),
        };
        if self.chaos && self.chance.percent(self.mix.blind) {
            let wait = if self.chance.percent(50) {
                LOOK_LIMIT.as_millis() as Ms
            } else {
                self.chance.between(5, 500)
            };
            return self.later(
                wait,
                Event::Deliver(epoch, Input::Looked(Err("blind".to_owned()), look.cache)),
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
                Input::Looked(Err("unreachable".to_owned()), look.cache),
            );
        }
        look.listed = self.world.list();
        let silent = look
            .listed
            .iter()
            .any(|one| self.world.containers[&one.id].hangs);
        let wait = if silent {
            INSPECT_LIMIT.as_millis() as Ms
        } else {
            self.look_time()
        };
        self.later(wait, Event::Inspect(epoch, Box::new(look)));
    }

    /// The second half: containers that cache does not know as they are listed, and the rest.
    pub(super) fn inspect(&mut self, epoch: u64, look: Look) {
        let Look {
            mut cache,
            images,
            listed,
        } = look;
        if self.world.down {
            return self.deliver(epoch, Input::Looked(Err("unreachable".to_owned()), cache));
        }
        let now = self.now;
        cache
            .containers
            .retain(|id, _| listed.iter().any(|one| one.id == *id));
        cache.silent.retain(|id, since| {
            listed.iter().any(|one| one.id == *id)
                && u128::from(now - *since) < SILENT_FOR.as_millis()
        });
        for one in &listed {
            if cache
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
            if hangs || cache.silent.contains_key(&one.id) {
                cache.silent.entry(one.id.clone()).or_insert(now);
                self.keep_listed(&mut cache, one);
            } else if let Some(container) = self.world.inspect(&one.id) {
                cache.containers.insert(one.id.clone(), container);
            }
        }
        if cache.rest.is_none() {
            cache.rest = Some((self.world.our_networks(), self.world.our_volumes()));
        }
        cache.images.retain(|image, _| images.contains(image));
        for image in images {
            if let Some(id) = self.world.images.get(&image) {
                cache.images.entry(image).or_insert_with(|| id.clone());
            }
        }
        let mut containers: Vec<Container> = cache.containers.values().cloned().collect();
        containers.sort_by(|one, other| (one.unit, &one.id).cmp(&(other.unit, &other.id)));
        let (networks, volumes) = cache.rest.clone().unwrap_or_default();
        let seen = Observed {
            networks,
            volumes,
            images: cache.images.clone(),
            ..Observed::default()
        };
        let seen = seen.with_containers(containers);
        let wait = self.look_time();
        self.later(
            wait,
            Event::Deliver(epoch, Input::Looked(Ok(Box::new(seen)), cache)),
        );
    }

    /// Of a container that does not answer only what the list says is known.
    fn keep_listed(&self, cache: &mut Cache, one: &Listed) {
        let Some(mut container) = self.world.inspect(&one.id) else {
            return;
        };
        let known = cache.containers.get(&one.id).and_then(Container::instance);
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
        cache.containers.insert(one.id.clone(), container);
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
            self.tell_within(3_000, Hint::Container(heard.clone()));
        }
        self.tell(Hint::Container(heard));
    }

    pub(super) fn hint_infrastructure(&mut self) {
        self.tell(Hint::Infrastructure);
    }

    pub(super) fn hint_images(&mut self) {
        self.tell(Hint::Images);
    }

    fn tell(&mut self, hint: Hint) {
        if self.chaos && self.chance.percent(self.mix.lost_events) {
            return;
        }
        self.tell_within(30, hint);
    }

    fn tell_within(&mut self, limit: Ms, hint: Hint) {
        let wait = self.chance.between(1, limit);
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| daemon.follows) else {
            return;
        };
        let epoch = daemon.epoch;
        let told = Input::Event(CoreEvent::Hinted(hint));
        self.later(wait, Event::Deliver(epoch, told));
    }

    /// A probe asks what is at its port: the answer is what is true then, and may be lost to a
    /// shortage of the daemon's own.
    pub(super) fn begin_probe(
        &mut self,
        number: u64,
        unit: UnitId,
        instance: Option<Instance>,
        target: &ProbeTarget,
        limit: Duration,
    ) {
        let limit = limit.as_millis() as Ms;
        let (probe, wait) = match target {
            ProbeTarget::Database(target) => {
                self.sql_answers(target.port, target.password.expose(), limit)
            }
            ProbeTarget::Node(address) => self.node_answers(address.port(), limit),
            ProbeTarget::Tentacle(id) => self.tentacle_answers(id, limit),
        };
        let unknown = self.chaos && self.chance.percent(self.mix.starved);
        let probe = if unknown {
            Probe::Unknown("starved".to_owned())
        } else {
            probe
        };
        let answer = CoreEvent::Probed {
            number,
            unit,
            instance,
            probe,
        };
        let epoch = self.epoch;
        self.later(wait, Event::Deliver(epoch, Input::Event(answer)));
    }

    /// The last line of a container's log is the number of lines that it has.
    pub(super) fn read_log(&mut self, unit: UnitId, instance: Instance) {
        let made = self.world.containers.get(&instance.id);
        let process = made.and_then(|made| made.process.as_ref());
        let lines = match process {
            Some(process) if !self.world.down => vec![format!("line {}", process.log)],
            Some(_) | None => Vec::new(),
        };
        let read = CoreEvent::LogRead {
            unit,
            instance,
            lines,
        };
        let (epoch, wait) = (self.epoch, self.chance.between(1, 20));
        self.later(wait, Event::Deliver(epoch, Input::Event(read)));
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
