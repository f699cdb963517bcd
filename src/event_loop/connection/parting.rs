//! How a conversation ends: by the peer's FIN, or by ours, behind which whatever still comes is
//! thrown away.
//!
//! The invariant: a half-close is answered before the other half is closed.

use std::io;

use super::{Connection, open};
use crate::event_loop::desk::Desk;
use crate::event_loop::phase::Phase;
use crate::event_loop::stream::{Received, Socket};
use crate::event_loop::timers::Lane;
use crate::event_loop::turn::{Change, Reason, Step, Turn};
use crate::http::{Behind, Next, Site};

impl<S: Socket> Connection<S> {
    /// Meets the peer's FIN.
    pub(super) fn end(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        match self.phase {
            Phase::Idle => Ok(Step::Over(Reason::Finished)),
            Phase::Held(Next::Held(_)) => self.respond(0, Behind::Nothing, desk, site),
            Phase::Held(_) => self.release(Next::Close, desk, site),
            _ => Ok(Step::Over(Reason::Truncated)),
        }
    }

    /// Reads what nobody wants any more.
    pub(super) fn discard(&mut self, desk: &mut Desk) -> io::Result<Step> {
        Ok(match self.wire.receive(&mut desk.inbox)? {
            Received::Bytes(len) => {
                desk.moved.receive(len);
                self.phase.hear();
                Step::Done(Change::None)
            }
            Received::Nothing => Step::Blocked,
            Received::Eof => Step::Over(Reason::Finished),
        })
    }

    /// Half-closes a connection on which nothing is owed. Its peer sees the end and closes,
    /// too; what the kernel still holds of earlier answers is delivered meanwhile.
    pub fn dismiss(&mut self) -> Turn {
        match self.wire.finish() {
            Ok(()) => {
                self.phase = Phase::Farewell;
                open(Change::Entered(Lane::Farewell), false)
            }
            Err(error) => Turn::Over(Reason::Failed(error.kind())),
        }
    }
}
