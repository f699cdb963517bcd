//! One connection: what leads from one [state](super::state) to the next. It knows no poll and asks
//! no clock. For a run it borrows the buffers, reads, has [`serve`] respond, and sends. It keeps
//! what it could not finish.
//!
//! The invariant: between runs a connection owns no memory but itself, unless a request has come
//! in part or a response could not be sent.

use std::io::ErrorKind;
use std::time::Duration;

use super::clock::Instant;
use super::kernel::{Readiness, Socket};
use super::listeners::Service;
use super::observer::{Budget, CloseReason, Observer};
use super::shared::Shared;
use super::state::{State, StateName};
use super::stream::{Received, Sent, Stream, Unsent};
use crate::http::{Error, Head, Next, Served, UnsentBody, announce_close, refuse, serve};
use crate::limits::{
    BODY_GRACE, BODY_RATE_MIN, DEFERRED_MAX, HALF_CLOSED_ROUNDS_MAX, INPUT, READS_PER_RUN,
};

/// A socket with its state, and with what it could not finish.
#[derive(Debug)]
pub struct Connection<S> {
    pub(super) stream: Stream<S>,
    state: State,
    /// Input that has been read and not been served: the beginning of a head, or whole requests
    /// behind a response that has to wait.
    unparsed: Box<[u8]>,
    /// The listener that accepted it.
    pub service: Service,
    /// The client has sent a request without waiting for the response to the one before. It may do
    /// so again, so this is never unset.
    pub pipelines: bool,
    /// It is among the connections that run again, or that wait for a page.
    pub runs_again: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The connection waits for an event, or for its timeout.
    Waits,
    /// The connection has more to do, although no event will come.
    HasWork,
    /// The same, as a budget is used up.
    OutOf(Budget),
    /// The connection is of no more use.
    Closed(CloseReason),
}

/// Whether a run may go on at once. If it may not, it waits for an event; or for its page, where
/// the connection is queued.
type Progress = Result<bool, CloseReason>;

impl<S: Socket> Connection<S> {
    /// A connection on which nothing has come yet.
    pub fn new(service: Service, socket: S) -> Connection<S> {
        Connection {
            stream: Stream::new(socket),
            state: State::Idle,
            unparsed: Box::default(),
            service,
            pipelines: false,
            runs_again: false,
        }
    }

    /// Adds what an event has told, for the next run.
    pub fn set_ready(&mut self, readiness: Readiness) {
        self.stream.set_ready(readiness);
    }

    /// What the connection waits for, and so the name of its state.
    pub fn state_name(&self) -> StateName {
        self.state.state_name()
    }

    /// Whether the peer has sent something that was not read, as far as is known.
    pub fn has_unread(&self) -> bool {
        self.stream.is_readable()
    }

    /// Whether a body comes more slowly than [`BODY_RATE_MIN`].
    pub fn is_too_slow(&self, now: Instant) -> bool {
        matches!(self.state, State::Body { due, .. } if now > due)
    }

    /// Runs the connection until it would have to wait, but for at most [`READS_PER_RUN`] reads or
    /// writes. A run with nothing to do does no harm, so no caller has to prove that one is due.
    pub fn run<O: Observer>(&mut self, shared: &mut Shared<O>) -> RunEnd {
        for _ in 0..READS_PER_RUN {
            let progress = match self.state {
                State::Idle | State::Head | State::Body { .. } | State::Deferred => {
                    if !self.stream.is_readable() {
                        return RunEnd::Waits;
                    }
                    self.receive(shared)
                }
                State::Queued if shared.announces_close[self.service as usize] => self.wake(shared),
                State::Queued => self.respond(0, shared),
                State::Writing => self.flush(shared),
                // A reset ends the delay. A FIN alone does not: the client may still read.
                State::Delayed(_) if self.stream.has_failed() => {
                    Err(CloseReason::Failed(ErrorKind::ConnectionReset))
                }
                State::Delayed(_) => Ok(false),
                State::HalfClosed { .. } | State::IdleClosed => self.discard(shared),
            };
            match progress {
                Ok(true) => {}
                Ok(false) if self.state == State::Queued => return RunEnd::OutOf(Budget::Pages),
                Ok(false) => return RunEnd::Waits,
                Err(reason) => return RunEnd::Closed(reason),
            }
        }
        RunEnd::OutOf(Budget::Reads)
    }

    /// Reads once, behind what is unparsed, and responds: one recv(2) and one send(2), however
    /// many requests they hold.
    fn receive<O: Observer>(&mut self, shared: &mut Shared<O>) -> Progress {
        let start = self.unparsed.len();
        match self.stream.receive(&mut shared.input[start..])? {
            Received::Bytes(len) => {
                shared.traffic.count_received(len);
                self.respond(len, shared)
            }
            Received::Nothing => Ok(false),
            Received::Eof => self.end(shared),
        }
    }

    /// Responds to what is unparsed and to `len` bytes that have been read behind it.
    fn respond<O: Observer>(&mut self, len: usize, shared: &mut Shared<O>) -> Progress {
        let start = self.unparsed.len();
        if start > 0 {
            shared.input[..start].copy_from_slice(&self.unparsed);
        }
        let input = &shared.input[..start + len];
        if self.stream.unsent().is_some_and(Unsent::has_body) {
            // Nothing can be put behind a deferred response with a long body. If another request
            // has begun, it is not the last response, so it need not wait any longer.
            self.unparsed = input.into();
            let begins = self.begins(Next::Head);
            self.pipelines |= begins;
            return match begins {
                true => self.send_deferred(Next::Full, shared),
                false if shared.force_close => self.finish_deferred(shared),
                false => Ok(true),
            };
        }
        let at = match self.state {
            State::Body { request: Some(request), .. } => Next::Body(request),
            State::Delayed(response) => Next::Delayed(response),
            State::Deferred => self.after_unsent(),
            _ => Next::Head,
        };
        let routes = &shared.routes[self.service as usize];
        shared.output.bytes.clear();
        let served = serve(routes, &mut shared.observer, at, input, &mut shared.output);
        shared.traffic.responses += served.responses;
        let rest = &input[served.consumed..];
        if !rest.is_empty() || start > 0 {
            self.unparsed = rest.into();
        }
        match (served.next, self.state) {
            // Nothing could be done: the page has to wait for a later tick.
            (Next::Full, _) if served.responses == 0 && served.consumed == 0 => {
                self.state = State::Queued;
                Ok(false)
            }
            (Next::Body(_) | Next::PageBody, State::Body { due, .. }) if served.responses == 0 => {
                self.state = State::body(served.next, due + time_for(len));
                Ok(true)
            }
            _ => {
                let is_full_read = start + len == shared.input.len();
                self.deliver(&served, is_full_read, shared)
            }
        }
    }

    /// Sends what was served. In a shutdown the last response to a client announces the close:
    ///
    /// | what comes next | the client waits | it pipelines | it is forced to close |
    /// |---|---|---|---|
    /// | nothing has begun | close | defer | close |
    /// | part of a head, also behind a full output | | defer or send | close |
    /// | part of a body | | defer | send |
    /// | a request that waits for its delay, or for its page | | defer | defer |
    /// | a request that waits for a full output | | send | send |
    ///
    /// Where a cell is empty, the client does not wait: it has begun another request. A client that
    /// pipelines sends a request for each response that it gets. So its responses are deferred even
    /// where they cannot be the last: only then does it come to a rest. It is forced to close
    /// [`DEFERRED_TIME_MAX`](crate::limits::DEFERRED_TIME_MAX) after the first of them, or after
    /// some had to be sent for lack of room.
    fn deliver<O: Observer>(
        &mut self,
        served: &Served,
        is_full_read: bool,
        shared: &mut Shared<O>,
    ) -> Progress {
        let begins = self.begins(served.next);
        let has_deferred = self.stream.unsent().is_some();
        let requests = served.responses + u32::from(has_deferred) + u32::from(begins);
        let has_responses = served.responses > 0 || has_deferred;
        self.pipelines |= has_responses && requests > 1;
        if !shared.announces_close[self.service as usize] || !has_responses {
            return self.send(served, served.next, shared);
        }
        // Behind a read that has filled the buffer, the socket may hold more.
        let client_waits = !self.pipelines && !is_full_read;
        let len = self.stream.unsent_len() + shared.output.bytes.len();
        let is_full = !served.body.is_empty() || len > DEFERRED_MAX;
        let (next, force_close) = (served.next, shared.force_close);
        match next {
            Next::Head if client_waits || force_close => self.send_last(served, shared),
            Next::Full if force_close && !self.has_whole_head() => self.send_last(served, shared),
            Next::Full if is_full => self.send(served, next, shared),
            Next::Body(_) | Next::PageBody if force_close => self.send(served, next, shared),
            Next::Close | Next::CloseRequested => self.send(served, next, shared),
            _ => self.defer(served, shared),
        }
    }

    /// Sends responses, and goes on with what comes `next` once they are sent.
    fn send<O: Observer>(
        &mut self,
        served: &Served,
        next: Next,
        shared: &mut Shared<O>,
    ) -> Progress {
        let routes = &shared.routes[self.service as usize];
        let (output, traffic) = (&shared.output.bytes, &mut shared.traffic);
        let sent = self.stream.send(output, served.body, next, routes, traffic)?;
        self.go_on(sent, next, shared)
    }

    /// Sends responses of which the last one announces the close.
    fn send_last<O: Observer>(&mut self, served: &Served, shared: &mut Shared<O>) -> Progress {
        if served.responses > 0 {
            announce_close(&mut shared.output.bytes, served.last);
        } else {
            self.stream.announce_close_in_deferred();
        }
        self.unparsed = Box::default();
        self.send(served, Next::Close, shared)
    }

    /// Defers responses.
    fn defer<O: Observer>(&mut self, served: &Served, shared: &mut Shared<O>) -> Progress {
        let routes = &shared.routes[self.service as usize];
        let (output, traffic) = (&shared.output.bytes, &mut shared.traffic);
        let sent = self.stream.defer(output, served, routes, traffic)?;
        self.state = match (sent, served.next) {
            (Sent::Some | Sent::None, _) => State::Writing,
            (Sent::All, Next::Delayed(response)) => State::Delayed(response),
            (Sent::All, Next::Full) => State::Queued,
            (Sent::All, _) => State::Deferred,
        };
        Ok(sent != Sent::None)
    }

    /// Sends what is deferred, and goes on with what comes `next` once it is sent.
    fn send_deferred<O: Observer>(&mut self, next: Next, shared: &mut Shared<O>) -> Progress {
        let routes = &shared.routes[self.service as usize];
        let sent = self.stream.flush_then(next, routes, &mut shared.traffic)?;
        self.go_on(sent, next, shared)
    }

    /// Sends what is unsent.
    fn flush<O: Observer>(&mut self, shared: &mut Shared<O>) -> Progress {
        let next = self.after_unsent();
        let routes = &shared.routes[self.service as usize];
        let sent = self.stream.flush(routes, &mut shared.traffic)?;
        self.go_on(sent, next, shared)
    }

    /// Enters the state that follows a send. If the kernel took a part, it may take more at once:
    /// it tells of room only after it had none.
    fn go_on<O>(&mut self, sent: Sent, next: Next, shared: &Shared<O>) -> Progress {
        self.state = match (sent, next) {
            (Sent::Some | Sent::None, _) => State::Writing,
            (Sent::All, Next::Head) if !self.begins(next) => State::Idle,
            (Sent::All, Next::Head) => State::Head,
            (Sent::All, Next::Body(_) | Next::PageBody) => {
                // What the same read has brought of the body counts, with what was ahead of it.
                let received = INPUT.min(shared.traffic.received as usize);
                State::body(next, shared.now + BODY_GRACE + time_for(received))
            }
            (Sent::All, Next::Delayed(response)) => State::Delayed(response),
            (Sent::All, Next::Full) => State::Queued,
            (Sent::All, Next::Close | Next::CloseRequested) => {
                self.stream.shutdown_write()?;
                // Input that is unread or comes later resets a closed socket, so the response is on
                // its way by now. In a shutdown, the process stays until the client has it.
                let may_be_lost = self.state == State::Writing || self.stream.is_readable();
                let is_stopping = shared.announces_close[self.service as usize];
                if next == Next::CloseRequested && !may_be_lost && !is_stopping {
                    return Err(CloseReason::Requested);
                }
                State::HalfClosed { heard: false, rounds: HALF_CLOSED_ROUNDS_MAX }
            }
        };
        Ok(sent != Sent::None)
    }

    /// What comes next once all that is unsent has been sent.
    pub(super) fn after_unsent(&self) -> Next {
        self.stream.unsent().map_or(Next::Head, |unsent| unsent.next)
    }

    /// Whether short responses are deferred.
    pub fn defers(&self) -> bool {
        self.state != State::Writing && self.stream.unsent().is_some_and(|it| !it.has_body())
    }

    /// Whether a whole head is unparsed, or something that is none.
    fn has_whole_head(&self) -> bool {
        !matches!(Head::parse(&self.unparsed), Ok(None))
    }

    /// Whether another request has begun. Stray line ends do not begin one.
    fn begins(&self, next: Next) -> bool {
        matches!(next, Next::Body(_) | Next::Delayed(_)) || Head::begins_in(&self.unparsed)
    }

    /// The peer's FIN has come. A peer that half-closes gets its responses before the other
    /// half is closed.
    fn end<O: Observer>(&mut self, shared: &mut Shared<O>) -> Progress {
        match self.state {
            State::Idle => Err(CloseReason::Finished),
            State::Deferred => {
                if !self.begins(self.after_unsent()) {
                    self.stream.announce_close_in_deferred();
                }
                self.send_deferred(Next::Close, shared)
            }
            _ => Err(CloseReason::Truncated),
        }
    }

    /// Reads what is not served any more.
    fn discard<O: Observer>(&mut self, shared: &mut Shared<O>) -> Progress {
        match self.stream.receive(&mut shared.input)? {
            Received::Bytes(len) => {
                shared.traffic.count_received(len);
                if let State::HalfClosed { heard, .. } = &mut self.state {
                    *heard = true;
                }
                Ok(true)
            }
            Received::Nothing => Ok(false),
            Received::Eof => Err(CloseReason::Finished),
        }
    }

    /// The timeout has passed. A request that has come in part gets a response that says so, a
    /// response that was deferred or delayed is sent, and every other connection is closed.
    pub fn on_timeout<O: Observer>(&mut self, shared: &mut Shared<O>) -> RunEnd {
        let progress = match self.state {
            State::Head | State::Body { request: None, .. } => {
                let head_only = Head::asks_for_fields_only(&self.unparsed);
                self.give_up(head_only, shared)
            }
            State::Body { request: Some(request), .. } => {
                self.give_up(request.is_head_only(), shared)
            }
            State::Delayed(_) => self.wake(shared),
            State::Deferred => self.finish_deferred(shared),
            State::Idle
            | State::Queued
            | State::Writing
            | State::HalfClosed { .. }
            | State::IdleClosed => return RunEnd::Closed(CloseReason::TimedOut),
        };
        match progress {
            Ok(_) => RunEnd::HasWork,
            Err(reason) => RunEnd::Closed(reason),
        }
    }

    /// Tells a client that its request has taken too long.
    fn give_up<O: Observer>(&mut self, head_only: bool, shared: &mut Shared<O>) -> Progress {
        let (routes, output) = (&shared.routes[self.service as usize], &mut shared.output.bytes);
        output.clear();
        refuse(routes, &mut shared.observer, Error::Timeout, head_only, &self.unparsed, output);
        shared.traffic.responses += 1;
        self.unparsed = Box::default();
        let (next, traffic) = (Next::Close, &mut shared.traffic);
        let sent = self.stream.send(output, UnsentBody::NONE, next, routes, traffic)?;
        self.go_on(sent, next, shared)
    }

    /// Responds to a request that has waited for its delay, or for its page. What has come since
    /// then is read first, as far as there is room: in a shutdown, only the last response may
    /// announce the close. A connection that is forced to close reads no more.
    fn wake<O: Observer>(&mut self, shared: &mut Shared<O>) -> Progress {
        let end = if shared.force_close { 0 } else { shared.input.len() };
        let start = self.unparsed.len().min(end);
        let len = match self.stream.receive(&mut shared.input[start..end])? {
            Received::Bytes(len) => len,
            Received::Nothing | Received::Eof => 0,
        };
        shared.traffic.count_received(len);
        self.respond(len, shared)
    }

    /// Sends deferred responses behind which nothing more has come. If part of a request has, its
    /// response will announce the close.
    fn finish_deferred<O: Observer>(&mut self, shared: &mut Shared<O>) -> Progress {
        let next = self.after_unsent();
        if self.begins(next) {
            return self.send_deferred(next, shared);
        }
        self.stream.announce_close_in_deferred();
        self.send_deferred(Next::Close, shared)
    }

    /// Whether the timeout of a half-closed connection begins anew: its peer has not stopped
    /// sending, and may not have looked at the response yet.
    pub fn renew_half_closed(&mut self) -> bool {
        match &mut self.state {
            State::HalfClosed { heard, rounds } if *heard && *rounds > 0 => {
                (*heard, *rounds) = (false, *rounds - 1);
                true
            }
            _ => false,
        }
    }

    /// Half-closes an idle connection. Its peer sees the end and closes, too; what the kernel
    /// still holds of earlier responses is delivered meanwhile.
    pub fn close_idle(&mut self) -> RunEnd {
        if let Err(error) = self.stream.shutdown_write() {
            return RunEnd::Closed(error.into());
        }
        self.state = State::IdleClosed;
        RunEnd::Waits
    }
}

/// How long a part of a body may take at [`BODY_RATE_MIN`].
fn time_for(bytes: usize) -> Duration {
    Duration::from_nanos(bytes as u64 * 1_000_000_000 / BODY_RATE_MIN)
}

#[cfg(test)]
mod tests;
