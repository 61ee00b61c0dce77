//! The fake engine's side of HTTP: a connection, a request, its fate, an answer.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::call;
use super::call::Call;
use super::call::Caller;
use super::call::Refusal;
use super::call::Verb;
use super::route;
use super::route::Reply;
use super::script::Fate;
use super::script::Fault;
use super::timeline::Asked;
use super::timeline::What;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks")]
struct Broken;

/// Serves until it is told to end; then every connection breaks.
pub(super) async fn serve(shared: Arc<Shared>, listener: UnixListener, ended: CancellationToken) {
    loop {
        // Cancel-safe: an accept that is dropped has taken no connection.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                tokio::spawn(ended.clone().run_until_cancelled_owned(connection(shared.clone(), stream)));
            }
            () = ended.cancelled() => return,
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: UnixStream) {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let caller = Caller::of(pid);
    let service = hyper::service::service_fn(|request| answer(shared.clone(), caller, request));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    shared: Arc<Shared>,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Answer, Broken> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let api = shared.world().api;
    let path = match call::unversioned(head.uri.path(), api) {
        Ok(path) => path,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let Some((verb, target)) = call::read(head.method.as_str(), path) else {
        return Ok(refused(&Refusal::new(404, "page not found")));
    };
    let query = call::pairs(head.uri.query().unwrap_or_default());
    let (body, archive) = match verb {
        Verb::Load => (Value::Null, bytes.to_vec()),
        _ => (
            serde_json::from_slice(&bytes).unwrap_or_default(),
            Vec::new(),
        ),
    };
    let call = Call {
        caller,
        verb,
        target,
        query,
        body,
        archive,
    };
    let versioned = path.len() != head.uri.path().len();
    let (number, subject) = note(&shared, &call, versioned);
    let fate = shared.script().decide(&call, &subject);
    let answer = meet(&shared, call, fate, number).await;
    let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
    shared.world().timeline.note(What::Answered(number, status));
    answer
}

/// Writes a call into the time-line.
fn note(shared: &Shared, call: &Call, versioned: bool) -> (usize, String) {
    shared.outputs.catch_up(shared);
    let mut world = shared.world();
    let subject = subject_of(call);
    let kind = call.verb.kind_changed().unwrap_or("container");
    let labels = world.labels_of(kind, &subject);
    let name = match kind {
        "container" => world
            .id_of(&subject)
            .map(|id| world.containers[&id].name.clone()),
        "network" => world
            .network(&subject, "found on")
            .map(|network| network.name.clone()),
        _ => Ok(subject.clone()),
    };
    let name = name.unwrap_or(subject);
    let asked = Asked {
        number: 0,
        caller: call.caller,
        verb: call.verb,
        subject: name.clone(),
        exists: labels.is_some(),
        project: labels.and_then(|mut labels| {
            let project = labels.remove("octo-local.project");
            project.or_else(|| labels.remove("octo-local.lease"))
        }),
        versioned,
    };
    (world.timeline.ask(asked), name)
}

fn subject_of(call: &Call) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match call.verb {
        Verb::Create => call.query.get("name").cloned().unwrap_or_default(),
        Verb::Connect | Verb::Disconnect => text(&call.body["Container"]),
        Verb::CreateNetwork | Verb::CreateVolume => text(&call.body["Name"]),
        Verb::Pull => call.query.get("fromImage").cloned().unwrap_or_default(),
        _ => call.target.clone(),
    }
}

async fn meet(
    shared: &Arc<Shared>,
    call: Call,
    fate: Fate,
    number: usize,
) -> Result<Answer, Broken> {
    let refuse = |status: u16, text: &str| Ok(refused(&Refusal::new(status, text)));
    match fate {
        Fate::Fine => Ok(carried_out(shared, call).await),
        Fate::Ghost => Err(Broken),
        Fate::Dies(pid, after) => {
            if after {
                carried_out(shared, call).await;
            }
            shared.world().timeline.note(What::Killed(number));
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            Err(Broken)
        }
        Fate::Faulty(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            Ok(carried_out(shared, call).await)
        }
        Fate::Faulty(Fault::Hangs) => std::future::pending().await,
        Fate::Faulty(Fault::Breaks) => Err(Broken),
        Fate::Faulty(Fault::Leaves(time)) => {
            let shared = shared.clone();
            shared.go();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                shared.come();
            });
            Err(Broken)
        }
        Fate::Faulty(Fault::BreaksAfter) => {
            carried_out(shared, call).await;
            Err(Broken)
        }
        Fate::Faulty(Fault::Refused(status, text)) => refuse(status, text),
        Fate::Faulty(Fault::RefusedAfter(status, text)) => {
            carried_out(shared, call).await;
            refuse(status, text)
        }
        Fate::Faulty(Fault::ShowsNoPorts) => Ok(match route::carry_out(shared, &call).await {
            Ok(reply) => response(without_ports(reply)),
            Err(refusal) => refused(&refusal),
        }),
        Fate::Faulty(Fault::RefusedBefore(status, text, later)) => {
            let shared = shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                carried_out(&shared, call).await;
            });
            refuse(status, text)
        }
    }
}

fn without_ports(reply: Reply) -> Reply {
    let Reply::Json(status, mut value) = reply else {
        return reply;
    };
    for container in value.as_array_mut().into_iter().flatten() {
        container["Ports"] = serde_json::json!([]);
    }
    Reply::Json(status, value)
}

/// As in the real engine, what was begun goes on when the caller leaves.
async fn carried_out(shared: &Arc<Shared>, call: Call) -> Answer {
    let shared = shared.clone();
    let work = tokio::spawn(async move { route::carry_out(&shared, &call).await });
    match work.await {
        Ok(Ok(reply)) => response(reply),
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => refused(&Refusal::new(500, "the fake engine has a bug")),
    }
}

fn response(reply: Reply) -> Answer {
    let whole = |status: u16, kind: &str, bytes: Vec<u8>| {
        let body = Full::new(Bytes::from(bytes)).boxed_unsync();
        Response::builder()
            .status(status)
            .header("Content-Type", kind)
            .body(body)
            .expect("a plain answer")
    };
    match reply {
        Reply::Status(status) => whole(status, "text/plain", Vec::new()),
        Reply::Json(status, value) => {
            whole(status, "application/json", value.to_string().into_bytes())
        }
        Reply::Bytes(kind, bytes) => whole(200, kind, bytes),
        Reply::Stream(stream) => {
            let frames = stream.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            let body = http_body_util::BodyExt::boxed_unsync(StreamBody::new(frames));
            Response::builder()
                .status(200)
                .header("Content-Type", "application/json")
                .body(body)
                .expect("a plain answer")
        }
    }
}

fn refused(refusal: &Refusal) -> Answer {
    response(Reply::Json(
        refusal.status,
        json!({ "message": refusal.message }),
    ))
}
