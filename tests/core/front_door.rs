//! What the front door is fed: exactly what is known of the nodes, only when it is news, until
//! nothing runs; and that a node stops only once no request runs on it.

use std::net::SocketAddr;
use std::time::Duration;

use octo_local::daemon::core::Duty;
use octo_local::daemon::core::REQUESTS_END_WITHIN;
use octo_local::daemon::message::About;
use octo_local::daemon::message::DoorReport;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Request;
use octo_local::reconcile::Mono;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::status::Verdict;
use octo_local::spec::UnitId;
use octo_local::web::Feed;
use octo_local::web::message::ListenerState;
use octo_local::web::message::NodeReport;
use octo_local::web::message::NodeState;
use octo_local::web::message::Purpose;
use octo_local::web::message::State;
use proptest::prelude::*;

use super::Bench;
use super::applied;
use super::applied_with;
use super::down;
use super::known::answer;
use super::known::ready_with;
use super::known::running_with;
use super::known::stops;
use super::known::wait;
use super::up;

const NODE_1: UnitId = UnitId::Node(1);
const NODE_2: UnitId = UnitId::Node(2);
const TWO: &[(&str, &str)] = &[("FRONT_DOOR", "on"), ("OCTOPUS_NODES", "2")];

/// A stack of two nodes behind a front door, and everything serves.
fn ready() -> Bench {
    ready_with(TWO)
}

fn fed(bench: &Bench) -> &Feed {
    let last = bench.door.last().expect("it was told something");
    &last.as_ref().expect("one is wished").feed
}

fn states(bench: &Bench) -> Vec<NodeState> {
    fed(bench).nodes.iter().map(|node| node.state).collect()
}

/// What an open front door reports after it took the last feed in, with so many requests on each
/// node.
fn report(bench: &Bench, requests: usize) -> State {
    let feed = fed(bench);
    let listeners = feed.listeners.iter().map(|one| ListenerState {
        address: one.address,
        failure: None,
        forbidden: false,
    });
    let nodes = feed.nodes.iter().map(|node| NodeReport {
        name: node.name.clone(),
        serves: node.state == NodeState::Ready,
        requests,
        tunnels: 0,
    });
    State {
        fed: true,
        listeners: listeners.collect(),
        nodes: nodes.collect(),
        ..State::default()
    }
}

fn reports(bench: &mut Bench, requests: usize) {
    let state = report(bench, requests);
    bench.on(Event::FrontDoor(DoorReport::Is(Box::new(state))));
}

fn restart(bench: &mut Bench, unit: UnitId) {
    let id = bench.ask(Request::Units(About::Restart, vec![unit], None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.settle();
}

#[test]
fn without_a_front_door_none_is_wished() {
    let mut bench = applied();
    bench.settle();
    assert_eq!(bench.door, [None], "one that was left behind is to end");
}

#[test]
fn it_is_open_from_the_first_moment_and_told_only_what_is_news() {
    let mut bench = applied_with(TWO);
    assert_eq!(states(&bench), [NodeState::Down, NodeState::Down]);
    let listeners = &fed(&bench).listeners;
    let ports: Vec<u16> = listeners.iter().map(|one| one.address.port()).collect();
    assert_eq!(ports, [8080]);
    assert!(fed(&bench).doing.contains(&"db: absent".to_owned()));
    bench = ready();
    assert_eq!(states(&bench), [NodeState::Ready, NodeState::Ready]);
    let feed = fed(&bench).clone();
    let web = feed.nodes.iter().map(|node| node.web.unwrap().to_string());
    assert_eq!(
        web.collect::<Vec<_>>(),
        ["127.0.0.1:8081", "127.0.0.1:8082"]
    );
    assert_ne!(feed.nodes[0].run, feed.nodes[1].run);
    assert!(feed.doing.is_empty(), "nobody sees it");
    let told = bench.door.len();
    for _ in 0..10 {
        wait(&mut bench, 5_000);
        answer(&mut bench, |_, _| Some(Probe::Ready));
    }
    assert_eq!(bench.door.len(), told);
    wait(&mut bench, 5_000);
    let gone = |unit| match unit {
        NODE_2 => Probe::Failure(Miss::Gone, "refused".to_owned()),
        _ => Probe::Ready,
    };
    answer(&mut bench, |unit, _| Some(gone(unit)));
    assert_eq!(states(&bench), [NodeState::Ready, NodeState::Draining]);
}

#[test]
fn grpc_is_passed_through_to_each_nodes_own_port() {
    let more = [TWO, &[("OCTOPUS_GRPC_PORT", "8443")]].concat();
    let mut bench = running_with(&more);
    answer(&mut bench, |_, _| Some(Probe::Ready));
    let listeners = &fed(&bench).listeners;
    let last = listeners.last().unwrap();
    assert_eq!((last.address.port(), &last.purpose), (8443, &Purpose::Grpc));
    let grpc = fed(&bench).nodes.iter().map(|node| node.grpc.unwrap());
    let grpc: Vec<String> = grpc.map(|address| address.to_string()).collect();
    assert_eq!(grpc, ["127.0.0.1:8444", "127.0.0.1:8445"]);
    let own = bench.core.stored().spec.as_ref().unwrap();
    let own = own.front_door.as_ref().unwrap().listeners();
    assert_eq!(own.len(), 2, "to us both are free: {own:?}");
}

#[test]
fn each_node_says_where_tentacles_that_poll_reach_it() {
    let told = |more: &[(&str, &str)]| {
        let more = [TWO, &[("OCTOPUS_POLLING_PORT_BASE", "10943")], more].concat();
        let bench = running_with(&more);
        let status = bench.core.status(Mono(bench.now));
        let told = status.units.into_iter().map(|unit| unit.polling);
        told.map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let local = ["", "https://127.0.0.1:10943", "https://127.0.0.1:10944"];
    assert_eq!(told(&[]), local);
    // A wildcard is every address of the host.
    let everywhere = [
        "",
        "https://octo.example:10943",
        "https://octo.example:10944",
    ];
    assert_eq!(told(&[("BIND_ADDRESS", "0.0.0.0")]), everywhere);
    let v6 = told(&[("OCTOPUS_POLLING_BIND_ADDRESS", "::1")]);
    assert_eq!(v6[2], "https://[::1]:10944");
}

#[test]
fn one_that_was_left_behind_is_told_nothing_before_each_node_answered() {
    let before = ready();
    let mut bench = Bench::new(before.core.stored().clone(), Duty::Supervise);
    bench.seen = before.seen.clone();
    bench.settle();
    assert_eq!(bench.door, []);
    answer(&mut bench, |unit, _| {
        (unit == NODE_1).then_some(Probe::Ready)
    });
    assert_eq!(bench.door, []);
    answer(&mut bench, |unit, _| {
        (unit == NODE_2).then_some(Probe::Ready)
    });
    assert_eq!(bench.door.len(), 1);
    assert_eq!(states(&bench), [NodeState::Ready, NodeState::Ready]);
    assert_eq!(fed(&bench).nodes, fed(&before).nodes, "the same runs");
}

#[test]
fn a_node_stops_only_once_no_request_runs_on_it() {
    let mut bench = ready();
    reports(&mut bench, 1);
    restart(&mut bench, NODE_1);
    assert_eq!(stops(&bench.effects), []);
    assert_eq!(states(&bench), [NodeState::Draining, NodeState::Ready]);
    reports(&mut bench, 1);
    assert_eq!(stops(&bench.effects), [], "a request still runs");
    let told = bench.door.len();
    reports(&mut bench, 0);
    assert_eq!(stops(&bench.effects), [NODE_1]);
    assert_eq!(bench.door.len(), told, "it gets none all the while");
}

#[test]
fn requests_that_do_not_end_hold_a_stop_up_for_a_while_only() {
    let mut bench = ready();
    reports(&mut bench, 1);
    restart(&mut bench, NODE_1);
    reports(&mut bench, 1);
    let until = Mono(bench.now + REQUESTS_END_WITHIN);
    assert!(bench.core.wake_at() <= until);
    wait(&mut bench, 9_999);
    assert_eq!(stops(&bench.effects), []);
    wait(&mut bench, 1);
    assert_eq!(stops(&bench.effects), [NODE_1]);
}

#[test]
fn a_front_door_that_does_not_answer_and_a_person_in_a_hurry_hold_nothing_up() {
    let mut bench = ready();
    restart(&mut bench, NODE_1);
    assert_eq!(stops(&bench.effects), [NODE_1]);
    let mut bench = ready();
    reports(&mut bench, 1);
    bench.on(Event::Terminated);
    assert_eq!(stops(&bench.effects), []);
    bench.on(Event::Terminated);
    assert_eq!(stops(&bench.effects), [NODE_1, NODE_2]);
}

#[test]
fn it_ends_once_nothing_runs_any_more() {
    let mut bench = ready();
    reports(&mut bench, 0);
    let id = bench.ask(down(false));
    assert!(bench.is_taken(id));
    bench.settle();
    assert_eq!(states(&bench), [NodeState::Draining, NodeState::Draining]);
    for container in &mut bench.seen.containers {
        container.run = Run::Exited {
            started_at: "1".to_owned(),
            code: 0,
            oom: false,
            error: String::new(),
        };
    }
    bench.on(Event::StreamOpened);
    bench.settle();
    assert_eq!(bench.door.last(), Some(&None));
}

/// The ports that an `up` takes for this stack's own front door's.
fn own_ports(bench: &mut Bench) -> Vec<u16> {
    bench.ask(Request::Up(up(TWO)));
    let inquiry = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::Gather(_, inquiry) => Some(inquiry),
        _ => None,
    });
    let own = inquiry.expect("facts are asked for").own_listeners.iter();
    own.map(SocketAddr::port).collect()
}

/// Nothing runs any more, and the front door is to end.
fn ends(bench: &mut Bench) {
    bench.seen.containers.clear();
    bench.finish_actions();
    bench.look();
    assert_eq!(bench.door.last(), Some(&None));
    assert_eq!(own_ports(bench), [8080]);
    bench.on(Event::FrontDoor(DoorReport::Silent));
    assert_eq!(own_ports(bench), [8080]);
    bench.on(Event::FrontDoor(DoorReport::Ended));
    assert_eq!(own_ports(bench), [0; 0]);
}

#[test]
fn to_an_up_the_ports_of_one_that_is_ending_are_free() {
    let mut bench = ready();
    reports(&mut bench, 0);
    let id = bench.ask(down(false));
    assert!(bench.is_taken(id));
    // The next daemon ends what one that was killed left behind.
    ends(&mut bench.followed_by(bench.core.stored().clone()));
    ends(&mut bench);
}

#[test]
fn the_stack_is_ready_once_the_web_address_is_open() {
    let mut bench = ready();
    let status = |bench: &Bench| bench.core.status(Mono(bench.now));
    assert_eq!(status(&bench).url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(status(&bench).verdict, Verdict::Working);
    let mut state = report(&bench, 0);
    state.listeners[0].failure = Some("Address already in use".to_owned());
    bench.on(Event::FrontDoor(DoorReport::Is(Box::new(state))));
    let told = status(&bench);
    assert_eq!(told.verdict, Verdict::Working);
    assert!(
        told.message
            .contains("127.0.0.1:8080: Address already in use"),
        "{}",
        told.message
    );
    reports(&mut bench, 0);
    let told = status(&bench);
    assert_eq!(told.verdict, Verdict::Ready);
    assert_eq!(told.front_door.map(|door| door.serving), Some(2));
}

/// Something that may happen to a stack with a front door.
#[derive(Clone, Debug)]
enum Step {
    Probes(UnitId, bool),
    Runs(UnitId, bool),
    Reports(usize),
    Silence,
    Restart(UnitId),
    Drain(UnitId),
    ActionsEnd,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let unit = prop_oneof![Just(UnitId::Sql), Just(NODE_1), Just(NODE_2)];
    let node = prop_oneof![Just(NODE_1), Just(NODE_2)];
    let step = prop_oneof![
        4 => (unit.clone(), any::<bool>()).prop_map(|(unit, well)| Step::Probes(unit, well)),
        1 => (unit, any::<bool>()).prop_map(|(unit, runs)| Step::Runs(unit, runs)),
        3 => (0..3usize).prop_map(Step::Reports),
        1 => Just(Step::Silence),
        1 => node.clone().prop_map(Step::Restart),
        1 => node.prop_map(Step::Drain),
        2 => Just(Step::ActionsEnd),
        3 => (1..8_000u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn take(bench: &mut Bench, step: &Step, runs: &mut u32) {
    match step {
        Step::Probes(one, well) => {
            let words = "no answer".to_owned();
            let probe = || match well {
                true => Probe::Ready,
                false => Probe::Failure(Miss::Silent(Duration::from_secs(2)), words.clone()),
            };
            answer(bench, |unit, _| (unit == *one).then(probe));
        }
        Step::Runs(unit, again) => {
            *runs += 1;
            let started_at = runs.to_string();
            let mut containers = bench.seen.containers.iter_mut();
            let container = containers
                .find(|container| container.unit == *unit)
                .unwrap();
            container.run = match again {
                true => Run::Running { started_at },
                false => Run::Exited {
                    started_at,
                    code: 137,
                    oom: false,
                    error: String::new(),
                },
            };
            bench.on(Event::StreamOpened);
        }
        Step::Reports(requests) => reports(bench, *requests),
        Step::Silence => bench.on(Event::FrontDoor(DoorReport::Silent)),
        Step::Restart(unit) => drop(bench.ask(Request::Units(About::Restart, vec![*unit], None))),
        Step::Drain(unit) => drop(bench.ask(Request::Units(About::Drain, vec![*unit], None))),
        Step::ActionsEnd => bench.finish_actions(),
        Step::Wait(milliseconds) => wait(bench, *milliseconds),
    }
    bench.settle();
}

proptest! {
    /// Whatever happens: only what runs and serves gets requests, nothing is told twice, and no
    /// node is asked to stop while the front door still sends requests to it.
    #[test]
    fn only_what_serves_gets_requests_and_nothing_is_told_twice(steps in steps()) {
        let mut bench = ready();
        let mut runs = 1;
        for step in steps {
            let sends_to = |bench: &Bench, unit: UnitId| {
                let feed = fed(bench);
                let name = unit.to_string();
                let mut ready = feed.nodes.iter().filter(|node| node.state == NodeState::Ready);
                ready.any(|node| node.name == name)
            };
            let begun = match step {
                Step::ActionsEnd => 0,
                _ => stops(&bench.effects).len(),
            };
            take(&mut bench, &step, &mut runs);
            for unit in [NODE_1, NODE_2] {
                let state = bench.core.state();
                let container = state.seen.container(unit);
                let record = state.records.get(unit);
                let serves = container.is_some_and(Container::is_running)
                    && record.is_some_and(|record| record.health().ready);
                prop_assert!(serves || !sends_to(&bench, unit), "{unit} after {step:?}");
            }
            for unit in stops(&bench.effects).into_iter().skip(begun) {
                prop_assert!(!sends_to(&bench, unit), "{unit} is stopped after {step:?}");
            }
            for pair in bench.door.windows(2) {
                prop_assert_ne!(&pair[0], &pair[1]);
            }
        }
    }
}
