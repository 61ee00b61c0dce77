//! Makes a set of what was applied, and lets those go that `BACKUP_KEEP` does not keep: by command
//! and by schedule alike. One backup or restore of a project at a time.

use std::path::Path;
use std::path::PathBuf;

use tokio::sync::watch;

use super::paths::Paths;
use super::store;
use super::store::Data;
use super::store::Stored;
use crate::backup::Directory;
use crate::backup::Manifest;
use crate::backup::Progress;
use crate::backup::SetName;
use crate::backup::directory::DirectoryError;
use crate::backup::prune;
use crate::backup::run;
use crate::backup::run::RunError;
use crate::backup::run::Source;
use crate::backup::run::Wanted;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Observed;
use crate::spec::StackSpec;

/// The directory in the project's state that holds sets when nothing else is said.
pub const DEFAULT: &str = "backups";

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum NoBackup {
    /// Nothing was applied, a restore is not finished, or another backup goes on.
    #[error("{0}")]
    NotNow(String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was under way failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The set.
    pub manifest: Manifest,
    /// The sets that were removed since nothing keeps them, or why that failed.
    pub removed: Result<Vec<SetName>, DirectoryError>,
}

/// The lock that a backup or a restore of a project holds: what one reads the other replaces. The
/// kernel frees it when its holder dies.
pub fn alone(paths: &Paths) -> Result<std::fs::File, NoBackup> {
    let path = paths.state.join("data.lock");
    let locked = store::lock(&path)
        .map_err(|error| NoBackup::NotNow(format!("lock {}: {error}", path.display())))?;
    locked.map_err(|holder| {
        NoBackup::NotNow(format!(
            "process {holder} backs this project up or restores it; try again when it is done"
        ))
    })
}

/// Where the sets are that upgrades are taken back with. They stay on this host, beside the keys.
pub fn before_upgrades(paths: &Paths) -> Directory {
    Directory::at(before_upgrades_in(&paths.state))
}

/// The same in a project's state directory, as a path.
pub(super) fn before_upgrades_in(state: &Path) -> PathBuf {
    state.join("upgrades")
}

/// Where sets are that are made by themselves.
pub fn directory(paths: &Paths, stored: &Stored) -> Directory {
    let named = stored
        .config
        .as_ref()
        .and_then(|config| config.backup.dir.clone());
    let base = stored
        .spec
        .as_ref()
        .map(|spec| PathBuf::from(&spec.working_dir));
    Directory::at(match (named, base) {
        (Some(path), Some(base)) => base.join(path),
        _ => paths.state.join(DEFAULT),
    })
}

/// Makes a set. When this ends otherwise, also when it is dropped, no set is there.
pub async fn make(
    engine: &Engine,
    paths: &Paths,
    stored: &Stored,
    wanted: &Wanted,
    progress: &watch::Sender<Progress>,
) -> Result<Made, NoBackup> {
    let (Some(config), Some(spec)) = (&stored.config, &stored.spec) else {
        let words = "it was never brought up: there is nothing to back up";
        return Err(NoBackup::NotNow(words.to_owned()));
    };
    if let Some(note) = stored.backups.unfinished() {
        return Err(NoBackup::NotNow(note.to_string()));
    }
    if stored.backups.upgrades.migrating().is_some() {
        let words = "an upgrade is not done, so the database may be migrated in part only; ask again when it is done or \
                     taken back";
        return Err(NoBackup::NotNow(words.to_owned()));
    }
    let _one_at_a_time = alone(paths)?;
    let mut cache = ObservationCache::default();
    let observed = engine.observe(&spec.project, &[], &mut cache).await?;
    let mut nodes = observed.containers.iter();
    if let Some(node) = nodes.find(|one| one.unit.is_server()) {
        return make_through(
            engine,
            stored,
            wanted,
            (config, spec),
            &observed,
            &node.id,
            progress,
        )
        .await;
    }
    let carrier = carrier(engine, stored, spec).await?;
    let made = make_through(
        engine,
        stored,
        wanted,
        (config, spec),
        &observed,
        &carrier,
        progress,
    )
    .await;
    engine.remove_carrier(&spec.project).await?;
    made
}

/// No node was made yet, or all are gone: a container of any of their images, which never runs,
/// reads as well.
async fn carrier(engine: &Engine, stored: &Stored, spec: &StackSpec) -> Result<String, NoBackup> {
    let next = stored.backups.upgrades.waiting();
    let next = next.and_then(|(_, next)| next.spec.nodes.first());
    let mut last = NoBackup::NotNow("this stack has no nodes".to_owned());
    for node in spec.nodes.first().into_iter().chain(next) {
        match engine
            .make_carrier(&spec.project, &node.image, &node.mounts)
            .await
        {
            Ok(carrier) => return Ok(carrier),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn make_through(
    engine: &Engine,
    stored: &Stored,
    wanted: &Wanted,
    (config, spec): (&Config, &StackSpec),
    observed: &Observed,
    files: &str,
    progress: &watch::Sender<Progress>,
) -> Result<Made, NoBackup> {
    let current = stored.keys.current.as_ref();
    let source = Source {
        engine,
        config,
        spec,
        observed,
        files,
        master_key: stored.master_key(),
        master_key_is_ours: current.is_some_and(|key| key.generated),
        octopus_version: stored.version_on(&Data::of(spec)),
        sa_password: stored.sa.known.as_ref(),
    };
    let manifest = run::run(&source, wanted, progress).await?;
    let keep = &config.backup.keep;
    let removed = prune::prune(&wanted.directory, &spec.project, keep, manifest.ended_ms);
    Ok(Made { manifest, removed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_holds_no_backup_reads() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: dir.path().to_owned(),
            runtime: dir.path().to_owned(),
        };
        let held = alone(&paths).unwrap();
        let refused = alone(&paths).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(refused.contains(&process), "{refused}");
        drop(held);
        assert!(alone(&paths).is_ok());
    }

    #[test]
    fn a_scheduled_set_goes_where_the_configuration_says_from_its_own_directory() {
        let paths = Paths {
            state: PathBuf::from("/state"),
            runtime: PathBuf::from("/run"),
        };
        let mut stored = Stored {
            config: Some(crate::config::Config::default()),
            spec: Some(crate::spec::StackSpec {
                working_dir: "/srv/octo".to_owned(),
                ..crate::spec::StackSpec::default()
            }),
            ..Stored::default()
        };
        let path = |stored: &Stored| directory(&paths, stored).path().to_owned();
        assert_eq!(path(&stored), PathBuf::from("/state/backups"));
        let config = stored.config.as_mut().unwrap();
        config.backup.dir = Some("sets".to_owned());
        assert_eq!(path(&stored), PathBuf::from("/srv/octo/sets"));
    }
}
