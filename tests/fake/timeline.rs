//! Everything that was asked of the fake engine and everything that happened in it, in order, with
//! its time.

use tokio::time::Instant;

use super::call::Caller;
use super::call::Verb;
use super::event::Event;

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Instant,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A call came.
    Asked(Asked),
    /// The call of this number was answered with this status; none when the caller got no answer.
    Answered(usize, Option<u16>),
    /// The engine told this.
    Happened(Event),
    /// A container of this name served for the first time since it was started.
    Served(String),
    /// The test did something to this container in the place of a person or of fate.
    Meddled(String),
    /// The daemon was killed at its call of this number.
    Killed(usize),
}

/// A call that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Counts all calls, from 1.
    pub(crate) number: usize,
    pub(crate) caller: Caller,
    pub(crate) verb: Verb,
    /// The name of what it is about, also where the call gave an ID.
    pub(crate) subject: String,
    /// The project whose label that thing carries; none where it carries none or does not exist.
    pub(crate) project: Option<String>,
    /// Whether the thing exists.
    pub(crate) exists: bool,
    /// Whether the path named an API version.
    pub(crate) versioned: bool,
}

/// All entries.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) entries: Vec<Entry>,
    calls: usize,
}

impl Timeline {
    /// Adds an entry.
    pub(crate) fn note(&mut self, what: What) {
        self.entries.push(Entry {
            at: Instant::now(),
            what,
        });
    }

    /// Adds a call and numbers it.
    pub(crate) fn ask(&mut self, mut asked: Asked) -> usize {
        self.calls += 1;
        asked.number = self.calls;
        self.note(What::Asked(asked));
        self.calls
    }

    /// The calls so far.
    pub(crate) fn asked(&self) -> impl DoubleEndedIterator<Item = (&Instant, &Asked)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Asked(asked) => Some((&entry.at, asked)),
            _ => None,
        })
    }

    /// What the engine told so far.
    pub(crate) fn happened(&self) -> impl DoubleEndedIterator<Item = (&Instant, &Event)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Happened(event) => Some((&entry.at, event)),
            _ => None,
        })
    }

    /// Everything as text, for a test that failed.
    pub(crate) fn told(&self) -> String {
        let Some(first) = self.entries.first() else {
            return String::new();
        };
        let line = |entry: &Entry| {
            let text = match &entry.what {
                What::Asked(asked) => {
                    let who = match asked.caller {
                        Caller::Daemon(_) => "daemon",
                        Caller::Command => "command",
                        Caller::Person => "person",
                    };
                    format!(
                        "#{} {who}: {:?} {}",
                        asked.number, asked.verb, asked.subject
                    )
                }
                What::Answered(number, Some(status)) => format!("     #{number} -> {status}"),
                What::Answered(number, None) => format!("     #{number} -> nothing"),
                What::Happened(event) => {
                    let name = event.attributes.get("name").unwrap_or(&event.id);
                    format!("          {} {} {name}", event.kind, event.action)
                }
                What::Served(name) => format!("          {name} serves"),
                What::Meddled(name) => format!("          somebody meddles with {name}"),
                What::Killed(number) => format!("===== the daemon is killed at #{number}"),
            };
            format!(
                "{:9.3}s {text}\n",
                entry.at.duration_since(first.at).as_secs_f64()
            )
        };
        self.entries.iter().map(line).collect()
    }
}
