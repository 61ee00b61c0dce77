//! `down`: the daemon stops everything in order and removes it; the data stays unless a person asks in so many words.

use std::io::IsTerminal as _;

use super::args::DownFlags;
use super::args::Format;
use super::context::Context;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::Outcome;
use super::outcome::USAGE;
use super::progress::Progress;
use super::spawn;
use crate::api::DownBody;
use crate::engine::observe::Memory;
use crate::reconcile::status::Verdict;

/// Takes the stack down. Works with a broken `.env`, and without a daemon by starting one for it.
pub async fn down(context: &Context, flags: &DownFlags) -> Outcome {
    if flags.volumes && !flags.yes {
        confirm(context)?;
    }
    if context.client.identity().await.is_err() && nothing_is_there(context, flags.volumes).await? {
        eprintln!("{}: nothing to take down", context.project);
        return Ok(());
    }
    spawn::ensure(context).await?;
    let mut statuses = context.client.follow().await?;
    let body = DownBody { volumes: flags.volumes, timeout_s: flags.timeout };
    let generation: u64 = context.client.post("/v1/down", &body).await?;
    let mut progress = Progress::new(Format::Table);
    let mut last = None;
    while let Some(status) = statuses.next().await? {
        if status.generation < generation {
            continue;
        }
        progress.tell(&status);
        let over = status.verdict == Verdict::Down && !status.ends_when_down;
        last = Some(status);
        // One that `up` started ends, and with it the stream.
        if over {
            break;
        }
    }
    progress.end();
    if last.is_some_and(|status| status.verdict != Verdict::Down) && !nothing_is_there(context, flags.volumes).await? {
        return Err(Failure::new(FAILED, "the daemon ended before everything was gone; `octo-local down` again"));
    }
    eprintln!("{} is down{}", context.project, if flags.volumes { ", with its data" } else { "; the data stays" });
    Ok(())
}

fn confirm(context: &Context) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(USAGE, "removing data asks for --yes where nobody can be asked"));
    }
    eprint!(
        "Remove the databases, packages, artifacts, logs and the master key of {}? Type its name: ",
        context.project
    );
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if answer.trim() == context.project.as_str() {
        return Ok(());
    }
    Err(Failure::new(USAGE, "nothing was removed"))
}

async fn nothing_is_there(context: &Context, volumes: bool) -> Result<bool, Failure> {
    let engine = context.engine().await?;
    let seen = engine.observe(&context.project, &[], &mut Memory::default()).await?;
    Ok(seen.containers.is_empty() && seen.networks.is_empty() && (!volumes || seen.volumes.is_empty()))
}
