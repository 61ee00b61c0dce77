//! The daemon's own log: a bounded file, standard error, or systemd's journal in the journal's own
//! form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::path::PathBuf;

use tracing::Level;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::paths;

/// Where the journal takes entries with fields (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Set by systemd where it reads what is written to standard error: which file that is.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";
/// Begins the names of our fields. Without it `UNIT=` would be the field in which systemd names the
/// service that a message is about (systemd.journal-fields(7)).
const FIELD: &str = "OCTO_";
/// The field that names what a line is about.
const SUBJECT: &str = "subject";
/// The same where that is a unit, with the phase that it is in and why.
const UNIT: &str = "unit";
const OF_A_UNIT: [&str; 2] = ["phase", "reason"];

/// How many lines wait for a disk before more are dropped. The room for them is taken at once: what
/// the library takes by default is more than four megabytes.
const LINES_THAT_WAIT: usize = 1_000;

/// Logs from now on into a file of this path, else into the journal where systemd reads along, else
/// to standard error. What is written to a file is written by a thread of its own: a disk that hangs
/// costs lines, and nobody waits for it. The last ones are written when the guard is dropped.
#[must_use]
pub(super) fn begin(path: Option<PathBuf>, env: &BTreeMap<String, String>) -> Option<WorkerGuard> {
    let ours = spoken();
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false);
    let registry = tracing_subscriber::registry();
    let stream = env.get(JOURNAL_STREAM).filter(|_| path.is_none());
    let journal = stream.and_then(|stream| open_journal(stream));
    let mut guard = None;
    let _ = match (path, journal) {
        (Some(path), _) => {
            let file = BoundedLog { path, file: None };
            let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES_THAT_WAIT);
            let (writer, worker) = builder.finish(file);
            guard = Some(worker);
            registry
                .with(layer.with_writer(writer).with_filter(ours))
                .try_init()
        }
        (None, Some(journal)) => registry.with(journal.with_filter(ours)).try_init(),
        (None, None) => registry
            .with(layer.with_writer(std::io::stderr).with_filter(ours))
            .try_init(),
    };
    guard
}

/// Our own words from `info` on, those of libraries only when they are errors. tiberius calls each
/// login that a booting server refuses an error: what matters of it comes back to us anyway.
fn spoken() -> Targets {
    Targets::new()
        .with_default(Level::ERROR)
        .with_target("octo_local", Level::INFO)
        .with_target("tiberius", LevelFilter::OFF)
}

/// A log file that sets itself aside when it grew large.
struct BoundedLog {
    path: PathBuf,
    file: Option<File>,
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if std::fs::metadata(&self.path).is_ok_and(|file| file.len() > paths::LOG_LIMIT) {
            let _ = std::fs::rename(&self.path, paths::older(&self.path));
            self.file = None;
        }
        if self.file.is_none() {
            self.file = File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)
                .ok();
        }
        // A full disk costs the line, never the daemon.
        Ok(self
            .file
            .as_mut()
            .and_then(|file| file.write(bytes).ok())
            .unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// systemd's journal: each line is an entry with a priority and fields, and has no time of its own.
struct Journal {
    socket: UnixDatagram,
}

/// The journal, if it is what standard error leads to: somebody who sends that elsewhere wants it
/// there.
fn open_journal(stream: &str) -> Option<Journal> {
    let ours = std::fs::metadata("/proc/self/fd/2").ok()?;
    let is_read_along = stream == format!("{}:{}", ours.dev(), ours.ino());
    is_read_along
        .then(|| Journal::at(Path::new(JOURNAL)).ok())
        .flatten()
}

impl Journal {
    fn at(path: &Path) -> std::io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A journal that does not read costs the line, never the daemon.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let _ = self.socket.send(&entry.bytes(*event.metadata().level()));
    }
}

/// What one line says.
#[derive(Debug, Default)]
struct Entry {
    message: String,
    subject: Option<String>,
    is_unit: bool,
    of_unit: Vec<(&'static str, String)>,
    others: Vec<(&'static str, String)>,
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name @ (SUBJECT | UNIT) => {
                self.subject = Some(value.to_owned());
                self.is_unit = name == UNIT;
            }
            name if OF_A_UNIT.contains(&name) => self.of_unit.push((name, value.to_owned())),
            name => self.others.push((name, value.to_owned())),
        }
    }
}

impl Entry {
    /// The entry as the journal takes it. Its message has everything, for those who read it; the
    /// fields are for those who look for something.
    fn bytes(&self, level: Level) -> Vec<u8> {
        let mut message = match &self.subject {
            Some(subject) => format!("{subject}: {}", self.message),
            None => self.message.clone(),
        };
        for (name, value) in &self.others {
            let _ = write!(message, " {name}={value}");
        }
        let mut bytes = Vec::new();
        push(&mut bytes, "PRIORITY", priority(level));
        push(&mut bytes, "SYSLOG_IDENTIFIER", "octo-local");
        push(&mut bytes, "MESSAGE", &message);
        let subject = self.subject.iter();
        let unit = subject.clone().filter(|_| self.is_unit);
        let unit = unit.map(|unit| (UNIT, unit));
        let subject = subject.map(|subject| (SUBJECT, subject));
        let others = self.of_unit.iter().chain(&self.others);
        let others = others.map(|(name, value)| (*name, value));
        for (name, value) in subject.chain(unit).chain(others) {
            push(
                &mut bytes,
                &format!("{FIELD}{}", name.to_ascii_uppercase()),
                value,
            );
        }
        bytes
    }
}

/// One field. A value of several lines has its length before it instead of an equals sign.
fn push(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend((value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend(value.as_bytes());
    bytes.push(b'\n');
}

/// Syslog's numbers (sd-daemon(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_booting_server_refuses_is_no_error_of_ours() {
        let spoken = spoken();
        assert!(spoken.would_enable("octo_local::daemon::shell", &Level::INFO));
        assert!(spoken.would_enable("hyper::client", &Level::ERROR));
        assert!(!spoken.would_enable("hyper::client", &Level::WARN));
        assert!(!spoken.would_enable("tiberius::tds::stream::token", &Level::ERROR));
    }

    #[test]
    fn the_journal_gets_priority_and_fields_and_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let layer = Journal::at(&path).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(spoken()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(subject = "image a:1", "fetched");
            let (reason, none) = (Some("no answer\nat all"), None::<&str>);
            tracing::info!(unit = "db", phase = "unready", reason, "not ready");
            tracing::info!(unit = "db", phase = "ready", reason = none, "ready");
            tracing::warn!(words = "no such host", "the engine does not answer");
            tracing::debug!("not worth an entry");
            tracing::error!("one\ntwo");
        });
        let entry = || {
            let mut bytes = [0; 1_024];
            let length = journald.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let name = "SYSLOG_IDENTIFIER=octo-local";
        assert_eq!(
            entry(),
            format!("PRIORITY=6\n{name}\nMESSAGE=image a:1: fetched\nOCTO_SUBJECT=image a:1\n")
        );
        let unit = "OCTO_SUBJECT=db\nOCTO_UNIT=db\nOCTO_PHASE";
        let reason = "OCTO_REASON\n\u{10}\0\0\0\0\0\0\0no answer\nat all";
        assert_eq!(
            entry(),
            format!("PRIORITY=6\n{name}\nMESSAGE=db: not ready\n{unit}=unready\n{reason}\n")
        );
        assert_eq!(
            entry(),
            format!("PRIORITY=6\n{name}\nMESSAGE=db: ready\n{unit}=ready\n")
        );
        assert_eq!(
            entry(),
            format!(
                "PRIORITY=4\n{name}\nMESSAGE=the engine does not answer words=no such host\nOCTO_WORDS=no such host\n"
            )
        );
        assert_eq!(
            entry(),
            format!("PRIORITY=3\n{name}\nMESSAGE\n\u{7}\0\0\0\0\0\0\0one\ntwo\n")
        );
    }
}
