//! The API of the cluster: its nodes, maintenance mode, and how it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use serde_json::Value;
use serde_json::json;

use super::database::Database;
use super::node;
use super::schema;
use super::site::Answer;
use super::site::NodeRow;
use super::site::Refusal;
use super::site::Site;

/// The setting of maintenance mode, which is of the whole cluster.
const MAINTENANCE: &str = "MaintenanceMode";

pub(super) async fn summary(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    let nodes = site.nodes(&mut site.keyed(&headers)?).await?;
    let nodes: Vec<Value> = nodes.iter().map(NodeRow::resource).collect();
    Ok(Json(json!({ "Nodes": nodes, "IsStandIn": true })).into_response())
}

/// All nodes, in the vendor's page of a list.
pub(super) async fn list(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    let nodes = site.nodes(&mut site.keyed(&headers)?).await?;
    let items: Vec<Value> = nodes.iter().map(NodeRow::resource).collect();
    let page =
        json!({ "ItemType": "OctopusServerNode", "TotalResults": items.len(), "Items": items });
    Ok(Json(page).into_response())
}

async fn found(site: &Site, database: &mut Database, id: &str) -> Result<NodeRow, Refusal> {
    let name = id.strip_prefix("OctopusServerNodes-").unwrap_or(id);
    let mut nodes = site.nodes(database).await?.into_iter();
    nodes
        .find(|node| node.name == name)
        .ok_or_else(|| Refusal::NotFound(id.to_owned()))
}

pub(super) async fn show(
    Shared(site): Shared<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let node = found(&site, &mut site.keyed(&headers)?, &id).await?;
    Ok(Json(node.resource()).into_response())
}

/// Drains a node, or ends that (the vendor's API calls the flag `IsInMaintenanceMode`), and sets its
/// task cap.
pub(super) async fn change(
    Shared(site): Shared<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let mut database = site.keyed(&headers)?;
    let mut node = found(&site, &mut database, &id).await?;
    node.draining = body["IsInMaintenanceMode"]
        .as_bool()
        .ok_or_else(|| Refusal::Bad("IsInMaintenanceMode must be true or false".to_owned()))?;
    node::drain(&mut database, &node.name, node.draining).await?;
    if let Some(cap) = body["MaxConcurrentTasks"].as_u64() {
        node.cap = u32::try_from(cap)
            .map_err(|_| Refusal::Bad("MaxConcurrentTasks is too large".to_owned()))?;
        schema::set_task_cap(&mut database, &node.name, node.cap).await?;
    }
    Ok(Json(node.resource()).into_response())
}

/// Takes a node out of the table. One that runs enters itself again at its next heartbeat.
pub(super) async fn remove(
    Shared(site): Shared<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let mut database = site.keyed(&headers)?;
    let node = found(&site, &mut database, &id).await?;
    let delete = "DELETE FROM OctopusServerNode WHERE Name = @P1";
    database.execute(delete, &[&node.name.as_str()]).await?;
    Ok(Json(node.resource()).into_response())
}

pub(super) async fn maintenance(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    let is_on = is_in_maintenance(&mut site.keyed(&headers)?).await?;
    let body = json!({ "Id": "maintenance", "IsInMaintenanceMode": is_on });
    Ok(Json(body).into_response())
}

pub(super) async fn set_maintenance(
    Shared(site): Shared<Arc<Site>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let mut database = site.keyed(&headers)?;
    let is_on = body["IsInMaintenanceMode"]
        .as_bool()
        .ok_or_else(|| Refusal::Bad("IsInMaintenanceMode must be true or false".to_owned()))?;
    schema::put(&mut database, MAINTENANCE, &is_on.to_string()).await?;
    let body = json!({ "Id": "maintenance", "IsInMaintenanceMode": is_on });
    Ok(Json(body).into_response())
}

async fn is_in_maintenance(database: &mut Database) -> Result<bool, Refusal> {
    Ok(schema::setting(database, MAINTENANCE).await?.as_deref() == Some("true"))
}

pub(super) async fn health(Shared(site): Shared<Arc<Site>>) -> Answer {
    let mut database = site.database()?;
    let nodes = site.nodes(&mut database).await?;
    let active = nodes.iter().filter(|node| !node.is_offline()).count();
    let limit = site.node.settings.licence.as_ref();
    let limit = limit.and_then(|licence| licence.node_limit);
    let all_drain = !nodes.is_empty() && nodes.iter().all(|node| node.draining);
    let body = json!({
        "IsOperatingNormally": !all_drain,
        "Description": if all_drain { "All nodes drain" } else { "Octopus Server is operating normally" },
        "IsEntireClusterReadOnly": is_in_maintenance(&mut database).await?,
        "IsEntireClusterDrainingTasks": all_drain,
        "IsCompliantWithLicense": limit.is_none_or(|limit| active <= limit),
        "IsStandIn": true,
    });
    Ok(Json(body).into_response())
}

pub(super) async fn status(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    let is_on = is_in_maintenance(&mut site.keyed(&headers)?).await?;
    let body = json!({
        "IsDatabaseEncrypted": true,
        "IsInMaintenanceMode": is_on,
        "IsUpgradeAvailable": false,
        "IsPotentialClone": false,
        "IsStandIn": true,
    });
    Ok(Json(body).into_response())
}

pub(super) async fn space(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    site.keyed(&headers)?;
    let body = json!({ "Id": "Spaces-1", "Name": "Default", "IsDefault": true, "IsStandIn": true });
    Ok(Json(body).into_response())
}
