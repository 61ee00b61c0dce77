//! What can be asked of the driver: each request gathers facts, is admitted or refused, and changes what is desired.

use std::net::IpAddr;

use base64::Engine as _;

use super::admit;
use super::admit::Facts;
use super::admit::MasterKey;
use super::driver::Driver;
use super::event::Accepted;
use super::event::Denied;
use super::event::Request;
use super::event::UpRequest;
use super::ports;
use crate::config::Secret;
use crate::engine::Engine;
use crate::reconcile::Goal;
use crate::reconcile::plan::restart_wish;
use crate::reconcile::preview;
use crate::reconcile::preview::Change;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::Surroundings;
use crate::spec::build::build;
use crate::sql;

/// How long a question to a database may take when a request waits for it.
const DATABASE_LIMIT: std::time::Duration = std::time::Duration::from_secs(3);

impl Driver {
    pub(super) async fn requested(&mut self, request: Request) {
        match request {
            Request::Up(request, reply) => {
                let answer = self.up(*request).await;
                if answer.is_err() {
                    self.go_on_as_before();
                }
                let _ = reply.send(answer);
            }
            Request::Plan(request, reply) => {
                let answer = self.preview(&request).await;
                let _ = reply.send(answer);
            }
            Request::Down { volumes, timeout_s, reply } => {
                let _ = reply.send(Ok(self.down(volumes, timeout_s)));
            }
            Request::Restart(units, reply) => {
                let _ = reply.send(self.restart(&units));
            }
            Request::Stop(units, reply) => {
                let _ = reply.send(self.stop_units(&units));
            }
            Request::Start(units, reply) => {
                let _ = reply.send(self.start_units(&units));
            }
            Request::Cancel(reply) => {
                let alone = self.sessions <= 1;
                if alone && self.desired.goal == Goal::Up {
                    self.journal.write("", "interrupted: nothing further is started");
                    self.desired.goal = Goal::Hold;
                }
                let _ = reply.send(alone);
            }
            Request::Handover(reply) => {
                self.journal.write("", "a newer daemon takes over");
                self.leaving = true;
                let _ = reply.send(());
            }
        }
    }

    /// A refused configuration changes nothing: what was applied goes on, and where nothing was, nobody is needed.
    fn go_on_as_before(&mut self) {
        if self.desired.goal == Goal::Hold && self.stored.up && !self.terminating {
            self.desired.goal = Goal::Up;
        }
        if self.desired.spec.is_none() && self.seen.containers.is_empty() && self.ends_when_down {
            self.leaving = true;
        }
    }

    async fn up(&mut self, request: UpRequest) -> Result<Accepted, Denied> {
        if self.terminating {
            return Err(Denied::Because("the daemon is ending; try again when it has".to_owned()));
        }
        if !self.may_write {
            return Err(Denied::Because(self.notes.first().cloned().unwrap_or_default()));
        }
        let (spec, mut notes) = self.decide(&request).await?;
        let changes = preview::changes(self.stored.spec.as_ref(), &spec, &self.seen);
        let same = self.desired.spec.as_ref() == Some(&spec);
        self.generation += 1;
        self.sessions += 1;
        self.apply(&request, spec, same);
        if self.stored.master_key_is_ours {
            notes.push(format!(
                "the master key is kept in {}; back it up: without it, backups of the database are useless",
                self.paths.store().display()
            ));
        }
        self.journal.write("", &format!("up: {} changes", changes.len()));
        Ok(Accepted { generation: self.generation, notes, changes })
    }

    fn apply(&mut self, request: &UpRequest, spec: StackSpec, same: bool) {
        let before = self.stored.clone();
        self.desired.goal = Goal::Up;
        self.desired.stopped.clear();
        self.tracks.forgive();
        if request.config.pull == crate::config::Pull::Always {
            self.forget();
        }
        if !same {
            self.forget();
        }
        self.stored.up = true;
        self.stored.stopped.clear();
        self.stored.generated = request.generated.clone().or_else(|| self.stored.generated.take());
        self.stored.config = Some(request.config.clone());
        self.stored.spec = Some(spec.clone());
        self.desired.spec = Some(spec);
        if self.stored != before {
            self.save();
        }
    }

    /// The desired state that a configuration means here, or why it cannot be applied. Keeps a newly made master key.
    async fn decide(&mut self, request: &UpRequest) -> Result<(StackSpec, Vec<String>), Denied> {
        if let Some(spec) = self.unchanged(request) {
            return Ok((spec, Vec::new()));
        }
        let facts = self.facts(request).await?;
        let key = admit::admit(&request.config, &self.stored, &facts).map_err(Denied::Problems)?;
        let (key, ours) = match key {
            MasterKey::Known(key) => {
                let ours = self.stored.master_key_is_ours && self.stored.master_key.as_ref() == Some(&key);
                (key, ours)
            }
            MasterKey::Generate => (generate_key(), true),
        };
        let mut notes = Vec::new();
        if ours && self.stored.master_key.as_ref() != Some(&key) {
            notes.push("a master key was made for this new database".to_owned());
        }
        if facts.has_data || request.config.sql.is_none() || self.stored.master_key.is_none() || ours {
            self.stored.master_key = Some(key.clone());
            self.stored.master_key_is_ours = ours;
        }
        Ok((self.spec_for(request, &key), notes))
    }

    /// The applied desired state, when the same configuration is applied again to a stack that is up.
    fn unchanged(&self, request: &UpRequest) -> Option<StackSpec> {
        let spec = self.desired.spec.clone()?;
        let same = self.stored.config.as_ref() == Some(&request.config)
            && self.desired.goal == Goal::Up
            && (spec.working_dir == request.working_dir || request.name_on_purpose)
            && request.config.pull != crate::config::Pull::Always;
        same.then_some(spec)
    }

    fn spec_for(&self, request: &UpRequest, key: &Secret) -> StackSpec {
        build(
            &request.config,
            &Surroundings {
                project: &self.project,
                working_dir: &request.working_dir,
                master_key: key,
                may_be_privileged: !(request.config.demo && self.stored.unprivileged),
            },
        )
    }

    async fn preview(&mut self, request: &UpRequest) -> Result<Vec<Change>, Denied> {
        let kept = self.stored.clone();
        let decided = self.decide(request).await;
        self.stored = kept;
        let (spec, _) = decided?;
        let images = spec.images();
        let mut seen = self.seen.clone();
        let engine = self.engine()?;
        for image in images {
            if let Ok(Some(id)) = engine.image_id(image).await {
                seen.images.insert(image.to_owned(), id);
            }
        }
        Ok(preview::changes(self.stored.spec.as_ref(), &spec, &seen))
    }

    fn engine(&self) -> Result<&Engine, Denied> {
        let silent =
            || Denied::Engine(self.engine_problem.clone().unwrap_or_else(|| "it was not reached yet".to_owned()));
        self.engine.as_ref().ok_or_else(silent)
    }

    async fn facts(&self, request: &UpRequest) -> Result<Facts, Denied> {
        let engine = self.engine()?;
        let denied = |error: crate::engine::EngineError| Denied::Engine(error.to_string());
        let config = &request.config;
        let key = Secret::default();
        let spec = self.spec_for(request, &key);
        let data = spec.volumes.get(crate::spec::build::SQL_DATA).filter(|_| spec.sql.is_some());
        let mut facts = Facts::default();
        if let Some(volume) = data {
            facts.has_data = engine.has_volume(volume).await.map_err(denied)?;
            if facts.has_data {
                facts.volume_users = engine.foreign_users(&self.project, volume).await.map_err(denied)?;
            }
        } else if config.octopus.master_key.is_none() && self.stored.master_key.is_none() {
            facts.external_database = sql::has_database(&spec.database, DATABASE_LIMIT).await.ok();
        }
        let origin = engine.origin(&self.project).await.map_err(denied)?;
        facts.is_demo = origin.as_ref().map(|origin| origin.demo);
        if facts.is_demo.is_none() {
            facts.is_demo = engine.volumes_are_demo(&self.project).await.map_err(denied)?;
        }
        let elsewhere = origin.filter(|origin| origin.working_dir != request.working_dir && !request.name_on_purpose);
        facts.other_dir = elsewhere.map(|origin| origin.working_dir);
        facts.password_accepted = self.password_accepted(&spec).await;
        facts.running_master_key = self.running_master_key(engine).await;
        let names: Vec<&str> = spec.containers().map(|container| container.name.as_str()).collect();
        facts.foreign = engine.foreign_containers(&self.project, &names).await.map_err(denied)?;
        if engine.endpoint.is_local() {
            facts.taken = self.taken_ports(engine, &spec).await.map_err(denied)?;
        }
        if !config.demo {
            facts.host = engine.host().await.ok();
        }
        Ok(facts)
    }

    async fn password_accepted(&self, spec: &StackSpec) -> Option<bool> {
        let running = self.seen.container(UnitId::Sql).filter(|container| container.is_running())?;
        // The new configuration may publish another port; the server that runs is asked where it is.
        let mut target = self.engine.as_ref()?.database_of(&running.id).await?;
        target.password = spec.database.password.clone();
        target.user.clone_from(&spec.database.user);
        match sql::login(&target, "master", DATABASE_LIMIT).await {
            Ok(_) => Some(true),
            Err(sql::SqlError::Server { code: sql::LOGIN_FAILED, .. }) => {
                let ready = self.tracks.get(UnitId::Sql).is_some_and(|track| track.health.ready);
                ready.then_some(false)
            }
            Err(_) => None,
        }
    }

    /// With the state file lost, an existing node still knows the key.
    async fn running_master_key(&self, engine: &Engine) -> Option<Secret> {
        let node = self.seen.containers.iter().find(|container| container.unit != UnitId::Sql)?;
        let key = engine.environment(&node.id).await.ok()?.remove("MASTER_KEY")?;
        (!key.is_empty()).then(|| Secret::new(key))
    }

    /// Ports that something else holds. Those that our own running containers publish are ours.
    async fn taken_ports(
        &self,
        engine: &Engine,
        spec: &StackSpec,
    ) -> Result<Vec<(String, u16, String)>, crate::engine::EngineError> {
        let published = engine.published_ports().await?;
        let ours: Vec<&str> = self.seen.containers.iter().map(|container| container.name.as_str()).collect();
        let mut taken = Vec::new();
        for container in spec.containers() {
            let key = if container.unit == UnitId::Sql { "SQL_PORT" } else { "OCTOPUS_PORT" };
            for port in &container.ports {
                let holder = published.iter().find(|(_, ports)| ports.contains(&port.host));
                let holder = match holder {
                    Some((name, _)) if ours.contains(&name.as_str()) => None,
                    Some((name, _)) => Some(format!("container {name}")),
                    None => bound_elsewhere(port.host_ip, port.host),
                };
                taken.extend(holder.map(|holder| (key.to_owned(), port.host, holder)));
            }
        }
        Ok(taken)
    }

    fn down(&mut self, volumes: bool, timeout_s: Option<u64>) -> u64 {
        self.journal.write("", if volumes { "down, with the data" } else { "down" });
        self.desired.goal = Goal::Down { volumes };
        self.finished = false;
        self.tracks.blocked.clear();
        if let (Some(spec), Some(seconds)) = (&mut self.desired.spec, timeout_s) {
            spec.timing.node_stop_grace_ms = seconds.saturating_mul(1_000);
        }
        self.forget();
        self.generation += 1;
        self.generation
    }

    fn known(&self, units: &[UnitId]) -> Result<Vec<UnitId>, Denied> {
        let Some(spec) = &self.desired.spec else {
            return Err(Denied::Because("nothing was applied yet: `octo-local up` first".to_owned()));
        };
        let ours: Vec<UnitId> = spec.containers().map(|container| container.unit).collect();
        if let Some(unit) = units.iter().find(|unit| !ours.contains(unit)) {
            return Err(Denied::Because(format!("this stack has no {unit}")));
        }
        Ok(if units.is_empty() { ours } else { units.to_vec() })
    }

    fn restart(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        for unit in self.known(units)? {
            if let Some(instance) = restart_wish(&self.seen, unit) {
                self.desired.restart.insert(unit, instance);
            }
        }
        self.journal.write("", "restart was asked for");
        self.desired.goal = Goal::Up;
        self.generation += 1;
        self.tracks.forgive();
        Ok(self.generation)
    }

    fn stop_units(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        for unit in self.known(units)? {
            self.desired.stopped.insert(unit);
        }
        Ok(self.keep_stopped())
    }

    fn start_units(&mut self, units: &[UnitId]) -> Result<u64, Denied> {
        for unit in self.known(units)? {
            self.desired.stopped.remove(&unit);
        }
        self.desired.goal = Goal::Up;
        self.tracks.forgive();
        Ok(self.keep_stopped())
    }

    fn keep_stopped(&mut self) -> u64 {
        self.stored.stopped.clone_from(&self.desired.stopped);
        self.generation += 1;
        self.save();
        self.generation
    }
}

/// 128 random bits in base64, the form that the vendor documents.
fn generate_key() -> Secret {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    Secret::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn bound_elsewhere(ip: IpAddr, port: u16) -> Option<String> {
    match std::net::TcpListener::bind((ip, port)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Some(ports::holder(port)),
        Ok(_) | Err(_) => None,
    }
}
