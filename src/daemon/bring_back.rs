//! Brings the data of a set back into a stack whose nodes are at rest: by `backup restore` and by a
//! rollback alike.

use tokio::sync::watch;

use super::message::NotBroughtBack;
use super::paths::Paths;
use super::store::Ran;
use super::store::Replaced;
use super::store::Restored;
use super::store::Stored;
use crate::backup::Progress;
use crate::backup::SetName;
use crate::backup::manifest::Database;
use crate::backup::manifest::Encryption;
use crate::backup::manifest::Kind;
use crate::backup::part::Identities;
use crate::backup::replaced;
use crate::backup::restore;
use crate::backup::restore::Opened;
use crate::backup::restore::Target;
use crate::backup::run::RunError;
use crate::backup::secrets::Secrets;
use crate::backup::verify;
use crate::config::Secret;
use crate::daemon::back_up;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Observed;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::storage::Storage;

/// Why data is back in part only.
#[derive(Debug, thiserror::Error)]
pub enum HalfBack {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was under way failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is nowhere to bring it.
    #[error("this stack has no nodes")]
    NoNodes,
    /// Somebody removed it.
    #[error("the volume is gone that kept what was in {0}")]
    Lost(String),
}

/// Secrets of a set that are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("backup {set} has secrets that cannot be read: {source}")]
pub struct NoSecrets {
    set: SetName,
    source: serde_json::Error,
}

/// Brings a whole set back that was read to its end without a fault. From the first call on the
/// data is neither what it was nor what the set is, until the last.
pub async fn bring_back(
    engine: &Engine,
    set: &Opened,
    spec: &StackSpec,
    progress: &watch::Sender<Progress>,
) -> Result<(), HalfBack> {
    let observed = observe(engine, spec).await?;
    let files = empty_volumes(engine, set, spec, &observed).await?;
    let has_database = matches!(set.manifest.database, Database::Included { .. });
    let database = observed.container(UnitId::Sql).filter(|_| has_database);
    let target = Target {
        engine,
        spec,
        sql: database.map(|container| container.id.as_str()),
        files: &files,
    };
    let result = restore::bring_back(set, &target, progress).await;
    let removed = engine.remove_carrier(&spec.project).await;
    result?;
    Ok(removed?)
}

/// What the engine shows of a stack.
pub async fn observe(engine: &Engine, spec: &StackSpec) -> Result<Observed, EngineError> {
    let mut cache = ObservationCache::default();
    engine.observe(&spec.project, &[], &mut cache).await
}

/// What the set has takes the place of what the volumes had: they are made anew, and a container
/// that only mounts them takes the files. In a place that is not ours the set's files take the
/// place of those of the same name, and others stay.
async fn empty_volumes(
    engine: &Engine,
    set: &Opened,
    spec: &StackSpec,
    observed: &Observed,
) -> Result<String, HalfBack> {
    engine.remove_carrier(&spec.project).await?;
    let nodes = observed
        .containers
        .iter()
        .filter(|one| one.unit.is_server());
    let mut image = None;
    for node in nodes {
        image = image.or_else(|| Some(node.image_id.clone()));
        engine.remove_container(&node.id).await?;
    }
    let parts = set.manifest.parts.iter();
    let keys: Vec<&str> = parts.filter_map(|part| part.kind.volume()).collect();
    let places = keys.iter().filter_map(|key| spec.volumes.get(*key));
    for name in places.filter_map(Storage::ours) {
        if observed.volumes.contains(name) {
            engine.remove_volume(name).await?;
        }
        engine.create_volume(spec, name).await?;
    }
    let node = spec.nodes.first().ok_or(HalfBack::NoNodes)?;
    let image = image.unwrap_or_else(|| node.image.clone());
    let carrier = engine
        .make_carrier(&spec.project, &image, &node.mounts)
        .await?;
    Ok(carrier)
}

/// Keeps what a set replaces, under this name: the names of the volumes whose content is kept, and whether there is a
/// file of the database. What is kept and what is still in its place are one only together, until
/// this is done.
pub async fn keep(
    engine: &Engine,
    set: &Opened,
    spec: &StackSpec,
    id: &str,
    progress: &watch::Sender<Progress>,
) -> Result<(Vec<String>, bool), HalfBack> {
    let observed = observe(engine, spec).await?;
    let has_database = matches!(set.manifest.database, Database::Included { .. });
    // First, since it is what may be refused.
    let database = spec.sql.is_some() && has_database;
    let database = database && replaced::keep_database(spec, id, progress).await?;
    let keys = set.manifest.parts.iter();
    let keys: Vec<&str> = keys.filter_map(|part| part.kind.volume()).collect();
    let stack = at_rest(engine, spec, &observed, id)?;
    let volumes = replaced::keep_volumes(&stack, &keys).await?;
    Ok((volumes, database))
}

/// What a set brought goes, and the database of before is back. From here on only what is kept of
/// volumes counts.
pub async fn discard(
    engine: &Engine,
    kept: &Replaced,
    spec: &StackSpec,
    progress: &watch::Sender<Progress>,
) -> Result<(), HalfBack> {
    let observed = observe(engine, spec).await?;
    let stack = at_rest(engine, spec, &observed, &kept.id)?;
    if let Some(volume) = replaced::lost(&stack, &kept.volumes).first() {
        return Err(HalfBack::Lost((*volume).to_owned()));
    }
    if kept.database {
        replaced::bring_database_back(spec, &kept.id, progress).await?;
    }
    engine.remove_carrier(&spec.project).await?;
    for node in observed
        .containers
        .iter()
        .filter(|one| one.unit.is_server())
    {
        engine.remove_container(&node.id).await?;
    }
    Ok(replaced::empty(&stack, &kept.volumes).await?)
}

/// What is kept of volumes comes back into them.
pub async fn return_volumes(
    engine: &Engine,
    kept: &Replaced,
    spec: &StackSpec,
) -> Result<(), HalfBack> {
    let observed = observe(engine, spec).await?;
    let stack = at_rest(engine, spec, &observed, &kept.id)?;
    Ok(replaced::bring_volumes_back(&stack).await?)
}

fn at_rest<'a>(
    engine: &'a Engine,
    spec: &'a StackSpec,
    observed: &'a Observed,
    id: &'a str,
) -> Result<replaced::Stack<'a>, HalfBack> {
    let mut nodes = observed
        .containers
        .iter()
        .filter(|one| one.unit.is_server());
    let image = nodes.next().map(|node| node.image_id.as_str());
    let wanted = spec.nodes.first().ok_or(HalfBack::NoNodes)?;
    Ok(replaced::Stack {
        engine,
        spec,
        observed,
        id,
        image: image.unwrap_or(&wanted.image),
    })
}

/// Removes what is kept of what a restore replaced.
pub(super) async fn drop_replaced(engine: Option<Engine>, stored: Stored) -> Result<(), String> {
    let backups = stored.backups;
    let (Some(kept), Some(spec)) = (backups.replaced, stored.spec) else {
        return Ok(());
    };
    let engine = engine.ok_or("the engine does not answer any more")?;
    let dropping = async {
        let observed = observe(&engine, &spec).await?;
        // Of what was not kept to its end nobody knows whether SQL Server began to write.
        let may_have_file = kept.database || !kept.whole;
        let database = observed.container(UnitId::Sql).filter(|_| may_have_file);
        let sql = database.map(|container| container.id.as_str());
        let stack = at_rest(&engine, &spec, &observed, &kept.id)?;
        replaced::drop_all(&stack, sql).await?;
        Ok::<(), HalfBack>(())
    };
    dropping.await.map_err(|error| error.to_string())
}

/// The secrets of a set, where it has some that can be opened.
pub fn secrets(set: &Opened) -> Result<Secrets, NoSecrets> {
    if set.manifest.encryption != Encryption::None && set.identities.0.is_empty() {
        return Ok(Secrets::default());
    }
    let Opened {
        directory,
        name,
        manifest,
        identities,
    } = set;
    // A fault is told with all others, once every byte was read.
    let read = verify::small(directory, name, manifest, Kind::Secrets, identities);
    let Some(text) = read.ok().flatten() else {
        return Ok(Secrets::default());
    };
    serde_json::from_slice(&text).map_err(|source| NoSecrets {
        set: name.clone(),
        source,
    })
}

/// What came back beside the data.
pub fn restored(set: &Opened, master_key: Option<Secret>, secrets: &Secrets) -> Restored {
    let octopus = &set.manifest.octopus;
    Restored {
        key_is_ours: secrets.master_key == master_key && secrets.master_key_is_ours,
        master_key,
        ran: Ran {
            version: octopus.version.clone().unwrap_or_default(),
            image: octopus.image.clone(),
            image_id: octopus.image_id.clone().unwrap_or_default(),
            data: None,
        },
    }
}

/// Reads every byte of the set that a rollback would bring back, as long as nothing is out for it.
pub(super) async fn read_set(paths: Paths, stored: Stored) -> Result<(), String> {
    let set = opened(&paths, &stored)?;
    let alone = back_up::alone(&paths);
    let _one_at_a_time = alone.map_err(|error| error.to_string())?;
    let (progress, _) = watch::channel(Progress::default());
    must_be_whole(&set, &progress).await?;
    secrets(&set).map_err(|error| error.to_string())?;
    Ok(())
}

async fn must_be_whole(set: &Opened, progress: &watch::Sender<Progress>) -> Result<(), String> {
    let faults = restore::faults(set, progress).await;
    let faults = faults.map_err(|error| error.to_string())?;
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!(
        "backup {} cannot be relied on: {}",
        set.name,
        faults.join("; ")
    ))
}

/// Brings the data of before the upgrade back that is taken back. Every byte of the set is read
/// before anything is touched, also where that was done before nodes finished their tasks: what is
/// about to be replaced is all that there is beside it.
pub(super) async fn roll_back(
    engine: Option<Engine>,
    paths: Paths,
    stored: Stored,
) -> Result<Box<Restored>, NotBroughtBack> {
    let (set, engine, spec) = open(engine, &paths, &stored).map_err(untouched)?;
    let alone = back_up::alone(&paths);
    let _one_at_a_time = alone.map_err(|error| untouched(error.to_string()))?;
    let (progress, _) = watch::channel(Progress::default());
    must_be_whole(&set, &progress).await.map_err(untouched)?;
    let secrets = secrets(&set).map_err(|error| untouched(error.to_string()))?;
    let key = secrets.master_key.clone();
    let result = bring_back(&engine, &set, &spec, &progress).await;
    result.map_err(|error| NotBroughtBack {
        why: error.to_string(),
        is_touched: true,
    })?;
    Ok(Box::new(restored(&set, key, &secrets)))
}

fn untouched(why: String) -> NotBroughtBack {
    NotBroughtBack {
        why,
        is_touched: false,
    }
}

fn open(
    engine: Option<Engine>,
    paths: &Paths,
    stored: &Stored,
) -> Result<(Opened, Engine, StackSpec), String> {
    let spec = stored.spec.clone().ok_or("nothing was applied")?;
    let engine = engine.ok_or("the engine does not answer any more")?;
    Ok((opened(paths, stored)?, engine, spec))
}

fn opened(paths: &Paths, stored: &Stored) -> Result<Opened, String> {
    let back = stored.backups.upgrades.rolling_back.as_ref();
    let back = back.ok_or("no upgrade is taken back")?;
    let name = back.upgrade.set.parse::<SetName>();
    let name = name.map_err(|error| error.to_string())?;
    let directory = back_up::before_upgrades(paths);
    let manifest = directory.manifest(&name);
    Ok(Opened {
        manifest: manifest.map_err(|error| error.to_string())?,
        directory,
        name,
        identities: Identities::default(),
    })
}
