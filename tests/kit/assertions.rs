//! What happened to a stack, as the engine, the stand-ins and the daemon's history tell it.

use std::collections::BTreeMap;

use rustix::process::Pid;
use serde_json::Value;

use super::http;
use super::process::front_doors;
use super::process::wait_until;
use super::stack::Stack;

/// What a node of the stand-in logs when it begins to answer 200.
const NODE_READY: &str = "Web server is ready to process requests";
/// What the SQL stand-in logs when it begins to take logins.
const SQL_READY: &str = "Recovery is complete";

impl Stack {
    /// The units that died since then, in order.
    pub(crate) fn deaths(&self, since: i64) -> Vec<String> {
        self.events(since)
            .into_iter()
            .filter(|told| told.action == "die")
            .map(|told| told.name)
            .collect()
    }

    /// When the engine first told this of a unit since then, in nanoseconds since 1970.
    #[track_caller]
    pub(crate) fn told_at(&self, since: i64, action: &str, unit: &str) -> i64 {
        let events = self.events(since);
        let found = events
            .iter()
            .find(|told| told.action == action && told.name == unit);
        found
            .unwrap_or_else(|| panic!("no {action} of {unit} in {events:#?}"))
            .at
    }

    /// When a unit's last run began to serve, by its own log, in nanoseconds since 1970.
    #[track_caller]
    pub(crate) fn ready_at(&self, unit: &str) -> i64 {
        let words = if unit == "db" { SQL_READY } else { NODE_READY };
        let said = self.witness.said_at(&self.container(unit), words);
        said.unwrap_or_else(|| panic!("{unit} never said `{words}`"))
    }

    /// Fails the test unless each of these units, which start in this order, was started only when
    /// the one before it served.
    #[track_caller]
    pub(crate) fn assert_gated(&self, since: i64, units: &[&str]) {
        for pair in units.windows(2) {
            let (ready, started) = (
                self.ready_at(pair[0]),
                self.told_at(since, "start", pair[1]),
            );
            assert!(
                ready < started,
                "{} was started {} ns before {} served",
                pair[1],
                ready - started,
                pair[0]
            );
        }
    }

    /// Fails the test unless exactly these units moved since `before` (see [`Stack::started`]).
    #[track_caller]
    pub(crate) fn assert_moved(&self, before: &BTreeMap<String, String>, units: &[&str]) {
        let after = self.started();
        let names = before
            .keys()
            .chain(after.keys().filter(|name| !before.contains_key(*name)));
        let mut moved: Vec<&String> = names
            .filter(|name| before.get(*name) != after.get(*name))
            .collect();
        moved.sort();
        let mut wanted: Vec<String> = units.iter().map(|unit| self.container(unit)).collect();
        wanted.sort();
        assert_eq!(moved, wanted.iter().collect::<Vec<_>>());
    }

    /// Waits until something of the stack was started since then, and everything serves again.
    #[track_caller]
    pub(crate) fn wait_for_repair(&self, since: i64) {
        wait_until("something was started again", || {
            (!self.starts(since).is_empty()).then_some(())
        });
        self.wait_for("ready");
    }

    /// What the strict stand-in found of starts at once, mixed versions and downgrades: there must
    /// be nothing. After an absence of its database node 1 takes a moment to answer.
    #[track_caller]
    pub(crate) fn assert_no_violation(&self) {
        let ask = || http::get(self.port("octopus-server-1"), "/api/standin/violations", "");
        let (_, found) = wait_until("node 1 answers", || {
            ask().filter(|(status, _)| *status == 200)
        });
        assert_eq!(found, "[]");
    }

    /// The daemon's history: what it is about, and what it was.
    #[track_caller]
    pub(crate) fn history(&self) -> Vec<(String, String)> {
        let lines = self.run(&["events", "--format", "json"]).ok().out;
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let entries = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries
            .map(|entry| (text(&entry, "subject"), text(&entry, "what")))
            .collect()
    }

    /// How often the history says this of a unit; the words may be a part of what it says.
    #[track_caller]
    pub(crate) fn recorded(&self, unit: &str, words: &str) -> usize {
        self.history()
            .iter()
            .filter(|(subject, what)| subject == unit && what.contains(words))
            .count()
    }

    /// The processes of this host that work for the project, by their command lines.
    pub(crate) fn processes(&self) -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines =
            entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines
            .map(|line| line.replace('\0', " "))
            .filter(|line| line.contains(&self.name))
            .collect()
    }

    /// The front doors of this stack that run, by process. Those that ended and nobody waited for
    /// have no words any more.
    pub(crate) fn front_doors(&self) -> Vec<Pid> {
        front_doors(&format!("/{}/web.sock", self.name))
    }
}
