//! What the figures were measured on.

use crate::kit::docker::Witness;

/// The load averages over one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Cores, memory, kernel, engine, and the peer.
pub(crate) fn describe(peer: &str) -> String {
    let witness = Witness::new();
    let info = witness.wait(witness.docker().info()).unwrap();
    format!(
        "octo-local {}; {} cores, {} MiB, Linux {}, Docker Engine {}, {peer}",
        env!("CARGO_PKG_VERSION"),
        info.ncpu.unwrap_or_default(),
        info.mem_total.unwrap_or_default() / 1_048_576,
        info.kernel_version.unwrap_or_default(),
        info.server_version.unwrap_or_default(),
    )
}
