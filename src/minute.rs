//! The last minute, second by second.
//!
//! The invariant: there is no more than a minute of it; the oldest second makes room.

use std::time::Duration;

use crate::budget::Budget;
use crate::histogram::Histogram;

/// How many seconds one can look back.
pub(crate) const MINUTE: usize = 60;

/// The same for a number of whole seconds.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// How many they are.
    pub seconds: usize,
    /// Ticks.
    pub ticks: u64,
    /// Events.
    pub events: u64,
    /// The time at work.
    pub busy: Duration,
    /// The longest time at work in one tick.
    pub longest: Duration,
    /// Answers.
    pub answers: u64,
    /// Answers by the time that they took.
    pub service: Histogram<u64>,
    /// How often each budget was used up, at its index.
    pub exhausted: [u64; Budget::ALL.len()],
}

/// What one second added: as in [`Window`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) ticks: u64,
    pub(crate) events: u64,
    pub(crate) busy: Duration,
    pub(crate) longest: Duration,
    pub(crate) answers: u64,
    pub(crate) service: Histogram<u32>,
    pub(crate) exhausted: [u64; Budget::ALL.len()],
}

/// The ring of seconds.
#[derive(Debug)]
pub(crate) struct Minute {
    ring: Vec<Second>,
    /// How many have gone by in all.
    seconds: usize,
}

impl Minute {
    /// A minute of which nothing has gone by. It takes address space at once and memory as it does.
    pub(crate) fn new() -> Minute {
        Minute {
            ring: Vec::with_capacity(MINUTE),
            seconds: 0,
        }
    }

    /// Keeps what the second has added that has just gone by.
    pub(crate) fn keep(&mut self, second: Second) {
        match self.ring.get_mut(self.seconds % MINUTE) {
            Some(oldest) => *oldest = second,
            None => self.ring.push(second),
        }
        self.seconds += 1;
    }

    /// The last whole seconds, up to sixty of them; fewer if there have not been as many.
    pub(crate) fn last(&self, seconds: usize) -> Window {
        let seconds = seconds.min(self.ring.len());
        let mut window = Window {
            seconds,
            ..Window::default()
        };
        for back in 1..=seconds {
            let second = &self.ring[(self.seconds - back) % MINUTE];
            window.ticks += second.ticks;
            window.events += second.events;
            window.busy += second.busy;
            window.longest = window.longest.max(second.longest);
            window.answers += second.answers;
            window.service.merge(&second.service);
            for (count, more) in window.exhausted.iter_mut().zip(second.exhausted) {
                *count += more;
            }
        }
        window
    }
}

impl Default for Minute {
    fn default() -> Minute {
        Minute::new()
    }
}
