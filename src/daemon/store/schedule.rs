//! What is kept of backups that are made by themselves. Pure.

use serde::Deserialize;
use serde::Serialize;

/// The schedule, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// The pattern that it is of; empty where none is configured.
    pub pattern: String,
    /// The next time is the first one after this: the end of the last run, or when the pattern came
    /// to be. Milliseconds since 1970.
    pub after_ms: u64,
    /// Why the last one failed, until one succeeds.
    pub failure: Option<String>,
}

impl Schedule {
    /// What is kept once this pattern counts, or none. A clock that was set back since the last run
    /// would keep the next one waiting: it counts from now.
    #[must_use]
    pub fn with(&self, pattern: Option<&str>, now_ms: u64) -> Self {
        match pattern {
            None => Self::default(),
            Some(pattern) if pattern != self.pattern => Self {
                pattern: pattern.to_owned(),
                after_ms: now_ms,
                failure: self.failure.clone(),
            },
            Some(_) => Self {
                after_ms: self.after_ms.min(now_ms),
                ..self.clone()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pattern_counts_from_now_and_an_old_one_goes_on() {
        let first = Schedule::default().with(Some("@daily"), 100);
        assert_eq!((first.pattern.as_str(), first.after_ms), ("@daily", 100));
        assert_eq!(first.with(Some("@daily"), 500), first);
        assert_eq!(first.with(Some("@hourly"), 500).after_ms, 500);
        assert_eq!(first.with(None, 500), Schedule::default());
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_backup_waiting() {
        let first = Schedule::default().with(Some("@daily"), 10_000);
        assert_eq!(first.with(Some("@daily"), 3).after_ms, 3);
    }

    #[test]
    fn a_failure_stays_until_a_success_or_the_schedule_goes() {
        let failed = Schedule {
            failure: Some("full".to_owned()),
            ..Schedule::default().with(Some("@daily"), 100)
        };
        assert!(failed.with(Some("@hourly"), 200).failure.is_some());
        assert!(failed.with(None, 200).failure.is_none());
    }
}
