//! What only an engine of the test's own can show: privileged containers on every machine, an
//! engine that is restarted, killed, frozen or without address ranges, and a host that loses its
//! power.

mod absence;
mod disk;
mod kit_itself;
mod network;
mod privileged;

use crate::kit::stack::Stack;

/// The units of a stack of two nodes, in start order.
const UNITS: [&str; 3] = ["db", "octopus-server-1", "octopus-server-2"];

/// A stack of two nodes whose stand-ins take no time that their test does not need.
fn quick(stack: Stack) -> Stack {
    for (key, value) in [
        ("OCTOPUS_NODES", "2"),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
        ("STANDIN_OCTOPUS_STOP_MS", "0"),
    ] {
        stack.set(key, value);
    }
    stack
}
