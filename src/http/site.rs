//! What a listener serves: a table of paths with a [page](super::page) for each. It also counts
//! what it gives.
//!
//! A page may be live: written anew for each request, by somebody who knows more than this room
//! may know. A request for it waits until its text has been [put](Site::put) here, and is then
//! answered like any other.

use std::mem;

use super::answer::{Answer, Given, Response, Tail};
use super::date::{DATE_LEN, imf_fixdate};
use super::grammar::{Shown, means};
use super::page::{Draft, Page, Route, TEXT, TEXT_NOT_SNIFFED, Text};
use super::target::{explain, stray_byte};
use super::{Head, Refusal, Resource, Status, Version};
use crate::limits::{LOGGED_MAX, TEXT_MAX};

/// All that one listener serves.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    paths: Vec<String>,
    /// The pages of `paths`, in their order, then the two that no path leads to.
    pages: Vec<Page>,
    /// What the next request for a live page is answered with.
    text: Option<Text>,
    given: Given,
    date: [u8; DATE_LEN],
    /// Each response is kept for the log, with the request that it is for.
    logs: bool,
    request: String,
    responses: Vec<Response>,
    /// The last answer that a client gets announces the close.
    closing: bool,
}

impl Site {
    /// Renders the replies for `routes`. The `name` says in the log where a request came to.
    pub fn new(name: &'static str, routes: Vec<Route>) -> Site {
        let ok = |fields| Draft {
            status: Status::OK,
            fields,
        };
        let not_found = Draft {
            status: Status::NOT_FOUND,
            fields: TEXT_NOT_SNIFFED,
        };
        let (not_found, server) = (
            not_found.page(b"404 page not found\n".into()),
            ok("").page(Vec::new()),
        );
        Site {
            name,
            paths: routes.iter().map(|route| route.path.clone()).collect(),
            pages: routes
                .into_iter()
                .map(|route| {
                    let mut page = ok(route.fields).page(route.body);
                    (page.is_delayed, page.is_live) = (route.is_delayed, route.is_live);
                    page
                })
                .chain([not_found, server])
                .collect(),
            text: None,
            given: Given::default(),
            date: imf_fixdate(0),
            logs: log::log_enabled!(target: name, log::Level::Debug),
            request: String::new(),
            responses: Vec::new(),
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
    pub fn replace(&mut self, path: &str, status: Status, body: &str) {
        let at = self.paths.iter().position(|route| route == path);
        let at = at.expect("a page that is replaced has been there");
        let draft = Draft {
            status,
            fields: TEXT,
        };
        self.pages[at] = draft.page(body.into());
        self.pages[at].stamp(&self.date);
    }

    /// What has been given so far.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// Puts down the text that the next request for a live page is answered with.
    ///
    /// # Panics
    /// If it is longer than [`TEXT_MAX`].
    pub fn put(&mut self, text: Text) {
        assert!(text.body.len() <= TEXT_MAX, "a text fits into the outbox");
        self.text = Some(text);
    }

    /// Takes away the text, if it is still there: it was written for one client only.
    pub fn withdraw(&mut self) {
        self.text = None;
    }

    /// Whether there is such a text.
    pub fn has_text(&self) -> bool {
        self.text.is_some()
    }

    /// The page that a request is about.
    #[inline]
    pub(super) fn page(&self, head: &Head) -> usize {
        let (not_found, server) = (self.paths.len(), self.paths.len() + 1);
        match head.resource {
            Resource::Path(path) => {
                let leads = |route: &String| means(path, route.as_bytes());
                self.paths.iter().position(leads).unwrap_or(not_found)
            }
            Resource::Server => server,
        }
    }

    /// The path of that page, if there is one.
    pub fn path(&self, head: &Head) -> Option<&str> {
        self.paths.get(self.page(head)).map(String::as_str)
    }

    /// Whether a page is written anew for each request.
    pub(super) fn is_live(&self, page: usize) -> bool {
        self.pages[page].is_live
    }

    /// Whether that has to be done first.
    pub(super) fn is_unwritten(&self, page: usize) -> bool {
        self.text.is_none() && self.is_live(page)
    }

    /// Whether an answer is written for its request.
    pub(super) fn writes(&self, answer: &Answer) -> bool {
        self.is_live(usize::from(answer.page))
    }

    /// Decides what a request for a `page` gets.
    pub(super) fn answer(&mut self, page: usize, head: &Head) -> Answer {
        let answer = Answer {
            page: u8::try_from(page).expect("there are few pages"),
            version: head.version,
            fields_only: head.method == "HEAD",
            persists: head.persists,
            is_delayed: self.pages[page].is_delayed,
        };
        if self.logs {
            let target = Shown(head.target);
            self.request = format!("{} '{target}'", head.method);
        }
        if page < self.paths.len() {
            self.tell(head.target);
        }
        answer
    }

    /// Logs a request for which a route was found.
    fn tell(&self, target: &[u8]) {
        let target = Shown(target);
        log::info!(target: self.name, "Request '{target}' received");
    }

    /// Appends the bytes of `answer`; it announces the end of the connection unless it persists.
    /// A long body is not among them.
    pub(super) fn give(&mut self, answer: &Answer, out: &mut Vec<u8>) {
        let before = out.len();
        let page = &self.pages[usize::from(answer.page)];
        let status = match self.text.take_if(|_| page.is_live) {
            None => {
                out.extend_from_slice(page.reply(
                    answer.version,
                    answer.persists,
                    answer.fields_only,
                ));
                page.status
            }
            Some(Text {
                status,
                fields,
                body,
            }) => {
                let draft = Draft { status, fields };
                let mut reply = draft.whole(answer.version, answer.persists, &body);
                reply.stamp(&self.date);
                out.extend_from_slice(reply.bytes(answer.fields_only));
                status
            }
        };
        self.given.answers[status.index()] += 1;
        if self.logs {
            let bytes = out.len() - before + self.tail_of(answer).left as usize;
            self.keep_response(status, bytes, None);
        }
    }

    /// Whether responses are kept for the log.
    pub fn logs_responses(&self) -> bool {
        self.logs
    }

    fn keep_response(&mut self, status: Status, bytes: usize, why: Option<String>) {
        let request = mem::take(&mut self.request);
        self.responses.push(Response {
            request,
            status,
            bytes,
            why,
        });
    }

    /// The responses that have been given since the last call.
    pub fn take_responses(&mut self) -> Vec<Response> {
        mem::take(&mut self.responses)
    }

    /// The request whose head has been understood and whose response has not been given; empty
    /// if there is none.
    pub fn take_request(&mut self) -> String {
        mem::take(&mut self.request)
    }

    /// Goes on with a request that has waited.
    pub fn put_request(&mut self, request: String) {
        self.request = request;
    }

    /// What belongs behind the bytes of `answer`.
    pub(super) fn tail_of(&self, answer: &Answer) -> Tail {
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

    /// Appends the reply for a request that is not served, of which `head` is the beginning if it
    /// has not been understood. Refusals are rare and end their connection, so they are rendered
    /// when one is due.
    pub fn refuse(&mut self, why: Refusal, fields_only: bool, head: &[u8], out: &mut Vec<u8>) {
        let draft = Draft {
            status: why.status(),
            fields: TEXT_NOT_SNIFFED,
        };
        let stray = (why == Refusal::Target).then(|| stray_byte(head)).flatten();
        let text = stray.map_or_else(|| why.text().to_owned(), explain);
        let body = format!("{text}\n");
        let mut reply = draft.whole(Version::Http11, false, body.as_bytes());
        reply.stamp(&self.date);
        let bytes = reply.bytes(fields_only);
        out.extend_from_slice(bytes);
        self.given.answers[draft.status.index()] += 1;
        self.given.refusals[why as usize] += 1;
        if self.logs {
            if self.request.is_empty() {
                self.request = beginning(head);
            }
            self.keep_response(draft.status, bytes.len(), Some(text));
        }
    }
}

/// Method and target of a head that may be anything, as far as they can be told.
fn beginning(head: &[u8]) -> String {
    let head = &head[..head.len().min(LOGGED_MAX)];
    let line = head
        .trim_ascii_start()
        .split(|&byte| byte == b'\r' || byte == b'\n');
    let mut words = line
        .take(1)
        .flat_map(|line| line.splitn(3, |&byte| byte == b' '));
    let mut word = || Shown(words.next().unwrap_or_default());
    let (method, target) = (word(), word());
    format!("{method} '{target}'")
}
