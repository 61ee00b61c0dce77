//! The person at the command line: an `.env` that changes, what is asked of the daemon, and what
//! is true of the world when a configuration is considered.

use std::time::Duration;

use octo_local::config::Config;
use octo_local::config::Input as Variables;
use octo_local::config::Pull;
use octo_local::config::Secret;
use octo_local::config::read::Demo;
use octo_local::daemon::admit::Facts;
use octo_local::daemon::admit::Foreign;
use octo_local::daemon::admit::NodeKey;
use octo_local::daemon::admit::Taken;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Denied;
use octo_local::daemon::message::DownPace;
use octo_local::daemon::message::Found;
use octo_local::daemon::message::Inquiry;
use octo_local::daemon::message::PasswordStep;
use octo_local::daemon::message::Request;
use octo_local::daemon::message::TentacleStep;
use octo_local::daemon::message::UpRequest;
use octo_local::reconcile::Action;
use octo_local::spec::UnitId;
use octo_local::spec::tentacle::TentacleName;

use super::calls::Call;
use super::daemon::Input;
use super::sim::Event;
use super::sim::Sim;
use super::world::DATA;
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
    /// Another version is applied without a backup.
    pub(super) no_backup: bool,
    /// A version that does not come up is taken back without asking.
    pub(super) back_by_itself: bool,
    /// A mistake in it.
    pub(super) mistake: Option<Mistake>,
    /// How often the password of `sa` was changed.
    pub(super) passwords: u32,
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
    Down {
        volumes: bool,
    },
    Units(About, Vec<UnitId>),
    RollBack,
    /// To the password of this number.
    Password(u32),
    Tentacle(TentacleName, TentacleStep),
    Cancel,
}

/// The tag that no registry has.
const NO_TAG: u32 = 99;

impl Wish {
    /// What the command line makes of it. Whoever interrupts follows the `up` of this session.
    pub(super) fn request(&self, session: u64) -> Request {
        match self {
            Self::Up(env) => Request::Up(Box::new(UpRequest {
                config: env.config(),
                working_dir: "/".to_owned(),
                name_on_purpose: false,
                generated: None,
                endpoint: None,
                fresh: false,
                no_backup: env.no_backup,
                giving_way: None,
            })),
            Self::Down { volumes } => Request::Down {
                volumes: *volumes,
                pace: DownPace {
                    within: session.is_multiple_of(3).then_some(Duration::from_secs(45)),
                    skips_tasks: session.is_multiple_of(5),
                },
                endpoint: None,
            },
            Self::Units(about, units) => Request::Units(*about, units.clone(), None),
            Self::RollBack => Request::RollBack(None),
            Self::Password(number) => {
                let to = Secret::new(super::passwords::of(*number));
                Request::Password(PasswordStep::Begin(to), None)
            }
            Self::Tentacle(name, step) => Request::Tentacle(*name, step.clone(), None),
            Self::Cancel => Request::Cancel(session),
        }
    }
}

/// The edition that marks a database whose password SQL Server would refuse.
pub(super) const WEAK_MARK: &str = "Web";

impl Env {
    pub(super) fn config(&self) -> Config {
        let (tag, user, edition) = match self.mistake {
            None => (self.tag, "admin", "Express"),
            Some(Mistake::Tag) => (NO_TAG, "admin", "Express"),
            Some(Mistake::Licence) => (self.tag, "licence", "Express"),
            Some(Mistake::CrashLoop) => (self.tag, "crash-loop", "Express"),
            Some(Mistake::Weak) => (self.tag, "admin", WEAK_MARK),
        };
        let pull = ["missing", "always"][usize::from(self.pull == Pull::Always)];
        let back = ["ask", "auto"][usize::from(self.back_by_itself)];
        let vars = [
            ("SA_PASSWORD", super::passwords::of(self.passwords)),
            ("ADMIN_PASSWORD", "Str0ng-enough".to_owned()),
            ("ADMIN_API_KEY", "API-SIMULATION0000000000000".to_owned()),
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
            ("UPGRADE_ROLLBACK", back.to_owned()),
            // Everything is shorter than in life, so that a run takes fewer steps; the proportions
            // are kept.
            ("START_PROBE_INTERVAL", "1s".to_owned()),
            ("START_PROBE_SLOW_INTERVAL", "2s".to_owned()),
            ("START_PROBE_FAST_WINDOW", "10s".to_owned()),
            ("NODE_START_LIMIT", "45s".to_owned()),
            ("SQL_START_LIMIT", "30s".to_owned()),
            ("SQL_REFUSED_GRACE", "12s".to_owned()),
            (
                "DRAIN_TIMEOUT",
                format!("{}ms", super::tasks::DRAIN_TIMEOUT),
            ),
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
            tentacle_image: "tentacle:1".to_owned(),
            sa_password: Secret::new(super::passwords::of(self.passwords)),
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
    pub(super) fn command(&mut self, mut wish: Wish) {
        if let Wish::Up(env) = &mut wish {
            self.write_password_down(env);
        }
        self.trace(|| format!("somebody asks for {wish:?}"));
        if self.daemon.is_none() {
            match wish {
                Wish::Up(_) | Wish::Down { .. } => self.begin_daemon(true, true),
                Wish::Units(..)
                | Wish::RollBack
                | Wish::Password(_)
                | Wish::Tentacle(..)
                | Wish::Cancel => return,
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

    /// What must be known of a configuration, from the model's truth.
    pub(super) fn find_out(&mut self, inquiry: &Inquiry) -> Result<Found, Denied> {
        if self.world.down {
            return Err(Denied::Engine("the engine does not answer".to_owned()));
        }
        let spec = &inquiry.spec;
        let has_data = self.world.volumes.contains_key(DATA);
        let all = self.world.containers.values();
        let foreign: Vec<_> = all.filter(|made| made.of.is_none()).collect();
        let mut facts = Facts {
            has_data,
            sa_login: self.sa_login(&inquiry.config),
            ..Facts::default()
        };
        facts.foreign = foreign
            .iter()
            .map(|made| made.name.clone())
            .filter(|name| spec.containers().any(|wanted| wanted.name == *name))
            .map(|name| Foreign {
                kind: "container",
                name,
                owner: "somebody".to_owned(),
            })
            .collect();
        let uses_data = foreign
            .iter()
            .filter(|made| made.moves() && !made.volumes.is_empty());
        facts.volume_users = uses_data.map(|made| made.name.clone()).collect();
        facts.ports.taken = self.taken_ports(inquiry);
        let mut nodes = inquiry.seen.containers.iter();
        let node = nodes.find(|one| one.unit != UnitId::Sql);
        let key = node.and_then(|node| Some(self.world.containers.get(&node.id)?.key.clone()));
        facts.node.key = key.map(|key| NodeKey {
            key: Secret::new(key),
            serves: false,
        });
        let wanted = spec.images();
        let images = self.world.images.iter();
        let images = images
            .filter(|(image, _)| wanted.contains(&image.as_str()))
            .map(|(image, id)| (image.clone(), id.clone()))
            .collect();
        Ok(Found {
            facts,
            images,
            fresh_key: Secret::new(format!("key{}", self.now)),
        })
    }

    fn taken_ports(&self, inquiry: &Inquiry) -> Vec<Taken> {
        let ours = |name: &String| inquiry.seen.containers.iter().any(|one| one.name == *name);
        let ports = inquiry.spec.containers().flat_map(|wanted| &wanted.ports);
        let taken = ports.filter_map(|port| {
            let port = port.host;
            let listener = self.world.listener(port).map(|(_, made, _)| made);
            let process = self.world.taken.contains(&port);
            let holder = listener
                .filter(|made| !ours(&made.name))
                .map(|made| made.name.clone())
                .or_else(|| process.then(|| "a process".to_owned()))?;
            Some(Taken {
                key: "PORT".to_owned(),
                ip: std::net::Ipv4Addr::LOCALHOST.into(),
                port,
                holder,
            })
        });
        taken.collect()
    }

    /// Whether a node of a newer version was started and no look showed it yet: nobody can know
    /// then that the database will not go back.
    pub(super) fn has_unseen_version(&self, version: u32) -> bool {
        self.world.ours().any(|(id, unit, made)| {
            let newer = unit.is_server() && version_of(&made.image_id) / 100 > version / 100;
            let starts = |call: &Call| matches!(&call.action, Action::Start(_, one) if one == id);
            let is_unseen = made.runs > 0 && !self.invariants.has_seen_run_of(id);
            newer && (is_unseen || self.open_calls().any(starts))
        })
    }

    /// Some wish, as a person has it.
    pub(super) fn some_wish(&mut self) -> Wish {
        let unit = self.some_unit();
        match self.chance.below(100) {
            0..45 => Wish::Up(self.some_edit()),
            45..49 => Wish::Up(self.env.clone()),
            49..51 => Wish::Units(About::Drain, vec![unit]),
            51..52 => Wish::Units(About::Undrain, Vec::new()),
            52..62 => Wish::Units(About::Restart, vec![unit]),
            62..66 => Wish::Units(About::Restart, Vec::new()),
            66..74 => Wish::Units(About::Stop, vec![unit]),
            74..85 => Wish::Units(About::Start, Vec::new()),
            85..90 => Wish::Down { volumes: false },
            90..93 => Wish::Down { volumes: true },
            93..95 => Wish::RollBack,
            95..97 => Wish::Password(self.next_password()),
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
                let mistake = self.chance.pick(&mistakes).copied();
                env.mistake = mistake.filter(|mistake| !env.demo || *mistake != Mistake::Tag);
            }
            _ => env.node_edit += 1,
        }
        env.no_backup = self.chance.percent(10);
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
        let ran = self.disk.file.ran.last();
        let ran = ran.and_then(|ran| ran.image.split('.').nth(1)?.parse().ok());
        env.tag = env.tag.max(ran.filter(|tag| *tag != NO_TAG).unwrap_or(1));
        env
    }
}

/// How long a person waits at most before the next act.
pub(super) const OPERATOR_PAUSE: Ms = 25_000;
