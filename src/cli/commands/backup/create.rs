//! `backup`: makes a set of what was applied, while it serves, and lets those go that
//! `BACKUP_KEEP` does not keep.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use super::quiesce;
use crate::backup::Progress;
use crate::backup::SetName;
use crate::backup::progress;
use crate::backup::run::RunError;
use crate::backup::run::Wanted;
use crate::cli::args::BackupFlags;
use crate::cli::context::Context;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::config::Config;
use crate::config::backup::recipients;
use crate::daemon::back_up;
use crate::daemon::back_up::Made;
use crate::daemon::back_up::NoBackup;
use crate::daemon::store::Stored;
use crate::engine::Engine;

/// How often progress is told: often enough to see that it moves, seldom enough for a log.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Makes a set. What counts is the applied configuration, not an edited `.env`.
pub(super) async fn create(context: &Context, flags: &BackupFlags) -> Outcome {
    let name = flags.name.as_deref().map(str::parse::<SetName>).transpose();
    let name = name.map_err(|error| Failure::new(USAGE, error.to_string()))?;
    context.must_be_from_here().await?;
    let wanted = Wanted {
        directory: super::directory(context, flags.to.as_ref()),
        is_pinned: name.is_some(),
        name,
        recipients: Vec::new(),
        without_secrets: flags.without_secrets,
        now: OffsetDateTime::now_utc(),
        drained: None,
    };
    let making = Box::pin(async {
        if flags.quiesce {
            Box::pin(back_up_quiesced(context, wanted)).await
        } else {
            Box::pin(back_up(context, wanted)).await
        }
    });
    let name = interruptible("interrupted: no backup was made", making).await?;
    print::line(name);
    Ok(())
}

/// The same while no node has tasks, whatever comes of it.
async fn back_up_quiesced(context: &Context, wanted: Wanted) -> Result<SetName, Failure> {
    let stored = context.applied().await.unwrap_or_default();
    let quiesced = quiesce::begin(context, &stored).await?;
    let wanted = Wanted {
        drained: quiesced.as_ref().map(|quiesced| quiesced.drained.clone()),
        ..wanted
    };
    let made = back_up(context, wanted).await;
    if let Some(quiesced) = quiesced {
        quiesce::end(context, quiesced, &stored).await;
    }
    made
}

/// Makes a set of what is applied, for those for whom it is to be encrypted.
pub(in crate::cli::commands) async fn back_up(
    context: &Context,
    wanted: Wanted,
) -> Result<SetName, Failure> {
    let stored = context.applied().await.unwrap_or_default();
    let Some(config) = &stored.config else {
        let project = &context.project;
        let line = format!("{project} was never brought up: there is nothing to back up");
        return Err(Failure::new(FAILED, line));
    };
    recipients_must_be_applied(context, config)?;
    let engine = engine(context, &stored).await?;
    let wanted = Wanted {
        recipients: config.backup.recipients.clone(),
        ..wanted
    };
    make(context, &engine, &stored, &wanted).await
}

/// What counts is what was applied. But where that is less secret than what `.env` says by now,
/// nobody wants what would be written.
fn recipients_must_be_applied(context: &Context, config: &Config) -> Result<(), Failure> {
    let variables = context.variables().ok();
    let said = variables.and_then(|read| read.vars.get("BACKUP_RECIPIENT").cloned());
    let said = recipients(&said.unwrap_or_default());
    if said.is_empty() || said == config.backup.recipients {
        return Ok(());
    }
    let line = "no backup was made, since BACKUP_RECIPIENT is not applied yet as .env or the environment has it: `octo-local up` applies it first";
    Err(Failure::new(CONFIGURATION, line))
}

/// The engine that the stack is on, and no other.
pub(in crate::cli::commands) async fn engine(
    context: &Context,
    stored: &Stored,
) -> Result<Engine, Failure> {
    let here = context.endpoint();
    if let Some(there) = stored
        .endpoint
        .as_ref()
        .filter(|there| !there.is_same(&here))
    {
        let project = &context.project;
        let line = format!(
            "{project} was applied on the Docker Engine at {there}, and this is {here}; set DOCKER_HOST={there}"
        );
        return Err(Failure::new(CONFIGURATION, line));
    }
    context.engine().await
}

async fn make(
    context: &Context,
    engine: &Engine,
    stored: &Stored,
    wanted: &Wanted,
) -> Result<SetName, Failure> {
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(tell(receiver));
    let made = back_up::make(engine, &context.paths, stored, wanted, &sender).await;
    telling.abort();
    let Made { manifest, removed } = made?;
    print::tell(format_args!(
        "backup {} is made and checked: {} in {}; {}",
        manifest.name,
        progress::size(manifest.stored_size()),
        wanted.directory.path().display(),
        manifest.consistency
    ));
    if manifest.has_secrets && wanted.recipients.is_empty() {
        print::tell(
            "it holds the master key and passwords in clear: keep it where only you can read, or set BACKUP_RECIPIENT and `octo-local up`",
        );
    }
    if !manifest.has_secrets {
        print::tell(
            "it is of no use without the master key, which is not in it: keep that elsewhere",
        );
    }
    for name in removed? {
        print::tell(format_args!(
            "backup {name} is removed: BACKUP_KEEP does not keep it"
        ));
    }
    Ok(manifest.name)
}

/// Tells where the run is, as long as it is somewhere else than the last time.
pub(in crate::cli::commands) async fn tell(receiver: watch::Receiver<Progress>) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let now = receiver.borrow().to_string();
        if now != told {
            print::tell(&now);
            told = now;
        }
    }
}

impl From<NoBackup> for Failure {
    fn from(error: NoBackup) -> Self {
        match error {
            NoBackup::Engine(error) | NoBackup::Run(RunError::Engine { error, .. })
                if error.is_unreachable() =>
            {
                error.into()
            }
            error => Self::new(FAILED, format!("no backup was made: {error}")),
        }
    }
}
