//! A socket on its way to listen: bound to an address of ours, or passed on by a supervisor.
//!
//! The invariant: it can be dropped without letting anybody down. Nobody can have connected to
//! one of our own yet, and one that was passed on goes on listening without us.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::cli::address::Address;
use crate::event_loop::listener::{Listener, Settings};
use crate::limits::BACKLOG;
use crate::services::Service;

/// A socket that does not listen yet, or not for us.
#[derive(Debug)]
pub struct Bound {
    service: Service,
    address: SocketAddr,
    socket: Socket,
    /// It is on an IPv6 address and takes IPv4, too.
    is_dual: bool,
    /// How it was found, if it listens already, and will go on when we have gone.
    inherited: Option<Settings>,
}

impl Bound {
    /// Binds a socket, to both IP versions where the address leaves it open, or to IPv4 alone
    /// on a host that was built or booted without IPv6.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2), above all `AddrInUse`, `AddrNotAvailable` and
    /// `PermissionDenied`; the message names the service and the address.
    pub fn new(service: Service, address: Address, reuse_port: bool) -> io::Result<Bound> {
        let bind = |address| bind(address, reuse_port);
        let (socket, address) = bind_first(&address.candidates(), bind)
            .map_err(|(address, error)| cannot_listen(service, address, &error))?;
        Ok(Bound {
            service,
            address,
            socket,
            is_dual: address.is_ipv6(),
            inherited: None,
        })
    }

    /// Takes a socket from a supervisor.
    ///
    /// # Errors
    /// What it is, if it is no TCP socket that listens.
    pub fn inherit(service: Service, descriptor: OwnedFd) -> io::Result<Bound> {
        let number = descriptor.as_raw_fd();
        let socket = Socket::from(descriptor);
        let listens = socket.is_listener().unwrap_or(false);
        let address = socket
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let Some(address) = address.filter(|_| listens) else {
            let name = service.name();
            let what = format!("Descriptor {number}, for {name}, is no TCP socket that listens");
            return Err(io::Error::other(what));
        };
        let inherited = Some(Settings::of(&socket)?);
        let is_dual = address.is_ipv6() && !socket.only_v6()?;
        Ok(Bound {
            service,
            address,
            socket,
            is_dual,
            inherited,
        })
    }

    /// What may reach it.
    pub fn reach(&self) -> Reach {
        Reach {
            address: self.address,
            is_dual: self.is_dual,
        }
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
            inherited,
            is_dual: _,
        } = self;
        let listening = match inherited {
            Some(_) => set_up(&socket),
            None => socket.listen(BACKLOG),
        };
        let listening = listening.and_then(|()| {
            let mut socket = TcpListener::from_std(socket.into());
            registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(socket)
        });
        let socket = listening.map_err(|error| cannot_listen(service, address, &error))?;
        Ok(Listener::new(service, address, socket, inherited))
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

/// The connections that a listening socket may get.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    address: SocketAddr,
    is_dual: bool,
}

impl Reach {
    /// Those of a socket of our own at an address.
    pub fn of(address: SocketAddr) -> Reach {
        let is_dual = address.is_ipv6();
        Reach { address, is_dual }
    }

    /// Makes sure that main, which reaches this, and diagnostics never get each other's
    /// connections. The kernel lets them share a port if both ask for that (`--reuse-port`).
    ///
    /// # Errors
    /// Both addresses, if they overlap.
    pub fn require_apart(self, diag: Reach) -> io::Result<()> {
        if !self.covers(diag) && !diag.covers(self) {
            return Ok(());
        }
        let (main, on, diag, at) = (
            Service::Main.title(),
            self.address,
            Service::Diag.title(),
            diag.address,
        );
        let what = format!("{main} on {on} and {diag} on {at} cannot share a port");
        Err(io::Error::new(ErrorKind::AddrInUse, what))
    }

    /// Whether it gets each connection that the other one may get.
    fn covers(self, other: Reach) -> bool {
        let [a, b] = [self, other].map(|reach| reach.address.ip().to_canonical());
        let is_every = a.is_unspecified() && (a.is_ipv4() == b.is_ipv4() || self.is_dual);
        let port = self.address.port();
        port == other.address.port() && port != 0 && (a == b || is_every)
    }
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT to pass (socket(7)).
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    set_up(&socket)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// Sets what each listening socket needs.
fn set_up(socket: &Socket) -> io::Result<()> {
    // Accepted sockets inherit this. An answer is one write, which Nagle can only delay.
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
        matches!(
            error.kind(),
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied
        ) || Errno::from_io_error(error).is_some_and(|errno| lacks.contains(&errno))
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn addresses_overlap_if_a_connection_could_be_meant_for_both() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("[::]:1", "[::]:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let [a, b] = [one, other].map(|text| Reach::of(text.parse().expect("an address")));
            assert_eq!(a.require_apart(b).is_err(), expected, "{one} {other}");
            assert_eq!(b.require_apart(a).is_err(), expected, "{other} {one}");
        }
        // An inherited socket may be for IPv6 alone.
        let [v6, v4] = ["[::]:1", "0.0.0.0:1"].map(|text| text.parse().expect("an address"));
        let alone = Reach {
            is_dual: false,
            ..Reach::of(v6)
        };
        assert!(alone.require_apart(Reach::of(v4)).is_ok());
        assert!(alone.require_apart(Reach::of(v6)).is_err());
    }

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
            ([Some(Errno::INVAL), None], vec![v6, v4], None),
            ([Some(Errno::NOPROTOOPT), None], vec![v6, v4], None),
            ([Some(Errno::ADDRINUSE), None], vec![v6], Some(v6)),
            ([Some(Errno::MFILE), None], vec![v6], Some(v6)),
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
}
