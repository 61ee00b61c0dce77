//! Looks at the places that a person wants data to be in, as far as this host shows them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::admit::Directory;
use super::admit::Look;
use super::admit::Owners;
use super::admit::Runner;
use super::admit::missing;
use super::admit::unfit;
use crate::config::Config;
use crate::config::Problem;
use crate::config::storage::KINDS;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::ours;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::Storage;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// What is wrong with them.
    pub(super) problems: Vec<Problem>,
    /// The place of SQL Server's data, where it is not a volume of the project's own.
    pub(super) data: Option<Look>,
}

/// Looks at each.
pub(super) async fn look(
    engine: &Engine,
    config: &Config,
    spec: &StackSpec,
    maps_users: bool,
) -> Result<Places, EngineError> {
    let mut found = Places::default();
    for kind in &KINDS {
        let Some(storage) = spec.volumes.get(kind.key) else {
            continue;
        };
        if storage.ours().is_some() {
            continue;
        }
        let look = look_at_one(engine, spec, storage).await?;
        let runner = match &spec.sql {
            // Nobody knows which number of the host's a container's user has.
            _ if maps_users => Runner::Unjudged,
            Some(sql) if kind.of_sql => {
                Runner::of_sql(engine.image_user(&sql.image).await?.as_deref())
            }
            Some(_) | None => Runner::of_nodes(config.octopus.user.as_deref()),
        };
        found.problems.extend(unfit(kind, storage, look, &runner));
        if kind.of_sql {
            found.data = Some(look);
        }
    }
    for mount in spec
        .nodes
        .iter()
        .take(1)
        .flat_map(|node| &node.extra_mounts)
    {
        let look = look_at_one(engine, spec, &mount.source).await?;
        found.problems.extend(missing(mount, look));
    }
    Ok(found)
}

async fn look_at_one(
    engine: &Engine,
    spec: &StackSpec,
    storage: &Storage,
) -> Result<Look, EngineError> {
    let is_local = engine.endpoint.is_local();
    Ok(match storage {
        Storage::Ours(_) => Look::Ours,
        Storage::Theirs(name) => match engine.volume(name).await? {
            None => Look::Absent,
            Some(volume) if is_ours(&volume, spec) => Look::Ours,
            // One that this process may not enter is there all the same.
            Some(volume) if is_local => match directory(volume.mountpoint).await {
                there @ Look::There { .. } => there,
                Look::Unknown | Look::Absent | Look::NoDirectory | Look::Ours => Look::Unknown,
            },
            Some(_) => Look::Unknown,
        },
        Storage::Directory(path) if is_local => directory(path.clone()).await,
        Storage::Directory(_) => Look::Unknown,
    })
}

/// Whose the directories of volumes are, as this host shows them. An empty one gets its owner from the
/// image, and one that this process may not enter says nothing.
pub(super) async fn owners(engine: &Engine, node: &ContainerSpec) -> Owners {
    let mut owners = Owners::default();
    for (path, storage) in &node.mounts {
        let Some(name) = storage.volume() else {
            continue;
        };
        let Ok(Some(volume)) = engine.volume(name).await else {
            continue;
        };
        if let Look::There {
            owner: (uid, gid),
            mode,
            is_empty: false,
        } = directory(volume.mountpoint).await
        {
            owners.directories.push(Directory {
                path: path.clone(),
                uid: uid.into(),
                gid: gid.into(),
                mode,
            });
        }
    }
    owners
}

fn is_ours(volume: &bollard::models::Volume, spec: &StackSpec) -> bool {
    let labels = volume.labels.clone().into_iter().collect();
    ours::is_volume(&spec.project, &volume.name, &labels)
}

/// How long a file system may take to tell about a directory: one on a network may be gone.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What this process sees of a directory.
async fn directory(path: String) -> Look {
    let looking = tokio::task::spawn_blocking(move || look_at(Path::new(&path)));
    let look = tokio::time::timeout(ANSWERS_WITHIN, looking).await;
    look.ok().and_then(Result::ok).unwrap_or(Look::Unknown)
}

/// Whether nothing is in a directory, or it is gone: a disk may not be mounted there.
pub(super) async fn is_empty_or_gone(path: &str) -> bool {
    match directory(path.to_owned()).await {
        Look::Absent => true,
        Look::There { is_empty, .. } => is_empty,
        Look::NoDirectory | Look::Unknown | Look::Ours => false,
    }
}

fn look_at(path: &Path) -> Look {
    let seen = match std::fs::metadata(path) {
        Ok(seen) => seen,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Look::Absent,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Look::NoDirectory;
        }
        Err(_) => return Look::Unknown,
    };
    if !seen.is_dir() {
        return Look::NoDirectory;
    }
    // A file system of its own begins with this.
    let is_data = |name: &std::ffi::OsStr| name != "lost+found";
    let is_empty = match std::fs::read_dir(path) {
        Ok(entries) => !entries.flatten().any(|entry| is_data(&entry.file_name())),
        Err(_) => false,
    };
    Look::There {
        owner: (seen.uid(), seen.gid()),
        mode: seen.mode(),
        is_empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_seen_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let look = |name: &str| look_at(&dir.path().join(name));
        let is_empty = |look| matches!(look, Look::There { is_empty: true, .. });
        std::fs::create_dir_all(dir.path().join("new/lost+found")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(is_empty(look("new")));
        assert!(!is_empty(look("")) && matches!(look(""), Look::There { .. }));
        assert_eq!(look("gone"), Look::Absent);
        assert_eq!(
            (look("file"), look("file/in")),
            (Look::NoDirectory, Look::NoDirectory)
        );
    }
}
