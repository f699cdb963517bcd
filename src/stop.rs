//! The stop, as a pure machine: serving until it begins, then draining until the deadline.
//! It touches no socket and reads no clock; the loop asks it what to do and does that.
//!
//! ```text
//!   serving ── begin ──► draining ── last call over ──► draining, the idle closed
//!                           │                               │
//!                           └── nothing open any more ──────┴── or the deadline ──► over
//! ```

use std::fmt;
use std::time::{Duration, Instant};

/// The stop of one server.
#[derive(Debug)]
pub struct Stop {
    drain: Duration,
    last_call: Duration,
    /// When the drain began; `None` while serving.
    since: Option<Instant>,
}

/// What a stop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that were given after it began.
    pub answered: u64,
    /// Connections that were closed with nothing to lose.
    pub idle: usize,
    /// Connections that were cut in the middle of a request or of its answer.
    pub cut: usize,
    /// Whether it began because a listener had failed.
    pub failed: bool,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every request that had begun was answered.
    Drained,
    /// The deadline passed and connections were cut.
    Cut,
    /// A listener failed, and the rest was drained because of it.
    Failed,
}

impl Tally {
    /// The verdict: a failure is worse than a cut.
    pub fn outcome(&self) -> Outcome {
        match self {
            Tally { failed: true, .. } => Outcome::Failed,
            Tally { cut: 0, .. } => Outcome::Drained,
            _ => Outcome::Cut,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Tally {
            answered,
            idle,
            cut,
            ..
        } = self;
        write!(out, "answered {answered}, closed idle {idle}, cut {cut}")
    }
}

impl Stop {
    /// A stop that has not begun. Once it does, connections have until `drain` has passed,
    /// and those that are idle until `last_call` has; never longer than `drain`.
    pub fn new(drain: Duration, last_call: Duration) -> Stop {
        Stop {
            drain,
            last_call: last_call.min(drain),
            since: None,
        }
    }

    /// Begins the drain; says whether it had not begun before.
    pub fn begin(&mut self, now: Instant) -> bool {
        let first = self.since.is_none();
        self.since.get_or_insert(now);
        first
    }

    /// Whether listeners are to be let go and answers to announce the close.
    pub fn draining(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a connection that is idle or silent is to be closed.
    pub fn closes_idle(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now >= since + self.last_call)
    }

    /// Whether everything that is still open is to be cut.
    pub fn cuts(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + self.drain)
    }

    /// When, after `now`, one of the answers above changes.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let since = self.since?;
        [since + self.last_call, since + self.drain]
            .into_iter()
            .find(|&change| change > now)
    }

    /// How long the drain has lasted.
    pub fn lasted(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_goes_from_serving_to_draining_to_the_last_call_to_the_cut() {
        let (drain, last_call) = (Duration::from_secs(5), Duration::from_millis(250));
        let start = Instant::now();
        let mut stop = Stop::new(drain, last_call);
        assert!(!stop.draining() && !stop.closes_idle(start) && !stop.cuts(start));
        assert_eq!(stop.next(start), None);

        assert!(stop.begin(start));
        let nearly = Duration::from_nanos(1);
        for (now, closes_idle, cuts, next) in [
            (start, false, false, Some(start + last_call)),
            (
                start + last_call - nearly,
                false,
                false,
                Some(start + last_call),
            ),
            (start + last_call, true, false, Some(start + drain)),
            (start + drain - nearly, true, false, Some(start + drain)),
            (start + drain, true, true, None),
        ] {
            assert!(stop.draining());
            let at = now - start;
            assert_eq!(
                (stop.closes_idle(now), stop.cuts(now)),
                (closes_idle, cuts),
                "{at:?}"
            );
            assert_eq!(stop.next(now), next, "{at:?}");
            assert_eq!(stop.lasted(now), at);
        }
    }

    #[test]
    fn a_second_beginning_changes_nothing() {
        let start = Instant::now();
        let mut stop = Stop::new(Duration::from_secs(5), Duration::ZERO);
        assert!(stop.begin(start));
        assert!(!stop.begin(start + Duration::from_secs(4)));
        assert!(stop.cuts(start + Duration::from_secs(5)));
    }

    #[test]
    fn a_last_call_ends_with_the_drain() {
        let start = Instant::now();
        let mut stop = Stop::new(Duration::ZERO, Duration::from_secs(1));
        stop.begin(start);
        assert!(stop.closes_idle(start) && stop.cuts(start));
    }

    #[test]
    fn the_outcome_tells_the_worst_that_happened() {
        let tally = Tally {
            answered: 7,
            idle: 2,
            ..Tally::default()
        };
        assert_eq!(tally.outcome(), Outcome::Drained);
        assert_eq!(Tally { cut: 1, ..tally }.outcome(), Outcome::Cut);
        assert_eq!(
            Tally {
                cut: 1,
                failed: true,
                ..tally
            }
            .outcome(),
            Outcome::Failed
        );
        assert_eq!(tally.to_string(), "answered 7, closed idle 2, cut 0");
    }
}
