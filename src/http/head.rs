//! The request head: `httparse` parses it, and this file checks the rules that `httparse` leaves to
//! its caller. A head that passes has one meaning, for this server and for any proxy before it.
//! Every other head gets an error response.
//!
//! The invariant: the result depends on the bytes alone, and not on how they were cut.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Request, Status};

use super::fields::Fields;
use super::grammar::{is_token, split_at_byte};
use super::{Body, Refusal, Resource};
use crate::limits::{EMPTY_LINES_MAX, FIELDS_MAX, HEAD_MAX};

/// A complete request head, with its fields interpreted.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Any token. Only `HEAD`, `OPTIONS` and `CONNECT` are treated differently.
    pub method: &'a str,
    /// The request target as it was received, with its query.
    pub target: &'a [u8],
    /// The resource that the target names.
    pub resource: Resource<'a>,
    /// The version of the request, and so of the response.
    pub version: Version,
    /// The body that follows the head and has to be skipped.
    pub body: Body,
    /// Whether the client wants to keep the connection (RFC 9112, section 9.3).
    pub persists: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// How many bytes the head has.
    pub len: usize,
}

/// The supported versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: a connection closes unless both sides send `keep-alive`.
    Http10,
    /// HTTP/1.1: a connection persists unless one side sends `close`.
    Http11,
}

impl<'a> Head<'a> {
    /// Parses the head at the start of `input`; `None` if it is incomplete.
    ///
    /// # Errors
    /// A [`Refusal`], as soon as the head is complete, contains a byte that `httparse` rejects, or
    /// reaches [`HEAD_MAX`].
    pub fn parse(input: &'a [u8]) -> Result<Option<Head<'a>>, Refusal> {
        let Some(start) = skip_empty_lines(input)? else {
            return Ok(None);
        };
        let window = &input[start..input.len().min(start + HEAD_MAX)];
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(window, &mut fields) {
            Ok(Status::Complete(len)) => {
                check_line_ends(&window[..len], request.headers)?;
                Head::new(&request, start + len).map(Some)
            }
            Ok(Status::Partial) if window.len() < HEAD_MAX => Ok(None),
            Ok(Status::Partial) => Err(oversize(window)),
            // The version is known only once the whole line has been received.
            Err(Error::Version) if !window.contains(&b'\n') && window.len() < HEAD_MAX => Ok(None),
            Err(error) => {
                let found = Head::parse_masked(error, window)?;
                Ok(found.map(|head| Head { len: start + head.len, ..head }))
            }
        }
    }

    /// Parses a head again if its only error is a query that is not UTF-8, with a masked query.
    #[cold]
    fn parse_masked(error: Error, window: &'a [u8]) -> Result<Option<Head<'a>>, Refusal> {
        let Some(masked) = mask_query(window).filter(|_| error == Error::Token) else {
            return Err(explain(error, window));
        };
        let found = Head::parse(&masked)?;
        Ok(found.map(|head| head.unmask(&masked, window)))
    }

    /// The same head, with slices of `window` in the place of slices of `masked`.
    fn unmask<'b>(self, masked: &[u8], window: &'b [u8]) -> Head<'b> {
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr() - masked.as_ptr().addr();
            &window[start..start + part.len()]
        };
        let method = str::from_utf8(place(self.method.as_bytes()));
        Head {
            method: method.expect("a method is a token, and that is ASCII"),
            target: place(self.target),
            resource: match self.resource {
                Resource::Path(b"/") => Resource::Path(b"/"),
                Resource::Path(path) => Resource::Path(place(path)),
                Resource::Server => Resource::Server,
            },
            version: self.version,
            body: self.body,
            persists: self.persists,
            expects_continue: self.expects_continue,
            len: self.len,
        }
    }

    /// Whether a request begins in `rest`: line ends alone do not begin one.
    pub fn begins_in(rest: &[u8]) -> bool {
        !rest.iter().all(|byte| b"\r\n".contains(byte))
    }

    /// Whether `input`, which may be incomplete or invalid after the method, is a `HEAD` request:
    /// then even an error response has no body.
    pub fn asks_for_fields_only(input: &[u8]) -> bool {
        let start = skip_empty_lines(input);
        matches!(start, Ok(Some(start)) if input[start..].starts_with(b"HEAD "))
    }

    fn new(request: &Request<'_, 'a>, len: usize) -> Result<Head<'a>, Refusal> {
        let (Some(method), Some(target)) = (request.method, request.path) else {
            unreachable!("a complete request has a request line");
        };
        let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let fields = Fields::examine(request.headers)?;
        fields.require_host(version)?;
        Ok(Head {
            method,
            target: target.as_bytes(),
            resource: Resource::locate(method, target.as_bytes())?,
            version,
            body: fields.body(version)?,
            persists: fields.persists(version),
            expects_continue: fields.expects_continue(version),
            len,
        })
    }
}

/// A copy of a head, with an `x` for each byte of the query that is not ASCII, or `None` if the
/// query is UTF-8. The bytes of a query do not influence the result.
#[cold]
fn mask_query(window: &[u8]) -> Option<Vec<u8>> {
    let (method, rest) = split_at_byte(window, b' ');
    let target = split_at_byte(rest.get(1..)?, b' ').0;
    let (path, query) = split_at_byte(target, b'?');
    if str::from_utf8(query).is_ok() {
        return None;
    }
    let start = method.len() + 1 + path.len();
    let mut masked = window.to_vec();
    let query = &mut masked[start..start + query.len()];
    for byte in query.iter_mut().filter(|byte| !byte.is_ascii()) {
        *byte = b'x';
    }
    Some(masked)
}

/// The length of the empty lines before a request line (RFC 9112, section 2.2), or `None` if
/// nothing else has been received yet.
fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut start = 0;
    loop {
        match input[start..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if start == 2 * EMPTY_LINES_MAX => return Err(Refusal::EmptyLines),
            [b'\r', b'\n', ..] => start += 2,
            [b'\r' | b'\n', ..] => return Err(Refusal::LineEnd),
            _ => return Ok(Some(start)),
        }
    }
}

/// Checks that each line ends with CR LF. `httparse` accepts a bare LF, as RFC 9112, section 2.2
/// allows. But a proxy that does not accept it sees other lines, and a client can exploit that.
/// Every field starts a line, so the CR is two bytes before the field name.
fn check_line_ends(head: &[u8], fields: &[Header]) -> Result<(), Refusal> {
    let starts_line = |field: &Header| {
        let start = field.name.as_ptr().addr() - head.as_ptr().addr();
        head[start - 2] == b'\r'
    };
    if head.ends_with(b"\r\n\r\n") && fields.iter().all(starts_line) {
        Ok(())
    } else {
        Err(Refusal::LineEnd)
    }
}

/// The error of a head that is incomplete at [`HEAD_MAX`] bytes.
fn oversize(window: &[u8]) -> Refusal {
    if window.contains(&b'\n') {
        Refusal::HeadTooLarge
    } else if window.contains(&b' ') {
        Refusal::TargetTooLong
    } else {
        Refusal::RequestLine
    }
}

fn explain(error: Error, window: &[u8]) -> Refusal {
    match error {
        Error::Version => explain_version(window),
        Error::NewLine => Refusal::LineEnd,
        Error::HeaderName | Error::HeaderValue => Refusal::Field,
        Error::TooManyHeaders => Refusal::TooManyFields,
        Error::Token | Error::Status => explain_token(window),
    }
}

/// Tells an invalid byte in the target from a line that is not a request line. The first invalid
/// byte decides, so that the result does not depend on what follows it.
fn explain_token(window: &[u8]) -> Refusal {
    let (method, rest) = split_at_byte(window, b' ');
    let target = split_at_byte(rest.get(1..).unwrap_or_default(), b' ').0;
    let stray = target.iter().find(|byte| byte.is_ascii_control());
    let ends = target.is_empty() || matches!(stray, Some(b'\r' | b'\n'));
    if is_token(method) && !ends { Refusal::Target } else { Refusal::RequestLine }
}

/// Tells an unsupported version of HTTP from a target that contains a blank, and from a line that
/// is not a request line. The connection preface of HTTP/2 looks like a request on purpose (RFC
/// 9113, section 3.4), but is not one.
fn explain_version(window: &[u8]) -> Refusal {
    let line = window.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    let version = words.next().unwrap_or_default();
    match version.strip_suffix(b"\r") {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() && !line.starts_with(b"PRI ") =>
        {
            Refusal::Version
        }
        _ if words.last().is_some_and(|last| last.starts_with(b"HTTP/")) => Refusal::Target,
        _ => Refusal::RequestLine,
    }
}
