//! What every answer of the HTTP side needs: the node, its database, the key, and how a refusal
//! looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::database::Database;
use super::node::Node;
use super::node::Phase;
use super::schema;
use crate::sql::SqlError;

/// A heartbeat older than this shows a node as offline.
const OFFLINE_MS: i64 = 5000;

/// The node, as the answers share it.
pub(super) struct Site {
    pub(super) node: Arc<Node>,
    pub(super) pings: AtomicU64,
}

/// What a request gets.
pub(super) type Answer = Result<Response, Refusal>;

/// An answer that is not what was asked for.
pub(super) enum Refusal {
    /// The node is not ready, or without its database.
    NotReady(&'static str),
    /// The key is missing or wrong.
    NoKey,
    /// There is no such thing.
    NotFound(String),
    /// The body is not what the vendor's API takes, or the vendor's rules refuse it.
    Bad(String),
    /// The database failed.
    Database(SqlError),
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_owned()),
            Self::NoKey => (
                StatusCode::UNAUTHORIZED,
                "X-Octopus-ApiKey must be ADMIN_API_KEY".to_owned(),
            ),
            Self::NotFound(what) => (
                StatusCode::NOT_FOUND,
                format!("The resource '{what}' was not found."),
            ),
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why),
            Self::Database(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        let body = json!({ "ErrorMessage": why, "Errors": [why], "IsStandIn": true });
        (status, Json(body)).into_response()
    }
}

/// A row of the table of nodes, as the API tells it.
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) last_seen: i64,
    pub(super) draining: bool,
    pub(super) running: usize,
    pub(super) cap: u32,
}

impl NodeRow {
    /// The vendor's resource.
    pub(super) fn resource(&self) -> Value {
        json!({
            "Id": format!("OctopusServerNodes-{}", self.name),
            "Name": self.name,
            "MaxConcurrentTasks": self.cap,
            "IsInMaintenanceMode": self.draining,
            "LastSeen": date(self.last_seen),
            "IsOffline": self.is_offline(),
            "RunningTaskCount": self.running,
            "IsStandIn": true,
        })
    }

    /// Whether its heartbeat stopped.
    pub(super) fn is_offline(&self) -> bool {
        schema::now() - self.last_seen > OFFLINE_MS
    }
}

/// Milliseconds since 1970 as the API writes dates; null for never.
pub(super) fn date(at: i64) -> Value {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000)
        .ok()
        .filter(|_| at > 0);
    at.and_then(|at| at.format(&Rfc3339).ok())
        .map_or(Value::Null, Value::String)
}

impl Site {
    /// Refuses while the node cannot serve.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
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

    pub(super) fn database(&self) -> Result<Database, Refusal> {
        self.ready()?;
        Ok(Database::new(&self.node.target))
    }

    /// The database, for a request with the administrator's key.
    pub(super) fn keyed(&self, headers: &HeaderMap) -> Result<Database, Refusal> {
        let key = &self.node.settings.api_key;
        let given = headers
            .get("X-Octopus-ApiKey")
            .map(header::HeaderValue::as_bytes);
        if key.is_empty() || given != Some(key.expose().as_bytes()) {
            return Err(Refusal::NoKey);
        }
        self.database()
    }

    /// All nodes of the cluster.
    pub(super) async fn nodes(&self, database: &mut Database) -> Result<Vec<NodeRow>, SqlError> {
        const NODES: &str = "SELECT Name, LastSeen, Draining FROM OctopusServerNode ORDER BY Name";
        const RUNNING: &str = "SELECT Node, CAST(COUNT(*) AS BIGINT) FROM ServerTask \
                               WHERE State IN (N'Executing', N'Cancelling') GROUP BY Node";
        let rows = database.rows(RUNNING, &[]).await?;
        let counted = rows.iter().map(|row| {
            let count = usize::try_from(schema::number(row, 1)).unwrap_or_default();
            (schema::text(row, 0), count)
        });
        let running: HashMap<String, usize> = counted.collect();
        let mut nodes = Vec::new();
        for row in database.rows(NODES, &[]).await? {
            let name = schema::text(&row, 0);
            let cap = schema::task_cap(database, &name).await?;
            nodes.push(NodeRow {
                last_seen: schema::number(&row, 1),
                draining: schema::flag(&row, 2),
                running: running.get(&name).copied().unwrap_or_default(),
                cap: cap.unwrap_or(self.node.settings.task_cap),
                name,
            });
        }
        Ok(nodes)
    }
}
