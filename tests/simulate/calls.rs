//! The model of the engine's work: it carries out an action as `daemon/effects.rs` has it done,
//! after a while, and well, or with an error, or without an answer.

use octo_local::daemon::message::ActionInput;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::reconcile::Action;
use octo_local::reconcile::action::Doubt;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::TroubleKind;
use octo_local::spec::ContainerSpec;
use octo_local::spec::StackSpec;
use octo_local::spec::Storage;
use octo_local::spec::UnitId;

use super::process::Phase;
use super::process::Step;
use super::sim::Event;
use super::sim::Sim;
use super::world::Doing;
use super::world::Made;
use super::world::Ms;
use super::world::Network;
use super::world::Volume;

/// `SLOW` of the engine's calls.
const LIMIT: Ms = 60_000;

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

fn unknown(words: &str) -> Answer {
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
            Action::Stop { grace, .. } => LIMIT + grace.as_millis() as Ms,
            Action::Drain { wait, .. } => LIMIT + wait.as_millis() as Ms,
            Action::Start(..) => octo_local::engine::START.as_millis() as Ms,
            _ => LIMIT,
        };
        let mut call = Call {
            action,
            epoch: self.epoch,
            loses_answer: false,
            spec,
            network,
            moved,
        };
        let odd = self.chaos && self.chance.percent(self.mix.odd_calls);
        let latency = if self.is_slow_engine() {
            self.chance.between(500, 12_000)
        } else {
            self.chance.between(2, 60)
        };
        let latency = if matches!(call.action, Action::Pull(_)) {
            latency + self.chance.between(100, 8_000)
        } else {
            latency
        };
        match (odd, self.chance.below(6)) {
            (true, 0) => self.later(
                latency,
                Event::Answer(number, refused("the engine says no (500)")),
            ),
            (true, 1) => self.later(
                latency,
                Event::Answer(number, unknown("the connection broke")),
            ),
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
        self.later(ends_in, Event::Answer(number, late()));
        self.calls.insert(number, call);
    }

    /// The engine's answer reaches the daemon that asked, if that still waits for it.
    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(call) = self.calls.get(&number)
            && !self.answered.contains(&number)
        {
            self.answered.insert(number);
            let (epoch, action) = (call.epoch, call.action.clone());
            self.trace(|| {
                format!(
                    "answer to {}: {answer:?}",
                    super::invariants::brief(&action)
                )
            });
            self.deliver_event(epoch, CoreEvent::Done(action, answer));
        }
    }

    /// The engine does what it was asked for.
    pub(super) fn effect(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number).cloned() else {
            return;
        };
        if self.world.down {
            return self.answer(number, unknown("cannot reach the Docker Engine"));
        }
        if container_of(&call.action)
            .and_then(|id| self.world.containers.get(id))
            .is_some_and(|made| made.hangs)
        {
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
            format!(
                "{} changed what is not ours",
                super::invariants::brief(&call.action)
            )
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
            Action::Pull(image) => Some(self.pull(call, image)),
            Action::CreateNetwork => Some(self.create_network(call)),
            Action::CreateVolume(name) => {
                self.world.volumes.entry(name.clone()).or_insert(Volume {
                    ours: true,
                    data: None,
                    configured: false,
                });
                self.hint_infrastructure();
                done
            }
            Action::Create(unit) => Some(self.create(call, *unit)),
            Action::Connect(_, id) => Some(self.connect_network(call, id)),
            Action::DisarmRestartPolicy(_, id) => {
                self.world
                    .containers
                    .get_mut(id)
                    .into_iter()
                    .for_each(|made| made.armed = false);
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

    fn pull(&mut self, call: &Call, image: &str) -> Answer {
        if call
            .spec
            .as_ref()
            .is_some_and(|spec| spec.pull == octo_local::config::Pull::Never)
        {
            return Err(Trouble {
                kind: TroubleKind::MayNotPull,
                ..Trouble::refused(format!("no such image: {image}, and PULL=never"))
            });
        }
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
        if self.world.strict
            && self
                .world
                .networks
                .values()
                .any(|network| network.name == spec.network)
        {
            return refused(format!("network with name {} already exists", spec.network));
        }
        let id = self.world.fresh("net");
        self.world.networks.insert(
            id,
            Network {
                name: spec.network.clone(),
                ours: true,
            },
        );
        self.hint_infrastructure();
        Ok(Outcome::default())
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
        let Some(image_id) = self
            .world
            .images
            .get(image)
            .or(by_id)
            .or(call.moved.as_ref())
            .cloned()
        else {
            return refused(format!("No such image: {image}"));
        };
        let Some(network) = self.world.networks.get(network) else {
            return refused("network not found");
        };
        let networks = [network.name.clone()].into();
        let missing: Vec<&str> = wanted
            .mounts
            .values()
            .filter_map(Storage::volume)
            .filter(|name| !self.world.volumes.contains_key(*name))
            .collect();
        for name in missing {
            // The engine makes what is missing, without labels.
            self.world.volumes.insert(
                name.to_owned(),
                Volume {
                    ours: unit.is_tentacle(),
                    data: None,
                    configured: false,
                },
            );
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
        let name = self
            .world
            .networks
            .get(network)
            .map(|network| network.name.clone());
        let Some(made) = self.world.containers.get_mut(id) else {
            return refused("no such container");
        };
        if name.is_none() {
            return refused("network not found");
        }
        let gone: Vec<String> = made
            .networks
            .iter()
            .filter(|id| !self.world.networks.contains_key(*id))
            .cloned()
            .collect();
        for id in &gone {
            made.networks.remove(id);
        }
        if !made.networks.insert(network.clone()) {
            return refused("endpoint with that name already exists in network");
        }
        self.hint_infrastructure();
        Ok(Outcome::default())
    }

    fn start(&mut self, unit: UnitId, id: &str, timely: bool) -> Answer {
        let company = self.world.containers.values().find(|made| {
            made.of.is_none()
                && made.moves()
                && unit == UnitId::Sql
                && made.volumes.contains(&"p_sql-data".to_owned())
        });
        if let Some(company) = company {
            let words = format!("the data volume p_sql-data is mounted by {}", company.name);
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
        let (ports, privileged) = (
            made.ports.iter().any(taken),
            made.privileged && self.world.refuses_privileges,
        );
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
    fn networks_at_start(&self, id: &str) -> Result<std::collections::BTreeSet<String>, String> {
        let find = |asked: &String| {
            if self.world.networks.contains_key(asked) {
                return Ok(asked.clone());
            }
            let mut named = self
                .world
                .networks
                .iter()
                .filter(|(_, network)| network.name == *asked)
                .map(|(id, _)| id);
            match (named.next(), named.next()) {
                (Some(id), None) => Ok(id.clone()),
                (Some(_), Some(_)) => Err(format!(
                    "network {asked} is ambiguous (2 matches found on name)"
                )),
                (None, _) => Err(format!("network {asked} not found")),
            }
        };
        self.world.containers[id]
            .networks
            .iter()
            .map(find)
            .collect()
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
        let (over, left) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|(waits_for, _)| waits_for == id);
        self.waiters = left;
        let over: Vec<(String, u64)> = over;
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
        if self
            .world
            .containers
            .get(id)
            .is_some_and(|made| made.doing == Doing::Removing)
        {
            self.hint(id, "destroy", None);
            self.world.containers.remove(id);
            self.answer_waiters(id);
        }
    }

    fn remove_network(&mut self, id: &str) -> Answer {
        if self
            .world
            .containers
            .values()
            .any(|made| made.moves() && made.networks.contains(id))
        {
            return refused("network has active endpoints");
        }
        self.world.networks.remove(id);
        self.hint_infrastructure();
        Ok(Outcome::default())
    }

    fn remove_volume(&mut self, name: &str) -> Answer {
        if self
            .world
            .containers
            .values()
            .any(|made| made.volumes.iter().any(|used| used == name))
        {
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
        wanted
            .env
            .get(name)
            .map(|value| value.expose().to_owned())
            .unwrap_or_default()
    };
    let mark = if wanted.unit == UnitId::Sql {
        variable("MSSQL_PID")
    } else {
        variable("ADMIN_USERNAME")
    };
    Made {
        name: wanted.name.clone(),
        of: Some((wanted.unit, wanted.digest())),
        image: String::new(),
        image_id: String::new(),
        volumes: wanted
            .mounts
            .values()
            .map(|storage| storage.source().to_owned())
            .collect(),
        // The engine chooses those that are zero, and takes none that is taken.
        ports: wanted
            .ports
            .iter()
            .map(|port| port.host)
            .filter(|port| *port != 0)
            .collect(),
        privileged: wanted.privileged,
        mark,
        key: variable("MASTER_KEY"),
        password: super::passwords::given(wanted),
        node: match wanted.unit {
            UnitId::Tentacle(name) => name.to_string(),
            UnitId::Sql | UnitId::Node(_) => variable("OCTOPUS_SERVER_NODE_NAME"),
        },
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
    }
}
