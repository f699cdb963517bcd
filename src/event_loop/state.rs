//! The states of a connection, and every transition from one to another.
//!
//! ```text
//!                   ┌──────────── requests get their responses ─────────────┐
//!                   ▼                                                       │
//!  accepted ──► idle ──► head ──► body ──► delayed, deferred ──► writing ───┤
//!                │                                                          │
//!     idle grace │                                            last response │
//!                ▼                                                          ▼
//!           idle closed ─────────► closed ◄──── the peer's FIN ────── half-closed
//! ```
//!
//! Deferred occurs in a shutdown only. A connection whose requests wait for a full output, or for a
//! page, counts as writing. The picture has the usual order, of which a request may leave out any
//! state: one that comes whole, and whose response the kernel takes, leads from idle back to idle.
//! [`TRANSITIONS`] has all of them as data. Every state leads to closed, too: by a client that asks
//! for the close and has its response, by the peer, by an error of the socket, by a timeout or at
//! the drain's deadline.
//!
//! The invariant: no other transition happens. A debug build asserts it for every run of a
//! connection, and a test sees each of them.
//!
//! # Try it
//!
//! Half a request, then the other half: the connection goes from idle to head and back.
//!
//! ```sh
//! onepoll --log trace & server=$!; sleep 0.5
//! (printf 'GET /hello HTTP/1.1\r\n'; sleep 1; printf 'Host: a\r\n\r\n'; sleep 1) |
//!     curl -m3 -s telnet://localhost:8080 & client=$!; sleep 0.5
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: the beginning of a head has come
//! sleep 1
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: a response is sent
//! wait $client; kill $server; wait $server
//! ```

use super::clock::Instant;
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
    /// Whole requests wait until the output has been sent, or until a page may be rendered.
    Queued,
    /// In a shutdown, the responses to a client that pipelines are kept back until no more
    /// requests follow: only the very last one may announce the close.
    Deferred,
    /// Output waits for room in the kernel. Nothing is read until it is sent: a client that does
    /// not take its responses has to wait before it can ask for more.
    Writing,
    /// The last response and a FIN are sent, and the client may still send something. Closing at
    /// once could destroy that response: the kernel meets input that is not read with an RST, which
    /// overtakes what the peer has not read yet (RFC 9112, section 9.6).
    HalfClosed {
        /// The peer has sent something since the timeout began.
        heard: bool,
        /// How often the timeout may still begin anew.
        rounds: u8,
    },
    /// A FIN is sent, and no response is at stake.
    IdleClosed,
}

/// The name of a state: what a connection waits for. Each has a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The end of the delay of its response.
    Delayed,
    /// In a shutdown, another request: the response to the last one announces the close.
    Deferred,
    /// Room for output in the kernel's buffer.
    Writing,
    /// The peer's FIN, after the last response and a FIN were sent.
    HalfClosed,
    /// The peer's FIN, after a FIN was sent at the end of the idle grace.
    IdleClosed,
}

impl StateName {
    /// All of them. Each is at the index that it converts to.
    pub const ALL: [StateName; 8] = [
        StateName::Idle,
        StateName::Head,
        StateName::Body,
        StateName::Delayed,
        StateName::Deferred,
        StateName::Writing,
        StateName::HalfClosed,
        StateName::IdleClosed,
    ];

    /// The name in messages and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            StateName::Idle => "idle",
            StateName::Head => "head",
            StateName::Body => "body",
            StateName::Delayed => "delayed",
            StateName::Deferred => "deferred",
            StateName::Writing => "writing",
            StateName::HalfClosed => "half_closed",
            StateName::IdleClosed => "idle_closed",
        }
    }

    /// Whether its timeout begins anew with each part of what the connection waits for.
    pub const fn is_renewed_by_traffic(self) -> bool {
        matches!(self, StateName::Body | StateName::Deferred | StateName::Writing)
    }

    /// Whether its timeout begins anew so often that its timer is set late, to be moved seldom.
    pub(super) const fn is_renewed_often(self) -> bool {
        self.is_renewed_by_traffic() || matches!(self, StateName::Idle)
    }
}

/// The states that each state leads to, or comes back to by a response. A connection that is
/// queued counts as one that is writing.
pub const TRANSITIONS: [(StateName, &[StateName]); StateName::ALL.len()] = {
    use StateName::*;
    [
        (Idle, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed, IdleClosed]),
        (Head, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Body, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Delayed, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Deferred, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (Writing, &[Idle, Head, Body, Delayed, Deferred, Writing, HalfClosed]),
        (HalfClosed, &[]),
        (IdleClosed, &[]),
    ]
};

/// Whether a run may lead from one state to another.
pub fn is_allowed(from: StateName, to: StateName) -> bool {
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
    pub(super) fn state_name(self) -> StateName {
        match self {
            State::Idle => StateName::Idle,
            State::Head => StateName::Head,
            State::Body { .. } => StateName::Body,
            State::Delayed(_) => StateName::Delayed,
            State::Deferred => StateName::Deferred,
            State::Queued | State::Writing => StateName::Writing,
            State::HalfClosed { .. } => StateName::HalfClosed,
            State::IdleClosed => StateName::IdleClosed,
        }
    }
}
