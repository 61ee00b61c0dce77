//! The faults that `STANDIN_SQL_FAULT` switches on.

use std::time::Duration;

/// A failure that ends the program during start-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartFault {
    Eula,
    PasswordPolicy,
    Memory,
    Permission,
    DiskFull,
    NewerData,
    SigAbrt,
}

/// Why a database cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Recovering,
    RecoveryPending,
    Suspect,
}

/// Everything asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Faults {
    pub(super) start: Option<StartFault>,
    pub(super) hang_prelogin: bool,
    pub(super) hang_login: bool,
    pub(super) upgrade_mode: Option<Duration>,
    pub(super) crash_after: Option<Duration>,
    /// Databases in a bad state, and for how long; for ever without a time.
    pub(super) broken: Vec<(String, Broken, Option<Duration>)>,
    /// A BACKUP's device is full behind so many bytes.
    pub(super) backup_disk_full: Option<u64>,
    /// Databases with a damaged page, in lower case.
    pub(super) corrupt: Vec<String>,
    /// `sa` lacks the rights of a sysadmin.
    pub(super) not_sysadmin: bool,
    /// Bytes per second.
    pub(super) log_flood: Option<usize>,
}

/// Reads the variable's value: faults separated by commas. `Err` names the one that is not known.
pub(super) fn parse(text: &str) -> Result<Faults, String> {
    let mut faults = Faults::default();
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        faults.add(word).ok_or_else(|| word.to_owned())?;
    }
    Ok(faults)
}

impl Faults {
    fn add(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "eula" => self.start = Some(StartFault::Eula),
            "password-policy" => self.start = Some(StartFault::PasswordPolicy),
            "memory" => self.start = Some(StartFault::Memory),
            "permission" => self.start = Some(StartFault::Permission),
            "disk-full" => self.start = Some(StartFault::DiskFull),
            "newer-data" => self.start = Some(StartFault::NewerData),
            "sigabrt" => self.start = Some(StartFault::SigAbrt),
            "hang-prelogin" => self.hang_prelogin = true,
            "hang-login" => self.hang_login = true,
            "upgrade-mode" => self.upgrade_mode = Some(seconds(value)?),
            "crash-after" => self.crash_after = Some(seconds(value)?),
            "log-flood" => {
                self.log_flood = Some((value.parse::<f64>().ok()? * 1_048_576.0) as usize);
            }
            "backup-disk-full" => self.backup_disk_full = Some(value.parse().ok()?),
            "corrupt" => self.corrupt.push(value.to_lowercase()),
            "not-sysadmin" => self.not_sysadmin = true,
            "suspect" => self.breaks(value, Broken::Suspect)?,
            "recovery-pending" => self.breaks(value, Broken::RecoveryPending)?,
            "recovering" => self.breaks(value, Broken::Recovering)?,
            _ => return None,
        }
        Some(())
    }

    /// Whether a database has a damaged page.
    pub(super) fn is_corrupt(&self, database: &str) -> bool {
        self.corrupt.contains(&database.to_lowercase())
    }

    fn breaks(&mut self, value: &str, how: Broken) -> Option<()> {
        let (name, time) = value
            .split_once(':')
            .map_or((value, None), |(name, time)| (name, Some(time)));
        let time = match time {
            Some(time) => Some(seconds(time)?),
            None => None,
        };
        self.broken.push((name.to_lowercase(), how, time));
        (!name.is_empty()).then_some(())
    }
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_faults_and_an_unknown_one() {
        let faults = parse("hang-login, recovering=Octopus:2.5,crash-after=3").unwrap();
        assert!(faults.hang_login);
        assert_eq!(faults.crash_after, Some(Duration::from_secs(3)));
        assert_eq!(
            faults.broken,
            [(
                "octopus".to_owned(),
                Broken::Recovering,
                Some(Duration::from_millis(2500))
            )]
        );
        assert_eq!(parse("memory,typo=1").unwrap_err(), "typo=1");
        assert_eq!(parse("suspect=").unwrap_err(), "suspect=");
    }
}
