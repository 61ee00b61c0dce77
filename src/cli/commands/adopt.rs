//! `adopt`: a docker compose stack becomes one of octo-local's, with its data; `--undo` goes back,
//! until `--forget`.

mod back;
mod forward;
mod look;

use crate::adopt::Record;
use crate::adopt::Stage;
use crate::adopt::told;
use crate::cli::adopted;
use crate::cli::args::AdoptFlags;
use crate::cli::context::Context;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::daemon::back_up;

/// What Ctrl-C says once something was touched.
const GOES_ON: &str =
    "interrupted: `octo-local adopt` goes on, `octo-local adopt --undo` goes back";

/// Takes over a compose stack, or goes back.
pub async fn adopt(context: Context, flags: &AdoptFlags) -> Outcome {
    if flags.undo {
        return back::undo(context, flags).await;
    }
    if flags.forget {
        return back::forget(context, flags).await;
    }
    let Some(record) = context.adopted()?.cloned() else {
        return begin(context, flags).await;
    };
    let from = &record.from;
    match record.stage {
        Stage::Undoing => context.must_not_be_moving(),
        Stage::Done => {
            print::tell(format_args!(
                "{from} is adopted already; its old containers are kept until `octo-local adopt --forget`, `octo-local adopt \
                 --undo` goes back to them"
            ));
            Ok(())
        }
        Stage::Forgotten => {
            print::tell(format_args!("{from} is adopted already"));
            Ok(())
        }
        Stage::Begun if flags.plan => {
            print::line(format_args!(
                "the adoption of {from} was begun: `octo-local adopt` goes on, `octo-local adopt --undo` goes back"
            ));
            Ok(())
        }
        Stage::Begun => {
            print::tell(format_args!("the adoption of {from} goes on"));
            forward::go_on(context, record).await
        }
    }
}

async fn begin(mut context: Context, flags: &AdoptFlags) -> Outcome {
    let engine = context.engine().await?;
    let looking = Box::pin(look::look(&context, &engine, flags.from.as_deref()));
    let looked = interruptible("interrupted: nothing was touched", looking).await?;
    let lines = told::lines(
        &looked.found,
        context.project.as_str(),
        &looked.variables,
        looked.network.as_ref(),
        !flags.no_backup,
    );
    lines.into_iter().for_each(print::line);
    if flags.plan {
        return Ok(());
    }
    confirm(&context, flags, "Take it over?")?;
    create_state(&context)?;
    if !flags.no_backup {
        let backing_up = Box::pin(look::back_up(&context, &engine, &looked));
        interruptible("interrupted: nothing was touched", backing_up).await?;
    }
    let record = Record::begin(&looked.found, looked.variables, looked.network);
    keep(&context, &record)?;
    context.adopted = Ok(Some(record.clone()));
    forward::go_on(context, record).await
}

fn create_state(context: &Context) -> Outcome {
    let made = context.paths.create();
    made.map_err(|error| Failure::new(FAILED, format!("make the state directory: {error}")))
}

/// Nobody else moves or reads this project's data meanwhile.
fn alone(context: &Context) -> Result<std::fs::File, Failure> {
    let locked = back_up::alone(&context.paths);
    locked.map_err(|error| Failure::new(TIMED_OUT, error.to_string()))
}

fn keep(context: &Context, record: &Record) -> Outcome {
    let path = context.paths.adopted();
    adopted::write(&path, record)
        .map_err(|error| Failure::new(FAILED, format!("write {}: {error}", path.display())))
}

fn confirm(context: &Context, flags: &AdoptFlags, question: &str) -> Outcome {
    if flags.yes {
        return Ok(());
    }
    let project = &context.project;
    if !print::can_ask() {
        let line =
            "nobody can be asked here: --yes does it unasked, --plan only says what would be done";
        return Err(Failure::new(USAGE, line));
    }
    let answer = print::ask(format_args!(
        "{question} Type the project's name, {project}:"
    ));
    if answer.as_deref() == Some(project.as_str()) {
        return Ok(());
    }
    let line = format!("that is not its name, {project}: nothing was touched");
    Err(Failure::new(USAGE, line))
}
