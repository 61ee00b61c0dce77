//! How long to wait before the next start of a unit that failed: at once, then 1 s doubling to 60
//! s, give or take a tenth.

use std::time::Duration;

use crate::config::Timing;

/// The wait after the `failures`-th failure in a row (1 is the first). `seed` spreads units that
/// fail together; the same seed and count give the same wait, so that a plan can be computed again.
pub fn wait(failures: u32, seed: u64, timing: &Timing) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let plain = timing
        .backoff_first
        .saturating_mul(1 << doublings.min(20))
        .min(timing.backoff_max)
        .as_millis() as u64;
    let tenth = plain / 10;
    let jitter = if tenth == 0 {
        0
    } else {
        mix(seed ^ u64::from(failures)) % (2 * tenth + 1)
    };
    Duration::from_millis(plain - tenth + jitter)
}

/// Spreads the bits of a number over all its bits (the finaliser of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_wait_doubles_to_a_minute() {
        let timing = Timing::default();
        assert_eq!(wait(0, 7, &timing), Duration::ZERO);
        assert_eq!(wait(1, 7, &timing), Duration::ZERO);
        for (failures, seconds) in [
            (2, 1.0),
            (3, 2.0),
            (4, 4.0),
            (7, 32.0),
            (8, 60.0),
            (40, 60.0),
            (u32::MAX, 60.0),
        ] {
            let got = wait(failures, 7, &timing).as_secs_f64();
            assert!(
                (seconds * 0.9..=seconds * 1.1).contains(&got),
                "{failures}: {got}"
            );
        }
    }

    #[test]
    fn units_that_fail_together_do_not_return_together() {
        let timing = Timing::default();
        let waits: std::collections::BTreeSet<_> =
            (0..16).map(|seed| wait(8, seed, &timing)).collect();
        assert!(waits.len() > 10);
    }
}
