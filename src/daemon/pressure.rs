//! What the kernel tells of the pressure on this host (Linux's "pressure stall information"): for
//! which share of the last seconds something that wanted to run had to wait.

/// So large a share of ten seconds, in percent, in which something waited for a processor, means
/// that the processes of units wait too. A host that is only busy has less.
const PROCESSORS: f32 = 95.0;
/// The same for memory and disks, where nothing at all could go on meanwhile.
const STALLED: f32 = 40.0;

/// The pressure over the last ten seconds, in percent of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Something waited for a processor.
    pub processors: f32,
    /// Everything waited for memory.
    pub memory: f32,
    /// Everything waited for a disk.
    pub disks: f32,
}

impl Pressure {
    /// Reads `/proc/pressure/cpu`, `memory` and `io`, as far as they are there.
    pub fn of(cpu: Option<&str>, memory: Option<&str>, io: Option<&str>) -> Option<Self> {
        let all = [cpu, memory, io];
        all.iter().flatten().next()?;
        let share = |text: Option<&str>, line: &str| {
            text.and_then(|text| share_in(text, line)).unwrap_or(0.0)
        };
        Some(Self {
            processors: share(cpu, "some"),
            memory: share(memory, "full"),
            disks: share(io, "full"),
        })
    }

    /// Whether the host is so short that silence says nothing about who is silent.
    pub fn starves(&self) -> bool {
        self.processors >= PROCESSORS || self.memory >= STALLED || self.disks >= STALLED
    }
}

/// The share of the last ten seconds in the line that begins so: `some avg10=1.50 avg60=…`.
fn share_in(text: &str, line: &str) -> Option<f32> {
    let mut words = text
        .lines()
        .find_map(|one| one.strip_prefix(line))?
        .split_whitespace();
    words
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: &str = "some avg10=0.00 avg60=0.10 avg300=0.02 total=7\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
    const SHORT: &str = "some avg10=97.31 avg60=80.00 avg300=60.00 total=7\n\
                         full avg10=55.00 avg60=0.00 avg300=0.00 total=3\n";

    #[test]
    fn a_host_is_short_of_one_thing_or_another_and_not_for_being_busy() {
        let starves = |cpu, memory, io| Pressure::of(cpu, memory, io).unwrap().starves();
        assert!(!starves(Some(IDLE), Some(IDLE), Some(IDLE)));
        assert!(starves(Some(SHORT), None, None));
        assert!(starves(Some(IDLE), Some(SHORT), Some(IDLE)));
        assert!(starves(None, None, Some(SHORT)));
        assert!(!starves(Some("some avg10=60.00 avg60=0.00"), None, None));
    }

    #[test]
    fn a_kernel_that_does_not_tell_or_tells_nonsense_is_not_short() {
        assert_eq!(Pressure::of(None, None, None), None);
        let nonsense = Pressure::of(Some("some avg10=x"), Some(""), Some("\u{0}")).unwrap();
        assert_eq!(nonsense, Pressure::default());
        assert!(!nonsense.starves());
    }
}
