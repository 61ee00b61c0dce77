//! Whether a set may be restored here: everything that speaks against it, before anything is
//! overwritten. Pure.

use super::manifest::Database;
use super::manifest::Manifest;
use super::secrets;
use crate::backup::manifest::Kind;
use crate::backup::progress::size;
use crate::config::Secret;
use crate::config::project::ProjectName;

/// What is here, and what is wished.
#[derive(Clone, Debug)]
pub struct Here<'a> {
    /// The project that would be restored.
    pub project: &'a ProjectName,
    /// Whether it is a demo, whose stand-ins read only a demo's data.
    pub demo: bool,
    /// Whether the database is somebody else's.
    pub is_external: bool,
    /// Whether there is data that would be replaced.
    pub has_data: bool,
    /// The tag of Octopus Server that would run on what is restored.
    pub tag: &'a str,
    /// The master key that nodes would get: given, or kept for the data that is here.
    pub master_key: Option<&'a Secret>,
    /// The master key that the set brings, where it could be read.
    pub key_of_set: Option<&'a Secret>,
    /// Bytes that are free where SQL Server keeps its data; none where nobody could tell.
    pub free: Option<u64>,
    /// Bytes of the database that is replaced and kept until the stack is ready; zero where none is.
    pub kept: u64,
    /// Whether a person wishes it in spite of what `--force` overrules.
    pub force: bool,
}

/// The way to a key that a set does not bring: data that is here has its own, and keeps it.
const KEY_FIRST: &str = "restore it into a project of its own (`-p NAME`) whose .env has the key of the set's stack as MASTER_KEY before its first `octo-local up`";

/// Why a set is not restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A demo's data for a real stack, or the other way round.
    #[error("the set is {0}'s and this stack is not; only that kind of server reads its data")]
    OtherKind(&'static str),
    /// It is of another project.
    #[error("the set is of project {0}; restore it here with --force if that is what you want")]
    OtherProject(ProjectName),
    /// There is data, which is newer.
    #[error(
        "this project has data, which is newer than the set and would be replaced; back it up first, then use --force"
    )]
    HasData,
    /// The nodes would be older than the data.
    #[error(
        "the set was made by Octopus Server {set}, and {here} would run on it; a database cannot go back: set OCTOPUS_SERVER_TAG to {set} or newer"
    )]
    OlderServer {
        /// The set's tag.
        set: String,
        /// This stack's.
        here: String,
    },
    /// The master key that was given does not open the data, and the set brings one.
    #[error(
        "MASTER_KEY is not the key of this data: leave it out of .env and `octo-local up`, so that it counts no more and the one in the set is taken"
    )]
    WrongKey,
    /// The master key that is here does not open the data, and the set brings none.
    #[error(
        "the set brings no master key, and the one that counts here is not the key of its data: {}",
        KEY_FIRST
    )]
    OtherKey,
    /// The master key that the set brings does not open its data.
    #[error(
        "the master key that the set brings is not the key of its data: {}",
        KEY_FIRST
    )]
    WrongKeyInSet,
    /// Nobody has the key.
    #[error(
        "the set brings no master key, and MASTER_KEY is not set; without the key the data cannot be read: {}",
        KEY_FIRST
    )]
    NoKey,
    /// The backup file and the volumes do not fit.
    #[error("about {} are needed on the engine's disk, and {} are free; make room", size(*needed), size(*free))]
    NoRoom {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// They would fit if what is replaced were not kept.
    #[error("about {} are needed on the engine's disk, {} of them to keep the database that is replaced until the stack is ready, and {} are free; make room, or give up what is replaced: --discard", size(*needed), size(*kept), size(*free))]
    NoRoomToKeep {
        /// Bytes that are needed.
        needed: u64,
        /// Those of them for what is replaced.
        kept: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The set has no database, and there is one of ours to restore.
    #[error("the set has no database ({0}); restore it into a project whose database is external")]
    NoDatabase(String),
    /// The set has a database, and the one here is not ours to overwrite.
    #[error(
        "the database here is somebody else's and is never overwritten; restore the set into a project with a SQL Server of its own"
    )]
    ExternalDatabase,
}

impl Refusal {
    /// Whether `--force` overrules it. What would only make data that nobody can read is refused in
    /// any case.
    pub fn yields_to_force(&self) -> bool {
        matches!(self, Self::OtherProject(_) | Self::HasData)
    }
}

/// Everything that speaks against restoring a set here.
pub fn refusals(manifest: &Manifest, here: &Here<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if manifest.demo != here.demo {
        let kind = if manifest.demo {
            "a demo"
        } else {
            "a real stack"
        };
        refusals.push(Refusal::OtherKind(kind));
    }
    if manifest.project != *here.project {
        refusals.push(Refusal::OtherProject(manifest.project.clone()));
    }
    if here.has_data {
        refusals.push(Refusal::HasData);
    }
    refusals.extend(older(manifest, here));
    refusals.extend(key(manifest, here));
    refusals.extend(room(manifest, here));
    match (&manifest.database, here.is_external) {
        (Database::Missing { why }, false) => refusals.push(Refusal::NoDatabase(why.clone())),
        (Database::Included { .. }, true) => refusals.push(Refusal::ExternalDatabase),
        _ => {}
    }
    refusals.retain(|refusal| !(here.force && refusal.yields_to_force()));
    refusals
}

/// All that is told of a set that is refused: what is wrong with its bytes, then what speaks
/// against it here. Of one that cannot be opened nobody knows what key it brings.
pub fn reasons(faults: &[String], refusals: &[Refusal]) -> Vec<String> {
    let is_of_key = |refusal: &Refusal| matches!(refusal, Refusal::NoKey | Refusal::OtherKey);
    let counts = |refusal: &&Refusal| faults.is_empty() || !is_of_key(refusal);
    let told = refusals.iter().filter(counts).map(ToString::to_string);
    faults.iter().cloned().chain(told).collect()
}

fn older(manifest: &Manifest, here: &Here<'_>) -> Option<Refusal> {
    let (_, set) = manifest.octopus.image.rsplit_once(':')?;
    let (of_set, of_here) = (version(set)?, version(here.tag)?);
    // Only as many numbers as both have are compared: `2026.2` is whatever 2026.2 is newest.
    let common = of_set.len().min(of_here.len());
    (of_here[..common] < of_set[..common]).then(|| Refusal::OlderServer {
        set: set.to_owned(),
        here: here.tag.to_owned(),
    })
}

/// The file that SQL Server restores from stands beside the database meanwhile, and one of the
/// database that is replaced until the stack is ready. A database that is not there yet has to fit,
/// too. What volumes have is moved where this host has them; elsewhere nobody can tell the room.
fn room(manifest: &Manifest, here: &Here<'_>) -> Option<Refusal> {
    let file = manifest.part(Kind::Database)?.plain_size;
    let to_restore = if here.has_data { file } else { 2 * file };
    let (kept, needed) = (here.kept, to_restore.saturating_add(here.kept));
    let free = here.free.filter(|free| *free < needed)?;
    Some(if free < to_restore {
        Refusal::NoRoom {
            needed: to_restore,
            free,
        }
    } else {
        Refusal::NoRoomToKeep { needed, kept, free }
    })
}

/// The numbers a tag begins with; none of one that moves, such as `latest`.
fn version(tag: &str) -> Option<Vec<u32>> {
    let numbers = tag.split(['-', '+']).next()?.split('.').map(str::parse);
    numbers.collect::<Result<_, _>>().ok()
}

fn key(manifest: &Manifest, here: &Here<'_>) -> Option<Refusal> {
    let fits = |key: &Secret| {
        let print = manifest.master_key_print.as_ref();
        print.is_none_or(|print| *print == secrets::print_of(key, &manifest.name))
    };
    match (here.master_key, here.key_of_set) {
        // A key that was kept for data that goes is replaced with it; one that was given is not.
        (Some(key), Some(_)) if !fits(key) => Some(Refusal::WrongKey),
        (Some(key), None) if !fits(key) => Some(Refusal::OtherKey),
        (None, Some(key)) if !fits(key) => Some(Refusal::WrongKeyInSet),
        (None, None) => Some(Refusal::NoKey),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
