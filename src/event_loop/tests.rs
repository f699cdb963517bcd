//! The whole loop on a kernel that follows a script: what each wait finds, what each accept(2)
//! returns, and what time it is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use super::kernel::ListeningSocket;
use super::kernel::Readiness;
use super::script::{self, Act, Scripted};
use super::signals::Signal;
use super::*;
use crate::http::{Handler, Route};
use crate::limits::{ACCEPT_PAUSE, DRAIN, HANDSHAKE_TIME, INPUT, READS_PER_RUN};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
const MAIN: Token = Token(LISTENERS + Service::Main as usize);
const READABLE: Readiness = Readiness::READABLE;

/// What the kernel does, and what it has been asked.
#[derive(Default)]
struct World {
    waits: VecDeque<Vec<(Token, Readiness)>>,
    accepts: VecDeque<io::Result<Scripted>>,
    signals: VecDeque<Signal>,
    watched: Vec<Token>,
    /// Whether the kernel has no filter for SYNs.
    has_no_filter: bool,
    /// How long the loop wanted to wait where the script had no events.
    slept: Vec<Duration>,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<World>>);

struct Played {
    world: Shared,
    now: Instant,
}

impl Kernel for Played {
    type Stream = Scripted;
    type Listener = Shared;
    type Events = Vec<(Token, Readiness)>;

    fn now(&self) -> Instant {
        self.now
    }

    fn date(&self) -> (u64, Duration) {
        (0, Duration::from_secs(3600))
    }

    fn room_for_events() -> Vec<(Token, Readiness)> {
        Vec::new()
    }

    /// Where the script has no events, time passes until the wait is over.
    fn wait(
        &mut self,
        events: &mut Vec<(Token, Readiness)>,
        from: Instant,
        until: Instant,
    ) -> io::Result<u64> {
        *events = self.world.0.borrow_mut().waits.pop_front().unwrap_or_default();
        if events.is_empty() {
            assert!(until < Instant::NEVER, "a loop that waits for ever");
            self.world.0.borrow_mut().slept.push(until - from);
            self.now = until.max(from);
        }
        Ok(0)
    }

    fn events(events: &Vec<(Token, Readiness)>) -> impl Iterator<Item = (Token, Readiness)> {
        events.iter().copied()
    }

    fn watch_signals(&mut self, _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn take_signal(&mut self) -> Option<Signal> {
        self.world.0.borrow_mut().signals.pop_front()
    }

    fn listen(&mut self, _listener: &mut Shared, _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn leave(&mut self, _listener: &mut Shared) -> io::Result<()> {
        panic!("it is not inherited")
    }

    fn watch(&mut self, _stream: &mut Scripted, token: Token) -> io::Result<()> {
        self.world.0.borrow_mut().watched.push(token);
        Ok(())
    }
}

impl ListeningSocket for Shared {
    type Stream = Scripted;

    fn is_inherited(&self) -> bool {
        false
    }

    fn keep_nonblocking(&self) -> io::Result<()> {
        Ok(())
    }

    fn accept(&self) -> io::Result<(Scripted, SocketAddr)> {
        let next = self.0.borrow_mut().accepts.pop_front();
        let stream = next.unwrap_or_else(|| Err(Errno::AGAIN.into()))?;
        Ok((stream, ([127, 0, 0, 1], 1).into()))
    }

    fn has_waiting(&self) -> bool {
        !self.0.borrow().accepts.is_empty()
    }

    fn ignore_syns(&self) -> io::Result<()> {
        if self.0.borrow().has_no_filter { Err(ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
}

/// An observer that notes which connections run, by slot.
#[derive(Default)]
struct Runs(Vec<usize>);

impl Handler for Runs {}

impl Observer for Runs {
    fn run_begins(&mut self, slot: usize) {
        self.0.push(slot);
    }
}

/// A server of main alone, and its world.
fn server() -> (Server<Runs, Played>, Shared) {
    let world = Shared::default();
    let kernel = Played { world: world.clone(), now: Instant::FIRST + Duration::from_secs(1) };
    let listener = Listener::new(Service::Main, world.clone(), ([127, 0, 0, 1], 80).into());
    let routes = Routes::new(vec![Route::new("/hello", "Hello world.")]);
    let config = Config::default();
    let server = Server::on(kernel, &config, vec![(listener, routes)], 100, Runs::default());
    (server.expect("it listens"), world)
}

/// A client that has sent a text, and the kernel behind its connection.
fn client(text: &[u8]) -> (Scripted, Rc<RefCell<script::Script>>) {
    let reads = if text.is_empty() { vec![] } else { vec![Act::Give(text.to_vec())] };
    let kernel = script::Script { reads: reads.into(), ..script::Script::default() };
    let kernel = Rc::new(RefCell::new(kernel));
    (Scripted(Rc::clone(&kernel)), kernel)
}

fn tick(server: &mut Server<Runs, Played>, events: &[(Token, Readiness)]) {
    server.kernel.world.0.borrow_mut().waits.push_back(events.to_vec());
    server.tick(&mut Vec::new()).expect("no error of the poll");
}

#[test]
fn a_connection_without_an_address_does_not_delay_the_next() {
    let (mut server, world) = server();
    let (stream, kernel) = client(HELLO);
    let without_address = io::Error::from(ErrorKind::InvalidInput);
    world.0.borrow_mut().accepts.extend([Err(without_address), Ok(stream)]);
    tick(&mut server, &[(MAIN, READABLE)]);
    assert!(kernel.borrow().sent.starts_with(b"HTTP/1.1 200 "), "in the same tick");
}

#[test]
fn errors_without_a_code_that_do_not_end_are_a_pause_and_no_spin() {
    let (mut server, world) = server();
    let errors = || (0..3 * ACCEPTS_PER_TICK).map(|_| Err(ErrorKind::InvalidInput.into()));
    world.0.borrow_mut().accepts.extend(errors());
    for _ in 0..3 {
        tick(&mut server, &[]);
    }
    let slept = &world.0.borrow().slept;
    assert!(slept.contains(&ACCEPT_PAUSE), "{slept:?}");
    assert!(slept.iter().filter(|time| time.is_zero()).count() < 3, "{slept:?}");
}

#[test]
fn two_events_of_one_reset_close_one_connection() {
    let (mut server, world) = server();
    let [(first, kernel), (second, other), (third, later)] = [(); 3].map(|()| client(b""));
    world.0.borrow_mut().accepts.extend([Ok(first), Ok(second)]);
    tick(&mut server, &[(MAIN, READABLE)]);
    assert_eq!(world.0.borrow().watched, [Token(0), Token(1)]);
    kernel.borrow_mut().reads.push_back(Act::Fail(ErrorKind::ConnectionReset));
    world.0.borrow_mut().accepts.push_back(Ok(third));
    let reset = Readiness { failed: true, ..Readiness::EOF };
    tick(&mut server, &[(Token(0), reset), (MAIN, READABLE), (Token(0), reset)]);
    assert_eq!(world.0.borrow().watched, [Token(0), Token(1), Token(0)], "the slot is taken");
    assert_eq!(server.connections.len(), 2);
    for kernel in [other, later] {
        assert_eq!(kernel.borrow().calls, ["recv"], "no event was theirs");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_queue_that_never_ends() {
    let (mut server, world) = server();
    world.0.borrow_mut().has_no_filter = true;
    world.0.borrow_mut().signals.push_back(Signal::Terminate);
    let begun = server.kernel.now;
    tick(&mut server, &[(SIGNALS, READABLE)]);
    while !server.listeners.are_closed() {
        let (stream, _) = client(HELLO);
        world.0.borrow_mut().accepts.push_back(Ok(stream));
        server.kernel.now += Duration::from_millis(1);
        tick(&mut server, &[(MAIN, READABLE)]);
        let took = server.kernel.now - begun;
        assert!(took < 3 * HANDSHAKE_TIME, "there is always one more client");
    }
}

#[test]
fn a_client_that_has_gone_is_not_among_the_aborted() {
    let (mut server, world) = server();
    // They come faster than the loop accepts, which pauses because of that.
    let errors = [Errno::INTR, Errno::CONNABORTED].into_iter().cycle();
    let gone = errors.take(200 * ACCEPTS_PER_TICK).map(|errno| Err(errno.into()));
    world.0.borrow_mut().accepts.extend(gone);
    world.0.borrow_mut().signals.push_back(Signal::Terminate);
    let begun = server.kernel.now;
    tick(&mut server, &[(SIGNALS, READABLE)]);
    while !server.is_over() {
        tick(&mut server, &[]);
        assert!(server.kernel.now - begun < 2 * DRAIN);
    }
    assert!(!world.0.borrow().accepts.is_empty(), "the deadline has ended it");
    assert_eq!(server.sum_up(), Outcome::Drained);
}

#[test]
fn events_go_ahead_of_what_runs_again_and_that_goes_ahead_of_new_connections() {
    let (mut server, world) = server();
    let ((first, greedy), (second, quick), (third, _)) = (client(b""), client(b""), client(b""));
    world.0.borrow_mut().accepts.extend([Ok(first), Ok(second)]);
    tick(&mut server, &[(MAIN, READABLE)]);
    // More than the budget of a run.
    let batch = HELLO.repeat(INPUT * READS_PER_RUN * 2 / HELLO.len());
    greedy.borrow_mut().reads.push_back(Act::Give(batch));
    tick(&mut server, &[(Token(0), READABLE)]);
    quick.borrow_mut().reads.push_back(Act::Give(HELLO.to_vec()));
    world.0.borrow_mut().accepts.push_back(Ok(third));
    server.connections.observer().0.clear();
    // The event of the greedy client gives it no second run in the same tick.
    tick(&mut server, &[(MAIN, READABLE), (Token(0), READABLE), (Token(1), READABLE)]);
    assert_eq!(server.connections.observer().0, [1, 0, 2]);
}

#[test]
fn the_responses_of_the_tick_of_a_signal_announce_the_close() {
    let (mut server, world) = server();
    let (stream, kernel) = client(b"");
    world.0.borrow_mut().accepts.push_back(Ok(stream));
    tick(&mut server, &[(MAIN, READABLE)]);
    kernel.borrow_mut().reads.push_back(Act::Give(HELLO.to_vec()));
    world.0.borrow_mut().signals.push_back(Signal::Terminate);
    tick(&mut server, &[(Token(0), READABLE), (SIGNALS, READABLE)]);
    let sent = String::from_utf8_lossy(&kernel.borrow().sent).into_owned();
    assert!(sent.contains("Connection: close\r\n"), "{sent}");
}
