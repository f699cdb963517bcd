//! A socket that does not block, together with what is remembered of its readiness.
//!
//! The invariant: every registration is edge-triggered (epoll(7)), so the kernel tells of a
//! change once. `readable` is therefore a memory: an event sets it, and only a read that
//! shows there is nothing more clears it. Whoever stops reading for any other reason may
//! come back whenever it suits them.
//!
//! # Try it
//!
//! One read and one write for a request, and for a batch of them, too. That a connection is
//! registered once shows as well: `epoll_ctl` comes with `accept4` and never again.
//!
//! ```sh
//! onepoll --log warn & server=$!
//! timeout 3 strace -f -o calls.txt -e trace=accept4,epoll_ctl,recvfrom,sendto -p $server & sleep 1
//! curl -s http://localhost:8080/hello http://localhost:8080/hello
//! wait %1; cat calls.txt # look for: sendto(
//! kill $server
//! ```

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;

use crate::cli::address::canonical;

/// What is needed of a socket, so that tests can play the kernel.
pub trait Socket: Read + Write {
    /// Sends our FIN and leaves the other direction open (shutdown(2) with `SHUT_WR`).
    ///
    /// # Errors
    /// Whatever the kernel says, as when the peer has reset the connection.
    fn finish(&mut self) -> io::Result<()>;

    /// Where the peer is, for the log; `None` if the kernel has forgotten it.
    fn peer(&self) -> Option<SocketAddr>;
}

impl Socket for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
            .map_err(|error| match error.kind() {
                // There was one, until the peer reset it.
                ErrorKind::NotConnected => ErrorKind::ConnectionReset.into(),
                _ => error,
            })
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer_addr().ok().map(canonical)
    }
}

/// What an event tells of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// There may be something to read.
    pub readable: bool,
    /// The peer's FIN has come; what it sent before may still have to be read.
    pub eof: bool,
    /// There is an error, which the next call will meet.
    pub broken: bool,
}

impl Edge {
    /// That something has come.
    pub const READABLE: Edge = Edge {
        readable: true,
        eof: false,
        broken: false,
    };

    /// That the peer's FIN has come, perhaps behind something.
    pub const FIN: Edge = Edge {
        eof: true,
        ..Edge::READABLE
    };
}

impl From<&Event> for Edge {
    /// A FIN and an error are noted like data: the read that meets them says what they are.
    fn from(event: &Event) -> Edge {
        let (eof, broken) = (event.is_read_closed(), event.is_error());
        Edge {
            readable: event.is_readable() || eof || broken,
            eof,
            broken,
        }
    }
}

/// A socket with a memory.
#[derive(Debug)]
pub struct Wire<S> {
    socket: S,
    /// What events have told, and no call has disproved.
    edge: Edge,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing until the next edge.
    Nothing,
    /// The peer's FIN.
    Eof,
}

impl<S: Socket> Wire<S> {
    /// A socket of which no edge is known.
    pub fn new(socket: S) -> Wire<S> {
        Wire {
            socket,
            edge: Edge::default(),
        }
    }

    /// Whether there may be something to read.
    pub fn is_readable(&self) -> bool {
        self.edge.readable
    }

    /// Remembers an edge.
    pub fn note(&mut self, edge: Edge) {
        self.edge.readable |= edge.readable;
        self.edge.eof |= edge.eof;
        self.edge.broken |= edge.broken;
    }

    /// Whether the kernel has told of an error.
    pub fn is_broken(&self) -> bool {
        self.edge.broken
    }

    /// One recv(2), if an edge has left something to read, and there is room for it.
    ///
    /// # Errors
    /// Those of recv(2), but for `EAGAIN` and `EINTR`.
    pub fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        while self.edge.readable && !space.is_empty() {
            match self.socket.read(space) {
                Ok(0) => return Ok(Received::Eof),
                Ok(len) => {
                    // A short read has emptied the socket, unless the FIN came with the same
                    // edge: no further edge will tell of it, so read on until it is met.
                    self.edge.readable = len == space.len() || self.edge.eof;
                    return Ok(Received::Bytes(len));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.edge.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(Received::Nothing)
    }

    /// One send(2), or one writev(2) if a `tail` follows; says how many bytes the kernel took,
    /// none of them if it has no room. Only then does it owe an edge, so a partial success is
    /// no reason to wait.
    ///
    /// # Errors
    /// Those of send(2), but for `EAGAIN` and `EINTR`.
    pub fn send(&mut self, bytes: &[u8], tail: &[u8]) -> io::Result<usize> {
        loop {
            let sent = if tail.is_empty() {
                self.socket.write(bytes)
            } else {
                let both = [bytes, tail].map(IoSlice::new);
                self.socket.write_vectored(&both)
            };
            match sent {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => return Ok(len),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(0),
                    // Trying again later would mean to wait for an edge that nobody owes.
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// See [`Socket::peer`].
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket.peer()
    }

    /// See [`Socket::finish`].
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::event_loop::script::{Act, Kernel, Script};

    #[test]
    fn an_interrupted_call_is_made_again_at_once() {
        let interrupted = || Act::Fail(ErrorKind::Interrupted);
        let kernel = Rc::new(RefCell::new(Kernel {
            reads: [interrupted(), interrupted(), Act::Give(vec![0; 5])].into(),
            writes: [interrupted(), interrupted(), Act::Take(3)].into(),
            ..Kernel::default()
        }));
        let mut wire = Wire::new(Script(Rc::clone(&kernel)));
        wire.note(Edge::READABLE);
        let received = wire.receive(&mut [0; 9]).expect("no error is left over");
        assert_eq!(received, Received::Bytes(5));
        let sent = wire.send(&[0; 9], &[]).expect("no error is left over");
        assert_eq!(sent, 3, "as if it had not been interrupted");
        assert_eq!(
            kernel.borrow().calls,
            ["recv", "recv", "recv", "send", "send", "send"]
        );
    }

    #[test]
    fn a_reset_connection_cannot_be_finished() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut socket =
            TcpStream::from_std(std::net::TcpStream::connect(address).expect("it listens"));
        let (peer, _) = listener.accept().expect("it is in the queue");
        socket2::SockRef::from(&peer)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket option");
        drop(peer);
        let error = socket.finish().expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
