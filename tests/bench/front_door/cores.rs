//! One core for the door, another for all that asks and answers: what a thread starts inherits
//! where it may run.

use rustix::thread::CpuSet;
use rustix::thread::sched_getaffinity;
use rustix::thread::sched_setaffinity;

/// The cores that this process may use.
pub(crate) struct Cores {
    all: CpuSet,
    door: usize,
    rest: usize,
}

impl Cores {
    /// Keeps the calling thread off the door's core; none where there is but one.
    pub(crate) fn divide() -> Option<Self> {
        let all = sched_getaffinity(None).unwrap();
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let (door, rest) = (allowed.next()?, allowed.next()?);
        let cores = Self { all, door, rest };
        cores.rest();
        Some(cores)
    }

    /// Starts something on the door's core.
    pub(crate) fn on_the_doors<T>(&self, start: impl FnOnce() -> T) -> T {
        keep_to(&only(self.door));
        let started = start();
        self.rest();
        started
    }

    /// Starts something that may run everywhere.
    pub(crate) fn on_all<T>(&self, start: impl FnOnce() -> T) -> T {
        keep_to(&self.all);
        let started = start();
        self.rest();
        started
    }

    fn rest(&self) {
        keep_to(&only(self.rest));
    }
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

fn keep_to(set: &CpuSet) {
    sched_setaffinity(None, set).unwrap();
}
