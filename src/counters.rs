//! What has been counted since the start: plain numbers, as there is one thread. What a turn moves
//! is counted at the desk, and added to the rest when the turn is over.
//!
//! The invariant: counts only grow.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::deadlines::Lane;
use crate::service::Service;

/// What has gone in and out, in one turn or in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Answers given, refusals included.
    pub answers: u64,
    /// Bytes read.
    pub received: u64,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Writes of which the kernel did not take all.
    pub partial_writes: u64,
}

impl AddAssign for Moved {
    fn add_assign(&mut self, more: Moved) {
        self.answers += more.answers;
        self.received += more.received;
        self.sent += more.sent;
        self.partial_writes += more.partial_writes;
    }
}

/// The counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// What each service has moved, at its index.
    pub moved: [Moved; Service::ALL.len()],
    /// Connections that each service has accepted, at its index.
    pub accepted: [u64; Service::ALL.len()],
    /// Times that the patience of a lane ended, at its index.
    pub overdue: [u64; Lane::ALL.len()],
    /// Turns that ended for want of steps, since that was last asked.
    pub unfinished: u64,
    /// Answers that were given after their delay since that was last asked, and how long all of
    /// these were together.
    pub delayed: (u64, Duration),
}

/// Those who were overdue, by lane. That no other request came behind an answer that was held,
/// or that nobody returned a farewell, is nobody's fault.
pub struct Overdue<'a>(&'a Counters);

impl Counters {
    /// Answers given by both services.
    pub fn answered(&self) -> u64 {
        self.moved.iter().map(|moved| moved.answers).sum()
    }

    /// Counts answers that have waited for so long.
    pub fn delay(&mut self, answers: u64, time: Duration) {
        if answers > 0 {
            self.delayed.0 += answers;
            self.delayed.1 += time * u32::try_from(answers).unwrap_or(u32::MAX);
        }
    }

    /// The clients that were overdue, for the log; `None` if there were none.
    pub fn overdue(&self) -> Option<Overdue<'_>> {
        Some(Overdue(self)).filter(|overdue| overdue.lanes().next().is_some())
    }
}

impl Overdue<'_> {
    fn lanes(&self) -> impl Iterator<Item = (Lane, u64)> {
        let counts = Lane::ALL.into_iter().zip(self.0.overdue);
        counts.filter(|&(lane, count)| count > 0 && !matches!(lane, Lane::Held | Lane::Farewell))
    }
}

impl fmt::Display for Overdue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        for (at, (lane, count)) in self.lanes().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(out, "{separator}{} {count}", lane.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overdue_are_told_by_lane_if_there_are_any() {
        let mut counters = Counters::default();
        counters.overdue[Lane::Farewell as usize] = 9;
        counters.overdue[Lane::Held as usize] = 9;
        assert!(counters.overdue().is_none());
        counters.overdue[Lane::Head as usize] = 2;
        counters.overdue[Lane::Writing as usize] = 1;
        let overdue = counters.overdue().expect("some were");
        assert_eq!(overdue.to_string(), "head 2, writing 1");
    }
}
