//! What Octopus Server is asked about a node. Drains it and undrains it: by the vendor's command in
//! its container, and where nothing can be run there (hardened images, engines that cannot), by the
//! API, if its key is known.

use std::time::Duration;

use crate::engine::Engine;
use crate::octopus::drain;
use crate::octopus::drain::Wanted;
use crate::octopus::tentacle;
use crate::reconcile::action::Registered;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle::TentacleName;

/// How long the vendor's command may take besides the tasks that it waits for: it starts a .NET
/// runtime, asks the database, and cancels what is left.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long one exchange with the API may take.
const API_LIMIT: Duration = Duration::from_secs(10);
/// How often the API is asked whether tasks still run.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Brings a node to finish its tasks, or to take some again. Gives why it cannot be.
pub(in crate::daemon) async fn settle(
    engine: &Engine,
    container: &str,
    node: Option<&ContainerSpec>,
    wanted: Wanted,
) -> Result<(), String> {
    let why = match by_command(engine, container, wanted).await {
        Ok(()) => return Ok(()),
        Err(why) => why,
    };
    if node.is_none_or(|node| !node.env.contains_key("ADMIN_API_KEY")) {
        return Err(format!(
            "{why}; there is no ADMIN_API_KEY to ask the API with"
        ));
    }
    let Some(by_api) = node.and_then(api_about) else {
        return Err(why);
    };
    let failed = |error: String| format!("{why}; over the API: {error}");
    match wanted {
        Wanted::Working => by_api.set(false).await.map_err(failed),
        Wanted::Drained(wait) => {
            by_api.set(true).await.map_err(failed)?;
            let waiting = async {
                while by_api.running_tasks().await? > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Ok(())
            };
            // Tasks that are left then end with their node.
            let ended = tokio::time::timeout(wait, waiting).await;
            ended.unwrap_or(Ok(())).map_err(failed)
        }
    }
}

/// How many tasks run on a node, if it says so.
pub(in crate::daemon) async fn running(node: &ContainerSpec) -> Option<u64> {
    let counted = api_about(node)?.running_tasks().await;
    counted
        .inspect_err(|error| tracing::debug!(%error, "tasks that run were not counted"))
        .ok()
}

/// A node's row in the API, asked of the node itself.
fn api_about(node: &ContainerSpec) -> Option<drain::Api<'_>> {
    Some(drain::Api {
        address: node.host_address()?,
        key: node.env.get("ADMIN_API_KEY")?,
        name: node.env.get("OCTOPUS_SERVER_NODE_NAME")?.expose(),
        limit: API_LIMIT,
    })
}

/// Has one node take another, which left, off the list of nodes.
pub(in crate::daemon) async fn take_off(
    spec: &StackSpec,
    name: &str,
    by: UnitId,
) -> Result<(), String> {
    let address = spec.container(by).and_then(ContainerSpec::host_address);
    let (Some(address), Some(key)) = (address, spec.api_key()) else {
        return Err("there is no ADMIN_API_KEY, or no node, to ask the API with".to_owned());
    };
    let api = drain::Api {
        address,
        key,
        name,
        limit: API_LIMIT,
    };
    api.remove().await
}

/// Has a node delete what Octopus Server knows of a Tentacle.
pub(in crate::daemon) async fn deregister(
    spec: &StackSpec,
    name: TentacleName,
    from: &Registered,
) -> Result<(), String> {
    let address = spec
        .container(from.by)
        .and_then(ContainerSpec::host_address);
    let (Some(address), Some(key)) = (address, spec.api_key()) else {
        return Err("there is no ADMIN_API_KEY, or no node, to ask the API with".to_owned());
    };
    let api = tentacle::Api {
        address,
        key,
        limit: API_LIMIT,
    };
    let deleted = api.delete(&from.space, name.as_str(), from.is_worker);
    deleted.await.map_err(|error| error.to_string())
}

async fn by_command(engine: &Engine, container: &str, wanted: Wanted) -> Result<(), String> {
    let waits = match wanted {
        Wanted::Drained(wait) => wait,
        Wanted::Working => Duration::ZERO,
    };
    let mut why = String::new();
    for argv in drain::commands(wanted) {
        let ran = engine.exec(container, &argv, waits + COMMAND_LIMIT).await;
        let ran = ran.map_err(|error| error.to_string())?;
        match ran.code {
            Some(0) => return Ok(()),
            _ if ran.has_no_program() => why = format!("its image has no {}", argv[0]),
            Some(code) => {
                let last = ran.said.lines().last().unwrap_or_default();
                return Err(format!("its command ended with {code}: {last}"));
            }
            None => return Err("the engine does not say how its command ended".to_owned()),
        }
    }
    Err(why)
}
