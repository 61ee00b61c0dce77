//! What probes say of one run of one unit, with Kubernetes' meanings: starting until the first
//! success, then ready or not, and alive until enough misses in a row. A probe that could not be
//! judged changes nothing.

use std::time::Duration;

use super::Mono;

/// What one probe found.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// It answers and serves.
    Ready,
    /// It answers and does not serve yet: a database that is not open.
    Alive(String),
    /// It answers, and a database that matters cannot be opened: its files are damaged.
    Suspect(String),
    /// It lets us in, and the database of Octopus is not open. What that means depends on whether
    /// the database is to be replaced: [`State::probed`](super::State::probed) says so.
    NotOpen(NotOpen, String),
    /// It answers and takes no work, because somebody drained it (418).
    Drained(String),
    /// It does not serve, in one of the ways that may mean that it hangs; and its words.
    Failure(Miss, String),
    /// The database refuses our password. Not a sign of death: only a person can mend it.
    Refused(String),
    /// Nobody can say, for instance because this process itself did not get to run.
    Unknown(String),
}

/// Why the database of Octopus is not open (learn.microsoft.com, "Database states").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpen {
    /// It is recovered, after which it is open.
    Recovering,
    /// It is about to be recovered, or cannot be: a file is missing, or cannot be read.
    RecoveryPending,
    /// It is restored, or was when that was broken off.
    Restoring,
    /// Its files are damaged.
    Damaged,
}

/// How a probe failed. A process that is gone is told from one that says nothing at all, and both
/// from one that is only slow or says that it is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nobody is there: the connection was refused, or closed before any answer.
    Gone,
    /// Nothing was said for this long. Whether it would have answered later is not known.
    Silent(Duration),
    /// It answered that it is broken, or with something else than an answer.
    Broken,
}

/// How long a process may say nothing to one question before it counts as silent, not as slow. A
/// first question is given up sooner, so that whoever asks knows early that the unit does not
/// serve.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// How long a unit may be slow, or call itself broken, before it counts as hung: the liveness probe
/// of the vendor's Kubernetes chart fails ten times, every 30 s, before it restarts a node.
pub const SLOW_LIMIT: Duration = Duration::from_secs(5 * 60);

/// How long SQL Server may say nothing at all before it counts as hung: a checkpoint on a busy disk
/// stops every login for longer than [`PATIENCE`].
pub const DATABASE_SILENCE: Duration = Duration::from_secs(30);

/// Error numbers of the kernel (errno(3)) that say that this process, or the host, has no more
/// files, ports or memory.
const OWN_SHORTAGE: [i32; 6] = [11, 12, 23, 24, 99, 105];

impl Probe {
    /// Nobody is there, unless the error says that it is our own shortage: that says nothing about
    /// the unit.
    pub fn of_error(os_error: Option<i32>, why: String) -> Self {
        if os_error.is_some_and(|number| OWN_SHORTAGE.contains(&number)) {
            Self::Unknown(why)
        } else {
            Self::Failure(Miss::Gone, why)
        }
    }

    /// The words of an answer that is not success.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::Alive(why)
            | Self::Suspect(why)
            | Self::NotOpen(_, why)
            | Self::Drained(why)
            | Self::Failure(_, why)
            | Self::Refused(why)
            | Self::Unknown(why) => Some(why),
        }
    }
}

/// The streaks of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// It was ready at least once in this run.
    pub started: bool,
    /// The last probe that could be judged said that it serves.
    pub ready: bool,
    /// It is well, and somebody drained it: others need not wait for it.
    pub drained: bool,
    /// When it became ready, if it is.
    pub ready_since: Option<Mono>,
    /// When it last answered that it serves.
    pub last_ready_at: Option<Mono>,
    /// Failures in a row.
    pub misses: u32,
    /// Those of them, the last ones, at which nobody was there.
    pub gone: u32,
    /// When the last failures in a row began at which it said nothing at all.
    pub silent_since: Option<Mono>,
    /// How long it said nothing to the last question; zero when it answered.
    pub silence: Duration,
    /// When the failures in a row began.
    pub failing_since: Option<Mono>,
    /// Whether a look at the engine began after the failures did, and found it running and
    /// attached to the network: before that it may only be cut off.
    pub failing_seen: bool,
    /// Refusals of our password in a row, with the time of the first.
    pub refused_since: Option<Mono>,
    /// The last answer that was not success, for people.
    pub last_problem: Option<String>,
}

impl Health {
    /// Nothing is known.
    pub const fn unknown() -> Self {
        Self {
            started: false,
            ready: false,
            drained: false,
            ready_since: None,
            last_ready_at: None,
            misses: 0,
            gone: 0,
            silent_since: None,
            silence: Duration::ZERO,
            failing_since: None,
            failing_seen: false,
            refused_since: None,
            last_problem: None,
        }
    }

    /// Takes in one result.
    pub fn record(&mut self, probe: &Probe, now: Mono) {
        match probe {
            Probe::Ready => {
                *self = Self {
                    started: true,
                    ready: true,
                    ready_since: self.ready_since.or(Some(now)),
                    last_ready_at: Some(now),
                    ..Self::default()
                };
            }
            Probe::Drained(why) => {
                let started = true;
                *self = Self {
                    started,
                    drained: true,
                    last_ready_at: self.last_ready_at,
                    ..Self::default()
                };
                self.last_problem = Some(why.clone());
            }
            Probe::Alive(why) | Probe::Suspect(why) | Probe::NotOpen(_, why) => {
                self.answered(why);
                self.forget_misses();
                self.refused_since = None;
            }
            Probe::Refused(why) => {
                self.answered(why);
                self.forget_misses();
                self.refused_since = self.refused_since.or(Some(now));
            }
            Probe::Failure(miss, why) => {
                self.answered(why);
                self.count(*miss, now);
                self.refused_since = None;
            }
            Probe::Unknown(_) => {}
        }
    }

    /// Whether any probe of this run could be judged.
    pub fn was_asked(&self) -> bool {
        self.started || self.last_problem.is_some()
    }

    fn count(&mut self, miss: Miss, now: Mono) {
        self.misses = self.misses.saturating_add(1);
        self.failing_since = self.failing_since.or(Some(now));
        (self.gone, self.silence) = match miss {
            Miss::Gone => (self.gone.saturating_add(1), Duration::ZERO),
            Miss::Silent(waited) => (0, waited),
            Miss::Broken => (0, Duration::ZERO),
        };
        self.silent_since = match miss {
            Miss::Silent(_) => self.silent_since.or(Some(now)),
            Miss::Gone | Miss::Broken => None,
        };
    }

    /// Begins to count anew.
    pub fn forget_misses(&mut self) {
        self.misses = 0;
        self.gone = 0;
        self.silence = Duration::ZERO;
        self.silent_since = None;
        self.failing_since = None;
        self.failing_seen = false;
    }

    /// How long to wait for the next answer, where a first question waits for `first`: one that
    /// said nothing to the last question is given the time to be only slow.
    pub fn patience(&self, first: Duration) -> Duration {
        if self.silent_since.is_some() {
            PATIENCE.max(first)
        } else {
            first
        }
    }

    /// Whether nobody is there any more, or has been saying nothing at all for `silence`, after
    /// `misses` failures in a row: such a process will not come back.
    pub fn is_gone(&self, misses: u32, silence: Duration, now: Mono) -> bool {
        let said_nothing = self.silence >= PATIENCE
            && self
                .silent_since
                .is_some_and(|since| now.since(since) >= silence);
        self.gone >= misses.max(1) || said_nothing && self.misses >= 2
    }

    /// Whether it has not served for so long that it counts as hung although it may only be slow.
    pub fn is_slow_for_too_long(&self, misses: u32, now: Mono) -> bool {
        self.misses >= misses
            && self
                .failing_since
                .is_some_and(|since| now.since(since) >= SLOW_LIMIT)
    }

    /// What was known no longer counts: it must answer again before it is called ready.
    pub fn doubt(&mut self) {
        self.ready = false;
        self.drained = false;
        self.ready_since = None;
    }

    fn answered(&mut self, why: &str) {
        self.doubt();
        self.last_problem = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut health = Health::default();
        for probe in [
            Probe::Failure(Miss::Broken, "a".into()),
            Probe::Failure(Miss::Gone, "b".into()),
            Probe::Alive("418".into()),
        ] {
            health.record(&probe, at(1));
        }
        assert_eq!(
            (health.misses, health.ready, health.started),
            (0, false, false)
        );
        health.record(&Probe::Ready, at(2));
        health.record(&Probe::Failure(Miss::Gone, "c".into()), at(3));
        assert_eq!(
            (health.misses, health.started, health.ready),
            (1, true, false)
        );
    }

    #[test]
    fn what_cannot_be_judged_changes_nothing() {
        let mut health = Health::default();
        health.record(&Probe::Ready, at(1));
        let before = health.clone();
        health.record(&Probe::Unknown("we were asleep".into()), at(500));
        assert_eq!(health, before);
    }

    #[test]
    fn our_own_shortage_is_nobodys_failure() {
        let (too_many_files, refused) = (Some(24), Some(111));
        assert!(matches!(
            Probe::of_error(too_many_files, "x".into()),
            Probe::Unknown(_)
        ));
        assert!(matches!(
            Probe::of_error(refused, "x".into()),
            Probe::Failure(Miss::Gone, _)
        ));
        assert!(matches!(
            Probe::of_error(None, "x".into()),
            Probe::Failure(Miss::Gone, _)
        ));
    }

    #[test]
    fn one_that_answers_late_is_not_silent_and_one_that_is_gone_needs_no_patience() {
        let (first, second) = (Duration::from_secs(2), Duration::from_secs(1));
        let mut slow = Health::default();
        for time in 1..200 {
            assert!(!slow.is_gone(3, Duration::ZERO, at(time)));
            let limit = slow.patience(first);
            // It answers after three seconds, whatever it is asked.
            let miss = if limit < Duration::from_secs(3) {
                Miss::Silent(limit)
            } else {
                Miss::Broken
            };
            slow.record(&Probe::Failure(miss, "slow".into()), at(time));
        }
        assert!(!slow.is_slow_for_too_long(3, at(300)));
        assert!(slow.is_slow_for_too_long(3, at(301)));

        let mut silent = Health::default();
        for time in [2, 11] {
            let limit = silent.patience(first);
            silent.record(
                &Probe::Failure(Miss::Silent(limit), "nothing".into()),
                at(time),
            );
        }
        assert!(silent.is_gone(3, Duration::ZERO, at(11)));
        assert!(!silent.is_gone(3, DATABASE_SILENCE, at(31)));
        assert!(silent.is_gone(3, DATABASE_SILENCE, at(32)));

        let mut gone = Health::default();
        for time in 1..=3 {
            assert!(!gone.is_gone(3, second, at(time)));
            gone.record(&Probe::Failure(Miss::Gone, "refused".into()), at(time));
        }
        assert!(gone.is_gone(3, second, at(3)));
    }

    #[test]
    fn ready_since_is_the_first_of_the_streak() {
        let mut health = Health::default();
        health.record(&Probe::Ready, at(1));
        health.record(&Probe::Ready, at(9));
        assert_eq!(health.ready_since, Some(at(1)));
    }
}
