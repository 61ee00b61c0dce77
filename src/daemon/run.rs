//! The daemon's process: its lock, its log, its signals, its socket, and the shell with its core between them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use sha2::Digest as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use super::beats;
use super::beats::Beats;
use super::guard::guarded;
use super::message::Event;
use super::message::Leave;
use super::paths;
use super::paths::Paths;
use super::shell::Input;
use super::shell::Shell;
use super::shell::ShellSetup;
use super::store;
use crate::api;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::connect;
use crate::reconcile::status::Status;

/// How often systemd is asked for more time while the stack stops. Each time it is given twice as
/// much.
const EXTEND_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

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
    let _name = take_name(&options.project, &endpoint).map_err(|_| {
        DaemonError::Owned(
            options.project.clone(),
            "one with another state directory".to_owned(),
        )
    })?;
    let beats = Arc::new(Beats::default());
    if options.detached {
        // Fails only for a group leader, and then there is nothing to leave.
        let _ = rustix::process::setsid();
    }
    log_to(options.detached.then(|| paths.log()));
    let listener = api::server::bind(&paths.socket()).map_err(prepare(paths.socket()))?;
    let (shell, queue) = Shell::new(ShellSetup {
        project: options.project.clone(),
        endpoint,
        paths: paths.clone(),
        env: options.env.clone(),
        ends_when_down: options.detached,
        held: options.held,
        beats: beats.clone(),
    });
    let (published, status) = tokio::sync::watch::channel(Status::default());
    tracing::info!(project = %options.project, version = env!("CARGO_PKG_VERSION"), "the daemon begins");
    let signals = tokio::spawn(signals(queue.clone()));
    let ended = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(api::server::serve(listener, queue, status, ended.clone()));
    let watchdog = tokio::spawn(tell_systemd(beats));
    // A panic ends the daemon with a word instead of tearing down the process.
    let leave = guarded(shell.run(published)).await.unwrap_or_else(|words| {
        tracing::error!("{words}");
        Leave::Broken
    });
    // Whoever comes now finds no socket, and starts a daemon of its own.
    let _ = std::fs::remove_file(paths.socket());
    ended.cancel();
    signals.abort();
    watchdog.abort();
    if leave == Leave::End {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    }
    // Open status streams end with the token; this only lets the last line leave.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), server).await;
    Ok(leave)
}

/// Two daemons with different state directories would share nothing but the stack, so the name is
/// taken on the host too. The kernel frees it when the process ends, however it ends.
fn take_name(project: &ProjectName, endpoint: &Endpoint) -> std::io::Result<UnixListener> {
    use std::os::linux::net::SocketAddrExt as _;
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name_on_host(
        project, endpoint,
    ))?)
}

/// The abstract name that one daemon of a project on an engine holds, whoever runs it.
pub fn name_on_host(project: &ProjectName, endpoint: &Endpoint) -> String {
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

/// Tells systemd that the daemon is ready, feeds its watchdog while both loops advance, and asks
/// for more time while the stack stops.
async fn tell_systemd(beats: Arc<Beats>) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled();
    let mut beat =
        tokio::time::interval(watchdog.map_or(EXTEND_EVERY, |limit| (limit / 2).min(EXTEND_EVERY)));
    let mut fed = beats.counts();
    loop {
        beat.tick().await;
        if beats.is_ending() {
            let more = u32::try_from((EXTEND_EVERY * 2).as_micros()).unwrap_or(u32::MAX);
            let _ = sd_notify::notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(more)]);
        }
        let now = beats.counts();
        if watchdog.is_some() && beats::advanced(fed, now) {
            fed = now;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// A log file that sets itself aside when it grew large.
struct BoundedLog {
    path: PathBuf,
    file: Option<File>,
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if std::fs::metadata(&self.path).is_ok_and(|file| file.len() > paths::LOG_LIMIT) {
            let _ = std::fs::rename(&self.path, paths::older(&self.path));
            self.file = None;
        }
        if self.file.is_none() {
            self.file = File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)
                .ok();
        }
        // A full disk costs the line, never the daemon.
        Ok(self
            .file
            .as_mut()
            .and_then(|file| file.write(bytes).ok())
            .unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Our own words from `info` on, those of libraries only when they are errors. tiberius calls each
/// login that a booting server refuses an error: what matters of it comes back to us anyway.
fn spoken() -> tracing_subscriber::filter::Targets {
    tracing_subscriber::filter::Targets::new()
        .with_default(tracing::Level::ERROR)
        .with_target("octo_local", tracing::Level::INFO)
        .with_target("tiberius", tracing_subscriber::filter::LevelFilter::OFF)
}

fn log_to(path: Option<PathBuf>) {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let ours = spoken();
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false);
    let registry = tracing_subscriber::registry();
    let _ = match path {
        Some(path) => {
            let file = Mutex::new(BoundedLog { path, file: None });
            registry
                .with(layer.with_writer(file).with_filter(ours))
                .try_init()
        }
        None => registry
            .with(layer.with_writer(std::io::stderr).with_filter(ours))
            .try_init(),
    };
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_a_booting_server_refuses_is_no_error_of_ours() {
        let spoken = spoken();
        assert!(spoken.would_enable("octo_local::daemon::shell", &Level::INFO));
        assert!(spoken.would_enable("hyper::client", &Level::ERROR));
        assert!(!spoken.would_enable("hyper::client", &Level::WARN));
        assert!(!spoken.would_enable("tiberius::tds::stream::token", &Level::ERROR));
    }
}
