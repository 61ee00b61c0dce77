//! `backup verify --restore-test`: SQL Server restores a set's database beside the running one, checks
//! it, and drops it.

use tokio::sync::watch;

use crate::backup::Progress;
use crate::backup::manifest::Encryption;
use crate::backup::restore::Opened;
use crate::backup::restore::Target;
use crate::backup::restore_test;
use crate::backup::run::RunError;
use crate::backup::run::what_starts_sql;
use crate::cli::commands::backup::create;
use crate::cli::context::Context;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::INTERRUPTED;
use crate::cli::outcome::TIMED_OUT;
use crate::daemon::back_up;
use crate::daemon::bring_back;
use crate::reconcile::Observed;
use crate::reconcile::observed::Container;
use crate::spec::UnitId;

/// Tries it on the SQL Server that runs. The inner result is what the test says of the set.
pub(super) async fn restore_test(
    context: &Context,
    set: &Opened,
) -> Result<Result<(), RunError>, Failure> {
    if set.manifest.encryption != Encryption::None && set.identities.0.is_empty() {
        let line = format!("backup {} is encrypted: give --identity FILE", set.name);
        return Err(Failure::new(FAILED, line));
    }
    let stored = context.applied().await.unwrap_or_default();
    let not_up = |observed: &Observed| {
        let start = what_starts_sql(observed);
        let line =
            format!("only a SQL Server of the stack that runs can restore it for a test: {start}");
        Failure::new(FAILED, line)
    };
    let spec = stored.spec.as_ref().filter(|spec| spec.sql.is_some());
    let spec = spec.ok_or_else(|| not_up(&Observed::default()))?;
    if spec.demo != set.manifest.demo {
        let line = "a demo's stand-in and SQL Server do not read each other's databases";
        return Err(Failure::new(FAILED, line));
    }
    let engine = create::engine(context, &stored).await?;
    let alone = back_up::alone(&context.paths);
    let _one_at_a_time = alone.map_err(|error| Failure::new(TIMED_OUT, error.to_string()))?;
    let observed = bring_back::observe(&engine, spec).await?;
    let sql = observed.container(UnitId::Sql);
    let sql = sql
        .filter(|one| Container::is_running(one))
        .ok_or_else(|| not_up(&observed))?;
    let target = Target {
        engine: &engine,
        spec,
        sql: Some(&sql.id),
        files: "",
    };
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(create::tell(receiver));
    // Cancel-safe: what was begun is taken away.
    let tested = tokio::select! {
        tested = restore_test::run(set, &target, &sender) => Ok(tested),
        _ = tokio::signal::ctrl_c() => {
            let cleaned = restore_test::clean_up(&target).await;
            let left = cleaned.err().map(|error| format!(
                "; what is left of it goes with the next `--restore-test`: {error}"
            ));
            let line = format!("interrupted{}", left.unwrap_or_default());
            Err(Failure::new(INTERRUPTED, line))
        }
    };
    telling.abort();
    tested
}
