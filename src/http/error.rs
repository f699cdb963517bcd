//! What is wrong with a request, and the status codes of all responses. Each error has a status
//! and one line of text for the client.
//!
//! The invariant: the connection closes after every error response. If it is not certain where a
//! request ends, parsing on would make request smuggling possible.

use super::request::after_authority;
use super::syntax::{is_token, split_at_byte, split_path_and_query, split_target, split_token};
use crate::limits::HEAD_MAX;

/// An error of a request, with a status and one line of text for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The first line is not a request line (RFC 9112, section 3).
    RequestLine,
    /// The request target has no form that the method allows (RFC 9112, section 3.2).
    Target,
    /// A line does not end with CR LF (RFC 9112, section 2.2).
    LineEnd,
    /// There are more than [`EMPTY_LINES_MAX`](crate::limits::EMPTY_LINES_MAX) empty lines before
    /// the request line.
    EmptyLines,
    /// A header field breaks the grammar (RFC 9112, section 5).
    Field,
    /// There is not exactly one `Host`, or its value is not a host (RFC 9112, section 3.2).
    Host,
    /// A `Content-Length` is not a number, or is repeated (RFC 9112, section 6.3).
    ContentLength,
    /// A `Transfer-Encoding` does not delimit the body (RFC 9112, section 6.3).
    TransferEncoding,
    /// There are both `Content-Length` and `Transfer-Encoding` (RFC 9112, section 6.1).
    TwoLengths,
    /// A chunked body breaks the grammar (RFC 9112, section 7.1), or exceeds a limit.
    Chunk,
    /// The request timed out (RFC 9110, section 15.5.9).
    Timeout,
    /// A body for a dynamic page is longer than
    /// [`PAGE_REQUEST_BODY_MAX`](crate::limits::PAGE_REQUEST_BODY_MAX) (RFC 9110, section 15.5.14).
    Content,
    /// The request line is longer than [`HEAD_MAX`] (RFC 9110, section
    /// 15.5.15).
    TargetTooLong,
    /// An `Expect` is not `100-continue` (RFC 9110, section 10.1.1).
    Expectation,
    /// The head is longer than [`HEAD_MAX`] (RFC 6585, section 5).
    HeadTooLarge,
    /// There are more than [`FIELDS_MAX`](crate::limits::FIELDS_MAX) fields (RFC 6585, section 5).
    TooManyFields,
    /// A transfer coding is not `chunked` (RFC 9112, section 6.1).
    Coding,
    /// The method is `CONNECT` (RFC 9110, section 9.3.6). The connection closes, so that the bytes
    /// for the tunnel are not parsed as requests.
    Tunnel,
    /// The major version is not 1 (RFC 9110, section 15.6.6).
    Version,
}

/// Each error with its name in metrics, its status, and its text for the client. It stands at the
/// index that it converts to.
const ERRORS: [(Error, &str, Status, &str); 19] = [
    (Error::RequestLine, "request_line", Status::BAD_REQUEST, "not an HTTP/1 request line"),
    (
        Error::Target,
        "target",
        Status::BAD_REQUEST,
        "not a request target that goes with the method",
    ),
    (
        Error::LineEnd,
        "line_end",
        Status::BAD_REQUEST,
        "lines end with CR LF, and neither stands alone",
    ),
    (
        Error::EmptyLines,
        "empty_lines",
        Status::BAD_REQUEST,
        "too many empty lines ahead of the request",
    ),
    (Error::Field, "field", Status::BAD_REQUEST, "malformed header field"),
    (
        Error::Host,
        "host",
        Status::BAD_REQUEST,
        "there has to be one Host field, empty or with a valid host",
    ),
    (
        Error::ContentLength,
        "content_length",
        Status::BAD_REQUEST,
        "Content-Length is one decimal number, given once",
    ),
    (
        Error::TransferEncoding,
        "transfer_encoding",
        Status::BAD_REQUEST,
        "Transfer-Encoding is chunked, given once, in HTTP/1.1",
    ),
    (
        Error::TwoLengths,
        "two_lengths",
        Status::BAD_REQUEST,
        "Content-Length and Transfer-Encoding exclude each other",
    ),
    (Error::Chunk, "chunk", Status::BAD_REQUEST, "malformed chunked body"),
    (Error::Timeout, "timeout", Status::REQUEST_TIMEOUT, "the request did not arrive in time"),
    (
        Error::Content,
        "content",
        Status::CONTENT_TOO_LARGE,
        "this page takes a request body of 4 KiB at most",
    ),
    (Error::TargetTooLong, "target_too_long", Status::URI_TOO_LONG, "the request line is too long"),
    (
        Error::Expectation,
        "expectation",
        Status::EXPECTATION_FAILED,
        "100-continue is the only expectation known here",
    ),
    (
        Error::HeadTooLarge,
        "head_too_large",
        Status::HEAD_TOO_LARGE,
        "the request head is too large",
    ),
    (Error::TooManyFields, "too_many_fields", Status::HEAD_TOO_LARGE, "too many header fields"),
    (
        Error::Coding,
        "coding",
        Status::NOT_IMPLEMENTED,
        "chunked is the only transfer coding known here",
    ),
    (Error::Tunnel, "tunnel", Status::NOT_IMPLEMENTED, "no tunnels are opened here"),
    (
        Error::Version,
        "version",
        Status::VERSION_NOT_SUPPORTED,
        "HTTP/1.0 and HTTP/1.1 are spoken here",
    ),
];

impl Error {
    /// How many errors there are.
    pub const COUNT: usize = ERRORS.len();

    /// All errors, each at the index that it converts to.
    pub fn all() -> impl Iterator<Item = Error> {
        ERRORS.iter().map(|row| row.0)
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        ERRORS[self as usize].1
    }

    /// The status of the error response.
    pub fn status(self) -> Status {
        ERRORS[self as usize].2
    }

    /// The body of the error response: one line, without its line end. If the target is at fault,
    /// the line names the byte of the `input`, which begins with the request.
    pub fn explain(self, input: &[u8]) -> String {
        let stray = (self == Error::Target).then(|| stray_byte(input)).flatten();
        stray.map_or_else(|| ERRORS[self as usize].3.to_owned(), explain_stray)
    }
}

/// The first byte of a head's target that a target cannot contain in this place. More than
/// three words in a whole line mean a blank in the target. In a line that is not whole, the
/// third word may be the version.
fn stray_byte(head: &[u8]) -> Option<u8> {
    let head = head.trim_ascii_start();
    let head = &head[..head.len().min(HEAD_MAX)];
    let line = head.split(|byte| b"\r\n".contains(byte)).next()?;
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let path_and_query = match target {
        [b'/', ..] => target,
        _ => after_authority(target)?,
    };
    let left = split_path_and_query(path_and_query).1;
    let mut goes_on = || words.nth(1).is_some() && line.len() < head.len();
    match left.first() {
        Some(&byte) if is_token(method) => Some(byte),
        None if goes_on() => Some(b' '),
        _ => None,
    }
}

/// The error message for a [stray byte](stray_byte).
fn explain_stray(byte: u8) -> String {
    match byte {
        b'%' => "in a request target, two hexadecimal digits follow a percent sign".to_owned(),
        b' ' => "a request target holds no blank; it is written %20".to_owned(),
        b'!'..=b'~' => {
            let symbol = char::from(byte);
            format!("a request target holds no {symbol} here; it is written %{byte:02X}")
        }
        _ => format!("a request target holds no byte 0x{byte:02x} here; it is written %{byte:02X}"),
    }
}

/// The error of a head that is incomplete at [`HEAD_MAX`] bytes.
pub(super) fn oversize(window: &[u8]) -> Error {
    if window.contains(&b'\n') {
        Error::HeadTooLarge
    } else if window.contains(&b' ') {
        Error::TargetTooLong
    } else {
        Error::RequestLine
    }
}

/// The error of a request line that is not valid: that of the first part that the grammar does not
/// allow; `None` if the line is incomplete. Which bytes a target may contain is looked at later.
#[cold]
pub(super) fn explain_line(window: &[u8]) -> Option<Error> {
    let (method, after_method) = split_token(window);
    let (target, rest) = split_target(after_method.get(1..).unwrap_or_default());
    match (after_method, rest) {
        ([first, ..], _) if *first != b' ' || method.is_empty() => Some(Error::RequestLine),
        ([], _) | (_, []) => None,
        (_, [b' ', ..]) if target.is_empty() => Some(Error::RequestLine),
        (_, [b' ', version @ ..]) => explain_version(window, version),
        (_, [b'\r' | b'\n', ..]) => Some(Error::RequestLine),
        _ => Some(Error::Target),
    }
}

/// The same for a line that has a method and a target. It tells an unsupported version of HTTP from
/// a target that contains a blank, and from a line that is not a request line. The connection
/// preface of HTTP/2 looks like a request on purpose (RFC 9113, section 3.4), but is not one.
fn explain_version(window: &[u8], version: &[u8]) -> Option<Error> {
    let (line, rest) = split_at_byte(window, b'\n');
    if let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9', end @ ..] = version {
        return (!matches!(end, [] | [b'\r'])).then_some(Error::LineEnd);
    }
    if rest.is_empty() && (window.len() < HEAD_MAX || b"HTTP/1.".starts_with(version)) {
        return None;
    }
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    Some(match words.next().unwrap_or_default() {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r']
            if major.is_ascii_digit() && minor.is_ascii_digit() && !line.starts_with(b"PRI ") =>
        {
            Error::Version
        }
        _ if words.last().is_some_and(|last| last.starts_with(b"HTTP/")) => Error::Target,
        _ => Error::RequestLine,
    })
}

impl From<httparse::Error> for Error {
    /// The error of fields that `httparse` rejects.
    fn from(error: httparse::Error) -> Error {
        use httparse::Error as Parse;
        match error {
            Parse::NewLine => Error::LineEnd,
            Parse::TooManyHeaders => Error::TooManyFields,
            _ => Error::Field,
        }
    }
}

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

/// The status lines without the version. A [`Status`] is an index into this array.
const LINES: [&str; Status::COUNT] = [
    "200 OK",
    "400 Bad Request",
    "404 Not Found",
    "408 Request Timeout",
    "413 Content Too Large",
    "414 URI Too Long",
    "417 Expectation Failed",
    "431 Request Header Fields Too Large",
    "501 Not Implemented",
    "503 Service Unavailable",
    "505 HTTP Version Not Supported",
];

impl Status {
    /// The number of status codes.
    pub const COUNT: usize = 11;
    /// The request succeeded (RFC 9110, section 15.3.1).
    pub const OK: Status = Status(0);
    /// The request breaks the protocol (RFC 9110, section 15.5.1).
    pub const BAD_REQUEST: Status = Status(1);
    /// The path does not exist (RFC 9110, section 15.5.5).
    pub const NOT_FOUND: Status = Status(2);
    /// The request was not received in time (RFC 9110, section 15.5.9).
    pub const REQUEST_TIMEOUT: Status = Status(3);
    /// The request body is too long (RFC 9110, section 15.5.14).
    pub const CONTENT_TOO_LARGE: Status = Status(4);
    /// The request line is too long (RFC 9110, section 15.5.15).
    pub const URI_TOO_LONG: Status = Status(5);
    /// The expectation is unknown (RFC 9110, section 15.5.18).
    pub const EXPECTATION_FAILED: Status = Status(6);
    /// The request head is too large (RFC 6585, section 5).
    pub const HEAD_TOO_LARGE: Status = Status(7);
    /// The method or the transfer coding is not implemented (RFC 9110, section 15.6.2).
    pub const NOT_IMPLEMENTED: Status = Status(8);
    /// The server is shutting down (RFC 9110, section 15.6.4).
    pub const UNAVAILABLE: Status = Status(9);
    /// The major version is not 1 (RFC 9110, section 15.6.6).
    pub const VERSION_NOT_SUPPORTED: Status = Status(10);

    /// All status codes in ascending order.
    pub fn all() -> impl Iterator<Item = Status> {
        (0..).map(Status).take(Status::COUNT)
    }

    /// The index into an array with an entry for each status.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The code and the reason phrase, as in a status line.
    pub fn line(self) -> &'static str {
        LINES[self.index()]
    }

    /// The code, three digits.
    pub fn code(self) -> &'static str {
        &self.line()[..3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_valid_has_the_error_of_its_first_part_that_is_not() {
        for (line, error) in [
            ("", None),
            ("GET", None),
            ("GET ", None),
            ("GET /", None),
            ("GET / ", None),
            ("GET / HTTP/1.1", None),
            ("GET / HTTP/1.1\r", None),
            ("GET / HTTP/2", None),
            (" /", Some(Error::RequestLine)),
            ("G(T", Some(Error::RequestLine)),
            ("GET\r\n", Some(Error::RequestLine)),
            ("GET  ", Some(Error::RequestLine)),
            ("GET /\r", Some(Error::RequestLine)),
            ("GET \n", Some(Error::RequestLine)),
            ("GET /\t", Some(Error::Target)),
            ("GET \u{1}", Some(Error::Target)),
            ("GET / HTTP/1.1\n", Some(Error::LineEnd)),
            ("GET / HTTP/1.1\rX", Some(Error::LineEnd)),
            ("GET / HTTP/1.1x", Some(Error::LineEnd)),
            ("GET / HTTP/2.0\r\n", Some(Error::Version)),
            ("PRI * HTTP/2.0\r\n", Some(Error::RequestLine)),
            ("GET / x HTTP/1.1\r\n", Some(Error::Target)),
            ("GET / x\r\n", Some(Error::RequestLine)),
        ] {
            assert_eq!(explain_line(line.as_bytes()), error, "{line:?}");
        }
    }

    #[test]
    fn every_error_is_at_its_index_and_has_a_status_of_an_error() {
        for (at, error) in Error::all().enumerate() {
            assert_eq!(error as usize, at);
            assert!(error.status().code().starts_with(['4', '5']), "{error:?}");
        }
    }
}
