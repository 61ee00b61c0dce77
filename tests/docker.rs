//! The product on the real engine: what a person types, what the engine then shows.

mod adopt;
mod at_once;
mod backup;
mod backup_killed;
mod bad_days;
mod browser;
mod crash;
mod down;
mod drain;
mod edit;
mod external;
mod front_door;
mod handover;
mod interrupt;
mod master_key;
mod more_of_host;
mod ours;
mod persons;
mod places;
mod ports;
mod quiesce;
mod refuse;
mod restore;
mod rollback;
mod sa_password;
mod scale;
mod sick;
mod sql;
mod start;
mod supervise;
mod tentacle;
mod together;
mod upgrade;

use crate::kit::stack::Stack;

/// A real stack of this many nodes, whose stand-ins take no time.
fn quick(name: &str, nodes: u8) -> Stack {
    let stack = Stack::real(name);
    for (key, value) in [
        ("OCTOPUS_NODES", nodes.to_string().as_str()),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
        ("STANDIN_OCTOPUS_STOP_MS", "0"),
    ] {
        stack.set(key, value);
    }
    stack
}

/// The same, up.
#[track_caller]
fn running(name: &str, nodes: u8) -> Stack {
    let stack = quick(name, nodes);
    stack.run(&["up"]).ok();
    stack
}
