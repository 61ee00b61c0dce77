//! What every connection shares: the feed, the nodes, the bounds, the end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::access::Access;
use super::balance::Load;
use super::balance::Nodes;
use super::balance::Run;
use super::message::Feed;
use super::message::Node;
use super::message::State;
use super::pool::Pools;
use super::tls;

/// How far the process' end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It serves.
    Serving,
    /// Nothing new is accepted; each answer is its connection's last.
    Leaving,
    /// Connections without a request are closed too.
    Closing,
    /// What still runs is cut off.
    Over,
}

/// The shared state. Locks are held for some lines, never over an await.
#[derive(Debug)]
pub(super) struct Front {
    feed: Mutex<Arc<Feed>>,
    fed: watch::Sender<bool>,
    nodes: Mutex<Nodes>,
    /// Counts what may let a waiting request go on.
    news: watch::Sender<u64>,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    bad_certificate: Mutex<Option<String>>,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    connections: AtomicUsize,
    most_connections: AtomicUsize,
    held: AtomicUsize,
    feeders: AtomicUsize,
    stage: watch::Sender<Stage>,
    pub(super) pools: Pools,
    pub(super) access: Access,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Front {
    /// Never fed yet. `descriptors`: how many the process may have. `access`: where requests may be
    /// written.
    pub(super) fn new(descriptors: usize, access: Access) -> Self {
        Self {
            feed: Mutex::default(),
            fed: watch::Sender::new(false),
            nodes: Mutex::default(),
            news: watch::Sender::new(0),
            tls: Mutex::default(),
            bad_certificate: Mutex::default(),
            addresses: Mutex::default(),
            connections: AtomicUsize::new(0),
            // Each client's connection may need one to a node; some are for all else.
            most_connections: AtomicUsize::new((descriptors / 2).saturating_sub(64).max(1)),
            held: AtomicUsize::new(0),
            feeders: AtomicUsize::new(0),
            stage: watch::Sender::new(Stage::Serving),
            pools: Pools::default(),
            access,
        }
    }

    /// Takes a feed in. The same one changes nothing.
    pub(super) fn take(&self, feed: Feed) {
        let before = self.feed();
        if *self.fed.borrow() && *before == feed {
            return;
        }
        if before.tls != feed.tls || !*self.fed.borrow() {
            self.take_certificate(&feed);
        }
        self.access.wish(feed.writes_requests);
        locked(&self.nodes).set(&feed.nodes);
        self.pools.keep(&feed.nodes);
        *locked(&self.feed) = Arc::new(feed);
        self.fed.send_replace(true);
        self.tell_news();
    }

    /// One that cannot be used leaves the one before in its place.
    fn take_certificate(&self, feed: &Feed) {
        let bad = match feed.tls.as_ref().map(tls::config) {
            None => {
                *locked(&self.tls) = None;
                None
            }
            Some(Ok(config)) => {
                *locked(&self.tls) = Some(config);
                None
            }
            Some(Err(error)) => Some(error.to_string()),
        };
        *locked(&self.bad_certificate) = bad;
    }

    pub(super) fn feed(&self) -> Arc<Feed> {
        locked(&self.feed).clone()
    }

    pub(super) fn is_fed(&self) -> bool {
        *self.fed.borrow()
    }

    pub(super) fn certificate(&self) -> Option<Arc<ServerConfig>> {
        locked(&self.tls).clone()
    }

    /// How it is, save for the listeners.
    pub(super) fn state(&self) -> State {
        State {
            fed: self.is_fed(),
            listeners: Vec::new(),
            nodes: locked(&self.nodes).report(),
            connections: self.connections(),
            held: self.held.load(Ordering::Relaxed),
            certificate: locked(&self.bad_certificate).clone(),
            access_log: self.access.failure(),
        }
    }

    /// Works on the nodes.
    pub(super) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        locked(&self.nodes)
    }

    /// A receiver of what may let a waiting request go on.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(super) fn tell_news(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// A connection to the node could not be made.
    pub(super) fn failed(&self, run: &Run, why: &str) {
        if self.nodes().failed(run) {
            tracing::warn!(node = run.name, why, "the node is out");
        }
    }

    /// Counts something that runs on a node for as long as the lease lives.
    pub(super) fn lease(self: &Arc<Self>, node: &Arc<Node>, load: Load) -> Lease {
        self.nodes().begin(&node.name, load);
        Lease {
            front: self.clone(),
            node: node.clone(),
            load,
        }
    }

    /// Counts a waiting request, while the value lives.
    pub(super) fn hold(&self) -> Held<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        Held(self)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets a client's connection in, unless there are too many in all or from its address.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let feed = self.feed();
        let most = self
            .most_connections
            .load(Ordering::Relaxed)
            .min(feed.limits.connections);
        if self.connections() >= most {
            return None;
        }
        let address = address.to_canonical();
        let trusted = feed.trusted.iter().any(|range| range.contains(address));
        let mut addresses = locked(&self.addresses);
        let count = addresses.entry(address).or_default();
        if !trusted && *count >= feed.limits.per_address {
            return None;
        }
        *count += 1;
        drop(addresses);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Admitted {
            front: self.clone(),
            address,
        })
    }

    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(super) fn is_leaving(&self) -> bool {
        *self.stage.borrow() >= Stage::Leaving
    }

    /// Goes on to a stage; never back.
    pub(super) fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }

    /// A feeder came (`true`) or went.
    pub(super) fn feeder(&self, came: bool) {
        if came {
            self.feeders.fetch_add(1, Ordering::Relaxed);
        } else {
            self.feeders.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether nobody is there to say what the nodes do.
    pub(super) fn is_alone(&self) -> bool {
        self.feeders.load(Ordering::Relaxed) == 0
    }

    /// Waits until there is no connection, or for so long.
    pub(super) async fn idle_within(&self, limit: Duration) {
        let idle = async {
            while self.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(limit, idle).await;
    }
}

/// Something that runs on a node.
#[derive(Debug)]
pub(super) struct Lease {
    front: Arc<Front>,
    node: Arc<Node>,
    load: Load,
}

impl Lease {
    /// The node.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn front(&self) -> &Arc<Front> {
        &self.front
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.front.nodes().end(&self.node.name, self.load);
    }
}

/// A request that waits for a node.
pub(super) struct Held<'a>(&'a Front);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's connection that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    front: Arc<Front>,
    address: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.front.connections.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = locked(&self.front.addresses);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}
