//! `upgrade`: another version of Octopus Server is applied, with a backup before it, and `.env` says so
//! afterwards.

use crate::cli::args::Overrides;
use crate::cli::args::PlanFlags;
use crate::cli::args::UpFlags;
use crate::cli::args::UpgradeFlags;
use crate::cli::commands::plan;
use crate::cli::commands::up;
use crate::cli::context::Context;
use crate::cli::daemon_client::request::TAG;
use crate::cli::env_file;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::INTERRUPTED;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::dotenv;

/// Shows what is out meanwhile, asks, applies it as `up` does, and writes it down.
pub async fn upgrade(context: &Context, flags: &UpgradeFlags) -> Outcome {
    let overrides = Overrides {
        pull: flags.pull,
        no_backup: flags.no_backup,
        tag: Some(flags.tag.clone()),
        demo: is_demo(context).await,
        ..Overrides::default()
    };
    let considered = PlanFlags {
        overrides: overrides.clone(),
        format: flags.format,
    };
    if flags.plan {
        return plan::plan(context, &considered).await;
    }
    let changes = interruptible("", plan::lines(context, &considered)).await?;
    changes.iter().for_each(print::tell);
    if !changes.is_empty() && !flags.yes {
        confirm(&flags.tag)?;
    }
    let applied = UpFlags {
        overrides,
        wait_timeout: flags.wait_timeout,
        format: flags.format,
        ..UpFlags::default()
    };
    up::up(context, &applied).await?;
    write_down(context, &flags.tag).await
}

/// What runs as a demo stays one.
async fn is_demo(context: &Context) -> bool {
    let applied = context.applied().await.and_then(|kept| kept.config);
    applied.is_some_and(|config| config.demo)
}

fn confirm(tag: &str) -> Outcome {
    if !print::can_ask() {
        let line = "nobody can be asked here whether that is meant: --yes does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    match print::ask(format_args!("Upgrade to {tag}? [y/N]")).as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => Err(Failure::new(FAILED, "nothing was touched")),
        None => Err(Failure::new(INTERRUPTED, "nothing was touched")),
    }
}

/// Has the variables say which version runs, so that a later `up` does not ask for another one.
pub(super) async fn write_down(context: &Context, tag: &str) -> Outcome {
    let applied = context.applied().await.and_then(|kept| kept.config);
    if let Some(other) = applied.filter(|config| config.octopus.tag != tag) {
        let other = other.octopus.tag;
        let line = format!(
            "another command came in between: {other} is applied now and not {tag}, which is not written down"
        );
        return Err(Failure::new(FAILED, line));
    }
    if context.variables()?.vars.get(TAG).map(String::as_str) == Some(tag) {
        return Ok(());
    }
    let by_hand = |why: &str| {
        print::tell(format_args!(
            "note: {why}: write {TAG}={tag} where the variables are, or the next `up` asks for another version"
        ));
        Ok(())
    };
    if context.env.contains_key(TAG) {
        return by_hand("the environment sets the version, and not a file");
    }
    let Some(path) = context.files.last(&context.env) else {
        return by_hand("there is no .env to write the version into");
    };
    let text = std::fs::read_to_string(&path);
    let text = text
        .ok()
        .and_then(|text| dotenv::edit::with_value(&text, TAG, tag));
    let Some(text) = text else {
        return by_hand("the version cannot be written into the file as it is");
    };
    if let Err(error) = env_file::replace(&path, &text) {
        return by_hand(&format!("{} cannot be written: {error}", path.display()));
    }
    print::tell(format_args!("{} says {TAG}={tag} now", path.display()));
    Ok(())
}
