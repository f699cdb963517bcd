//! What has been counted since the start: plain numbers, as there is one thread. They are
//! kept at the desk, where every turn can reach them.

use std::fmt;

use crate::deadlines::Lane;

/// The counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Answers given, refusals included.
    pub answered: u64,
    /// Times that the patience of a lane ended, at its index.
    pub overdue: [u64; Lane::ALL.len()],
}

/// Those who were overdue, by lane. That no other request came behind an answer that was held,
/// or that nobody returned a farewell, is nobody's fault.
pub struct Overdue<'a>(&'a Counters);

impl Counters {
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
