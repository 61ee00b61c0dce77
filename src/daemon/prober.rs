//! Asks one run of one unit how it is, again and again, and tells the driver. Judging is not its
//! business, save for one thing: an answer that came late because this process did not get to run
//! says nothing about the unit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event::Event;
use crate::config::Timing;
use crate::engine::Engine;
use crate::octopus;
use crate::reconcile::health::Miss;
use crate::reconcile::health::PATIENCE;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::spec::DatabaseTarget;
use crate::spec::UnitId;
use crate::sql;

/// How much later than its deadline a probe may end before this process counts as starved.
const STARVED: Duration = Duration::from_millis(500);
/// Between a failure and the next probe of a unit that was ready, unless the failure itself took
/// longer.
const AFTER_MISS: Duration = Duration::from_millis(500);
/// How often a starting unit's log is looked at.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Whom to ask.
#[derive(Clone, Debug)]
pub enum Target {
    /// The database.
    Database(DatabaseTarget),
    /// A node's web port on the host.
    Node(std::net::SocketAddr),
}

/// One prober.
#[derive(Clone, Debug)]
pub struct Prober {
    /// The unit it is about.
    pub unit: UnitId,
    /// The run it is about; none for an external database.
    pub instance: Option<Instance>,
    /// Whom to ask.
    pub target: Target,
    /// How often and how long.
    pub timing: Timing,
    /// For looking at the log.
    pub engine: Engine,
    /// Where to tell.
    pub events: mpsc::Sender<Event>,
    /// Wakes it early, when something suggests that its last answer is stale.
    pub nudge: std::sync::Arc<tokio::sync::Notify>,
}

impl Prober {
    /// Probes until the driver drops it.
    pub async fn run(self) {
        let begun = Instant::now();
        let first = self.timing.probe_timeout;
        let (mut started, mut silent) = (false, false);
        let mut log = LogMark::default();
        loop {
            let asked = Instant::now();
            let limit = if silent { PATIENCE.max(first) } else { first };
            let probe = self.judged(self.ask(limit).await, asked, limit);
            started |= probe == Probe::Ready;
            let failed = matches!(probe, Probe::Failure(..));
            silent = matches!(probe, Probe::Failure(Miss::Silent(_), _));
            if self
                .events
                .send(Event::Probed(self.unit, self.instance.clone(), probe))
                .await
                .is_err()
            {
                return;
            }
            if !started && log.is_due() && self.log_moved(&mut log).await {
                let _ = self.events.send(Event::Progressed(self.unit)).await;
            }
            let pause = self.pause(started, failed, begun.elapsed(), asked.elapsed());
            // Cancel-safe: a lost nudge only means that the next probe comes at its usual time.
            let _ = tokio::time::timeout(pause, self.nudge.notified()).await;
        }
    }

    async fn ask(&self, limit: Duration) -> Probe {
        match &self.target {
            Target::Database(target) => sql::probe(target, limit).await,
            Target::Node(address) => octopus::ping(*address, limit).await,
        }
    }

    fn judged(&self, probe: Probe, asked: Instant, limit: Duration) -> Probe {
        // A database probe has three phases, each with the limit.
        let longest = match self.target {
            Target::Database(_) => limit * 4,
            Target::Node(_) => limit,
        };
        match probe {
            Probe::Failure(_, why) if asked.elapsed() > longest + STARVED => Probe::Unknown(why),
            other => other,
        }
    }

    fn pause(
        &self,
        started: bool,
        failed: bool,
        since_begun: Duration,
        took: Duration,
    ) -> Duration {
        let timing = &self.timing;
        if started && failed {
            return AFTER_MISS.min(timing.steady_probe).saturating_sub(took);
        }
        if started {
            timing.steady_probe
        } else if since_begun < timing.fast_window {
            timing.start_probe_fast
        } else {
            timing.start_probe_slow
        }
    }

    async fn log_moved(&self, log: &mut LogMark) -> bool {
        let Some(instance) = &self.instance else {
            return false;
        };
        log.looked_at = Some(Instant::now());
        let Ok(lines) = self.engine.last_lines(&instance.id, 1, true).await else {
            return false;
        };
        let last = lines.into_iter().next_back().unwrap_or_default();
        // Our own refused logins are written to the log too; they are no progress.
        let ours = last.contains("Login failed") || last.contains("18456");
        let moved = !ours && last != log.last;
        if moved {
            log.last = last;
        }
        moved
    }
}

#[derive(Default)]
struct LogMark {
    last: String,
    looked_at: Option<Instant>,
}

impl LogMark {
    fn is_due(&self) -> bool {
        self.looked_at
            .is_none_or(|at| at.elapsed() >= PROGRESS_EVERY)
    }
}
