//! What the old containers say that the `.env` does not: it counts from the adoption on wherever the
//! `.env` says nothing else. Where both speak of the data and disagree, nothing is adopted.

use std::collections::BTreeMap;

use super::containers;
use super::found::Found;
use super::found::Whereabouts;
use super::found::problem;
use super::seen::Published;
use super::seen::Seen;
use crate::config::Problem;
use crate::config::Secret;
use crate::config::ado::ConnectionString;
use crate::config::image::ImageRef;
use crate::config::image::is_same;
use crate::config::keys;
use crate::config::storage::KINDS;
use crate::config::vendor;
use crate::config::vendor::Vendor;

/// The ports that octo-local publishes: of nodes, and of SQL Server.
const WEB: u16 = 8080;
const POLLING: u16 = 10943;
const GRPC: u16 = 8443;
const SQL: u16 = 1433;
/// Variables that mean the same in a node's container and in the `.env`.
const OF_NODES: [&str; 9] = [
    "OCTOPUS_SERVER_NODE_NAME",
    "DB_CONNECTION_STRING",
    "ADMIN_USERNAME",
    "ADMIN_PASSWORD",
    "ADMIN_EMAIL",
    "ADMIN_API_KEY",
    "OCTOPUS_SERVER_BASE64_LICENSE",
    "DISABLE_DIND",
    "TASK_CAP",
];
/// Networks that are everybody's.
const BUILT_IN: [&str; 4] = ["bridge", "host", "none", "default"];

/// Variables by name.
pub type Variables = BTreeMap<String, Secret>;

/// What the containers say, the master key aside.
pub fn told(found: &Found) -> Variables {
    let mut told = Variables::new();
    let Some(node) = found.nodes.first() else {
        return told;
    };
    of_sql(&found.sql, &mut told);
    of_node(found, node, &mut told);
    let more = containers::told(found).into_iter();
    told.extend(more.map(|(key, value)| (key.to_owned(), Secret::new(value))));
    for kind in &KINDS {
        if let Some(Whereabouts::Mounted(place)) = found.data.get(kind.key) {
            told.insert(kind.variable.to_owned(), Secret::new(place.to_string()));
        }
    }
    told.retain(|_, value| !value.is_empty());
    told
}

/// What is to count beside the `.env`: what that does not say.
pub fn missing(told: &Variables, given: &BTreeMap<String, String>) -> Variables {
    let is_told = |key: &str| {
        let value = given.get(key);
        // Empty, this one says that the database is somebody else's.
        value.is_some_and(|value| !value.is_empty() || key == "SQL_IMAGE")
    };
    let alias = |key: &str| key == "SA_PASSWORD" && is_told("MSSQL_SA_PASSWORD");
    let open = told.iter().filter(|(key, _)| !is_told(key) && !alias(key));
    open.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Where the `.env` and the containers disagree about what data and versions are bound to.
pub fn conflicts(
    found: &Found,
    told: &Variables,
    given: &BTreeMap<String, String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let given = |key: &str| {
        given
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    };
    let told = |key: &str| told.get(key).map(Secret::expose);
    if let (Some(ours), Some(theirs)) =
        (given("DB_CONNECTION_STRING"), told("DB_CONNECTION_STRING"))
        && let (Ok(ours), Ok(theirs)) = (
            ConnectionString::parse(ours),
            ConnectionString::parse(theirs),
        )
        && !ours.database.eq_ignore_ascii_case(&theirs.database)
    {
        problems.push(problem(
            "DB_CONNECTION_STRING",
            format!(
                "it names the database {}, and the running stack uses {}",
                ours.database, theirs.database
            ),
            format!("write Database={} in it, or leave it out", theirs.database),
        ));
    }
    if let (Some(ours), Some(theirs)) = (given("MASTER_KEY"), told("MASTER_KEY"))
        && ours != theirs
    {
        problems.push(problem(
            "MASTER_KEY",
            "it is another one than the old stack's, and cannot decrypt its database",
            "leave it out: it is taken from the old stack, and kept",
        ));
    }
    let image = &found.sql.image;
    let differs = given("SQL_IMAGE").is_some_and(|ours| !is_same(ours, image));
    if differs && !is_id(image) {
        problems.push(another_version("SQL_IMAGE", image));
    }
    if let Some(node) = found.nodes.first().filter(|node| !is_id(&node.image)) {
        let (name, tag) = (
            given("OCTOPUS_IMAGE")
                .or(told("OCTOPUS_IMAGE"))
                .unwrap_or_default(),
            given("OCTOPUS_SERVER_TAG")
                .or(told("OCTOPUS_SERVER_TAG"))
                .unwrap_or_default(),
        );
        let separator = if tag.starts_with('@') { "" } else { ":" };
        if !is_same(&format!("{name}{separator}{tag}"), &node.image) {
            problems.push(another_version("OCTOPUS_SERVER_TAG", &node.image));
        }
    }
    problems.extend(conflicting_places(found, &given));
    problems
}

/// Where the `.env` has data in another place than the containers have it.
fn conflicting_places<'a>(found: &Found, given: &impl Fn(&str) -> Option<&'a str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for kind in &KINDS {
        let Some(ours) = given(kind.variable) else {
            continue;
        };
        match found.data.get(kind.key) {
            Some(Whereabouts::Mounted(place)) if place.to_string() != ours => {
                problems.push(problem(
                    kind.variable,
                    format!("it is {ours}, and the running stack has that data in {place}"),
                    "leave it out",
                ));
            }
            Some(Whereabouts::Inside { .. }) => problems.push(problem(
                kind.variable,
                format!("that data is in the old container itself, and is copied into a volume of octo-local's, not to {ours}"),
                "leave it out",
            )),
            Some(Whereabouts::Mounted(_)) | None => {}
        }
    }
    problems
}

fn another_version(key: &str, image: &str) -> Problem {
    problem(
        key,
        format!(
            "the old stack runs {image}: adopting changes no version, so that there is a way back"
        ),
        "set it to that one, or leave it out; change it after the adoption, with `octo-local up`",
    )
}

/// A reference whose tag was moved is shown as an ID.
fn is_id(image: &str) -> bool {
    image.starts_with("sha256:") || image.is_empty()
}

fn of_sql(sql: &Seen, told: &mut Variables) {
    let mut put = |key: &str, value: Option<&Secret>| {
        if let Some(value) = value {
            told.insert(key.to_owned(), value.clone());
        }
    };
    put(
        "SA_PASSWORD",
        sql.variable("MSSQL_SA_PASSWORD")
            .or(sql.variable("SA_PASSWORD")),
    );
    put("ACCEPT_EULA", sql.variable("ACCEPT_EULA"));
    put("MSSQL_PID", sql.variable("MSSQL_PID"));
    put("SQL_MEMORY_LIMIT_MB", sql.variable("MSSQL_MEMORY_LIMIT_MB"));
    if !is_id(&sql.image) {
        put("SQL_IMAGE", Some(&Secret::new(&sql.image)));
    }
    vendors(sql, vendor::SQL, told);
    published(sql, SQL, ("SQL_PORT", Some("SQL_BIND_ADDRESS")), told);
}

fn of_node(found: &Found, node: &Seen, told: &mut Variables) {
    for name in OF_NODES {
        if let Some(value) = node.variable(name) {
            told.insert(name.to_owned(), value.clone());
        }
    }
    vendors(node, vendor::OCTOPUS, told);
    let mut put = |key: &str, value: String| {
        told.insert(key.to_owned(), Secret::new(value));
    };
    if let Some(value) = node.variable("ACCEPT_EULA") {
        put("ACCEPT_OCTOPUS_EULA", value.expose().to_owned());
    }
    if let Ok(image) = ImageRef::parse(&node.image)
        && !is_id(&node.image)
    {
        let tag = match (image.tag, image.digest) {
            (tag, Some(digest)) => format!("{}@{digest}", tag.unwrap_or_default()),
            (tag, None) => tag.unwrap_or_else(|| "latest".to_owned()),
        };
        put("OCTOPUS_IMAGE", image.name);
        put("OCTOPUS_SERVER_TAG", tag);
    }
    if !node.privileged {
        put("DISABLE_DIND", "Y".to_owned());
    }
    put("CONTAINER_USER", node.user.clone());
    if found.nodes.len() > 1 {
        put("OCTOPUS_NODES", found.nodes.len().to_string());
    }
    let own = format!("{}_", found.from);
    let others = node.networks.keys();
    let others =
        others.filter(|name| !name.starts_with(&own) && !BUILT_IN.contains(&name.as_str()));
    put(
        "EXTRA_NETWORKS",
        others.cloned().collect::<Vec<_>>().join(","),
    );
    published(node, WEB, ("OCTOPUS_PORT", Some("BIND_ADDRESS")), told);
    let polling = (
        "OCTOPUS_POLLING_PORT_BASE",
        Some("OCTOPUS_POLLING_BIND_ADDRESS"),
    );
    published(node, POLLING, polling, told);
    published(node, GRPC, ("OCTOPUS_GRPC_PORT", None), told);
}

/// The vendors' variables that octo-local hands on.
fn vendors(one: &Seen, rows: &[Vendor], told: &mut Variables) {
    for row in rows {
        if let Some(value) = one.variable(row.name)
            && row.rule.refusal(value.expose()).is_none()
        {
            told.insert(row.name.to_owned(), value.clone());
        }
    }
}

/// The first address at which a port of a container is published.
fn published_at(one: &Seen, container: u16) -> Option<(u16, &str)> {
    let of = |published: &Published| {
        let host = published.host?;
        (published.container == container).then_some(host)
    };
    let mut all = one.published.iter();
    all.find_map(|published| Some((of(published)?, published.ip.as_str())))
}

fn published(
    one: &Seen,
    container: u16,
    (port, address): (&str, Option<&str>),
    told: &mut Variables,
) {
    let Some((number, ip)) = published_at(one, container) else {
        return;
    };
    told.insert(port.to_owned(), Secret::new(number.to_string()));
    let everywhere = if ip.is_empty() { "0.0.0.0" } else { ip };
    if let Some(address) = address {
        told.insert(address.to_owned(), Secret::new(everywhere));
    }
}

/// Where Tentacles that poll reach a node from now on, where the old one was reached elsewhere:
/// node N has the Nth port from the first node's on.
fn polling_that_moves(found: &Found) -> impl Iterator<Item = String> {
    let of = |node| published_at(node, POLLING).map(|(port, _)| port);
    let first = found.nodes.first().and_then(of);
    let nodes = found.nodes.iter().enumerate();
    nodes.filter_map(move |(place, node)| {
        let before = of(node)?;
        let now = u32::from(first?) + u32::try_from(place).ok()?;
        (u32::from(before) != now).then(|| {
            format!(
                "Tentacles that poll {} reach it on port {before}, and will reach it on {now}: register them again",
                node.name
            )
        })
    })
}

/// What a person should know before: what octo-local does otherwise than the old stack.
pub fn notes(found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    for one in found.containers() {
        let known: &[u16] = if one.id == found.sql.id {
            &[SQL]
        } else {
            &[WEB, POLLING, GRPC]
        };
        let published = one.published.iter().map(|port| port.container);
        let unknown = published.filter(|port| !known.contains(port));
        notes.extend(unknown.map(|port| {
            format!(
                "{} publishes port {port} of its container, and octo-local does not: nobody will reach it",
                one.name
            )
        }));
    }
    notes.extend(containers::notes(found));
    notes.extend(polling_that_moves(found));
    if !found.sql.user.is_empty() {
        notes.push(format!(
            "{} runs as user {}, and octo-local runs SQL Server as its image's: the data must belong to that one",
            found.sql.name, found.sql.user
        ));
    }
    for node in &found.nodes {
        if node.variable("MASTER_KEY").is_none() {
            notes.push(format!(
                "{} was made without MASTER_KEY: it may not start again on the way back; put MASTER_KEY into the compose file, and \
                 `docker compose up -d`, before the adoption where that matters",
                node.name
            ));
        }
    }
    for (number, node) in found.nodes.iter().enumerate().skip(1) {
        let first = found.nodes[0]
            .variable("OCTOPUS_SERVER_NODE_NAME")
            .map_or("octopus", Secret::expose);
        let wanted = format!("{first}-{}", number + 1);
        let name = node
            .variable("OCTOPUS_SERVER_NODE_NAME")
            .map_or("", Secret::expose);
        if name != wanted {
            notes.push(format!("node {name} is called {wanted} from then on; delete {name} in Octopus (Configuration, Nodes)"));
        }
    }
    notes
}

/// A variable and its value as it may be shown.
pub fn shown(variables: &Variables) -> impl Iterator<Item = String> {
    variables
        .iter()
        .map(|(key, value)| format!("{key}={}", keys::shown(key, value.expose())))
}
