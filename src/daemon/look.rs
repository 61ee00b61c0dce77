//! The driver's eyes: looks at Docker, one at a time and as a task, so that a slow engine holds up
//! nothing else; and the engine's events, which say when to look again.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::Driver;
use super::event::Event;
use super::event::Looked;
use super::guard::guarded;
use crate::config::project::ProjectName;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::spec::StackSpec;

/// How often Docker is looked at even if the engine said nothing: events may be lost.
pub(super) const RELIST_EVERY: Duration = Duration::from_secs(5);
/// How often such a look trusts nothing that is remembered: it costs a call for each container.
const RECHECK_EVERY: Duration = Duration::from_secs(30);
/// How long to wait before an engine that does not answer is tried again.
pub(super) const ENGINE_RETRY: Duration = Duration::from_secs(1);
/// How long after an opening of the engine's events the next one may follow.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// How long one look may take. The engine's own list of containers takes milliseconds.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// What the next look must not trust its cache about.
#[derive(Debug, Default)]
pub(super) struct Stale {
    pub(super) everything: bool,
    pub(super) containers: Vec<String>,
    pub(super) infrastructure: bool,
    pub(super) images: bool,
}

impl Stale {
    fn apply(self, cache: &mut ObservationCache) {
        if self.everything {
            return cache.forget();
        }
        self.containers
            .iter()
            .for_each(|id| cache.forget_container(id));
        if self.infrastructure {
            cache.forget_infrastructure();
        }
        if self.images {
            cache.forget_images();
        }
    }
}

impl Driver {
    /// Begins a look if one is wanted and none is under way.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        if now >= self.relist_at {
            self.look_wanted = true;
            if self.unsaved {
                self.save_later();
            }
            if now >= self.recheck_at {
                self.stale.everything = true;
                self.recheck_at = now + RECHECK_EVERY;
            }
        }
        if !self.look_wanted || self.looking {
            return;
        }
        (self.look_wanted, self.looking) = (false, true);
        self.relist_at = now + RELIST_EVERY;
        self.unsure.begin();
        self.state.look_begins();
        let mut cache = std::mem::take(&mut self.cache);
        std::mem::take(&mut self.stale).apply(&mut cache);
        let (engine, endpoint, project) = (
            self.engine.clone(),
            self.endpoint.clone(),
            self.project.clone(),
        );
        let images = self
            .state
            .desired
            .spec
            .as_ref()
            .map(StackSpec::images)
            .unwrap_or_default();
        let images: Vec<String> = images.into_iter().map(str::to_owned).collect();
        let events = self.events.clone();
        tokio::spawn(async move {
            let work =
                guarded(async move { look(engine, endpoint, &project, &images, cache).await });
            let looked = match work.await {
                Ok(looked) => looked,
                Err(words) => {
                    let _ = events.send(Event::Panicked(words.clone())).await;
                    Looked {
                        seen: Err(words),
                        cache: ObservationCache::default(),
                    }
                }
            };
            let _ = events.send(Event::Looked(Box::new(looked))).await;
        });
    }

    /// Takes in what a look showed. A failure is part of the status, and is tried again.
    pub(super) fn looked(&mut self, looked: Looked) {
        self.looking = false;
        self.cache = looked.cache;
        self.beats.engine();
        match looked.seen {
            Ok((engine, seen)) => {
                if self.engine_problem.take().is_some() {
                    self.journal.write("", "the engine answers again");
                }
                self.engine = Some(engine);
                let now = self.now();
                self.state.looked(seen, now);
                self.try_what_was_read();
                self.unsure.end();
                self.watch();
            }
            Err(problem) => {
                if self.engine_problem.is_none() {
                    self.journal
                        .write("", &format!("the engine does not answer: {problem}"));
                    tracing::warn!(problem, "the engine does not answer");
                }
                self.engine_problem = Some(problem);
                self.engine = None;
                self.state.look_failed();
                self.unsure.fail();
                self.stale.everything = true;
                self.relist_at = Instant::now() + ENGINE_RETRY;
            }
        }
    }

    /// What was read from an older or a newer file is not applied to containers that were made from
    /// something else.
    fn try_what_was_read(&mut self) {
        if !std::mem::take(&mut self.on_trial) {
            return;
        }
        if self.state.fits_what_runs() {
            return self.save();
        }
        self.state.desired.goal = Goal::Hold;
        let note = "what runs was made from another configuration: it is left as it is until `octo-local up`";
        self.notes.push(note.to_owned());
    }

    /// Follows the engine's events, if nobody does.
    fn watch(&mut self) {
        use futures_util::StreamExt as _;
        let followed = self
            .watcher
            .as_ref()
            .is_some_and(|watcher| !watcher.is_finished());
        let Some(engine) = self.engine.clone().filter(|_| !followed) else {
            return;
        };
        let (project, events) = (self.project.clone(), self.events.clone());
        self.watcher = Some(tokio::spawn(async move {
            let opened_at = Instant::now();
            let mut hints = Box::pin(engine.hints(&project));
            // The first look may have come before the stream was open, so everything is looked at
            // again.
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
            // An engine that closes each stream at once is no reason to look at everything again
            // and again.
            tokio::time::sleep_until(opened_at + REOPEN_AFTER).await;
            let _ = events.send(Event::StreamClosed(why)).await;
        }));
    }
}

async fn look(
    engine: Option<Engine>,
    endpoint: Endpoint,
    project: &ProjectName,
    images: &[String],
    mut cache: ObservationCache,
) -> Looked {
    let looking = async {
        let engine = match engine {
            Some(engine) => engine,
            None => Engine::connect(endpoint).await?,
        };
        let seen = engine.observe(project, images, &mut cache).await?;
        Ok::<(Engine, Observed), EngineError>((engine, seen))
    };
    let seen = match tokio::time::timeout(LOOK_LIMIT, looking).await {
        Ok(seen) => seen.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK_LIMIT.as_secs())),
    };
    Looked { seen, cache }
}

/// Whether the status is older than a wish: it must not be called ready before a look that began
/// after the wish.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    wished: bool,
    covered: bool,
}

impl Unsure {
    /// A wish came.
    pub(super) fn wish(&mut self) {
        (self.wished, self.covered) = (true, false);
    }

    fn begin(&mut self) {
        self.covered = self.wished;
    }

    fn end(&mut self) {
        if self.covered {
            *self = Self::default();
        }
    }

    fn fail(&mut self) {
        self.covered = false;
    }

    /// Whether it is.
    pub(super) fn is(&self) -> bool {
        self.wished
    }
}
