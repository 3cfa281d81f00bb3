//! The caller's deadline, over all attempts.
//!
//! `grpc-timeout` is relative to the moment a request is sent, so that each attempt has to say what is left: else
//! three attempts would take three times as long as the caller waits
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The specification allows that many digits.
const DIGITS: usize = 8;
const MOST: u128 = 99_999_999;

/// In the extensions of a request: when the caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    at: Instant,
    whole: Duration,
}

impl Deadline {
    /// The deadline that the headers name, from now on. What can't be read is no deadline, as tonic has it.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let timeout = parse(headers.get(GRPC_TIMEOUT)?.to_str().ok()?)?;
        Some(Self { at: Instant::now().checked_add(timeout)?, whole: timeout })
    }

    /// How long it is to go; `None` if it has passed.
    pub(super) fn left(self) -> Option<Duration> {
        Some(self.at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Whether so little is left that an instance is not to blame for not making it: less than half.
    pub(super) fn is_short(self, left: Duration) -> bool {
        left < self.whole / 2
    }

    /// Puts what is left into the headers.
    pub(super) fn write(left: Duration, headers: &mut HeaderMap) {
        headers.insert(GRPC_TIMEOUT, format(left));
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// In the finest unit that fits into eight digits, as tonic writes it.
fn format(timeout: Duration) -> HeaderValue {
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
        (u128::from(timeout.as_secs() / 3_600), 'H'),
    ];
    let (amount, unit) = units.into_iter().find(|(amount, _)| *amount <= MOST).unwrap_or((MOST, 'H'));
    HeaderValue::try_from(format!("{amount}{unit}")).expect("digits and a letter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("3m", Some(Duration::from_millis(3))),
            ("4u", Some(Duration::from_micros(4))),
            ("5n", Some(Duration::from_nanos(5))),
            ("123456789m", None),
            ("5", None),
            ("S", None),
            ("-5S", None),
            ("5s", None),
            ("5é", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn timeouts_are_written_in_the_finest_unit_that_fits() {
        for (timeout, expected) in [
            (Duration::from_millis(50), "50000000n"),
            (Duration::from_secs(1), "1000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
        ] {
            assert_eq!(format(timeout), expected);
            assert_eq!(parse(expected), Some(timeout));
        }
        assert!(parse(format(Duration::MAX).to_str().unwrap()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_says_what_is_left() {
        let mut headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static("2S"))]);
        let deadline = Deadline::of(&headers).unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        Deadline::write(deadline.left().unwrap(), &mut headers);
        assert_eq!(headers[GRPC_TIMEOUT], "1500000u");
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(deadline.left(), None);
    }
}
