//! Makes the backups that the daemon makes by itself: scheduled ones, and those before upgrades.

use tokio::sync::watch;

use crate::backup::Progress;
use crate::backup::SetName;
use crate::backup::run::Wanted;
use crate::daemon::back_up;
use crate::daemon::message::BackedUp;
use crate::daemon::message::BackupFor;
use crate::daemon::paths::Paths;
use crate::daemon::store::Stored;
use crate::engine::Engine;

/// Makes one of what was applied, as `backup` does; what it made, or why there is none.
pub(in crate::daemon) async fn make(
    engine: Option<Engine>,
    paths: Paths,
    of: BackupFor,
    stored: Stored,
) -> Result<BackedUp, String> {
    let Some(engine) = engine else {
        return Err("the engine does not answer any more".to_owned());
    };
    let wanted = match of {
        BackupFor::Schedule => scheduled(&paths, &stored),
        BackupFor::Upgrade => before_upgrade(&paths, &stored)?,
    };
    // A daemon that died after the set was made left it whole.
    if let Some(name) = &wanted.name
        && wanted.directory.manifest(name).is_ok()
    {
        return Ok(BackedUp {
            name: name.to_string(),
            removed: Vec::new(),
        });
    }
    let (progress, _) = watch::channel(Progress::default());
    let made = back_up::make(&engine, &paths, &stored, &wanted, &progress)
        .await
        .map_err(|error| error.to_string())?;
    let name = made.manifest.name.to_string();
    let removed = match (made.removed, of) {
        (Ok(removed), _) => removed,
        (Err(error), BackupFor::Schedule) => {
            return Err(format!(
                "backup {name} is made, and older ones cannot be removed: {error}"
            ));
        }
        // The upgrade has its way back.
        (Err(error), BackupFor::Upgrade) => {
            tracing::warn!(%error, "sets of earlier upgrades are not removed");
            Vec::new()
        }
    };
    Ok(BackedUp {
        name,
        removed: removed.iter().map(ToString::to_string).collect(),
    })
}

fn scheduled(paths: &Paths, stored: &Stored) -> Wanted {
    let config = stored.config.as_ref();
    let recipients = config.map(|config| config.backup.recipients.clone());
    Wanted {
        directory: back_up::directory(paths, stored),
        name: None,
        is_pinned: false,
        recipients: recipients.unwrap_or_default(),
        without_secrets: false,
        now: time::OffsetDateTime::now_utc(),
        drained: None,
    }
}

/// What is read again by the daemon itself, which has no identity that would open it; it is as
/// secret as the state file beside it.
fn before_upgrade(paths: &Paths, stored: &Stored) -> Result<Wanted, String> {
    let waiting = stored.backups.upgrades.waiting();
    let (upgrade, _) = waiting.ok_or("no upgrade waits for a backup")?;
    let name = upgrade.set.parse::<SetName>();
    Ok(Wanted {
        directory: back_up::before_upgrades(paths),
        name: Some(name.map_err(|error| error.to_string())?),
        is_pinned: false,
        recipients: Vec::new(),
        without_secrets: false,
        now: time::OffsetDateTime::now_utc(),
        drained: None,
    })
}
