//! A container's log: the last lines for a diagnosis, a stream for `logs`, and whether it moves.

use futures_util::Stream;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;
use hyper::body::Incoming;
use time::OffsetDateTime;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::wire;

/// A line longer than this is cut: a log is for people.
const LINE_LIMIT: usize = 4096;

/// The most that is kept of the last lines, whatever was asked for.
const LINES_LIMIT: usize = 10_000;

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
                if lines.len() > LINES_LIMIT {
                    break;
                }
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
        let (engine, id, what) = (self.clone(), id.to_owned(), what.clone());
        futures_util::stream::unfold(Reading::Closed, move |reading| {
            let (engine, id, what) = (engine.clone(), id.clone(), what.clone());
            async move {
                let mut frames = match reading {
                    Reading::Broken => return None,
                    Reading::Open(frames) => frames,
                    Reading::Closed => match engine.open_log(&id, &what).await {
                        Ok(body) => Frames::new(body),
                        Err(error) => return Some((Err(error), Reading::Broken)),
                    },
                };
                match frames.next().await {
                    Ok(line) => line.map(|line| (Ok(line), Reading::Open(frames))),
                    Err(error) => {
                        let error = EngineError::Broken {
                            attempt: "read the container's log".to_owned(),
                            source: error.into(),
                        };
                        Some((Err(error), Reading::Broken))
                    }
                }
            }
        })
        .boxed()
    }

    async fn open_log(&self, id: &str, what: &Selection) -> Result<Incoming, EngineError> {
        let word = |is: bool| if is { "true" } else { "false" };
        let tail = what
            .tail
            .map_or_else(|| "all".to_owned(), |count| count.to_string());
        let since = what.since.unwrap_or(0).to_string();
        let query = [
            ("stdout", "true"),
            ("stderr", "true"),
            ("follow", word(what.follow)),
            ("timestamps", word(what.timestamps)),
            ("tail", tail.as_str()),
            ("since", since.as_str()),
        ];
        let path = format!("/containers/{}/logs", wire::encoded(id));
        let attempt = || "read the container's log".to_owned();
        // A log that is followed and empty may answer with its first line only.
        self.stream(attempt, Method::GET, &path, &query, &[]).await
    }
}

/// A log, as far as it was read.
enum Reading {
    Closed,
    Open(Frames),
    Broken,
}

/// The engine's frames (API, `ContainerAttach`: the stream, three zeros, the length as four bytes,
/// most significant first, then the text), or, of a container with a terminal, bare lines.
#[derive(Debug)]
struct Frames {
    body: Incoming,
    decoder: Decoder,
}

impl Frames {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            decoder: Decoder::default(),
        }
    }

    async fn next(&mut self) -> Result<Option<(bool, String)>, hyper::Error> {
        loop {
            if let Some(line) = self.decoder.next() {
                return Ok(Some(line));
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.take(data);
                    }
                }
                None => return Ok(self.decoder.end()),
            }
        }
    }
}

/// Where the decoder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// In a frame of which so many bytes are to come.
    Text { is_error: bool, left: usize },
    /// In a line of a terminal.
    Bare,
}

/// Takes frames apart. It keeps no more than a line that people read: a frame may claim 4 GiB.
#[derive(Debug, Default)]
struct Decoder {
    at: At,
    /// What came and was not looked at.
    pending: Bytes,
    /// What belongs to the head or the line that is being read; never longer than `LINE_LIMIT`.
    kept: Vec<u8>,
}

/// How long a frame's head is.
const HEAD: usize = 8;

impl Decoder {
    fn take(&mut self, data: Bytes) {
        debug_assert!(self.pending.is_empty());
        self.pending = data;
    }

    /// The next line that is complete, out of what came.
    fn next(&mut self) -> Option<(bool, String)> {
        while !self.pending.is_empty() {
            match self.at {
                At::Head => self.read_head(),
                At::Text { is_error, left } => {
                    let part = self.pending.split_to(left.min(self.pending.len()));
                    self.keep(&part);
                    let left = left - part.len();
                    self.at = At::Text { is_error, left };
                    if left == 0 {
                        return Some((is_error, self.line()));
                    }
                }
                At::Bare => {
                    let end = self.pending.iter().position(|byte| *byte == b'\n');
                    let part = self
                        .pending
                        .split_to(end.map_or(self.pending.len(), |end| end + 1));
                    self.keep(&part);
                    if end.is_some() {
                        return Some((false, self.line()));
                    }
                }
            }
        }
        None
    }

    fn read_head(&mut self) {
        let missing = HEAD - self.kept.len();
        let part = self.pending.split_to(missing.min(self.pending.len()));
        self.kept.extend_from_slice(&part);
        let is_frame = self.kept.iter().zip(0..).all(|(byte, at)| {
            (at == 0 && *byte <= 2) || (1..4).contains(&at) && *byte == 0 || at > 3
        });
        if !is_frame {
            self.at = At::Bare;
            let kept = std::mem::take(&mut self.kept);
            let rest = std::mem::take(&mut self.pending);
            self.pending = [&kept[..], &rest[..]].concat().into();
        } else if let [stream, _, _, _, a, b, c, d] = self.kept[..] {
            self.kept.clear();
            let left = u32::from_be_bytes([a, b, c, d]) as usize;
            if left > 0 {
                self.at = At::Text {
                    is_error: stream == 2,
                    left,
                };
            }
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_LIMIT.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn line(&mut self) -> String {
        self.at = At::Head;
        let bytes = std::mem::take(&mut self.kept);
        String::from_utf8_lossy(&bytes)
            .trim_end_matches(['\n', '\r'])
            .to_owned()
    }

    /// What was begun when the log ended.
    fn end(&mut self) -> Option<(bool, String)> {
        let is_error = matches!(self.at, At::Text { is_error: true, .. });
        let is_line = self.at != At::Head && !self.kept.is_empty();
        is_line.then(|| (is_error, self.line()))
    }
}

/// A time as the engine writes it.
fn instant(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, length: u32, text: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend(text);
        bytes
    }

    /// All lines of a log that comes in pieces of this size.
    fn decoded(bytes: &[u8], size: usize) -> Vec<(bool, String)> {
        let mut decoder = Decoder::default();
        let mut lines = Vec::new();
        for piece in bytes.chunks(size) {
            decoder.take(Bytes::copy_from_slice(piece));
            while let Some(line) = decoder.next() {
                lines.push(line);
            }
            assert!(decoder.kept.len() <= LINE_LIMIT);
        }
        lines.extend(decoder.end());
        lines
    }

    #[test]
    fn frames_become_lines_however_they_are_cut() {
        let mut bytes = frame(1, 4, b"one\n");
        bytes.extend(frame(2, 0, b""));
        bytes.extend(frame(2, 5, b"two\r\n"));
        for size in 1..bytes.len() {
            let lines = decoded(&bytes, size);
            assert_eq!(
                lines,
                [(false, "one".to_owned()), (true, "two".to_owned())],
                "{size}"
            );
        }
    }

    #[test]
    fn a_frame_of_four_gigabytes_is_cut_to_a_line() {
        let bytes = frame(1, u32::MAX, &vec![b'x'; 3 * LINE_LIMIT]);
        let lines = decoded(&bytes, 1000);
        assert_eq!(lines, [(false, "x".repeat(LINE_LIMIT))]);
    }

    #[test]
    fn a_terminal_s_log_has_no_frames_and_its_lines_have_an_end() {
        let mut bytes = b"hello\r\nworld\n".to_vec();
        bytes.extend(vec![b'y'; 2 * LINE_LIMIT]);
        for size in [1, 3, 7, 5000] {
            let lines = decoded(&bytes, size);
            let text: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
            assert_eq!(text[..2], ["hello", "world"], "{size}");
            assert_eq!(text[2].len(), LINE_LIMIT);
        }
    }
}
