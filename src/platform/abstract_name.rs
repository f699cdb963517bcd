//! Abstract names of Unix sockets, which some supervisors use.
//!
//! The invariant: a name that the system does not have is an error, and not a path.

use std::io;
use std::os::unix::net::SocketAddr;

/// The address of an abstract name (unix(7)).
///
/// # Errors
/// `InvalidInput` if the name is too long.
#[cfg(target_os = "linux")]
pub fn address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

/// Not here. The supervisor is not notified.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
