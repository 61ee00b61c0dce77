//! What the kernel tells of the processors that a container wanted and was not given, because its own
//! limit, or one around it, was used up (Linux's control groups, "CFS bandwidth control").

/// So large a share of the periods in which something ran, in percent, means that what is asked
/// cannot be expected to answer. One that hangs and does nothing has none.
const THROTTLED: u64 = 50;

/// What one control group counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Periods in which something of it ran.
    pub periods: u64,
    /// Those of them in which it was stopped until the next.
    pub throttled: u64,
}

impl Counted {
    /// Reads `cpu.stat`, which has these two lines in both versions of control groups. None where
    /// there is no limit.
    pub fn of(text: &str) -> Option<Self> {
        let count = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        Some(Self {
            periods: count("nr_periods ")?,
            throttled: count("nr_throttled ")?,
        })
    }
}

/// Whether one of the groups was stopped again and again between two readings of all of them.
pub fn starves(before: &[Counted], after: &[Counted]) -> bool {
    before.iter().zip(after).any(|(before, after)| {
        let periods = after.periods.saturating_sub(before.periods);
        let throttled = after.throttled.saturating_sub(before.throttled);
        periods > 0 && throttled.saturating_mul(100) >= periods.saturating_mul(THROTTLED)
    })
}

/// Where the kernel shows what it counted of a process's group, and of those around it, from
/// `/proc/PID/cgroup`: a limit may be around the container, and Docker-in-Docker puts its processes
/// into groups inside of it.
pub fn files(groups: &str) -> Vec<String> {
    let lines = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let lines: Vec<(&str, &str)> = lines.collect();
    let has_cpu = |controllers: &str| controllers.split(',').any(|one| one == "cpu");
    let first = lines.iter().find(|(controllers, _)| has_cpu(controllers));
    // The second version has one tree for all, and names no controllers.
    let unified = || lines.iter().find(|(controllers, _)| controllers.is_empty());
    let Some((controllers, path)) = first.or_else(unified) else {
        return Vec::new();
    };
    let root = format!("/sys/fs/cgroup/{controllers}");
    let root = root.trim_end_matches('/');
    let is_sound = |part: &&str| !matches!(*part, "" | "." | "..");
    let mut within = String::new();
    let mut files = Vec::new();
    for part in path.split('/').filter(is_sound) {
        within.push('/');
        within.push_str(part);
        files.push(format!("{root}{within}/cpu.stat"));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let counted = Counted {
            periods: 120,
            throttled: 90,
        };
        let first = "nr_periods 120\nnr_throttled 90\nthrottled_time 5000000\n";
        let second = "usage_usec 9\nuser_usec 8\nsystem_usec 1\nnr_periods 120\nnr_throttled 90\n\
                      throttled_usec 5\nnr_bursts 0\n";
        assert_eq!(Counted::of(first), Some(counted));
        assert_eq!(Counted::of(second), Some(counted));
        for nothing in ["", "usage_usec 9\n", "nr_periods x\nnr_throttled 1\n"] {
            assert_eq!(Counted::of(nothing), None);
        }
    }

    #[test]
    fn the_groups_of_a_process_are_found_with_all_around_them() {
        let first = "12:pids:/docker/a1\n4:cpu,cpuacct:/docker/a1/in\n0::/other\n";
        assert_eq!(
            files(first),
            [
                "/sys/fs/cgroup/cpu,cpuacct/docker/cpu.stat",
                "/sys/fs/cgroup/cpu,cpuacct/docker/a1/cpu.stat",
                "/sys/fs/cgroup/cpu,cpuacct/docker/a1/in/cpu.stat",
            ]
        );
        assert_eq!(
            files("0::/system.slice/docker-a1.scope\n"),
            [
                "/sys/fs/cgroup/system.slice/cpu.stat",
                "/sys/fs/cgroup/system.slice/docker-a1.scope/cpu.stat",
            ]
        );
        // From within another tree of groups nothing can be told.
        assert_eq!(files("0::/../../b\n"), ["/sys/fs/cgroup/b/cpu.stat"]);
        for nothing in ["", "0::/", "nonsense", "3:cpuset:/docker/a1"] {
            assert_eq!(files(nothing), Vec::<String>::new());
        }
    }

    #[test]
    fn who_is_stopped_in_most_periods_starves_and_who_does_nothing_does_not() {
        let at = |periods, throttled| Counted { periods, throttled };
        assert!(starves(&[at(10, 10)], &[at(20, 15)]));
        assert!(!starves(&[at(10, 10)], &[at(20, 14)]));
        assert!(!starves(&[at(900, 900)], &[at(900, 900)]), "it hangs");
        assert!(starves(&[at(0, 0), at(1, 0)], &[at(5, 0), at(9, 8)]));
        assert!(!starves(&[at(9, 9)], &[at(1, 1)]), "another group by now");
        assert!(!starves(&[], &[at(1, 1)]));
    }
}
