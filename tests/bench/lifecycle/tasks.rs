//! Tasks that are cut off while nodes are restarted and upgraded under them. Each is shorter than
//! the drain may take, so each must end as it would have without us.

use crate::kit::process::wait_until;
use crate::kit::stack::Stack;
use crate::nodes;
use crate::nodes::KEY;
use crate::nodes::unit;
use crate::sizes::Sizes;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;
use crate::versions::Versions;
use crate::versions::upgrade;

const NODES: u32 = 2;
/// How long tasks last, in seconds, in turn: some end before the drain begins, most in it.
const LENGTHS: [f64; 5] = [0.3, 0.7, 1.1, 0.5, 1.6];

/// Restarts of one node after the other, then upgrades.
pub(crate) fn measure(sizes: &Sizes) -> Vec<Row> {
    let stack = Stack::real("bench-tasks");
    stack.set("OCTOPUS_NODES", &NODES.to_string());
    stack.set("ADMIN_API_KEY", KEY);
    stack.set("STANDIN_OCTOPUS_POLL_MS", "40");
    let mut versions = Versions::of(&stack);
    stack.run(&["up"]).ok();
    let mut at_work = 0;
    for number in 0..sizes.restarts {
        let node = unit(number % NODES + 1);
        at_work += busy(&stack, &node, number);
        stack.run(&["restart", &node]).ok();
    }
    for number in 0..sizes.upgrades {
        let tag = versions.next(&stack);
        for node in 1..=NODES {
            at_work += busy(&stack, &unit(node), number);
        }
        upgrade(&stack, &tag);
    }
    let cut_off = lost(&stack);
    let violations = nodes::violations(&stack, &unit(1));
    stack.run(&["down", "--volumes", "--yes"]).ok();
    let what: &str = "tasks at work when nodes were told to end";
    vec![
        Row::new(what, Unit::Count, Samples::of([f64::from(at_work)])),
        Row::new(
            "tasks cut off by restarts and upgrades",
            Unit::Count,
            Samples::of([cut_off as f64]),
        )
        .must(0.0)
        .aim(0.0)
        .peer("docker stop: all"),
        Row::new(
            "violations that the stand-ins saw in these",
            Unit::Count,
            Samples::of([violations as f64]),
        )
        .must(0.0)
        .aim(0.0),
    ]
}

/// Queues tasks until one runs on this node; how many do.
fn busy(stack: &Stack, node: &str, number: u32) -> u32 {
    let query = format!("states=Executing&node={}", nodes::name_of(stack, node));
    let lengths = LENGTHS.iter().cycle().skip(number as usize);
    let mut lengths = lengths.copied();
    wait_until("a task runs on the node", || {
        nodes::queue(stack, node, lengths.next().unwrap());
        let running = nodes::tasks(stack, node, &query).len();
        (running > 0).then(|| u32::try_from(running).unwrap())
    })
}

/// How many tasks came to another end than their own.
fn lost(stack: &Stack) -> usize {
    wait_until("all tasks ended", || {
        let open = nodes::tasks(stack, &unit(1), "states=Queued,Executing,Cancelling");
        open.is_empty().then_some(())
    });
    let all = nodes::tasks(stack, &unit(1), "");
    let lost: Vec<_> = all
        .iter()
        .filter(|task| task["State"] != "Success")
        .collect();
    if !lost.is_empty() {
        eprintln!("cut off: {lost:#?}");
    }
    lost.len()
}
