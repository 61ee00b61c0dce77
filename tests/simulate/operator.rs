//! The person at the command line: an `.env` that changes, and the wishes that the daemon takes, as
//! `daemon/requests.rs` takes them, with the real reading, admission and building of a
//! configuration.

use std::collections::BTreeMap;

use octo_local::config::Config;
use octo_local::config::Input as Variables;
use octo_local::config::Pull;
use octo_local::config::Secret;
use octo_local::config::project::ProjectName;
use octo_local::config::read::Demo;
use octo_local::daemon::admit::Facts;
use octo_local::daemon::admit::MasterKey;
use octo_local::daemon::admit::admit;
use octo_local::reconcile::Action;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Observed;
use octo_local::reconcile::plan::restart_wish;
use octo_local::reconcile::preview;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;
use octo_local::spec::build::BuildInput;
use octo_local::spec::build::build;

use super::daemon::Input;
use super::sim::Event;
use super::sim::Sim;
use super::world::Ms;
use super::world::version_of;

/// What the `.env` says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Env {
    pub(super) nodes: u8,
    pub(super) tag: u32,
    pub(super) sql_tag: u32,
    /// Edits that change nothing but the definition.
    pub(super) node_edit: u64,
    pub(super) sql_edit: u64,
    pub(super) pull: Pull,
    pub(super) demo: bool,
    /// A mistake in it.
    pub(super) mistake: Option<Mistake>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A tag that the registry does not have.
    Tag,
    /// Nodes end at once, with the words of a permanent cause.
    Licence,
    /// Nodes end at once, and nobody knows why.
    CrashLoop,
    /// SQL Server ends at once, with the words of a permanent cause.
    Weak,
}

/// What is asked of the daemon.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Up(Env),
    Down { volumes: bool },
    Restart(Vec<UnitId>),
    Stop(Vec<UnitId>),
    Start(Vec<UnitId>),
    Cancel,
}

/// A configuration, and what was found out about it.
#[derive(Debug)]
pub(super) struct Asked {
    env: Env,
    config: Config,
    found: Option<(Facts, BTreeMap<String, String>)>,
}

/// The tag that no registry has.
const NO_TAG: u32 = 99;

impl Env {
    pub(super) fn config(&self) -> Config {
        let tag = if self.mistake == Some(Mistake::Tag) {
            NO_TAG
        } else {
            self.tag
        };
        let user = match self.mistake {
            Some(Mistake::Licence) => "licence",
            Some(Mistake::CrashLoop) => "crash-loop",
            _ => "admin",
        };
        let edition = if self.mistake == Some(Mistake::Weak) {
            "weak"
        } else {
            "Express"
        };
        let pull = if self.pull == Pull::Always {
            "always"
        } else {
            "missing"
        };
        let vars = [
            ("SA_PASSWORD", "Str0ng-enough".to_owned()),
            ("ADMIN_PASSWORD", "Str0ng-enough".to_owned()),
            ("ACCEPT_EULA", "Y".to_owned()),
            ("ACCEPT_OCTOPUS_EULA", "Y".to_owned()),
            ("OCTOPUS_SERVER_TAG", format!("2026.{tag}.1")),
            ("SQL_IMAGE", format!("sql:{}", self.sql_tag)),
            ("OCTOPUS_IMAGE", "octopus".to_owned()),
            ("OCTOPUS_NODES", self.nodes.to_string()),
            ("ADMIN_EMAIL", format!("{}@example.local", self.node_edit)),
            ("SQL_MEMORY_LIMIT_MB", (2048 + self.sql_edit).to_string()),
            ("ADMIN_USERNAME", user.to_owned()),
            ("MSSQL_PID", edition.to_owned()),
            ("PULL", pull.to_owned()),
            // Everything is shorter than in life, so that a run takes fewer steps; the proportions
            // are kept.
            ("START_PROBE_INTERVAL", "1s".to_owned()),
            ("START_PROBE_SLOW_INTERVAL", "2s".to_owned()),
            ("START_PROBE_FAST_WINDOW", "10s".to_owned()),
            ("NODE_START_LIMIT", "45s".to_owned()),
            ("SQL_START_LIMIT", "30s".to_owned()),
            ("SQL_REFUSED_GRACE", "12s".to_owned()),
            ("NODE_STOP_GRACE", "6s".to_owned()),
            ("SQL_STOP_LIMIT", "10s".to_owned()),
            ("RESTART_BACKOFF_MAX", "8s".to_owned()),
            ("RESTART_BACKOFF_RESET", "30s".to_owned()),
        ];
        let vars = vars
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let demo = self.demo.then(|| Demo {
            sql_image: "sql:1".to_owned(),
            octopus_image: "octopus".to_owned(),
            octopus_tag: "2026.1.1".to_owned(),
            sa_password: Secret::new("Str0ng-enough"),
            admin_password: Secret::new("Str0ng-enough"),
        });
        octo_local::config::read(&Variables {
            vars,
            demo,
            ..Variables::default()
        })
        .unwrap()
        .config
    }
}

impl Sim {
    /// Somebody types a command.
    pub(super) fn command(&mut self, wish: Wish) {
        self.trace(|| format!("somebody asks for {wish:?}"));
        if self.daemon.is_none() {
            match wish {
                Wish::Up(_) | Wish::Down { .. } => self.begin_daemon(true, true),
                Wish::Restart(_) | Wish::Stop(_) | Wish::Start(_) | Wish::Cancel => return,
            }
        }
        if matches!(&wish, Wish::Up(env) if env.demo) {
            // The program imports itself first.
            for image in ["sql:1", "octopus:2026.1.1"] {
                let id = self.world.registry[image].clone();
                self.world.images.insert(image.to_owned(), id);
            }
        }
        let epoch = self.epoch;
        self.later(10, Event::Deliver(epoch, Input::Asked(wish)));
    }

    /// The daemon takes a wish.
    pub(super) fn asked(&mut self, wish: Wish) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let desired = &mut daemon.state.desired;
        match wish {
            Wish::Up(env) => self.consider(env),
            Wish::Down { volumes } => {
                desired.goal = Goal::Down { volumes };
                daemon.unfinish();
                daemon.state.records.blocked.clear();
                daemon.stale.everything = true;
                daemon.wish();
                self.invariants.volumes_may_go = volumes;
            }
            Wish::Restart(units) => {
                let Some(units) = self.known(units) else {
                    return;
                };
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                for unit in units {
                    if let Some(instance) = restart_wish(&daemon.state.seen, unit) {
                        daemon.state.desired.restart.insert(unit, instance);
                    }
                }
                self.go_up();
            }
            Wish::Stop(units) => {
                let Some(units) = self.known(units) else {
                    return;
                };
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                daemon.state.desired.stopped.extend(units);
                self.disk.stopped.clone_from(&daemon.state.desired.stopped);
                daemon.wish();
            }
            Wish::Start(units) => {
                let Some(units) = self.known(units) else {
                    return;
                };
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                daemon
                    .state
                    .desired
                    .stopped
                    .retain(|unit| !units.contains(unit));
                self.disk.stopped.clone_from(&daemon.state.desired.stopped);
                self.go_up();
            }
            Wish::Cancel => {
                if desired.goal == Goal::Up {
                    desired.goal = Goal::Hold;
                }
            }
        }
    }

    fn go_up(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        daemon.state.desired.goal = Goal::Up;
        daemon.state.records.forgive();
        daemon.wish();
        self.invariants.forgave();
    }

    fn known(&self, units: Vec<UnitId>) -> Option<Vec<UnitId>> {
        let spec = self.daemon.as_ref()?.state.desired.spec.as_ref()?;
        let ours: Vec<UnitId> = spec.containers().map(|container| container.unit).collect();
        if units.iter().any(|unit| !ours.contains(unit)) {
            return None;
        }
        Some(if units.is_empty() { ours } else { units })
    }

    fn consider(&mut self, env: Env) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if daemon.is_terminating() {
            return self.deny("the daemon is ending");
        }
        let config = env.config();
        let same =
            self.disk.config.as_ref() == Some(&config) && daemon.state.desired.goal == Goal::Up;
        if let Some(spec) = daemon
            .state
            .desired
            .spec
            .clone()
            .filter(|_| same && config.pull != Pull::Always)
        {
            let seen = daemon.state.seen.clone();
            return self.conclude(env, config, spec, &seen);
        }
        if !daemon.engine {
            if daemon.has_problem() {
                return self.deny("the engine does not answer");
            }
            return daemon.waiting.push(Wish::Up(env));
        }
        let epoch = daemon.epoch;
        let wait = self.chance.between(2, 200);
        self.later(
            wait,
            Event::Gather(
                epoch,
                Box::new(Asked {
                    env,
                    config,
                    found: None,
                }),
            ),
        );
    }

    /// What must be known of a configuration is found out.
    pub(super) fn gather(&mut self, epoch: u64, mut asked: Asked) {
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| daemon.epoch == epoch) else {
            return;
        };
        if !self.world.down {
            let spec = self.spec_for(&asked.config, &Secret::default());
            let has_data = self.world.volumes.contains_key("p_sql-data");
            let ours = |name: &String| {
                daemon
                    .state
                    .seen
                    .containers
                    .iter()
                    .any(|one| one.name == *name)
            };
            let foreign: Vec<_> = self
                .world
                .containers
                .values()
                .filter(|made| made.of.is_none())
                .collect();
            let mut facts = Facts {
                has_data,
                ..Facts::default()
            };
            facts.foreign = foreign
                .iter()
                .map(|made| made.name.clone())
                .filter(|name| spec.containers().any(|wanted| wanted.name == *name))
                .collect();
            let uses_data = foreign
                .iter()
                .filter(|made| made.moves() && !made.volumes.is_empty());
            facts.volume_users = uses_data.map(|made| made.name.clone()).collect();
            for port in spec
                .containers()
                .flat_map(|wanted| &wanted.ports)
                .map(|port| port.host)
            {
                let held = self
                    .world
                    .listener(port)
                    .filter(|made| !ours(&made.name))
                    .map(|made| made.name.clone());
                let held = held.or_else(|| {
                    self.world
                        .taken
                        .contains(&port)
                        .then(|| "a process".to_owned())
                });
                facts
                    .taken
                    .extend(held.map(|holder| ("PORT".to_owned(), port, holder)));
            }
            let node = daemon
                .state
                .seen
                .containers
                .iter()
                .find(|one| one.unit != UnitId::Sql);
            let key = node.and_then(|node| Some(self.world.containers.get(&node.id)?.key.clone()));
            facts.running_master_key = key.map(Secret::new);
            let wanted = spec.images();
            let images = self
                .world
                .images
                .iter()
                .filter(|(image, _)| wanted.contains(&image.as_str()));
            let images = images
                .map(|(image, id)| (image.clone(), id.clone()))
                .collect();
            asked.found = Some((facts, images));
        }
        self.deliver(epoch, Input::Gathered(Box::new(asked)));
    }

    pub(super) fn gathered(&mut self, asked: Asked) {
        let Some(daemon) = &self.daemon else { return };
        let Some((facts, images)) = asked.found else {
            return self.deny("the engine does not answer");
        };
        if daemon.is_terminating() {
            return self.deny("the daemon is ending");
        }
        let seen = Observed {
            images,
            ..daemon.state.seen.clone()
        };
        let key = match admit(&asked.config, &self.disk, &facts) {
            Ok(key) => key,
            Err(problems) => return self.deny(&format!("{problems:?}")),
        };
        let (key, ours) = match key {
            MasterKey::Known(key) => {
                let ours =
                    self.disk.master_key_is_ours && self.disk.master_key.as_ref() == Some(&key);
                (key, ours)
            }
            MasterKey::Generate => (Secret::new(format!("key{}", self.now)), true),
        };
        if facts.has_data || self.disk.master_key.is_none() || ours {
            (self.disk.master_key, self.disk.master_key_is_ours) = (Some(key.clone()), ours);
        }
        let spec = self.spec_for(&asked.config, &key);
        self.conclude(asked.env, asked.config, spec, &seen);
    }

    fn deny(&mut self, why: &str) {
        self.trace(|| format!("denied: {why}"));
        self.denied = Some(why.to_owned());
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if daemon.state.desired.goal == Goal::Hold && self.disk.is_up() && !daemon.is_terminating()
        {
            daemon.state.desired.goal = Goal::Up;
        }
        let nothing =
            daemon.state.desired.spec.is_none() && daemon.state.seen.containers.is_empty();
        if nothing && daemon.ends_when_down() {
            daemon.leave();
        }
    }

    fn conclude(&mut self, env: Env, config: Config, spec: StackSpec, seen: &Observed) {
        let changes = preview::changes(
            self.disk.spec.as_ref(),
            &spec,
            seen,
            config.pull == Pull::Always,
        );
        self.trace(|| format!("admitted: {changes:?}"));
        self.announced = Some(changes);
        self.unseen_version |= self.has_unseen_version(env.tag * 100);
        self.env = env;
        self.apply(config, spec);
    }

    /// Whether a node of a newer version was started and no look showed it yet: nobody can know
    /// then that the database will not go back.
    fn has_unseen_version(&self, version: u32) -> bool {
        self.world.ours().any(|(id, unit, made)| {
            let newer = unit != UnitId::Sql && version_of(&made.image_id) / 100 > version / 100;
            let starts = |(number, call): (&u64, &super::calls::Call)| {
                matches!(&call.action, Action::Start(_, one) if one == id)
                    && !self.answered.contains(number)
            };
            newer
                && (self.calls.iter().any(starts)
                    || made.runs > 0 && !self.invariants.has_seen_run_of(id))
        })
    }

    fn spec_for(&self, config: &Config, key: &Secret) -> StackSpec {
        let project = ProjectName::given("p").unwrap();
        let around = BuildInput {
            project: &project,
            working_dir: "/",
            master_key: key,
            may_be_privileged: !(config.demo && self.disk.unprivileged),
        };
        build(config, &around)
    }

    /// Some wish, as a person has it.
    pub(super) fn some_wish(&mut self) -> Wish {
        let unit = self.some_unit();
        match self.chance.below(100) {
            0..45 => Wish::Up(self.some_edit()),
            45..52 => Wish::Up(self.env.clone()),
            52..62 => Wish::Restart(vec![unit]),
            62..66 => Wish::Restart(Vec::new()),
            66..74 => Wish::Stop(vec![unit]),
            74..85 => Wish::Start(Vec::new()),
            85..90 => Wish::Down { volumes: false },
            90..93 => Wish::Down { volumes: true },
            _ => Wish::Cancel,
        }
    }

    pub(super) fn some_unit(&mut self) -> UnitId {
        match self.chance.below(u64::from(self.env.nodes) + 1) {
            0 => UnitId::Sql,
            number => UnitId::Node(u8::try_from(number).unwrap()),
        }
    }

    fn some_edit(&mut self) -> Env {
        let mut env = self.good_env();
        match self.chance.below(8) {
            0 | 1 => env.nodes = u8::try_from(self.chance.between(1, self.mix.nodes)).unwrap(),
            2 | 3 if !env.demo => env.tag = u32::try_from(self.chance.between(1, 4)).unwrap(),
            4 if !env.demo => env.sql_tag = u32::try_from(self.chance.between(1, 2)).unwrap(),
            5 => env.sql_edit += 1,
            6 if self.mix.mistakes => {
                let mistakes = [
                    Mistake::Tag,
                    Mistake::Licence,
                    Mistake::CrashLoop,
                    Mistake::Weak,
                ];
                env.mistake = self
                    .chance
                    .pick(&mistakes)
                    .copied()
                    .filter(|mistake| !env.demo || *mistake != Mistake::Tag);
            }
            _ => env.node_edit += 1,
        }
        if self.chance.percent(10) {
            env.pull = Pull::Always;
        }
        env
    }

    /// The `.env` as it is, without mistakes, and with no older version than the one that ran.
    pub(super) fn good_env(&self) -> Env {
        let mut env = Env {
            mistake: None,
            pull: Pull::Missing,
            ..self.env.clone()
        };
        let ran = self
            .disk
            .ran_tag
            .as_ref()
            .and_then(|tag| tag.split('.').nth(1)?.parse().ok());
        env.tag = env.tag.max(ran.filter(|tag| *tag != NO_TAG).unwrap_or(1));
        env
    }

    pub(super) fn timing(&self) -> octo_local::config::Timing {
        self.daemon
            .as_ref()
            .map(|daemon| daemon.state.timing())
            .unwrap_or_default()
    }
}

/// How long a person waits at most before the next act.
pub(super) const OPERATOR_PAUSE: Ms = 25_000;
