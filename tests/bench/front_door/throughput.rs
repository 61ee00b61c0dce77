//! How much a door lets through on one core, and how much longer a request takes through it.

use std::time::Duration;

use crate::Bench;
use crate::doors::Door;
use crate::load::Figures;
use crate::load::Load;
use crate::nodes::LARGE_PATH;
use crate::steady;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

const SMALL_PATH: &str = "/small";
/// Connections that ask for the large answer: more would only fill buffers.
const LARGE_CONNECTIONS: u32 = 16;

/// What is asked for.
struct Case {
    path: &'static str,
    tls: bool,
    alone: &'static str,
    to_nginx: &'static str,
    to_haproxy: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        path: SMALL_PATH,
        tls: false,
        alone: "answers of 1 KB a second",
        to_nginx: "answers of 1 KB, against nginx",
        to_haproxy: "answers of 1 KB, against haproxy",
    },
    Case {
        path: LARGE_PATH,
        tls: false,
        alone: "answers of 1 MB a second",
        to_nginx: "answers of 1 MB, against nginx",
        to_haproxy: "answers of 1 MB, against haproxy",
    },
    Case {
        path: SMALL_PATH,
        tls: true,
        alone: "answers of 1 KB over TLS a second",
        to_nginx: "answers of 1 KB over TLS, against nginx",
        to_haproxy: "answers of 1 KB over TLS, against haproxy",
    },
];

/// Each door in turn, some times.
pub(crate) fn throughput(bench: &Bench) -> Vec<Row> {
    CASES.iter().flat_map(|case| rows(bench, case)).collect()
}

fn rows(bench: &Bench, case: &Case) -> Vec<Row> {
    let load = Load {
        seconds: bench.sizes.seconds,
        connections: if case.path == LARGE_PATH {
            LARGE_CONNECTIONS
        } else {
            bench.sizes.connections
        },
    };
    let mut ours = Vec::new();
    let mut peers: Vec<Vec<Figures>> = bench.doors.peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..bench.sizes.rounds {
        ours.push(load.on(&bench.doors.ours, case.path, case.tls));
        for (peer, figures) in bench.doors.peers.iter().zip(&mut peers) {
            figures.push(load.on(peer, case.path, case.tls));
        }
    }
    let direct = format!("http://{}{}", bench.nodes.addresses[0], case.path);
    let direct = load.on_url(&direct).a_second;
    let a_second = |figures: &[Figures]| Samples::of(figures.iter().map(|one| one.a_second));
    let shown = |figures: &[Figures]| {
        let each = Samples::of(figures.iter().map(Figures::each)).median();
        format!("{:.0}, {each:.1} µs each", a_second(figures).median())
    };
    eprintln!("octo-local: {}; no door: {direct:.0}", shown(&ours));
    let alone = Row::new(case.alone, Unit::Count, a_second(&ours));
    let mut rows = vec![alone.peer(format!("no door: {direct:.0}"))];
    for (peer, figures) in bench.doors.peers.iter().zip(&peers) {
        let pairs = ours.iter().zip(figures);
        let shares = pairs.map(|(ours, peer)| ours.a_second / peer.a_second * 100.0);
        rows.push(against(case, peer, Samples::of(shares)).peer(shown(figures)));
    }
    rows
}

fn against(case: &Case, peer: &Door, shares: Samples) -> Row {
    if peer.name == "nginx" {
        let row = Row::new(case.to_nginx, Unit::Share, shares);
        row.must(80.0).aim(100.0).at_least()
    } else {
        let row = Row::new(case.to_haproxy, Unit::Share, shares);
        row.must(75.0).aim(95.0).at_least()
    }
}

/// At half of what each door can let through, beside the nodes at the same rate.
pub(crate) fn latency(bench: &Bench) -> Vec<Row> {
    let load = Load {
        seconds: bench.sizes.seconds,
        connections: bench.sizes.connections,
    };
    let added = |door: &Door| {
        let rate = load.on(door, SMALL_PATH, false).a_second / 2.0;
        let lasts = Duration::from_secs(u64::from(bench.sizes.seconds));
        let rounds = (0..bench.sizes.rounds).map(|_| {
            let direct = steady::ask(bench.nodes.addresses[0], rate, lasts);
            let through = steady::ask(door.address(), rate, lasts);
            [50, 99].map(|part| through.percentile(part) - direct.percentile(part))
        });
        let rounds: Vec<[f64; 2]> = rounds.collect();
        [0, 1].map(|part| Samples::of(rounds.iter().map(|round| round[part])))
    };
    let peers: Vec<(&str, [Samples; 2])> = bench
        .doors
        .peers
        .iter()
        .map(|door| (door.name, added(door)))
        .collect();
    let peer = |part: usize| {
        let one =
            |(name, added): &(&str, [Samples; 2])| format!("{name} {:.0} µs", added[part].median());
        peers.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let [median, most] = added(&bench.doors.ours);
    vec![
        Row::new("added at half load, median", Unit::Micros, median)
            .must(100.0)
            .aim(40.0)
            .peer(peer(0)),
        Row::new("added at half load, 99 %", Unit::Micros, most)
            .must(500.0)
            .aim(150.0)
            .peer(peer(1)),
    ]
}
