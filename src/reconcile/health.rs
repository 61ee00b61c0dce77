//! What probes say of one run of one unit, with Kubernetes' meanings: starting until the first
//! success, then ready or not, and alive until enough misses in a row. A probe that could not be
//! judged changes nothing.

use super::Mono;

/// What one probe found.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// It answers and serves.
    Ready,
    /// It answers and does not serve yet: a database that is not open.
    Alive(String),
    /// It answers and takes no work, because somebody drained it (418).
    Drained(String),
    /// It does not answer, or answers that it is broken.
    Failure(String),
    /// The database refuses our password. Not a sign of death: only a person can mend it.
    Refused(String),
    /// Nobody can say, for instance because this process itself did not get to run.
    Unknown(String),
}

/// Error numbers of the kernel (errno(3)) that say that this process, or the host, has no more
/// files, ports or memory.
const OWN_SHORTAGE: [i32; 6] = [11, 12, 23, 24, 99, 105];

impl Probe {
    /// A failure, unless the error says that it is our own shortage: that says nothing about the
    /// unit.
    pub fn of_error(os_error: Option<i32>, why: String) -> Self {
        if os_error.is_some_and(|number| OWN_SHORTAGE.contains(&number)) {
            Self::Unknown(why)
        } else {
            Self::Failure(why)
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
    /// When the failures in a row began.
    pub failing_since: Option<Mono>,
    /// Refusals of our password in a row, with the time of the first.
    pub refused_since: Option<Mono>,
    /// The last answer that was not success, for people.
    pub last_problem: Option<String>,
}

impl Health {
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
            Probe::Alive(why) => {
                self.answered(why);
                self.misses = 0;
                self.failing_since = None;
                self.refused_since = None;
            }
            Probe::Refused(why) => {
                self.answered(why);
                self.misses = 0;
                self.failing_since = None;
                self.refused_since = self.refused_since.or(Some(now));
            }
            Probe::Failure(why) => {
                self.answered(why);
                self.misses = self.misses.saturating_add(1);
                self.failing_since = self.failing_since.or(Some(now));
                self.refused_since = None;
            }
            Probe::Unknown(_) => {}
        }
    }

    /// Whether any probe of this run could be judged.
    pub fn was_asked(&self) -> bool {
        self.started || self.last_problem.is_some()
    }

    /// Begins to count anew.
    pub fn forget_misses(&mut self) {
        self.misses = 0;
        self.failing_since = None;
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
            Probe::Failure("a".into()),
            Probe::Failure("b".into()),
            Probe::Alive("418".into()),
        ] {
            health.record(&probe, at(1));
        }
        assert_eq!(
            (health.misses, health.ready, health.started),
            (0, false, false)
        );
        health.record(&Probe::Ready, at(2));
        health.record(&Probe::Failure("c".into()), at(3));
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
            Probe::Failure(_)
        ));
        assert!(matches!(
            Probe::of_error(None, "x".into()),
            Probe::Failure(_)
        ));
    }

    #[test]
    fn ready_since_is_the_first_of_the_streak() {
        let mut health = Health::default();
        health.record(&Probe::Ready, at(1));
        health.record(&Probe::Ready, at(9));
        assert_eq!(health.ready_since, Some(at(1)));
    }
}
