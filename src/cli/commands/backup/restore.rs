//! `backup restore`: the data of a set in the place of what is here. Everything that speaks against
//! it is told at once, before anything is touched; the daemon stops the nodes and keeps SQL Server
//! running, and brings the stack back as it was wished.

use tokio::sync::watch;

use crate::api::RestoreBody;
use crate::api::route;
use crate::backup::Progress;
use crate::backup::SetName;
use crate::backup::admission;
use crate::backup::admission::Here;
use crate::backup::restore;
use crate::backup::restore::Opened;
use crate::backup::secrets::Secrets;
use crate::cli::args::RestoreFlags;
use crate::cli::commands::change_units;
use crate::cli::context::Context;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::config::Config;
use crate::config::Secret;
use crate::daemon::back_up;
use crate::daemon::bring_back;
use crate::daemon::bring_back::HalfBack;
use crate::daemon::message::RestoreStep;
use crate::daemon::store;
use crate::daemon::store::Stored;
use crate::engine::Engine;
use crate::reconcile::Observed;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::SQL_DATA;
use crate::sql;

/// Brings a set back.
pub(super) async fn restore(context: &Context, flags: &RestoreFlags) -> Outcome {
    if !flags.yes && !print::can_ask() {
        let line = "this replaces data, and nobody can be asked here: --yes does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    let Some(name) = &flags.name else {
        context.must_be_from_here().await?;
        let last_words = "interrupted: if nodes were stopped already they stay so until `octo-local backup restore --back` is done";
        return interruptible(last_words, Box::pin(go_back(context, flags.yes))).await;
    };
    let name = name.parse::<SetName>();
    let name = name.map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let directory = super::directory(context, flags.place.from.as_ref());
    let manifest = directory.manifest(&name)?;
    let set = Opened {
        directory,
        name,
        manifest,
        identities: super::identities(flags.place.identity.as_ref())?,
    };
    context.must_be_from_here().await?;
    let last_words = format!(
        "interrupted: if nodes were stopped already they stay so until `octo-local backup restore {} --force` is done",
        set.name
    );
    interruptible(&last_words, Box::pin(carry_out(context, &set, flags))).await
}

async fn carry_out(context: &Context, set: &Opened, flags: &RestoreFlags) -> Outcome {
    let stored = context.applied().await.unwrap_or_default();
    let (Some(config), Some(spec)) = (&stored.config, &stored.spec) else {
        let line = format!(
            "nothing was applied of {} yet: `octo-local up` first, then restore over its empty data",
            context.project
        );
        return Err(Failure::new(FAILED, line));
    };
    let engine = super::create::engine(context, &stored).await?;
    let alone = back_up::alone(&context.paths);
    let _one_at_a_time = alone.map_err(|error| Failure::new(TIMED_OUT, error.to_string()))?;
    let observed = bring_back::observe(&engine, spec).await?;
    let secrets = bring_back::secrets(set);
    let secrets = secrets.map_err(|error| Failure::new(FAILED, error.to_string()))?;
    let key = must_be_admitted(&Question {
        set,
        stored: &stored,
        config,
        spec,
        observed: &observed,
        secrets: &secrets,
        force: flags.force,
        discard: flags.discard,
    })
    .await?;
    if !flags.yes {
        let by = format!("those of backup {}", set.name);
        confirm(context, &by)?;
    }
    let replacing = Replacing {
        engine: &engine,
        set,
        spec,
        keeps: !flags.discard,
    };
    bring_back(context, &replacing).await?;
    let restored = bring_back::restored(set, key, &secrets);
    tell_the_daemon(context, RestoreStep::End(Box::new(restored))).await?;
    print::tell(format_args!("backup {} is restored", set.name));
    Ok(())
}

/// What decides whether a set may come back.
struct Question<'a> {
    set: &'a Opened,
    stored: &'a Stored,
    config: &'a Config,
    spec: &'a StackSpec,
    observed: &'a Observed,
    secrets: &'a Secrets,
    force: bool,
    discard: bool,
}

/// Whether what a restore replaced is kept whole already: the next one keeps nothing anew.
fn is_kept(stored: &Stored) -> bool {
    let kept = stored.backups.way_back_from_restore();
    kept.is_some_and(|kept| kept.whole)
}

/// The key of the data, or everything that speaks against the restore.
async fn must_be_admitted(question: &Question<'_>) -> Result<Option<Secret>, Failure> {
    let Question {
        set,
        stored,
        config,
        spec,
        ..
    } = question;
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(super::create::tell(receiver));
    let faults = restore::faults(set, &sender).await;
    telling.abort();
    let faults = faults.map_err(|error| Failure::new(FAILED, error.to_string()))?;
    let given = config.octopus.master_key.as_ref();
    let of_set = question.secrets.master_key.as_ref();
    let kept = stored.master_key().filter(|_| of_set.is_none());
    let (mut free, mut replaced) = (None, 0);
    if spec.sql.is_some() && db_runs(question.observed) {
        free = sql::backup::free(&spec.database).await;
        if !question.discard && !is_kept(stored) {
            replaced = sql::backup::size(&spec.database).await.unwrap_or(0);
        }
    }
    let data = store::Data::of(spec);
    let here = Here {
        project: &spec.project,
        demo: spec.demo,
        is_external: spec.sql.is_none(),
        has_data: stored.had_data(&data),
        tag: &config.octopus.tag,
        master_key: given.or(kept),
        key_of_set: of_set,
        free,
        kept: replaced,
        force: question.force,
    };
    let refusals = admission::refusals(&set.manifest, &here);
    let told = admission::reasons(&faults, &refusals);
    if told.is_empty() {
        let key = given.or(of_set).or(kept).cloned();
        return Ok(key.filter(|_| spec.sql.is_some()));
    }
    let mut lines = vec![format!(
        "backup {} is not restored, and nothing was touched:",
        set.name
    )];
    lines.extend(told.iter().map(|why| format!("  {why}")));
    Err(Failure {
        code: FAILED,
        lines,
    })
}

fn db_runs(observed: &Observed) -> bool {
    let database = observed.container(UnitId::Sql);
    database.is_some_and(crate::reconcile::observed::Container::is_running)
}

fn confirm(context: &Context, by: &str) -> Outcome {
    let project = &context.project;
    let answer = print::ask(format_args!(
        "Replace the database, packages, artifacts and logs of {project} by {by}? Type its name, {project}:"
    ));
    if answer.as_deref() == Some(project.as_str()) {
        return Ok(());
    }
    let line = format!("that is not its name, {project}: nothing was touched");
    Err(Failure::new(USAGE, line))
}

/// A restore that nothing speaks against.
struct Replacing<'a> {
    engine: &'a Engine,
    set: &'a Opened,
    spec: &'a StackSpec,
    /// What it replaces is kept until the stack is ready.
    keeps: bool,
}

/// From here on the data is neither what it was nor what the set is, until the end.
async fn bring_back(context: &Context, replacing: &Replacing<'_>) -> Outcome {
    let Replacing {
        set, spec, keeps, ..
    } = *replacing;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let begin = RestoreStep::Begin {
        set: set.name.to_string(),
        keep_as: keeps.then(|| now.to_string()),
    };
    tell_the_daemon(context, begin).await?;
    let of_nodes = spec.volumes.iter().filter(|(key, _)| *key != SQL_DATA);
    for (_, place) in of_nodes.filter(|(_, place)| place.ours().is_none()) {
        print::tell(format_args!(
            "note: {place} is not octo-local's: the set's files take the place of those of the same name, others stay"
        ));
    }
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(super::create::tell(receiver));
    let result = replace(context, replacing, &sender).await;
    telling.abort();
    result
}

async fn replace(
    context: &Context,
    replacing: &Replacing<'_>,
    sender: &watch::Sender<Progress>,
) -> Outcome {
    let Replacing {
        engine,
        set,
        spec,
        keeps,
    } = *replacing;
    // Only now is it certain: what an earlier one kept may have been removed just before.
    let stored = context.applied().await.unwrap_or_default();
    let kept = stored.backups.way_back_from_restore();
    if keeps && kept.is_none() {
        return Err(Failure::new(FAILED, "another command took over"));
    }
    if let Some(kept) = kept.filter(|kept| keeps && !kept.whole) {
        let kept = bring_back::keep(engine, set, spec, &kept.id, sender).await;
        let (volumes, database) = kept.map_err(|error| not_kept(set, &error))?;
        tell_the_daemon(context, RestoreStep::Kept { database, volumes }).await?;
    }
    let result = bring_back::bring_back(engine, set, spec, sender).await;
    result.map_err(|error| {
        let mut lines = vec![
            format!("backup {} is restored in part only: {error}", set.name),
            format!(
                "fix: mend that, then `octo-local backup restore {} --force` again; no node is started before",
                set.name
            ),
        ];
        if keeps {
            let line = "or `octo-local backup restore --back`, to what was there before";
            lines.push(line.to_owned());
        }
        Failure {
            code: FAILED,
            lines,
        }
    })
}

fn not_kept(set: &Opened, error: &HalfBack) -> Failure {
    let name = &set.name;
    let lines = vec![
        format!("backup {name} is not restored, since what it replaces cannot be kept: {error}"),
        "fix: mend that, then the same again; or `octo-local backup restore --back`, to go on as before".to_owned(),
        format!(
            "or `octo-local backup restore {name} --force --discard`, which gives up what is there now"
        ),
    ];
    Failure {
        code: FAILED,
        lines,
    }
}

/// Brings back what the last restore replaced.
async fn go_back(context: &Context, yes: bool) -> Outcome {
    let stored = context.applied().await.unwrap_or_default();
    let kept = stored.backups.way_back_from_restore();
    let (Some(kept), Some(spec)) = (kept, &stored.spec) else {
        return Err(nothing_kept(&stored));
    };
    let engine = super::create::engine(context, &stored).await?;
    let alone = back_up::alone(&context.paths);
    let _one_at_a_time = alone.map_err(|error| Failure::new(TIMED_OUT, error.to_string()))?;
    if !yes {
        confirm(context, "those of before the last restore")?;
    }
    tell_the_daemon(context, RestoreStep::BeginBack).await?;
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(super::create::tell(receiver));
    let not_back = |error: HalfBack| {
        let lines = vec![
            format!("what was there before the restore is not back: {error}"),
            "fix: mend that, then `octo-local backup restore --back` again; no node is started before"
                .to_owned(),
        ];
        Failure {
            code: FAILED,
            lines,
        }
    };
    if kept.whole {
        let discarded = bring_back::discard(&engine, kept, spec, &sender).await;
        discarded.map_err(not_back)?;
        tell_the_daemon(context, RestoreStep::GoingBack).await?;
    }
    let returned = bring_back::return_volumes(&engine, kept, spec).await;
    returned.map_err(not_back)?;
    telling.abort();
    tell_the_daemon(context, RestoreStep::Back).await?;
    print::tell("the data is what it was before the restore");
    Ok(())
}

fn nothing_kept(stored: &Stored) -> Failure {
    let line = match &stored.backups.restoring {
        Some(unfinished) => format!(
            "nothing was kept of what the restore of backup {set} replaces, as --discard asked: `octo-local backup restore {set} --force` again is the way on",
            set = unfinished.set
        ),
        None => "nothing is kept of what a restore replaced: with --discard nothing was, and else it is removed once the stack is ready".to_owned(),
    };
    Failure::new(FAILED, line)
}

/// Makes the wish and waits until it is true: nodes at rest and SQL Server serving at first, what
/// was wished at the end.
async fn tell_the_daemon(context: &Context, step: RestoreStep) -> Outcome {
    let body = RestoreBody {
        step,
        endpoint: Some(context.endpoint()),
    };
    change_units::until_true(context, route::RESTORE, &body).await
}
