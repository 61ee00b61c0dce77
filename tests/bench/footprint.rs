//! What octo-local costs while nothing happens: memory and processor of an idle daemon, and the
//! size of the program.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::Instant;

use crate::Bench;
use crate::elf;
use crate::kit::process::PROGRAM;
use crate::kit::stack::Stack;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

/// Until what `up` itself did is over.
const SETTLE: Duration = Duration::from_secs(2);

/// SQL Server and four nodes, and a daemon that has nothing to do but look after them.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let stack = Stack::real("bench-footprint");
    stack.set("OCTOPUS_NODES", "4");
    stack.run(&["up"]).ok();
    let before = stack.started();
    let daemon = stack.daemon().expect("a daemon runs");
    std::thread::sleep(SETTLE);
    let (begun, used_before) = (Instant::now(), processor(daemon));
    std::thread::sleep(Duration::from_secs(u64::from(bench.sizes.idle_s)));
    let used = processor(daemon).saturating_sub(used_before);
    let share = 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64();
    assert_eq!(stack.started(), before, "nothing was restarted meanwhile");
    let resident = kibibytes(daemon, "status", "VmRSS:") / 1024.0;
    let own = kibibytes(daemon, "smaps_rollup", "Pss:") / 1024.0;
    let peer = bench.compose.as_ref().map_or_else(
        |_| "missing".to_owned(),
        |compose| size_of(&compose.program()),
    );
    vec![
        Row::new(
            "idle daemon, SQL + 4 nodes: RSS",
            Unit::Mebibytes,
            Samples::of([resident]),
        )
        .must(20.0)
        .aim(10.0),
        Row::new(
            "idle daemon, SQL + 4 nodes: PSS",
            Unit::Mebibytes,
            Samples::of([own]),
        ),
        Row::new(
            "idle daemon, SQL + 4 nodes: CPU of a core",
            Unit::Percent,
            Samples::of([share]),
        )
        .must(0.3)
        .aim(0.05),
        program().peer(peer),
    ]
}

fn program() -> Row {
    let bytes = fs::read(PROGRAM).unwrap();
    let program = elf::read(&bytes);
    assert!(!program.has_interpreter, "the program is static");
    assert!(!program.has_symbols, "the program is stripped");
    let size = Samples::of([bytes.len() as f64 / 1e6]);
    Row::new("binary, stripped, static", Unit::Megabytes, size)
        .must(12.0)
        .aim(8.0)
}

fn size_of(path: &std::path::Path) -> String {
    Samples::of([fs::metadata(path).unwrap().len() as f64 / 1e6]).show(Unit::Megabytes)
}

/// Time on a processor of all threads that live, to the nanosecond; proc(5)'s `stat` counts in
/// steps of 10 ms.
fn processor(pid: Pid) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())).unwrap();
    let of =
        |path: std::path::PathBuf| fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    let times = tasks.filter_map(Result::ok).map(|task| of(task.path()));
    times
        .map(|text| {
            Duration::from_nanos(
                text.split(' ')
                    .next()
                    .and_then(|word| word.parse().ok())
                    .unwrap_or(0),
            )
        })
        .sum()
}

fn kibibytes(pid: Pid, file: &str, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_pid())).unwrap();
    let value = text.lines().find_map(|line| {
        line.strip_prefix(field)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    value.expect("the kernel tells it")
}
