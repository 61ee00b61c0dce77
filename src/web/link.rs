//! What the supervisor needs of the front door: start it, adopt one that runs, feed it, let a newer
//! program take it over, end it.
//!
//! [`keep()`] does all of it for as long as it is awaited: give it the wished [`Feed`] in a watch
//! channel and read the [`State`] from another. The front door goes on when it is dropped.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::listen;
use super::message::Answer;
use super::message::Ask;
use super::message::FORM;
use super::message::Feed;
use super::message::Hello;
use super::message::ListenerState;
use super::message::NodeReport;
use super::message::State;
use super::settings::CertificateFiles;
use super::tls::Files;
use super::wire::Wire;

/// How long one answer may take: nothing that is asked waits for anything.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How long a started one may take until it answers, a handover included.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How often its state is asked for, and the certificate's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same, at most, while nothing changes: its end is noticed at once all the same.
const LOOK_SELDOM: Duration = Duration::from_secs(15);
/// The same while requests end on a node that gets no more: somebody waits to stop it.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// The pause after it could not be reached or started; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What went wrong with the front door.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens at its control socket.
    #[error("the front door does not run")]
    Absent,
    /// The connection failed.
    #[error("the front door does not answer: {0}")]
    Broken(#[from] io::Error),
    /// It speaks another form of the messages: an older or newer program.
    #[error("the front door speaks form {0} of its messages")]
    OtherForm(u32),
    /// It refused what it was asked.
    #[error("the front door refuses: {0}")]
    Refused(String),
    /// It could not be started.
    #[error("the front door cannot be started: {0}")]
    NotStarted(String),
}

/// How a front door is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program, this one as a rule.
    pub program: PathBuf,
    /// When its file was written, in seconds since 1970. A front door with an older program is
    /// taken over by this one.
    pub built: u64,
    /// The control socket; its directory must be there.
    pub control: PathBuf,
    /// The front door's log; bounded.
    pub log: PathBuf,
    /// Where it writes requests, when it is to. The directory is its own: what gave its rights up
    /// makes files in no other.
    pub access_log: PathBuf,
    /// Who it runs as when the starter is root; 65534 is nobody.
    pub user: Option<u32>,
}

impl Start {
    /// Starts it. With a log of its own it goes into a session of its own, where no Ctrl-C of the
    /// starter's terminal reaches it. It outlives the starter.
    fn spawn(&self, take_over: bool) -> Result<Child, LinkError> {
        let failed = |error: io::Error| LinkError::NotStarted(error.to_string());
        let words = std::fs::File::options()
            .append(true)
            .create(true)
            .open(&self.log)
            .map_err(failed)?;
        self.give_directory().map_err(failed)?;
        let mut command = Command::new(&self.program);
        command
            .arg("web")
            .arg("--control")
            .arg(&self.control)
            .arg("--log")
            .arg(&self.log)
            .arg("--access-log")
            .arg(&self.access_log)
            .args(take_over.then_some("--take-over"))
            .args(self.user.map(|user| format!("--user={user}")))
            .current_dir("/")
            // It needs nothing of it, and secrets may be in it.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words);
        command.spawn().map_err(failed)
    }
}

impl Start {
    /// Makes the directory of the access log, for the front door's user alone.
    fn give_directory(&self) -> io::Result<()> {
        let Some(directory) = self.access_log.parent() else {
            return Ok(());
        };
        match std::fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        match self.user {
            Some(user) => std::os::unix::fs::lchown(directory, Some(user), Some(user)),
            None => Ok(()),
        }
    }
}

/// A connection to a front door.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    hello: Hello,
}

impl Link {
    /// Connects to the one that runs. It is not changed by that.
    pub async fn connect(control: &Path) -> Result<Self, LinkError> {
        let stream = match UnixStream::connect(control).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Err(LinkError::Absent);
            }
            Err(error) => return Err(error.into()),
        };
        let mut wire = Wire::new(stream);
        match answer(&mut wire).await? {
            Answer::Hello(hello) => Ok(Self { wire, hello }),
            _ => Err(LinkError::Refused("it does not greet".to_owned())),
        }
    }

    /// Who it is.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Makes it be as the feed says. What it may not open itself is opened here and sent along,
    /// where this process may.
    pub async fn feed(&mut self, feed: &Feed) -> Result<State, LinkError> {
        if self.hello.form != FORM {
            return Err(LinkError::OtherForm(self.hello.form));
        }
        let state = self.feed_with(feed, &[]).await?;
        let forbidden = state.listeners.iter().filter(|one| one.forbidden);
        let opened: Vec<(SocketAddr, TcpListener)> = forbidden
            .filter_map(|one| Some((one.address, listen::bind(one.address).ok()?)))
            .collect();
        if opened.is_empty() {
            return Ok(state);
        }
        self.feed_with(feed, &opened).await
    }

    async fn feed_with(
        &mut self,
        feed: &Feed,
        opened: &[(SocketAddr, TcpListener)],
    ) -> Result<State, LinkError> {
        let ask = Ask::Feed {
            feed: Box::new(feed.clone()),
            sockets: opened.iter().map(|(address, _)| *address).collect(),
        };
        let sockets: Vec<BorrowedFd<'_>> =
            opened.iter().map(|(_, socket)| socket.as_fd()).collect();
        self.ask(&ask, &sockets).await
    }

    /// How it is.
    pub async fn state(&mut self) -> Result<State, LinkError> {
        self.ask(&Ask::State, &[]).await
    }

    /// Lets it finish what runs, within its own limit, and end.
    pub async fn end(&mut self) -> Result<State, LinkError> {
        self.ask(&Ask::End, &[]).await
    }

    async fn ask(&mut self, ask: &Ask, sockets: &[BorrowedFd<'_>]) -> Result<State, LinkError> {
        self.wire.send(ask, sockets).await?;
        match answer(&mut self.wire).await? {
            Answer::State(state) => Ok(state),
            Answer::Refused { reason } => Err(LinkError::Refused(reason)),
            _ => Err(LinkError::Refused("it answers something else".to_owned())),
        }
    }
}

async fn answer(wire: &mut Wire) -> Result<Answer, LinkError> {
    let answer = tokio::time::timeout(ANSWERS_WITHIN, wire.receive())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?)
}

/// Connects to the front door: to the one that runs, or one that is started. One of an older
/// program is taken over by ours; no connection is refused meanwhile.
pub async fn ensure(start: &Start) -> Result<Link, LinkError> {
    let take_over = match Link::connect(&start.control).await {
        Ok(link) if link.hello.form == FORM && link.hello.built >= start.built => return Ok(link),
        Ok(_) => true,
        Err(LinkError::Absent) => false,
        Err(error) => return Err(error),
    };
    let mut child = start.spawn(take_over)?;
    let own = child.id();
    let deadline = Instant::now() + STARTS_WITHIN;
    loop {
        // Our own, or another that was started meanwhile and is as new.
        if let Ok(link) = Link::connect(&start.control).await
            && link.hello.form == FORM
            && (link.hello.pid == own || link.hello.built >= start.built)
        {
            reap(child);
            return Ok(link);
        }
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            reap(child);
            let words = std::fs::read_to_string(&start.log).unwrap_or_default();
            let last = words.lines().last().unwrap_or("it says nothing");
            return Err(LinkError::NotStarted(last.to_owned()));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Waits for the process' end, whenever that is, so that no dead one stays behind.
fn reap(mut child: Child) {
    let waiting = move || drop(child.wait());
    let started = std::thread::Builder::new()
        .name("front door".to_owned())
        .spawn(waiting);
    if let Err(error) = started {
        tracing::debug!(%error, "nobody waits for the front door's end");
    }
}

/// Keeps a front door running and fed as `wished` says, for ever; what it reports is in `state`,
/// none while it does not answer. The files of the certificate are read here, and again when they
/// change; a damaged or half-replaced pair leaves the one before in its place.
pub async fn keep(
    start: Start,
    certificate: Option<CertificateFiles>,
    mut wished: watch::Receiver<Feed>,
    state: watch::Sender<Option<State>>,
) {
    let mut files = certificate.map(Files::at);
    let mut pause = PAUSE;
    loop {
        let kept = async {
            let mut link = ensure(&start).await?;
            pause = PAUSE;
            feed_on(&mut link, &mut files, &mut wished, &state).await
        };
        let ended: Result<(), LinkError> = kept.await;
        state.send_replace(None);
        match ended {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "the front door is not fed"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// How long to wait for the next look, after a pause and what was seen before and after it.
fn pause_after(before: &State, now: &State, pause: Duration) -> Duration {
    let is_emptying = |node: &NodeReport| !node.serves && node.requests > 0;
    let is_open = |listener: &ListenerState| listener.failure.is_none();
    let is_well = now.listeners.iter().all(is_open) && now.certificate.is_none();
    if now.nodes.iter().any(is_emptying) {
        LOOK_SOON
    } else if is_well && (&before.listeners, &before.nodes) == (&now.listeners, &now.nodes) {
        (pause * 2).clamp(LOOK_EVERY, LOOK_SELDOM)
    } else {
        LOOK_EVERY
    }
}

/// Feeds one front door until it is gone, or nobody wishes anything any more.
async fn feed_on(
    link: &mut Link,
    files: &mut Option<Files>,
    wished: &mut watch::Receiver<Feed>,
    state: &watch::Sender<Option<State>>,
) -> Result<(), LinkError> {
    let mut told = String::new();
    let mut began = false;
    let mut last = State::default();
    let mut pause = LOOK_EVERY;
    loop {
        let mut news = wished.has_changed().unwrap_or(false) || !began;
        if let Some(files) = files {
            match files.look() {
                Ok(changed) => {
                    news |= changed.is_some();
                    told.clear();
                }
                Err(error) if error.to_string() != told => {
                    told = error.to_string();
                    tracing::warn!(%error, "the certificate is not used");
                }
                Err(_) => {}
            }
        }
        let now = if news {
            let mut feed = wished.borrow_and_update().clone();
            if let Some(current) = files.as_ref().and_then(Files::current) {
                feed.tls = Some(current.clone());
            }
            link.feed(&feed).await?
        } else {
            link.state().await?
        };
        began = true;
        pause = pause_after(&last, &now, pause);
        last.clone_from(&now);
        state.send_replace(Some(now));
        tokio::select! {
            () = link.wire.until_heard() => {}
            changed = wished.changed() => match changed {
                Ok(()) => wished.mark_changed(),
                Err(_) => return Ok(()),
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}
