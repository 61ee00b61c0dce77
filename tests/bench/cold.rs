//! A cold `up` of SQL Server and two nodes, images present: how much longer it takes than it must.

use std::time::Duration;

use crate::Bench;
use crate::compose::Project;
use crate::floor::Script;
use crate::kit::stack::Stack;
use crate::proxy::Proxy;
use crate::stopwatch::millis;
use crate::stopwatch::now;
use crate::stopwatch::timed;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

/// docker compose takes seconds longer each time, so fewer rounds tell as much.
const COMPOSE_ROUNDS: u32 = 3;

/// One round after the other, each with the floor, octo-local and docker compose, so that all see
/// the same machine.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let stack = Stack::real("bench-cold");
    stack.set("OCTOPUS_NODES", "2");
    let peer = bench
        .compose
        .as_ref()
        .ok()
        .map(|compose| compose.project("bench-cold-peer"));
    let script = record(&stack);
    let (mut floors, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.sizes.rounds {
        let floor = script.play(&stack.witness, &stack);
        stack.witness.sweep(&stack.label());
        floors.push(millis(floor));
        ours.push(millis(cold_up(&stack).saturating_sub(floor)));
        if let Some(peer) = peer.as_ref().filter(|_| round < COMPOSE_ROUNDS) {
            theirs.push(millis(cold_compose(peer).saturating_sub(floor)));
        }
    }
    let floor = Samples::of(floors);
    let over = Row::new(
        "cold `up`, SQL + 2 nodes, over the floor",
        Unit::Millis,
        Samples::of(ours),
    );
    let theirs = (!theirs.is_empty()).then(|| Samples::of(theirs).show(Unit::Millis));
    vec![
        Row::new(
            "the floor: a bare client's calls and the stand-ins' start",
            Unit::Millis,
            floor,
        ),
        over.must(300.0)
            .aim(100.0)
            .peer(theirs.unwrap_or_else(|| "missing".to_owned())),
    ]
}

/// What a cold `up` asks of the engine. It also warms the machine's caches.
fn record(stack: &Stack) -> Script {
    let proxy = Proxy::open();
    let begun = now();
    timed(proxy.lead(&mut stack.command(&["up"]))).1.ok();
    let script = Script::of(&proxy.since(begun));
    timed(proxy.lead(&mut stack.command(&["down", "-v", "--yes"])))
        .1
        .ok();
    script
}

fn cold_up(stack: &Stack) -> Duration {
    let (took, ended) = timed(&mut stack.command(&["up"]));
    ended.ok();
    stack.run(&["down", "-v", "--yes"]).ok();
    took
}

fn cold_compose(peer: &Project<'_>) -> Duration {
    let (took, ended) = timed(&mut peer.up());
    ended.ok();
    peer.sweep();
    took
}
