//! The connection table: who is connected, to which service, and until when. It gives turns
//! and does what their ends ask for. Knows nothing of the poll, of listeners or of signals;
//! the server tells it what has happened, what time it is and how far a stop has come.
//!
//! The invariant: every connection in the table has a deadline, so none stays for ever.

mod ending;
mod watching;

use std::collections::VecDeque;
use std::mem;

use log::debug;
use slab::Slab;

use crate::counters::Counters;
use crate::deadlines::{Deadlines, Lane};
use crate::desk::Desk;
use crate::guest::{Guest, House};
use crate::moment::Moment;
use crate::recorder::{Number, Recorder};
use crate::service::{Content, Service};
use crate::turn::{Change, Reason, Turn};
use crate::wire::{Edge, Socket};

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
    /// An empty table. What its connections are served with is said by `content`.
    pub fn new(content: &Content) -> Table<S> {
        Table {
            house: House {
                sites: Service::ALL.map(|service| service.site(content)),
                desk: Desk::new(),
                counters: Counters::default(),
                recorder: Recorder::new(),
                hurry: Moment::NEVER,
            },
            guests: Slab::new(),
            deadlines: Deadlines::new(content.delay),
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

    /// Whether there is one to `service`.
    pub fn has(&self, service: Service) -> bool {
        self.present[service as usize] > 0
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
                        self.house.book(guest.service);
                        self.deadlines.renew(key, lane, now);
                    }
                    Change::Again(lane) => {
                        self.deadlines.renew(key, lane, now);
                        guest.enter(lane, &mut self.house, now);
                    }
                    Change::Entered(lane) => {
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

    /// Deals with everyone whose patience has ended.
    pub fn expire(&mut self, now: Moment) {
        while let Some(key) = self.deadlines.expired(now) {
            let guest = &mut self.guests[key];
            let lane = guest.connection.lane();
            let mut turn = guest.look_once_more(&mut self.house, now);
            if turn.is_without_change() {
                if guest.connection.lingers_on() {
                    self.house.book(guest.service);
                    self.deadlines.arm(key, lane, now);
                    continue;
                }
                // An answer that is given in time is nobody's fault.
                if lane != Lane::Delayed {
                    let number = guest.number;
                    debug!(target: "onepoll", "Connection {number} is overdue: {}", lane.name());
                    self.house.counters.overdue[lane as usize] += 1;
                }
                turn = guest.expire(&mut self.house);
                if lane == Lane::Delayed {
                    // None if they are withheld.
                    let answers = self.house.desk.moved.answers;
                    self.house.counters.delay(answers, now - guest.entered);
                }
            }
            self.settle(key, &turn, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::ErrorKind;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::limits::{
        FAREWELL_PATIENCE, HEAD_PATIENCE, IDLE_PATIENCE, INBOX, LINGERING_PATIENCE, LINGERINGS_MAX,
        STEPS_PER_TURN, WRITING_PATIENCE,
    };
    use crate::script::{Act, Kernel, Script};
    use crate::stop::Tally;

    const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

    /// The kernel behind one connection, and the key of that.
    struct Peer {
        key: usize,
        kernel: Rc<RefCell<Kernel>>,
    }

    impl Peer {
        /// Connects to the main service.
        fn connect(table: &mut Table<Script>, now: Moment) -> Peer {
            let kernel = Rc::new(RefCell::new(Kernel::default()));
            let key = table.next_key();
            table.admit(Service::Main, Script(Rc::clone(&kernel)), now);
            Peer { key, kernel }
        }

        /// Sends something that no event has told of yet.
        fn send(&self, text: &str) {
            let bytes = text.as_bytes().to_vec();
            self.kernel.borrow_mut().reads.push_back(Act::Give(bytes));
        }

        /// Takes only so many bytes of each of the next writes, zero for no room at all.
        fn take(&self, lens: &[usize]) {
            let acts = lens.iter().map(|&len| match len {
                0 => Act::Fail(ErrorKind::WouldBlock),
                _ => Act::Take(len),
            });
            self.kernel.borrow_mut().writes.extend(acts);
        }

        /// The calls since the last time.
        fn calls(&self) -> Vec<&'static str> {
            mem::take(&mut self.kernel.borrow_mut().calls)
        }
    }

    /// What the server does with an event.
    fn edge(table: &mut Table<Script>, peer: &Peer, now: Moment) {
        table.meet(peer.key, Edge::READABLE, now);
    }

    #[test]
    fn who_sends_on_and_on_gets_no_more_turns_than_others() {
        let now = Moment::now();
        let mut table = Table::new(&Content::default());
        let peer = Peer::connect(&mut table, now);
        let head = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
        peer.send(&[head, &"x".repeat(99 * INBOX)].concat());
        for tick in 0..8 {
            edge(&mut table, &peer, now);
            table.take_left_over(now);
            let (calls, turns) = (peer.calls().len(), if tick == 0 { 2 } else { 1 });
            assert_eq!(calls, turns * STEPS_PER_TURN, "in tick {tick}");
            assert_eq!(table.left_over, [peer.key], "in tick {tick}");
        }
    }

    #[test]
    fn a_turn_that_is_left_over_is_forgotten_with_its_connection() {
        let now = Moment::now();
        let mut table = Table::new(&Content::default());
        let peer = Peer::connect(&mut table, now);
        peer.send(&HELLO.repeat(STEPS_PER_TURN * INBOX / HELLO.len() + 1));
        edge(&mut table, &peer, now);
        assert!(!table.left_over.is_empty());
        table.cut(now, &mut Tally::default());
        table.take_left_over(now);
        assert!(table.left_over.is_empty() && table.is_empty());
    }

    #[test]
    fn patience_ends_in_every_phase_and_is_counted() {
        let start = Moment::now();
        let mut table = Table::new(&Content::default());
        let [_silent, halfway, posting, deaf, told] =
            [(); 5].map(|()| Peer::connect(&mut table, start));
        deaf.take(&[9, 0, 0]);
        for (peer, text) in [
            (&halfway, &HELLO[..9]),
            (
                &posting,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            ),
            (&deaf, HELLO),
            (&told, "nonsense\r\n\r\n"),
        ] {
            peer.send(text);
            edge(&mut table, peer, start);
        }
        for (wait, present, overdue) in [
            (LINGERING_PATIENCE, 4, "lingering 1"),
            // Two of them get a 408 and linger.
            (HEAD_PATIENCE, 4, "head 1, body 1, lingering 1"),
            (
                HEAD_PATIENCE + LINGERING_PATIENCE,
                2,
                "head 1, body 1, lingering 3",
            ),
            (
                WRITING_PATIENCE,
                1,
                "head 1, body 1, writing 1, lingering 3",
            ),
            (
                IDLE_PATIENCE,
                0,
                "idle 1, head 1, body 1, writing 1, lingering 3",
            ),
        ] {
            table.expire(start + wait - Duration::from_nanos(1));
            assert!(
                table.len() > present || wait == HEAD_PATIENCE,
                "not before {wait:?}"
            );
            table.expire(start + wait);
            let told = table
                .counters()
                .overdue()
                .map(|overdue| overdue.to_string());
            assert_eq!(
                (table.len(), told.as_deref()),
                (present, Some(overdue)),
                "{wait:?}"
            );
        }
        for peer in [halfway, posting] {
            assert!(peer.kernel.borrow().sent.starts_with(b"HTTP/1.1 408 "));
        }
    }

    #[test]
    fn who_has_left_is_not_waited_for() {
        let start = Moment::now();
        let mut table = Table::new(&Content::default());
        for text in ["", &HELLO[..9], HELLO] {
            let peer = Peer::connect(&mut table, start);
            peer.send(text);
            edge(&mut table, &peer, start);
            peer.kernel.borrow_mut().reads.push_back(Act::Eof);
            edge(&mut table, &peer, start);
            assert!(table.is_empty(), "after {text:?}");
        }
        assert!(table.deadlines.expired(Moment::NEVER).is_none());
        table.expire(start + IDLE_PATIENCE);
    }

    #[test]
    fn a_peer_that_goes_on_sending_is_lingered_for_and_not_for_ever() {
        let start = Moment::now();
        let mut table = Table::new(&Content::default());
        let peer = Peer::connect(&mut table, start);
        peer.send("nonsense\r\n\r\n");
        edge(&mut table, &peer, start);
        let mut now = start;
        let mut rounds = 0;
        while !table.is_empty() {
            peer.send("more of it");
            edge(&mut table, &peer, now);
            now += LINGERING_PATIENCE;
            table.expire(now);
            rounds += 1;
        }
        assert_eq!(rounds, 1 + LINGERINGS_MAX);

        let peer = Peer::connect(&mut table, now);
        peer.send("nonsense\r\n\r\nand then silence");
        edge(&mut table, &peer, now);
        table.expire(now + LINGERING_PATIENCE);
        assert!(table.is_empty(), "nothing has come behind the answer");
    }

    #[test]
    fn what_comes_while_somebody_lingers_is_booked_at_once() {
        let start = Moment::now();
        let mut table = Table::new(&Content::default());
        let peer = Peer::connect(&mut table, start);
        peer.send("nonsense\r\n\r\n");
        edge(&mut table, &peer, start);
        // No event tells of this; its deadline finds it, and is put off.
        peer.send("more of it");
        table.expire(start + LINGERING_PATIENCE);
        let traffic = table.counters().traffic;
        assert_eq!(traffic[Service::Main as usize].received, 12 + 10);
    }

    #[test]
    fn who_has_sent_in_time_is_not_overdue_although_no_event_told() {
        let start = Moment::now();
        let mut table = Table::new(&Content::default());
        let [idle, halfway] = [(); 2].map(|()| Peer::connect(&mut table, start));
        halfway.send(&HELLO[..9]);
        edge(&mut table, &halfway, start);
        idle.send(HELLO);
        halfway.send(&HELLO[9..]);
        table.expire(start + IDLE_PATIENCE);
        for peer in [idle, halfway] {
            assert!(peer.kernel.borrow().sent.starts_with(b"HTTP/1.1 200 "));
        }
        assert!(table.len() == 2 && table.counters().overdue().is_none());
        table.expire(start + IDLE_PATIENCE * 2);
        assert!(table.is_empty(), "and they have their deadlines again");
    }

    #[test]
    fn long_bodies_keep_nobody_here_for_long() {
        let mut now = Moment::now();
        let mut table = Table::new(&Content {
            body_size: 5000,
            ..Content::default()
        });
        let peer = Peer::connect(&mut table, now);
        peer.send(&HELLO.repeat(2));
        edge(&mut table, &peer, now);
        table.take_left_over(now);
        table.announce_close(Service::Main, now);
        // It asks for two more whenever it has had two.
        for _ in 0..20 {
            peer.send(&HELLO.repeat(2));
            now += Duration::from_millis(100);
            edge(&mut table, &peer, now);
            table.take_left_over(now);
        }
        let sent = String::from_utf8(peer.kernel.borrow().sent.clone()).expect("text");
        let closes = sent.matches("Connection: close").count();
        let answers = sent.matches("HTTP/1.1 200").count();
        assert!(
            closes == 1 && answers > 10 && answers < 30,
            "{closes}, {answers}"
        );
    }

    #[test]
    fn at_the_cut_who_has_more_on_its_way_than_is_read_loses() {
        for (batches, cut) in [(1, 0), (STEPS_PER_TURN + 2, 1)] {
            let now = Moment::now();
            let mut table = Table::new(&Content::default());
            let peer = Peer::connect(&mut table, now);
            peer.send(&HELLO.repeat(2));
            edge(&mut table, &peer, now);
            table.announce_close(Service::Main, now);
            peer.send(HELLO);
            edge(&mut table, &peer, now);
            peer.send(&HELLO.repeat(batches * INBOX / HELLO.len()));
            let mut tally = Tally::default();
            table.cut(now, &mut tally);
            let sent = String::from_utf8(peer.kernel.borrow().sent.clone()).expect("text");
            assert_eq!(sent.matches("Connection: close").count(), 1);
            assert_eq!((tally.cut, table.len()), (cut, 0), "{batches}");
        }
    }

    #[test]
    fn at_the_last_call_the_idle_are_dismissed_and_nobody_else() {
        let now = Moment::now();
        let mut table = Table::new(&Content::default());
        let [silent, idle, asking, halfway] = [(); 4].map(|()| Peer::connect(&mut table, now));
        idle.send(HELLO);
        edge(&mut table, &idle, now);
        halfway.send(&HELLO[..9]);
        edge(&mut table, &halfway, now);
        asking.send(HELLO);
        for peer in [&idle, &halfway] {
            peer.calls();
        }

        let mut tally = Tally::default();
        table.announce_close(Service::Main, now);
        table.dismiss_idle(Service::Main, now, &mut tally);
        assert_eq!((tally.idle, table.len()), (2, 4));
        assert_eq!(silent.calls(), ["recv", "finish"]);
        assert_eq!(idle.calls(), ["recv", "finish"]);
        assert_eq!(
            asking.calls(),
            ["recv", "send", "finish"],
            "it gets its answer first"
        );
        assert_eq!(halfway.calls(), [""; 0], "it may go on");
        table.dismiss_idle(Service::Main, now, &mut tally);
        assert_eq!(tally.idle, 2, "once is enough");

        table.expire(now + FAREWELL_PATIENCE);
        assert_eq!(
            table.len(),
            2,
            "the dismissed are not waited for any longer"
        );
        table.cut(now, &mut tally);
        assert_eq!(
            (tally.cut, table.len()),
            (1, 0),
            "who has an answer is not cut"
        );
    }
}
