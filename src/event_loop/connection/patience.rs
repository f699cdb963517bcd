//! What time does to a connection: its patience ends, or that of the whole server does.
//!
//! The invariant: nobody is closed without a word who has begun to ask for something, nor while
//! an answer is withheld.

use std::io;

use super::{Connection, open};
use crate::event_loop::desk::Desk;
use crate::event_loop::phase::Phase;
use crate::event_loop::stream::{Received, Socket};
use crate::event_loop::turn::{Change, Reason, Step, Turn};
use crate::http::{Behind, Head, Next, Refusal, Site, Tail};

impl<S: Socket> Connection<S> {
    /// Tells the connection that the patience of its lane has ended. A request that has
    /// begun gets an answer that says so, and an answer that has waited is given; everybody
    /// else is closed.
    pub fn expire(&mut self, desk: &mut Desk, site: &mut Site) -> Turn {
        desk.outbox.clear();
        let step = match self.phase {
            Phase::Head | Phase::PageBody => {
                let fields_only = Head::asks_for_fields_only(&self.carry);
                self.give_up(fields_only, desk, site)
            }
            Phase::Body(unread) => self.give_up(unread.asks_for_fields_only(), desk, site),
            Phase::Held(Next::Held(_)) => self.respond(0, Behind::Nothing, desk, site),
            Phase::Held(next) => {
                // Half a request, and then silence: there may always be half a request.
                self.hurry();
                self.release(next, desk, site)
            }
            Phase::Delayed(_) => self.wake(desk, site),
            Phase::Idle
            | Phase::Queued
            | Phase::Unwritten
            | Phase::Writing(_)
            | Phase::Lingering { .. }
            | Phase::Farewell => return Turn::Over(Reason::Overdue),
        };
        match step {
            Ok(_) => open(Change::Entered(self.lane()), true),
            Err(error) => Turn::Over(Reason::Failed(error.kind())),
        }
    }

    /// Whether the patience of a connection that lingers begins anew, as its peer has not
    /// stopped sending and may not have looked at the answer yet.
    pub fn lingers_on(&mut self) -> bool {
        self.phase.lingers_on()
    }

    /// Has the next answer announce the close, unless the one behind it can be given, too: the
    /// peer may have more requests on their way, but there is no time to wait for them.
    pub fn hurry(&mut self) {
        self.behind = Behind::TooLate;
    }

    /// Gives an answer whose time has come. What has come meanwhile is read first, as far as
    /// there is room, so that nobody is told the close who has asked for more.
    fn wake(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        let held = self.carry_in(desk);
        let space = &mut desk.inbox[held..];
        let len = match self.wire.receive(space)? {
            Received::Bytes(len) => {
                desk.moved.receive(len);
                held + len
            }
            Received::Nothing | Received::Eof => held,
        };
        self.respond(len, self.behind, desk, site)
    }

    /// Sends what was withheld, as far as the kernel takes it at once.
    pub fn hand_out(&mut self, desk: &mut Desk, site: &Site) {
        // It is going to be closed anyway, and that cannot go wrong.
        let _ = self.outgoing.flush(site, &mut self.wire, &mut desk.moved);
    }

    /// Tells a client that its request has taken too long.
    fn give_up(&mut self, fields_only: bool, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        site.refuse(Refusal::Overdue, fields_only, &self.carry, &mut desk.outbox);
        desk.moved.answers += 1;
        self.carry = Box::default();
        self.send(&desk.outbox, Tail::NONE, Next::Close, site, &mut desk.moved)?;
        Ok(self.entered())
    }
}
