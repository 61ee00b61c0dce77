//! The way back to the old containers, and its end.

use std::time::Duration;

use tokio::time::Instant;

use super::alone;
use super::confirm;
use super::forward::world;
use super::keep;
use crate::adopt::Record;
use crate::adopt::Stage;
use crate::adopt::steps;
use crate::adopt::steps::Back;
use crate::adopt::steps::Stuck;
use crate::cli::adopted;
use crate::cli::args::AdoptFlags;
use crate::cli::args::DownFlags;
use crate::cli::commands::down;
use crate::cli::context::Context;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::config::image::is_same;
use crate::engine::Engine;
use crate::octopus;
use crate::octopus::drain;
use crate::octopus::drain::Wanted;
use crate::spec::build::SQL_DATA;
use crate::sql;

/// How long SQL Server is waited for before the nodes that need it are started.
const SQL_LIMIT: Duration = Duration::from_secs(300);
/// How long a node is waited for.
const NODE_LIMIT: Duration = Duration::from_secs(600);
/// The port of its container that a node serves on.
const WEB: u16 = 8080;
/// How long a command in a node may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How many lines of a node that ended are shown.
const LAST_LINES: u32 = 5;
/// How long one question to it may take, and how often it is asked.
const ASK: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(250);
/// More steps than any stack needs.
const STEPS: usize = 1000;
/// What Ctrl-C says.
const GOES_ON: &str = "interrupted: `octo-local adopt --undo` goes on";

/// Takes octo-local's stack down and starts the old containers again.
pub(super) async fn undo(context: Context, flags: &AdoptFlags) -> Outcome {
    let mut record = kept(&context)?;
    let engine = context.engine().await?;
    must_have_a_way_back(&context, &engine, &record).await?;
    if record.stage != Stage::Undoing {
        tell(&record);
        confirm(&context, flags, "Go back?")?;
        record.stage = Stage::Undoing;
        keep(&context, &record)?;
    }
    if has_a_stack(&context, &engine).await? {
        let flags = DownFlags {
            volumes: false,
            yes: false,
            timeout: None,
            remove_orphans: false,
        };
        down::down(&context, &flags).await?;
    }
    interruptible(GOES_ON, Box::pin(go_back(&context, &engine, &record))).await?;
    let path = context.paths.adopted();
    adopted::remove(&path)
        .map_err(|error| Failure::new(FAILED, format!("remove {}: {error}", path.display())))?;
    print::tell(format_args!(
        "{} is as it was before the adoption",
        record.from
    ));
    Ok(())
}

fn kept(context: &Context) -> Result<Record, Failure> {
    let record = context.adopted()?.cloned();
    let record = record.ok_or_else(|| {
        let line = format!("{} adopted nothing", context.project);
        Failure::new(FAILED, line)
    })?;
    if record.stage == Stage::Forgotten {
        let line = format!(
            "the old containers of {} are forgotten: there is no way back to them",
            record.from
        );
        return Err(Failure::new(FAILED, line));
    }
    Ok(record)
}

fn tell(record: &Record) {
    print::line(format_args!(
        "down      {}'s stack of octo-local's; no data is removed",
        record.from
    ));
    let names = record.old.iter().map(|old| old.name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    print::line(format_args!(
        "back      {names}, under their old names; what ran is started"
    ));
    let copied = record.copies.iter().map(|copy| copy.path.as_str());
    let copied = copied.collect::<Vec<_>>().join(", ");
    if !copied.is_empty() {
        print::line(format_args!(
            "note      what changed in {copied} since the adoption is in octo-local's volumes, which stay, and not in the old containers"
        ));
    }
}

/// Looked at before anything is touched: the containers are there, and no newer version ran on the
/// data that they share with ours.
async fn must_have_a_way_back(context: &Context, engine: &Engine, record: &Record) -> Outcome {
    let world = world(engine, record).await?;
    let gone = |old: &&crate::adopt::record::Old| !world.containers.contains_key(&old.id);
    if let Some(old) = record.old.iter().find(gone) {
        let line = Stuck::Gone(old.name.clone()).to_string();
        return Err(Failure::new(FAILED, line));
    }
    let is_copied = record.copies.iter().any(|copy| copy.key == SQL_DATA);
    let applied = context.applied().await.unwrap_or_default();
    let (Some(config), false) = (applied.config, is_copied) else {
        return Ok(());
    };
    let is_other = |is_sql: bool, now: &str| {
        let mut old = record.old.iter().filter(|old| old.is_sql == is_sql);
        old.any(|old| !old.image.starts_with("sha256:") && !is_same(&old.image, now))
    };
    let sql = config.sql.as_ref().map(|sql| sql.image.clone());
    let moved = is_other(false, &config.octopus.reference())
        || sql.is_some_and(|image| is_other(true, &image));
    if moved && record.stage == Stage::Done {
        let line = "another version ran on this data since the adoption, and the old containers must not: a database cannot go \
                    back; the backup that was made first can be restored beside it";
        return Err(Failure::new(CONFIGURATION, line));
    }
    Ok(())
}

async fn has_a_stack(context: &Context, engine: &Engine) -> Result<bool, Failure> {
    let is_up = context.applied().await.unwrap_or_default().is_up();
    Ok(is_up || engine.origin(&context.project).await?.is_some())
}

async fn go_back(context: &Context, engine: &Engine, record: &Record) -> Outcome {
    let _alone = alone(context)?;
    // Whatever a copy that was killed left.
    engine.remove_carrier(&context.project).await?;
    for _ in 0..STEPS {
        let world = world(engine, record).await?;
        let next = steps::back(record, &world);
        let next = next.map_err(|stuck| Failure::new(FAILED, stuck.to_string()))?;
        let Some(step) = next else { return Ok(()) };
        take(engine, record, step).await?;
    }
    let line = "the old stack does not come back: `docker ps -a` shows what it does";
    Err(Failure::new(FAILED, line))
}

async fn take(engine: &Engine, record: &Record, step: Back) -> Outcome {
    let old = |id: &str| record.old.iter().find(|old| old.id == id);
    match step {
        Back::MakeNetwork => {
            if let Some(network) = &record.network {
                engine.make_network(network).await?;
            }
        }
        Back::Join { id, network } => {
            let name = record.network.as_ref().map_or("", |network| &network.name);
            let attachment = old(&id).and_then(|old| old.networks.get(name));
            let aliases = attachment.map_or(&[][..], |attachment| &attachment.aliases);
            engine.join_again(&id, &network, name, aliases).await?;
        }
        Back::Rename { id, to } => engine.rename_container(&id, &to).await?,
        Back::Arm(id) => {
            if let Some(old) = old(&id) {
                engine.set_restart(&id, &old.restart).await?;
            }
        }
        Back::Start(id) => {
            let (name, is_sql) =
                old(&id).map_or((id.as_str(), false), |old| (&old.name, old.is_sql));
            print::tell(format_args!("{name}: starting"));
            engine.start_container(&id).await?;
            if is_sql {
                wait_for_sql(engine, &id).await;
            } else {
                wait_for_node(engine, &id, name).await?;
                let_it_work(engine, &id, name).await?;
            }
        }
    }
    Ok(())
}

/// Nodes that find no database end. One that cannot be asked is not waited for.
async fn wait_for_sql(engine: &Engine, id: &str) {
    let Some(target) = engine.database_of(id).await else {
        return;
    };
    let deadline = Instant::now() + SQL_LIMIT;
    while Instant::now() < deadline && sql::login(&target, "master", ASK).await.is_err() {
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Whether a node comes up again. One that publishes no port is not waited for.
async fn wait_for_node(engine: &Engine, id: &str, name: &str) -> Outcome {
    let deadline = Instant::now() + NODE_LIMIT;
    while Instant::now() < deadline {
        let Some(seen) = engine.seen(id).await? else {
            break;
        };
        if !seen.running {
            let lines = engine.last_lines(id, LAST_LINES, false).await;
            let mut lines = lines.unwrap_or_default();
            lines.insert(0, format!("{name} ended again; its last lines are:"));
            lines.push(
                "`octo-local adopt --undo` tries it again. Where it asks for the master key, it was made without one: \
                 `octo-local secrets MASTER_KEY` has it, for a MASTER_KEY in the compose file"
                    .to_owned(),
            );
            return Err(Failure {
                code: FAILED,
                lines,
            });
        }
        let Some(address) = seen.address_of(WEB) else {
            break;
        };
        if octopus::version(address, ASK).await.is_some() {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// Ours was drained before it ended, and the flag is in the database, under the node's name: on data
/// that both used, the old node would take no task.
async fn let_it_work(engine: &Engine, id: &str, name: &str) -> Outcome {
    for command in drain::commands(Wanted::Working) {
        let ran = engine.exec(id, &command, COMMAND_LIMIT).await?;
        if ran.code == Some(0) {
            return Ok(());
        }
    }
    print::tell(format_args!(
        "note: nobody could tell {name} to take tasks; where Octopus shows the node as drained (Configuration, Nodes), clear that"
    ));
    Ok(())
}

/// Removes the old containers. Their volumes stay.
pub(super) async fn forget(context: Context, flags: &AdoptFlags) -> Outcome {
    let mut record = kept(&context)?;
    if let Some(why) = record.in_the_way() {
        return Err(Failure::new(CONFIGURATION, why));
    }
    let engine = context.engine().await?;
    let world = world(&engine, &record).await?;
    for (old, seen) in record
        .old
        .iter()
        .filter_map(|old| Some((old, world.containers.get(&old.id)?)))
    {
        if seen.running || seen.name != old.kept_name() {
            let line = format!(
                "{} was renamed or started by somebody since the adoption: it is not removed; stop it, and name it {} again",
                seen.name,
                old.kept_name()
            );
            return Err(Failure::new(FAILED, line));
        }
        print::line(format_args!("remove    container {}", seen.name));
    }
    print::line("keep      all volumes and directories");
    confirm(
        &context,
        flags,
        "Remove them, so that there is no way back?",
    )?;
    for id in world.containers.keys() {
        engine.remove_container_alone(id).await?;
    }
    record.stage = Stage::Forgotten;
    (record.old, record.network, record.copies) = (Vec::new(), None, Vec::new());
    keep(&context, &record)?;
    print::tell(format_args!(
        "the old containers of {} are gone; what they said counts on",
        record.from
    ));
    Ok(())
}
