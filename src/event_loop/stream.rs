//! A socket that does not block: what is known of its readiness, and what it has not sent yet.
//!
//! The invariant: every registration is edge-triggered (epoll(7)), so the kernel tells of a
//! change once. `readable` is therefore a memory: an event sets it, and only a read that shows
//! there is nothing more clears it. A connection may stop reading for any other reason, and go on
//! whenever it suits. Unsent output goes out before anything new, and most of the time there is
//! none. A long body is not copied there; only how much of it is left.
//!
//! # Try it
//!
//! One read and one write for a request, and for a batch of them, too. A connection is registered
//! once, by `epoll_ctl`. One whose first request asks for the close costs six calls in all:
//! `accept4`, `ppoll`, which asks for another one, `recvfrom`, `sendto`, `shutdown` and `close`.
//! `MSG_MORE` holds its response back until the FIN, so that both are one segment.
//!
//! ```sh
//! onepoll --log warn & server=$!; sleep 0.5
//! timeout 3 strace -f -o calls.txt -e trace=\!epoll_wait -p $server & trace=$!; sleep 1
//! curl -s http://localhost:8080/hello http://localhost:8080/hello
//! curl -s -H 'Connection: close' http://localhost:8080/hello
//! wait $trace; cat calls.txt # look for: MSG_MORE
//! kill $server; wait $server
//! ```

use std::io::{self, ErrorKind, IoSlice};

use super::kernel::{Readiness, Socket};
use super::observer::Traffic;
use crate::http::{Next, Routes, Served, UnsentBody, announce_close};
use crate::limits::DEFERRED_MAX;

/// A socket, its readiness and its unsent output.
#[derive(Debug)]
pub struct Stream<S> {
    socket: S,
    readiness: Readiness,
    unsent: Option<Box<Unsent>>,
}

/// Output that the kernel had no room for, or that is deferred.
#[derive(Debug)]
pub struct Unsent {
    bytes: Vec<u8>,
    /// The body that belongs behind the bytes.
    body: UnsentBody,
    /// Where the last response begins among them. This has a meaning only while they are deferred.
    last: usize,
    /// What comes next on the connection once all of it has been sent.
    pub next: Next,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing until the next event.
    Nothing,
    /// The peer's FIN.
    Eof,
}

/// How much of the output has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing is left.
    All,
    /// The kernel took something; it may take more.
    Some,
    /// The kernel has no room, and will tell when it has.
    None,
}

impl<S: Socket> Stream<S> {
    /// A socket that is not known to be ready.
    pub fn new(socket: S) -> Stream<S> {
        Stream { socket, readiness: Readiness::default(), unsent: None }
    }

    /// The socket, for the poll.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether there may be something to read.
    pub fn is_readable(&self) -> bool {
        self.readiness.readable
    }

    /// Whether the kernel has told of an error.
    pub fn has_failed(&self) -> bool {
        self.readiness.failed
    }

    /// Adds what an event has told.
    pub fn set_ready(&mut self, readiness: Readiness) {
        self.readiness.readable |= readiness.readable;
        self.readiness.eof |= readiness.eof;
        self.readiness.failed |= readiness.failed;
    }

    /// One recv(2), if there may be something to read, and there is room for it.
    ///
    /// # Errors
    /// Those of recv(2), but for `EAGAIN` and `EINTR`.
    pub fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        while self.readiness.readable && !space.is_empty() {
            match self.socket.read(space) {
                Ok(0) => return Ok(Received::Eof),
                Ok(len) => {
                    // A short read has emptied the socket, unless the FIN came with the same
                    // event: no further event will tell of it, so read on until it is met. Urgent
                    // data (tcp(7)) cuts a read short, too: the rest is read at the timeout.
                    self.readiness.readable = len == space.len() || self.readiness.eof;
                    return Ok(Received::Bytes(len));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readiness.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(Received::Nothing)
    }

    /// Output that has not been sent yet.
    pub fn unsent(&self) -> Option<&Unsent> {
        self.unsent.as_deref()
    }

    /// Sends output, and a body behind it, after what is unsent. What the kernel refuses is kept,
    /// with what comes `next` once it has been sent.
    ///
    /// # Errors
    /// Those of send(2), but for `EAGAIN` and `EINTR`.
    pub fn send(
        &mut self,
        output: &[u8],
        mut body: UnsentBody,
        next: Next,
        routes: &Routes,
        traffic: &mut Traffic,
    ) -> io::Result<Sent> {
        if self.unsent.is_some() {
            self.keep(output, body, next);
            return self.flush(routes, traffic);
        }
        if output.is_empty() {
            return Ok(Sent::All);
        }
        let sent = self.write(output, routes.unsent(body), next.closes())?;
        traffic.count_sent(sent);
        if sent == output.len() && body.is_empty() {
            return Ok(Sent::All);
        }
        let copied = sent.min(output.len());
        body.advance(sent - copied);
        self.keep(&output[copied..], body, next);
        Ok(self.sent(sent, traffic))
    }

    /// Sends what is unsent, as far as the kernel takes it.
    ///
    /// # Errors
    /// Those of send(2), but for `EAGAIN` and `EINTR`.
    pub fn flush(&mut self, routes: &Routes, traffic: &mut Traffic) -> io::Result<Sent> {
        let Some(mut unsent) = self.unsent.take() else {
            return Ok(Sent::All);
        };
        let sent = self.write(&unsent.bytes, routes.unsent(unsent.body), unsent.next.closes());
        if let Ok(sent) = sent {
            let copied = sent.min(unsent.bytes.len());
            unsent.body.advance(sent - copied);
            unsent.bytes.drain(..copied);
            unsent.last = unsent.last.saturating_sub(copied);
        }
        self.unsent = Some(unsent);
        let sent = sent?;
        traffic.count_sent(sent);
        Ok(self.sent(sent, traffic))
    }

    /// Defers responses, with what comes next on the connection. Those ahead of the last one are
    /// sent where they take too much memory. If the kernel does not take all of these, nothing is
    /// deferred: the last response follows them without a close.
    ///
    /// # Errors
    /// Those of [`send`](Stream::send).
    pub fn defer(
        &mut self,
        mut output: &[u8],
        served: &Served,
        routes: &Routes,
        traffic: &mut Traffic,
    ) -> io::Result<Sent> {
        let (mut last, mut sent) = (served.last, Sent::All);
        if served.responses > 0 && self.unsent_len() + output.len() > DEFERRED_MAX {
            let (earlier, rest) = output.split_at(last);
            sent = self.send(earlier, UnsentBody::NONE, served.next, routes, traffic)?;
            (output, last) = (rest, 0);
        }
        let before = self.unsent_len();
        self.keep(output, served.body, served.next);
        if let Some(unsent) = self.unsent.as_mut().filter(|_| served.responses > 0) {
            unsent.last = before + last;
        }
        Ok(sent)
    }

    /// Sends what is deferred, as far as the kernel takes it, with what comes `next` after it.
    ///
    /// # Errors
    /// Those of [`send`](Stream::send).
    pub fn flush_then(
        &mut self,
        next: Next,
        routes: &Routes,
        traffic: &mut Traffic,
    ) -> io::Result<Sent> {
        if let Some(unsent) = &mut self.unsent {
            unsent.next = next;
        }
        self.flush(routes, traffic)
    }

    /// Has the last response that is deferred announce the close.
    pub fn announce_close_in_deferred(&mut self) {
        if let Some(unsent) = &mut self.unsent {
            announce_close(&mut unsent.bytes, unsent.last);
        }
    }

    /// Sends a FIN and leaves the other direction open.
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()
    }

    /// How many bytes are unsent, without a long body.
    pub fn unsent_len(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.bytes.len())
    }

    /// One send(2), or one writev(2) if a body follows; says how many bytes the kernel took, none
    /// if it has no room. Only then will it tell of room, so a partial success is no reason to
    /// wait.
    fn write(&mut self, bytes: &[u8], body: &[u8], closes: bool) -> io::Result<usize> {
        loop {
            let written = if !body.is_empty() {
                self.socket.write_vectored(&[bytes, body].map(IoSlice::new))
            } else if closes {
                self.socket.write_before_fin(bytes)
            } else {
                self.socket.write(bytes)
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => return Ok(len),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(0),
                    // Trying again later would mean to wait for an event that does not come.
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Puts output behind what is unsent, which has no body behind it.
    fn keep(&mut self, output: &[u8], body: UnsentBody, next: Next) {
        let unsent = self
            .unsent
            .get_or_insert_with(|| Box::new(Unsent { bytes: Vec::new(), body, last: 0, next }));
        unsent.bytes.extend_from_slice(output);
        (unsent.body, unsent.next) = (body, next);
    }

    /// Gives the memory back when nothing is left.
    fn sent(&mut self, sent: usize, traffic: &mut Traffic) -> Sent {
        if self.unsent().is_none_or(Unsent::is_empty) {
            self.unsent = None;
            return Sent::All;
        }
        if sent == 0 {
            return Sent::None;
        }
        traffic.partial_writes += 1;
        Sent::Some
    }
}

impl Unsent {
    /// Whether a long body is among what is unsent.
    pub fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.has_body()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::event_loop::script::{Act, Script, Scripted};

    #[test]
    fn an_interrupted_call_is_made_again_at_once() {
        let interrupted = || Act::Fail(ErrorKind::Interrupted);
        let kernel = Rc::new(RefCell::new(Script {
            reads: [interrupted(), interrupted(), Act::Give(vec![0; 5])].into(),
            writes: [interrupted(), interrupted(), Act::Take(3)].into(),
            ..Script::default()
        }));
        let mut stream = Stream::new(Scripted(Rc::clone(&kernel)));
        stream.set_ready(Readiness::READABLE);
        let received = stream.receive(&mut [0; 9]).expect("no error is left over");
        assert_eq!(received, Received::Bytes(5));
        let sent = stream.write(&[0; 9], &[], false).expect("no error is left over");
        assert_eq!(sent, 3, "as if it had not been interrupted");
        assert_eq!(kernel.borrow().calls, ["recv", "recv", "recv", "send", "send", "send"]);
    }
}
