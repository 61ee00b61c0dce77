//! What can be asked of the driver. A wish changes what is desired at once; a configuration is
//! first considered: facts are gathered, then it is admitted or refused.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admit;
use super::admit::Facts;
use super::admit::MasterKey;
use super::driver::Driver;
use super::driver::Leave;
use super::event::About;
use super::event::Accepted;
use super::event::Denied;
use super::event::Event;
use super::event::Request;
use super::event::UpRequest;
use super::facts::ASK_AGAIN;
use super::facts::ENGINE_PATIENCE;
use super::facts::Found;
use super::facts::Question;
use super::facts::SILENCE_PATIENCE;
use super::guard::guarded;
use super::store::Stored;
use super::store::Wish;
use crate::config::Pull;
use crate::config::Secret;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::reconcile::preview;
use crate::reconcile::preview::Change;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::BuildInput;
use crate::spec::build::build;

/// What a configuration is considered for, and whom to answer.
#[derive(Debug)]
pub enum Purpose {
    /// To be applied.
    Apply(oneshot::Sender<Result<Accepted, Denied>>),
    /// To say what applying it would do.
    Preview(oneshot::Sender<Result<Vec<Change>, Denied>>),
}

/// A configuration under consideration.
#[derive(Debug)]
pub(super) struct Considered {
    request: UpRequest,
    purpose: Purpose,
    asked_at: Instant,
}

/// The facts about a configuration.
#[derive(Debug)]
pub struct Gathered {
    request: UpRequest,
    purpose: Purpose,
    found: Result<Found, Denied>,
}

impl Driver {
    pub(super) fn requested(&mut self, request: Request) {
        match request {
            Request::Up(request, reply) => {
                self.consider(*request, Purpose::Apply(reply), Instant::now());
            }
            Request::Plan(request, reply) => {
                self.consider(*request, Purpose::Preview(reply), Instant::now());
            }
            Request::Down {
                volumes,
                timeout_s,
                endpoint,
                reply,
            } => {
                let taken = self
                    .must_be_here(endpoint.as_ref())
                    .and_then(|()| self.down(volumes, timeout_s));
                let _ = reply.send(taken);
            }
            Request::Units(about, units, endpoint, reply) => {
                let taken = self
                    .must_be_here(endpoint.as_ref())
                    .and_then(|()| match about {
                        About::Restart => self.restart(&units),
                        About::Stop => self.stop_units(&units),
                        About::Start => self.start_units(&units),
                    });
                let _ = reply.send(taken);
            }
            Request::Cancel(session, reply) => {
                let alone = self.sessions.iter().all(|other| *other == session);
                if alone && self.state.desired.goal == Goal::Up {
                    self.journal
                        .write("", "interrupted: nothing further is started");
                    self.state.desired.goal = Goal::Hold;
                }
                let _ = reply.send(alone);
            }
            Request::Stored(reply) => {
                let _ = reply.send(self.stored.clone());
            }
            Request::Handover(reply) => {
                self.journal.write("", "a newer daemon takes over");
                self.leaving = Some(Leave::End);
                let _ = reply.send(());
            }
        }
    }

    /// A refused configuration changes nothing: what was applied goes on, and where nothing was,
    /// nobody is needed.
    fn go_on_as_before(&mut self) {
        let before = self.stored.goal(&self.endpoint);
        if self.state.desired.goal == Goal::Hold && before == Goal::Up && !self.is_terminating() {
            self.state.desired.goal = Goal::Up;
        }
        let nobody_asks = self.considering == 0 && self.waiting.is_empty();
        let is_elsewhere = self.stored.elsewhere(&self.endpoint).is_some();
        let has_nothing = is_elsewhere || self.state.desired.spec.is_none();
        if has_nothing
            && self.state.seen.containers.is_empty()
            && nobody_asks
            && self.ends_when_down
        {
            self.leaving = Some(Leave::End);
        }
    }

    /// Begins to find out whether a configuration may be applied, or what it would do.
    fn consider(&mut self, request: UpRequest, purpose: Purpose, asked_at: Instant) {
        if let Purpose::Apply(_) = &purpose
            && let Some(denied) = self.deny_any_up()
        {
            return self.answer(purpose, Err(denied));
        }
        if let Some(asked) = request
            .endpoint
            .as_ref()
            .filter(|asked| !asked.is_same(&self.endpoint))
        {
            let problem = admit::another_engine(&self.endpoint.0, &asked.0);
            return self.answer(purpose, Err(Denied::Problems(vec![problem])));
        }
        if let Some(spec) = self.unchanged(&request) {
            let seen = self.state.seen.clone();
            return self.conclude(&request, purpose, spec, Vec::new(), &seen);
        }
        let Some(engine) = self.engine.clone() else {
            return self.wait_for_the_engine(Considered {
                request,
                purpose,
                asked_at,
            });
        };
        let question = self.question(engine, &request);
        self.considering += 1;
        let events = self.events.clone();
        tokio::spawn(async move {
            let found = guarded(async move { question.insist().await }).await;
            let found = found.unwrap_or_else(|words| Err(Denied::Because(words)));
            let _ = events
                .send(Event::Gathered(Box::new(Gathered {
                    request,
                    purpose,
                    found,
                })))
                .await;
        });
    }

    /// A look that failed is repeated soon while somebody waits for it, and only then told as the
    /// answer. One that goes on and on is an answer too.
    fn wait_for_the_engine(&mut self, considered: Considered) {
        let waited = considered.asked_at.elapsed();
        let silent = || (waited >= SILENCE_PATIENCE).then(|| silence(&self.endpoint));
        let failed = self
            .engine_problem
            .clone()
            .filter(|_| waited >= ENGINE_PATIENCE);
        if let Some(problem) = failed.or_else(silent) {
            return self.answer(considered.purpose, Err(Denied::Engine(problem)));
        }
        if self.engine_problem.is_some() {
            self.relist_at = self.relist_at.min(Instant::now() + ASK_AGAIN);
        }
        self.waiting.push(considered);
    }

    /// How long the loop may wait for something else before a request is answered, whatever a look
    /// does.
    pub(super) fn patience_of_requests(&self) -> Option<Duration> {
        self.waiting
            .iter()
            .map(|waiting| SILENCE_PATIENCE.saturating_sub(waiting.asked_at.elapsed()))
            .min()
    }

    /// Requests that came while nothing was known of the engine are considered after each look.
    pub(super) fn consider_what_waits(&mut self) {
        for Considered {
            request,
            purpose,
            asked_at,
        } in std::mem::take(&mut self.waiting)
        {
            self.consider(request, purpose, asked_at);
        }
    }

    fn deny_any_up(&self) -> Option<Denied> {
        if self.is_terminating() {
            return Some(Denied::Because(
                "the daemon is ending; try again when it has".to_owned(),
            ));
        }
        (!self.may_write).then(|| Denied::Because(self.notes.first().cloned().unwrap_or_default()))
    }

    fn question(&self, engine: Engine, request: &UpRequest) -> Question {
        Question {
            engine,
            project: self.project.clone(),
            spec: self.spec_for(request, &Secret::default()),
            elsewhere: self
                .stored
                .elsewhere(&self.endpoint)
                .map(|there| (there.0.clone(), self.endpoint.0.clone())),
            working_dir: request.working_dir.clone(),
            name_on_purpose: request.name_on_purpose,
            seen: self.state.seen.clone(),
            sql_is_ready: self
                .state
                .records
                .get(UnitId::Sql)
                .is_some_and(|record| record.health().ready),
            key_is_known: request.config.octopus.master_key.is_some()
                || self.stored.master_key.is_some(),
        }
    }

    /// The facts are there: the configuration is admitted or refused.
    pub(super) fn gathered(&mut self, gathered: Gathered) {
        let Gathered {
            request,
            purpose,
            found,
        } = gathered;
        self.considering -= 1;
        // Whoever asked left meanwhile: Ctrl-C before there was an answer.
        if matches!(&purpose, Purpose::Apply(reply) if reply.is_closed()) {
            return self.go_on_as_before();
        }
        if let (Purpose::Apply(_), Some(denied)) = (&purpose, self.deny_any_up()) {
            return self.answer(purpose, Err(denied));
        }
        let before = self.stored.clone();
        let mut decided =
            found.and_then(|found| Ok((self.decide(&request, &found.facts)?, found.images)));
        if matches!(purpose, Purpose::Apply(_))
            && decided.is_ok()
            && self.stored.master_key != before.master_key
        {
            decided = self.keep_the_key().and(decided);
        }
        if matches!(purpose, Purpose::Preview(_)) || decided.is_err() {
            self.stored = before;
        }
        match decided {
            Ok(((spec, notes), images)) => {
                let seen = Observed {
                    images,
                    ..self.state.seen.clone()
                };
                self.conclude(&request, purpose, spec, notes, &seen);
            }
            Err(denied) => self.answer(purpose, Err(denied)),
        }
    }

    /// No node may start with a key that only its container would know.
    fn keep_the_key(&mut self) -> Result<(), Denied> {
        let path = self.paths.store();
        self.keeper.save(&self.stored).map_err(|error| {
            Denied::Because(format!(
                "the master key cannot be kept in {}, so nothing is started: {error}",
                path.display()
            ))
        })
    }

    fn conclude(
        &mut self,
        request: &UpRequest,
        purpose: Purpose,
        spec: StackSpec,
        notes: Vec<String>,
        seen: &Observed,
    ) {
        let refetch = request.config.pull == Pull::Always;
        let changes = preview::changes(self.stored.spec.as_ref(), &spec, seen, refetch);
        if let Purpose::Preview(_) = purpose {
            return self.answer(
                purpose,
                Ok(Accepted {
                    generation: self.generation,
                    notes,
                    changes,
                }),
            );
        }
        if let Err(denied) = self.apply(request, spec) {
            return self.answer(purpose, Err(denied));
        }
        self.generation += 1;
        self.sessions.insert(self.generation);
        self.journal
            .write("", &format!("up: {} changes", changes.len()));
        self.answer(
            purpose,
            Ok(Accepted {
                generation: self.generation,
                notes,
                changes,
            }),
        );
    }

    fn answer(&mut self, purpose: Purpose, answer: Result<Accepted, Denied>) {
        match purpose {
            Purpose::Apply(reply) => {
                if answer.is_err() {
                    self.go_on_as_before();
                }
                let _ = reply.send(answer);
            }
            Purpose::Preview(reply) => {
                let _ = reply.send(answer.map(|accepted| accepted.changes));
            }
        }
    }

    fn apply(&mut self, request: &UpRequest, spec: StackSpec) -> Result<(), Denied> {
        self.keep(Stored {
            wish: Wish::Up,
            endpoint: Some(self.endpoint.clone()),
            stopped: BTreeSet::new(),
            generated: request
                .generated
                .clone()
                .or_else(|| self.stored.generated.clone()),
            config: Some(request.config.clone()),
            spec: Some(spec.clone()),
            ..self.stored.clone()
        })?;
        let images = spec.images();
        self.state.desired.images.clear();
        self.state.desired.refresh = match request.config.pull {
            Pull::Always => images.into_iter().map(str::to_owned).collect(),
            Pull::Missing | Pull::Never => BTreeSet::new(),
        };
        self.state.desired.stopped.clear();
        self.state.records.forgive();
        if self.state.desired.spec.as_ref() != Some(&spec) {
            self.stale.everything = true;
        }
        self.wish();
        self.state.desired.goal = Goal::Up;
        self.state.desired.spec = Some(spec);
        Ok(())
    }

    /// The desired state that a configuration means here, or why it cannot be applied. Keeps a
    /// newly made master key.
    fn decide(
        &mut self,
        request: &UpRequest,
        facts: &Facts,
    ) -> Result<(StackSpec, Vec<String>), Denied> {
        let key = admit::admit(&request.config, &self.stored, facts).map_err(Denied::Problems)?;
        let (key, ours) = match key {
            MasterKey::Known(key) => {
                let ours =
                    self.stored.master_key_is_ours && self.stored.master_key.as_ref() == Some(&key);
                (key, ours)
            }
            MasterKey::Generate => (generate_key(), true),
        };
        let mut notes = Vec::new();
        if ours && self.stored.master_key.as_ref() != Some(&key) {
            notes.push(format!(
                "a master key was made for this new database, and is kept in {}; back it up: without it, backups of the \
                 database are useless",
                self.paths.store().display()
            ));
        }
        if facts.has_data
            || request.config.sql.is_none()
            || self.stored.master_key.is_none()
            || ours
        {
            self.stored.master_key = Some(key.clone());
            self.stored.master_key_is_ours = ours;
        }
        Ok((self.spec_for(request, &key), notes))
    }

    /// The applied desired state, when the same configuration is applied again to a stack that is
    /// up, as far as that was seen.
    fn unchanged(&self, request: &UpRequest) -> Option<StackSpec> {
        let spec = self.state.desired.spec.clone()?;
        let same = self.stored.config.as_ref() == Some(&request.config)
            && self.state.desired.goal == Goal::Up
            && self.state.seen != Observed::default()
            && (spec.working_dir == request.working_dir || request.name_on_purpose)
            && request.config.pull != Pull::Always;
        same.then_some(spec)
    }

    fn spec_for(&self, request: &UpRequest, key: &Secret) -> StackSpec {
        build(
            &request.config,
            &BuildInput {
                project: &self.project,
                working_dir: &request.working_dir,
                master_key: key,
                may_be_privileged: !(request.config.demo && self.stored.unprivileged),
            },
        )
    }
}

fn silence(endpoint: &Endpoint) -> String {
    format!(
        "{endpoint} takes connections and says nothing for {} s",
        SILENCE_PATIENCE.as_secs()
    )
}

/// 128 random bits in base64, the form that the vendor documents.
fn generate_key() -> Secret {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    Secret::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::Input;
    use crate::config::read::read;
    use crate::daemon::driver::tests::idle;

    fn abandoned() -> Gathered {
        let vars = ["SA_PASSWORD", "ADMIN_PASSWORD"]
            .map(|key| (key.to_owned(), "Str0ng-enough".to_owned()));
        let eulas =
            ["ACCEPT_EULA", "ACCEPT_OCTOPUS_EULA"].map(|key| (key.to_owned(), "Y".to_owned()));
        let vars = vars.into_iter().chain(eulas).collect();
        let request = UpRequest {
            config: read(&Input {
                vars,
                ..Input::default()
            })
            .unwrap()
            .config,
            working_dir: String::new(),
            name_on_purpose: false,
            generated: None,
            endpoint: None,
        };
        let (reply, _) = oneshot::channel();
        Gathered {
            request,
            purpose: Purpose::Apply(reply),
            found: Err(Denied::Because("nobody waits".to_owned())),
        }
    }

    #[tokio::test]
    async fn a_daemon_that_nobody_needs_ends_and_not_while_somebody_else_asks() {
        let dir = tempfile::tempdir().unwrap();
        let mut driver = idle(dir.path());
        driver.considering = 2;
        driver.gathered(abandoned());
        assert_eq!(driver.leaving, None);
        driver.gathered(abandoned());
        assert_eq!(driver.leaving, Some(Leave::End));
    }
}
