//! The daemon as a process: signals, systemd's protocol, its state file, a second daemon, and
//! shortage. Test names begin with the number of the fault that they try, where there is one.

mod file;
mod shortage;
mod signals;
mod systemd;

use crate::kit::process::Running;
use crate::kit::stack::Stack;

/// A demo that is up, with a daemon in the foreground as systemd runs it.
fn attended(name: &str, nodes: u8) -> (Stack, Running) {
    let stack = Stack::demo(name);
    stack.set("STANDIN_SQL_START_DELAY_MS", "0");
    stack.set("STANDIN_SQL_LOGIN_DELAY_MS", "0");
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "0");
    let daemon = stack.spawn(&["daemon"]);
    crate::kit::process::wait_until("the daemon answers", || stack.daemon());
    stack
        .run(&["up", "--demo", "--nodes", &nodes.to_string()])
        .ok();
    (stack, daemon)
}
