//! Which images something is still to be made of. A container runs well although its image's
//! reference is gone: only what is needed is fetched, waited for, and called missing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::observed::Container;
use super::observed::Observed;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;

/// The references that a container is to be made of, as `is_made` says of what is wanted and what
/// is there; and those whose containers are of different images, so that one is to be replaced.
pub fn needed<'a>(
    spec: &'a StackSpec,
    seen: &Observed,
    is_made: impl Fn(&ContainerSpec, Option<&Container>) -> bool,
) -> BTreeSet<&'a str> {
    let mut used: BTreeMap<&str, &str> = BTreeMap::new();
    let mut needed = BTreeSet::new();
    for wanted in spec.containers() {
        let container = seen.container(wanted.unit);
        let id = container
            .map(|one| one.image_id.as_str())
            .filter(|id| !id.is_empty());
        let mut differs = || id.is_some_and(|id| *used.entry(&wanted.image).or_insert(id) != id);
        if is_made(wanted, container) || differs() {
            needed.insert(wanted.image.as_str());
        }
    }
    needed
}

/// The image that a reference stands for by what runs: the one of all running containers that are
/// as they are wanted.
pub fn running(spec: &StackSpec, seen: &Observed, reference: &str) -> Option<String> {
    let made_of_it = |one: &&Container| {
        let wanted = spec
            .container(one.unit)
            .filter(|wanted| wanted.image == reference);
        wanted.is_some_and(|wanted| {
            one.is_running() && !one.image_id.is_empty() && one.digest == wanted.digest()
        })
    };
    let ids: BTreeSet<&str> = seen
        .containers
        .iter()
        .filter(made_of_it)
        .map(|one| one.image_id.as_str())
        .collect();
    ids.first()
        .filter(|_| ids.len() == 1)
        .map(|id| (*id).to_owned())
}
