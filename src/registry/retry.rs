//! When to try again: the pauses between attempts. Pure.

use std::time::Duration;

use super::limits::{ATTEMPTS_MAX, Pace, RETRY_AFTER_LONGEST};

/// How long to pause before the attempt after the `attempt`th (counted from 1), or `None` to give up.
///
/// `asked` is the registry's `Retry-After`, honoured up to [`RETRY_AFTER_LONGEST`]; else the pause doubles each time,
/// and a part of it (`chance` of 255) is left to chance, so that many clients do not come back together.
pub(super) fn pause(pace: &Pace, attempt: u32, asked: Option<Duration>, chance: u8) -> Option<Duration> {
    if attempt >= ATTEMPTS_MAX {
        return None;
    }
    if let Some(asked) = asked {
        return (asked <= RETRY_AFTER_LONGEST).then_some(asked);
    }
    let doubled = pace.pause.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    let whole = doubled.min(pace.pause_longest);
    let half = whole / 2;
    Some(half + half * u32::from(chance) / 255)
}

/// A byte of chance; the middle when the machine has none to give.
pub(super) fn chance() -> u8 {
    let mut byte = [0x80];
    match getrandom::fill(&mut byte) {
        Ok(()) | Err(_) => byte[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_end() {
        let pace = Pace::default();
        let whole: Vec<_> = (1..=ATTEMPTS_MAX).map(|attempt| pause(&pace, attempt, None, 255)).collect();
        let seconds = |s: f32| Some(Duration::from_secs_f32(s));
        assert_eq!(whole, [seconds(0.5), seconds(1.0), seconds(2.0), seconds(4.0), None]);
        assert_eq!(pause(&pace, 1, None, 0), seconds(0.25));
        let slow = Pace { pause: Duration::from_secs(9), ..pace };
        assert_eq!(pause(&slow, 4, None, 255), Some(pace.pause_longest));
    }

    #[test]
    fn the_registry_is_heard_within_reason() {
        let pace = Pace::default();
        let table = [(0, true), (60, true), (61, false), (u64::MAX, false)];
        for (seconds, heard) in table {
            let asked = Duration::from_secs(seconds);
            assert_eq!(pause(&pace, 1, Some(asked), 0), heard.then_some(asked));
        }
        assert_eq!(pause(&pace, ATTEMPTS_MAX, Some(Duration::ZERO), 0), None);
    }
}
