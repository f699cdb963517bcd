//! What the loop tells, counted, recorded and shown on pages. One type is the loop's [`Observer`],
//! and renders the dynamic pages of diagnostics.
//!
//! The invariant: to look changes nothing of what the loop does. A page takes time for what is
//! there, never for what has been: it is rendered within a run, in a fraction of a millisecond.
//!
//! # See the loop
//!
//! Open `http://localhost:8081/` in a browser and run wrk. The page shows the tick as a ring of its
//! seven steps, the requests and service times as they come, and every connection as a dot; a click
//! on a dot shows the trace of its connection. The page is one file of 40 KiB, loads nothing from
//! other servers and requests its data twice a second. On the keyboard, Tab leads to the dots, the
//! arrow keys from one dot to the next, and Enter to the trace. The page says so when the server
//! stops, and when it has exited.
//!
//! The space bar pauses the page, and then it replays what the recorder has: by event, by tick, on
//! and back. The ring shows the step of the tick, the dots show all connections as they were then,
//! and a table shows the trace of the connection that has changed. The page requests a recording
//! once, and nothing else until it is live again, so the loop does nothing for the replay. A file
//! with a recording is replayed in the same way. `cargo run --example recordings` makes some, each
//! in a page of its own that needs no server.
//!
//! For a terminal there are pages of text, rendered for each request:
//!
//! | path | shows |
//! |---|---|
//! | `/metrics` | everything that is counted, for Prometheus |
//! | `/loop` | the loop over the last second and the last minute, on one screen |
//! | `/trace` | the connections that changed last |
//! | `/trace?conn=N` | the trace of one connection; the log gives it the same number |
//! | `/trace?slot=N` | the trace of the connection in a slot of the table |
//! | `/trace?map` | a letter for each slot, from which the live page draws its dots |
//! | `/trace?recording` | all that is recorded, a line for each change, for the replay |
//!
//! ```console
//! $ watch -n1 curl -s http://localhost:8081/loop
//! ```
//!
//! A recorder keeps the last 4,096 changes of all connections. A trace is what the recorder has of
//! one connection. Beside these columns it counts bytes and responses:
//!
//! ```console
//! $ curl -s 'http://localhost:8081/trace?conn=1' | grep -v Connection | cut -c1-10,17-43,80-
//!     after tick        from -> to       what happened
//!      0 ns    2           - -> idle     accepted
//!  100.2 ms    4        idle -> head     the beginning of a head has come
//!  570.2 ms    5        head -> idle     a response is sent
//!  500.3 ms    6        idle -> head     the beginning of a head has come
//!  100.2 ms    7        head -> idle     a response is sent
//!  100.2 ms    8        idle -> closed   its response is sent: the client asked for the close
//! ```
//!
//! When a drain's deadline closes a connection, the log has its trace. `--log trace` logs the same
//! changes as they happen. `--log debug` has a line for each response, with the time since the last
//! byte of its request came, any delay included, and the reason if it is an error response. A 408
//! counts from its timeout:
//!
//! ```console
//! $ 2>debug.log target/release/onepoll --log debug &
//! $ grep connection debug.log | fold -sw 92
//! 2026-11-26T00:19:56.801Z DEBUG [main] 127.0.0.1:50980, connection 1: GET '/hello?a%23b'
//! 200, 129 bytes, 931 us
//! 2026-11-26T00:19:56.918Z DEBUG [main] 127.0.0.1:50990, connection 2: GET '/hello?a#b' 400,
//! 230 bytes, 34 us: a request target holds no # here; it is written %23
//! ```
//!
//! Two counters of `/metrics` tell requests apart: `onepoll_requests_total` by listener and status,
//! `onepoll_request_errors_total` by the reason of an error response.
//!
//! # What a service time is
//!
//! The loop reads the clock twice in a tick and not for each request. So the service time of a
//! response is the time from the end of the wait to the end of its tick, which is never less than
//! the response took; with `--delay`, it is the delay. A step of the tick that seldom has work is
//! timed when it has, and the rest of the tick counts as that of its events. A page shows seconds
//! that are over; the first one is what was left of a second at the start.
//!
//! # What it costs
//!
//! All of this is always on. The recorder takes 128 KiB of memory and the last minute 70 KiB, as
//! they fill, and each connection takes 32 bytes. What it costs in instructions shows beside the
//! example, whose observer does nothing: `benches/README.md` has the command.
//!
//! # Which client can read the pages
//!
//! Every client that reaches the diagnostics port can read them, and they show the addresses of
//! clients.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use log::{debug, info, warn};

use crate::event_loop::clock::{self, Instant};
use crate::event_loop::listeners::Service;
use crate::event_loop::observer::{Budget, CloseReason, Observer, Step, Traffic};
use crate::event_loop::shutdown::Stage;
use crate::event_loop::state::StateName;
use crate::http::{Error, Handler, Head, Page, Route, Shown, Status, TEXT, TEXT_NOT_SNIFFED};
use crate::limits::TRACE_LOG_LINES_MAX;

mod exposition;
pub mod histogram;
pub mod live;
mod metrics;
mod overview;
mod process;
pub mod recorder;
mod recording;
mod requests;
mod slots;
pub mod statistics;
mod trace;
pub mod units;
pub mod window;

use self::recorder::{Record, Recorder};
use self::requests::RequestLog;
use self::slots::Slots;
use self::statistics::Statistics;

/// The paths of the dynamic pages.
const PAGES: [&str; 4] = ["/ready", "/metrics", "/loop", "/trace"];

/// The routes of diagnostics.
pub fn routes() -> Vec<Route> {
    let live = Route { fields: live::FIELDS, ..Route::new("/", live::PAGE) };
    let pages = PAGES.map(Route::dynamic);
    pages.into_iter().chain([live]).collect()
}

/// What the program does when the loop tells of something.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// The loop is about to wait, no longer than the duration that is returned.
    pub before_wait: fn() -> Option<Duration>,
    /// A shutdown has begun.
    pub stopping: fn(),
    /// How many log lines have been dropped.
    pub dropped: fn() -> u64,
    /// How long the loop sleeps before each response of main (`--block`), which shows what a
    /// handler that blocks does to all other clients.
    pub block: Duration,
}

/// The observer.
#[derive(Debug)]
pub struct Observe {
    version: &'static str,
    hooks: Hooks,
    now: Instant,
    stage: Stage,
    /// The ticks in which the stages of a shutdown began: lame duck and draining.
    stage_ticks: [Option<u32>; 2],
    slots: Slots,
    /// The slot of the connection that runs, and its service.
    running: usize,
    service: Service,
    recorder: Recorder,
    statistics: Statistics,
    services: [Counters; Service::ALL.len()],
    /// Timeouts that have passed, by what the connection waited for.
    timeouts: [u64; StateName::ALL.len()],
    /// Requests are logged, or block the loop.
    watches_requests: bool,
    /// Responses are logged.
    requests: Option<RequestLog>,
}

/// What has been counted of one service since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    accepted: u64,
    /// Responses by their status, at its index.
    responses: [u64; Status::COUNT],
    /// Error responses, which are among the responses, by their reason, at its index.
    errors: [u64; Error::COUNT],
    received: u64,
    sent: u64,
    partial_writes: u64,
}

impl Observe {
    /// An observer of a server that starts now.
    pub fn new(version: &'static str, hooks: Hooks) -> Observe {
        Observe::since(Instant::now(), clock::since_1970(), version, hooks)
    }

    /// An observer of a server that starts at an instant, which is so long after 1970.
    pub fn since(
        now: Instant,
        since_1970: Duration,
        version: &'static str,
        hooks: Hooks,
    ) -> Observe {
        let logs_requests = log::log_enabled!(log::Level::Info);
        let logs_responses = log::log_enabled!(target: "main", log::Level::Debug);
        Observe {
            version,
            hooks,
            now,
            stage: Stage::Serving,
            stage_ticks: [None; 2],
            slots: Slots::default(),
            running: 0,
            service: Service::Main,
            recorder: Recorder::new(),
            statistics: Statistics::new(now, since_1970),
            services: [Counters::default(); Service::ALL.len()],
            timeouts: [0; StateName::ALL.len()],
            watches_requests: logs_requests || !hooks.block.is_zero(),
            requests: logs_responses.then(RequestLog::default),
        }
    }

    /// Counts what a run has moved.
    #[inline]
    fn count(&mut self, service: Service, traffic: Traffic) {
        let counters = &mut self.services[service as usize];
        counters.received += u64::from(traffic.received);
        counters.sent += u64::from(traffic.sent);
        counters.partial_writes += u64::from(traffic.partial_writes);
        self.statistics.respond(traffic.responses);
    }

    /// Records that a connection has gone from one state to another, or has been closed.
    #[inline]
    fn record(
        &mut self,
        slot: usize,
        from: Option<StateName>,
        to: Result<StateName, CloseReason>,
        traffic: Traffic,
    ) {
        let facts = &self.slots[slot];
        self.recorder.push(Record {
            at: self.now,
            tick: self.recorder.tick(),
            number: facts.number,
            service: facts.service,
            from,
            to,
            responses: traffic.responses,
            received: traffic.received,
            sent: traffic.sent,
        });
    }

    /// A request has come that is logged, or blocks the loop.
    #[cold]
    fn watch_request(&mut self, head: &Head, has_route: bool) {
        if has_route {
            info!(target: self.service.name(), "Request '{}' received", Shown(head.target));
        }
        if let Some(requests) = &mut self.requests {
            requests.begin(self.running, head, self.now);
        }
        if has_route && self.service == Service::Main {
            thread::sleep(self.hooks.block);
        }
    }

    /// The page that says whether the server is ready.
    fn ready(&self) -> Page {
        let (status, body) = match self.stage {
            Stage::Serving => (Status::OK, format!("Version: {}", self.version)),
            _ => (Status::UNAVAILABLE, "draining".to_owned()),
        };
        Page { status, fields: TEXT, body: body.into() }
    }

    /// The timeouts that have passed, for the log. That no other request came behind a deferred
    /// response, or that no FIN came from an idle client, is no fault of the client.
    fn log_timeouts(&self) {
        let counts = StateName::ALL.into_iter().zip(self.timeouts);
        let counts = counts.filter(|&(timeout, count)| {
            count > 0 && !matches!(timeout, StateName::Deferred | StateName::IdleClosed)
        });
        let counts: Vec<String> =
            counts.map(|(timeout, count)| format!("{} {count}", timeout.name())).collect();
        if !counts.is_empty() {
            info!(target: "onepoll", "Timeouts since the start: {}", counts.join(", "));
        }
    }
}

impl Observer for Observe {
    fn reserve_slots(&mut self, slots: usize) {
        self.slots.reserve_slots(slots);
    }

    fn tick_begins(&mut self, now: Instant) {
        self.now = now;
        self.recorder.begin_tick();
    }

    fn date_changed(&mut self, unix_seconds: u64) {
        self.statistics.pass(unix_seconds);
    }

    fn step_took(&mut self, step: Step, nanos: u64) {
        self.statistics.charge(step, nanos);
    }

    fn budget_exhausted(&mut self, budget: Budget, times: u64) {
        self.statistics.exhaust(budget, times);
    }

    fn accepted(&mut self, slot: usize, service: Service, peer: SocketAddr) {
        self.services[service as usize].accepted += 1;
        let number = self.slots.fill(slot, service, peer, self.now);
        debug!(target: service.name(), "Connection {number} accepted from {peer}");
        self.record(slot, None, Ok(StateName::Idle), Traffic::default());
    }

    fn run_begins(&mut self, slot: usize) {
        (self.running, self.service) = (slot, self.slots[slot].service);
        if let Some(requests) = &mut self.requests {
            requests.run_begins(slot, self.slots[slot].state, self.now);
        }
    }

    fn run_ends(&mut self, slot: usize, traffic: Traffic) {
        self.count(self.slots[slot].service, traffic);
    }

    #[inline]
    fn state_changed(&mut self, slot: usize, from: StateName, to: StateName, traffic: Traffic) {
        let facts = &mut self.slots[slot];
        let service = facts.service;
        if from == StateName::Delayed {
            self.statistics.delay(traffic.responses, self.now - facts.since);
        }
        (facts.state, facts.since) = (Some(to), self.now);
        self.count(service, traffic);
        self.record(slot, Some(from), Ok(to), traffic);
    }

    fn timed_out(&mut self, slot: usize, timeout: StateName) {
        // A delay that is over is no timeout.
        if timeout != StateName::Delayed {
            let number = self.slots[slot].number;
            debug!(target: "onepoll", "Connection {number} has timed out: {}", timeout.name());
            self.timeouts[timeout as usize] += 1;
        }
    }

    fn closed(&mut self, slot: usize, from: StateName, reason: CloseReason, traffic: Traffic) {
        let facts = self.slots[slot];
        let (number, service, peer) = (facts.number, facts.service, facts.peer());
        let why = recorder::explain(from, reason);
        debug!(target: "onepoll", "Connection {number} closed: {why}");
        self.count(service, traffic);
        self.record(slot, Some(from), Err(reason), traffic);
        self.slots[slot].state = None;
        if let Some(requests) = &mut self.requests {
            requests.forget(slot);
        }
        if reason == CloseReason::Aborted {
            let (time, state) = ((self.now - facts.since).as_millis(), from.name());
            warn!(
                target: service.name(),
                "Connection {number} from {peer} is aborted, after {time} ms in {state}"
            );
            let trace = self.recorder.trace(number, TRACE_LOG_LINES_MAX);
            for line in trace.iter().flat_map(|trace| trace.lines()) {
                warn!(target: service.name(), "{line}");
            }
        }
    }

    fn shutdown_changed(&mut self, stage: Stage) {
        if self.stage == Stage::Serving {
            (self.hooks.stopping)();
        }
        self.stage = stage;
        let draining = matches!(stage, Stage::Draining(_));
        self.stage_ticks[usize::from(draining)] = Some(self.recorder.tick());
    }

    fn exits(&mut self) {
        self.log_timeouts();
    }

    fn tick_ends(&mut self, busy: u64, events: usize) {
        self.statistics.end_tick(busy, events);
    }

    fn spun(&mut self, nanos: u64) {
        self.statistics.spin(nanos);
    }

    fn before_wait(&mut self) -> Option<Duration> {
        (self.hooks.before_wait)()
    }
}

impl Handler for Observe {
    #[inline]
    fn on_request(&mut self, head: &Head, has_route: bool) {
        if self.watches_requests {
            self.watch_request(head, has_route);
        }
    }

    #[inline]
    fn on_response(&mut self, status: Status, bytes: usize) {
        self.services[self.service as usize].responses[status.index()] += 1;
        if let Some(requests) = &mut self.requests {
            requests.log(self.running, &self.slots[self.running], status, bytes);
        }
    }

    fn on_error(&mut self, error: Error, text: &str, input: &[u8], bytes: usize) {
        let facts = &self.slots[self.running];
        let counters = &mut self.services[facts.service as usize];
        counters.responses[error.status().index()] += 1;
        counters.errors[error as usize] += 1;
        if let Some(requests) = &mut self.requests {
            requests.log_error(self.running, facts, (error.status(), bytes), input, text, self.now);
        }
    }

    fn render(&mut self, path: &str, query: &[u8]) -> Page {
        match path {
            "/ready" => self.ready(),
            "/metrics" => {
                found("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n", self.metrics())
            }
            "/loop" => found(TEXT, self.overview()),
            "/trace" => self.trace(&String::from_utf8_lossy(query)),
            _ => unreachable!("there is no dynamic page at {path}"),
        }
    }
}

fn found(fields: &'static str, body: String) -> Page {
    Page { status: Status::OK, fields, body: body.into() }
}

/// A line that says why there is nothing to be seen.
fn nothing(status: Status, why: impl std::fmt::Display) -> Page {
    Page { status, fields: TEXT_NOT_SNIFFED, body: format!("{why}\n").into() }
}
