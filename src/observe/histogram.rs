//! How often something took how long. Each doubling of the time is cut into eight buckets of equal
//! width, so what is said of a duration is wrong by an eighth of it at most, however long it was;
//! and to find the bucket takes two shifts.
//!
//! ```text
//!   below 1,024 ns │ 1,024 ... 2,047 in eight │ 2,048 ... 4,095 in eight │ and so on │ the rest
//! ```
//!
//! The invariant: buckets only say how many. So histograms can be added and subtracted, and what
//! happened since some instant is the difference of two.

use std::time::Duration;

/// Durations below `2^FIRST` nanoseconds, about a microsecond, are not told apart.
const FIRST: u32 = 10;
/// Nor are those of `2^LAST` nanoseconds, about 39 hours, and more: a delay is a day at most.
const LAST: u32 = 47;
/// Each doubling is cut into `2^CUTS` buckets.
const CUTS: u32 = 3;
/// The number of buckets.
pub const BUCKETS: usize = ((LAST - FIRST) << CUTS) as usize + 2;

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Histogram<N> {
    counts: [N; BUCKETS],
}

impl<N: Copy + Default> Default for Histogram<N> {
    fn default() -> Histogram<N> {
        Histogram { counts: [N::default(); BUCKETS] }
    }
}

/// The bucket that a duration in nanoseconds belongs to.
#[inline]
pub fn bucket(nanos: u64) -> usize {
    if nanos < 1 << FIRST {
        return 0;
    }
    let doubling = nanos.ilog2();
    let cut = (nanos >> (doubling - CUTS)) & ((1 << CUTS) - 1);
    let at = (u64::from(doubling - FIRST) << CUTS) + cut + 1;
    usize::try_from(at).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

/// Where a bucket begins, in nanoseconds; the next one begins where it ends.
fn start(bucket: usize) -> u64 {
    let Some(at) = bucket.checked_sub(1) else {
        return 0;
    };
    let (doubling, cut) = (at >> CUTS, (at & ((1 << CUTS) - 1)) as u64);
    ((1 << CUTS) + cut) << (doubling + FIRST as usize - CUTS as usize)
}

impl Histogram<u64> {
    /// Counts `times` more in a [`bucket`].
    #[inline]
    pub fn add(&mut self, bucket: usize, times: u64) {
        self.counts[bucket] += times;
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Histogram<u32>) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += u64::from(more);
        }
    }

    /// What has been counted since it was like `earlier`, in half the space.
    pub fn since(&self, earlier: &Histogram<u64>) -> Histogram<u32> {
        let mut since = Histogram::default();
        for (at, count) in since.counts.iter_mut().enumerate() {
            let more = self.counts[at] - earlier.counts[at];
            *count = u32::try_from(more).unwrap_or(u32::MAX);
        }
        since
    }

    /// How many have been counted.
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether nothing has been counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For each doubling, where it ends and how many took less.
    pub fn doublings(&self) -> impl Iterator<Item = (Duration, u64)> {
        let ends = (0..BUCKETS - 1).step_by(1 << CUTS);
        let below = |end: usize| self.counts[..=end].iter().sum();
        ends.map(move |end| (Duration::from_nanos(start(end + 1)), below(end)))
    }

    /// The duration that `per_mille` of a thousand did not exceed, to the end of its bucket; zero
    /// if nothing was counted.
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (self.len() * per_mille).div_ceil(1000);
        let mut below = 0;
        for (at, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank && rank > 0 {
                return Duration::from_nanos(start(at + 1));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for at in 1..BUCKETS {
            let start = start(at);
            assert_eq!(bucket(start), at, "{start}");
            assert_eq!(bucket(start - 1), at - 1, "{start}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn doublings_end_at_powers_of_two_and_count_what_is_below() {
        let mut histogram = Histogram::default();
        for nanos in [5, 1024, 2047, 2048, 4096, u64::MAX] {
            histogram.add(bucket(nanos), 1);
        }
        let doublings: Vec<_> = histogram.doublings().collect();
        assert_eq!(doublings[0], (Duration::from_nanos(1024), 1));
        assert_eq!(doublings[1], (Duration::from_nanos(2048), 3));
        assert_eq!(doublings[2], (Duration::from_nanos(4096), 4));
        let last = Duration::from_nanos(1 << LAST);
        assert_eq!(doublings.last(), Some(&(last, 5)));
        assert_eq!(histogram.len(), 6);
    }

    proptest! {
        #[test]
        fn a_quantile_is_wrong_by_an_eighth_at_most(
            mut times in prop::collection::vec(1_024_u64..1 << LAST, 1..200),
            per_mille in 1_u64..=1000,
        ) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|&nanos| histogram.add(bucket(nanos), 1));
            times.sort_unstable();
            let rank = (times.len() as u64 * per_mille).div_ceil(1000);
            let exact = times[usize::try_from(rank).expect("few") - 1];
            let told = u64::try_from(histogram.quantile(per_mille).as_nanos()).expect("short");
            prop_assert!(told > exact && told - exact <= exact / 8 + 1, "{told} for {exact}");
        }

        #[test]
        fn what_was_taken_away_can_be_added_again(
            old in prop::collection::vec(any::<u64>(), 0..50),
            new in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut histogram = Histogram::default();
            old.iter().for_each(|&nanos| histogram.add(bucket(nanos), 1));
            let mut earlier = histogram.clone();
            new.iter().for_each(|&nanos| histogram.add(bucket(nanos), 1));
            earlier.merge(&histogram.since(&earlier.clone()));
            prop_assert_eq!(earlier.counts, histogram.counts);
        }
    }
}
