//! `rollback`: the last upgrade is taken back. The daemon does it, so that it goes on when this
//! process ends.

use super::change_units;
use super::upgrade;
use crate::api::RollbackBody;
use crate::api::route;
use crate::cli::context::Context;
use crate::cli::daemon_client::request::TAG;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::daemon::store::Applied;
use crate::daemon::store::Stored;
use crate::daemon::store::Upgrade;
use crate::reconcile::status::Note;
use crate::reconcile::status::Status;
use crate::reconcile::status::VersionStep;

/// What Ctrl-C says: the daemon knows nothing of the file with the variables.
const LAST_WORDS: &str = "interrupted; the daemon goes on, see `octo-local status`: `octo-local rollback` again waits for the end and \
     writes the version of before into .env; `octo-local up` before that would upgrade again";

/// Asks, has the daemon go back, and waits until what was before serves.
pub async fn rollback(context: &Context, yes: bool) -> Outcome {
    context.must_be_from_here().await?;
    let kept = context.applied().await.unwrap_or_default();
    let upgrades = &kept.backups.upgrades;
    if upgrades.waiting().is_some() {
        let line =
            "the upgrade is not applied yet: `octo-local up` with what was before takes it back";
        return Err(Failure::new(FAILED, line));
    }
    let body = RollbackBody {
        endpoint: Some(context.endpoint()),
    };
    let Some(upgrade) = upgrades.way_back().cloned() else {
        return finish(context, &kept, &body).await;
    };
    let is_begun = upgrades.rolling_back.is_some();
    if !yes && !is_begun {
        confirm(context, &upgrade, upgrades.migrating().is_none())?;
    }
    let going_back = change_units::until(context, route::ROLLBACK, &body, end);
    let outcome = interruptible(LAST_WORDS, going_back).await;
    by_what_is_applied(context, &upgrade, outcome).await?;
    print::tell(format_args!(
        "{} runs again, with the data of before",
        upgrade.from
    ));
    upgrade::write_down(context, &upgrade.before.config.octopus.tag).await
}

/// The last upgrade is taken back already, as far as what runs is concerned: whoever asked for it was
/// interrupted, or nobody did. Where the variables still ask for what was taken back, they are told.
async fn finish(context: &Context, kept: &Stored, body: &RollbackBody) -> Outcome {
    let asked = context.variables()?.vars.remove(TAG);
    let back = kept.backups.upgrades.rolled_back.as_ref();
    let unwritten = back.filter(|back| asked.as_ref() == Some(&back.undone));
    let applied = kept.applied().filter(|_| unwritten.is_some());
    let Some(Applied { config, spec, .. }) = applied else {
        let line = "there is no upgrade that a backup was made for, so nothing can be taken back";
        return Err(Failure::new(FAILED, line));
    };
    let mut how = "is applied";
    if kept.is_up() {
        let waiting = change_units::until(context, route::ROLLBACK, body, end);
        interruptible(LAST_WORDS, waiting).await?;
        how = "runs";
    }
    if let Some(node) = spec.nodes.first() {
        let image = &node.image;
        print::tell(format_args!("{image} {how} again, with the data of before"));
    }
    upgrade::write_down(context, &config.octopus.tag).await
}

/// How the rollback ended, if it has. One that was given up leaves a note, whatever the units are.
fn end(status: &Status) -> Option<Outcome> {
    let is_why =
        |note: &&Note| matches!(note, Note::VersionKept { .. } | Note::RollbackFailed { .. });
    if let Some(note) = status.notes.iter().find(is_why) {
        return Some(Err(Failure::new(FAILED, note.to_string())));
    }
    let change = status.version_change.as_ref();
    // What is wrong with the newer version meanwhile is no end of it.
    let is_looked_at = change.is_some_and(|change| change.step == VersionStep::Checking);
    change_units::end(status).filter(|_| !is_looked_at)
}

/// What is said of the end is true of what is applied: a rollback that was not done leaves what there
/// was, and somebody may have wished something else meanwhile.
async fn by_what_is_applied(context: &Context, upgrade: &Upgrade, outcome: Outcome) -> Outcome {
    let kept = context.applied().await.unwrap_or_default();
    let upgrades = &kept.backups.upgrades;
    let is_back = upgrades.way_back().is_none_or(|way| way.set != upgrade.set);
    let node = kept.spec.iter().flat_map(|spec| &spec.nodes).next();
    let goes_on = node.filter(|_| !is_back && upgrades.rolling_back.is_none());
    let words =
        goes_on.map(|node| format!("{} stays applied, with the data that it has", node.image));
    match outcome {
        Err(mut failure) => {
            failure.lines.extend(words);
            Err(failure)
        }
        Ok(()) if is_back => Ok(()),
        Ok(()) => {
            let mut failure = Failure::new(
                FAILED,
                "the rollback was not done: something else was wished meanwhile",
            );
            failure.lines.extend(words);
            Err(failure)
        }
    }
}

fn confirm(context: &Context, upgrade: &Upgrade, has_served: bool) -> Outcome {
    if !print::can_ask() {
        let line = "this replaces data, and nobody can be asked here: --yes does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    let lost = if has_served {
        ", and all that was done since is lost"
    } else {
        ""
    };
    let project = &context.project;
    let answer = print::ask(format_args!(
        "Go back from {} to {}? The data becomes that of backup {}{lost}. Type the project's name, {project}:",
        upgrade.to, upgrade.from, upgrade.set
    ));
    if answer.as_deref() == Some(project.as_str()) {
        return Ok(());
    }
    let line = format!("that is not its name, {project}: nothing was touched");
    Err(Failure::new(USAGE, line))
}
