//! The model of Docker: containers, networks, volumes and images, ours and others', and what a look
//! at them shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Instance;
use octo_local::reconcile::observed::Run;
use octo_local::spec::Digest;
use octo_local::spec::UnitId;
use time::OffsetDateTime;

use super::lease::Holder;
use super::process::Phase;
use super::process::Process;

/// The volume with the database.
pub(super) const DATA: &str = "p_sql-data";

/// Virtual milliseconds since the beginning of the run.
pub(super) type Ms = u64;

/// Everything that the engine has.
#[derive(Debug, Default)]
pub(super) struct World {
    /// By ID.
    pub(super) containers: BTreeMap<String, Made>,
    /// By ID.
    pub(super) networks: BTreeMap<String, Network>,
    /// By name.
    pub(super) volumes: BTreeMap<String, Volume>,
    /// What each reference stands for in the engine.
    pub(super) images: BTreeMap<String, String>,
    /// What each reference stands for in the registry.
    pub(super) registry: BTreeMap<String, String>,
    /// Ports that something outside Docker holds.
    pub(super) taken: BTreeSet<u16>,
    /// The engine does not run.
    pub(super) down: bool,
    pub(super) disk_full: bool,
    /// The nodes that the database says take no tasks.
    pub(super) drained: BTreeSet<UnitId>,
    /// The nodes that the database lists.
    pub(super) listed: BTreeSet<String>,
    /// The Tentacles that the database has, by name: what is there twice is registered twice.
    pub(super) registered: Vec<String>,
    /// Those of them that somebody asked to leave there.
    pub(super) left_registered: BTreeSet<String>,
    /// Who may act on the engine.
    pub(super) lease: Holder,
    /// The host cannot run privileged containers.
    pub(super) refuses_privileges: bool,
    /// A newer engine, which has no two networks of one name.
    pub(super) strict: bool,
    /// Backup sets.
    pub(super) sets: super::backups::Sets,
    pub(super) made: u64,
    /// Nanoseconds by which the engine's clock went on besides the virtual milliseconds: no two
    /// times are the same.
    pub(super) ticks: u64,
}

/// A container.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) name: String,
    /// Its labels; none: it is not ours.
    pub(super) of: Option<(UnitId, Digest)>,
    pub(super) image: String,
    pub(super) image_id: String,
    pub(super) volumes: Vec<String>,
    pub(super) ports: Vec<u16>,
    pub(super) privileged: bool,
    /// How it was configured to fail: the value of a variable.
    pub(super) mark: String,
    /// The master key that it was given.
    pub(super) key: String,
    /// The password of `sa` that it was given.
    pub(super) password: String,
    /// What it is called on the list of nodes or of Tentacles; empty for what is neither.
    pub(super) node: String,
    /// Names before the first start, IDs after.
    pub(super) networks: BTreeSet<String>,
    pub(super) doing: Doing,
    /// The engine would restart it.
    pub(super) armed: bool,
    /// How often it was started.
    pub(super) runs: u64,
    pub(super) started_at: String,
    pub(super) code: i64,
    pub(super) oom: bool,
    pub(super) lines: Vec<String>,
    /// Calls about it get no answer.
    pub(super) hangs: bool,
    pub(super) process: Option<Process>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    #[default]
    Created,
    Running,
    Paused,
    Exited,
    Removing,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) ours: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Volume {
    pub(super) ours: bool,
    pub(super) data: Option<Data>,
    /// The mark of a Tentacle that is configured.
    pub(super) configured: bool,
}

/// What SQL Server keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Data {
    /// The version of Octopus that upgraded it last; none: there is no database yet.
    pub(super) schema: Option<u32>,
    pub(super) key: String,
    /// The password of `sa`.
    pub(super) password: String,
    /// A server was killed on it, so the next one recovers it first.
    pub(super) dirty: bool,
}

/// The version of Octopus Server in an image: the number in its ID.
pub(super) fn version_of(image_id: &str) -> u32 {
    image_id.rsplit(':').next().unwrap().parse().unwrap()
}

/// The name of a unit's container.
pub(super) fn name_of(unit: UnitId) -> String {
    match unit {
        UnitId::Sql => "p-db-1".to_owned(),
        UnitId::Node(_) | UnitId::Tentacle(_) => format!("p-{unit}"),
    }
}

impl World {
    /// A name that was never used.
    pub(super) fn fresh(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{:04}", self.made)
    }

    /// Our containers, Tentacles too.
    pub(super) fn all_ours(&self) -> impl Iterator<Item = (&String, UnitId, &Made)> {
        self.containers
            .iter()
            .filter_map(|(id, made)| Some((id, made.of.as_ref()?.0, made)))
    }

    /// The stack's own containers.
    pub(super) fn ours(&self) -> impl Iterator<Item = (&String, UnitId, &Made)> {
        self.all_ours().filter(|(_, unit, _)| !unit.is_tentacle())
    }

    /// The IDs of a unit's containers, the running one first.
    pub(super) fn ids_of(&self, unit: UnitId) -> Vec<String> {
        let mut ids: Vec<_> = self
            .all_ours()
            .filter(|(_, of, _)| *of == unit)
            .map(|(id, _, made)| (!made.moves(), id))
            .collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// The unit's container that runs, or any other.
    pub(super) fn unit(&self, unit: UnitId) -> Option<&Made> {
        self.ids_of(unit).first().map(|id| &self.containers[id])
    }

    /// Whether something runs under this name, or the name is taken otherwise.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.containers.values().any(|made| made.name == name)
    }

    /// What listens on a port of the host.
    pub(super) fn listener(&self, port: u16) -> Option<(&String, &Made, &Process)> {
        let mut all = self.containers.iter();
        all.find_map(|(id, made)| {
            let process = made.process.as_ref()?;
            made.ports.contains(&port).then_some((id, made, process))
        })
    }

    /// What is not ours, for comparing.
    pub(super) fn foreign(&self) -> String {
        let containers = self.containers.iter().filter(|(_, made)| made.of.is_none());
        let containers = containers.map(|(id, made)| (id, &made.name, made.doing, made.runs));
        let networks = self.networks.iter().filter(|(_, network)| !network.ours);
        let volumes = self.volumes.iter().filter(|(_, volume)| !volume.ours);
        let volumes = volumes.map(|(name, _)| name);
        format!(
            "{:?} {:?} {:?}",
            containers.collect::<Vec<_>>(),
            networks.collect::<Vec<_>>(),
            volumes.collect::<Vec<_>>()
        )
    }

    /// The networks with our label.
    pub(super) fn our_networks(&self) -> BTreeMap<String, String> {
        let ours = self.networks.iter().filter(|(_, network)| network.ours);
        ours.map(|(id, network)| (id.clone(), network.name.clone()))
            .collect()
    }

    /// The volumes with our label.
    pub(super) fn our_volumes(&self) -> BTreeSet<String> {
        self.volumes
            .iter()
            .filter(|(_, volume)| volume.ours)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What the engine's list says of our containers: neither when a run began nor how it ended, nor
    /// the networks of what was never started.
    pub(super) fn list(&self) -> Vec<Container> {
        let listed = |(id, _, made): (&String, UnitId, &Made)| {
            let mut networks = made.networks.clone();
            networks.retain(|_| made.doing != Doing::Created);
            Some(Container {
                run: made.run(String::new(), -1, false),
                networks,
                engine_restarts: false,
                ..self.inspect(id)?
            })
        };
        self.all_ours().filter_map(listed).collect()
    }

    /// What inspecting a container says.
    pub(super) fn inspect(&self, id: &str) -> Option<Container> {
        let made = self.containers.get(id)?;
        let (unit, digest) = made.of.clone()?;
        Some(Container {
            id: id.to_owned(),
            name: made.name.clone(),
            unit,
            digest,
            image: made.image.clone(),
            image_id: made.image_id.clone(),
            run: made.run(made.started_at.clone(), made.code, made.oom),
            networks: made.networks.clone(),
            network_mode: String::new(),
            engine_restarts: made.armed,
        })
    }

    /// The time by the engine's clock.
    pub(super) fn clock(&mut self, now: Ms) -> OffsetDateTime {
        self.ticks += 1;
        OffsetDateTime::UNIX_EPOCH
            + Duration::from_millis(now)
            + Duration::from_nanos(self.ticks % 1_000_000)
    }

    /// The run that a container is in, if it runs.
    pub(super) fn instance(&self, id: &str) -> Option<Instance> {
        self.process(id)?;
        self.inspect(id)?.instance()
    }

    /// The process in a container.
    pub(super) fn process(&self, id: &str) -> Option<&Process> {
        self.containers.get(id)?.process.as_ref()
    }

    /// What SQL Server keeps in the data volume.
    pub(super) fn data(&self) -> Option<&Data> {
        self.volumes.get(DATA)?.data.as_ref()
    }

    /// Whether a SQL Server of ours is up, perhaps without an answer.
    pub(super) fn sql_is_up(&self) -> bool {
        let mut ours = self.ours();
        ours.any(|(_, unit, made)| unit == UnitId::Sql && made.phase() == Some(Phase::Ready))
    }

    /// A node that runs, and that the daemon started.
    pub(super) fn node_by_us(&self) -> Option<(&String, UnitId, &Made)> {
        let mut nodes = self.ours().filter(|(_, unit, _)| unit.is_server());
        nodes.find(|(_, _, made)| made.runs_by_us())
    }
}

impl Made {
    /// Whether it has a process, frozen or not.
    pub(super) fn moves(&self) -> bool {
        matches!(self.doing, Doing::Running | Doing::Paused)
    }

    /// Where its process stands.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.process.as_ref().map(|process| process.phase)
    }

    /// Whether it would serve, were it not frozen.
    pub(super) fn serves(&self) -> bool {
        let serves = |process: &Process| process.phase == Phase::Ready && !process.hung;
        self.process.as_ref().is_some_and(serves)
    }

    /// Whether it serves whoever asks it.
    pub(super) fn answers(&self) -> bool {
        self.doing == Doing::Running && self.serves()
    }

    /// Whether nothing comes of asking it.
    pub(super) fn is_silent(&self) -> bool {
        let hung = self.process.as_ref().is_some_and(|process| process.hung);
        hung || self.doing == Doing::Paused
    }

    /// Whether our own call started what runs in it.
    pub(super) fn runs_by_us(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.by_us)
    }

    fn run(&self, started_at: String, code: i64, oom: bool) -> Run {
        match self.doing {
            Doing::Created => Run::Created,
            Doing::Running => Run::Running { started_at },
            Doing::Paused => Run::Paused { started_at },
            Doing::Exited => Run::Exited {
                started_at,
                code,
                oom,
                error: String::new(),
            },
            Doing::Removing => Run::Removing,
        }
    }
}
