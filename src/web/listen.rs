//! The listening sockets: opened, kept, closed as the feed wishes, and handed over.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::front::Front;
use super::guard::Client;
use super::message::Listener;
use super::message::ListenerState;
use super::message::Purpose;
use super::serve;
use super::tcp;

/// Connections that the kernel keeps until they are accepted; it may have a lower bound of its own.
const BACKLOG: i32 = 4096;
/// The pause after a connection could not be accepted for want of descriptors or memory.
const SHORTAGE: Duration = Duration::from_millis(50);
/// After how long silence the kernel asks whether a client is still there, and how often.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];

/// The open sockets and what could not be opened.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: HashMap<SocketAddr, Open>,
    failed: Vec<ListenerState>,
    wanted: Vec<Listener>,
}

#[derive(Debug)]
struct Open {
    listener: Arc<TcpListener>,
    purpose: watch::Sender<Purpose>,
    accepting: JoinHandle<()>,
}

/// Sockets on whose end one may wait: only then nobody listens there any more.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Closed(Vec<JoinHandle<()>>);

impl Closed {
    pub(super) async fn wait(self) {
        for accepting in self.0 {
            // It was aborted: that is its end.
            let _ = accepting.await;
        }
    }
}

impl Open {
    fn close(self, closed: &mut Closed) {
        self.accepting.abort();
        closed.0.push(self.accepting);
    }
}

impl Listeners {
    /// Opens what is wished and not open, closes what is not wished. Sockets that came along are
    /// used where they are wished, and closed where not.
    pub(super) fn set(
        &mut self,
        front: &Arc<Front>,
        wanted: &[Listener],
        mut given: HashMap<SocketAddr, OwnedFd>,
    ) -> Closed {
        self.wanted = wanted.to_vec();
        let mut closed = Closed::default();
        let unwanted = |address: &SocketAddr| !wanted.iter().any(|one| one.address == *address);
        for (_, open) in self.open.extract_if(|address, _| unwanted(address)) {
            open.close(&mut closed);
        }
        self.failed.clear();
        for one in wanted {
            if let Some(open) = self.open.get(&one.address) {
                open.purpose.send_replace(one.purpose);
                continue;
            }
            let socket = match given.remove(&one.address) {
                Some(socket) => adopt(socket),
                None => bind(one.address),
            };
            match socket {
                Ok(listener) => {
                    let open = start(front.clone(), listener, one.purpose);
                    self.open.insert(one.address, open);
                }
                Err(error) => self.failed.push(ListenerState {
                    address: one.address,
                    failure: Some(error.to_string()),
                    forbidden: error.kind() == io::ErrorKind::PermissionDenied,
                }),
            }
        }
        closed
    }

    /// Tries again what could not be opened.
    pub(super) fn retry(&mut self, front: &Arc<Front>) {
        if !self.failed.is_empty() {
            let wanted = self.wanted.clone();
            let _nothing = self.set(front, &wanted, HashMap::new());
        }
    }

    /// How they are, in the order of the feed.
    pub(super) fn state(&self) -> Vec<ListenerState> {
        let of = |one: &Listener| {
            let failed = self.failed.iter().find(|it| it.address == one.address);
            failed.cloned().unwrap_or(ListenerState {
                address: one.address,
                failure: None,
                forbidden: false,
            })
        };
        self.wanted.iter().map(of).collect()
    }

    /// A second descriptor of each open socket.
    pub(super) fn copies(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        self.open
            .iter()
            .map(|(address, open)| Ok((*address, open.listener.as_fd().try_clone_to_owned()?)))
            .collect()
    }

    /// Accepts no more. Connections that wait in the kernel stay for whoever has a copy.
    pub(super) fn close(&mut self) -> Closed {
        let mut closed = Closed::default();
        for (_, open) in self.open.drain() {
            open.close(&mut closed);
        }
        self.failed.clear();
        closed
    }
}

/// A socket that somebody else opened.
fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Opens a listening socket of our own.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        let socket = tokio::net::TcpSocket::new_v6()?;
        // Otherwise it would take the IPv4 address of the same port too.
        sockopt::set_ipv6_v6only(&socket, true)?;
        socket
    };
    // Connections of a process before may still be there.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}

fn start(front: Arc<Front>, listener: TcpListener, purpose: Purpose) -> Open {
    let listener = Arc::new(listener);
    let purpose = watch::Sender::new(purpose);
    let accepting = accept(front, listener.clone(), purpose.subscribe());
    Open {
        accepting: tokio::spawn(accepting),
        listener,
        purpose,
    }
}

async fn accept(front: Arc<Front>, listener: Arc<TcpListener>, purpose: watch::Receiver<Purpose>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(SHORTAGE).await;
                continue;
            }
        };
        let Some(admitted) = front.admit(peer.ip()) else {
            continue;
        };
        if prepare(&stream).is_err() {
            continue;
        }
        let (front, purpose) = (front.clone(), *purpose.borrow());
        // A task for each purpose: thousands lie idle, and each is as large as its largest part.
        match purpose {
            Purpose::Http => {
                let client = Client::new(peer.ip(), false, admitted);
                drop(tokio::spawn(serve::http(front, stream, client)));
            }
            Purpose::Https => {
                let client = Client::new(peer.ip(), true, admitted);
                drop(tokio::spawn(serve::https(front, stream, client)));
            }
            Purpose::Grpc => drop(tokio::spawn(async move {
                tcp::pass(front, stream).await;
                drop(admitted);
            })),
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE[0])?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE[1])?;
    Ok(())
}
