//! A page: one body, and finished replies that carry it in every form that a client may ask
//! for. Rendering happens once, at start; afterwards only the date is written anew, into the hole
//! that each reply keeps for it.
//!
//! The invariant: every reply is as long as it says, and says so in `Content-Length`.

use super::date::DATE_LEN;
use super::{Status, Version};
use crate::limits::BODY_COPIED_MAX;

/// The fields of a text.
pub const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
/// The same for one in which no browser is to look for anything else.
pub const TEXT_NOT_SNIFFED: &str =
    "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";

/// A path and the text found there.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path, as in `/hello`, without any percent-encoding.
    pub path: String,
    /// The body of the page; none if it is live.
    pub body: Vec<u8>,
    /// What the head says of the body, each field with its line end.
    pub fields: &'static str,
    /// Whether the page is to be answered with after a while only.
    pub is_delayed: bool,
    /// Whether the page is written anew for each request.
    pub is_live: bool,
}

impl Route {
    /// A route to a text that is answered with at once.
    pub fn new(path: &str, body: impl Into<Vec<u8>>) -> Route {
        Route {
            path: path.to_owned(),
            body: body.into(),
            fields: TEXT,
            is_delayed: false,
            is_live: false,
        }
    }

    /// A route to a page that is written anew for each request.
    pub fn live(path: &str) -> Route {
        Route {
            is_live: true,
            ..Route::new(path, Vec::new())
        }
    }
}

/// A live page, as it is at one moment.
#[derive(Clone, Debug)]
pub struct Text {
    /// Whether there is such a thing.
    pub status: Status,
    /// What the head says of the body, each field with its line end.
    pub fields: &'static str,
    /// The body, of at most [`TEXT_MAX`](crate::limits::TEXT_MAX) bytes.
    pub body: Vec<u8>,
}

/// A page, finished but for the date.
#[derive(Debug)]
pub(super) struct Page {
    /// One for each [`variant`].
    replies: [Reply; 4],
    /// The body that all of them share, if it is too long to be in each.
    body: Vec<u8>,
    /// What its replies say of it.
    pub(super) status: Status,
    /// Whether it is to be answered with after a while only.
    pub(super) is_delayed: bool,
    /// Whether it is written anew for each request, so that there are no replies to it here.
    pub(super) is_live: bool,
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
    pub(super) status: Status,
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
            status: self.status,
            is_delayed: false,
            is_live: false,
        }
    }

    /// Renders one reply, without its body if that is long.
    fn render(&self, version: Version, persists: bool, body: &[u8]) -> Reply {
        if body.len() > BODY_COPIED_MAX {
            self.head(version, persists, body.len())
        } else {
            self.whole(version, persists, body)
        }
    }

    /// Renders one reply, with its body however long that is.
    pub(super) fn whole(&self, version: Version, persists: bool, body: &[u8]) -> Reply {
        let mut reply = self.head(version, persists, body.len());
        reply.bytes.extend_from_slice(body);
        reply
    }

    /// Renders the head of a reply with a body of that length. The default of each version goes
    /// without saying, but for a close in HTTP/1.0, which costs nothing to say and helps those
    /// who read along.
    fn head(&self, version: Version, persists: bool, len: usize) -> Reply {
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
        let (status, fields) = (self.status.line(), self.fields);
        let start = format!("{protocol} {status}\r\n{fields}Date: ");
        let hole = " ".repeat(DATE_LEN);
        let end = format!("\r\nContent-Length: {len}\r\n{connection}\r\n");
        let date_at = start.len();
        let bytes = [start, hole, end].concat().into_bytes();
        Reply {
            body_at: bytes.len(),
            bytes,
            date_at,
        }
    }
}
