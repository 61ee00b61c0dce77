//! Progress of a stack: transitions as lines for a pipe, a block redrawn in place for a terminal.
//! What to say is pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::args::Format;
use crate::cli::terminal::print;
use crate::cli::terminal::print::Colour;
use crate::cli::terminal::screen::Line;
use crate::cli::terminal::screen::Screen;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;

/// How often the seconds in the block are drawn.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Shows how a stack is doing, on standard error; as JSON on standard output.
pub struct Progress {
    began: Instant,
    format: Format,
    /// The block on a terminal, and what it shows.
    block: Option<(Screen, Option<Status>)>,
    told: BTreeMap<String, String>,
    /// How long each unit spent in each phase, to say what was waited for longest.
    waits: BTreeMap<String, (String, Instant, Duration)>,
}

impl Progress {
    /// Begins now.
    pub fn new(format: Format) -> Self {
        let block = (format == Format::Table && print::can_redraw())
            .then(|| (Screen::new(print::has_colour()), None));
        Self {
            began: Instant::now(),
            format,
            block,
            told: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    /// Tells what is new.
    pub fn tell(&mut self, status: &Status) {
        self.measure(status);
        if self.format == Format::Json {
            return self.tell_machine(status);
        }
        match &mut self.block {
            Some((_, shown)) => {
                *shown = Some(status.clone());
                self.draw();
            }
            None => self.news(status).iter().for_each(print::tell),
        }
    }

    /// Waits a moment and draws the block again; without a terminal it waits for ever.
    pub async fn tick(&mut self) {
        if self.block.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(REDRAW_EVERY).await;
        self.draw();
    }

    /// Tells something besides. A block on a terminal stays as it was, and another one begins
    /// below.
    pub fn interject(&mut self, line: &str) {
        if let Some(block) = &mut self.block {
            *block = (Screen::new(print::has_colour()), None);
        }
        print::tell(line);
    }

    fn draw(&mut self) {
        let elapsed = self.began.elapsed();
        if let Some((screen, Some(status))) = &mut self.block {
            screen.draw(&block_of(status, elapsed));
        }
    }

    fn tell_machine(&mut self, status: &Status) {
        let text = serde_json::to_string(status).expect("what is shown has only text for keys");
        if self.told.get("").is_none_or(|before| *before != text) {
            print::line(&text);
            self.told.insert(String::new(), text);
        }
    }

    /// One line a transition.
    fn news(&mut self, status: &Status) -> Vec<String> {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut lines = Vec::new();
        for (name, text) in facts(status) {
            if self
                .told
                .get(&name)
                .is_none_or(|before| before.split(" (").next() != text.split(" (").next())
            {
                lines.push(format!("{seconds:7.2}s  {name}: {text}"));
                self.told.insert(name, text);
            }
        }
        lines
    }

    fn measure(&mut self, status: &Status) {
        let now = Instant::now();
        for unit in &status.units {
            let name = unit.unit.to_string();
            let entry = self
                .waits
                .entry(name)
                .or_insert_with(|| (unit.phase.clone(), now, Duration::ZERO));
            if entry.0 == "starting" {
                entry.2 += now - entry.1;
            }
            entry.0.clone_from(&unit.phase);
            entry.1 = now;
        }
    }

    /// What was waited for longest, and for how long.
    pub fn longest(&self) -> Option<(String, Duration)> {
        self.waits
            .iter()
            .map(|(name, (_, _, waited))| (name.clone(), *waited))
            .max_by_key(|(_, waited)| *waited)
    }

    /// How long it has been.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends; a block on a terminal stays as it was last.
    pub fn end(&mut self) {
        self.block = None;
    }
}

/// Everything that is told about, by name.
fn facts(status: &Status) -> Vec<(String, String)> {
    let units = status
        .units
        .iter()
        .map(|unit| (unit.unit.to_string(), text_of(unit)));
    let engine = status
        .engine_problem
        .iter()
        .map(|problem| ("engine".to_owned(), problem.clone()));
    work_of(status).chain(units).chain(engine).collect()
}

/// What is under way or blocked besides the units. Volumes come and go in a moment: they are told
/// about only when blocked.
fn work_of(status: &Status) -> impl Iterator<Item = (String, String)> {
    status
        .work
        .iter()
        .filter_map(|work| match work.split_once(": ") {
            Some((what, why)) => Some((what.to_owned(), print::plain(why))),
            None => {
                let (verb, what) = work.split_once(' ')?;
                (!what.starts_with("volume ")).then(|| (what.to_owned(), verb.to_owned()))
            }
        })
}

/// The phase, and more in brackets where there is more to say.
fn text_of(unit: &UnitStatus) -> String {
    let says_nothing_new = unit.reason.trim_end_matches('…') == unit.phase;
    if unit.reason.is_empty() || unit.phase == "ready" || says_nothing_new {
        return unit.phase.clone();
    }
    format!("{} ({})", unit.phase, print::plain(&unit.reason))
}

/// The block for a terminal: a head line and a line for each unit.
fn block_of(status: &Status, elapsed: Duration) -> Vec<Line> {
    let ready = status.units.iter().filter(|unit| is_ready(unit)).count();
    let head = format!(
        "{} {}/{} ready, {:.1}s",
        status.project,
        ready,
        status.units.len(),
        elapsed.as_secs_f64()
    );
    let work = work_of(status).map(|(what, how)| format!("   {what}: {how}").into());
    let engine = status
        .engine_problem
        .iter()
        .map(|problem| format!(" ✘ engine: {problem}").into());
    std::iter::once(head.into())
        .chain(engine)
        .chain(work)
        .chain(status.units.iter().map(line_of))
        .collect()
}

fn is_ready(unit: &UnitStatus) -> bool {
    unit.phase == "ready" || unit.phase.ends_with(" ready")
}

fn line_of(unit: &UnitStatus) -> Line {
    let (mark, colour) = match unit.phase.as_str() {
        _ if is_ready(unit) => ('✔', Colour::Green),
        "failed" | "crash-loop" => ('✘', Colour::Red),
        _ => ('·', Colour::Yellow),
    };
    Line {
        text: format!(" {mark} {:<17} {}", unit.unit, text_of(unit)),
        colour: Some(colour),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::UnitId;

    fn status(phase: &str, reason: &str) -> Status {
        let mut status = Status::default();
        let json = serde_json::json!({
            "unit": UnitId::Sql, "container": "", "phase": phase, "reason": reason, "fix": null, "cause": null, "lines": [],
            "for_seconds": 0, "restarts": 0, "retry_in_seconds": null, "image": "", "ports": [], "stopped": false
        });
        status.units.push(serde_json::from_value(json).unwrap());
        status
    }

    #[test]
    fn work_is_told_by_its_name() {
        let work = [
            "pulling image a:1",
            "creating volume x",
            "image b:2: the image is not there (no such image: b:2)",
        ];
        let status = Status {
            work: work.map(str::to_owned).to_vec(),
            ..Status::default()
        };
        let told: Vec<(String, String)> = work_of(&status).collect();
        let fact = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let blocked = fact("image b:2", "the image is not there (no such image: b:2)");
        assert_eq!(told, [fact("image a:1", "pulling"), blocked]);
    }

    #[tokio::test]
    async fn one_line_a_transition() {
        let mut progress = Progress {
            block: None,
            ..Progress::new(Format::Table)
        };
        assert_eq!(progress.news(&status("starting", "")).len(), 1);
        assert_eq!(progress.news(&status("starting", "still nothing")).len(), 0);
        assert_eq!(progress.news(&status("ready", "")).len(), 1);
    }
}
