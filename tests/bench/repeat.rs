//! Commands on a stack that is up: an `up` with nothing to do, and `status`.

use std::process::Command;

use crate::Bench;
use crate::compose::Project;
use crate::kit::stack::Stack;
use crate::proxy::Proxy;
use crate::stopwatch::millis;
use crate::stopwatch::now;
use crate::stopwatch::timed;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

const UPS: usize = 20;
const STATUSES: usize = 40;
const COUNTED: usize = 9;
/// Of each of docker compose's commands.
const COMPOSE_RUNS: usize = 5;

/// The same commands of both.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let peer = bench
        .compose
        .as_ref()
        .ok()
        .map(|compose| peer(&compose.project("bench-repeat-peer")));
    let [up, calls, status] = peer.unwrap_or_else(|| ["missing"; 3].map(str::to_owned));
    let stack = Stack::real("bench-repeat");
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up"]).ok();
    let before = stack.started();
    let ups = samples(UPS, || stack.command(&["up"]));
    let statuses = samples(STATUSES, || stack.command(&["status"]));
    // The daemon itself must be led through the proxy too, so another one takes over.
    let proxy = Proxy::open();
    stack.kill_daemon();
    timed(proxy.lead(&mut stack.command(&["up"]))).1.ok();
    let counts = counted(COUNTED, &proxy, || stack.command(&["up"]));
    assert_eq!(stack.started(), before, "none of these changes anything");
    vec![
        Row::new("`up` with nothing to do", Unit::Millis, ups)
            .must(80.0)
            .aim(20.0)
            .peer(up),
        Row::new("`up` with nothing to do, engine calls", Unit::Count, counts)
            .aim(2.0)
            .peer(calls),
        Row::new("`status`", Unit::Millis, statuses)
            .must(25.0)
            .aim(5.0)
            .peer(status),
    ]
}

/// docker compose's `up`, its calls, and its `ps`.
fn peer(project: &Project<'_>) -> [String; 3] {
    timed(&mut project.up()).1.ok();
    let ups = samples(COMPOSE_RUNS, || project.up());
    let statuses = samples(COMPOSE_RUNS, || project.command(&["ps"]));
    let proxy = Proxy::open();
    let calls = counted(COMPOSE_RUNS, &proxy, || project.up());
    [
        ups.show(Unit::Millis),
        calls.show(Unit::Count),
        statuses.show(Unit::Millis),
    ]
}

fn samples(number: usize, command: impl Fn() -> Command) -> Samples {
    Samples::of((0..number).map(|_| {
        let (took, ended) = timed(&mut command());
        ended.ok();
        millis(took)
    }))
}

/// How many calls the engine gets while the command runs.
fn counted(number: usize, proxy: &Proxy, command: impl Fn() -> Command) -> Samples {
    Samples::of((0..number).map(|_| {
        let begun = now();
        timed(proxy.lead(&mut command())).1.ok();
        proxy.since(begun).len() as f64
    }))
}
