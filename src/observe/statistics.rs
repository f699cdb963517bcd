//! Statistics of the loop: how long its ticks are at work and in which step, how many events each
//! of them finds, and how soon responses are sent. Totals since the start are for programs that can
//! subtract. The last second and the last minute are for people.
//!
//! The clock is read when a tick begins its work and when it ends it. A step that seldom has work
//! reads it twice more when it has. What is left of the tick counts as that of its events. A
//! response counts as long as its tick was at work: in that tick, none took longer. A delay is
//! added to that. How long a request has waited in the kernel before is not known.
//!
//! ```text
//!       │◄──────────── busy ───────────────►│◄──── wait ────►│
//!    ───┴─────────┬────────────┬────────────┴────────────────┴───
//!      events     │  accept    │  events                        next tick
//! ```
//!
//! The invariant: it asks no clock. The seconds that it looks back on are over; they are those of
//! the system's clock, and the first one is what was left of a second at the start.
//!
//! # Try it
//!
//! What a delay does to the service time, and what it does not do to the loop.
//!
//! ```sh
//! onepoll --log warn --delay 20ms & server=$!; sleep 0.5
//! wrk -t1 -c64 -d3s http://localhost:8080/hello & client=$!; sleep 2.5
//! curl -s http://localhost:8081/loop # look for: service time p50
//! curl -s http://localhost:8081/metrics | grep onepoll_step_seconds # look for: step="timers"
//! wait $client; kill $server; wait $server
//! ```

use std::mem;
use std::time::Duration;

use crate::event_loop::clock::{Instant, nanos};
use crate::event_loop::observer::{Budget, Step};
use crate::limits::EVENTS_PER_TICK;
use crate::observe::histogram::{Histogram, bucket};
use crate::observe::window::{MINUTE, Minute, Second, Window};

/// Events per tick are counted in this many doublings: 0, 1, 2, 4 and so on to all there can be.
pub const EVENT_BUCKETS: usize = EVENTS_PER_TICK.ilog2() as usize + 2;

/// What the loop has done since the start.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Ticks by the number of their events.
    pub events: [u64; EVENT_BUCKETS],
    /// Events that all ticks found.
    pub events_sum: u64,
    /// Ticks by the time that they were at work.
    pub busy: Histogram<u64>,
    /// That time, in nanoseconds, as are all sums here: to add seconds and what is left of them
    /// takes longer.
    pub busy_sum: u64,
    /// The time that the loop polled without sleeping.
    pub spun_sum: u64,
    /// Responses by the time that they took.
    pub service: Histogram<u64>,
    /// That time.
    pub service_sum: u64,
    /// Responses, delayed ones included.
    pub responses: u64,
    /// What each step but that of the events has been charged with, at its index.
    pub charged: [u64; Step::ALL.len()],
    /// How often each budget was used up, at its index.
    pub exhausted: [u64; Budget::ALL.len()],
}

/// What is measured of one loop, from its start on.
#[derive(Debug)]
pub struct Statistics {
    started: Instant,
    /// The same since 1970. It is asked once: what is told of the past may not change.
    date: Duration,
    totals: Totals,
    /// Responses of the present tick, and those of them that were delayed.
    responses: u64,
    delayed: u64,
    /// The longest tick of the present second.
    longest: u64,
    /// The present second, by the system's clock, and the totals when it began.
    second: u64,
    before: Box<Totals>,
    minute: Minute,
}

impl Totals {
    /// How often the loop has gone round.
    pub fn ticks(&self) -> u64 {
        self.events.iter().sum()
    }

    /// The time that a step took.
    pub fn step(&self, step: Step) -> Duration {
        Duration::from_nanos(match step {
            Step::Events => self.busy_sum.saturating_sub(self.charged.iter().sum()),
            _ => self.charged[step as usize],
        })
    }
}

/// The bucket of ticks with so many events: up to none, 1, 2, 4 and so on.
fn doubling(events: usize) -> usize {
    let doubled = (2 * events).saturating_sub(1);
    (usize::BITS - doubled.leading_zeros()) as usize
}

impl Statistics {
    /// The statistics of a server that starts now, so long after 1970.
    pub fn new(now: Instant, date: Duration) -> Statistics {
        Statistics {
            started: now,
            date,
            totals: Totals::default(),
            responses: 0,
            delayed: 0,
            longest: 0,
            second: date.as_secs(),
            before: Box::default(),
            minute: Minute::new(),
        }
    }

    /// When the server started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long after 1970 that was.
    pub fn date(&self) -> Duration {
        self.date
    }

    /// What there has been since then.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// So many responses have been given in this tick.
    #[inline]
    pub fn respond(&mut self, responses: u32) {
        self.responses += u64::from(responses);
    }

    /// So many of the responses of this tick were delayed, each for this long.
    pub fn delay(&mut self, responses: u32, time: Duration) {
        let (responses, time) = (u64::from(responses), nanos(time));
        self.totals.service.add(bucket(time), responses);
        self.totals.service_sum += time * responses;
        self.delayed += responses;
    }

    /// A tick is over that was at work for so many nanoseconds and found so many events.
    pub fn end_tick(&mut self, busy: u64, events: usize) {
        let totals = &mut self.totals;
        totals.events[doubling(events)] += 1;
        totals.events_sum += events as u64;
        let at = bucket(busy);
        totals.busy.add(at, 1);
        totals.busy_sum += busy;
        let responses = mem::take(&mut self.responses);
        totals.responses += responses;
        let at_once = responses - mem::take(&mut self.delayed);
        totals.service_sum += busy * at_once;
        totals.service.add(at, at_once);
        self.longest = self.longest.max(busy);
    }

    /// A step has taken so many nanoseconds of its own.
    pub fn charge(&mut self, step: Step, time: u64) {
        self.totals.charged[step as usize] += time;
    }

    /// The loop has polled for so many nanoseconds without sleeping.
    pub fn spin(&mut self, time: u64) {
        self.totals.spun_sum += time;
    }

    /// A budget was used up so many times.
    pub fn exhaust(&mut self, budget: Budget, times: u64) {
        self.totals.exhausted[budget as usize] += times;
    }

    /// Lets time pass: it is another second since 1970 by now, so that the one before becomes the
    /// last. If the clock has been set back, it goes on until then.
    pub fn pass(&mut self, now: u64) {
        let passed = now.saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        self.second = now;
        let second = self.since_the_last();
        self.minute.keep(second);
        // In those that follow nothing has happened, or there would have been a tick.
        for _ in 1..passed.min(MINUTE as u64 + 1) {
            self.minute.keep(Second { seconds: 1, ..Second::default() });
        }
    }

    fn since_the_last(&mut self) -> Second {
        let (totals, before) = (&self.totals, &mut self.before);
        let mut exhausted = totals.exhausted;
        for (count, before) in exhausted.iter_mut().zip(before.exhausted) {
            *count -= before;
        }
        let second = Second {
            seconds: 1,
            ticks: totals.ticks() - before.ticks(),
            events: totals.events_sum - before.events_sum,
            busy: Duration::from_nanos(totals.busy_sum - before.busy_sum),
            spun: Duration::from_nanos(totals.spun_sum - before.spun_sum),
            longest: Duration::from_nanos(mem::take(&mut self.longest)),
            responses: totals.responses - before.responses,
            service: totals.service.since(&before.service),
            exhausted,
        };
        (**before).clone_from(totals);
        second
    }

    /// The last seconds that are over, up to sixty of them; fewer if there have not been as many.
    pub fn last(&self, seconds: usize) -> Window {
        self.minute.last(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    #[test]
    fn events_are_counted_by_doublings() {
        for (events, expected) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 4), (9, 5)] {
            assert_eq!(doubling(events), expected, "{events}");
        }
        assert_eq!(doubling(EVENTS_PER_TICK), EVENT_BUCKETS - 1);
    }

    #[test]
    fn windows_are_of_whole_seconds_and_forget() {
        let mut statistics = Statistics::new(Instant::FIRST, Duration::from_millis(7_300));
        let mut now = 7;
        // In each second a tick more than in the last one, each with two events and two responses.
        for ticks in 1..=70_u64 {
            for _ in 0..ticks {
                statistics.respond(2);
                statistics.end_tick(10_000 * ticks, 2);
            }
            statistics.pass(now);
            assert_eq!(statistics.last(1).ticks, ticks - 1, "it is not over yet");
            now += 1;
            statistics.pass(now);
            let last = statistics.last(1);
            assert_eq!((last.ticks, last.events, last.responses), (ticks, 2 * ticks, 2 * ticks));
            assert_eq!(last.longest, MICRO * 10 * u32::try_from(ticks).expect("few"));
            assert_eq!(last.busy, last.longest * u32::try_from(ticks).expect("few"));
        }
        let minute = statistics.last(MINUTE);
        assert_eq!((minute.seconds, minute.ticks), (60, (11..=70).sum()));
        assert_eq!(minute.service.len(), minute.responses);
        assert_eq!(minute.longest, MICRO * 700);
        let p50 = minute.service.quantile(500);
        assert!(p50 > MICRO * 450 && p50 < MICRO * 600, "{p50:?}");
    }

    #[test]
    fn seconds_without_a_tick_are_empty() {
        let mut statistics = Statistics::new(Instant::FIRST, Duration::ZERO);
        assert_eq!(statistics.last(1).seconds, 0, "nothing can be said yet");
        statistics.respond(1);
        statistics.end_tick(1000, 1);
        statistics.pass(3);
        assert_eq!((statistics.last(1).ticks, statistics.last(3).ticks), (0, 1));
        assert_eq!(statistics.last(MINUTE).seconds, 3);
        statistics.pass(100_000);
        statistics.pass(50_000);
        assert_eq!((statistics.last(MINUTE).ticks, statistics.last(MINUTE).seconds), (0, 60));
        assert_eq!(statistics.totals().ticks(), 1, "but it is not forgotten");
    }

    #[test]
    fn what_is_charged_to_no_step_is_that_of_the_events() {
        let mut statistics = Statistics::new(Instant::FIRST, Duration::ZERO);
        statistics.charge(Step::Accept, 3000);
        statistics.charge(Step::Timers, 1000);
        statistics.end_tick(10_000, 1);
        let steps = Step::ALL.map(|step| statistics.totals().step(step));
        assert_eq!(steps.iter().sum::<Duration>(), MICRO * 10);
        assert_eq!(steps[Step::Events as usize], MICRO * 6);
    }

    #[test]
    fn a_delay_is_a_part_of_the_time_that_a_response_takes() {
        let mut statistics = Statistics::new(Instant::FIRST, Duration::ZERO);
        let delay = Duration::from_millis(50);
        statistics.delay(2, delay);
        statistics.respond(3);
        statistics.end_tick(10_000, 1);
        let service = &statistics.totals().service;
        assert_eq!(service.len(), 3);
        assert!(service.quantile(300) < MICRO * 12 && service.quantile(990) > delay);
        assert_eq!(statistics.totals().responses, 3);
        assert_eq!(statistics.totals().service_sum, 100_010_000);
    }

    #[test]
    fn budgets_are_counted_when_they_are_used_up() {
        let mut statistics = Statistics::new(Instant::FIRST, Duration::ZERO);
        statistics.exhaust(Budget::Reads, 7);
        statistics.exhaust(Budget::Events, 1);
        statistics.pass(1);
        assert_eq!(statistics.last(1).exhausted, [7, 0, 1, 0]);
    }
}
