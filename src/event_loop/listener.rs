//! A listening socket, and what is remembered of it between ticks.
//!
//! The invariant: `ready` stays set until accept(2) itself has said that nobody waits. The
//! poll is edge-triggered and announces a queue that grows, not one that is there: stopping
//! for any other reason and forgetting it would leave clients waiting for ever.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use log::{debug, error};
use mio::Registry;
use mio::net::{TcpListener, TcpStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use socket2::{SockFilter, SockRef};

use crate::cli::address::canonical;
use crate::limits::{ACCEPTS_PER_TICK, BACKLOG};
use crate::services::Service;

/// The listening socket of a service.
#[derive(Debug)]
pub struct Listener {
    service: Service,
    address: SocketAddr,
    socket: TcpListener,
    /// What was found on a socket that others hold, too.
    inherited: Option<Settings>,
    /// Somebody may be waiting.
    ready: bool,
    /// Attempts to accept in a row that have met nothing but errors of connections.
    lost: usize,
}

/// The settings of an open socket that others hold, too, and that this process changes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    nonblocking: bool,
    nodelay: bool,
}

impl Settings {
    /// Reads those of a socket.
    ///
    /// # Errors
    /// Those of `fcntl(2)` and getsockopt(2).
    pub fn of(socket: &impl AsFd) -> io::Result<Settings> {
        Ok(Settings {
            nonblocking: fcntl_getfl(socket)?.contains(OFlags::NONBLOCK),
            nodelay: SockRef::from(socket).tcp_nodelay()?,
        })
    }

    /// Gives them back to a socket.
    fn restore(self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(self.nodelay)?;
        socket.set_nonblocking(self.nonblocking)
    }
}

/// What one attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and where it comes from.
    Stream(TcpStream, SocketAddr),
    /// A connection that had failed before it could be accepted: try again.
    Lost,
    /// Nobody waits: the kernel says so.
    Nobody,
    /// Somebody waits, but the process lacks descriptors or memory.
    Starved(io::Error),
    /// The listener is of no more use.
    Failed,
}

impl Listener {
    /// A socket that listens and is registered. If others hold it, too, `inherited` says how it
    /// was found.
    pub fn new(
        service: Service,
        address: SocketAddr,
        socket: TcpListener,
        inherited: Option<Settings>,
    ) -> Listener {
        Listener {
            service,
            address,
            socket,
            inherited,
            ready: false,
            lost: 0,
        }
    }

    /// The service that it is for.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Whether others hold the socket, too.
    pub fn is_inherited(&self) -> bool {
        self.inherited.is_some()
    }

    /// Stops listening to a socket that goes on listening for others. Closing alone would not
    /// do: the poll watches it for as long as anybody holds it (epoll(7), Q6).
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, none of which is expected.
    pub fn leave(mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }

    /// Has the kernel ignore those who begin to connect from now on, so that the queue comes
    /// to an end. Whoever is between the first packet and the queue is let in. Closing with
    /// the queue only just empty would reset those who come between the two calls; ignored,
    /// they try again a second later and are refused.
    ///
    /// # Errors
    /// Those of setsockopt(2), where there are no socket filters.
    pub fn shut_out(&self) -> io::Result<()> {
        SockRef::from(&self.socket).attach_filter(&NO_NEWCOMERS)
    }

    /// Remembers that somebody may be waiting.
    pub fn note(&mut self) {
        self.ready = true;
    }

    /// Whether somebody may be waiting.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Accepts one connection.
    pub fn accept(&mut self) -> Accepted {
        // Another process that holds the socket gives back its own settings when it leaves.
        if self.is_inherited()
            && let Err(error) = SockRef::from(&self.socket).set_nonblocking(true)
        {
            return self.fail(&error);
        }
        match self.socket.accept() {
            Ok((stream, peer)) => {
                self.lost = 0;
                Accepted::Stream(stream, canonical(peer))
            }
            Err(error) => self.refused(error),
        }
    }

    fn refused(&mut self, error: io::Error) -> Accepted {
        match Errno::from_io_error(&error).map_or(Fault::Connection, Fault::of) {
            // So many in a row are not about connections, and trying on would never end.
            Fault::Connection if self.lost >= ACCEPTS_PER_TICK => {
                self.lost = 0;
                Accepted::Starved(error)
            }
            Fault::Connection => {
                self.lost += 1;
                Accepted::Lost
            }
            // The kernel looks for a descriptor before it looks at the queue.
            Fault::Process if self.has_waiting() => Accepted::Starved(error),
            Fault::None | Fault::Process => {
                self.ready = false;
                Accepted::Nobody
            }
            Fault::Listener => self.fail(&error),
        }
    }

    fn fail(&self, error: &io::Error) -> Accepted {
        let (title, address) = (self.service.title(), self.address);
        error!(target: self.service.name(), "{title} on {address} failed: {error}");
        Accepted::Failed
    }

    /// Whether the queue holds a connection, as far as the kernel can tell.
    pub fn has_waiting(&self) -> bool {
        let mut queue = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut queue, Some(&Timespec::default())) != Ok(0)
    }

    /// Closes the listener, together with the connections of all who are still waiting, and
    /// says how many these are. No more than the queue can hold, as others may go on coming;
    /// and those who cannot be accepted count as one, as nobody can say how many they are.
    pub fn turn_away(mut self) -> usize {
        let mut waiting = 0;
        for _ in 0..BACKLOG {
            match self.accept() {
                Accepted::Stream(..) | Accepted::Lost => waiting += 1,
                Accepted::Starved(_) => return waiting + 1,
                Accepted::Nobody | Accepted::Failed => break,
            }
        }
        waiting
    }
}

/// A program for the kernel's packet filter: drops segments with SYN and without ACK, which
/// begin a connection, and keeps all others. It sees a segment from its TCP header on, where
/// the flags are at 13 (RFC 9293, section 3.1). Accepted sockets inherit it, and it does not
/// do anything there.
const NO_NEWCOMERS: [SockFilter; 5] = {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

impl Drop for Listener {
    /// What others hold is as it was when it was passed on.
    fn drop(&mut self) {
        if let Some(settings) = self.inherited
            && let Err(error) = settings.restore(&self.socket)
        {
            let title = self.service.title();
            debug!(target: self.service.name(), "{title} leaves its socket changed: {error}");
        }
    }
}

/// Whose fault an error of accept(2) is.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    None,
    Connection,
    Process,
    Listener,
}

impl Fault {
    /// Linux passes errors that are pending on the new connection on to accept(2), and its
    /// man page asks to take those of the network like "try again". Which errors there are is
    /// up to the system, so that only those end a listener which say that it is broken. Any other
    /// one is met again after a pause.
    fn of(errno: Errno) -> Fault {
        match errno {
            Errno::AGAIN => Fault::None,
            Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::TIMEDOUT
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NONET
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH => Fault::Connection,
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT | Errno::OPNOTSUPP => {
                Fault::Listener
            }
            _ => Fault::Process,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use mio::{Poll, Token};

    use super::*;
    use crate::event_loop::bound::Bound;

    #[test]
    fn errors_of_accept_are_told_apart() {
        for (errno, fault) in [
            (Errno::AGAIN, Fault::None),
            (Errno::INTR, Fault::Connection),
            (Errno::CONNABORTED, Fault::Connection),
            (Errno::PERM, Fault::Connection),
            (Errno::PROTO, Fault::Connection),
            (Errno::NOPROTOOPT, Fault::Connection),
            (Errno::CONNRESET, Fault::Connection),
            (Errno::TIMEDOUT, Fault::Connection),
            (Errno::NETDOWN, Fault::Connection),
            (Errno::NETUNREACH, Fault::Connection),
            (Errno::NONET, Fault::Connection),
            (Errno::HOSTDOWN, Fault::Connection),
            (Errno::HOSTUNREACH, Fault::Connection),
            (Errno::MFILE, Fault::Process),
            (Errno::NFILE, Fault::Process),
            (Errno::NOBUFS, Fault::Process),
            (Errno::NOMEM, Fault::Process),
            (Errno::NOSR, Fault::Process),
            (Errno::PROTONOSUPPORT, Fault::Process),
            (Errno::IO, Fault::Process),
            (Errno::INVAL, Fault::Listener),
            (Errno::BADF, Fault::Listener),
            (Errno::NOTSOCK, Fault::Listener),
            (Errno::FAULT, Fault::Listener),
            (Errno::OPNOTSUPP, Fault::Listener),
        ] {
            assert_eq!(Fault::of(errno), fault, "{errno}");
        }
    }

    #[test]
    fn errors_of_connections_are_skipped_and_not_for_ever() {
        let (mut listener, address) = listener();
        let lost = |listener: &mut Listener| {
            let mut count = 0;
            while matches!(listener.refused(Errno::PERM.into()), Accepted::Lost) {
                count += 1;
            }
            count
        };
        assert_eq!(lost(&mut listener), ACCEPTS_PER_TICK, "then it pauses");
        assert_eq!(lost(&mut listener), ACCEPTS_PER_TICK, "and tries again");
        let _client = std::net::TcpStream::connect(address).expect("it is in the queue");
        for _ in 0..ACCEPTS_PER_TICK {
            listener.refused(Errno::PERM.into());
        }
        assert!(matches!(listener.accept(), Accepted::Stream(..)));
        assert_eq!(
            lost(&mut listener),
            ACCEPTS_PER_TICK,
            "one that comes resets the count"
        );
        let without_code = io::Error::other("an address of length 0");
        assert!(matches!(listener.refused(without_code), Accepted::Lost));
    }

    /// A listener on a port of its own, and its address.
    fn listener() -> (Listener, SocketAddr) {
        let poll = Poll::new().expect("a poll");
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let bound = Bound::new(Service::Main, loopback, false).expect("a free port");
        let address = bound.address();
        (
            bound.listen(poll.registry(), Token(0)).expect("it listens"),
            address,
        )
    }

    #[test]
    fn accepted_sockets_do_not_wait_for_more_to_send() {
        let (mut listener, address) = listener();
        let _client = std::net::TcpStream::connect(address).expect("it is in the queue");
        let Accepted::Stream(stream, _) = listener.accept() else {
            panic!("a client is in the queue");
        };
        assert!(stream.nodelay().expect("TCP_NODELAY"));
    }

    #[test]
    fn a_queue_is_forgotten_only_when_it_is_empty() {
        let (mut listener, address) = listener();
        assert!(!listener.is_ready());
        let _client = std::net::TcpStream::connect(address).expect("it is in the queue");
        listener.note();
        assert!(matches!(listener.accept(), Accepted::Stream(..)));
        assert!(listener.is_ready(), "nobody has said that it is empty");
        assert!(matches!(listener.accept(), Accepted::Nobody));
        assert!(!listener.is_ready());
    }

    #[test]
    fn newcomers_are_shut_out_and_those_who_have_come_are_not() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let poll = Poll::new().expect("a poll");
            let address = loopback.parse().expect("an address");
            let Ok(bound) = Bound::new(Service::Main, address, false) else {
                assert_eq!(loopback, "[::1]:0", "not every host has IPv6");
                continue;
            };
            let address = bound.address();
            let mut listener = bound.listen(poll.registry(), Token(0)).expect("it listens");
            let mut early = std::net::TcpStream::connect(address).expect("it listens");
            listener.shut_out().expect("there are filters");
            let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
            let error = late.expect_err("nobody answers");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "on {address}");
            early.write_all(b"x").expect("whoever was in is in");
            let Accepted::Stream(mut stream, _) = listener.accept() else {
                panic!("a client is in the queue of {address}");
            };
            assert_eq!(stream.read(&mut [0; 9]).expect("it has come"), 1);
            assert!(matches!(listener.accept(), Accepted::Nobody));
        }
    }
}
