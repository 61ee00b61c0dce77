//! What tries whoever stands between a node and its clients: an upload that is counted, and a
//! connection that stays. The vendor's API has both, as packages and as a live page.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use super::site::Answer;
use super::site::Refusal;
use super::site::Site;

/// Says how many bytes came, and who got them.
pub(super) async fn upload(Shared(site): Shared<Arc<Site>>, body: Body) -> Answer {
    site.ready()?;
    let (mut pieces, mut count) = (body.into_data_stream(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Refusal::Bad(error.to_string()))?;
        count += piece.len();
    }
    let body = json!({ "Bytes": count, "Node": site.node.settings.node, "IsStandIn": true });
    Ok(Json(body).into_response())
}

/// An upgrade: then the node says its name and gives every byte back, for as long as it runs.
pub(super) async fn socket(Shared(site): Shared<Arc<Site>>, mut request: Request) -> Answer {
    site.ready()?;
    let asked = request.headers().get(header::UPGRADE);
    let is_asked = asked.is_some_and(|protocol| protocol == "websocket");
    if !is_asked {
        return Err(Refusal::Bad("Upgrade must be websocket".to_owned()));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let greeting = format!("stand-in {}\n", site.node.settings.node);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let mut stream = TokioIo::new(stream);
        let mut piece = [0; 4096];
        let mut goes_on = stream.write_all(greeting.as_bytes()).await.is_ok();
        while goes_on && let Ok(count @ 1..) = stream.read(&mut piece).await {
            goes_on = stream.write_all(&piece[..count]).await.is_ok();
        }
    });
    let fields = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
    ];
    let answer: Response = (StatusCode::SWITCHING_PROTOCOLS, fields).into_response();
    Ok(answer)
}
