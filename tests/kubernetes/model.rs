//! A model of what a cluster does with the nodes: the StatefulSet controller (kubernetes,
//! `stateful_set_control.go`), pods that take their time, and a database that each version changes.
//! It writes down everything that must never happen.

use std::collections::BTreeMap;
use std::time::Duration;

use octo_local::kubernetes::Seen;
use octo_local::kubernetes::seen::End;
use octo_local::kubernetes::seen::Life;
use octo_local::kubernetes::seen::Pod;
use octo_local::kubernetes::seen::Set;

/// The repository of all images.
pub(crate) const REPOSITORY: &str = "octopusdeploy/octopusdeploy";
/// How long a node drains before it ends, at most.
const DRAIN: u64 = 12;

/// Numbers by chance, the same for the same seed.
#[derive(Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    /// True so many times in a thousand.
    pub(crate) fn is(&mut self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }
}

/// What a node's container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Pulling { until: u64 },
    NoImage,
    Starting { until: u64 },
    Serving,
    BackingOff { until: u64 },
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) uid: u64,
    pub(crate) number: u32,
    pub(crate) version: u32,
    pub(crate) doing: Doing,
    pub(crate) ends_at: Option<u64>,
    pub(crate) restarts: u32,
    /// It was told to take no tasks, as the database remembers.
    pub(crate) is_drained: bool,
    /// It changes the database.
    pub(crate) is_changing: bool,
}

impl Node {
    /// Whether its process is there.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.doing, Doing::Starting { .. } | Doing::Serving)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.doing == Doing::Serving && self.ends_at.is_none() && !self.is_drained
    }
}

/// The database: the version that it is of, and the work that is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) version: u32,
    pub(crate) work: u64,
}

/// What this cluster is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) is_parallel: bool,
    /// Nodes let themselves take tasks again.
    pub(crate) undrains_itself: bool,
    /// This version does not come up.
    pub(crate) broken: Option<u32>,
    /// The image of this version cannot be pulled.
    pub(crate) missing: Option<u32>,
}

/// The cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) nature: Nature,
    pub(crate) now: u64,
    pub(crate) wished: u32,
    pub(crate) template: u32,
    pub(crate) generation: i64,
    pub(crate) observed: i64,
    pub(crate) resource_version: u64,
    pub(crate) current: u32,
    pub(crate) update: u32,
    pub(crate) existing: u32,
    pub(crate) record: Option<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) database: Option<Database>,
    pub(crate) backups: BTreeMap<String, Database>,
    /// Nodes that the database remembers as drained.
    drained: Vec<u32>,
    uids: u64,
    pub(crate) violations: Vec<String>,
    /// The work that the version before wrote last.
    pub(crate) old_work: u64,
}

impl Cluster {
    /// So many nodes that serve on version 1.
    pub(crate) fn serving(nature: Nature, nodes: u32) -> Self {
        let mut cluster = Self::empty(nature);
        cluster.database = Some(Database {
            version: 1,
            work: 100,
        });
        cluster.wished = nodes;
        for number in 0..nodes {
            cluster.make(number);
        }
        for node in &mut cluster.nodes {
            node.doing = Doing::Serving;
            node.is_drained = false;
        }
        cluster.existing = nodes;
        cluster
    }

    /// A set without nodes and without a database.
    pub(crate) fn empty(nature: Nature) -> Self {
        Self {
            nature,
            now: 0,
            wished: 0,
            template: 1,
            generation: 1,
            observed: 1,
            resource_version: 1,
            current: 1,
            update: 1,
            existing: 0,
            record: None,
            nodes: Vec::new(),
            database: None,
            backups: BTreeMap::new(),
            drained: Vec::new(),
            uids: 0,
            violations: Vec::new(),
            old_work: 100,
        }
    }

    fn make(&mut self, number: u32) {
        self.uids += 1;
        // Below the partition, which is above all, pods are made of the current revision.
        let version = self.current;
        self.nodes.push(Node {
            uid: self.uids,
            number,
            version,
            doing: Doing::Pulling {
                until: self.now + 2,
            },
            ends_at: None,
            restarts: 0,
            is_drained: self.drained.contains(&number),
            is_changing: false,
        });
        self.nodes.sort_by_key(|node| node.number);
    }

    /// One round of the controller.
    pub(crate) fn reconcile(&mut self) {
        if self.observed != self.generation {
            self.resource_version += 1;
        }
        self.observed = self.generation;
        self.update = self.template;
        self.make_or_end();
        let existing = u32::try_from(self.nodes.len()).unwrap();
        if existing != self.existing {
            self.existing = existing;
            self.resource_version += 1;
        }
        let updated = self.nodes.iter().filter(|node| node.version == self.update);
        let updated = u32::try_from(updated.count()).unwrap();
        let ready = self.nodes.iter().filter(|node| node.is_ready()).count();
        let is_complete = updated == self.wished
            && u32::try_from(ready).unwrap() == self.wished
            && self.existing == self.wished;
        if is_complete && self.current != self.update {
            self.current = self.update;
            self.resource_version += 1;
        }
    }

    fn make_or_end(&mut self) {
        for number in 0..self.wished {
            match self.nodes.iter().find(|node| node.number == number) {
                None => {
                    self.make(number);
                    if !self.nature.is_parallel {
                        return;
                    }
                }
                Some(node) if !self.nature.is_parallel && !node.is_ready() => return,
                Some(_) => {}
            }
        }
        let too_many = self
            .nodes
            .iter()
            .rev()
            .find(|node| node.number >= self.wished);
        let Some(highest) = too_many.cloned() else {
            return;
        };
        // One that is not ready below it holds it up, as in the real one.
        let lower_is_unready = self
            .nodes
            .iter()
            .any(|node| node.number < highest.number && !node.is_ready());
        if highest.ends_at.is_none() && (self.nature.is_parallel || !lower_is_unready) {
            self.end(highest.uid);
        }
    }

    /// A pod is told to end: its hook drains it first.
    pub(crate) fn end(&mut self, uid: u64) {
        let now = self.now;
        let Some(node) = self.nodes.iter_mut().find(|node| node.uid == uid) else {
            return;
        };
        if node.ends_at.is_some() {
            return;
        }
        if node.is_changing && node.runs() && node.restarts == 0 && self.nature.broken.is_none() {
            self.violations.push(format!(
                "{now}: node {} is ended while it changes the database",
                node.number
            ));
        }
        let takes = if node.runs() {
            1 + (uid * 7 + now) % DRAIN
        } else {
            1
        };
        node.ends_at = Some(now + takes);
        if !self.drained.contains(&node.number) {
            self.drained.push(node.number);
        }
    }

    /// A node takes tasks again.
    pub(crate) fn undrain(&mut self, number: u32) {
        self.drained.retain(|drained| *drained != number);
        for node in self.nodes.iter_mut().filter(|node| node.number == number) {
            node.is_drained = false;
        }
    }

    /// A second goes by for the pods.
    pub(crate) fn pods_move(&mut self) {
        self.now += 1;
        let (now, nature) = (self.now, self.nature);
        self.nodes
            .retain(|node| node.ends_at.is_none_or(|at| at > now));
        let mut database = self.database.unwrap_or_default();
        for node in &mut self.nodes {
            match node.doing {
                Doing::Pulling { until } if until <= now && node.ends_at.is_none() => {
                    node.doing = if nature.missing == Some(node.version) {
                        Doing::NoImage
                    } else {
                        node.start(now, &mut database)
                    };
                }
                Doing::Starting { until } if until <= now => {
                    node.is_changing = false;
                    if nature.broken == Some(node.version) {
                        node.restarts += 1;
                        node.doing = Doing::BackingOff { until: now + 4 };
                    } else {
                        node.doing = Doing::Serving;
                        if nature.undrains_itself {
                            node.is_drained = false;
                        }
                    }
                }
                Doing::BackingOff { until } if until <= now && node.ends_at.is_none() => {
                    node.doing = node.start(now, &mut database);
                }
                Doing::Serving => {
                    database.work += 1;
                    if node.version == 1 {
                        self.old_work = database.work;
                    }
                }
                Doing::Pulling { .. }
                | Doing::NoImage
                | Doing::Starting { .. }
                | Doing::BackingOff { .. } => {}
            }
        }
        if self.database.is_some() || self.nodes.iter().any(Node::runs) {
            self.database = Some(database);
        }
        let nature = self.nature;
        if nature.undrains_itself {
            let served = self.nodes.iter().filter(|node| node.is_ready());
            let served: Vec<u32> = served.map(|node| node.number).collect();
            self.drained.retain(|number| !served.contains(number));
        }
        self.judge(database);
    }

    fn judge(&mut self, database: Database) {
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.runs()).collect();
        let mut versions: Vec<u32> = running.iter().map(|node| node.version).collect();
        versions.sort_unstable();
        versions.dedup();
        let mut found = Vec::new();
        if versions.len() > 1 {
            found.push(format!("versions {versions:?} run together"));
        }
        if versions.iter().any(|version| *version < database.version) {
            found.push(format!(
                "version {versions:?} runs on the database of {}",
                database.version
            ));
        }
        if running.iter().filter(|node| node.is_changing).count() > 1 {
            found.push("two nodes change the database".to_owned());
        }
        let now = self.now;
        self.violations
            .extend(found.into_iter().map(|what| format!("{now}: {what}")));
    }

    /// SQL Server writes a backup.
    pub(crate) fn back_up(&mut self, file: &str) {
        let database = self
            .database
            .expect("a database that is backed up is there");
        self.backups.insert(file.to_owned(), database);
    }

    /// SQL Server brings a backup back, unless somebody is connected.
    pub(crate) fn restore(&mut self, file: &str) -> bool {
        if self.nodes.iter().any(Node::runs) {
            return false;
        }
        let backup = self.backups[file];
        if backup.work < self.old_work {
            self.violations.push(format!(
                "{}: the backup has {} of the old version's {}",
                self.now, backup.work, self.old_work
            ));
        }
        self.database = Some(backup);
        true
    }

    /// A change of the object, written onto one version of it. False: somebody was faster.
    pub(crate) fn patch(&mut self, onto: &str, change: impl FnOnce(&mut Self)) -> bool {
        if onto != self.resource_version.to_string() {
            return false;
        }
        let before = (self.wished, self.template);
        change(self);
        if (self.wished, self.template) != before {
            self.generation += 1;
        }
        self.resource_version += 1;
        true
    }

    /// What it shows.
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            set: Set {
                name: "octopus".to_owned(),
                resource_version: self.resource_version.to_string(),
                generation: self.generation,
                observed_generation: self.observed,
                wished: self.wished,
                existing: self.existing,
                current_revision: format!("octopus-{}", self.current),
                update_revision: format!("octopus-{}", self.update),
                partition: Some(1000),
                is_parallel: self.nature.is_parallel,
                image: image(self.template),
                undrains_itself: self.nature.undrains_itself,
                grace: Duration::from_secs(600),
                selector: labels(),
                labels: own_labels(),
                env: Vec::new(),
                record: self.record.clone(),
            },
            pods: self.nodes.iter().map(pod).collect(),
        }
    }
}

impl Node {
    fn start(&mut self, now: u64, database: &mut Database) -> Doing {
        self.is_changing = self.version > database.version;
        // From its first statement on the database is no longer the old one's.
        database.version = database.version.max(self.version);
        let takes = if self.is_changing { 15 } else { 3 };
        Doing::Starting { until: now + takes }
    }
}

/// The image of a version.
pub(crate) fn image(version: u32) -> String {
    format!("{REPOSITORY}:{version}")
}

/// The labels of the pods.
pub(crate) fn labels() -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "octopus"),
        ("app.kubernetes.io/instance", "octo"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The labels of the StatefulSet.
pub(crate) fn own_labels() -> BTreeMap<String, String> {
    let mut all = labels();
    all.insert(
        "app.kubernetes.io/managed-by".to_owned(),
        "octo-local".to_owned(),
    );
    all
}

fn pod(node: &Node) -> Pod {
    let waiting = |reason: &str| Life::Waiting {
        reason: reason.to_owned(),
        message: String::new(),
    };
    Pod {
        name: format!("octopus-{}", node.number),
        uid: node.uid.to_string(),
        number: node.number,
        image: image(node.version),
        machine: Some("worker-1".to_owned()),
        is_ending: node.ends_at.is_some(),
        is_ready: node.is_ready(),
        life: match node.doing {
            Doing::Pulling { .. } => waiting("ContainerCreating"),
            Doing::NoImage => waiting("ImagePullBackOff"),
            Doing::Starting { .. } => Life::Running { is_started: false },
            Doing::Serving => Life::Running { is_started: true },
            Doing::BackingOff { .. } => waiting("CrashLoopBackOff"),
        },
        restarts: node.restarts,
        last_end: (node.restarts > 0).then(|| End {
            code: 1,
            reason: "Error".to_owned(),
        }),
    }
}
