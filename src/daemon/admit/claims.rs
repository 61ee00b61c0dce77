//! Whose things are: what has our names and is not ours, what looks like this project's data, and
//! the other projects of this machine. Nobody is to end up with an empty database beside their
//! data, and no message advises to remove what may hold some.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use super::Asked;
use super::Facts;
use super::problem;
use crate::adopt::seen;
use crate::adopt::seen::COMPOSE_PROJECT;
use crate::config::Config;
use crate::config::Problem;
use crate::config::project::ProjectName;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::engine::inventory::Inventory;
use crate::engine::inventory::Thing;
use crate::engine::ours;
use crate::reconcile::observed::Stranger;
use crate::spec::StackSpec;
use crate::spec::labels;

/// So many things are named in one message; the rest are counted.
const NAMED: usize = 12;

/// What has a name that is to be ours, and belongs to somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// `container`, `volume` or `network`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whose it is, as far as its labels say.
    pub owner: String,
}

/// What looks like this project's data and carries no label of octo-local, such as
/// `volume shop_sqlvolume of the compose project shop`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(pub Vec<String>);

/// Another project of octo-local on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub project: String,
    /// The directory that it was made from.
    pub working_dir: String,
    /// Why it concerns this one.
    pub kinship: Kinship,
}

/// Why another project concerns this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// It was made from the same directory, and its data is here.
    SameDirectory,
    /// Its directory is gone, its secrets are the same, and its data is here: it was moved.
    Moved,
    /// It is wished to run on the very database.
    SameDatabase,
}

/// What is known of another project: its state, whether its directory exists, and what there is.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) struct Known<'a> {
    pub(in crate::daemon) project: &'a str,
    pub(in crate::daemon) stored: &'a Stored,
    pub(in crate::daemon) has_directory: bool,
}

/// Why another project concerns the one that is asked for, if it does.
pub(in crate::daemon) fn kinship(
    known: Known<'_>,
    config: &Config,
    spec: &StackSpec,
    all: &Inventory,
) -> Option<Sibling> {
    let (its_config, its_spec) = (known.stored.config.as_ref()?, known.stored.spec.as_ref()?);
    if its_spec.demo || spec.demo || known.project == spec.project.as_str() {
        return None;
    }
    let data = Data::of(its_spec);
    let has_data = data.is_in(all);
    let same_secrets = its_config.octopus.admin_password == config.octopus.admin_password
        && its_config.sql.as_ref().map(|sql| &sql.sa_password)
            == config.sql.as_ref().map(|sql| &sql.sa_password);
    let kinship = if !data.is_volume() && data == Data::of(spec) && known.stored.is_up() {
        Kinship::SameDatabase
    } else if has_data && its_spec.working_dir == spec.working_dir {
        Kinship::SameDirectory
    } else if has_data && !known.has_directory && same_secrets {
        Kinship::Moved
    } else {
        return None;
    };
    Some(Sibling {
        project: known.project.to_owned(),
        working_dir: its_spec.working_dir.clone(),
        kinship,
    })
}

/// Whether a directory of this machine exists. One that may not be looked at counts as there.
pub(in crate::daemon) fn has_directory(path: &str) -> bool {
    Path::new(path).try_exists().unwrap_or(true)
}

fn label<'a>(thing: &'a Thing, key: &str) -> Option<&'a str> {
    thing.labels.get(key).map(String::as_str)
}

/// What may be ours, each by the rules of its kind: a label alone proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Container,
    Volume,
    Network,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }

    fn is_ours(self, thing: &Thing, project: &ProjectName) -> bool {
        match self {
            // Asked only of one that has a name of ours.
            Self::Container => label(thing, labels::PROJECT) == Some(project.as_str()),
            Self::Volume => ours::is_volume(project, &thing.name, &thing.labels),
            Self::Network => ours::is_network(project, &thing.name, &thing.labels),
        }
    }
}

/// Whether a container is ours. One that was made from an image of ours (`docker commit`) carries our
/// label too, and was found to be none of ours.
pub(in crate::daemon) fn is_our_container(
    thing: &Thing,
    project: &str,
    strangers: &BTreeSet<Stranger>,
) -> bool {
    let is_stranger = strangers.contains(&Stranger::Container(thing.name.clone()));
    label(thing, labels::PROJECT) == Some(project) && !is_stranger
}

fn owner(labels: &BTreeMap<String, String>, asked: &ProjectName) -> String {
    match (labels.get(labels::PROJECT), labels.get(COMPOSE_PROJECT)) {
        (Some(project), _) if project == asked.as_str() => {
            "somebody who gave it this project's label".to_owned()
        }
        (Some(project), _) => format!("octo-local's project {project}"),
        (None, Some(project)) => format!("the compose project {project}"),
        (None, None) => "somebody who gave it no label".to_owned(),
    }
}

/// Everything that has a name which is to be ours, and is not ours.
pub(in crate::daemon) fn foreign(spec: &StackSpec, all: &Inventory) -> Vec<Foreign> {
    let project = &spec.project;
    // Networks are chosen by their ID: a second one of the name is in nobody's way.
    let is_network = |one: &Thing| Kind::Network.is_ours(one, project);
    let has_network = all.networks.iter().any(is_network);
    let is_wanted = |kind: Kind, name: &str| match kind {
        Kind::Container => spec.containers().any(|wanted| wanted.name == name),
        Kind::Volume => spec.our_volumes().any(|wanted| wanted == name),
        Kind::Network => spec.network == name && !has_network,
    };
    things(all)
        .filter(|(kind, thing, _)| is_wanted(*kind, &thing.name) && !kind.is_ours(thing, project))
        .map(|(kind, thing, _)| Foreign {
            kind: kind.name(),
            name: thing.name.clone(),
            owner: owner(&thing.labels, project),
        })
        .collect()
}

/// All things with their kind, and whether each runs.
fn things(all: &Inventory) -> impl Iterator<Item = (Kind, &Thing, bool)> {
    let containers = all.containers.iter();
    let containers = containers.map(|one| (Kind::Container, &one.thing, one.runs));
    let volumes = all.volumes.iter().map(|one| (Kind::Volume, one, false));
    let networks = all.networks.iter().map(|one| (Kind::Network, one, false));
    containers.chain(volumes).chain(networks)
}

/// What is wrong with the networks of others that nodes are to be on: an engine that does not have
/// them.
pub(in crate::daemon) fn missing_networks(spec: &StackSpec, all: &Inventory) -> Vec<Problem> {
    let wanted = spec.nodes.first().into_iter();
    let wanted = wanted.flat_map(|node| &node.networks);
    let is_there = |name: &str| all.networks.iter().any(|network| network.name == name);
    let missing = wanted.filter(|name| !is_there(name));
    let told = missing.map(|name| {
        problem(
            "EXTRA_NETWORKS",
            format!("there is no network {name} on this engine"),
            "bring up what it belongs to first, or correct the name (`docker network ls` shows them)",
        )
    });
    told.collect()
}

/// Running containers of others that use the place of our SQL Server's data.
pub(in crate::daemon) fn volume_users(
    spec: &StackSpec,
    all: &Inventory,
    strangers: &BTreeSet<Stranger>,
) -> Vec<String> {
    let Some(storage) = spec.data() else {
        return Vec::new();
    };
    let uses = all.containers.iter().filter(|one| {
        one.runs
            && one.mounts.contains(storage.source())
            && !is_our_container(&one.thing, spec.project.as_str(), strangers)
    });
    uses.map(|one| one.thing.name.clone()).collect()
}

impl Claims {
    /// What on this engine looks like the project's data: everything of a compose project of its
    /// name, and what nobody labelled and is named as compose names a project's things (its first
    /// version with `_` between the words, its second with `-` for containers).
    pub fn of(project: &ProjectName, all: &Inventory) -> Self {
        let found = things(all).filter(|(kind, thing, _)| {
            match (label(thing, labels::PROJECT), label(thing, COMPOSE_PROJECT)) {
                (Some(_), _) => false,
                (None, Some(compose)) => compose == project.as_str(),
                (None, None) => is_named_as_of(project.as_str(), *kind, &thing.name),
            }
        });
        let told = found.map(|(kind, thing, runs)| {
            let runs = if runs { " (it runs)" } else { "" };
            let owner = owner(&thing.labels, project);
            format!("{} {}{runs} of {owner}", kind.name(), thing.name)
        });
        Self(told.collect())
    }

    /// Some of it by name, and how much more there is.
    pub fn told(&self) -> String {
        let rest = self.0.len().saturating_sub(NAMED);
        let named = &self.0[..self.0.len() - rest];
        let mut text = named.join(", ");
        if rest > 0 {
            text.push_str(&format!(" and {rest} more"));
        }
        text
    }
}

fn is_named_as_of(project: &str, kind: Kind, name: &str) -> bool {
    let rest = name.strip_prefix(project);
    match kind {
        Kind::Container => seen::is_named_as_of(project, name),
        Kind::Volume => rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('_')),
        Kind::Network => rest == Some("_default"),
    }
}

pub(super) fn judge(
    asked: &Asked<'_>,
    stored: &Stored,
    facts: &Facts,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    for foreign in &facts.foreign {
        problems.push(of_foreign(foreign));
    }
    for name in &facts.volume_users {
        problems.push(problem(
            name,
            "this container runs on the SQL data volume; two servers on one volume destroy it",
            "stop it (its data stays), or use another project name with -p",
        ));
    }
    let same_database = |one: &&Sibling| one.kinship == Kinship::SameDatabase;
    for other in facts.siblings.iter().filter(same_database) {
        let Sibling { project, .. } = other;
        problems.push(problem(
            "DB_CONNECTION_STRING",
            format!("octo-local's project {project} of this machine runs on this very database; two stacks on one disturb each other"),
            format!("go on with that one (-p {project}), take it down first, or name another database"),
        ));
    }
    let is_new = asked.config.sql.is_some() && !facts.has_data;
    // Data that was here and is gone is another refusal, and says more.
    if !is_new || stored.had_data(&Data::of(asked.spec)) {
        return;
    }
    if !facts.claims.0.is_empty() && !asked.fresh {
        problems.push(beside(asked, &facts.claims));
    }
    for other in &facts.siblings {
        of_sibling(asked, other, problems, notes);
    }
}

fn of_foreign(foreign: &Foreign) -> Problem {
    let Foreign { kind, name, owner } = foreign;
    let holds = match *kind {
        "container" => "; it may hold data, in it or in its volumes: do not remove it",
        "volume" => "; it may hold data: do not remove it",
        _ => "",
    };
    problem(
        name,
        format!(
            "a {kind} of this name exists that is not octo-local's: it belongs to {owner}{holds}"
        ),
        "`octo-local adopt` takes a compose stack over with its data; or use another project name with -p",
    )
}

/// Data that comes along, or a new database that is meant.
fn beside(asked: &Asked<'_>, claims: &Claims) -> Problem {
    let project = &asked.spec.project;
    let mut told = problem(
        "project name",
        format!(
            "this machine has what looks like this project's data, and `up` would make a new, empty database beside it: {}",
            claims.told()
        ),
        "`octo-local adopt` takes the old stack over with its data, and `octo-local adopt --plan` says how; if a new, empty \
         database is meant: -p NEW, or --fresh",
    );
    told.value = Some(project.to_string());
    told
}

fn of_sibling(
    asked: &Asked<'_>,
    other: &Sibling,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    let Sibling {
        project,
        working_dir,
        kinship,
    } = other;
    let (what, is_meant) = match kinship {
        Kinship::SameDatabase => return,
        Kinship::SameDirectory => ("from this very directory", asked.name_on_purpose),
        Kinship::Moved => (
            "with the same passwords from a directory that is gone",
            false,
        ),
    };
    if is_meant || asked.fresh {
        notes.push(format!(
            "octo-local's project {project} was made {what} and has data of its own: it stays as it is"
        ));
        return;
    }
    let mut told = problem(
        "project name",
        format!(
            "octo-local's project {project} was made {what} ({working_dir}) and has its data here; under this name `up` would \
             make a new, empty database"
        ),
        format!(
            "go on with that one: -p {project}, or COMPOSE_PROJECT_NAME={project} in .env; if a new, empty database is meant: \
             --fresh"
        ),
    );
    told.value = Some(asked.spec.project.to_string());
    problems.push(told);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::inventory::AnyContainer;
    use crate::spec::ContainerSpec;
    use crate::spec::Storage;

    fn thing(name: &str, labels: &[(&str, &str)]) -> Thing {
        Thing {
            name: name.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn what_compose_left_in_either_style_looks_like_the_projects() {
        let ours = ProjectName::given("shop").unwrap();
        let of = |kind: Kind, thing: Thing| {
            let mut all = Inventory::default();
            match kind {
                Kind::Container => all.containers.push(AnyContainer {
                    thing,
                    ..AnyContainer::default()
                }),
                Kind::Volume => all.volumes.push(thing),
                Kind::Network => all.networks.push(thing),
            }
            !Claims::of(&ours, &all).0.is_empty()
        };
        let compose = [(COMPOSE_PROJECT, "shop")];
        let another = [(COMPOSE_PROJECT, "shop_b")];
        let labelled = [(labels::PROJECT, "shop"), (COMPOSE_PROJECT, "shop")];
        for kind in [Kind::Container, Kind::Volume, Kind::Network] {
            assert!(of(kind, thing("whatever", &compose)), "{kind:?}");
            assert!(!of(kind, thing("shop_b_1", &another)), "{kind:?}");
            assert!(!of(kind, thing("shop_db_1", &labelled)), "{kind:?}");
            assert!(!of(kind, thing("other", &[])), "{kind:?}");
        }
        for (kind, name, expected) in [
            (Kind::Container, "shop_db_1", true),
            (Kind::Container, "shop-db-1", true),
            (Kind::Container, "shop-octopus-server-2", true),
            (Kind::Container, "shop-foreign", false),
            (Kind::Container, "shopping_db_1", false),
            (Kind::Container, "shop-1", false),
            (Kind::Volume, "shop_sqlvolume", true),
            (Kind::Volume, "shopping_sqlvolume", false),
            (Kind::Volume, "shop", false),
            (Kind::Network, "shop_default", true),
            (Kind::Network, "shop_front", false),
        ] {
            assert_eq!(of(kind, thing(name, &[])), expected, "{kind:?} {name}");
        }
    }

    #[test]
    fn what_only_carries_our_label_is_in_the_way_of_what_is_to_have_its_name() {
        let spec = StackSpec {
            project: ProjectName::given("shop").unwrap(),
            network: "shop_default".to_owned(),
            volumes: [(
                "sql-data".to_owned(),
                Storage::Ours("shop_sql-data".to_owned()),
            )]
            .into(),
            ..StackSpec::default()
        };
        let label = (labels::PROJECT, "shop");
        let key = ("com.docker.compose.volume", "sql-data");
        let names = |volume: Thing, network: Thing| -> Vec<String> {
            let all = Inventory {
                volumes: vec![volume],
                networks: vec![network, thing("shop_default", &[])],
                ..Inventory::default()
            };
            let foreign = foreign(&spec, &all).into_iter();
            foreign
                .map(|one| format!("{} {}", one.name, one.owner))
                .collect()
        };
        let made_by_hand = thing("shop_sql-data", &[label]);
        let in_the_way = names(made_by_hand, thing("shop_other", &[label]));
        assert_eq!(in_the_way.len(), 2, "{in_the_way:?}");
        assert!(in_the_way[0].contains("somebody who gave it this project's label"));
        let ours = thing("shop_sql-data", &[label, key]);
        assert_eq!(names(ours, thing("shop_default", &[label])), [""; 0]);
    }

    #[test]
    fn a_copy_of_our_container_on_the_data_is_somebody_elses() {
        let volume = "shop_sql-data".to_owned();
        let on_the_data = |name: &str| AnyContainer {
            thing: thing(name, &[(labels::PROJECT, "shop")]),
            runs: true,
            mounts: [volume.clone()].into(),
            ..AnyContainer::default()
        };
        let all = Inventory {
            containers: vec![on_the_data("shop-db-1"), on_the_data("trial")],
            ..Inventory::default()
        };
        let spec = StackSpec {
            project: ProjectName::given("shop").unwrap(),
            sql: Some(ContainerSpec::default()),
            volumes: [("sql-data".to_owned(), Storage::Ours(volume.clone()))].into(),
            ..StackSpec::default()
        };
        let strangers = [Stranger::Container("trial".to_owned())].into();
        assert_eq!(volume_users(&spec, &all, &strangers), ["trial"]);
        assert_eq!(
            volume_users(&spec, &all, &BTreeSet::new()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_message_names_some_and_counts_the_rest() {
        let many = Claims((0..20).map(|number| format!("volume v{number}")).collect());
        assert!(
            many.told().ends_with("volume v11 and 8 more"),
            "{}",
            many.told()
        );
    }
}
