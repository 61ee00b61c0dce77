//! When the next set is due. Pure: it is given the time and the zone.

use chrono::DateTime;
use chrono::Duration;
use chrono::TimeZone;
use croner::Cron;

/// The largest step that leads out of an hour that the clock shows twice.
const REPEATED: i64 = 3_600;
/// The clocks of the world are set back by two hours at most: no more steps than that are needed.
const STEPS: usize = 4;

/// When the next run is due, in milliseconds since 1970: the first time of the pattern after the
/// last run, or after the schedule came to be. A time that has passed is due now, once, however
/// many were missed. `None` for a pattern that no day ever fits.
///
/// A time that the clocks skip in spring is due right after the gap; one that they show twice in
/// autumn is due once.
pub fn next_due<Zone: TimeZone>(pattern: &str, after_ms: u64, zone: &Zone) -> Option<u64> {
    let cron = Cron::new(pattern).parse().ok()?;
    let after = zone
        .timestamp_millis_opt(i64::try_from(after_ms).ok()?)
        .single()?;
    let next = following(&cron, &after)?;
    u64::try_from(next.timestamp_millis()).ok()
}

/// The library searches by the clock on the wall, so in the second showing of an hour it can find a
/// time of the first one, which has passed.
fn following<Zone: TimeZone>(cron: &Cron, after: &DateTime<Zone>) -> Option<DateTime<Zone>> {
    let mut from = after.clone();
    for _ in 0..STEPS {
        let next = cron.find_next_occurrence(&from, false).ok()?;
        if next > *after {
            return Some(next);
        }
        from = from.checked_add_signed(Duration::seconds(REPEATED))?;
    }
    None
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;
    use chrono::MappedLocalTime;
    use chrono::NaiveDate;
    use chrono::NaiveDateTime;
    use chrono::Utc;

    use super::*;

    /// One hour is skipped at 02:00 on 2026-03-29, and 02:00 to 03:00 comes twice on 2026-10-25, as
    /// in Berlin.
    #[derive(Clone, Copy, Debug)]
    struct Berlin;

    fn wall(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap()
    }

    fn hours(hours: i32) -> FixedOffset {
        FixedOffset::east_opt(hours * 3_600).unwrap()
    }

    impl TimeZone for Berlin {
        type Offset = FixedOffset;

        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }

        fn offset_from_local_date(&self, day: &NaiveDate) -> MappedLocalTime<FixedOffset> {
            self.offset_from_local_datetime(&day.and_hms_opt(0, 0, 0).unwrap())
        }

        fn offset_from_local_datetime(&self, at: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
            let (spring, autumn) = (wall("2026-03-29 02:00"), wall("2026-10-25 02:00"));
            let hour = Duration::hours(1);
            match *at {
                at if at < spring => MappedLocalTime::Single(hours(1)),
                at if at < spring + hour => MappedLocalTime::None,
                at if at < autumn => MappedLocalTime::Single(hours(2)),
                at if at < autumn + hour => MappedLocalTime::Ambiguous(hours(2), hours(1)),
                _ => MappedLocalTime::Single(hours(1)),
            }
        }

        fn offset_from_utc_date(&self, day: &NaiveDate) -> FixedOffset {
            self.offset_from_utc_datetime(&day.and_hms_opt(0, 0, 0).unwrap())
        }

        fn offset_from_utc_datetime(&self, at: &NaiveDateTime) -> FixedOffset {
            let summer = wall("2026-03-29 01:00")..wall("2026-10-25 01:00");
            hours(if summer.contains(at) { 2 } else { 1 })
        }
    }

    fn utc(text: &str) -> u64 {
        wall(text).and_utc().timestamp_millis() as u64
    }

    fn due(pattern: &str, after: &str) -> Option<u64> {
        next_due(pattern, utc(after), &Berlin)
    }

    #[test]
    fn the_next_time_is_by_the_hosts_clock() {
        assert_eq!(
            due("0 3 * * *", "2026-01-10 12:00"),
            Some(utc("2026-01-11 02:00"))
        );
        assert_eq!(
            due("0 3 * * *", "2026-07-10 12:00"),
            Some(utc("2026-07-11 01:00"))
        );
        assert_eq!(
            due("@daily", "2026-07-10 12:00"),
            Some(utc("2026-07-10 22:00"))
        );
        assert_eq!(
            next_due("0 3 * * *", utc("2026-07-10 12:00"), &Utc),
            Some(utc("2026-07-11 03:00"))
        );
    }

    #[test]
    fn a_run_at_its_time_is_followed_by_the_next_one() {
        assert_eq!(
            due("0 3 * * *", "2026-01-10 02:00"),
            Some(utc("2026-01-11 02:00"))
        );
        let late = next_due("0 3 * * *", utc("2026-01-10 02:00") + 1, &Berlin);
        assert_eq!(late, Some(utc("2026-01-11 02:00")));
    }

    #[test]
    fn what_was_missed_is_one_time_in_the_past() {
        let now = utc("2026-02-10 12:00");
        let missed = due("0 3 * * *", "2026-01-10 12:00").unwrap();
        assert!(missed < now);
        // It ran now: nothing of the month before is due any more.
        assert_eq!(
            next_due("0 3 * * *", now, &Berlin),
            Some(utc("2026-02-11 02:00"))
        );
    }

    #[test]
    fn a_time_that_spring_skips_is_due_after_the_gap() {
        let next = due("30 2 * * *", "2026-03-29 00:00").unwrap();
        assert!(
            (utc("2026-03-29 01:00")..=utc("2026-03-29 01:30")).contains(&next),
            "{next}"
        );
        assert_eq!(
            next_due("30 2 * * *", next, &Berlin),
            Some(utc("2026-03-30 00:30"))
        );
    }

    #[test]
    fn a_time_that_autumn_shows_twice_is_due_once() {
        let first = due("30 2 * * *", "2026-10-24 12:00").unwrap();
        assert_eq!(first, utc("2026-10-25 00:30"));
        assert_eq!(
            next_due("30 2 * * *", first, &Berlin),
            Some(utc("2026-10-26 01:30"))
        );
        // A catch-up in the second showing, before the wall shows the time again.
        assert_eq!(
            due("30 2 * * *", "2026-10-25 01:10"),
            Some(utc("2026-10-26 01:30"))
        );
    }

    #[test]
    fn each_time_lies_after_the_one_before_through_both_changes() {
        for pattern in ["*/20 * * * *", "30 2 * * *", "0 * * * *", "15 1-3 * * *"] {
            for start in ["2026-03-28 20:00", "2026-10-24 20:00"] {
                let mut at = utc(start);
                for _ in 0..40 {
                    let next = next_due(pattern, at, &Berlin).unwrap();
                    assert!(
                        next > at && next - at <= 26 * 3_600_000,
                        "{pattern} after {at}"
                    );
                    at = next;
                }
            }
        }
    }

    #[test]
    fn a_day_that_never_comes_is_never_due() {
        assert_eq!(due("0 3 31 2 *", "2026-01-10 12:00"), None);
        assert_eq!(due("nonsense", "2026-01-10 12:00"), None);
    }
}
