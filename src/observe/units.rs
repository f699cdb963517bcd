//! How numbers are written, for people and for programs.
//!
//! The invariant: a figure has its unit, and what is cut off of it is less than its last digit.

use std::fmt;
use std::time::Duration;

/// A duration in seconds, to the nanosecond, as programs read it: `0.000041300`.
pub struct Seconds(pub Duration);

/// A duration for people, to three places and in the unit that suits it: `41.3 us`.
pub struct Span(pub Duration);

/// An amount of bytes for people: `1.7 KiB`.
pub struct Bytes(pub u64);

/// A share of a whole, in per cent: `12.5 %`.
pub struct Share(pub Duration, pub Duration);

/// A number for people: `1,204`.
pub struct Count(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let (unit, name) = match nanos {
            0..1_000 => return out.pad(&format!("{nanos} ns")),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        out.pad(&tenths(nanos / (unit / 10), name))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let bytes = self.0;
        let (unit, name) = match bytes {
            0..1_024 => return out.pad(&format!("{bytes} B")),
            1_024..1_048_576 => (1 << 10, "KiB"),
            1_048_576..1_073_741_824 => (1 << 20, "MiB"),
            _ => (1 << 30, "GiB"),
        };
        out.pad(&tenths(bytes / unit * 10 + bytes % unit * 10 / unit, name))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        // Of microseconds, a thousand times as many are not too many for a few centuries.
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let share = micros(self.0).saturating_mul(1000) / micros(self.1).max(1);
        out.pad(&tenths(share, "%"))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        out.pad(&text)
    }
}

fn tenths(tenths: u64, unit: &str) -> String {
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_are_aligned() {
        let nanos = Duration::from_nanos;
        for (written, expected) in [
            (Seconds(nanos(1_000_000_041)).to_string(), "1.000000041"),
            (Span(nanos(999)).to_string(), "999 ns"),
            (Span(nanos(41_399)).to_string(), "41.3 us"),
            (Span(nanos(5_000_000)).to_string(), "5.0 ms"),
            (Span(Duration::from_secs(61)).to_string(), "61.0 s"),
            (Bytes(1023).to_string(), "1023 B"),
            (Bytes(1792).to_string(), "1.7 KiB"),
            (Bytes(5 << 30).to_string(), "5.0 GiB"),
            (Share(nanos(1000), nanos(8000)).to_string(), "12.5 %"),
            (Share(nanos(0), nanos(0)).to_string(), "0.0 %"),
            (Count(0).to_string(), "0"),
            (Count(999).to_string(), "999"),
            (Count(1_234_567).to_string(), "1,234,567"),
            (format!("{:>9}|", Span(nanos(41_399))), "  41.3 us|"),
        ] {
            assert_eq!(written, expected);
        }
    }
}
