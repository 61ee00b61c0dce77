//! `backup --quiesce`: all nodes finish their tasks and take no more while a set is made. The daemon has
//! them take tasks again when the connection ends, however this process does.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::QuiesceBody;
use crate::api::client::Statuses;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::terminal::print;
use crate::daemon::store::Stored;
use crate::reconcile::status::PhaseWord;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::spec::UnitId;

/// How long nodes may take beyond the time that their tasks have.
const MARGIN: Duration = Duration::from_secs(60);
/// How long it is waited for nodes to take tasks again.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// All nodes are drained, until this is dropped.
pub(super) struct Quiesced {
    /// Whether they have been all the time.
    pub(super) drained: watch::Receiver<bool>,
    following: JoinHandle<()>,
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Has all nodes finish their tasks and take no more. None where the stack is not up: no node has tasks
/// then.
pub(super) async fn begin(context: &Context, stored: &Stored) -> Result<Option<Quiesced>, Failure> {
    let Some(config) = stored.config.as_ref().filter(|_| stored.is_up()) else {
        return Ok(None);
    };
    let limit = config.timing.drain_timeout;
    print::tell(format_args!(
        "all nodes finish their tasks first, at most for {} s, and take no more until the backup is made",
        limit.as_secs()
    ));
    daemon_process::ensure(context).await?;
    let body = QuiesceBody {
        endpoint: Some(context.endpoint()),
    };
    let mut statuses = context.client.quiesce(&body).await?;
    let deadline = Instant::now() + limit + MARGIN;
    let waiting = tokio::time::timeout_at(deadline, all_drained(&mut statuses));
    waiting.await.unwrap_or_else(|_| {
        let line = "not all nodes finished their tasks in time, so no backup was made; `octo-local status` names them";
        Err(Failure::new(FAILED, line))
    })?;
    let (sender, drained) = watch::channel(true);
    let following = tokio::spawn(async move {
        while let Ok(Some(status)) = statuses.next().await {
            sender.send_if_modified(|still| std::mem::replace(still, *still && is_quiet(&status)));
        }
        sender.send_replace(false);
    });
    Ok(Some(Quiesced { drained, following }))
}

async fn all_drained(statuses: &mut Statuses) -> Result<(), Failure> {
    while let Some(status) = statuses.next().await? {
        if is_quiet(&status) {
            return Ok(());
        }
    }
    let line = "the daemon ended meanwhile, so no backup was made";
    Err(Failure::new(FAILED, line))
}

/// Waits until the nodes take tasks again that nobody drained or stopped, and says which do not.
pub(super) async fn end(context: &Context, quiesced: Quiesced, stored: &Stored) {
    drop(quiesced);
    let mut waits = BTreeSet::new();
    let waiting = async {
        let mut statuses = context.client.follow().await.ok()?;
        while let Some(status) = statuses.next().await.ok()? {
            waits = status
                .units
                .iter()
                .filter_map(|unit| waits_for(unit, stored))
                .collect();
            if waits.is_empty() {
                return Some(());
            }
        }
        None
    };
    let is_over = tokio::time::timeout(BACK_WITHIN, waiting).await;
    if !matches!(is_over, Ok(Some(()))) {
        let names = waits.iter().map(UnitId::to_string).collect::<Vec<_>>();
        print::tell(format_args!(
            "note: it is not known yet that nodes take tasks again ({}); the daemon goes on with that, see `octo-local status`",
            names.join(", ")
        ));
    }
}

/// A node that is still drained, and should not be.
fn waits_for(unit: &UnitStatus, stored: &Stored) -> Option<UnitId> {
    let is_wished = stored.drains.drained.contains(&unit.unit);
    let is_out = matches!(unit.phase, PhaseWord::Draining | PhaseWord::Drained);
    (unit.unit.is_server() && is_out && !is_wished).then_some(unit.unit)
}

/// Whether no node has tasks.
fn is_quiet(status: &Status) -> bool {
    let mut nodes = status.units.iter().filter(|unit| unit.unit.is_server());
    nodes.all(|node| has_no_tasks(node.phase))
}

fn has_no_tasks(phase: PhaseWord) -> bool {
    match phase {
        PhaseWord::Drained
        | PhaseWord::Absent
        | PhaseWord::Created
        | PhaseWord::Dead
        | PhaseWord::BackingOff
        | PhaseWord::CrashLoop
        | PhaseWord::Failed
        | PhaseWord::Stopped => true,
        PhaseWord::Starting
        | PhaseWord::Ready
        | PhaseWord::Unready
        | PhaseWord::Draining
        | PhaseWord::Paused
        | PhaseWord::Stopping
        | PhaseWord::Running => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_no_tasks_once_it_is_drained_or_does_not_run() {
        assert!(has_no_tasks(PhaseWord::Drained) && has_no_tasks(PhaseWord::Stopped));
        for busy in [PhaseWord::Ready, PhaseWord::Draining, PhaseWord::Starting] {
            assert!(!has_no_tasks(busy), "{busy:?}");
        }
    }
}
