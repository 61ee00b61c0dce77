//! Which containers of a compose project are SQL Server and Octopus Server, and where the data is:
//! by image, by what is mounted where and by the environment, never by a name alone.

use std::collections::BTreeMap;

use super::seen::Mounted;
use super::seen::Seen;
use super::seen::Source;
use crate::config::Problem;
use crate::config::storage::KINDS;
use crate::config::storage::Kind;
use crate::config::storage::Place;
use crate::spec::labels;

/// What of a compose project can be adopted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The compose project.
    pub from: String,
    /// SQL Server.
    pub sql: Seen,
    /// Octopus Server, in compose's order.
    pub nodes: Vec<Seen>,
    /// Where each kind of data is, by its key.
    pub data: BTreeMap<&'static str, Whereabouts>,
}

/// Where a kind of data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Mounted from there: it is used as it is.
    Mounted(Place),
    /// In a container, at this path: it is copied into a volume of the project's own.
    Inside {
        /// The container's ID.
        container: String,
        /// The path.
        path: &'static str,
    },
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Sql,
    Node,
}

/// The variables by which SQL Server is told where its data is.
const DATA_DIRECTORIES: [&str; 4] = [
    "MSSQL_DATA_DIR",
    "MSSQL_LOG_DIR",
    "MSSQL_MASTER_DATA_FILE",
    "MSSQL_MASTER_LOG_FILE",
];

impl Found {
    /// All containers, SQL Server first.
    pub fn containers(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.sql).chain(&self.nodes)
    }

    /// What is to be copied: key, container and path.
    pub fn inside(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        self.data.iter().filter_map(|(key, place)| match place {
            Whereabouts::Inside { container, path } => Some((*key, container.as_str(), *path)),
            Whereabouts::Mounted(_) => None,
        })
    }
}

/// Finds SQL Server and Octopus Server among all containers of an engine, or says why they cannot
/// be adopted.
pub fn find(from: &str, all: &[Seen]) -> Result<Found, Vec<Problem>> {
    let of_project = |one: &&Seen| {
        one.is_of(from) && !one.labels.contains_key(labels::PROJECT) && !one.is_one_off()
    };
    let members: Vec<&Seen> = all.iter().filter(of_project).collect();
    let with = |role: Role| {
        let members = members.iter().filter(move |one| role_of(one) == Some(role));
        let mut found: Vec<Seen> = members.map(|one| (*one).clone()).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    };
    let (sql, nodes) = (with(Role::Sql), with(Role::Node));
    let mut problems = Vec::new();
    count(from, &members, sql.len(), nodes.len(), &mut problems);
    let (Some(sql), true) = (sql.first().cloned(), problems.is_empty()) else {
        return Err(problems);
    };
    let mut found = Found {
        from: from.to_owned(),
        data: BTreeMap::new(),
        sql,
        nodes,
    };
    for kind in &KINDS {
        if let Some(place) = whereabouts(&found, kind, &mut problems) {
            found.data.insert(kind.key, place);
        }
    }
    data_elsewhere(&found.sql, &mut problems);
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

fn count(from: &str, members: &[&Seen], sql: usize, nodes: usize, problems: &mut Vec<Problem>) {
    let known = members.iter().map(|one| one.name.as_str());
    let known: Vec<&str> = known.collect();
    if members.is_empty() {
        problems.push(problem(
            from,
            "this engine has no container of a compose project of this name",
            "name it with --from, as `docker compose ls --all` shows it; where only its volumes are left, `docker compose up \
             --no-start` in its directory makes its containers again and starts nothing",
        ));
        return;
    }
    if sql == 0 {
        problems.push(problem(
            from,
            format!("none of its containers is a SQL Server: {}", known.join(", ")),
            "for a database elsewhere nothing is to be adopted: set SQL_IMAGE= (empty), DB_CONNECTION_STRING and MASTER_KEY, \
             and the places of the files (ARTIFACTS and those beside it), stop the old nodes, then `octo-local up`",
        ));
    }
    if sql > 1 {
        problems.push(problem(
            from,
            "several of its containers are SQL Servers, and nobody knows which one is Octopus Server's",
            "remove the label of the project from the others, by taking them out of the compose file and `docker compose up -d`",
        ));
    }
    if nodes == 0 {
        problems.push(problem(
            from,
            format!("none of its containers is an Octopus Server: {}", known.join(", ")),
            "name the project that has it with --from; `docker compose up --no-start` makes a container that was removed",
        ));
    }
}

/// The last parts of an image's name, without registry, tag and digest.
fn path_of(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let slash = image.rfind('/').map_or(0, |at| at + 1);
    let end = image[slash..]
        .find(':')
        .map_or(image.len(), |at| slash + at);
    &image[..end]
}

fn role_of(one: &Seen) -> Option<Role> {
    let image = path_of(&one.image);
    let mounts = |targets: &[&str]| {
        let mut mounts = one.mounts.iter();
        mounts.any(|mount| targets.contains(&mount.target.as_str()))
    };
    let has = |name: &str| one.variable(name).is_some();
    if image.ends_with("octopusdeploy/tentacle") {
        return None;
    }
    if image.ends_with("octopusdeploy/octopusdeploy") || has("DB_CONNECTION_STRING") {
        return Some(Role::Node);
    }
    let is_sql = image.ends_with("mssql/server")
        || image.ends_with("azure-sql-edge")
        || mounts(&["/var/opt/mssql", "/var/opt/mssql/data"])
        || has("MSSQL_SA_PASSWORD")
        || has("SA_PASSWORD") && has("ACCEPT_EULA");
    if is_sql {
        return Some(Role::Sql);
    }
    mounts(&["/taskLogs", "/repository"]).then_some(Role::Node)
}

/// Where a kind of data is; none for one that nobody has to have.
fn whereabouts(found: &Found, kind: &Kind, problems: &mut Vec<Problem>) -> Option<Whereabouts> {
    let (owner, others) = if kind.of_sql {
        (&found.sql, &[][..])
    } else {
        let (first, others) = found.nodes.split_first()?;
        (first, others)
    };
    let place = place_in(owner, kind, problems);
    let differs = |other: &&Seen| place_in(other, kind, &mut Vec::new()) != place;
    if let Some(other) = others.iter().find(differs) {
        problems.push(problem(
            kind.path,
            format!("{} and {} do not share it", owner.name, other.name),
            "all nodes must mount one and the same: mend that in the compose file first",
        ));
    }
    if matches!(place, Some(Whereabouts::Inside { .. })) && !others.is_empty() {
        problems.push(problem(
            kind.path,
            "each of several nodes has files of its own there, and only one set of them can be taken along",
            "mount one volume there in all nodes first, with the files of all",
        ));
    }
    place
}

fn place_in(one: &Seen, kind: &Kind, problems: &mut Vec<Problem>) -> Option<Whereabouts> {
    let inside = format!("{}/", kind.path);
    let nested = one
        .mounts
        .iter()
        .any(|mount| mount.target.starts_with(&inside));
    let exact = one.mounts.iter().find(|mount| mount.target == kind.path);
    let inside = Whereabouts::Inside {
        container: one.id.clone(),
        path: kind.path,
    };
    match exact {
        Some(Mounted { source, .. }) => match source {
            Source::Volume(_) | Source::Directory(_) if nested => Some(inside),
            Source::Volume(name) => Some(Whereabouts::Mounted(Place::Volume(name.clone()))),
            Source::Directory(path) => Some(Whereabouts::Mounted(Place::Directory(path.clone()))),
            Source::Memory => {
                problems.push(problem(
                    &one.name,
                    format!(
                        "{} is in memory, and gone when the container stops",
                        kind.path
                    ),
                    "copy what is there to a volume first",
                ));
                None
            }
        },
        None if kind.optional => None,
        None => Some(inside),
    }
}

/// Databases outside the place that is taken along would be left behind.
fn data_elsewhere(sql: &Seen, problems: &mut Vec<Problem>) {
    let volume = format!("{}/", KINDS[0].path);
    for name in DATA_DIRECTORIES {
        let path = sql.variable(name).map(|path| path.expose().to_owned());
        if let Some(path) = path.filter(|path| !format!("{path}/").starts_with(&volume)) {
            problems.push(problem(
                name,
                format!("{} keeps data at {path}, outside {volume}", sql.name),
                "move the databases below /var/opt/mssql first (ALTER DATABASE … MODIFY FILE), and leave the variable out",
            ));
        }
    }
}

pub(super) fn problem(key: &str, why: impl Into<String>, fix: impl Into<String>) -> Problem {
    Problem {
        key: key.to_owned(),
        value: None,
        why: why.into(),
        fix: fix.into(),
        origin: None,
    }
}
