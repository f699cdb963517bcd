//! A connection as the table keeps it: with the service that it came to, and the time since when
//! it is where it is. That is what tells whether it is still waited for in a stop.
//!
//! The invariant: whoever is late is hurried before anything else is done with it.

use std::mem;

use log::debug;

use crate::event_loop::clock::Moment;
use crate::event_loop::connection::Connection;
use crate::event_loop::desk::Desk;
use crate::event_loop::stream::{Edge, Socket};
use crate::event_loop::timers::Lane;
use crate::event_loop::turn::{Reason, Turn};
use crate::http::Site;
use crate::limits::{BODY_GRACE, BODY_RATE_MIN, HELD_MAX};
use crate::observe::counters::{Counters, Moved};
use crate::observe::recorder::{Number, Place, Record, Recorder};
use crate::services::Service;

/// What all connections share.
#[derive(Debug)]
pub struct House {
    /// What each service serves, at its index.
    pub sites: [Site; Service::ALL.len()],
    /// The buffers.
    pub desk: Desk,
    /// What has been counted.
    pub counters: Counters,
    /// What has happened to whom.
    pub recorder: Recorder,
    /// Responses are logged: the level is debug.
    pub logs: bool,
    /// Then these are the requests that wait for their responses, and since when.
    pub waiting: Vec<(Number, String, Moment)>,
    /// From when on nobody is waited for who takes long bodies and may ask for more and more.
    pub hurry: Moment,
}

impl House {
    /// The request of a connection that waits for its response.
    fn take_waiting(&mut self, number: Number) -> Option<(Number, String, Moment)> {
        let at = self.waiting.iter().position(|waits| waits.0 == number)?;
        Some(self.waiting.swap_remove(at))
    }

    /// Adds what a turn has moved to what has been moved before.
    #[inline]
    pub fn book(&mut self, service: Service) -> Moved {
        let moved = mem::take(&mut self.desk.moved);
        self.counters.traffic[service as usize] += moved;
        moved
    }
}

/// A connection and the service that it came to.
#[derive(Debug)]
pub struct Guest<S> {
    /// Which one it is.
    pub number: Number,
    /// The service that it came to.
    pub service: Service,
    /// The conversation itself.
    pub connection: Connection<S>,
    /// The lane that it is in, as far as has been recorded.
    pub lane: Lane,
    /// When it entered that.
    pub entered: Moment,
    /// It is among those that are left over.
    pub left_over: bool,
    /// It is among those who wait for a page.
    pub reads: bool,
}

impl<S: Socket> Guest<S> {
    /// One that has just come.
    pub fn new(number: Number, service: Service, socket: S, now: Moment) -> Guest<S> {
        Guest {
            number,
            service,
            connection: Connection::new(socket),
            lane: Lane::Idle,
            entered: now,
            left_over: false,
            reads: false,
        }
    }

    /// Gives the connection a turn. Answers that are withheld have their own time from the
    /// first of them on; long bodies are not withheld, and all have the same time in a stop.
    pub fn advance(&mut self, house: &mut House, now: Moment) -> Turn {
        let is_late = match self.connection.lane() {
            Lane::Held if self.connection.takes_long() => now >= house.hurry,
            Lane::Held => now - self.entered >= HELD_MAX,
            Lane::Writing => now >= house.hurry,
            _ => false,
        };
        if is_late {
            self.connection.hurry();
        }
        if house.logs {
            return self.logged(Guest::run, house, now);
        }
        self.run(house)
    }

    #[inline(always)]
    fn run(&mut self, house: &mut House) -> Turn {
        let site = &mut house.sites[self.service as usize];
        let turn = self.connection.advance(&mut house.desk, site);
        if turn.is_unfinished() {
            house.counters.unfinished += 1;
        }
        turn
    }

    /// Does something that may answer requests, and logs the responses; at `--log debug` alone.
    #[cold]
    fn logged(
        &mut self,
        does: fn(&mut Guest<S>, &mut House) -> Turn,
        house: &mut House,
        now: Moment,
    ) -> Turn {
        // Once the connection has ended, the kernel does not know its peer any more.
        let peer = self.connection.peer();
        let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
        let waiting = house.take_waiting(self.number);
        let (_, request, since) = waiting.unwrap_or_else(|| (self.number, String::new(), now));
        // A request counts from its last byte on, and so with its delay.
        let is_whole = self.connection.lane() == Lane::Delayed;
        let mut since = if is_whole { since } else { now };
        house.sites[self.service as usize].put_request(request);
        let turn = does(self, house);
        let (number, site) = (self.number, &mut house.sites[self.service as usize]);
        for response in site.take_responses() {
            let micros = (Moment::now() - since).as_micros();
            let (colon, why) = response.why.as_ref().map_or(("", ""), |why| (": ", why));
            debug!(
                target: self.service.name(),
                "{peer}, connection {number}: {response}, {micros} us{colon}{why}"
            );
            since = now;
        }
        let request = site.take_request();
        if !request.is_empty() {
            house.waiting.push((number, request, since));
        }
        turn
    }

    /// The same although no event has told of anything. It may do so later, as many come at
    /// once, or the process was stopped: whoever has sent in time is not to suffer from that.
    pub fn look_once_more(&mut self, house: &mut House, now: Moment) -> Turn {
        self.connection.note(Edge::READABLE);
        self.advance(house, now)
    }

    /// Has it recorded that it has come.
    pub fn arrive(&self, house: &mut House, now: Moment) {
        self.record(None, Place::In(self.lane), house, now);
    }

    /// Enters a lane, perhaps the one that it was in, and has that recorded.
    #[inline(always)]
    pub fn enter(&mut self, lane: Lane, house: &mut House, now: Moment) {
        let from = mem::replace(&mut self.lane, lane);
        self.entered = now;
        self.record(Some(from), Place::In(lane), house, now);
    }

    /// Begins to count what comes of a body with what this turn has brought.
    pub fn begin_progress(&mut self, house: &House) {
        self.connection.received = house.desk.moved.received;
    }

    /// Adds what a turn has moved without a change of lane.
    pub fn add_progress(&mut self, house: &mut House) {
        let moved = house.book(self.service);
        let received = &mut self.connection.received;
        *received = received.saturating_add(moved.received);
    }

    /// Whether the body that comes has fallen below [`BODY_RATE_MIN`] since [`BODY_GRACE`] has
    /// passed.
    pub fn sends_too_slowly(&self, now: Moment) -> bool {
        let time = now - self.entered;
        let least = BODY_RATE_MIN * time.as_secs();
        self.lane == Lane::Body && time > BODY_GRACE && u64::from(self.connection.received) < least
    }

    /// Has it recorded that it has gone.
    pub fn leave(&self, reason: Reason, house: &mut House, now: Moment) {
        house.take_waiting(self.number);
        self.record(Some(self.lane), Place::Gone(reason), house, now);
    }

    #[inline(always)]
    fn record(&self, from: Option<Lane>, to: Place, house: &mut House, now: Moment) {
        let Moved {
            answers,
            received,
            sent,
            ..
        } = house.book(self.service);
        house.recorder.note(Record {
            at: now,
            tick: house.recorder.tick(),
            number: self.number,
            service: self.service,
            from,
            to,
            answers,
            received,
            sent,
        });
    }

    /// Tells the connection that its patience has ended.
    pub fn expire(&mut self, house: &mut House, now: Moment) -> Turn {
        if house.logs {
            return self.logged(Guest::run_expired, house, now);
        }
        self.run_expired(house)
    }

    fn run_expired(&mut self, house: &mut House) -> Turn {
        let site = &mut house.sites[self.service as usize];
        self.connection.expire(&mut house.desk, site)
    }
}
