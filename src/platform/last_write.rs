//! A write behind which a FIN follows at once.
//!
//! The invariant: what is written leaves at the latest with the FIN.

use std::io;

use mio::net::TcpStream;

/// Holds the segment back until the FIN comes (`MSG_MORE`, send(2)), so that both are one segment.
///
/// # Errors
/// Those of send(2).
#[cfg(target_os = "linux")]
pub fn write_before_fin(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    socket2::SockRef::from(socket).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL)
}

/// A plain write. The response and the FIN are two segments.
///
/// # Errors
/// Those of write(2).
#[cfg(not(target_os = "linux"))]
pub fn write_before_fin(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    io::Write::write(&mut socket, bytes)
}
