//! When the engine is looked at, what of it must be asked afresh, and whether what is known is as
//! new as the last wish. One look at a time; events only say where to look.

use std::time::Duration;

use super::Core;
use crate::daemon::message::Effect;
use crate::daemon::message::Invalidated;
use crate::engine::watch::Hint;
use crate::reconcile::Action;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::spec::StackSpec;

/// How often Docker is looked at even if the engine said nothing: events may be lost.
pub(super) const RELIST_EVERY: Duration = Duration::from_secs(5);
/// How much earlier than that it may be looked at, together with units that are well: a process that
/// wakes once for all costs less than one that wakes for each.
const EARLY: Duration = Duration::from_millis(2_500);
/// How often such a look trusts nothing that is remembered: it costs a call for each container.
const RECHECK_EVERY: Duration = Duration::from_secs(30);
/// How soon after a look that contradicts what else is known another one follows.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long to wait before an engine that does not answer is tried again.
const ENGINE_RETRY: Duration = Duration::from_secs(1);

/// What is known of the engine itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EngineView {
    /// No look has ended yet.
    Unknown,
    /// The last look went well.
    Answers,
    /// The last look failed, with these words; and since when they do.
    Fails {
        /// The engine's words, or those about it.
        words: String,
        /// When the first of these looks failed.
        since: Mono,
    },
}

/// Whether the status is older than a wish: it must not be called ready before a look that began
/// after the wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    /// What is known is newer than the last wish.
    Fresh,
    /// A wish came, and no look began since.
    Outdated,
    /// A look began after the last wish and has not ended.
    BeingRenewed,
}

/// The schedule of looks.
#[derive(Debug)]
pub(super) struct Looks {
    engine: EngineView,
    freshness: Freshness,
    invalidated: Invalidated,
    wanted: bool,
    under_way: bool,
    /// When the last look ended.
    ended_at: Option<Mono>,
    relist_at: Mono,
    recheck_at: Mono,
    /// Somebody follows the engine's events.
    events_followed: bool,
}

impl Looks {
    /// Nothing is known yet: the first look is wanted at once.
    pub(super) fn new(now: Mono) -> Self {
        Self {
            engine: EngineView::Unknown,
            freshness: Freshness::Outdated,
            invalidated: Invalidated::default(),
            wanted: true,
            under_way: false,
            ended_at: None,
            relist_at: now,
            recheck_at: now.after(RECHECK_EVERY),
            events_followed: false,
        }
    }

    pub(super) fn engine(&self) -> &EngineView {
        &self.engine
    }

    /// Why the engine cannot be asked, if it cannot.
    pub(super) fn engine_problem(&self) -> Option<&str> {
        match &self.engine {
            EngineView::Fails { words, .. } => Some(words),
            EngineView::Unknown | EngineView::Answers => None,
        }
    }

    /// Whether what is known may be older than the last wish.
    pub(super) fn is_outdated(&self) -> bool {
        self.freshness != Freshness::Fresh
    }

    /// Whether what Docker looks like is known, and not older than the last wish: a changed
    /// configuration asks about other images.
    pub(super) fn may_act(&self) -> bool {
        self.engine == EngineView::Answers && !self.is_outdated()
    }

    /// A wish came: it is not fulfilled before a look that began after it says so.
    pub(super) fn renew_for_a_wish(&mut self) {
        self.freshness = Freshness::Outdated;
        self.wanted = true;
    }

    /// Something may have changed: look soon.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Looks again no later than this, because somebody waits or what was seen contradicts itself.
    pub(super) fn want_by(&mut self, at: Mono) {
        self.relist_at = self.relist_at.min(at);
    }

    /// What the last look showed is in question: another one soon, which trusts nothing that is
    /// remembered. The one under way may answer already.
    pub(super) fn want_again(&mut self, now: Mono) {
        if !self.under_way {
            let pause_ends = self.ended_at.map(|ended| ended.after(LOOK_AGAIN));
            self.want_by(pause_ends.map_or(now, |at| at.max(now)));
            self.invalidated.everything = true;
        }
    }

    pub(super) fn invalidate_everything(&mut self) {
        self.invalidated.everything = true;
        self.wanted = true;
    }

    pub(super) fn invalidate_container(&mut self, id: String) {
        self.invalidated.containers.push(id);
    }

    pub(super) fn invalidate_infrastructure(&mut self) {
        self.invalidated.infrastructure = true;
    }

    pub(super) fn invalidate_images(&mut self) {
        self.invalidated.images = true;
    }

    /// Makes the next look see afresh what an action worked on.
    pub(super) fn invalidate_what_it_touched(&mut self, action: &Action) {
        match action {
            Action::Start(_, id)
            | Action::Remove(_, id)
            | Action::Connect(_, id)
            | Action::DisarmRestartPolicy(_, id) => self.invalidate_container(id.clone()),
            Action::Stop { instance, .. }
            | Action::Kill(_, instance)
            | Action::Examine(_, instance) => self.invalidate_container(instance.id.clone()),
            Action::CreateNetwork
            | Action::CreateVolume(_)
            | Action::RemoveNetwork(_)
            | Action::RemoveVolume(_)
            | Action::Retire { .. } => self.invalidate_infrastructure(),
            Action::Pull(_) => self.invalidate_images(),
            // What a Tentacle needs is made with it.
            Action::Create(unit) if unit.is_tentacle() => self.invalidate_infrastructure(),
            Action::Create(_)
            | Action::Drain { .. }
            | Action::Undrain(..)
            | Action::TakeOff { .. } => {}
        }
    }

    /// Whether a look is due that nobody asked for: what was kept back may be tried again with it.
    pub(super) fn is_relist_due(&self, now: Mono) -> bool {
        now >= self.relist_at
    }

    /// Begins a look if one is wanted or due and none is under way. `awake`: units that are well are
    /// asked now, and an engine that answers is looked at with them if its turn is soon.
    pub(super) fn begin(&mut self, awake: bool, now: Mono) -> Option<Invalidated> {
        let is_early = awake && self.engine == EngineView::Answers;
        let until = if is_early { now.after(EARLY) } else { now };
        if self.is_relist_due(until) {
            self.wanted = true;
            if now >= self.recheck_at {
                self.invalidated.everything = true;
                self.recheck_at = now.after(RECHECK_EVERY);
            }
        }
        if !self.wanted || self.under_way {
            return None;
        }
        (self.wanted, self.under_way) = (false, true);
        self.relist_at = now.after(RELIST_EVERY);
        if self.freshness == Freshness::Outdated {
            self.freshness = Freshness::BeingRenewed;
        }
        Some(std::mem::take(&mut self.invalidated))
    }

    /// A look ended well. True when the engine answers again after it did not.
    pub(super) fn on_success(&mut self, now: Mono) -> bool {
        (self.under_way, self.ended_at) = (false, Some(now));
        if self.freshness == Freshness::BeingRenewed {
            self.freshness = Freshness::Fresh;
        }
        let before = std::mem::replace(&mut self.engine, EngineView::Answers);
        matches!(before, EngineView::Fails { .. })
    }

    /// A look failed. True when it is the first that did.
    pub(super) fn on_failure(&mut self, words: String, now: Mono) -> bool {
        (self.under_way, self.ended_at) = (false, Some(now));
        if self.freshness == Freshness::BeingRenewed {
            self.freshness = Freshness::Outdated;
        }
        self.invalidated.everything = true;
        self.relist_at = now.after(ENGINE_RETRY);
        let since = match &self.engine {
            EngineView::Fails { since, .. } => Some(*since),
            EngineView::Unknown | EngineView::Answers => None,
        };
        self.engine = EngineView::Fails {
            words,
            since: since.unwrap_or(now),
        };
        since.is_none()
    }

    /// Whether the engine's events are to be followed from now on, because nobody does.
    pub(super) fn follow_events(&mut self) -> bool {
        !std::mem::replace(&mut self.events_followed, true)
    }

    /// The engine's events ended: anything may happen unheard.
    pub(super) fn on_events_ended(&mut self) {
        self.events_followed = false;
        self.invalidate_everything();
    }

    /// When the next look is due if nothing happens before. One that is under way reports itself.
    pub(super) fn due_at(&self, now: Mono) -> Mono {
        if self.under_way {
            now.after(RELIST_EVERY)
        } else {
            self.relist_at
        }
    }
}

impl Core {
    pub(super) fn on_hint(&mut self, hint: Hint) {
        match hint {
            Hint::Container(event) => {
                self.state.heard(&event, self.now.mono);
                self.looks.invalidate_container(event.id);
            }
            Hint::Infrastructure => {
                self.state.on_change_told();
                self.looks.invalidate_infrastructure();
            }
            Hint::Images => self.looks.invalidate_images(),
        }
        self.looks.want();
    }

    /// Begins a look at the engine if one is due. Whether it did.
    pub(super) fn begin_look(&mut self) -> bool {
        let awake = self.pacing.asks_who_is_well(self.now.mono);
        let Some(invalidated) = self.looks.begin(awake, self.now.mono) else {
            return false;
        };
        self.state.look_begins();
        let spec = self.state.desired.spec.as_ref();
        let mut images = spec.map(StackSpec::images).unwrap_or_default();
        images.extend(self.state.desired.wanted_next.iter().map(String::as_str));
        self.out.push(Effect::Look {
            invalidated,
            images: images.into_iter().map(str::to_owned).collect(),
        });
        true
    }

    /// Takes in what a look showed. A failure is part of the status, and is tried again.
    pub(super) fn on_looked(&mut self, seen: Result<Box<Observed>, String>) {
        let now = self.now.mono;
        match seen {
            Ok(seen) => {
                if self.looks.on_success(now) {
                    self.tell("", "the engine answers again");
                }
                self.state.looked(*seen, now);
                self.try_what_was_read();
                self.hold_while_data_is_gone();
                if self.looks.follow_events() {
                    self.out.push(Effect::FollowEvents);
                }
            }
            Err(words) => {
                self.state.look_failed();
                if self.looks.on_failure(words.clone(), now) {
                    tracing::warn!(words, "the engine does not answer");
                    self.write_down("", format!("the engine does not answer: {words}"));
                }
            }
        }
        self.consider_those_who_waited();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn a_look_that_began_before_a_wish_does_not_fulfil_it() {
        let mut looks = Looks::new(at(0));
        looks.begin(false, at(0)).unwrap();
        looks.renew_for_a_wish();
        looks.on_success(at(0));
        assert!(!looks.may_act());
        assert!(
            looks.begin(false, at(0)).is_some(),
            "the wish wants another look"
        );
        looks.on_success(at(0));
        assert!(looks.may_act());
    }

    #[test]
    fn a_failed_look_is_tried_again_after_a_second_and_trusts_nothing() {
        let mut looks = Looks::new(at(0));
        looks.begin(false, at(0)).unwrap();
        assert!(looks.on_failure("silent".into(), at(2)), "the first one");
        assert_eq!(looks.begin(false, at(2)), None);
        assert!(looks.begin(false, at(3)).unwrap().everything);
        assert!(!looks.on_failure("silent".into(), at(4)));
        assert!(
            matches!(looks.engine(), EngineView::Fails { since, .. } if *since == at(2)),
            "{looks:?}"
        );
    }

    #[test]
    fn there_is_one_look_at_a_time_and_one_every_five_seconds() {
        let mut looks = Looks::new(at(0));
        looks.begin(false, at(0)).unwrap();
        looks.want();
        assert_eq!(looks.begin(false, at(1)), None, "one is under way");
        looks.on_success(at(1));
        assert!(looks.begin(false, at(1)).is_some());
        looks.on_success(at(1));
        assert_eq!(looks.begin(false, at(5)), None);
        assert!(looks.begin(false, at(6)).is_some());
    }

    #[test]
    fn events_that_ended_are_followed_anew_and_what_was_remembered_is_not_trusted() {
        let mut looks = Looks::new(at(0));
        looks.begin(false, at(0)).unwrap();
        looks.on_success(at(0));
        assert!(looks.follow_events());
        assert!(!looks.follow_events(), "somebody does");
        looks.on_events_ended();
        assert!(looks.begin(false, at(0)).unwrap().everything);
        assert!(looks.follow_events());
    }

    #[test]
    fn an_engine_that_answers_is_looked_at_early_with_units_that_are_well() {
        let mut looks = Looks::new(at(0));
        looks.begin(false, at(0)).unwrap();
        looks.on_success(at(0));
        assert_eq!(looks.begin(true, at(2)), None, "its turn is not soon");
        assert!(looks.begin(true, at(3)).is_some());
        looks.on_failure("no answer".to_owned(), at(3));
        assert_eq!(looks.begin(true, at(3)), None, "it is not hurried");
    }

    #[test]
    fn every_half_minute_nothing_is_trusted() {
        let mut looks = Looks::new(at(0));
        let mut all = 0;
        for second in 0..=120 {
            if let Some(invalidated) = looks.begin(false, at(second)) {
                all += u32::from(invalidated.everything);
                looks.on_success(at(second));
            }
        }
        assert_eq!(all, 4);
    }

    #[test]
    fn what_was_seen_and_is_in_question_is_asked_afresh_at_once_and_then_with_pauses() {
        let mut looks = Looks::new(at(0));
        looks.begin(false, at(0)).unwrap();
        looks.on_success(at(0));
        looks.want_again(at(3));
        assert!(looks.begin(false, at(3)).unwrap().everything);
        looks.want_again(at(3));
        looks.on_success(at(3));
        assert_eq!(looks.begin(false, at(3)), None, "one was under way");
        looks.want_again(at(3));
        assert_eq!(looks.begin(false, at(3)), None, "the last one just ended");
        assert_eq!(looks.due_at(at(3)), at(3).after(LOOK_AGAIN));
        assert!(looks.begin(false, at(4)).unwrap().everything);
    }
}
