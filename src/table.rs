//! The connection table: who is connected, to which service, and until when. It gives turns
//! and does what their ends ask for. Knows nothing of the poll, of listeners or of signals;
//! the server tells it what has happened, what time it is and whether a drain is on.
//!
//! The invariant: every connection in the table has a deadline, so none stays for ever.

use std::io;
use std::mem;
use std::net::Shutdown;
use std::time::Instant;

use log::{debug, trace};
use mio::net::TcpStream;
use slab::Slab;

use crate::connection::{Connection, Reason, Turn};
use crate::deadlines::{Deadlines, Lane};
use crate::desk::Desk;
use crate::http::Site;
use crate::service::Service;
use crate::stop::Tally;
use crate::wire::Socket;

/// All connections, and what it takes to serve them.
#[derive(Debug)]
pub struct Table {
    /// One for each service, at its index.
    sites: [Site; Service::ALL.len()],
    guests: Slab<Guest>,
    deadlines: Deadlines,
    desk: Desk,
    /// Connections that want another turn although no event will come for them.
    left_over: Vec<usize>,
    /// A connection has been closed since this was last asked.
    freed: bool,
}

/// A connection and the service that it came to.
#[derive(Debug)]
struct Guest {
    service: Service,
    connection: Connection<TcpStream>,
}

impl Socket for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Table {
    /// An empty table. The `now` is any moment.
    pub fn new(now: Instant) -> Table {
        Table {
            sites: Service::ALL.map(Service::site),
            guests: Slab::new(),
            deadlines: Deadlines::new(now),
            desk: Desk::new(),
            left_over: Vec::new(),
            freed: false,
        }
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    /// Answers given so far.
    pub fn answered(&self) -> u64 {
        self.desk.answered
    }

    /// Whether some connection is to have a turn before the next wait.
    pub fn has_left_over(&self) -> bool {
        !self.left_over.is_empty()
    }

    /// Whether a connection has been closed, and a descriptor freed, since the last call.
    pub fn take_freed(&mut self) -> bool {
        mem::take(&mut self.freed)
    }

    /// When the first patience ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Writes the date, in seconds since 1970, into everything that is served.
    pub fn stamp(&mut self, unix_seconds: u64) {
        for site in &mut self.sites {
            site.stamp(unix_seconds);
        }
    }

    /// The key under which the next connection will be admitted.
    pub fn next_key(&self) -> usize {
        self.guests.vacant_key()
    }

    /// Adds a connection that has come to `service`.
    pub fn admit(&mut self, service: Service, stream: TcpStream, now: Instant) {
        let key = self.guests.insert(Guest {
            service,
            connection: Connection::new(stream),
        });
        self.deadlines.arm(key, Lane::Idle, now);
    }

    /// Remembers what an event reported about a connection.
    pub fn note(&mut self, key: usize, readable: bool, eof: bool) {
        if let Some(guest) = self.guests.get_mut(key) {
            guest.connection.note(readable, eof);
        }
    }

    /// Gives a connection a turn.
    pub fn give_turn(&mut self, key: usize, now: Instant, draining: bool) {
        // One that is left over may have been closed by an event of this tick.
        if let Some(guest) = self.guests.get_mut(key) {
            let site = &self.sites[guest.service as usize];
            let turn = guest.connection.advance(&mut self.desk, site, draining);
            self.settle(key, &turn, now);
        }
    }

    /// Gives another turn to the connections that ran out of steps in their last one.
    pub fn take_left_over(&mut self, now: Instant, draining: bool) {
        let due = self.left_over.len();
        for at in 0..due {
            self.give_turn(self.left_over[at], now, draining);
        }
        self.left_over.drain(..due);
    }

    /// Does what the end of a turn asks for.
    fn settle(&mut self, key: usize, turn: &Turn, now: Instant) {
        match *turn {
            Turn::Open {
                entered,
                unfinished,
            } => {
                if let Some(lane) = entered {
                    trace!(target: "onepoll", "Connection {key} enters {lane:?}");
                    self.deadlines.arm(key, lane, now);
                }
                if unfinished {
                    self.left_over.push(key);
                }
            }
            Turn::Over(reason) => self.close(key, reason),
        }
    }

    /// Closes the descriptor, which also takes it out of the poll (epoll(7)).
    fn close(&mut self, key: usize, reason: Reason) {
        debug!(target: "onepoll", "Connection {key} closed: {reason}");
        self.guests.remove(key);
        self.deadlines.disarm(key);
        self.freed = true;
    }

    /// Deals with everyone whose patience has ended.
    pub fn expire(&mut self, now: Instant) {
        while let Some(key) = self.deadlines.expired(now) {
            let guest = &mut self.guests[key];
            let lane = guest.connection.lane();
            debug!(target: "onepoll", "Connection {key} is overdue in {lane:?}");
            let turn = guest
                .connection
                .expire(&mut self.desk, &self.sites[guest.service as usize]);
            self.settle(key, &turn, now);
        }
    }

    /// Closes the connections that are idle at the end of the last call. Each gets one more
    /// look: closing a socket that holds a request would answer that with an RST.
    pub fn close_idle(&mut self, now: Instant, tally: &mut Tally) {
        for _ in 0..self.guests.len() {
            let Some(key) = self.deadlines.pop(Lane::Idle) else {
                break;
            };
            let guest = &mut self.guests[key];
            let site = &self.sites[guest.service as usize];
            guest.connection.note(true, false);
            match guest.connection.advance(&mut self.desk, site, true) {
                Turn::Open { entered: None, .. } => {
                    self.close(key, Reason::LastCall);
                    tally.idle += 1;
                }
                turn => self.settle(key, &turn, now),
            }
        }
    }

    /// Closes everything that is left at the drain's deadline. Those that linger have had
    /// their answer and count as neither idle nor cut.
    pub fn cut(&mut self, tally: &mut Tally) {
        for key in 0..self.guests.capacity() {
            let Some(guest) = self.guests.get(key) else {
                continue;
            };
            match guest.connection.lane() {
                Lane::Idle => tally.idle += 1,
                Lane::Lingering => {}
                Lane::Head | Lane::Body | Lane::Writing => tally.cut += 1,
            }
            self.close(key, Reason::Cut);
        }
    }
}
