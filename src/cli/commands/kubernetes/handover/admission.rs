//! What is asked, and all that is refused, before a handover touches anything.

use std::collections::BTreeSet;

use super::super::change;
use super::super::change::right;
use super::super::confirm;
use super::super::here;
use super::super::here::Applied;
use super::super::kubectl::Kubectl;
use super::super::kubectl::Right;
use super::super::look::Places;
use super::super::look::Sql;
use crate::cli::args::HandoverFlags;
use crate::cli::args::KubernetesFlags;
use crate::cli::context::Context;
use crate::cli::handed_over;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::config::Problem;
use crate::kubernetes::Seen;
use crate::kubernetes::handover::FORM;
use crate::kubernetes::handover::Handover;
use crate::kubernetes::handover::Stage;
use crate::kubernetes::told;

/// Rights beside those of an upgrade.
const RIGHTS: [Right; 2] = [
    right("create", "pods", None),
    right("list", "services", None),
];

/// Everything that is asked and refused before anything is touched. None: it was only a plan.
pub(super) async fn begin(
    context: &Context,
    kubectl: &Kubectl,
    flags: &KubernetesFlags,
    own: &HandoverFlags,
) -> Result<Option<Handover>, Failure> {
    let applied = Applied::of(context).await?;
    let places = Places::find(kubectl).await?;
    let seen = places.seen(kubectl).await?;
    let sql = places.sql(kubectl).await?;
    let kept = Handover {
        form: FORM,
        stage: Stage::Leaving,
        context: flags.context.clone(),
        namespace: kubectl.namespace.clone(),
        image: seen.set.image.clone(),
        nodes: u32::from(applied.config.octopus.nodes),
        old_names: applied.node_names(),
        database: applied.spec.database.database.clone(),
        set: None,
        copied: BTreeSet::new(),
    };
    let mut problems = against(context, &applied, &seen);
    let there = (&places, sql.as_ref());
    database_problems(context, kubectl, &applied, there, &mut problems).await?;
    if !problems.is_empty() {
        return Err(Failure::problems(&problems));
    }
    kubectl
        .must_be_allowed(&[&change::RIGHTS[..], &RIGHTS[..]].concat())
        .await?;
    for line in told::plan_of_handover(&kept, &seen.set.name) {
        if own.plan {
            print::line(line);
        } else {
            print::tell(line);
        }
    }
    if own.plan {
        return Ok(None);
    }
    confirm("Hand it over?", own.patience.yes)?;
    handed_over::write(&context.paths.handover(), &kept)?;
    Ok(Some(kept))
}

fn problem(key: &str, why: String, fix: &str) -> Problem {
    Problem {
        key: key.to_owned(),
        value: None,
        why,
        fix: fix.to_owned(),
        origin: None,
    }
}

/// What speaks against it in the StatefulSet there.
fn against(context: &Context, applied: &Applied, seen: &Seen) -> Vec<Problem> {
    let set = &seen.set;
    let name = format!("statefulset/{}", set.name);
    let mut problems = Vec::new();
    if set.wished > 0 || set.existing > 0 || !seen.pods.is_empty() {
        problems.push(problem(
            &name,
            "nodes run there, or are wished, before the data is there: they made a database of their own".to_owned(),
            "scale it to 0 and drop that database; `octo-local export kubernetes --for-handover` wishes for none",
        ));
    }
    if !set.is_guarded() {
        problems.push(problem(
            &name,
            "it has no partition above its nodes".to_owned(),
            "apply what `octo-local export kubernetes` writes",
        ));
    }
    let here = applied.tag(context);
    let there = set.image.rsplit(':').next().unwrap_or_default();
    let plain = |tag: &str| tag.strip_suffix("-hardened").unwrap_or(tag).to_owned();
    if plain(there) != plain(&here) {
        problems.push(problem(
            &name,
            format!("it has {}, and {here} runs here", set.image),
            "export again and apply that; an upgrade comes afterwards",
        ));
    }
    if set.record.is_some() {
        problems.push(problem(
            &name,
            "an upgrade is under way there".to_owned(),
            "end that first",
        ));
    }
    problems
}

/// What speaks against it in the databases: what is there already is never overwritten.
async fn database_problems(
    context: &Context,
    kubectl: &Kubectl,
    applied: &Applied,
    (places, sql): (&Places, Option<&Sql>),
    problems: &mut Vec<Problem>,
) -> Outcome {
    let database = &applied.spec.database.database;
    match (applied.config.sql.is_some(), sql) {
        (true, Some(sql)) if sql.is_ready => {
            let all = sql.databases(kubectl).await?;
            if all.iter().any(|name| name.eq_ignore_ascii_case(database)) {
                problems.push(problem(
                    &sql.pod,
                    format!("it has a database {database} already, which would be overwritten"),
                    "see what is in it; back it up and drop it, or hand over to another namespace",
                ));
            }
        }
        (true, Some(_) | None) if places.has_sql => problems.push(problem(
            "statefulset/mssql",
            "SQL Server does not serve there".to_owned(),
            "wait for it: `octo-local kubernetes status`",
        )),
        (true, Some(_) | None) => problems.push(problem(
            "--sql external",
            "the database is here, and the cluster's is on a server that only its own administrators write to".to_owned(),
            "restore a set of `octo-local backup` there by hand, as HANDOVER.md says",
        )),
        (false, Some(_)) => problems.push(problem(
            "--sql internal",
            "the database here is on a server of its own, and the cluster has another one".to_owned(),
            "export with --sql external, or restore it there by hand, as HANDOVER.md says",
        )),
        (false, None) => {}
    }
    if applied.config.sql.is_some() && !here::sql_runs(context).await? {
        problems.push(problem(
            "db",
            "SQL Server does not run here, and only it can back up its database".to_owned(),
            "`octo-local up` first",
        ));
    }
    Ok(())
}
