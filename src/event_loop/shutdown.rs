//! The shutdown: a pure state machine. It touches no socket and reads no clock. The loop tells it
//! of signals and of time, and does the actions that it returns.
//!
//! ```text
//!   serving ──── SIGTERM ────► lame duck ──── its time is over ────► draining ──► over
//!      │                                                                ▲
//!      └──── SIGINT, a listener that failed, or no time for a lame duck ┘
//! ```
//!
//! A lame duck serves every client and announces that this will end. A drain closes the listeners,
//! then the connections that are idle at the end of the idle grace, and at its deadline all others.
//! Connections that diagnostics already has are served until main is empty, and then for an idle
//! grace of their own.
//!
//! The invariant: it only goes forward, and each action is returned once. A SIGINT that follows
//! the first signal by more than [`SIGNAL_REPEAT`] ends the drain at once: a person means it.
//!
//! # Try it
//!
//! A SIGTERM while a response is delayed: the response comes, announces the close, and then the
//! process exits.
//!
//! ```sh
//! onepoll --delay 1s & server=$!; sleep 0.5
//! curl -si http://localhost:8080/hello & client=$!; sleep 0.5
//! kill $server; wait $client # look for: Connection: close
//! wait $server
//! ```
//!
//! And one while a request takes longer than the drain: the log has the trace of its connection.
//!
//! ```sh
//! onepoll --drain 1s & server=$!; sleep 0.5
//! (printf 'GET /hello HTTP/1.1\r\n'; sleep 3) | curl -s telnet://localhost:8080 & sleep 0.5
//! kill $server; wait $server # look in the log for: aborted at the drain's deadline
//! ```

use std::time::Duration;

use super::clock::Instant;
use super::listeners::Service;
use super::signals::Signal;
use crate::limits::{self, SIGNAL_REPEAT};

/// How long the stages of a shutdown take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long the lame duck serves on; zero for none.
    pub lame_duck: Duration,
    /// From the beginning of the drain to the abort of what is still open.
    pub drain: Duration,
    /// From the beginning of the drain to the close of idle connections; never longer than it.
    pub idle_grace: Duration,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            lame_duck: limits::LAME_DUCK,
            drain: limits::DRAIN,
            idle_grace: limits::IDLE_GRACE,
        }
    }
}

/// How far a shutdown has come, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun.
    Serving,
    /// Every client is served, and told that this will end.
    LameDuck(Instant),
    /// The listeners close, and each client is served for the last time.
    Draining(Instant),
}

/// What the loop has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The last response to each client of the service announces the close.
    AnnounceClose(Service),
    /// New clients are ignored, and the listeners close when their queues are empty.
    CloseListeners,
    /// Connections to the service are closed when they are idle, now and from now on.
    CloseIdle(Service),
    /// Everything that is still open is closed.
    Abort,
}

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The shutdown begins.
    Begins,
    /// The process exits without a drain.
    Exits,
    /// Nothing.
    Ignored,
}

/// All actions. Those that become due at the same instant are done in this order, so that nothing
/// is closed that has not been announced.
const ACTIONS: [Action; 6] = [
    Action::AnnounceClose(Service::Main),
    Action::CloseListeners,
    Action::CloseIdle(Service::Main),
    Action::AnnounceClose(Service::Diag),
    Action::CloseIdle(Service::Diag),
    Action::Abort,
];
/// How many of them, from the first one on, come ahead of the events of a tick: they close no
/// connection.
const AHEAD_OF_EVENTS: usize = 2;

/// The shutdown of one server.
#[derive(Debug)]
pub struct Shutdown {
    schedule: Schedule,
    stage: Stage,
    /// When the first signal came.
    signalled: Option<Instant>,
    /// A later signal ends the drain at once.
    interrupted: bool,
    /// A listener has failed.
    failed: bool,
    /// Since when main is empty.
    main_empty: Option<Instant>,
    /// The actions that have been returned, by their place in [`ACTIONS`].
    done: [bool; ACTIONS.len()],
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new(schedule: Schedule) -> Shutdown {
        Shutdown {
            schedule,
            stage: Stage::Serving,
            signalled: None,
            interrupted: false,
            failed: false,
            main_empty: None,
            done: [false; ACTIONS.len()],
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether a signal or a failure has ended the serving stage.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        matches!(self.stage, Stage::Draining(_))
    }

    /// A signal has come. The first one begins the shutdown. A SIGINT that comes later than that
    /// by more than [`SIGNAL_REPEAT`] ends it at once. All others are ignored.
    pub fn on_signal(&mut self, signal: Signal, now: Instant) -> Effect {
        if matches!(signal, Signal::User1 | Signal::User2) {
            return Effect::Ignored;
        }
        match self.signalled {
            None => {
                self.signalled = Some(now);
                let has_lame_duck = self.schedule.lame_duck > Duration::ZERO;
                match signal {
                    Signal::Terminate | Signal::Hangup if has_lame_duck && !self.has_begun() => {
                        self.stage = Stage::LameDuck(now);
                    }
                    _ => self.drain(now),
                }
                Effect::Begins
            }
            Some(first) if signal == Signal::Interrupt && now - first > SIGNAL_REPEAT => {
                self.drain(now);
                self.interrupted = true;
                Effect::Exits
            }
            Some(_) => Effect::Ignored,
        }
    }

    /// A listener has failed, so that the server cannot go on.
    pub fn on_failure(&mut self, now: Instant) {
        self.failed = true;
        self.drain(now);
    }

    /// The next action that has to come ahead of the events of this tick, so that their responses
    /// announce the close already.
    pub fn next_ahead_of_events(&mut self, now: Instant) -> Option<Action> {
        self.take_due(AHEAD_OF_EVENTS, now)
    }

    /// An action that is due and has not been returned yet; `None` once there is none.
    pub fn next_action(&mut self, now: Instant, main_is_empty: bool) -> Option<Action> {
        if let Stage::LameDuck(since) = self.stage
            && now >= since + self.schedule.lame_duck
        {
            self.drain(now);
        }
        if main_is_empty && self.is_draining() {
            self.main_empty.get_or_insert(now);
        }
        self.take_due(ACTIONS.len(), now)
    }

    /// When, without any event, there is something to do next.
    pub fn next_due(&self) -> Instant {
        match self.stage {
            Stage::Serving => return Instant::NEVER,
            Stage::LameDuck(since) => return since + self.schedule.lame_duck,
            Stage::Draining(_) => {}
        }
        let left = (0..ACTIONS.len()).filter(|&at| !self.done[at]);
        left.map(|at| self.due(ACTIONS[at])).min().unwrap_or(Instant::NEVER)
    }

    fn take_due(&mut self, actions: usize, now: Instant) -> Option<Action> {
        let at = (0..actions).find(|&at| !self.done[at] && self.due(ACTIONS[at]) <= now)?;
        self.done[at] = true;
        Some(ACTIONS[at])
    }

    /// When an action becomes due.
    fn due(&self, action: Action) -> Instant {
        let drain = match self.stage {
            Stage::LameDuck(since) if action == Action::AnnounceClose(Service::Main) => {
                return since;
            }
            Stage::Serving | Stage::LameDuck(_) => return Instant::NEVER,
            Stage::Draining(since) => since,
        };
        let abort = if self.interrupted { drain } else { drain + self.schedule.drain };
        let main_empty = self.main_empty.unwrap_or(Instant::NEVER);
        match action {
            Action::AnnounceClose(Service::Main) | Action::CloseListeners => drain,
            Action::CloseIdle(Service::Main) => abort.min(drain + self.schedule.idle_grace),
            Action::AnnounceClose(Service::Diag) => abort.min(main_empty),
            Action::CloseIdle(Service::Diag) => abort.min(main_empty + self.schedule.idle_grace),
            Action::Abort => abort,
        }
    }

    fn drain(&mut self, now: Instant) {
        if !self.is_draining() {
            self.stage = Stage::Draining(now);
        }
    }

    /// What it came to, once it is over.
    pub fn outcome(&self, aborted: usize) -> Outcome {
        match aborted {
            _ if self.interrupted => Outcome::Interrupted,
            _ if self.failed => Outcome::Failed,
            0 => Outcome::Drained,
            _ => Outcome::Aborted,
        }
    }

    /// How long it took: from the first signal if a later one ended it, else from the beginning of
    /// the drain.
    pub fn took(&self, now: Instant) -> Duration {
        match (self.stage, self.signalled) {
            (_, Some(first)) if self.interrupted => now - first,
            (Stage::Draining(since), _) => now - since,
            _ => Duration::ZERO,
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every request that had begun got its response.
    Drained,
    /// The drain's deadline passed, and connections were aborted.
    Aborted,
    /// A listener failed, and the rest was drained because of it.
    Failed,
    /// A later signal ended it at once, and connections that were open were aborted.
    Interrupted,
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
    const MAIN: Service = Service::Main;
    const DIAG: Service = Service::Diag;

    /// A shutdown of which the drain begins at `now`.
    fn draining(schedule: Schedule, now: Instant) -> Shutdown {
        let mut shutdown = Shutdown::new(schedule);
        shutdown.on_signal(Signal::Interrupt, now);
        shutdown
    }

    /// All actions that are due at an instant.
    fn actions(shutdown: &mut Shutdown, now: Instant, main_is_empty: bool) -> Vec<Action> {
        std::iter::from_fn(|| shutdown.next_action(now, main_is_empty)).collect()
    }

    #[test]
    fn a_drain_announces_then_closes_idle_connections_then_aborts() {
        let start = Instant::now();
        let mut shutdown = Shutdown::new(SCHEDULE);
        assert_eq!(
            (actions(&mut shutdown, start, true), shutdown.next_due()),
            (vec![], Instant::NEVER)
        );
        shutdown.on_signal(Signal::Interrupt, start);
        let (grace, abort) = (start + SCHEDULE.idle_grace, start + SCHEDULE.drain);
        let begin = vec![Action::AnnounceClose(MAIN), Action::CloseListeners];
        let end = vec![Action::AnnounceClose(DIAG), Action::CloseIdle(DIAG), Action::Abort];
        for (now, expected, next) in [
            (start, begin, grace),
            (grace - NEARLY, vec![], grace),
            (grace, vec![Action::CloseIdle(MAIN)], abort),
            (abort - NEARLY, vec![], abort),
            (abort, end, Instant::NEVER),
            (abort + SCHEDULE.drain, vec![], Instant::NEVER),
        ] {
            assert_eq!(actions(&mut shutdown, now, false), expected, "{:?}", now - start);
            assert_eq!(shutdown.next_due(), next, "{:?}", now - start);
        }
    }

    #[test]
    fn only_announcements_come_ahead_of_the_events() {
        let start = Instant::now();
        let at_once = Schedule { drain: Duration::ZERO, ..SCHEDULE };
        let mut shutdown = draining(at_once, start);
        let ahead: Vec<_> = std::iter::from_fn(|| shutdown.next_ahead_of_events(start)).collect();
        assert_eq!(ahead, [Action::AnnounceClose(MAIN), Action::CloseListeners]);
        let rest = [
            Action::CloseIdle(MAIN),
            Action::AnnounceClose(DIAG),
            Action::CloseIdle(DIAG),
            Action::Abort,
        ];
        assert_eq!(actions(&mut shutdown, start, false), rest, "the grace ends with the drain");
    }

    #[test]
    fn diagnostics_has_an_idle_grace_once_main_is_empty() {
        let start = Instant::now();
        let mut shutdown = draining(SCHEDULE, start);
        let empty = start + Duration::from_secs(2);
        actions(&mut shutdown, start + SCHEDULE.idle_grace, false);
        assert_eq!(actions(&mut shutdown, empty, true), [Action::AnnounceClose(DIAG)]);
        let grace = empty + SCHEDULE.idle_grace;
        assert_eq!(shutdown.next_due(), grace);
        assert_eq!(actions(&mut shutdown, grace - NEARLY, true), []);
        assert_eq!(actions(&mut shutdown, grace, true), [Action::CloseIdle(DIAG)]);
        assert_eq!(shutdown.next_due(), start + SCHEDULE.drain);
        // A connection that comes to main later changes nothing.
        assert_eq!(actions(&mut shutdown, grace + NEARLY, false), []);
    }

    #[test]
    fn a_lame_duck_drains_in_its_time_and_the_drain_is_counted_from_then() {
        let start = Instant::now();
        let mut shutdown = Shutdown::new(SCHEDULE);
        shutdown.on_signal(Signal::Terminate, start);
        assert_eq!(shutdown.stage(), Stage::LameDuck(start));
        assert_eq!(actions(&mut shutdown, start, true), [Action::AnnounceClose(MAIN)]);
        let end = start + SCHEDULE.lame_duck;
        assert_eq!(shutdown.next_due(), end);
        assert_eq!(actions(&mut shutdown, end - NEARLY, true), []);
        assert_eq!(shutdown.took(end - NEARLY), Duration::ZERO);
        // A loop that comes late does not take the time from the connections.
        let late = end + Duration::from_secs(1);
        let both = [Action::CloseListeners, Action::AnnounceClose(DIAG)];
        assert_eq!(actions(&mut shutdown, late, true), both);
        assert_eq!(shutdown.stage(), Stage::Draining(late));
        assert_eq!(shutdown.next_due(), late + SCHEDULE.idle_grace);
    }

    #[test]
    fn without_time_for_it_there_is_no_lame_duck() {
        let start = Instant::now();
        let lame_duck = Duration::ZERO;
        let mut shutdown = Shutdown::new(Schedule { lame_duck, ..SCHEDULE });
        shutdown.on_signal(Signal::Terminate, start);
        assert_eq!(shutdown.stage(), Stage::Draining(start));
        // Nor is there one behind a listener that has failed.
        let mut shutdown = Shutdown::new(SCHEDULE);
        shutdown.on_failure(start);
        shutdown.on_signal(Signal::Terminate, start + NEARLY);
        assert_eq!(shutdown.stage(), Stage::Draining(start));
    }

    #[test]
    fn a_lame_duck_can_be_cut_short_by_a_failure() {
        let start = Instant::now();
        let mut shutdown = Shutdown::new(SCHEDULE);
        shutdown.on_signal(Signal::Terminate, start);
        let later = start + Duration::from_secs(1);
        shutdown.on_failure(later);
        assert_eq!(shutdown.stage(), Stage::Draining(later));
        shutdown.on_failure(later + NEARLY);
        assert_eq!(shutdown.stage(), Stage::Draining(later), "what has begun goes on");
    }

    #[test]
    fn only_an_interrupt_that_comes_later_ends_a_shutdown_at_once() {
        use Signal::{Hangup, Interrupt, Terminate, User1, User2};
        let (repeat, later) = (SIGNAL_REPEAT, SIGNAL_REPEAT + NEARLY);
        for (first, second, after, effect) in [
            (Terminate, Terminate, later, Effect::Ignored),
            (Terminate, Hangup, later, Effect::Ignored),
            (Interrupt, Terminate, later, Effect::Ignored),
            (Interrupt, Interrupt, repeat, Effect::Ignored),
            (Terminate, Interrupt, repeat, Effect::Ignored),
            (Terminate, User1, later, Effect::Ignored),
            (Interrupt, Interrupt, later, Effect::Exits),
            (Terminate, Interrupt, later, Effect::Exits),
            (Hangup, Interrupt, later, Effect::Exits),
        ] {
            let start = Instant::now();
            let mut shutdown = Shutdown::new(SCHEDULE);
            assert_eq!(shutdown.on_signal(User2, start), Effect::Ignored, "it means nothing");
            assert!(!shutdown.has_begun());
            assert_eq!(shutdown.on_signal(first, start), Effect::Begins, "{first:?}");
            let is_duck = shutdown.stage() == Stage::LameDuck(start);
            assert_eq!(is_duck, first != Interrupt, "{first:?}");
            let (now, stage) = (start + after, shutdown.stage());
            assert_eq!(shutdown.on_signal(second, now), effect, "{first:?}, then {second:?}");
            let exits = effect == Effect::Exits;
            assert_eq!(actions(&mut shutdown, now, false).contains(&Action::Abort), exits);
            assert_eq!(shutdown.stage() == stage, !exits || !is_duck);
        }
        // What counts is the time since the first one: a wrapper repeats every signal.
        let start = Instant::now();
        let mut shutdown = Shutdown::new(SCHEDULE);
        shutdown.on_signal(Terminate, start);
        shutdown.on_signal(Terminate, start + later);
        assert_eq!(shutdown.on_signal(Interrupt, start + later), Effect::Exits);
    }

    #[test]
    fn the_outcome_tells_the_worst_that_happened() {
        let start = Instant::now();
        let mut shutdown = draining(SCHEDULE, start);
        assert_eq!(shutdown.outcome(0), Outcome::Drained);
        assert_eq!(shutdown.outcome(1), Outcome::Aborted);
        shutdown.on_failure(start);
        assert_eq!(shutdown.outcome(1), Outcome::Failed);
        shutdown.on_signal(Signal::Interrupt, start + SIGNAL_REPEAT * 2);
        assert_eq!(shutdown.outcome(0), Outcome::Interrupted);
    }
}
