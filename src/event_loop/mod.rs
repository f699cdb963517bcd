//! The loop. One thread owns the poll, both listeners, the signal pipe and all connections,
//! and goes round in ticks; [`Server::run`] and `tick` are the program.
//!
//! ```text
//!   1 wait        until an event, a deadline, the stop's next change or the end of a pause
//!   2 clock       one moment for the whole tick; a new Date if the second has changed
//!   3 signals     begin the stop, so that the answers of this tick already announce it
//!   4 events      connections take a turn; listeners are only noted
//!   5 left over   connections that ran out of steps in the last tick, and live pages
//!   6 accept      from each listener, within a budget
//!   7 deadlines   of connections, of the idle grace, of the drain
//! ```
//!
//! The invariant: a slot that is freed in a tick is not filled again before all events of
//! that tick are over, so no event can reach the wrong connection. That is why accepting
//! comes after them; and those who are here already go before those who come.
//!
//! # Try it
//!
//! Under load a tick finds many events at once, and waits for nothing. Without, it sleeps.
//!
//! ```sh
//! onepoll --log warn & server=$!
//! wrk -t1 -c64 -d3s http://localhost:8080/hello & sleep 2
//! curl -s http://localhost:8081/loop # look for: events per tick
//! wait %1; kill $server
//! ```

pub mod bound;
pub mod budget;
pub mod clock;
pub mod connection;
pub mod connections;
pub mod descriptors;
pub mod desk;
pub mod doors;
mod ending;
pub mod guest;
pub mod listener;
pub mod outgoing;
pub mod phase;
pub mod shutdown;
pub mod signals;
pub mod stream;
pub mod timers;
pub mod turn;
mod watching;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use log::{debug, warn};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::event_loop::bound::{Bound, Reach};
use crate::event_loop::budget::Budget;
use crate::event_loop::doors::Doors;

use crate::cli::options::Options;
use crate::event_loop::clock::Moment;
use crate::event_loop::connections::Table;
use crate::event_loop::listener::Accepted;
use crate::event_loop::shutdown::{Stage, Stop, Tally};
use crate::event_loop::signals::Signals;
use crate::limits::{ACCEPTS_PER_TICK, CONNECTIONS_MAX, EVENTS_PER_TICK, LOG_PAUSE, START_MEMORY};
use crate::observe::statistics::{Meter, Step};
use crate::services::Service;
use crate::systemd::Inherited;

/// Connections have their slot for a token, so all others are at the far end.
const SIGNALS: Token = Token(usize::MAX);
/// The token of the first door; the other one follows.
const DOORS: usize = usize::MAX - Service::ALL.len();

/// The whole server, listening.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    signals: Signals,
    doors: Doors,
    table: Table<TcpStream>,
    /// How many connections main may have.
    connections_max: usize,
    meter: Meter,
    now: Moment,
    /// When the date in the replies is no longer true.
    restamp: Moment,
    stop: Stop,
    /// How far the stop had come when what it asks for was last done.
    followed: Stage,
    /// Answers that had been given when the stop began.
    answered_before: u64,
    tally: Tally,
}

impl Server {
    /// Installs the signal handlers and opens both listeners, in this order: a signal that
    /// arrives meanwhile is not lost. Sockets that were `inherited` stand in for those that
    /// the options ask for.
    ///
    /// # Errors
    /// What the kernel says; if it is about a listener, the message names it.
    pub fn bind(options: &Options, inherited: Inherited) -> io::Result<Server> {
        let cannot = |what| move |error| cannot(what, &error);
        require_memory().map_err(cannot("allocate buffers"))?;
        let mut signals = Signals::install().map_err(cannot("watch for signals"))?;
        let poll = Poll::new().map_err(cannot("make a poll"))?;
        let registered = signals.register(poll.registry(), SIGNALS);
        registered.map_err(cannot("watch for signals"))?;

        // Neither listens before both are bound: if one of them cannot be, nobody has
        // connected to the other yet.
        let [diag, main] = inherited;
        let bind = |service, address| Bound::new(service, address, options.reuse_port);
        let diag = diag.map_or_else(|| bind(Service::Diag, options.diag), Ok)?;
        let main = match main {
            None => {
                for address in options.listen.candidates() {
                    Reach::of(address).require_apart(diag.reach())?;
                }
                bind(Service::Main, options.listen)?
            }
            Some(main) => {
                main.reach().require_apart(diag.reach())?;
                main
            }
        };
        // What may fail comes ahead of listening, as clients connect from then on.
        let sites = Service::sites(&options.content)?;
        let connections_max = descriptors::connections_max(options.max_connections)
            .map_err(cannot("keep descriptors for connections"))?;
        let doors = Doors::open(poll.registry(), Token(DOORS), [diag, main])?;
        let now = Moment::now();
        Ok(Server {
            poll,
            signals,
            doors,
            table: Table::new(sites, &options.timeouts, options.content.delay),
            connections_max,
            meter: Meter::new(now, clock::since_1970()),
            now,
            restamp: now,
            stop: Stop::new(options.schedule),
            followed: Stage::Serving,
            answered_before: 0,
            tally: Tally::default(),
        })
    }

    /// Where a service listens, with the port that the kernel has picked for port 0.
    pub fn address(&self, service: Service) -> SocketAddr {
        self.doors.address(service)
    }

    /// Serves until a signal has come, or a listener failed, and the drain is over.
    ///
    /// # Errors
    /// Only those of `epoll_wait(2)`, none of which is expected.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TICK);
        while !self.is_over() {
            // What was said in a tick goes out before the next one waits.
            crate::log::flush();
            self.tick(&mut events)?;
        }
        Ok(())
    }

    fn tick(&mut self, events: &mut Events) -> io::Result<()> {
        self.wait(events)?;
        self.read_clock();
        self.take_signals(events);
        self.take_events(events);
        self.take_left_over();
        self.accept();
        self.keep_deadlines();
        self.read_meter(events);
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let mut until = self.table.next_turn(self.now);
        until = until.min(self.next_accept()).min(self.stop.next(self.now));
        if crate::log::has_unflushed_lines() {
            until = until.min(self.now + LOG_PAUSE);
        }
        let timeout = (until < Moment::NEVER).then(|| until - self.now);
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// The look at the clock that counts: what happens in a tick happens at one moment.
    fn read_clock(&mut self) {
        self.now = Moment::now();
        self.table.begin_tick();
        if self.now >= self.restamp {
            let (seconds, left) = clock::date();
            self.table.stamp(seconds);
            self.meter.pass(seconds);
            self.restamp = self.now + left;
            self.charge(Step::Clock, self.now);
        }
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                SIGNALS => {}
                Token(key) if key < DOORS => {
                    self.table.meet(key, event.into(), self.now);
                }
                Token(door) => {
                    self.doors.note(door - DOORS);
                    self.tell_if_full(Service::ALL[door - DOORS]);
                }
            }
        }
    }

    fn take_left_over(&mut self) {
        if !self.table.has_left_over() {
            return;
        }
        let start = Moment::now();
        self.meter
            .exhaust(Budget::Steps, self.table.take_unfinished());
        self.table.take_left_over(self.now);
        self.write_pages();
        self.charge(Step::LeftOver, start);
    }

    /// When the next attempt to accept makes sense.
    #[inline]
    fn next_accept(&self) -> Moment {
        if !self.doors.are_stirring() {
            return Moment::NEVER;
        }
        let has_room = |service| !self.is_full(service);
        self.doors.next(self.now, self.somebody_stays(), has_room)
    }

    /// Whether a service has all the connections that it may have.
    fn is_full(&self, service: Service) -> bool {
        let main_is_full = self.table.count(Service::Main) >= self.connections_max;
        self.table.len() == CONNECTIONS_MAX || service == Service::Main && main_is_full
    }

    fn tell_if_full(&mut self, service: Service) {
        if self.is_full(service) {
            self.doors.tell_full(service, self.table.count(service));
        }
    }

    fn accept(&mut self) {
        if self.table.take_freed() {
            self.doors.resume();
        }
        if self.next_accept() > self.now {
            return;
        }
        let start = Moment::now();
        for service in Service::ALL {
            let mut accepted = 0;
            while accepted < ACCEPTS_PER_TICK && self.accept_one(service) {
                accepted += 1;
            }
            let is_exhausted = accepted == ACCEPTS_PER_TICK;
            self.meter.exhaust(Budget::Accepts, u64::from(is_exhausted));
        }
        self.charge(Step::Accept, start);
    }

    /// Accepts a connection to a service; says whether there may be another one.
    fn accept_one(&mut self, service: Service) -> bool {
        if self.is_full(service) {
            self.tell_if_full(service);
            return false;
        }
        let stays = self.somebody_stays();
        match self.doors.accept(service, self.now, stays) {
            Accepted::Stream(stream, peer) => {
                self.admit(service, stream, peer);
                true
            }
            Accepted::Lost => true,
            Accepted::Nobody | Accepted::Starved(_) => false,
            Accepted::Failed => {
                self.tally.failed = true;
                self.stop.drain(self.now);
                self.follow_stop();
                false
            }
        }
    }

    fn admit(&mut self, service: Service, mut stream: TcpStream, peer: SocketAddr) {
        let key = self.table.next_key();
        // Once and for all: what a connection waits for is its own business, and a spurious
        // edge is cheaper than a system call for each change of mind.
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        match registry.register(&mut stream, Token(key), interest) {
            Ok(()) => {
                let number = self.table.admit(service, stream, self.now);
                debug!(target: service.name(), "Connection {number} accepted from {peer}");
            }
            Err(error) => {
                warn!(target: service.name(), "Connection from {peer} cannot be polled: {error}");
            }
        }
    }

    fn keep_deadlines(&mut self) {
        if !self.table.is_anybody_due(self.now) && !self.stop.has_begun() {
            return;
        }
        let start = Moment::now();
        self.table.expire(self.now);
        let (answers, time) = self.table.take_delayed();
        self.meter.delay(answers, time);
        if self.stop.is_draining() {
            self.send_home();
        }
        self.charge(Step::Deadlines, start);
    }
}

/// Makes sure that there is [`START_MEMORY`], in pieces: once a large one has been freed, glibc
/// takes larger ones than before from its heap, which then has holes (mallopt(3),
/// `M_MMAP_THRESHOLD`).
fn require_memory() -> io::Result<()> {
    let mut pieces: [Vec<u8>; 16] = Default::default();
    let size = START_MEMORY / pieces.len();
    let reserved = pieces
        .iter_mut()
        .try_for_each(|piece| piece.try_reserve_exact(size));
    reserved.map_err(|_| ErrorKind::OutOfMemory.into())
}

/// Says what could not be done, ahead of what the kernel says.
fn cannot(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("Cannot {what}: {error}"))
}

#[cfg(test)]
mod script;
