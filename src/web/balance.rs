//! Which node gets a request, who is out, and whether a failed request may be tried again. Pure:
//! times are given.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;

use super::message::Node;
use super::message::NodeReport;
use super::message::NodeState;

/// How many nodes one request may fail on before its sender is told: more would only spread what
/// the request itself does to a node.
pub const TRIES: usize = 3;

/// What is known of one node.
#[derive(Clone, Debug)]
struct Known {
    node: Arc<Node>,
    /// A connection failed since the supervisor last called it ready, and no probe found it well.
    out: bool,
    /// Without a supervisor: our own probe found it draining.
    drains: bool,
    requests: usize,
    tunnels: usize,
    /// When it was last chosen, as a count of choices: among equals the one that waited longest.
    chosen: u64,
}

impl Known {
    fn serves(&self) -> bool {
        self.node.state == NodeState::Ready && !self.out && !self.drains
    }
}

/// What a request is to a node: a request proper, or a connection that is handed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A request until its answer's last byte.
    Request,
    /// An upgraded or passed-through connection.
    Tunnel,
}

/// What a probe of a node found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// 200 of the node's ping.
    Ready,
    /// 418: it drains.
    Draining,
    /// Anything else.
    Bad,
}

/// Which run of which node. It stays valid when the set of nodes changes, and then means nothing
/// where that run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The node's name.
    pub name: String,
    /// Its run.
    pub run: u64,
}

/// The nodes and what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    known: Vec<Known>,
    choices: u64,
}

impl Nodes {
    /// Takes a new set in. What was found out about a run stays as long as the run does, unless the
    /// supervisor calls it ready after it was not.
    pub fn set(&mut self, nodes: &[Node]) {
        let mut before = std::mem::take(&mut self.known);
        for node in nodes {
            let same = before
                .iter()
                .position(|known| known.node.name == node.name)
                .map(|place| before.swap_remove(place));
            let known = match same {
                Some(mut known) => {
                    let same_run = known.node.run == node.run && known.node.web == node.web;
                    let called_ready =
                        known.node.state != NodeState::Ready && node.state == NodeState::Ready;
                    if !same_run || called_ready {
                        known.out = false;
                        known.drains = false;
                    }
                    known.node = Arc::new(node.clone());
                    known
                }
                None => Known {
                    node: Arc::new(node.clone()),
                    out: false,
                    drains: false,
                    requests: 0,
                    tunnels: 0,
                    chosen: self.choices,
                },
            };
            self.known.push(known);
        }
    }

    /// The node for a request: of those that serve, were not tried, and have what is needed, the
    /// one with the fewest requests, and among equals the one that waited longest.
    pub fn pick(&mut self, tried: &[Run], has: impl Fn(&Node) -> bool) -> Option<Arc<Node>> {
        let chosen = self
            .known
            .iter_mut()
            .filter(|known| known.serves() && has(&known.node))
            .filter(|known| !tried.iter().any(|run| run.is(&known.node)))
            .min_by_key(|known| (known.requests + known.tunnels, known.chosen))?;
        self.choices += 1;
        chosen.chosen = self.choices;
        Some(chosen.node.clone())
    }

    /// Whether any node serves.
    pub fn any_serves(&self) -> bool {
        self.known.iter().any(Known::serves)
    }

    /// A request or connection begins on the node.
    pub fn begin(&mut self, name: &str, load: Load) {
        if let Some(known) = self.of(name) {
            *known.count(load) += 1;
        }
    }

    /// It is over.
    pub fn end(&mut self, name: &str, load: Load) {
        if let Some(known) = self.of(name) {
            let count = known.count(load);
            *count = count.saturating_sub(1);
        }
    }

    /// A connection to the node failed: it is out until it is found well. True if it served before.
    pub fn failed(&mut self, run: &Run) -> bool {
        match self.known.iter_mut().find(|known| run.is(&known.node)) {
            Some(known) => !std::mem::replace(&mut known.out, true),
            None => false,
        }
    }

    /// Takes in what a probe found. `alone`: no supervisor is there to say what a node does, so the
    /// probe's word counts for more than an end of being out. True if the node serves now and did
    /// not before.
    pub fn probed(&mut self, run: &Run, found: Probed, alone: bool) -> bool {
        let Some(known) = self.known.iter_mut().find(|known| run.is(&known.node)) else {
            return false;
        };
        let served = known.serves();
        match found {
            Probed::Ready => (known.out, known.drains) = (false, false),
            Probed::Draining => (known.out, known.drains) = (false, true),
            Probed::Bad if alone => known.out = true,
            Probed::Bad => {}
        }
        known.serves() && !served
    }

    /// The nodes to probe: those that are out though the supervisor calls them ready, and without a
    /// supervisor all that it last called ready.
    pub fn to_probe(&self, alone: bool) -> Vec<Arc<Node>> {
        self.known
            .iter()
            .filter(|known| known.node.state == NodeState::Ready)
            .filter(|known| alone || known.out || known.drains)
            .map(|known| known.node.clone())
            .collect()
    }

    /// What is reported of them.
    pub fn report(&self) -> Vec<NodeReport> {
        self.known
            .iter()
            .map(|known| NodeReport {
                name: known.node.name.clone(),
                serves: known.serves(),
                requests: known.requests,
                tunnels: known.tunnels,
            })
            .collect()
    }

    fn of(&mut self, name: &str) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.node.name == name)
    }
}

impl Known {
    fn count(&mut self, load: Load) -> &mut usize {
        match load {
            Load::Request => &mut self.requests,
            Load::Tunnel => &mut self.tunnels,
        }
    }
}

impl Run {
    /// The node's run.
    pub fn of(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            run: node.run,
        }
    }

    fn is(&self, node: &Node) -> bool {
        self.name == node.name && self.run == node.run
    }
}

/// What became of a request that a node gave no answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No node saw a byte of it.
    Unsent,
    /// It was sent, and no answer came back.
    Sent,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try another node, or wait for one.
    Another,
    /// Tell its sender: 502.
    Tell,
}

/// Whether a lost request is tried on another node. `tries` counts the nodes that it was sent to;
/// a connection that could not be made is none.
pub fn next(lost: Lost, method: &Method, has_body: bool, tries: usize) -> Next {
    match lost {
        Lost::Unsent => Next::Another,
        Lost::Sent if method.is_idempotent() && !has_body && tries < TRIES => Next::Another,
        Lost::Sent => Next::Tell,
    }
}

/// Whether a request that found no node waits for one. `held` counts those that wait already.
pub fn holds(limit: Duration, held: usize, most: usize) -> bool {
    !limit.is_zero() && held < most
}

#[cfg(test)]
mod tests;
