//! One file a command, named as it is typed.

pub mod backup;
pub mod config;
pub mod down;
pub mod events;
pub mod explain;
pub mod export;
pub mod init;
pub mod logs;
pub mod plan;
pub mod status;
pub mod systemd;
pub mod units;
pub mod up;
pub mod web;
