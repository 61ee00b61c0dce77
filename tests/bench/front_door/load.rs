//! The load: wrk, and what it says.

use std::fmt;
use std::process::Command;

/// Threads of wrk: more than the machine has cores would measure the scheduler.
const THREADS: &str = "2";

/// How much load, for how long.
pub(crate) struct Load {
    seconds: u32,
    connections: u32,
}

/// What came of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// A second.
    pub(crate) requests: f64,
    /// As wrk writes it.
    pub(crate) median: String,
    /// The same, of the slowest hundredth.
    pub(crate) ninety_nine: String,
    /// Answers that were none, or no success.
    pub(crate) failed: u64,
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        write!(
            out,
            "{} connections for {} s each, {cores} cores",
            self.connections, self.seconds
        )
    }
}

impl Load {
    /// From the environment; none where there is no wrk.
    pub(crate) fn read() -> Option<Self> {
        let number = |name: &str, default| {
            let given = std::env::var_os(name);
            let given = given.and_then(|text| text.to_str()?.parse().ok());
            given.unwrap_or(default)
        };
        Command::new("wrk").arg("-v").output().ok()?;
        Some(Self {
            seconds: number("OCTO_BENCH_SECONDS", 10),
            connections: number("OCTO_BENCH_CONNECTIONS", 64),
        })
    }

    /// Puts it on an address.
    pub(crate) fn on(&self, url: &str) -> Figures {
        let ran = Command::new("wrk")
            .args(["-t", THREADS, "--latency"])
            .args(["-c", &self.connections.to_string()])
            .args(["-d", &format!("{}s", self.seconds)])
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{text}");
        figures(&text)
    }
}

/// Reads what wrk prints.
fn figures(text: &str) -> Figures {
    let mut figures = Figures::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["50%", median] => (*median).clone_into(&mut figures.median),
            ["99%", most] => (*most).clone_into(&mut figures.ninety_nine),
            ["Requests/sec:", count] => figures.requests = count.parse().unwrap(),
            ["Non-2xx", .., count] => figures.failed += count.parse::<u64>().unwrap(),
            ["Socket", "errors:", rest @ ..] => {
                let counts = rest.iter().map(|word| word.trim_end_matches(','));
                figures.failed += counts
                    .filter_map(|word| word.parse::<u64>().ok())
                    .sum::<u64>();
            }
            _ => {}
        }
    }
    figures
}

/// The load averages over one, five and fifteen minutes.
pub(crate) fn average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}
