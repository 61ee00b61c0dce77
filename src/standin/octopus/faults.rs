//! Faults that can be switched on with `STANDIN_OCTOPUS_FAULT`, or for one node with
//! `STANDIN_OCTOPUS_FAULT_<NODE>`.
//!
//! Several are parted by commas. `@once` behind one limits it to the first boot that would have it;
//! that boot is remembered in `/cache`, which lives as long as the node's volumes, or in `/Octopus`
//! where there is no `/cache`.
//!
//! | fault | what happens |
//! |---|---|
//! | `slow-start=S` | logs `Applying script N` every half second, and is ready S seconds later |
//! | `stuck-start` | logs nothing more and is never ready |
//! | `crash-at-start` | ends with 1 once the upgrade has begun |
//! | `crash-in-upgrade=N` | ends with 1 in the upgrade of an older schema, once N of its 4 scripts are applied |
//! | `drain-fails`, `drain-hangs` | the command `node --drain=true` exits with 1 and does nothing, or never ends |
//! | `no-exec` | the vendor's commands exit with 126: nothing can be run inside the container |
//! | `crash-after=S` | ends with 1, S seconds after its process started |
//! | `exit-zero-after=S` | ends with 0, S seconds after its process started |
//! | `hang-after=S` | from then on takes connections and answers nothing |
//! | `slow-loris` | the ping's body never ends |
//! | `redirect-loop` | the ping redirects to itself |
//! | `flap=N` | every Nth ping answers 500 |
//! | `log-flood=MB` | logs that many megabytes a second |
//! | `oom=MB` | takes and touches that many megabytes, unless the kernel kills it before |
//! | `eula`, `wrong-host`, `permission`, `disk-full`, `master-key`, `license-expired`, `node-limit` | ends with 1 and the vendor's words, at the step of the start where the vendor's server does |

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::fatal::Fatal;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    SlowStart(Duration),
    StuckStart,
    CrashAtStart,
    /// Once so many scripts are applied.
    CrashInUpgrade(u64),
    DrainFails,
    DrainHangs,
    NoExec,
    CrashAfter(Duration),
    ExitZeroAfter(Duration),
    HangAfter(Duration),
    SlowLoris,
    RedirectLoop,
    /// At least 1.
    Flap(u64),
    LogFlood(u64),
    Oom(u64),
    /// An entry of [`FATAL`].
    Fatal(Step, &'static str),
}

/// The steps of a start at which a vendor's fatal message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Eula,
    Connect,
    Storage,
    MasterKey,
    Upgrade,
}

/// Name, step, and the vendor's words (Octopus' Issues 7266, 7427, 8745, 7650; octopus.com/docs,
/// "High availability").
const FATAL: &[(&str, Step, &str)] = &[
    ("eula", Step::Eula, "ERROR: You must accept the EULA"),
    (
        "wrong-host",
        Step::Connect,
        "A network-related error occurred while connecting to SQL Server: Name or service not known",
    ),
    (
        "permission",
        Step::Storage,
        "Access to the path '/repository' is denied. The volume belongs to uid 999, and this process runs as uid 1999",
    ),
    (
        "disk-full",
        Step::Storage,
        "System.IO.IOException: No space left on device : '/taskLogs'",
    ),
    ("master-key", Step::MasterKey, "The master key is invalid"),
    (
        "license-expired",
        Step::Upgrade,
        "One or more pre-conditions to safely upgrade your database has failed\n\
         FAIL: Your Octopus Server would not be compliant with your license",
    ),
    (
        "node-limit",
        Step::Upgrade,
        "Your Octopus Deploy license only allows 1 active nodes. You currently have 2",
    ),
];

/// The faults that are switched on.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<Switched>);

#[derive(Clone, Debug)]
struct Switched {
    /// As it was written, without `@once`.
    name: String,
    fault: Fault,
    once: bool,
}

impl Faults {
    /// Reads a list.
    pub(super) fn parse(text: &str) -> Result<Self, Fatal> {
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names
            .map(|name| switched(name).ok_or_else(|| unknown(name)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Leaves out the `@once` faults that an earlier boot had, and remembers in `dir` that this
    /// boot has the others.
    pub(super) fn arm(self, dir: &Path) -> Self {
        let armed = |switched: &Switched| {
            let mark = dir.join(format!(".standin-had-{}", switched.name));
            let first = !switched.once || !mark.exists();
            if first && switched.once {
                // A mark that cannot be written leaves the fault on: it then happens too often
                // rather than never.
                let _ = std::fs::write(&mark, b"");
            }
            first
        };
        Self(self.0.into_iter().filter(armed).collect())
    }

    /// The faults that `pick` takes, in the order they were written.
    pub(super) fn pick<T>(&self, pick: impl Fn(Fault) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|switched| pick(switched.fault))
    }

    /// Whether a fault is on.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.0.iter().any(|switched| switched.fault == fault)
    }

    /// Ends the start if a vendor's fatal message is asked for at this step.
    pub(super) fn reach(&self, step: Step) -> Result<(), Fatal> {
        let words = self.pick(|fault| match fault {
            Fault::Fatal(at, words) if at == step => Some(words),
            _ => None,
        });
        words.map_or(Ok(()), |words| Err(Fatal::Injected(words.to_owned())))
    }

    /// Whether none is on.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, switched) in self.0.iter().enumerate() {
            let (comma, once) = (
                if index > 0 { "," } else { "" },
                if switched.once { "@once" } else { "" },
            );
            write!(out, "{comma}{}{once}", switched.name)?;
        }
        Ok(())
    }
}

fn switched(text: &str) -> Option<Switched> {
    let (name, once) = text
        .strip_suffix("@once")
        .map_or((text, false), |name| (name, true));
    let (word, amount) = name
        .split_once('=')
        .map_or((name, None), |(word, amount)| (word, Some(amount)));
    let fault = match amount {
        None => plain(word)?,
        Some(amount) => measured(word, amount)?,
    };
    Some(Switched {
        name: name.to_owned(),
        fault,
        once,
    })
}

fn plain(word: &str) -> Option<Fault> {
    match word {
        "stuck-start" => Some(Fault::StuckStart),
        "crash-at-start" => Some(Fault::CrashAtStart),
        "drain-fails" => Some(Fault::DrainFails),
        "drain-hangs" => Some(Fault::DrainHangs),
        "no-exec" => Some(Fault::NoExec),
        "slow-loris" => Some(Fault::SlowLoris),
        "redirect-loop" => Some(Fault::RedirectLoop),
        _ => FATAL
            .iter()
            .find(|(name, ..)| *name == word)
            .map(|(_, step, words)| Fault::Fatal(*step, words)),
    }
}

fn measured(word: &str, amount: &str) -> Option<Fault> {
    let seconds = || {
        amount
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    };
    let number = || amount.parse().ok().filter(|number| *number > 0);
    match word {
        "slow-start" => seconds().map(Fault::SlowStart),
        "crash-after" => seconds().map(Fault::CrashAfter),
        "exit-zero-after" => seconds().map(Fault::ExitZeroAfter),
        "hang-after" => seconds().map(Fault::HangAfter),
        "crash-in-upgrade" => amount.parse().ok().map(Fault::CrashInUpgrade),
        "flap" => number().map(Fault::Flap),
        "log-flood" => number().map(Fault::LogFlood),
        "oom" => number().map(Fault::Oom),
        _ => None,
    }
}

fn unknown(name: &str) -> Fatal {
    Fatal::Setting(format!("STANDIN_OCTOPUS_FAULT: there is no fault `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read() {
        let text = "slow-start=2,stuck-start,crash-at-start,crash-after=0.5,exit-zero-after=1,hang-after=3,slow-loris,\
                    redirect-loop,flap=2,log-flood=1,oom=64,eula,wrong-host,permission,disk-full,master-key,\
                    license-expired,crash-in-upgrade=0,drain-fails,drain-hangs,no-exec,node-limit@once";
        let faults = Faults::parse(text).unwrap();
        assert_eq!(faults.to_string(), text);
        assert!(faults.has(Fault::CrashAfter(Duration::from_millis(500))));
        assert!(faults.reach(Step::Storage).is_err());
        assert!(Faults::default().reach(Step::Storage).is_ok());
        for wrong in [
            "meteor",
            "flap=0",
            "slow-start",
            "crash-after=-1",
            "eula=1",
            "flap=x@once",
        ] {
            assert!(Faults::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn once_is_once() {
        let dir = tempfile::tempdir().unwrap();
        let boot = || {
            Faults::parse("flap=2@once,slow-loris")
                .unwrap()
                .arm(dir.path())
        };
        assert_eq!(boot().to_string(), "flap=2@once,slow-loris");
        assert_eq!(boot().to_string(), "slow-loris");
    }
}
