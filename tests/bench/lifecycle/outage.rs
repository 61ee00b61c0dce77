//! How long nobody serves while an idle stack is upgraded, beyond what the stand-ins themselves
//! take: the longer one of the two nodes' own stops, and the first node's own start with its
//! migration. What is left is the drain, the backup, the engine's work on containers and ours.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kit::process::wait_until;
use crate::kit::stack::Stack;
use crate::nodes::serves;
use crate::nodes::unit;
use crate::sizes::Sizes;
use crate::stopwatch::millis;
use crate::stopwatch::millis_between;
use crate::stopwatch::now;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;
use crate::versions::Versions;
use crate::versions::upgrade;

const NODES: u32 = 2;
/// Between two questions of the client.
const ASK_EVERY: Duration = Duration::from_millis(3);

/// One upgrade.
struct Outage {
    /// From the last answer of any node to the next one of any node.
    whole: f64,
    /// What the stand-ins took of it.
    own: f64,
}

/// One upgrade after the other, each to a newer version.
pub(crate) fn measure(sizes: &Sizes) -> Vec<Row> {
    let stack = Stack::real("bench-outage");
    stack.set("OCTOPUS_NODES", &NODES.to_string());
    let mut versions = Versions::of(&stack);
    stack.run(&["up"]).ok();
    let outages: Vec<Outage> = (0..sizes.outages)
        .map(|_| measure_one(&stack, &versions.next(&stack)))
        .collect();
    stack.run(&["down", "--volumes", "--yes"]).ok();
    let whole = Samples::of(outages.iter().map(|one| one.whole));
    let own = Samples::of(outages.iter().map(|one| one.own));
    let beyond = Samples::of(outages.iter().map(|one| one.whole - one.own));
    vec![
        Row::new("upgrade, SQL + 2 nodes: outage", Unit::Millis, whole),
        Row::new(
            "the stand-ins' own stop, start and migration in it",
            Unit::Millis,
            own,
        ),
        Row::new("upgrade: outage beyond these, worst", Unit::Millis, beyond)
            .must(3_000.0)
            .aim(1_000.0)
            .worst()
            .peer("vendor: by hand"),
    ]
}

fn measure_one(stack: &Stack, tag: &str) -> Outage {
    let since = stack.witness.now();
    let client = Client::of((1..=NODES).map(|node| stack.port(&unit(node))).collect());
    upgrade(stack, tag);
    let whole = client.longest_silence();
    let stop = (1..=NODES)
        .map(|node| own_stop(stack, &unit(node), since))
        .fold(0.0, f64::max);
    let first = unit(1);
    let start = millis_between(
        stack.told_at(since, "start", &first),
        stack.ready_at(&first),
    );
    Outage {
        whole: millis(whole),
        own: stop + start,
    }
}

/// From the signal to the end.
fn own_stop(stack: &Stack, unit: &str, since: i64) -> f64 {
    let told = |action: &str| stack.told_at(since, action, unit);
    wait_until("the engine told of it", || {
        let told = stack.events(since);
        told.iter()
            .any(|one| one.action == "die" && one.name == unit)
            .then_some(())
    });
    millis_between(told("kill"), told("die"))
}

/// A client that asks all nodes in turn, and notes when it was answered.
struct Client {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Vec<i64>>,
}

impl Client {
    fn of(ports: Vec<u16>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let asking = std::thread::spawn(move || {
            let mut answered = Vec::new();
            while !told.load(Ordering::SeqCst) {
                if ports.iter().any(|port| serves(*port)) {
                    answered.push(now());
                }
                std::thread::sleep(ASK_EVERY);
            }
            answered
        });
        Self { stop, asking }
    }

    fn longest_silence(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        let answered = self.asking.join().unwrap();
        let silences = answered.windows(2).map(|pair| pair[1] - pair[0]);
        let longest = silences.max().expect("nodes answered before and after");
        Duration::from_nanos(u64::try_from(longest).unwrap())
    }
}
