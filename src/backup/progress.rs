//! How far a run is: bytes, rate, and the time that is left. Pure.

use std::time::Duration;

/// Rates are an average of about this long, so that one slow read does not move the estimate.
const SMOOTH: Duration = Duration::from_secs(5);
/// Before this nothing can be said about the rate.
const TOO_EARLY: Duration = Duration::from_millis(500);

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What is under way, for people: `repository`.
    pub step: String,
    /// Bytes that went through, of all parts.
    pub done: u64,
    /// How many there will be, where that is known; an estimate.
    pub total: Option<u64>,
    /// Bytes a second.
    pub rate: Option<f64>,
    /// Time since the run began.
    pub elapsed: Duration,
    /// The byte and the time at which the rate was last taken.
    mark: (u64, Duration),
}

impl Progress {
    /// Nothing done yet.
    pub fn of(step: &str, total: Option<u64>) -> Self {
        Self {
            step: step.to_owned(),
            total,
            ..Self::default()
        }
    }

    /// Takes in that the run is at this byte at this time since its beginning.
    pub fn moved(&mut self, done: u64, elapsed: Duration) {
        (self.done, self.elapsed) = (done, elapsed);
        let (from, since) = self.mark;
        let over = elapsed.saturating_sub(since);
        if over < TOO_EARLY {
            return;
        }
        let now = done.saturating_sub(from) as f64 / over.as_secs_f64();
        let weight = (over.as_secs_f64() / SMOOTH.as_secs_f64()).min(1.0);
        self.rate = Some(self.rate.map_or(now, |rate| rate + (now - rate) * weight));
        self.mark = (done, elapsed);
    }

    /// The time that is left; none when the total or the rate is not known, or was wrong.
    pub fn left(&self) -> Option<Duration> {
        let rate = self.rate.filter(|rate| *rate > 1.0)?;
        let left = self.total?.checked_sub(self.done)?;
        Some(Duration::from_secs_f64(left as f64 / rate))
    }
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

impl std::fmt::Display for Progress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.step, size(self.done))?;
        if let Some(total) = self.total.filter(|total| *total >= self.done) {
            write!(out, " of about {}", size(total))?;
        }
        if let Some(rate) = self.rate {
            write!(out, ", {}/s", size(rate as u64))?;
        }
        if let Some(left) = self.left() {
            let seconds = left.as_secs();
            write!(out, ", {}:{:02} left", seconds / 60, seconds % 60)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_rate_and_what_is_left_follow_the_bytes() {
        let mut progress = Progress {
            step: "repository".to_owned(),
            total: Some(100 * MIB),
            ..Progress::default()
        };
        assert_eq!(progress.left(), None);
        for second in 1..=10 {
            progress.moved(second * 5 * MIB, Duration::from_secs(second));
        }
        assert_eq!(progress.rate, Some(5.0 * MIB as f64));
        assert_eq!(progress.left(), Some(Duration::from_secs(10)));
        assert_eq!(
            progress.to_string(),
            "repository: 50.0 MiB of about 100.0 MiB, 5.0 MiB/s, 0:10 left"
        );
    }

    #[test]
    fn a_burst_of_small_pieces_counts_with_all_of_them() {
        let mut progress = Progress::default();
        for piece in 1..=100 {
            progress.moved(piece * MIB, Duration::from_millis(10 * piece));
        }
        let rate = progress.rate.unwrap() / MIB as f64;
        assert!((90.0..110.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_total_that_was_wrong_promises_nothing() {
        let mut progress = Progress {
            total: Some(MIB),
            ..Progress::default()
        };
        progress.moved(2 * MIB, Duration::from_secs(1));
        assert_eq!(progress.left(), None);
        assert_eq!(progress.to_string(), ": 2.0 MiB, 2.0 MiB/s");
    }

    #[test]
    fn sizes_are_for_people() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (MIB, "1.0 MiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
