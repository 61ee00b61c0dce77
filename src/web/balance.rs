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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: usize, state: NodeState, run: u64) -> Node {
        Node {
            name: format!("n{name}"),
            state,
            run,
            web: None,
            grpc: None,
        }
    }

    fn ready(count: usize) -> Nodes {
        let mut nodes = Nodes::default();
        let all: Vec<Node> = (0..count).map(|n| node(n, NodeState::Ready, 0)).collect();
        nodes.set(&all);
        nodes
    }

    fn run(name: usize) -> Run {
        Run {
            name: format!("n{name}"),
            run: 0,
        }
    }

    fn pick(nodes: &mut Nodes) -> Option<String> {
        nodes.pick(&[], |_| true).map(|node| node.name.clone())
    }

    #[test]
    fn equals_take_turns_and_the_least_busy_comes_first() {
        let mut nodes = ready(3);
        let turns: Vec<String> = (0..6).filter_map(|_| pick(&mut nodes)).collect();
        assert_eq!(turns, ["n0", "n1", "n2", "n0", "n1", "n2"]);
        nodes.begin("n0", Load::Request);
        nodes.begin("n1", Load::Tunnel);
        assert_eq!(pick(&mut nodes).unwrap(), "n2");
        nodes.begin("n2", Load::Request);
        nodes.end("n0", Load::Request);
        assert_eq!(pick(&mut nodes).unwrap(), "n0");
    }

    #[test]
    fn a_failed_connection_takes_a_node_out_until_it_is_found_well() {
        let mut nodes = ready(1);
        assert!(nodes.failed(&run(0)), "it served before");
        assert!(!nodes.failed(&run(0)), "and is out already");
        assert!(pick(&mut nodes).is_none());
        nodes.set(&[node(0, NodeState::Ready, 0)]);
        assert!(pick(&mut nodes).is_none(), "the same feed is no news");
        assert!(nodes.probed(&run(0), Probed::Ready, false));
        assert!(pick(&mut nodes).is_some());
    }

    #[test]
    fn the_supervisors_word_and_a_new_run_bring_a_node_back() {
        let mut nodes = ready(1);
        nodes.failed(&run(0));
        nodes.set(&[node(0, NodeState::Down, 0)]);
        nodes.set(&[node(0, NodeState::Ready, 0)]);
        assert!(pick(&mut nodes).is_some());
        nodes.failed(&run(0));
        nodes.set(&[node(0, NodeState::Ready, 1)]);
        assert!(pick(&mut nodes).is_some());
        assert!(!nodes.failed(&run(0)), "a late word about the run before");
        assert!(pick(&mut nodes).is_some());
    }

    #[test]
    fn draining_and_down_nodes_get_nothing_new_and_keep_their_count() {
        let mut nodes = ready(2);
        nodes.begin("n0", Load::Request);
        nodes.set(&[node(0, NodeState::Draining, 0), node(1, NodeState::Down, 0)]);
        assert!(pick(&mut nodes).is_none() && !nodes.any_serves());
        assert_eq!(nodes.report()[0].requests, 1);
        nodes.end("n0", Load::Request);
        nodes.end("gone", Load::Request);
        assert_eq!(nodes.report()[0].requests, 0);
    }

    #[test]
    fn without_a_supervisor_the_probes_say_who_drains_and_who_is_gone() {
        let mut nodes = ready(2);
        assert!(nodes.to_probe(false).is_empty());
        assert_eq!(nodes.to_probe(true).len(), 2);
        nodes.probed(&run(0), Probed::Draining, true);
        nodes.probed(&run(1), Probed::Bad, true);
        assert!(pick(&mut nodes).is_none());
        assert!(nodes.probed(&run(0), Probed::Ready, true));
        assert_eq!(pick(&mut nodes).unwrap(), "n0");
        nodes.probed(&run(0), Probed::Bad, false);
        assert!(pick(&mut nodes).is_some(), "with one, only it says so");
    }

    #[test]
    fn only_what_no_node_saw_or_what_may_be_repeated_is_tried_again() {
        let cases = [
            (Lost::Unsent, Method::POST, true, 9, Next::Another),
            (Lost::Sent, Method::GET, false, 1, Next::Another),
            (Lost::Sent, Method::DELETE, false, 2, Next::Another),
            (Lost::Sent, Method::GET, false, TRIES, Next::Tell),
            (Lost::Sent, Method::PUT, true, 1, Next::Tell),
            (Lost::Sent, Method::POST, false, 1, Next::Tell),
            (Lost::Sent, Method::PATCH, false, 1, Next::Tell),
        ];
        for (lost, method, body, tries, expected) in cases {
            assert_eq!(
                next(lost, &method, body, tries),
                expected,
                "{method} {lost:?}"
            );
        }
        assert!(!holds(Duration::ZERO, 0, 9) && !holds(Duration::from_secs(1), 9, 9));
        assert!(holds(Duration::from_secs(1), 8, 9));
    }

    /// Something that happens to the nodes.
    #[derive(Clone, Debug)]
    enum Happens {
        Set(Vec<(usize, u8, u64)>),
        Pick,
        Over(usize),
        Failed(usize, u64),
        Probed(usize, u8, bool),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let set = proptest::collection::vec((0..4_usize, 0..3_u8, 0..2_u64), 0..4);
        prop_oneof![
            1 => set.prop_map(Happens::Set),
            4 => Just(Happens::Pick),
            2 => (0..4_usize).prop_map(Happens::Over),
            2 => (0..4_usize, 0..2_u64).prop_map(|(n, run)| Happens::Failed(n, run)),
            2 => (0..4_usize, 0..3_u8, any::<bool>()).prop_map(|(n, found, alone)| {
                Happens::Probed(n, found, alone)
            }),
        ]
    }

    proptest! {
        /// Whatever happens: the one that is chosen serves, nobody that serves is less busy, and
        /// one is chosen whenever one serves.
        #[test]
        fn the_chosen_one_serves_and_is_the_least_busy(
            story in proptest::collection::vec(happens(), 1..60),
        ) {
            let mut nodes = ready(3);
            for part in story {
                match part {
                    Happens::Set(mut all) => {
                        all.sort_unstable();
                        all.dedup_by_key(|(name, ..)| *name);
                        let states = [NodeState::Ready, NodeState::Draining, NodeState::Down];
                        let all: Vec<Node> = all
                            .into_iter()
                            .map(|(name, state, run)| node(name, states[usize::from(state)], run))
                            .collect();
                        nodes.set(&all);
                    }
                    Happens::Pick => {
                        let before = nodes.report();
                        let chosen = pick(&mut nodes);
                        let serving: Vec<_> = before.iter().filter(|one| one.serves).collect();
                        prop_assert_eq!(chosen.is_some(), !serving.is_empty());
                        if let Some(name) = chosen {
                            let load = |one: &&NodeReport| one.requests + one.tunnels;
                            let least = serving.iter().map(load).min();
                            let own = serving.iter().find(|one| one.name == name).map(load);
                            prop_assert_eq!(own, least);
                            nodes.begin(&name, Load::Request);
                        }
                    }
                    Happens::Over(name) => nodes.end(&format!("n{name}"), Load::Request),
                    Happens::Failed(name, run) => {
                        let run = Run { name: format!("n{name}"), run };
                        nodes.failed(&run);
                        let mut known = nodes.known.iter().map(|known| &known.node);
                        let one = known.find(|node| run.is(node));
                        let gone = one.is_none() || nodes.pick(&[], |node| run.is(node)).is_none();
                        prop_assert!(gone, "a failed run gets nothing");
                    }
                    Happens::Probed(name, found, alone) => {
                        let found = [Probed::Ready, Probed::Draining, Probed::Bad]
                            [usize::from(found)];
                        nodes.probed(&Run { name: format!("n{name}"), run: 0 }, found, alone);
                    }
                }
            }
        }
    }
}
