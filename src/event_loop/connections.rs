//! The slab of connections. It runs a connection when an event, a timeout or the shutdown asks for
//! it. It knows nothing of the poll, of listeners or of signals.
//!
//! The invariant: every connection has a timeout, so none stays for ever. What a run did is seen
//! by comparing the connection's state before and after, and by what it moved. In a shutdown, the
//! last response to a client announces the close. A client that pipelines has its responses
//! deferred, until it comes to a rest or is forced to close.
//!
//! # Try it
//!
//! A client that sends sixteen requests at once is read and served sixteen at a time, so the same
//! number of ticks serves more requests. Compare what wrk reports, and the traces.
//!
//! ```sh
//! onepoll --log warn & server=$!; sleep 0.5
//! cat > depth.lua <<'END'
//! function request()
//!     batch = batch or string.rep(wrk.format(), 16)
//!     return batch
//! end
//! END
//! for script in /dev/null depth.lua; do
//!     wrk -t1 -c64 -d2s -s $script http://localhost:8080/hello & client=$!; sleep 1
//!     curl -s "http://localhost:8081/trace?slot=3" | tail -1 # look for: the responses to a batch
//!     wait $client
//! done
//! kill $server; wait $server
//! ```

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use slab::Slab;

use super::clock::Instant;
use super::connection::{Connection, RunEnd};
use super::kernel::{Readiness, Socket};
use super::listeners::Service;
use super::observer::{Budget, CloseReason, Observer, Traffic};
use super::shared::Shared;
use super::state::{self, StateName};
use super::stream::Sent;
use super::timers::{Timeouts, Timers};
use crate::http::Routes;
use crate::limits::{DEFERRED_TIME_MAX, PAGES_PER_TICK};

/// The slab, and what it takes to run its connections.
#[derive(Debug)]
pub struct Connections<S, O> {
    shared: Shared<O>,
    slots: Slab<Connection<S>>,
    timers: Timers,
    /// How many there are of each service, at its index.
    counts: [usize; Service::ALL.len()],
    /// Connections that have more to do although no event will come.
    run_again: Vec<usize>,
    /// Connections that wait for a page to be rendered, in the same way.
    page_queue: VecDeque<usize>,
    /// Pages that may still be rendered in this tick.
    pages_left: usize,
    /// Whether a connection of each service is closed when it is idle.
    closes_idle: [bool; Service::ALL.len()],
    /// What has been counted of the shutdown.
    pub(super) closed_idle: usize,
    pub(super) aborted: usize,
    /// Responses since the start.
    pub(super) responses: u64,
    /// A connection has been closed since this was last asked.
    freed: bool,
}

impl<S: Socket, O: Observer> Connections<S, O> {
    /// No connections. They will be served from `routes`, and wait for their peers as `timeouts`
    /// say, and for a delayed response for `delay`.
    pub fn new(
        routes: [Routes; Service::ALL.len()],
        timeouts: &Timeouts,
        delay: Duration,
        observer: O,
    ) -> Connections<S, O> {
        Connections {
            shared: Shared::new(routes, observer),
            slots: Slab::new(),
            timers: Timers::new(timeouts, delay),
            counts: [0; Service::ALL.len()],
            run_again: Vec::new(),
            page_queue: VecDeque::new(),
            pages_left: 0,
            closes_idle: [false; Service::ALL.len()],
            closed_idle: 0,
            aborted: 0,
            responses: 0,
            freed: false,
        }
    }

    /// Reserves address space for so many connections, so that no table moves as it grows to that.
    pub fn reserve(&mut self, connections: usize) {
        self.slots.reserve_exact(connections);
        self.timers.reserve_timers(connections);
        self.shared.observer.reserve_slots(connections);
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many connections there are to `service`.
    pub fn count(&self, service: Service) -> usize {
        self.counts[service as usize]
    }

    /// Whether a connection has been closed, and a descriptor freed, since this was last asked.
    pub fn take_freed(&mut self) -> bool {
        mem::take(&mut self.freed)
    }

    /// For what the loop itself has to tell.
    pub fn observer(&mut self) -> &mut O {
        &mut self.shared.observer
    }

    /// Sets the instant at which all of a tick happens, and its budget of pages.
    pub fn begin_tick(&mut self, now: Instant) {
        self.shared.now = now;
        self.pages_left = PAGES_PER_TICK;
        self.shared.observer.tick_begins(now);
    }

    /// Writes the date, in seconds since 1970, into every response.
    pub fn set_date(&mut self, unix_seconds: u64) {
        let routes = self.shared.routes.iter_mut();
        routes.for_each(|routes| routes.set_date(unix_seconds));
        self.shared.observer.date_changed(unix_seconds);
    }

    /// When a connection runs next, unless an event comes.
    pub fn next_run(&self) -> Instant {
        if self.has_work() { self.shared.now } else { self.timers.next_due() }
    }

    /// Whether a connection has more to do although no event will come.
    pub fn has_work(&self) -> bool {
        !self.run_again.is_empty() || !self.page_queue.is_empty()
    }

    /// Whether connections to `service` are closed when they are idle.
    pub fn closes_idle(&self, service: Service) -> bool {
        self.closes_idle[service as usize]
    }

    /// Adds a connection that `service` has accepted, and runs it: most clients have sent their
    /// first request by now. Returns its slot and its socket, unless that was all they wanted.
    pub fn add(
        &mut self,
        service: Service,
        socket: S,
        peer: SocketAddr,
    ) -> Option<(usize, &mut S)> {
        let slot = self.slots.insert(Connection::new(service, socket));
        self.counts[service as usize] += 1;
        self.timers.arm(slot, StateName::Idle, self.shared.now);
        self.shared.observer.accepted(slot, service, peer);
        self.run_as_readable(slot);
        self.slots.get_mut(slot).map(|connection| (slot, connection.stream.socket()))
    }

    /// Closes a connection that cannot be registered with the poll.
    pub fn fail(&mut self, slot: usize, error: ErrorKind) {
        let state = self.slots[slot].state_name();
        self.close(slot, state, CloseReason::Failed(error), Traffic::default());
    }

    /// Adds what an event has told about a connection, and runs it. One that runs again in this
    /// tick anyway does not run now, or it would run twice.
    pub fn on_event(&mut self, slot: usize, readiness: Readiness) {
        // It is gone if it was closed earlier in this tick.
        let Some(connection) = self.slots.get_mut(slot) else {
            return;
        };
        connection.set_ready(readiness);
        if !connection.runs_again {
            self.run(slot);
        }
    }

    /// Runs the connections again that have more to do, and then those that wait for a page, as far
    /// as the budget goes. Each of them gets one page, and waits behind the others for the next.
    pub fn run_again(&mut self) {
        let due = self.run_again.len();
        for at in 0..due {
            self.run_if_due(self.run_again[at], 0);
        }
        self.run_again.drain(..due);
        while self.pages_left > 0
            && let Some(slot) = self.page_queue.pop_front()
        {
            self.run_if_due(slot, 1);
        }
    }

    fn run_if_due(&mut self, slot: usize, pages: usize) {
        // It may have been closed meanwhile.
        if let Some(connection) = self.slots.get_mut(slot)
            && mem::take(&mut connection.runs_again)
        {
            self.run_with(slot, pages);
        }
    }

    /// Runs a connection although no event has told of anything. One may do so later, as many come
    /// at once, or as the process was stopped: what a peer has sent in time counts.
    fn run_as_readable(&mut self, slot: usize) -> bool {
        self.slots[slot].set_ready(Readiness::READABLE);
        self.run(slot)
    }

    /// Runs a connection, with a page to be rendered if no other connection waits for one. Says
    /// whether its timeout began anew, or it was closed.
    #[inline]
    fn run(&mut self, slot: usize) -> bool {
        let is_next = self.page_queue.is_empty() && self.pages_left > 0;
        self.run_with(slot, usize::from(is_next))
    }

    /// The same, with so many pages to be rendered.
    #[inline]
    fn run_with(&mut self, slot: usize, pages: usize) -> bool {
        let (connection, shared) = (&mut self.slots[slot], &mut self.shared);
        shared.force_close = shared.announces_close[connection.service as usize]
            && self.timers.is_forced_to_close(slot, shared.now);
        shared.output.pages = pages;
        let before = connection.state_name();
        shared.observer.run_begins(slot);
        let run = connection.run(shared);
        self.pages_left -= pages - shared.output.pages;
        self.finish_run(slot, before, run)
    }

    /// Does what a run has led to, and then what that leads to: an idle connection may be closed,
    /// and a slow one times out. Says whether the timeout began anew, or the connection was closed.
    #[inline]
    fn finish_run(&mut self, slot: usize, before: StateName, run: RunEnd) -> bool {
        let traffic = mem::take(&mut self.shared.traffic);
        self.responses += u64::from(traffic.responses);
        if let RunEnd::Closed(reason) = run {
            self.close(slot, before, reason, traffic);
            return true;
        }
        let (connection, shared) = (&mut self.slots[slot], &mut self.shared);
        let after = connection.state_name();
        debug_assert!(state::is_allowed(before, after), "{before:?} to {after:?}");
        let changed = before != after || traffic.responses > 0;
        let moved = traffic.received > 0 || traffic.sent > 0;
        let renewed = changed || moved && after.is_renewed_by_traffic();
        if before != after {
            self.timers.arm(slot, after, shared.now);
        } else if renewed {
            self.timers.renew(slot, after, shared.now);
        }
        let service = connection.service;
        if shared.announces_close[service as usize] {
            // The client goes on because of responses for which there was no room.
            let anew = connection.defers() && traffic.sent > 0 && !shared.force_close;
            let has_responses = traffic.responses > 0 && connection.pipelines;
            if after == StateName::Deferred || connection.defers() || has_responses {
                self.timers.force_close(slot, shared.now + DEFERRED_TIME_MAX, anew);
            }
        }
        if changed {
            shared.observer.state_changed(slot, before, after, traffic);
        } else {
            shared.observer.run_ends(slot, traffic);
        }
        if let RunEnd::OutOf(budget) = run {
            shared.observer.budget_exhausted(budget, 1);
        }
        if run != RunEnd::Waits && !mem::replace(&mut connection.runs_again, true) {
            match run {
                RunEnd::OutOf(Budget::Pages) => self.page_queue.push_back(slot),
                _ => self.run_again.push(slot),
            }
        }
        match after {
            StateName::Idle if run == RunEnd::Waits && self.closes_idle[service as usize] => {
                self.close_idle_one(slot);
                true
            }
            StateName::Body if moved && connection.is_too_slow(shared.now) => {
                self.time_out(slot);
                true
            }
            _ => renewed,
        }
    }

    /// Closes the descriptor, which also takes it out of the poll (epoll(7)).
    fn close(&mut self, slot: usize, from: StateName, reason: CloseReason, traffic: Traffic) {
        let connection = self.slots.remove(slot);
        self.counts[connection.service as usize] -= 1;
        if connection.runs_again {
            // Or the next connection in the slot would run in its place, too.
            let entries = self.run_again.iter_mut().chain(&mut self.page_queue);
            entries.filter(|it| **it == slot).for_each(|it| *it = usize::MAX);
        }
        self.timers.disarm(slot);
        self.shared.observer.closed(slot, from, reason, traffic);
        self.freed = true;
    }

    /// Whether a timeout may have passed.
    pub fn is_due(&self) -> bool {
        self.timers.next_due() <= self.shared.now
    }

    /// Deals with every timeout that has passed.
    pub fn expire(&mut self) {
        while let Some(slot) = self.timers.expired(self.shared.now) {
            if self.run_as_readable(slot) {
                continue;
            }
            if self.slots[slot].renew_half_closed() {
                self.timers.arm(slot, StateName::HalfClosed, self.shared.now);
            } else {
                self.time_out(slot);
            }
        }
    }

    /// Tells a connection that its timeout has passed.
    fn time_out(&mut self, slot: usize) {
        let (connection, shared) = (&mut self.slots[slot], &mut self.shared);
        let before = connection.state_name();
        shared.observer.timed_out(slot, before);
        shared.observer.run_begins(slot);
        shared.output.pages = 0;
        if before == StateName::Deferred {
            // From now on its next response announces the close, or a client could always send
            // part of a request and never be closed.
            self.timers.force_close(slot, shared.now, false);
        }
        let run = connection.on_timeout(shared);
        self.finish_run(slot, before, run);
    }

    /// From now on, the last response to a client of `service` announces the close.
    pub fn announce_close(&mut self, service: Service) {
        self.shared.announces_close[service as usize] = true;
    }

    /// Closes the connections to `service` that are idle, now and from now on. The kernel
    /// meets a request in a socket that is closed with an RST, so each of them is read once more.
    pub fn close_idle(&mut self, service: Service) {
        self.closes_idle[service as usize] = true;
        for slot in self.timers.slots() {
            let connection = self.slots.get(slot).filter(|it| it.service == service);
            if connection.is_some_and(|it| it.state_name() == StateName::Idle) {
                self.run_as_readable(slot);
            }
        }
    }

    fn close_idle_one(&mut self, slot: usize) {
        let run = self.slots[slot].close_idle();
        self.closed_idle += 1;
        self.finish_run(slot, StateName::Idle, run);
    }

    /// Closes everything that is left at the drain's deadline. A connection that is half-closed has
    /// had its last response, and counts as served.
    pub fn abort(&mut self) {
        for slot in self.timers.slots() {
            if self.slots.get(slot).is_some_and(|it| it.state_name() == StateName::Deferred) {
                self.abort_deferred(slot);
            }
            match self.slots.get(slot).map(Connection::state_name) {
                None => {}
                Some(state @ (StateName::HalfClosed | StateName::IdleClosed)) => {
                    self.close(slot, state, CloseReason::DrainOver, Traffic::default());
                }
                Some(_) => self.abort_one(slot),
            }
        }
    }

    /// Sends deferred responses: nothing more can be waited for, so these are the last.
    fn abort_deferred(&mut self, slot: usize) {
        self.timers.force_close(slot, self.shared.now, false);
        self.run_as_readable(slot);
        if self.slots.get(slot).is_some_and(|it| it.state_name() == StateName::Deferred) {
            self.time_out(slot);
        }
        // A socket that is closed with something unread in it is reset.
        if self.slots.get(slot).is_some_and(Connection::has_unread) {
            self.abort_one(slot);
        }
    }

    /// Closes a connection in the middle of a request or of its response.
    fn abort_one(&mut self, slot: usize) {
        let (connection, shared) = (&mut self.slots[slot], &mut self.shared);
        let (from, routes) = (connection.state_name(), &shared.routes[connection.service as usize]);
        let closes = connection.after_unsent().closes() && !connection.has_unread();
        // The kernel takes what it can. The connection is closed, so an error changes nothing.
        let sent = connection.stream.flush(routes, &mut shared.traffic);
        // With all of its last response, it is served.
        let is_served =
            closes && matches!(sent, Ok(Sent::All)) && connection.stream.shutdown_write().is_ok();
        let traffic = mem::take(&mut shared.traffic);
        self.aborted += usize::from(!is_served);
        let reason = if is_served { CloseReason::DrainOver } else { CloseReason::Aborted };
        self.close(slot, from, reason, traffic);
    }
}

#[cfg(test)]
mod tests;
