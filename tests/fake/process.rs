//! The processes of the fake engine's containers. SQL Server's is the product's own stand-in as a
//! child, so that logins and `SHUTDOWN` are real; a node's is such a child too, or a few lines in
//! this process, which cost nothing to start.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Nodes;
use super::Shared;
use super::call::Refusal;
use super::container::Container;
use super::image;
use super::lifecycle;
use super::node;
use super::output::Output;
use super::world::World;
use crate::kit::process::PROGRAM;
use octo_local::config::ado::ConnectionString;

/// A process, alive or not.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    target: Target,
    gone: watch::Receiver<bool>,
}

#[derive(Clone, Debug)]
enum Target {
    Child(Pid),
    Inside(mpsc::UnboundedSender<Signal>),
}

impl Process {
    /// Sends a signal; one that is gone takes none.
    pub(crate) fn signal(&self, signal: Signal) {
        if *self.gone.borrow() {
            return;
        }
        match &self.target {
            Target::Child(pid) => drop(rustix::process::kill_process(*pid, signal)),
            Target::Inside(sender) => drop(sender.send(signal)),
        }
    }

    /// Waits until it is gone and the engine knows.
    pub(crate) async fn gone(&self) {
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }
}

/// Starts the process of a container.
pub(super) fn launch(
    shared: &Arc<Shared>,
    world: &mut World,
    id: &str,
) -> Result<Process, Refusal> {
    let database = database_of(world, id);
    let roots = world.dir.join("roots");
    let container = world.containers.get_mut(id).expect("it is being started");
    container.runs += 1;
    let refused = |error: std::io::Error| {
        Refusal::new(500, format!("the fake engine cannot start it: {error}"))
    };
    let inside = !image::is_sql(&container.origin) && shared.nodes == Nodes::Inside;
    if inside {
        return inside_process(shared, container).map_err(refused);
    }
    let mut command = Command::new(PROGRAM);
    let is_sql = image::is_sql(&container.origin);
    command
        .args(["standin", if is_sql { "sql" } else { "octopus" }])
        .env_clear();
    command.envs(container.env.iter().filter_map(|line| line.split_once('=')));
    if is_sql {
        let data = container
            .binds
            .iter()
            .find(|(_, path)| path == "/var/opt/mssql")
            .map(|(name, _)| name.clone());
        let port = container.ports.first().cloned();
        let data = data
            .and_then(|name| world.volumes.get(&name))
            .map(|volume| volume.dir.clone());
        command.env("STANDIN_MSSQL_ROOT", data.unwrap_or(roots.join(id)));
        command.envs(
            port.map(|port| {
                [
                    ("STANDIN_SQL_ADDRESS", port.ip),
                    ("STANDIN_SQL_PORT", port.host.to_string()),
                ]
            })
            .into_iter()
            .flatten(),
        );
    } else {
        octopus(world, id, &roots.join(id), database, &mut command).map_err(refused)?;
    }
    child_process(shared, &world.containers[id], &mut command).map_err(refused)
}

/// Where the database that a container's connection string names is published: by its names on a
/// network of both.
fn database_of(world: &World, id: &str) -> Option<(ConnectionString, String, u16)> {
    let container = world.containers.get(id)?;
    let read = ConnectionString::parse(container.var("DB_CONNECTION_STRING")?).ok()?;
    let found = serving(world, container, &read.host)?;
    let port = found.ports.first()?;
    let (ip, number) = (port.ip.clone(), port.host);
    Some((read, ip, number))
}

/// The container that answers to a name on a network that this one is on, if it runs.
pub(super) fn serving<'a>(
    world: &'a World,
    container: &Container,
    name: &str,
) -> Option<&'a Container> {
    let shares = |other: &&Container| {
        other.endpoints.iter().any(|(network, endpoint)| {
            container.endpoints.contains_key(network)
                && endpoint.aliases.iter().any(|alias| alias == name)
        })
    };
    world
        .containers
        .values()
        .filter(|other| other.runs())
        .find(shares)
}

/// The stand-in for Octopus finds its volumes below one directory, its version in the image's tag,
/// and its database by address.
fn octopus(
    world: &World,
    id: &str,
    root: &std::path::Path,
    database: Option<(ConnectionString, String, u16)>,
    command: &mut Command,
) -> std::io::Result<()> {
    let container = &world.containers[id];
    std::fs::create_dir_all(root)?;
    for (name, path) in &container.binds {
        let link = root.join(path.trim_start_matches('/'));
        if !link.exists() && !path.trim_start_matches('/').contains('/') {
            std::os::unix::fs::symlink(&world.volumes[name].dir, link)?;
        }
    }
    command.env("STANDIN_OCTOPUS_ROOT", root);
    if let Some(port) = container.ports.first() {
        command
            .env("STANDIN_OCTOPUS_BIND", &port.ip)
            .env("STANDIN_OCTOPUS_PORT", port.host.to_string());
    }
    if container.var("STANDIN_OCTOPUS_VERSION").is_none() {
        command.env("STANDIN_OCTOPUS_VERSION", image::tag_of(&container.origin));
    }
    if let Some((read, host, port)) = database {
        let string = ConnectionString { host, port, ..read };
        command.env("DB_CONNECTION_STRING", string.render().expose());
    }
    Ok(())
}

fn inside_process(shared: &Arc<Shared>, container: &Container) -> std::io::Result<Process> {
    let port = container.ports.first().cloned();
    let listener = port
        .map(|port| std::net::TcpListener::bind((port.ip.as_str(), port.host)))
        .transpose()?;
    let (sender, signals) = mpsc::unbounded_channel();
    let (over, gone) = watch::channel(false);
    let (shared, id, run) = (shared.clone(), container.id.clone(), container.runs);
    tokio::spawn(async move {
        let code = node::live(&shared, &id, listener, signals).await;
        lifecycle::ended(&shared, &id, run, code);
        over.send_replace(true);
    });
    Ok(Process {
        target: Target::Inside(sender),
        gone,
    })
}

fn child_process(
    shared: &Arc<Shared>,
    container: &Container,
    command: &mut Command,
) -> std::io::Result<Process> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pid = pid.ok_or_else(|| std::io::Error::other("it is gone already"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = out.map(|pipe| heard(shared, container, false, pipe.into_owned_fd()));
    let err = err.map(|pipe| heard(shared, container, true, pipe.into_owned_fd()));
    let (out, err) = (out.transpose()?, err.transpose()?);
    let (over, gone) = watch::channel(false);
    let (shared, id, run) = (shared.clone(), container.id.clone(), container.runs);
    tokio::spawn(async move {
        let code = code_of(&mut child).await;
        for reading in [out, err].into_iter().flatten() {
            let _ = reading.await;
        }
        lifecycle::ended(&shared, &id, run, code);
        over.send_replace(true);
    });
    Ok(Process {
        target: Target::Child(pid),
        gone,
    })
}

async fn code_of(child: &mut Child) -> i64 {
    use std::os::unix::process::ExitStatusExt as _;
    let Ok(status) = child.wait().await else {
        return -1;
    };
    status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(-1)
        .into()
}

/// Begins to read what a child says on a pipe.
fn heard(
    shared: &Arc<Shared>,
    container: &Container,
    is_err: bool,
    pipe: std::io::Result<OwnedFd>,
) -> std::io::Result<JoinHandle<()>> {
    let output = Output::new(&container.name, is_err, &container.log, pipe)?;
    shared.outputs.add(&output);
    Ok(tokio::spawn(output.keep(shared.clone())))
}
