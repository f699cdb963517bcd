//! Responses. Each route has its responses rendered at start, one for each protocol version and
//! each way in which the connection may go on. Afterwards only the date is written anew. A dynamic
//! page is rendered per request by the caller.
//!
//! The invariant: every response is as long as its `Content-Length` says, and its `Connection`
//! field is the last one of its head, so that a close can be put in there later.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use super::syntax::means;
use super::{Head, Resource, Status, Version};
use crate::limits::BODY_COPIED_MAX;

/// The fields of a plain text.
pub const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
/// The same for a text in which no browser may look for another type.
pub const TEXT_NOT_SNIFFED: &str =
    "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
/// What announces the close (RFC 9112, section 9.6).
const CLOSE: &[u8] = b"Connection: close\r\n";
/// What keeps a connection of HTTP/1.0 open.
const KEEP_ALIVE: &[u8] = b"Connection: keep-alive\r\n";

/// A path and what is served there.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path, as in `/hello`, without any percent-encoding.
    pub path: String,
    /// The body; empty for a dynamic page.
    pub body: Vec<u8>,
    /// The fields that describe the body, each with its line end.
    pub fields: &'static str,
    /// Whether the response waits for the delay.
    pub is_delayed: bool,
    /// Whether the page is rendered per request.
    pub is_dynamic: bool,
}

impl Route {
    /// A route to a text.
    pub fn new(path: &str, body: impl Into<Vec<u8>>) -> Route {
        Route {
            path: path.to_owned(),
            body: body.into(),
            fields: TEXT,
            is_delayed: false,
            is_dynamic: false,
        }
    }

    /// A route to a page that is rendered per request.
    pub fn dynamic(path: &str) -> Route {
        Route { is_dynamic: true, ..Route::new(path, Vec::new()) }
    }
}

/// A dynamic page, rendered.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status of the response.
    pub status: Status,
    /// The fields that describe the body, each with its line end.
    pub fields: &'static str,
    /// The body, of at most [`PAGE_MAX`](crate::limits::PAGE_MAX) bytes.
    pub body: Vec<u8>,
}

/// Which response a request gets. It is small, as a connection keeps it while a body is read and
/// while a response is delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    pub(super) route: u8,
    pub(super) version: Version,
    /// Whether the body is left out, as for `HEAD` (RFC 9110, section 9.3.2).
    pub(super) head_only: bool,
    /// Whether the connection goes on after this response.
    pub(super) keep_alive: bool,
}

/// What is left of a long body, which is sent from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsentBody {
    route: u8,
    left: u32,
}

impl UnsentBody {
    /// Nothing.
    pub const NONE: UnsentBody = UnsentBody { route: 0, left: 0 };

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether all of it has been sent.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Takes off the bytes that have been sent.
    ///
    /// # Panics
    /// If there were not as many.
    pub fn advance(&mut self, sent: usize) {
        let left = self.left as usize - sent;
        self.left = u32::try_from(left).expect("it is getting less");
    }
}

/// Has the response that begins at `start` announce the close. Its `Connection` field, if it has
/// one, is the last of its head.
///
/// # Panics
/// If no response begins there.
pub fn announce_close(responses: &mut Vec<u8>, start: usize) {
    let mut ends = responses[start..].windows(4);
    let end = ends.position(|bytes| bytes == b"\r\n\r\n").expect("a head ends with an empty line");
    let end = start + end + 2;
    let field = if responses[..end].ends_with(KEEP_ALIVE) { KEEP_ALIVE.len() } else { 0 };
    responses.splice(end - field..end, CLOSE.iter().copied());
}

/// All that one listener serves.
#[derive(Debug)]
pub struct Routes {
    paths: Vec<String>,
    /// The entries of `paths`, in their order, then the two that no path leads to.
    entries: Vec<Entry>,
    date: [u8; DATE_LEN],
}

/// The responses of one route.
#[derive(Debug)]
struct Entry {
    /// One for each [`variant`].
    responses: [Rendered; 4],
    /// The body that all of them share, if it is too long to be in each.
    long_body: Vec<u8>,
    status: Status,
    is_delayed: bool,
    is_dynamic: bool,
}

/// The bytes of one response, without a long body.
#[derive(Debug)]
pub(super) struct Rendered {
    bytes: Vec<u8>,
    date_at: usize,
    body_at: usize,
}

impl Routes {
    /// Renders the responses.
    pub fn new(routes: Vec<Route>) -> Routes {
        let not_found = b"404 page not found\n".to_vec();
        let not_found = Entry::new(Status::NOT_FOUND, TEXT_NOT_SNIFFED, not_found);
        let server = Entry::new(Status::OK, "", Vec::new());
        let paths = routes.iter().map(|route| route.path.clone()).collect();
        let entries = routes.into_iter().map(|route| Entry {
            is_delayed: route.is_delayed,
            is_dynamic: route.is_dynamic,
            ..Entry::new(Status::OK, route.fields, route.body)
        });
        Routes {
            paths,
            entries: entries.chain([not_found, server]).collect(),
            date: imf_fixdate(0),
        }
    }

    /// Writes the date, in seconds since 1970, into every response.
    pub fn set_date(&mut self, unix_seconds: u64) {
        self.date = imf_fixdate(unix_seconds);
        let responses = self.entries.iter_mut().flat_map(|entry| &mut entry.responses);
        responses.for_each(|response| response.set_date(&self.date));
    }

    /// The route of a request; `NOT_FOUND` and the server as a whole have one, too.
    #[inline]
    pub(super) fn find(&self, head: &Head) -> u8 {
        let route = match head.resource {
            Resource::Path(path) => {
                let is_same = |route: &String| path == route.as_bytes();
                let found = self.paths.iter().position(is_same);
                found.unwrap_or_else(|| self.find_equivalent(path))
            }
            Resource::Server => self.paths.len() + 1,
        };
        u8::try_from(route).expect("there are few routes")
    }

    #[cold]
    fn find_equivalent(&self, path: &[u8]) -> usize {
        let leads = |route: &String| means(path, route.as_bytes());
        self.paths.iter().position(leads).unwrap_or(self.paths.len())
    }

    /// The path of a response's route, if it has one.
    pub(super) fn path(&self, response: Response) -> Option<&str> {
        self.paths.get(usize::from(response.route)).map(String::as_str)
    }

    pub(super) fn is_delayed(&self, response: Response) -> bool {
        self.entries[usize::from(response.route)].is_delayed
    }

    pub(super) fn is_dynamic(&self, response: Response) -> bool {
        self.entries[usize::from(response.route)].is_dynamic
    }

    /// Appends a response, and returns its status and the body that belongs behind it: one that is
    /// too long to be copied.
    #[inline]
    pub(super) fn write(&self, response: Response, output: &mut Vec<u8>) -> (Status, UnsentBody) {
        let entry = &self.entries[usize::from(response.route)];
        let rendered = &entry.responses[variant(response.version, response.keep_alive)];
        output.extend_from_slice(rendered.bytes(response.head_only));
        let left = if response.head_only { 0 } else { entry.long_body.len() };
        let left = u32::try_from(left).expect("bodies are no longer than BODY_SIZE_MAX");
        (entry.status, UnsentBody { route: response.route, left })
    }

    /// Appends the response with a dynamic page.
    #[cold]
    pub(super) fn write_page(
        &self,
        response: Response,
        page: &Page,
        output: &mut Vec<u8>,
    ) -> (Status, UnsentBody) {
        let Response { version, keep_alive, .. } = response;
        let mut rendered =
            Rendered::head(page.status, page.fields, version, keep_alive, page.body.len());
        rendered.bytes.extend_from_slice(&page.body);
        rendered.set_date(&self.date);
        output.extend_from_slice(rendered.bytes(response.head_only));
        (page.status, UnsentBody::NONE)
    }

    /// The bytes that are left of a long body.
    pub fn unsent(&self, body: UnsentBody) -> &[u8] {
        if body.is_empty() {
            return &[];
        }
        let bytes = &self.entries[usize::from(body.route)].long_body;
        &bytes[bytes.len() - body.left as usize..]
    }
}

impl Entry {
    fn new(status: Status, fields: &str, body: Vec<u8>) -> Entry {
        let is_long = body.len() > BODY_COPIED_MAX;
        let response = |version, keep_alive| {
            let mut rendered = Rendered::head(status, fields, version, keep_alive, body.len());
            if !is_long {
                rendered.bytes.extend_from_slice(&body);
            }
            rendered
        };
        Entry {
            responses: [
                response(Version::Http10, false),
                response(Version::Http10, true),
                response(Version::Http11, false),
                response(Version::Http11, true),
            ],
            long_body: if is_long { body } else { Vec::new() },
            status,
            is_delayed: false,
            is_dynamic: false,
        }
    }
}

/// The index of a response among those of its route.
fn variant(version: Version, keep_alive: bool) -> usize {
    2 * usize::from(version == Version::Http11) + usize::from(keep_alive)
}

impl Rendered {
    /// Renders the head of a response with a body of that length. What is the default of the
    /// version is left out, but for a close in HTTP/1.0: a human who reads a trace looks for it.
    pub(super) fn head(
        status: Status,
        fields: &str,
        version: Version,
        keep_alive: bool,
        body_len: usize,
    ) -> Rendered {
        let protocol = match version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        let connection: &[u8] = match (version, keep_alive) {
            (Version::Http11, true) => b"",
            (Version::Http10, true) => KEEP_ALIVE,
            (_, false) => CLOSE,
        };
        let mut bytes = format!("{protocol} {}\r\n{fields}Date: ", status.line()).into_bytes();
        let date_at = bytes.len();
        bytes.extend_from_slice(&[b' '; DATE_LEN]);
        bytes.extend_from_slice(format!("\r\nContent-Length: {body_len}\r\n").as_bytes());
        bytes.extend_from_slice(connection);
        bytes.extend_from_slice(b"\r\n");
        let body_at = bytes.len();
        Rendered { bytes, date_at, body_at }
    }

    /// The response; for `HEAD` without its body.
    pub(super) fn bytes(&self, head_only: bool) -> &[u8] {
        if head_only { &self.bytes[..self.body_at] } else { &self.bytes }
    }

    pub(super) fn set_date(&mut self, date: &[u8; DATE_LEN]) {
        self.bytes[self.date_at..][..DATE_LEN].copy_from_slice(date);
    }
}

impl Routes {
    /// Renders an error response, which closes the connection. Errors are rare, so it is rendered
    /// when one is met.
    pub(super) fn render_error(&self, status: Status, text: &str) -> Rendered {
        let body = format!("{text}\n");
        let (version, len) = (Version::Http11, body.len());
        let mut rendered = Rendered::head(status, TEXT_NOT_SNIFFED, version, false, len);
        rendered.bytes.extend_from_slice(body.as_bytes());
        rendered.set_date(&self.date);
        rendered
    }
}

/// The length of an IMF-fixdate in bytes.
pub const DATE_LEN: usize = 29;

/// The last second of the year 9999. A later year has five digits.
const LATEST: u64 = 253_402_300_799;

/// Formats seconds since 1970 as in `Sun, 06 Nov 1994 08:49:37 GMT`, without an allocation. A time
/// after the year 9999 becomes its last second.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; DATE_LEN] {
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LATEST));
    let mut date = Fixed { bytes: [b' '; DATE_LEN], len: 0 };
    write!(date, "{}", HttpDate::from(time)).expect("an IMF-fixdate has 29 bytes");
    date.bytes
}

/// A buffer of exactly one date.
struct Fixed {
    bytes: [u8; DATE_LEN],
    len: usize,
}

impl Write for Fixed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_date_has_its_29_bytes() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (LATEST, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds), text.as_bytes(), "{seconds}");
        }
    }
}
