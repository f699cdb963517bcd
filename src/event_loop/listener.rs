//! The listener of a service: what is remembered of its socket between ticks, what the errors of
//! accept(2) are about, and how it closes.
//!
//! The invariant: `ready` stays set until the kernel itself has said that the queue is empty. The
//! poll is edge-triggered and announces a queue that grows, not one that is there: stopping for
//! any other reason and forgetting it would leave clients waiting for ever.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use log::error;
use mio::Token;
use rustix::io::Errno;

use super::kernel::{Kernel, ListeningSocket};
use super::listeners::Service;
use super::listening::Listening;
use crate::limits::{ACCEPTS_PER_TICK, BACKLOG};
use crate::platform::accept;

/// The listener of a service.
#[derive(Debug)]
pub struct Listener<L = Listening> {
    service: Service,
    socket: L,
    address: SocketAddr,
    /// A connection may be in the queue.
    ready: bool,
    /// Attempts to accept in a row that have met nothing but errors of connections.
    failures: usize,
}

/// What one attempt to accept came to.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A connection, and its peer.
    Stream(S, SocketAddr),
    /// A connection that had failed before it could be accepted: try again.
    Lost,
    /// The queue is empty: the kernel says so.
    Empty,
    /// The queue is not empty, but the process is out of descriptors or memory.
    Pause(io::Error),
    /// The listener is of no more use.
    Failed,
}

impl Listener {
    /// Binds a socket to the first of the candidates that the host has. No client can connect yet.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2), above all `AddrInUse`, `AddrNotAvailable` and
    /// `PermissionDenied`; the message names the service and the address.
    pub fn bind(
        service: Service,
        candidates: &[SocketAddr],
        shares_port: bool,
    ) -> io::Result<Listener> {
        let bound = Listening::bind(candidates, shares_port);
        let socket = bound.map_err(|(address, error)| cannot_listen(service, address, &error))?;
        let address = socket.address();
        Ok(Listener::new(service, socket, address))
    }

    /// Takes a socket from a supervisor. It listens already, and goes on without this process.
    ///
    /// # Errors
    /// What it is, if it is no TCP socket that listens.
    pub fn inherit(service: Service, descriptor: OwnedFd) -> io::Result<Listener> {
        let number = descriptor.as_raw_fd();
        let socket = Listening::inherit(descriptor).ok_or_else(|| {
            let name = service.name();
            let what = format!("Descriptor {number}, for {name}, is no TCP socket that listens");
            io::Error::other(what)
        })?;
        let address = socket.address();
        Ok(Listener::new(service, socket, address))
    }

    /// Whether it takes IPv4 on an IPv6 address.
    pub fn is_dual(&self) -> bool {
        self.socket.is_dual()
    }
}

impl<L: ListeningSocket> Listener<L> {
    /// The listener of a service with a socket at an address.
    pub fn new(service: Service, socket: L, address: SocketAddr) -> Listener<L> {
        Listener { service, socket, address, ready: true, failures: 0 }
    }

    /// Lets clients connect, and watches for them under `token`.
    ///
    /// # Errors
    /// Those of [`Kernel::listen`]; the message names the service and the address.
    pub fn listen<K>(&mut self, kernel: &mut K, token: Token) -> io::Result<()>
    where
        K: Kernel<Listener = L>,
    {
        let listening = kernel.listen(&mut self.socket, token);
        listening.map_err(|error| cannot_listen(self.service, self.address, &error))
    }

    /// Which of the two services it accepts for.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Its address, with the port that the kernel has picked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether other processes hold the socket, too.
    pub fn is_inherited(&self) -> bool {
        self.socket.is_inherited()
    }

    /// An event has told that a connection is in the queue.
    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether a connection may be in the queue.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Accepts one connection.
    pub fn accept(&mut self) -> Accepted<L::Stream> {
        if let Err(error) = self.socket.keep_nonblocking() {
            return self.fail(&error);
        }
        match self.socket.accept() {
            Ok((stream, peer)) => {
                self.failures = 0;
                // An accept(2) that finds the queue empty has made a socket first. To ask costs
                // less.
                self.ready = self.has_waiting();
                Accepted::Stream(stream, peer)
            }
            Err(error) => self.classify(error),
        }
    }

    fn classify(&mut self, error: io::Error) -> Accepted<L::Stream> {
        let fault = Fault::of_error(&error);
        self.failures = if fault == Fault::Connection { self.failures + 1 } else { 0 };
        match fault {
            // So many in a row are not about connections, and trying on would never end.
            Fault::Connection if self.failures > ACCEPTS_PER_TICK => {
                self.failures = 0;
                Accepted::Pause(error)
            }
            Fault::Connection => Accepted::Lost,
            // Linux looks for a descriptor before it looks at the queue.
            Fault::Process if self.has_waiting() => Accepted::Pause(error),
            Fault::None | Fault::Process => {
                self.ready = false;
                Accepted::Empty
            }
            Fault::Listener => self.fail(&error),
        }
    }

    fn fail(&self, error: &io::Error) -> Accepted<L::Stream> {
        let (title, address) = (self.service.title(), self.address());
        error!(target: self.service.name(), "{title} on {address} failed: {error}");
        Accepted::Failed
    }

    /// Whether the queue holds a connection, as far as the kernel can tell.
    pub fn has_waiting(&self) -> bool {
        self.socket.has_waiting()
    }

    /// Has the kernel ignore the SYNs of clients that begin to connect from now on.
    ///
    /// # Errors
    /// Those of [`ListeningSocket::ignore_syns`].
    pub fn ignore_syns(&self) -> io::Result<()> {
        self.socket.ignore_syns()
    }

    /// Leaves a socket that goes on listening for other processes.
    ///
    /// # Errors
    /// Those of [`Kernel::leave`].
    pub fn leave<K: Kernel<Listener = L>>(mut self, kernel: &mut K) -> io::Result<()> {
        kernel.leave(&mut self.socket)
    }

    /// Closes the listener, and with it the connections that are still in the queue. Says how many
    /// these are: no more than the queue can hold, as more may go on coming. Connections that
    /// cannot be accepted count as one, as their number is not known.
    pub fn reject_backlog(mut self) -> usize {
        let mut rejected = 0;
        for _ in 0..BACKLOG {
            match self.accept() {
                Accepted::Stream(..) => rejected += 1,
                // The client itself has gone, or the call was interrupted.
                Accepted::Lost => {}
                Accepted::Pause(error) if Fault::of_error(&error) == Fault::Connection => {}
                Accepted::Pause(_) => return rejected + 1,
                Accepted::Empty | Accepted::Failed => break,
            }
        }
        rejected
    }
}

/// What an error of accept(2) is about.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    None,
    Connection,
    Process,
    Listener,
}

impl Fault {
    /// An error without a code is one of a connection: `mio` has got no address (macOS).
    fn of_error(error: &io::Error) -> Fault {
        Errno::from_io_error(error).map_or(Fault::Connection, Fault::of)
    }

    /// Which errors there are is up to the system, so that only those end a listener which say that
    /// it is broken. Any other one is met again after a pause.
    fn of(errno: Errno) -> Fault {
        match errno {
            Errno::AGAIN => Fault::None,
            Errno::INTR | Errno::CONNABORTED | Errno::CONNRESET | Errno::TIMEDOUT => {
                Fault::Connection
            }
            errno if accept::PENDING_ERRORS.contains(&errno) => Fault::Connection,
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT | Errno::OPNOTSUPP => {
                Fault::Listener
            }
            _ => Fault::Process,
        }
    }
}

/// Puts the service and its address ahead of what the kernel says.
fn cannot_listen(service: Service, address: SocketAddr, error: &io::Error) -> io::Error {
    let title = service.title();
    io::Error::new(error.kind(), format!("{title} cannot listen on {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;
    use crate::event_loop::clock::Instant;
    use crate::event_loop::system::System;

    #[test]
    fn errors_of_accept_are_told_apart() {
        for (errno, fault) in [
            (Errno::AGAIN, Fault::None),
            (Errno::INTR, Fault::Connection),
            (Errno::CONNABORTED, Fault::Connection),
            (Errno::CONNRESET, Fault::Connection),
            (Errno::TIMEDOUT, Fault::Connection),
            (Errno::MFILE, Fault::Process),
            (Errno::NFILE, Fault::Process),
            (Errno::NOBUFS, Fault::Process),
            (Errno::NOMEM, Fault::Process),
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
        for &errno in accept::PENDING_ERRORS {
            assert_eq!(Fault::of(errno), Fault::Connection, "{errno}");
        }
    }

    #[test]
    fn errors_of_connections_are_skipped_and_not_for_ever() {
        let (mut listener, address) = listener();
        let lost = |listener: &mut Listener| {
            let mut count = 0;
            while matches!(listener.classify(Errno::CONNABORTED.into()), Accepted::Lost) {
                count += 1;
            }
            count
        };
        assert_eq!(lost(&mut listener), ACCEPTS_PER_TICK, "then it pauses");
        assert_eq!(lost(&mut listener), ACCEPTS_PER_TICK, "and tries again");
        let _client = std::net::TcpStream::connect(address).expect("it is in the queue");
        for _ in 0..ACCEPTS_PER_TICK {
            listener.classify(Errno::CONNABORTED.into());
        }
        assert!(matches!(listener.accept(), Accepted::Stream(..)));
        assert_eq!(lost(&mut listener), ACCEPTS_PER_TICK, "one that comes resets the count");
        // Clients that reset their connections, one by one over days, are not in a row.
        for _ in 0..2 * ACCEPTS_PER_TICK {
            assert!(matches!(listener.classify(Errno::CONNABORTED.into()), Accepted::Lost));
            assert!(matches!(listener.classify(Errno::AGAIN.into()), Accepted::Empty));
        }
        let _client = std::net::TcpStream::connect(address).expect("it is in the queue");
        for _ in 0..2 * ACCEPTS_PER_TICK {
            assert!(matches!(listener.classify(Errno::CONNABORTED.into()), Accepted::Lost));
            assert!(matches!(listener.classify(Errno::MFILE.into()), Accepted::Pause(_)));
        }
    }

    #[test]
    fn a_connection_without_an_address_keeps_no_other_from_its_service() {
        let (mut listener, address) = listener();
        let _client = std::net::TcpStream::connect(address).expect("it is in the queue");
        // What mio makes of the accept(2) of macOS.
        let without_address = || io::Error::from(ErrorKind::InvalidInput);
        assert!(matches!(listener.classify(without_address()), Accepted::Lost));
        assert!(listener.is_ready(), "the loop tries again in the same tick");
        assert!(matches!(listener.accept(), Accepted::Stream(..)));
        assert!(matches!(listener.accept(), Accepted::Empty));
    }

    /// A listener on a free port, and its address.
    fn listener() -> (Listener, SocketAddr) {
        let mut system = System::without_signals(Duration::ZERO);
        let loopback = [([127, 0, 0, 1], 0).into()];
        let mut listener = Listener::bind(Service::Main, &loopback, false).expect("a free port");
        listener.listen(&mut system, Token(0)).expect("it listens");
        let address = listener.address();
        (listener, address)
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
        let connect = |_| std::net::TcpStream::connect(address).expect("it is in the queue");
        let _clients = [(); 2].map(connect);
        listener.set_ready();
        assert!(matches!(listener.accept(), Accepted::Stream(..)));
        assert!(listener.is_ready(), "the kernel has not said that it is empty");
        assert!(matches!(listener.accept(), Accepted::Stream(..)));
        assert!(!listener.is_ready(), "the kernel does not have to make a socket to say so");
        listener.set_ready();
        assert!(matches!(listener.accept(), Accepted::Empty));
        assert!(!listener.is_ready());
    }

    #[test]
    fn an_inherited_socket_is_left_to_the_processes_that_hold_it() {
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ours = theirs.try_clone().expect("a descriptor");
        let mut system = System::without_signals(Duration::ZERO);
        let mut listener = Listener::inherit(Service::Main, ours.into()).expect("it listens");
        listener.listen(&mut system, Token(0)).expect("it listens");
        let address = listener.address();
        listener.leave(&mut system).expect("it was registered");
        let _client = std::net::TcpStream::connect(address).expect("it listens");
        let (mut events, now) = (System::room_for_events(), Instant::now());
        system.wait(&mut events, now, now).expect("no error");
        assert_eq!(System::events(&events).count(), 0, "the poll does not watch it any more");
        theirs.accept().expect("the connection is theirs");
    }
}
