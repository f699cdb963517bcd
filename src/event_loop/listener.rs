//! A listening socket: bound here or inherited, what is remembered of it between ticks, and how it
//! closes.
//!
//! The invariant: `ready` stays set until the kernel itself has said that the queue is empty. The
//! poll is edge-triggered and announces a queue that grows, not one that is there: stopping for
//! any other reason and forgetting it would leave clients waiting for ever.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use log::{debug, error};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::listeners::Service;
use crate::limits::{ACCEPTS_PER_TICK, BACKLOG};
use crate::platform::{accept, reuse_port, syn_filter};

/// The listening socket of a service.
#[derive(Debug)]
pub struct Listener {
    service: Service,
    socket: TcpListener,
    address: SocketAddr,
    /// It is on an IPv6 address and takes IPv4, too.
    is_dual: bool,
    /// The settings that were found on an inherited socket, which other processes hold, too.
    inherited: Option<Settings>,
    /// A connection may be in the queue.
    ready: bool,
    /// Attempts to accept in a row that have met nothing but errors of connections.
    failures: usize,
}

/// What one attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and its peer.
    Stream(TcpStream, SocketAddr),
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
    /// Binds a socket to the first of the candidates that the host has: an IPv6 address takes
    /// IPv4, too, and IPv4 alone is left for a host without IPv6. No client can connect yet.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2), above all `AddrInUse`, `AddrNotAvailable` and
    /// `PermissionDenied`; the message names the service and the address.
    pub fn bind(
        service: Service,
        candidates: &[SocketAddr],
        shares_port: bool,
    ) -> io::Result<Listener> {
        let (socket, address) = bind_first(candidates, |address| bind(address, shares_port))
            .map_err(|(address, error)| cannot_listen(service, address, &error))?;
        Ok(Listener {
            service,
            socket: TcpListener::from_std(socket.into()),
            address,
            is_dual: address.is_ipv6(),
            inherited: None,
            ready: true,
            failures: 0,
        })
    }

    /// Takes a socket from a supervisor. It listens already, and goes on without this process.
    ///
    /// # Errors
    /// What it is, if it is no TCP socket that listens.
    pub fn inherit(service: Service, descriptor: OwnedFd) -> io::Result<Listener> {
        let number = descriptor.as_raw_fd();
        let socket = Socket::from(descriptor);
        let listens = accept::listens(&socket);
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        let inherited = Settings::of(&socket).ok();
        let Some(address) = address.filter(|_| listens && inherited.is_some()) else {
            let name = service.name();
            let what = format!("Descriptor {number}, for {name}, is no TCP socket that listens");
            return Err(io::Error::other(what));
        };
        let is_dual = address.is_ipv6() && !socket.only_v6()?;
        Ok(Listener {
            service,
            socket: TcpListener::from_std(socket.into()),
            address,
            is_dual,
            inherited,
            ready: true,
            failures: 0,
        })
    }

    /// Lets clients connect, and registers for readable events under `token`.
    ///
    /// # Errors
    /// Those of listen(2), above all `AddrInUse` if another socket was quicker, and of
    /// `epoll_ctl(2)`; the message names the service and the address.
    pub fn listen(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        let listening = match self.inherited {
            Some(_) => set_up(&socket),
            None => socket.listen(BACKLOG),
        };
        let registry_call = |()| registry.register(&mut self.socket, token, Interest::READABLE);
        let listening = listening.and_then(registry_call);
        listening.map_err(|error| cannot_listen(self.service, self.address(), &error))
    }

    /// Which of the two services it accepts for.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Its address, with the port that the kernel has picked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it takes IPv4 on an IPv6 address.
    pub fn is_dual(&self) -> bool {
        self.is_dual
    }

    /// Whether other processes hold the socket, too.
    pub fn is_inherited(&self) -> bool {
        self.inherited.is_some()
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
    pub fn accept(&mut self) -> Accepted {
        // Another process that holds the socket gives back its own settings when it leaves.
        if self.is_inherited()
            && let Err(error) = SockRef::from(&self.socket).set_nonblocking(true)
        {
            return self.fail(&error);
        }
        match self.socket.accept() {
            Ok((stream, peer)) => {
                self.failures = 0;
                // An accept(2) that finds the queue empty has made a socket first. To ask costs
                // less.
                self.ready = self.has_waiting();
                Accepted::Stream(stream, canonical(peer))
            }
            Err(error) => self.classify(error),
        }
    }

    /// An error without a code is one of a connection: `mio` has got no address (macOS).
    fn classify(&mut self, error: io::Error) -> Accepted {
        match Errno::from_io_error(&error).map_or(Fault::Connection, Fault::of) {
            // So many in a row are not about connections, and trying on would never end.
            Fault::Connection if self.failures >= ACCEPTS_PER_TICK => {
                self.failures = 0;
                Accepted::Pause(error)
            }
            Fault::Connection => {
                self.failures += 1;
                Accepted::Lost
            }
            // Linux looks for a descriptor before it looks at the queue.
            Fault::Process if self.has_waiting() => Accepted::Pause(error),
            Fault::None | Fault::Process => {
                self.ready = false;
                Accepted::Empty
            }
            Fault::Listener => self.fail(&error),
        }
    }

    fn fail(&self, error: &io::Error) -> Accepted {
        let (title, address) = (self.service.title(), self.address());
        error!(target: self.service.name(), "{title} on {address} failed: {error}");
        Accepted::Failed
    }

    /// Whether the queue holds a connection, as far as the kernel can tell.
    pub fn has_waiting(&self) -> bool {
        let mut queue = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut queue, Some(&Timespec::default())) != Ok(0)
    }

    /// Has the kernel ignore the SYNs of clients that begin to connect from now on.
    ///
    /// # Errors
    /// Those of [`syn_filter::ignore_syns`].
    pub fn ignore_syns(&self) -> io::Result<()> {
        syn_filter::ignore_syns(&SockRef::from(&self.socket))
    }

    /// Leaves a socket that goes on listening for other processes. Closing alone would not do:
    /// epoll watches it for as long as any process holds it (epoll(7), Q6).
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, none of which is expected.
    pub fn leave(mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }

    /// Closes the listener, and with it the connections that are still in the queue. Says how many
    /// these are: no more than the queue can hold, as more may go on coming. Connections that
    /// cannot be accepted count as one, as their number is not known.
    pub fn reject_backlog(mut self) -> usize {
        let mut rejected = 0;
        for _ in 0..BACKLOG {
            match self.accept() {
                Accepted::Stream(..) | Accepted::Lost => rejected += 1,
                Accepted::Pause(_) => return rejected + 1,
                Accepted::Empty | Accepted::Failed => break,
            }
        }
        rejected
    }
}

impl Drop for Listener {
    /// An inherited socket is left as it was found.
    fn drop(&mut self) {
        if let Some(settings) = self.inherited
            && let Err(error) = settings.restore(&self.socket)
        {
            let title = self.service.title();
            debug!(target: self.service.name(), "{title} leaves its socket changed: {error}");
        }
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

/// The settings of an open socket that other processes hold, too, and that this one changes.
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

/// Puts the service and its address ahead of what the kernel says.
fn cannot_listen(service: Service, address: SocketAddr, error: &io::Error) -> io::Error {
    let title = service.title();
    io::Error::new(error.kind(), format!("{title} cannot listen on {address}: {error}"))
}

fn bind(address: SocketAddr, shares_port: bool) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // OpenBSD refuses this with EINVAL.
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT to pass (socket(7)).
    socket.set_reuse_address(true)?;
    if shares_port {
        reuse_port::share(&socket)?;
    }
    set_up(&socket)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// Sets what each listening socket needs.
fn set_up(socket: &Socket) -> io::Result<()> {
    // Accepted sockets inherit this. A response is one write, which Nagle can only delay.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)
}

/// Binds the first of the candidates that the host has. Hosts say in many ways that they lack an
/// IP version, so only what concerns the port or the process is the last word. A failure comes
/// with the address that it is about.
fn bind_first<T>(
    candidates: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, (SocketAddr, io::Error)> {
    let is_last_word = |error: &io::Error| {
        let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let kinds = [ErrorKind::AddrInUse, ErrorKind::PermissionDenied, ErrorKind::Unsupported];
        kinds.contains(&error.kind())
            || Errno::from_io_error(error).is_some_and(|errno| lacks.contains(&errno))
    };
    let mut candidates = candidates.iter().peekable();
    loop {
        let &address = candidates.next().expect("there is a candidate");
        match bind(address) {
            Ok(bound) => return Ok(bound),
            Err(error) if !is_last_word(&error) && candidates.peek().is_some() => {}
            Err(error) => return Err((address, error)),
        }
    }
}

/// An address as its users write it: a dual-stack socket shows IPv4 as IPv6 (RFC 4291, section
/// 2.5.5.2).
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

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
        let poll = Poll::new().expect("a poll");
        let loopback = [([127, 0, 0, 1], 0).into()];
        let mut listener = Listener::bind(Service::Main, &loopback, false).expect("a free port");
        listener.listen(poll.registry(), Token(0)).expect("it listens");
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
        let mut poll = Poll::new().expect("a poll");
        let mut listener = Listener::inherit(Service::Main, ours.into()).expect("it listens");
        listener.listen(poll.registry(), Token(0)).expect("it listens");
        let address = listener.address();
        listener.leave(poll.registry()).expect("it was registered");
        let _client = std::net::TcpStream::connect(address).expect("it listens");
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).expect("no error");
        assert!(events.is_empty(), "the poll does not watch it any more");
        theirs.accept().expect("the connection is theirs");
    }

    #[test]
    fn a_host_without_ipv6_gets_ipv4_alone() {
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        for (errors, tried, blamed) in [
            ([None, None], vec![v6], None),
            ([Some(Errno::AFNOSUPPORT), None], vec![v6, v4], None),
            ([Some(Errno::ADDRNOTAVAIL), None], vec![v6, v4], None),
            ([Some(Errno::AFNOSUPPORT), Some(Errno::ADDRINUSE)], vec![v6, v4], Some(v4)),
            ([Some(Errno::AFNOSUPPORT), Some(Errno::AFNOSUPPORT)], vec![v6, v4], Some(v4)),
            ([Some(Errno::INVAL), None], vec![v6, v4], None),
            ([Some(Errno::NOPROTOOPT), None], vec![v6, v4], None),
            ([Some(Errno::ADDRINUSE), None], vec![v6], Some(v6)),
            ([Some(Errno::MFILE), None], vec![v6], Some(v6)),
            ([Some(Errno::ACCESS), None], vec![v6], Some(v6)),
            ([Some(Errno::OPNOTSUPP), None], vec![v6], Some(v6)),
        ] {
            let calls = RefCell::new(Vec::new());
            let bound = bind_first(&[v6, v4], |address| {
                calls.borrow_mut().push(address);
                errors[calls.borrow().len() - 1].map_or(Ok(()), |errno| Err(errno.into()))
            });
            assert_eq!(bound.err().map(|(address, _)| address), blamed, "{errors:?}");
            assert_eq!(calls.into_inner(), tried, "{errors:?}");
        }
    }
}
