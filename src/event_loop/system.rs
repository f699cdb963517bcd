//! The kernel as it is: `mio`'s poll, the signal pipe, TCP sockets and the clocks.
//!
//! For a while after an event the loop polls without sleeping (`--spin`), as the next one may come
//! sooner than a processor wakes up. Then it sleeps.
//!
//! The invariant: a wait is over at its instant, whether the loop spins or sleeps.
//!
//! # Try it
//!
//! One client that waits for each response. Compare what wrk reports with the same without
//! `--spin`: there, most of the time goes by until a processor has woken up.
//!
//! ```sh
//! onepoll --log warn --spin 1ms & server=$!; sleep 0.5
//! wrk -t1 -c1 -d3s http://localhost:8080/hello & client=$!; sleep 2.5
//! curl -s http://localhost:8081/loop # look for: spinning
//! wait $client; kill $server; wait $server
//! ```

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::cannot;
use super::clock::{self, Instant};
use super::kernel::{Kernel, Readiness, Socket};
use super::listening::Listening;
use super::signals::{Signal, Signals};
use crate::limits::EVENTS_PER_TICK;
use crate::platform::last_write;

/// The kernel, and how long a wait spins.
#[derive(Debug)]
pub struct System {
    poll: Poll,
    signals: Signals,
    spin: Duration,
    /// Until when the loop spins.
    spins_until: Instant,
}

impl System {
    /// Installs the signal handlers, and makes a poll that spins for so long after an event.
    ///
    /// # Errors
    /// Those of sigaction(2) and `epoll_create1(2)`; the message says what could not be done.
    pub fn new(spin: Duration) -> io::Result<System> {
        let signals = Signals::install().map_err(|error| cannot("watch for signals", &error))?;
        System::with(signals, spin)
    }

    /// The same without signals.
    #[cfg(test)]
    pub(crate) fn without_signals(spin: Duration) -> System {
        System::with(Signals::none().expect("a pipe"), spin).expect("a poll")
    }

    fn with(signals: Signals, spin: Duration) -> io::Result<System> {
        let poll = Poll::new().map_err(|error| cannot("make a poll", &error))?;
        Ok(System { poll, signals, spin, spins_until: Instant::FIRST })
    }

    fn poll(&mut self, events: &mut Events, time: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, time) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }
}

impl Kernel for System {
    type Stream = TcpStream;
    type Listener = Listening;
    type Events = Events;

    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn date(&self) -> (u64, Duration) {
        clock::date()
    }

    fn room_for_events() -> Events {
        Events::with_capacity(EVENTS_PER_TICK)
    }

    fn wait(&mut self, events: &mut Events, from: Instant, until: Instant) -> io::Result<u64> {
        if self.spin.is_zero() {
            self.poll(events, time_left(until, from))?;
            return Ok(0);
        }
        if !events.is_empty() {
            self.spins_until = from + self.spin;
        }
        let mut now = from;
        while now < self.spins_until.min(until) {
            self.poll(events, Some(Duration::ZERO))?;
            now = Instant::now();
            if !events.is_empty() {
                return Ok(now.nanos_since(from));
            }
        }
        self.poll(events, time_left(until, now))?;
        Ok(now.nanos_since(from))
    }

    #[inline]
    fn events(events: &Events) -> impl Iterator<Item = (Token, Readiness)> {
        events.iter().map(|event: &Event| (event.token(), event.into()))
    }

    fn watch_signals(&mut self, token: Token) -> io::Result<()> {
        self.signals.register(self.poll.registry(), token)
    }

    fn take_signal(&mut self) -> Option<Signal> {
        self.signals.take()
    }

    fn listen(&mut self, listener: &mut Listening, token: Token) -> io::Result<()> {
        listener.listen(self.poll.registry(), token)
    }

    fn leave(&mut self, listener: &mut Listening) -> io::Result<()> {
        listener.leave(self.poll.registry())
    }

    fn watch(&mut self, stream: &mut TcpStream, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, token, interest)
    }
}

impl From<&Event> for Readiness {
    /// A FIN and an error count as readable: the read that meets them says what they are. An event
    /// about room alone sets nothing: kqueue has such events without need, as it tells of each
    /// direction on its own, and of all room.
    fn from(event: &Event) -> Readiness {
        let (eof, failed) = (event.is_read_closed(), event.is_error());
        Readiness { readable: event.is_readable() || eof || failed, eof, failed }
    }
}

impl Socket for TcpStream {
    fn write_before_fin(&mut self, bytes: &[u8]) -> io::Result<usize> {
        last_write::write_before_fin(self, bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write).map_err(|error| match error.kind() {
            // There was a connection, until the peer reset it.
            ErrorKind::NotConnected => ErrorKind::ConnectionReset.into(),
            _ => error,
        })
    }
}

/// How long a wait that begins now may last; `None` for ever.
fn time_left(until: Instant, now: Instant) -> Option<Duration> {
    (until < Instant::NEVER).then(|| until - now)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A kernel that spins for so long, and the events of a wait that has found one.
    fn found(spin: Duration) -> (System, Events, UnixStream) {
        let mut system = System::without_signals(spin);
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("an option");
        let mut ours = mio::net::UnixStream::from_std(ours);
        let registered = system.poll.registry().register(&mut ours, Token(0), Interest::READABLE);
        registered.expect("it is watched");
        theirs.write_all(b"x").expect("there is room");
        let mut events = System::room_for_events();
        // It is closed when this ends, and no other event comes from it.
        system.wait(&mut events, Instant::now(), Instant::NEVER).expect("a poll");
        assert_eq!(System::events(&events).count(), 1);
        (system, events, theirs)
    }

    /// For how many nanoseconds it spins when it waits for so long and no event comes.
    fn spun(system: &mut System, events: &mut Events, time: Duration) -> u64 {
        let start = Instant::now();
        let end = start + time;
        let spun = system.wait(events, start, end).expect("a poll");
        let now = Instant::now();
        assert!(now >= end && now < start + MINUTE, "it is over at its end");
        spun
    }

    #[test]
    fn a_loop_spins_for_a_while_after_an_event_and_then_sleeps() {
        let mut system = System::without_signals(5 * MILLI);
        let mut events = System::room_for_events();
        assert_eq!(spun(&mut system, &mut events, MILLI), 0, "there was no event");
        assert_eq!(spun(&mut system, &mut events, MILLI), 0, "a tick without one is none");
        let (mut system, mut events, _peer) = found(5 * MILLI);
        assert!(spun(&mut system, &mut events, 60 * MILLI) >= 4_000_000, "it spins for about 5 ms");
        assert_eq!(spun(&mut system, &mut events, MILLI), 0, "the time is over");
    }

    #[test]
    fn a_loop_that_spins_ends_its_wait_in_time() {
        let (mut system, mut events, _peer) = found(10 * MINUTE);
        let spun = spun(&mut system, &mut events, 20 * MILLI);
        assert!(spun >= 20_000_000, "it does not sleep meanwhile");
    }

    #[test]
    fn a_loop_that_spins_finds_an_event() {
        let (mut system, mut events, _peer) = found(10 * MINUTE);
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("an option");
        let mut ours = mio::net::UnixStream::from_std(ours);
        let registered = system.poll.registry().register(&mut ours, Token(1), Interest::READABLE);
        registered.expect("it is watched");
        theirs.write_all(b"x").expect("there is room");
        let start = Instant::now();
        let spun = system.wait(&mut events, start, Instant::NEVER).expect("a poll");
        assert_eq!((System::events(&events).count(), spun > 0), (1, true));
        assert!(Instant::now() < start + MINUTE);
    }

    #[test]
    fn a_reset_connection_cannot_be_half_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut socket =
            TcpStream::from_std(std::net::TcpStream::connect(address).expect("it listens"));
        let (peer, _) = listener.accept().expect("it is in the queue");
        socket2::SockRef::from(&peer)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket option");
        drop(peer);
        let error = socket.shutdown_write().expect_err("it is reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
