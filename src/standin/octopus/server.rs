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
use axum::extract::Request;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Html;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde_json::json;

use super::cluster_api;
use super::faults::Fault;
use super::machines_api;
use super::node::Node;
use super::node::Phase;
use super::schema;
use super::site::Answer;
use super::site::NodeRow;
use super::site::Site;
use super::tasks_api;
use super::traffic;
use super::violations;
use crate::octopus::PING;

/// Between two bytes of a body that never ends.
const DRIBBLE: Duration = Duration::from_millis(500);
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
        .route("/api/octopusservernodes", get(cluster_api::list))
        .route("/api/octopusservernodes/summary", get(cluster_api::summary))
        .route(
            "/api/octopusservernodes/{id}",
            get(cluster_api::show)
                .put(cluster_api::change)
                .delete(cluster_api::remove),
        )
        .route("/api/tasks", get(tasks_api::list).post(tasks_api::create))
        .route("/api/tasks/{id}", get(tasks_api::show))
        .route("/api/tasks/{id}/cancel", post(tasks_api::cancel))
        .route(
            "/api/maintenanceconfiguration",
            get(cluster_api::maintenance).put(cluster_api::set_maintenance),
        )
        .route("/api/serverstatus", get(cluster_api::status))
        .route("/api/serverstatus/health", get(cluster_api::health))
        .route("/api/serverstatus/hosted/internal", get(internal))
        .route("/api/Spaces-1", get(cluster_api::space))
        .route("/api/spaces", get(machines_api::spaces))
        .route(
            "/api/{space}/{kind}",
            get(machines_api::list).post(machines_api::create),
        )
        .route(
            "/api/{space}/{kind}/{id}",
            get(machines_api::show)
                .put(machines_api::change)
                .delete(machines_api::remove),
        )
        .route("/api/standin/violations", get(found_violations))
        .route("/api/standin/notes", get(notes))
        .route("/api/standin/upload", post(traffic::upload))
        .route("/api/standin/socket", get(traffic::socket))
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
    let row = NodeRow {
        name: site.node.settings.node.clone(),
        last_seen: schema::now(),
        draining,
        running: site.node.state.borrow().running,
        cap: site.node.settings.task_cap,
    };
    Ok((status, Json(row.resource())).into_response())
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

async fn found_violations(Shared(site): Shared<Arc<Site>>) -> Answer {
    let found = violations::all(&mut site.database()?).await?;
    Ok(Json(found).into_response())
}

async fn notes(Shared(site): Shared<Arc<Site>>) -> Answer {
    let found = violations::notes(&site.database()?).await;
    Ok(Json(found).into_response())
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
