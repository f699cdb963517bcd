//! How the loop waits for events. For a while after an event it polls without sleeping (`--spin`),
//! as the next one may come sooner than a processor wakes up. Then it sleeps.
//!
//! The invariant: a wait is over at its instant, whether the loop spins or sleeps.
//!
//! # Try it
//!
//! One client that waits for each response. Compare what wrk reports with the same without
//! `--spin`: there, most of the time goes by until a processor has woken up.
//!
//! ```sh
//! onepoll --log warn --spin 1ms & server=$!
//! wrk -t1 -c1 -d3s http://localhost:8080/hello & sleep 2.5
//! curl -s http://localhost:8081/loop # look for: spinning
//! wait %1; kill $server
//! ```

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::{Events, Poll, Registry};

use super::clock::Instant;

/// The poll, and how long it spins.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    spin: Duration,
    /// Until when the loop spins.
    spins_until: Instant,
}

impl Poller {
    /// A poll that spins for so long after an event.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`.
    pub fn new(spin: Duration) -> io::Result<Poller> {
        Ok(Poller { poll: Poll::new()?, spin, spins_until: Instant::FIRST })
    }

    /// What sockets are registered with.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// The tick that ends now has found so many events.
    pub fn found(&mut self, events: usize, now: Instant) {
        if events > 0 {
            self.spins_until = now + self.spin;
        }
    }

    /// Waits for events from an instant, which is now, until another one. Returns for how many
    /// nanoseconds it spun.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`, but for `EINTR`.
    pub fn wait(&mut self, events: &mut Events, from: Instant, until: Instant) -> io::Result<u64> {
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

    fn poll(&mut self, events: &mut Events, time: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, time) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
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

    use mio::{Interest, Token};

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// For how many nanoseconds it spins when it waits for so long and no event comes.
    fn spun(poller: &mut Poller, time: Duration) -> u64 {
        let start = Instant::now();
        let end = start + time;
        let spun = poller.wait(&mut Events::with_capacity(8), start, end).expect("a poll");
        let now = Instant::now();
        assert!(now >= end && now < start + MINUTE, "it is over at its end");
        spun
    }

    #[test]
    fn a_loop_spins_for_a_while_after_an_event_and_then_sleeps() {
        let mut poller = Poller::new(5 * MILLI).expect("a poll");
        assert_eq!(spun(&mut poller, MILLI), 0, "there was no event");
        poller.found(0, Instant::now());
        assert_eq!(spun(&mut poller, MILLI), 0, "a tick without one is none");
        poller.found(1, Instant::now());
        assert!(spun(&mut poller, 60 * MILLI) >= 4_000_000, "it spins for about 5 ms");
        assert_eq!(spun(&mut poller, MILLI), 0, "the time is over");
    }

    #[test]
    fn a_loop_that_spins_ends_its_wait_in_time() {
        let mut poller = Poller::new(10 * MINUTE).expect("a poll");
        poller.found(1, Instant::now());
        assert!(spun(&mut poller, 20 * MILLI) >= 20_000_000, "it does not sleep meanwhile");
    }

    #[test]
    fn a_loop_that_spins_finds_an_event() {
        let mut poller = Poller::new(10 * MINUTE).expect("a poll");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("an option");
        let mut ours = mio::net::UnixStream::from_std(ours);
        let registered = poller.registry().register(&mut ours, Token(0), Interest::READABLE);
        registered.expect("it is watched");
        let (mut events, start) = (Events::with_capacity(8), Instant::now());
        poller.found(1, start);
        theirs.write_all(b"x").expect("there is room");
        let spun = poller.wait(&mut events, start, Instant::NEVER).expect("a poll");
        assert_eq!((events.iter().count(), spun > 0), (1, true));
        assert!(Instant::now() < start + MINUTE);
    }
}
