//! Connections on scripted sockets, at times that a test chooses.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::rc::Rc;

use super::*;
use crate::event_loop::script::{Act, Script, Scripted};
use crate::http::{Handler, Page, Route, Status};
use crate::limits::{
    BODY_GRACE, BODY_RATE_MIN, BODY_TIMEOUT, CONNECTION_BYTES, DEFERRED_MAX, DEFERRED_TIMEOUT,
    DELAY, HALF_CLOSED_ROUNDS_MAX, HALF_CLOSED_TIMEOUT, HEADER_TIMEOUT, IDLE_CLOSED_TIMEOUT,
    IDLE_TIMEOUT, INPUT, PAGE_MAX, READS_PER_RUN, TIMEOUT_PRECISION, WRITE_TIMEOUT,
};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

/// An observer that records what it is told.
#[derive(Default)]
struct Told {
    transitions: BTreeSet<(usize, usize)>,
    timeouts: [u64; StateName::ALL.len()],
    received: u64,
    closed: Vec<CloseReason>,
}

impl Handler for Told {
    fn render(&mut self, _path: &str, _query: &[u8]) -> Page {
        Page { status: Status::OK, fields: "", body: b"a page".to_vec() }
    }
}

impl Observer for Told {
    fn run_ends(&mut self, _slot: usize, traffic: Traffic) {
        self.received += u64::from(traffic.received);
    }

    fn state_changed(&mut self, _slot: usize, from: StateName, to: StateName, traffic: Traffic) {
        self.transitions.insert((from as usize, to as usize));
        self.received += u64::from(traffic.received);
    }

    fn timed_out(&mut self, _slot: usize, timeout: StateName) {
        self.timeouts[timeout as usize] += 1;
    }

    fn closed(&mut self, _slot: usize, _from: StateName, reason: CloseReason, traffic: Traffic) {
        self.received += u64::from(traffic.received);
        self.closed.push(reason);
    }
}

type Table = Connections<Scripted, Told>;

/// Connections that are served a text, and a page on diagnostics.
fn connections() -> Table {
    connections_with("Hello world.".into(), &Timeouts::default())
}

fn connections_with(body: Vec<u8>, timeouts: &Timeouts) -> Table {
    let main = Routes::new(vec![Route::new("/hello", body)]);
    let diag = vec![Route::new("/", "x".repeat(5000)), Route::dynamic("/loop")];
    Connections::new([Routes::new(diag), main], timeouts, DELAY, Told::default())
}

/// The kernel behind one connection, and its slot.
struct Peer {
    slot: usize,
    kernel: Rc<RefCell<Script>>,
}

impl Peer {
    /// Connects to the main service.
    fn connect(table: &mut Table, now: Instant) -> Peer {
        Peer::connect_to(Service::Main, table, now)
    }

    fn connect_to(service: Service, table: &mut Table, now: Instant) -> Peer {
        let kernel = Rc::new(RefCell::new(Script::default()));
        table.begin_tick(now);
        let peer = ([127, 0, 0, 1], 1).into();
        let added = table.add(service, Scripted(Rc::clone(&kernel)), peer);
        let peer = Peer { slot: added.expect("it waits").0, kernel };
        assert_eq!(peer.calls(), ["recv"], "it is read at once");
        peer
    }

    fn sent(&self) -> String {
        String::from_utf8(self.kernel.borrow().sent.clone()).expect("text")
    }

    /// Sends a text, without an event.
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

/// A readable event in a tick that begins now.
fn event(table: &mut Table, peer: &Peer, now: Instant) {
    table.begin_tick(now);
    table.on_event(peer.slot, Readiness::READABLE);
}

/// Timeouts in a tick that begins now.
fn expire(table: &mut Table, now: Instant) {
    table.begin_tick(now);
    table.expire();
}

#[test]
fn a_request_that_is_there_at_once_is_served_at_once() {
    let now = Instant::now();
    let close = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    for (request, slot, calls) in [
        (HELLO, Some(0), &["recv", "send"][..]),
        (&*close, None, &["recv", "send_last", "shutdown"]),
        (&HELLO[..9], Some(0), &["recv"]),
    ] {
        let mut table = connections();
        let reads = [Act::Give(request.as_bytes().to_vec())].into();
        let kernel = Rc::new(RefCell::new(Script { reads, ..Script::default() }));
        table.begin_tick(now);
        let peer = ([127, 0, 0, 1], 1).into();
        let added = table.add(Service::Main, Scripted(Rc::clone(&kernel)), peer);
        assert_eq!(added.map(|added| added.0), slot, "{request}");
        assert_eq!(kernel.borrow().calls, calls, "{request}");
        assert_eq!((table.len(), table.take_freed()), (slot.map_or(0, |_| 1), slot.is_none()));
    }
}

/// The system that tells of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Epoll,
    Kqueue,
}

/// What happens to a socket.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The poll watches it from now on.
    Registered,
    /// The peer has sent a text.
    Input(&'static str),
    /// The peer has taken output, so there is room for more.
    Room,
    /// The server has sent its FIN.
    ServerFin,
    Fin,
    Reset,
}

const READABLE: Readiness = Readiness::READABLE;
const WRITABLE: Readiness = Readiness { readable: false, eof: false, failed: false };
const FAILED: Readiness = Readiness { readable: true, eof: false, failed: true };
const RESET: Readiness = Readiness { failed: true, ..Readiness::EOF };

/// The events of a change. An event of epoll holds all that is true of a socket, and room is an
/// event only if the connection had none. kqueue has an event for each direction, and one whenever
/// room appears.
fn events_of(system: System, change: Change, is_writing: bool) -> Vec<Readiness> {
    match (system, change) {
        (_, Change::Input(_)) => vec![READABLE],
        (System::Epoll, Change::Room) if !is_writing => vec![],
        (System::Epoll, Change::ServerFin) => vec![WRITABLE, WRITABLE],
        (_, Change::Registered | Change::Room | Change::ServerFin) => vec![WRITABLE],
        (_, Change::Fin) => vec![Readiness::EOF],
        (System::Epoll, Change::Reset) => vec![RESET],
        (System::Kqueue, Change::Reset) => vec![RESET, FAILED],
    }
}

/// What a client is sent, the system calls, and how its connection ends.
type Conversation = (String, Vec<&'static str>, Vec<CloseReason>);

/// A conversation with a kernel that takes so many bytes of each of the first writes. Each change
/// is a tick of its own.
fn converse(system: System, changes: &[Change], takes: &[usize]) -> Conversation {
    let now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, now);
    peer.take(takes);
    let mut calls = Vec::new();
    for &change in changes {
        match change {
            Change::Registered | Change::Room | Change::ServerFin => {}
            Change::Input(text) => peer.send(text),
            Change::Fin => peer.kernel.borrow_mut().reads.push_back(Act::Eof),
            Change::Reset => {
                let act = Act::Fail(ErrorKind::ConnectionReset);
                peer.kernel.borrow_mut().reads.push_back(act);
            }
        }
        let connection = table.slots.get(peer.slot);
        let is_writing = connection.is_some_and(|it| it.state_name() == StateName::Writing);
        table.begin_tick(now);
        for readiness in events_of(system, change, is_writing) {
            table.on_event(peer.slot, readiness);
        }
        table.run_again();
        calls.extend(peer.calls());
    }
    (peer.sent(), calls, mem::take(&mut table.shared.observer.closed))
}

#[test]
fn events_of_kqueue_lead_to_the_calls_of_epoll() {
    use Change::{Fin, Input, Registered, Reset, Room, ServerFin};
    let bad = Input("x\r\n\r\n");
    for (changes, takes, calls) in [
        (&[Registered, Room, Room][..], &[][..], &[][..]),
        (
            &[Registered, Input(HELLO), Room, Input(HELLO), Room],
            &[],
            &["recv", "send", "recv", "send"],
        ),
        (&[Registered, Input(HELLO), Room, Fin], &[], &["recv", "send", "recv"]),
        (&[Input(&HELLO[..9]), Room, Input(&HELLO[9..]), Room], &[], &["recv", "recv", "send"]),
        (&[Input(HELLO), Room, Room], &[9, 0, 0], &["recv", "send", "send", "send", "send"]),
        (&[bad, ServerFin, Room, Fin], &[], &["recv", "send_last", "shutdown", "recv"]),
        (&[Registered, Room, Reset, Room], &[], &["recv"]),
        (&[Input(HELLO), Reset], &[9, 0], &["recv", "send", "send", "send", "recv"]),
    ] {
        let [on_epoll, on_kqueue] =
            [System::Epoll, System::Kqueue].map(|system| converse(system, changes, takes));
        assert_eq!(on_epoll, on_kqueue, "{changes:?}");
        assert_eq!(on_epoll.1, calls, "{changes:?}");
    }
}

#[test]
fn an_event_about_room_does_not_make_the_loop_forget_what_can_be_read() {
    let now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, now);
    let head = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    peer.send(&[head, &"x".repeat(9 * INPUT)].concat());
    event(&mut table, &peer, now);
    table.on_event(peer.slot, WRITABLE);
    while table.has_work() {
        table.begin_tick(now);
        table.run_again();
    }
    assert!(peer.kernel.borrow().reads.is_empty(), "all of it is read, and no event came");
}

#[test]
fn the_second_event_of_a_closed_connection_reaches_no_other() {
    let now = Instant::now();
    let mut table = connections();
    let [reset, other] = [(); 2].map(|()| Peer::connect(&mut table, now));
    reset.kernel.borrow_mut().reads.push_back(Act::Fail(ErrorKind::ConnectionReset));
    table.begin_tick(now);
    for readiness in [RESET, FAILED] {
        table.on_event(reset.slot, readiness);
    }
    assert_eq!(table.shared.observer.closed, [CloseReason::Failed(ErrorKind::ConnectionReset)]);
    assert_eq!((table.len(), other.calls()), (1, vec![]));
}

#[test]
fn a_connection_that_was_reset_before_it_is_accepted_is_closed_at_once() {
    for act in [Act::Fail(ErrorKind::ConnectionReset), Act::Eof] {
        let kernel = Script { reads: [act].into(), ..Script::default() };
        let mut table = connections();
        table.begin_tick(Instant::now());
        // On macOS, this may be the address of an earlier peer.
        let peer = ([127, 0, 0, 1], 1).into();
        let added = table.add(Service::Main, Scripted(Rc::new(RefCell::new(kernel))), peer);
        assert!(added.is_none(), "it does not get to the poll");
        assert_eq!((table.len(), table.take_freed()), (0, true));
    }
}

#[test]
fn a_connection_that_the_poll_refuses_is_closed() {
    let now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, now);
    table.fail(peer.slot, ErrorKind::OutOfMemory);
    assert_eq!((table.len(), table.count(Service::Main), table.take_freed()), (0, 0, true));
    assert_eq!(table.shared.observer.closed, [CloseReason::Failed(ErrorKind::OutOfMemory)]);
}

#[test]
fn a_client_that_keeps_sending_gets_no_more_runs_than_others() {
    let now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, now);
    let head = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    peer.send(&[head, &"x".repeat(99 * INPUT)].concat());
    for tick in 0..8 {
        event(&mut table, &peer, now);
        table.run_again();
        let (calls, runs) = (peer.calls().len(), if tick == 0 { 2 } else { 1 });
        assert_eq!(calls, runs * READS_PER_RUN, "in tick {tick}");
        assert_eq!(table.run_again, [peer.slot], "in tick {tick}");
    }
}

#[test]
fn a_run_that_is_left_over_is_forgotten_with_its_connection() {
    let now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, now);
    peer.send(&HELLO.repeat(READS_PER_RUN * INPUT / HELLO.len() + 1));
    event(&mut table, &peer, now);
    assert!(!table.run_again.is_empty());
    table.abort();
    table.run_again();
    assert!(table.run_again.is_empty() && table.is_empty());
}

#[test]
fn every_phase_times_out_and_is_counted() {
    let start = Instant::now();
    let mut table = connections();
    let [_silent, halfway, posting, deaf, told] =
        [(); 5].map(|()| Peer::connect(&mut table, start));
    deaf.take(&[9, 0, 0]);
    for (peer, text) in [
        (&halfway, &HELLO[..9]),
        (&posting, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"),
        (&deaf, HELLO),
        (&told, "nonsense\r\n\r\n"),
    ] {
        peer.send(text);
        event(&mut table, peer, start);
    }
    for (wait, present, expected) in [
        (HALF_CLOSED_TIMEOUT, 4, "half_closed 1"),
        // Two of them get a 408 and are half-closed.
        (HEADER_TIMEOUT, 4, "head 1, half_closed 1"),
        (at_the_latest(BODY_TIMEOUT), 4, "head 1, body 1, half_closed 1"),
        (at_the_latest(BODY_TIMEOUT) + HALF_CLOSED_TIMEOUT, 2, "head 1, body 1, half_closed 3"),
        (at_the_latest(WRITE_TIMEOUT), 1, "head 1, body 1, writing 1, half_closed 3"),
        (at_the_latest(IDLE_TIMEOUT), 0, "idle 1, head 1, body 1, writing 1, half_closed 3"),
    ] {
        expire(&mut table, start + wait - Duration::from_nanos(1));
        assert_ne!(timed_out(&table).as_deref(), Some(expected), "not before {wait:?}");
        expire(&mut table, start + wait);
        assert_eq!(
            (table.len(), timed_out(&table).as_deref()),
            (present, Some(expected)),
            "{wait:?}"
        );
    }
    for peer in [halfway, posting] {
        assert!(peer.kernel.borrow().sent.starts_with(b"HTTP/1.1 408 "));
    }
}

/// The timeouts that the observer has counted.
fn timed_out(table: &Table) -> Option<String> {
    let counts = StateName::ALL.into_iter().zip(table.shared.observer.timeouts);
    let counts = counts.filter(|&(_, count)| count > 0);
    let counts: Vec<String> =
        counts.map(|(timeout, count)| format!("{} {count}", timeout.name())).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

/// The longest time that a renewable timeout takes.
fn at_the_latest(timeout: Duration) -> Duration {
    timeout + timeout / TIMEOUT_PRECISION
}

/// The status of a POST with a body of so many bytes, of which `rate` come each second.
fn upload(len: u64, rate: u64, timeouts: &Timeouts) -> (String, Duration) {
    let start = Instant::now();
    let mut table = connections_with(b"Hello world.".to_vec(), timeouts);
    let peer = Peer::connect(&mut table, start);
    let head = format!("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    peer.send(&head);
    event(&mut table, &peer, start);
    let (mut now, mut left) = (start, len);
    while peer.sent().is_empty() {
        now += Duration::from_secs(1);
        expire(&mut table, now);
        let some = left.min(rate);
        left -= some;
        peer.send(&"x".repeat(usize::try_from(some).expect("few")));
        event(&mut table, &peer, now);
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
    assert_eq!((&*status, time), ("200", Duration::from_secs(4)), "in grace");
}

#[test]
fn what_comes_of_a_body_together_with_its_head_counts() {
    for path in ["/loop", "/"] {
        let start = Instant::now();
        let mut table = connections();
        let peer = Peer::connect_to(Service::Diag, &mut table, start);
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3020\r\n\r\n");
        peer.send(&(head + &"x".repeat(3000)));
        event(&mut table, &peer, start);
        let in_time = start + BODY_GRACE + Duration::from_secs(3000 / BODY_RATE_MIN);
        for seconds in 1..=10 {
            let now = start + Duration::from_secs(seconds);
            assert!(now < in_time);
            expire(&mut table, now);
            peer.send("yy");
            event(&mut table, &peer, now);
            table.run_again();
        }
        assert!(peer.sent().starts_with("HTTP/1.1 200 "), "{path}: {}", peer.sent());
    }
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
        let start = Instant::now();
        let mut table = connections_with(b"Hello world.".to_vec(), &timeouts);
        let peer = Peer::connect(&mut table, start);
        peer.take(room);
        if !text.is_empty() {
            peer.send(text);
            event(&mut table, &peer, start);
        }
        expire(&mut table, start + timeout - Duration::from_nanos(1));
        assert_eq!(timed_out(&table), None, "{name} in {text:?}");
        expire(&mut table, start + at_the_latest(timeout));
        assert_eq!(timed_out(&table).as_deref(), Some(name), "{text:?}");
    }
}

#[test]
fn a_client_that_has_left_is_not_waited_for() {
    let start = Instant::now();
    let mut table = connections();
    for text in ["", &HELLO[..9], HELLO] {
        let peer = Peer::connect(&mut table, start);
        peer.send(text);
        event(&mut table, &peer, start);
        peer.kernel.borrow_mut().reads.push_back(Act::Eof);
        event(&mut table, &peer, start);
        assert!(table.is_empty(), "after {text:?}");
    }
    assert!(table.timers.expired(Instant::NEVER).is_none());
    expire(&mut table, start + IDLE_TIMEOUT);
}

#[test]
fn a_half_closed_peer_that_keeps_sending_gets_a_limited_number_of_rounds() {
    let start = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, start);
    peer.send("nonsense\r\n\r\n");
    event(&mut table, &peer, start);
    let mut now = start;
    let mut rounds = 0;
    while !table.is_empty() {
        peer.send("more of it");
        event(&mut table, &peer, now);
        now += HALF_CLOSED_TIMEOUT;
        expire(&mut table, now);
        rounds += 1;
    }
    assert_eq!(rounds, 1 + HALF_CLOSED_ROUNDS_MAX);

    let peer = Peer::connect(&mut table, now);
    peer.send("nonsense\r\n\r\nand then silence");
    event(&mut table, &peer, now);
    expire(&mut table, now + HALF_CLOSED_TIMEOUT);
    assert!(table.is_empty(), "nothing has come after the response");
}

#[test]
fn input_on_a_half_closed_connection_is_counted_at_once() {
    let start = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, start);
    peer.send("nonsense\r\n\r\n");
    event(&mut table, &peer, start);
    // No event announces this. The timeout finds it, and is renewed.
    peer.send("more of it");
    expire(&mut table, start + HALF_CLOSED_TIMEOUT);
    assert_eq!(table.shared.observer.received, 12 + 10);
}

#[test]
fn input_in_time_prevents_the_timeout_even_without_an_event() {
    let start = Instant::now();
    let mut table = connections();
    let [idle, halfway] = [(); 2].map(|()| Peer::connect(&mut table, start));
    halfway.send(&HELLO[..9]);
    event(&mut table, &halfway, start);
    idle.send(HELLO);
    halfway.send(&HELLO[9..]);
    expire(&mut table, start + at_the_latest(IDLE_TIMEOUT));
    for peer in [idle, halfway] {
        assert!(peer.kernel.borrow().sent.starts_with(b"HTTP/1.1 200 "));
    }
    assert!(table.len() == 2 && timed_out(&table).is_none());
    expire(&mut table, start + at_the_latest(IDLE_TIMEOUT) * 2);
    assert!(table.is_empty(), "and they have their deadlines again");
}

#[test]
fn a_client_that_keeps_requesting_long_bodies_is_closed_too() {
    let mut now = Instant::now();
    let mut table = connections_with(vec![b'x'; 5000], &Timeouts::default());
    let peer = Peer::connect(&mut table, now);
    peer.send(&HELLO.repeat(2));
    event(&mut table, &peer, now);
    table.run_again();
    table.announce_close(Service::Main);
    // The client requests two more whenever it has got two.
    for _ in 0..20 {
        peer.send(&HELLO.repeat(2));
        now += Duration::from_millis(100);
        event(&mut table, &peer, now);
        table.run_again();
    }
    let sent = String::from_utf8(peer.kernel.borrow().sent.clone()).expect("text");
    let closes = sent.matches("Connection: close").count();
    let responses = sent.matches("HTTP/1.1 200").count();
    assert!(closes == 1 && responses > 10 && responses < 30, "{closes}, {responses}");
}

#[test]
fn a_client_with_more_on_its_way_than_is_read_is_aborted() {
    for (batches, aborted) in [(1, 0), (READS_PER_RUN + 2, 1)] {
        let now = Instant::now();
        let mut table = connections();
        let peer = Peer::connect(&mut table, now);
        peer.send(&HELLO.repeat(2));
        event(&mut table, &peer, now);
        table.announce_close(Service::Main);
        peer.send(HELLO);
        event(&mut table, &peer, now);
        peer.send(&HELLO.repeat(batches * INPUT / HELLO.len()));
        table.abort();
        let sent = String::from_utf8(peer.kernel.borrow().sent.clone()).expect("text");
        assert_eq!(sent.matches("Connection: close").count(), 1);
        assert_eq!((table.aborted, table.len()), (aborted, 0), "{batches}");
    }
}

#[test]
fn at_the_idle_grace_idle_connections_are_closed_and_no_others() {
    let now = Instant::now();
    let mut table = connections();
    let [silent, idle, asking, halfway] = [(); 4].map(|()| Peer::connect(&mut table, now));
    idle.send(HELLO);
    event(&mut table, &idle, now);
    halfway.send(&HELLO[..9]);
    event(&mut table, &halfway, now);
    asking.send(HELLO);
    for peer in [&idle, &halfway] {
        peer.calls();
    }

    table.announce_close(Service::Main);
    table.close_idle(Service::Main);
    assert_eq!((table.closed_idle, table.len()), (2, 4));
    assert_eq!(silent.calls(), ["recv", "shutdown"]);
    assert_eq!(idle.calls(), ["recv", "shutdown"]);
    assert_eq!(asking.calls(), ["recv", "send_last", "shutdown"], "it gets its response first");
    assert_eq!(halfway.calls(), [""; 0], "it may go on");
    table.close_idle(Service::Main);
    assert_eq!(table.closed_idle, 2, "once is enough");

    expire(&mut table, now + IDLE_CLOSED_TIMEOUT);
    assert_eq!(table.len(), 2, "closed idle connections are not waited for any longer");
    table.abort();
    assert_eq!(
        (table.aborted, table.len()),
        (1, 0),
        "a connection with its last response is not aborted"
    );
}

#[test]
fn a_deferred_response_that_the_abort_sends_whole_is_not_aborted() {
    let now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, now);
    table.announce_close(Service::Main);
    peer.send(&HELLO.repeat(2));
    event(&mut table, &peer, now);
    assert_eq!(peer.sent(), "", "both are deferred");
    // The first write is taken in part, and the last one as a whole.
    peer.take(&[1]);
    table.begin_tick(now + DEFERRED_TIME_MAX);
    table.abort();
    assert_eq!(peer.sent().matches("Hello world.").count(), 2);
    assert_eq!(peer.sent().matches("Connection: close").count(), 1);
    assert_eq!((table.aborted, table.len()), (0, 0));
}

#[test]
fn in_a_stop_a_request_behind_a_deferred_long_body_shows_that_its_client_pipelines() {
    let now = Instant::now();
    let mut table = connections_with(vec![b'x'; 10_000], &Timeouts::default());
    let peer = Peer::connect(&mut table, now);
    table.announce_close(Service::Main);
    let padding = "x".repeat(8_000);
    let head =
        format!("POST /hello HTTP/1.1\r\nHost: a\r\nX: {padding}\r\nContent-Length: 1000\r\n\r\n");
    let len = INPUT - head.len();
    peer.send(&[head.replace("1000", &len.to_string()), "y".repeat(len)].concat());
    event(&mut table, &peer, now);
    assert_eq!(peer.sent(), "", "the socket may hold more");
    for _ in 0..2 {
        peer.send(HELLO);
        event(&mut table, &peer, now);
        run_all(&mut table, now);
        assert_eq!(peer.sent().matches("Connection: close").count(), 0, "another one may come");
    }
    expire(&mut table, now + DEFERRED_TIMEOUT * 2);
    assert_eq!(peer.sent().matches("HTTP/1.1 200").count(), 3);
    assert_eq!(peer.sent().matches("Connection: close").count(), 1);
}

#[test]
fn a_connection_does_not_run_in_place_of_the_last_one_in_its_slot() {
    let now = Instant::now();
    let mut table = connections();
    let batch = HELLO.repeat(9 * READS_PER_RUN * INPUT / HELLO.len());
    let closed = Peer::connect(&mut table, now);
    closed.send(&batch);
    event(&mut table, &closed, now);
    table.fail(closed.slot, ErrorKind::OutOfMemory);
    let peer = Peer::connect(&mut table, now);
    assert_eq!(peer.slot, closed.slot);
    peer.send(&batch);
    event(&mut table, &peer, now);
    peer.calls();
    table.run_again();
    let reads = peer.calls().iter().filter(|&&call| call == "recv").count();
    assert_eq!(reads, READS_PER_RUN, "it runs once");
}

#[test]
fn a_diagnostics_client_at_the_deadline_is_served_and_not_aborted() {
    let now = Instant::now();
    let mut table = connections();
    let [silent, asking] = [(); 2].map(|()| Peer::connect_to(Service::Diag, &mut table, now));
    asking.send("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n");
    table.close_idle(Service::Main);
    assert_eq!((silent.calls(), asking.calls()), (vec![], vec![]), "diagnostics is not concerned");
    table.announce_close(Service::Diag);
    table.close_idle(Service::Diag);
    table.abort();
    assert!(asking.sent().contains("Connection: close"));
    assert_eq!((table.closed_idle, table.aborted, table.len()), (1, 0, 0));
}

#[test]
fn a_page_comes_behind_long_responses_and_ahead_of_others() {
    let now = Instant::now();
    let mut table = connections();
    let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    // After so many long responses the run is out of reads, perhaps just ahead of the page.
    for long in [0, 3, 8, 12] {
        let peer = Peer::connect_to(Service::Diag, &mut table, now);
        peer.send(&[ask("/").repeat(long), ask("/loop?x"), ask("/other")].concat());
        event(&mut table, &peer, now);
        for _ in 0..100 {
            table.begin_tick(now);
            table.run_again();
        }
        let sent = peer.sent();
        let (start, end) = sent.split_once("a page").expect("it is rendered");
        assert_eq!(start.matches("HTTP/1.1 200").count(), long + 1);
        assert!(end.starts_with("HTTP/1.1 404"), "{end}");
        assert!(!table.has_work());
    }
}

#[test]
fn pages_are_rendered_round_robin_and_within_the_budget_of_a_tick() {
    let now = Instant::now();
    let mut table = connections();
    let peers: Vec<Peer> =
        (0..2 * PAGES_PER_TICK).map(|_| Peer::connect_to(Service::Diag, &mut table, now)).collect();
    let ask = "GET /loop HTTP/1.1\r\nHost: a\r\n\r\n";
    let pages = |peer: &Peer| peer.sent().matches("a page").count();
    // One client has a thousand requests on their way, all others have two.
    for (at, peer) in peers.iter().enumerate() {
        peer.send(&ask.repeat(if at == 0 { 1000 } else { 2 }));
        event(&mut table, peer, now);
    }
    for ticks in 1..=4 {
        table.begin_tick(now);
        table.run_again();
        let all: usize = peers.iter().map(pages).sum();
        assert!(all <= (ticks + 1) * PAGES_PER_TICK, "{all} in {ticks} ticks");
        if ticks == 4 {
            assert!(peers.iter().all(|peer| pages(peer) >= 2), "none waits for the thousand");
        }
    }
    while table.has_work() {
        let before = pages(&peers[0]);
        table.begin_tick(now);
        table.run_again();
        assert!(pages(&peers[0]) - before <= PAGES_PER_TICK);
    }
    assert_eq!(pages(&peers[0]), 1000);
}

#[test]
fn in_a_stop_what_comes_while_a_page_is_waited_for_is_served_too() {
    let now = Instant::now();
    let mut table = connections();
    let peers: Vec<Peer> =
        (0..=PAGES_PER_TICK).map(|_| Peer::connect_to(Service::Diag, &mut table, now)).collect();
    table.announce_close(Service::Diag);
    let ask = HELLO.replace("/hello", "/loop");
    peers.iter().for_each(|peer| peer.send(&ask));
    table.begin_tick(now);
    peers.iter().for_each(|peer| table.on_event(peer.slot, Readiness::READABLE));
    let last = peers.last().expect("there are some");
    assert_eq!(last.sent(), "", "the budget of the tick is used up");
    last.send(&ask);
    event(&mut table, last, now);
    run_all(&mut table, now);
    expire(&mut table, now + DEFERRED_TIMEOUT * 2);
    assert_eq!(last.sent().matches("a page").count(), 2);
    assert_eq!(last.sent().matches("Connection: close").count(), 1, "behind the second one");
}

#[test]
fn a_long_drain_does_not_renew_the_timeouts_of_idle_clients_of_diagnostics() {
    let start = Instant::now();
    let mut table = connections();
    let watching = Peer::connect_to(Service::Diag, &mut table, start);
    let asking = Peer::connect(&mut table, start);
    asking.send(&HELLO[..9]);
    event(&mut table, &asking, start);
    table.announce_close(Service::Main);
    for seconds in 1..10 {
        table.begin_tick(start + Duration::from_secs(seconds));
        table.close_idle(Service::Main);
        assert_eq!(watching.calls(), [""; 0], "it is not even read");
    }
    expire(&mut table, start + at_the_latest(IDLE_TIMEOUT));
    assert!(table.shared.observer.closed.contains(&CloseReason::TimedOut));
    assert_eq!(table.count(Service::Diag), 0);
}

/// Runs the connections until none of them has more to do.
fn run_all(table: &mut Table, now: Instant) {
    for _ in 0..100 {
        table.begin_tick(now);
        table.run_again();
    }
}

#[test]
fn in_a_stop_a_client_with_delayed_responses_is_not_deferred_for_ever() {
    let (start, delay) = (Instant::now(), Duration::from_millis(100));
    let route = || Route { is_delayed: true, ..Route::new("/hello", "Hello world.") };
    let routes = || Routes::new(vec![route()]);
    let told = Told::default();
    let mut table = Connections::new([routes(), routes()], &Timeouts::default(), delay, told);
    let peer = Peer::connect(&mut table, start);
    table.announce_close(Service::Main);
    peer.send(&HELLO.repeat(2));
    event(&mut table, &peer, start);
    // It sends another request whenever a response could come.
    let mut now = start;
    while peer.sent().matches("Connection: close").count() == 0 {
        now += delay;
        assert!(now - start < 3 * DEFERRED_TIME_MAX, "the close comes behind the last response");
        peer.send(HELLO);
        event(&mut table, &peer, now);
        expire(&mut table, now);
        table.run_again();
    }
    let sent = peer.sent();
    assert!(sent.rfind("Connection: close") > sent.rfind("Date: ") && sent.ends_with("world."));
}

/// In a shutdown, a client keeps a number of requests in flight and sends another one for each
/// response, until it reads the close, or for so long. Says how many it loses.
fn lost_of_a_window(
    table: &mut Table,
    service: Service,
    request: &str,
    window: usize,
    time: Duration,
) -> usize {
    let start = Instant::now();
    let peer = Peer::connect_to(service, table, start);
    let responses = |peer: &Peer| peer.sent().matches("Date: ").count();
    let (mut now, mut requests) = (start, window);
    peer.send(&request.repeat(window));
    for (shutdown, millis) in [(false, 200), (true, 4_000)] {
        if shutdown {
            table.announce_close(service);
        }
        let end = now + Duration::from_millis(millis);
        while now < end && !peer.sent().contains("Connection: close") {
            event(table, &peer, now);
            expire(table, now);
            table.run_again();
            let more = (responses(&peer) + window).saturating_sub(requests);
            if now - start < time && !peer.sent().contains("Connection: close") {
                peer.send(&request.repeat(more));
                requests += more;
            }
            now += Duration::from_millis(10);
        }
    }
    assert!(peer.sent().contains("Connection: close"), "{window}");
    requests - responses(&peer)
}

#[test]
fn in_a_stop_a_client_with_a_window_of_requests_loses_none() {
    let time = Duration::from_secs(10);
    for window in [2, 3, 10, 50] {
        let hello = lost_of_a_window(&mut connections(), Service::Main, HELLO, window, time);
        let page = HELLO.replace("/hello", "/loop");
        let pages = lost_of_a_window(&mut connections(), Service::Diag, &page, window, time);
        assert_eq!((hello, pages), (0, 0), "a window of {window}");
    }
    // Together, the delays of a window take longer than responses are deferred.
    let delay = Duration::from_millis(50);
    let route = || Route { is_delayed: true, ..Route::new("/hello", "Hello world.") };
    let routes = || Routes::new(vec![route()]);
    let told = Told::default();
    let mut table = Connections::new([routes(), routes()], &Timeouts::default(), delay, told);
    assert_eq!(lost_of_a_window(&mut table, Service::Main, HELLO, 30, time), 0);
}

#[test]
fn in_a_stop_a_client_with_more_than_can_be_deferred_goes_on_until_it_stops() {
    let (delay, body, time) = (Duration::from_millis(10), 4_000, 2 * DEFERRED_TIME_MAX);
    let route = || Route { is_delayed: true, ..Route::new("/hello", "x".repeat(body)) };
    let routes = || Routes::new(vec![route()]);
    let told = Told::default();
    let mut table = Connections::new([routes(), routes()], &Timeouts::default(), delay, told);
    let window = 2 * DEFERRED_MAX / body;
    assert_eq!(lost_of_a_window(&mut table, Service::Main, HELLO, window, time), 0);
}

#[test]
fn in_a_stop_line_ends_behind_a_long_body_begin_no_request() {
    let now = Instant::now();
    let mut table = connections_with(vec![b'x'; 10_000], &Timeouts::default());
    let peer = Peer::connect(&mut table, now);
    table.announce_close(Service::Main);
    peer.send(&HELLO.repeat(2));
    event(&mut table, &peer, now);
    run_all(&mut table, now);
    peer.send("\r\n");
    event(&mut table, &peer, now);
    run_all(&mut table, now);
    assert_eq!(peer.sent().matches("HTTP/1.1 200").count(), 1, "the last one is deferred");
    expire(&mut table, now + DEFERRED_TIME_MAX);
    let sent = peer.sent();
    assert_eq!(sent.matches("HTTP/1.1 200").count(), 2);
    assert_eq!(sent.matches("Connection: close").count(), 1);
}

#[test]
fn in_a_stop_a_client_of_long_bodies_with_half_requests_is_closed_too() {
    let mut now = Instant::now();
    let mut table = connections_with(vec![b'x'; 10_000], &Timeouts::default());
    let peer = Peer::connect(&mut table, now);
    table.announce_close(Service::Main);
    // Each read ends within a request.
    let (first, rest) = HELLO.split_at(10);
    peer.send(&[HELLO, first].concat());
    for _ in 0..30 {
        now += Duration::from_millis(100);
        event(&mut table, &peer, now);
        run_all(&mut table, now);
        peer.send(&[rest, first].concat());
    }
    assert_eq!(peer.sent().matches("Connection: close").count(), 1);
}

#[test]
fn in_a_stop_a_client_that_is_forced_to_close_gets_no_more_time() {
    let mut now = Instant::now();
    let mut table = connections();
    let peer = Peer::connect_to(Service::Diag, &mut table, now);
    table.announce_close(Service::Diag);
    let [page, long] = ["/loop", "/"].map(|path| HELLO.replace("/hello", path));
    let (first, rest) = long.split_at(10);
    peer.send(&[&page, first].concat());
    event(&mut table, &peer, now);
    now += DEFERRED_TIMEOUT * 2;
    expire(&mut table, now);
    run_all(&mut table, now);
    assert_eq!(peer.sent().matches("HTTP/1.1 ").count(), 1, "it is forced to close from now on");
    // A long body is sent in the run in which the response behind it is deferred.
    peer.send(&[rest, &page, &page, first].concat());
    event(&mut table, &peer, now);
    run_all(&mut table, now);
    assert_eq!(peer.sent().matches("HTTP/1.1 ").count(), 4);
    assert_eq!(peer.sent().matches("Connection: close").count(), 1);
}

#[test]
fn in_a_stop_a_body_that_dribbles_behind_a_full_read_is_not_deferred_for_ever() {
    let start = Instant::now();
    let mut table = connections();
    let peer = Peer::connect(&mut table, start);
    table.announce_close(Service::Main);
    let post = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: ";
    let first = format!("{post}16000\r\n\r\n");
    let padding = "x".repeat(INPUT - first.len() - 16_000);
    let first = first.replace("Host: a", &format!("Host: a{padding}"));
    peer.send(&[&first, &*"y".repeat(16_000)].concat());
    event(&mut table, &peer, start);
    assert_eq!(peer.sent(), "", "the socket may hold more");
    // Its second request comes slowly, and keeps the first response waiting.
    peer.send(&format!("{post}100000\r\n\r\n"));
    let mut now = start;
    while peer.sent().is_empty() {
        event(&mut table, &peer, now);
        assert!(now - start < 3 * DEFERRED_TIME_MAX);
        now += DEFERRED_TIMEOUT / 2;
        expire(&mut table, now);
        peer.send(&"y".repeat(100));
    }
}

#[test]
fn in_a_stop_line_ends_behind_a_long_body_do_not_defer_it_for_ever() {
    let start = Instant::now();
    let mut table = connections_with(vec![b'x'; 10_000], &Timeouts::default());
    let peer = Peer::connect(&mut table, start);
    table.announce_close(Service::Main);
    peer.send(&HELLO.repeat(2));
    let mut now = start;
    while peer.sent().matches("Connection: close").count() == 0 {
        event(&mut table, &peer, now);
        run_all(&mut table, now);
        assert!(now - start < 3 * DEFERRED_TIME_MAX);
        now += DEFERRED_TIMEOUT / 2;
        expire(&mut table, now);
        peer.send("\r\n");
    }
    assert_eq!(peer.sent().matches("HTTP/1.1 200").count(), 2);
}

/// An observer that renders a page of such a size.
struct Large(usize);

impl Handler for Large {
    fn render(&mut self, _path: &str, _query: &[u8]) -> Page {
        Page { status: Status::OK, fields: "", body: vec![b'x'; self.0] }
    }
}

impl Observer for Large {}

#[test]
fn in_a_stop_a_page_longer_than_what_may_be_deferred_is_deferred_alone() {
    let now = Instant::now();
    for rest in ["\r\n", "GET /lo"] {
        let routes = || Routes::new(vec![Route::dynamic("/loop")]);
        let (timeouts, observer) = (Timeouts::default(), Large(PAGE_MAX));
        let mut table = Connections::new([routes(), routes()], &timeouts, DELAY, observer);
        let kernel = Rc::new(RefCell::new(Script::default()));
        table.begin_tick(now);
        table.announce_close(Service::Diag);
        let peer = ([127, 0, 0, 1], 1).into();
        let added = table.add(Service::Diag, Scripted(Rc::clone(&kernel)), peer);
        let slot = added.expect("it waits").0;
        let send = |text: &str| {
            kernel.borrow_mut().reads.push_back(Act::Give(text.as_bytes().to_vec()));
        };
        send(&"GET /loop HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2));
        table.on_event(slot, Readiness::READABLE);
        table.begin_tick(now);
        table.run_again();
        assert_eq!(kernel.borrow().sent.len() / PAGE_MAX, 1, "the last one is deferred");
        send(rest);
        table.on_event(slot, Readiness::READABLE);
        table.begin_tick(now + DEFERRED_TIME_MAX);
        table.expire();
        assert_eq!(kernel.borrow().sent.len() / PAGE_MAX, 2, "{rest:?}");
        let sent = String::from_utf8(kernel.borrow().sent.clone()).expect("text");
        let closes = sent.matches("Connection: close").count();
        assert_eq!(closes, usize::from(rest == "\r\n"), "{rest:?}");
        assert_eq!(table.len(), 1);
    }
}

#[test]
fn at_the_idle_grace_a_connection_with_more_to_do_is_not_idle() {
    let now = Instant::now();
    let mut table = connections_with(vec![b'x'; 1 << 20], &Timeouts::default());
    let peer = Peer::connect(&mut table, now);
    peer.send(HELLO);
    peer.take(&[1000, 0]);
    event(&mut table, &peer, now);
    table.announce_close(Service::Main);
    table.close_idle(Service::Main);
    // Writing the first response takes all that a run may do, and another request has come.
    peer.send(HELLO);
    peer.take(&[1000, 1000, 1000]);
    event(&mut table, &peer, now);
    run_all(&mut table, now);
    assert_eq!(peer.sent().matches("HTTP/1.1 200").count(), 2);
    assert_eq!(peer.sent().matches("Connection: close").count(), 1);
}

/// Numbers that look random, and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % end as u64).expect("it is below a usize")
    }
}

/// Drives one connection with events in an order that the numbers choose, until it is closed.
fn live(table: &mut Table, numbers: &mut Numbers) {
    let post = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let late = HELLO.replace("/hello", "/late");
    let last = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let long = HELLO.replace("/hello", "/long");
    let page = HELLO.replace("/hello", "/page");
    let requests = [HELLO, post, &late, &long, &page, "\r\n", HELLO, post, &long, &last];
    let input: String = (0..12).map(|_| requests[numbers.below(requests.len())]).collect();
    let (mut now, mut rest) = (table.shared.now, &*input);
    let peer = Peer::connect(table, now);
    let opened = table.shared.observer.closed.len();
    while table.shared.observer.closed.len() == opened {
        match numbers.below(12) {
            0 => now += Duration::from_secs(100),
            1 => now += Duration::from_millis(250),
            2 => peer.take(&[[1, 0, 0], [0, 0, 0], [100, 0, 0]][numbers.below(3)]),
            3 => table.announce_close(Service::Main),
            4 if numbers.below(8) == 0 => table.close_idle(Service::Main),
            5 if numbers.below(20) == 0 => table.abort(),
            6 if rest.is_empty() => peer.kernel.borrow_mut().reads.push_back(Act::Eof),
            _ => {
                let (piece, left) = rest.split_at(numbers.below(100).min(rest.len()));
                peer.send(piece);
                rest = left;
            }
        }
        event(table, &peer, now);
        table.run_again();
        expire(table, now);
    }
}

/// More is deferred than there is room for, and the kernel takes only a part of it at first.
fn overflow_what_is_deferred(table: &mut Table) {
    let now = table.shared.now;
    let peer = Peer::connect(table, now);
    table.announce_close(Service::Main);
    for requests in [400, 300] {
        peer.send(&HELLO.repeat(requests));
        event(table, &peer, now);
        peer.take(&[100]);
    }
    let sent = peer.sent();
    assert_eq!(sent.matches("HTTP/1.1 200").count(), 700);
    assert_eq!(sent.matches("Connection: close").count(), 0, "the client is idle");
}

#[test]
fn exactly_the_transitions_of_the_table_happen() {
    let mut table = connections();
    overflow_what_is_deferred(&mut table);
    let mut seen = table.shared.observer.transitions;
    let mut numbers = Numbers(7);
    for _ in 0..15_000 {
        let late = Route { is_delayed: true, ..Route::new("/late", "Late.") };
        let long = Route::new("/long", "x".repeat(10_000));
        let routes =
            vec![Route::new("/hello", "Hello world."), late, long, Route::dynamic("/page")];
        let main = Routes::new(routes);
        let (diag, delay) = (Routes::new(Vec::new()), Duration::from_millis(200));
        let told = Told::default();
        let mut table = Connections::new([diag, main], &Timeouts::default(), delay, told);
        live(&mut table, &mut numbers);
        seen.append(&mut table.shared.observer.transitions);
    }
    let expected = state::TRANSITIONS
        .iter()
        .flat_map(|(from, to)| to.iter().map(|to| (*from as usize, *to as usize)));
    let name = |&(from, to): &(usize, usize)| {
        format!("{} to {}", StateName::ALL[from].name(), StateName::ALL[to].name())
    };
    let expected: BTreeSet<_> = expected.collect();
    let missing: Vec<String> = expected.difference(&seen).map(name).collect();
    let more: Vec<String> = seen.difference(&expected).map(name).collect();
    assert_eq!((missing, more), (vec![], vec![]));
}

#[test]
fn reserved_tables_do_not_move_until_they_are_full() {
    let now = Instant::now();
    let mut table = connections();
    table.reserve(2000);
    let _first = Peer::connect(&mut table, now);
    let place = |table: &Table| (&raw const table.slots[0], table.slots.capacity());
    let before = place(&table);
    let _peers: Vec<Peer> = (1..2000).map(|_| Peer::connect(&mut table, now)).collect();
    assert_eq!(place(&table), before);
    assert_eq!(table.timers.slots(), 0..2000);
}

#[test]
fn a_connection_takes_few_bytes_of_the_tables() {
    let connection = size_of::<Option<Connection<mio::net::TcpStream>>>();
    // A socket of mio also knows its poll in a build with debug assertions.
    assert!(connection <= if cfg!(debug_assertions) { 80 } else { 64 }, "{connection}");
    // Tests beside them hold the timer and what is observed to these.
    let [timer, force_close, observed] = [16, size_of::<Instant>(), 32];
    assert!(connection + timer + force_close + observed <= CONNECTION_BYTES);
}
