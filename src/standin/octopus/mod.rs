//! The stand-in for Octopus Server, as far as Docker, its database and its supervisor can tell:
//! what `up --demo` and the tests run where the vendor's image cannot be had. It deploys nothing,
//! and says so in its log, page and API.
//!
//! It is strict where the vendor only warns: it *detects* two nodes starting at once, two versions
//! on one database, and a version older than the schema ([`migration`]), ends with 3; and it detects
//! tasks that a stop cut off, and a database that was replaced under it. What it found it keeps at
//! `GET /api/standin/violations`, and what is no fault by itself at `GET /api/standin/notes`
//! ([`violations`]).

mod cluster_api;
mod command;
mod database;
mod direct;
mod fatal;
mod faults;
mod licence;
mod log;
mod machines_api;
mod migration;
mod node;
mod schema;
mod server;
mod settings;
mod site;
mod storage;
mod tasks;
mod tasks_api;
mod traffic;
mod trouble;
mod violations;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use command::Command;
use database::Database;
use fatal::Fatal;
use faults::Step;
use node::Node;
use node::Phase;
use settings::Settings;

/// Bounds the farewell to the database: a stop must not wait for one that is gone.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Runs the server when `args` are none or `run`, else the vendor's command that they name. Blocks
/// until it ends; its exit code is 0 for a stop by signal, 1 for the vendor's fatal errors, 3 for a
/// violation, 78 for settings it cannot use.
pub fn run(args: &[String]) -> ExitCode {
    let named = std::iter::once("Octopus.Server").chain(args.iter().map(String::as_str));
    let command = if args.is_empty() {
        None
    } else {
        Some(Command::try_parse_from(named))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return end(&Fatal::Setting(format!("no threads: {error}"))),
    };
    let settings = Settings::read(&variable);
    let code = match (command, settings) {
        (Some(Err(error)), _) => {
            log::line(&error);
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        (_, Err(error)) => end(&error),
        (None | Some(Ok(Command::Run(_))), Ok(settings)) => runtime
            .block_on(serve(settings))
            .unwrap_or_else(|error| end(&error)),
        (Some(Ok(command)), Ok(settings)) => runtime
            .block_on(command::run(&command, &settings))
            .unwrap_or_else(|error| end(&error)),
    };
    // A look-up of a host name may still block a thread; nobody waits for its answer.
    runtime.shutdown_background();
    code
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program in a container is told everything by its own environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn end(fatal: &Fatal) -> ExitCode {
    log::line(fatal);
    fatal.code()
}

/// The life of a server. As process 1 it gets no signal that it does not ask for, so it asks first
/// of all.
async fn serve(mut settings: Settings) -> Result<ExitCode, Fatal> {
    let mut stop = Stop::new()?;
    let marks = if settings.root.join("cache").is_dir() {
        "cache"
    } else {
        "Octopus"
    };
    settings.faults = settings.faults.arm(&settings.root.join(marks));
    introduce(&settings);
    settings.faults.reach(Step::Eula)?;
    if !settings.eula {
        return Err(Fatal::Eula);
    }
    let target = settings.target()?;
    let node = Arc::new(Node::new(settings, target));
    let (listener, address) = listen(&node).await?;
    log::line(format_args!(
        "The port {address} is open; the server is starting and answers 503"
    ));
    let router = server::router(Arc::clone(&node));
    let serving = tokio::spawn(async { axum::serve(listener, router).await });
    trouble::begin(&node);
    let outcome = tokio::select! {
        // Cancel-safe: each arm's loss ends the process, and the database sees its connection
        // close.
        ended = live(&node, address) => Err(match ended { Err(fatal) => fatal, Ok(never) => match never {} }),
        fatal = trouble::end(&node) => Err(fatal),
        () = stop.told() => Ok(()),
    };
    if outcome.is_ok() {
        leave(&node).await;
    }
    serving.abort();
    outcome.map(|()| ExitCode::SUCCESS)
}

fn introduce(settings: &Settings) {
    log::line("This is a stand-in for Octopus Server, made by octo-local: it deploys nothing");
    log::line(format_args!(
        "Octopus Server {} (stand-in), node {}",
        settings.version, settings.node
    ));
    log::line(format_args!(
        "privileged: {}",
        if storage::is_privileged() {
            "yes"
        } else {
            "no"
        }
    ));
    if !settings.faults.is_empty() {
        log::line(format_args!(
            "Faults that are switched on: {}",
            settings.faults
        ));
    }
}

async fn listen(node: &Node) -> Result<(TcpListener, SocketAddr), Fatal> {
    let failed = |why| Fatal::Port {
        address: node.settings.address.to_string(),
        why,
    };
    let listener = TcpListener::bind(node.settings.address)
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Starts the node and keeps it; ends only with an error.
async fn live(node: &Node, address: SocketAddr) -> Result<Infallible, Fatal> {
    let faults = &node.settings.faults;
    faults.reach(Step::Storage)?;
    storage::check(node)?;
    faults.reach(Step::Connect)?;
    let (mut database, waited) =
        database::reach(&node.target, node.settings.database_timeout).await?;
    log::line("Connected to the database server");
    migration::start(node, &mut database).await?;
    if waited {
        let detail = "the database did not answer when the node started";
        let name = &node.settings.node;
        violations::note(&database, "started-without-database", name, detail).await;
    }
    log::line(format_args!(
        "Listening for HTTP requests on http://{address}/"
    ));
    direct::begin(node).await?;
    node.state.send_modify(|state| state.phase = Phase::Ready);
    log::line("Web server is ready to process requests");
    tokio::select! {
        // Neither ends, and the loss of one is the end of the process.
        never = node.beat(&mut database) => Ok(never),
        never = tasks::work(node) => Ok(never),
    }
}

async fn leave(node: &Node) {
    log::line("Stopping");
    node.state
        .send_modify(|state| state.phase = Phase::Stopping);
    tokio::time::sleep(node.settings.stop).await;
    let farewell = async {
        let mut database = Database::new(&node.target);
        tasks::cut_off(node, &mut database).await?;
        node.leave().await
    };
    match tokio::time::timeout(FAREWELL_LIMIT, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::line(format_args!(
            "The database does not know of this stop: {error}"
        )),
        Err(_) => log::line("The database does not know of this stop: it does not answer"),
    }
    log::line("Stopped");
}

/// The signals that end a container.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Self, Fatal> {
        let on =
            |kind| signal(kind).map_err(|error| Fatal::Setting(format!("no signals: {error}")));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            // Cancel-safe: a signal that is not taken here ends nothing twice.
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
