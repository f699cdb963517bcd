//! The status codes that are given here, with their reasons.
//!
//! The invariant: there is no other, so what is given can be counted in an array.

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

/// The status lines without their protocol; a [`Status`] is a place in this list.
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
    /// How many there are.
    pub const COUNT: usize = 11;
    /// Here it is.
    pub const OK: Status = Status(0);
    /// A request that breaks a rule.
    pub const BAD_REQUEST: Status = Status(1);
    /// There is no such thing here.
    pub const NOT_FOUND: Status = Status(2);
    /// A request that took too long to come.
    pub const REQUEST_TIMEOUT: Status = Status(3);
    /// A request body where none is taken.
    pub const CONTENT_TOO_LARGE: Status = Status(4);
    /// A request line that is too long.
    pub const URI_TOO_LONG: Status = Status(5);
    /// An expectation that is not known.
    pub const EXPECTATION_FAILED: Status = Status(6);
    /// A request head that is too large.
    pub const HEAD_TOO_LARGE: Status = Status(7);
    /// Something that is not done here.
    pub const NOT_IMPLEMENTED: Status = Status(8);
    /// The server is going to end.
    pub const UNAVAILABLE: Status = Status(9);
    /// Another version of HTTP.
    pub const VERSION_NOT_SUPPORTED: Status = Status(10);

    /// All of them, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Status> {
        (0..).map(Status).take(Status::COUNT)
    }

    /// Its place in an array with one for each.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The code and its reason, as in a status line.
    pub fn line(self) -> &'static str {
        LINES[self.index()]
    }

    /// The code alone.
    pub fn code(self) -> &'static str {
        &self.line()[..3]
    }
}
