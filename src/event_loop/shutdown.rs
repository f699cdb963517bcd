//! The stop, as a pure machine. It touches no socket and reads no clock; the loop tells it of
//! signals and of the time, asks it what to do, and does that.
//!
//! ```text
//!   serving ──── SIGTERM ────► lame duck ──── in its time ────► draining ──► over
//!      │                                                         ▲
//!      └──── SIGINT, a failure, or no time for a lame duck ──────┘
//! ```
//!
//! A lame duck serves everybody and says that this will end. In a drain whoever is idle has
//! until the idle grace is over, and whoever has begun to ask until the drain is. Those who watch
//! by way of diagnostics may do so until nobody is left on main; then they have an idle grace of
//! their own.
//!
//! The invariant: it only goes forward. A SIGINT that follows the first signal by more than
//! [`SIGNAL_REPEAT`] cuts what is open: a person means it.
//!
//! # Try it
//!
//! A SIGTERM while an answer is waited for: the answer is given, says that it is the last one, and
//! then the process ends.
//!
//! ```sh
//! onepoll --delay 1s & server=$!
//! curl -si http://localhost:8080/hello & sleep 0.5
//! kill $server; wait %1 # look for: Connection: close
//! ```
//!
//! And one while somebody takes longer than the drain: the log tells the story of who is cut.
//!
//! ```sh
//! onepoll --drain 1s & server=$!
//! (printf 'GET /hello HTTP/1.1\r\n'; sleep 3) | curl -s telnet://localhost:8080 & sleep 0.5
//! kill $server; wait %1 # look in the log for: the stop has no more time: it is cut
//! ```

use std::fmt;
use std::time::Duration;

use crate::event_loop::clock::Moment;
use crate::event_loop::signals::Signal;
use crate::limits::SIGNAL_REPEAT;

/// The stop of one server.
#[derive(Debug)]
pub struct Stop {
    schedule: Schedule,
    stage: Stage,
    /// When the first signal came.
    signalled: Option<Moment>,
    /// A later one wants it to end at once.
    leaves: bool,
    /// Since when nobody is left on main.
    deserted: Option<Moment>,
}

/// How long the parts of a stop take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long to go on as a lame duck; zero leaves that out.
    pub lame_duck: Duration,
    /// From the beginning of the drain until what is still open is cut.
    pub drain: Duration,
    /// From the beginning of the drain until the idle are dismissed; never longer than it.
    pub idle_grace: Duration,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun.
    Serving,
    /// Everybody is served, and told that this will end, since then.
    LameDuck(Moment),
    /// Newcomers are shut out, and whoever is here is served for the last time, since then.
    Draining(Moment),
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
    /// Whether a later signal ended it at once.
    pub left: bool,
}

/// What a signal does to a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The stop begins.
    Begins,
    /// The stop ends at once.
    Leaves,
    /// Nothing.
    Ignored,
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
    /// A later signal ended it at once, and connections that were open were cut.
    Left,
}

impl Tally {
    /// The verdict: a failure is worse than a cut.
    pub fn outcome(&self) -> Outcome {
        match self {
            Tally { left: true, .. } => Outcome::Left,
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
    /// A stop that has not begun.
    pub fn new(schedule: Schedule) -> Stop {
        Stop {
            schedule,
            stage: Stage::Serving,
            signalled: None,
            leaves: false,
            deserted: None,
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// Takes a signal. The first one begins the stop. A SIGINT that comes later than that by more
    /// than [`SIGNAL_REPEAT`] ends it at once; all others are ignored.
    pub fn take(&mut self, signal: Signal, now: Moment) -> Effect {
        if matches!(signal, Signal::User1 | Signal::User2) {
            return Effect::Ignored;
        }
        match self.signalled {
            None => {
                self.signalled = Some(now);
                match signal {
                    Signal::Interrupt => self.drain(now),
                    _ => self.retire(now),
                }
                Effect::Begins
            }
            Some(first) if signal == Signal::Interrupt && now - first > SIGNAL_REPEAT => {
                self.drain(now);
                self.leaves = true;
                Effect::Leaves
            }
            Some(_) => Effect::Ignored,
        }
    }

    /// Begins gently: as a lame duck, if there is time for that.
    pub fn retire(&mut self, now: Moment) {
        match self.stage {
            Stage::Serving if self.schedule.lame_duck > Duration::ZERO => {
                self.stage = Stage::LameDuck(now);
            }
            Stage::Serving => self.drain(now),
            Stage::LameDuck(_) | Stage::Draining(_) => {}
        }
    }

    /// Begins the drain, unless it has begun.
    pub fn drain(&mut self, now: Moment) {
        if !self.is_draining() {
            self.stage = Stage::Draining(now);
        }
    }

    /// Lets time pass: a lame duck begins to drain when its time is over.
    pub fn advance(&mut self, now: Moment) {
        if let Stage::LameDuck(since) = self.stage
            && now >= since + self.schedule.lame_duck
        {
            self.drain(now);
        }
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        matches!(self.stage, Stage::Draining(_))
    }

    /// Whether a connection that is idle or silent is to be dismissed.
    pub fn dismisses_idle(&self, now: Moment) -> bool {
        self.cuts(now) || self.is_draining() && self.lasted(now) >= self.idle_grace()
    }

    /// Takes note that nobody is on main, and says whether that is new, and matters.
    pub fn desert(&mut self, now: Moment) -> bool {
        let is_new = self.is_draining() && self.deserted.is_none();
        if is_new {
            self.deserted = Some(now);
        }
        is_new
    }

    /// Whether a connection to diagnostics that is idle is to be dismissed.
    pub fn dismisses_watchers(&self, now: Moment) -> bool {
        let since = self.deserted;
        self.cuts(now) || since.is_some_and(|since| now >= since + self.idle_grace())
    }

    /// Whether everything that is still open is to be cut.
    pub fn cuts(&self, now: Moment) -> bool {
        self.is_draining() && (self.leaves || self.lasted(now) >= self.schedule.drain)
    }

    /// When, after `now`, one of the answers above changes by itself.
    pub fn next(&self, now: Moment) -> Moment {
        let changes = match self.stage {
            Stage::Serving => return Moment::NEVER,
            Stage::LameDuck(since) => [since + self.schedule.lame_duck; 3],
            Stage::Draining(since) => {
                let deserted = self.deserted.unwrap_or(since);
                let graces = [since, deserted].map(|since| since + self.idle_grace());
                [graces[0], graces[1], since + self.schedule.drain]
            }
        };
        let next = changes.into_iter().filter(|&change| change > now).min();
        next.unwrap_or(Moment::NEVER)
    }

    /// How long it is since the first signal came.
    pub fn since_signal(&self, now: Moment) -> Duration {
        self.signalled.map_or(Duration::ZERO, |first| now - first)
    }

    /// How long the drain has lasted.
    pub fn lasted(&self, now: Moment) -> Duration {
        match self.stage {
            Stage::Draining(since) => now - since,
            Stage::Serving | Stage::LameDuck(_) => Duration::ZERO,
        }
    }

    fn idle_grace(&self) -> Duration {
        self.schedule.idle_grace.min(self.schedule.drain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        lame_duck: Duration::from_secs(10),
        drain: Duration::from_secs(5),
        idle_grace: Duration::from_millis(250),
    };
    const NEARLY: Duration = Duration::from_nanos(1);

    /// What a stop says at a moment: drains, dismisses the idle, cuts.
    fn says(stop: &Stop, now: Moment) -> [bool; 3] {
        [stop.is_draining(), stop.dismisses_idle(now), stop.cuts(now)]
    }

    #[test]
    fn who_watches_has_a_idle_grace_once_nobody_is_left() {
        let start = Moment::now();
        let mut stop = Stop::new(SCHEDULE);
        assert!(!stop.desert(start), "while it serves, that means nothing");
        stop.drain(start);
        let deserted = start + Duration::from_secs(2);
        assert!(!stop.dismisses_watchers(deserted));
        assert!(
            stop.desert(deserted) && !stop.desert(deserted),
            "it is new once"
        );
        let idle_grace = deserted + SCHEDULE.idle_grace;
        assert_eq!(stop.next(deserted), idle_grace);
        assert!(!stop.dismisses_watchers(idle_grace - NEARLY));
        assert!(stop.dismisses_watchers(idle_grace));
        assert_eq!(stop.next(idle_grace), start + SCHEDULE.drain);

        let mut crowded = Stop::new(SCHEDULE);
        crowded.drain(start);
        let cut = start + SCHEDULE.drain;
        assert!(!crowded.dismisses_watchers(cut - NEARLY) && crowded.dismisses_watchers(cut));
    }

    #[test]
    fn a_drain_goes_by_the_idle_grace_to_the_cut() {
        let start = Moment::now();
        let mut stop = Stop::new(SCHEDULE);
        assert_eq!(says(&stop, start), [false; 3]);
        assert_eq!(stop.next(start), Moment::NEVER);

        stop.drain(start);
        let (idle_grace, cut) = (start + SCHEDULE.idle_grace, start + SCHEDULE.drain);
        for (now, expected, next) in [
            (start, [true, false, false], idle_grace),
            (idle_grace - NEARLY, [true, false, false], idle_grace),
            (idle_grace, [true, true, false], cut),
            (cut - NEARLY, [true, true, false], cut),
            (cut, [true, true, true], Moment::NEVER),
        ] {
            stop.advance(now);
            assert_eq!(says(&stop, now), expected, "{:?}", now - start);
            assert_eq!(stop.next(now), next, "{:?}", now - start);
            assert_eq!(stop.lasted(now), now - start);
        }
    }

    #[test]
    fn a_lame_duck_drains_in_its_time_and_the_clock_begins_then() {
        let start = Moment::now();
        let mut stop = Stop::new(SCHEDULE);
        stop.retire(start);
        assert_eq!(stop.stage(), Stage::LameDuck(start));
        let end = start + SCHEDULE.lame_duck;
        assert_eq!(stop.next(start), end);
        stop.advance(end - NEARLY);
        assert_eq!(says(&stop, end - NEARLY), [false; 3]);
        assert_eq!(stop.lasted(end - NEARLY), Duration::ZERO);

        // A loop that comes late does not take the time from those who are to be drained.
        let late = end + Duration::from_secs(1);
        stop.advance(late);
        assert_eq!(stop.stage(), Stage::Draining(late));
        assert_eq!(says(&stop, late), [true, false, false]);
        assert_eq!(stop.next(late), late + SCHEDULE.idle_grace);
    }

    #[test]
    fn a_lame_duck_can_be_hurried_and_not_held_back() {
        let start = Moment::now();
        let mut stop = Stop::new(SCHEDULE);
        stop.retire(start);
        let hurry = start + Duration::from_secs(1);
        stop.drain(hurry);
        assert_eq!(stop.stage(), Stage::Draining(hurry));
        stop.drain(hurry + Duration::from_secs(1));
        stop.retire(hurry + Duration::from_secs(1));
        assert_eq!(
            stop.stage(),
            Stage::Draining(hurry),
            "what has begun goes on"
        );
    }

    #[test]
    fn only_an_interrupt_that_comes_later_ends_a_stop_at_once() {
        use Signal::{Hangup, Interrupt, Terminate, User1, User2};
        let (repeat, later) = (SIGNAL_REPEAT, SIGNAL_REPEAT + NEARLY);
        for (first, second, after, news) in [
            (Terminate, Terminate, later, Effect::Ignored),
            (Terminate, Hangup, later, Effect::Ignored),
            (Interrupt, Terminate, later, Effect::Ignored),
            (Interrupt, Interrupt, repeat, Effect::Ignored),
            (Terminate, Interrupt, repeat, Effect::Ignored),
            (Terminate, User1, later, Effect::Ignored),
            (Interrupt, Interrupt, later, Effect::Leaves),
            (Terminate, Interrupt, later, Effect::Leaves),
            (Hangup, Interrupt, later, Effect::Leaves),
        ] {
            let start = Moment::now();
            let mut stop = Stop::new(SCHEDULE);
            assert_eq!(stop.take(User2, start), Effect::Ignored, "it means nothing");
            assert!(!stop.has_begun());
            assert_eq!(stop.take(first, start), Effect::Begins, "{first:?}");
            let is_duck = stop.stage() == Stage::LameDuck(start);
            assert_eq!(is_duck, first != Interrupt, "{first:?}");
            let now = start + after;
            let stage = stop.stage();
            assert_eq!(stop.take(second, now), news, "{first:?}, then {second:?}");
            let leaves = news == Effect::Leaves;
            assert_eq!(
                (stop.cuts(now), stop.stage() == stage),
                (leaves, !leaves || !is_duck)
            );
            assert_eq!(stop.dismisses_idle(now), leaves);
        }
        // What counts is the time since the first one: a wrapper repeats every signal.
        let start = Moment::now();
        let mut stop = Stop::new(SCHEDULE);
        stop.take(Terminate, start);
        stop.take(Terminate, start + later);
        assert_eq!(stop.take(Interrupt, start + later), Effect::Leaves);
    }

    #[test]
    fn without_time_for_it_there_is_no_lame_duck() {
        let start = Moment::now();
        let mut stop = Stop::new(Schedule {
            lame_duck: Duration::ZERO,
            ..SCHEDULE
        });
        stop.retire(start);
        assert_eq!(stop.stage(), Stage::Draining(start));
    }

    #[test]
    fn a_idle_grace_ends_with_the_drain() {
        let start = Moment::now();
        let mut stop = Stop::new(Schedule {
            drain: Duration::ZERO,
            ..SCHEDULE
        });
        stop.drain(start);
        assert_eq!(says(&stop, start), [true; 3]);
        assert_eq!(stop.next(start), Moment::NEVER);
    }

    #[test]
    fn the_outcome_tells_the_worst_that_happened() {
        let tally = Tally {
            answered: 7,
            idle: 2,
            ..Tally::default()
        };
        let cut = Tally { cut: 1, ..tally };
        let failed = Tally {
            failed: true,
            ..cut
        };
        let left = Tally {
            left: true,
            ..failed
        };
        let outcomes = [tally, cut, failed, left].map(|tally| tally.outcome());
        let expected = [
            Outcome::Drained,
            Outcome::Cut,
            Outcome::Failed,
            Outcome::Left,
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(tally.to_string(), "answered 7, closed idle 2, cut 0");
    }
}
