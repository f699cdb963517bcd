//! What the table does with connections whose kernel is a script, in a time of our own.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::event_loop::script::{Act, Kernel, Script};
use crate::event_loop::shutdown::Tally;
use crate::http::{Status, Text};
use crate::limits::{
    BODY_GRACE, BODY_RATE_MIN, BODY_TIMEOUT, FAREWELL_PATIENCE, HEADER_TIMEOUT, IDLE_TIMEOUT,
    INBOX, LINGERING_PATIENCE, LINGERINGS_MAX, STEPS_PER_TURN, TIMEOUT_PRECISION, WRITE_TIMEOUT,
};
use crate::services::Content;

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

/// A table that serves what it does by default.
fn table() -> Table<Script> {
    table_with(&Content::default(), &Timeouts::default())
}

fn table_with(content: &Content, timeouts: &Timeouts) -> Table<Script> {
    let sites = Service::sites(content).expect("there is memory");
    Table::new(sites, timeouts, content.delay)
}

/// The kernel behind one connection, and the key of that.
struct Peer {
    key: usize,
    kernel: Rc<RefCell<Kernel>>,
}

impl Peer {
    /// Connects to the main service.
    fn connect(table: &mut Table<Script>, now: Moment) -> Peer {
        Peer::connect_to(Service::Main, table, now)
    }

    fn connect_to(service: Service, table: &mut Table<Script>, now: Moment) -> Peer {
        let kernel = Rc::new(RefCell::new(Kernel::default()));
        let key = table.next_key();
        table.admit(service, Script(Rc::clone(&kernel)), now);
        Peer { key, kernel }
    }

    fn sent(&self) -> String {
        String::from_utf8(self.kernel.borrow().sent.clone()).expect("text")
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
    let mut table = table();
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
    let mut table = table();
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
    let mut table = table();
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
        (HEADER_TIMEOUT, 4, "head 1, lingering 1"),
        (
            at_the_latest(BODY_TIMEOUT),
            4,
            "head 1, body 1, lingering 1",
        ),
        (
            at_the_latest(BODY_TIMEOUT) + LINGERING_PATIENCE,
            2,
            "head 1, body 1, lingering 3",
        ),
        (
            at_the_latest(WRITE_TIMEOUT),
            1,
            "head 1, body 1, writing 1, lingering 3",
        ),
        (
            at_the_latest(IDLE_TIMEOUT),
            0,
            "idle 1, head 1, body 1, writing 1, lingering 3",
        ),
    ] {
        table.expire(start + wait - Duration::from_nanos(1));
        assert_ne!(
            timed_out(&table).as_deref(),
            Some(overdue),
            "not before {wait:?}"
        );
        table.expire(start + wait);
        assert_eq!(
            (table.len(), timed_out(&table).as_deref()),
            (present, Some(overdue)),
            "{wait:?}"
        );
    }
    for peer in [halfway, posting] {
        assert!(peer.kernel.borrow().sent.starts_with(b"HTTP/1.1 408 "));
    }
}

/// The timeouts that have been counted.
fn timed_out(table: &Table<Script>) -> Option<String> {
    let overdue = table.counters().overdue();
    overdue.map(|overdue| overdue.to_string())
}

/// How long a timeout that may be renewed takes at most.
fn at_the_latest(timeout: Duration) -> Duration {
    timeout + timeout / TIMEOUT_PRECISION
}

/// The status of a POST with a body of so many bytes, of which `rate` come each second.
fn upload(len: u64, rate: u64, timeouts: &Timeouts) -> (String, Duration) {
    let start = Moment::now();
    let mut table = table_with(&Content::default(), timeouts);
    let peer = Peer::connect(&mut table, start);
    let head = format!("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    peer.send(&head);
    edge(&mut table, &peer, start);
    let (mut now, mut left) = (start, len);
    while peer.sent().is_empty() {
        now += Duration::from_secs(1);
        table.expire(now);
        let some = left.min(rate);
        left -= some;
        peer.send(&"x".repeat(usize::try_from(some).expect("few")));
        edge(&mut table, &peer, now);
    }
    (peer.sent()[9..12].to_owned(), now - start)
}

#[test]
fn a_body_has_a_least_rate_behind_a_grace_period() {
    let timeouts = Timeouts::default();
    let (status, time) = upload(1 << 20, 1, &timeouts);
    assert_eq!(status, "408", "a byte a second");
    assert!(time > BODY_GRACE && time < 2 * BODY_GRACE, "{time:?}");
    let (status, _) = upload(1 << 20, BODY_RATE_MIN - 1, &timeouts);
    assert_eq!(status, "408", "just below the rate");
    let (status, time) = upload(100 * BODY_RATE_MIN, BODY_RATE_MIN, &timeouts);
    assert_eq!((&*status, time), ("200", Duration::from_secs(100)));
    let (status, time) = upload(4, 1, &timeouts);
    assert_eq!(
        (&*status, time),
        ("200", Duration::from_secs(4)),
        "in grace"
    );
}

#[test]
fn each_timeout_is_the_one_that_was_set() {
    let timeouts = Timeouts {
        idle: Duration::from_secs(1),
        header: Duration::from_secs(2),
        body: Duration::from_secs(3),
        write: Duration::from_secs(4),
    };
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    for (text, room, name, timeout) in [
        ("", &[][..], "idle 1", timeouts.idle),
        (HELLO, &[], "idle 1", timeouts.idle),
        (&HELLO[..9], &[], "head 1", timeouts.header),
        (post, &[], "body 1", timeouts.body),
        (HELLO, &[1, 0, 0, 0], "writing 1", timeouts.write),
    ] {
        let start = Moment::now();
        let mut table = table_with(&Content::default(), &timeouts);
        let peer = Peer::connect(&mut table, start);
        peer.take(room);
        if !text.is_empty() {
            peer.send(text);
            edge(&mut table, &peer, start);
        }
        table.expire(start + timeout - Duration::from_nanos(1));
        assert_eq!(timed_out(&table), None, "{name} in {text:?}");
        table.expire(start + at_the_latest(timeout));
        assert_eq!(timed_out(&table).as_deref(), Some(name), "{text:?}");
    }
}

#[test]
fn who_has_left_is_not_waited_for() {
    let start = Moment::now();
    let mut table = table();
    for text in ["", &HELLO[..9], HELLO] {
        let peer = Peer::connect(&mut table, start);
        peer.send(text);
        edge(&mut table, &peer, start);
        peer.kernel.borrow_mut().reads.push_back(Act::Eof);
        edge(&mut table, &peer, start);
        assert!(table.is_empty(), "after {text:?}");
    }
    assert!(table.deadlines.expired(Moment::NEVER).is_none());
    table.expire(start + IDLE_TIMEOUT);
}

#[test]
fn a_peer_that_goes_on_sending_is_lingered_for_and_not_for_ever() {
    let start = Moment::now();
    let mut table = table();
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
    let mut table = table();
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
    let mut table = table();
    let [idle, halfway] = [(); 2].map(|()| Peer::connect(&mut table, start));
    halfway.send(&HELLO[..9]);
    edge(&mut table, &halfway, start);
    idle.send(HELLO);
    halfway.send(&HELLO[9..]);
    table.expire(start + at_the_latest(IDLE_TIMEOUT));
    for peer in [idle, halfway] {
        assert!(peer.kernel.borrow().sent.starts_with(b"HTTP/1.1 200 "));
    }
    assert!(table.len() == 2 && table.counters().overdue().is_none());
    table.expire(start + at_the_latest(IDLE_TIMEOUT) * 2);
    assert!(table.is_empty(), "and they have their deadlines again");
}

#[test]
fn long_bodies_keep_nobody_here_for_long() {
    let mut now = Moment::now();
    let content = Content {
        body_size: Some(5000),
        ..Content::default()
    };
    let mut table = table_with(&content, &Timeouts::default());
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
        let mut table = table();
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
fn at_the_idle_grace_the_idle_are_dismissed_and_nobody_else() {
    let now = Moment::now();
    let mut table = table();
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

#[test]
fn who_watches_until_the_cut_is_answered_and_not_cut() {
    let now = Moment::now();
    let mut table = table();
    let [silent, asking] = [(); 2].map(|()| Peer::connect_to(Service::Diag, &mut table, now));
    asking.send("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut tally = Tally::default();
    table.dismiss_idle(Service::Main, now, &mut tally);
    assert_eq!(
        (silent.calls(), asking.calls()),
        (vec![], vec![]),
        "not theirs"
    );
    table.announce_close(Service::Diag, now);
    table.dismiss_idle(Service::Diag, now, &mut tally);
    table.cut(now, &mut tally);
    assert!(asking.sent().contains("Connection: close"));
    assert_eq!((tally.idle, tally.cut, table.len()), (1, 0, 0));
}

#[test]
fn whoever_waits_for_a_page_is_found_once_and_given_it() {
    let now = Moment::now();
    let mut table = table();
    let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    // Behind so many long answers the turn ends for want of steps, as it does ahead of the page.
    for long in [0, 3, 8, 12] {
        let peer = Peer::connect_to(Service::Diag, &mut table, now);
        peer.send(&[ask("/").repeat(long), ask("/loop?x"), ask("/ready")].concat());
        edge(&mut table, &peer, now);
        let mut ticks = 0..100;
        let (key, path, query) = loop {
            assert!(ticks.next().is_some(), "nobody is found behind {long}");
            table.take_left_over(now);
            if let Some(reader) = table.next_reader() {
                break reader;
            }
        };
        assert_eq!((key, &*path, &*query), (peer.key, "/loop", "x"));
        edge(&mut table, &peer, now);
        let fields = "Content-Type: text/x\r\n";
        let (status, body) = (Status::OK, b"how it goes".to_vec());
        let text = Text {
            status,
            fields,
            body,
        };
        table.hand_over(key, text, now);
        let sent = peer.sent();
        let end = sent.split_once("how it goes").expect("it is given").1;
        assert!(end.contains("Version: "), "and what is behind it, too");
        // The event has put it into the queue again, and nobody waits there.
        assert!(table.next_reader().is_none() && !table.has_readers());
    }
}
