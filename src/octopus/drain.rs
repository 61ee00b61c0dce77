//! What the API knows of nodes, and draining one: it finishes the tasks that it runs and takes no
//! more. The flag is in the database and outlives the node's restarts, so whoever sets it has to
//! clear it again.
//!
//! There are two ways: the vendor's command in the container (octopus.com/docs,
//! "Octopus.Server.exe command line: node"), and the node's row in the API, where the flag is called
//! `IsInMaintenanceMode` (OctopusClients, `OctopusServerNodeResource`). The command knows nothing
//! of API keys; the API works where nothing can be run in the container.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;
use serde_json::json;

use super::ApiFailure;
use crate::config::Secret;

/// The name under which the vendor's images keep the one instance in a container.
pub(super) const INSTANCE: &str = "OctopusServer";
/// The programs of the vendor's images, the usual one first; older images have only the library.
pub(super) const PROGRAMS: [&[&str]; 2] = [
    &["/Octopus/Octopus.Server"],
    &["dotnet", "/Octopus/Octopus.Server.dll"],
];
/// All nodes with their tasks, by the names that they have in the database.
const SUMMARY: &str = "/api/octopusservernodes/summary";
/// Each node by its ID.
const NODES: &str = "/api/octopusservernodes";

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

/// How long a command in the container lets tasks go on before it cancels them, if it drains.
pub fn waits_for_tasks(argv: &[String]) -> Option<Duration> {
    let flag = |name: &str| argv.iter().find_map(|word| word.strip_prefix(name));
    let drains = argv.iter().any(|word| word == "node") && flag("--drain=") == Some("true");
    let seconds = flag("--wait=").and_then(|seconds| seconds.parse().ok());
    drains.then(|| Duration::from_secs(seconds.unwrap_or_default()))
}

/// A node's row in the API.
pub struct Api<'a> {
    /// Where a node that serves answers.
    pub address: SocketAddr,
    /// The administrator's API key.
    pub key: &'a Secret,
    /// The node's name in the database.
    pub name: &'a str,
    /// How long one exchange may take.
    pub limit: Duration,
}

/// What a node does about tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tasks {
    /// How many run.
    pub running: u64,
    /// It is known to take more.
    pub takes_more: bool,
}

impl Api<'_> {
    /// Sets or clears the flag. It does not wait for tasks.
    pub async fn set(&self, drained: bool) -> Result<(), String> {
        let summary = self.ask(Method::GET, SUMMARY, Vec::new()).await?;
        let (id, row) = row_of(&summary, self.name, drained).ok_or_else(|| self.unknown())?;
        let path = format!("{NODES}/{id}");
        self.ask(Method::PUT, &path, row).await?;
        Ok(())
    }

    /// What the node does about tasks.
    pub async fn tasks(&self) -> Result<Tasks, String> {
        let summary = self.ask(Method::GET, SUMMARY, Vec::new()).await?;
        let node = node_of(&summary, self.name).ok_or_else(|| self.unknown())?;
        let running = node.get("RunningTaskCount").and_then(Value::as_u64);
        let takes_more = node.get("IsInMaintenanceMode").and_then(Value::as_bool) == Some(false);
        Ok(Tasks {
            running: running.ok_or("the API does not say how many tasks run")?,
            takes_more,
        })
    }

    /// The names of all nodes that are not offline.
    pub async fn online(&self) -> Result<Vec<String>, String> {
        let summary = self.ask(Method::GET, SUMMARY, Vec::new()).await?;
        Ok(online_in(&summary))
    }

    /// Takes the node off the list. One that is not on it is off already.
    pub async fn remove(&self) -> Result<(), ApiFailure> {
        let summary = self.ask(Method::GET, SUMMARY, Vec::new()).await?;
        let Some(node) = node_of(&summary, self.name) else {
            return Ok(());
        };
        let id = id_of(&node).ok_or_else(|| self.unknown())?;
        let path = format!("{NODES}/{id}");
        self.ask(Method::DELETE, &path, Vec::new()).await.map(drop)
    }

    fn unknown(&self) -> String {
        format!("the API knows no node of the name {}", self.name)
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ApiFailure> {
        super::ask(self.address, self.key, self.limit, method, path, body).await
    }
}

/// The names of the nodes of the summary that are not offline.
fn online_in(summary: &[u8]) -> Vec<String> {
    let summary: Value = serde_json::from_slice(summary).unwrap_or_default();
    let nodes = summary.get("Nodes").and_then(Value::as_array);
    let is_on = |node: &&Value| node.get("IsOffline").and_then(Value::as_bool) == Some(false);
    let name = |node: &Value| node.get("Name")?.as_str().map(str::to_owned);
    let online = nodes.into_iter().flatten().filter(is_on);
    online.filter_map(name).collect()
}

/// A node of the summary.
fn node_of(summary: &[u8], name: &str) -> Option<Value> {
    let summary: Value = serde_json::from_slice(summary).ok()?;
    let mut nodes = summary.get("Nodes")?.as_array()?.iter();
    let node = nodes.find(|node| node.get("Name").and_then(Value::as_str) == Some(name));
    node.cloned()
}

/// The ID of a node, and its row with the flag as it is wanted; its task cap stays.
fn row_of(nodes: &[u8], name: &str, drained: bool) -> Option<(String, Vec<u8>)> {
    let row = node_of(nodes, name)?;
    let id = id_of(&row)?;
    let body = json!({
        "Id": id,
        "Name": name,
        "MaxConcurrentTasks": row.get("MaxConcurrentTasks"),
        "IsInMaintenanceMode": drained,
    });
    Some((id, body.to_string().into_bytes()))
}

/// The ID of a node's row, where it is no path of its own.
pub(super) fn id_of(row: &Value) -> Option<String> {
    let id = row.get("Id")?.as_str()?.to_owned();
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.');
    let is_id = !id.is_empty() && id.chars().all(is_plain) && !id.contains("..");
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_online_that_say_so() {
        let summary = json!({ "Nodes": [
            { "Name": "octopus", "IsOffline": false },
            { "Name": "gone", "IsOffline": true },
            { "Name": "odd" },
        ]});
        assert_eq!(online_in(summary.to_string().as_bytes()), ["octopus"]);
        assert!(online_in(b"no json").is_empty());
    }

    #[test]
    fn the_command_is_the_vendors() {
        let drained = commands(Wanted::Drained(Duration::from_secs(90)));
        let flags = "node --instance=OctopusServer --drain=true --wait=90 --cancel-tasks";
        assert_eq!(
            drained[0].join(" "),
            format!("/Octopus/Octopus.Server {flags}")
        );
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
    fn a_command_that_drains_is_known_with_its_wait() {
        let drained = Wanted::Drained(Duration::from_secs(90));
        for (wanted, waits) in [
            (drained, Some(Duration::from_secs(90))),
            (Wanted::Working, None),
        ] {
            for argv in commands(wanted) {
                assert_eq!(waits_for_tasks(&argv), waits, "{argv:?}");
            }
        }
        let by_hand = ["/Octopus/Octopus.Server", "node", "--drain=true"].map(str::to_owned);
        assert_eq!(waits_for_tasks(&by_hand), Some(Duration::ZERO));
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
