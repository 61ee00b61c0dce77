//! The front door's process: its lock, its sockets, its user, its signals, its end.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::time::Instant;

use super::access::Access;
use super::access::BoundedFile;
use super::access::Place;
use super::control::Control;
use super::front::Front;
use super::front::Stage;
use super::message::Answer;
use super::message::Ask;
use super::message::FORM;
use super::message::Feed;
use super::message::Hello;
use super::probe;
use super::wire::Wire;
use crate::service_manager;
use crate::service_manager::Word;

/// How long the one that hands over may take for each step.
const HANDOVER_WITHIN: Duration = Duration::from_secs(10);
/// How often its lock is tried meanwhile.
const LOCK_EVERY: Duration = Duration::from_millis(5);
/// How long clients may go on using connections that wait between requests when the process leaves:
/// each answer tells them to close. Then they are closed.
const LINGER_AFTER_HANDOVER: Duration = Duration::from_secs(10);
/// The same when it ends for good: nobody else takes new connections.
const LINGER_AT_END: Duration = Duration::from_secs(1);
/// How long the service manager may take to hear a word; clients do not wait for it.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether a daemon can still find it.
const FOUND_EVERY: Duration = Duration::from_secs(1);
/// The size from which the log is set aside.
const LOG_LIMIT: u64 = 512 * 1024;
/// Descriptors where the limit cannot be read.
const FEW: u64 = 1024;

/// How the process is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The control socket.
    pub control: PathBuf,
    /// Take over from the one that has the socket.
    pub take_over: bool,
    /// Go on as this user and group after everything that needs more is open; for root.
    pub user: Option<u32>,
    /// A bounded log file in the place of standard error.
    pub log: Option<PathBuf>,
    /// Where requests are written, if that is wished; its directory must be there.
    pub access_log: Option<PathBuf>,
    /// When the program's file was written, in seconds since 1970.
    pub built: u64,
}

/// Why the front door did not run.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Another one has the control socket.
    #[error("another front door has {0}; --take-over takes it over")]
    Owned(PathBuf),
    /// Something of its own could not be opened.
    #[error("{what}: {error}")]
    Prepare {
        /// What.
        what: String,
        /// Why.
        error: io::Error,
    },
}

fn prepare<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T, WebError> {
    let what = what.into();
    result.map_err(|error| WebError::Prepare { what, error })
}

/// What a process begins with.
#[derive(Debug, Default)]
struct Inherited {
    control: Option<OwnedFd>,
    feed: Option<Feed>,
    sockets: HashMap<SocketAddr, OwnedFd>,
}

/// Runs until it is told to end, and what runs is finished. The runtime must be of one thread: only
/// the calling thread changes its user.
pub async fn run(options: Options) -> Result<(), WebError> {
    if options.log.is_some() {
        // Fails only for a group's leader, and then there is nothing to leave.
        let _ = rustix::process::setsid();
    }
    log_to(options.log.as_deref())?;
    let descriptors = raise_descriptors();
    let (lock, inherited) = prepare("begin", begin(&options).await)?
        .ok_or_else(|| WebError::Owned(options.control.clone()))?;
    let socket = match inherited.control {
        Some(socket) => adopt(socket),
        None => bind(&options.control),
    };
    let socket = Arc::new(prepare(options.control.display().to_string(), socket)?);
    let place = options.access_log.as_deref().map(Place::in_directory);
    let access = Access::at(prepare("the access log", place.transpose())?);
    let front = Arc::new(Front::new(descriptors, access));
    let control = Arc::new(Control::new(front.clone(), hello(&options), socket));
    // Before the user changes: it may be the ports that need more.
    if let Some(feed) = inherited.feed {
        control.take(feed, inherited.sockets).await;
    } else {
        control.keep(inherited.sockets);
    }
    if let Some(user) = options.user {
        prepare(format!("become user {user}"), become_user(user))?;
    }
    front.access.begin();
    service_manager::say_within(Word::Ready, TOLD_WITHIN).await;
    tracing::info!(control = %options.control.display(), "the front door is open");
    serve(&control, lock).await
}

/// Serves until the end.
async fn serve(control: &Arc<Control>, lock: File) -> Result<(), WebError> {
    let mut terminate = prepare("signals", signal(SignalKind::terminate()))?;
    let mut interrupt = prepare("signals", signal(SignalKind::interrupt()))?;
    let _hangup = prepare("signals", signal(SignalKind::hangup()))?;
    let probing = tokio::spawn(probe::run(control.front.clone()));
    let serving = tokio::spawn(control.clone().serve());
    tokio::select! {
        () = control.ending.cancelled() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = until_abandoned(&control.front, &lock) => {
            tracing::warn!("nobody feeds it, and its directory was removed: it ends");
        }
    }
    control.ending.cancel();
    let linger = if control.taken.is_cancelled() {
        LINGER_AFTER_HANDOVER
    } else {
        service_manager::say_within(Word::Stopping, TOLD_WITHIN).await;
        LINGER_AT_END
    };
    // Whoever takes over waits for it.
    drop(lock);
    tokio::select! {
        () = control.end(linger) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    control.front.reach(Stage::Over);
    serving.abort();
    probing.abort();
    Ok(())
}

/// Waits until no daemon is connected and none can find it any more: its lock was removed, and the
/// control socket with it. It would hold its ports for ever.
async fn until_abandoned(front: &Front, lock: &File) {
    let is_removed = || lock.metadata().is_ok_and(|file| file.nlink() == 0);
    while !(front.is_alone() && is_removed()) {
        tokio::time::sleep(FOUND_EVERY).await;
    }
}

fn hello(options: &Options) -> Hello {
    Hello {
        form: FORM,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        built: options.built,
        pid: std::process::id(),
    }
}

/// The lock, and what another one or systemd hands over. None when another one has the lock and is
/// not to be replaced.
async fn begin(options: &Options) -> io::Result<Option<(File, Inherited)>> {
    let path = options.control.with_extension("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match lock.try_lock() {
        Ok(()) => return Ok(Some((lock, from_systemd()?))),
        Err(std::fs::TryLockError::WouldBlock) => {}
        Err(std::fs::TryLockError::Error(error)) => return Err(error),
    }
    if !options.take_over {
        return Ok(None);
    }
    let taking = take_over(&options.control);
    let inherited = tokio::time::timeout(HANDOVER_WITHIN, taking)
        .await
        .map_err(|_| io::Error::other("the other front door does not hand over"))??;
    let deadline = Instant::now() + HANDOVER_WITHIN;
    while lock.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(io::Error::other("the other front door keeps its lock"));
        }
        tokio::time::sleep(LOCK_EVERY).await;
    }
    Ok(Some((lock, inherited)))
}

/// Asks the one that has the control socket for its sockets.
async fn take_over(control: &Path) -> io::Result<Inherited> {
    let mut wire = Wire::new(UnixStream::connect(control).await?);
    wire.send(&Ask::HandOver, &[]).await?;
    loop {
        let answer = wire.receive::<Answer>().await?;
        match answer.ok_or(io::ErrorKind::UnexpectedEof)? {
            Answer::Hello(_) | Answer::State(_) => {}
            Answer::Refused { reason } => return Err(io::Error::other(reason)),
            Answer::Handover { feed, sockets } => {
                let mut came = wire.take_sockets().into_iter();
                let control = came.next();
                if came.len() != sockets.len() {
                    return Err(io::Error::other("some sockets did not arrive"));
                }
                wire.send(&Ask::Taken, &[]).await?;
                return Ok(Inherited {
                    control,
                    feed: feed.map(|feed| *feed),
                    sockets: sockets.into_iter().zip(came).collect(),
                });
            }
        }
    }
}

/// The sockets that systemd opened for us, by their addresses. A unix socket is the control socket.
fn from_systemd() -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    for socket in service_manager::sockets()? {
        match std::net::TcpListener::from(socket.try_clone()?).local_addr() {
            Ok(address) => drop(inherited.sockets.insert(address, socket)),
            Err(_) => inherited.control = Some(socket),
        }
    }
    Ok(inherited)
}

fn adopt(socket: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Opens the control socket for its owner only. One that is there is a dead one's: we have the
/// lock.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// As many descriptors as the process may have; how many that is.
fn raise_descriptors() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    let now = rustix::process::getrlimit(Resource::Nofile).current;
    usize::try_from(now.unwrap_or(FEW)).unwrap_or(usize::MAX)
}

/// Gives every right up that the user does not have. Threads that are started later inherit it.
fn become_user(user: u32) -> io::Result<()> {
    if user == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (
        rustix::process::Uid::from_raw(user),
        rustix::process::Gid::from_raw(user),
    );
    thread::set_no_new_privs(true)?;
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

fn log_to(path: Option<&Path>) -> Result<(), WebError> {
    let builder = tracing_subscriber::fmt().with_ansi(false);
    match path {
        None => drop(builder.with_writer(io::stderr).try_init()),
        Some(path) => {
            let file = BoundedFile::open(Place::by_path(path), LOG_LIMIT);
            let file = prepare(path.display().to_string(), file)?;
            drop(builder.with_writer(Mutex::new(file)).try_init());
        }
    }
    Ok(())
}
