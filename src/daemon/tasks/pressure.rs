//! Reads the pressure on this host, and whether a container gets the processors that it wants.

use std::time::Duration;

use crate::daemon::pressure::Pressure;
use crate::daemon::throttling::Counted;
use crate::daemon::throttling::files;
use crate::daemon::throttling::starves;
use crate::engine::Engine;

/// How long is looked at what a container is refused: ten of the periods that engines count in, and
/// one of the longest that the kernel knows (1 s).
const LOOKED_AT_FOR: Duration = Duration::from_millis(1_100);

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

/// Whether a container is stopped again and again because its own limit of processors, or one around
/// it, is used up. False where that cannot be read.
pub(in crate::daemon) async fn is_throttled(engine: Option<Engine>, container: &str) -> bool {
    let Some(engine) = engine else {
        return false;
    };
    let Ok(Some(pid)) = engine.process_of(container).await else {
        return false;
    };
    let groups = tokio::fs::read_to_string(format!("/proc/{pid}/cgroup")).await;
    let files = files(&groups.unwrap_or_default());
    let before = counted(&files).await;
    if before.is_empty() {
        return false;
    }
    tokio::time::sleep(LOOKED_AT_FOR).await;
    starves(&before, &counted(&files).await)
}

/// What those groups counted that have a limit.
async fn counted(files: &[String]) -> Vec<Counted> {
    let mut all = Vec::new();
    for file in files {
        let text = tokio::fs::read_to_string(file).await.unwrap_or_default();
        all.extend(Counted::of(&text));
    }
    all
}
