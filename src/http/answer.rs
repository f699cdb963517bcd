//! What is given to a request, as far as it has to be remembered, and what has been given to all.
//!
//! The invariant: it is small and can be copied, as it waits in a connection.

use core::fmt;

use super::{Refusal, Status, Version};

/// What a request gets, once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(super) page: u8,
    pub(super) version: Version,
    /// `HEAD` gets the fields alone (RFC 9110, section 9.3.2).
    pub fields_only: bool,
    /// Whether the connection may go on after this answer.
    pub persists: bool,
    /// Whether it is to be given after a while only.
    pub is_delayed: bool,
}

/// The end of a long answer: what is still to be sent of a body that is sent from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    pub(super) page: u8,
    pub(super) left: u32,
}

impl Tail {
    /// That of an answer which is whole.
    pub const NONE: Tail = Tail { page: 0, left: 0 };

    /// Whether nothing of it is left.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Takes note that so many bytes of it have been sent.
    ///
    /// # Panics
    /// If there were not as many.
    pub fn skip(&mut self, sent: usize) {
        let left = self.left as usize - sent;
        self.left = u32::try_from(left).expect("it is getting less");
    }
}

/// A response that has been given, for the log.
#[derive(Debug)]
pub struct Response {
    /// Method and target of its request, as the log shows them.
    pub request: String,
    /// Its status.
    pub status: Status,
    /// How many bytes it has, with its head.
    pub bytes: usize,
    /// Why the request was refused, if it was.
    pub why: Option<String>,
}

impl fmt::Display for Response {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let (request, code, bytes) = (&self.request, self.status.code(), self.bytes);
        write!(out, "{request} {code}, {bytes} bytes")
    }
}

/// What a site has given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Answers by their status, at its index.
    pub answers: [u64; Status::COUNT],
    /// Refusals, which are among the answers, by their reason, at its index.
    pub refusals: [u64; Refusal::ALL.len()],
}
