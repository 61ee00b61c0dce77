//! `tentacle add`, `remove` and `list`: deployment targets and workers beside the stack. The daemon
//! keeps what was added, and does all that follows from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::change_units;
use crate::api::TentacleBody;
use crate::api::route;
use crate::cli::args::Format;
use crate::cli::args::TentacleAddFlags;
use crate::cli::args::TentacleCommand;
use crate::cli::args::TentacleFlags;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::fetch_status;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::foreign;
use crate::cli::terminal::print;
use crate::cli::terminal::table;
use crate::config::Secret;
use crate::config::image::ImageRef;
use crate::daemon::message::TentacleStep;
use crate::octopus::tentacle::Api;
use crate::octopus::tentacle::Missing;
use crate::reconcile::status::PhaseWord;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::spec::ContainerSpec;
use crate::spec::UnitId;
use crate::spec::tentacle::DEFAULT_SPACE;
use crate::spec::tentacle::Purpose;
use crate::spec::tentacle::Registration;
use crate::spec::tentacle::Tentacle;
use crate::spec::tentacle::TentacleName;

/// The form of what machines read.
const SCHEMA: u32 = 1;
/// How long Octopus Server may take for each answer about what a registration names.
const API_LIMIT: Duration = Duration::from_secs(10);
/// A wait that nobody bounded.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Why one that was added is not there.
const NO_KEY: &str = "ADMIN_API_KEY is not set any more: set it, then `octo-local up`";
/// What the stand-in for Octopus Server has, for a demo's Tentacles.
const DEMO_ENVIRONMENT: &str = "Development";
/// See [`DEMO_ENVIRONMENT`].
const DEMO_POOL: &str = "Default Worker Pool";

/// Does what is asked about Tentacles.
pub async fn tentacle(context: &Context, flags: TentacleFlags) -> Outcome {
    match flags.command {
        TentacleCommand::Add(flags) => add(context, flags).await,
        TentacleCommand::Remove {
            name,
            keep_registration,
        } => {
            let registration = if keep_registration {
                Registration::Kept
            } else {
                Registration::Deleted
            };
            remove(context, &name, registration).await
        }
        TentacleCommand::List { format } => list(context, format).await,
    }
}

/// Adds so many to a demo, a target and a worker by turns, and waits until they listen.
pub async fn add_to_demo(context: &Context, count: u8) -> Outcome {
    let wish = |number: u8| {
        let is_worker = number.is_multiple_of(2);
        let (kind, purpose) = if is_worker {
            let pool = DEMO_POOL.to_owned();
            ("worker", Purpose::Worker { pool })
        } else {
            let environments = vec![DEMO_ENVIRONMENT.to_owned()];
            let roles = vec!["demo".to_owned()];
            (
                "target",
                Purpose::Target {
                    environments,
                    roles,
                },
            )
        };
        let wish = Tentacle {
            purpose,
            space: DEFAULT_SPACE.to_owned(),
            ..Tentacle::default()
        };
        (format!("{kind}-{}", number.div_ceil(2)), wish)
    };
    let mut asked = Vec::new();
    for (name, wish) in (1..=count).map(wish) {
        let name = name_of(&name)?;
        let generation = ask(context, name, TentacleStep::Add(Box::new(wish))).await?;
        asked.push((name, generation));
    }
    for (name, generation) in asked {
        until_it_listens(context, name, generation, A_YEAR).await?;
    }
    Ok(())
}

fn name_of(text: &str) -> Result<TentacleName, Failure> {
    // Its unit's name is taken for it as well.
    let short = text.strip_prefix("tentacle-").unwrap_or(text);
    let short = if short.is_empty() { text } else { short };
    let name = short.parse::<TentacleName>();
    name.map_err(|error| Failure::new(USAGE, error.to_string()))
}

async fn add(context: &Context, flags: TentacleAddFlags) -> Outcome {
    let (name, wish) = read(&flags)?;
    change_units::must_be_applied(context).await?;
    context.must_be_from_here().await?;
    let limit = flags.wait_timeout.map_or(A_YEAR, Duration::from_secs);
    let adding = async {
        daemon_process::ensure(context).await?;
        must_exist(context, &wish).await?;
        let purpose = wish.purpose.to_string();
        let generation = ask(context, name, TentacleStep::Add(Box::new(wish))).await?;
        if flags.no_wait {
            return Ok(());
        }
        until_it_listens(context, name, generation, limit.min(A_YEAR)).await?;
        print::tell(format_args!("{name} is ready: {purpose}"));
        Ok(())
    };
    interruptible(change_units::GOES_ON, adding).await
}

/// What was typed as a wish, or all that is wrong with it.
fn read(flags: &TentacleAddFlags) -> Result<(TentacleName, Tentacle), Failure> {
    let purpose = match &flags.worker {
        Some(pool) => Purpose::Worker { pool: pool.clone() },
        None => Purpose::Target {
            environments: flags.environment.clone(),
            roles: flags.role.clone(),
        },
    };
    let mut wish = Tentacle {
        purpose,
        space: flags.space.clone(),
        image: None,
        dind: flags.dind,
        ..Tentacle::default()
    };
    let name = flags.name.parse::<TentacleName>();
    let mut lines: Vec<String> = name
        .as_ref()
        .err()
        .map(ToString::to_string)
        .into_iter()
        .collect();
    let problems = wish.problems().into_iter();
    lines.extend(problems.map(|(option, why)| format!("{option}: {why}")));
    match flags.image.as_deref().map(ImageRef::parse) {
        Some(Ok(image)) => wish.image = Some(image.with_tag().to_string()),
        Some(Err(error)) => lines.push(format!("--image: {error}")),
        None => {}
    }
    match name {
        Ok(name) if lines.is_empty() => Ok((name, wish)),
        Ok(_) | Err(_) => Err(Failure { code: USAGE, lines }),
    }
}

/// What a registration names must be there. Where no node answers now it is seen when the Tentacle
/// registers, which waits for one.
async fn must_exist(context: &Context, wish: &Tentacle) -> Outcome {
    let Some((address, key)) = server(context).await else {
        return Ok(());
    };
    let api = Api {
        address,
        key: &key,
        limit: API_LIMIT,
    };
    let missing = match api.missing(&wish.space, &wish.purpose).await {
        Ok(missing) => missing,
        Err(error) => {
            print::tell(format_args!(
                "note: whether its registration will be taken is not known: {error}"
            ));
            return Ok(());
        }
    };
    if missing.is_empty() {
        return Ok(());
    }
    let lines = missing.iter().map(line_of).collect();
    Err(Failure { code: USAGE, lines })
}

fn line_of(missing: &Missing) -> String {
    let what = match missing.option {
        "--worker" => "worker pool",
        "--environment" => "environment",
        _ => "space",
    };
    let there = missing.there.iter();
    let there: Vec<_> = there.map(|name| foreign::plain(name)).collect();
    let there = match there.as_slice() {
        [] => "it has none".to_owned(),
        some => format!("it has {}", some.join(", ")),
    };
    format!(
        "{} {}: Octopus Server has no such {what}; {there}; make it there first",
        missing.option, missing.name
    )
}

/// Where a node that serves answers, and the key for it.
async fn server(context: &Context) -> Option<(SocketAddr, Secret)> {
    let status = context.client.status().await.ok()?;
    let spec = context.applied().await?.spec?;
    let key = spec.api_key()?.clone();
    let is_ready = |unit: UnitId| {
        let mut units = status.units.iter();
        units.any(|one| one.unit == unit && one.phase == PhaseWord::Ready)
    };
    let node = spec.nodes.iter().find(|node| is_ready(node.unit));
    Some((node.and_then(ContainerSpec::host_address)?, key))
}

async fn ask(context: &Context, name: TentacleName, step: TentacleStep) -> Result<u64, Failure> {
    let body = TentacleBody {
        name,
        step,
        endpoint: Some(context.endpoint()),
    };
    daemon_process::ask(context, route::TENTACLE, &body).await
}

/// Follows one Tentacle, with a line for each phase, until `decide` says how that ends.
async fn follow(
    context: &Context,
    (name, generation): (TentacleName, u64),
    limit: Duration,
    decide: impl Fn(Option<&UnitStatus>) -> Option<Outcome>,
) -> Outcome {
    let unit = UnitId::Tentacle(name);
    let deadline = Instant::now() + limit;
    let mut statuses = context.client.follow().await?;
    let mut told = None;
    loop {
        // Cancel-safe: the stream keeps what it read.
        let status = tokio::time::timeout_at(deadline, statuses.next()).await;
        let Ok(status) = status else {
            let seconds = limit.as_secs();
            let line = format!("{name} is not ready after {seconds}s; the daemon goes on");
            return Err(Failure::new(TIMED_OUT, line));
        };
        let Some(status) = status? else {
            return Err(Failure::new(FAILED, "the daemon ended meanwhile"));
        };
        if status.generation < generation {
            continue;
        }
        let one = status.tentacles.iter().find(|one| one.unit == unit);
        let line = one.map(|one| (one.phase, one.reason.clone()));
        if told != line {
            if let Some(one) = one {
                tell(one);
            }
            told = line;
        }
        if let Some(outcome) = decide(one) {
            return outcome;
        }
    }
}

fn tell(one: &UnitStatus) {
    match foreign::plain(&one.reason).as_str() {
        "" => print::tell(format_args!("{}: {}", one.unit, one.phase)),
        reason => print::tell(format_args!("{}: {}, {reason}", one.unit, one.phase)),
    }
}

async fn until_it_listens(
    context: &Context,
    name: TentacleName,
    generation: u64,
    limit: Duration,
) -> Outcome {
    let decide = |one: Option<&UnitStatus>| {
        let Some(one) = one else {
            let line = format!("{name} was removed meanwhile");
            return Some(Err(Failure::new(FAILED, line)));
        };
        let failed = || {
            let mut lines = vec![format!("{name} failed: {}", foreign::plain(&one.reason))];
            let log = one.lines.iter().map(|line| foreign::plain(line));
            lines.extend(log.map(|line| format!("  {} | {line}", one.unit)));
            lines.extend(one.fix.iter().map(|fix| format!("fix: {fix}")));
            lines.push("the daemon goes on trying: `octo-local tentacle list`".to_owned());
            Failure {
                code: FAILED,
                lines,
            }
        };
        match one.phase {
            PhaseWord::Ready => Some(Ok(())),
            PhaseWord::Failed | PhaseWord::CrashLoop => Some(Err(failed())),
            PhaseWord::Created if one.stopped => {
                let line = format!("{name} is stopped: `octo-local start tentacle-{name}`");
                Some(Err(Failure::new(FAILED, line)))
            }
            PhaseWord::Absent
            | PhaseWord::Created
            | PhaseWord::Starting
            | PhaseWord::Unready
            | PhaseWord::Draining
            | PhaseWord::Drained
            | PhaseWord::Paused
            | PhaseWord::Dead
            | PhaseWord::Stopping
            | PhaseWord::BackingOff
            | PhaseWord::Running
            | PhaseWord::Stopped => None,
        }
    };
    follow(context, (name, generation), limit, decide).await
}

async fn remove(context: &Context, name: &str, registration: Registration) -> Outcome {
    let name = name_of(name)?;
    change_units::must_be_applied(context).await?;
    context.must_be_from_here().await?;
    let removing = async {
        let generation = ask(context, name, TentacleStep::Remove(registration)).await?;
        // What cannot be deregistered is tried again by the daemon; whoever asked is told.
        let decide = |one: Option<&UnitStatus>| match one {
            None => Some(Ok(())),
            Some(one) if one.retry_in_seconds.is_some() && one.cause.is_some() => {
                let lines = vec![
                    format!("{name} is not gone yet: {}", foreign::plain(&one.reason)),
                    format!(
                        "the daemon goes on trying; `octo-local tentacle remove {name} \
                         --keep-registration` gives that up"
                    ),
                ];
                Some(Err(Failure {
                    code: FAILED,
                    lines,
                }))
            }
            Some(_) => None,
        };
        follow(context, (name, generation), A_YEAR, decide).await
    };
    interruptible(change_units::GOES_ON, removing).await?;
    print::tell(match registration {
        Registration::Deleted => format!("{name} is gone, and so is its registration"),
        Registration::Kept => {
            format!("{name} is gone; if it was registered, delete {name} in Octopus")
        }
    });
    Ok(())
}

/// A Tentacle in the list.
#[derive(Serialize)]
struct Row {
    name: TentacleName,
    #[serde(flatten)]
    purpose: Purpose,
    space: String,
    phase: PhaseWord,
    reason: String,
    restarts: u32,
    stopped: bool,
    /// It is to go.
    leaves: bool,
    image: String,
}

#[derive(Serialize)]
struct List {
    schema: u32,
    project: String,
    tentacles: Vec<Row>,
}

async fn list(context: &Context, format: Format) -> Outcome {
    let stored = context.applied().await.unwrap_or_default();
    let has_key = stored
        .spec
        .as_ref()
        .is_none_or(|spec| spec.api_key().is_some());
    let kept = stored.tentacles;
    let status = if kept.is_empty() {
        Status::default()
    } else {
        fetch_status::fetch(context).await?
    };
    let known: BTreeMap<UnitId, &UnitStatus> =
        status.tentacles.iter().map(|one| (one.unit, one)).collect();
    let row = |(name, wish): (TentacleName, Tentacle)| {
        let one = known.get(&UnitId::Tentacle(name));
        Row {
            name,
            phase: one.map_or(PhaseWord::Absent, |one| one.phase),
            reason: match one {
                Some(one) => one.reason.clone(),
                None if !has_key => NO_KEY.to_owned(),
                None => String::new(),
            },
            restarts: one.map_or(0, |one| one.restarts),
            image: one.map(|one| one.image.clone()).unwrap_or_default(),
            stopped: wish.stopped,
            leaves: wish.leaves.is_some(),
            purpose: wish.purpose,
            space: wish.space,
        }
    };
    let tentacles: Vec<Row> = kept.into_iter().map(row).collect();
    match format {
        Format::Json => print::json(&List {
            schema: SCHEMA,
            project: context.project.to_string(),
            tentacles,
        }),
        Format::Table if tentacles.is_empty() => {
            print::tell("no Tentacle was added; `octo-local tentacle add` adds one");
        }
        Format::Table => {
            let titles = ["NAME", "PURPOSE", "SPACE", "PHASE", "REASON"];
            let cells = |row: &Row| {
                vec![
                    row.name.to_string(),
                    row.purpose.to_string(),
                    row.space.clone(),
                    row.phase.to_string(),
                    foreign::plain(&row.reason),
                ]
            };
            let rows: Vec<Vec<String>> = tentacles.iter().map(cells).collect();
            table::table(&titles, &rows, print::data_columns())
                .iter()
                .for_each(print::line);
        }
    }
    Ok(())
}
