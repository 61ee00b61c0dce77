//! What the stand-in serves over HTTP: the part of the vendor's API that supervisors use, and its
//! own page and findings.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Html;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::routing::put;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::database::Database;
use super::faults::Fault;
use super::node;
use super::node::Node;
use super::node::Phase;
use super::schema;
use crate::octopus::PING;
use crate::sql::SqlError;

/// Between two bytes of a body that never ends.
const DRIBBLE: Duration = Duration::from_millis(500);
/// A heartbeat older than this shows a node as offline.
const OFFLINE_MS: i64 = 5000;

struct Site {
    node: Arc<Node>,
    pings: AtomicU64,
}

type Answer = Result<Response, Refusal>;

/// An answer that is not what was asked for.
enum Refusal {
    /// The node is not ready, or without its database.
    NotReady(&'static str),
    /// The key is missing or wrong.
    NoKey,
    /// There is no such node.
    NoNode,
    /// The body is not what the vendor's API takes.
    BadBody,
    /// The database failed.
    Database(SqlError),
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_owned()),
            Self::NoKey => (
                StatusCode::UNAUTHORIZED,
                "X-Octopus-ApiKey must be ADMIN_API_KEY".to_owned(),
            ),
            Self::NoNode => (StatusCode::NOT_FOUND, "there is no such node".to_owned()),
            Self::BadBody => (
                StatusCode::BAD_REQUEST,
                "IsInMaintenanceMode must be true or false".to_owned(),
            ),
            Self::Database(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        (
            status,
            Json(json!({ "ErrorMessage": why, "IsStandIn": true })),
        )
            .into_response()
    }
}

/// Everything that a node serves.
pub(super) fn router(node: Arc<Node>) -> Router {
    let site = Arc::new(Site {
        node,
        pings: AtomicU64::new(0),
    });
    Router::new()
        .route("/", get(page))
        .route("/api", get(api))
        .route(PING, get(ping))
        .route("/api/octopusservernodes/summary", get(summary))
        .route("/api/octopusservernodes/{id}", put(change))
        .route("/api/serverstatus/hosted/internal", get(internal))
        .route("/api/standin/violations", get(violations))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), hang))
        .with_state(site)
}

/// A hung node has taken the connection and the request, and says nothing.
async fn hang(Shared(site): Shared<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.node.state.borrow().hung {
        std::future::pending::<()>().await;
    }
    next.run(request).await
}

impl Site {
    fn ready(&self) -> Result<(), Refusal> {
        let state = self.node.state.borrow();
        match state.phase {
            Phase::Starting => Err(Refusal::NotReady("Octopus Server is starting")),
            Phase::Stopping => Err(Refusal::NotReady("Octopus Server is stopping")),
            Phase::Ready if !state.database => {
                Err(Refusal::NotReady("the database does not answer"))
            }
            Phase::Ready => Ok(()),
        }
    }

    fn database(&self) -> Result<Database, Refusal> {
        self.ready()?;
        Ok(Database::new(&self.node.target))
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let key = &self.node.settings.api_key;
        let given = headers
            .get("X-Octopus-ApiKey")
            .map(header::HeaderValue::as_bytes);
        if !key.is_empty() && given == Some(key.expose().as_bytes()) {
            Ok(())
        } else {
            Err(Refusal::NoKey)
        }
    }

    fn resource(&self, name: &str, draining: bool, last_seen: i64) -> Value {
        let seen = OffsetDateTime::from_unix_timestamp_nanos(i128::from(last_seen) * 1_000_000);
        json!({
            "Id": format!("OctopusServerNodes-{name}"),
            "Name": name,
            "MaxConcurrentTasks": self.node.settings.task_cap,
            "IsInMaintenanceMode": draining,
            "LastSeen": seen.ok().and_then(|at| at.format(&Rfc3339).ok()),
            "IsOffline": schema::now() - last_seen > OFFLINE_MS,
            "RunningTaskCount": 0,
            "IsStandIn": true,
        })
    }
}

async fn ping(Shared(site): Shared<Arc<Site>>) -> Answer {
    let faults = &site.node.settings.faults;
    let count = site.pings.fetch_add(1, Ordering::Relaxed) + 1;
    if faults.has(Fault::RedirectLoop) {
        return Ok((StatusCode::FOUND, [(header::LOCATION, PING)]).into_response());
    }
    if faults.has(Fault::SlowLoris) {
        return Ok(dribble());
    }
    if faults
        .pick(|fault| {
            if let Fault::Flap(every) = fault {
                Some(every)
            } else {
                None
            }
        })
        .is_some_and(|every| count.is_multiple_of(every))
    {
        return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    }
    site.ready()?;
    let draining = site.node.state.borrow().draining;
    let status = if draining {
        StatusCode::IM_A_TEAPOT
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        Json(site.resource(&site.node.settings.node, draining, schema::now())),
    )
        .into_response())
}

fn dribble() -> Response {
    let bytes = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(DRIBBLE).await;
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from_static(b" ")),
            (),
        ))
    });
    Body::from_stream(bytes).into_response()
}

async fn api(Shared(site): Shared<Arc<Site>>) -> Answer {
    site.ready()?;
    let installation = site.node.state.borrow().installation.clone();
    Ok(Json(json!({
        "Application": "Octopus Deploy (a stand-in, made by octo-local: it deploys nothing)",
        "IsStandIn": true,
        "Version": site.node.settings.version,
        "ApiVersion": "3.0.0",
        "InstallationId": installation,
        "Links": { "Self": "/api", "OctopusServerNodes": "/api/octopusservernodes/summary", "Web": "/" },
    }))
    .into_response())
}

async fn internal(Shared(site): Shared<Arc<Site>>) -> Answer {
    site.ready()?;
    Ok(Json(json!({ "IsStandIn": true })).into_response())
}

async fn violations(Shared(site): Shared<Arc<Site>>) -> Answer {
    let found = schema::violations(&mut site.database()?).await?;
    Ok(Json(found).into_response())
}

async fn summary(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    site.check_key(&headers)?;
    let rows = site
        .database()?
        .rows(
            "SELECT Name, LastSeen, Draining FROM OctopusServerNode ORDER BY Name",
            &[],
        )
        .await?;
    let node = |row: &tiberius::Row| {
        let draining = row.try_get::<bool, _>(2).ok().flatten().unwrap_or_default();
        site.resource(&schema::text(row, 0), draining, schema::number(row, 1))
    };
    Ok(
        Json(json!({ "Nodes": rows.iter().map(node).collect::<Vec<_>>(), "IsStandIn": true }))
            .into_response(),
    )
}

/// Drains a node, or ends that: the vendor's API calls the flag `IsInMaintenanceMode`.
async fn change(
    Shared(site): Shared<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    site.check_key(&headers)?;
    let draining = body["IsInMaintenanceMode"]
        .as_bool()
        .ok_or(Refusal::BadBody)?;
    let name = id.strip_prefix("OctopusServerNodes-").unwrap_or(&id);
    if !node::drain(&mut site.database()?, name, draining).await? {
        return Err(Refusal::NoNode);
    }
    Ok(Json(site.resource(name, draining, schema::now())).into_response())
}

async fn page(Shared(site): Shared<Arc<Site>>) -> (StatusCode, Html<String>) {
    let settings = &site.node.settings;
    let state = site.node.state.borrow().clone();
    let how = match (state.phase, state.database, state.draining) {
        (Phase::Starting, ..) => "is starting",
        (Phase::Stopping, ..) => "is stopping",
        (Phase::Ready, false, _) => "serves nothing, because its database does not answer",
        (Phase::Ready, true, true) => "is ready and drained: it takes no work",
        (Phase::Ready, true, false) => "is ready, and its database answers",
    };
    let status = if site.ready().is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let (name, version, database) = (
        escape(&settings.node),
        escape(&settings.version),
        escape(&site.node.target.database),
    );
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Octopus stand-in: {name}</title>\
         <body style=\"font-family:sans-serif;max-width:40em;margin:3em auto\"><h1>This is a stand-in</h1>\
         <p>octo-local made this page. It is <b>not</b> Octopus Deploy and deploys nothing; \
         it behaves like an Octopus Server node towards Docker, its database and its supervisor.</p>\
         <p>Node <b>{name}</b> (as version {version}) {how}. Database: <b>{database}</b>.</p>\
         <p><a href=\"/api\">API</a> · <a href=\"{PING}\">ping</a> · <a href=\"/api/standin/violations\">violations</a></p></html>"
    );
    (status, Html(html))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
