//! The daemon's process: its lock, its log, its signals, its socket, and the shell with its core
//! between them.

use std::collections::BTreeMap;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::Digest as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::oneshot;
use tokio::sync::watch;

use super::beats::Beats;
use super::core::Duty;
use super::guard::guarded;
use super::log;
use super::message::Answer;
use super::message::Event;
use super::message::Leave;
use super::message::Request;
use super::paths::Paths;
use super::service_manager;
use super::shell::Input;
use super::shell::Shell;
use super::shell::ShellSetup;
use super::store;
use crate::api;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::connect;
use crate::reconcile::status::Status;
use crate::web::link::Start;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The project.
    pub project: ProjectName,
    /// `up` started it: its own session, its log in a file, and it ends when the stack is down.
    pub detached: bool,
    /// Start nothing before it is asked to: a request follows.
    pub held: bool,
    /// The process environment.
    pub env: BTreeMap<String, String>,
}

/// Why a daemon did not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another one has the project.
    #[error("a daemon of project {0} runs already: {1}")]
    Owned(ProjectName, String),
    /// Its directories, lock or socket could not be made.
    #[error("prepare {path}: {why}")]
    Prepare {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        why: std::io::Error,
    },
}

/// Runs the daemon of a project until the stack is down, a newer daemon takes over, or a signal
/// ends it; says how it left.
pub async fn run(options: Options) -> Result<Leave, DaemonError> {
    let paths = Paths::of(&options.project, &options.env);
    let prepare = |path: PathBuf| move |why| DaemonError::Prepare { path, why };
    paths.create().map_err(prepare(paths.state.clone()))?;
    let lock = store::lock(&paths.lock()).map_err(prepare(paths.lock()))?;
    let _lock = lock
        .map_err(|owner| DaemonError::Owned(options.project.clone(), format!("process {owner}")))?;
    let endpoint = connect::endpoint(&options.env);
    let _name = take_name(&options.project, &endpoint)
        .map_err(|who| DaemonError::Owned(options.project.clone(), who))?;
    let beats = Arc::new(Beats::default());
    if options.detached {
        // Fails only for a group leader, and then there is nothing to leave.
        let _ = rustix::process::setsid();
    }
    let _log = log::begin(options.detached.then(|| paths.log()), &options.env);
    let listener = api::server::bind(&paths.socket()).map_err(prepare(paths.socket()))?;
    let (shell, queue) = Shell::new(ShellSetup {
        project: options.project.clone(),
        endpoint,
        paths: paths.clone(),
        env: options.env.clone(),
        ends_when_down: options.detached,
        duty: if options.held {
            Duty::AwaitRequest
        } else {
            Duty::Supervise
        },
        beats: beats.clone(),
        front_door: front_door(&paths),
    });
    let (published, status) = watch::channel(Status::default());
    tracing::info!(project = %options.project, version = env!("CARGO_PKG_VERSION"), "the daemon begins");
    let signals = tokio::spawn(signals(queue.clone()));
    let ended = tokio_util::sync::CancellationToken::new();
    let manager = tokio::spawn(service_manager::tell(beats, status.clone()));
    let server = tokio::spawn(api::server::serve(listener, queue, status, ended.clone()));
    // A panic ends the daemon with a word instead of tearing down the process.
    let leave = guarded(Box::pin(shell.run(published)))
        .await
        .unwrap_or_else(|words| {
            tracing::error!("{words}");
            Leave::Broken
        });
    // Whoever comes now finds no socket, and starts a daemon of its own.
    let _ = std::fs::remove_file(paths.socket());
    ended.cancel();
    signals.abort();
    manager.abort();
    if leave == Leave::End {
        service_manager::say_that_it_ends().await;
    }
    // Open status streams end with the token; this only lets the last line leave.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), server).await;
    Ok(leave)
}

/// Answers a request as the daemon of this project would, in this process and once: there is no
/// lock, no name, no lease and no file of it. `None` where it ended without an answer.
pub async fn answer(
    project: &ProjectName,
    env: &BTreeMap<String, String>,
    request: Request,
) -> Option<Answer> {
    let paths = Paths::of(project, env);
    let (shell, queue) = Shell::new(ShellSetup {
        project: project.clone(),
        endpoint: connect::endpoint(env),
        env: env.clone(),
        ends_when_down: true,
        duty: Duty::Answer,
        beats: Arc::default(),
        front_door: front_door(&paths),
        paths,
    });
    let (reply, answer) = oneshot::channel();
    // The queue is as long as the shell lives.
    let _ = queue.send(Input::Asked(request, reply)).await;
    let (published, _) = watch::channel(Status::default());
    let _ = guarded(Box::pin(shell.run(published))).await;
    answer.await.ok()
}

/// The user that the front door runs as where the daemon is root: nobody, on every Linux.
const NOBODY: u32 = 65534;

/// The front door is this program too.
fn front_door(paths: &Paths) -> Start {
    let own = std::env::current_exe().unwrap_or_default();
    // The kernel marks a path whose file was replaced meanwhile.
    let text = own.to_string_lossy();
    let program = text.strip_suffix(" (deleted)").map(PathBuf::from);
    Start {
        program: program.unwrap_or_else(|| own.clone()),
        built: api::Identity::own().built,
        control: paths.front_door(),
        log: paths.front_door_log(),
        access_log: paths.access_log(),
        user: rustix::process::geteuid().is_root().then_some(NOBODY),
    }
}

/// Two daemons with different state directories would share nothing but the stack, so the name is
/// taken on the host too. The kernel frees it when the process ends, however it ends.
///
/// Any user of the host can take it, so it binds nobody to somebody else's word: there the lease on
/// the engine decides who looks after the project.
fn take_name(project: &ProjectName, endpoint: &Endpoint) -> Result<Option<UnixListener>, String> {
    use std::os::linux::net::SocketAddrExt as _;
    let name = SocketAddr::from_abstract_name(name_on_host(project, endpoint));
    match name.and_then(|name| UnixListener::bind_addr(&name)) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => {
            let holder = holder_of_name(project, endpoint);
            if let Some(Holder { uid, pid }) = holder
                && is_believed(uid, rustix::process::geteuid().as_raw())
            {
                return Err(format!(
                    "process {pid} of the user with uid {uid}, with another state directory"
                ));
            }
            let holder =
                holder.map_or_else(|| "nobody knows who".to_owned(), |one| one.to_string());
            tracing::warn!(%error, holder, "the project's name on this host is taken, by no daemon that counts");
            Ok(None)
        }
    }
}

/// Whether a process of this user that has the project's name is a daemon of it: one of our own, or
/// root's.
fn is_believed(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// The process that has a project's name on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub uid: u32,
    /// Its number.
    pub pid: i32,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "process {} of uid {}", self.pid, self.uid)
    }
}

/// Who has the project's name, where somebody listens under it.
pub fn holder_of_name(project: &ProjectName, endpoint: &Endpoint) -> Option<Holder> {
    use rustix::net::SocketFlags;
    let name = name_on_host(project, endpoint);
    let address = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?;
    // Not blocking: nobody takes these connections, and a full queue must keep nobody waiting.
    let (family, kind) = (
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
    );
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, kind, flags, None).ok()?;
    rustix::net::connect(&socket, &address).ok()?;
    let owner = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    Some(Holder {
        uid: owner.uid.as_raw(),
        pid: owner.pid.as_raw_nonzero().get(),
    })
}

/// The abstract name that one daemon of a project on an engine holds, whoever runs it.
pub fn name_on_host(project: &ProjectName, endpoint: &Endpoint) -> String {
    let endpoint = endpoint.identity();
    let name = sha2::Sha256::digest(format!("{project}@{endpoint}"));
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("octo-local/{name}")
}

/// SIGTERM and SIGINT stop the stack in order; SIGHUP starts the program anew and SIGQUIT ends it,
/// both with every container left as it is.
async fn signals(queue: tokio::sync::mpsc::Sender<Input>) {
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    let streams: Vec<_> = kinds
        .into_iter()
        .filter_map(|kind| signal(kind).ok())
        .collect();
    let Ok([mut terminate, mut interrupt, mut hangup, mut quit]) = <[_; 4]>::try_from(streams)
    else {
        return;
    };
    loop {
        // Cancel-safe: a signal stream keeps what another arm did not take.
        let event = tokio::select! {
            _ = terminate.recv() => Event::Terminated,
            _ = interrupt.recv() => Event::Terminated,
            _ = hangup.recv() => Event::Left(Leave::Reload),
            _ = quit.recv() => Event::Left(Leave::End),
        };
        if queue.send(Input::Event(event)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_of_ours_or_of_roots_keeps_a_second_one_out() {
        for (uid, own, believed) in [
            (1000, 1000, true),
            (0, 1000, true),
            (0, 0, true),
            (1000, 0, false),
            (1001, 1000, false),
        ] {
            assert_eq!(is_believed(uid, own), believed, "{uid} to {own}");
        }
    }

    #[test]
    fn spellings_of_one_engine_have_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, link) = (dir.path().join("docker.sock"), dir.path().join("link.sock"));
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let project = ProjectName::given("p").unwrap();
        let name = |text: String| name_on_host(&project, &Endpoint::at(text));
        let unix = |path: &std::path::Path| name(format!("unix://{}", path.display()));
        assert_eq!(unix(&socket), unix(&link));
        let tcp = |scheme: &str| name(format!("{scheme}://127.0.0.1:2375"));
        assert_eq!(tcp("tcp"), tcp("http"));
        assert_ne!(unix(&socket), tcp("tcp"));
    }

    #[test]
    fn the_holder_of_a_name_is_known_while_it_listens() {
        let project = crate::config::project::normalise("held-name").unwrap();
        let endpoint = Endpoint::at(format!("unix:///nowhere/{}", std::process::id()));
        assert_eq!(holder_of_name(&project, &endpoint), None);
        let held = take_name(&project, &endpoint).unwrap();
        assert!(held.is_some());
        let holder = holder_of_name(&project, &endpoint).unwrap();
        assert_eq!(u32::try_from(holder.pid), Ok(std::process::id()));
        let refused = take_name(&project, &endpoint).unwrap_err();
        assert!(
            refused.contains(&format!("process {}", holder.pid)),
            "{refused}"
        );
        assert!(refused.ends_with("another state directory"), "{refused}");
    }
}
