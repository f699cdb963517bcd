//! One request head: what `httparse` reads off the bytes, and then the rules that it leaves
//! to its caller. What passes has one meaning, to us and to any proxy in front of us; all
//! else is refused here and never reaches the rest of the program.
//!
//! The invariant: the verdict depends on the bytes alone and not on how they were cut.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Request, Status};

use super::fields::Fields;
use super::grammar::{is_token, split_at_byte};
use super::{Body, Refusal, Resource};
use crate::limits::{EMPTY_LINES_MAX, FIELDS_MAX, HEAD_MAX};

/// A whole request head, with the fields that matter here already understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Any token: methods are not told apart but for `HEAD`, `OPTIONS` and `CONNECT`.
    pub method: &'a str,
    /// The request target as it was sent, query and all.
    pub target: &'a [u8],
    /// What the target is about.
    pub resource: Resource<'a>,
    /// The protocol that the client speaks, and in which it is answered.
    pub version: Version,
    /// What follows the head and is still to be skipped.
    pub body: Body,
    /// Whether the client wants to ask again on this connection (RFC 9112, section 9.3).
    pub persists: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// The versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: connections close unless both sides agree to keep them.
    Http10,
    /// HTTP/1.1: connections persist unless one side closes.
    Http11,
}

impl<'a> Head<'a> {
    /// Parses the head that `input` begins with and says how many bytes it takes, or `None`
    /// if its end has not come yet.
    ///
    /// # Errors
    /// A [`Refusal`]. It comes when the head is whole, or with the byte that `httparse` cannot
    /// make sense of, or with the one that is too many.
    pub fn parse(input: &'a [u8]) -> Result<Option<(Head<'a>, usize)>, Refusal> {
        let Some(start) = skip_empty_lines(input)? else {
            return Ok(None);
        };
        let window = &input[start..input.len().min(start + HEAD_MAX)];
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(window, &mut fields) {
            Ok(Status::Complete(len)) => {
                check_line_ends(&window[..len], request.headers)?;
                Ok(Some((Head::new(&request)?, start + len)))
            }
            Ok(Status::Partial) if window.len() < HEAD_MAX => Ok(None),
            Ok(Status::Partial) => Err(oversize(window)),
            // Which version it is shows only once the whole line is here.
            Err(Error::Version) if !window.contains(&b'\n') && window.len() < HEAD_MAX => Ok(None),
            Err(error) => {
                let found = Head::parse_masked(error, window)?;
                Ok(found.map(|(head, len)| (head, start + len)))
            }
        }
    }

    /// Parses a head that `httparse` finds an error in, once more if that is only a query which is
    /// no UTF-8.
    #[cold]
    fn parse_masked(error: Error, window: &'a [u8]) -> Result<Option<(Head<'a>, usize)>, Refusal> {
        let Some(masked) = mask_query(window).filter(|_| error == Error::Token) else {
            return Err(explain(error, window));
        };
        let found = Head::parse(&masked)?;
        Ok(found.map(|(head, len)| (head.unmask(&masked, window), len)))
    }

    /// The same head in the bytes that it has been masked from.
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
        }
    }

    /// Whether `rest` holds anything of a request: stray line ends do not begin one.
    pub fn begins_in(rest: &[u8]) -> bool {
        !rest.iter().all(|byte| b"\r\n".contains(byte))
    }

    /// Whether `input`, which may end or go wrong after its first word, is a `HEAD` request,
    /// whose answer has no body even if it is a refusal.
    pub fn asks_for_fields_only(input: &[u8]) -> bool {
        let start = skip_empty_lines(input);
        matches!(start, Ok(Some(start)) if input[start..].starts_with(b"HEAD "))
    }

    fn new(request: &Request<'_, 'a>) -> Result<Head<'a>, Refusal> {
        let (Some(method), Some(target)) = (request.method, request.path) else {
            unreachable!("a complete request has a request line");
        };
        let version = if request.version == Some(0) {
            Version::Http10
        } else {
            Version::Http11
        };
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
        })
    }
}

/// A head of which the query is no UTF-8, with other bytes in the place of those that are not
/// ASCII. What a query holds decides nothing.
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

/// The number of bytes in the empty lines ahead of a request line (RFC 9112, section 2.2),
/// or `None` as long as nothing else has come.
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

/// `httparse` takes a bare LF for a line end, and a server that does is led astray by a
/// client whose proxy does not (RFC 9112, section 2.2 merely allows it). Every field starts
/// a line, so the byte two ahead of its name ends the line before.
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

/// What is wrong with a head that fills the window and has not ended.
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

/// Tells a target that holds a byte which it cannot from something that is no request line. The
/// first byte that is at fault decides, so that what comes behind it does not matter.
fn explain_token(window: &[u8]) -> Refusal {
    let (method, rest) = split_at_byte(window, b' ');
    let target = split_at_byte(rest.get(1..).unwrap_or_default(), b' ').0;
    let stray = target.iter().find(|byte| byte.is_ascii_control());
    let ends = target.is_empty() || matches!(stray, Some(b'\r' | b'\n'));
    if is_token(method) && !ends {
        Refusal::Target
    } else {
        Refusal::RequestLine
    }
}

/// Tells another version of HTTP from a target with a blank in it, and from something that is not
/// HTTP. The preface of HTTP/2 looks like a request on purpose (RFC 9113, section 3.4), but is
/// none.
fn explain_version(window: &[u8]) -> Refusal {
    let line = window
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
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
