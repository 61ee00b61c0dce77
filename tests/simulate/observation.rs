//! The engine's answers to looks and probes: each shows the world at some instant between its
//! beginning and its end, and a look may trust what an earlier one saw, as `engine/observe.rs` does.

use std::time::Duration;

use octo_local::daemon::LOOK_LIMIT;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::daemon::message::Invalidated;
use octo_local::daemon::message::ProbeTarget;
use octo_local::engine::observe::Around;
use octo_local::engine::observe::INSPECT_LIMIT;
use octo_local::engine::observe::ObservationCache;
use octo_local::engine::watch::Hint;
use octo_local::reconcile::container_event::ContainerEvent;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Instance;
use octo_local::spec::UnitId;
use tokio::time::Instant;

use super::daemon::Input;
use super::sim::Event;
use super::sim::Sim;
use super::world::Ms;

/// A look under way.
#[derive(Clone, Debug)]
pub(super) struct Look {
    cache: ObservationCache,
    images: Vec<String>,
    listed: Vec<Container>,
}

impl Sim {
    pub(super) fn begin_look(&mut self, invalidated: &Invalidated, images: Vec<String>) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let mut cache = std::mem::take(&mut daemon.cache);
        invalidated.forget_in(&mut cache);
        let epoch = daemon.epoch;
        if self.chaos && self.chance.percent(self.mix.blind) {
            let wait = if self.chance.percent(50) {
                LOOK_LIMIT.as_millis() as Ms
            } else {
                self.chance.between(5, 500)
            };
            let blind = Input::Looked(Err("blind".to_owned()), cache);
            return self.later(wait, Event::Deliver(epoch, blind));
        }
        let look = Look {
            cache,
            images,
            listed: Vec::new(),
        };
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
            return self.sees_nothing(epoch, look);
        }
        look.listed = self.world.list();
        let hangs = |one: &Container| self.world.containers[&one.id].hangs;
        let wait = if look.listed.iter().any(hangs) {
            INSPECT_LIMIT.as_millis() as Ms
        } else {
            self.look_time()
        };
        self.later(wait, Event::Inspect(epoch, Box::new(look)));
    }

    fn sees_nothing(&mut self, epoch: u64, look: Look) {
        let why = Err("unreachable".to_owned());
        self.deliver(epoch, Input::Looked(why, look.cache));
    }

    /// The second half: containers that do not fit what is known of them, and the rest.
    pub(super) fn inspect(&mut self, epoch: u64, mut look: Look) {
        if self.world.down {
            return self.sees_nothing(epoch, look);
        }
        let (now, cache) = (self.clock_of_looks(), &mut look.cache);
        let present = look.listed.iter().map(|one| one.id.as_str()).collect();
        cache.begin(&present, now);
        for one in &look.listed {
            let made = self.world.containers.get(&one.id);
            if cache.fits(one) {
                continue;
            }
            if cache.is_silent(&one.id) || made.is_some_and(|made| made.hangs) {
                cache.note_silent(&one.id, now);
                cache.note_listed(one.clone());
            } else if let Some(container) = self.world.inspect(&one.id) {
                cache.note(container);
            } else {
                cache.forget_container(&one.id);
            }
        }
        if cache.lacks_infrastructure() {
            cache.note_infrastructure(Around {
                networks: self.world.our_networks(),
                volumes: self.world.our_volumes(),
                ..Around::default()
            });
        }
        for image in cache.lacking_images(&look.images) {
            if let Some(id) = self.world.images.get(image) {
                cache.note_image(image, id.clone());
            }
        }
        let seen = Ok(Box::new(cache.seen()));
        let wait = self.look_time();
        let looked = Input::Looked(seen, look.cache);
        self.later(wait, Event::Deliver(epoch, looked));
    }

    /// What looks measure silence by.
    fn clock_of_looks(&self) -> Instant {
        self.begun + Duration::from_millis(self.now)
    }

    /// Something happens to a container, and the engine says so to whom it may concern.
    pub(super) fn hint(&mut self, id: &str, word: &str, signal: Option<&str>) {
        let now = self.now;
        let at = Some(self.world.clock(now));
        let made = self.world.containers.get(id);
        let Some(made) = made.filter(|made| made.of.is_some()) else {
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
        if self.daemon.as_ref().is_some_and(|daemon| daemon.follows) {
            self.deliver_later(wait, CoreEvent::Hinted(hint));
        }
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
        let is_starved = self.chaos && self.chance.percent(self.mix.starved);
        let starved = is_starved.then(|| Probe::Unknown("starved".to_owned()));
        let probe = starved.unwrap_or(probe);
        let answer = CoreEvent::Probed {
            number,
            unit,
            instance,
            probe,
        };
        self.deliver_later(wait, answer);
    }

    /// The last line of a container's log is the number of lines that it has.
    pub(super) fn read_log(&mut self, unit: UnitId, instance: Instance) {
        let process = self.world.process(&instance.id);
        let process = process.filter(|_| !self.world.down);
        let last = process.map(|process| format!("line {}", process.log));
        let lines = last.into_iter().collect();
        let read = CoreEvent::LogRead {
            unit,
            instance,
            lines,
        };
        let wait = self.chance.between(1, 20);
        self.deliver_later(wait, read);
    }
}
