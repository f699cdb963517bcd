//! Answers on their way out: those that the kernel had no room for, and those that are withheld
//! until it is known which of them is the last.
//!
//! The invariant: what is here goes before anything new, and most of the time nothing is. A
//! long body is not copied here either; only how much of it is left.

use std::io;

use crate::http::{Site, Tail};
use crate::limits::WITHHELD_MAX;
use crate::wire::{Socket, Wire};

/// Answers that have not been sent.
#[derive(Debug)]
pub struct Outgoing {
    pub(crate) bytes: Vec<u8>,
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
    /// Nothing to send.
    pub fn new() -> Outgoing {
        Outgoing {
            bytes: Vec::new(),
            tail: Tail::NONE,
        }
    }

    /// Whether so many bytes more may be withheld.
    pub fn has_room_for(&self, len: usize) -> bool {
        self.bytes.len() + len <= WITHHELD_MAX
    }

    /// Withholds answers that are whole.
    pub fn withhold(&mut self, answers: &[u8]) {
        self.bytes.extend_from_slice(answers);
    }

    /// Whether what is left ends with a long body.
    pub fn has_tail(&self) -> bool {
        !self.tail.is_over()
    }

    /// Sends answers and what belongs behind them, after what is here already. What the kernel
    /// refuses stays here.
    ///
    /// # Errors
    /// Those of [`Wire::send`].
    pub fn send<S: Socket>(
        &mut self,
        answers: &[u8],
        tail: Tail,
        site: &Site,
        wire: &mut Wire<S>,
    ) -> io::Result<Sent> {
        self.tail = tail;
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(answers);
            return self.flush(site, wire);
        }
        if answers.is_empty() {
            return Ok(Sent::All);
        }
        let sent = wire.send(answers, site.tail(tail))?;
        if sent == answers.len() && tail.is_over() {
            return Ok(Sent::All);
        }
        let copied = sent.min(answers.len());
        self.tail.skip(sent - copied);
        self.bytes.extend_from_slice(&answers[copied..]);
        Ok(self.outcome(sent))
    }

    /// Sends what is here, as far as the kernel takes it.
    ///
    /// # Errors
    /// Those of [`Wire::send`].
    pub fn flush<S: Socket>(&mut self, site: &Site, wire: &mut Wire<S>) -> io::Result<Sent> {
        let sent = wire.send(&self.bytes, site.tail(self.tail))?;
        let copied = sent.min(self.bytes.len());
        self.tail.skip(sent - copied);
        self.bytes.drain(..copied);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(self.outcome(sent))
    }

    fn outcome(&self, sent: usize) -> Sent {
        match sent {
            _ if self.bytes.is_empty() && self.tail.is_over() => Sent::All,
            0 => Sent::None,
            _ => Sent::Some,
        }
    }
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing::new()
    }
}
