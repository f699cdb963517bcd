//! Both listeners, when the next attempt to accept makes sense, and how they close in a drain.
//!
//! The invariant: a lack of descriptors or memory concerns the whole process. So both listeners
//! pause together, one warning tells of it, and it is over when their queues are empty.

use std::io;

use log::{debug, info, warn};
use mio::Token;

use super::clock::Instant;
use super::kernel::{Kernel, ListeningSocket};
use super::listener::{Accepted, Listener};
use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIME};

/// What a listener is for. Diagnostics starts, accepts and exits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Tells whether the server is ready, and shows the loop.
    Diag,
    /// What the server is for.
    Main,
}

impl Service {
    /// Both services. Each is at the index that it converts to.
    pub const ALL: [Service; 2] = [Service::Diag, Service::Main];

    /// Its name in messages.
    pub fn title(self) -> &'static str {
        match self {
            Service::Diag => "Diagnostics Server",
            Service::Main => "Server",
        }
    }

    /// The target of its log lines, and its label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Service::Diag => "diag",
            Service::Main => "main",
        }
    }
}

/// The listener of each service, at its index, until it is closed.
#[derive(Debug)]
pub struct Listeners<L> {
    open: [Option<Listener<L>>; Service::ALL.len()],
    /// Until when accepting pauses.
    paused_until: Instant,
    /// That a service is full, by service, and that accepting pauses, has been logged.
    warned_full: [bool; Service::ALL.len()],
    warned_paused: bool,
    /// From when on a listener closes once its queue is empty.
    close_at: Instant,
    /// When a listener closes although connections wait. There is such an instant only where the
    /// kernel cannot ignore SYNs, as a queue may never be empty there.
    close_by: Instant,
}

impl<L: ListeningSocket> Listeners<L> {
    /// Lets clients connect. The token of each listener is `first` and its index.
    ///
    /// # Errors
    /// What the kernel says; the message names the service and the address.
    pub fn open<K: Kernel<Listener = L>>(
        listeners: Vec<Listener<L>>,
        kernel: &mut K,
        first: usize,
    ) -> io::Result<Listeners<L>> {
        let mut open = Service::ALL.map(|_| None);
        for mut listener in listeners {
            let at = listener.service() as usize;
            listener.listen(kernel, Token(first + at))?;
            open[at] = Some(listener);
        }
        for listener in open.iter().flatten() {
            let (service, address) = (listener.service(), listener.address());
            let origin = if listener.is_inherited() { ", inherited" } else { "" };
            info!(target: service.name(), "Starting {} on {address}{origin}", service.title());
        }
        let (paused_until, close_at) = (Instant::FIRST, Instant::NEVER);
        let (warned_full, warned_paused) = ([false; Service::ALL.len()], false);
        let close_by = Instant::NEVER;
        Ok(Listeners { open, paused_until, warned_full, warned_paused, close_at, close_by })
    }

    /// An event has told that a connection is in the queue of a service, which may have room for as
    /// many connections as it has.
    pub fn set_ready(&mut self, service: Service, has_room: bool) {
        self.warned_full[service as usize] &= !has_room;
        if let Some(listener) = &mut self.open[service as usize] {
            listener.set_ready();
        }
    }

    /// Ends a pause early, as a descriptor is free again.
    pub fn resume(&mut self) {
        self.paused_until = Instant::FIRST;
    }

    /// When the next attempt to accept makes sense: a connection may be in a queue, or a listener
    /// is to close. Until its last instant, a listener does not close while the process `stays` for
    /// a connection, and that of a service that is full neither accepts nor closes.
    pub fn next_accept(
        &self,
        now: Instant,
        stays: impl Fn() -> bool,
        is_full: impl Fn(Service) -> bool,
    ) -> Instant {
        let is_closing = self.close_at < Instant::NEVER;
        // In most ticks no client has come, and nothing closes.
        if !is_closing && !self.open.iter().flatten().any(Listener::is_ready) {
            return Instant::NEVER;
        }
        let may_close = is_closing && !stays();
        let mut next = Instant::NEVER;
        let last = if self.are_closed() { Instant::NEVER } else { self.close_by };
        for listener in self.open.iter().flatten() {
            let is_ready = listener.is_ready();
            if (is_ready || may_close) && !is_full(listener.service()) {
                next = if is_ready { now } else { next.min(self.close_at) };
            }
        }
        next.max(self.paused_until).min(last)
    }

    /// Warns that a service has all the connections that it may have while more wait. It does so
    /// once, until a client comes while there is room for as many again.
    pub fn warn_full(&mut self, service: Service, count: usize) {
        let listener = self.open[service as usize].as_ref();
        if !self.warned_full[service as usize] && listener.is_some_and(Listener::has_waiting) {
            let title = service.title();
            warn!(target: service.name(), "{title} pauses accepting: it has {count} connections");
            self.warned_full[service as usize] = true;
        }
    }

    /// Accepts a connection, if one may be in the queue and this is no pause. A listener that is
    /// to close does so when its queue is empty, but not while the process `stays`.
    pub fn accept(&mut self, service: Service, now: Instant, stays: bool) -> Accepted<L::Stream> {
        let closes = now >= self.close_at && !stays;
        let slot = &mut self.open[service as usize];
        let asks = |listener: &&mut Listener<L>| listener.is_ready() || closes;
        let Some(listener) = slot.as_mut().filter(asks).filter(|_| now >= self.paused_until) else {
            return Accepted::Empty;
        };
        let accepted = listener.accept();
        match &accepted {
            Accepted::Empty if closes => *slot = None,
            Accepted::Stream(..) | Accepted::Lost | Accepted::Empty => {}
            Accepted::Pause(error) => {
                if !self.warned_paused {
                    warn!(target: service.name(), "{} pauses accepting: {error}", service.title());
                }
                (self.warned_paused, self.paused_until) = (true, now + ACCEPT_PAUSE);
            }
            Accepted::Failed => *slot = None,
        }
        self.warned_paused &= self.open.iter().flatten().any(Listener::is_ready);
        accepted
    }

    /// Has the listeners close once their queues are empty: a client that the kernel has let in is
    /// served, and one that it has begun to let in has [`HANDSHAKE_TIME`] to arrive, or longer if
    /// the process stays for others. If the kernel cannot ignore SYNs, all clients have twice that
    /// time. An inherited socket is left at once: the clients in its queue belong to the processes
    /// that hold it, too.
    pub fn close<K: Kernel<Listener = L>>(&mut self, kernel: &mut K, now: Instant) {
        self.close_at = now + HANDSHAKE_TIME;
        for slot in &mut self.open {
            let Some(listener) = slot.take() else { continue };
            let service = listener.service();
            let done = if listener.is_inherited() {
                listener.leave(kernel)
            } else {
                slot.insert(listener).ignore_syns()
            };
            if let Err(error) = done {
                debug!(target: service.name(), "{} closes roughly: {error}", service.title());
                self.close_by = now + 2 * HANDSHAKE_TIME;
            }
        }
    }

    /// Closes the listeners whose time is over. The connections in their queues are reset.
    pub fn close_late(&mut self, now: Instant) {
        if now >= self.close_by {
            self.open = Service::ALL.map(|_| None);
        }
    }

    /// Closes them at once, and says how many connections were still in their queues.
    pub fn reject_backlog(&mut self) -> usize {
        self.open.iter_mut().filter_map(Option::take).map(Listener::reject_backlog).sum()
    }

    /// Whether all of them are closed.
    pub fn are_closed(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::event_loop::listening::Listening;
    use crate::event_loop::system::System;

    /// Both listeners on ports of their own, and the address of main.
    fn open() -> (Listeners<Listening>, SocketAddr, System) {
        let loopback = [([127, 0, 0, 1], 0).into()];
        let bind = |service| Listener::bind(service, &loopback, false).expect("a free port");
        let [diag, main] = Service::ALL.map(bind);
        let (address, mut system) = (main.address(), System::without_signals(Duration::ZERO));
        let listeners = Listeners::open(vec![diag, main], &mut system, 0);
        (listeners.expect("they listen"), address, system)
    }

    /// Whether each listener is closed after an attempt to accept.
    fn closed(listeners: &mut Listeners<Listening>, now: Instant, stays: bool) -> [bool; 2] {
        Service::ALL.map(|service| {
            assert!(matches!(listeners.accept(service, now, stays), Accepted::Empty));
            listeners.open[service as usize].is_none()
        })
    }

    #[test]
    fn listeners_close_when_clients_on_their_way_have_had_their_time() {
        let ((mut listeners, _, mut system), start) = (open(), Instant::now());
        let next = |listeners: &Listeners<Listening>, stays| {
            listeners.next_accept(start, || stays, |_| false)
        };
        assert_eq!(next(&listeners, false), start, "nothing is known of the queues");
        assert_eq!(closed(&mut listeners, start, false), [false; 2]);
        assert_eq!(next(&listeners, false), Instant::NEVER, "the queues are empty");
        listeners.close(&mut system, start);
        // As where the kernel ignores SYNs.
        listeners.close_by = Instant::NEVER;
        let end = start + HANDSHAKE_TIME;
        assert_eq!(next(&listeners, false), end);
        assert_eq!(next(&listeners, true), Instant::NEVER, "a connection stays");
        assert_eq!(closed(&mut listeners, end - HANDSHAKE_TIME / 2, false), [false; 2]);
        assert_eq!(closed(&mut listeners, end, true), [false; 2]);
        assert_eq!(closed(&mut listeners, end, false), [true; 2]);
        assert!(listeners.are_closed());
        assert_eq!(next(&listeners, false), Instant::NEVER);
    }

    #[test]
    fn listeners_let_in_the_clients_in_their_queues_before_they_close() {
        let ((mut listeners, address, mut system), start) = (open(), Instant::now());
        assert_eq!(closed(&mut listeners, start, false), [false; 2]);
        let _client = std::net::TcpStream::connect(address).expect("it is open");
        listeners.close(&mut system, start);
        let end = start + HANDSHAKE_TIME;
        let accepted = listeners.accept(Service::Main, end, false);
        assert!(matches!(accepted, Accepted::Stream(..)), "no event has told of it");
        assert_eq!(closed(&mut listeners, end, false), [true; 2]);
    }

    #[test]
    fn a_queue_that_never_ends_does_not_keep_its_listener_open() {
        let ((mut listeners, address, mut system), start) = (open(), Instant::now());
        let _client = std::net::TcpStream::connect(address).expect("it is open");
        listeners.close(&mut system, start);
        // As where the kernel ignores SYNs.
        listeners.close_by = Instant::NEVER;
        let next =
            |listeners: &Listeners<Listening>| listeners.next_accept(start, || true, |_| true);
        assert_eq!(next(&listeners), Instant::NEVER);
        let end = start + 2 * HANDSHAKE_TIME;
        listeners.close_late(end);
        assert!(!listeners.are_closed());
        // As where it cannot.
        listeners.close_by = end;
        assert_eq!(next(&listeners), end, "although the service is full and a client stays");
        listeners.close_late(end - HANDSHAKE_TIME);
        assert!(!listeners.are_closed());
        listeners.close_late(end);
        assert!(listeners.are_closed());
        assert_eq!(next(&listeners), Instant::NEVER);
    }
}
