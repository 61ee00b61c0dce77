//! `restart`: ends runs in order and starts them again.

use super::change_units;
use crate::api::route;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;
use crate::spec::UnitId;

/// Restarts units and waits until everything serves again.
pub async fn restart(context: &Context, names: &[String]) -> Outcome {
    change_units::wish(context, route::RESTART, names, consequences).await
}

/// What goes beyond the units that were named. Nodes do not run without their database.
fn consequences(units: &[UnitId]) -> Option<String> {
    let line = match units {
        [] => {
            "restarting everything: nodes stop before SQL Server, and start one after another once it serves"
        }
        units if units.contains(&UnitId::Sql) => {
            "SQL Server restarts: the nodes stop first, and start one after another once it serves"
        }
        [_] => return None,
        _ => "restarting one node at a time, each once the one before serves",
    };
    Some(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_the_database_says_that_nodes_stop_too() {
        let told = |units: &[UnitId]| consequences(units).unwrap_or_default();
        assert!(told(&[UnitId::Sql]).contains("the nodes stop first"));
        assert!(told(&[]).contains("everything"));
        assert!(told(&[UnitId::Node(1), UnitId::Node(2)]).contains("one node at a time"));
        assert_eq!(told(&[UnitId::Node(2)]), "");
    }
}
