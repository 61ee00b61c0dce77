//! The `BACKUP_…` variables.

use super::Reader;
use crate::config::backup::BackupConfig;
use crate::config::backup::Keep;
use crate::config::backup::is_recipient;
use crate::config::backup::is_schedule;
use crate::config::backup::recipients;

impl Reader<'_> {
    pub(super) fn backup(&mut self) -> BackupConfig {
        BackupConfig {
            dir: self.given("BACKUP_DIR").map(str::to_owned),
            keep: self.keep(),
            schedule: self.schedule(),
            recipients: self.recipients(),
        }
    }

    fn keep(&mut self) -> Keep {
        let keep = self.text("BACKUP_KEEP").parse();
        keep.unwrap_or_else(|error: crate::config::backup::NoKeep| {
            let fix = "write it as 7 (the newest seven), 14d (all of 14 days), 4w or 6m (one of each week or month), or several with commas";
            self.problem("BACKUP_KEEP", error.to_string(), fix);
            Keep::default()
        })
    }

    fn schedule(&mut self) -> Option<String> {
        let text = self.given("BACKUP_SCHEDULE")?.trim().to_owned();
        if !is_schedule(&text) {
            let fix = "write cron's five fields, such as `0 3 * * *` for three at night, or @daily";
            self.problem("BACKUP_SCHEDULE", "it is no time of cron", fix);
        }
        Some(text)
    }

    fn recipients(&mut self) -> Vec<String> {
        let recipients = recipients(&self.text("BACKUP_RECIPIENT"));
        // A secret key that was written here by mistake is not repeated.
        if recipients
            .iter()
            .any(|one| one.to_uppercase().starts_with("AGE-SECRET-KEY"))
        {
            let problem = crate::config::Problem {
                key: "BACKUP_RECIPIENT".to_owned(),
                value: None,
                why: "it is a secret key, which must not be where backups are made".to_owned(),
                fix: "write the public key that belongs to it, which begins with age1".to_owned(),
                origin: self.input.origins.get("BACKUP_RECIPIENT").cloned(),
            };
            self.problems.push(problem);
        } else if !recipients.iter().all(|one| is_recipient(one)) {
            let fix = "write the public key that `age-keygen` shows, which begins with age1";
            self.problem("BACKUP_RECIPIENT", "it is no age recipient", fix);
        }
        recipients
    }
}
