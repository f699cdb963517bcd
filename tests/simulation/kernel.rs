//! The simulated kernel: every call that the loop makes, on the world of a seed.

use std::cell::{RefCell, RefMut};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use mio::Token;
use onepoll::event_loop::clock::Instant;
use onepoll::event_loop::kernel::{Kernel, ListeningSocket};
use onepoll::event_loop::kernel::{Readiness, Socket};
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::signals::Signal;
use onepoll::limits::EVENTS_PER_TICK;
use onepoll::platform::accept::PENDING_ERRORS;
use rustix::io::Errno;

use super::counts::{Accept, Effect};
use super::memory::Owner;
use super::plan::{Dialect, Fault};
use super::time::{MICRO, MILLI, Nanos, SECOND, instant, nanos};
use super::world::World;

/// The world that kernel, sockets and judge share.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

/// The world, for the time of a call.
pub struct Guard<'a> {
    world: RefMut<'a, World>,
    _owner: Owner,
}

impl Shared {
    pub fn new(world: World) -> Shared {
        Shared(Rc::new(RefCell::new(world)))
    }

    pub fn lock(&self) -> Guard<'_> {
        Guard { world: self.0.borrow_mut(), _owner: Owner::world() }
    }

    /// Returns `None` while a panic unwinds through a call.
    fn try_lock(&self) -> Option<Guard<'_>> {
        let world = self.0.try_borrow_mut().ok()?;
        Some(Guard { world, _owner: Owner::world() })
    }
}

impl Deref for Guard<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

pub struct Simulated {
    world: Shared,
    signals: Token,
    listeners: [Token; 2],
}

impl Simulated {
    pub fn new(world: Shared) -> Simulated {
        Simulated { world, signals: Token(0), listeners: [Token(0); 2] }
    }
}

impl Kernel for Simulated {
    type Stream = Stream;
    type Listener = Listening;
    type Events = Vec<(Token, Readiness)>;

    fn now(&self) -> Instant {
        let world = &mut *self.world.lock();
        world.now += 20;
        instant(world.now)
    }

    fn date(&self) -> (u64, Duration) {
        let world = &mut *self.world.lock();
        if world.strikes(Fault::DateJump, 4) {
            let time = world.random.time(SECOND, 100_000 * SECOND);
            let back = world.random.one_in(2);
            let offset = world.date_offset;
            world.date_offset = if back { offset - time } else { offset + time };
        }
        let since_1970 = world.date_offset + world.now;
        let seconds = since_1970 / SECOND;
        world.judge.dates.push(seconds);
        let left = SECOND - since_1970 % SECOND;
        world.judge.date_due = world.now + left;
        (seconds, Duration::from_nanos(left))
    }

    fn room_for_events() -> Vec<(Token, Readiness)> {
        Vec::new()
    }

    fn wait(
        &mut self,
        events: &mut Vec<(Token, Readiness)>,
        from: Instant,
        until: Instant,
    ) -> io::Result<u64> {
        let world = &mut *self.world.lock();
        let (from, until) = (nanos(from), nanos(until));
        world.judge_wait(from, until);
        world.show(|| format!("waits {}", how_long(from, until)));
        if world.judge.failure.is_some() {
            return Err(ErrorKind::Other.into());
        }
        events.clear();
        world.now += world.settings.call_time;
        world.happen();
        if until > world.now && !world.has_events() && world.strikes(Fault::EarlyWake, 20) {
            let soonest = until.min(world.next().unwrap_or(until)).min(world.now + SECOND);
            world.now += (soonest - world.now) / 2;
        } else {
            world.sleep(until);
            if world.pauses_left > 0 && world.strikes(Fault::Pause, world.settings.pause_in) {
                world.pause();
                world.happen();
            }
            self.collect(world, events);
        }
        world.judge_woken(from, until, events.len());
        world.show(|| format!("finds {}", self.describe(events)));
        Ok(0)
    }

    fn events(events: &Vec<(Token, Readiness)>) -> impl Iterator<Item = (Token, Readiness)> {
        events.iter().copied()
    }

    fn watch_signals(&mut self, token: Token) -> io::Result<()> {
        self.signals = token;
        Ok(())
    }

    fn take_signal(&mut self) -> Option<Signal> {
        let world = &mut *self.world.lock();
        let signal = world.signals.pop_front()?;
        world.show(|| format!("signal {signal:?}"));
        world.judge_signal(signal);
        Some(signal)
    }

    fn listen(&mut self, listener: &mut Listening, token: Token) -> io::Result<()> {
        self.listeners[listener.service as usize] = token;
        let queue = &mut self.world.lock().queues[listener.service as usize];
        queue.watched = true;
        queue.edge = !queue.connections.is_empty();
        Ok(())
    }

    fn leave(&mut self, listener: &mut Listening) -> io::Result<()> {
        let world = &mut *self.world.lock();
        let queue = &mut world.queues[listener.service as usize];
        (queue.watched, queue.edge, queue.left) = (false, false, true);
        world.counts.effect(Effect::LeavesInherited);
        world.judge_stops_accepting();
        Ok(())
    }

    fn watch(&mut self, stream: &mut Stream, token: Token) -> io::Result<()> {
        let world = &mut *self.world.lock();
        world.call();
        if world.strikes(Fault::FailedWatch, 8) {
            world.links[stream.link].failed = true;
            return Err(Errno::NOMEM.into());
        }
        let link = &mut world.links[stream.link];
        link.watched = true;
        assert_eq!(link.slot, Some(token.0), "a connection is watched under its slot");
        // There is room from the start, of which an event tells.
        let has_input = link.has_input();
        world.change(stream.link, has_input, true);
        Ok(())
    }
}

/// How long a wait may last.
fn how_long(from: Nanos, until: Nanos) -> String {
    match until {
        Nanos::MAX => "for an event".to_owned(),
        _ => format!("for {:.3} ms at most", until.saturating_sub(from) as f64 / MILLI as f64),
    }
}

impl Simulated {
    /// What events tell, in words.
    fn describe(&self, events: &[(Token, Readiness)]) -> String {
        let event = |&(token, readiness): &(Token, Readiness)| {
            let what = match readiness {
                Readiness { failed: true, .. } => "an error",
                Readiness { eof: true, .. } => "a FIN",
                Readiness { readable: true, .. } => "input",
                _ => "room",
            };
            match Service::ALL.iter().find(|&&it| self.listeners[it as usize] == token) {
                Some(service) => format!("clients of {}", service.name()),
                None if token == self.signals => "signals".to_owned(),
                None => format!("{what} in slot {}", token.0),
            }
        };
        match events {
            [] => "nothing".to_owned(),
            _ => events.iter().map(event).collect::<Vec<_>>().join(", "),
        }
    }

    /// Finds the events that there are, in any order, and at most as many as there is room for.
    fn collect(&self, world: &mut World, events: &mut Vec<(Token, Readiness)>) {
        let max = world.settings.events_max;
        let is_few = world.changed.len() > max;
        if is_few && max < EVENTS_PER_TICK {
            world.counts.fault(Fault::FewEvents);
        }
        if std::mem::take(&mut world.signal_edge) {
            events.push((self.signals, Readiness::READABLE));
        }
        for service in Service::ALL {
            let queue = &mut world.queues[service as usize];
            let is_spurious = queue.watched && world.faults.has(Fault::SpuriousEvent);
            let edge = std::mem::take(&mut queue.edge);
            if edge || is_spurious && world.random.one_in(16) {
                events.push((self.listeners[service as usize], Readiness::READABLE));
            }
        }
        while events.len() < max && !world.changed.is_empty() {
            let at = world.random.below(world.changed.len());
            let at = world.changed.swap_remove(at);
            let link = &mut world.links[at];
            link.has_event = false;
            if link.watched {
                let token = Token(link.slot.expect("it is open"));
                let [first, second] = link.take_events(world.settings.dialect);
                events.extend(first.map(|readiness| (token, readiness)));
                if second.is_some() && events.len() == max {
                    // There is room for one of its two events.
                    world.change(at, false, true);
                    break;
                }
                events.extend(second.map(|readiness| (token, readiness)));
            }
        }
        if !world.links.is_empty() && world.strikes(Fault::SpuriousEvent, 12) {
            let link = &world.links[world.random.below(world.links.len())];
            if let Some(slot) = link.slot.filter(|_| link.watched) {
                events.push((Token(slot), Readiness::READABLE));
            }
        }
        for at in (1..events.len()).rev() {
            events.swap(at, world.random.below(at + 1));
        }
    }
}

impl World {
    fn has_events(&self) -> bool {
        let is_queued = self.queues.iter().any(|queue| queue.edge);
        !self.changed.is_empty() || self.signal_edge || is_queued
    }

    /// Lets time pass until there is an event, or until an instant.
    fn sleep(&mut self, until: Nanos) {
        while !self.has_events() && self.now < until {
            match self.next().filter(|&next| next <= until) {
                Some(next) => {
                    self.now = next.max(self.now);
                    self.happen();
                }
                None if until == Nanos::MAX => {
                    self.fail("the loop waits for ever".to_owned());
                    return;
                }
                None => {
                    self.now = until;
                    if self.strikes(Fault::Oversleep, 8) {
                        self.now += self.random.time(MICRO, 30 * MILLI);
                    }
                    self.happen();
                }
            }
        }
    }
}

/// A simulated listening socket.
pub struct Listening {
    world: Shared,
    service: Service,
}

impl Listening {
    pub fn new(world: Shared, service: Service) -> Listening {
        Listening { world, service }
    }
}

impl ListeningSocket for Listening {
    type Stream = Stream;

    fn is_inherited(&self) -> bool {
        self.world.lock().settings.inherited
    }

    fn keep_nonblocking(&self) -> io::Result<()> {
        let world = &mut *self.world.lock();
        if world.settings.inherited && world.strikes(Fault::FailedListener, 30) {
            world.counts.accept(Accept::LostItsMode);
            world.judge_listener_fails();
            return Err(Errno::BADF.into());
        }
        Ok(())
    }

    fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let world = &mut *self.world.lock();
        world.call();
        let accepted = world.accept(self.service);
        let is_empty = accepted.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        world.judge.progress |= !is_empty;
        world.show(|| format!("accept on {}: {accepted:?}", self.service.name()));
        let link = accepted?;
        let peer = SocketAddr::from(([10, 0, 0, 1], u16::try_from(link).expect("few clients")));
        Ok((Stream { world: self.world.clone(), link }, peer))
    }

    fn has_waiting(&self) -> bool {
        !self.world.lock().queues[self.service as usize].connections.is_empty()
    }

    fn ignore_syns(&self) -> io::Result<()> {
        let world = &mut *self.world.lock();
        world.judge_stops_accepting();
        if world.settings.dialect == Dialect::Kqueue {
            world.counts.effect(Effect::ClosesRoughly);
            return Err(ErrorKind::Unsupported.into());
        }
        world.queues[self.service as usize].ignores_syns = true;
        world.counts.effect(Effect::IgnoresSyns);
        Ok(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(mut world) = self.world.try_lock() {
            world.close_listener(self.service);
        }
    }
}

impl World {
    fn accept(&mut self, service: Service) -> io::Result<usize> {
        if self.strikes(Fault::Interrupted, 10) {
            self.counts.accept(Accept::FailedConnection);
            return Err(Errno::INTR.into());
        }
        if self.strikes(Fault::FailedListener, 30) {
            self.counts.accept(Accept::FailedListener);
            self.judge_listener_fails();
            let errors =
                [Errno::INVAL, Errno::BADF, Errno::OPNOTSUPP, Errno::NOTSOCK, Errno::FAULT];
            return Err(self.random.of(&errors).into());
        }
        let lacks_memory = self.strikes(Fault::NoMemory, 6);
        if lacks_memory || self.has_no_descriptor || self.descriptors >= self.settings.descriptors {
            return Err(self.lack(service, lacks_memory).into());
        }
        let Some(link) = self.queues[service as usize].connections.pop_front() else {
            self.counts.accept(Accept::Empty);
            return Err(Errno::AGAIN.into());
        };
        self.judge.progress = true;
        if self.strikes(Fault::FailedConnection, 3) {
            self.links[link].failed = true;
            self.send_reset(link);
            if self.settings.dialect == Dialect::Kqueue && self.random.one_in(2) {
                self.counts.accept(Accept::WithoutCode);
                return Err(ErrorKind::InvalidInput.into());
            }
            self.counts.accept(Accept::FailedConnection);
            let errors = [Errno::CONNABORTED, Errno::CONNRESET, Errno::TIMEDOUT];
            let errors = [&errors[..], PENDING_ERRORS].concat();
            return Err(self.random.of(&errors).into());
        }
        self.counts.accept(Accept::Connection);
        self.descriptors += 1;
        self.links[link].accepted = true;
        Ok(link)
    }

    /// There is no descriptor, or no memory. macOS takes the connection out of the queue first.
    fn lack(&mut self, service: Service, lacks_memory: bool) -> Errno {
        let queue = &mut self.queues[service as usize].connections;
        self.judge.lacks_at = self.now;
        if self.settings.dialect == Dialect::Kqueue {
            match queue.pop_front() {
                Some(link) => {
                    self.links[link].failed = true;
                    self.send_reset(link);
                }
                None => return Errno::AGAIN,
            }
        }
        if lacks_memory {
            self.counts.accept(Accept::NoMemory);
            return self.random.of(&[
                Errno::NOMEM,
                Errno::NOBUFS,
                Errno::IO,
                Errno::PROTONOSUPPORT,
            ]);
        }
        self.counts.accept(Accept::NoDescriptor);
        self.random.of(&[Errno::MFILE, Errno::NFILE])
    }

    fn close_listener(&mut self, service: Service) {
        self.judge_closes_listener();
        let queue = &mut self.queues[service as usize];
        (queue.closed, queue.watched, queue.edge) = (true, false, false);
        // Other processes accept what is in the queue of a socket that they hold, too.
        let is_left = self.settings.inherited;
        for link in std::mem::take(&mut queue.connections) {
            self.links[link].failed = true;
            if !is_left {
                self.judge_unaccepted(link);
                self.send_reset(link);
            }
        }
        self.judge.progress = true;
    }
}

/// A simulated socket of a connection.
pub struct Stream {
    world: Shared,
    link: usize,
}

impl Read for Stream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let world = &mut *self.world.lock();
        world.call();
        let read = world.read(self.link, space);
        world.show_on(self.link, || format!("recv {read:?}"));
        read
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let world = &mut *self.world.lock();
        world.call();
        let written = world.write(self.link, &[bytes]);
        world.show_on(self.link, || format!("send {written:?} of {}", bytes.len()));
        written
    }

    fn write_vectored(&mut self, parts: &[IoSlice]) -> io::Result<usize> {
        let world = &mut *self.world.lock();
        world.call();
        let written = world.write(self.link, &[&parts[0], &parts[1]]);
        world.show_on(self.link, || format!("writev {written:?}"));
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        panic!("sockets have nothing to flush")
    }
}

impl Socket for Stream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let world = &mut *self.world.lock();
        world.call();
        world.judge.progress = true;
        world.show_on(self.link, || "shutdown".to_owned());
        let link = &mut world.links[self.link];
        if link.reset_arrived {
            link.error_told = true;
            return Err(ErrorKind::ConnectionReset.into());
        }
        link.fin_written = Some(world.now);
        world.judge_fin(self.link);
        world.send_fin(self.link);
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(mut world) = self.world.try_lock() {
            world.drop_stream(self.link);
        }
    }
}

impl World {
    fn read(&mut self, at: usize, space: &mut [u8]) -> io::Result<usize> {
        if self.strikes(Fault::Interrupted, 10) {
            return Err(ErrorKind::Interrupted.into());
        }
        let link = &mut self.links[at];
        link.refused = false;
        if link.arrived > link.read {
            let len = space.len().min(link.arrived - link.read);
            space[..len].copy_from_slice(&link.bytes[link.read..][..len]);
            link.read += len;
            self.judge.progress = true;
            self.judge_read(at);
            return Ok(len);
        }
        if link.reset_arrived && !link.error_told {
            link.error_told = true;
            self.judge.progress = true;
            return Err(ErrorKind::ConnectionReset.into());
        }
        if link.fin_arrived || link.reset_arrived {
            // To read it again and again is no progress.
            self.judge.progress |= !link.eof_read;
            link.eof_read = true;
            return Ok(0);
        }
        Err(ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, at: usize, parts: &[&[u8]]) -> io::Result<usize> {
        if self.strikes(Fault::Interrupted, 10) {
            return Err(ErrorKind::Interrupted.into());
        }
        let link = &mut self.links[at];
        if link.reset_arrived {
            let error =
                if link.error_told { ErrorKind::BrokenPipe } else { ErrorKind::ConnectionReset };
            link.error_told = true;
            self.judge.progress = true;
            return Err(error.into());
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut room = link.room(self.settings.buffer).min(len);
        if room > 1 && self.strikes(Fault::ShortWrite, 3) {
            room = 1 + self.random.below(room);
        }
        let link = &mut self.links[at];
        link.refused |= room < len;
        if room == 0 {
            link.blocked = true;
            if self.faults.has(Fault::SmallBuffer) {
                self.counts.fault(Fault::SmallBuffer);
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        self.judge.progress = true;
        let mut left = room;
        for part in parts {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            self.judge_write(at, part);
        }
        self.write_arrives_later(at);
        Ok(room)
    }

    fn drop_stream(&mut self, at: usize) {
        self.show_on(at, || "close".to_owned());
        self.descriptors -= 1;
        self.judge.progress = true;
        self.judge_drop(at);
        let link = &mut self.links[at];
        (link.dropped, link.watched) = (true, false);
        if link.reset_arrived || link.is_gone && link.fin_arrived {
            return;
        }
        if link.arrived > link.read {
            self.send_reset(at);
        } else if link.fin_written.is_none() {
            self.send_fin(at);
        }
    }
}
