//! Networks and volumes of the fake engine. As in Docker 20.10 two networks may have one name, and
//! then only IDs work.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::call::Call;
use super::call::Refusal;
use super::container::Endpoint;
use super::container::aliases_in;
use super::event::filters_of;
use super::event::time_now;
use super::world::Network;
use super::world::Volume;
use super::world::World;
use super::world::labels_in;

/// Tells of a network, and of the container that came or left.
pub(super) fn tell(world: &mut World, id: &str, name: &str, action: &str, container: Option<&str>) {
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), name.to_owned()),
        ("type".to_owned(), "bridge".to_owned()),
    ]);
    attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
    world.tell("network", action, id, attributes);
}

pub(super) fn list(world: &World, call: &Call) -> Value {
    let filters = filters_of(call);
    let shown = |network: &Network| {
        json!({
            "Name": network.name, "Id": network.id, "Created": network.created, "Scope": "local", "Driver": "bridge",
            "EnableIPv6": false, "Internal": false, "Attachable": false, "Ingress": false, "ConfigOnly": false,
            "Containers": {}, "Options": {}, "Labels": network.labels,
        })
    };
    let takes = |network: &&Network| {
        labelled(&filters, &network.labels)
            && filters
                .get("name")
                .is_none_or(|names| names.iter().any(|name| network.name.contains(name)))
    };
    world.networks.iter().filter(takes).map(shown).collect()
}

fn labelled(filters: &BTreeMap<String, Vec<String>>, labels: &BTreeMap<String, String>) -> bool {
    let has = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).map(String::as_str) == Some(value),
        None => labels.contains_key(wanted),
    };
    filters
        .get("label")
        .is_none_or(|wanted| wanted.iter().all(has))
}

pub(super) fn create(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let name = call.body["Name"].as_str().unwrap_or_default().to_owned();
    if !world.subnets {
        let text = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network";
        return Err(Refusal::new(404, text));
    }
    let twin = world.networks.iter().find(|network| network.name == name);
    let warning =
        twin.map(|twin| format!("Network with name {name} (id : {}) already exists", twin.id));
    let id = world.new_id();
    let network = Network {
        id: id.clone(),
        name: name.clone(),
        labels: labels_in(&call.body),
        created: time_now(),
    };
    world.networks.push(network);
    tell(world, &id, &name, "create", None);
    Ok(json!({ "Id": id, "Warning": warning.unwrap_or_default() }))
}

pub(super) fn remove(world: &mut World, call: &Call) -> Result<u16, Refusal> {
    let network = world.network(&call.target, "found based on")?.clone();
    let attached =
        |endpoint: &Endpoint| endpoint.network_id == network.id && !endpoint.own_id.is_empty();
    if world
        .containers
        .values()
        .any(|container| container.endpoints.values().any(attached))
    {
        let text = format!(
            "error while removing network: network {} id {} has active endpoints",
            network.name, network.id
        );
        return Err(Refusal::new(403, text));
    }
    world.networks.retain(|other| other.id != network.id);
    tell(world, &network.id, &network.name, "destroy", None);
    Ok(204)
}

/// A container that does not run only remembers the name: which network that is shows when it
/// starts.
pub(super) fn connect(world: &mut World, call: &Call) -> Result<u16, Refusal> {
    let network = world.network(&call.target, "found on")?.clone();
    let endpoint_id = world.new_id();
    let container = world.container(call.body["Container"].as_str().unwrap_or_default())?;
    let (id, runs) = (container.id.clone(), container.runs());
    if runs
        && container
            .endpoints
            .values()
            .any(|endpoint| endpoint.network_id == network.id)
    {
        let text = format!(
            "endpoint with name {} already exists in network {}",
            container.name, network.name
        );
        return Err(Refusal::new(403, text));
    }
    let mut aliases = aliases_in(&call.body["EndpointConfig"]);
    aliases.push(id[..12].to_owned());
    let endpoint = if runs {
        Endpoint {
            network_id: network.id.clone(),
            own_id: endpoint_id,
            aliases,
        }
    } else {
        Endpoint {
            aliases,
            ..Endpoint::default()
        }
    };
    container.endpoints.insert(network.name.clone(), endpoint);
    if runs {
        tell(world, &network.id, &network.name, "connect", Some(&id));
    }
    Ok(200)
}

pub(super) fn disconnect(world: &mut World, call: &Call) -> Result<u16, Refusal> {
    let (id, name) = match world.network(&call.target, "found on") {
        Ok(network) => (network.id.clone(), network.name.clone()),
        Err(refusal) => return Err(refusal),
    };
    let container = world.container(call.body["Container"].as_str().unwrap_or_default())?;
    let container_id = container.id.clone();
    let runs = container.runs();
    match container.endpoints.get(&name) {
        Some(endpoint) if endpoint.network_id == id || !runs => {}
        Some(_) | None => {
            let text = format!("container {container_id} is not connected to network {name}");
            return Err(Refusal::new(500, text));
        }
    }
    container.endpoints.remove(&name);
    tell(world, &id, &name, "disconnect", Some(&container_id));
    Ok(200)
}

fn volume_shown(name: &str, volume: &Volume) -> Value {
    json!({
        "Name": name, "Driver": "local", "Mountpoint": volume.dir, "Labels": volume.labels, "Options": null,
        "Scope": "local", "CreatedAt": volume.created,
    })
}

pub(super) fn volumes(world: &World, call: &Call) -> Value {
    let filters = filters_of(call);
    let listed = world
        .volumes
        .iter()
        .filter(|(_, volume)| labelled(&filters, &volume.labels));
    let listed: Vec<Value> = listed
        .map(|(name, volume)| volume_shown(name, volume))
        .collect();
    json!({ "Volumes": listed, "Warnings": null })
}

pub(super) fn volume(world: &World, name: &str) -> Result<Value, Refusal> {
    let absent = || Refusal::new(404, format!("get {name}: no such volume"));
    world
        .volumes
        .get(name)
        .map(|volume| volume_shown(name, volume))
        .ok_or_else(absent)
}

/// One that is there stays as it is, labels and all.
pub(super) fn create_volume(world: &mut World, call: &Call) -> Value {
    let name = call.body["Name"].as_str().unwrap_or_default();
    volume_shown(name, world.volume(name, labels_in(&call.body)))
}

pub(super) fn remove_volume(world: &mut World, name: &str) -> Result<u16, Refusal> {
    volume(world, name)?;
    let users = world.users_of(name);
    if !users.is_empty() {
        let text = format!("remove {name}: volume is in use - [{}]", users.join(", "));
        return Err(Refusal::new(409, text));
    }
    let gone = world.volumes.remove(name);
    if let Some(volume) = gone {
        let _ = std::fs::remove_dir_all(volume.dir);
    }
    world.tell(
        "volume",
        "destroy",
        name,
        BTreeMap::from([("driver".to_owned(), "local".to_owned())]),
    );
    Ok(204)
}
