//! Where a conversation stands. Data that only one phase has is in its variant, and so gone
//! when the phase is over.
//!
//! ```text
//!   accept
//!     │   ┌──────────────── converse ────────────────────────┐
//!     └──►│  Idle ─── part of a request ──► Head, Body, Held │◄───────────┐
//!         │   ▲                                │             │            │
//!         │   └── all requests answered ───────┘             │            │
//!         └───┬──────────────────────┬───────────────────────┘            │
//!             │ last answer sent     │ the kernel took only part          │
//!             │                      ▼                                    │
//!             │                   Writing ──── all sent, go on ───────────┘
//!             ▼                      │
//!         Lingering ◄──── all sent, last answer
//!             │ the peer's FIN
//!             ▼
//!           gone        also: from Idle by way of Farewell, when the grace ends; from the box
//!                       at the peer's FIN; from anywhere on an error, or when the
//!                       patience of the lane ends
//! ```
//!
//! Three more stand in the box for those whose requests have come and are not answered yet, so that
//! nothing is read: `Delayed`, until it is time for the next answer, `Queued`, until the answer
//! ahead has been sent, and `Unwritten`, until the page has been written that it asks for.
//!
//! # Try it
//!
//! Half a request, then the other half: the connection goes from idle to head and back.
//!
//! ```sh
//! onepoll --log trace & server=$!
//! (printf 'GET /hello HTTP/1.1\r\n'; sleep 1; printf 'Host: a\r\n\r\n'; sleep 1) |
//!     curl -m3 -s telnet://localhost:8080 & sleep 0.5
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: it has sent the beginning of a head
//! sleep 1
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: it asks and is answered
//! wait %1; kill $server
//! ```

use crate::event_loop::timers::Lane;
use crate::http::{Next, Unread};
use crate::limits::LINGERINGS_MAX;

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a request has come.
    Idle,
    /// Part of a head has come.
    Head,
    /// Part of a body is still to come.
    Body(Unread),
    /// Part of a small body for a live page is still to come, whose head is kept until then.
    PageBody,
    /// In a stop, the answers to a peer that does not wait for them are withheld until no more
    /// requests follow: only the very last may announce the close. What comes next may be the
    /// rest of a request, of which some has come.
    Held(Next),
    /// The answer to a whole request waits for its time.
    Delayed(Unread),
    /// Whole requests wait for the answers ahead of theirs to be sent.
    Queued,
    /// A whole request waits for its page to be written.
    Unwritten,
    /// Answers wait for room in the kernel. Until they are sent nothing is read: a client that
    /// does not take its answers has to wait before it can ask for more.
    /// Then comes what is said here.
    Writing(Next),
    /// The last answer is sent and so is our FIN. Closing at once could destroy that answer:
    /// the kernel meets input that nobody read with an RST, which overtakes what the peer
    /// has not read yet (RFC 9112, section 9.6).
    Lingering {
        /// The peer has sent something since the patience began.
        heard: bool,
        /// How often the patience may still begin anew.
        rounds: u8,
    },
    /// Our FIN is sent, and no answer is at stake.
    Farewell,
}

impl Phase {
    /// The beginning of [`Phase::Lingering`].
    pub const LINGERING: Phase = Phase::Lingering {
        heard: false,
        rounds: LINGERINGS_MAX,
    };

    /// The lane that goes with it.
    pub fn lane(&self) -> Lane {
        match self {
            Phase::Idle => Lane::Idle,
            Phase::Head => Lane::Head,
            Phase::Body(_) | Phase::PageBody => Lane::Body,
            Phase::Held(_) => Lane::Held,
            Phase::Delayed(_) => Lane::Delayed,
            Phase::Queued | Phase::Unwritten | Phase::Writing(_) => Lane::Writing,
            Phase::Lingering { .. } => Lane::Lingering,
            Phase::Farewell => Lane::Farewell,
        }
    }

    /// Notes that something has come which is only thrown away.
    pub fn hear(&mut self) {
        if let Phase::Lingering { heard, .. } = self {
            *heard = true;
        }
    }

    /// Whether lingering goes into another round, as something was heard in the last one.
    pub fn lingers_on(&mut self) -> bool {
        match self {
            Phase::Lingering { heard, rounds } if *heard && *rounds > 0 => {
                (*heard, *rounds) = (false, *rounds - 1);
                true
            }
            _ => false,
        }
    }
}
