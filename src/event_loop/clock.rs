//! The clocks. The loop's own is read into one word, nanoseconds since the system's start. Every
//! timer keeps one and every tick compares some, so an instant is half as long as that of the
//! standard library, and compared in one instruction.
//!
//! The invariant: an instant comes from the clock, or from another one by adding to it.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An instant. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// Earlier than every other instant.
    pub const FIRST: Instant = Instant(0);

    /// Later than every other instant.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// How many nanoseconds later this instant is; none if it is earlier.
    pub fn nanos_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The present instant, by the clock that cannot be set (`CLOCK_MONOTONIC`, time(7)).
    pub fn now() -> Instant {
        let time = clock_gettime(ClockId::Monotonic);
        let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
        Instant(seconds * 1_000_000_000 + nanos)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// `NEVER` stays as it is. No other instant gets there: that would take five hundred years.
    fn add(self, time: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(time)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, time: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(time)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        *self = *self + time;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// How much later this instant is; nothing if it is earlier.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

/// The time since 1970. Unlike an [`Instant`], it follows a clock that can be set
/// (`CLOCK_REALTIME`, time(7)).
pub fn since_1970() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap_or_default()
}

/// The date, in whole seconds since 1970, and how much of the present one is left.
pub fn date() -> (u64, Duration) {
    let since_1970 = since_1970();
    let into_the_second = Duration::from_nanos(since_1970.subsec_nanos().into());
    (since_1970.as_secs(), Duration::from_secs(1) - into_the_second)
}

/// A duration in nanoseconds, of which a word holds five hundred years.
pub fn nanos(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn instants_are_counted_in_nanoseconds() {
        let now = Instant::now();
        let later = now + Duration::new(3, 7);
        assert!(now < later && later < Instant::NEVER);
        assert_eq!(later - now, Duration::new(3, 7));
        assert_eq!(later - Duration::new(3, 7), now);
        assert_eq!(now - later, Duration::ZERO);
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert!(Instant::now() >= now, "time goes on");
    }

    #[test]
    fn the_date_is_that_of_the_system() {
        let before = SystemTime::now();
        let (seconds, left) = date();
        assert!(left > Duration::ZERO && left <= Duration::from_secs(1));
        let told = UNIX_EPOCH + Duration::from_secs(seconds + 1) - left;
        assert!(told >= before && told <= SystemTime::now());
    }
}
