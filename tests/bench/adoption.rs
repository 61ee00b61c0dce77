//! The daemon killed with -9, again and again: how fast the next one has the stack in its care, and
//! that it restarts nothing.

use octo_local::api::client::Client;
use octo_local::reconcile::status::Status;
use octo_local::reconcile::status::Verdict;
use tokio::time::Instant;

use crate::Bench;
use crate::kit::stack::Stack;
use crate::stopwatch::await_quickly;
use crate::stopwatch::millis;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

/// SQL Server and four nodes.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let stack = Stack::real("bench-adoption");
    stack.set("OCTOPUS_NODES", "4");
    stack.run(&["up"]).ok();
    let before = stack.started();
    let mut figures = Vec::new();
    let mut restarts = 0;
    // Each daemon is a child of this process and is collected when the next one was killed for.
    let mut daemon = None;
    for _ in 0..bench.sizes.kills {
        stack.kill_daemon();
        drop(daemon.take());
        let begun = Instant::now();
        daemon = Some(stack.spawn(&["daemon"]));
        let status = await_quickly("the stack is ready and supervised", || well(&stack));
        figures.push(millis(begun.elapsed()));
        restarts += status.units.iter().map(|unit| unit.restarts).sum::<u32>();
    }
    let moved = stack
        .started()
        .iter()
        .filter(|(name, at)| before.get(*name) != Some(*at))
        .count();
    let restarts = Samples::of([f64::from(restarts) + moved as f64]);
    vec![
        Row::new(
            "adoption after kill -9: ready and supervised",
            Unit::Millis,
            Samples::of(figures),
        )
        .must(1_000.0)
        .aim(150.0)
        .peer("Nomad: seconds"),
        Row::new("restarts over all these kills", Unit::Count, restarts)
            .must(0.0)
            .aim(0.0),
    ]
}

/// The daemon's own status, once it says so; the command line would add its own time.
fn well(stack: &Stack) -> Option<Status> {
    let root = stack.dir().parent()?.to_owned();
    let client = Client::at(root.join("r").join(&stack.name).join("control.sock"));
    let status = stack.witness.wait(client.status()).ok()?;
    (status.verdict == Verdict::Ready && status.supervised).then_some(status)
}
