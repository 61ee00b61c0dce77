//! Whether this daemon is the one that may act on its engine: the one that has the lease there. It
//! is taken before the first action, renewed while there is something to look after, and given back
//! when nothing is left to do.

use std::time::Duration;

use super::Core;
use super::looks::EngineView;
use crate::daemon::message::Effect;
use crate::daemon::message::LeaseStep;
use crate::daemon::message::NoLease;
use crate::engine::lease::ABANDONED_AFTER;
use crate::engine::lease::RENEW_EVERY;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::status::Note;

/// How soon an engine that could not be asked for the lease is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a lease that somebody else has is asked for at short intervals: who just ended may
/// still be seen.
const LINGERS: Duration = Duration::from_secs(1);
/// How short those intervals are.
const SOON: Duration = Duration::from_millis(100);
/// How often a lease that somebody else keeps is asked for.
const PATIENT: Duration = Duration::from_secs(15);
/// How much earlier than others may take the lease nothing is done any more: an action takes time.
const MARGIN: Duration = Duration::from_secs(60);

/// How this daemon stands to the lease.
#[derive(Debug, Default)]
pub(super) enum Tenure {
    /// It does not have it.
    #[default]
    Free,
    /// The engine is asked for it.
    Asked(Before),
    /// It could not be asked for.
    Failed { retry_at: Mono },
    /// It has it, and nobody else can have it before `until`.
    Ours { until: Mono, renew_at: Mono },
    /// It is being renewed.
    Renewing { until: Mono },
    /// Somebody else has it.
    Lost(Loss),
    /// It is being given back.
    Releasing,
}

/// What was known when the lease was asked for.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Nothing,
    Lost(Loss),
}

/// Somebody else has the lease.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    by: String,
    since: Mono,
    seen_at: Mono,
}

/// What the lease means for a wish that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may be taken.
    Taken,
    /// The lease is asked for first.
    Waits,
    /// Somebody else looks after this project: with these words.
    Refused(String),
}

impl Tenure {
    /// Whether this daemon may act: nobody else can have taken the lease.
    pub(super) fn may_act(&self, now: Mono) -> bool {
        match self {
            Self::Ours { until, .. } | Self::Renewing { until } => now < *until,
            Self::Free | Self::Asked(_) | Self::Failed { .. } | Self::Lost(_) | Self::Releasing => {
                false
            }
        }
    }

    /// Who else looks after the project, if somebody does.
    pub(super) fn lost_to(&self) -> Option<&str> {
        match self {
            Self::Lost(loss) | Self::Asked(Before::Lost(loss)) => Some(&loss.by),
            _ => None,
        }
    }

    /// Whether a wish may be taken. The first one asks for the lease; an engine that cannot be asked
    /// refuses nobody, since nothing can be done on it either.
    pub(super) fn admit(&self, now: Mono) -> Admission {
        match self {
            Self::Free | Self::Asked(_) | Self::Releasing => Admission::Waits,
            Self::Failed { .. } | Self::Ours { .. } | Self::Renewing { .. } => Admission::Taken,
            Self::Lost(loss) if loss.lasts() && now.since(loss.seen_at) < LINGERS => {
                Admission::Refused(loss.by.clone())
            }
            Self::Lost(_) => Admission::Waits,
        }
    }

    /// What is to be asked of the engine now. `needed`: there is something to look after. `urgent`:
    /// somebody waits for the answer.
    pub(super) fn step(&mut self, needed: bool, urgent: bool, now: Mono) -> Option<LeaseStep> {
        let (next, step) = match std::mem::take(self) {
            Self::Free if needed || urgent => (Self::Asked(Before::Nothing), LeaseStep::Take),
            Self::Failed { retry_at } if needed && now >= retry_at => {
                (Self::Asked(Before::Nothing), LeaseStep::Take)
            }
            Self::Lost(loss) if now >= loss.ask_at(urgent) => {
                (Self::Asked(Before::Lost(loss)), LeaseStep::Take)
            }
            Self::Ours { until, renew_at } if now >= renew_at => {
                (Self::Renewing { until }, LeaseStep::Renew)
            }
            same => {
                *self = same;
                return None;
            }
        };
        *self = next;
        Some(step)
    }

    /// Gives the lease back, if it has it: there is nothing to look after.
    pub(super) fn release(&mut self) -> Option<LeaseStep> {
        let Self::Ours { .. } = self else {
            return None;
        };
        *self = Self::Releasing;
        Some(LeaseStep::Release)
    }

    /// Gives back what it has or may get, since the daemon ends and no answer will be heard.
    pub(super) fn give_up(&mut self) -> Option<LeaseStep> {
        match std::mem::replace(self, Self::Releasing) {
            Self::Ours { .. } | Self::Renewing { .. } | Self::Asked(_) => Some(LeaseStep::Release),
            Self::Free | Self::Failed { .. } | Self::Lost(_) | Self::Releasing => None,
        }
    }

    /// The engine answered, or did not. True when it is news that somebody else has the lease, or
    /// that nobody else has it any more.
    pub(super) fn on_answer(&mut self, answer: Result<(), NoLease>, now: Mono) -> bool {
        let was_lost = self.lost_to().is_some();
        *self = match (std::mem::take(self), answer) {
            (Self::Releasing, _) => Self::Free,
            (_, Ok(())) => Self::Ours {
                until: now.after(ABANDONED_AFTER.saturating_sub(MARGIN)),
                renew_at: now.after(RENEW_EVERY),
            },
            (Self::Asked(Before::Lost(loss)), Err(NoLease::Held(by))) => Self::Lost(Loss {
                by,
                since: loss.since,
                seen_at: now,
            }),
            (_, Err(NoLease::Held(by))) => Self::Lost(Loss {
                by,
                since: now,
                seen_at: now,
            }),
            // What was known is known still; it is asked again.
            (Self::Renewing { until }, Err(NoLease::Unknown(_))) => Self::Ours {
                until,
                renew_at: now.after(RETRY),
            },
            (Self::Asked(Before::Lost(loss)), Err(NoLease::Unknown(_))) => Self::Lost(Loss {
                seen_at: now,
                ..loss
            }),
            (_, Err(NoLease::Unknown(_))) => Self::Failed {
                retry_at: now.after(RETRY),
            },
        };
        was_lost != self.lost_to().is_some()
    }

    /// The host slept, and others may have taken the lease meanwhile: it is renewed first.
    pub(super) fn woke(&mut self, now: Mono) {
        if let Self::Ours { .. } = self {
            *self = Self::Ours {
                until: now,
                renew_at: now,
            };
        }
    }

    /// When a step is due.
    pub(super) fn due_at(&self, urgent: bool) -> Option<Mono> {
        match self {
            Self::Failed { retry_at } => Some(*retry_at),
            Self::Ours { renew_at, .. } => Some(*renew_at),
            Self::Lost(loss) => Some(loss.ask_at(urgent)),
            Self::Free | Self::Asked(_) | Self::Renewing { .. } | Self::Releasing => None,
        }
    }
}

impl Loss {
    /// Who ends may be seen a moment longer. Only who stays is somebody else.
    fn lasts(&self) -> bool {
        self.seen_at.since(self.since) >= LINGERS
    }

    fn ask_at(&self, urgent: bool) -> Mono {
        let wait = if urgent || !self.lasts() {
            SOON
        } else {
            PATIENT
        };
        self.seen_at.after(wait)
    }
}

impl Core {
    /// Takes the lease on the engine before the first action, and renews it while there is something
    /// to look after.
    pub(super) fn look_after_the_lease(&mut self, has_actions: bool) {
        if *self.looks.engine() != EngineView::Answers || self.shutdown.leaving().is_some() {
            return;
        }
        let looks_after = self.looks.may_act() && self.state.desired.goal == Goal::Up;
        let needed = (looks_after || has_actions) && !self.is_over();
        let urgent = self.requests.waits_for_the_lease();
        let step = self.tenure.step(needed, urgent, self.now.mono);
        self.out.extend(step.map(Effect::Lease));
    }

    /// The engine was asked about the lease.
    pub(super) fn on_leased(&mut self, answer: Result<(), NoLease>) {
        if !self.tenure.on_answer(answer, self.now.mono) {
            return;
        }
        let told = match self.tenure.lost_to() {
            Some(by) => Note::LookedAfter { by: by.to_owned() }.to_string(),
            None => "nobody else looks after this project any more".to_owned(),
        };
        self.tell("", told);
        self.derive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn held() -> Result<(), NoLease> {
        Err(NoLease::Held("process 7".to_owned()))
    }

    fn unknown() -> Result<(), NoLease> {
        Err(NoLease::Unknown("no answer".to_owned()))
    }

    /// The lease was taken at zero.
    fn ours() -> Tenure {
        let mut tenure = Tenure::default();
        assert_eq!(tenure.step(true, false, at(0)), Some(LeaseStep::Take));
        assert!(!tenure.may_act(at(0)));
        tenure.on_answer(Ok(()), at(0));
        tenure
    }

    #[test]
    fn it_is_taken_when_needed_renewed_and_given_back() {
        let idle = Tenure::default().step(false, false, at(0));
        assert_eq!(idle, None, "nobody needs it");
        let mut tenure = ours();
        assert!(tenure.may_act(at(1)));
        assert_eq!(tenure.step(true, false, at(59_999)), None);
        assert_eq!(tenure.due_at(false), Some(Mono(RENEW_EVERY)));
        let renews = tenure.step(true, false, at(60_000));
        assert_eq!(renews, Some(LeaseStep::Renew));
        assert_eq!(tenure.release(), None, "not while it is being renewed");
        tenure.on_answer(Ok(()), at(60_100));
        assert_eq!(tenure.release(), Some(LeaseStep::Release));
        assert!(!tenure.may_act(at(60_200)));
        tenure.on_answer(unknown(), at(60_300));
        assert_eq!(
            tenure.give_up(),
            None,
            "what could not be given back is not ours"
        );
        let mut tenure = ours();
        tenure.step(true, false, at(60_000));
        assert_eq!(
            tenure.give_up(),
            Some(LeaseStep::Release),
            "also while it is renewed"
        );
    }

    #[test]
    fn what_cannot_be_renewed_is_not_acted_on_before_others_may_take_it() {
        let mut tenure = ours();
        let mut now = at(60_000);
        while tenure.may_act(now) {
            assert!(now.0 < ABANDONED_AFTER, "others may have it");
            if tenure.step(true, false, now).is_some() {
                tenure.on_answer(unknown(), now);
            }
            now = now.after(RETRY);
        }
        assert!(now.0 + MARGIN <= ABANDONED_AFTER + RETRY);
        assert!(now.0 + MARGIN >= ABANDONED_AFTER);
        tenure.step(true, false, now);
        assert!(!tenure.on_answer(Ok(()), now) && tenure.may_act(now));
    }

    #[test]
    fn a_host_that_slept_renews_before_it_acts() {
        let mut tenure = ours();
        tenure.woke(at(10));
        assert!(!tenure.may_act(at(10)));
        assert!(tenure.step(true, false, at(10)).is_some());
        assert!(tenure.on_answer(held(), at(20)));
        assert_eq!(tenure.lost_to(), Some("process 7"));
    }

    #[test]
    fn somebody_who_stays_refuses_wishes_and_somebody_who_ends_does_not() {
        let mut tenure = Tenure::default();
        assert_eq!(tenure.admit(at(0)), Admission::Waits);
        tenure.step(false, true, at(0));
        assert!(tenure.on_answer(held(), at(0)));
        assert_eq!(tenure.admit(at(0)), Admission::Waits, "it may just end");
        let mut now = at(0);
        while tenure.admit(now) == Admission::Waits {
            now = tenure.due_at(true).unwrap();
            assert!(tenure.step(false, true, now).is_some());
            assert!(!tenure.on_answer(held(), now), "that is no news");
        }
        assert_eq!(
            tenure.admit(now),
            Admission::Refused("process 7".to_owned())
        );
        assert_eq!(now, Mono(LINGERS));
        assert_eq!(tenure.due_at(false), Some(now.after(PATIENT)));
        // Another wish, later: it is asked anew, and that one has ended.
        let later = now.after(LINGERS);
        assert_eq!(tenure.admit(later), Admission::Waits);
        assert!(tenure.step(false, true, later).is_some());
        assert!(tenure.on_answer(Ok(()), later));
        assert_eq!(tenure.admit(later), Admission::Taken);
    }

    #[test]
    fn an_engine_that_cannot_be_asked_refuses_nobody_and_is_not_acted_on() {
        let mut tenure = Tenure::default();
        tenure.step(true, true, at(0));
        tenure.on_answer(unknown(), at(5));
        assert_eq!(tenure.admit(at(5)), Admission::Taken);
        assert!(!tenure.may_act(at(5)));
        assert_eq!(tenure.step(true, true, at(6)), None);
        assert!(tenure.step(true, true, at(1_005)).is_some());
    }
}
