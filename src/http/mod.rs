//! The protocol: a function from bytes to bytes. It knows no socket, no clock and no shutdown.
//! Where a request is cut between two calls, the caller keeps the rest.
//!
//! The invariant: however a stream of requests is cut into inputs, the responses are the same
//! bytes in the same order. The exception is `100 Continue`, for a client that waits for it.
//!
//! ```text
//!  input ──► Head::parse ──► Routes::find ──► Body::skip ──► Routes::write ──► output
//!        │       │  one head      its route       what comes       the response
//!        │       ▼  or none yet                   behind it
//!        │    Error ───────────────────────────────────────────► output, and the close
//! ```
//!
//! # Try it
//!
//! Three requests in one input: one is served, one has no route, and one breaks a rule, as it lacks
//! its `Host`. That response is the last one, and what follows is not served.
//!
//! ```sh
//! onepoll --log warn & server=$!; sleep 0.5
//! printf '%s\r\n' 'GET /hello HTTP/1.1' 'Host: a' '' 'GET /no HTTP/1.1' 'Host: a' '' \
//!     'GET /hello HTTP/1.1' '' 'GET /hello HTTP/1.1' 'Host: a' '' > batch.txt
//! curl -s -m 3 telnet://localhost:8080 < batch.txt > responses.txt
//! grep -a HTTP/1.1 responses.txt # look for: 400 Bad Request
//! grep -ac HTTP/1.1 responses.txt # look for: 3
//! kill $server; wait $server
//! ```

use httparse::EMPTY_HEADER;

use crate::limits::{FIELDS_USUAL, OUTPUT, PAGE_MAX, PAGE_REQUEST_BODY_MAX, RESPONSE_MAX};

mod body;
mod error;
mod request;
mod response;
mod syntax;

pub use body::Body;
pub use error::{Error, Status};
use request::Headers;
pub use request::{Head, Resource, Version};
pub use response::{
    DATE_LEN, Page, Response, Route, Routes, TEXT, TEXT_NOT_SNIFFED, UnsentBody, announce_close,
    imf_fixdate,
};
pub use syntax::{Shown, is_plain_path};

/// What [`serve`] tells while it serves, and what it asks for.
pub trait Handler {
    /// A head has been parsed; `has_route` if it is for a route.
    fn on_request(&mut self, _head: &Head, _has_route: bool) {}

    /// A response of so many bytes has been written.
    fn on_response(&mut self, _status: Status, _bytes: usize) {}

    /// An error response of so many bytes has been written. The `input` begins with the request,
    /// unless its head had been parsed before.
    fn on_error(&mut self, _error: Error, _text: &str, _input: &[u8], _bytes: usize) {}

    /// Renders the dynamic page at a path.
    fn render(&mut self, _path: &str, _query: &[u8]) -> Page {
        Page { status: Status::NOT_FOUND, fields: TEXT_NOT_SNIFFED, body: Vec::new() }
    }
}

impl Handler for () {}

/// Where responses go.
#[derive(Debug)]
pub struct Output {
    /// The responses.
    pub bytes: Vec<u8>,
    /// How many dynamic pages may still be rendered; more of them have to wait.
    pub pages: usize,
}

/// What [`serve`] did with its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Served {
    /// Bytes that need not be seen again. The rest is the beginning of a head, or it waits behind
    /// a response.
    pub consumed: usize,
    /// Responses appended to the output, errors included.
    pub responses: u32,
    /// Where the last of them begins in the output.
    pub last: usize,
    /// The body that belongs behind the output, and was too long to be copied there.
    pub body: UnsentBody,
    /// What comes next.
    pub next: Next,
}

/// What comes next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A head, or the rest of one.
    Head,
    /// The rest of a body.
    Body(Unanswered),
    /// The rest of a small body for a dynamic page. Its head stays unparsed until all of it is
    /// there.
    PageBody,
    /// A response whose delay has to pass first.
    Delayed(Response),
    /// Another request has begun, whole or in part, and waits until the output has been sent. Or a
    /// whole one waits until its page may be rendered.
    Full,
    /// Nothing: the connection closes, and the client may still send something, or be slow to read.
    Close,
    /// Nothing: the client has asked for the close, so it must not send anything more (RFC 9112,
    /// section 9.6). It has kept to that so far, its request had no body, behind which old clients
    /// send a line end (section 2.2), and there is one short response.
    CloseRequested,
}

impl Next {
    /// Whether the connection closes.
    pub fn closes(self) -> bool {
        matches!(self, Next::Close | Next::CloseRequested)
    }
}

/// A request whose head has been parsed, and whose body has not ended. The response is sent
/// at its end: until then it may prove to be malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    body: Body,
    response: Response,
}

impl Unanswered {
    /// Whether the request is a `HEAD`, whose response has no body.
    pub fn is_head_only(&self) -> bool {
        self.response.head_only
    }
}

/// Appends the response to every request that `input` completes, in order, to the output, for as
/// long as that has room. It goes on where the call before ended: `at` is what came next then.
/// Whether the connection closes behind the last response is another matter: in a shutdown the
/// caller puts an announcement into it.
pub fn serve(
    routes: &Routes,
    handler: &mut impl Handler,
    at: Next,
    input: &[u8],
    output: &mut Output,
) -> Served {
    let mut call = Call {
        routes,
        handler,
        rest: input,
        output,
        next: at,
        responses: 0,
        last: 0,
        body: UnsentBody::NONE,
        page: None,
        had_body: false,
        headers: &mut [EMPTY_HEADER; FIELDS_USUAL],
    };
    while let Some(response) = call.next_response() {
        call.respond(response);
    }
    let Call { rest, next, responses, last, body, .. } = call;
    let left = if next.closes() { 0 } else { rest.len() };
    Served { consumed: input.len() - left, responses, last, body, next }
}

/// One call of [`serve`]. Methods that take something off the input return the response that is due
/// then; if there is none, `next` says why.
struct Call<'a, H> {
    routes: &'a Routes,
    handler: &'a mut H,
    /// The input that is not consumed yet.
    rest: &'a [u8],
    output: &'a mut Output,
    next: Next,
    responses: u32,
    last: usize,
    body: UnsentBody,
    /// The dynamic page of the response that is due.
    page: Option<Page>,
    /// A request had a body.
    had_body: bool,
    headers: &'a mut Headers<'a>,
}

impl<H: Handler> Call<'_, H> {
    /// The response that is due next, once its request is taken off the front of the input.
    fn next_response(&mut self) -> Option<Response> {
        match self.next {
            Next::Body(unanswered) => return self.skip_body(unanswered),
            Next::Delayed(response) => return Some(response),
            Next::Close | Next::CloseRequested => return None,
            Next::Head | Next::PageBody | Next::Full => {}
        }
        if self.rest.is_empty() {
            return self.end(Next::Head);
        }
        if !self.has_room() {
            // Line ends alone wait for no room: this may have been the last response.
            let begins = Head::begins_in(self.rest);
            return self.end(if begins { Next::Full } else { Next::Head });
        }
        match &Head::parse_with(self.headers, self.rest) {
            Ok(Some(head)) => self.begin(head),
            Ok(None) => self.end(Next::Head),
            Err(why) => self.refuse(*why, Head::asks_for_fields_only(self.rest)),
        }
    }

    /// Takes a request off the front of the input, of which the head has been parsed.
    #[inline]
    fn begin(&mut self, head: &Head) -> Option<Response> {
        let response = Response {
            route: self.routes.find(head),
            version: head.version,
            head_only: head.method == b"HEAD",
            keep_alive: head.persists,
        };
        if self.routes.is_dynamic(response) {
            return self.render(head, response);
        }
        self.handler.on_request(head, self.routes.path(response).is_some());
        self.rest = &self.rest[head.len..];
        if head.body.is_over() {
            return self.unless_delayed(response);
        }
        self.tell_to_go_on(head.expects_continue && self.rest.is_empty());
        self.skip_body(Unanswered { body: head.body, response })
    }

    /// Takes as much of a body off the front of the input as there is.
    fn skip_body(&mut self, mut unanswered: Unanswered) -> Option<Response> {
        self.had_body = true;
        match unanswered.body.skip(self.rest) {
            Err(why) => self.refuse(why, unanswered.is_head_only()),
            Ok(skipped) => {
                self.rest = &self.rest[skipped..];
                if unanswered.body.is_over() {
                    self.unless_delayed(unanswered.response)
                } else {
                    self.end(Next::Body(unanswered))
                }
            }
        }
    }

    fn unless_delayed(&mut self, response: Response) -> Option<Response> {
        if self.routes.is_delayed(response) {
            return self.end(Next::Delayed(response));
        }
        Some(response)
    }

    fn end(&mut self, next: Next) -> Option<Response> {
        self.next = next;
        None
    }

    /// Whether another response can be written: there is room for it, and no long body ahead.
    fn has_room(&self) -> bool {
        self.body.is_empty() && self.output.bytes.len() <= OUTPUT - RESPONSE_MAX
    }

    fn respond(&mut self, response: Response) {
        let output = &mut self.output.bytes;
        let start = output.len();
        let (status, body) = match self.page.take() {
            None => self.routes.write(response, output),
            Some(page) => self.routes.write_page(response, &page, output),
        };
        let bytes = output.len() - start + body.len();
        self.handler.on_response(status, bytes);
        self.body = body;
        let is_short = start == 0 && bytes <= RESPONSE_MAX;
        self.next = match response.keep_alive {
            true => Next::Head,
            false if is_short && !self.had_body && self.rest.is_empty() => Next::CloseRequested,
            false => Next::Close,
        };
        self.written(start);
    }

    /// Takes a request for a dynamic page off the front of the input, and renders the page. The
    /// head stays in the input until all of the body is there, which has to be small, and until the
    /// page may be rendered.
    #[cold]
    fn render(&mut self, head: &Head, response: Response) -> Option<Response> {
        let (mut body, mut rest) = (head.body, &self.rest[head.len..]);
        let is_long = body.is_longer_than(PAGE_REQUEST_BODY_MAX);
        let window = &rest[..rest.len().min(PAGE_REQUEST_BODY_MAX)];
        match body.skip(window) {
            Ok(_) if is_long => return self.refuse(Error::Content, response.head_only),
            Ok(skipped) if body.is_over() => rest = &rest[skipped..],
            Ok(_) if window.len() == PAGE_REQUEST_BODY_MAX => {
                return self.refuse(Error::Content, response.head_only);
            }
            Ok(_) => {
                self.tell_to_go_on(head.expects_continue && rest.is_empty());
                return self.end(Next::PageBody);
            }
            Err(why) => return self.refuse(why, response.head_only),
        }
        let len = self.output.bytes.len();
        if self.output.pages == 0 || len + PAGE_MAX > OUTPUT - RESPONSE_MAX {
            return self.end(Next::Full);
        }
        self.output.pages -= 1;
        self.handler.on_request(head, true);
        let path = self.routes.path(response).unwrap_or_default();
        let query = head.target.splitn(2, |&byte| byte == b'?').nth(1);
        let page = self.handler.render(path, query.unwrap_or_default());
        assert!(page.body.len() <= PAGE_MAX, "a page fits into the output");
        self.page = Some(page);
        self.had_body = !head.body.is_over();
        self.rest = rest;
        Some(response)
    }

    /// Tells a client that waits for it to send the body (RFC 9110, section 15.2.1). Where some of
    /// the body has come, the client does not wait (section 10.1.1). A final response instead
    /// would spare it the body, but there are clients that wait for this one.
    fn tell_to_go_on(&mut self, waits: bool) {
        if waits {
            self.output.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    #[cold]
    fn refuse(&mut self, why: Error, head_only: bool) -> Option<Response> {
        let start = self.output.bytes.len();
        let output = &mut self.output.bytes;
        refuse(self.routes, self.handler, why, head_only, self.rest, output);
        self.written(start);
        self.end(Next::Close)
    }

    /// A response has been written, which begins at `start`.
    fn written(&mut self, start: usize) {
        self.responses += 1;
        self.last = start;
    }
}

/// Appends an error response. The `input` begins with the request, unless its head has been parsed
/// before.
pub fn refuse(
    routes: &Routes,
    handler: &mut impl Handler,
    why: Error,
    head_only: bool,
    input: &[u8],
    output: &mut Vec<u8>,
) {
    let text = why.explain(input);
    let rendered = routes.render_error(why.status(), &text);
    let bytes = rendered.bytes(head_only);
    output.extend_from_slice(bytes);
    handler.on_error(why, &text, input, bytes.len());
}

#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
