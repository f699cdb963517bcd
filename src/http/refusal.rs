//! Why a request is not served. Every refusal ends its connection: where the framing is in
//! doubt, a second guess about what follows is how requests are smuggled.

use super::Status;

/// What was wrong with a request; each has its status and a line that tells the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The first line is no request line (RFC 9112, section 3).
    RequestLine,
    /// A request target in no form that goes with the method (RFC 9112, section 3.2).
    Target,
    /// A line does not end with CR LF (RFC 9112, section 2.2).
    LineEnd,
    /// More than [`EMPTY_LINES_MAX`](crate::limits::EMPTY_LINES_MAX) empty lines.
    EmptyLines,
    /// A header field that breaks the grammar (RFC 9112, section 5).
    Field,
    /// Not exactly one `Host`, or one that is no host (RFC 9112, section 3.2).
    Host,
    /// A `Content-Length` that is no number, or a second one (RFC 9112, section 6.3).
    ContentLength,
    /// A `Transfer-Encoding` that cannot delimit the body (RFC 9112, section 6.3).
    TransferEncoding,
    /// Both of them at once (RFC 9112, section 6.1).
    TwoLengths,
    /// A chunked body that breaks the grammar, or a limit on it (RFC 9112, section 7.1).
    Chunk,
    /// The request did not arrive in time (RFC 9110, section 15.5.9).
    Overdue,
    /// A body beyond [`PAGE_BODY_MAX`](crate::limits::PAGE_BODY_MAX) for a page that is written
    /// anew each time (RFC 9110, section 15.5.14).
    Content,
    /// A request line beyond [`HEAD_MAX`](crate::limits::HEAD_MAX) (RFC 9110, section
    /// 15.5.15).
    TargetTooLong,
    /// An `Expect` other than `100-continue` (RFC 9110, section 10.1.1).
    Expectation,
    /// A head beyond [`HEAD_MAX`](crate::limits::HEAD_MAX) (RFC 6585, section 5).
    HeadTooLarge,
    /// More than [`FIELDS_MAX`](crate::limits::FIELDS_MAX) fields (RFC 6585, section 5).
    TooManyFields,
    /// A transfer coding other than `chunked` (RFC 9112, section 6.1).
    Coding,
    /// A `CONNECT` (RFC 9110, section 9.3.6). Ending the connection keeps what its client
    /// meant for the tunnel from being taken for requests.
    Tunnel,
    /// Another version than HTTP/1.0 and HTTP/1.1 (RFC 9110, section 15.6.6).
    Version,
}

impl Refusal {
    /// All of them. Each is at the index that it converts to.
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
        Refusal::Overdue,
        Refusal::Content,
        Refusal::TargetTooLong,
        Refusal::Expectation,
        Refusal::HeadTooLarge,
        Refusal::TooManyFields,
        Refusal::Coding,
        Refusal::Tunnel,
        Refusal::Version,
    ];

    /// What it is called where refusals are counted.
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
            Refusal::Overdue => "overdue",
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

    /// The status of the answer.
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
            Refusal::Overdue => Status::REQUEST_TIMEOUT,
            Refusal::Content => Status::CONTENT_TOO_LARGE,
            Refusal::TargetTooLong => Status::URI_TOO_LONG,
            Refusal::Expectation => Status::EXPECTATION_FAILED,
            Refusal::HeadTooLarge | Refusal::TooManyFields => Status::HEAD_TOO_LARGE,
            Refusal::Coding | Refusal::Tunnel => Status::NOT_IMPLEMENTED,
            Refusal::Version => Status::VERSION_NOT_SUPPORTED,
        }
    }

    /// One line for the client, without its line end.
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
            Refusal::Overdue => "the request did not arrive in time",
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
}
