//! A socket that does not block, together with what is remembered of its readiness.
//!
//! The invariant: every registration is edge-triggered (epoll(7)), so the kernel tells of a
//! change once. `readable` is therefore a memory: an event sets it, and only a read that
//! shows there is nothing more clears it. Whoever stops reading for any other reason may
//! come back whenever it suits them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

/// What is needed of a socket, so that tests can play the kernel.
pub trait Socket: Read + Write {
    /// Sends our FIN and leaves the other direction open (shutdown(2) with `SHUT_WR`).
    ///
    /// # Errors
    /// Whatever the kernel says, as when the peer has reset the connection.
    fn finish(&mut self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A socket with a memory.
#[derive(Debug)]
pub struct Wire<S> {
    socket: S,
    /// There may be something to read.
    readable: bool,
    /// The peer's FIN has come; what it sent before may still have to be read.
    eof: bool,
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
            readable: false,
            eof: false,
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, readable: bool, eof: bool) {
        self.readable |= readable;
        self.eof |= eof;
    }

    /// One recv(2), if an edge has left something to read.
    ///
    /// # Errors
    /// Those of recv(2), but for `EAGAIN` and `EINTR`.
    pub fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        while self.readable {
            match self.socket.read(space) {
                Ok(0) => return Ok(Received::Eof),
                Ok(len) => {
                    // A short read has emptied the socket, unless the FIN came with the same
                    // edge: no further edge will tell of it, so read on until it is met.
                    self.readable = len == space.len() || self.eof;
                    return Ok(Received::Bytes(len));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(Received::Nothing)
    }

    /// One send(2); says how many bytes the kernel took, none of them if it has no room. Only
    /// then does it owe an edge, so a partial success is no reason to wait.
    ///
    /// # Errors
    /// Those of send(2), but for `EAGAIN` and `EINTR`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.write(bytes) {
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

    /// See [`Socket::finish`].
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.finish()
    }
}
