//! What goes wrong: processes, people with `docker`, the host, the engine, the daemon itself.

use octo_local::reconcile::action::Doubt;
use octo_local::reconcile::action::Trouble;
use octo_local::spec::UnitId;

use octo_local::daemon::message::Event as CoreEvent;

use super::daemon::Input;
use super::process::Step;
use super::sim::Event;
use super::sim::Sim;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;
use super::world::Network;

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
        let ids: Vec<String> = self
            .world
            .all_ours()
            .filter(|(_, _, made)| made.moves())
            .map(|(id, ..)| id.clone())
            .collect();
        self.chance.pick(&ids).cloned()
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
                self.world.containers.get_mut(&id).unwrap().oom = true;
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
        if self.world.containers[&id]
            .process
            .as_ref()
            .is_some_and(|process| process.hung)
        {
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
                self.world.containers.get_mut(&id).unwrap().doing = Doing::Removing;
                let wait = self.chance.between(1, 800);
                self.later(wait, Event::Gone(id));
            }
            4 if moves => {
                self.world.containers.get_mut(&id).unwrap().doing = Doing::Paused;
                self.hint(&id, "pause", None);
                self.database_lost();
                let wait = self.chance.between(2_000, 40_000);
                self.later(wait, Event::Undo(Undo::Thaw(id)));
            }
            5 => self.disconnect(&id),
            6 => self.remove_networks(),
            7 => {
                let name = self.world.fresh("renamed");
                self.world.containers.get_mut(&id).unwrap().name = name;
                self.hint(&id, "rename", None);
            }
            8 => {
                self.world.containers.get_mut(&id).unwrap().armed = true;
                self.hint(&id, "update", None);
            }
            9 => {
                let _ = self.start_container(&id, false);
            }
            10 if moves => {
                self.exit(&id, 137, "");
                let _ = self.start_container(&id, false);
            }
            11 if !self.world.strict => {
                let fresh = self.world.fresh("net");
                self.world.networks.insert(
                    fresh,
                    Network {
                        name: "p_default".to_owned(),
                        ours: true,
                    },
                );
                self.hint_infrastructure();
            }
            12 if !self.env.demo => {
                let image = self.world.containers[&id].image.clone();
                self.world.images.remove(&image);
                self.hint_images();
            }
            13 => self.move_a_tag(),
            14 => {
                self.world.containers.get_mut(&id).unwrap().hangs = true;
                let wait = self.chance.between(5_000, 50_000);
                self.later(wait, Event::Undo(Undo::Hang(id)));
            }
            _ => {}
        }
    }

    /// Somebody removes our networks, with what is attached to them.
    fn remove_networks(&mut self) {
        let ours = self.world.all_ours();
        let attached: Vec<String> = ours
            .filter(|(_, _, made)| made.moves())
            .map(|(id, ..)| id.clone())
            .collect();
        for id in &attached {
            self.disconnect(id);
        }
        let networks: Vec<String> = self.world.our_networks().into_keys().collect();
        for id in &networks {
            self.world.networks.remove(id);
        }
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
        if let Some(made) = self
            .world
            .containers
            .get_mut(id)
            .filter(|made| made.doing != Doing::Created)
        {
            made.networks.clear();
        }
        self.hint_infrastructure();
        self.hint(id, "disconnect", None);
        self.database_lost();
    }

    /// A frozen process goes on.
    pub(super) fn thaw(&mut self, id: &str) {
        let now = self.now;
        let Some(made) = self
            .world
            .containers
            .get_mut(id)
            .filter(|made| made.doing == Doing::Paused)
        else {
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
                let port = if unit == UnitId::Sql {
                    1401
                } else {
                    8079 + u16::from(unit.number())
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
                let name = if unit == UnitId::Sql {
                    "p-db-1".to_owned()
                } else {
                    format!("p-{unit}")
                };
                if !self.world.has_name(&name) {
                    self.name_was_taken = true;
                    self.foreign(name, Vec::new(), wait);
                }
            }
            3 => {
                let sql_runs = self.world.unit(UnitId::Sql).is_some_and(Made::moves);
                if !sql_runs && self.world.volumes.contains_key("p_sql-data") {
                    let name = self.world.fresh("foreign");
                    self.foreign(name, vec!["p_sql-data".to_owned()], wait);
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
            of: None,
            image: "foreign".to_owned(),
            image_id: "foreign:1".to_owned(),
            volumes,
            ports: Vec::new(),
            privileged: false,
            mark: String::new(),
            key: String::new(),
            password: String::new(),
            node: String::new(),
            networks: std::collections::BTreeSet::new(),
            doing: Doing::Created,
            armed: false,
            runs: 0,
            started_at: String::new(),
            code: 0,
            oom: false,
            lines: Vec::new(),
            hangs: false,
            process: None,
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
        let epoch = self.epoch;
        self.later(
            1,
            Event::Deliver(
                epoch,
                Input::Event(CoreEvent::StreamClosed("it was closed".to_owned())),
            ),
        );
    }

    fn engine_down(&mut self, containers_live: bool) {
        if self.world.down {
            return;
        }
        self.world.down = true;
        let open: Vec<u64> = self.calls.keys().copied().collect();
        for number in open {
            self.answer(
                number,
                Err(Trouble::engine("the connection broke", Doubt::Unknown)),
            );
            self.calls.remove(&number);
        }
        self.waiters.clear();
        self.close_stream();
        if !containers_live {
            let all: Vec<String> = self
                .world
                .containers
                .iter()
                .filter(|(_, made)| made.moves())
                .map(|(id, _)| id.clone())
                .collect();
            for id in &all {
                self.exit(id, 137, "");
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
        let armed: Vec<String> = self
            .world
            .containers
            .iter()
            .filter(|(_, made)| made.armed && made.doing == Doing::Exited)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &armed {
            self.rearm(id);
        }
    }

    /// The engine's own restart policy is at work.
    pub(super) fn rearm(&mut self, id: &str) {
        let armed = self
            .world
            .containers
            .get(id)
            .is_some_and(|made| made.armed && made.doing == Doing::Exited);
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
            Undo::Hang(id) => self
                .world
                .containers
                .get_mut(&id)
                .into_iter()
                .for_each(|made| made.hangs = false),
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
        let all: Vec<(String, bool)> = self
            .world
            .containers
            .iter()
            .map(|(id, made)| (id.clone(), made.of.is_none()))
            .collect();
        for (id, foreign) in all {
            if foreign {
                self.world.containers.remove(&id);
                continue;
            }
            self.world.containers.get_mut(&id).unwrap().hangs = false;
            self.thaw(&id);
            if let Some(process) = self
                .world
                .containers
                .get_mut(&id)
                .and_then(|made| made.process.as_mut())
            {
                process.flaps = false;
            }
        }
        self.begin_daemon(false, false);
    }
}
