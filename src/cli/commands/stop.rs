//! `stop`: units stay stopped until `start` or `up`.

use super::change_units;
use crate::api::route;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;
use crate::spec::UnitId;

/// Stops units until they are started again.
pub async fn stop(context: &Context, names: &[String]) -> Outcome {
    change_units::wish(context, route::STOP, names, consequences).await
}

/// What goes beyond the units that were named.
fn consequences(units: &[UnitId]) -> Option<String> {
    let line = "SQL Server stops: the nodes stop first, and wait for it";
    units.contains(&UnitId::Sql).then(|| line.to_owned())
}
