//! Load without a pause: wrk, and what it says.

use std::process::Command;

use crate::doors::Door;

/// One core is left for wrk and the nodes.
const THREADS: &str = "1";
/// Patience of wrk in seconds: a request that waits is not a failed one.
const PATIENCE: &str = "30s";

/// How much load, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) seconds: u32,
    pub(crate) connections: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) a_second: f64,
    /// Answers that were none, or no success.
    pub(crate) failed: u64,
    /// Seconds that the door computed.
    pub(crate) computed: f64,
}

/// Whether wrk is there.
pub(crate) fn is_there() -> bool {
    Command::new("wrk").arg("-v").output().is_ok()
}

impl Figures {
    /// Counts another run's requests too.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
    }

    /// Microseconds of its core that the door used for each.
    pub(crate) fn each(&self) -> f64 {
        self.computed / self.requests as f64 * 1e6
    }
}

impl Load {
    /// Puts it on something behind a door; all must be answered.
    pub(crate) fn on(self, door: &Door, path: &str, tls: bool) -> Figures {
        let before = door.computed();
        let mut figures = self.on_url(&door.url(path, tls));
        figures.computed = door.computed() - before;
        assert!(
            figures.failed == 0 && figures.requests > 0,
            "{}: {figures:?}",
            door.name
        );
        figures
    }

    /// Puts it on an address.
    pub(crate) fn on_url(self, url: &str) -> Figures {
        let ran = Command::new("wrk")
            .args(["-t", THREADS, "--timeout", PATIENCE])
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
        if line.starts_with("Non-2xx") || line.starts_with("Socket errors") {
            eprintln!("{line}");
        }
        match words.as_slice() {
            [count, "requests", "in", ..] => figures.requests = count.parse().unwrap(),
            ["Requests/sec:", count] => figures.a_second = count.parse().unwrap(),
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
