//! Upgrades by the thousand: the command dies anywhere, its calls get lost or are late, pods are
//! evicted, somebody else scales, the new version is broken. Two versions never run together, an old
//! one never runs on a changed database, no work of the old one is lost, and when the faults stop it
//! ends.

use std::time::Duration;

use octo_local::kubernetes::Record;
use octo_local::kubernetes::Seen;
use octo_local::kubernetes::Stage;
use octo_local::kubernetes::nodes;
use octo_local::kubernetes::upgrade;
use octo_local::kubernetes::upgrade::Begin;
use octo_local::kubernetes::upgrade::Finish;
use octo_local::kubernetes::upgrade::Known;
use octo_local::kubernetes::upgrade::Step;
use octo_local::kubernetes::upgrade::Stuck;

use super::model::Chance;
use super::model::Cluster;
use super::model::Nature;
use super::model::image;

/// How many seeds are tried.
const SEEDS: u64 = 2_400;
/// So long there are faults.
const TROUBLE: u64 = 400;
/// By then it must have ended.
const END: u64 = 4_000;
/// So often a backup is tried before that is given up.
const TRIES: u32 = 3;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Finished(Finish),
    Already,
    Stuck,
}

/// A run of the command, and what it alone knows.
#[derive(Default)]
struct Command {
    failing_since: Option<u64>,
    no_backup: u32,
}

struct Sim {
    cluster: Cluster,
    chance: Chance,
    wants_backup: bool,
    backups_fail: bool,
    command: Command,
    /// What was shown a while ago.
    late: Option<Seen>,
    files: u32,
    deaths: u32,
    /// The old version was the last one that was let run: then it may come back.
    trace: Vec<String>,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let nature = Nature {
            is_parallel: chance.is(300),
            undrains_itself: chance.is(600),
            broken: chance.is(250).then_some(2),
            missing: chance.is(100).then_some(2),
        };
        let nodes = 1 + u32::try_from(chance.below(4)).unwrap();
        let wants_backup = chance.is(800);
        let backups_fail = chance.is(100);
        Self {
            cluster: Cluster::serving(nature, nodes),
            chance,
            wants_backup,
            backups_fail,
            command: Command::default(),
            late: None,
            files: 0,
            deaths: 0,
            trace: Vec::new(),
        }
    }

    fn is_trouble(&self) -> bool {
        self.cluster.now < TROUBLE
    }

    /// The world goes on, with what others do in it.
    fn time_goes_by(&mut self) {
        let seconds = 1 + self.chance.below(3);
        for _ in 0..seconds {
            self.cluster.pods_move();
            // The controller is late at times.
            if !self.chance.is(250) {
                self.cluster.reconcile();
            }
        }
        if !self.is_trouble() {
            return;
        }
        if self.chance.is(10) && !self.cluster.nodes.is_empty() {
            let of = self.cluster.nodes.len() as u64;
            let at = usize::try_from(self.chance.below(of)).unwrap();
            let node = &self.cluster.nodes[at];
            // A budget keeps evictions from a node that is not up yet; it is the machine that goes.
            if !node.is_changing {
                self.trace
                    .push(format!("{}: evicted {}", self.cluster.now, node.number));
                let uid = node.uid;
                self.cluster.end(uid);
            }
        }
        // Somebody else's scaling, as by a GitOps tool: beside each other the nodes would change the
        // database together, whoever does it.
        if self.chance.is(4) && !self.cluster.nature.is_parallel {
            let wished = 1 + u32::try_from(self.chance.below(4)).unwrap();
            self.trace
                .push(format!("{}: somebody scales to {wished}", self.cluster.now));
            let onto = self.cluster.resource_version.to_string();
            self.cluster.patch(&onto, |cluster| cluster.wished = wished);
        }
    }

    /// A look, which may be lost, or show what was.
    fn look(&mut self) -> Option<Seen> {
        if self.is_trouble() && self.chance.is(60) {
            return None;
        }
        let now = self.cluster.seen();
        if self.is_trouble()
            && self.chance.is(60)
            && let Some(late) = &self.late
        {
            return Some(late.clone());
        }
        if self.chance.is(300) {
            self.late = Some(now.clone());
        }
        Some(now)
    }

    /// Whether a call is lost on its way there.
    fn is_lost(&mut self) -> bool {
        self.is_trouble() && self.chance.is(60)
    }

    fn patch(&mut self, seen: &Seen, change: impl FnOnce(&mut Cluster)) {
        if !self.is_lost() {
            self.cluster.patch(&seen.set.resource_version, change);
        }
    }

    /// One round of the command.
    fn round(&mut self) -> Option<Ended> {
        if self.is_trouble() && self.chance.is(40) {
            self.command = Command::default();
            self.deaths += 1;
        }
        let seen = self.look()?;
        let Some(record) = seen.set.record().unwrap() else {
            return self.begin(&seen);
        };
        self.watch(&seen);
        let since = self.command.failing_since;
        let failing = since.map_or(0, |since| self.cluster.now - since);
        let failed = (self.command.no_backup >= TRIES).then_some("the disk is full");
        let known = Known {
            failing: Duration::from_secs(failing),
            no_backup: failed,
        };
        match upgrade::next(&record, &seen, known) {
            Ok(step) => self.take(step, &record, &seen),
            Err(Stuck::NoWayBack { .. }) => Some(Ended::Stuck),
            Err(stuck) => panic!("{stuck} {:?}", self.trace),
        }
    }

    fn watch(&mut self, seen: &Seen) {
        let fails = seen.pods.iter().any(nodes::is_failing);
        let since = self.command.failing_since.unwrap_or(self.cluster.now);
        self.command.failing_since = fails.then_some(since);
    }

    fn begin(&mut self, seen: &Seen) -> Option<Ended> {
        let database = self.wants_backup.then(|| "Octopus".to_owned());
        match upgrade::begin(seen, "2", database) {
            Ok(Begin::Already) => Some(Ended::Already),
            Ok(Begin::Start(record)) => {
                let text = record.to_text();
                self.patch(seen, |cluster| cluster.record = Some(text));
                None
            }
            // Somebody scaled to nothing, or a late look: a person looks again.
            Err(_) => None,
        }
    }

    fn take(&mut self, step: Step, record: &Record, seen: &Seen) -> Option<Ended> {
        self.trace.push(format!(
            "{}: {:?}: {step:?}",
            self.cluster.now, record.stage
        ));
        match step {
            Step::Scale(nodes) => self.patch(seen, |cluster| cluster.wished = nodes),
            Step::End(pods) => {
                for pod in pods {
                    if !self.is_lost() {
                        self.cluster.end(pod.uid.parse().unwrap());
                    }
                }
            }
            Step::BackUp => self.back_up(record, seen),
            Step::Restore { file, then } => {
                if !self.is_lost() && self.cluster.restore(&file) {
                    self.takes_its_time();
                    let (text, version) = (then.to_text(), version(&then.from));
                    self.patch(seen, |cluster| {
                        cluster.record = Some(text);
                        cluster.template = version;
                    });
                }
            }
            Step::Change { image, record } => {
                let (text, version) = (record.to_text(), version(&image));
                self.patch(seen, |cluster| {
                    cluster.record = Some(text);
                    cluster.template = version;
                });
            }
            Step::Keep(record) => {
                let text = record.to_text();
                self.patch(seen, |cluster| cluster.record = Some(text));
            }
            Step::Undrain(pod) => {
                let number = pod.rsplit('-').next().unwrap().parse().unwrap();
                if !self.is_lost() {
                    self.cluster.undrain(number);
                }
            }
            Step::Wait(_) => {}
            Step::Finish(finish) => return self.finish(finish, seen),
        }
        None
    }

    /// Backups and restores take so long that others act meanwhile.
    fn takes_its_time(&mut self) {
        for _ in 0..self.chance.below(4) {
            self.time_goes_by();
        }
    }

    fn back_up(&mut self, record: &Record, seen: &Seen) {
        if self.backups_fail {
            self.command.no_backup += 1;
            return;
        }
        if self.is_lost() {
            return;
        }
        self.files += 1;
        let file = format!("/backup/{}.bak", self.files);
        self.cluster.back_up(&file);
        self.takes_its_time();
        // It died before it could say so: the backup is made again.
        if self.is_trouble() && self.chance.is(200) {
            self.command = Command::default();
            return;
        }
        let generation = seen.set.generation;
        let text = record.at(Stage::BackedUp { file, generation }).to_text();
        self.patch(seen, |cluster| cluster.record = Some(text));
    }

    fn finish(&mut self, finish: Finish, seen: &Seen) -> Option<Ended> {
        let before = self.cluster.resource_version;
        self.patch(seen, |cluster| cluster.record = None);
        (self.cluster.resource_version != before).then_some(Ended::Finished(finish))
    }

    /// The faults are over, and what was ordered happens.
    fn settle(&mut self) {
        self.cluster.now = self.cluster.now.max(TROUBLE);
        for _ in 0..100 {
            self.time_goes_by();
            // Nodes without a hook that were evicted since stay drained: a person's command.
            for number in 0..self.cluster.wished {
                self.cluster.undrain(number);
            }
        }
    }

    fn run(&mut self) -> Ended {
        while self.cluster.now < END {
            self.time_goes_by();
            if let Some(ended) = self.round() {
                return ended;
            }
        }
        panic!(
            "it did not end: {:#?}\n{:#?}",
            self.cluster.seen(),
            self.trace
        );
    }
}

fn version(image: &str) -> u32 {
    image.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn upgrades_by_the_thousand_keep_versions_apart_and_end() {
    let (mut upgraded, mut back, mut given_up, mut stuck, mut deaths) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut sim = Sim::new(seed);
        let comes_up = sim.cluster.nature.broken.is_none() && sim.cluster.nature.missing.is_none();
        let ended = sim.run();
        sim.settle();
        let said = || format!("seed {seed}: {:#?}", sim.trace);
        assert_eq!(sim.cluster.violations, Vec::<String>::new(), "{}", said());
        let (cluster, has_backup) = (&sim.cluster, sim.wants_backup && !sim.backups_fail);
        let serves = |version: u32| {
            let seen = cluster.seen();
            assert_eq!(seen.pods.len(), cluster.wished as usize, "{}", said());
            assert!(cluster.wished > 0, "{}", said());
            let all = seen
                .pods
                .iter()
                .all(|pod| pod.is_ready && pod.image == image(version));
            assert!(all && cluster.template == version, "{}", said());
            assert_eq!(cluster.database.unwrap().version, version, "{}", said());
        };
        match ended {
            Ended::Finished(Finish::Upgraded) | Ended::Already => {
                assert!(comes_up, "{}", said());
                upgraded += 1;
                serves(2);
            }
            Ended::Finished(Finish::WentBack { .. }) => {
                assert!(!comes_up && has_backup, "{}", said());
                back += 1;
                serves(1);
            }
            Ended::Finished(Finish::GaveUp { .. }) => {
                assert!(sim.backups_fail && sim.wants_backup, "{}", said());
                given_up += 1;
                serves(1);
            }
            Ended::Stuck => {
                assert!(!comes_up && !sim.wants_backup, "{}", said());
                stuck += 1;
            }
        }
        deaths += sim.deaths;
    }
    let counts = (upgraded, back, given_up, stuck, deaths);
    assert!(
        upgraded > 1_000 && back > 300 && given_up > 100,
        "{counts:?}"
    );
    assert!(stuck > 50 && deaths > 2_000, "{counts:?}");
}
