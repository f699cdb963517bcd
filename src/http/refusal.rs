//! The errors of a request, each with its error response.
//!
//! The invariant: the connection closes after every error response. If it is not certain where a
//! request ends, parsing on would make request smuggling possible.

use super::Status;
use super::target::{explain, stray_byte};

/// An error of a request, with a status and one line of text for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
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
    /// The request line is longer than [`HEAD_MAX`](crate::limits::HEAD_MAX) (RFC 9110, section
    /// 15.5.15).
    TargetTooLong,
    /// An `Expect` is not `100-continue` (RFC 9110, section 10.1.1).
    Expectation,
    /// The head is longer than [`HEAD_MAX`](crate::limits::HEAD_MAX) (RFC 6585, section 5).
    HeadTooLarge,
    /// There are more than [`FIELDS_MAX`](crate::limits::FIELDS_MAX) fields (RFC 6585, section 5).
    TooManyFields,
    /// A transfer coding is not `chunked` (RFC 9112, section 6.1).
    Coding,
    /// The method is `CONNECT` (RFC 9110, section 9.3.6). The connection closes, so that the bytes
    /// for the tunnel are not parsed as requests.
    Tunnel,
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9110, section 15.6.6).
    Version,
}

impl Refusal {
    /// All errors, each at the index that it converts to.
    pub const ALL: [Refusal; 19] = [
        Refusal::RequestLine,
        Refusal::Target,
        Refusal::LineEnd,
        Refusal::EmptyLines,
        Refusal::Field,
        Refusal::Host,
        Refusal::ContentLength,
        Refusal::TransferEncoding,
        Refusal::TwoLengths,
        Refusal::Chunk,
        Refusal::Timeout,
        Refusal::Content,
        Refusal::TargetTooLong,
        Refusal::Expectation,
        Refusal::HeadTooLarge,
        Refusal::TooManyFields,
        Refusal::Coding,
        Refusal::Tunnel,
        Refusal::Version,
    ];

    /// The value of the `reason` label in `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::RequestLine => "request_line",
            Refusal::Target => "target",
            Refusal::LineEnd => "line_end",
            Refusal::EmptyLines => "empty_lines",
            Refusal::Field => "field",
            Refusal::Host => "host",
            Refusal::ContentLength => "content_length",
            Refusal::TransferEncoding => "transfer_encoding",
            Refusal::TwoLengths => "two_lengths",
            Refusal::Chunk => "chunk",
            Refusal::Timeout => "timeout",
            Refusal::Content => "content",
            Refusal::TargetTooLong => "target_too_long",
            Refusal::Expectation => "expectation",
            Refusal::HeadTooLarge => "head_too_large",
            Refusal::TooManyFields => "too_many_fields",
            Refusal::Coding => "coding",
            Refusal::Tunnel => "tunnel",
            Refusal::Version => "version",
        }
    }

    /// The status of the error response.
    pub fn status(self) -> Status {
        match self {
            Refusal::RequestLine
            | Refusal::Target
            | Refusal::LineEnd
            | Refusal::EmptyLines
            | Refusal::Field
            | Refusal::Host
            | Refusal::ContentLength
            | Refusal::TransferEncoding
            | Refusal::TwoLengths
            | Refusal::Chunk => Status::BAD_REQUEST,
            Refusal::Timeout => Status::REQUEST_TIMEOUT,
            Refusal::Content => Status::CONTENT_TOO_LARGE,
            Refusal::TargetTooLong => Status::URI_TOO_LONG,
            Refusal::Expectation => Status::EXPECTATION_FAILED,
            Refusal::HeadTooLarge | Refusal::TooManyFields => Status::HEAD_TOO_LARGE,
            Refusal::Coding | Refusal::Tunnel => Status::NOT_IMPLEMENTED,
            Refusal::Version => Status::VERSION_NOT_SUPPORTED,
        }
    }

    /// The body of the error response: one line, without its line end.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::RequestLine => "not an HTTP/1 request line",
            Refusal::Target => "not a request target that goes with the method",
            Refusal::LineEnd => "lines end with CR LF, and neither stands alone",
            Refusal::EmptyLines => "too many empty lines ahead of the request",
            Refusal::Field => "malformed header field",
            Refusal::Host => "there has to be one Host field, empty or with a valid host",
            Refusal::ContentLength => "Content-Length is one decimal number, given once",
            Refusal::TransferEncoding => "Transfer-Encoding is chunked, given once, in HTTP/1.1",
            Refusal::TwoLengths => "Content-Length and Transfer-Encoding exclude each other",
            Refusal::Chunk => "malformed chunked body",
            Refusal::Timeout => "the request did not arrive in time",
            Refusal::Content => "this page takes a request body of 4 KiB at most",
            Refusal::TargetTooLong => "the request line is too long",
            Refusal::Expectation => "100-continue is the only expectation known here",
            Refusal::HeadTooLarge => "the request head is too large",
            Refusal::TooManyFields => "too many header fields",
            Refusal::Coding => "chunked is the only transfer coding known here",
            Refusal::Tunnel => "no tunnels are opened here",
            Refusal::Version => "HTTP/1.0 and HTTP/1.1 are spoken here",
        }
    }

    /// The text for the client. If the target is at fault, it says which byte of the `input`,
    /// which begins with the request.
    pub(super) fn explain(self, input: &[u8]) -> String {
        let stray = (self == Refusal::Target).then(|| stray_byte(input)).flatten();
        stray.map_or_else(|| self.text().to_owned(), explain)
    }
}
