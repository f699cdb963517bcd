//! Answers on their way out: those that the kernel had no room for, and those that are withheld
//! until it is known which of them is the last.
//!
//! The invariant: what is here goes before anything new, and most of the time nothing is. A
//! long body is not copied here either; only how much of it is left.

use std::io;

use crate::event_loop::stream::{Socket, Wire};
use crate::http::{Site, Tail};
use crate::limits::WITHHELD_MAX;
use crate::observe::counters::Moved;

/// Answers that have not been sent, if there are any.
#[derive(Debug, Default)]
pub struct Outgoing(Option<Box<Unsent>>);

#[derive(Debug)]
struct Unsent {
    bytes: Vec<u8>,
    /// What comes behind the bytes.
    tail: Tail,
}

/// What a write has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing is left.
    All,
    /// The kernel took something; it may take more.
    Some,
    /// The kernel has no room, and will tell when it has.
    None,
}

impl Outgoing {
    /// How many bytes are here.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |unsent| unsent.bytes.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so many bytes more may be withheld.
    pub fn has_room_for(&self, len: usize) -> bool {
        self.len() + len <= WITHHELD_MAX
    }

    /// Withholds answers that are whole.
    pub fn withhold(&mut self, answers: &[u8]) {
        if !answers.is_empty() {
            self.keep(answers, Tail::NONE);
        }
    }

    /// Whether what is left ends with a long body.
    fn has_tail(&self) -> bool {
        self.0.as_ref().is_some_and(|unsent| !unsent.tail.is_over())
    }

    /// Sends answers and what belongs behind them, after what is here already. What the kernel
    /// refuses stays here.
    ///
    /// # Errors
    /// Those of [`Wire::send`].
    pub fn send<S: Socket>(
        &mut self,
        answers: &[u8],
        mut tail: Tail,
        site: &Site,
        wire: &mut Wire<S>,
        moved: &mut Moved,
    ) -> io::Result<Sent> {
        if self.0.is_some() {
            self.keep(answers, tail);
            return self.flush(site, wire, moved);
        }
        if answers.is_empty() {
            return Ok(Sent::All);
        }
        let sent = wire.send(answers, site.tail(tail))?;
        moved.send(sent);
        if sent == answers.len() && tail.is_over() {
            return Ok(Sent::All);
        }
        let copied = sent.min(answers.len());
        tail.skip(sent - copied);
        self.keep(&answers[copied..], tail);
        Ok(self.outcome(sent, moved))
    }

    /// Sends what is here, as far as the kernel takes it.
    ///
    /// # Errors
    /// Those of [`Wire::send`].
    pub fn flush<S: Socket>(
        &mut self,
        site: &Site,
        wire: &mut Wire<S>,
        moved: &mut Moved,
    ) -> io::Result<Sent> {
        let Some(Unsent { bytes, tail }) = self.0.as_deref_mut() else {
            return Ok(Sent::All);
        };
        let sent = wire.send(bytes, site.tail(*tail))?;
        moved.send(sent);
        let copied = sent.min(bytes.len());
        tail.skip(sent - copied);
        bytes.drain(..copied);
        Ok(self.outcome(sent, moved))
    }

    /// Puts answers behind those that are here, none of which has a tail.
    fn keep(&mut self, answers: &[u8], tail: Tail) {
        let unsent = self.0.get_or_insert_with(|| {
            let bytes = Vec::new();
            Box::new(Unsent { bytes, tail })
        });
        unsent.bytes.extend_from_slice(answers);
        unsent.tail = tail;
    }

    /// Gives the memory back when nothing is left.
    fn outcome(&mut self, sent: usize, moved: &mut Moved) -> Sent {
        if self.is_empty() && !self.has_tail() {
            self.0 = None;
            return Sent::All;
        }
        if sent == 0 {
            return Sent::None;
        }
        moved.partial_writes += 1;
        Sent::Some
    }
}
