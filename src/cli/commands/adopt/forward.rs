//! Carries an adoption out, one step at a time, from wherever the last one died.

use std::time::Duration;

use tokio::time::Instant;

use super::alone;
use super::keep;
use crate::adopt::Record;
use crate::adopt::Stage;
use crate::adopt::steps;
use crate::adopt::steps::Step;
use crate::adopt::steps::World;
use crate::cli::args::UpFlags;
use crate::cli::commands::up;
use crate::cli::context::Context;
use crate::cli::daemon_client::request;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::config::Config;
use crate::config::Secret;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::build::BuildInput;
use crate::spec::build::build;
use crate::spec::labels;
use crate::sql;

/// How long SQL Server gets to take SHUTDOWN.
const SHUTDOWN_REQUEST: Duration = Duration::from_secs(10);
/// How often it is looked for the end of a container.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// More steps than any stack needs: one that changes nothing would be tried for ever.
const STEPS: usize = 1000;

/// What an adoption works with.
struct Work<'a> {
    context: &'a Context,
    engine: &'a Engine,
    config: &'a Config,
    spec: &'a StackSpec,
}

/// Goes on until the stack is octo-local's and serves.
pub(super) async fn go_on(context: Context, mut record: Record) -> Outcome {
    let moving = Box::pin(move_out(&context, &mut record));
    interruptible(super::GOES_ON, moving).await?;
    let up = Box::pin(up::up(&context, &UpFlags::default())).await;
    up.map_err(|mut failure| {
        failure.lines.push(
            "the old stack is stopped and kept: `octo-local adopt` goes on, `octo-local adopt --undo` goes back to it"
                .to_owned(),
        );
        failure
    })?;
    record.stage = Stage::Done;
    keep(&context, &record)?;
    print::tell(format_args!(
        "{} is adopted; its old containers are kept until `octo-local adopt --forget`, `octo-local adopt --undo` goes back to them",
        record.from
    ));
    Ok(())
}

/// The old stack gets out of the way, and its data to where ours is to find it.
async fn move_out(context: &Context, record: &mut Record) -> Outcome {
    let engine = context.engine().await?;
    let _alone = alone(context)?;
    let resolved = request::resolve(context, &request::Wish::default()).await?;
    let working_dir = context.files.directory.display().to_string();
    let spec = build(
        &resolved.config,
        &BuildInput {
            project: &context.project,
            working_dir: &working_dir,
            master_key: &Secret::default(),
            may_be_privileged: true,
        },
    );
    let work = Work {
        context,
        engine: &engine,
        config: &resolved.config,
        spec: &spec,
    };
    for _ in 0..STEPS {
        let world = world(&engine, record).await?;
        let next = steps::next(record, &world);
        let next = next.map_err(|stuck| Failure::new(FAILED, stuck.to_string()))?;
        let Some(step) = next else { return Ok(()) };
        work.take(step, record, &world).await?;
    }
    let line = "the old stack does not stop, or is started again by somebody; stop it, then `octo-local adopt` again";
    Err(Failure::new(FAILED, line))
}

/// What the engine shows of the old stack.
pub(super) async fn world(engine: &Engine, record: &Record) -> Result<World, EngineError> {
    let mut world = World::default();
    for old in &record.old {
        if let Some(seen) = engine.seen(&old.id).await? {
            world.containers.insert(old.id.clone(), seen);
        }
    }
    if let Some(network) = &record.network {
        let found = engine.their_network(&network.name).await?;
        world.network = found.map(|(id, _)| id);
    }
    Ok(world)
}

impl Work<'_> {
    async fn take(&self, step: Step, record: &mut Record, world: &World) -> Outcome {
        let name = |id: &String| {
            let seen = world.containers.get(id);
            seen.map_or(id.as_str(), |seen| seen.name.as_str())
                .to_owned()
        };
        match step {
            Step::Disarm(id) => self.engine.disarm(&id).await?,
            Step::StopNode(id) => {
                print::tell(format_args!("{}: stopping", name(&id)));
                let grace = self.config.timing.node_stop_grace;
                self.engine.stop_container(&id, grace).await?;
            }
            Step::StopSql(id) => {
                print::tell(format_args!("{}: shutting down", name(&id)));
                self.stop_sql(&id).await?;
            }
            Step::Copy(number) => {
                self.copy(record, number, world).await?;
                record.copies[number].done = true;
                keep(self.context, record)?;
            }
            Step::Rename { id, to } => self.engine.rename_container(&id, &to).await?,
            Step::RemoveNetwork(id) => self.engine.remove_network(&id).await?,
        }
        Ok(())
    }

    /// Today's SQL Server images do not hand SIGTERM on to the server, so it is asked in T-SQL
    /// first: its data is about to be used, or copied, by another.
    async fn stop_sql(&self, id: &str) -> Result<(), EngineError> {
        let grace = self.config.timing.sql_stop_limit;
        let begun = Instant::now();
        if self.asked_to_shut_down(id).await {
            while begun.elapsed() < grace
                && self.engine.seen(id).await?.is_some_and(|seen| seen.running)
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        let rest = grace.saturating_sub(begun.elapsed());
        self.engine.stop_container(id, rest).await
    }

    async fn asked_to_shut_down(&self, id: &str) -> bool {
        let Some(mut target) = self.engine.database_of(id).await else {
            return false;
        };
        let own = self.config.sql.iter().map(|sql| sql.sa_password.clone());
        let passwords: Vec<Secret> = own.chain([target.password.clone()]).collect();
        for password in passwords {
            target.password = password;
            match sql::shutdown(&target, SHUTDOWN_REQUEST).await {
                Ok(()) => return true,
                Err(sql::SqlError::Server {
                    code: sql::LOGIN_FAILED,
                    ..
                }) => {}
                Err(error) => {
                    print::tell(format_args!(
                        "note: SQL Server did not take SHUTDOWN ({error}); it gets SIGTERM"
                    ));
                    return false;
                }
            }
        }
        false
    }

    /// Copies what is in a container into a new volume, and compares. What an attempt that died
    /// left in that volume is a part of the same: it is made anew.
    async fn copy(&self, record: &Record, number: usize, world: &World) -> Outcome {
        let copying = &record.copies[number];
        let (from, path) = (&copying.container, &copying.path);
        let storage = self.spec.volumes.get(&copying.key);
        let Some(Storage::Ours(volume)) = storage else {
            let line = format!(
                "{} would be copied into a volume of octo-local's, and the .env names another place for it now: leave that out",
                copying.path
            );
            return Err(Failure::new(FAILED, line));
        };
        self.make_anew(volume).await?;
        if !self.engine.has_path(from, path).await? {
            return Ok(());
        }
        print::tell(format_args!("{path}: copying into volume {volume}"));
        let image = world.containers.get(from);
        let image = image.map_or("", |seen| seen.image_id.as_str());
        let mounts = [(path.clone(), Storage::Ours(volume.clone()))].into();
        let project = &self.context.project;
        let carrier = self.engine.make_carrier(project, image, &mounts).await?;
        let copied = self.copy_and_compare(from, &carrier, path).await;
        self.engine.remove_carrier(project).await?;
        copied
    }

    async fn copy_and_compare(&self, from: &str, to: &str, path: &str) -> Outcome {
        self.engine.copy_directory((from, path), (to, path)).await?;
        let before = self.engine.fingerprint(from, path).await?;
        let after = self.engine.fingerprint(to, path).await?;
        if before == after {
            print::tell(format_args!(
                "{path}: {} things, {} bytes, compared",
                after.entries, after.bytes
            ));
            return Ok(());
        }
        let line = format!(
            "{path}: the copy is not what was copied ({} things and {} bytes of {} and {}); `octo-local adopt` tries again, `octo-local \
             adopt --undo` goes back",
            after.entries, after.bytes, before.entries, before.bytes
        );
        Err(Failure::new(FAILED, line))
    }

    async fn make_anew(&self, volume: &str) -> Outcome {
        let project = &self.context.project;
        self.engine.remove_carrier(project).await?;
        if let Some(found) = self.engine.volume(volume).await? {
            let label = found.labels.get(labels::PROJECT);
            if label.map(String::as_str) != Some(project.as_str()) {
                let line = format!(
                    "there is a volume {volume} that is somebody else's; `octo-local adopt --undo` goes back"
                );
                return Err(Failure::new(FAILED, line));
            }
            self.engine.remove_volume(volume).await?;
        }
        Ok(self.engine.create_volume(self.spec, volume).await?)
    }
}
