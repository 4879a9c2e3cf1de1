//! A moment in a query: seconds since 1970 with a fraction, as `since` and `until` have it. Pure.

use jiff::Timestamp;

/// How many digits a fraction of a second may have; those after the ninth are ignored.
const MAX_FRACTION_DIGITS: usize = 20;
/// How many of them count.
const NANOSECOND_DIGITS: usize = 9;

/// Reads `SECONDS` or `SECONDS.FRACTION`; the words for what is neither are dockerd 20.10's.
pub(super) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let invalid = |number: &str, why| format!("strconv.ParseInt: parsing {number:?}: {why}");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| invalid(seconds, "invalid syntax"))?;
    if fraction.len() > MAX_FRACTION_DIGITS {
        return Err(invalid(fraction, "value out of range"));
    }
    let mut nanoseconds: i32 = 0;
    for place in 0..MAX_FRACTION_DIGITS {
        let digit = match fraction.as_bytes().get(place) {
            Some(digit @ b'0'..=b'9') => i32::from(digit - b'0'),
            Some(_) => return Err(invalid(fraction, "invalid syntax")),
            None => 0,
        };
        if place < NANOSECOND_DIGITS {
            nanoseconds = nanoseconds * 10 + digit;
        }
    }
    // Times before and after what our calendar holds mean its ends.
    Ok(Timestamp::new(seconds, nanoseconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_a_fraction() {
        let nanoseconds = |text| timestamp(text).map(Timestamp::as_nanosecond);
        assert_eq!(nanoseconds("0"), Ok(0));
        assert_eq!(nanoseconds("1700000000.5"), Ok(1_700_000_000_500_000_000));
        assert_eq!(nanoseconds("1.0000000019999"), Ok(1_000_000_001));
        assert_eq!(nanoseconds("-3."), Ok(-3_000_000_000));
        assert_eq!(timestamp("99999999999999"), Ok(Timestamp::MAX));
        for (text, reason) in [
            ("x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("1.x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("1.0000000009x", "strconv.ParseInt: parsing \"0000000009x\": invalid syntax"),
            ("2026-01-01T00:00Z", "strconv.ParseInt: parsing \"2026-01-01T00:00Z\": invalid syntax"),
            (
                "1.000000000000000000001",
                "strconv.ParseInt: parsing \"000000000000000000001\": value out of range",
            ),
        ] {
            assert_eq!(timestamp(text), Err(reason.to_owned()), "{text}");
        }
    }
}
