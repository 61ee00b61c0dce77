//! Progress of a stack: transitions as lines for a pipe, a block redrawn in place for a terminal. What to say is pure.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use tokio::time::Instant;

use super::args::Format;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;

/// Shows how a stack is doing, on standard error.
pub struct Progress {
    began: Instant,
    format: Format,
    block: Option<ProgressBar>,
    told: BTreeMap<String, String>,
    /// How long each unit spent in each phase, to say what was waited for longest.
    waits: BTreeMap<String, (String, Instant, Duration)>,
}

impl Progress {
    /// Begins now.
    pub fn new(format: Format) -> Self {
        let on_terminal = format == Format::Table && std::io::stderr().is_terminal();
        let block = on_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(20));
            bar.set_style(ProgressStyle::with_template("{msg}").expect("a template of one field is well-formed"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { began: Instant::now(), format, block, told: BTreeMap::new(), waits: BTreeMap::new() }
    }

    /// Tells what is new.
    pub fn tell(&mut self, status: &Status) {
        self.measure(status);
        if self.format == Format::Json {
            return self.tell_machine(status);
        }
        match &self.block {
            Some(block) => block.set_message(block_of(status, self.began.elapsed())),
            None => {
                for line in self.news(status) {
                    eprintln!("{line}");
                }
            }
        }
    }

    fn tell_machine(&mut self, status: &Status) {
        let text = serde_json::to_string(status).unwrap_or_default();
        if self.told.get("").is_none_or(|before| *before != text) {
            println!("{text}");
            self.told.insert(String::new(), text);
        }
    }

    /// One line a transition.
    fn news(&mut self, status: &Status) -> Vec<String> {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut lines = Vec::new();
        for (name, text) in facts(status) {
            if self.told.get(&name).is_none_or(|before| before.split(" (").next() != text.split(" (").next()) {
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
            let entry = self.waits.entry(name).or_insert_with(|| (unit.phase.clone(), now, Duration::ZERO));
            if entry.0 == "starting" {
                entry.2 += now - entry.1;
            }
            entry.0.clone_from(&unit.phase);
            entry.1 = now;
        }
    }

    /// What was waited for longest, and for how long.
    pub fn longest(&self) -> Option<(String, Duration)> {
        self.waits.iter().map(|(name, (_, _, waited))| (name.clone(), *waited)).max_by_key(|(_, waited)| *waited)
    }

    /// How long it has been.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends; a block on a terminal stays as it was last.
    pub fn end(&mut self) {
        if let Some(block) = self.block.take() {
            block.abandon();
        }
    }
}

/// Everything that is told about, by name.
fn facts(status: &Status) -> Vec<(String, String)> {
    let units = status.units.iter().map(|unit| (unit.unit.to_string(), text_of(unit)));
    let work = status
        .work
        .iter()
        .filter_map(|work| work.split_once(' '))
        .map(|(verb, what)| (what.to_owned(), verb.to_owned()));
    let engine = status.engine_problem.iter().map(|problem| ("engine".to_owned(), problem.clone()));
    work.chain(units).chain(engine).collect()
}

/// The phase, and more in brackets where there is more to say.
fn text_of(unit: &UnitStatus) -> String {
    if unit.reason.is_empty() || unit.phase == "ready" {
        return unit.phase.clone();
    }
    format!("{} ({})", unit.phase, unit.reason)
}

/// The block for a terminal: a head line and a line for each unit.
fn block_of(status: &Status, elapsed: Duration) -> String {
    let ready = status.units.iter().filter(|unit| unit.phase.ends_with(" ready") || unit.phase == "ready").count();
    let mut lines =
        vec![format!("{} {}/{} ready, {:.1}s", status.project, ready, status.units.len(), elapsed.as_secs_f64())];
    lines.extend(status.work.iter().map(|work| format!("   {work}")));
    lines.extend(status.units.iter().map(|unit| {
        let mark = match unit.phase.as_str() {
            "ready" | "external, ready" => "✔",
            "failed" | "crash-loop" => "✘",
            _ => "·",
        };
        format!(" {mark} {:<18} {}", unit.unit, text_of(unit))
    }));
    lines.join("\n")
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

    #[tokio::test]
    async fn one_line_a_transition() {
        let mut progress = Progress { block: None, ..Progress::new(Format::Table) };
        assert_eq!(progress.news(&status("starting", "")).len(), 1);
        assert_eq!(progress.news(&status("starting", "still nothing")).len(), 0);
        assert_eq!(progress.news(&status("ready", "")).len(), 1);
    }
}
