//! What a person is told of an adoption before it is asked for.

use super::found::Found;
use super::found::Whereabouts;
use super::record::OldNetwork;
use super::variables;
use super::variables::Variables;
use crate::config::storage::KINDS;

/// What was found and what will be done, line by line.
pub fn lines(
    found: &Found,
    project: &str,
    variables: &Variables,
    network: Option<&OldNetwork>,
    with_backup: bool,
) -> Vec<String> {
    let mut lines = vec![format!("found     the compose project {}:", found.from)];
    for one in found.containers() {
        let what = if one.id == found.sql.id {
            "SQL Server"
        } else {
            "Octopus Server"
        };
        let runs = if one.running { "runs" } else { "does not run" };
        lines.push(format!(
            "  {what}: container {} of {}, {runs}",
            one.name, one.image
        ));
    }
    for kind in &KINDS {
        match found.data.get(kind.key) {
            Some(Whereabouts::Mounted(place)) => {
                lines.push(format!(
                    "  {}: in {place}, which is used as it is",
                    kind.path
                ));
            }
            Some(Whereabouts::Inside { .. }) => lines.push(format!(
                "  {}: in the container itself; it is copied into the new volume {project}_{}",
                kind.path, kind.key
            )),
            None => {}
        }
    }
    if !variables.is_empty() {
        lines.push("keep      what the .env does not say (it counts from then on, unless the .env says otherwise):".to_owned());
        lines.extend(variables::shown(variables).map(|line| format!("  {line}")));
    }
    if with_backup {
        lines.push("backup    a set of all of it, in the backup directory".to_owned());
    }
    let names = |is_sql: bool| {
        let all = found
            .containers()
            .filter(|one| (one.id == found.sql.id) == is_sql);
        all.map(|one| one.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    lines.push(format!(
        "stop      {}, then {} by SHUTDOWN; they are renamed to …-before-octo-local, and kept until `octo-local adopt --forget`",
        names(false),
        names(true)
    ));
    if let Some(network) = network {
        lines.push(format!(
            "remove    the network {}, whose name is needed; `octo-local adopt --undo` makes it again",
            network.name
        ));
    }
    lines.push(format!("up        {project}, on this data"));
    lines.extend(
        variables::notes(found)
            .into_iter()
            .map(|note| format!("note      {note}")),
    );
    lines
}
