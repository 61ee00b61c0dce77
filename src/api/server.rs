//! The daemon's side of the control API.

use super::route;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::BODY_LIMIT;
use super::DownBody;
use super::Identity;
use super::PasswordBody;
use super::QuiesceBody;
use super::RestoreBody;
use super::RollbackBody;
use super::TentacleBody;
use super::UnitsBody;
use crate::daemon::message::About;
use crate::daemon::message::Answer;
use crate::daemon::message::Denied;
use crate::daemon::message::DownPace;
use crate::daemon::message::Event;
use crate::daemon::message::Request;
use crate::daemon::message::Session;
use crate::daemon::message::UpRequest;
use crate::daemon::shell::Input;
use crate::reconcile::status::Status;

#[derive(Clone)]
struct Shared {
    queue: mpsc::Sender<Input>,
    status: watch::Receiver<Status>,
    ended: CancellationToken,
    /// Of the file that this process was started from: it may be replaced while we run.
    identity: Identity,
}

/// Opens the socket for its owner only. A socket that a dead daemon left is replaced: the lock says
/// that it is dead.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the daemon ends.
pub async fn serve(
    listener: UnixListener,
    queue: mpsc::Sender<Input>,
    status: watch::Receiver<Status>,
    ended: CancellationToken,
) {
    let shared = Shared {
        queue,
        status,
        ended: ended.clone(),
        identity: Identity::own(),
    };
    let router = Router::new()
        .route(route::IDENTITY, get(identity))
        .route(route::STATUS, get(status_now))
        .route(route::STATUS_STREAM, get(status_stream))
        .route(route::STORED, get(stored))
        .route(route::UP, post(up))
        .route(route::PLAN, post(plan))
        .route(route::DOWN, post(down))
        .route(route::RESTART, post(restart))
        .route(route::STOP, post(stop))
        .route(route::START, post(start))
        .route(route::DRAIN, post(drain))
        .route(route::UNDRAIN, post(undrain))
        .route(route::RESTORE, post(restore))
        .route(route::ROLLBACK, post(roll_back))
        .route(route::SA_PASSWORD, post(sa_password))
        .route(route::QUIESCE, post(quiesce))
        .route(route::TENTACLE, post(tentacle))
        .route(route::CANCEL, post(cancel))
        .route(route::SESSION_END, post(session_end))
        .route(route::HANDOVER, post(handover))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared);
    let serving = axum::serve(listener, router).with_graceful_shutdown(ended.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the control socket failed");
    }
}

async fn identity(State(shared): State<Shared>) -> Json<Identity> {
    Json(shared.identity)
}

async fn status_now(State(shared): State<Shared>) -> Json<Status> {
    let status = shared.status.borrow().clone();
    Json(status)
}

/// One status a line, at once and at each change. Ends when the daemon does, so that nothing waits
/// on it for ever. With `?session=N` it is who follows the `up` of that generation: the stream's
/// end is the end of that.
async fn status_stream(State(shared): State<Shared>, uri: Uri) -> Response {
    let number = uri
        .query()
        .and_then(|query| query.strip_prefix("session="))
        .and_then(|number| number.parse().ok());
    let session = number.map(|number| Present {
        session: Session::Up(number),
        queue: shared.queue.clone(),
    });
    statuses(shared, session)
}

/// The statuses from now on, for as long as they are read.
fn statuses(shared: Shared, session: Option<Present>) -> Response {
    let ended = shared.ended.clone();
    let lines = futures_util::stream::unfold(
        (shared.status, true),
        move |(mut status, first)| async move {
            if !first {
                status.changed().await.ok()?;
            }
            let mut line = serde_json::to_vec(&*status.borrow_and_update()).ok()?;
            line.push(b'\n');
            Some((Ok::<_, std::convert::Infallible>(line), (status, false)))
        },
    );
    let lines = lines.take_until(ended.cancelled_owned()).map(move |line| {
        let _alive = &session;
        line
    });
    Body::from_stream(lines).into_response()
}

/// Somebody whose connection says that they are there. However they leave, the daemon is told.
struct Present {
    session: Session,
    queue: mpsc::Sender<Input>,
}

impl Drop for Present {
    fn drop(&mut self) {
        let (queue, ended) = (self.queue.clone(), Event::SessionEnded(self.session));
        tokio::spawn(async move { queue.send(Input::Event(ended)).await });
    }
}

/// Sends a request to the daemon and waits for its answer; none when it ends before.
async fn ask(shared: &Shared, request: Request) -> Option<Answer> {
    let (reply, answer) = oneshot::channel();
    shared.queue.send(Input::Asked(request, reply)).await.ok()?;
    answer.await.ok()
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending").into_response()
}

fn answered<T: Serialize>(result: Result<T, Denied>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(denied) => (StatusCode::CONFLICT, Json(denied)).into_response(),
    }
}

/// The response to an answer. Every kind of request has one kind of answer.
fn respond(answer: Option<Answer>) -> Response {
    match answer {
        Some(Answer::Up(result)) => answered(result),
        Some(Answer::Plan(result)) => answered(result),
        Some(Answer::Wished(result)) => answered(result),
        Some(Answer::Cancelled(cancelled)) => Json(cancelled).into_response(),
        Some(Answer::Stored(stored)) => Json(stored).into_response(),
        Some(Answer::Leaves) => Json(true).into_response(),
        None => gone(),
    }
}

async fn up(State(shared): State<Shared>, Json(body): Json<UpRequest>) -> Response {
    respond(ask(&shared, Request::Up(Box::new(body))).await)
}

async fn plan(State(shared): State<Shared>, Json(body): Json<UpRequest>) -> Response {
    respond(ask(&shared, Request::Plan(Box::new(body))).await)
}

async fn down(State(shared): State<Shared>, Json(body): Json<DownBody>) -> Response {
    let DownBody {
        volumes,
        timeout_s,
        skips_tasks,
        endpoint,
    } = body;
    let request = Request::Down {
        volumes,
        pace: DownPace {
            within: timeout_s.map(Duration::from_secs),
            skips_tasks,
        },
        endpoint,
    };
    respond(ask(&shared, request).await)
}

async fn restart(State(shared): State<Shared>, Json(body): Json<UnitsBody>) -> Response {
    units(&shared, About::Restart, body).await
}

async fn stop(State(shared): State<Shared>, Json(body): Json<UnitsBody>) -> Response {
    units(&shared, About::Stop, body).await
}

async fn start(State(shared): State<Shared>, Json(body): Json<UnitsBody>) -> Response {
    units(&shared, About::Start, body).await
}

async fn drain(State(shared): State<Shared>, Json(body): Json<UnitsBody>) -> Response {
    units(&shared, About::Drain, body).await
}

async fn undrain(State(shared): State<Shared>, Json(body): Json<UnitsBody>) -> Response {
    units(&shared, About::Undrain, body).await
}

async fn units(shared: &Shared, about: About, body: UnitsBody) -> Response {
    respond(ask(shared, Request::Units(about, body.units, body.endpoint)).await)
}

async fn roll_back(State(shared): State<Shared>, Json(body): Json<RollbackBody>) -> Response {
    respond(ask(&shared, Request::RollBack(body.endpoint)).await)
}

async fn restore(State(shared): State<Shared>, Json(body): Json<RestoreBody>) -> Response {
    respond(ask(&shared, Request::Restore(body.step, body.endpoint)).await)
}

/// Numbers the sessions of those who have nodes drained for a while.
static QUIESCES: AtomicU64 = AtomicU64::new(1);

/// Who asks is there before the daemon hears of it, so that it hears of the end whenever that comes.
async fn quiesce(State(shared): State<Shared>, Json(body): Json<QuiesceBody>) -> Response {
    let session = Session::Quiesce(QUIESCES.fetch_add(1, Ordering::Relaxed));
    let present = Present {
        session,
        queue: shared.queue.clone(),
    };
    match ask(&shared, Request::Quiesce(session, body.endpoint)).await {
        Some(Answer::Wished(Ok(_))) => statuses(shared, Some(present)),
        other => respond(other),
    }
}

async fn sa_password(State(shared): State<Shared>, Json(body): Json<PasswordBody>) -> Response {
    respond(ask(&shared, Request::Password(body.step, body.endpoint)).await)
}

async fn tentacle(State(shared): State<Shared>, Json(body): Json<TentacleBody>) -> Response {
    let TentacleBody {
        name,
        step,
        endpoint,
    } = body;
    respond(ask(&shared, Request::Tentacle(name, step, endpoint)).await)
}

async fn cancel(State(shared): State<Shared>, Json(session): Json<u64>) -> Response {
    respond(ask(&shared, Request::Cancel(session)).await)
}

/// What is kept of the project, secrets too: the socket is its owner's as the state file is.
async fn stored(State(shared): State<Shared>) -> Response {
    respond(ask(&shared, Request::Stored).await)
}

async fn session_end(State(shared): State<Shared>, Json(session): Json<u64>) -> Response {
    let ended = Event::SessionEnded(Session::Up(session));
    let _ = shared.queue.send(Input::Event(ended)).await;
    Json(true).into_response()
}

async fn handover(State(shared): State<Shared>) -> Response {
    respond(ask(&shared, Request::Handover).await)
}
