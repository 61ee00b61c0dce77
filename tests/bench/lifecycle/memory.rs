//! How much memory processes take for a while.

use std::fs;
use std::process::Child;
use std::time::Duration;

use rustix::process::Pid;

/// Between two looks at a process that may end at any time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process that goes on, before it does something.
pub(crate) struct Before {
    pid: Pid,
    resident: f64,
}

impl Before {
    /// Its memory now; what the kernel noted as the most until now is forgotten (proc(5),
    /// `clear_refs`).
    pub(crate) fn of(pid: Pid) -> Self {
        fs::write(path(pid, "clear_refs"), "5").unwrap();
        let resident = mebibytes(pid, "VmRSS:").unwrap();
        Self { pid, resident }
    }

    /// How much more it took at most since then, in MiB.
    pub(crate) fn more(&self) -> f64 {
        mebibytes(self.pid, "VmHWM:").unwrap() - self.resident
    }
}

/// Follows a command to its end; the most that it took, in MiB.
pub(crate) fn most(child: &Child) -> f64 {
    let pid = Pid::from_child(child);
    let mut most = 0.0;
    // One that ended has no memory any more, until it is waited for.
    while let Some(resident) = mebibytes(pid, "VmHWM:") {
        most = resident;
        std::thread::sleep(LOOK_EVERY);
    }
    most
}

fn path(pid: Pid, file: &str) -> String {
    format!("/proc/{}/{file}", pid.as_raw_pid())
}

fn mebibytes(pid: Pid, field: &str) -> Option<f64> {
    let text = fs::read_to_string(path(pid, "status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1024.0)
}
