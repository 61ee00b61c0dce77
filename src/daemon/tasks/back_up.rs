//! Makes a scheduled backup.

use tokio::sync::watch;

use crate::backup::Progress;
use crate::backup::run::Wanted;
use crate::daemon::back_up;
use crate::daemon::message::BackedUp;
use crate::daemon::paths::Paths;
use crate::daemon::store::Stored;
use crate::engine::Engine;

/// Makes one of what was applied, as `backup` does; what it made, or why there is none.
pub(in crate::daemon) async fn make(
    engine: Option<Engine>,
    paths: Paths,
    stored: Stored,
) -> Result<BackedUp, String> {
    let Some(engine) = engine else {
        return Err("the engine does not answer any more".to_owned());
    };
    let recipients = stored
        .config
        .as_ref()
        .map(|config| &config.backup.recipients);
    let wanted = Wanted {
        directory: back_up::directory(&paths, &stored),
        name: None,
        recipients: recipients.cloned().unwrap_or_default(),
        without_secrets: false,
        now: time::OffsetDateTime::now_utc(),
    };
    let (progress, _) = watch::channel(Progress::default());
    let made = back_up::make(&engine, &paths, &stored, &wanted, &progress)
        .await
        .map_err(|error| error.to_string())?;
    let name = made.manifest.name.to_string();
    let removed = made.removed.map_err(|error| {
        format!("backup {name} is made, and older ones cannot be removed: {error}")
    })?;
    Ok(BackedUp {
        name,
        removed: removed.iter().map(ToString::to_string).collect(),
    })
}
