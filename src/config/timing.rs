//! How often things are asked and how long they may take. Changing any of it recreates no
//! container.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::keys;

/// Kept in the state file in milliseconds, whose names say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Between probes of a unit that starts, in the first `fast_window`.
    #[serde(rename = "start_probe_fast_ms", with = "milliseconds")]
    pub start_probe_fast: Duration,
    /// Between probes of a unit that starts, later.
    #[serde(rename = "start_probe_slow_ms", with = "milliseconds")]
    pub start_probe_slow: Duration,
    /// How long a start is probed fast.
    #[serde(rename = "fast_window_ms", with = "milliseconds")]
    pub fast_window: Duration,
    /// Between probes of a unit that is ready.
    #[serde(rename = "steady_probe_ms", with = "milliseconds")]
    pub steady_probe: Duration,
    /// How long one probe may take.
    #[serde(rename = "probe_timeout_ms", with = "milliseconds")]
    pub probe_timeout: Duration,
    /// Failures in a row after which a unit counts as hung. After one failure the next probe
    /// follows at once.
    pub misses: u32,
    /// How long a node's start may go without progress.
    #[serde(rename = "node_start_limit_ms", with = "milliseconds")]
    pub node_start_limit: Duration,
    /// How long SQL Server's start may go without progress.
    #[serde(rename = "sql_start_limit_ms", with = "milliseconds")]
    pub sql_start_limit: Duration,
    /// How long SQL Server may refuse our password, its log standing still, before that is
    /// believed.
    #[serde(rename = "refused_grace_ms", with = "milliseconds")]
    pub refused_grace: Duration,
    /// How long a node may finish its running tasks, taking no more, before it is stopped by choice.
    #[serde(rename = "drain_timeout_ms", with = "milliseconds")]
    pub drain_timeout: Duration,
    /// How long a node gets between SIGTERM and SIGKILL.
    #[serde(rename = "node_stop_grace_ms", with = "milliseconds")]
    pub node_stop_grace: Duration,
    /// How long SQL Server gets to shut down before SIGKILL.
    #[serde(rename = "sql_stop_limit_ms", with = "milliseconds")]
    pub sql_stop_limit: Duration,
    /// The wait before the second restart in a row; the first is immediate.
    #[serde(rename = "backoff_first_ms", with = "milliseconds")]
    pub backoff_first: Duration,
    /// The longest wait between restarts.
    #[serde(rename = "backoff_max_ms", with = "milliseconds")]
    pub backoff_max: Duration,
    /// How long a unit must be ready for its failures to be forgotten.
    #[serde(rename = "backoff_reset_ms", with = "milliseconds")]
    pub backoff_reset: Duration,
}

/// What `config::keys` says.
/// What an orderly end takes besides what is waited for: removing, the engine's own pace, one SIGKILL
/// each.
const BETWEEN: Duration = Duration::from_secs(30);

impl Timing {
    /// What an orderly end of the whole stack may take: nodes are drained together, then stop
    /// together, then SQL Server does.
    pub fn orderly_end(&self) -> Duration {
        self.drain_timeout + self.node_stop_grace + self.sql_stop_limit + BETWEEN
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start_probe_fast: default_of("START_PROBE_INTERVAL"),
            start_probe_slow: default_of("START_PROBE_SLOW_INTERVAL"),
            fast_window: default_of("START_PROBE_FAST_WINDOW"),
            steady_probe: default_of("PROBE_INTERVAL"),
            probe_timeout: default_of("PROBE_TIMEOUT"),
            misses: keys::default_as("PROBE_MISSES"),
            node_start_limit: default_of("NODE_START_LIMIT"),
            sql_start_limit: default_of("SQL_START_LIMIT"),
            refused_grace: default_of("SQL_REFUSED_GRACE"),
            drain_timeout: default_of("DRAIN_TIMEOUT"),
            node_stop_grace: default_of("NODE_STOP_GRACE"),
            sql_stop_limit: default_of("SQL_STOP_LIMIT"),
            backoff_first: default_of("RESTART_BACKOFF_FIRST"),
            backoff_max: default_of("RESTART_BACKOFF_MAX"),
            backoff_reset: default_of("RESTART_BACKOFF_RESET"),
        }
    }
}

fn default_of(key: &str) -> Duration {
    keys::default_of(key)
        .and_then(duration)
        .expect("a duration's key has a default, which a test reads")
}

/// The longest duration that is taken: far more than any wait, and no sum of a few overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A duration such as `50ms`, `5s`, `2m`, `1h`, up to a year; a bare number is seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(unit)?);
    Some(duration).filter(|duration| *duration <= LONGEST)
}

/// A duration in the largest unit that divides it, as [`duration`] reads it.
pub fn shown(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units
        .into_iter()
        .find(|(size, _)| ms > 0 && ms.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{ms}ms"),
        |(size, name)| format!("{}{name}", ms / size),
    )
}

/// A duration in the state file: a whole number of milliseconds.
pub(super) mod milliseconds {
    use std::time::Duration;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;

    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_an_end() {
        let cases = [
            ("50ms", Some(50)),
            ("5", Some(5_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("8760h", Some(8_760 * 3_600_000)),
            ("8761h", None),
            ("18446744073709551615ms", None),
            ("18446744073709551616", None),
            ("x", None),
            ("-1s", None),
            ("5 days", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(
                duration(text),
                milliseconds.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for ms in [0, 1, 50, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000] {
            let given = Duration::from_millis(ms);
            assert_eq!(duration(&shown(given)), Some(given));
        }
    }

    /// The names and units of the state file's first form, which every later octo-local reads.
    #[test]
    fn the_state_file_keeps_milliseconds_under_their_old_names() {
        let timing = Timing::default();
        let kept = serde_json::to_value(&timing).unwrap();
        assert_eq!(kept["start_probe_fast_ms"], 50);
        assert_eq!(kept["sql_stop_limit_ms"], 120_000);
        assert_eq!(serde_json::from_value::<Timing>(kept).unwrap(), timing);
        let older = r#"{"steady_probe_ms":7000,"unknown":1}"#;
        let read: Timing = serde_json::from_str(older).unwrap();
        assert_eq!(read.steady_probe, Duration::from_secs(7));
        assert_eq!(read.probe_timeout, timing.probe_timeout);
    }
}
