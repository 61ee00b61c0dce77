//! Another password of `sa`. SQL Server has one at a time, and nodes that were given another could
//! neither finish their tasks nor take a new connection; so no node runs while it changes. Both
//! passwords are on the disk before that, and a login tells which one counts, so that a daemon that
//! comes after a killed one goes on.

use std::time::Duration;

use super::Core;
use crate::config::password;
use crate::daemon::message::Denied;
use crate::daemon::message::Effect;
use crate::daemon::message::PasswordNotChanged;
use crate::daemon::message::PasswordStep;
use crate::daemon::store::PasswordChange;
use crate::daemon::store::Stored;
use crate::reconcile::Mono;
use crate::reconcile::observed::Container;
use crate::reconcile::status::Note;
use crate::spec::UnitId;

/// How soon SQL Server is asked again after it could not be, or took neither password.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What is under way of a change, beside what is kept of it.
#[derive(Debug, Default)]
pub(super) struct PasswordWork {
    /// SQL Server is asked.
    asks: bool,
    /// Why that came to nothing, and when it is asked again.
    again: Option<(String, Mono)>,
}

/// What counts for the next step of a change.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// A change is kept that SQL Server did not confirm.
    is_begun: bool,
    /// No node runs nor can, and the disk has what is kept.
    are_nodes_out: bool,
    /// SQL Server's container runs.
    has_server: bool,
    /// Something reads the data, and logs in for it.
    is_data_read: bool,
    /// SQL Server is being asked.
    asks: bool,
    /// It is too early to ask again.
    is_early: bool,
}

/// The next step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is none.
    Idle,
    /// It is waited for nodes to end, for SQL Server, or for its answer.
    Wait,
    /// SQL Server is asked which password it has, and given the new one.
    Ask,
}

fn next_step(seen: Seen) -> Step {
    match seen {
        Seen {
            is_begun: false, ..
        } => Step::Idle,
        Seen {
            are_nodes_out: true,
            has_server: true,
            is_data_read: false,
            asks: false,
            is_early: false,
            ..
        } => Step::Ask,
        _ => Step::Wait,
    }
}

impl Core {
    /// Whether nodes are out for it.
    pub(super) fn is_password_changing(&self) -> bool {
        self.keeping.stored().sa.changing().is_some() || self.learned.password.asks
    }

    /// Whether SQL Server is being asked for it, or given the new one.
    pub(super) fn is_password_written(&self) -> bool {
        self.learned.password.asks
    }

    /// Begins the step that is next.
    pub(super) fn go_on_with_password_change(&mut self) {
        let Some(change) = self.keeping.stored().sa.changing().cloned() else {
            self.learned.password.again = None;
            return;
        };
        let container = self.state.seen.container(UnitId::Sql);
        let container = container.filter(|one| one.is_running()).map(id_of);
        let again = self.learned.password.again.as_ref();
        let seen = Seen {
            is_begun: true,
            are_nodes_out: self.are_nodes_out(),
            has_server: container.is_some(),
            is_data_read: self.learned.scheduled.is_made() || self.is_data_worked_on(),
            asks: self.learned.password.asks,
            is_early: again.is_some_and(|(_, at)| *at > self.now.mono),
        };
        match (next_step(seen), container) {
            (Step::Ask, Some(container)) => self.ask_for_password(container, change),
            (Step::Ask | Step::Idle | Step::Wait, _) => {}
        }
    }

    fn ask_for_password(&mut self, container: String, change: PasswordChange) {
        if self.learned.password.again.is_none() {
            self.tell("", "no node runs: SQL Server gets the new password of sa");
        }
        self.learned.password.asks = true;
        let change = Box::new(change);
        self.out.push(Effect::ChangePassword { container, change });
    }

    /// SQL Server has the new password, or it is not known to.
    pub(super) fn on_password_changed(&mut self, result: Result<(), PasswordNotChanged>) {
        self.learned.password.asks = false;
        if self.keeping.stored().sa.changing().is_none() {
            return;
        }
        match result {
            Ok(()) => {
                self.keeping.edit(Stored::password_changed);
                self.tell("", "SQL Server has the new password of sa; it is applied");
                self.apply_another_version();
            }
            Err(PasswordNotChanged {
                why,
                is_final: true,
            }) => {
                self.tell("", format!("the password of sa is not changed: {why}"));
                self.keeping
                    .edit(|stored| stored.give_up_password_change(&why));
                self.derive();
            }
            Err(PasswordNotChanged { why, .. }) => {
                let known = self.learned.password.again.as_ref();
                if known.is_none_or(|(known, _)| *known != why) {
                    self.tell("", format!("the password of sa is not changed yet: {why}"));
                }
                let at = self.now.mono.after(ASK_AGAIN);
                self.learned.password.again = Some((why, at));
            }
        }
    }

    /// When SQL Server is asked again.
    pub(super) fn password_due_at(&self) -> Option<Mono> {
        let waits = !self.learned.password.asks && self.keeping.stored().sa.changing().is_some();
        let (_, at) = self.learned.password.again.as_ref().filter(|_| waits)?;
        Some(*at).filter(|at| *at > self.now.mono)
    }

    /// Whether a change may begin, or is written down.
    pub(super) fn admit_password(&self, step: &PasswordStep) -> Result<(), Denied> {
        let because = |words: &str| Err(Denied::Because(words.to_owned()));
        let to = match step {
            PasswordStep::Begin(to) => to,
            PasswordStep::Written => return Ok(()),
        };
        if let Some(denied) = self.deny_any_up() {
            return Err(denied);
        }
        let kept = self.keeping.stored();
        if !kept.is_up() || kept.held || kept.stopped.contains(&UnitId::Sql) {
            return because("SQL Server is not up: `octo-local up` first");
        }
        let Some(sql) = kept.config.as_ref().and_then(|config| config.sql.as_ref()) else {
            return because(
                "SQL Server is somebody else's: change the password there and in DB_CONNECTION_STRING, then `octo-local up`",
            );
        };
        match &kept.sa.change {
            // Whoever follows it asks again after a daemon died.
            Some(change) if !change.is_made && change.to == *to => return Ok(()),
            Some(_) => {
                return because(
                    "the last change of it is not done: `octo-local sa-password rotate` goes on",
                );
            }
            None => {}
        }
        if kept.backups.upgrades.upgrading.is_some() {
            return because("an upgrade is not done: change the password when it is");
        }
        let faults = password::faults(to.expose(), "sa");
        if !faults.is_empty() {
            return because(&format!(
                "SQL Server would refuse it: {}",
                faults.join(" and ")
            ));
        }
        if *to == sql.sa_password {
            return because("it is the password that sa has already");
        }
        Ok(())
    }

    /// Why nothing else may change the data or what is applied now.
    pub(super) fn deny_for_password(&self) -> Option<Denied> {
        let words =
            "the password of sa is being changed; ask again when that is done: `octo-local status`";
        let changing = self.keeping.stored().sa.changing();
        changing.map(|_| Denied::Because(words.to_owned()))
    }

    /// What people should know of it.
    pub(super) fn notes_of_password(&self) -> Vec<Note> {
        let sa = &self.keeping.stored().sa;
        let why = self.learned.password.again.as_ref();
        let change = sa.change.as_ref().map(|change| {
            if change.is_made {
                Note::PasswordUnwritten
            } else {
                Note::PasswordChanging {
                    why: why.map(|(why, _)| why.clone()),
                }
            }
        });
        let kept = sa.failure.clone().map(|why| Note::PasswordKept { why });
        change.into_iter().chain(kept).collect()
    }
}

fn id_of(container: &Container) -> String {
    container.id.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_server_is_asked_only_when_nobody_else_logs_in() {
        let ready = Seen {
            is_begun: true,
            are_nodes_out: true,
            has_server: true,
            is_data_read: false,
            asks: false,
            is_early: false,
        };
        assert_eq!(next_step(ready), Step::Ask);
        let not_begun = Seen {
            is_begun: false,
            ..ready
        };
        assert_eq!(next_step(not_begun), Step::Idle);
        for waits in [
            Seen {
                are_nodes_out: false,
                ..ready
            },
            Seen {
                has_server: false,
                ..ready
            },
            Seen {
                is_data_read: true,
                ..ready
            },
            Seen {
                asks: true,
                ..ready
            },
            Seen {
                is_early: true,
                ..ready
            },
        ] {
            assert_eq!(next_step(waits), Step::Wait, "{waits:?}");
        }
    }
}
