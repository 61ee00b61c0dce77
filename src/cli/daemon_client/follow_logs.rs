//! `logs -f`: the logs of containers as they grow, also from one run of a unit to the next, and of
//! nodes that come later.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::context::Context;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::logs::Selection;
use crate::engine::observe::ObservationCache;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::spec::UnitId;

/// How often runs are looked for that are not followed yet.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many lines may wait to be printed. Who reads a log waits when it is full.
const QUEUE: usize = 256;

/// A line of a unit's log: whether it is of standard error, the engine's time, and what it says.
type Line = (UnitId, Result<(bool, String, String), EngineError>);

/// What is known of a unit's log.
#[derive(Default)]
struct Followed {
    /// The run that was followed last.
    run: Option<Instance>,
    /// The one that reads it.
    reader: Option<JoinHandle<()>>,
    /// The time of the line that was printed last, as the engine writes it: in UTC and of one
    /// length, so that text compares.
    last: String,
}

/// Follows until Ctrl-C, or until nothing is left to follow.
pub async fn follow(
    context: &Context,
    engine: &Engine,
    units: &[UnitId],
    selection: &Selection,
    raw: bool,
) -> Outcome {
    let (lines, mut printed) = mpsc::channel(QUEUE);
    let mut logs: BTreeMap<UnitId, Followed> = BTreeMap::new();
    let mut cache = ObservationCache::default();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        // Cancel-safe: an interval keeps its next tick, a channel what was not received.
        tokio::select! {
            _ = look.tick() => {
                cache.forget();
                let seen = engine.observe(&context.project, &[], &mut cache).await?;
                let wanted = |container: &&Container| units.is_empty() || units.contains(&container.unit);
                seen.all().filter(wanted).for_each(|container| {
                    let log = logs.entry(container.unit).or_default();
                    log.keep_up(engine, container, selection, &lines);
                });
                let ended = logs.values().all(Followed::has_ended);
                if ended && !seen.all().any(|container| wanted(&container)) {
                    return Ok(());
                }
            }
            Some((unit, line)) = printed.recv() => {
                let (is_error, time, text) = line.map_err(Failure::from)?;
                let width = logs.keys().map(|unit| unit.to_string().len()).max().unwrap_or(0);
                let text = if selection.timestamps { format!("{time} {text}") } else { text };
                print::unit_line(unit, width, (is_error, text), raw);
                logs.entry(unit).or_default().last = time;
            }
        }
    }
}

impl Followed {
    fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Reads a run that nobody reads. One that ended before it was seen is read only if it is the
    /// first.
    fn keep_up(
        &mut self,
        engine: &Engine,
        container: &Container,
        selection: &Selection,
        lines: &mpsc::Sender<Line>,
    ) {
        let first = self.reader.is_none();
        let run = container.instance();
        if !self.has_ended() || (!first && (run == self.run || !container.is_running())) {
            return;
        }
        self.run = run;
        let mut selection = Selection {
            timestamps: true,
            ..selection.clone()
        };
        if !first {
            // The log of a container holds its earlier runs too: go on behind the last line.
            selection.tail = None;
            selection.since = second_of(&self.last).or(selection.since);
        }
        let reading = read(engine, container, &selection, self.last.clone());
        self.reader = Some(tokio::spawn(pass_on(reading, lines.clone())));
    }
}

/// The lines of one run behind a time.
fn read(
    engine: &Engine,
    container: &Container,
    selection: &Selection,
    after: String,
) -> impl Stream<Item = Line> + Send + use<> {
    let unit = container.unit;
    engine
        .log(&container.id, selection)
        .filter_map(move |line| {
            let line = line.map(|(is_error, line)| {
                let (time, text) = line.split_once(' ').unwrap_or((&line, ""));
                (is_error, time.to_owned(), text.to_owned())
            });
            let is_new = line.as_ref().map_or(true, |(_, time, _)| *time > after);
            std::future::ready(is_new.then_some((unit, line)))
        })
}

async fn pass_on(lines: impl Stream<Item = Line>, queue: mpsc::Sender<Line>) {
    let mut lines = std::pin::pin!(lines);
    while let Some(line) = lines.next().await {
        if queue.send(line).await.is_err() {
            return;
        }
    }
}

fn second_of(time: &str) -> Option<i32> {
    let time =
        time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339).ok()?;
    i32::try_from(time.unix_timestamp()).ok()
}
