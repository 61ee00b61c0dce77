//! A Docker Engine for tests: it speaks HTTP on a unix socket as Docker 20.10 does, its containers
//! are real processes, and everything that can go wrong between a client and an engine can be made
//! to go wrong in it.
//!
//! What it answers was compared with a 20.10.24: status codes, texts, what a container that was
//! never started or that was stopped shows of its network, which events come in which order. It
//! knows what octo-local uses, and nothing more.

pub(crate) mod call;
mod container;
pub(crate) mod event;
mod image;
pub(crate) mod invariants;
mod lifecycle;
mod network;
pub(crate) mod node;
mod output;
mod port;
mod process;
mod route;
pub(crate) mod script;
mod serve;
pub(crate) mod timeline;
mod world;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use event::Trouble;
use node::Conduct;
use script::Rule;
use script::Script;
use script::Turn;
use timeline::What;
use world::World;

/// How long the end of all processes may take when the engine goes.
const FAREWELL: Duration = Duration::from_secs(10);

/// What runs in containers of Octopus Server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// A few lines in this process.
    Inside,
    /// The product's own stand-in, a real client of the database.
    StandIn,
}

/// What the engine's tasks and the test share.
#[derive(Debug)]
pub(crate) struct Shared {
    nodes: Nodes,
    world: Mutex<World>,
    script: Mutex<Script>,
    socket: PathBuf,
    serving: Mutex<Option<CancellationToken>>,
    outputs: output::Outputs,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed holding a lock must not hide its own message behind another one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    /// Begins to serve. Whoever asked before finds nobody any more.
    fn come(self: &Arc<Self>) {
        let listener =
            UnixListener::bind(&self.socket).expect("a temporary directory can be written");
        let ended = CancellationToken::new();
        tokio::spawn(serve::serve(self.clone(), listener, ended.clone()));
        *lock(&self.serving) = Some(ended);
    }

    fn go(&self) {
        if let Some(ended) = lock(&self.serving).take() {
            ended.cancel();
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

/// The engine. Dropping it ends everything that runs in it.
pub(crate) struct FakeEngine {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl FakeEngine {
    /// An engine that keeps everything in this directory and listens on `engine.sock` in it.
    pub(crate) fn new(dir: &Path, nodes: Nodes) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let world = World::new(dir.to_owned());
        let shared = Shared {
            nodes,
            world: Mutex::new(world),
            script: Mutex::default(),
            socket: dir.join("engine.sock"),
            serving: Mutex::default(),
            outputs: output::Outputs::default(),
        };
        let engine = Self {
            shared: Arc::new(shared),
            runtime: Some(runtime),
        };
        engine.come();
        engine
    }

    /// Where it listens, as `DOCKER_HOST` has it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.shared.socket.display())
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("it is taken only when the engine is dropped")
    }

    /// Begins to serve again.
    pub(crate) fn come(&self) {
        let _entered = self.runtime().enter();
        self.shared.come();
    }

    /// Goes away as `dockerd` does when it ends: every connection breaks and nobody listens.
    /// Containers go on.
    pub(crate) fn go(&self) {
        self.shared.go();
    }

    /// Everything that is there.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// Makes an image. A reference that is there stands for the new one from then on.
    pub(crate) fn add_image(&self, image: &str) {
        image::add(&mut self.world(), image, "tag");
    }

    /// Makes something go wrong.
    pub(crate) fn fault(&self, rule: Rule) {
        self.shared.script().rules.push(rule);
    }

    /// How many calls all faults hit.
    pub(crate) fn hits(&self) -> usize {
        self.shared
            .script()
            .rules
            .iter()
            .map(|rule| rule.hits)
            .sum()
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.shared.script().rules.clear();
        self.trouble(Trouble::None);
    }

    /// What is wrong with the streams of events from now on.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.shared.script().events = trouble;
        self.world().told.send_modify(|_| ());
    }

    /// Closes the streams of events that are open.
    pub(crate) fn close_streams(&self) {
        self.shared.script().closings += 1;
        self.world().told.send_modify(|_| ());
    }

    /// How the node in the container of this name behaves.
    pub(crate) fn conduct(&self, container: &str, conduct: Conduct) {
        self.shared
            .script()
            .conducts
            .insert(container.to_owned(), conduct);
    }

    /// Makes something happen at single calls of the daemon: each is counted from the one before.
    pub(crate) fn at(&self, turns: impl IntoIterator<Item = Turn>) {
        self.shared.script().turns = turns.into_iter().collect();
    }

    /// Nothing more happens at single calls.
    pub(crate) fn calm(&self) {
        self.shared
            .script()
            .turns
            .retain(|turn| turn.came_to.is_some());
    }

    /// What happened at single calls, and what is to come.
    pub(crate) fn turns(&self) -> Vec<Turn> {
        self.shared.script().turns.clone()
    }

    /// Sends a signal to the process of a container past the engine, as fate does.
    pub(crate) fn strike(&self, container: &str, signal: Signal) {
        let process = {
            let mut world = self.world();
            world.timeline.note(What::Meddled(container.to_owned()));
            world
                .container(container)
                .ok()
                .and_then(|container| container.process.clone())
        };
        process.expect("it runs").signal(signal);
    }

    /// Notes that the test does something to a container in a person's place.
    pub(crate) fn meddle(&self, container: &str) {
        self.world()
            .timeline
            .note(What::Meddled(container.to_owned()));
    }

    /// When the containers that run were started, by name.
    pub(crate) fn running(&self) -> std::collections::BTreeMap<String, String> {
        let world = self.world();
        let runs = world
            .containers
            .values()
            .filter(|container| container.runs());
        runs.map(|container| (container.name.clone(), container.started_at.clone()))
            .collect()
    }

    /// Ends all processes at once and waits until they are gone, as `dockerd` without live-restore
    /// when it ends.
    pub(crate) fn end_all(&self) {
        let processes: Vec<_> = {
            let mut world = self.world();
            let running = world
                .containers
                .values()
                .filter(|container| container.runs());
            let names: Vec<String> = running.map(|container| container.name.clone()).collect();
            for name in names {
                world.timeline.note(What::Meddled(name));
            }
            world
                .containers
                .values()
                .filter_map(|container| container.process.clone())
                .collect()
        };
        self.runtime().block_on(async {
            for process in processes {
                process.signal(Signal::KILL);
                let _ = tokio::time::timeout(FAREWELL, process.gone()).await;
            }
        });
    }

    /// Forgets everything but images: an engine that nobody used yet, with nobody on its ports.
    pub(crate) fn clear(&self) {
        self.end_all();
        let names: Vec<String> = {
            let world = self.world();
            let containers = world.containers.values();
            containers.map(|container| container.name.clone()).collect()
        };
        self.runtime().block_on(async {
            for name in &names {
                port::wait_until_free(&self.shared, name).await;
            }
        });
        let mut world = self.world();
        let (images, origins) = (
            std::mem::take(&mut world.images),
            std::mem::take(&mut world.origins),
        );
        for volume in world.volumes.values() {
            let _ = std::fs::remove_dir_all(&volume.dir);
        }
        let mut fresh = World::new(world.dir.clone());
        (fresh.images, fresh.origins) = (images, origins);
        fresh.registry.clone_from(&world.registry);
        *world = fresh;
        drop(world);
        *self.shared.script() = Script::default();
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.go();
        for container in self.world().containers.values_mut() {
            container.policy.clear();
        }
        self.end_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(FAREWELL);
        }
    }
}
