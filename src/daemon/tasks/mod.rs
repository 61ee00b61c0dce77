//! The work that the shell starts for the core: each makes its calls, and tells what came of it.

pub(super) mod back_up;
pub(super) mod execute;
pub(super) mod front_door;
pub(super) mod lease;
pub(super) mod node_tasks;
pub(super) mod observe;
pub(super) mod pressure;
pub(super) mod probe;
pub(super) mod sa_password;
pub(super) mod tentacle;
