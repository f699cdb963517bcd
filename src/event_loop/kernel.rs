//! What the loop asks of the kernel: the time, events, signals and sockets. All of its calls are on
//! this page.
//!
//! The invariant: the loop knows of the world through these calls alone. A test that plays the
//! kernel decides on everything that happens, and the same decisions lead to the same calls.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::Token;

use super::clock::Instant;
use super::signals::Signal;

/// The kernel below a loop.
pub trait Kernel {
    /// The socket of a connection.
    type Stream: Socket;
    /// A listening socket.
    type Listener: ListeningSocket<Stream = Self::Stream>;
    /// The events that a wait has found.
    type Events;

    /// The present instant.
    fn now(&self) -> Instant;

    /// The date, in whole seconds since 1970, and how much of the present one is left.
    fn date(&self) -> (u64, Duration);

    /// Room for the events of a tick.
    fn room_for_events() -> Self::Events;

    /// Waits for events from an instant, which is now, until another one. Puts them in the place
    /// of those of the last tick. Returns for how many nanoseconds it spun.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`, but for `EINTR`.
    fn wait(&mut self, events: &mut Self::Events, from: Instant, until: Instant)
    -> io::Result<u64>;

    /// The events that were found.
    fn events(events: &Self::Events) -> impl Iterator<Item = (Token, Readiness)>;

    /// Watches for signals under `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    fn watch_signals(&mut self, token: Token) -> io::Result<()>;

    /// The next signal that has come, if there is one.
    fn take_signal(&mut self) -> Option<Signal>;

    /// Lets clients connect, and watches for them under `token`.
    ///
    /// # Errors
    /// Those of listen(2), above all `AddrInUse` if another socket was quicker, and of
    /// `epoll_ctl(2)`.
    fn listen(&mut self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;

    /// Watches no more for the clients of a socket that goes on listening for other processes.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, none of which is expected.
    fn leave(&mut self, listener: &mut Self::Listener) -> io::Result<()>;

    /// Watches a connection under `token`, once and for all: the state of a connection is no
    /// business of the poll, and a spurious event is cheaper than a system call for each change of
    /// interest.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, above all a lack of memory.
    fn watch(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;
}

/// What is needed of a listening socket. To drop it is to close it.
pub trait ListeningSocket {
    /// The socket of a connection.
    type Stream;

    /// Whether other processes hold the socket, too.
    fn is_inherited(&self) -> bool;

    /// Has [`accept`](ListeningSocket::accept) not block, whatever other processes have set.
    ///
    /// # Errors
    /// Those of `fcntl(2)`, if the socket is of no more use.
    fn keep_nonblocking(&self) -> io::Result<()>;

    /// Accepts a connection from the queue.
    ///
    /// # Errors
    /// Those of accept(2). An error without a code is about the connection: it has no address.
    fn accept(&self) -> io::Result<(Self::Stream, SocketAddr)>;

    /// Whether the queue holds a connection, as far as the kernel can tell.
    fn has_waiting(&self) -> bool;

    /// Has the kernel ignore the SYNs of clients that begin to connect from now on.
    ///
    /// # Errors
    /// Those of setsockopt(2), where there are no socket filters.
    fn ignore_syns(&self) -> io::Result<()>;
}

/// The socket of a connection, which does not block. To drop it is to close it.
pub trait Socket: Read + Write {
    /// Writes bytes behind which a FIN follows at once. A kernel that can puts both into one
    /// segment.
    ///
    /// # Errors
    /// Those of send(2).
    fn write_before_fin(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    /// Sends a FIN and leaves the other direction open (shutdown(2) with `SHUT_WR`).
    ///
    /// # Errors
    /// Those of shutdown(2), above all that the peer has reset the connection.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// What an event tells of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There may be something to read.
    pub readable: bool,
    /// The peer's FIN has come; what it sent before may still have to be read.
    pub eof: bool,
    /// There is an error, which the next call will meet.
    pub failed: bool,
}

impl Readiness {
    /// Something has come.
    pub const READABLE: Readiness = Readiness { readable: true, eof: false, failed: false };

    /// The peer's FIN has come, perhaps behind something.
    pub const EOF: Readiness = Readiness { eof: true, ..Readiness::READABLE };
}
