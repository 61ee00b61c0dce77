//! The driver's eyes: one look at Docker, and the engine's events that say when to look again.

use super::driver::Driver;
use super::effects::took_effect;
use super::event::Event;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::reconcile::Observed;
use crate::spec::StackSpec;

impl Driver {
    /// One look at Docker. A failure is part of the status, and is tried again.
    pub(super) async fn look(&mut self) {
        match self.observe().await {
            Ok(seen) => {
                self.engine_problem = None;
                self.seen = seen;
                let now = self.now();
                self.tracks.absorb(&self.seen, now);
                self.settle_doubts();
                self.desired.restart.retain(|unit, instance| {
                    let container = self.seen.container(*unit);
                    container.and_then(crate::reconcile::observed::Container::instance).as_ref() == Some(instance)
                });
                self.watch();
            }
            Err(error) => {
                if self.engine_problem.is_none() {
                    self.journal.write("", &format!("the engine does not answer: {error}"));
                    tracing::warn!(%error, "the engine does not answer");
                }
                self.engine_problem = Some(error.to_string());
                self.memory.forget();
                self.engine = None;
            }
        }
    }

    pub(super) async fn observe(&mut self) -> Result<Observed, EngineError> {
        if self.engine.is_none() {
            self.engine = Some(Engine::connect(self.endpoint.clone()).await?);
        }
        let Some(engine) = &self.engine else { return Ok(Observed::default()) };
        let images = self.desired.spec.as_ref().map(StackSpec::images).unwrap_or_default();
        engine.observe(&self.project, &images, &mut self.memory).await
    }

    /// Follows the engine's events, if nobody does.
    pub(super) fn watch(&mut self) {
        use futures_util::StreamExt as _;
        let followed = self.watcher.as_ref().is_some_and(|watcher| !watcher.is_finished());
        let Some(engine) = self.engine.clone().filter(|_| !followed) else { return };
        let (project, events) = (self.project.clone(), self.events.clone());
        self.watcher = Some(tokio::spawn(async move {
            let mut hints = Box::pin(engine.hints(&project));
            // The first look may have come before the stream was open, so everything is looked at again.
            let _ = events.send(Event::StreamOpened).await;
            let mut why = "it was closed".to_owned();
            while let Some(hint) = hints.next().await {
                match hint {
                    Ok(hint) => {
                        let _ = events.send(Event::Hinted(hint)).await;
                    }
                    Err(error) => {
                        why = error.to_string();
                        break;
                    }
                }
            }
            let _ = events.send(Event::StreamClosed(why)).await;
        }));
    }

    /// Failed calls that took effect are no failures; the others are.
    pub(super) fn settle_doubts(&mut self) {
        for (action, error) in std::mem::take(&mut self.doubtful) {
            if !took_effect(&action, &self.seen) {
                self.failed(&action, &error);
            }
        }
    }

    pub(super) fn forget(&mut self) {
        self.memory.forget();
    }
}
