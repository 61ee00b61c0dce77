//! What a restore replaces, kept until the stack is ready on what came: each volume's content in a
//! volume of ours beside it, and the database in a file that SQL Server itself writes.
//!
//! Content passes from one volume to the other by renames where this host has both, and else through
//! the engine's archives. Either may be broken off and done again: until all of it has passed, both
//! volumes together are what was there, so whoever goes on adds and removes nothing. Who calls this
//! keeps in between that it is whole ([`crate::daemon::store::Replaced`]), and under which name: what
//! one restore keeps is never mixed with what another left.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;
use tokio::sync::watch;

use super::progress::Progress;
use super::run::ASK;
use super::run::RunError;
use super::server_file::ServerFile;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::on_host::HostDirectory;
use crate::reconcile::Observed;
use crate::spec::StackSpec;
use crate::spec::build::SQL_DATA;
use crate::spec::storage::Storage;
use crate::sql;

/// Where those are mounted for the way.
const MOUNTED_AT: &str = "/octo-local-replaced";

/// A stack whose nodes are at rest.
pub struct Stack<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// What was applied.
    pub spec: &'a StackSpec,
    /// What the engine shows of it.
    pub observed: &'a Observed,
    /// The name under which something is kept.
    pub id: &'a str,
    /// The image that carries volumes: any that is there.
    pub image: &'a str,
}

/// A volume of ours, where nodes mount it, and the one that keeps its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    volume: String,
    path: String,
    keeper: String,
    keeper_path: String,
}

/// The volume that keeps the content of another.
fn keeper_of(volume: &str, id: &str) -> String {
    format!("{volume}-replaced-{id}")
}

/// The volumes of ours that nodes share, those of these keys or all.
fn pairs(spec: &StackSpec, id: &str, keys: Option<&[&str]>) -> Vec<Pair> {
    let mounts = spec.nodes.first().map(|node| &node.mounts);
    let path_of = |storage: &Storage| {
        let mut mounts = mounts.into_iter().flatten();
        mounts.find_map(|(path, mounted)| (mounted == storage).then(|| path.clone()))
    };
    let wanted = spec.volumes.iter().filter(|(key, _)| {
        *key != SQL_DATA && keys.is_none_or(|keys| keys.contains(&key.as_str()))
    });
    let pair = |(key, storage): (&String, &Storage)| {
        let volume = storage.ours()?.to_owned();
        Some(Pair {
            path: path_of(storage)?,
            keeper: keeper_of(&volume, id),
            keeper_path: format!("{MOUNTED_AT}/{key}"),
            volume,
        })
    };
    wanted.filter_map(pair).collect()
}

/// Keeps what a restore of parts with these keys replaces. The names of the volumes whose content
/// is kept, which are empty now or still as they were; nothing else was changed.
pub async fn keep_volumes(stack: &Stack<'_>, keys: &[&str]) -> Result<Vec<String>, EngineError> {
    let there = |pair: &Pair| stack.observed.volumes.contains(&pair.volume);
    let pairs: Vec<Pair> = pairs(stack.spec, stack.id, Some(keys))
        .into_iter()
        .filter(there)
        .collect();
    for pair in &pairs {
        let (project, keeper) = (&stack.spec.project, &pair.keeper);
        if stack.engine.is_our_volume(project, keeper).await? == Some(false) {
            return Err(EngineError::Refused {
                attempt: format!("keep what is in {}", pair.volume),
                status: 409,
                message: format!("the volume {keeper} is somebody else's; rename or move it"),
            });
        }
        stack.engine.create_volume(stack.spec, keeper).await?;
    }
    pass(stack, &pairs, |pair| (&pair.path, &pair.keeper_path)).await?;
    Ok(pairs.into_iter().map(|pair| pair.volume).collect())
}

/// Makes volumes anew whose content is kept elsewhere: what a restore brought goes. Whoever mounts
/// them was removed.
pub async fn empty(stack: &Stack<'_>, volumes: &[String]) -> Result<(), EngineError> {
    for name in volumes {
        let is_ours = pairs(stack.spec, stack.id, None)
            .iter()
            .any(|pair| pair.volume == *name);
        if is_ours && stack.observed.volumes.contains(name) {
            stack.engine.remove_volume(name).await?;
            stack.engine.create_volume(stack.spec, name).await?;
        }
    }
    Ok(())
}

/// Of volumes whose content is kept, those whose keeper is not there.
pub fn lost<'a>(stack: &Stack<'_>, volumes: &'a [String]) -> Vec<&'a str> {
    let is_lost = |name: &&String| {
        let keeper = keeper_of(name, stack.id);
        !stack.observed.volumes.contains(&keeper)
    };
    volumes.iter().filter(is_lost).map(String::as_str).collect()
}

/// Passes what is kept of volumes back into them.
pub async fn bring_volumes_back(stack: &Stack<'_>) -> Result<(), EngineError> {
    let is_kept = |pair: &Pair| stack.observed.volumes.contains(&pair.keeper);
    let pairs: Vec<Pair> = pairs(stack.spec, stack.id, None)
        .into_iter()
        .filter(is_kept)
        .collect();
    pass(stack, &pairs, |pair| (&pair.keeper_path, &pair.path)).await
}

/// Passes content along in each pair, through a container that mounts both.
async fn pass(
    stack: &Stack<'_>,
    pairs: &[Pair],
    way: impl Fn(&Pair) -> (&String, &String),
) -> Result<(), EngineError> {
    let (engine, project) = (stack.engine, &stack.spec.project);
    if pairs.is_empty() {
        return Ok(());
    }
    let ends = |pair: &Pair| {
        [
            (&pair.path, &pair.volume),
            (&pair.keeper_path, &pair.keeper),
        ]
        .map(|(path, name)| (path.clone(), Storage::Ours(name.clone())))
    };
    let mounts: BTreeMap<String, Storage> = pairs.iter().flat_map(ends).collect();
    let carrier = engine.make_carrier(project, stack.image, &mounts).await?;
    let mut passed = Ok(());
    let mut second = None;
    for pair in pairs {
        let (from, to) = way(pair);
        if is_moved(engine, &carrier, from, to).await {
            continue;
        }
        passed = copy(stack, &mounts, &mut second, (&carrier, from), to).await;
        if passed.is_err() {
            break;
        }
    }
    let removed = engine.remove_carrier(project).await;
    passed.and(removed)
}

/// Copies by the engine, into a second container that is made for the first of such copies.
async fn copy(
    stack: &Stack<'_>,
    mounts: &BTreeMap<String, Storage>,
    second: &mut Option<String>,
    from: (&str, &str),
    to: &str,
) -> Result<(), EngineError> {
    let (engine, project) = (stack.engine, &stack.spec.project);
    let into = match second.take() {
        Some(into) => into,
        None => {
            engine
                .make_second_carrier(project, stack.image, mounts)
                .await?
        }
    };
    engine.copy_directory(from, (&into, to)).await?;
    *second = Some(into);
    Ok(())
}

/// Moves all that is at one path of the container to the other, where this host has both.
async fn is_moved(engine: &Engine, carrier: &str, from: &str, to: &str) -> bool {
    let Some((here, there)) = both_on_host(engine, carrier, from, to).await else {
        return false;
    };
    let moved = tokio::task::spawn_blocking(move || move_content(&here, &there)).await;
    match moved.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, from, "a volume is copied by the engine instead");
            false
        }
    }
}

/// Both directories, where this host has them.
async fn both_on_host(
    engine: &Engine,
    carrier: &str,
    from: &str,
    to: &str,
) -> Option<(HostDirectory, HostDirectory)> {
    let here = engine.on_host(carrier, from).await?;
    let there = engine.on_host(carrier, to).await?;
    let are_volumes = here.is_volume && there.is_volume;
    let is_sure = are_volumes
        && engine.is_on_host(carrier, from, &here).await
        && engine.is_on_host(carrier, to, &there).await;
    is_sure.then_some((here, there))
}

/// Moves all that is in a directory into another of the same file system, which gets its owner and
/// mode. What was moved by an earlier try is there already.
fn move_content(from: &HostDirectory, to: &HostDirectory) -> io::Result<()> {
    for entry in fs::read_dir(&from.path)? {
        let name = entry?.file_name();
        rustix::fs::renameat(&from.opened, Path::new(&name), &to.opened, Path::new(&name))?;
    }
    let root = from.opened.metadata()?;
    let (owner, group) = (Uid::from_raw(root.uid()), Gid::from_raw(root.gid()));
    rustix::fs::fchown(&to.opened, Some(owner), Some(group))?;
    rustix::fs::fchmod(&to.opened, Mode::from_raw_mode(root.mode() & 0o7777))?;
    to.opened.sync_all()?;
    from.opened.sync_all()
}

/// Has SQL Server write the database that is there into a file beside its data, and read it again.
/// False where there is no database.
pub async fn keep_database(
    spec: &StackSpec,
    id: &str,
    progress: &watch::Sender<Progress>,
) -> Result<bool, RunError> {
    let target = &spec.database;
    if !sql::has_database(target, ASK).await? {
        return Ok(false);
    }
    let server = sql::backup::server(target).await?;
    let file = ServerFile::of_replaced(&server, spec, id);
    let told = tell_of(progress, "SQL Server keeps the database that is replaced");
    sql::backup::backup(target, &file.path(), server.can_compress, told).await?;
    Ok(true)
}

/// Has SQL Server restore the database from that file.
pub async fn bring_database_back(
    spec: &StackSpec,
    id: &str,
    progress: &watch::Sender<Progress>,
) -> Result<(), RunError> {
    let target = &spec.database;
    let server = sql::backup::server(target).await?;
    let file = ServerFile::of_replaced(&server, spec, id).path();
    sql::backup::verify(target, &file).await?;
    let told = tell_of(progress, "SQL Server brings the database of before back");
    Ok(sql::backup::restore(target, &file, told).await?)
}

fn tell_of(progress: &watch::Sender<Progress>, what: &'static str) -> impl FnMut(f64) {
    move |percent| {
        progress.send_modify(|progress| progress.step = format!("{what}, {percent:.0} %"));
    }
}

/// Removes all that is kept: volumes that keep the content of others, and the file of the database.
/// `sql`: the container of SQL Server, where a file is.
pub async fn drop_all(stack: &Stack<'_>, sql: Option<&str>) -> Result<(), RunError> {
    let Stack {
        engine,
        spec,
        observed,
        id,
        ..
    } = *stack;
    let keepers = pairs(spec, id, None).into_iter().map(|pair| pair.keeper);
    for keeper in keepers.filter(|keeper| observed.volumes.contains(keeper)) {
        let removed = engine.remove_volume(&keeper).await;
        removed.map_err(|error| RunError::Engine {
            part: "what was replaced",
            error,
        })?;
    }
    if let Some(container) = sql {
        let server = sql::backup::server(&spec.database).await?;
        let file = ServerFile::of_replaced(&server, spec, id);
        file.remove(engine, &spec.database, container).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
