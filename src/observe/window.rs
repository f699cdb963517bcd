//! The last minute, second by second.
//!
//! The invariant: there is no more than a minute of it; the oldest second makes room.

use std::time::Duration;

use crate::event_loop::observer::Budget;
use crate::observe::histogram::Histogram;

/// How many seconds one can look back.
pub(crate) const MINUTE: usize = 60;

/// What the loop did in a number of seconds.
#[derive(Clone, Debug, Default)]
pub struct Stretch<N: Copy + Default> {
    /// How many they are.
    pub seconds: usize,
    /// How often the loop has gone round.
    pub ticks: u64,
    /// Events that these ticks found.
    pub events: u64,
    /// The time at work.
    pub busy: Duration,
    /// The time that the loop polled without sleeping.
    pub spun: Duration,
    /// The longest time at work in one tick.
    pub longest: Duration,
    /// Responses, delayed ones included.
    pub responses: u64,
    /// Responses by the time that they took.
    pub service: Histogram<N>,
    /// How often each budget was used up, at its index.
    pub exhausted: [u64; Budget::ALL.len()],
}

/// A single second, kept in half the space.
pub type Second = Stretch<u32>;
/// Some of them together.
pub type Window = Stretch<u64>;

impl Window {
    fn add(&mut self, second: &Second) {
        self.seconds += second.seconds;
        self.ticks += second.ticks;
        self.events += second.events;
        self.busy += second.busy;
        self.spun += second.spun;
        self.longest = self.longest.max(second.longest);
        self.responses += second.responses;
        self.service.merge(&second.service);
        for (count, more) in self.exhausted.iter_mut().zip(second.exhausted) {
            *count += more;
        }
    }
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
        Minute { ring: Vec::with_capacity(MINUTE), seconds: 0 }
    }

    /// Keeps what the second has added that has just gone by.
    pub(crate) fn keep(&mut self, second: Second) {
        match self.ring.get_mut(self.seconds % MINUTE) {
            Some(oldest) => *oldest = second,
            None => self.ring.push(second),
        }
        self.seconds += 1;
    }

    /// The last seconds, up to sixty of them; fewer if there have not been as many.
    pub(crate) fn last(&self, seconds: usize) -> Window {
        let mut window = Window::default();
        for back in 1..=seconds.min(self.ring.len()) {
            window.add(&self.ring[(self.seconds - back) % MINUTE]);
        }
        window
    }
}
