//! Which master key nodes get. A key binds only where a node came up with it; one that is kept is
//! used again, whatever the data looks like, since the backups need it.

use super::Asked;
use super::Facts;
use super::MasterKey;
use super::problem;
use crate::config::Problem;
use crate::config::Secret;
use crate::daemon::store::Data;
use crate::daemon::store::Key;
use crate::daemon::store::Stored;

/// The key, or none and the reason.
pub(super) fn choose(
    asked: &Asked<'_>,
    stored: &Stored,
    facts: &Facts,
    problems: &mut Vec<Problem>,
) -> Option<MasterKey> {
    let data = Data::of(asked.spec);
    let is_new = facts.makes_database(asked.config);
    let bound = bound(stored, facts, &data).filter(|_| is_new != Some(true));
    match (&asked.config.octopus.master_key, bound) {
        (Some(given), Some(bound)) if given != bound => {
            problems.push(problem(
                "MASTER_KEY",
                format!("a node came up with another one on this database ({data}), so this one cannot decrypt it"),
                "set it back or leave it out: octo-local keeps the right one",
            ));
            return None;
        }
        (Some(given), _) => return Some(MasterKey::Known(given.clone())),
        (None, Some(bound)) => return Some(MasterKey::Known(bound.clone())),
        (None, None) => {}
    }
    if let Some(kept) = kept(stored, facts, &data, is_new) {
        return Some(MasterKey::Known(kept.clone()));
    }
    match is_new {
        Some(true) => return Some(MasterKey::Generate),
        Some(false) => problems.push(problem(
            "MASTER_KEY",
            format!("there is a database, and nothing knows the key that it was encrypted with ({data})"),
            "set MASTER_KEY from your backup, or from an old container with `show-master-key`; or use another project name \
             with -p for a new, empty database",
        )),
        None => problems.push(problem(
            "MASTER_KEY",
            "the external database does not answer, so nobody can say whether it has a key already",
            "set MASTER_KEY, or start that server first",
        )),
    }
    None
}

/// The key that a node came up with on this data: no other one can be right.
fn bound<'a>(stored: &'a Stored, facts: &'a Facts, data: &Data) -> Option<&'a Secret> {
    let proven = stored.keys.proven_for(data).map(|known| &known.key);
    let serving = facts.node.key.as_ref().filter(|node| node.serves);
    proven.or(serving.map(|node| &node.key))
}

/// A key that may be used unasked where none is bound and none was given. A given key that no node
/// came up with may be a wrong one: it is not used again for data that exists.
fn kept<'a>(
    stored: &'a Stored,
    facts: &'a Facts,
    data: &Data,
    is_new: Option<bool>,
) -> Option<&'a Secret> {
    let made = stored.keys.made_for(data);
    // Keys of data that is gone, or of another database that this one may be a restored backup of.
    let current = stored.keys.current.as_ref();
    let is_trusted = |known: &&Key| known.generated || known.proven;
    let reused = current.filter(is_trusted).filter(|_| is_new == Some(true));
    let of_node = facts.node.key.as_ref().map(|node| &node.key);
    let is_unheard_of =
        |key: &&Secret| stored.keys.find(key).is_none_or(|known| is_trusted(&known));
    made.or(reused)
        .map(|known| &known.key)
        .or(of_node.filter(is_unheard_of))
}
