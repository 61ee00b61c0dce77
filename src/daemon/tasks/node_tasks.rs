//! What Octopus Server is asked about a node. Drains it and undrains it: by the vendor's command in
//! its container, and where nothing can be run there (hardened images, engines that cannot), by the
//! API, if its key is known.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::EngineError;
use crate::octopus::ApiFailure;
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

/// How often the engine is asked whether a command still runs.
const COMMAND_LOOK_EVERY: Duration = Duration::from_millis(100);
/// The exit code of a command that was killed, as the engine tells it.
const KILLED: i64 = 137;

/// Why the vendor's command did not do it.
enum NotByCommand {
    /// It cannot be run, or says that it cannot.
    Failed(String),
    /// It was ended from outside: by whoever breaks it off.
    Killed,
}

/// Brings a node to finish its tasks, or to take some again. Gives why it cannot be.
pub(in crate::daemon) async fn settle(
    engine: &Engine,
    container: &str,
    node: Option<&ContainerSpec>,
    wanted: Wanted,
) -> Result<(), String> {
    if wanted == Wanted::Working {
        break_off(engine, container).await?;
    }
    let why = match by_command(engine, container, wanted).await {
        Ok(()) => return Ok(()),
        Err(NotByCommand::Killed) => return Err("its command was killed".to_owned()),
        Err(NotByCommand::Failed(why)) => why,
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
            // Tasks that are left then end with their node.
            let ended = tokio::time::timeout(wait, tasks_end(&by_api)).await;
            ended.unwrap_or(Ok(())).map_err(failed)
        }
    }
}

/// Waits until no task runs on a node that takes no more.
async fn tasks_end(by_api: &drain::Api<'_>) -> Result<(), String> {
    loop {
        let tasks = by_api.tasks().await?;
        if tasks.takes_more {
            return Err("it was told to take tasks again".to_owned());
        }
        if tasks.running == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends the commands in a container that wait for tasks, also those of a daemon that died: each
/// would cancel at its end what its node has taken since. One that cannot be ended from here is
/// waited for instead: until then the node takes no tasks.
async fn break_off(engine: &Engine, container: &str) -> Result<(), String> {
    let commands = engine.commands_in(container).await;
    for command in commands.map_err(|error| error.to_string())? {
        let Some(waits) = drain::waits_for_tasks(&command.argv) else {
            continue;
        };
        let is_killed = command.kill();
        if !is_killed {
            tracing::info!("what waits for its tasks cannot be ended from here, and is waited for");
        }
        let every = if is_killed {
            COMMAND_LOOK_EVERY
        } else {
            LOOK_EVERY
        };
        let end = async {
            while engine.runs(&command).await? {
                tokio::time::sleep(every).await;
            }
            Ok::<(), EngineError>(())
        };
        match tokio::time::timeout(waits.saturating_add(COMMAND_LIMIT), end).await {
            Ok(ended) => ended.map_err(|error| error.to_string())?,
            Err(_) => tracing::warn!("a command that waits for its tasks hangs, and is left alone"),
        }
    }
    Ok(())
}

/// How many tasks run on a node, if it says so.
pub(in crate::daemon) async fn running(node: &ContainerSpec) -> Option<u64> {
    let counted = api_about(node)?.tasks().await.map(|tasks| tasks.running);
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
) -> Result<(), ApiFailure> {
    let address = spec.container(by).and_then(ContainerSpec::host_address);
    let (Some(address), Some(key)) = (address, spec.api_key()) else {
        return Err("there is no ADMIN_API_KEY, or no node, to ask the API with"
            .to_owned()
            .into());
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

async fn by_command(engine: &Engine, container: &str, wanted: Wanted) -> Result<(), NotByCommand> {
    let waits = match wanted {
        Wanted::Drained(wait) => wait,
        Wanted::Working => Duration::ZERO,
    };
    let mut why = String::new();
    for argv in drain::commands(wanted) {
        let ran = engine.exec(container, &argv, waits + COMMAND_LIMIT).await;
        let ran = ran.map_err(|error| NotByCommand::Failed(error.to_string()))?;
        match ran.code {
            Some(0) => return Ok(()),
            Some(KILLED) => return Err(NotByCommand::Killed),
            _ if ran.has_no_program() => why = format!("its image has no {}", argv[0]),
            Some(code) => {
                let last = ran.said.lines().last().unwrap_or_default();
                let why = format!("its command ended with {code}: {last}");
                return Err(NotByCommand::Failed(why));
            }
            None => {
                let why = "the engine does not say how its command ended".to_owned();
                return Err(NotByCommand::Failed(why));
            }
        }
    }
    Err(NotByCommand::Failed(why))
}
