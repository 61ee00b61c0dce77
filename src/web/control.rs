//! The control socket: whoever feeds the front door, and whoever takes it over.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::front::Front;
use super::front::Stage;
use super::listen::Closed;
use super::listen::Listeners;
use super::message::Answer;
use super::message::Ask;
use super::message::Feed;
use super::message::Hello;
use super::message::State;
use super::wire::Wire;

/// How often listening sockets that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the control socket works on.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) front: Arc<Front>,
    pub(super) hello: Hello,
    listeners: Mutex<Listeners>,
    /// The process is to end: it was told to, or its sockets are another's now.
    pub(super) ending: CancellationToken,
    /// The sockets are another's now.
    pub(super) taken: CancellationToken,
    socket: Arc<UnixListener>,
    /// Sockets that systemd opened, until a feed wishes them.
    kept: Mutex<HashMap<SocketAddr, OwnedFd>>,
}

impl Control {
    pub(super) fn new(front: Arc<Front>, hello: Hello, socket: Arc<UnixListener>) -> Self {
        Self {
            front,
            hello,
            listeners: Mutex::default(),
            ending: CancellationToken::new(),
            taken: CancellationToken::new(),
            socket,
            kept: Mutex::default(),
        }
    }

    /// Keeps sockets until a feed wishes them: connections wait in the kernel meanwhile.
    pub(super) fn keep(&self, sockets: HashMap<SocketAddr, OwnedFd>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = sockets;
    }

    /// Accepts feeders until the process ends.
    pub(super) async fn serve(self: Arc<Self>) {
        let mut retry = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => drop(tokio::spawn(self.clone().feeder(stream))),
                    Err(error) => {
                        tracing::warn!(%error, "a feeder was not accepted");
                        tokio::time::sleep(RETRY).await;
                    }
                },
                _ = retry.tick() => self.listeners().retry(&self.front),
                () = self.ending.cancelled() => return,
            }
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a feed in, and sockets that came along.
    pub(super) async fn take(&self, feed: Feed, given: HashMap<SocketAddr, OwnedFd>) {
        self.take_feed(feed, given).wait().await;
    }

    fn take_feed(&self, feed: Feed, mut given: HashMap<SocketAddr, OwnedFd>) -> Closed {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in &feed.listeners {
            if let Some(socket) = kept.remove(&listener.address) {
                given.insert(listener.address, socket);
            }
        }
        drop(kept);
        // First the nodes: a listener that opens finds them.
        let wanted = feed.listeners.clone();
        self.front.take(feed);
        self.listeners().set(&self.front, &wanted, given)
    }

    async fn close_listeners(&self) {
        let closed = self.listeners().close();
        closed.wait().await;
    }

    async fn feeder(self: Arc<Self>, stream: UnixStream) {
        self.front.feeder(true);
        let ended = self.ending.clone();
        let talk = self.talk(Wire::new(stream));
        let talked = tokio::select! {
            talked = talk => talked,
            () = ended.cancelled() => Ok(()),
        };
        self.front.feeder(false);
        if let Err(error) = talked {
            tracing::warn!(%error, "a feeder was not understood");
        }
    }

    async fn talk(&self, mut wire: Wire) -> io::Result<()> {
        wire.send(&Answer::Hello(self.hello.clone()), &[]).await?;
        loop {
            let ask = match wire.receive::<Ask>().await {
                Ok(Some(ask)) => ask,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let reason = format!("not understood: {error}");
                    wire.send(&Answer::Refused { reason }, &[]).await?;
                    return Err(error);
                }
            };
            let given = wire.take_sockets();
            match ask {
                Ask::Feed { feed, sockets } => {
                    let given = sockets.into_iter().zip(given).collect();
                    self.take(*feed, given).await;
                    self.answer_state(&mut wire).await?;
                }
                Ask::State => self.answer_state(&mut wire).await?,
                Ask::HandOver => self.hand_over(&mut wire).await?,
                Ask::Taken => {
                    self.taken.cancel();
                    self.close_listeners().await;
                    self.ending.cancel();
                }
                Ask::End => {
                    self.answer_state(&mut wire).await?;
                    self.ending.cancel();
                }
            }
        }
    }

    async fn answer_state(&self, wire: &mut Wire) -> io::Result<()> {
        let state = State {
            listeners: self.listeners().state(),
            ..self.front.state()
        };
        wire.send(&Answer::State(state), &[]).await
    }

    async fn hand_over(&self, wire: &mut Wire) -> io::Result<()> {
        if self.front.is_leaving() {
            let reason = "it is ending".to_owned();
            return wire.send(&Answer::Refused { reason }, &[]).await;
        }
        let copies = self.listeners().copies()?;
        let feed = self
            .front
            .is_fed()
            .then(|| Box::new((*self.front.feed()).clone()));
        let answer = Answer::Handover {
            feed,
            sockets: copies.iter().map(|(address, _)| *address).collect(),
        };
        let mut all: Vec<BorrowedFd<'_>> = vec![self.socket.as_fd()];
        all.extend(copies.iter().map(|(_, socket)| socket.as_fd()));
        wire.send(&answer, &all).await
    }

    /// Ends in order: nothing new, then what runs, within its limit.
    pub(super) async fn end(&self, linger: Duration) {
        self.close_listeners().await;
        self.front.reach(Stage::Leaving);
        self.front.idle_within(linger).await;
        self.front.reach(Stage::Closing);
        let finish = Duration::from_millis(self.front.feed().limits.finish_ms);
        self.front.idle_within(finish).await;
        self.front.reach(Stage::Over);
    }
}
