//! The world around the server: the clock, what is on its way, the queues of the listeners, and the
//! faults. It knows nothing of what a server should do; [`judge`](super::judge) does.
//!
//! The invariant: all that happens does so at its instant, and in the order in which it was
//! scheduled where two happen at once. Time passes in calls of the kernel alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use onepoll::event_loop::signals::Signal;

use super::counts::Counts;
use super::judge::Judge;
use super::link::{Link, Sent};
use super::plan::{Dialect, Fault, Faults, Plan, START, Settings};
use super::random::Random;
use super::requests::Catalog;
use super::time::{MICRO, MILLI, Nanos, SECOND};

/// What happens at an instant. Numbers are those of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// A client begins to connect: its SYN comes in.
    Syn(usize),
    /// The handshake ends: the connection is in the queue.
    Queued(usize),
    /// The client knows that it is connected.
    Connected(usize),
    /// The client does what it does next.
    Acts(usize),
    /// The client sends the body although it was not told to.
    Continues(usize),
    /// The client comes to its end.
    Ends(usize),
    /// Bytes of the client have come, up to here.
    Arrives(usize, usize),
    FinArrives(usize),
    ResetArrives(usize),
    /// Bytes of the server have come to the client, up to here.
    Delivered(usize, usize),
    /// A client that reads slowly reads on.
    Reads(usize),
    FinDelivered(usize),
    ResetDelivered(usize),
    /// An event that is late can be found now.
    Event(usize),
    Signal(usize),
    /// No descriptor is free from now on, or some are again.
    Descriptors(bool),
}

/// The queue of a listening socket.
#[derive(Debug, Default)]
pub struct Queue {
    pub connections: VecDeque<usize>,
    /// A connection has come of which no event has told.
    pub edge: bool,
    pub watched: bool,
    pub closed: bool,
    /// The socket was left to other processes.
    pub left: bool,
    pub ignores_syns: bool,
}

/// The world.
#[derive(Debug)]
pub struct World {
    pub now: Nanos,
    pub plan: Rc<Plan>,
    pub settings: Settings,
    pub faults: Faults,
    pub catalog: Rc<Catalog>,
    pub random: Random,
    happenings: BinaryHeap<Reverse<(Nanos, u32, Happening)>>,
    scheduled: u32,
    pub links: Vec<Link>,
    pub queues: [Queue; 2],
    /// Connections with a change of which no event has told.
    pub changed: Vec<usize>,
    pub signals: VecDeque<Signal>,
    pub signal_edge: bool,
    /// Sockets of connections that are open.
    pub descriptors: usize,
    pub has_no_descriptor: bool,
    pub log_blocked_until: Nanos,
    pub date_offset: Nanos,
    /// How often the process may still be paused: a life is about more than that.
    pub pauses_left: usize,
    pub judge: Judge,
    pub counts: Counts,
    /// Each call on a connection, if these are to be shown.
    pub calls: Option<Vec<String>>,
}

impl World {
    pub fn new(plan: Rc<Plan>, catalog: Rc<Catalog>, shows_calls: bool) -> World {
        let (settings, faults) = (plan.settings.clone(), plan.faults);
        let mut world = World {
            now: START,
            random: Random::new(plan.seed, 3),
            date_offset: settings.date,
            judge: Judge::new(&settings),
            settings,
            faults,
            catalog,
            happenings: BinaryHeap::with_capacity(plan.clients.len() + 32),
            scheduled: 0,
            links: Vec::with_capacity(plan.clients.len()),
            queues: Default::default(),
            changed: Vec::new(),
            signals: VecDeque::new(),
            signal_edge: false,
            descriptors: 0,
            has_no_descriptor: false,
            log_blocked_until: 0,
            pauses_left: 4,
            counts: Counts::default(),
            calls: shows_calls.then(Vec::new),
            plan,
        };
        for at in 0..world.plan.clients.len() {
            let client = world.plan.clients[at].clone();
            world.schedule(client.at, Happening::Syn(at));
            let kinds = world.catalog.kinds(client.service);
            let (mut bytes, mut requests) = (Vec::new(), Vec::with_capacity(client.requests.len()));
            for &kind in &client.requests {
                bytes.extend_from_slice(&kinds[kind].bytes);
                let never = Nanos::MAX;
                requests.push(Sent { kind, end: bytes.len(), whole_at: never, read_at: never });
            }
            world.links.push(Link::new(client, bytes, requests));
        }
        for at in 0..world.plan.signals.len() {
            world.schedule(world.plan.signals[at].0, Happening::Signal(at));
        }
        if world.faults.has(Fault::NoDescriptor) && world.random.one_in(2) {
            let from = START + world.random.time(MICRO, 2 * SECOND);
            world.schedule(from, Happening::Descriptors(false));
            let time = world.random.time(MILLI, 4 * SECOND);
            world.schedule(from + time, Happening::Descriptors(true));
        }
        world.happen();
        world
    }

    /// Schedules something.
    pub fn schedule(&mut self, at: Nanos, happening: Happening) {
        self.scheduled += 1;
        self.happenings.push(Reverse((at.max(self.now), self.scheduled, happening)));
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<Nanos> {
        self.happenings.peek().map(|&Reverse((at, ..))| at)
    }

    /// A fault of a kind that this life has, once in so many times.
    pub fn strikes(&mut self, fault: Fault, times: usize) -> bool {
        let strikes = self.faults.has(fault) && self.random.one_in(times);
        if strikes {
            self.counts.fault(fault);
        }
        strikes
    }

    /// The process makes a call, which takes time. It may be stopped meanwhile.
    pub fn call(&mut self) {
        self.now += self.settings.call_time;
        self.judge.calls_in_tick += 1;
        assert!(self.judge.calls_in_tick < 1 << 18, "a tick does not end");
        if self.pauses_left > 0 && self.strikes(Fault::Pause, self.settings.pause_in) {
            self.pause();
        }
        self.happen();
    }

    /// The process is stopped for a while.
    pub fn pause(&mut self) {
        self.pauses_left -= 1;
        let time = self.random.time(MILLI, 20 * SECOND);
        self.now += time;
        self.judge.paused += time;
    }

    /// Lets all happen that is due.
    pub fn happen(&mut self) {
        while let Some(&Reverse((at, _, happening))) = self.happenings.peek() {
            if at > self.now {
                break;
            }
            self.happenings.pop();
            self.happens(happening, at);
        }
    }

    fn happens(&mut self, happening: Happening, at: Nanos) {
        match happening {
            Happening::Syn(link) => self.syn(link, at),
            Happening::Queued(link) => self.queue(link),
            Happening::Connected(link) => self.client_connects(link, at),
            Happening::Acts(link) => self.client_acts(link, at),
            Happening::Continues(link) => self.client_continues(link, at),
            Happening::Ends(link) => self.client_ends(link, at),
            Happening::Arrives(link, end) => self.arrive(link, end, at),
            Happening::FinArrives(link) => {
                if !self.links[link].dropped {
                    self.show_on(link, || "a FIN arrives".to_owned());
                    self.links[link].fin_arrived = true;
                    self.change(link, true, false);
                }
            }
            Happening::ResetArrives(link) => self.reset(link),
            Happening::Delivered(link, end) => self.deliver(link, end, at),
            Happening::Reads(link) => self.client_reads(link, at),
            Happening::FinDelivered(link) => self.client_gets_fin(link, at),
            Happening::ResetDelivered(link) => self.client_gets_reset(link),
            Happening::Event(link) => self.list(link),
            Happening::Signal(signal) => {
                let signal = self.plan.signals[signal].1;
                if self.judge.signalled.is_some() && signal.starts_shutdown() {
                    self.counts.fault(Fault::SecondSignal);
                }
                if !self.signals.contains(&signal) {
                    self.signals.push_back(signal);
                }
                self.signal_edge = true;
            }
            Happening::Descriptors(are_free) => {
                self.has_no_descriptor = !are_free;
                if !are_free {
                    self.counts.fault(Fault::NoDescriptor);
                }
            }
        }
    }

    /// A SYN comes in. Where it is ignored, the client tries for as long as the life lasts.
    fn syn(&mut self, link: usize, at: Nanos) {
        let queue = &self.queues[self.links[link].service as usize];
        if !queue.closed && !queue.ignores_syns && !queue.left {
            let latency = self.links[link].client.latency;
            self.schedule(at + latency, Happening::Connected(link));
            // The ACK of the handshake, with which the data may come.
            self.schedule(at + 2 * latency, Happening::Queued(link));
        }
    }

    /// The end of a handshake comes in.
    fn queue(&mut self, link: usize) {
        let queue = &mut self.queues[self.links[link].service as usize];
        if queue.left {
            return;
        }
        if queue.closed {
            self.judge_late(link);
            self.links[link].failed = true;
            self.send_reset(link);
            return;
        }
        queue.connections.push_back(link);
        queue.edge |= queue.watched;
    }

    /// Bytes come in.
    fn arrive(&mut self, at: usize, end: usize, now: Nanos) {
        let link = &mut self.links[at];
        if link.dropped {
            self.send_reset(at);
            return;
        }
        let len = end.saturating_sub(link.arrived);
        link.arrived = link.arrived.max(end);
        while let Some(request) = link.requests.get_mut(link.whole)
            && request.end <= link.arrived
        {
            request.whole_at = now;
            link.whole += 1;
        }
        self.show_on(at, || format!("{len} bytes arrive"));
        self.change(at, true, false);
    }

    /// A reset comes in. What has come before can still be read.
    fn reset(&mut self, link: usize) {
        if !self.links[link].dropped && !self.links[link].reset_arrived {
            self.show_on(link, || "a reset arrives".to_owned());
            self.links[link].reset_arrived = true;
            self.change(link, true, true);
        }
    }

    /// Something has changed on a connection, of which an event has to tell.
    pub fn change(&mut self, at: usize, is_in: bool, is_out: bool) {
        let link = &mut self.links[at];
        if !link.watched {
            return;
        }
        link.in_edge |= is_in;
        link.out_edge |= is_out;
        if link.has_event {
            return;
        }
        link.has_event = true;
        if self.strikes(Fault::LateEvent, 4) {
            let time = self.random.time(MICRO, 5 * MILLI);
            self.schedule(self.now + time, Happening::Event(at));
        } else {
            self.changed.push(at);
        }
    }

    fn list(&mut self, link: usize) {
        if self.links[link].has_event {
            self.changed.push(link);
        }
    }

    /// The server has written so far.
    pub fn write_arrives_later(&mut self, at: usize) {
        let link = &mut self.links[at];
        let due = link.last_delivery.max(self.now + link.client.latency);
        link.last_delivery = due;
        let end = link.written;
        self.schedule(due, Happening::Delivered(at, end));
    }

    pub fn send_fin(&mut self, at: usize) {
        let link = &mut self.links[at];
        let due = link.last_delivery.max(self.now + link.client.latency);
        link.last_delivery = due;
        self.schedule(due, Happening::FinDelivered(at));
    }

    /// The kernel sends a reset. It overtakes nothing, and destroys what is not read.
    pub fn send_reset(&mut self, at: usize) {
        let link = &mut self.links[at];
        let due = link.last_delivery.max(self.now + link.client.latency);
        link.last_delivery = due;
        self.schedule(due, Happening::ResetDelivered(at));
    }

    /// The client has read, so there is room.
    pub fn make_room(&mut self, at: usize) {
        let buffer = self.settings.buffer;
        let (link, dialect) = (&mut self.links[at], self.settings.dialect);
        let enough = if dialect == Dialect::Epoll { buffer.div_ceil(3) } else { 1 };
        if link.blocked && link.room(buffer) >= enough {
            link.blocked = false;
            self.change(at, false, true);
        } else if dialect == Dialect::Kqueue && link.random.one_in(8) {
            // It tells of all room.
            self.change(at, false, true);
        }
    }

    /// Notes a call, if calls are to be shown.
    pub fn show(&mut self, what: impl FnOnce() -> String) {
        if let Some(calls) = &mut self.calls {
            let time = (self.now - START) as f64 / MILLI as f64;
            calls.push(format!("{time:>12.3} ms  {}", what()));
        }
    }

    /// Notes a call on a connection.
    pub fn show_on(&mut self, link: usize, what: impl FnOnce() -> String) {
        if self.calls.is_some() {
            let service = self.links[link].service.name();
            let name = match self.links[link].number {
                0 => format!("client {link} of {service}"),
                number => format!("connection {number} of {service}"),
            };
            self.show(|| format!("{name}: {}", what()));
        }
    }
}
