//! What accept(2) reports of a connection, and whether a socket listens.
//!
//! The invariant: what has happened to one connection never ends the server.

use rustix::io::Errno;
use socket2::Socket;

/// Errors of the network that are pending on the new connection, and that accept(2) passes on. Its
/// man page asks to take them like "try again".
#[cfg(target_os = "linux")]
pub const PENDING_ERRORS: &[Errno] = &[
    Errno::PERM,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::NONET,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
];

/// FreeBSD reports `ECONNABORTED` instead.
///
/// macOS reports nothing. On an IPv6 listener, a connection that the peer has reset already has an
/// address of length 0: `mio` returns an error without a code, or an earlier address. Without a
/// free descriptor, accept(2) drops the connection there, and leaves it in the queue on Linux.
#[cfg(not(target_os = "linux"))]
pub const PENDING_ERRORS: &[Errno] = &[];

/// Whether a socket listens (`SO_ACCEPTCONN`, socket(7)).
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub fn listens(socket: &Socket) -> bool {
    socket.is_listener().unwrap_or(false)
}

/// macOS does not say, so every socket counts as one that listens. If it does not, the first
/// accept(2) fails, and that ends the server.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn listens(socket: &Socket) -> bool {
    socket.r#type().is_ok()
}
