//! What the loop tells an observer: a method for each thing that happens, which does nothing by
//! default. The loop calls no other part by name. Statistics, the recorder, the pages and the log
//! hang on this trait; the loop runs without any of them.
//!
//! The invariant: an observer changes nothing of what the loop does. It is asked for two things
//! only: to render a page, and when to be called again.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::clock::Instant;
use super::listeners::Service;
use super::shutdown::Stage;
use super::state::StateName;
use crate::http::Handler;

/// The receiver. All methods are called by the thread of the loop, and hold it up.
pub trait Observer: Handler {
    /// So many slots are expected at most, and there is address space for what is kept of each.
    fn reserve_slots(&mut self, _slots: usize) {}

    /// A tick begins. All that happens in it happens at this instant.
    fn tick_begins(&mut self, _now: Instant) {}

    /// The date has changed, in seconds since 1970.
    fn date_changed(&mut self, _unix_seconds: u64) {}

    /// A step of the tick took so many nanoseconds of its own.
    fn step_took(&mut self, _step: Step, _nanos: u64) {}

    /// A budget was used up so many times.
    fn budget_exhausted(&mut self, _budget: Budget, _times: u64) {}

    /// A connection was accepted into a slot.
    fn accepted(&mut self, _slot: usize, _service: Service, _peer: SocketAddr) {}

    /// The connection in a slot runs. What [`Handler`] tells until it has run is about it.
    fn run_begins(&mut self, _slot: usize) {}

    /// The connection has run, which moved so much and left its state as it was.
    fn run_ends(&mut self, _slot: usize, _traffic: Traffic) {}

    /// The connection has run, which moved so much. It has another state, or it has
    /// responded and has the same state again.
    fn state_changed(&mut self, _slot: usize, _from: StateName, _to: StateName, _traffic: Traffic) {
    }

    /// A timeout of the connection has passed, and it runs because of that.
    fn timed_out(&mut self, _slot: usize, _timeout: StateName) {}

    /// The connection was closed. Its last run moved so much.
    fn closed(&mut self, _slot: usize, _from: StateName, _reason: CloseReason, _traffic: Traffic) {}

    /// The shutdown has come to another stage.
    fn shutdown_changed(&mut self, _stage: Stage) {}

    /// The shutdown is over, and what it came to is about to be logged.
    fn exits(&mut self) {}

    /// A tick is over. It was at work for so many nanoseconds and found so many events.
    fn tick_ends(&mut self, _busy: u64, _events: usize) {}

    /// The loop is about to wait. It waits no longer than the duration that is returned.
    fn before_wait(&mut self) -> Option<Duration> {
        None
    }

    /// The wait is over. It began with polling for so many nanoseconds without sleeping, none
    /// without `--spin`.
    fn spun(&mut self, _nanos: u64) {}
}

impl Observer for () {}

/// What one run of a connection has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Responses, errors included. A deferred response counts when it is deferred.
    pub responses: u32,
    /// Bytes read.
    pub received: u32,
    /// Bytes that the kernel took.
    pub sent: u32,
    /// Writes of which the kernel took a part.
    pub partial_writes: u32,
}

impl Traffic {
    /// Counts bytes that were read. A run cannot come near to 4 GiB.
    pub fn count_received(&mut self, bytes: usize) {
        self.received += u32::try_from(bytes).unwrap_or(0);
    }

    /// Counts bytes that the kernel took.
    pub fn count_sent(&mut self, bytes: usize) {
        self.sent += u32::try_from(bytes).unwrap_or(0);
    }
}

/// A step of the tick, other than the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing a new date, once a second. That the clock is read is part of all others.
    Clock,
    /// Signals, and the shutdown that they begin.
    Signals,
    /// The events of connections, and what is charged to no other step.
    Events,
    /// Connections that have more to do although no event will come.
    RunAgain,
    /// Accepting, and the first run of each new connection.
    Accept,
    /// Timeouts of connections, and those of the shutdown.
    Timers,
}

impl Step {
    /// All steps. Each is at the index that it converts to.
    pub const ALL: [Step; 6] =
        [Step::Clock, Step::Signals, Step::Events, Step::RunAgain, Step::Accept, Step::Timers];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Step::Clock => "clock",
            Step::Signals => "signals",
            Step::Events => "events",
            Step::RunAgain => "run_again",
            Step::Accept => "accept",
            Step::Timers => "timers",
        }
    }
}

/// What is limited in one run or in one tick, so that no connection waits for long. The rest
/// follows in a later tick. [`limits`](crate::limits) has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Reads and writes of a connection in a run.
    Reads,
    /// Connections accepted in a tick.
    Accepts,
    /// Events taken in a tick.
    Events,
    /// Pages rendered in a tick.
    Pages,
}

impl Budget {
    /// All budgets. Each is at the index that it converts to.
    pub const ALL: [Budget; 4] = [Budget::Reads, Budget::Accepts, Budget::Events, Budget::Pages];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Budget::Reads => "reads",
            Budget::Accepts => "accepts",
            Budget::Events => "events",
            Budget::Pages => "pages",
        }
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it between requests, or after the last response.
    Finished,
    /// The client has asked for the close, and the kernel has its last response.
    Requested,
    /// The peer closed it in the middle of a request.
    Truncated,
    /// The kernel reported an error.
    Failed(ErrorKind),
    /// A timeout has passed.
    TimedOut,
    /// At the drain's deadline it was in the middle of a request or of its response.
    Aborted,
    /// At the drain's deadline it was half-closed.
    DrainOver,
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> CloseReason {
        CloseReason::Failed(error.kind())
    }
}
