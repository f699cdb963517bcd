//! Decisions that follow from a seed. Each client has a sequence of its own: to leave one out
//! changes nothing of what the others plan. The kernel has one for all of them.

use oorandom::Rand64;

use super::time::Nanos;

/// A sequence of decisions.
#[derive(Clone, Debug)]
pub struct Random(Rand64);

impl Random {
    /// One of the sequences of a seed.
    pub fn new(seed: u64, sequence: u64) -> Random {
        Random(Rand64::new(u128::from(seed) << 64 | u128::from(sequence)))
    }

    /// A seed for something else.
    pub fn seed(&mut self) -> u64 {
        self.0.rand_u64()
    }

    /// A number below another one, which is above zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from(self.0.rand_range(0..end)).expect("it is below")
    }

    /// Whether something happens that does so once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A time of which each doubling between the two is equally likely.
    pub fn time(&mut self, least: Nanos, most: Nanos) -> Nanos {
        let (from, to) = (least.max(1).ilog2(), most.max(1).ilog2());
        let doubling = 1 << (from as usize + self.below((to - from + 1) as usize));
        (doubling + self.0.rand_range(0..doubling)).clamp(least, most)
    }
}
