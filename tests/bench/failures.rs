//! How fast a failure is seen and mended. Processes are killed and frozen from outside the engine,
//! so that it has no word of it before the process ends.

use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::Bench;
use crate::kit::stack::Stack;
use crate::proxy::Call;
use crate::proxy::Proxy;
use crate::stopwatch::await_quickly;
use crate::stopwatch::millis_between;
use crate::stopwatch::now;
use crate::stopwatch::timed;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

const KILLS: usize = 12;
/// Each takes as long as the defaults allow: a quarter of a minute.
const HANGS: usize = 4;
/// A unit that was ready for so long failed for the first time when it fails again: each kill is a
/// first one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(1);
const NODES: usize = 4;

/// A stack whose engine calls are written down.
struct Watched {
    stack: Stack,
    proxy: Proxy,
}

/// What followed a kill, in milliseconds from the engine's own event.
struct Aftermath {
    known: f64,
    started: f64,
}

/// Kills, then hangs, of one node after the other.
pub(crate) fn measure(_bench: &Bench) -> Vec<Row> {
    let stack = Stack::real("bench-failures");
    stack.set("OCTOPUS_NODES", &NODES.to_string());
    stack.set(
        "RESTART_BACKOFF_RESET",
        &format!("{}s", FORGIVEN_AFTER.as_secs()),
    );
    let watched = Watched {
        stack,
        proxy: Proxy::open(),
    };
    timed(watched.proxy.lead(&mut watched.stack.command(&["up"])))
        .1
        .ok();
    let kills: Vec<Aftermath> = (0..KILLS)
        .map(|number| watched.kill(number % NODES + 1))
        .collect();
    let hangs: Vec<f64> = (0..HANGS)
        .map(|number| watched.hang(number % NODES + 1))
        .collect();
    let known = Samples::of(kills.iter().map(|after| after.known));
    let started = Samples::of(kills.iter().map(|after| after.started));
    vec![
        Row::new(
            "node killed → daemon acts or looks, after the engine's event",
            Unit::Millis,
            known,
        )
        .must(50.0)
        .aim(5.0)
        .peer("kubelet: relist ≤ 1 s"),
        Row::new(
            "die event → start call of the first restart",
            Unit::Millis,
            started,
        )
        .must(50.0)
        .aim(10.0)
        .peer("Docker, systemd: 100 ms"),
        Row::new(
            "hang → started again, worst",
            Unit::Millis,
            Samples::of(hangs),
        )
        .must(20_000.0)
        .aim(12_000.0)
        .worst()
        .peer("compose: never; kubelet: 30 s"),
    ]
}

impl Watched {
    fn kill(&self, node: usize) -> Aftermath {
        let (unit, id) = self.node(node);
        let (since, before) = (self.stack.witness.now(), self.stack.started());
        self.signal(&unit, Signal::KILL);
        let start = self.await_start(&id, since);
        let die = self.event(&unit, "die", since);
        let known = first_about(&id, &self.proxy.since(die)).expect("the start itself is about it");
        self.settle(&unit, &before);
        Aftermath {
            known: millis_between(die, known),
            started: millis_between(die, start),
        }
    }

    fn hang(&self, node: usize) -> f64 {
        let (unit, id) = self.node(node);
        let (since, before) = (self.stack.witness.now(), self.stack.started());
        self.signal(&unit, Signal::STOP);
        let frozen = now();
        self.await_start(&id, since);
        self.settle(&unit, &before);
        millis_between(frozen, self.event(&unit, "start", since))
    }

    fn node(&self, number: usize) -> (String, String) {
        let unit = format!("octopus-server-{number}");
        let id = self
            .stack
            .witness
            .inspect(&self.stack.container(&unit))
            .unwrap()
            .id
            .unwrap();
        (unit, id)
    }

    /// Sends a signal to the container's process, past the engine.
    fn signal(&self, unit: &str, signal: Signal) {
        let state = self
            .stack
            .witness
            .inspect(&self.stack.container(unit))
            .unwrap()
            .state
            .unwrap();
        let pid = state
            .pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn await_start(&self, id: &str, since: i64) -> i64 {
        await_quickly("the node was started", || {
            self.proxy
                .since(since)
                .iter()
                .find(|call| call.starts(id))
                .map(|call| call.at)
        })
    }

    fn event(&self, unit: &str, action: &str, since: i64) -> i64 {
        let told = self.stack.events(since);
        told.iter()
            .find(|told| told.action == action && told.name == unit)
            .expect("the engine told of it")
            .at
    }

    /// Waits until the unit serves and its failure is forgiven, and checks that no other unit was
    /// touched.
    fn settle(&self, unit: &str, before: &std::collections::BTreeMap<String, String>) {
        self.stack.wait_for("ready");
        std::thread::sleep(FORGIVEN_AFTER * 5 / 4);
        let mut after = self.stack.started();
        let name = self.stack.container(unit);
        assert_ne!(
            after.insert(name.clone(), before[&name].clone()),
            Some(before[&name].clone()),
            "{unit} ran on"
        );
        assert_eq!(after, *before, "nothing but {unit} was restarted");
    }
}

/// When the daemon first asked for anything about this container, or for the list of all.
fn first_about(id: &str, calls: &[Call]) -> Option<i64> {
    let about = format!("/containers/{id}/");
    let is_about =
        |call: &&Call| call.path.starts_with("/containers/json") || call.path.starts_with(&about);
    calls.iter().find(is_about).map(|call| call.at)
}
