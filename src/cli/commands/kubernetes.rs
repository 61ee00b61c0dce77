//! `kubernetes`: what runs in a cluster, another version of it, and the way there. Everything goes
//! through the person's own `kubectl`; what is next is decided by [`crate::kubernetes`].

mod change;
mod files;
mod handover;
mod helper;
mod here;
mod kubectl;
mod look;
mod sql;
mod status;
mod upgrade;

use std::time::Duration;

use tokio::time::Instant;

use crate::cli::args::KubernetesCommand;
use crate::cli::args::KubernetesFlags;
use crate::cli::context::Context;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::INTERRUPTED;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::outcome::USAGE;
use crate::cli::terminal::print;
use crate::kubernetes::Seen;
use crate::kubernetes::nodes;
use kubectl::Kubectl;
use kubectl::KubectlError;

/// The first pause between two looks; it grows while nothing changes.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// So long the cluster may be away, or refuse the same change, before that is the end of the
/// command.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs one of its commands.
pub async fn kubernetes(context: &Context, flags: &KubernetesFlags) -> Outcome {
    let kubectl = Kubectl::find(context, flags).await?;
    match &flags.command {
        KubernetesCommand::Status { format } => status::status(context, &kubectl, *format).await,
        KubernetesCommand::Upgrade(own) => upgrade::upgrade(&kubectl, own).await,
        KubernetesCommand::Handover(own) => handover::handover(context, &kubectl, flags, own).await,
    }
}

/// What a run of a command knows by itself, and its pauses.
struct Pace {
    ends_at: Instant,
    pause: Duration,
    told: String,
    failing_since: Option<Instant>,
    away_since: Option<Instant>,
}

impl Pace {
    fn new(seconds: u64) -> Self {
        Self {
            ends_at: Instant::now() + Duration::from_secs(seconds),
            pause: FIRST_PAUSE,
            told: String::new(),
            failing_since: None,
            away_since: None,
        }
    }

    /// For how long the nodes have been seen to fail without a break.
    fn failing(&mut self, seen: &Seen) -> Duration {
        self.away_since = None;
        let fails = seen.pods.iter().any(nodes::is_failing);
        let since = self.failing_since.unwrap_or_else(Instant::now);
        self.failing_since = fails.then_some(since);
        self.failing_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Tells a line once.
    fn tell(&mut self, line: Option<String>) {
        let Some(line) = line.filter(|line| *line != self.told) else {
            return;
        };
        print::tell(print::plain(&line));
        self.told = line;
        self.pause = FIRST_PAUSE;
    }

    /// The next pause is a long one.
    fn slow_down(&mut self) {
        self.pause = LONGEST_PAUSE;
    }

    /// Waits for the next look; nothing was done.
    async fn rest(&mut self) -> Outcome {
        if Instant::now() + self.pause > self.ends_at {
            let last = &self.told;
            let line = format!("not done in the time given ({last}); the same command goes on");
            return Err(Failure::new(TIMED_OUT, line));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// What passes is waited for, up to a bound.
    async fn outlast(&mut self, error: KubectlError) -> Outcome {
        if !error.passes() {
            return Err(error.into());
        }
        let since = *self.away_since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            let mut failure = Failure::from(error);
            failure
                .lines
                .push("the same command goes on from here".to_owned());
            return Err(failure);
        }
        // That is how it goes with things that a controller writes to, too.
        if !error.is_conflict() {
            self.tell(Some(format!("{error}; trying again")));
        }
        self.rest().await
    }
}

fn confirm(question: &str, yes: bool) -> Outcome {
    if yes {
        return Ok(());
    }
    if !print::can_ask() {
        let line = "nobody can be asked here whether that is meant: --yes does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    match print::ask(format_args!("{question} [y/N]")).as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => Err(Failure::new(FAILED, "nothing was touched")),
        None => Err(Failure::new(INTERRUPTED, "nothing was touched")),
    }
}
