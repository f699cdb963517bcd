//! What accept(2) reports, and whether a socket listens.
//!
//! The invariant: an error that one system knows is no error of a connection on the others.

use std::io;

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

/// The other systems report `ECONNABORTED` instead.
///
/// macOS reports nothing on an IPv6 listener: a connection that the peer has reset already is
/// accepted with an address of length 0. `mio` then returns an error without a code, which is an
/// error of the connection, or an old address, and the first read meets the reset.
#[cfg(not(target_os = "linux"))]
pub const PENDING_ERRORS: &[Errno] = &[];

/// Whether a socket listens (`SO_ACCEPTCONN`, socket(7)).
///
/// # Errors
/// Those of getsockopt(2), above all that this is no socket.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub fn listens(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// macOS cannot say. A socket that does not listen is found out by the first accept(2), which ends
/// the server, and not by its start.
///
/// # Errors
/// Those of getsockopt(2), above all that this is no socket.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn listens(socket: &Socket) -> io::Result<bool> {
    socket.r#type().map(|_| true)
}
