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
    let name = flags.set.name.parse::<SetName>();
    let name = name.map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let directory = super::directory(context, flags.set.from.as_ref());
    let manifest = directory.manifest(&name)?;
    let set = Opened {
        directory,
        name,
        manifest,
        identities: super::identities(flags.set.identity.as_ref())?,
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
    })
    .await?;
    if !flags.yes {
        confirm(context, set)?;
    }
    bring_back(context, &engine, set, spec).await?;
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
    let free = match spec.sql.as_ref().filter(|_| db_runs(question.observed)) {
        Some(_) => sql::backup::free(&spec.database).await,
        None => None,
    };
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

fn confirm(context: &Context, set: &Opened) -> Outcome {
    let project = &context.project;
    let answer = print::ask(format_args!(
        "Replace the database, packages, artifacts and logs of {project} by those of backup {}? Type its name, {project}:",
        set.name
    ));
    if answer.as_deref() == Some(project.as_str()) {
        return Ok(());
    }
    let line = format!("that is not its name, {project}: nothing was touched");
    Err(Failure::new(USAGE, line))
}

/// From here on the data is neither what it was nor what the set is, until the end.
async fn bring_back(context: &Context, engine: &Engine, set: &Opened, spec: &StackSpec) -> Outcome {
    tell_the_daemon(context, RestoreStep::Begin(set.name.to_string())).await?;
    let of_nodes = spec.volumes.iter().filter(|(key, _)| *key != SQL_DATA);
    for (_, place) in of_nodes.filter(|(_, place)| place.ours().is_none()) {
        print::tell(format_args!(
            "note: {place} is not octo-local's: the set's files take the place of those of the same name, others stay"
        ));
    }
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(super::create::tell(receiver));
    let result = bring_back::bring_back(engine, set, spec, &sender).await;
    telling.abort();
    result.map_err(|error| {
        let lines = vec![
            format!("backup {} is restored in part only: {error}", set.name),
            format!(
                "fix: mend that, then `octo-local backup restore {} --force` again; no node is started before",
                set.name
            ),
        ];
        Failure {
            code: FAILED,
            lines,
        }
    })
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
