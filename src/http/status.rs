//! The status codes of all responses, with their reason phrases.
//!
//! The invariant: there is no other code, so responses are counted in an array with an entry for
//! each.

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
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9110, section 15.6.6).
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
