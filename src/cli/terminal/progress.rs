//! Progress of a stack: transitions as lines for a pipe, a block redrawn in place for a terminal.
//! What to say is pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::args::Format;
use crate::cli::terminal::foreign;
use crate::cli::terminal::print;
use crate::cli::terminal::print::Colour;
use crate::cli::terminal::screen::Line;
use crate::cli::terminal::screen::Screen;
use crate::reconcile::status::PhaseWord;
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
    waits: BTreeMap<String, (PhaseWord, Instant, Duration)>,
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
                .or_insert((unit.phase, now, Duration::ZERO));
            if entry.0 == PhaseWord::Starting {
                entry.2 += now - entry.1;
            }
            entry.0 = unit.phase;
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

    /// Ends with everything gone: the block's last frame says so, and no longer what was being
    /// removed.
    pub fn end_gone(&mut self) {
        if let Some((screen, Some(status))) = &mut self.block {
            let seconds = self.began.elapsed().as_secs_f64();
            let head = format!("{} down, {seconds:.1}s", status.project);
            let gone = status.units.iter().map(|unit| Line {
                text: format!(" ✔ {:<17} gone", unit.unit),
                colour: Some(Colour::Green),
            });
            screen.draw(&std::iter::once(head.into()).chain(gone).collect::<Vec<_>>());
        }
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
    let told = status
        .work
        .iter()
        .filter(|work| work.problem.is_some() || !work.is_volume);
    told.filter_map(|work| {
        let how = match (&work.doing, &work.problem) {
            (Some(doing), _) => doing.clone(),
            (None, problem) => format!("{}; the daemon goes on trying", problem.as_ref()?),
        };
        Some((foreign::plain(&work.what), foreign::plain(&how)))
    })
}

/// The phase, and more in brackets where there is more to say.
fn text_of(unit: &UnitStatus) -> String {
    let phase = unit.phase.to_string();
    let says_nothing_new = unit.reason.trim_end_matches('…') == phase;
    if unit.reason.is_empty() || unit.phase == PhaseWord::Ready || says_nothing_new {
        return phase;
    }
    format!("{phase} ({})", foreign::plain(&unit.reason))
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
    unit.phase == PhaseWord::Ready
}

fn line_of(unit: &UnitStatus) -> Line {
    let (mark, colour) = match unit.phase {
        PhaseWord::Ready => ('✔', Colour::Green),
        phase if phase.has_failed() => ('✘', Colour::Red),
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
    use crate::reconcile::status::Work;
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
        let work = |what: &str, doing: Option<&str>, problem: Option<&str>| Work {
            what: what.to_owned(),
            is_volume: what.starts_with("volume"),
            doing: doing.map(str::to_owned),
            problem: problem.map(str::to_owned),
            fix: None,
            retry_in_seconds: None,
        };
        let status = Status {
            work: vec![
                work("image a:1", Some("pulling"), None),
                work("volume x", Some("creating"), None),
                work("image b:2", None, Some("it is not there (no such image)")),
            ],
            ..Status::default()
        };
        let told: Vec<(String, String)> = work_of(&status).collect();
        let fact = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let blocked = fact(
            "image b:2",
            "it is not there (no such image); the daemon goes on trying",
        );
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
