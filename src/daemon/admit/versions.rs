//! A database cannot go back to an older version of Octopus Server. What counts is the version that
//! ran, not the tag of its image: a tag may stand for another image tomorrow.

use super::Asked;
use super::Facts;
use super::problem;
use crate::config::Problem;
use crate::daemon::store::Data;
use crate::daemon::store::Ran;
use crate::daemon::store::Stored;

/// How many numbers a whole version has: year, release, patch.
const WHOLE: usize = 3;

pub(super) fn judge(
    asked: &Asked<'_>,
    stored: &Stored,
    facts: &Facts,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    if asked.config.demo || facts.makes_database(asked.config) == Some(true) {
        return;
    }
    let data = Data::of(asked.spec);
    let ran = stored.ran_on(&data);
    let Some(before) = before(ran, facts) else {
        return notes.extend(of_unknown_past(asked, stored, facts, &data));
    };
    // The same image by the same fixed name is what ran, whatever it says of itself; unless the
    // database tells of a newer one than that, which somebody else had on it.
    let tag = &asked.config.octopus.tag;
    let is_outrun = |ran: &Ran| newest(facts).is_some_and(|newest| is_older(&ran.version, newest));
    let is_what_ran = |ran: &Ran| asked.spec.nodes.iter().all(|node| node.image == ran.image);
    if is_whole(tag) && ran.is_some_and(|ran| is_what_ran(ran) && !is_outrun(ran)) {
        return;
    }
    let wanted = wanted(tag, facts);
    match compare(&wanted, &before) {
        Comparison::Older => problems.push(problem(
            "OCTOPUS_SERVER_TAG",
            format!(
                "{} is older than {before}, which last ran on this database; a database cannot go back",
                if wanted == *tag { tag.clone() } else { format!("{tag}, which is {wanted},") }
            ),
            format!(
                "use {before} or newer; `octo-local rollback` goes back from the last upgrade that a backup was made for; or restore a backup into a new \
                 project"
            ),
        )),
        Comparison::Unknown if wanted != before => notes.push(format!(
            "nobody can say whether {wanted} is older than {before}, which last ran on this database (a database cannot go \
             back): a whole version as OCTOPUS_SERVER_TAG can be compared"
        )),
        Comparison::Unknown | Comparison::NotOlder => {}
    }
}

/// There is a database and nothing at all is known of it: it was somebody else's so far, or what was
/// kept is lost. Where the project's own first start never came to a node there is nothing to tell.
fn of_unknown_past(
    asked: &Asked<'_>,
    stored: &Stored,
    facts: &Facts,
    data: &Data,
) -> Option<String> {
    let exists = facts.makes_database(asked.config) == Some(false);
    let is_unknown = stored.spec.is_none() && stored.keys.proven_for(data).is_none();
    let tag = &asked.config.octopus.tag;
    (exists && is_unknown).then(|| {
        format!(
            "nothing is known of the Octopus Server that last ran on this database ({data}), so nobody can say whether {tag} \
             is older (a database cannot go back): have the same version or a newer one as OCTOPUS_SERVER_TAG"
        )
    })
}

/// The version that last ran, as far as it is known: as `/api` reported it, else as the image of a
/// node says, else the tag. What the database tells of itself counts, unless that is older: it may
/// have been asked before the last installation was written down.
fn before(ran: Option<&Ran>, facts: &Facts) -> Option<String> {
    let reported = ran
        .map(|ran| ran.version.clone())
        .filter(|version| !version.is_empty());
    let tag = ran.map(|ran| tag_of(&ran.image).to_owned());
    let known = reported.or_else(|| facts.versions.node.clone()).or(tag);
    let told = newest(facts).map(str::to_owned);
    match (known, told) {
        (Some(known), Some(told)) if is_older(&told, &known) => Some(known),
        (known, told) => told.or(known),
    }
}

/// The newest version that the database tells of.
fn newest(facts: &Facts) -> Option<&str> {
    let told = facts.versions.database.iter().map(String::as_str);
    told.filter(|version| is_whole(version))
        .max_by_key(|version| numbers(version))
}

fn is_older(one: &str, other: &str) -> bool {
    compare(one, other) == Comparison::Older
}

/// The version that is wanted: a tag that is a whole version, else what the image says of itself,
/// else the tag.
fn wanted(tag: &str, facts: &Facts) -> String {
    let label = facts.versions.image.as_ref().filter(|_| !is_whole(tag));
    label.map_or_else(|| tag.to_owned(), Clone::clone)
}

fn is_whole(tag: &str) -> bool {
    numbers(tag).is_some_and(|numbers| numbers.len() >= WHOLE)
}

/// The tag of a reference; a port of its registry is none.
fn tag_of(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or_default();
    let named = last.split('@').next().unwrap_or_default();
    named.split_once(':').map_or("latest", |(_, tag)| tag)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Older,
    NotOlder,
    Unknown,
}

/// The vendor's versions for Linux all begin with a year. A tag that does not is a count of somebody's
/// own, and says nothing of them.
const YEARS: u32 = 2000;

/// Compares as far as both say something: `2026.2` is whatever 2026.2 is newest.
fn compare(wanted: &str, before: &str) -> Comparison {
    let (Some(wanted), Some(before)) = (numbers(wanted), numbers(before)) else {
        return Comparison::Unknown;
    };
    if (wanted[0] < YEARS) != (before[0] < YEARS) {
        return Comparison::Unknown;
    }
    let common = wanted.len().min(before.len());
    match wanted[..common].cmp(&before[..common]) {
        std::cmp::Ordering::Less => Comparison::Older,
        std::cmp::Ordering::Greater => Comparison::NotOlder,
        std::cmp::Ordering::Equal if wanted.len().min(before.len()) >= WHOLE => {
            Comparison::NotOlder
        }
        std::cmp::Ordering::Equal => Comparison::Unknown,
    }
}

/// The numbers that a version begins with.
fn numbers(version: &str) -> Option<Vec<u32>> {
    let numbers = version
        .split(['-', '+', '@'])
        .next()?
        .split('.')
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>();
    numbers.ok().filter(|numbers| !numbers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_far_as_both_are_known() {
        use Comparison::NotOlder;
        use Comparison::Older;
        use Comparison::Unknown;
        let cases = [
            ("2026.1.9", "2026.2.1", Older),
            ("2026.2.9", "2026.2.10", Older),
            ("2026.2.10", "2026.2.9", NotOlder),
            ("2026.2.7", "2026.2.7", NotOlder),
            ("2026.2.7-hotfix.2", "2026.2.7", NotOlder),
            ("2026.1", "2026.2.1", Older),
            ("2026.2", "2026.2.7", Unknown),
            ("2026.2.1", "2026.2", Unknown),
            ("2026.3", "2026.2.7", NotOlder),
            ("2026", "2025.4.1", NotOlder),
            ("latest", "2026.2.7", Unknown),
            ("2025.1.1", "latest", Unknown),
            ("1.0.5", "2026.2.7", Unknown),
            ("2026.2.7", "1.0.5", Unknown),
            ("1.0.4", "1.0.5", Older),
        ];
        for (wanted, before, expected) in cases {
            assert_eq!(compare(wanted, before), expected, "{wanted} after {before}");
        }
    }

    #[test]
    fn the_tag_of_a_reference_is_not_its_registrys_port() {
        for (image, tag) in [
            ("octopusdeploy/octopusdeploy:2026.2.7", "2026.2.7"),
            ("registry:5000/octopusdeploy", "latest"),
            ("registry:5000/octopusdeploy:2026.2", "2026.2"),
            ("octopusdeploy@sha256:12", "latest"),
        ] {
            assert_eq!(tag_of(image), tag);
        }
    }
}
