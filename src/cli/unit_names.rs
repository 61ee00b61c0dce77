//! What names of units mean, for every command that takes some.

use std::collections::BTreeSet;

use crate::cli::context::Context;
use crate::cli::daemon_client::fetch_status;
use crate::cli::known;
use crate::cli::outcome::Failure;
use crate::cli::outcome::USAGE;
use crate::config::project::ProjectName;
use crate::spec::UnitId;

/// The units that these names mean, in start order; none named means none.
pub async fn named(context: &Context, names: &[String]) -> Result<Vec<UnitId>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let status = fetch_status::fetch(context).await?;
    let all = status.units.iter().chain(&status.tentacles);
    let known: Vec<UnitId> = all.map(|unit| unit.unit).collect();
    choose(&context.project, &known, names).map_err(|why| {
        let mut failure = Failure::new(USAGE, why);
        // Where nothing of the project is there, another one may be meant.
        let others = known::others(context).filter(|_| known.is_empty());
        failure.lines.extend(others);
        failure
    })
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
        // A Tentacle's own name will do, where it is nobody else's.
        let tentacle = || short.parse().ok().map(UnitId::Tentacle);
        let is_whole = known.iter().any(|unit| unit.service() == short);
        let fits = |unit: &&UnitId| {
            unit.service() == short
                || short.parse() == Ok(**unit)
                || !is_whole && tentacle() == Some(**unit)
        };
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
