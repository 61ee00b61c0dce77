//! What the engine gave to the old containers besides: further mounts, host names, limits. What can
//! be said in `.env` comes along, and the rest is named.

use std::str::FromStr;

use super::found::Found;
use super::seen::Mounted;
use super::seen::Seen;
use super::seen::Source;
use crate::config::limits::Memory;
use crate::config::limits::Processors;
use crate::config::mounts::ExtraHost;
use crate::config::mounts::ExtraMount;
use crate::config::mounts::Refusal;
use crate::config::storage::KINDS;

/// What counts of it from then on: variables and their values.
pub(super) fn told(found: &Found) -> Vec<(&'static str, String)> {
    let Some(node) = found.nodes.first() else {
        return Vec::new();
    };
    let mounts = node.mounts.iter();
    let mounts = mounts.filter_map(|mount| comes_along(found, node, mount));
    let lists = [
        ("EXTRA_MOUNTS", list(mounts)),
        ("EXTRA_HOSTS", list(hosts(node).flatten())),
    ];
    let sql = &found.sql;
    let limits = [
        ("OCTOPUS_MEMORY", said(&Memory(node.memory))),
        ("OCTOPUS_CPUS", said(&Processors(node.nano_cpus))),
        ("SQL_MEMORY", said(&Memory(sql.memory))),
        ("SQL_CPUS", said(&Processors(sql.nano_cpus))),
    ];
    let limits = limits.map(|(key, limit)| (key, limit.unwrap_or_default()));
    lists.into_iter().chain(limits).collect()
}

/// What does not come along.
pub(super) fn notes(found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    for one in found.containers() {
        let is_sql = one.id == found.sql.id;
        for mount in &one.mounts {
            let is_taken = !is_sql && comes_along(found, one, mount).is_some();
            if !is_taken && !is_known(is_sql, &mount.target) {
                notes.push(format!(
                    "{} mounts {}, which is not taken along; the old container keeps it",
                    one.name, mount.target
                ));
            }
        }
        let strange = hosts(one).filter(|host| is_sql || host.is_err()).count();
        if strange > 0 {
            notes.push(format!(
                "{} knows {strange} more host names, which are not taken along",
                one.name
            ));
        }
    }
    let mut all = found.nodes.iter();
    let of = |node: &Seen| (node.memory, node.nano_cpus, node.extra_hosts.clone());
    if let Some(first) = all.next()
        && let Some(other) = all.find(|node| of(node) != of(first))
    {
        notes.push(format!(
            "{} and {} have other limits or host names: those of {} count for all nodes",
            first.name, other.name, first.name
        ));
    }
    notes
}

fn list<T: ToString>(all: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = all.map(|one| one.to_string()).collect();
    all.join(",")
}

/// A mount of a node that every node has, and that can be said in `.env`.
fn comes_along(found: &Found, node: &Seen, mount: &Mounted) -> Option<ExtraMount> {
    let source = match &mount.source {
        Source::Volume(name) if !has_no_name(name) => name,
        Source::Directory(path) if path.starts_with('/') => path,
        Source::Volume(_) | Source::Directory(_) | Source::Memory => return None,
    };
    let is_everywhere = found.nodes.iter().all(|node| node.mounts.contains(mount));
    // A list cannot hold it.
    let is_one = !source.contains([',', '\n']) && !mount.target.contains([',', '\n']);
    if is_known(false, &mount.target) || !is_everywhere || !is_one {
        return None;
    }
    let mode = if mount.read_only { "ro" } else { "rw" };
    let read = ExtraMount::parse(&format!("{source}:{}:{mode}", mount.target)).ok()?;
    let fits = !node.privileged || !read.meets_the_inner_engine();
    fits.then_some(read)
}

/// The engine names a volume by 64 digits where nobody did.
fn has_no_name(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|one| one.is_ascii_hexdigit())
}

fn hosts(one: &Seen) -> impl Iterator<Item = Result<ExtraHost, Refusal>> {
    one.extra_hosts.iter().map(|text| ExtraHost::parse(text))
}

/// A limit as `.env` has it; none where there is none.
fn said<T: FromStr + ToString>(limit: &T) -> Option<String> {
    let shown = limit.to_string();
    let is_one = shown.parse::<T>().is_ok();
    is_one.then_some(shown)
}

/// Whether what is mounted there is data that is taken along, or is made anew anyway: a cache, and
/// the images of Docker-in-Docker.
fn is_known(is_sql: bool, target: &str) -> bool {
    let within = |path: &str| target == path || target.starts_with(&format!("{path}/"));
    let kinds = KINDS.iter().filter(|kind| kind.of_sql == is_sql);
    kinds.map(|kind| kind.path).any(within)
        || ["/cache", "/var/lib/docker"]
            .iter()
            .any(|path| within(path))
}
