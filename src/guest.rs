//! A connection as the table keeps it: with the service that it came to, and the time since when
//! it is where it is. That is what tells whether it is still waited for in a stop.
//!
//! The invariant: whoever is late is hurried before anything else is done with it.

use std::collections::BTreeMap;
use std::mem;

use log::debug;

use crate::connection::Connection;
use crate::counters::{Counters, Moved};
use crate::deadlines::Lane;
use crate::desk::Desk;
use crate::http::{Response, Site};
use crate::limits::{BODY_GRACE, BODY_RATE_MIN, HELD_MAX};
use crate::moment::Moment;
use crate::recorder::{Number, Place, Record, Recorder};
use crate::service::Service;
use crate::turn::{Reason, Turn};
use crate::wire::{Edge, Socket};

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
    /// At `--log debug`, the requests that wait for their responses, and since when.
    pub waiting: BTreeMap<Number, (String, Moment)>,
    /// From when on nobody is waited for who takes long bodies and may ask for more and more.
    pub hurry: Moment,
}

impl House {
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
        let logs = self.resume_request(house, now);
        let site = &mut house.sites[self.service as usize];
        let turn = self.connection.advance(&mut house.desk, site);
        if turn.is_unfinished() {
            house.counters.unfinished += 1;
        }
        if let Some((since, peer)) = logs {
            self.log_responses(since, &peer, house, now);
        }
        turn
    }

    /// At `--log debug`, goes on with the request that waits, and says since when that is so and
    /// who asks: once the connection has ended, the kernel does not know its peer any more.
    #[inline]
    fn resume_request(&self, house: &mut House, now: Moment) -> Option<(Moment, String)> {
        let site = &mut house.sites[self.service as usize];
        if !site.logs_responses() {
            return None;
        }
        let peer = self.connection.peer();
        let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
        let waiting = house.waiting.remove(&self.number);
        let (request, since) = waiting.unwrap_or_else(|| (String::new(), now));
        site.put_request(request);
        Some((since, peer))
    }

    /// At `--log debug`, logs the responses that a turn has given, of which the first is to a
    /// request that came at `since`, and remembers the request that still waits.
    #[cold]
    fn log_responses(&self, since: Moment, peer: &str, house: &mut House, now: Moment) {
        let site = &mut house.sites[self.service as usize];
        let mut since = since;
        for response in site.take_responses() {
            let Response {
                request,
                status,
                bytes,
                why,
            } = response;
            let (number, code) = (self.number, status.code());
            let micros = (Moment::now() - since).as_micros();
            let why = why.map_or_else(String::new, |why| format!(": {}", why.text()));
            debug!(
                target: self.service.name(),
                "{peer}, connection {number}: {request} {code}, {bytes} bytes, {micros} us{why}"
            );
            since = now;
        }
        let request = site.take_request();
        if !request.is_empty() {
            house.waiting.insert(self.number, (request, since));
        }
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
    #[inline]
    pub fn enter(&mut self, lane: Lane, house: &mut House, now: Moment) {
        let from = mem::replace(&mut self.lane, lane);
        self.entered = now;
        self.connection.received = house.desk.moved.received;
        self.record(Some(from), Place::In(lane), house, now);
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
        house.waiting.remove(&self.number);
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
        let logs = self.resume_request(house, now);
        let site = &mut house.sites[self.service as usize];
        let turn = self.connection.expire(&mut house.desk, site);
        if let Some((since, peer)) = logs {
            self.log_responses(since, &peer, house, now);
        }
        turn
    }
}
