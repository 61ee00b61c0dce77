//! From one container's readiness to the next one's start: the time in which nothing but the
//! supervisor works.

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::TryStreamExt as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Bench;
use crate::kit::docker::Witness;
use crate::kit::stack::Stack;
use crate::proxy::Call;
use crate::proxy::Proxy;
use crate::stopwatch::millis_between;
use crate::stopwatch::now;
use crate::stopwatch::timed;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

/// What the stand-ins log the moment they are ready: SQL Server's for logins, then each node's for
/// pings.
const READY: [&str; 2] = [
    "Recovery is complete.",
    "Web server is ready to process requests",
];
const COMPOSE_ROUNDS: u32 = 2;

/// From the line in the container's log, by the engine's stamp, to the call that starts the next
/// container.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let stack = Stack::real("bench-handoff");
    stack.set("OCTOPUS_NODES", "2");
    let mut figures = Vec::new();
    for _ in 0..bench.sizes.rounds {
        let (proxy, begun) = (Proxy::open(), now());
        timed(proxy.lead(&mut stack.command(&["up"]))).1.ok();
        let units =
            ["db", "octopus-server-1", "octopus-server-2"].map(|unit| stack.container(unit));
        figures.extend(gaps(&stack.witness, &units, &proxy.since(begun)));
        timed(proxy.lead(&mut stack.command(&["down", "-v", "--yes"])))
            .1
            .ok();
    }
    let row = Row::new(
        "ready in the container → next start call",
        Unit::Millis,
        Samples::of(figures),
    );
    vec![row.must(250.0).aim(60.0).peer(peer(bench))]
}

fn peer(bench: &Bench) -> String {
    let Ok(compose) = &bench.compose else {
        return "missing".to_owned();
    };
    let project = compose.project("bench-handoff-peer");
    let name = &project.stack.name;
    let units = [
        format!("{name}-db-1"),
        format!("{name}-octopus-server-1"),
        format!("{name}-octopus-server-2"),
    ];
    let mut figures = Vec::new();
    for _ in 0..COMPOSE_ROUNDS {
        let (proxy, begun) = (Proxy::open(), now());
        project.up_through(&proxy);
        figures.extend(gaps(&project.stack.witness, &units, &proxy.since(begun)));
        project.sweep();
    }
    Samples::of(figures).show(Unit::Millis)
}

/// Both gaps of a start of three containers.
fn gaps(witness: &Witness, units: &[String; 3], calls: &[Call]) -> [f64; 2] {
    let started = |name: &String| {
        let id = witness.inspect(name).unwrap().id.unwrap();
        calls
            .iter()
            .find(|call| call.starts(&id))
            .expect("its start was called")
            .at
    };
    let [sql, first, second] = units;
    [
        millis_between(ready_at(witness, sql, READY[0]), started(first)),
        millis_between(ready_at(witness, first, READY[1]), started(second)),
    ]
}

/// When the engine took the line from the container, in nanoseconds since 1970.
fn ready_at(witness: &Witness, container: &str, line: &str) -> i64 {
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .timestamps(true)
        .build();
    let logged: Vec<_> = witness
        .wait(
            witness
                .docker()
                .logs(container, Some(options))
                .try_collect(),
        )
        .unwrap();
    let text: String = logged.iter().map(ToString::to_string).collect();
    let found = text
        .lines()
        .find(|logged| logged.contains(line))
        .expect("it says that it is ready");
    let stamp = found.split_whitespace().next().unwrap();
    OffsetDateTime::parse(stamp, &Rfc3339)
        .unwrap()
        .unix_timestamp_nanos()
        .try_into()
        .unwrap()
}
