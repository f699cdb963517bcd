//! What a listener serves: a table of paths, and for each the finished bytes of its reply
//! in every form that a client may ask for. Rendering happens once, at start; afterwards
//! only the date is written anew, into the hole that each reply keeps for it.

use super::date::{DATE_LEN, imf_fixdate};
use super::grammar::is_unreserved;
use super::{Head, Refusal, Resource, Version};

/// A path and the text found there.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path, as in `/hello`, without any percent-encoding.
    pub path: &'static str,
    /// The body of the page, sent as `text/plain; charset=utf-8`.
    pub body: String,
}

/// All that one listener serves.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    paths: Vec<&'static str>,
    /// The pages of `paths`, in their order, then the two that no path leads to.
    pages: Vec<[Reply; 4]>,
    date: [u8; DATE_LEN],
    /// The last answer that a client gets announces the close.
    closing: bool,
}

/// What a request gets, once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    page: usize,
    version: Version,
    /// `HEAD` gets the fields alone (RFC 9110, section 9.3.2).
    pub fields_only: bool,
    /// Whether the connection may go on after this answer.
    pub persists: bool,
}

/// The bytes of one reply, ready to send but for the date.
#[derive(Debug)]
struct Reply {
    bytes: Vec<u8>,
    date_at: usize,
    body_at: usize,
}

/// What a reply is made from.
struct Page<'a> {
    status: &'a str,
    fields: &'a str,
    body: &'a str,
}

const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
const TEXT_NOT_SNIFFED: &str =
    "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";

impl Site {
    /// Renders the replies for `routes`. The `name` says in the log where a request came to.
    pub fn new(name: &'static str, routes: &[Route]) -> Site {
        let not_found = Page {
            status: "404 Not Found",
            fields: TEXT_NOT_SNIFFED,
            body: "404 page not found\n",
        };
        let server = Page {
            status: "200 OK",
            fields: "",
            body: "",
        };
        let pages = routes.iter().map(|route| Page {
            status: "200 OK",
            fields: TEXT,
            body: &route.body,
        });
        Site {
            name,
            paths: routes.iter().map(|route| route.path).collect(),
            pages: pages
                .chain([not_found, server])
                .map(|page| page.variants())
                .collect(),
            date: imf_fixdate(0),
            closing: false,
        }
    }

    /// The name given to [`Site::new`].
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Writes the date, in seconds since 1970, into every reply.
    pub fn stamp(&mut self, unix_seconds: u64) {
        self.date = imf_fixdate(unix_seconds);
        for reply in self.pages.iter_mut().flatten() {
            reply.stamp(&self.date);
        }
    }

    /// From now on, the last answer that a client gets announces the close.
    pub fn announce_close(&mut self) {
        self.closing = true;
    }

    /// Whether that is so.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Puts another text in the place of the one at `path`, with another status.
    ///
    /// # Panics
    /// If there is no route to `path`.
    pub fn replace(&mut self, path: &str, status: &str, body: &str) {
        let at = self.paths.iter().position(|route| *route == path);
        let at = at.expect("a page that is replaced has been there");
        self.pages[at] = Page {
            status,
            fields: TEXT,
            body,
        }
        .variants();
        for reply in &mut self.pages[at] {
            reply.stamp(&self.date);
        }
    }

    /// Decides what `head` gets. The second part tells whether a route was found for it.
    pub fn answer(&self, head: &Head) -> (Answer, bool) {
        let route = match head.resource {
            Resource::Path(path) => self
                .paths
                .iter()
                .position(|route| means(path, route.as_bytes())),
            Resource::Server => None,
        };
        let (not_found, server) = (self.paths.len(), self.paths.len() + 1);
        let page = match head.resource {
            Resource::Path(_) => route.unwrap_or(not_found),
            Resource::Server => server,
        };
        let answer = Answer {
            page,
            version: head.version,
            fields_only: head.method == "HEAD",
            persists: head.persists,
        };
        (answer, route.is_some())
    }

    /// The bytes of `answer`; it announces the end of the connection unless it persists.
    pub fn reply(&self, answer: &Answer) -> &[u8] {
        let reply = &self.pages[answer.page][variant(answer.version, answer.persists)];
        if answer.fields_only {
            &reply.bytes[..reply.body_at]
        } else {
            &reply.bytes
        }
    }

    /// Appends the reply for a request that is not served. Refusals are rare and end their
    /// connection, so they are rendered when one is due.
    pub fn refuse(&self, why: Refusal, fields_only: bool, out: &mut Vec<u8>) {
        let body = format!("{}\n", why.text());
        let page = Page {
            status: why.status(),
            fields: TEXT_NOT_SNIFFED,
            body: &body,
        };
        let mut reply = page.render(Version::Http11, false);
        reply.stamp(&self.date);
        let end = if fields_only {
            reply.body_at
        } else {
            reply.bytes.len()
        };
        out.extend_from_slice(&reply.bytes[..end]);
    }
}

impl Reply {
    fn stamp(&mut self, date: &[u8; DATE_LEN]) {
        self.bytes[self.date_at..][..DATE_LEN].copy_from_slice(date);
    }
}

/// The place of a reply among its page's [`Page::variants`].
fn variant(version: Version, persists: bool) -> usize {
    2 * usize::from(version == Version::Http11) + usize::from(persists)
}

impl Page<'_> {
    fn variants(&self) -> [Reply; 4] {
        [
            self.render(Version::Http10, false),
            self.render(Version::Http10, true),
            self.render(Version::Http11, false),
            self.render(Version::Http11, true),
        ]
    }

    /// The default of each version goes without saying, but for a close in HTTP/1.0, which
    /// costs nothing to say and helps those who read along.
    fn render(&self, version: Version, persists: bool) -> Reply {
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
        let Page {
            status,
            fields,
            body,
        } = self;
        let start = format!("{protocol} {status}\r\n{fields}Date: ");
        let hole = " ".repeat(DATE_LEN);
        let end = format!("\r\nContent-Length: {}\r\n{connection}\r\n", body.len());
        let (date_at, body_at) = (start.len(), start.len() + hole.len() + end.len());
        Reply {
            bytes: [start, hole, end, (*body).to_owned()].concat().into_bytes(),
            date_at,
            body_at,
        }
    }
}

/// Whether `raw` is `path` once its needless percent-encoding is undone: only unreserved
/// characters mean the same in either form (RFC 3986, section 2.3).
fn means(mut raw: &[u8], path: &[u8]) -> bool {
    if raw == path {
        return true;
    }
    for &expected in path {
        let (byte, rest) = match raw {
            [b'%', high, low, rest @ ..] => match hex_octet(*high, *low) {
                Some(octet) if is_unreserved(octet) => (octet, rest),
                _ => return false,
            },
            [byte, rest @ ..] => (*byte, rest),
            [] => return false,
        };
        if byte != expected {
            return false;
        }
        raw = rest;
    }
    raw.is_empty()
}

fn hex_octet(high: u8, low: u8) -> Option<u8> {
    let digit = |byte| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}
