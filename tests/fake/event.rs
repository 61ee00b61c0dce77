//! What the fake engine tells, and the streams that carry it, which can be closed, stalled, thinned
//! out, doubled and mixed up.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::Stream;
use hyper::body::Bytes;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use super::call::Call;

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// `container`, `network`, `volume`, `image`.
    pub(crate) kind: String,
    pub(crate) action: String,
    pub(crate) id: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) nanos: i128,
    /// For those who look on: the image of the container that it is about. The engine does not tell
    /// it.
    pub(crate) image_id: Option<String>,
}

/// What is wrong with the streams of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// They stay open and carry nothing.
    Stalled,
    /// They are closed as soon as they are opened.
    Closed,
    /// Only every second event is told.
    Thinned,
    /// Each event is told twice.
    Doubled,
    /// Neighbours change places: the second is told before the first.
    Reordered,
}

/// The time now, as the engine writes it.
pub(crate) fn time_now() -> String {
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .expect("the time now can be written")
}

impl Event {
    pub(crate) fn now(
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) -> Self {
        let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let image_id = None;
        Self {
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
            nanos,
            image_id,
        }
    }

    /// The unit of the container that it is about, as our label says.
    pub(crate) fn unit(&self) -> Option<&str> {
        self.attributes
            .get("octo-local.unit")
            .map(String::as_str)
            .filter(|_| self.kind == "container")
    }

    fn line(&self) -> Bytes {
        let mut value = json!({
            "Type": self.kind, "Action": self.action, "scope": "local",
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "time": i64::try_from(self.nanos / 1_000_000_000).unwrap_or_default(),
            "timeNano": i64::try_from(self.nanos).unwrap_or_default(),
        });
        if self.kind == "container" {
            value["status"] = json!(self.action);
            value["id"] = json!(self.id);
        }
        Bytes::from(format!("{value}\n"))
    }
}

/// Which events a stream is about.
struct Filter {
    filters: BTreeMap<String, Vec<String>>,
    since: i128,
    until: Option<i128>,
}

impl Filter {
    fn of(call: &Call) -> Self {
        let time = |key: &str| call.query.get(key).and_then(|text| nanos_of(text));
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        Self {
            filters: filters_of(call),
            since: time("since").unwrap_or(now),
            until: time("until"),
        }
    }

    fn takes(&self, event: &Event) -> bool {
        let word = |key: &str, value: &str| {
            self.filters
                .get(key)
                .is_none_or(|allowed| allowed.iter().any(|one| one == value))
        };
        let labelled = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => event.attributes.get(key).map(String::as_str) == Some(value),
            None => event.attributes.contains_key(wanted),
        };
        event.nanos >= self.since
            && self.until.is_none_or(|until| event.nanos <= until)
            && word("type", &event.kind)
            && word("event", event.action.split(':').next().unwrap_or_default())
            && self
                .filters
                .get("label")
                .is_none_or(|labels| labels.iter().all(labelled))
    }
}

/// The engine's two forms of filters: lists, and maps whose values are true.
pub(crate) fn filters_of(call: &Call) -> BTreeMap<String, Vec<String>> {
    let text = call.query.get("filters").map_or("{}", String::as_str);
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let words = |value: &Value| match value {
        Value::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        _ => Vec::new(),
    };
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), words(value)))
        .collect()
}

/// Seconds since 1970 with nanoseconds, as `docker events --since` sends them.
fn nanos_of(text: &str) -> Option<i128> {
    let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
    Some(seconds.parse::<i128>().ok()? * 1_000_000_000 + nanos.parse::<i128>().ok()?)
}

/// The events that a call asks for, from the past and, without an end, as they come.
pub(super) fn stream(shared: Arc<Shared>, call: &Call) -> impl Stream<Item = Bytes> + use<> {
    let filter = Filter::of(call);
    let told = shared.world().told.subscribe();
    let closings = shared.script().closings;
    let reader = Reader {
        shared,
        filter,
        told,
        closings,
        read: 0,
        carried: 0,
    };
    futures_util::stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((bytes, reader))
    })
}

struct Reader {
    shared: Arc<Shared>,
    filter: Filter,
    told: tokio::sync::watch::Receiver<usize>,
    /// How often all streams were closed when this one was opened.
    closings: usize,
    /// How many of all events were looked at.
    read: usize,
    /// How many were carried.
    carried: usize,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (trouble, closings) = {
                let script = self.shared.script();
                (script.events, script.closings)
            };
            if trouble == Trouble::Closed || closings > self.closings {
                return None;
            }
            if trouble != Trouble::Stalled
                && let Some(bytes) = self.take(trouble)
            {
                return Some(bytes);
            }
            if self.filter.until.is_some() {
                return None;
            }
            // A changed script wakes the streams as a new event does.
            self.told.changed().await.ok()?;
        }
    }

    /// The next events that this stream tells, if there are any yet.
    fn take(&mut self, trouble: Trouble) -> Option<Bytes> {
        let world = self.shared.world();
        while self.read < world.events.len() {
            let event = &world.events[self.read];
            self.read += 1;
            if !self.filter.takes(event) {
                continue;
            }
            self.carried += 1;
            match trouble {
                Trouble::Thinned if self.carried.is_multiple_of(2) => {}
                Trouble::Doubled => {
                    return Some(Bytes::from([event.line(), event.line()].concat()));
                }
                Trouble::Reordered => {
                    let later = world
                        .events
                        .get(self.read)
                        .filter(|later| self.filter.takes(later));
                    self.read += usize::from(later.is_some());
                    let lines = later.map(Event::line).into_iter().chain([event.line()]);
                    return Some(Bytes::from(lines.collect::<Vec<_>>().concat()));
                }
                _ => return Some(event.line()),
            }
        }
        None
    }
}
