//! The command line's side of the daemon: what it is asked, how it is started, and what becomes of
//! a wish whose daemon went.

pub mod daemon_process;
pub mod fetch_status;
pub mod follow_logs;
pub mod reattach;
pub mod request;
pub mod tail;
