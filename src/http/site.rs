//! What a listener serves: a table of paths with a [page](super::page) for each, and a memory of
//! the request that came last.

use super::date::{DATE_LEN, imf_fixdate};
use super::grammar::is_unreserved;
use super::memo::Memo;
use super::page::{Draft, Page, TEXT, TEXT_NOT_SNIFFED};
use super::{Head, Refusal, Resource, Version};
use crate::limits::{ANSWER_MAX, OUTBOX};

/// A path and the text found there.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path, as in `/hello`, without any percent-encoding.
    pub path: &'static str,
    /// The body of the page, sent as `text/plain; charset=utf-8`.
    pub body: Vec<u8>,
    /// Whether the page is to be answered with after a while only.
    pub is_delayed: bool,
}

impl Route {
    /// A route whose page is answered with at once.
    pub fn new(path: &'static str, body: impl Into<Vec<u8>>) -> Route {
        Route {
            path,
            body: body.into(),
            is_delayed: false,
        }
    }
}

/// All that one listener serves.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    paths: Vec<&'static str>,
    /// The pages of `paths`, in their order, then the two that no path leads to.
    pages: Vec<Page>,
    memo: Memo,
    date: [u8; DATE_LEN],
    /// The last answer that a client gets announces the close.
    closing: bool,
}

/// What a request gets, once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    page: u8,
    version: Version,
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
    page: u8,
    left: u32,
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

impl Site {
    /// Renders the replies for `routes`. The `name` says in the log where a request came to.
    pub fn new(name: &'static str, routes: Vec<Route>) -> Site {
        let ok = |fields| Draft {
            status: "200 OK",
            fields,
        };
        let not_found = Draft {
            status: "404 Not Found",
            fields: TEXT_NOT_SNIFFED,
        };
        let (not_found, server) = (
            not_found.page(b"404 page not found\n".into()),
            ok("").page(Vec::new()),
        );
        Site {
            name,
            paths: routes.iter().map(|route| route.path).collect(),
            pages: routes
                .into_iter()
                .map(|route| {
                    let mut page = ok(TEXT).page(route.body);
                    page.is_delayed = route.is_delayed;
                    page
                })
                .chain([not_found, server])
                .collect(),
            memo: Memo::new(),
            date: imf_fixdate(0),
            closing: false,
        }
    }

    /// Writes the date, in seconds since 1970, into every reply.
    pub fn stamp(&mut self, unix_seconds: u64) {
        self.date = imf_fixdate(unix_seconds);
        for page in &mut self.pages {
            page.stamp(&self.date);
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
        let draft = Draft {
            status,
            fields: TEXT,
        };
        self.pages[at] = draft.page(body.into());
        self.pages[at].stamp(&self.date);
        self.memo.forget();
    }

    /// Decides what a request gets, whose head has been understood from `bytes`.
    pub fn answer(&mut self, head: &Head, bytes: &[u8]) -> Answer {
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
            page: u8::try_from(page).expect("there are few pages"),
            version: head.version,
            fields_only: head.method == "HEAD",
            persists: head.persists,
            is_delayed: self.pages[page].is_delayed,
        };
        let told = route.map(|_| head.target);
        if let Some(target) = told {
            self.tell(target);
        }
        let is_plain = answer.persists && !answer.is_delayed && self.tail_of(&answer).is_over();
        if is_plain && head.body.is_over() {
            self.memo.remember(bytes, answer, told);
        }
        answer
    }

    /// Answers requests off the front of `rest` for as long as each has the head that was
    /// understood last, and there is room; says how many those are.
    pub fn repeat(&self, rest: &mut &[u8], out: &mut Vec<u8>) -> u64 {
        let Some((head, answer)) = self.memo.recall().filter(|_| !self.closing) else {
            return 0;
        };
        let reply = self.reply(&answer);
        let tells = log::log_enabled!(target: self.name, log::Level::Info);
        let mut answered = 0;
        while out.len() <= OUTBOX - ANSWER_MAX
            && let Some(behind) = rest.strip_prefix(head)
        {
            if tells && let Some(target) = self.memo.target() {
                self.tell(target);
            }
            out.extend_from_slice(reply);
            *rest = behind;
            answered += 1;
        }
        answered
    }

    /// Logs a request for which a route was found.
    fn tell(&self, target: &str) {
        log::info!(target: self.name, "Request '{target}' received");
    }

    /// The bytes of `answer`; it announces the end of the connection unless it persists. A
    /// long body is not among them.
    pub fn reply(&self, answer: &Answer) -> &[u8] {
        let page = &self.pages[usize::from(answer.page)];
        page.reply(answer.version, answer.persists, answer.fields_only)
    }

    /// What belongs behind the bytes of `answer`.
    pub fn tail_of(&self, answer: &Answer) -> Tail {
        let len = self.pages[usize::from(answer.page)].long_body().len();
        if answer.fields_only || len == 0 {
            return Tail::NONE;
        }
        Tail {
            page: answer.page,
            left: u32::try_from(len).expect("bodies are no longer than BODY_SIZE_MAX"),
        }
    }

    /// What is left of a tail.
    pub fn tail(&self, tail: Tail) -> &[u8] {
        if tail.is_over() {
            return &[];
        }
        let body = self.pages[usize::from(tail.page)].long_body();
        &body[body.len() - tail.left as usize..]
    }

    /// Appends the reply for a request that is not served. Refusals are rare and end their
    /// connection, so they are rendered when one is due.
    pub fn refuse(&self, why: Refusal, fields_only: bool, out: &mut Vec<u8>) {
        let draft = Draft {
            status: why.status(),
            fields: TEXT_NOT_SNIFFED,
        };
        let body = format!("{}\n", why.text());
        let mut reply = draft.render(Version::Http11, false, body.as_bytes());
        reply.stamp(&self.date);
        out.extend_from_slice(reply.bytes(fields_only));
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
