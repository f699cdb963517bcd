//! A listening socket, and what is remembered of it between ticks.
//!
//! The invariant: `ready` stays set until accept(2) itself has said that nobody waits. The
//! poll is edge-triggered and announces a queue that grows, not one that is there: stopping
//! for any other reason and forgetting it would leave clients waiting for ever.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use log::error;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::address::Address;
use crate::limits::BACKLOG;
use crate::service::Service;

/// A socket that is bound and not yet listening: nobody can connect, so it can be dropped
/// without letting anybody down.
#[derive(Debug)]
pub struct Bound {
    service: Service,
    address: SocketAddr,
    socket: Socket,
}

/// The listening socket of a service.
#[derive(Debug)]
pub struct Listener {
    service: Service,
    address: SocketAddr,
    socket: TcpListener,
    /// Somebody may be waiting.
    ready: bool,
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

impl Bound {
    /// Binds a socket, to both IP versions where the address leaves it open, or to IPv4 alone
    /// on a host that was built or booted without IPv6.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2), above all `AddrInUse`, `AddrNotAvailable` and
    /// `PermissionDenied`; the message names the service and the address.
    pub fn new(service: Service, address: Address) -> io::Result<Bound> {
        let (socket, address) = bind_first(&address.candidates(), bind)
            .map_err(|(address, error)| cannot_listen(service, address, &error))?;
        Ok(Bound {
            service,
            address,
            socket,
        })
    }

    /// The address that the kernel has bound, with the port that it has picked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets clients connect, and registers for readable edges under `token`.
    ///
    /// # Errors
    /// Those of listen(2), above all `AddrInUse` if another socket was quicker, and of
    /// `epoll_ctl(2)`; the message names the service and the address.
    pub fn listen(self, registry: &Registry, token: Token) -> io::Result<Listener> {
        let Bound {
            service,
            address,
            socket,
        } = self;
        let listening = socket.listen(BACKLOG).and_then(|()| {
            let mut socket = TcpListener::from_std(socket.into());
            registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(socket)
        });
        let socket = listening.map_err(|error| cannot_listen(service, address, &error))?;
        Ok(Listener {
            service,
            address,
            socket,
            ready: false,
        })
    }
}

/// Puts the service and its address ahead of what the kernel says.
fn cannot_listen(service: Service, address: SocketAddr, error: &io::Error) -> io::Error {
    let title = service.title();
    io::Error::new(
        error.kind(),
        format!("{title} cannot listen on {address}: {error}"),
    )
}

fn bind(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT to pass (socket(7)).
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this. An answer is one write, which Nagle can only delay.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// Binds the first of the candidates whose IP version the host has. Any other failure is the
/// last word, and comes with the address that it is about.
fn bind_first<T>(
    candidates: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, (SocketAddr, io::Error)> {
    let lacks_version = |error: &io::Error| {
        error.kind() == ErrorKind::AddrNotAvailable
            || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
    };
    let mut candidates = candidates.iter().peekable();
    loop {
        let &address = candidates.next().expect("there is a candidate");
        match bind(address) {
            Ok(bound) => return Ok(bound),
            Err(error) if lacks_version(&error) && candidates.peek().is_some() => {}
            Err(error) => return Err((address, error)),
        }
    }
}

impl Listener {
    /// The service that it is for.
    pub fn service(&self) -> Service {
        self.service
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
        let error = match self.socket.accept() {
            Ok((stream, peer)) => return Accepted::Stream(stream, peer),
            Err(error) => error,
        };
        match Errno::from_io_error(&error).map_or(Fault::Listener, Fault::of) {
            Fault::Connection => Accepted::Lost,
            // The kernel looks for a descriptor before it looks at the queue.
            Fault::Process if self.somebody_waits() => Accepted::Starved(error),
            Fault::None | Fault::Process => {
                self.ready = false;
                Accepted::Nobody
            }
            Fault::Listener => {
                let (title, address) = (self.service.title(), self.address);
                error!(target: self.service.name(), "{title} on {address} failed: {error}");
                Accepted::Failed
            }
        }
    }

    /// Whether the queue holds somebody, as far as the kernel can tell.
    fn somebody_waits(&self) -> bool {
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
    /// man page asks to take those of the network like "try again".
    fn of(errno: Errno) -> Fault {
        match errno {
            Errno::AGAIN => Fault::None,
            Errno::INTR
            | Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NONET
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH => Fault::Connection,
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Fault::Process,
            _ => Fault::Listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use mio::Poll;

    use super::*;

    #[test]
    fn a_host_without_ipv6_gets_ipv4_alone() {
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        for (errors, tried, blamed) in [
            ([None, None], vec![v6], None),
            ([Some(Errno::AFNOSUPPORT), None], vec![v6, v4], None),
            ([Some(Errno::ADDRNOTAVAIL), None], vec![v6, v4], None),
            (
                [Some(Errno::AFNOSUPPORT), Some(Errno::ADDRINUSE)],
                vec![v6, v4],
                Some(v4),
            ),
            (
                [Some(Errno::AFNOSUPPORT), Some(Errno::AFNOSUPPORT)],
                vec![v6, v4],
                Some(v4),
            ),
            ([Some(Errno::ADDRINUSE), None], vec![v6], Some(v6)),
            ([Some(Errno::ACCESS), None], vec![v6], Some(v6)),
        ] {
            let calls = RefCell::new(Vec::new());
            let bound = bind_first(&[v6, v4], |address| {
                calls.borrow_mut().push(address);
                errors[calls.borrow().len() - 1].map_or(Ok(()), |errno| Err(errno.into()))
            });
            assert_eq!(
                bound.err().map(|(address, _)| address),
                blamed,
                "{errors:?}"
            );
            assert_eq!(calls.into_inner(), tried, "{errors:?}");
        }
    }

    #[test]
    fn errors_of_accept_are_told_apart() {
        for (errno, fault) in [
            (Errno::AGAIN, Fault::None),
            (Errno::INTR, Fault::Connection),
            (Errno::CONNABORTED, Fault::Connection),
            (Errno::PERM, Fault::Connection),
            (Errno::PROTO, Fault::Connection),
            (Errno::NOPROTOOPT, Fault::Connection),
            (Errno::OPNOTSUPP, Fault::Connection),
            (Errno::NETDOWN, Fault::Connection),
            (Errno::NETUNREACH, Fault::Connection),
            (Errno::NONET, Fault::Connection),
            (Errno::HOSTDOWN, Fault::Connection),
            (Errno::HOSTUNREACH, Fault::Connection),
            (Errno::MFILE, Fault::Process),
            (Errno::NFILE, Fault::Process),
            (Errno::NOBUFS, Fault::Process),
            (Errno::NOMEM, Fault::Process),
            (Errno::INVAL, Fault::Listener),
            (Errno::BADF, Fault::Listener),
        ] {
            assert_eq!(Fault::of(errno), fault, "{errno}");
        }
    }

    /// A listener on a port of its own, and its address.
    fn listener() -> (Listener, SocketAddr) {
        let poll = Poll::new().expect("a poll");
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let bound = Bound::new(Service::Main, loopback).expect("a free port");
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
}
