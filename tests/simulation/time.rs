//! Time in the simulated world: nanoseconds since the clock that cannot be set was at zero.

use std::time::Duration;

use onepoll::event_loop::clock::Instant;
pub use onepoll::event_loop::clock::nanos as length;

/// An instant of the world, or a duration.
pub type Nanos = u64;

pub const MICRO: Nanos = 1_000;
pub const MILLI: Nanos = 1_000 * MICRO;
pub const SECOND: Nanos = 1_000 * MILLI;

/// An instant as the loop has it.
pub fn instant(nanos: Nanos) -> Instant {
    Instant::FIRST + Duration::from_nanos(nanos)
}

/// The same as the world has it.
pub fn nanos(instant: Instant) -> Nanos {
    instant.nanos_since(Instant::FIRST)
}
