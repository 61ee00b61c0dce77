//! Actions on their way out: what each one is given, and stops that wait for the disk.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::Core;
use crate::daemon::message::ActionInput;
use crate::daemon::message::Effect;
use crate::daemon::store::Data;
use crate::engine::logs::Span;
use crate::reconcile::Action;
use crate::reconcile::action::Verb;
use crate::reconcile::observed::Instance;
use crate::spec::UnitId;

impl Core {
    /// Keeps a volume as long as its data is read or written as a whole, and each stop back until the
    /// disk has that it is we who end this run: another daemon may be the one that sees its end, and
    /// must not take it for a failure. A disk that does not take it keeps nobody waiting, and nor does
    /// anything once a person is in a hurry.
    pub(super) fn keep_back_stops(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let waits = self.keeping.is_well() && !self.state.desired.hurry;
        let on_disk = self.keeping.on_disk();
        let kept = on_disk.map(|stored| &stored.durable.ended_by_us);
        let mut stops_to_come = BTreeMap::new();
        let is_data_worked_on = self.is_data_worked_on();
        let may_begin = |action: &Action| match action {
            Action::RemoveVolume(_) => !is_data_worked_on,
            Action::Stop { unit, instance, .. } if !unit.is_tentacle() => {
                let is_kept = kept.is_some_and(|kept| kept.get(unit) == Some(instance));
                if waits && !is_kept {
                    stops_to_come.insert(*unit, instance.clone());
                }
                !waits || is_kept
            }
            _ => true,
        };
        let begin = actions.into_iter().filter(may_begin).collect();
        self.learned.stops_to_come = stops_to_come;
        begin
    }

    pub(super) fn begin_action(&mut self, action: Action) {
        let now = self.now.mono;
        let input = self.input_of(&action);
        self.state.begin(&action, now);
        // Of a stop that tells already, with its reason.
        if action.verb() != Verb::Stop {
            self.log(&action.subject().to_string(), &action.verb().to_string());
        }
        if let Action::Start(unit, _) = &action {
            let [_, last] = self
                .learned
                .asked_to_start
                .get(unit)
                .copied()
                .unwrap_or_default();
            self.learned
                .asked_to_start
                .insert(*unit, [last, Some(self.now.wall)]);
        }
        self.out.push(Effect::Act(action, Box::new(input)));
    }

    fn input_of(&self, action: &Action) -> ActionInput {
        let asked = match action {
            Action::Examine(unit, instance) => self.span_of(*unit, instance),
            _ => Span::default(),
        };
        let kept = self.keeping.stored();
        let configured = self
            .state
            .desired
            .spec
            .as_ref()
            .filter(|spec| spec.sql.is_some());
        let configured = configured.map(|spec| spec.database.password.clone());
        ActionInput {
            spec: self.state.desired.spec.clone(),
            sa_passwords: kept.sa.all().cloned().chain(configured).collect(),
            network: self.state.seen.network().map(str::to_owned),
            moved: self.state.moved_images(),
            had_data: kept
                .spec
                .as_ref()
                .is_some_and(|spec| kept.had_data(&Data::of(spec))),
            asked,
        }
    }

    /// When a run had the word: from the request that made it to the next one.
    fn span_of(&self, unit: UnitId, instance: &Instance) -> Span {
        let asked = self
            .learned
            .asked_to_start
            .get(&unit)
            .copied()
            .unwrap_or_default();
        let is_earlier = |at: &OffsetDateTime| instance.began().is_none_or(|began| *at <= began);
        let mut times = asked.iter().flatten().copied();
        Span {
            since: times.clone().rfind(is_earlier),
            until: times.find(|at| !is_earlier(at)),
        }
    }
}
