//! Withholding: in a stop, the answers to a client that does not wait for them stay here until it
//! is known which of them is the last.
//!
//! The invariant: what is withheld is limited, and goes out ahead of everything else.

use std::io;

use super::Connection;
use crate::event_loop::desk::Desk;
use crate::event_loop::phase::Phase;
use crate::event_loop::stream::Socket;
use crate::event_loop::turn::Step;
use crate::http::{Behind, Next, Served, Site, Tail};

impl<S: Socket> Connection<S> {
    /// Whether answers are to be withheld in a stop. They are for as long as nobody knows which
    /// of them is the last: a client that has a certain number of requests on their way sends
    /// no more until it is answered.
    pub(super) fn has_to_withhold(&mut self, served: &Served) -> bool {
        self.takes_long |= !served.tail.is_over();
        match served.next {
            Next::Held(_) => true,
            Next::Head | Next::PageBody | Next::Body(_) | Next::Delayed(_) => {
                let began = served.answered > 0 || matches!(self.phase, Phase::Held(_));
                began && self.behind == Behind::Perhaps
            }
            // Long bodies are not copied, and so not withheld.
            Next::Queued | Next::Unwritten | Next::Close => false,
        }
    }

    /// Withholds answers, or sends all of them where there is no room.
    pub(super) fn withhold(&mut self, desk: &mut Desk, next: Next, site: &Site) -> io::Result<()> {
        if !self.outgoing.has_room_for(desk.outbox.len()) {
            return self.send(&desk.outbox, Tail::NONE, next, site, &mut desk.moved);
        }
        self.outgoing.withhold(&desk.outbox);
        self.phase = match next {
            Next::Delayed(unread) => Phase::Delayed(unread),
            _ => Phase::Held(next),
        };
        Ok(())
    }

    /// Sends what was withheld.
    pub(super) fn release(&mut self, next: Next, desk: &mut Desk, site: &Site) -> io::Result<Step> {
        self.send(&[], Tail::NONE, next, site, &mut desk.moved)?;
        Ok(self.entered())
    }
}
