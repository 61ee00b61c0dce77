//! The life of a container in the fake engine: start, stop, kill, pause, remove, and what the
//! engine does by itself when a process ends.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::Shared;
use super::call::Call;
use super::call::Refusal;
use super::container::Container;
use super::container::Word;
use super::event::time_now;
use super::port;
use super::process;
use super::process::Process;
use super::world::World;

/// How long the engine waits before its own restart policy starts a container again.
const POLICY_PAUSE: Duration = Duration::from_millis(100);
/// How long a stop waits without a time given.
const STOP_DEFAULT: u64 = 10;

type Done = Result<u16, Refusal>;

/// Starts a container.
pub(super) async fn start(shared: &Arc<Shared>, name: &str) -> Done {
    port::wait_until_free(shared, name).await;
    let mut world = shared.world();
    let id = world.id_of(name)?;
    let container = &world.containers[&id];
    match container.word {
        Word::Running | Word::Restarting => return Ok(304),
        Word::Paused => {
            return Err(Refusal::new(
                409,
                "cannot start a paused container, try unpause instead",
            ));
        }
        Word::Created | Word::Exited => {}
    }
    if container.removing {
        return Err(Refusal::new(
            409,
            "container is marked for removal and cannot be started",
        ));
    }
    let launched = prepare(&mut world, &id).and_then(|()| process::launch(shared, &mut world, &id));
    let process = match launched {
        Ok(process) => process,
        Err(refusal) => {
            let container = world.container(&id)?;
            container.error.clone_from(&refusal.message);
            container.code = 128;
            return Err(refusal);
        }
    };
    began(&mut world, &id, process);
    Ok(204)
}

/// Everything but the process: the network, the ports, the privileges.
fn prepare(world: &mut World, id: &str) -> Result<(), Refusal> {
    let container = &world.containers[id];
    if container.privileged && !world.privileged {
        let text = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
                    process: unable to apply caps: operation not permitted: unknown";
        return Err(Refusal::new(500, text));
    }
    for (name, endpoint) in &container.endpoints {
        // A network that it was on once is looked for by its ID.
        let wanted = if endpoint.network_id.is_empty() {
            name
        } else {
            &endpoint.network_id
        };
        if wanted != "bridge" {
            world.network(wanted, "found on")?;
        }
    }
    for port in &container.ports {
        let mut others = world
            .containers
            .values()
            .filter(|other| other.id != *id && other.runs());
        let taken = others.any(|other| {
            other
                .ports
                .iter()
                .any(|held| (&held.ip, held.host) == (&port.ip, port.host))
        });
        let endpoint = format!(
            "driver failed programming external connectivity on endpoint {} ({id})",
            container.name
        );
        if taken {
            let text = format!(
                "{endpoint}: Bind for {}:{} failed: port is already allocated",
                port.ip, port.host
            );
            return Err(Refusal::new(500, text));
        }
        if let Err(error) = port::try_bind(port) {
            let (ip, host) = (&port.ip, port.host);
            let why = error.to_string().replace("Address", "address");
            let text = format!(
                "{endpoint}: Error starting userland proxy: listen tcp4 {ip}:{host}: bind: {why}"
            );
            return Err(Refusal::new(500, text));
        }
    }
    Ok(())
}

fn began(world: &mut World, id: &str, process: Process) {
    let names: Vec<String> = world.containers[id].endpoints.keys().cloned().collect();
    for name in names {
        let endpoint_id = world.new_id();
        let endpoint = &world.containers[id].endpoints[&name];
        let wanted = if endpoint.network_id.is_empty() {
            &name
        } else {
            &endpoint.network_id
        };
        let network = world
            .network(wanted, "found on")
            .map(|network| network.id.clone())
            .unwrap_or_default();
        if let Some(endpoint) = world
            .containers
            .get_mut(id)
            .and_then(|container| container.endpoints.get_mut(&name))
        {
            (endpoint.network_id, endpoint.own_id) = (network.clone(), endpoint_id);
        }
        super::network::tell(world, &network, &name, "connect", Some(id));
    }
    let container = world.containers.get_mut(id).expect("it is being started");
    container.word = Word::Running;
    container.started_at = time_now();
    (container.code, container.oom, container.stopped_by_hand) = (0, false, false);
    container.error.clear();
    container.process = Some(process);
    world.tell_of(id, "start", &[]);
}

/// Takes in that a process ended.
pub(super) fn ended(shared: &Arc<Shared>, id: &str, run: u64, code: i64) {
    let mut world = shared.world();
    let Some(container) = world
        .containers
        .get_mut(id)
        .filter(|container| container.runs == run)
    else {
        return;
    };
    container.process = None;
    container.code = code;
    container.finished_at = time_now();
    let again = match container.policy.as_str() {
        "always" | "unless-stopped" => !container.stopped_by_hand,
        "on-failure" => !container.stopped_by_hand && code != 0,
        _ => false,
    };
    container.word = if again {
        Word::Restarting
    } else {
        Word::Exited
    };
    let mut left = Vec::new();
    for (name, endpoint) in &mut container.endpoints {
        endpoint.own_id.clear();
        left.push((endpoint.network_id.clone(), name.clone()));
    }
    world.tell_of(id, "die", &[("exitCode", &code.to_string())]);
    for (network, name) in left {
        super::network::tell(&mut world, &network, &name, "disconnect", Some(id));
    }
    if again {
        let (shared, id) = (shared.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(POLICY_PAUSE).await;
            if let Some(container) = shared
                .world()
                .containers
                .get_mut(&id)
                .filter(|one| one.word == Word::Restarting)
            {
                container.word = Word::Exited;
            }
            let _ = Box::pin(start(&shared, &id)).await;
        });
    }
}

/// SIGTERM, then SIGKILL.
pub(super) async fn stop(shared: &Arc<Shared>, call: &Call) -> Done {
    let grace = call
        .query
        .get("t")
        .and_then(|text| text.parse().ok())
        .unwrap_or(STOP_DEFAULT);
    let Some((id, process)) = running(shared, &call.target, "15")? else {
        return Ok(304);
    };
    thaw(&mut shared.world(), &id, &process);
    process.signal(Signal::TERM);
    if tokio::time::timeout(Duration::from_secs(grace), process.gone())
        .await
        .is_err()
    {
        shared.world().tell_of(&id, "kill", &[("signal", "9")]);
        process.signal(Signal::KILL);
        process.gone().await;
    }
    shared.world().tell_of(&id, "stop", &[]);
    Ok(204)
}

/// The container and its process if it runs, the signal being told.
fn running(
    shared: &Shared,
    name: &str,
    signal: &str,
) -> Result<Option<(String, Process)>, Refusal> {
    let mut world = shared.world();
    let container = world.container(name)?;
    let Some(process) = container.process.clone() else {
        return Ok(None);
    };
    container.stopped_by_hand = true;
    let id = container.id.clone();
    world.tell_of(&id, "kill", &[("signal", signal)]);
    Ok(Some((id, process)))
}

/// A frozen process takes no signal but SIGKILL, so the engine thaws it first.
fn thaw(world: &mut World, id: &str, process: &Process) {
    let Some(container) = world
        .containers
        .get_mut(id)
        .filter(|container| container.word == Word::Paused)
    else {
        return;
    };
    container.word = Word::Running;
    process.signal(Signal::CONT);
    world.tell_of(id, "unpause", &[]);
}

/// Sends a signal, and for SIGKILL waits for the end.
pub(super) async fn kill(shared: &Arc<Shared>, call: &Call) -> Done {
    let wanted = call
        .query
        .get("signal")
        .map_or("KILL", |word| word.trim_start_matches("SIG"));
    let (signal, number) = match wanted {
        "TERM" | "15" => (Signal::TERM, "15"),
        "INT" | "2" => (Signal::INT, "2"),
        "STOP" | "19" => (Signal::STOP, "19"),
        "CONT" | "18" => (Signal::CONT, "18"),
        _ => (Signal::KILL, "9"),
    };
    let Some((_, process)) = running(shared, &call.target, number)? else {
        let mut world = shared.world();
        let container = world.container(&call.target)?;
        let text = format!(
            "Cannot kill container: {}: Container {} is not running",
            call.target, container.id
        );
        return Err(Refusal::new(409, text));
    };
    process.signal(signal);
    if signal == Signal::KILL {
        process.gone().await;
    }
    Ok(204)
}

/// Freezes a container, or thaws it.
pub(super) fn pause(world: &mut World, name: &str, freeze: bool) -> Done {
    let container = world.container(name)?;
    let id = container.id.clone();
    let (before, after, signal) = if freeze {
        (Word::Running, Word::Paused, Signal::STOP)
    } else {
        (Word::Paused, Word::Running, Signal::CONT)
    };
    let Some(process) = container
        .process
        .clone()
        .filter(|_| container.word == before)
    else {
        return Err(match (container.word, freeze) {
            (Word::Paused, true) => Refusal::new(409, format!("Container {id} is already paused")),
            (_, true) => Refusal::new(409, format!("Container {id} is not running")),
            (_, false) => Refusal::new(500, format!("Container {id} is not paused")),
        });
    };
    container.word = after;
    process.signal(signal);
    world.tell_of(&id, if freeze { "pause" } else { "unpause" }, &[]);
    Ok(204)
}

/// Sets the engine's restart policy.
pub(super) fn update(world: &mut World, call: &Call) -> Result<serde_json::Value, Refusal> {
    let container = world.container(&call.target)?;
    let id = container.id.clone();
    if let Some(policy) = call.body["RestartPolicy"]["Name"].as_str() {
        policy.clone_into(&mut container.policy);
    }
    world.tell_of(&id, "update", &[]);
    Ok(serde_json::json!({ "Warnings": null }))
}

/// Removes a container, by force also one that runs.
pub(super) async fn remove(shared: &Arc<Shared>, call: &Call) -> Done {
    let is = |key: &str| {
        call.query
            .get(key)
            .is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    };
    let (id, process) = {
        let mut world = shared.world();
        let container = world.container(&call.target)?;
        if container.removing {
            return Err(Refusal::new(
                409,
                format!(
                    "removal of container {} is already in progress",
                    call.target
                ),
            ));
        }
        if container.runs() && !is("force") {
            let text = format!(
                "You cannot remove a running container {}. Stop the container before attempting removal or force remove",
                container.id
            );
            return Err(Refusal::new(409, text));
        }
        container.removing = true;
        container.policy.clear();
        (container.id.clone(), container.process.clone())
    };
    if let Some(process) = process {
        shared.world().tell_of(&id, "kill", &[("signal", "9")]);
        process.signal(Signal::KILL);
        process.gone().await;
    }
    let mut world = shared.world();
    world.tell_of(&id, "destroy", &[]);
    let gone: Option<Container> = world.containers.remove(&id);
    for volume in gone
        .map(|container| container.anonymous)
        .unwrap_or_default()
    {
        if is("v") {
            world.volumes.remove(&volume);
        }
    }
    Ok(204)
}
