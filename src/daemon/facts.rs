//! Gathers what must be known before a configuration is admitted: questions to the engine, to the
//! running server, to the host's ports, to what is kept of other projects. It runs as a task, so
//! that a slow answer holds up no supervision.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::admit::Claims;
use super::admit::Directory;
use super::admit::Facts;
use super::admit::Known;
use super::admit::Login;
use super::admit::NodeKey;
use super::admit::Online;
use super::admit::Owners;
use super::admit::Ports;
use super::admit::Saving;
use super::admit::Sibling;
use super::admit::Taken;
use super::admit::foreign;
use super::admit::has_data;
use super::admit::has_directory;
use super::admit::is_our_container;
use super::admit::kinship;
use super::admit::missing_networks;
use super::admit::volume_users;
use super::back_up;
use super::before_upgrade;
use super::message::Denied;
use super::message::GivingWay;
use super::places;
use super::ports;
use super::store;
use super::store::Data;
use crate::config::Config;
use crate::config::Pull;
use crate::config::Secret;
use crate::config::ports::HostPort;
use crate::config::ports::Whose;
use crate::config::project::ProjectName;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::inventory::AnyContainer;
use crate::engine::inventory::HeldPort;
use crate::engine::inventory::Inventory;
use crate::engine::inventory::Thing;
use crate::engine::ours;
use crate::reconcile::Observed;
use crate::reconcile::observed::Stranger;
use crate::spec::ContainerSpec;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::labels;
use crate::sql;
use crate::web::settings::CertificateFiles;
use crate::web::tls;
use crate::web::tls::BadCertificate;

/// How long a question to a database may take when a request waits for it.
const DATABASE_LIMIT: Duration = Duration::from_secs(3);

/// How long it may take to see whose directories are, in a handful of calls.
const OWNERS_LIMIT: Duration = Duration::from_secs(5);

/// How long a request waits for an engine that does not answer: a call may break, and an engine may
/// just be starting.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);
/// How soon it is asked again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What is asked about, and what is known already.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) engine: Engine,
    pub(super) project: ProjectName,
    pub(super) config: Config,
    /// What the configuration means here, its master key aside.
    pub(super) spec: StackSpec,
    /// The engine that what is kept is about, and this one, where they differ.
    pub(super) elsewhere: Option<(String, String)>,
    pub(super) name_on_purpose: bool,
    pub(super) seen: Observed,
    /// The units that serve, as far as they were asked.
    pub(super) ready: BTreeSet<UnitId>,
    /// The data that what runs was applied with.
    pub(super) applied_data: Option<Data>,
    /// Where what is kept of each project is.
    pub(super) state_root: PathBuf,
    /// What gives way before this is applied.
    pub(super) giving_way: Option<GivingWay>,
    /// Where this project's own front door listens.
    pub(super) own_listeners: Vec<SocketAddr>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) facts: Facts,
    /// The images of the configuration that the engine has, with their IDs.
    pub(super) images: BTreeMap<String, String>,
}

impl Question {
    /// Asks everything, and once more where an answer of the engine did not come.
    pub(super) async fn insist(&self) -> Result<Found, Denied> {
        let give_up_at = Instant::now() + ENGINE_PATIENCE;
        loop {
            match self.answer().await {
                Err(Denied::Engine(_)) if Instant::now() < give_up_at => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    async fn answer(&self) -> Result<Found, Denied> {
        let facts = self
            .facts()
            .await
            .map_err(|error| Denied::Engine(error.to_string()))?;
        let mut images = BTreeMap::new();
        for image in self.spec.images() {
            if let Ok(Some(id)) = self.engine.image_id(image).await {
                images.insert(image.to_owned(), id);
            }
        }
        Ok(Found { facts, images })
    }

    async fn facts(&self) -> Result<Facts, EngineError> {
        let mut all = self.engine.inventory().await?;
        if let Some(leaving) = &self.giving_way {
            give_way(&mut all, leaving, &self.spec);
        }
        let strangers = &self.seen.strangers;
        let mut facts = of_inventory(&self.spec, self.name_on_purpose, &all, strangers);
        facts.elsewhere.clone_from(&self.elsewhere);
        facts.siblings = self.siblings(&all).await;
        if self.config.sql.is_some() {
            facts.sa_login = self.sa_login().await;
        } else {
            (facts.external_login, facts.external_database) = external(&self.spec).await;
        }
        if self.engine.endpoint.is_local() {
            facts.ports = held_ports(
                &self.config,
                &self.project,
                &all,
                &self.seen,
                &self.own_listeners,
            );
        }
        facts.ports.certificate = bad_certificate(&self.spec);
        facts.host = self.engine.host().await.ok();
        let maps_users = facts.host.as_ref().is_some_and(|host| host.maps_users);
        let found = places::look(&self.engine, &self.config, &self.spec, maps_users).await?;
        facts.ports.places = found.problems;
        facts
            .ports
            .places
            .extend(missing_networks(&self.spec, &all));
        if let Some(look) = found.data {
            facts.has_data = has_data(look);
        }
        facts.has_data |= self.giving_way.is_some();
        // What runs says something about the data only where it runs on that data.
        let same_data = self
            .applied_data
            .as_ref()
            .is_none_or(|data| *data == Data::of(&self.spec));
        if same_data {
            facts.node.key = self.node_key().await;
        }
        if self.looks_like_an_upgrade() {
            facts.versions.saving = self.saving(&facts).await;
            facts.versions.online = self.online().await;
        }
        if !self.spec.demo {
            facts.versions.image = self.image_version().await?;
            facts.versions.database = self.installed_versions(&facts).await;
            if same_data {
                facts.versions.node = self.node_version().await?;
            }
        }
        facts.node.owners = tokio::time::timeout(OWNERS_LIMIT, self.owners(maps_users))
            .await
            .unwrap_or_default();
        Ok(facts)
    }

    /// Whether a node is there that was made of another image.
    fn looks_like_an_upgrade(&self) -> bool {
        let wanted = self.spec.nodes.first();
        let mut nodes = self.seen.containers.iter();
        let node = nodes.find(|one| one.unit.is_server());
        let both = wanted.zip(node);
        both.is_some_and(|(wanted, node)| wanted.image != node.image)
    }

    async fn saving(&self, facts: &Facts) -> Option<Saving> {
        self.config.sql.as_ref()?;
        let database = match facts.sa_login {
            Login::Accepted => self.running_database().await,
            Login::Refused | Login::Unknown => None,
        };
        let project = self.project.clone();
        let state = self.state_root.join(project.as_str());
        let directory = back_up::before_upgrades_in(&state);
        Some(before_upgrade::saving(directory, project, database.as_ref()).await)
    }

    async fn online(&self) -> Vec<Online> {
        let key = self.config.octopus.admin_api_key.as_ref();
        let mut serving = self.spec.nodes.iter();
        let node = serving.find(|node| self.ready.contains(&node.unit));
        match node.and_then(ContainerSpec::host_address).zip(key) {
            Some((address, key)) => before_upgrade::online(address, key).await,
            None => Vec::new(),
        }
    }

    async fn siblings(&self, all: &Inventory) -> Vec<Sibling> {
        let (root, project) = (self.state_root.clone(), self.project.to_string());
        let reading = tokio::task::spawn_blocking(move || {
            let others = store::others(&root, &project);
            let with_directory = |(project, stored): (String, store::Stored)| {
                let spec = stored.spec.as_ref();
                let has = spec.is_none_or(|spec| has_directory(&spec.working_dir));
                (project, stored, has)
            };
            others.into_iter().map(with_directory).collect::<Vec<_>>()
        });
        let others = reading.await.unwrap_or_default();
        let kin = others
            .iter()
            .filter_map(|(project, stored, has_directory)| {
                let known = Known {
                    project,
                    stored,
                    has_directory: *has_directory,
                };
                kinship(known, &self.config, &self.spec, all)
            });
        kin.collect()
    }

    /// What the SQL Server that runs says of the configured `sa` password. The new configuration
    /// may publish another port, and another login may be Octopus Server's: `sa` is asked where the
    /// server is.
    async fn sa_login(&self) -> Login {
        let Some(target) = self.running_database().await else {
            return Login::Unknown;
        };
        match sql::login(&target, "master", DATABASE_LIMIT).await {
            Ok(_) => Login::Accepted,
            // One that is still starting refuses right passwords too.
            Err(error) if is_refusal(&error) && self.ready.contains(&UnitId::Sql) => Login::Refused,
            Err(_) => Login::Unknown,
        }
    }

    /// The database of the SQL Server that runs, asked as `sa` with the configured password.
    async fn running_database(&self) -> Option<DatabaseTarget> {
        let running = self.seen.container(UnitId::Sql)?;
        let sql = self.config.sql.as_ref()?;
        if !running.is_running() {
            return None;
        }
        let target = self.engine.database_of(&running.id).await?;
        Some(DatabaseTarget {
            password: sql.sa_password.clone(),
            database: self.config.database.name.clone(),
            ..target
        })
    }

    /// With the state file lost, an existing node still knows the key; one that serves knows the
    /// right one.
    async fn node_key(&self) -> Option<NodeKey> {
        let mut nodes = self
            .seen
            .containers
            .iter()
            .filter(|container| container.unit != UnitId::Sql);
        let first = nodes.clone().next()?;
        let serves = |unit| self.ready.contains(&unit);
        let node = nodes.find(|node| serves(node.unit)).unwrap_or(first);
        let mut environment = self.engine.environment(&node.id).await.ok()?;
        let key = environment.remove("MASTER_KEY")?;
        (!key.is_empty()).then(|| NodeKey {
            key: Secret::new(key),
            serves: serves(node.unit),
        })
    }

    /// An image that is fetched again first may be another one than the engine has.
    async fn image_version(&self) -> Result<Option<String>, EngineError> {
        match self.spec.nodes.first() {
            Some(node) if self.config.pull != Pull::Always => {
                self.engine.image_version(&node.image).await
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whose the directories are that nodes have, as one of them shows it; where there is none, as
    /// this host shows the volumes' directories, if the numbers of users are the same there. A
    /// question without an answer is no reason to refuse anything.
    async fn owners(&self, maps_users: bool) -> Owners {
        let wanted = self.spec.nodes.first().filter(|node| node.user.is_some());
        let Some(wanted) = wanted else {
            return Owners::default();
        };
        let mut nodes = self.seen.containers.iter();
        let Some(there) = nodes.find(|one| one.unit != UnitId::Sql) else {
            if maps_users || !self.engine.endpoint.is_local() {
                return Owners::default();
            }
            return places::owners(&self.engine, wanted).await;
        };
        let mut owners = Owners::default();
        if let Ok(Some(file)) = self.engine.first_entry(&there.id, "/etc/passwd").await {
            owners.passwd = String::from_utf8_lossy(&file.content).into_owned();
        }
        for path in wanted.mounts.keys() {
            if let Ok(Some(entry)) = self.engine.first_entry(&there.id, path).await {
                owners.directories.push(Directory {
                    path: path.clone(),
                    uid: entry.uid,
                    gid: entry.gid,
                    mode: entry.mode,
                });
            }
        }
        owners
    }

    /// The versions that were installed on the database, as it says itself: what is kept here may be
    /// lost, or somebody else had the database meanwhile. None where it cannot be asked now.
    async fn installed_versions(&self, facts: &Facts) -> Vec<String> {
        let target = if self.config.sql.is_none() {
            let exists = facts.external_database == Some(true);
            exists.then(|| self.spec.database.clone())
        } else if facts.sa_login == Login::Accepted {
            self.running_database().await
        } else {
            None
        };
        match target {
            Some(target) => sql::history::installed(&target, DATABASE_LIMIT)
                .await
                .unwrap_or_default(),
            None => Vec::new(),
        }
    }

    async fn node_version(&self) -> Result<Option<String>, EngineError> {
        let mut nodes = self.seen.containers.iter();
        let started = nodes.find(|one| one.unit != UnitId::Sql && one.instance().is_some());
        match started {
            Some(node) if !node.image_id.is_empty() => {
                self.engine.image_version(&node.image_id).await
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// What will be gone by then is in nobody's way: its containers count as the project's own, which
/// give back what they hold in time.
fn give_way(all: &mut Inventory, leaving: &GivingWay, spec: &StackSpec) {
    let is_leaving = |one: &&mut AnyContainer| leaving.containers.contains(&one.thing.name);
    for one in all.containers.iter_mut().filter(is_leaving) {
        one.thing.labels = [
            (labels::PROJECT, spec.project.as_str()),
            (labels::WORKING_DIR, &spec.working_dir),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    }
    all.networks
        .retain(|network| leaving.network.as_ref() != Some(&network.name));
}

fn is_refusal(error: &sql::SqlError) -> bool {
    matches!(
        error,
        sql::SqlError::Server {
            code: sql::LOGIN_FAILED,
            ..
        }
    )
}

/// What the external server says of the configured login, and whether it has the database. A login
/// may be one of the database alone, which `master` does not let in.
async fn external(spec: &StackSpec) -> (Login, Option<bool>) {
    let target = &spec.database;
    let refused = match sql::has_database(target, DATABASE_LIMIT).await {
        Ok(exists) => return (Login::Accepted, Some(exists)),
        Err(sql::SqlError::Server { code, .. }) => code == sql::LOGIN_FAILED,
        Err(_) => return (Login::Unknown, None),
    };
    match sql::login(target, &target.database, DATABASE_LIMIT).await {
        Ok(_) => (Login::Accepted, Some(true)),
        Err(error) if refused && is_refusal(&error) => (Login::Refused, None),
        Err(_) => (Login::Unknown, None),
    }
}

/// What the things of an engine say of a desired state.
fn of_inventory(
    spec: &StackSpec,
    name_on_purpose: bool,
    all: &Inventory,
    strangers: &BTreeSet<Stranger>,
) -> Facts {
    let project = spec.project.as_str();
    let is_demo = |labelled: &BTreeMap<String, String>| {
        labelled.get(labels::DEMO).map(String::as_str) == Some("Y")
    };
    let mut containers = all.containers.iter().map(|one| &one.thing);
    let container = containers.find(|thing| is_our_container(thing, project, strangers));
    let container = container.map(|thing| &thing.labels);
    let is_ours = |one: &&Thing| ours::is_volume(&spec.project, &one.name, &one.labels);
    let volume = all.volumes.iter().find(is_ours).map(|one| &one.labels);
    let made_in = container.map(|labelled| labelled.get(labels::WORKING_DIR).cloned());
    let made_in = made_in.map(Option::unwrap_or_default);
    Facts {
        has_data: Data::of(spec).is_in(all),
        is_demo: container.or(volume).map(is_demo),
        other_dir: made_in.filter(|dir| *dir != spec.working_dir && !name_on_purpose),
        foreign: foreign(spec, all),
        volume_users: volume_users(spec, all, strangers),
        claims: Claims::of(&spec.project, all),
        ..Facts::default()
    }
}

/// Ports that something else holds, and addresses that this host does not have.
fn held_ports(
    config: &Config,
    project: &ProjectName,
    all: &Inventory,
    seen: &Observed,
    own: &[SocketAddr],
) -> Ports {
    let mut taken = Vec::new();
    let mut no_such_address = Vec::new();
    for wanted in config.host_ports() {
        let holder = match held_by(project.as_str(), &wanted, all, &seen.strangers) {
            Held::ByUs(unit) => unit
                .filter(|unit| keeps_it_too_long(config, seen, &wanted, *unit))
                .map(|unit| format!("{unit}, whose own turn to be made anew comes only after: `octo-local down` first")),
            Held::By(holder) => Some(holder),
            // Our front door gives it back, or goes on with it.
            Held::ByNoContainer if is_in_the_way(own, &wanted) => None,
            Held::ByNoContainer => match bind(&wanted) {
                Bound::Fine => None,
                Bound::Taken => Some(ports::holder(wanted.ip, wanted.port)),
                Bound::NoSuchAddress => {
                    no_such_address.push((wanted.address_key.to_owned(), wanted.ip));
                    None
                }
            },
        };
        taken.extend(holder.map(|holder| Taken {
            key: wanted.key.to_owned(),
            ip: wanted.ip,
            port: wanted.port,
            holder,
        }));
    }
    no_such_address.dedup();
    Ports {
        taken,
        no_such_address,
        ..Ports::default()
    }
}

/// Whether a node of ours would wait for a port that a later one has: nodes are replaced one after
/// another, the first one first, unless all of them end because the version changes.
fn keeps_it_too_long(config: &Config, seen: &Observed, wanted: &HostPort, unit: UnitId) -> bool {
    let (Whose::Node(own, _), UnitId::Node(holder)) = (wanted.whose, unit) else {
        return false;
    };
    let image = seen.container(unit).map(|container| &container.image);
    let same_version = image.is_some_and(|image| *image == config.octopus.reference());
    own < holder && holder <= config.octopus.nodes && same_version
}

fn is_in_the_way(own: &[SocketAddr], wanted: &HostPort) -> bool {
    own.iter().any(|at| {
        let held = HeldPort {
            ip: at.ip(),
            port: at.port(),
        };
        held.is_in_the_way_of(wanted.ip, wanted.port)
    })
}

/// What is wrong with the front door's certificate, and the variable that says which it is.
fn bad_certificate(spec: &StackSpec) -> Option<(String, String)> {
    let https = spec.front_door.as_ref()?.https.as_ref()?;
    let files = CertificateFiles {
        certificate: https.certificate.clone(),
        key: https.key.clone(),
    };
    let error = tls::read(&files).and_then(|tls| tls::check(&tls)).err()?;
    let is_about_the_key = match &error {
        BadCertificate::Unreadable { path, .. } => *path == https.key.display().to_string(),
        BadCertificate::NoKey | BadCertificate::OtherKey | BadCertificate::Mismatch => true,
        BadCertificate::NoCertificate | BadCertificate::Damaged(_) => false,
    };
    let key = if is_about_the_key {
        "TLS_KEY"
    } else {
        "TLS_CERT"
    };
    Some((key.to_owned(), error.to_string()))
}

/// Which container holds a port.
#[derive(Debug, PartialEq)]
enum Held {
    /// One of this project, this unit: as a rule it gives it back in time.
    ByUs(Option<UnitId>),
    By(String),
    ByNoContainer,
}

fn held_by(
    project: &str,
    wanted: &HostPort,
    all: &Inventory,
    strangers: &BTreeSet<Stranger>,
) -> Held {
    let in_the_way = all.containers.iter().find(|one| {
        let mut ports = one.ports.iter();
        one.runs && ports.any(|port| port.is_in_the_way_of(wanted.ip, wanted.port))
    });
    match in_the_way {
        None => Held::ByNoContainer,
        Some(one) => {
            if is_our_container(&one.thing, project, strangers) {
                let unit = one.thing.labels.get(labels::UNIT);
                return Held::ByUs(unit.and_then(|unit| unit.parse().ok()));
            }
            Held::By(format!("container {}", one.thing.name))
        }
    }
}

/// Whether this process may bind a port, which is what the engine will try. One that needs more
/// rights counts as free: the engine has them.
enum Bound {
    Fine,
    Taken,
    NoSuchAddress,
}

fn bind(wanted: &HostPort) -> Bound {
    match std::net::TcpListener::bind((wanted.ip, wanted.port)) {
        Ok(_) => Bound::Fine,
        Err(error) => match error.kind() {
            std::io::ErrorKind::AddrInUse => Bound::Taken,
            std::io::ErrorKind::AddrNotAvailable => Bound::NoSuchAddress,
            _ => Bound::Fine,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::inventory::Thing;

    fn port(ip: &str, port: u16) -> HostPort {
        HostPort {
            whose: Whose::Sql,
            key: "SQL_PORT",
            address_key: "SQL_BIND_ADDRESS",
            ip: ip.parse().unwrap(),
            port,
        }
    }

    #[test]
    fn a_port_is_taken_where_its_address_is_and_not_by_our_own_container() {
        let holder = |project: &str, ip: &str, runs| AnyContainer {
            thing: Thing {
                name: "other".to_owned(),
                labels: [(labels::PROJECT.to_owned(), project.to_owned())].into(),
            },
            runs,
            ports: vec![HeldPort {
                ip: ip.parse().unwrap(),
                port: 8080,
            }],
            ..AnyContainer::default()
        };
        let by_with = |container, strangers: BTreeSet<Stranger>| {
            let all = Inventory {
                containers: vec![container],
                ..Inventory::default()
            };
            held_by("p", &port("127.0.0.1", 8080), &all, &strangers)
        };
        let by = |container| by_with(container, BTreeSet::new());
        let other = Held::By("container other".to_owned());
        assert_eq!(by(holder("q", "127.0.0.1", true)), other);
        assert_eq!(by(holder("q", "0.0.0.0", true)), other);
        assert_eq!(by(holder("q", "127.0.0.2", true)), Held::ByNoContainer);
        assert_eq!(by(holder("q", "127.0.0.1", false)), Held::ByNoContainer);
        assert_eq!(by(holder("p", "127.0.0.1", true)), Held::ByUs(None));
        // A copy of ours carries our label too.
        let strangers = [Stranger::Container("other".to_owned())].into();
        assert_eq!(by_with(holder("p", "127.0.0.1", true), strangers), other);
    }

    #[test]
    fn an_address_of_no_interface_and_a_port_of_a_process_are_found() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = held.local_addr().unwrap().port();
        assert!(matches!(bind(&port("127.0.0.1", number)), Bound::Taken));
        assert!(matches!(bind(&port("127.0.0.2", number)), Bound::Fine));
        // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
        assert!(matches!(
            bind(&port("192.0.2.7", number)),
            Bound::NoSuchAddress
        ));
    }

    /// A configuration with a front door on these ports, with these files for HTTPS.
    fn door(http: u16, https: Option<(u16, &std::path::Path)>) -> Config {
        let mut config = Config::default();
        config.octopus.port = http;
        config.front_door.on = true;
        if let Some((port, dir)) = https {
            let file = |name: &str| Some(dir.join(name).display().to_string());
            config.front_door.https_port = Some(port);
            config.front_door.certificate = file("cert.pem");
            config.front_door.key = file("key.pem");
        }
        config
    }

    fn observed() -> crate::reconcile::observed::Container {
        crate::reconcile::observed::Container {
            id: "2".to_owned(),
            name: "p-octopus-server-2".to_owned(),
            unit: UnitId::Node(2),
            digest: crate::spec::Digest(String::new()),
            image: String::new(),
            image_id: String::new(),
            run: crate::reconcile::observed::Run::Created,
            networks: BTreeSet::new(),
            network_mode: String::new(),
            engine_restarts: false,
        }
    }

    fn built(config: &Config) -> StackSpec {
        let around = crate::spec::build::BuildInput {
            project: &ProjectName::given("p").unwrap(),
            working_dir: "/",
            master_key: &Secret::default(),
            may_be_privileged: false,
        };
        crate::spec::build::build(config, &around)
    }

    #[test]
    fn a_port_of_the_front_door_is_taken_save_by_our_own() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let taken = |own: &[SocketAddr]| {
            let (config, project) = (door(address.port(), None), ProjectName::given("p").unwrap());
            let (all, seen) = (Inventory::default(), Observed::default());
            let found = held_ports(&config, &project, &all, &seen, own).taken;
            let of_it = found.into_iter().filter(|one| one.port == address.port());
            of_it.map(|one| one.key).collect::<Vec<_>>()
        };
        assert_eq!(taken(&[]), ["OCTOPUS_PORT"]);
        assert_eq!(taken(&[address]), Vec::<String>::new());
    }

    #[test]
    fn a_node_does_not_wait_for_a_port_that_a_later_one_has() {
        let mut config = Config::default();
        config.octopus.nodes = 2;
        config.octopus.port = 9081;
        let held = |unit: &str, port: u16| AnyContainer {
            thing: Thing {
                name: unit.to_owned(),
                labels: [(labels::PROJECT, "p"), (labels::UNIT, unit)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            },
            runs: true,
            ports: vec![HeldPort {
                ip: "127.0.0.1".parse().unwrap(),
                port,
            }],
            ..AnyContainer::default()
        };
        let refused = |config: &Config, image: &str, ports: [u16; 2]| {
            let containers = [
                ("octopus-server-1", ports[0]),
                ("octopus-server-2", ports[1]),
            ];
            let all = Inventory {
                containers: containers.map(|(unit, port)| held(unit, port)).into(),
                ..Inventory::default()
            };
            let mut seen = Observed::default();
            seen.containers.push(crate::reconcile::observed::Container {
                unit: UnitId::Node(2),
                image: image.to_owned(),
                ..observed()
            });
            let project = ProjectName::given("p").unwrap();
            let taken = held_ports(config, &project, &all, &seen, &[]).taken;
            taken.into_iter().map(|one| one.port).collect::<Vec<_>>()
        };
        let image = config.octopus.reference();
        assert_eq!(refused(&config, &image, [9080, 9081]), [9081]);
        assert_eq!(
            refused(&config, &image, [9082, 9083]),
            [0; 0],
            "it is done before"
        );
        assert_eq!(
            refused(&config, "another:1", [9080, 9081]),
            [0; 0],
            "all end"
        );
        config.octopus.nodes = 1;
        assert_eq!(refused(&config, &image, [9080, 9081]), [0; 0], "it goes");
    }

    #[test]
    fn a_certificate_that_cannot_be_served_is_told_with_its_variable() {
        let dir = tempfile::tempdir().unwrap();
        let spec = built(&door(8080, Some((8443, dir.path()))));
        let key_of = || bad_certificate(&spec).map(|(key, _)| key);
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        assert_eq!(key_of().as_deref(), Some("TLS_CERT"), "there is none");
        write("cert.pem", &one.cert.pem());
        assert_eq!(key_of().as_deref(), Some("TLS_KEY"), "there is none");
        write("key.pem", &other.signing_key.serialize_pem());
        assert_eq!(key_of().as_deref(), Some("TLS_KEY"), "it is another's");
        write("key.pem", &one.signing_key.serialize_pem());
        assert_eq!(key_of(), None);
        write("cert.pem", "no certificate");
        assert_eq!(key_of().as_deref(), Some("TLS_CERT"));
        assert_eq!(bad_certificate(&built(&door(8080, None))), None);
    }
}
