//! How the loop waits for events. For a while behind an event it polls without sleeping
//! (`--spin`), as the next one may come sooner than a processor wakes up. Then it sleeps.
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
pub struct Wait {
    poll: Poll,
    spin: Duration,
    /// Until when the loop spins.
    spins_until: Instant,
}

impl Wait {
    /// A loop that spins for so long behind an event.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`.
    pub fn new(spin: Duration) -> io::Result<Wait> {
        Ok(Wait { poll: Poll::new()?, spin, spins_until: Instant::FIRST })
    }

    /// What sockets are registered with.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// The tick that ends now has found events.
    pub fn found_events(&mut self, now: Instant) {
        self.spins_until = now + self.spin;
    }

    /// Waits for events from now until an instant, and returns for how many nanoseconds it spun.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`, but for `EINTR`.
    pub fn wait(&mut self, events: &mut Events, now: Instant, until: Instant) -> io::Result<u64> {
        let mut instant = now;
        while instant < self.spins_until.min(until) {
            self.poll(events, Some(Duration::ZERO))?;
            instant = Instant::now();
            if !events.is_empty() {
                return Ok(instant.nanos_since(now));
            }
        }
        self.poll(events, time_left(until, instant))?;
        Ok(instant.nanos_since(now))
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

    /// A wait, and a socket that it watches with the other end.
    fn watch(spin: Duration) -> (Wait, mio::net::UnixStream, UnixStream) {
        let wait = Wait::new(spin).expect("a poll");
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("an option");
        let mut ours = mio::net::UnixStream::from_std(ours);
        let registered = wait.registry().register(&mut ours, Token(0), Interest::READABLE);
        registered.expect("it is watched");
        (wait, ours, theirs)
    }

    #[test]
    fn a_loop_spins_behind_an_event_and_no_longer_than_it_may_wait() {
        let mut events = Events::with_capacity(8);
        for (spin, least, most) in [(0, 0, 0), (5, 5, 60), (1000, 60, 1000)] {
            let (mut wait, _ours, _theirs) = watch(MILLI * spin);
            let start = Instant::now();
            let end = start + MILLI * 60;
            let spun = wait.wait(&mut events, start, start + MILLI).expect("a poll");
            assert_eq!(spun, 0, "there was no event");
            wait.found_events(start);
            let spun = wait.wait(&mut events, start, end).expect("a poll");
            assert!(Instant::now() >= end, "no event comes");
            let nanos = |millis: u64| millis * 1_000_000;
            assert!(spun >= nanos(least), "{spun} of {spin} ms");
            // Without a sleep in between, it is over with the wait.
            assert!(most == 60 || spun == 0 || spun >= nanos(60), "{spun} of {spin} ms");
        }
    }

    #[test]
    fn a_spinning_loop_finds_an_event_at_once() {
        let (mut wait, _ours, mut theirs) = watch(MILLI * 60_000);
        let mut events = Events::with_capacity(8);
        let start = Instant::now();
        wait.found_events(start);
        theirs.write_all(b"x").expect("there is room");
        let spun = wait.wait(&mut events, start, Instant::NEVER).expect("a poll");
        assert_eq!(events.iter().count(), 1);
        assert!(spun > 0 && Instant::now() < start + MILLI * 60_000);
    }
}
