//! Which sets are old enough to go. Pure.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::config::backup::Keep;
use crate::config::backup::Rule;

/// A set, as far as its keeping goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// Whether it is whole, as far as one can see without reading every byte.
    pub is_whole: bool,
    /// Whether a person named it, or something still needs it: it goes only by hand.
    pub is_pinned: bool,
}

const DAY_MS: u64 = 24 * 3_600_000;

/// The names of those that go, oldest first.
///
/// The newest whole set always stays. What is not whole is neither counted nor removed: a person
/// should see it, and what can be read of it may be all that there is. One from the future, by a
/// clock that was wrong, counts as new.
pub fn surplus(keep: &Keep, sets: &[Kept], now_ms: u64) -> Vec<String> {
    if keep.0.is_empty() {
        return Vec::new();
    }
    let mut counted: Vec<&Kept> = sets
        .iter()
        .filter(|set| set.is_whole && !set.is_pinned)
        .collect();
    counted.sort_by(|one, other| (other.made_ms, &other.name).cmp(&(one.made_ms, &one.name)));
    let newest_whole = sets
        .iter()
        .filter(|set| set.is_whole)
        .max_by_key(|set| (set.made_ms, &set.name));
    let mut stays: BTreeSet<&str> = newest_whole.iter().map(|set| set.name.as_str()).collect();
    for rule in &keep.0 {
        stays.extend(by(*rule, &counted, now_ms));
    }
    counted
        .iter()
        .rev()
        .filter(|set| !stays.contains(set.name.as_str()))
        .map(|set| set.name.clone())
        .collect()
}

/// The names that one rule keeps. `sets` is sorted, newest first.
fn by<'a>(rule: Rule, sets: &[&'a Kept], now_ms: u64) -> Vec<&'a str> {
    match rule {
        Rule::Newest(count) => sets
            .iter()
            .take(usize::from(count))
            .map(|set| set.name.as_str())
            .collect(),
        Rule::Days(days) => {
            let since = now_ms.saturating_sub(u64::from(days) * DAY_MS);
            let young = sets.iter().filter(|set| set.made_ms >= since);
            young.map(|set| set.name.as_str()).collect()
        }
        Rule::Weeks(count) => newest_of_each(sets, count, |day| {
            let (year, week, _) = day.to_iso_week_date();
            (year, week)
        }),
        Rule::Months(count) => {
            newest_of_each(sets, count, |day| (day.year(), u8::from(day.month())))
        }
    }
}

/// Calendar weeks and months, in UTC: they do not move with the time of the question, so the one
/// that is kept today is kept tomorrow.
fn newest_of_each<'a>(
    sets: &[&'a Kept],
    count: u16,
    period: impl Fn(time::Date) -> (i32, u8),
) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for set in sets {
        let is_first = seen.insert(period(day(set.made_ms)));
        if seen.len() > usize::from(count) {
            break;
        }
        if is_first {
            kept.push(set.name.as_str());
        }
    }
    kept
}

fn day(ms: u64) -> time::Date {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .date()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-06-15, a Monday, at noon.
    const NOW: u64 = 1_781_524_800_000;

    fn set(days_ago: u64) -> Kept {
        Kept {
            name: format!("d{days_ago:04}"),
            made_ms: NOW - days_ago * DAY_MS,
            is_whole: true,
            is_pinned: false,
        }
    }

    fn stays(keep: &str, sets: &[Kept]) -> Vec<String> {
        let gone = surplus(&keep.parse().unwrap(), sets, NOW);
        let names = sets.iter().map(|set| set.name.clone());
        names.filter(|name| !gone.contains(name)).collect()
    }

    #[test]
    fn without_a_rule_everything_stays() {
        let sets: Vec<Kept> = (0..500).map(set).collect();
        assert_eq!(stays("", &sets).len(), 500);
    }

    #[test]
    fn numbers_and_days_are_counted_from_the_newest() {
        let sets: Vec<Kept> = (0..30).map(set).collect();
        assert_eq!(stays("3", &sets), ["d0000", "d0001", "d0002"]);
        assert_eq!(stays("2d", &sets), ["d0000", "d0001", "d0002"]);
        assert_eq!(
            surplus(&"28".parse().unwrap(), &sets, NOW),
            ["d0029", "d0028"]
        );
    }

    #[test]
    fn weeks_and_months_keep_the_newest_of_each() {
        let sets: Vec<Kept> = (0..100).map(set).collect();
        // Monday, then the Sundays before.
        assert_eq!(stays("3w", &sets), ["d0000", "d0001", "d0008"]);
        // 15 June, 31 May, 30 April.
        assert_eq!(stays("3m", &sets), ["d0000", "d0015", "d0046"]);
        let both = stays("2,2w,3m", &sets);
        assert_eq!(both, ["d0000", "d0001", "d0015", "d0046"]);
    }

    #[test]
    fn one_a_day_for_a_year_leaves_every_month_its_own() {
        let keep: Keep = "7,4w,6m".parse().unwrap();
        let mut sets: Vec<Kept> = Vec::new();
        for days_ago in (0..365).rev() {
            sets.push(set(days_ago));
            let gone = surplus(&keep, &sets, NOW - days_ago * DAY_MS);
            sets.retain(|set| !gone.contains(&set.name));
        }
        let months: BTreeSet<_> = sets
            .iter()
            .map(|set| day(set.made_ms).month() as u8)
            .collect();
        assert_eq!(months.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(sets.len() <= 7 + 4 + 6);
    }

    #[test]
    fn the_only_good_set_stays_however_old_it_is() {
        let mut sets = vec![set(400), set(1), set(0)];
        sets[1].is_whole = false;
        sets[2].is_whole = false;
        assert_eq!(
            surplus(&"1d".parse().unwrap(), &sets, NOW),
            Vec::<String>::new()
        );
        assert_eq!(
            surplus(&"1".parse().unwrap(), &sets, NOW),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_broken_or_pinned_neither_goes_nor_counts() {
        let mut sets: Vec<Kept> = (0..6).map(set).collect();
        sets[0].is_whole = false;
        sets[1].is_pinned = true;
        assert_eq!(stays("2", &sets), ["d0000", "d0001", "d0002", "d0003"]);
    }

    proptest! {
        #[test]
        fn a_good_set_always_stays_and_more_rules_never_keep_less(
            sets in prop::collection::vec((0u64..800, any::<bool>(), any::<bool>()), 0..40),
            first in "[1-9][dwm]?",
            second in "[1-9][dwm]?",
        ) {
            let sets: Vec<Kept> = sets.into_iter().enumerate().map(|(at, (days, whole, pinned))| Kept {
                name: format!("{at}"), is_whole: whole, is_pinned: pinned, ..set(days)
            }).collect();
            let gone = surplus(&first.parse().unwrap(), &sets, NOW);
            let both = surplus(&format!("{first},{second}").parse().unwrap(), &sets, NOW);
            prop_assert!(both.iter().all(|name| gone.contains(name)));
            let left = |set: &&Kept| !gone.contains(&set.name);
            let newest = sets.iter().filter(|set| set.is_whole).map(|set| set.made_ms).max();
            prop_assert_eq!(sets.iter().filter(left).filter(|set| set.is_whole).map(|set| set.made_ms).max(), newest);
            prop_assert!(sets.iter().filter(|set| !set.is_whole || set.is_pinned).all(|set| left(&set)));
        }
    }
}
