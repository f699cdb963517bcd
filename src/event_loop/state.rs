//! The states of a connection, and every transition from one to another.
//!
//! ```text
//!                         the first byte of a request, and its rest
//!            ┌────────────────────────────────────────────────────────┐
//!  accepted ─┴─► idle ──► head ──► body ──► delayed, deferred ──► writing
//!                 │  ▲                                                │
//!                 │  └────────── all requests have their responses ───┤
//!      idle grace │                                                   │ the last response
//!                 ▼                  the peer's FIN                   ▼
//!            idle closed ────────────► closed ◄──────────────── half-closed
//! ```
//!
//! The picture has the usual order; [`TRANSITIONS`] has all of them as data. Every state leads to
//! closed, too: by the peer, by an error of the socket, by a timeout or at the drain's deadline.
//!
//! The invariant: no other transition happens. A debug build asserts it for every run of a
//! connection, and a test sees each of them once.
//!
//! # Try it
//!
//! Half a request, then the other half: the connection goes from idle to head and back.
//!
//! ```sh
//! onepoll --log trace & server=$!
//! (printf 'GET /hello HTTP/1.1\r\n'; sleep 1; printf 'Host: a\r\n\r\n'; sleep 1) |
//!     curl -m3 -s telnet://localhost:8080 & sleep 0.5
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: the beginning of a head has come
//! sleep 1
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: a response is sent
//! wait %1; kill $server
//! ```

use super::clock::Instant;
use super::timers::Timeout;
use crate::http::{Next, Response, Unanswered};

/// The state of a connection. Data that only one state has is in its variant. What follows unsent
/// output is kept [with it](super::stream::Unsent::next).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing of a request has come.
    Idle,
    /// Part of a head has come.
    Head,
    /// A head has come, and part of its body is still to come. If that is for a dynamic page, the
    /// request stays unparsed until all of it has come.
    Body {
        request: Option<Unanswered>,
        /// When the body is too slow, unless more of it comes.
        due: Instant,
    },
    /// The response to a whole request waits for its delay.
    Delayed(Response),
    /// Whole requests have come. They wait for the output to be sent, or for a page.
    Queued,
    /// In a shutdown, the responses to a client that pipelines are kept back until no more
    /// requests follow: only the very last one may announce the close.
    Deferred,
    /// Output waits for room in the kernel. Nothing is read until it is sent: a client that does
    /// not take its responses has to wait before it can ask for more.
    Writing,
    /// The last response and a FIN are sent. Closing at once could destroy that response: the
    /// kernel meets input that is not read with an RST, which overtakes what the peer has not read
    /// yet (RFC 9112, section 9.6).
    HalfClosed {
        /// The peer has sent something since the timeout began.
        heard: bool,
        /// How often the timeout may still begin anew.
        rounds: u8,
    },
    /// A FIN is sent, and no response is at stake.
    IdleClosed,
}

/// The states that each state leads to, or comes back to by a response. A connection that is
/// queued counts as one that is writing.
pub const TRANSITIONS: [(Timeout, &[Timeout]); Timeout::ALL.len()] = {
    use Timeout::*;
    [
        (Idle, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed, IdleClosed]),
        (Head, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Body, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Delayed, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Deferred, &[Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Writing, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (HalfClosed, &[]),
        (IdleClosed, &[]),
    ]
};

/// Whether a run may lead from one state to another.
pub fn is_allowed(from: Timeout, to: Timeout) -> bool {
    from == to || TRANSITIONS[from as usize].1.contains(&to)
}

impl State {
    /// The state in which a body is read.
    pub(super) fn body(next: Next, due: Instant) -> State {
        let request = match next {
            Next::Body(request) => Some(request),
            _ => None,
        };
        State::Body { request, due }
    }

    /// What the connection waits for, and so the name of its state.
    pub(super) fn timeout(self) -> Timeout {
        match self {
            State::Idle => Timeout::Idle,
            State::Head => Timeout::Head,
            State::Body { .. } => Timeout::Body,
            State::Delayed(_) => Timeout::Delayed,
            State::Deferred => Timeout::Deferred,
            State::Queued | State::Writing => Timeout::Writing,
            State::HalfClosed { .. } => Timeout::HalfClosed,
            State::IdleClosed => Timeout::IdleClosed,
        }
    }
}
