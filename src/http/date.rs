//! The value of the `Date` field, an IMF-fixdate (RFC 9110, section 5.6.7). It does not read a
//! clock.
//!
//! The invariant: it is always 29 bytes long, so it can be overwritten in a prepared response.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

/// The length of an IMF-fixdate in bytes.
pub const DATE_LEN: usize = 29;

/// The last second of the year 9999. A later year has five digits.
const LATEST: u64 = 253_402_300_799;

/// Formats seconds since 1970 as in `Sun, 06 Nov 1994 08:49:37 GMT`, without an allocation. A time
/// after the year 9999 becomes its last second.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; DATE_LEN] {
    let moment = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LATEST));
    let mut date = Fixed { bytes: [b' '; DATE_LEN], len: 0 };
    write!(date, "{}", HttpDate::from(moment)).expect("an IMF-fixdate has 29 bytes");
    date.bytes
}

/// A buffer of exactly one date.
struct Fixed {
    bytes: [u8; DATE_LEN],
    len: usize,
}

impl Write for Fixed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_has_its_29_bytes() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (LATEST, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds), text.as_bytes(), "{seconds}");
        }
    }
}
