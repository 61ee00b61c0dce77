//! Handovers by the thousand: the command dies anywhere, calls get lost, somebody starts containers
//! here or scales there, a person changes their mind. Two servers never run on one identity, no node
//! there starts before all data is there, none of it is out of date, and when the faults stop it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use octo_local::kubernetes::Seen;
use octo_local::kubernetes::handover;
use octo_local::kubernetes::handover::DIRECTORIES;
use octo_local::kubernetes::handover::FORM;
use octo_local::kubernetes::handover::Handover;
use octo_local::kubernetes::handover::Here;
use octo_local::kubernetes::handover::Stage;
use octo_local::kubernetes::handover::Step;
use octo_local::kubernetes::handover::Stuck;

use super::model::Chance;
use super::model::Cluster;
use super::model::Database;
use super::model::Nature;
use super::model::image;

const SEEDS: u64 = 2_400;
/// So long there are faults.
const TROUBLE: u64 = 250;
/// By then it must have ended.
const END: u64 = 3_000;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Done,
    Back,
    FirstFails,
}

/// This host.
#[derive(Clone, Copy, Default)]
struct Host {
    nodes_run: bool,
    is_there: bool,
    work: u64,
    /// What is in the set that was made last.
    in_set: Option<u64>,
}

struct Sim {
    host: Host,
    cluster: Cluster,
    chance: Chance,
    kept: Option<Handover>,
    wants_back: bool,
    has_helper: bool,
    copied: BTreeSet<String>,
    removed_rows: bool,
    violations: Vec<String>,
    trace: Vec<String>,
    failing_since: Option<u64>,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let nature = Nature {
            is_parallel: chance.is(300),
            undrains_itself: chance.is(600),
            broken: chance.is(80).then_some(1),
            missing: chance.is(50).then_some(1),
        };
        let nodes = 1 + u32::try_from(chance.below(3)).unwrap();
        Self {
            host: Host {
                nodes_run: true,
                is_there: true,
                work: 50,
                in_set: None,
            },
            cluster: Cluster::empty(nature),
            wants_back: chance.is(250),
            chance,
            kept: Some(Handover {
                form: FORM,
                stage: Stage::Leaving,
                context: None,
                namespace: "octo".to_owned(),
                image: image(1),
                nodes,
                old_names: vec!["octopus-server-1".to_owned()],
                database: "Octopus".to_owned(),
                set: None,
                copied: BTreeSet::new(),
            }),
            has_helper: false,
            copied: BTreeSet::new(),
            removed_rows: false,
            violations: Vec::new(),
            trace: Vec::new(),
            failing_since: None,
        }
    }

    fn is_trouble(&self) -> bool {
        self.cluster.now < TROUBLE
    }

    fn is_lost(&mut self) -> bool {
        self.is_trouble() && self.chance.is(80)
    }

    fn time_goes_by(&mut self) {
        for _ in 0..=self.chance.below(3) {
            self.cluster.pods_move();
            if !self.chance.is(250) {
                self.cluster.reconcile();
            }
            if self.host.nodes_run {
                self.host.work += 1;
            }
            self.judge();
        }
        if !self.is_trouble() {
            return;
        }
        let there = !self.cluster.nodes.is_empty() || self.cluster.wished > 0;
        // Somebody starts the containers that are still there, by Docker's own command.
        if self.chance.is(15) && self.host.is_there && !there {
            self.trace
                .push(format!("{}: somebody starts nodes here", self.cluster.now));
            self.host.nodes_run = true;
        }
        if self.chance.is(15) && !self.cluster.nodes.is_empty() {
            let uid = self.cluster.nodes[0].uid;
            self.cluster.end(uid);
        }
    }

    fn judge(&mut self) {
        let running = self.cluster.nodes.iter().filter(|node| node.runs()).count();
        let mut wrong = |what: &str| {
            let now = self.cluster.now;
            self.violations.push(format!("{now}: {what}"));
        };
        if running > 0 && self.host.nodes_run {
            wrong("two servers on one identity");
        }
        if running > 0
            && self
                .cluster
                .database
                .is_none_or(|it| it.work < self.host.work)
        {
            wrong("a node runs there on data that is not all of it");
        }
        if running > 0 && DIRECTORIES.iter().any(|path| !self.copied.contains(*path)) {
            wrong("a node runs there before the files are there");
        }
    }

    fn round(&mut self) -> Option<Ended> {
        // It dies: what is kept is in a file, what it alone knew is gone.
        if self.is_trouble() && self.chance.is(50) {
            self.failing_since = None;
        }
        let mut kept = self.kept.clone()?;
        let is_under_way = kept.stage > Stage::Leaving && kept.stage < Stage::Done;
        if self.wants_back && is_under_way && self.chance.is(60) {
            kept.stage = Stage::Undoing;
            self.kept = Some(kept.clone());
        }
        if self.is_lost() {
            return None;
        }
        let seen = self.cluster.seen();
        let fails = seen
            .pods
            .iter()
            .any(octo_local::kubernetes::nodes::is_failing);
        let since = self.failing_since.unwrap_or(self.cluster.now);
        self.failing_since = fails.then_some(since);
        let failing = Duration::from_secs(self.failing_since.map_or(0, |at| self.cluster.now - at));
        let here = Here {
            nodes_run: self.host.nodes_run,
            is_there: self.host.is_there,
        };
        match handover::next(&kept, here, &seen, self.has_helper, failing) {
            Ok(step) => self.take(step, &kept, &seen),
            Err(Stuck::FirstFails(_)) => Some(Ended::FirstFails),
            Err(stuck) => panic!("{stuck}: {:#?}", self.trace),
        }
    }

    fn patch(&mut self, seen: &Seen, change: impl FnOnce(&mut Cluster)) {
        if !self.is_lost() {
            self.cluster.patch(&seen.set.resource_version, change);
        }
    }

    /// It dies between what it did and what it keeps of that.
    fn dies(&mut self) -> bool {
        self.is_trouble() && self.chance.is(150)
    }

    fn keep(&mut self, kept: Handover) {
        if !self.dies() {
            self.kept = Some(kept);
        }
    }

    fn take(&mut self, step: Step, kept: &Handover, seen: &Seen) -> Option<Ended> {
        self.trace
            .push(format!("{}: {:?}: {step:?}", self.cluster.now, kept.stage));
        match step {
            Step::StopNodes => self.host.nodes_run = false,
            Step::BackUp => {
                self.host.in_set = Some(self.host.work);
                self.keep(Handover {
                    set: Some("set".to_owned()),
                    ..kept.clone()
                });
            }
            Step::BeginAgain => self.keep(kept.again()),
            Step::TakeDown => self.host.is_there = false,
            Step::Keep(stage) => self.keep(Handover {
                stage,
                ..kept.clone()
            }),
            Step::Scale(nodes) => self.patch(seen, |cluster| cluster.wished = nodes),
            Step::End(pods) => pods
                .iter()
                .for_each(|pod| self.cluster.end(pod.uid.parse().unwrap())),
            Step::Restore => {
                assert!(kept.stage == Stage::Restoring, "{:#?}", self.trace);
                let work = self.host.in_set.unwrap();
                self.cluster.database = Some(Database { version: 1, work });
                self.copied.clear();
                self.keep(Handover {
                    stage: Stage::Restored,
                    ..kept.clone()
                });
            }
            Step::Copy(directory) => {
                self.has_helper = true;
                self.copied.insert(directory.clone());
                let mut kept = kept.clone();
                kept.copied.insert(directory);
                self.keep(kept);
            }
            Step::RemoveHelper => self.has_helper = false,
            Step::Undrain(pod) => {
                let number = pod.rsplit('-').next().unwrap().parse().unwrap();
                self.cluster.undrain(number);
            }
            Step::RemoveOldNodes => {
                self.removed_rows = true;
                self.keep(Handover {
                    stage: Stage::Alone,
                    ..kept.clone()
                });
            }
            Step::Wait(_) => {}
            Step::Finish => return Some(Ended::Done),
            Step::Forget => {
                self.kept = None;
                return Some(Ended::Back);
            }
        }
        None
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
        panic!("it did not end: {:#?}\n{:#?}", self.kept, self.trace);
    }
}

#[test]
fn handovers_by_the_thousand_never_run_two_servers_and_lose_nothing() {
    let (mut done, mut back, mut failed) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut sim = Sim::new(seed);
        let ended = sim.run();
        sim.settle();
        let said = || format!("seed {seed}: {:#?}", sim.trace);
        assert_eq!(sim.violations, Vec::<String>::new(), "{}", said());
        assert_eq!(sim.cluster.violations, Vec::<String>::new(), "{}", said());
        let seen = sim.cluster.seen();
        match ended {
            Ended::Done => {
                done += 1;
                assert!(
                    sim.removed_rows && !sim.has_helper && !sim.host.is_there,
                    "{}",
                    said()
                );
                let nodes = sim.kept.as_ref().unwrap().nodes;
                assert_eq!(seen.pods.len(), nodes as usize, "{}", said());
                assert!(seen.pods.iter().all(|pod| pod.is_ready), "{}", said());
            }
            Ended::Back => {
                back += 1;
                assert!(seen.pods.is_empty() && seen.set.wished == 0, "{}", said());
                assert!(!sim.has_helper, "{}", said());
            }
            Ended::FirstFails => {
                failed += 1;
                let nature = sim.cluster.nature;
                assert!(
                    nature.broken.is_some() || nature.missing.is_some(),
                    "{}",
                    said()
                );
            }
        }
    }
    assert!(
        done > 1_000 && back > 200 && failed > 100,
        "{done} {back} {failed}"
    );
}

/// What keeps a stack here from being started says what to do, at each stage.
#[test]
fn each_stage_says_what_goes_on_and_what_goes_back() {
    let kept = Sim::new(1).kept.unwrap();
    for stage in [
        Stage::Leaving,
        Stage::Restoring,
        Stage::Restored,
        Stage::First,
        Stage::Alone,
        Stage::Undoing,
    ] {
        let kept = Handover {
            stage,
            ..kept.clone()
        };
        assert!(kept.in_the_way().contains("handover --undo"), "{stage:?}");
    }
    let done = Handover {
        stage: Stage::Done,
        ..kept
    };
    assert!(done.in_the_way().contains("up --again"));
}
