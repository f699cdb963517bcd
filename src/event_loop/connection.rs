//! One peer: where its conversation stands, what it has sent too little of and what it has
//! taken too little of. Knows no poll and no clock. Its
//! [phases](crate::event_loop::phase) have a page of their own; here are the steps that lead from
//! one to the next because something has come or gone out.
//!
//! The invariant: between turns a connection holds only what it could not finish, which is
//! usually nothing. An idle one owns no memory but itself.

mod parting;
pub mod patience;
mod withholding;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::event_loop::desk::Desk;
use crate::event_loop::outgoing::{Outgoing, Sent};
use crate::event_loop::phase::Phase;
use crate::event_loop::stream::{Edge, Received, Socket, Wire};
use crate::event_loop::timers::Lane;
use crate::event_loop::turn::{Change, Reason, Step, Turn};
use crate::http::{Behind, Head, Next, Site, Tail, serve};
use crate::limits::STEPS_PER_TURN;
use crate::observe::counters::Moved;

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    wire: Wire<S>,
    phase: Phase,
    /// Input that has been read and not been served: in general the beginning of a head whose
    /// end has not come, and whole requests only behind one whose answer has to wait.
    carry: Box<[u8]>,
    outgoing: Outgoing,
    /// What is to be expected behind whatever has come. A peer that has been seen to send a
    /// request without waiting for the answer to another may do so again.
    behind: Behind,
    /// In a stop, it has been given a long body, which cannot be withheld.
    takes_long: bool,
    /// Bytes that have been read of a body. The table counts them; here is room for that.
    pub received: u32,
}

impl<S: Socket> Connection<S> {
    /// A connection on which nothing has been said yet.
    pub fn new(socket: S) -> Connection<S> {
        Connection {
            wire: Wire::new(socket),
            phase: Phase::Idle,
            carry: Box::default(),
            outgoing: Outgoing::default(),
            behind: Behind::Nothing,
            takes_long: false,
            received: 0,
        }
    }

    /// Remembers what an event reported, for the next turn.
    pub fn note(&mut self, edge: Edge) {
        self.wire.note(edge);
    }

    /// The lane that goes with the present phase.
    pub fn lane(&self) -> Lane {
        self.phase.lane()
    }

    /// Where its peer is, for the log.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.wire.peer()
    }

    /// Gives the connection a turn: it goes on until it would have to wait, but for at most
    /// [`STEPS_PER_TURN`] steps. A turn with nothing to do does no harm, so nobody has to
    /// prove that one is due.
    pub fn advance(&mut self, desk: &mut Desk, site: &mut Site) -> Turn {
        let mut change = Change::None;
        for _ in 0..STEPS_PER_TURN {
            let step = match self.phase {
                Phase::Idle | Phase::Head | Phase::Body(_) | Phase::PageBody | Phase::Held(_) => {
                    if !self.wire.is_readable() {
                        return open(change, false);
                    }
                    self.converse(desk, site)
                }
                Phase::Unwritten if !site.has_text() => Ok(Step::Blocked),
                Phase::Queued | Phase::Unwritten => self.go_on(desk, site),
                Phase::Writing(next) => self.flush(next, desk, site),
                // Who has reset the connection waits for nothing; a FIN may be half of a close.
                Phase::Delayed(_) if self.wire.is_broken() => {
                    Ok(Step::Over(Reason::Failed(ErrorKind::ConnectionReset)))
                }
                Phase::Delayed(_) => Ok(Step::Blocked),
                Phase::Lingering { .. } | Phase::Farewell => self.discard(desk),
            };
            match step {
                Ok(Step::Done(next)) => change = change.then(next),
                Ok(Step::Blocked) => return open(change, false),
                Ok(Step::Over(reason)) => return Turn::Over(reason),
                Err(error) => return Turn::Over(Reason::Failed(error.kind())),
            }
        }
        open(change, true)
    }

    /// Whether it has been given a long body in a stop, and so a reason to ask for another one.
    pub fn takes_long(&self) -> bool {
        self.takes_long
    }

    /// Whether it waits for a page to be written.
    pub fn is_unwritten(&self) -> bool {
        self.phase == Phase::Unwritten
    }

    /// The page that it waits for, if that has to be written first, and the query.
    pub fn awaits_page<'a>(&self, site: &'a Site) -> Option<(&'a str, String)> {
        let head = Head::parse(&self.carry).ok();
        let (head, _) = head.filter(|_| self.is_unwritten())??;
        let mut parts = head.target.splitn(2, |&byte| byte == b'?').skip(1);
        let query = String::from_utf8_lossy(parts.next().unwrap_or_default());
        Some((site.path(&head)?, query.into_owned()))
    }

    /// Whether the peer has sent something that was not read, as far as is known.
    pub fn has_unread(&self) -> bool {
        self.wire.is_readable()
    }

    /// Carry in, read, serve, carry out, send: one recv(2) and one send(2), however many
    /// requests they hold.
    fn converse(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        let held = self.carry_in(desk);
        let len = match self.wire.receive(&mut desk.inbox[held..])? {
            Received::Bytes(len) => {
                desk.moved.receive(len);
                held + len
            }
            Received::Nothing => return Ok(Step::Blocked),
            Received::Eof => return self.end(desk, site),
        };
        let is_more = len == desk.inbox.len() && self.behind == Behind::Nothing;
        let behind = if is_more {
            Behind::Perhaps
        } else {
            self.behind
        };
        self.respond(len, behind, desk, site)
    }

    /// The same without reading: goes on with what has been read already.
    fn go_on(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        let held = self.carry_in(desk);
        self.respond(held, self.behind, desk, site)
    }

    /// Answers what the first `len` bytes of the inbox ask for.
    fn respond(
        &mut self,
        len: usize,
        behind: Behind,
        desk: &mut Desk,
        site: &mut Site,
    ) -> io::Result<Step> {
        let input = &desk.inbox[..len];
        let unread = match self.phase {
            Phase::Body(unread) | Phase::Delayed(unread) => Some(unread),
            Phase::Held(next) => next.unread(),
            _ => None,
        };
        let before = self.lane();
        desk.outbox.clear();
        let served = serve(site, unread, input, behind, &mut desk.outbox);
        let rest = &input[served.consumed..];
        let has_begun = || served.next.unread().is_some() || Head::begins_in(rest);
        if served.answered > 1 || served.answered == 1 && has_begun() {
            self.behind = self.behind.max(Behind::Perhaps);
        }
        self.carry_out(rest);
        desk.moved.answers += served.answered;
        if site.is_closing() && self.has_to_withhold(&served) {
            self.withhold(desk, served.next, site)?;
        } else {
            self.send(
                &desk.outbox,
                served.tail,
                served.next,
                site,
                &mut desk.moved,
            )?;
        }
        let (lane, answered) = (self.lane(), served.answered > 0);
        Ok(Step::Done(match lane {
            // What the wait is for may come in pieces, and each is progress.
            Lane::Held if before == lane => Change::Progress(lane),
            Lane::Body if before == lane && !answered => Change::Progress(lane),
            Lane::Idle if before == lane && answered => Change::Again(lane),
            // A head has its patience from its first byte on, however it dribbles.
            _ if before == lane && !answered => Change::None,
            _ => Change::Entered(lane),
        }))
    }

    /// Puts what was carried along into the inbox, and says how long that is.
    fn carry_in(&self, desk: &mut Desk) -> usize {
        if !self.carry.is_empty() {
            desk.inbox[..self.carry.len()].copy_from_slice(&self.carry);
        }
        self.carry.len()
    }

    /// Keeps the beginning of a head for the next read. Between requests there is none, and
    /// the connection gives back its memory.
    fn carry_out(&mut self, rest: &[u8]) {
        if !rest.is_empty() || !self.carry.is_empty() {
            self.carry = rest.into();
        }
    }

    /// Sends answers and goes on as `next` says; or has it wait for the kernel.
    fn send(
        &mut self,
        answers: &[u8],
        tail: Tail,
        next: Next,
        site: &Site,
        moved: &mut Moved,
    ) -> io::Result<()> {
        match self
            .outgoing
            .send(answers, tail, site, &mut self.wire, moved)?
        {
            Sent::All => return self.proceed(next),
            Sent::Some | Sent::None => self.phase = Phase::Writing(next),
        }
        Ok(())
    }

    fn flush(&mut self, next: Next, desk: &mut Desk, site: &Site) -> io::Result<Step> {
        match self.outgoing.flush(site, &mut self.wire, &mut desk.moved)? {
            Sent::All => self.proceed(next).map(|()| self.entered()),
            Sent::Some => Ok(Step::Done(Change::Progress(Lane::Writing))),
            Sent::None => Ok(Step::Blocked),
        }
    }

    fn entered(&self) -> Step {
        Step::Done(Change::Entered(self.lane()))
    }

    /// Enters the phase in which the bytes after the last answer are met.
    fn proceed(&mut self, next: Next) -> io::Result<()> {
        // Nearly always, and worth a shorter way.
        if matches!(next, Next::Head) && self.carry.is_empty() {
            self.phase = Phase::Idle;
            return Ok(());
        }
        self.phase = match next {
            Next::Head if Head::begins_in(&self.carry) => Phase::Head,
            Next::Head => Phase::Idle,
            Next::Body(unread) => Phase::Body(unread),
            Next::PageBody => Phase::PageBody,
            Next::Delayed(unread) => Phase::Delayed(unread),
            Next::Queued => Phase::Queued,
            Next::Unwritten => Phase::Unwritten,
            Next::Held(_) => Phase::Held(next),
            Next::Close => {
                self.wire.finish()?;
                Phase::LINGERING
            }
        };
        Ok(())
    }
}

fn open(change: Change, unfinished: bool) -> Turn {
    Turn::Open { change, unfinished }
}

#[cfg(test)]
mod tests;
