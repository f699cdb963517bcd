//! What has been counted since the start: plain numbers, as there is one thread. What a turn moves
//! is counted at the desk, and added to the rest when the turn is over.
//!
//! The invariant: counts only grow.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::event_loop::timers::Lane;
use crate::services::Service;

/// What one turn has moved. It is added up in few bytes, as that is done for every turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Answers given, refusals included.
    pub answers: u32,
    /// Bytes read.
    pub received: u32,
    /// Bytes that the kernel took.
    pub sent: u32,
    /// Writes of which the kernel took a part.
    pub partial_writes: u32,
}

impl Moved {
    /// So many bytes have been read. A turn cannot come near to what would be too much.
    pub fn receive(&mut self, len: usize) {
        self.received += u32::try_from(len).unwrap_or(0);
    }

    /// The kernel took so many.
    pub fn send(&mut self, len: usize) {
        self.sent += u32::try_from(len).unwrap_or(0);
    }
}

/// The same for all turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Answers given, refusals included.
    pub answers: u64,
    /// Bytes read.
    pub received: u64,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Writes of which the kernel took a part.
    pub partial_writes: u64,
}

impl AddAssign<Moved> for Traffic {
    fn add_assign(&mut self, moved: Moved) {
        self.answers += u64::from(moved.answers);
        self.received += u64::from(moved.received);
        self.sent += u64::from(moved.sent);
        self.partial_writes += u64::from(moved.partial_writes);
    }
}

/// The counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// What each service has moved, at its index.
    pub traffic: [Traffic; Service::ALL.len()],
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
        self.traffic.iter().map(|traffic| traffic.answers).sum()
    }

    /// Counts answers that have waited for so long.
    pub fn delay(&mut self, answers: u32, time: Duration) {
        if answers > 0 {
            self.delayed.0 += u64::from(answers);
            self.delayed.1 += time * answers;
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
