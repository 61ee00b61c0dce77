//! Who is on Octopus Server's list of nodes, as far as that is known here: every node that was
//! started enters itself, and stays on it, and in the licence's count, until somebody deletes it
//! there. A node that is no more wanted is taken off by the API where its key is known; else people
//! are told.

use super::Observed;
use super::observed::Container;
use super::record::Durable;
use super::record::Migrated;
use crate::spec::StackSpec;

/// So many names are remembered: 16 nodes, and what they were called before.
const MOST: usize = 64;
impl Durable {
    /// Notes the nodes that run or ran as they are wanted: each entered itself.
    pub(super) fn note_who_started(&mut self, spec: &StackSpec, seen: &Observed) {
        let database = Migrated::name_of_database(spec);
        let started = seen.containers.iter();
        for container in started.filter(|one| one.unit.is_server() && one.instance().is_some()) {
            let wanted = spec.container(container.unit);
            let Some((wanted, name)) = wanted.and_then(|one| Some((one, one.node_name()?))) else {
                continue;
            };
            let is_known = self.roster.get(name) == Some(&database);
            if !is_known && self.roster.len() < MOST && wanted.digest() == container.digest {
                self.roster.insert(name.to_owned(), database.clone());
            }
        }
    }

    /// Those on the list of this stack's database that are no nodes of it any more.
    pub(super) fn who_left<'a>(
        &'a self,
        spec: &'a StackSpec,
    ) -> impl Iterator<Item = &'a String> + 'a {
        let database = Migrated::name_of_database(spec);
        let is_wanted = |name: &str| spec.nodes.iter().any(|one| one.node_name() == Some(name));
        let there = self.roster.iter().filter(move |(_, on)| **on == database);
        there
            .map(|(name, _)| name)
            .filter(move |name| !is_wanted(name))
    }

    /// A person asked for the stack `next` after they were told who is left on the list. Without a
    /// key nobody can ask whether they deleted them since: they are told once.
    pub fn forget_who_was_told(&mut self, before: &StackSpec, next: &StackSpec) {
        if before.api_key().is_none() && next.api_key().is_none() {
            let told: Vec<String> = self.who_left(before).cloned().collect();
            self.roster.retain(|name, _| !told.contains(name));
        }
    }
}

/// Whether no container is there that is none of the wanted nodes: it would enter itself again.
pub(super) fn is_complete(spec: &StackSpec, seen: &Observed) -> bool {
    let is_wanted = |one: &Container| spec.container(one.unit).is_some();
    seen.containers.iter().all(is_wanted)
}
