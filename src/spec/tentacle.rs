//! A Tentacle of the stack: a deployment target or a worker, in a container of the vendor's image.
//!
//! What is wished of one is a name and what it is registered as; its container is made of that and
//! of the stack's configuration. It listens on the stack's network, so that every node reaches it
//! under one host name and nothing has to be told to each node (octopus.com/docs, "Octopus Tentacle
//! container"; OctopusTentacle, `docker/linux/scripts/configure-tentacle.sh`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use serde::Deserialize;
use serde::Serialize;

use super::ContainerSpec;
use super::Port;
use super::StackSpec;
use super::Storage;
use super::UnitId;
pub use super::tentacle_name::TentacleName;
use crate::config::Config;
use crate::config::Secret;
use crate::config::limits::Limits;
use crate::config::vendor;

/// The port that a Tentacle listens on in its container, since 6.1.1271 always this one.
pub const PORT: u16 = 10933;
/// The directory with a Tentacle's certificate, its instance and the mark that it is configured.
pub const IDENTITY: &str = "/etc/octopus";
/// How many Tentacles one stack has: each is a container on the one host.
pub const MOST: usize = 16;
/// How many environments, or roles, one target has.
const MOST_WORDS: usize = 32;
/// How long the name of an environment, a role, a pool or a space may be: Octopus' own limit is
/// higher for some, and no name that people read comes near.
const WORD_LENGTH: usize = 200;
/// The space that a Tentacle belongs to where none is named.
pub const DEFAULT_SPACE: &str = "Default";
/// What the variables of the vendor's image are called (its `configure-tentacle.sh`).
mod variable {
    pub(super) const SERVER: &str = "ServerUrl";
    pub(super) const KEY: &str = "ServerApiKey";
    pub(super) const SPACE: &str = "Space";
    pub(super) const NAME: &str = "TargetName";
    pub(super) const ENVIRONMENT: &str = "TargetEnvironment";
    pub(super) const ROLE: &str = "TargetRole";
    pub(super) const POOL: &str = "TargetWorkerPool";
    pub(super) const PORT: &str = "ListeningPort";
    pub(super) const HOW_NAMED: &str = "PublicHostNameConfiguration";
    pub(super) const HOST: &str = "CustomPublicHostName";
}

/// What Octopus Server uses a Tentacle for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// It is deployed to.
    Target {
        /// The environments that it belongs to, by name; they must exist.
        environments: Vec<String>,
        /// The roles, also called target tags, that it has.
        roles: Vec<String>,
    },
    /// It runs steps for the server.
    Worker {
        /// The worker pool that it belongs to, by name; it must exist.
        pool: String,
    },
}

impl Default for Purpose {
    fn default() -> Self {
        Self::Target {
            environments: Vec::new(),
            roles: Vec::new(),
        }
    }
}

impl Purpose {
    /// Whether it is a worker, which the API has apart from targets.
    pub fn is_worker(&self) -> bool {
        match self {
            Self::Worker { .. } => true,
            Self::Target { .. } => false,
        }
    }
}

/// For people: `target in Test, with the roles web, db`.
impl fmt::Display for Purpose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target {
                environments,
                roles,
            } => write!(
                out,
                "target in {}, {}",
                environments.join(", "),
                roles.join(", ")
            ),
            Self::Worker { pool } => write!(out, "worker in {pool}"),
        }
    }
}

/// What becomes of the registration when a Tentacle goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// It is deleted at Octopus Server.
    Deleted,
    /// It stays there, for a person to delete.
    Kept,
}

/// A Tentacle that was added, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tentacle {
    /// What it is registered as.
    pub purpose: Purpose,
    /// The space, by name.
    pub space: String,
    /// Another image than the configuration's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// It runs Docker-in-Docker, with full privileges.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dind: bool,
    /// The operator stopped it on purpose.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// It is to go: what becomes of its registration. It is forgotten once that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Registration>,
}

/// The Tentacles of a stack, by name.
pub type Tentacles = BTreeMap<TentacleName, Tentacle>;

impl Tentacle {
    /// Whether it is wished as the other one is, whatever became of either since.
    pub fn is_wished_as(&self, other: &Self) -> bool {
        let wish = |one: &Self| Self {
            stopped: false,
            leaves: None,
            ..one.clone()
        };
        wish(self) == wish(other)
    }

    /// What speaks against it, by the option that says it; each with what would be right.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |option: &'static str, words: &[String]| {
            if words.len() > MOST_WORDS {
                problems.push((option, format!("give at most {MOST_WORDS}")));
            }
            for word in words {
                if let Some(why) = wrong_word(word) {
                    problems.push((option, format!("{word:?} {why}")));
                }
            }
        };
        match &self.purpose {
            Purpose::Target {
                environments,
                roles,
            } => {
                check("--environment", environments);
                check("--role", roles);
            }
            Purpose::Worker { pool } => check("--worker", std::slice::from_ref(pool)),
        }
        check("--space", std::slice::from_ref(&self.space));
        problems
    }
}

/// Why a text cannot be the name of something in Octopus Server that the vendor's script is given
/// in a list with commas between.
fn wrong_word(word: &str) -> Option<String> {
    if word.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if word.trim() != word {
        return Some("begins or ends with a space".to_owned());
    }
    if word.contains(',') {
        return Some("has a comma in it: give the option once for each".to_owned());
    }
    if word.chars().any(char::is_control) {
        return Some("has a control character in it".to_owned());
    }
    (word.chars().count() > WORD_LENGTH).then(|| format!("is longer than {WORD_LENGTH} characters"))
}

/// The key of the volume with a Tentacle's identity.
pub fn volume_key(name: TentacleName) -> String {
    UnitId::Tentacle(name).to_string()
}

/// The volume with a Tentacle's identity.
pub fn volume(stack: &StackSpec, name: TentacleName) -> String {
    format!("{}_{}", stack.project, volume_key(name))
}

/// The containers of the Tentacles that are to be there. Without an API key none can be made.
pub fn containers(all: &Tentacles, config: &Config, stack: &StackSpec) -> Vec<ContainerSpec> {
    let Some(key) = stack.api_key() else {
        return Vec::new();
    };
    let stay = all.iter().filter(|(_, one)| one.leaves.is_none());
    stay.map(|(name, one)| container(*name, one, config, stack, key))
        .collect()
}

/// The definition of one. The port is published on loopback, at one that the engine chooses: the
/// daemon asks there whether it is well; nodes go over the network.
fn container(
    name: TentacleName,
    wish: &Tentacle,
    config: &Config,
    stack: &StackSpec,
    key: &Secret,
) -> ContainerSpec {
    let unit = UnitId::Tentacle(name);
    let host = unit.to_string();
    ContainerSpec {
        unit,
        name: format!("{}-{unit}", stack.project),
        image: wish
            .image
            .clone()
            .unwrap_or_else(|| config.tentacle_image.clone()),
        hostname: host.clone(),
        env: environment(name, wish, stack, key),
        mounts: BTreeMap::from([(IDENTITY.to_owned(), Storage::Ours(volume(stack, name)))]),
        ports: vec![Port {
            container: PORT,
            host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host: 0,
        }],
        aliases: vec![host],
        privileged: wish.dind,
        open_stdin: true,
        stop_timeout_s: 10,
        log_max_size: config.log_max_size.clone(),
        log_max_files: config.log_max_files,
        user: None,
        extra_hosts: Vec::new(),
        networks: Vec::new(),
        extra_mounts: Vec::new(),
        limits: Limits::default(),
    }
}

/// It registers at node 1, whose name on the network every stack has.
fn environment(
    name: TentacleName,
    wish: &Tentacle,
    stack: &StackSpec,
    key: &Secret,
) -> BTreeMap<String, Secret> {
    let node = stack
        .nodes
        .first()
        .map_or(UnitId::Node(1), |node| node.unit);
    let server = format!("http://{node}:{}", vendor::WEB_PORT);
    let host = UnitId::Tentacle(name).to_string();
    let dind = if wish.dind { "N" } else { "Y" };
    let mut env = BTreeMap::from([
        ("ACCEPT_EULA", Secret::new("Y")),
        ("DISABLE_DIND", Secret::new(dind)),
        (variable::SERVER, Secret::new(server)),
        (variable::KEY, key.clone()),
        (variable::SPACE, Secret::new(&wish.space)),
        (variable::NAME, Secret::new(name.as_str())),
        (variable::HOW_NAMED, Secret::new("Custom")),
        (variable::HOST, Secret::new(host)),
        (variable::PORT, Secret::new(PORT.to_string())),
    ]);
    match &wish.purpose {
        Purpose::Target {
            environments,
            roles,
        } => {
            env.insert(variable::ENVIRONMENT, Secret::new(environments.join(",")));
            env.insert(variable::ROLE, Secret::new(roles.join(",")));
        }
        Purpose::Worker { pool } => {
            env.insert(variable::POOL, Secret::new(pool));
        }
    }
    env.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> TentacleName {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_list_with_commas_cannot_say_is_refused_with_the_option() {
        let wish = Tentacle {
            purpose: Purpose::Target {
                environments: vec!["Test, Prod".to_owned(), "Test".to_owned()],
                roles: vec![" web".to_owned(), String::new()],
            },
            space: "De\nfault".to_owned(),
            ..Tentacle::default()
        };
        let problems = wish.problems();
        let options: Vec<&str> = problems.iter().map(|(option, _)| *option).collect();
        assert_eq!(options, ["--environment", "--role", "--role", "--space"]);
        assert!(problems[0].1.contains("a comma"), "{problems:?}");
    }

    fn stack() -> StackSpec {
        let node = ContainerSpec {
            unit: UnitId::Node(1),
            env: BTreeMap::from([("ADMIN_API_KEY".to_owned(), Secret::new("API-1"))]),
            ..ContainerSpec::default()
        };
        StackSpec {
            project: crate::config::project::ProjectName::given("shop").unwrap(),
            nodes: vec![node],
            ..StackSpec::default()
        }
    }

    fn target() -> Tentacle {
        Tentacle {
            purpose: Purpose::Target {
                environments: vec!["Test".to_owned(), "Prod".to_owned()],
                roles: vec!["web".to_owned()],
            },
            space: DEFAULT_SPACE.to_owned(),
            ..Tentacle::default()
        }
    }

    #[test]
    fn a_target_is_told_what_the_vendors_script_asks_for() {
        let (name, stack) = (named("web-1"), stack());
        let all = Tentacles::from([(name, target())]);
        let made = containers(&all, &Config::default(), &stack);
        let [one] = made.as_slice() else {
            panic!("{} containers", made.len());
        };
        let of = |key: &str| one.env.get(key).map(Secret::expose);
        for (key, value) in [
            ("ServerUrl", "http://octopus-server-1:8080"),
            ("ServerApiKey", "API-1"),
            ("Space", "Default"),
            ("TargetName", "web-1"),
            ("TargetEnvironment", "Test,Prod"),
            ("TargetRole", "web"),
            ("PublicHostNameConfiguration", "Custom"),
            ("CustomPublicHostName", "tentacle-web-1"),
            ("ListeningPort", "10933"),
            ("DISABLE_DIND", "Y"),
            ("ACCEPT_EULA", "Y"),
        ] {
            assert_eq!(of(key), Some(value), "{key}");
        }
        assert_eq!(of("TargetWorkerPool"), None);
        assert!(!one.privileged);
        assert_eq!(one.name, "shop-tentacle-web-1");
        assert_eq!(
            one.mounts["/etc/octopus"],
            Storage::Ours("shop_tentacle-web-1".to_owned())
        );
    }

    #[test]
    fn a_worker_names_its_pool_alone_and_docker_inside_needs_privileges() {
        let worker = Tentacle {
            purpose: Purpose::Worker {
                pool: "Default Worker Pool".to_owned(),
            },
            dind: true,
            ..target()
        };
        let all = Tentacles::from([(named("w"), worker)]);
        let made = &containers(&all, &Config::default(), &stack())[0];
        let of = |key: &str| made.env.get(key).map(Secret::expose);
        assert_eq!(of("TargetWorkerPool"), Some("Default Worker Pool"));
        assert_eq!((of("TargetEnvironment"), of("TargetRole")), (None, None));
        assert_eq!((made.privileged, of("DISABLE_DIND")), (true, Some("N")));
    }

    #[test]
    fn one_that_leaves_has_no_container_and_without_a_key_none_has() {
        let mut all = Tentacles::from([(named("a"), target()), (named("b"), target())]);
        all.get_mut(&named("a")).unwrap().leaves = Some(Registration::Deleted);
        let units = |all: &Tentacles, stack: &StackSpec| -> Vec<UnitId> {
            let made = containers(all, &Config::default(), stack);
            made.iter().map(|one| one.unit).collect()
        };
        assert_eq!(units(&all, &stack()), [UnitId::Tentacle(named("b"))]);
        let mut without = stack();
        without.nodes[0].env.clear();
        assert!(units(&all, &without).is_empty());
    }
}
