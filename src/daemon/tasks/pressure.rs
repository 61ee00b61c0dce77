//! Reads the pressure on this host.

use crate::daemon::pressure::Pressure;

/// None where the kernel does not tell. The files are the kernel's own: reading them takes no
/// disk.
pub(in crate::daemon) async fn read() -> Option<Pressure> {
    let text = async |name: &str| {
        tokio::fs::read_to_string(format!("/proc/pressure/{name}"))
            .await
            .ok()
    };
    let (cpu, memory, io) = tokio::join!(text("cpu"), text("memory"), text("io"));
    Pressure::of(cpu.as_deref(), memory.as_deref(), io.as_deref())
}
