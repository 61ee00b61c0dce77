//! Requests go to nodes that serve, the least busy first; what fails is out until found well.

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
