//! `kubernetes upgrade`: all nodes of the cluster on another version, one version at a time.

use time::OffsetDateTime;

use super::Pace;
use super::change;
use super::change::Change;
use super::confirm;
use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use super::look::Places;
use super::look::Sql;
use super::sql::DIRECTORY;
use crate::cli::args::KubernetesUpgradeFlags;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::kubernetes::Record;
use crate::kubernetes::Seen;
use crate::kubernetes::Stage;
use crate::kubernetes::told;
use crate::kubernetes::upgrade;
use crate::kubernetes::upgrade::Begin;
use crate::kubernetes::upgrade::Finish;
use crate::kubernetes::upgrade::Known;
use crate::kubernetes::upgrade::Step;

/// So often a backup is tried before the old version is brought back.
const BACKUPS: u32 = 3;

/// Begins an upgrade, or goes on with the one that was begun.
pub(super) async fn upgrade(kubectl: &Kubectl, flags: &KubernetesUpgradeFlags) -> Outcome {
    let beginning = begin(kubectl, flags);
    let begun = interruptible("interrupted: nothing was changed", beginning).await?;
    let Some(run) = begun else { return Ok(()) };
    let words = format!(
        "interrupted: `octo-local kubernetes upgrade {}` goes on",
        flags.tag
    );
    interruptible(&words, run.go_on(kubectl)).await
}

/// A run of the command.
struct Run {
    places: Places,
    pace: Pace,
    failed_backups: u32,
    why_no_backup: String,
    /// The backup that was made last, and the generation of the set then: where only the word about
    /// it was lost, it counts.
    made: Option<(String, i64)>,
}

/// Everything that is asked and refused before anything is changed. None: there is nothing to do.
async fn begin(kubectl: &Kubectl, flags: &KubernetesUpgradeFlags) -> Result<Option<Run>, Failure> {
    let places = Places::find(kubectl).await?;
    let seen = places.seen(kubectl).await?;
    let sql = places.sql(kubectl).await?;
    let kept = seen.set.record();
    let kept = kept.map_err(|error| {
        Failure::new(
            CONFIGURATION,
            format!("statefulset/{}: {error}", seen.set.name),
        )
    })?;
    if let Some(record) = &kept {
        must_be_the_same(record, &seen, &flags.tag)?;
        print::tell(print::plain(&told::of_record(record)));
    } else {
        let database = database(kubectl, &places, sql.as_ref(), flags).await?;
        let begun = upgrade::begin(&seen, &flags.tag, database);
        let begun = begun.map_err(|problems| Failure::problems(&problems))?;
        let Begin::Start(record) = begun else {
            print::tell(format_args!(
                "{} runs {} already",
                seen.set.name, seen.set.image
            ));
            return Ok(None);
        };
        kubectl.must_be_allowed(&change::RIGHTS).await?;
        for line in told::plan_of_upgrade(&record, &seen) {
            show(&line, flags.plan);
        }
        if flags.plan {
            return Ok(None);
        }
        confirm(&format!("Upgrade to {}?", record.to), flags.patience.yes)?;
        write_down(kubectl, &places, seen, &record, flags.patience.wait_timeout).await?;
    }
    if flags.plan {
        return Ok(None);
    }
    Ok(Some(Run {
        places,
        pace: Pace::new(flags.patience.wait_timeout),
        failed_backups: 0,
        why_no_backup: String::new(),
        made: None,
    }))
}

/// Keeps what is about to be done. An answer that is lost says nothing: it is looked again.
async fn write_down(
    kubectl: &Kubectl,
    places: &Places,
    mut seen: Seen,
    record: &Record,
    wait_timeout: u64,
) -> Outcome {
    let change = Change::keep(record);
    let mut pace = Pace::new(wait_timeout);
    while seen.set.record.is_none() {
        match change.write(kubectl, &seen.set).await {
            Ok(()) => return Ok(()),
            Err(error) => pace.outlast(error).await?,
        }
        match places.seen(kubectl).await {
            Ok(now) => seen = now,
            Err(error) => pace.outlast(error).await?,
        }
    }
    // Somebody else may have begun another one.
    let kept = seen.set.record().ok().flatten();
    if kept.is_some_and(|kept| kept.to == record.to) {
        return Ok(());
    }
    let line = "somebody else began an upgrade at the same moment: `octo-local kubernetes status` shows it";
    Err(Failure::new(CONFIGURATION, line))
}

/// A plan is data; what is told before a question is not.
fn show(line: &str, is_plan: bool) {
    if is_plan {
        print::line(line);
    } else {
        print::tell(print::plain(line));
    }
}

/// What was begun is ended before anything else begins.
fn must_be_the_same(record: &Record, seen: &Seen, tag: &str) -> Outcome {
    let to =
        upgrade::target(&record.from, tag).map_err(|(why, _)| Failure::new(CONFIGURATION, why))?;
    if to == record.to {
        return Ok(());
    }
    let wanted = record.to.rsplit(':').next().unwrap_or_default();
    let line = format!(
        "statefulset/{} is in the middle of an {}: `octo-local kubernetes upgrade {wanted}` goes on with it first",
        seen.set.name,
        told::of_record(record)
    );
    Err(Failure::new(CONFIGURATION, line))
}

/// The database that is backed up, or why that cannot be.
async fn database(
    kubectl: &Kubectl,
    places: &Places,
    sql: Option<&Sql>,
    flags: &KubernetesUpgradeFlags,
) -> Result<Option<String>, Failure> {
    if flags.no_backup {
        return Ok(None);
    }
    match sql {
        Some(sql) if sql.is_ready => Ok(Some(
            sql.database(kubectl, flags.database.as_deref()).await?,
        )),
        Some(_) | None if places.has_sql => {
            let line = "SQL Server does not serve, so nothing can be backed up: see why (`octo-local kubernetes status`), \
                        or say --no-backup, without a way back then";
            Err(Failure::new(CONFIGURATION, line))
        }
        Some(_) | None => {
            let line = "the database is not in this namespace, so it is backed up on its own server: do that, then say \
                        --no-backup; the way back is that backup and the old version";
            Err(Failure::new(CONFIGURATION, line))
        }
    }
}

impl Run {
    async fn go_on(mut self, kubectl: &Kubectl) -> Outcome {
        loop {
            let seen = match self.places.seen(kubectl).await {
                Ok(seen) => seen,
                Err(error) => {
                    self.pace.outlast(error).await?;
                    continue;
                }
            };
            let record = seen.set.record();
            let record = record.map_err(|error| Failure::new(CONFIGURATION, error.to_string()))?;
            let Some(record) = record else {
                let line = "another call of the command ended it meanwhile; `octo-local kubernetes status` shows how";
                return Err(Failure::new(FAILED, line));
            };
            let known = Known {
                failing: self.pace.failing(&seen),
                no_backup: (self.failed_backups >= BACKUPS).then_some(&self.why_no_backup),
            };
            let step = upgrade::next(&record, &seen, known);
            let step =
                step.map_err(|stuck| Failure::new(FAILED, print::plain(&stuck.to_string())))?;
            self.pace.tell(told::of_upgrade(&step, &record));
            if let Step::Finish(finish) = &step {
                match Change::forget().write(kubectl, &seen.set).await {
                    Ok(()) => return ended(finish, &record),
                    Err(error) => self.pace.outlast(error).await?,
                }
                continue;
            }
            match self.take(kubectl, &step, &record, &seen).await {
                Ok(()) if matches!(step, Step::Wait(_) | Step::Undrain(_) | Step::BackUp) => {
                    self.pace.rest().await?;
                }
                Ok(()) => {}
                Err(error) => self.pace.outlast(error).await?,
            }
        }
    }

    async fn take(
        &mut self,
        kubectl: &Kubectl,
        step: &Step,
        record: &Record,
        seen: &Seen,
    ) -> Result<(), KubectlError> {
        match step {
            Step::Scale(nodes) => Change::scale(*nodes).write(kubectl, &seen.set).await,
            Step::End(pods) => change::end(kubectl, pods).await,
            Step::BackUp => self.back_up(kubectl, record, seen).await,
            Step::Restore { file, then } => {
                let sql = self.places.must_have_sql(kubectl).await?;
                // A record without a database never goes back.
                let database = record.database.as_deref().unwrap_or_default();
                sql.restore(kubectl, database, file).await?;
                Change::image(&then.from, then)
                    .write(kubectl, &seen.set)
                    .await
            }
            Step::Change { image, record } => {
                Change::image(image, record).write(kubectl, &seen.set).await
            }
            Step::Keep(record) => Change::keep(record).write(kubectl, &seen.set).await,
            Step::Undrain(pod) => change::undrain(kubectl, pod).await,
            Step::Wait(_) | Step::Finish(_) => Ok(()),
        }
    }

    async fn back_up(
        &mut self,
        kubectl: &Kubectl,
        record: &Record,
        seen: &Seen,
    ) -> Result<(), KubectlError> {
        let found = self.places.sql(kubectl).await?;
        let (Some(sql), Some(database)) = (found, &record.database) else {
            self.failed_backups += 1;
            "SQL Server's pod is not there".clone_into(&mut self.why_no_backup);
            self.pace.slow_down();
            return Ok(());
        };
        let generation = seen.set.generation;
        let made = self.made.clone().filter(|made| made.1 == generation);
        let file = match made {
            Some((file, _)) => file,
            None => {
                let file = file_for(record);
                if let Err(error) = sql.back_up(kubectl, database, &file).await {
                    if error.passes() {
                        return Err(error);
                    }
                    self.failed_backups += 1;
                    self.why_no_backup = error.to_string();
                    self.pace.tell(Some(error.to_string()));
                    self.pace.slow_down();
                    return Ok(());
                }
                self.made = Some((file.clone(), generation));
                file
            }
        };
        let stage = Stage::BackedUp {
            file: file.clone(),
            generation,
        };
        self.pace.tell(Some(format!(
            "the database is backed up and checked: {file} in {}",
            sql.pod
        )));
        Change::keep(&record.at(stage))
            .write(kubectl, &seen.set)
            .await
    }
}

/// A name of its own each time: an earlier attempt, whose connection was cut, may still write.
fn file_for(record: &Record) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let tag = record.to.rsplit(':').next().unwrap_or_default();
    format!("{DIRECTORY}/octo-local-before-{tag}-{now}.bak")
}

fn ended(finish: &Finish, record: &Record) -> Outcome {
    let (from, to) = (&record.from, &record.to);
    match finish {
        Finish::Upgraded => {
            let nodes = record.nodes;
            print::tell(format_args!("{nodes} nodes serve on {to}"));
            print::tell(
                "note: set OCTOPUS_SERVER_TAG to it and export again, so that the files say the same",
            );
            Ok(())
        }
        Finish::WentBack { why } => {
            let line = format!(
                "{to} did not come up: {why}; {from} serves again, on the database as it was before"
            );
            Err(Failure::new(FAILED, print::plain(&line)))
        }
        Finish::GaveUp { why } => {
            let line = format!(
                "no backup could be made: {why}; {from} serves again, and nothing was changed"
            );
            Err(Failure::new(FAILED, print::plain(&line)))
        }
    }
}
