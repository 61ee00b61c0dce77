//! Draining a node: it finishes the tasks that it runs and takes no more. The flag is in the
//! database and outlives the node's restarts, so whoever sets it has to clear it again.
//!
//! There are two ways: the vendor's command in the container (octopus.com/docs,
//! "Octopus.Server.exe command line: node"), and the node's row in the API, where the flag is called
//! `IsInMaintenanceMode` (OctopusClients, `OctopusServerNodeResource`). The command knows nothing
//! of API keys; the API works where nothing can be run in the container.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::Value;
use serde_json::json;

use super::API_LIMIT;
use crate::config::Secret;

/// The name under which the vendor's images keep the one instance in a container.
const INSTANCE: &str = "OctopusServer";
/// The programs of the vendor's images, the usual one first; older images have only the library.
const PROGRAMS: [&[&str]; 2] = [
    &["/Octopus/Octopus.Server"],
    &["dotnet", "/Octopus/Octopus.Server.dll"],
];
/// All nodes, with the names that they have in the database.
const NODES: &str = "/api/octopusservernodes/summary";
/// The header that carries an API key.
const API_KEY: &str = "X-Octopus-ApiKey";

/// What a node is to do about new tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Take no more, and finish those that run within this time; those that are left are cancelled.
    Drained(Duration),
    /// Take tasks.
    Working,
}

/// The commands that do it, the usual one first. Each is an argument vector.
pub fn commands(wanted: Wanted) -> Vec<Vec<String>> {
    let flags = match wanted {
        Wanted::Drained(wait) => vec![
            "--drain=true".to_owned(),
            format!("--wait={}", wait.as_secs()),
            "--cancel-tasks".to_owned(),
        ],
        Wanted::Working => vec!["--drain=false".to_owned()],
    };
    let of = |program: &&[&str]| {
        let program = program.iter().map(|word| (*word).to_owned());
        let start = ["node".to_owned(), format!("--instance={INSTANCE}")];
        program.chain(start).chain(flags.iter().cloned()).collect()
    };
    PROGRAMS.iter().map(of).collect()
}

/// Sets or clears the flag of a node through the API of a node that serves. It does not wait for
/// tasks. `limit` bounds each exchange.
pub async fn over_api(
    address: SocketAddr,
    key: &Secret,
    name: &str,
    drained: bool,
    limit: Duration,
) -> Result<(), String> {
    let ask = |method: Method, path: String, body: Vec<u8>| async move {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(API_KEY, key.expose())
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| "the API key cannot be sent as a header".to_owned())?;
        let answer = tokio::time::timeout(limit, super::exchange(address, request, API_LIMIT));
        let answer = answer
            .await
            .map_err(|_| format!("no answer within {} s", limit.as_secs()))?;
        match answer.map_err(super::Refusal::into_words)? {
            (200, body) => Ok(body),
            (status, _) => Err(format!("the API answers {status}")),
        }
    };
    let nodes = ask(Method::GET, NODES.to_owned(), Vec::new()).await?;
    let (id, row) = row_of(&nodes, name, drained)
        .ok_or_else(|| format!("the API knows no node of the name {name}"))?;
    let path = format!("/api/octopusservernodes/{id}");
    ask(Method::PUT, path, row).await.map(|_| ())
}

/// The ID of a node, and its row with the flag as it is wanted; its task cap stays.
fn row_of(nodes: &[u8], name: &str, drained: bool) -> Option<(String, Vec<u8>)> {
    let summary: Value = serde_json::from_slice(nodes).ok()?;
    let all = summary.get("Nodes")?.as_array()?;
    let row = all
        .iter()
        .find(|node| node.get("Name").and_then(Value::as_str) == Some(name))?;
    let id = row.get("Id")?.as_str()?.to_owned();
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.');
    if id.is_empty() || !id.chars().all(is_plain) {
        return None;
    }
    let body = json!({
        "Id": id,
        "Name": name,
        "MaxConcurrentTasks": row.get("MaxConcurrentTasks"),
        "IsInMaintenanceMode": drained,
    });
    Some((id, body.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_vendors() {
        let drained = commands(Wanted::Drained(Duration::from_secs(90)));
        let flags = "node --instance=OctopusServer --drain=true --wait=90 --cancel-tasks";
        assert_eq!(drained[0].join(" "), format!("/Octopus/Octopus.Server {flags}"));
        assert_eq!(
            drained[1].join(" "),
            format!("dotnet /Octopus/Octopus.Server.dll {flags}")
        );
        let working = &commands(Wanted::Working)[0];
        assert_eq!(
            working.join(" "),
            "/Octopus/Octopus.Server node --instance=OctopusServer --drain=false"
        );
    }

    #[test]
    fn only_the_flag_of_the_node_changes() {
        let nodes = br#"{"Nodes":[
            {"Id":"OctopusServerNodes-1","Name":"octopus-1","IsInMaintenanceMode":false,"MaxConcurrentTasks":5},
            {"Id":"../x","Name":"odd","IsInMaintenanceMode":false}]}"#;
        let (id, row) = row_of(nodes, "octopus-1", true).unwrap();
        let row: Value = serde_json::from_slice(&row).unwrap();
        assert_eq!(id, "OctopusServerNodes-1");
        assert_eq!(row["IsInMaintenanceMode"], true);
        assert_eq!(row["MaxConcurrentTasks"], 5);
        assert!(row_of(nodes, "octopus-2", true).is_none());
        assert!(row_of(nodes, "odd", true).is_none(), "no path of its own");
        assert!(row_of(b"<html>", "octopus-1", true).is_none());
    }
}
