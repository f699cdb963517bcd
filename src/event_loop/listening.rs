//! A listening TCP socket: bound here, or inherited from a supervisor. It knows nothing of what
//! becomes of a connection.
//!
//! The invariant: an inherited socket is left as it was found, as other processes hold it, too.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use log::debug;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::kernel::ListeningSocket;
use crate::limits::BACKLOG;
use crate::platform::{accept, reuse_port, syn_filter};

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listening {
    socket: TcpListener,
    address: SocketAddr,
    /// It is on an IPv6 address and takes IPv4, too.
    is_dual: bool,
    /// The settings that were found on an inherited socket, which other processes hold, too.
    inherited: Option<Settings>,
}

impl Listening {
    /// Binds a socket to the first of the candidates that the host has: an IPv6 address takes
    /// IPv4, too, and IPv4 alone is left for a host without IPv6. No client can connect yet.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2), with the address.
    pub fn bind(
        candidates: &[SocketAddr],
        shares_port: bool,
    ) -> Result<Listening, (SocketAddr, io::Error)> {
        let (socket, address) = bind_first(candidates, |address| bind(address, shares_port))?;
        let socket = TcpListener::from_std(socket.into());
        Ok(Listening { socket, address, is_dual: address.is_ipv6(), inherited: None })
    }

    /// Takes a socket from a supervisor. It listens already, and goes on without this process.
    /// Returns `None` if it is no TCP socket that listens.
    pub fn inherit(descriptor: OwnedFd) -> Option<Listening> {
        let socket = Socket::from(descriptor);
        let address = socket.local_addr().ok()?.as_socket().filter(|_| accept::listens(&socket))?;
        let inherited = Some(Settings::of(&socket).ok()?);
        let is_dual = address.is_ipv6() && !socket.only_v6().ok()?;
        let socket = TcpListener::from_std(socket.into());
        Some(Listening { socket, address, is_dual, inherited })
    }

    /// Lets clients connect, and registers for readable events under `token`.
    ///
    /// # Errors
    /// Those of listen(2), above all `AddrInUse` if another socket was quicker, and of
    /// `epoll_ctl(2)`.
    pub fn listen(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        match self.inherited {
            Some(_) => set_up(&socket),
            None => socket.listen(BACKLOG),
        }?;
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Leaves a socket that goes on listening for other processes. Closing alone would not do:
    /// epoll watches it for as long as any process holds it (epoll(7), Q6).
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, none of which is expected.
    pub fn leave(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }

    /// Its address, with the port that the kernel has picked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it takes IPv4 on an IPv6 address.
    pub fn is_dual(&self) -> bool {
        self.is_dual
    }
}

impl ListeningSocket for Listening {
    type Stream = TcpStream;

    fn is_inherited(&self) -> bool {
        self.inherited.is_some()
    }

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.socket.accept()?;
        Ok((stream, canonical(peer)))
    }

    /// Another process that holds the socket gives back its own settings when it leaves.
    fn keep_nonblocking(&self) -> io::Result<()> {
        match self.inherited {
            Some(_) => SockRef::from(&self.socket).set_nonblocking(true),
            None => Ok(()),
        }
    }

    fn has_waiting(&self) -> bool {
        let mut queue = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut queue, Some(&Timespec::default())) != Ok(0)
    }

    fn ignore_syns(&self) -> io::Result<()> {
        syn_filter::ignore_syns(&SockRef::from(&self.socket))
    }
}

impl Drop for Listening {
    /// An inherited socket is left as it was found.
    fn drop(&mut self) {
        if let Some(settings) = self.inherited
            && let Err(error) = settings.restore(&self.socket)
        {
            debug!(target: "onepoll", "An inherited socket stays changed: {error}");
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

    use super::*;

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
