//! The doors: a listener for each service, until a drain has let in everybody who waited
//! there. Knows when it makes sense to accept, and when it does not.
//!
//! The invariant: a lack of descriptors or memory concerns the whole process. So both doors
//! pause together, one warning tells of it, and it has gone when nobody is left waiting.

use std::io;
use std::net::SocketAddr;

use log::{debug, info, warn};
use mio::{Registry, Token};

use crate::event_loop::bound::Bound;
use crate::event_loop::clock::Moment;
use crate::event_loop::listener::{Accepted, Listener};
use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_PATIENCE};
use crate::services::Service;

// What belongs to a service stands at its index, in arrays that are written out here.
const _: () = assert!(Service::Diag as usize == 0 && Service::Main as usize == 1);

/// Both listeners.
#[derive(Debug)]
pub struct Doors {
    listeners: [Option<Listener>; Service::ALL.len()],
    /// Where they listen, or have listened.
    addresses: [SocketAddr; Service::ALL.len()],
    /// Somebody may be waiting somewhere, or the doors are to close. Otherwise, as in nearly
    /// every tick, there is nothing to be done about them.
    stirring: bool,
    /// From when on they close once nobody waits there.
    closing: Moment,
    /// Until when they pause.
    paused: Option<Moment>,
    /// That the process lacks something has been told, and has not ended since.
    starved: bool,
}

impl Doors {
    /// Opens both, each at the index of its service. Their tokens are `first` and the next.
    ///
    /// # Errors
    /// What the kernel says; the message names the service and the address.
    pub fn open(
        registry: &Registry,
        first: Token,
        [diag, main]: [Bound; Service::ALL.len()],
    ) -> io::Result<Doors> {
        let addresses = [diag.address(), main.address()];
        let token = |service| Token(first.0 + service as usize);
        let listeners = [
            Some(diag.listen(registry, token(Service::Diag))?),
            Some(main.listen(registry, token(Service::Main))?),
        ];
        for listener in listeners.iter().flatten() {
            let (service, origin) = (
                listener.service(),
                if listener.is_inherited() {
                    ", inherited"
                } else {
                    ""
                },
            );
            let address = addresses[service as usize];
            info!(target: service.name(), "Starting {} on {address}{origin}", service.title());
        }
        Ok(Doors {
            listeners,
            addresses,
            stirring: true,
            closing: Moment::NEVER,
            paused: None,
            starved: false,
        })
    }

    /// Where a service listens, with the port that the kernel has picked for port 0.
    pub fn address(&self, service: Service) -> SocketAddr {
        self.addresses[service as usize]
    }

    /// Remembers that somebody may be waiting at the door with this index.
    pub fn note(&mut self, index: usize) {
        if let Some(listener) = &mut self.listeners[index] {
            listener.note();
            self.stirring = true;
        }
    }

    /// Ends a pause early: something has been closed, and its descriptor is free again.
    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// Whether somebody may be waiting at a door, or one is to close.
    pub fn are_stirring(&self) -> bool {
        self.stirring
    }

    /// When the next attempt to accept makes sense; never while nobody waits, and the doors
    /// need not close because a connection `stays` anyway. A service that has no room does neither.
    pub fn next(&self, now: Moment, stays: bool, has_room: impl Fn(Service) -> bool) -> Moment {
        let listeners = self.listeners.iter().flatten();
        let mut open = listeners.filter(|listener| has_room(listener.service()));
        let next = if open.clone().any(Listener::is_ready) {
            now
        } else if stays || open.next().is_none() {
            Moment::NEVER
        } else {
            self.closing
        };
        self.paused.map_or(next, |paused| paused.max(next))
    }

    /// Warns, once until its queue is empty, that a service has all the connections that it may
    /// have while more wait.
    pub fn tell_full(&mut self, service: Service, count: usize) {
        let listener = self.listeners[service as usize].as_ref();
        if !self.starved && listener.is_some_and(Listener::has_waiting) {
            let title = service.title();
            warn!(target: service.name(), "{title} pauses accepting: it has {count} connections");
            self.starved = true;
        }
    }

    /// Accepts one connection, if somebody may be waiting and this is no pause. A door that is
    /// to close does so as nobody waits there, but not while somebody `stays` anyway.
    pub fn accept(&mut self, service: Service, now: Moment, stays: bool) -> Accepted {
        if self.paused.is_some_and(|until| now < until) {
            return Accepted::Nobody;
        }
        let closes = !stays && now >= self.closing;
        let slot = &mut self.listeners[service as usize];
        let asks = |listener: &&mut Listener| listener.is_ready() || closes;
        let Some(listener) = slot.as_mut().filter(asks) else {
            return Accepted::Nobody;
        };
        let accepted = listener.accept();
        match &accepted {
            Accepted::Stream(..) | Accepted::Lost => {}
            Accepted::Nobody => {
                if closes {
                    *slot = None;
                }
                let is_ready = self.listeners.iter().flatten().any(Listener::is_ready);
                self.starved &= is_ready;
                self.stirring = is_ready || self.closing < Moment::NEVER;
            }
            Accepted::Starved(error) => {
                if !self.starved {
                    warn!(target: service.name(), "{} pauses accepting: {error}", service.title());
                }
                (self.starved, self.paused) = (true, Some(now + ACCEPT_PAUSE));
            }
            Accepted::Failed => *slot = None,
        }
        accepted
    }

    /// Has them close once nobody waits there any more: whoever the kernel has let in is to be
    /// served, and whoever it has begun to let in has [`HANDSHAKE_PATIENCE`] to arrive, or
    /// longer if the process has to stay for others. A door that others hold, too, is let go
    /// at once: whoever waits there is theirs.
    pub fn close(&mut self, registry: &Registry, now: Moment) {
        (self.closing, self.stirring) = (now + HANDSHAKE_PATIENCE, true);
        for slot in &mut self.listeners {
            let Some(listener) = slot.take() else {
                continue;
            };
            let service = listener.service();
            let done = if listener.is_inherited() {
                listener.leave(registry)
            } else {
                slot.insert(listener).shut_out()
            };
            if let Err(error) = done {
                debug!(target: service.name(), "{} closes roughly: {error}", service.title());
            }
        }
    }

    /// Closes them at once, and says how many were still waiting there.
    pub fn turn_away(&mut self) -> usize {
        let listeners = self.listeners.iter_mut().filter_map(Option::take);
        listeners.map(Listener::turn_away).sum()
    }

    /// Whether there is no door any more.
    pub fn are_closed(&self) -> bool {
        self.listeners.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    /// Both doors, open on ports of their own.
    fn open() -> (Doors, Poll) {
        let bind = |service| {
            let loopback = "127.0.0.1:0".parse().expect("an address");
            Bound::new(service, loopback, false).expect("a free port")
        };
        let poll = Poll::new().expect("a poll");
        let doors = Doors::open(poll.registry(), Token(0), Service::ALL.map(bind));
        (doors.expect("they listen"), poll)
    }

    /// Whether each door is closed after an attempt to accept.
    fn closed(doors: &mut Doors, now: Moment, stays: bool) -> [bool; 2] {
        Service::ALL.map(|service| {
            assert!(matches!(
                doors.accept(service, now, stays),
                Accepted::Nobody
            ));
            doors.listeners[service as usize].is_none()
        })
    }

    #[test]
    fn doors_close_when_those_on_their_way_have_had_their_time() {
        let ((mut doors, poll), start) = (open(), Moment::now());
        assert_eq!(
            doors.next(start, false, |_| true),
            Moment::NEVER,
            "nobody waits"
        );
        doors.close(poll.registry(), start);
        let end = start + HANDSHAKE_PATIENCE;
        assert_eq!(doors.next(start, false, |_| true), end);
        assert_eq!(
            doors.next(start, true, |_| true),
            Moment::NEVER,
            "who stays will move first"
        );
        assert_eq!(
            closed(&mut doors, end - HANDSHAKE_PATIENCE / 2, false),
            [false; 2]
        );
        assert_eq!(
            closed(&mut doors, end, true),
            [false; 2],
            "somebody stays anyway"
        );
        assert_eq!(closed(&mut doors, end, false), [true; 2]);
        assert!(doors.are_closed());
        assert_eq!(doors.next(end, false, |_| true), Moment::NEVER);
    }

    #[test]
    fn doors_let_in_whoever_waits_before_they_close() {
        let ((mut doors, poll), start) = (open(), Moment::now());
        let _client = TcpStream::connect(doors.address(Service::Main)).expect("it is open");
        doors.close(poll.registry(), start);
        let end = start + HANDSHAKE_PATIENCE;
        let accepted = doors.accept(Service::Main, end, false);
        assert!(
            matches!(accepted, Accepted::Stream(..)),
            "no event has told of it"
        );
        assert_eq!(closed(&mut doors, end, false), [true; 2]);
    }

    #[test]
    fn doors_that_others_hold_are_let_go_and_heard_of_no_more() {
        let theirs = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let inherit = |service: Service| {
            let ours = theirs[service as usize].try_clone().expect("a descriptor");
            Bound::inherit(service, ours.into()).expect("it listens")
        };
        let mut poll = Poll::new().expect("a poll");
        let doors = Doors::open(poll.registry(), Token(0), Service::ALL.map(inherit));
        let mut doors = doors.expect("they listen");
        doors.close(poll.registry(), Moment::now());
        assert!(doors.are_closed());
        let _client = TcpStream::connect(doors.address(Service::Main)).expect("it listens");
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO))
            .expect("no error");
        assert!(events.is_empty());
        theirs[Service::Main as usize]
            .accept()
            .expect("whoever waits is theirs");
    }
}
