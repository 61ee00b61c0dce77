//! What goes wrong: processes, people with `docker`, the host, the engine, the daemon itself.

use octo_local::spec::UnitId;

use octo_local::daemon::message::Event as CoreEvent;

use super::calls::unknown;
use super::process::Step;
use super::sim::Event;
use super::sim::Sim;
use super::world::DATA;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;

/// The end of a trouble.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    Engine,
    Thaw(String),
    Port(u16),
    Disk,
    Foreign(String),
    Hang(String),
    /// A daemon begins, as systemd has it.
    Daemon,
}

impl Sim {
    /// Something goes wrong, or the operator wishes something.
    pub(super) fn trouble(&mut self) {
        if !self.chaos {
            return;
        }
        let total = self.mix.weights.iter().sum();
        let mut drawn = self.chance.below(total);
        let kind = self.mix.weights.iter().position(|weight| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        match kind {
            Some(0) => self.process_trouble(),
            Some(1) if !self.world.down => self.person(),
            Some(2) if !self.world.down => self.host_trouble(),
            Some(3) => self.engine_trouble(),
            Some(4) => self.daemon_trouble(),
            _ => self.operator(),
        }
        let pause = self.mix.pause.unwrap_or_default();
        let wait = if self.chance.percent(25) {
            self.chance.between(1, 300)
        } else {
            self.chance.between(300, pause)
        };
        self.later(wait, Event::Trouble);
    }

    fn operator(&mut self) {
        if self.daemon.is_none() {
            return self.command(super::operator::Wish::Up(self.good_env()));
        }
        if self.chance.percent(6) {
            return self.end_politely();
        }
        let wish = self.some_wish();
        self.command(wish);
        self.perhaps_a_tentacle();
    }

    fn end_politely(&mut self) {
        self.trace(|| "SIGTERM".to_owned());
        self.terminate();
        if self.chance.percent(30) {
            self.terminate();
        }
        let wait = self.chance.between(1_000, 20_000);
        self.later(wait, Event::Undo(Undo::Daemon));
    }

    fn some_running(&mut self) -> Option<String> {
        let ids = self.moving(|made| made.of.is_some());
        self.chance.pick(&ids).cloned()
    }

    /// The containers of this kind that run, frozen or not.
    fn moving(&self, which: impl Fn(&Made) -> bool) -> Vec<String> {
        let all = self.world.containers.iter();
        let moving = all.filter(|(_, made)| made.moves() && which(made));
        moving.map(|(id, _)| id.clone()).collect()
    }

    fn made(&mut self, id: &str) -> &mut Made {
        self.world.containers.get_mut(id).unwrap()
    }

    fn some_container(&mut self) -> Option<String> {
        let ids: Vec<String> = self.world.all_ours().map(|(id, ..)| id.clone()).collect();
        self.chance.pick(&ids).cloned()
    }

    fn process_trouble(&mut self) {
        let Some(id) = self.some_running() else {
            return;
        };
        let long = self.chance.between(2_000, 40_000);
        let trouble = self.chance.below(6);
        self.trace(|| format!("trouble {trouble} in {id}"));
        match trouble {
            0 => self.exit(&id, 139, ""),
            1 => self.exit(&id, 0, ""),
            2 => {
                self.exit(&id, 137, "");
                self.made(&id).oom = true;
            }
            3 => self.process(&id).hung = true,
            4 => {
                self.process(&id).hung = true;
                self.step(&id, long, Step::WellAgain);
            }
            _ => {
                self.process(&id).flaps = true;
                self.step(&id, long, Step::WellAgain);
            }
        }
        if self.world.process(&id).is_some_and(|process| process.hung) {
            self.database_lost();
        }
    }

    fn person(&mut self) {
        let act = self.chance.below(15);
        let Some(id) = self.some_container() else {
            return;
        };
        let moves = self.world.containers[&id].moves();
        self.trace(|| format!("person {act} on {id}"));
        match act {
            0 if moves => {
                self.hint(&id, "kill", Some("15"));
                self.thaw(&id);
                let wait = self.chance.between(50, 2_000);
                self.step(&id, wait, Step::Killed);
            }
            1 if moves => self.exit(&id, 137, ""),
            2 | 3 => {
                self.exit(&id, 137, "");
                self.made(&id).doing = Doing::Removing;
                let wait = self.chance.between(1, 800);
                self.later(wait, Event::Gone(id));
            }
            4 if moves => {
                self.made(&id).doing = Doing::Paused;
                self.hint(&id, "pause", None);
                self.database_lost();
                let wait = self.chance.between(2_000, 40_000);
                self.later(wait, Event::Undo(Undo::Thaw(id)));
            }
            5 => self.disconnect(&id),
            6 => self.remove_networks(),
            7 => {
                let name = self.world.fresh("renamed");
                self.made(&id).name = name;
                self.hint(&id, "rename", None);
            }
            8 => {
                self.made(&id).armed = true;
                self.hint(&id, "update", None);
            }
            9 => {
                let _ = self.start_container(&id, false);
            }
            10 if moves => {
                self.exit(&id, 137, "");
                let _ = self.start_container(&id, false);
            }
            11 if !self.world.strict => self.make_network("p_default".to_owned()),
            12 if !self.env.demo => {
                let image = self.world.containers[&id].image.clone();
                self.world.images.remove(&image);
                self.hint_images();
            }
            13 => self.move_a_tag(),
            14 => {
                self.made(&id).hangs = true;
                let wait = self.chance.between(5_000, 50_000);
                self.later(wait, Event::Undo(Undo::Hang(id)));
            }
            _ => {}
        }
    }

    /// Somebody removes our networks, with what is attached to them.
    fn remove_networks(&mut self) {
        for id in self.moving(|made| made.of.is_some()) {
            self.disconnect(&id);
        }
        self.world.networks.retain(|_, network| !network.ours);
        self.hint_infrastructure();
    }

    /// Somebody takes a reference to an image away; what runs of it runs on.
    pub(super) fn lose_an_image(&mut self) {
        let images: Vec<String> = self.world.images.keys().cloned().collect();
        if let Some(image) = self.chance.pick(&images).filter(|_| !self.env.demo) {
            self.world.images.remove(image);
            self.hint_images();
        }
    }

    /// A tag stands for a newer image now, in the registry and perhaps here.
    fn move_a_tag(&mut self) {
        if self.env.demo {
            return;
        }
        let tag = format!("octopus:2026.{}.1", self.env.tag);
        let Some(id) = self.world.registry.get_mut(&tag) else {
            return;
        };
        *id = format!("oct:{}", super::world::version_of(id) + 1);
        let id = id.clone();
        if self.chance.percent(50) {
            self.world.images.insert(tag, id);
            self.hint_images();
        }
    }

    fn disconnect(&mut self, id: &str) {
        let made = self.made(id);
        if made.doing != Doing::Created {
            made.networks.clear();
        }
        self.hint_infrastructure();
        self.hint(id, "disconnect", None);
        self.database_lost();
    }

    /// A frozen process goes on.
    pub(super) fn thaw(&mut self, id: &str) {
        let now = self.now;
        let made = self.world.containers.get_mut(id);
        let Some(made) = made.filter(|made| made.doing == Doing::Paused) else {
            return;
        };
        made.doing = Doing::Running;
        let Some(process) = made.process.as_mut() else {
            return;
        };
        process.well_since = now;
        let deferred = std::mem::take(&mut process.deferred);
        self.hint(id, "unpause", None);
        for step in deferred {
            self.step(id, 10, step);
        }
    }

    fn host_trouble(&mut self) {
        let wait = self.chance.between(3_000, 40_000);
        let unit = self.some_unit();
        let trouble = self.chance.below(5);
        self.trace(|| format!("host trouble {trouble} about {unit}"));
        match trouble {
            0 => {
                let port = match unit {
                    UnitId::Sql => 1401,
                    UnitId::Node(_) | UnitId::Tentacle(_) => 8079 + u16::from(unit.number()),
                };
                if self.world.listener(port).is_none() {
                    self.world.taken.insert(port);
                    self.later(wait, Event::Undo(Undo::Port(port)));
                }
            }
            1 => {
                self.world.disk_full = true;
                self.later(wait, Event::Undo(Undo::Disk));
            }
            2 => {
                let name = super::world::name_of(unit);
                if !self.world.has_name(&name) {
                    self.name_was_taken = true;
                    self.foreign(name, Vec::new(), wait);
                }
            }
            3 => {
                let sql_runs = self.world.unit(UnitId::Sql).is_some_and(Made::moves);
                if !sql_runs && self.world.volumes.contains_key(DATA) {
                    let name = self.world.fresh("foreign");
                    self.foreign(name, vec![DATA.to_owned()], wait);
                }
            }
            _ => self.move_a_tag(),
        }
    }

    /// Somebody else's container runs for a while.
    fn foreign(&mut self, name: String, volumes: Vec<String>, wait: Ms) {
        let id = self.world.fresh("f");
        let made = Made {
            name,
            image: "foreign".to_owned(),
            image_id: "foreign:1".to_owned(),
            volumes,
            ..Made::default()
        };
        self.world.containers.insert(id.clone(), made);
        self.begin_process(&id, false);
        self.later(wait, Event::Undo(Undo::Foreign(id)));
    }

    fn engine_trouble(&mut self) {
        let trouble = self.chance.below(4);
        self.trace(|| format!("engine trouble {trouble}"));
        match trouble {
            0 => self.engine_down(true),
            1 => self.engine_down(false),
            2 => self.slow_until = self.now + self.chance.between(5_000, 40_000),
            _ => self.close_stream(),
        }
    }

    fn close_stream(&mut self) {
        self.deliver_later(1, CoreEvent::StreamClosed("it was closed".to_owned()));
    }

    fn engine_down(&mut self, containers_live: bool) {
        if self.world.down {
            return;
        }
        self.world.down = true;
        let open: Vec<u64> = self.calls.keys().copied().collect();
        for number in open {
            self.answer(number, unknown("the connection broke"));
            self.calls.remove(&number);
        }
        self.waiters.clear();
        self.close_stream();
        if !containers_live {
            for id in self.moving(|_| true) {
                self.exit(&id, 137, "");
            }
        }
        let wait = self.chance.between(500, 25_000);
        self.later(wait, Event::Undo(Undo::Engine));
    }

    pub(super) fn engine_up(&mut self) {
        if !self.world.down {
            return;
        }
        self.world.down = false;
        self.trace(|| "the engine is back".to_owned());
        let all: Vec<String> = self.world.containers.keys().cloned().collect();
        for id in &all {
            self.rearm(id);
        }
    }

    /// The engine's own restart policy is at work.
    pub(super) fn rearm(&mut self, id: &str) {
        let made = self.world.containers.get(id);
        let armed = made.is_some_and(|made| made.armed && made.doing == Doing::Exited);
        if armed && !self.world.down {
            let _ = self.start_container(id, false);
        }
    }

    fn daemon_trouble(&mut self) {
        match self.chance.below(5) {
            0 if self.daemon.is_some() => {
                let long = self.chance.between(500, 60_000);
                self.trace(|| format!("the daemon is frozen for {long} ms"));
                let until = self.now + long;
                self.daemon.as_mut().unwrap().frozen_until = until;
                self.turn_at(until);
            }
            1 if self.daemon.is_some() && self.chance.percent(40) => self.end_politely(),
            _ => {
                self.kill_daemon();
                let wait = if self.chance.percent(50) {
                    self.chance.between(5, 200)
                } else {
                    self.chance.between(200, 9_000)
                };
                self.later(wait, Event::Undo(Undo::Daemon));
            }
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Engine => self.engine_up(),
            Undo::Thaw(id) => self.thaw(&id),
            Undo::Port(port) => {
                self.world.taken.remove(&port);
            }
            Undo::Disk => self.world.disk_full = false,
            Undo::Foreign(id) => {
                self.world.containers.remove(&id);
            }
            Undo::Hang(id) => {
                if let Some(made) = self.world.containers.get_mut(&id) {
                    made.hangs = false;
                }
            }
            Undo::Daemon => self.begin_daemon(false, false),
        }
    }

    /// All that went wrong is over. What is broken already, the daemon has to mend.
    pub(super) fn heal(&mut self) {
        self.trace(|| "all troubles are over".to_owned());
        self.chaos = false;
        self.slow_until = 0;
        self.world.disk_full = false;
        self.world.taken.clear();
        self.engine_up();
        self.world.containers.retain(|_, made| made.of.is_some());
        let all: Vec<String> = self.world.containers.keys().cloned().collect();
        for id in all {
            self.made(&id).hangs = false;
            self.thaw(&id);
            if let Some(process) = &mut self.made(&id).process {
                process.flaps = false;
            }
        }
        self.begin_daemon(false, false);
    }
}
