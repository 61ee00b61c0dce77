//! The faults that are drawn, how each is done, and what it may move: everything else must stay as
//! it is.

use std::time::Duration;

use rustix::process::Signal;

use super::Soak;
use super::host::Load;
use crate::kit::chance::Chance;
use crate::kit::process::wait_until;

/// How long something is frozen or loaded: longer than three probes of a unit that is well take.
const A_WHILE: Duration = Duration::from_secs(5);
/// Threads of a load: ten for each core of the smallest machine that this runs on.
const LOAD: usize = 20;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    KillNode,
    NodeEndsByItself,
    HangNode,
    StopNode,
    RemoveNode,
    FreezeNode,
    CutOffNode,
    KillSql,
    RemoveSql,
    FreezeSql,
    CutOffSql,
    KillEverything,
    SetRestartPolicy,
    RenameNode,
    RestartUnit,
    StopAndStartUnit,
    OneNodeLessAndMore,
    LoadHost,
    KillDaemon,
    FreezeDaemon,
    ReloadDaemon,
    DamageStateFile,
    SecondUp,
}

/// What a fault moved.
pub(super) struct Moved {
    /// Units whose containers may be others, or run anew.
    pub(super) units: Vec<String>,
    /// Whether the stack must be seen to have left and reached its desired state: something had to
    /// be repaired.
    pub(super) must_move: bool,
}

fn moved(units: &[&str]) -> Moved {
    Moved {
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        must_move: true,
    }
}

fn nothing() -> Moved {
    Moved {
        units: Vec::new(),
        must_move: false,
    }
}

impl Fault {
    /// Those that leave the daemon's process alone.
    pub(super) const OF_THE_STACK: [Self; 19] = [
        Self::KillNode,
        Self::NodeEndsByItself,
        Self::HangNode,
        Self::StopNode,
        Self::RemoveNode,
        Self::FreezeNode,
        Self::CutOffNode,
        Self::KillSql,
        Self::RemoveSql,
        Self::FreezeSql,
        Self::CutOffSql,
        Self::KillEverything,
        Self::SetRestartPolicy,
        Self::RenameNode,
        Self::RestartUnit,
        Self::StopAndStartUnit,
        Self::OneNodeLessAndMore,
        Self::LoadHost,
        Self::SecondUp,
    ];

    /// All.
    pub(super) const ALL: [Self; 23] = [
        Self::KillNode,
        Self::NodeEndsByItself,
        Self::HangNode,
        Self::StopNode,
        Self::RemoveNode,
        Self::FreezeNode,
        Self::CutOffNode,
        Self::KillSql,
        Self::RemoveSql,
        Self::FreezeSql,
        Self::CutOffSql,
        Self::KillEverything,
        Self::SetRestartPolicy,
        Self::RenameNode,
        Self::RestartUnit,
        Self::StopAndStartUnit,
        Self::OneNodeLessAndMore,
        Self::LoadHost,
        Self::SecondUp,
        Self::KillDaemon,
        Self::FreezeDaemon,
        Self::ReloadDaemon,
        Self::DamageStateFile,
    ];

    /// Does it.
    pub(super) fn strike(self, soak: &mut Soak, chance: &mut Chance) -> Moved {
        let node = format!(
            "octopus-server-{}",
            1 + chance.below(u64::from(super::NODES))
        );
        match self {
            Self::KillSql | Self::RemoveSql | Self::FreezeSql | Self::CutOffSql => {
                self.strike_sql(soak)
            }
            Self::KillDaemon | Self::FreezeDaemon | Self::ReloadDaemon | Self::DamageStateFile => {
                self.strike_daemon(soak)
            }
            Self::RestartUnit
            | Self::StopAndStartUnit
            | Self::OneNodeLessAndMore
            | Self::SecondUp => self.operate(soak, &node),
            Self::KillEverything | Self::SetRestartPolicy | Self::LoadHost => self.strike_all(soak),
            _ => self.strike_node(soak, &node),
        }
    }

    fn strike_node(self, soak: &Soak, node: &str) -> Moved {
        let (witness, name) = (&soak.stack.witness, soak.stack.container(node));
        match self {
            Self::KillNode => witness.kill(&name, "KILL"),
            Self::NodeEndsByItself => witness.kill(&name, "TERM"),
            Self::HangNode => witness.kill(&name, "STOP"),
            Self::StopNode => witness.stop(&name),
            Self::RemoveNode => witness.remove(&name),
            Self::FreezeNode => {
                witness.pause(&name);
                std::thread::sleep(A_WHILE);
                witness.unpause(&name);
                return nothing();
            }
            Self::CutOffNode => {
                witness.disconnect(&soak.network(), &name);
                soak.waits_for_attachment(&name);
                return nothing();
            }
            _ => {
                witness.rename(&name, &format!("{name}-renamed"));
                witness.rename(&format!("{name}-renamed"), &name);
                return nothing();
            }
        }
        moved(&[node])
    }

    fn strike_sql(self, soak: &Soak) -> Moved {
        let (witness, name) = (&soak.stack.witness, soak.stack.container("db"));
        match self {
            Self::KillSql => witness.kill(&name, "KILL"),
            Self::RemoveSql => witness.remove(&name),
            Self::FreezeSql => {
                witness.pause(&name);
                std::thread::sleep(A_WHILE);
                witness.unpause(&name);
                return nothing();
            }
            _ => {
                witness.disconnect(&soak.network(), &name);
                soak.waits_for_attachment(&name);
                return nothing();
            }
        }
        moved(&["db"])
    }

    fn strike_all(self, soak: &Soak) -> Moved {
        let witness = &soak.stack.witness;
        match self {
            Self::KillEverything => {
                let names = witness.containers(&soak.stack.label());
                for name in &names {
                    witness.kill(name, "KILL");
                }
                return moved(&[
                    "db",
                    "octopus-server-1",
                    "octopus-server-2",
                    "octopus-server-3",
                ]);
            }
            Self::SetRestartPolicy => {
                let name = soak.stack.container("octopus-server-1");
                witness.restart_always(&name);
                wait_until("the restart policy is back at no", || {
                    let policy = witness.inspect(&name)?.host_config?.restart_policy?.name?;
                    (policy.to_string() == "no").then_some(())
                });
            }
            _ => {
                let load = Load::of(LOAD);
                std::thread::sleep(A_WHILE * 2);
                drop(load);
            }
        }
        nothing()
    }

    fn strike_daemon(self, soak: &mut Soak) -> Moved {
        match self {
            Self::FreezeDaemon => {
                soak.stack.signal_daemon(Signal::STOP);
                std::thread::sleep(A_WHILE);
                soak.stack.signal_daemon(Signal::CONT);
            }
            Self::ReloadDaemon => {
                soak.stack.signal_daemon(Signal::HUP);
                wait_until("the daemon is there again", || {
                    soak.is_supervised().then_some(())
                });
            }
            Self::DamageStateFile => {
                soak.stack.kill_daemon();
                let file = soak.stack.state().join("state.json");
                let whole = std::fs::read(&file).unwrap();
                std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
                soak.attend();
            }
            _ => {
                soak.stack.kill_daemon();
                soak.attend();
            }
        }
        nothing()
    }

    fn operate(self, soak: &Soak, node: &str) -> Moved {
        let (stack, all) = (&soak.stack, super::NODES.to_string());
        match self {
            Self::RestartUnit => stack.run(&["restart", node]).ok(),
            Self::StopAndStartUnit => {
                stack.run(&["stop", node]).ok();
                stack.run(&["start", node]).ok()
            }
            Self::OneNodeLessAndMore => {
                stack.run(&["up", "--demo", "--nodes", "2"]).ok();
                stack.run(&["up", "--demo", "--nodes", &all]).ok();
                return Moved {
                    must_move: false,
                    ..moved(&["octopus-server-3"])
                };
            }
            _ => {
                stack.run(&["up", "--demo", "--nodes", &all]).ok();
                return nothing();
            }
        };
        Moved {
            must_move: false,
            ..moved(&[node])
        }
    }
}

impl Soak {
    fn network(&self) -> String {
        format!("{}_default", self.stack.name)
    }

    fn waits_for_attachment(&self, name: &str) {
        wait_until("the container is attached again", || {
            let networks = self
                .stack
                .witness
                .inspect(name)?
                .network_settings?
                .networks?;
            networks.contains_key(&self.network()).then_some(())
        });
    }
}
