//! `kubernetes handover`: this host's stack, with its data, becomes the cluster's; `--undo` goes back
//! until all its nodes serve.

mod admission;
mod reach;
mod run;

use super::confirm;
use super::kubectl::Kubectl;
use super::look::Places;
use crate::cli::args::HandoverFlags;
use crate::cli::args::KubernetesFlags;
use crate::cli::context::Context;
use crate::cli::handed_over;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::kubernetes::handover::Handover;
use crate::kubernetes::handover::Stage;
use run::Run;

/// What Ctrl-C says once something was touched.
const GOES_ON: &str = "interrupted: `octo-local kubernetes handover` goes on, `octo-local kubernetes handover --undo` goes back";
/// Hands over, or goes back.
pub(super) async fn handover(
    context: &Context,
    kubectl: &Kubectl,
    flags: &KubernetesFlags,
    own: &HandoverFlags,
) -> Outcome {
    let kept = context.handover()?.cloned();
    if let Some(kept) = &kept {
        must_be_there(kept, kubectl, flags)?;
    }
    let kept = match (kept, own.undo) {
        (None, true) => {
            let line = "nothing was handed over, so there is no way back";
            return Err(Failure::new(FAILED, line));
        }
        (Some(kept), true) => return undo(context, kubectl, kept, own).await,
        (Some(kept), false) if own.plan => {
            print::line(kept.in_the_way());
            return Ok(());
        }
        (Some(kept), false) if kept.stage == Stage::Undoing => {
            return Err(Failure::new(CONFIGURATION, kept.in_the_way()));
        }
        (Some(kept), false) if kept.stage == Stage::Done => {
            print::tell(format_args!(
                "it is handed over to the namespace {} already",
                kept.namespace
            ));
            return Ok(());
        }
        (Some(kept), false) => {
            print::tell("the handover goes on");
            kept
        }
        (None, false) => {
            let beginning = Box::pin(admission::begin(context, kubectl, flags, own));
            match interruptible("interrupted: nothing was touched", beginning).await? {
                Some(kept) => kept,
                None => return Ok(()),
            }
        }
    };
    let places = Places::find(kubectl).await?;
    let run = Run::new(context, kubectl, places, own, kept);
    interruptible(GOES_ON, Box::pin(run.go_on())).await
}

/// The cluster that was begun with, and no other.
fn must_be_there(kept: &Handover, kubectl: &Kubectl, flags: &KubernetesFlags) -> Outcome {
    if kept.namespace == kubectl.namespace && kept.context == flags.context {
        return Ok(());
    }
    let context = kept
        .context
        .as_ref()
        .map_or_else(String::new, |name| format!(" --context {name}"));
    let line = format!(
        "the handover was begun to another place: say --namespace {}{context}",
        kept.namespace
    );
    Err(Failure::new(CONFIGURATION, line))
}

async fn undo(
    context: &Context,
    kubectl: &Kubectl,
    mut kept: Handover,
    own: &HandoverFlags,
) -> Outcome {
    if kept.stage == Stage::Done {
        let line = "all nodes serve in the cluster, and what was done there since is only there: there is no way back \
                    but a backup of it; `octo-local up --again` starts what was kept here";
        return Err(Failure::new(CONFIGURATION, line));
    }
    let places = Places::find(kubectl).await?;
    if kept.stage != Stage::Undoing {
        if kept.stage >= Stage::First {
            print::tell(
                "what was done in the cluster since its first node served is lost to this host",
            );
        }
        confirm("Go back to this host?", own.patience.yes)?;
        kept.stage = Stage::Undoing;
        handed_over::write(&context.paths.handover(), &kept)?;
    }
    let run = Run::new(context, kubectl, places, own, kept);
    interruptible(
        "interrupted: `octo-local kubernetes handover --undo` goes on",
        Box::pin(run.go_on()),
    )
    .await?;
    print::tell(
        "the way is free: `octo-local up` brings the stack back here; what was copied stays in the cluster",
    );
    Ok(())
}
