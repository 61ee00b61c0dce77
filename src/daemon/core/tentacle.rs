//! Whether a Tentacle may be added or removed: everything that can be known before anything is
//! made, and each refusal with what helps.

use super::Core;
use super::wish::Admitted;
use crate::config::Config;
use crate::daemon::message::Denied;
use crate::daemon::message::TentacleStep;
use crate::daemon::store::Wish;
use crate::reconcile::Goal;
use crate::reconcile::preview;
use crate::reconcile::preview::Change;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle;
use crate::spec::tentacle::Registration;
use crate::spec::tentacle::Tentacle;
use crate::spec::tentacle::TentacleName;

impl Core {
    pub(super) fn admit_tentacle(
        &self,
        name: TentacleName,
        step: TentacleStep,
    ) -> Result<Admitted, Denied> {
        if self.shutdown.is_under_way() {
            return because("the daemon is ending; try again when it has");
        }
        if self.keeping.stored().spec.is_none() {
            return because("nothing was applied yet: `octo-local up` first");
        }
        match &step {
            TentacleStep::Add(wish) => self.may_be_added(name, wish)?,
            TentacleStep::Remove(registration) => self.may_be_removed(name, *registration)?,
        }
        Ok(Admitted::Tentacle(name, step))
    }

    fn may_be_added(&self, name: TentacleName, wish: &Tentacle) -> Result<(), Denied> {
        let kept = self.keeping.stored();
        let has_key = kept
            .spec
            .as_ref()
            .is_some_and(|spec| spec.api_key().is_some());
        if !has_key {
            return because(
                "ADMIN_API_KEY is not set, and a Tentacle registers with it: set it in .env, \
                 `octo-local up`, then add the Tentacle",
            );
        }
        if kept.wish != Wish::Up {
            return because("the stack is not up: `octo-local up` first");
        }
        match kept.tentacles.get(&name) {
            Some(known) if known.leaves.is_some() => because(&format!(
                "{name} is still being removed: add it when `octo-local tentacle list` shows it \
                 no more"
            )),
            Some(known) if !known.is_wished_as(wish) => because(&format!(
                "there is a Tentacle {name} already, as a {}: what it is registered as does not \
                 change; `octo-local tentacle remove {name}` first, or choose another name",
                known.purpose
            )),
            Some(_) => Ok(()),
            None if kept.tentacles.len() >= tentacle::MOST => because(&format!(
                "there are {} Tentacles already, which is as many as one stack has",
                tentacle::MOST
            )),
            None => Ok(()),
        }
    }

    fn may_be_removed(&self, name: TentacleName, registration: Registration) -> Result<(), Denied> {
        let kept = self.keeping.stored();
        if !kept.tentacles.contains_key(&name) {
            return because(&format!("this stack has no Tentacle {name}"));
        }
        if self.state.desired.goal != Goal::Up {
            return because("the stack is not up: `octo-local up` first");
        }
        let left = format!(
            "`octo-local tentacle remove {name} --keep-registration` removes it all the same, and \
             leaves {name} to be deleted in Octopus"
        );
        match registration {
            Registration::Kept => Ok(()),
            Registration::Deleted if self.serving_node().is_none() => because(&format!(
                "no node serves, so its registration cannot be deleted; {left}"
            )),
            Registration::Deleted => Ok(()),
        }
    }

    /// What applying a configuration does to Tentacles.
    pub(super) fn changes_of_tentacles(&self, config: &Config, spec: &StackSpec) -> Vec<Change> {
        let kept = self.keeping.stored();
        let before = kept.whole_spec().unwrap_or_default();
        let after = StackSpec {
            tentacles: tentacle::containers(&kept.tentacles, config, spec),
            ..spec.clone()
        };
        preview::changes_of_tentacles(&before, &after, &self.state.seen)
    }

    /// A person asked for something about a Tentacle: how it fared until then is forgiven.
    pub(super) fn take_up_tentacle(&mut self, name: TentacleName, step: &TentacleStep) {
        let unit = UnitId::Tentacle(name);
        self.state.records.forgive_tentacle(unit);
        let what = match step {
            TentacleStep::Add(_) => "somebody added it",
            TentacleStep::Remove(Registration::Deleted) => "somebody removes it",
            TentacleStep::Remove(Registration::Kept) => {
                "somebody removes it; its registration stays"
            }
        };
        self.tell(unit.to_string(), what);
    }
}

fn because<T>(words: &str) -> Result<T, Denied> {
    Err(Denied::Because(words.to_owned()))
}
