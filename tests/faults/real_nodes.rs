//! The daemon killed while nodes start that are real clients of their database: they would tell if
//! two of them ever migrated it at once, or if two versions met.

use serde_json::Value;

use super::case::Case;
use super::case::OCTOPUS;
use crate::fake::Nodes;
use crate::fake::invariants::Allowed;
use crate::fake::script::Act;
use crate::fake::script::Turn;
use crate::kit::http::get_from;

/// The calls of a daemon at which it is killed while nodes start, one after the other.
const DEATHS: [(usize, Act); 4] = [
    (44, Act::DiesAfter),
    (16, Act::Dies),
    (14, Act::DiesAfter),
    (21, Act::DiesAfter),
];

/// What the nodes found in their database that must never be.
fn violations(case: &Case) -> Value {
    let port = {
        let mut world = case.engine.world();
        world
            .container(&Case::container("octopus-server-1"))
            .unwrap()
            .ports[0]
            .clone()
    };
    let (status, body) = get_from(&port.ip, port.host, "/api/standin/violations", "").unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn f02_no_two_nodes_ever_migrate_at_once_though_the_daemon_is_killed_again_and_again() {
    let case = Case::with(Nodes::StandIn);
    case.set("OCTOPUS_NODES", "3");
    case.set("STANDIN_OCTOPUS_MIGRATE_MS", "200");
    for tag in ["1.0", "1.1"] {
        case.set("OCTOPUS_SERVER_TAG", tag);
        case.engine.add_image(&format!("{OCTOPUS}:{tag}"));
        case.engine.at(DEATHS.map(|(at, act)| Turn::new(at, act)));
        // The fake engine has no files to back up.
        while case.run(&["up", "--no-backup"]).code != 0 {}
        case.engine.calm();
        case.run(&["plan"]).with(0);
        assert_eq!(violations(&case), serde_json::json!([]));
    }
    case.run(&["down"]).ok();
    case.check(&Allowed::default());
}
