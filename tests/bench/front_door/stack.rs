//! A stack whose front door is under load: what its clients notice of restarts and of the daemon's
//! death, and what its supervision notices of them. Everything runs on all cores here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::Bench;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;
use crate::load::Figures;
use crate::load::Load;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

const NODES: [&str; 2] = ["octopus-server-1", "octopus-server-2"];
/// A page of the node's; it makes no login.
const PATH: &str = "/api";
/// Clients while nodes restart: enough that some request is always under way on each.
const CLIENTS: u32 = 8;
/// Seconds of one run of wrk, after which its figures are added up.
const RUN: u32 = 5;
/// Each takes as long as the defaults allow: a quarter of a minute.
const HANGS: usize = 2;
/// Milliseconds that one hang may take longer than another by when it falls between two probes.
const BETWEEN_PROBES: f64 = 5000.0;

/// A stack of two nodes behind a front door, up.
fn up(name: &str) -> Stack {
    let stack = Stack::real(name);
    for (key, value) in [
        ("OCTOPUS_NODES", "2"),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
        ("STANDIN_OCTOPUS_STOP_MS", "0"),
    ] {
        stack.set(key, value);
    }
    stack.run(&["up"]).ok();
    stack
}

/// Load on a stack's front door until it is told to end.
struct Clients {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Figures>,
}

impl Clients {
    fn of(stack: &Stack, connections: u32) -> Self {
        let url = format!("http://127.0.0.1:{}{PATH}", stack.web());
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let load = Load {
            seconds: RUN,
            connections,
        };
        let asking = std::thread::spawn(move || {
            let mut all = Figures::default();
            while !told.load(Ordering::SeqCst) {
                let one = load.on_url(&url);
                all.add(one);
            }
            all
        });
        Self { stop, asking }
    }

    fn end(self) -> Figures {
        self.stop.store(true, Ordering::SeqCst);
        self.asking.join().unwrap()
    }
}

/// Restarts of nodes, one drained after the other, and deaths of the daemon.
pub(crate) fn failures(bench: &Bench) -> Vec<Row> {
    bench.cores.on_all(|| {
        let stack = up("bench-door-failures");
        let mut all = Figures::default();
        let clients = Clients::of(&stack, CLIENTS);
        let doors = stack.front_doors();
        let turns = bench.sizes.restarts.div_ceil(2).max(bench.sizes.kills);
        for turn in 0..turns {
            if turn < bench.sizes.restarts.div_ceil(2) {
                stack.run(&["restart", NODES[0], NODES[1]]).ok();
            }
            if turn < bench.sizes.kills {
                stack.kill_daemon();
                stack.run(&["up"]).ok();
            }
        }
        all.add(clients.end());
        assert_eq!(stack.front_doors(), doors, "it was there all the while");
        while all.requests < u64::from(bench.sizes.requests) {
            let clients = Clients::of(&stack, CLIENTS);
            all.add(clients.end());
        }
        stack.run(&["down"]).ok();
        let failed = Samples::of([all.failed as f64]);
        let what = "failed requests over restarts of nodes and deaths of the daemon";
        let sizes = bench.sizes;
        let of = format!(
            "of {}, {} restarts, {} deaths",
            all.requests, sizes.restarts, sizes.kills
        );
        vec![Row::new(what, Unit::Count, failed).must(0.0).peer(of)]
    })
}

/// Nodes that hang, without load on the front door and with as much as it takes.
pub(crate) fn supervision(bench: &Bench) -> Vec<Row> {
    bench.cores.on_all(|| {
        let stack = up("bench-door-hangs");
        let hangs = || -> Vec<f64> {
            let turns = (0..HANGS).map(|turn| hang(&stack, NODES[turn % NODES.len()]));
            turns.collect()
        };
        let without = hangs();
        let clients = Clients::of(&stack, bench.sizes.connections);
        let with = hangs();
        clients.end();
        stack.run(&["down"]).ok();
        let most = |all: &[f64]| all.iter().copied().fold(f64::MIN, f64::max);
        let bound = most(&without) + BETWEEN_PROBES;
        let without = Samples::of(without).show(Unit::Millis);
        let what = "a node hangs → started again, while the door is saturated";
        vec![
            Row::new(what, Unit::Millis, Samples::of(with))
                .must(bound)
                .worst()
                .peer(format!("without load: {without}")),
        ]
    })
}

/// Milliseconds from a node's freezing to its start.
fn hang(stack: &Stack, node: &str) -> f64 {
    let since = stack.witness.now();
    let state = stack.witness.inspect(&stack.container(node)).unwrap().state;
    let pid = state.unwrap().pid.unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let frozen = std::time::SystemTime::now();
    let frozen = frozen.duration_since(std::time::UNIX_EPOCH).unwrap();
    let told = wait_until("the node is started again", || {
        let told = stack.events(since);
        let start = |told: &&crate::kit::docker::Told| told.action == "start" && told.name == node;
        told.iter().find(start).map(|told| told.at)
    });
    stack.wait_for("ready");
    told as f64 / 1e6 - frozen.as_secs_f64() * 1e3
}
