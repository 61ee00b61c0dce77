//! One file a command, named as it is typed.

pub mod adopt;
pub mod backup;
mod change_units;
pub mod config;
pub mod down;
pub mod drain;
pub mod events;
pub mod explain;
pub mod export;
pub mod init;
pub mod kubernetes;
pub mod logs;
pub mod ls;
pub mod master_key;
pub mod plan;
pub mod restart;
pub mod rollback;
pub mod sa_password;
pub mod secrets;
pub mod start;
pub mod status;
pub mod stop;
pub mod systemd;
pub mod tentacle;
pub mod up;
pub mod upgrade;
pub mod web;
