//! The API of server tasks.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse as _;
use serde_json::Value;
use serde_json::json;

use super::database::Database;
use super::site::Answer;
use super::site::Refusal;
use super::site::Site;
use super::site::date;
use super::tasks;
use super::tasks::Task;

/// The vendor's default length of a page.
const PAGE: usize = 30;

/// Which tasks are asked for.
#[derive(Default)]
struct Filter {
    /// States, separated by commas.
    states: Option<String>,
    /// A node's name or id.
    node: Option<String>,
    skip: Option<usize>,
    take: Option<usize>,
}

impl Filter {
    fn read(uri: &Uri) -> Self {
        let mut filter = Self::default();
        let pairs = uri.query().unwrap_or_default().split('&');
        for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            // A comma is the only letter that clients write as its code here.
            let value = value.replace("%2C", ",").replace("%2c", ",");
            match name {
                "states" => filter.states = Some(value),
                "node" => filter.node = Some(value),
                "skip" => filter.skip = value.parse().ok(),
                "take" => filter.take = value.parse().ok(),
                _ => {}
            }
        }
        filter
    }
}

fn resource(task: &Task) -> Value {
    let id = format!("ServerTasks-{}", task.id);
    let node = match task.node.as_str() {
        "" => Value::Null,
        name => json!(format!("OctopusServerNodes-{name}")),
    };
    json!({
        "Id": id,
        "SpaceId": "Spaces-1",
        "Name": task.name,
        "Description": task.description,
        "State": task.state,
        "QueueTime": date(task.queued_at),
        "StartTime": date(task.started_at),
        "CompletedTime": date(task.completed_at),
        "ServerNode": node,
        "IsCompleted": task.is_completed(),
        "FinishedSuccessfully": task.state == "Success",
        "ErrorMessage": task.error,
        "Arguments": { "Seconds": task.length_ms as f64 / 1000.0 },
        "Links": { "Self": format!("/api/tasks/{id}"), "Cancel": format!("/api/tasks/{id}/cancel") },
        "IsStandIn": true,
    })
}

pub(super) async fn list(Shared(site): Shared<Arc<Site>>, uri: Uri, headers: HeaderMap) -> Answer {
    let filter = Filter::read(&uri);
    let all = tasks::all(&mut site.keyed(&headers)?).await?;
    let states: Option<Vec<&str>> = filter
        .states
        .as_deref()
        .map(|states| states.split(',').collect());
    let node = filter.node.as_deref();
    let node = node.map(|node| node.strip_prefix("OctopusServerNodes-").unwrap_or(node));
    let wanted = |task: &&Task| {
        let of_state = states.as_ref().is_none_or(|states| {
            states
                .iter()
                .any(|state| state.trim().eq_ignore_ascii_case(&task.state))
        });
        of_state && node.is_none_or(|node| node == task.node)
    };
    let found: Vec<Value> = all.iter().filter(wanted).map(resource).collect();
    let (total, take) = (found.len(), filter.take.unwrap_or(PAGE));
    let page = found.into_iter().skip(filter.skip.unwrap_or_default());
    let items: Vec<Value> = page.take(take).collect();
    let body =
        json!({ "ItemType": "Task", "TotalResults": total, "ItemsPerPage": take, "Items": items });
    Ok(Json(body).into_response())
}

/// Queues a task that lasts `Arguments.Seconds`; refused where there are more nodes than licensed.
pub(super) async fn create(
    Shared(site): Shared<Arc<Site>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let mut database = site.keyed(&headers)?;
    check_licence(&site, &mut database).await?;
    let text = |name: &str, default: &str| body[name].as_str().unwrap_or(default).to_owned();
    let seconds = body["Arguments"]["Seconds"].as_f64().unwrap_or(1.0);
    let length = Duration::try_from_secs_f64(seconds)
        .map_err(|_| Refusal::Bad("Arguments.Seconds must be a number of seconds".to_owned()))?;
    let name = text("Name", "AdHocScript");
    let description = text("Description", "A task of a stand-in: it only lasts");
    let id = tasks::queue(&mut database, &name, &description, length).await?;
    let task = found(&mut database, &id.to_string()).await?;
    Ok((StatusCode::CREATED, Json(resource(&task))).into_response())
}

async fn check_licence(site: &Site, database: &mut Database) -> Result<(), Refusal> {
    let licence = site.node.settings.licence.as_ref();
    let Some(limit) = licence.and_then(|licence| licence.node_limit) else {
        return Ok(());
    };
    let nodes = site.nodes(database).await?;
    let active = nodes.iter().filter(|node| !node.is_offline()).count();
    if active <= limit {
        return Ok(());
    }
    Err(Refusal::Bad(format!(
        "Your Octopus Deploy license only allows {limit} active nodes. You currently have {active}"
    )))
}

async fn found(database: &mut Database, id: &str) -> Result<Task, Refusal> {
    let number = id.strip_prefix("ServerTasks-").unwrap_or(id).parse::<i64>();
    let mut all = tasks::all(database).await?.into_iter();
    all.find(|task| Ok(task.id) == number)
        .ok_or_else(|| Refusal::NotFound(id.to_owned()))
}

pub(super) async fn show(
    Shared(site): Shared<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let task = found(&mut site.keyed(&headers)?, &id).await?;
    Ok(Json(resource(&task)).into_response())
}

pub(super) async fn cancel(
    Shared(site): Shared<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let mut database = site.keyed(&headers)?;
    let task = found(&mut database, &id).await?;
    tasks::cancel(&mut database, task.id).await?;
    Ok(Json(resource(&found(&mut database, &id).await?)).into_response())
}
