//! What carrying out an action on a Tentacle needs besides its container.

use super::execute::ActionContext;
use super::execute::Failed;
use crate::daemon::tasks::node_tasks;
use crate::reconcile::action::Registered;
use crate::reconcile::action::TroubleKind;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::UnitId;

impl ActionContext {
    /// What a Tentacle's container is made of is made with it: its image and the volume with its
    /// identity. Nothing else waits for either.
    pub(super) async fn provide_for_tentacle(
        &self,
        spec: &StackSpec,
        wanted: &ContainerSpec,
    ) -> Result<(), Failed> {
        if self.engine.image_id(&wanted.image).await?.is_none() {
            self.pull(spec, &wanted.image).await?;
        }
        for name in wanted.mounts.values().filter_map(Storage::ours) {
            match self.engine.is_our_volume(&spec.project, name).await? {
                Some(true) => {}
                None => self.engine.create_volume(spec, name).await?,
                Some(false) => {
                    let words = format!("volume {name} exists and is not ours");
                    return Err(Failed::known(TroubleKind::NotOurs, words));
                }
            }
        }
        Ok(())
    }

    /// First the registration: while that stands the volume says who it was. Either that is gone
    /// already is done.
    pub(super) async fn retire(
        &self,
        spec: &StackSpec,
        unit: UnitId,
        from: Option<&Registered>,
        volume: Option<&str>,
    ) -> Result<(), Failed> {
        if let (Some(from), UnitId::Tentacle(name)) = (from, unit) {
            let deleted = node_tasks::deregister(spec, name, from).await;
            deleted.map_err(|words| Failed::known(TroubleKind::Registration, words))?;
        }
        match volume {
            Some(volume) => Ok(self.engine.remove_volume(volume).await?),
            None => Ok(()),
        }
    }
}
