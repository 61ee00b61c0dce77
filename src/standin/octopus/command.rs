//! The vendor's commands inside the container: `node`, `show-master-key`, `container-healthcheck`.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::time::Instant;

use super::database::Database;
use super::fatal::Fatal;
use super::faults::Fault;
use super::log;
use super::node;
use super::schema;
use super::settings::Settings;
use super::storage;
use super::tasks;
use crate::config::Secret;
use crate::octopus;
use crate::reconcile::health::Probe;

/// What a shell says of a program that cannot be run.
const NO_EXEC: u8 = 126;
/// Bounds one question to the server beside the command.
const PING_LIMIT: Duration = Duration::from_secs(2);
/// How long the server beside the command may take to notice what the command wrote to the
/// database.
const NOTICE_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks whether it did.
const LOOK: Duration = Duration::from_millis(50);
/// How long cancelled tasks may take to end.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// The vendor's only instance name in a container.
const INSTANCE: &str = "OctopusServer";

/// Octopus.Server (a stand-in, made by octo-local)
#[derive(Debug, Parser)]
#[command(name = "Octopus.Server", disable_version_flag = true)]
pub(super) enum Command {
    /// Runs the server
    Run(Instance),
    /// Changes this node
    Node {
        #[command(flatten)]
        instance: Instance,
        /// Takes no new work, or takes it again
        #[arg(long, action = clap::ArgAction::Set)]
        drain: Option<bool>,
        /// Tasks at a time
        #[arg(long = "taskCap")]
        task_cap: Option<u32>,
        /// Seconds to wait for running tasks
        #[arg(long, default_value_t = 0)]
        wait: u64,
        /// Cancels the tasks that run longer
        #[arg(long)]
        cancel_tasks: bool,
    },
    /// Shows the master key
    ShowMasterKey {
        #[command(flatten)]
        instance: Instance,
        /// Writes it to the console, which is all a stand-in can do
        #[arg(long)]
        console: bool,
        /// `text` or `json`
        #[arg(long, default_value = "text")]
        format: String,
    },
    /// Asks the server beside it whether it is well; a drained one is
    ContainerHealthcheck(Instance),
}

/// `--instance`.
#[derive(Debug, clap::Args)]
pub(super) struct Instance {
    /// The instance's name
    #[arg(long, default_value = INSTANCE)]
    instance: String,
}

impl Command {
    /// The instance that is meant.
    fn instance(&self) -> &str {
        match self {
            Self::Run(instance)
            | Self::Node { instance, .. }
            | Self::ShowMasterKey { instance, .. }
            | Self::ContainerHealthcheck(instance) => &instance.instance,
        }
    }
}

/// Runs one that is not `run`.
pub(super) async fn run(command: &Command, settings: &Settings) -> Result<ExitCode, Fatal> {
    if command.instance() != INSTANCE {
        return Err(Fatal::Setting(format!(
            "Instance {} has not been configured",
            command.instance()
        )));
    }
    if settings.faults.has(Fault::NoExec) {
        log::line("exec: permission denied");
        return Ok(ExitCode::from(NO_EXEC));
    }
    match command {
        Command::Run(_) => Err(Fatal::Setting(
            "the server cannot run inside a command".to_owned(),
        )),
        Command::Node {
            drain: None,
            task_cap: None,
            ..
        } => Err(Fatal::Setting(
            "--drain=true, --drain=false or --taskCap is needed".to_owned(),
        )),
        Command::Node {
            drain: Some(false),
            wait,
            cancel_tasks,
            ..
        } if *wait > 0 || *cancel_tasks => Err(Fatal::Setting(
            "--wait and --cancel-tasks go with --drain=true only".to_owned(),
        )),
        Command::Node {
            drain,
            task_cap,
            wait,
            cancel_tasks,
            ..
        } => {
            if let Some(cap) = task_cap {
                let mut database = Database::new(&settings.target()?);
                schema::set_task_cap(&mut database, &settings.node, *cap).await?;
            }
            match drain {
                Some(true) => {
                    let wait = Duration::from_secs(*wait);
                    start_drain(settings, wait, *cancel_tasks).await
                }
                Some(false) => set_drain(settings, false).await,
                None => Ok(ExitCode::SUCCESS),
            }
        }
        Command::ShowMasterKey { format, .. } => show_master_key(settings, format),
        Command::ContainerHealthcheck(_) => {
            Ok(match octopus::ping(beside(settings), PING_LIMIT).await {
                Probe::Ready | Probe::Drained(_) => ExitCode::SUCCESS,
                Probe::Alive(_)
                | Probe::Refused(_)
                | Probe::Suspect(_)
                | Probe::NotOpen(..)
                | Probe::Failure(..)
                | Probe::Unknown(_) => ExitCode::FAILURE,
            })
        }
    }
}

/// Drains the node, then waits for its tasks; those that run longer go on, or are cancelled.
async fn start_drain(
    settings: &Settings,
    wait: Duration,
    cancels: bool,
) -> Result<ExitCode, Fatal> {
    if settings.faults.has(Fault::DrainHangs) {
        return std::future::pending().await;
    }
    if settings.faults.has(Fault::DrainFails) {
        log::line("The node cannot be drained, as it was asked to");
        return Ok(ExitCode::FAILURE);
    }
    let code = set_drain(settings, true).await?;
    let mut database = Database::new(&settings.target()?);
    let left = wait_for_tasks(settings, &mut database, wait).await?;
    if left.is_empty() {
        log::line("No tasks run on the node");
    } else if cancels {
        log::line(format_args!("Cancelling {}", tasks::names(&left)));
        tasks::cancel_on(&mut database, &settings.node).await?;
        wait_for_tasks(settings, &mut database, CANCEL_LIMIT).await?;
    } else {
        log::line(format_args!("{} still run", tasks::names(&left)));
    }
    Ok(code)
}

/// Gives the tasks that still run after so long.
async fn wait_for_tasks(
    settings: &Settings,
    database: &mut Database,
    wait: Duration,
) -> Result<Vec<i64>, Fatal> {
    let give_up_at = Instant::now() + wait;
    loop {
        let running = tasks::running_on(database, &settings.node).await?;
        if running.is_empty() || Instant::now() >= give_up_at {
            return Ok(running);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes the flag to the database, and waits until the server beside the command answers
/// accordingly, if one does.
async fn set_drain(settings: &Settings, draining: bool) -> Result<ExitCode, Fatal> {
    let mut database = Database::new(&settings.target()?);
    if !node::drain(&mut database, &settings.node, draining).await? {
        return Err(Fatal::Setting(format!(
            "there is no node {} in the database yet",
            settings.node
        )));
    }
    let give_up_at = Instant::now() + NOTICE_LIMIT;
    while Instant::now() < give_up_at {
        match octopus::ping(beside(settings), PING_LIMIT).await {
            Probe::Ready if draining => {}
            Probe::Drained(_) if !draining => {}
            _ => break,
        }
        tokio::time::sleep(LOOK).await;
    }
    log::line(format_args!(
        "Node {} {}",
        settings.node,
        if draining { "drains" } else { "takes work" }
    ));
    Ok(ExitCode::SUCCESS)
}

/// Where the server beside the command listens.
fn beside(settings: &Settings) -> SocketAddr {
    let any = settings.address.ip().is_unspecified();
    let ip = if any {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        settings.address.ip()
    };
    SocketAddr::new(ip, settings.address.port())
}

/// The vendor's way to get at the key: showing it is what the command is for.
fn show_master_key(settings: &Settings, format: &str) -> Result<ExitCode, Fatal> {
    let given = Some(&settings.master_key)
        .filter(|key| !key.is_empty())
        .cloned();
    let kept = || storage::kept_master_key(&settings.root.join("Octopus"));
    let unknown = || Fatal::Setting("this container has no master key".to_owned());
    let key: Secret = given.or_else(kept).ok_or_else(unknown)?;
    match format.to_ascii_lowercase().as_str() {
        "json" => log::line(json!({ "MasterKey": key.expose() })),
        _ => log::line(key.expose()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, clap::Error> {
        Command::try_parse_from(text.split(' '))
    }

    #[test]
    fn the_vendors_spellings_are_taken() {
        let command =
            parse("x node --instance OctopusServer --drain=true --wait=600 --cancel-tasks")
                .unwrap();
        assert!(
            matches!(
                command,
                Command::Node {
                    drain: Some(true),
                    wait: 600,
                    cancel_tasks: true,
                    ..
                }
            ),
            "{command:?}"
        );
        assert!(matches!(
            parse("x node --instance=OctopusServer --drain=false"),
            Ok(Command::Node {
                drain: Some(false),
                ..
            })
        ));
        let command = parse("x show-master-key --instance OctopusServer --format=json").unwrap();
        assert_eq!(command.instance(), INSTANCE);
        assert!(
            parse("x show-master-key --console").is_ok()
                && parse("x node --drain=perhaps").is_err()
        );
    }
}
