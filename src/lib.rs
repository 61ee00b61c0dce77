//! octo-local runs Octopus Deploy and its SQL Server on one Docker host, in order, and keeps them
//! running.
//!
//! # Three ideas
//!
//! 1. **One pure function decides.** [`reconcile::plan()`] is given what is wanted, what Docker
//!    shows, what the daemon remembers and the time; it gives the next step. Starting, supervising,
//!    replacing, stopping and taking down are the same function called with other inputs. A plan is
//!    one step, not a script: do it, look again, ask again.
//! 2. **Docker is the store.** Labels say what is ours and which definition made it, so a restarted
//!    daemon adopts what runs. A unit's phase is derived on each pass. The one small state file
//!    keeps what Docker cannot: the last applied configuration, the operator's wishes, generated
//!    secrets. An adoption has a file of its own ([`adopt::record`]).
//! 3. **Effects are thin.** What talks to Docker, SQL Server, a node, the disk or a person makes
//!    one call, one conversion, one error. It decides nothing.
//!
//! # The way of a change
//!
//! ```text
//!  .env ──dotenv──> Vars ──config──> Config ──spec──> StackSpec          (desired)
//!                                                        │
//!  Docker ──observe──> Observed ──────────────────────> plan() ──> Plan ──> Docker, SQL Server
//!                      UnitRecords (health, failures), now ───┘   └──> status() ──> command line
//! ```
//!
//! The command line resolves the configuration and hands it to the daemon over a unix socket
//! ([`api`]). The daemon is a [`daemon::core`] without I/O and a [`daemon::shell`] around it. The
//! shell receives what happens as events, lets the core take them in, and performs the effects that
//! the core decides on as tasks: looks at Docker, actions, probes, writes of the state file,
//! answers. An event never triggers an action; the engine's word that a run ended changes what is
//! seen, every other one only says where to look. There is one look at a time, and an action that
//! ended counts as done only when a look that began after its end shows it. So the loop itself
//! waits for nothing but its queue, and a slow engine, a slow disk, a slow database or one hanging
//! container holds up nothing else.
//!
//! What is wished has one owner: what is kept ([`daemon::store`]). The core derives the desired
//! state from it, and a wish is on the disk before it is answered. Probes only report;
//! [`reconcile::health`] judges.
//!
//! The front door ([`web`]) is a process of its own that holds neither the Docker socket nor anything
//! of the stack: the core decides what it is fed, and it goes on with that when the daemon dies.
//!
//! What leaves this host as files for another tool, a cluster or docker compose, is made of the same
//! configuration by [`mod@export`], purely; the command line only writes it. What comes from docker
//! compose is recognised by [`adopt`], purely; the command line looks and carries out, step by step. So
//! it is with a cluster: [`kubernetes`] decides, and the command line drives the person's `kubectl`.
//!
//! The daemon and the simulation in the tests own the same [`daemon::core::Core`]: when to look,
//! whom to probe, which wish counts, what a failure means is decided there; and the same
//! [`engine::observe::ObservationCache`]: what a look may trust. What [`reconcile::State`] found out
//! (for the history, the state file, a prober) comes back as [`reconcile::News`].
//!
//! # Words
//!
//! | word | type |
//! |---|---|
//! | desired state | [`spec::StackSpec`]: names, ports, environments, mounts; no choice left |
//! | unit | [`spec::UnitId`]: `db`, a node or a Tentacle; the order of the first two is the start order |
//! | Tentacle | [`spec::tentacle`]: a deployment target or a worker beside the stack |
//! | goal | [`reconcile::Goal`]: up, hold, halt, down |
//! | observed state | [`reconcile::Observed`]; a reference to an image is pinned to one image from `up` to `up` |
//! | memory | [`reconcile::UnitRecords`]: its loss is harmless |
//! | phase | [`reconcile::Phase`], derived |
//! | cause | [`reconcile::Cause`]: why a unit failed; permanent, of the host, or transient |
//! | action | [`reconcile::Action`]: idempotent |
//! | drain | a node finishes its tasks and takes no more ([`reconcile::record::Drain`]) |
//! | upgrade | another version on data that an older one ran on, with a backup as the way back ([`daemon::store::Upgrade`]) |
//! | lease | the right to act for a project on an engine ([`engine::lease`]) |
//!
//! # Invariants
//!
//! 1. At most one unit starts at a time, in order, behind predecessors that are well, as far as
//!    the database may still have to be migrated.
//! 2. Never a restart inside its backoff; never one for a permanent cause until the configuration
//!    changes. The first restart of what served is at once: its cause is read meanwhile.
//! 3. At most one ready node is out by our own choice, save when the version changes; a node that
//!    serves finishes its tasks before it ends by choice, and nobody stays drained unasked.
//! 4. SQL Server is not taken down under a running node. A data volume is never removed unasked.
//! 5. Two versions of Octopus never run together; an older one never starts on a newer database.
//! 6. A restart of the daemon restarts no healthy container.
//! 7. When faults stop, the stack reaches the desired state, or stops with one named cause; then
//!    the plan is empty.
//! 8. What is not labelled as ours is never changed or removed, save by an adoption, which says what
//!    it does and asks.
//! 9. Nothing waits for a Tentacle, and none is registered twice.
//! 10. One daemon acts for a project on an engine: the one that has the lease there.
//!
//! # Modules
//!
//! In reading order, which is also the only allowed direction of imports between them
//! (`tests/tidy.rs` holds it). Down to [`reconcile`] everything is pure: no I/O, no clock, no
//! environment.

// rustfmt sorts neighbours: the empty lines keep the reading order.

pub mod dotenv;

pub mod config;

pub mod spec;

pub mod export;

pub mod adopt;

pub mod kubernetes;

pub mod reconcile;

pub mod service_manager;

pub mod engine;

pub mod sql;

pub mod octopus;

pub mod standin;

pub mod backup;

pub mod web;

pub mod daemon;

pub mod api;

pub mod cli;
