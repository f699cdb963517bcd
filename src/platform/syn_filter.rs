//! How a listener gets no new connections while its accept queue is served.
//!
//! The invariant: a client between its SYN and the accept queue is let in.

use std::io;

use socket2::SockRef;

/// Has the kernel ignore the SYNs of clients that begin to connect from now on
/// (`SO_ATTACH_FILTER`, socket(7)), so that the accept queue comes to an end. Closing with the
/// queue only just empty would reset the clients that come between the two calls. Ignored, they
/// try again a second later and are refused.
///
/// # Errors
/// Those of setsockopt(2), where there are no socket filters.
#[cfg(target_os = "linux")]
pub fn ignore_syns(listener: &SockRef) -> io::Result<()> {
    listener.attach_filter(&NO_SYNS)
}

/// Not here. New clients are let in until the listener closes. Those that are still in its queue
/// are reset.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn ignore_syns(_listener: &SockRef) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A program for the kernel's packet filter: drops segments with SYN and without ACK, which
/// begin a connection, and keeps all others. It sees a segment from its TCP header on, where
/// the flags are at 13 (RFC 9293, section 3.1). Accepted sockets inherit it, and it does not
/// do anything there.
#[cfg(target_os = "linux")]
const NO_SYNS: [socket2::SockFilter; 5] = {
    use socket2::SockFilter;
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn syns_are_ignored_and_connections_in_the_queue_are_not() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(loopback) else {
                assert_eq!(loopback, "[::1]:0", "not every host has IPv6");
                continue;
            };
            let address = listener.local_addr().expect("an address");
            let mut early = TcpStream::connect(address).expect("it listens");
            ignore_syns(&SockRef::from(&listener)).expect("there are filters");
            let late = TcpStream::connect_timeout(&address, Duration::from_millis(200));
            let error = late.expect_err("its SYN is ignored");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "on {address}");
            early.write_all(b"x").expect("it is connected");
            let (mut stream, _) = listener.accept().expect("a client is in the queue");
            assert_eq!(stream.read(&mut [0; 9]).expect("it has come"), 1);
            listener.set_nonblocking(true).expect("an option");
            let error = listener.accept().expect_err("the queue is empty");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }
}
