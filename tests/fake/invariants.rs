//! What must be true of every time-line, whatever went wrong: the order of starts, SQL Server under
//! its nodes, what is not ours, data, versions, and nothing twice at the end.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::call::Caller;
use super::call::Verb;
use super::event::Event;
use super::timeline::Asked;
use super::timeline::What;
use super::world::World;

/// What a test allows that is a violation elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// Somebody asked for the data to be removed.
    pub(crate) data_goes: bool,
    /// Units that need not run before later ones start: an operator stopped them, or they failed
    /// for good.
    pub(crate) missing: BTreeSet<String>,
}

/// Every violation of the invariants by the product, in words.
pub(crate) fn violations(world: &World, project: &str, allowed: &Allowed) -> Vec<String> {
    let mut watch = Watch {
        project,
        allowed,
        runs: BTreeMap::new(),
        served: BTreeSet::new(),
        meddled: BTreeSet::new(),
        migrated: BTreeSet::new(),
        found: Vec::new(),
    };
    for entry in &world.timeline.entries {
        watch.see(&entry.what);
    }
    watch.nothing_twice(world);
    watch.found
}

struct Watch<'a> {
    project: &'a str,
    allowed: &'a Allowed,
    /// The images of our containers that run, by unit.
    runs: BTreeMap<String, String>,
    /// The units that served since they were started.
    served: BTreeSet<String>,
    /// The containers that somebody else did something to, until it shows.
    meddled: BTreeSet<String>,
    /// The images of which a node served: the database is migrated to them.
    migrated: BTreeSet<String>,
    found: Vec<String>,
}

impl Watch<'_> {
    fn see(&mut self, what: &What) {
        match what {
            What::Asked(asked) => self.asked(asked),
            What::Happened(event) => self.happened(event),
            What::Served(name) => {
                let unit = self.unit_of(name);
                if unit != "db" {
                    self.migrated.extend(self.runs.get(&unit).cloned());
                }
                self.served.insert(unit);
            }
            What::Meddled(name) => drop(self.meddled.insert(name.clone())),
            What::Answered(..) | What::Killed(_) => {}
        }
    }

    fn unit_of(&self, name: &str) -> String {
        let unit = name
            .strip_prefix(&format!("{}-", self.project))
            .unwrap_or(name);
        if unit == "db-1" {
            "db".to_owned()
        } else {
            unit.to_owned()
        }
    }

    fn wrong(&mut self, text: String) {
        self.found.push(text);
    }

    fn asked(&mut self, asked: &Asked) {
        if asked.caller == Caller::Person {
            if asked.verb.changes() {
                self.meddled.insert(asked.subject.clone());
            }
            return;
        }
        let what = format!("#{} {:?} {}", asked.number, asked.verb, asked.subject);
        if !asked.versioned && !matches!(asked.verb, Verb::Version | Verb::Ping) {
            self.wrong(format!("a call without an API version: {what}"));
        }
        // The word of who looks after the project is a volume without data, which comes and goes.
        let is_lease = asked
            .subject
            .starts_with(&format!("{}_octo-local-lease-", self.project));
        if asked.verb.kind_changed().is_some()
            && !is_lease
            && asked.exists
            && asked.project.as_deref() != Some(self.project)
        {
            self.wrong(format!("something that is not ours is changed: {what}"));
        }
        if asked.verb == Verb::RemoveVolume && !is_lease && !self.allowed.data_goes {
            self.wrong(format!("data is removed unasked: {what}"));
        }
        let stops = matches!(asked.verb, Verb::Stop | Verb::Kill | Verb::Remove);
        if stops
            && self.unit_of(&asked.subject) == "db"
            && self.a_node_runs()
            && self.runs.contains_key("db")
        {
            self.wrong(format!(
                "SQL Server is stopped under a running node: {what}"
            ));
        }
    }

    /// Whether nobody else is known to have caused it. What somebody did shows once.
    fn is_ours(&mut self, event: &Event) -> bool {
        !event
            .attributes
            .get("name")
            .is_some_and(|name| self.meddled.remove(name))
    }

    fn a_node_runs(&self) -> bool {
        self.runs.keys().any(|unit| unit != "db")
    }

    fn happened(&mut self, event: &Event) {
        if event
            .attributes
            .get("octo-local.project")
            .map(String::as_str)
            != Some(self.project)
        {
            return;
        }
        let Some(unit) = event.unit().map(str::to_owned) else {
            return;
        };
        match event.action.as_str() {
            "start" => self.started(&unit, event),
            "die" => self.died(&unit, event),
            _ => {}
        }
    }

    fn started(&mut self, unit: &str, event: &Event) {
        let image = event.image_id.clone().unwrap_or_default();
        let by_us = self.is_ours(event);
        self.served.remove(unit);
        if by_us {
            self.in_order(unit, &image);
        }
        let other = self
            .runs
            .iter()
            .find(|(other, other_image)| *other != "db" && unit != "db" && **other_image != image);
        if let Some((other, other_image)) = other {
            self.wrong(format!(
                "two versions run together: {unit} with {image}, {other} with {other_image}"
            ));
        }
        if self.runs.insert(unit.to_owned(), image).is_some() {
            self.wrong(format!("{unit} runs twice"));
        }
    }

    /// A unit starts behind all units before it, which run and serve, and beside none that is still
    /// starting. The order among nodes matters only until one of their image served.
    fn in_order(&mut self, unit: &str, image: &str) {
        let is_migrated = self.migrated.contains(image);
        let missing = |before: &&str| {
            let matters = *before == "db" || !is_migrated;
            matters && !self.runs.contains_key(*before) && !self.allowed.missing.contains(*before)
        };
        let before: Vec<String> = units_before(unit).collect();
        let early: Vec<String> = before
            .iter()
            .map(String::as_str)
            .filter(missing)
            .map(str::to_owned)
            .collect();
        for other in early {
            self.wrong(format!("{unit} starts before {other}"));
        }
        let starting: Vec<String> = self
            .runs
            .keys()
            .filter(|other| !self.served.contains(*other))
            .cloned()
            .collect();
        for other in starting {
            self.wrong(format!("{unit} starts while {other} is starting"));
        }
    }

    fn died(&mut self, unit: &str, event: &Event) {
        self.served.remove(unit);
        self.runs.remove(unit);
        let by_us = self.is_ours(event);
        if unit == "db" && by_us && self.a_node_runs() {
            self.wrong("SQL Server ends under a running node".to_owned());
        }
    }

    fn nothing_twice(&mut self, world: &World) {
        let mut units = BTreeSet::new();
        for container in world.containers.values() {
            if container
                .labels
                .get("octo-local.project")
                .map(String::as_str)
                == Some(self.project)
            {
                let unit = container
                    .labels
                    .get("octo-local.unit")
                    .cloned()
                    .unwrap_or_default();
                if !units.insert(unit.clone()) {
                    self.wrong(format!("two containers are {unit} at the end"));
                }
            }
        }
        let name = format!("{}_default", self.project);
        let networks = world
            .networks
            .iter()
            .filter(|network| network.name == name)
            .count();
        if networks > 1 {
            self.wrong(format!("{networks} networks are called {name} at the end"));
        }
        let used: BTreeSet<&String> = world
            .containers
            .values()
            .flat_map(|container| &container.anonymous)
            .collect();
        let left = world
            .volumes
            .iter()
            .filter(|(name, volume)| volume.labels.is_empty() && !used.contains(name));
        let left: Vec<String> = left.map(|(name, _)| name.clone()).collect();
        for name in left {
            self.wrong(format!("a volume without a label is left: {name}"));
        }
    }
}

/// The units that come before one in the order of starts.
fn units_before(unit: &str) -> impl Iterator<Item = String> {
    let number: u32 = unit
        .rsplit('-')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let nodes = (1..number).map(|number| format!("octopus-server-{number}"));
    (number > 0)
        .then(|| "db".to_owned())
        .into_iter()
        .chain(nodes)
}
