//! What `up` would do and why, before it does it: the differences between what is wanted, what was
//! applied and what is there.

use serde::Deserialize;
use serde::Serialize;

use super::Desired;
use super::Goal;
use super::Observed;
use super::images;
use super::observed::Container;
use super::plan;
use super::plan::Fit;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::SQL_DATA;
use crate::spec::diff;

/// One change, for people and machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is changed: a container's, network's, volume's or image's name.
    pub name: String,
    /// What happens to it.
    pub what: Step,
    /// Why.
    pub why: Vec<String>,
}

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// An image is fetched.
    Pull,
    /// A backup is made that a rollback can go back to; all nodes finish their tasks and rest meanwhile.
    BackUp,
    /// It is made.
    Create,
    /// A container is replaced by a new one.
    Recreate,
    /// A container is started.
    Start,
    /// It stops, is not replaced, and comes back when its turn comes.
    Restart,
    /// It is stopped and removed.
    Remove,
}

fn missing_volumes(wanted: &StackSpec, seen: &Observed) -> impl Iterator<Item = Change> {
    let volumes = wanted.volumes.iter();
    let ours = volumes.filter_map(|(key, storage)| Some((key, storage.ours()?)));
    let missing = ours.filter(|(_, name)| !seen.volumes.contains(*name));
    missing.map(|(key, name)| {
        let is_database = key == SQL_DATA && wanted.sql.is_some();
        let why = if is_database {
            "there is no such volume: the database will be new and empty"
        } else {
            "there is no such volume"
        };
        change(name, Step::Create, why)
    })
}

/// All changes, in the order in which they begin. `refetch`: images are fetched although they are
/// there.
pub fn changes(
    applied: Option<&StackSpec>,
    wanted: &StackSpec,
    seen: &Observed,
    refetch: bool,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let present = wanted
        .images()
        .into_iter()
        .filter(|image| refetch && seen.images.contains_key(*image));
    changes.extend(present.map(|image| change(image, Step::Pull, "it is fetched at every `up`")));
    let after = once_it_begins(wanted, seen);
    let containers: Vec<Change> = wanted
        .containers()
        .filter_map(|container| of_container(applied, container, &after, seen))
        .collect();
    let is_made = |change: &Change| matches!(change.what, Step::Create | Step::Recreate);
    let is_made = |one: &ContainerSpec| {
        containers
            .iter()
            .any(|change| change.name == one.name && is_made(change))
    };
    let needed = images::needed(wanted, seen, |one, _| is_made(one));
    let is_fetched = |image: &&str| refetch || needed.contains(image);
    let missing_images = wanted
        .images()
        .into_iter()
        .filter(|image| !seen.images.contains_key(*image))
        .filter(is_fetched);
    changes.extend(
        missing_images.map(|image| change(image, Step::Pull, "the engine does not have it")),
    );
    if seen.networks.is_empty() {
        changes.push(change(
            &wanted.network,
            Step::Create,
            "there is no such network",
        ));
    }
    changes.extend(missing_volumes(wanted, seen));
    let surplus = seen
        .containers
        .iter()
        .filter(|container| wanted.container(container.unit).is_none());
    changes.extend(surplus.map(|container| {
        change(
            &container.name,
            Step::Remove,
            "the configuration has no such unit",
        )
    }));
    let sql_is_replaced = replaces(&containers, wanted.sql.as_ref());
    let nodes_change_image = changes_image(wanted, seen);
    changes.extend(containers.iter().cloned());
    for node in &wanted.nodes {
        let untouched = !containers.iter().any(|change| change.name == node.name);
        if untouched && (sql_is_replaced || nodes_change_image) {
            let why = if sql_is_replaced {
                "SQL Server is replaced under it"
            } else {
                "all nodes change version together"
            };
            changes.push(change(&node.name, Step::Restart, why));
        }
    }
    changes
}

fn change(name: &str, what: Step, why: &str) -> Change {
    Change {
        name: name.to_owned(),
        what,
        why: vec![why.to_owned()],
    }
}

fn replaces(changes: &[Change], container: Option<&ContainerSpec>) -> bool {
    container.is_some_and(|container| {
        changes
            .iter()
            .any(|change| change.name == container.name && change.what == Step::Recreate)
    })
}

/// What becomes of Tentacles that are there, where these two are the stack with its Tentacles before
/// and after. None is made by this: each is made when it is added.
pub fn changes_of_tentacles(before: &StackSpec, after: &StackSpec, seen: &Observed) -> Vec<Change> {
    let of = |container: &Container| {
        let known = before.container(container.unit);
        match (known, after.container(container.unit)) {
            (_, Some(wanted)) if wanted.digest() != container.digest => Some(Change {
                name: wanted.name.clone(),
                what: Step::Recreate,
                why: why_replaced(Some(before), wanted, container, seen),
            }),
            (Some(known), None) => Some(change(
                &known.name,
                Step::Remove,
                "there is no ADMIN_API_KEY any more, with which it registers",
            )),
            (_, Some(_)) | (None, None) => None,
        }
    };
    seen.tentacles.iter().filter_map(of).collect()
}

fn changes_image(wanted: &StackSpec, seen: &Observed) -> bool {
    let Some(wanted) = wanted.nodes.first() else {
        return false;
    };
    let mut nodes = seen
        .containers
        .iter()
        .filter(|container| container.unit != UnitId::Sql);
    let id = seen.images.get(&wanted.image);
    nodes.any(|node| node.is_running() && node.is_of_another_version(&wanted.image, id))
}

/// What `up` works towards and what it finds once it began: every reference stands for the image
/// that it names now, nothing is stopped on purpose, and there is a network.
fn once_it_begins(wanted: &StackSpec, seen: &Observed) -> (Desired, Observed) {
    let desired = Desired {
        spec: Some(wanted.clone()),
        goal: Goal::Up,
        images: seen.images.clone(),
        ..Desired::default()
    };
    let mut found = seen.clone();
    if found.networks.is_empty() {
        found.networks = [(String::new(), wanted.network.clone())].into();
    }
    (desired, found)
}

/// What happens to the container of a unit, as the planner judges how well it fits.
fn of_container(
    applied: Option<&StackSpec>,
    wanted: &ContainerSpec,
    (desired, found): &(Desired, Observed),
    seen: &Observed,
) -> Option<Change> {
    let Some(container) = seen.container(wanted.unit) else {
        return Some(change(
            &wanted.name,
            Step::Create,
            "there is no such container",
        ));
    };
    match plan::fit_of(desired, found, container) {
        Fit::Replace => Some(Change {
            name: wanted.name.clone(),
            what: Step::Recreate,
            why: why_replaced(applied, wanted, container, seen),
        }),
        Fit::Right | Fit::Restart | Fit::Broken(_) | Fit::Surplus | Fit::Halted | Fit::Resting => {
            (!container.is_running()).then(|| change(&wanted.name, Step::Start, "it does not run"))
        }
    }
}

/// The differences, where the definition that a container was made from is still known; else its
/// image, if that is another.
fn why_replaced(
    applied: Option<&StackSpec>,
    wanted: &ContainerSpec,
    container: &Container,
    seen: &Observed,
) -> Vec<String> {
    if container.digest == wanted.digest() {
        let now = seen.images.get(&wanted.image);
        let is_of_another =
            now.is_some_and(|id| !container.image_id.is_empty() && *id != container.image_id);
        let why = if is_of_another {
            "its image's reference stands for another image now"
        } else {
            "its network is gone, so it could not start"
        };
        return vec![why.to_owned()];
    }
    let before = applied.and_then(|spec| spec.container(wanted.unit));
    let before = before.filter(|before| before.digest() == container.digest);
    let why = before.map(|before| diff::reasons(before, wanted));
    if let Some(why) = why.filter(|why| !why.is_empty()) {
        return why;
    }
    // One whose tag moved carries an ID in the place of the reference.
    let is_named = !container.image.is_empty() && container.image != container.image_id;
    if is_named && container.image != wanted.image {
        return vec![format!("image {} -> {}", container.image, wanted.image)];
    }
    vec!["it was made from another definition".to_owned()]
}
