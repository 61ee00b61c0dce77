//! A container's log: the last lines for a diagnosis, a stream for `logs`, and whether it moves.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::Stream;
use futures_util::StreamExt as _;
use time::OffsetDateTime;

use super::Engine;
use super::EngineError;
use super::QUICK;

/// A line longer than this is cut: a log is for people.
const LINE_LIMIT: usize = 4096;

/// What to show of a log.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The last lines only.
    pub tail: Option<u32>,
    /// Not before this second since 1970.
    pub since: Option<i32>,
    /// Go on as lines are written.
    pub follow: bool,
    /// Begin each line with the engine's time.
    pub timestamps: bool,
}

/// A span of time; without a bound it is open there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first instant.
    pub since: Option<OffsetDateTime>,
    /// The first instant after it.
    pub until: Option<OffsetDateTime>,
}

impl Span {
    fn holds(self, at: OffsetDateTime) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

impl Engine {
    /// The last lines, oldest first.
    pub async fn last_lines(
        &self,
        id: &str,
        count: u32,
        timestamps: bool,
    ) -> Result<Vec<String>, EngineError> {
        let selection = Selection {
            tail: Some(count),
            timestamps,
            ..Selection::default()
        };
        let reading = async {
            let mut lines = Vec::new();
            let mut stream = Box::pin(self.log(id, &selection));
            while let Some(line) = stream.next().await {
                lines.push(line?.1);
            }
            Ok(lines)
        };
        let attempt = || "read the container's log".to_owned();
        tokio::time::timeout(QUICK, reading)
            .await
            .unwrap_or_else(|_| {
                Err(EngineError::TimedOut {
                    attempt: attempt(),
                    limit: QUICK,
                })
            })
    }

    /// The last lines of a span of time: a container keeps the log of all its runs.
    pub async fn last_lines_within(
        &self,
        id: &str,
        count: u32,
        span: Span,
    ) -> Result<Vec<String>, EngineError> {
        // What came after the span pushes its lines back.
        let asked_for = if span.until.is_some() {
            count.saturating_mul(8)
        } else {
            count
        };
        let lines = self.last_lines(id, asked_for, true).await?;
        let timed = lines.iter().filter_map(|line| line.split_once(' '));
        let within = timed.filter(|(at, _)| instant(at).is_none_or(|at| span.holds(at)));
        let within: Vec<&str> = within.map(|(_, line)| line).collect();
        let last = within.len().saturating_sub(count as usize);
        Ok(within[last..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect())
    }

    /// The log as lines; true with those of standard error.
    pub fn log(
        &self,
        id: &str,
        what: &Selection,
    ) -> impl Stream<Item = Result<(bool, String), EngineError>> + use<> {
        let tail = what
            .tail
            .map_or_else(|| "all".to_owned(), |count| count.to_string());
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(what.follow)
            .timestamps(what.timestamps)
            .tail(&tail)
            .since(what.since.unwrap_or(0))
            .build();
        let engine = self.clone();
        self.docker
            .logs(id, Some(options))
            .map(move |item| match item {
                Ok(output) => Ok((matches!(output, LogOutput::StdErr { .. }), text_of(&output))),
                Err(error) => Err(engine.error("read the container's log".to_owned(), error)),
            })
    }
}

/// A time as the engine writes it.
fn instant(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}

fn text_of(output: &LogOutput) -> String {
    let bytes = output.as_ref();
    let cut = &bytes[..bytes.len().min(LINE_LIMIT)];
    String::from_utf8_lossy(cut)
        .trim_end_matches(['\n', '\r'])
        .to_owned()
}
