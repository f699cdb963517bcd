//! The connection table: who is connected, to which service, and until when. It gives turns
//! and does what their ends ask for. Knows nothing of the poll, of listeners or of signals;
//! the server tells it what has happened, what time it is and how far a stop has come.
//!
//! The invariant: every connection in the table has a deadline, so none stays for ever.

mod ending;
mod watching;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use log::debug;
use slab::Slab;

use crate::event_loop::clock::Moment;
use crate::event_loop::desk::Desk;
use crate::event_loop::guest::{Guest, House};
use crate::event_loop::stream::{Edge, Socket};
use crate::event_loop::timers::{Deadlines, Lane, Timeouts};
use crate::event_loop::turn::{Change, Reason, Turn};
use crate::http::Site;
use crate::observe::counters::Counters;
use crate::observe::recorder::{Number, Recorder};
use crate::services::Service;

/// All connections, and what it takes to serve them.
#[derive(Debug)]
pub struct Table<S> {
    house: House,
    guests: Slab<Guest<S>>,
    deadlines: Deadlines,
    last_number: Number,
    /// How many there are of each service, at its index.
    present: [usize; Service::ALL.len()],
    /// Connections that want another turn although no event will come for them, each once.
    left_over: Vec<usize>,
    /// Connections that ask for a page which has to be written.
    readers: VecDeque<usize>,
    /// A connection has been closed since this was last asked.
    freed: bool,
}

impl<S: Socket> Table<S> {
    /// An empty table. Its connections are served from `sites`, and wait for their peers for as
    /// long as `timeouts` say, and for a delayed answer for `delay`.
    pub fn new(
        sites: [Site; Service::ALL.len()],
        timeouts: &Timeouts,
        delay: Duration,
    ) -> Table<S> {
        Table {
            house: House {
                logs: sites.iter().any(Site::logs_responses),
                sites,
                desk: Desk::new(),
                counters: Counters::default(),
                recorder: Recorder::new(),
                waiting: Vec::new(),
                hurry: Moment::NEVER,
            },
            guests: Slab::new(),
            deadlines: Deadlines::new(timeouts, delay),
            last_number: 0,
            present: [0; Service::ALL.len()],
            left_over: Vec::new(),
            readers: VecDeque::new(),
            freed: false,
        }
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// How many connections there are to `service`.
    pub fn count(&self, service: Service) -> usize {
        self.present[service as usize]
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    /// What has been counted so far.
    pub fn counters(&self) -> &Counters {
        &self.house.counters
    }

    /// A tick begins.
    pub fn begin_tick(&mut self) {
        self.house.recorder.begin_tick();
    }

    /// Whether a connection has been closed, and a descriptor freed, since the last call.
    pub fn take_freed(&mut self) -> bool {
        mem::take(&mut self.freed)
    }

    /// Whether somebody's patience may have ended.
    pub fn is_anybody_due(&self, now: Moment) -> bool {
        self.deadlines.next() <= now
    }

    /// Until when nothing has to be done unless an event comes.
    pub fn next_turn(&self, now: Moment) -> Moment {
        if self.has_left_over() {
            now
        } else {
            self.deadlines.next()
        }
    }

    /// Whether somebody wants another turn, or a page, although no event will come.
    pub fn has_left_over(&self) -> bool {
        !self.left_over.is_empty() || !self.readers.is_empty()
    }

    /// Writes the date, in seconds since 1970, into everything that is served.
    pub fn stamp(&mut self, unix_seconds: u64) {
        for site in &mut self.house.sites {
            site.stamp(unix_seconds);
        }
    }

    /// The key under which the next connection will be admitted.
    pub fn next_key(&self) -> usize {
        self.guests.vacant_key()
    }

    /// Adds a connection that has come to `service`, and says which number it has been given.
    pub fn admit(&mut self, service: Service, socket: S, now: Moment) -> Number {
        self.house.counters.accepted[service as usize] += 1;
        self.present[service as usize] += 1;
        // After four thousand million connections the numbers begin anew.
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        let key = self.guests.insert(Guest::new(number, service, socket, now));
        self.deadlines.arm(key, Lane::Idle, now);
        self.guests[key].arrive(&mut self.house, now);
        number
    }

    /// Remembers what an event reported about a connection and gives it a turn, unless one that
    /// is left over is still due in this tick: a client that sends on and on would otherwise
    /// have two, then three, and so on.
    pub fn meet(&mut self, key: usize, edge: Edge, now: Moment) {
        // It is gone if it was closed earlier in this tick.
        let Some(guest) = self.guests.get_mut(key) else {
            return;
        };
        guest.connection.note(edge);
        if !guest.left_over {
            let turn = guest.advance(&mut self.house, now);
            if let Some(lane) = turn.came_back_to() {
                // Nearly always, and worth a shorter way: it asked and was answered.
                self.deadlines.renew(key, lane, now);
                guest.enter(lane, &mut self.house, now);
            } else {
                self.settle(key, &turn, now);
            }
        }
    }

    /// Gives another turn to the connections that ran out of steps in their last one.
    pub fn take_left_over(&mut self, now: Moment) {
        let due = self.left_over.len();
        for at in 0..due {
            let key = self.left_over[at];
            // It may have been closed meanwhile, by its deadline or at the cut.
            if let Some(guest) = self.guests.get_mut(key) {
                guest.left_over = false;
                let turn = guest.advance(&mut self.house, now);
                self.settle(key, &turn, now);
            }
        }
        self.left_over.drain(..due);
    }

    /// Does what the end of a turn asks for.
    fn settle(&mut self, key: usize, turn: &Turn, now: Moment) {
        let guest = &mut self.guests[key];
        match *turn {
            Turn::Open { change, unfinished } => {
                match change {
                    Change::None => {
                        self.house.book(guest.service);
                    }
                    Change::Progress(lane) => {
                        guest.add_progress(&mut self.house);
                        if guest.sends_too_slowly(now) {
                            return self.time_out(key, now);
                        }
                        self.deadlines.renew(key, lane, now);
                    }
                    Change::Again(lane) => {
                        self.deadlines.renew(key, lane, now);
                        guest.enter(lane, &mut self.house, now);
                    }
                    Change::Entered(lane) => {
                        guest.begin_progress(&self.house);
                        self.deadlines.arm(key, lane, now);
                        guest.enter(lane, &mut self.house, now);
                    }
                }
                if guest.connection.is_unwritten() && !mem::replace(&mut guest.reads, true) {
                    self.readers.push_back(key);
                }
                if unfinished && !mem::replace(&mut guest.left_over, true) {
                    self.left_over.push(key);
                }
            }
            Turn::Over(reason) => self.close(key, reason, now),
        }
    }

    /// Closes the descriptor, which also takes it out of the poll (epoll(7)).
    fn close(&mut self, key: usize, reason: Reason, now: Moment) {
        let guest = self.guests.remove(key);
        self.present[guest.service as usize] -= 1;
        debug!(target: "onepoll", "Connection {} closed: {reason}", guest.number);
        guest.leave(reason, &mut self.house, now);
        self.deadlines.disarm(key);
        self.freed = true;
    }

    /// Deals with every connection whose deadline has passed.
    pub fn expire(&mut self, now: Moment) {
        while let Some(key) = self.deadlines.expired(now) {
            let guest = &mut self.guests[key];
            let lane = guest.connection.lane();
            let turn = guest.look_once_more(&mut self.house, now);
            if !turn.is_without_change() {
                self.settle(key, &turn, now);
            } else if guest.connection.lingers_on() {
                self.house.book(guest.service);
                self.deadlines.arm(key, lane, now);
            } else {
                self.time_out(key, now);
            }
        }
    }

    /// Tells a connection that it has timed out, and counts that.
    fn time_out(&mut self, key: usize, now: Moment) {
        let guest = &mut self.guests[key];
        let lane = guest.connection.lane();
        // An answer that has waited for its time is no timeout.
        if lane != Lane::Delayed {
            let number = guest.number;
            debug!(target: "onepoll", "Connection {number} has timed out: {}", lane.name());
            self.house.counters.overdue[lane as usize] += 1;
        }
        let turn = guest.expire(&mut self.house, now);
        if lane == Lane::Delayed {
            // None if the answer is held, as the last one may be in a stop.
            let answers = self.house.desk.moved.answers;
            self.house.counters.delay(answers, now - guest.entered);
        }
        self.settle(key, &turn, now);
    }
}

#[cfg(test)]
mod tests;
