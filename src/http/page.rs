//! A page: one body, and finished replies that carry it in every form that a client may ask
//! for. Rendering happens once, at start; afterwards only the date is written anew, into the hole
//! that each reply keeps for it.
//!
//! The invariant: every reply is as long as it says, and says so in `Content-Length`.

use super::Version;
use super::date::DATE_LEN;
use crate::limits::BODY_COPIED_MAX;

/// The fields of a text.
pub(super) const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
/// The same for one in which no browser is to look for anything else.
pub(super) const TEXT_NOT_SNIFFED: &str =
    "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";

/// A page, finished but for the date.
#[derive(Debug)]
pub(super) struct Page {
    /// One for each [`variant`].
    replies: [Reply; 4],
    /// The body that all of them share, if it is too long to be in each.
    body: Vec<u8>,
    /// Whether it is to be answered with after a while only.
    pub(super) is_delayed: bool,
}

/// The bytes of one reply, ready to send but for the date and for a long body.
#[derive(Debug)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    date_at: usize,
    body_at: usize,
}

/// The beginning of a page.
pub(super) struct Draft<'a> {
    /// Code and reason.
    pub(super) status: &'a str,
    /// What stands behind the status line, each field with its line end.
    pub(super) fields: &'a str,
}

impl Page {
    /// The reply to a request, without its body if that is long or not wanted.
    pub(super) fn reply(&self, version: Version, persists: bool, fields_only: bool) -> &[u8] {
        self.replies[variant(version, persists)].bytes(fields_only)
    }

    /// The body, if it is long.
    pub(super) fn long_body(&self) -> &[u8] {
        &self.body
    }

    /// Writes the date into every reply.
    pub(super) fn stamp(&mut self, date: &[u8; DATE_LEN]) {
        for reply in &mut self.replies {
            reply.stamp(date);
        }
    }
}

impl Reply {
    /// What is to be sent, to a `HEAD` request the fields only.
    pub(super) fn bytes(&self, fields_only: bool) -> &[u8] {
        let end = if fields_only {
            self.body_at
        } else {
            self.bytes.len()
        };
        &self.bytes[..end]
    }

    /// Writes the date.
    pub(super) fn stamp(&mut self, date: &[u8; DATE_LEN]) {
        self.bytes[self.date_at..][..DATE_LEN].copy_from_slice(date);
    }
}

/// The place of a reply in its page.
fn variant(version: Version, persists: bool) -> usize {
    2 * usize::from(version == Version::Http11) + usize::from(persists)
}

impl Draft<'_> {
    /// Renders all replies.
    pub(super) fn page(&self, body: Vec<u8>) -> Page {
        let reply = |version, persists| self.render(version, persists, &body);
        let replies = [
            reply(Version::Http10, false),
            reply(Version::Http10, true),
            reply(Version::Http11, false),
            reply(Version::Http11, true),
        ];
        let is_long = body.len() > BODY_COPIED_MAX;
        Page {
            replies,
            body: if is_long { body } else { Vec::new() },
            is_delayed: false,
        }
    }

    /// Renders one reply, without its body if that is long. The default of each version goes
    /// without saying, but for a close in HTTP/1.0, which costs nothing to say and helps those
    /// who read along.
    pub(super) fn render(&self, version: Version, persists: bool, body: &[u8]) -> Reply {
        let protocol = if version == Version::Http11 {
            "HTTP/1.1"
        } else {
            "HTTP/1.0"
        };
        let connection = match (version, persists) {
            (Version::Http11, true) => "",
            (Version::Http10, true) => "Connection: keep-alive\r\n",
            (_, false) => "Connection: close\r\n",
        };
        let Draft { status, fields } = self;
        let start = format!("{protocol} {status}\r\n{fields}Date: ");
        let hole = " ".repeat(DATE_LEN);
        let end = format!("\r\nContent-Length: {}\r\n{connection}\r\n", body.len());
        let (date_at, body_at) = (start.len(), start.len() + hole.len() + end.len());
        let is_long = body.len() > BODY_COPIED_MAX;
        let body = if is_long { b"" } else { body };
        Reply {
            bytes: [start.as_bytes(), hole.as_bytes(), end.as_bytes(), body].concat(),
            date_at,
            body_at,
        }
    }
}
