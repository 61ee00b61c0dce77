//! The model of the engine's work: it carries out an action as `daemon/effects.rs` has it done,
//! after a while, and well, or with an error, or without an answer.

use std::collections::BTreeSet;

use octo_local::daemon::message::ActionInput;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::engine::SLOW;
use octo_local::engine::START;
use octo_local::reconcile::Action;
use octo_local::reconcile::action::Doubt;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::TroubleKind;
use octo_local::spec::ContainerSpec;
use octo_local::spec::StackSpec;
use octo_local::spec::Storage;
use octo_local::spec::UnitId;

use super::invariants::brief;
use super::process::Phase;
use super::process::Step;
use super::sim::Event;
use super::sim::Sim;
use super::world::DATA;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;
use super::world::Network;
use super::world::Volume;

/// A call under way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) action: Action,
    /// The daemon that made it.
    pub(super) epoch: u64,
    /// The engine did it, and its answer got lost.
    loses_answer: bool,
    spec: Option<StackSpec>,
    network: Option<String>,
    /// The image that a container is made of instead of what its reference stands for now.
    moved: Option<String>,
}

pub(super) type Answer = Result<Outcome, Trouble>;

fn refused(words: impl Into<String>) -> Answer {
    Err(Trouble::refused(words))
}

pub(super) fn unknown(words: &str) -> Answer {
    Err(Trouble::engine(words, Doubt::Unknown))
}

fn late() -> Answer {
    Err(Trouble::engine("no answer in time", Doubt::MayStillHappen))
}

impl Sim {
    /// The daemon asks for an action.
    pub(super) fn call(&mut self, action: Action, input: ActionInput) {
        self.next_call += 1;
        let number = self.next_call;
        let ActionInput {
            spec,
            network,
            mut moved,
            ..
        } = input;
        let moved = match &action {
            Action::Create(unit) => spec
                .as_ref()
                .and_then(|spec| moved.remove(&spec.container(*unit)?.image)),
            _ => None,
        };
        let ends_in = match &action {
            Action::Stop { grace, .. } => SLOW + *grace,
            Action::Drain { wait, .. } => SLOW + *wait,
            Action::Start(..) => START,
            _ => SLOW,
        };
        let ends_in = ends_in.as_millis() as Ms;
        let mut call = Call {
            action,
            epoch: self.epoch,
            loses_answer: false,
            spec,
            network,
            moved,
        };
        let odd = self.chaos && self.chance.percent(self.mix.odd_calls);
        let mut latency = if self.is_slow_engine() {
            self.chance.between(500, 12_000)
        } else {
            self.chance.between(2, 60)
        };
        if matches!(call.action, Action::Pull(_)) {
            latency += self.chance.between(100, 8_000);
        }
        let answer = |answer| Event::Answer(number, answer);
        match (odd, self.chance.below(6)) {
            (true, 0) => self.later(latency, answer(refused("the engine says no (500)"))),
            (true, 1) => self.later(latency, answer(unknown("the connection broke"))),
            // It hangs, and its end is never seen; the engine may do it all the same, even after we
            // gave up.
            (true, 2) => {
                let late = self.chance.between(20_000, ends_in + 20_000);
                if self.chance.percent(70) {
                    self.later(late, Event::Effect(number));
                }
            }
            (true, _) => {
                call.loses_answer = true;
                self.later(latency, Event::Effect(number));
            }
            (false, _) => self.later(latency, Event::Effect(number)),
        }
        self.later(ends_in, answer(late()));
        self.calls.insert(number, call);
    }

    /// The engine's answer reaches the daemon that asked, if that still waits for it.
    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(call) = self.calls.get(&number)
            && self.answered.insert(number)
        {
            let (epoch, action) = (call.epoch, call.action.clone());
            self.trace(|| format!("answer to {}: {answer:?}", brief(&action)));
            self.deliver_event(epoch, CoreEvent::Done(action, answer));
        }
    }

    /// The calls that were not answered yet.
    pub(super) fn open_calls(&self) -> impl Iterator<Item = &Call> {
        let open = |(number, _): &(&u64, &Call)| !self.answered.contains(number);
        self.calls.iter().filter(open).map(|(_, call)| call)
    }

    /// The engine does what it was asked for.
    pub(super) fn effect(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number).cloned() else {
            return;
        };
        if self.world.down {
            return self.answer(number, unknown("cannot reach the Docker Engine"));
        }
        let made = container_of(&call.action).and_then(|id| self.world.containers.get(id));
        if made.is_some_and(|made| made.hangs) {
            return;
        }
        let timely = !self.answered.contains(&number) && self.epoch == call.epoch;
        if !timely {
            // What comes of it takes its time.
            (self.did_late, self.invariants.last_act) = (true, self.now);
        }
        let before = self.world.foreign();
        let done = self.carry_out(number, &call, timely);
        // The engine itself makes a volume that a new container mounts and that is not there.
        let kept = matches!(call.action, Action::Create(_)) || self.world.foreign() == before;
        self.must(kept, || {
            format!("{} changed what is not ours", brief(&call.action))
        });
        match done {
            _ if call.loses_answer => self.answer(number, unknown("the answer was lost")),
            Some(answer) => self.answer(number, answer),
            None => {}
        }
    }

    /// None: the answer comes later.
    fn carry_out(&mut self, number: u64, call: &Call, timely: bool) -> Option<Answer> {
        let done = Some(Ok(Outcome::default()));
        match &call.action {
            Action::Pull(image) => Some(self.pull(image)),
            Action::CreateNetwork => Some(self.create_network(call)),
            Action::CreateVolume(name) => {
                self.world.volumes.entry(name.clone()).or_insert(Volume {
                    ours: true,
                    ..Volume::default()
                });
                self.hint_infrastructure();
                done
            }
            Action::Create(unit) => Some(self.create(call, *unit)),
            Action::Connect(_, id) => Some(self.connect_network(call, id)),
            Action::DisarmRestartPolicy(_, id) => {
                if let Some(made) = self.world.containers.get_mut(id) {
                    made.armed = false;
                }
                done
            }
            Action::Start(unit, id) => Some(self.start(*unit, id, timely)),
            Action::Examine(_, instance) => Some(Ok(self.examine(&instance.id))),
            Action::Stop {
                unit,
                instance,
                grace,
                ..
            } => self.stop(number, *unit, &instance.id, grace.as_millis() as Ms),
            Action::Drain { unit, instance, .. } => self.drain(number, *unit, &instance.id),
            Action::Undrain(unit, instance) => Some(self.undrain(*unit, &instance.id)),
            Action::TakeOff { node, .. } => Some(self.take_off(node)),
            Action::Retire { unit, from, volume } => {
                Some(self.retire(*unit, from.as_ref(), volume.as_deref()))
            }
            Action::Kill(_, instance) => {
                self.exit(&instance.id, 137, "");
                done
            }
            Action::Remove(_, id) => self.remove(number, id),
            Action::RemoveNetwork(id) => Some(self.remove_network(id)),
            Action::RemoveVolume(name) => Some(self.remove_volume(name)),
        }
    }

    fn pull(&mut self, image: &str) -> Answer {
        let Some(id) = self.world.registry.get(image).cloned() else {
            return refused("manifest unknown");
        };
        if self.world.disk_full {
            return refused("no space left on device");
        }
        self.world.images.insert(image.to_owned(), id);
        self.hint_images();
        Ok(Outcome::default())
    }

    fn create_network(&mut self, call: &Call) -> Answer {
        let Some(spec) = &call.spec else {
            return Ok(Outcome::default());
        };
        let mut networks = self.world.networks.values();
        if self.world.strict && networks.any(|network| network.name == spec.network) {
            return refused(format!("network with name {} already exists", spec.network));
        }
        let name = spec.network.clone();
        self.make_network(name);
        Ok(Outcome::default())
    }

    /// A network with our label, whoever makes it.
    pub(super) fn make_network(&mut self, name: String) {
        let (id, ours) = (self.world.fresh("net"), true);
        self.world.networks.insert(id, Network { name, ours });
        self.hint_infrastructure();
    }

    fn create(&mut self, call: &Call, unit: UnitId) -> Answer {
        let (Some(spec), Some(network)) = (&call.spec, &call.network) else {
            return Ok(Outcome::default());
        };
        let Some(wanted) = spec.container(unit) else {
            return Ok(Outcome::default());
        };
        if self.world.has_name(&wanted.name) {
            return refused(format!(
                "The container name \"/{}\" is already in use by container",
                wanted.name
            ));
        }
        if self.world.disk_full {
            return refused("no space left on device");
        }
        // What a Tentacle is made of is fetched with it.
        if unit.is_tentacle()
            && let Some(id) = self.world.registry.get(&wanted.image)
        {
            let (image, id) = (wanted.image.clone(), id.clone());
            self.world.images.entry(image).or_insert(id);
        }
        let image = call.moved.as_ref().unwrap_or(&wanted.image);
        // An ID stands for itself.
        let by_id = self.world.registry.values().find(|id| *id == image);
        let found = self.world.images.get(image).or(by_id);
        let Some(image_id) = found.or(call.moved.as_ref()).cloned() else {
            return refused(format!("No such image: {image}"));
        };
        let Some(network) = self.world.networks.get(network) else {
            return refused("network not found");
        };
        let networks = [network.name.clone()].into();
        for name in wanted.mounts.values().filter_map(Storage::volume) {
            // The engine makes what is missing, without labels.
            let volumes = &mut self.world.volumes;
            volumes.entry(name.to_owned()).or_insert(Volume {
                ours: unit.is_tentacle(),
                ..Volume::default()
            });
        }
        let id = self.world.fresh("c");
        let made = Made {
            image: image.clone(),
            image_id,
            networks,
            ..made_of(wanted)
        };
        self.world.containers.insert(id.clone(), made);
        self.hint(&id, "create", None);
        Ok(Outcome::default())
    }

    fn connect_network(&mut self, call: &Call, id: &str) -> Answer {
        let Some(network) = &call.network else {
            return Ok(Outcome::default());
        };
        let networks = &self.world.networks;
        let Some(made) = self.world.containers.get_mut(id) else {
            return refused("no such container");
        };
        if !networks.contains_key(network) {
            return refused("network not found");
        }
        made.networks.retain(|id| networks.contains_key(id));
        if !made.networks.insert(network.clone()) {
            return refused("endpoint with that name already exists in network");
        }
        self.hint_infrastructure();
        Ok(Outcome::default())
    }

    fn start(&mut self, unit: UnitId, id: &str, timely: bool) -> Answer {
        let mut strangers = self.world.containers.values();
        let company = strangers.find(|made| {
            let uses_data = made.volumes.iter().any(|volume| volume == DATA);
            made.of.is_none() && made.moves() && uses_data
        });
        if let Some(company) = company.filter(|_| unit == UnitId::Sql) {
            let words = format!("the data volume {DATA} is mounted by {}", company.name);
            return Err(Trouble {
                kind: TroubleKind::VolumeInUse,
                ..Trouble::refused(words)
            });
        }
        self.start_container(id, timely)
    }

    /// What `docker start` does, whoever asks for it.
    pub(super) fn start_container(&mut self, id: &str, by_us: bool) -> Answer {
        let Some(made) = self.world.containers.get(id) else {
            return refused("No such container");
        };
        match made.doing {
            Doing::Running => return Ok(Outcome::default()),
            Doing::Paused => {
                return refused("cannot start a paused container, try unpause instead");
            }
            Doing::Removing => {
                return refused("container is marked for removal and cannot be started");
            }
            Doing::Created | Doing::Exited => {}
        }
        let networks = match self.networks_at_start(id) {
            Ok(networks) => networks,
            Err(words) => return refused(words),
        };
        let made = &self.world.containers[id];
        let taken =
            |port: &u16| self.world.taken.contains(port) || self.world.listener(*port).is_some();
        let ports = made.ports.iter().any(taken);
        let privileged = made.privileged && self.world.refuses_privileges;
        self.world.containers.get_mut(id).unwrap().networks = networks;
        if ports {
            return refused("Bind for 127.0.0.1 failed: port is already allocated");
        }
        if privileged {
            return refused("OCI runtime create failed: unable to apply caps");
        }
        self.begin_process(id, by_us);
        Ok(Outcome::default())
    }

    /// A container that never started finds its network by name; later by ID.
    fn networks_at_start(&self, id: &str) -> Result<BTreeSet<String>, String> {
        let find = |asked: &String| {
            if self.world.networks.contains_key(asked) {
                return Ok(asked.clone());
            }
            let networks = self.world.networks.iter();
            let mut named = networks.filter(|(_, network)| network.name == *asked);
            match (named.next(), named.next()) {
                (Some((id, _)), None) => Ok(id.clone()),
                (Some(_), Some(_)) => Err(format!(
                    "network {asked} is ambiguous (2 matches found on name)"
                )),
                (None, _) => Err(format!("network {asked} not found")),
            }
        };
        let asked = self.world.containers[id].networks.iter();
        asked.map(find).collect()
    }

    fn examine(&self, id: &str) -> Outcome {
        let Some(made) = self.world.containers.get(id) else {
            return Outcome::default();
        };
        let exit = (made.doing == Doing::Exited).then(|| (made.code, made.oom, String::new()));
        Outcome {
            lines: made.lines.clone(),
            exit,
        }
    }

    fn stop(&mut self, number: u64, unit: UnitId, id: &str, grace: Ms) -> Option<Answer> {
        let frozen = match self.world.containers.get(id) {
            Some(made) if made.moves() => made.doing == Doing::Paused,
            _ => return Some(Ok(Outcome::default())),
        };
        if frozen {
            self.thaw(id);
        }
        let time = self.chance.between(300, 6_000);
        let process = self.process(id);
        let ends_in = process
            .ends_in
            .filter(|_| !process.hung && process.phase != Phase::Stuck);
        if unit == UnitId::Sql && process.phase == Phase::Ready && !process.hung {
            process.phase = Phase::Closing;
            self.step(id, time, Step::Ended);
            self.database_lost();
        } else if unit != UnitId::Sql
            && let Some(wait) = ends_in
        {
            self.step(id, wait, Step::Ended);
        }
        self.step(id, grace, Step::Killed);
        self.waiters.push((id.to_owned(), number));
        None
    }

    /// Calls that wait for this container's end have their answer.
    pub(super) fn answer_waiters(&mut self, id: &str) {
        let is_over = |(waits_for, _): &mut (String, u64)| waits_for == id;
        let over: Vec<_> = self.waiters.extract_if(.., is_over).collect();
        for (_, number) in over {
            let wait = self.chance.between(1, 50);
            self.later(wait, Event::Answer(number, Ok(Outcome::default())));
        }
    }

    fn remove(&mut self, number: u64, id: &str) -> Option<Answer> {
        let Some(made) = self.world.containers.get_mut(id) else {
            return Some(Ok(Outcome::default()));
        };
        if made.moves() {
            return Some(refused("You cannot remove a running container"));
        }
        if made.doing == Doing::Removing {
            return Some(Ok(Outcome::default()));
        }
        made.doing = Doing::Removing;
        let wait = self.chance.between(1, 1_500);
        self.later(wait, Event::Gone(id.to_owned()));
        self.waiters.push((id.to_owned(), number));
        None
    }

    /// A container that was being removed is gone.
    pub(super) fn gone(&mut self, id: &str) {
        let made = self.world.containers.get(id);
        if made.is_some_and(|made| made.doing == Doing::Removing) {
            self.hint(id, "destroy", None);
            self.world.containers.remove(id);
            self.answer_waiters(id);
        }
    }

    fn remove_network(&mut self, id: &str) -> Answer {
        let mut all = self.world.containers.values();
        if all.any(|made| made.moves() && made.networks.contains(id)) {
            return refused("network has active endpoints");
        }
        self.world.networks.remove(id);
        self.hint_infrastructure();
        Ok(Outcome::default())
    }

    fn remove_volume(&mut self, name: &str) -> Answer {
        let mut all = self.world.containers.values();
        if all.any(|made| made.volumes.iter().any(|used| used == name)) {
            return refused("volume is in use");
        }
        let removed = self.world.volumes.remove(name);
        self.forget_half_data(name);
        if removed.is_some_and(|volume| volume.data.is_some()) {
            self.world.drained.clear();
            self.world.registered.clear();
        }
        self.hint_infrastructure();
        Ok(Outcome::default())
    }
}

/// The container that an action is about.
pub(super) fn container_of(action: &Action) -> Option<&String> {
    match action {
        Action::Connect(_, id)
        | Action::DisarmRestartPolicy(_, id)
        | Action::Start(_, id)
        | Action::Remove(_, id) => Some(id),
        Action::Examine(_, instance)
        | Action::Stop { instance, .. }
        | Action::Drain { instance, .. }
        | Action::Undrain(_, instance)
        | Action::Kill(_, instance) => Some(&instance.id),
        Action::Pull(_)
        | Action::CreateNetwork
        | Action::CreateVolume(_)
        | Action::Create(_)
        | Action::TakeOff { .. }
        | Action::Retire { .. }
        | Action::RemoveNetwork(_)
        | Action::RemoveVolume(_) => None,
    }
}

fn made_of(wanted: &ContainerSpec) -> Made {
    let variable = |name: &str| {
        let value = wanted.env.get(name).map(|value| value.expose().to_owned());
        value.unwrap_or_default()
    };
    let mark = match wanted.unit {
        UnitId::Sql => variable("MSSQL_PID"),
        UnitId::Node(_) | UnitId::Tentacle(_) => variable("ADMIN_USERNAME"),
    };
    let node = match wanted.unit {
        UnitId::Tentacle(name) => name.to_string(),
        UnitId::Sql | UnitId::Node(_) => variable("OCTOPUS_SERVER_NODE_NAME"),
    };
    let ports = wanted.ports.iter().map(|port| port.host);
    let sources = wanted.mounts.values().map(Storage::source);
    Made {
        name: wanted.name.clone(),
        of: Some((wanted.unit, wanted.digest())),
        volumes: sources.map(str::to_owned).collect(),
        // The engine chooses those that are zero, and takes none that is taken.
        ports: ports.filter(|port| *port != 0).collect(),
        privileged: wanted.privileged,
        mark,
        key: variable("MASTER_KEY"),
        password: super::passwords::given(wanted),
        node,
        ..Made::default()
    }
}
