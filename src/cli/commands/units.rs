//! `restart`, `stop` and `start`: wishes about single units, which the daemon carries out in order.
//! And what names of units mean, for every command that takes some.

use std::collections::BTreeSet;

use crate::api::UnitsBody;
use crate::cli::args::Format;
use crate::cli::commands::status;
use crate::cli::context::Context;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::progress::Progress;
use crate::config::project::ProjectName;
use crate::reconcile::status::Verdict;
use crate::spec::UnitId;

/// What Ctrl-C says: the wish was taken, and the daemon keeps it.
const GOES_ON: &str = "interrupted; the daemon goes on, see `octo-local status`";

/// Restarts units and waits until everything serves again.
pub async fn restart(context: &Context, names: &[String]) -> Outcome {
    wish(context, "/v1/restart", names).await
}

/// Stops units until they are started again.
pub async fn stop(context: &Context, names: &[String]) -> Outcome {
    wish(context, "/v1/stop", names).await
}

/// Starts units again.
pub async fn start(context: &Context, names: &[String]) -> Outcome {
    wish(context, "/v1/start", names).await
}

async fn wish(context: &Context, path: &str, names: &[String]) -> Outcome {
    context.must_be_from_here().await?;
    let units = named(context, names).await?;
    interruptible(GOES_ON, carry_out(context, path, units)).await
}

async fn carry_out(context: &Context, path: &str, units: Vec<UnitId>) -> Outcome {
    let mut progress = Progress::new(Format::Table);
    let mut statuses = context.client.follow().await?;
    let generation: u64 = context
        .client
        .post(
            path,
            &UnitsBody {
                units,
                endpoint: Some(context.endpoint()),
            },
        )
        .await?;
    loop {
        // Cancel-safe: the stream keeps what it read; the tick is awaited again.
        let status = tokio::select! {
            status = statuses.next() => status?,
            () = progress.tick() => continue,
        };
        let Some(status) = status else {
            return Err(Failure::new(FAILED, "the daemon ended meanwhile"));
        };
        if status.generation < generation {
            continue;
        }
        progress.tell(&status);
        match status.verdict {
            Verdict::Ready => return Ok(()),
            Verdict::Failed | Verdict::Held => return Err(Failure::new(FAILED, status.message)),
            Verdict::Down if status.goal != "up" => {
                return Err(Failure::new(FAILED, status.message));
            }
            Verdict::Down | Verdict::Working | Verdict::Degraded | Verdict::EngineDown => {}
        }
    }
}

/// The units that these names mean, in start order; none named means none.
pub async fn named(context: &Context, names: &[String]) -> Result<Vec<UnitId>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<UnitId> = status::fetch(context)
        .await?
        .units
        .iter()
        .map(|unit| unit.unit)
        .collect();
    choose(&context.project, &known, names).map_err(|why| Failure::new(USAGE, why))
}

/// A name is a unit's, a container's, or that of compose's service, which is all its units.
fn choose(
    project: &ProjectName,
    known: &[UnitId],
    names: &[String],
) -> Result<Vec<UnitId>, String> {
    let mut chosen = BTreeSet::new();
    for name in names {
        let short = name
            .strip_prefix(project.as_str())
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or(name);
        let fits = |unit: &&UnitId| unit.service() == short || short.parse() == Ok(**unit);
        let units: Vec<UnitId> = known.iter().filter(fits).copied().collect();
        if units.is_empty() {
            return Err(unknown(project, known, name));
        }
        chosen.extend(units);
    }
    Ok(chosen.into_iter().collect())
}

fn unknown(project: &ProjectName, known: &[UnitId], name: &str) -> String {
    let names = known
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if names.is_empty() {
        return format!(
            "no unit is called {name}: nothing of {project} is there; `octo-local up` makes it"
        );
    }
    format!("no unit is called {name}: {project} has {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<UnitId>, String> {
        let known = [UnitId::Sql, UnitId::Node(1), UnitId::Node(2)];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        choose(&ProjectName::given("octo").unwrap(), &known, &names)
    }

    #[test]
    fn units_containers_and_services_can_be_named() {
        assert_eq!(
            chosen(&["octopus-server-2", "db"]),
            Ok(vec![UnitId::Sql, UnitId::Node(2)])
        );
        assert_eq!(
            chosen(&["octo-db-1", "octo-octopus-server-1"]),
            Ok(vec![UnitId::Sql, UnitId::Node(1)])
        );
        assert_eq!(
            chosen(&["octopus-server", "octopus-server-1"]),
            Ok(vec![UnitId::Node(1), UnitId::Node(2)])
        );
        let why = chosen(&["db", "octopus-server-3"]).unwrap_err();
        assert_eq!(
            why,
            "no unit is called octopus-server-3: octo has db, octopus-server-1, octopus-server-2"
        );
    }
}
