//! The next step of an upgrade, from what is kept of it and what the cluster shows.

use std::time::Duration;

use super::nodes::Ending;
use super::nodes::Rising;
use super::nodes::Wait;
use super::nodes::ending;
use super::nodes::rising;
use super::record::FORM;
use super::record::Record;
use super::record::Stage;
use super::seen::Pod;
use super::seen::Seen;
use crate::config::Problem;
use crate::config::image;

/// What the vendor's tags without a shell end in (octopus.com/docs, hardened image).
const HARDENED: &str = "-hardened";
/// More nodes than a set has on its way: a partition below it would not hold for all.
const GUARD: u32 = 32;

/// What is to be done about a wish for another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It serves already.
    Already,
    /// An upgrade begins, with this record.
    Start(Box<Record>),
}

/// What an upgrade to a tag begins with, or everything that speaks against it.
pub fn begin(seen: &Seen, tag: &str, database: Option<String>) -> Result<Begin, Vec<Problem>> {
    let set = &seen.set;
    let mut problems = Vec::new();
    let mut refuse = |why: String, fix: &str| problems.push(problem(&set.name, why, fix));
    if !set.is_guarded() || set.partition.is_some_and(|partition| partition < GUARD) {
        let why = "its controller would replace nodes one by one and mix versions: its update strategy is not \
                   RollingUpdate with a partition above every node";
        refuse(
            why.to_owned(),
            "apply what `octo-local export kubernetes` writes first",
        );
    }
    if set.wished == 0 {
        let why = "no node is wished, so nobody knows which version the database is of";
        refuse(why.to_owned(), "scale it up first, and see that it serves");
    }
    let mut images: Vec<&str> = seen.pods.iter().map(|pod| pod.image.as_str()).collect();
    images.dedup();
    let from = match images[..] {
        [] => set.image.as_str(),
        [one] => one,
        _ => {
            let why = format!("its nodes run different images: {}", images.join(", "));
            refuse(
                why,
                "see which one the database is of, and bring all nodes to it first",
            );
            set.image.as_str()
        }
    };
    let to = match target(from, tag) {
        Ok(to) => to,
        Err((why, fix)) => {
            refuse(why, fix);
            from.to_owned()
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let serves = |pod: &Pod| pod.image == to && pod.is_ready;
    let all = u32::try_from(seen.pods.len()) == Ok(set.wished) && seen.pods.iter().all(serves);
    if all && set.image == to {
        return Ok(Begin::Already);
    }
    Ok(Begin::Start(Box::new(Record {
        form: FORM,
        from: from.to_owned(),
        to,
        nodes: set.wished,
        database,
        stage: Stage::Ending,
    })))
}

/// The image that a tag means, or why it cannot be the next one, and what helps.
pub fn target(from: &str, tag: &str) -> Result<String, (String, &'static str)> {
    if !image::is_tag(tag) {
        return Err((
            format!("{tag} is no tag"),
            "name a version, such as 2026.3.1",
        ));
    }
    let (repository, old) = parts(from);
    let is_hardened = |tag: &str| tag.ends_with(HARDENED);
    let tag = match (is_hardened(old), is_hardened(tag)) {
        (true, false) => format!("{tag}{HARDENED}"),
        (false, true) => {
            let why = format!("{tag} is the image without a shell, and the pods' hooks need one");
            return Err((
                why,
                "export with --image-flavour hardened and apply that first",
            ));
        }
        (true, true) | (false, false) => tag.to_owned(),
    };
    if is_older(&tag, old) {
        let why = format!("{tag} is older than {old}, which has changed the database");
        return Err((why, "restore a backup that the older version made"));
    }
    Ok(format!("{repository}:{tag}"))
}

/// A reference without tag and digest, and its tag.
fn parts(image: &str) -> (&str, &str) {
    let plain = image.split('@').next().unwrap_or(image);
    let name = plain.rfind('/').map_or(0, |at| at + 1);
    match plain[name..].find(':') {
        Some(at) => (&plain[..name + at], &plain[name + at + 1..]),
        None => (plain, ""),
    }
}

/// Whether a tag is an older version than another, as far as both are versions.
fn is_older(one: &str, other: &str) -> bool {
    let numbers = |tag: &str| -> Option<Vec<u32>> {
        let tag = tag.strip_suffix(HARDENED).unwrap_or(tag);
        tag.split('.').map(|part| part.parse().ok()).collect()
    };
    match (numbers(one), numbers(other)) {
        (Some(one), Some(other)) => one
            .iter()
            .zip(&other)
            .find(|(a, b)| a != b)
            .is_some_and(|(a, b)| a < b),
        (None, _) | (_, None) => false,
    }
}

fn problem(key: &str, why: String, fix: &str) -> Problem {
    Problem {
        key: format!("statefulset/{key}"),
        value: None,
        why,
        fix: fix.to_owned(),
        origin: None,
    }
}

/// A step. What changes the StatefulSet is written onto the version of it that was looked at, or
/// not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many nodes are wished.
    Scale(u32),
    /// These very pods are told to end.
    End(Vec<Pod>),
    /// The database is backed up and the backup is read again; then the record says so.
    BackUp,
    /// The database becomes what is in the backup; then image and record say so.
    Restore {
        /// The backup.
        file: String,
        /// Image and record afterwards.
        then: Box<Record>,
    },
    /// The image changes, and the record with it.
    Change {
        /// The image.
        image: String,
        /// The record.
        record: Box<Record>,
    },
    /// The record changes.
    Keep(Box<Record>),
    /// A node takes tasks again.
    Undrain(String),
    /// It is looked again.
    Wait(Wait),
    /// It is over: the record goes.
    Finish(Finish),
}

/// How an upgrade ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The new version serves.
    Upgraded,
    /// The old version serves again, on the database as it was.
    WentBack {
        /// Why.
        why: String,
    },
    /// The old version serves again; nothing was changed.
    GaveUp {
        /// Why.
        why: String,
    },
}

/// What keeps an upgrade from going on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// The first node fails, and there is no backup to go back with.
    #[error(
        "the first node does not come up on {to}: {why}; there is no backup to go back with, so the old version \
         cannot run again: mend it, then call this again"
    )]
    NoWayBack {
        /// The new image.
        to: String,
        /// Why.
        why: String,
    },
    /// The old version does not come up again.
    #[error("the first node does not come up on {image} either: {why}")]
    OldFails {
        /// The old image.
        image: String,
        /// Why.
        why: String,
    },
    /// Somebody edited the image meanwhile.
    #[error(
        "somebody set the image to {found} while {wanted} is being brought up; see that nothing applies manifests \
         meanwhile, then set it back: kubectl set image statefulset/{set} octopus={wanted}"
    )]
    OtherImage {
        /// The StatefulSet.
        set: String,
        /// What is there.
        found: String,
        /// What should be.
        wanted: String,
    },
}

/// What is known beside the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// For how long the first node has been seen to fail without a break.
    pub failing: Duration,
    /// Why no backup can be made, once that was tried often enough.
    pub no_backup: Option<&'a str>,
}

/// The next step.
pub fn next(record: &Record, seen: &Seen, known: Known<'_>) -> Result<Step, Stuck> {
    match &record.stage {
        Stage::Ending => Ok(before_the_change(record, seen, known)),
        Stage::BackedUp { file, generation } => {
            let is_still = seen.set.generation == *generation;
            // A node that ran since may have written what the backup has not.
            if !is_still || ending(seen).is_some() {
                return Ok(Step::Keep(Box::new(record.at(Stage::Ending))));
            }
            let file = Some(file.clone());
            Ok(change(record, Stage::Changed { file }))
        }
        Stage::Changed { file } => changed(record, file.as_ref(), seen, known),
        Stage::GoingBack { file, why } => {
            if let Some(ending) = ending(seen) {
                return Ok(ending.into());
            }
            let why = why.clone();
            Ok(Step::Restore {
                file: file.clone(),
                then: Box::new(record.at(Stage::WentBack { why })),
            })
        }
        Stage::WentBack { why } => {
            let finish = Finish::WentBack { why: why.clone() };
            old_again(record, seen, known, finish)
        }
        Stage::GaveUp { why } => {
            let finish = Finish::GaveUp { why: why.clone() };
            old_again(record, seen, known, finish)
        }
    }
}

fn before_the_change(record: &Record, seen: &Seen, known: Known<'_>) -> Step {
    if let Some(ending) = ending(seen) {
        return ending.into();
    }
    match (&record.database, known.no_backup) {
        (None, _) => change(record, Stage::Changed { file: None }),
        (Some(_), None) => Step::BackUp,
        (Some(_), Some(why)) => {
            let why = why.to_owned();
            // An edit that waited would have taken effect, too.
            Step::Change {
                image: record.from.clone(),
                record: Box::new(record.at(Stage::GaveUp { why })),
            }
        }
    }
}

fn change(record: &Record, stage: Stage) -> Step {
    Step::Change {
        image: record.to.clone(),
        record: Box::new(record.at(stage)),
    }
}

fn changed(
    record: &Record,
    file: Option<&String>,
    seen: &Seen,
    known: Known<'_>,
) -> Result<Step, Stuck> {
    must_be(&record.to, seen)?;
    let why = match rising(seen, &record.to, record.nodes, known.failing) {
        Rising::FirstFails { why } => why,
        // Somebody scaled up before the controller had taken the new image: the old version ran, so
        // the new one has not, and the backup is out of date.
        Rising::OtherImage if seen.pods.iter().all(|pod| pod.image == record.from) => {
            return Ok(Step::Keep(Box::new(record.at(Stage::Ending))));
        }
        rising => return Ok(step_of(rising, record, seen, Finish::Upgraded)),
    };
    match file {
        Some(file) => {
            let file = file.clone();
            let stage = Stage::GoingBack { file, why };
            Ok(Step::Keep(Box::new(record.at(stage))))
        }
        None => Err(Stuck::NoWayBack {
            to: record.to.clone(),
            why,
        }),
    }
}

fn old_again(
    record: &Record,
    seen: &Seen,
    known: Known<'_>,
    finish: Finish,
) -> Result<Step, Stuck> {
    must_be(&record.from, seen)?;
    match rising(seen, &record.from, record.nodes, known.failing) {
        Rising::FirstFails { why } => Err(Stuck::OldFails {
            image: record.from.clone(),
            why,
        }),
        rising => Ok(step_of(rising, record, seen, finish)),
    }
}

fn must_be(image: &str, seen: &Seen) -> Result<(), Stuck> {
    if seen.set.image == image {
        return Ok(());
    }
    Err(Stuck::OtherImage {
        set: seen.set.name.clone(),
        found: seen.set.image.clone(),
        wanted: image.to_owned(),
    })
}

fn step_of(rising: Rising, record: &Record, seen: &Seen, finish: Finish) -> Step {
    match rising {
        Rising::Scale(nodes) => Step::Scale(nodes),
        Rising::FirstServes => Step::Scale(record.nodes),
        Rising::Undrain(pod) => Step::Undrain(pod),
        Rising::Wait(wait) => Step::Wait(wait),
        Rising::Serve => Step::Finish(finish),
        // Both callers take the failure for themselves; what is left ends all and begins anew.
        Rising::OtherImage | Rising::FirstFails { .. } => {
            ending(seen).map_or(Step::Wait(Wait::Controller), Step::from)
        }
    }
}

impl From<Ending> for Step {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::ScaleToNone => Self::Scale(0),
            Ending::End(pods) => Self::End(pods),
            Ending::Wait(wait) => Self::Wait(wait),
        }
    }
}
