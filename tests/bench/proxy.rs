//! A proxy before the engine that writes down every call. What octo-local and docker compose do is
//! counted and timed here, without a word from either.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::stopwatch::now;

/// Where the machine's engine listens when nothing says otherwise.
const ENGINE: &str = "/var/run/docker.sock";

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When its head came, in nanoseconds since 1970.
    pub(crate) at: i64,
    /// `GET`, …
    pub(crate) method: String,
    /// The path without the version's prefix, with the query.
    pub(crate) path: String,
    /// What was sent with it.
    pub(crate) body: Bytes,
}

impl Call {
    /// Whether it starts this container.
    pub(crate) fn starts(&self, id: &str) -> bool {
        self.method == "POST" && self.path == format!("/containers/{id}/start")
    }
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// The proxy. Dropping it ends it.
pub(crate) struct Proxy {
    dir: TempDir,
    calls: Calls,
    ended: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens before the engine.
    pub(crate) fn open() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("octo-bench-")
            .tempdir()
            .unwrap();
        let (calls, ended) = (Calls::default(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener =
            runtime.block_on(async { UnixListener::bind(dir.path().join("engine.sock")).unwrap() });
        let serving = serve(listener, engine(), calls.clone());
        let token = ended.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(token.run_until_cancelled(serving));
        });
        Self {
            dir,
            calls,
            ended,
            thread: Some(thread),
        }
    }

    /// Lets a command reach the engine only through here.
    pub(crate) fn lead<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(
            "DOCKER_HOST",
            format!("unix://{}", self.dir.path().join("engine.sock").display()),
        )
    }

    /// The calls that came since then.
    pub(crate) fn since(&self, at: i64) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| call.at >= at).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn engine() -> PathBuf {
    let host = std::env::var_os("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned());
    let path = host.as_deref().map_or(ENGINE, |host| {
        host.strip_prefix("unix://")
            .expect("the engine is on a socket")
    });
    PathBuf::from(path)
}

async fn serve(listener: UnixListener, engine: PathBuf, calls: Calls) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (engine, calls) = (engine.clone(), calls.clone());
        let pass = service_fn(move |request| forward(request, engine.clone(), calls.clone()));
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), pass),
        );
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn forward(
    request: Request<Incoming>,
    engine: PathBuf,
    calls: Calls,
) -> Result<Response<Incoming>, Failure> {
    let at = now();
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = parts
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let call = Call {
        at,
        method: parts.method.to_string(),
        path: unversioned(&path),
        body: body.clone(),
    };
    calls
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(call);
    let stream = UnixStream::connect(engine).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender
        .send_request(Request::from_parts(parts, Full::new(body)))
        .await?)
}

/// `/v1.41/info` as `/info`.
fn unversioned(path: &str) -> String {
    let rest = path
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'));
    match rest {
        Some((version, rest)) if version.starts_with(|letter: char| letter.is_ascii_digit()) => {
            format!("/{rest}")
        }
        Some(_) | None => path.to_owned(),
    }
}
