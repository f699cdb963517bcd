//! The request head: the request line, then the fields as `httparse` parses them, then the rules
//! that it leaves to its caller. Those are about line ends, and about the fields that say for which
//! host a request is, where its body ends, and whether the connection goes on. It does not know
//! which paths exist.
//!
//! The invariant: the result depends on the bytes alone, and not on how they were cut. Where two
//! parsers could disagree about the end of a request, it is an error: that is what keeps the body
//! of one client from becoming the request of another one behind a proxy that shares its
//! connections (RFC 9112, section 11.2).

use httparse::{EMPTY_HEADER, Header, Status, parse_headers};

use super::Body;
use super::error::{Error, explain_line, oversize};
use super::syntax::{
    is_host_and_port, is_token, split_at_byte, split_path_and_query, split_target, split_token,
};
use crate::limits::{EMPTY_LINES_MAX, FIELDS_MAX, FIELDS_USUAL, HEAD_MAX};

/// A complete request head, with its fields interpreted.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Any token. Only `HEAD`, `OPTIONS` and `CONNECT` are treated differently.
    pub method: &'a [u8],
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

/// Where `httparse` puts the fields of a head.
pub(super) type Headers<'a> = [Header<'a>; FIELDS_USUAL];

/// The supported versions. A later minor version is served as HTTP/1.1 (RFC 9110, section 2.5).
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
    /// An [`Error`], as soon as the method, a line end or a field is invalid, the line has an
    /// unsupported version, the head is complete, or it reaches [`HEAD_MAX`].
    pub fn parse(input: &'a [u8]) -> Result<Option<Head<'a>>, Error> {
        Head::parse_with(&mut [EMPTY_HEADER; FIELDS_USUAL], input)
    }

    /// The same for one of several heads, whose fields are put into the same `headers`.
    pub(super) fn parse_with(
        headers: &mut Headers<'a>,
        input: &'a [u8],
    ) -> Result<Option<Head<'a>>, Error> {
        let Some(start) = skip_empty_lines(input)? else {
            return Ok(None);
        };
        let window = &input[start..input.len().min(start + HEAD_MAX)];
        let Some(line) = RequestLine::parse(window) else {
            return explain_line(window).map_or_else(|| incomplete(window), Err);
        };
        let mut more_headers;
        let mut parsed = parse_headers(line.rest, headers);
        if parsed == Err(httparse::Error::TooManyHeaders) {
            more_headers = [EMPTY_HEADER; FIELDS_MAX];
            parsed = parse_headers(line.rest, &mut more_headers);
        }
        let (len, fields) = match parsed {
            Ok(Status::Complete(parsed)) => parsed,
            Ok(Status::Partial) => return incomplete(window),
            Err(error) => return Err(error.into()),
        };
        let len = window.len() - line.rest.len() + len;
        let mut found = Fields::default();
        for Header { name, value } in fields {
            check_line_end(window, name)?;
            if may_matter(name) {
                found.examine(name, value)?;
            }
        }
        if !window[..len].ends_with(b"\r\n\r\n") {
            return Err(Error::LineEnd);
        }
        let version = line.version;
        found.require_host(version)?;
        found.require_one_end(version)?;
        Ok(Some(Head {
            method: line.method,
            target: line.target,
            resource: match line.path {
                Some(path @ [b'/', ..]) if line.method != b"CONNECT" => Resource::Path(path),
                _ => Resource::locate(line.method, line.target)?,
            },
            version,
            body: found.body(),
            persists: found.persists(version),
            expects_continue: found.expects_continue(version),
            len: start + len,
        }))
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
}

/// A request line (RFC 9112, section 3).
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    /// The path, if the target consists of nothing but a valid path and query.
    path: Option<&'a [u8]>,
    version: Version,
    /// What follows the line.
    rest: &'a [u8],
}

impl<'a> RequestLine<'a> {
    /// Parses the line at the start of `window`; `None` if it is incomplete or invalid.
    #[inline]
    fn parse(window: &'a [u8]) -> Option<RequestLine<'a>> {
        let (method, rest) = split_token(window);
        let after_method = rest.strip_prefix(b" ")?;
        let (path, rest) = split_path_and_query(after_method);
        let (path, rest) = match rest {
            [b' ', ..] => (Some(path), rest),
            _ => (None, split_target(after_method).1),
        };
        let target = &after_method[..after_method.len() - rest.len()];
        let (end, rest) = rest.split_first_chunk::<11>()?;
        let is_new = end == b" HTTP/1.1\r\n";
        let version = if is_new { Version::Http11 } else { Version::other_than_1_1(end)? };
        if method.is_empty() || target.is_empty() {
            return None;
        }
        Some(RequestLine { method, target, path, version, rest })
    }
}

impl Version {
    /// The version at the end of a request line that is not HTTP/1.1.
    #[cold]
    fn other_than_1_1(end: &[u8; 11]) -> Option<Version> {
        let minor = end.strip_prefix(b" HTTP/1.")?.strip_suffix(b"\r\n")?;
        match minor {
            b"0" => Some(Version::Http10),
            [b'2'..=b'9'] => Some(Version::Http11),
            _ => None,
        }
    }
}

/// The length of the empty lines before a request line (RFC 9112, section 2.2), or `None` if
/// nothing else has been received yet.
fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, Error> {
    let mut start = 0;
    loop {
        match input[start..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if start == 2 * EMPTY_LINES_MAX => return Err(Error::EmptyLines),
            [b'\r', b'\n', ..] => start += 2,
            [b'\r' | b'\n', ..] => return Err(Error::LineEnd),
            _ => return Ok(Some(start)),
        }
    }
}

/// Checks that the line before a field ends with CR LF. `httparse` accepts a bare LF, as RFC 9112,
/// section 2.2 allows. But a proxy that does not accept it sees other lines, and a client can
/// exploit that. A field starts a line, so the CR is two bytes before the field name.
#[inline]
fn check_line_end(window: &[u8], name: &str) -> Result<(), Error> {
    let start = name.as_ptr().addr() - window.as_ptr().addr();
    if window[start - 2] == b'\r' { Ok(()) } else { Err(Error::LineEnd) }
}

/// The result of a head of which no more has been received.
fn incomplete<T>(window: &[u8]) -> Result<Option<T>, Error> {
    if window.len() < HEAD_MAX { Ok(None) } else { Err(oversize(window)) }
}

/// The resource that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A path, which begins with a slash: the target without its query and, in absolute form,
    /// without scheme and authority.
    Path(&'a [u8]),
    /// The server as a whole: `OPTIONS *`.
    Server,
}

impl<'a> Resource<'a> {
    /// The resource that a request line names in another form than origin form, which is the usual
    /// one (section 3.2).
    ///
    /// # Errors
    /// [`Error::Target`] if the target has no form that the method allows, or contains a
    /// byte that a target cannot contain. [`Error::Tunnel`] for a valid `CONNECT`.
    #[cold]
    fn locate(method: &[u8], target: &'a [u8]) -> Result<Resource<'a>, Error> {
        match (method, target) {
            (b"CONNECT", target) if is_authority(target) => Err(Error::Tunnel),
            (b"CONNECT", _) => Err(Error::Target),
            (b"OPTIONS", b"*") => Ok(Resource::Server),
            (method, target) => match after_authority(target).ok_or(Error::Target)? {
                // The last proxy rewrites this form to an asterisk (section 3.2.4).
                [] if method == b"OPTIONS" => Ok(Resource::Server),
                rest => match split_path_and_query(rest) {
                    ([], []) => Ok(Resource::Path(b"/")),
                    (path, []) => Ok(Resource::Path(path)),
                    _ => Err(Error::Target),
                },
            },
        }
    }
}

/// Whether `target` has authority form: a host and a port, which is not optional (section 3.2.3).
fn is_authority(target: &[u8]) -> bool {
    let digits = target.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (host, port) = target.split_at(target.len() - digits.count());
    host.ends_with(b":") && !port.is_empty() && is_host_and_port(target)
}

/// The part after the authority of a target in absolute form (section 3.2.2). The authority
/// replaces the value of `Host`, and nothing depends on either. The scheme may be `https`: a
/// gateway may have terminated TLS (RFC 9110, section 7.4).
pub(super) fn after_authority(target: &[u8]) -> Option<&[u8]> {
    let is_scheme = |scheme: &[u8]| {
        scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
    };
    let (scheme, rest) = split_at_byte(target, b':');
    let rest = rest.strip_prefix(b"://").filter(|_| is_scheme(scheme))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
    is_host_and_port(authority).then_some(rest)
}

/// The interpreted fields of one head.
#[derive(Debug, Default)]
struct Fields {
    host: bool,
    has_length: bool,
    length: u64,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    /// Interprets a field of a head, if it is one of those that matter.
    ///
    /// # Errors
    /// That of a field that breaks its grammar, is repeated where it must not be, or requires
    /// something that is not implemented.
    #[inline(never)]
    fn examine(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        match name.len() {
            4 if is_named(name, "Host") => self.host(value),
            6 if is_named(name, "Expect") => self.expect(value),
            10 if is_named(name, "Connection") => self.connection(value),
            14 if is_named(name, "Content-Length") => self.length(value),
            17 if is_named(name, "Transfer-Encoding") => self.coding(value),
            _ => Ok(()),
        }
    }

    /// Checks that there is a `Host` field, which HTTP/1.1 requires (RFC 9112, section 3.2).
    ///
    /// # Errors
    /// [`Error::Host`] if it is missing.
    fn require_host(&self, version: Version) -> Result<(), Error> {
        match version {
            Version::Http11 if !self.host => Err(Error::Host),
            Version::Http10 | Version::Http11 => Ok(()),
        }
    }

    /// Checks that all recipients find the same end of the body (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// [`Error::TwoLengths`] if there are both a length and chunks. [`Error::TransferEncoding`]
    /// for chunks in HTTP/1.0, which has no transfer codings: a proxy that forwarded such a request
    /// has probably found another end of it (section 6.1).
    fn require_one_end(&self, version: Version) -> Result<(), Error> {
        match version {
            _ if !self.chunked => Ok(()),
            _ if self.has_length => Err(Error::TwoLengths),
            Version::Http10 => Err(Error::TransferEncoding),
            Version::Http11 => Ok(()),
        }
    }

    /// The body that follows the head.
    fn body(&self) -> Body {
        if self.chunked { Body::CHUNKED } else { Body::counted(self.length) }
    }

    /// Whether the client wants to keep the connection (RFC 9112, section 9.3). A `close` wins.
    fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client waits for `100 Continue`. In HTTP/1.0 the field is ignored (RFC 9110,
    /// section 10.1.1).
    fn expects_continue(&self, version: Version) -> bool {
        self.expects_continue && version == Version::Http11
    }

    #[inline]
    fn host(&mut self, value: &[u8]) -> Result<(), Error> {
        // The value is empty if the target has no authority (RFC 9112, section 3.2).
        if self.host || !value.is_empty() && !is_host_and_port(value) {
            return Err(Error::Host);
        }
        self.host = true;
        Ok(())
    }

    /// A list; `100-continue` is the only expectation that RFC 9110, section 10.1.1 defines.
    #[cold]
    fn expect(&mut self, value: &[u8]) -> Result<(), Error> {
        for expectation in list(value) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Error::Expectation);
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    /// A list of case-insensitive options, over any number of fields (RFC 9110, section 7.6.1).
    fn connection(&mut self, value: &[u8]) -> Result<(), Error> {
        match value {
            // What most clients send.
            b"keep-alive" => self.keep_alive = true,
            b"close" => self.close = true,
            _ => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        Ok(())
    }

    /// One number (RFC 9112, section 6.3). The RFC allows a recipient to accept repeats of the same
    /// number. Here they are an error: in practice, only attacks contain them.
    fn length(&mut self, value: &[u8]) -> Result<(), Error> {
        if value.is_empty() || self.has_length {
            return Err(Error::ContentLength);
        }
        for &digit in value {
            if !digit.is_ascii_digit() {
                return Err(Error::ContentLength);
            }
            self.length = self
                .length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
                .ok_or(Error::ContentLength)?;
        }
        self.has_length = true;
        Ok(())
    }

    /// Only `chunked` is implemented (RFC 9112, section 6.1). Another coding is merely not
    /// implemented (501). But a `chunked` that is not the last, is repeated, or has parameters does
    /// not delimit the body for every parser (400).
    #[cold]
    fn coding(&mut self, value: &[u8]) -> Result<(), Error> {
        if self.chunked {
            return Err(Error::TransferEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).peekable();
        while let Some(coding) = codings.next() {
            let misplaced = coding.eq_ignore_ascii_case(b"chunked") && codings.peek().is_some();
            if misplaced || !is_token(coding) {
                return Err(Error::TransferEncoding);
            }
        }
        Err(Error::Coding)
    }
}

/// Whether a field may be one of those that [`Fields`] interprets. The length of its name and the
/// first letter alone rule out most others.
fn may_matter(name: &str) -> bool {
    let first = name.as_bytes().first().map_or(0, |first| first | 0x20);
    FIRST_LETTERS.get(name.len()) == Some(&first)
}

/// The first letter of each name that matters, at the length of the name.
const FIRST_LETTERS: [u8; 18] = *b"\0\0\0\0h\0e\0\0\0c\0\0\0c\0\0t";

/// Whether a field has this name, in any case. Most clients write it as the RFCs do.
fn is_named(name: &str, known: &str) -> bool {
    name == known || name.eq_ignore_ascii_case(known)
}

/// The members of a comma-separated list, without empty ones, which a recipient has to ignore (RFC
/// 9110, section 5.6.1.2).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Result<Resource, Error> = Ok(Resource::Path(b"/x"));
    const ROOT: Result<Resource, Error> = Ok(Resource::Path(b"/"));
    const SERVER: Result<Resource, Error> = Ok(Resource::Server);
    const NONE: Result<Resource, Error> = Err(Error::Target);
    const TUNNEL: Result<Resource, Error> = Err(Error::Tunnel);

    #[test]
    fn each_form_is_for_some_methods_and_not_for_others() {
        for (target, get, options, connect) in [
            // Origin form (section 3.2.1).
            ("/", ROOT, ROOT, NONE),
            ("/x", PAGE, PAGE, NONE),
            ("/x?", PAGE, PAGE, NONE),
            ("/x?y=/?%20z", PAGE, PAGE, NONE),
            ("/x#y", NONE, NONE, NONE),
            ("/x%", NONE, NONE, NONE),
            ("/\"x\"", NONE, NONE, NONE),
            ("/<x>", NONE, NONE, NONE),
            ("/x\\y", NONE, NONE, NONE),
            ("/x^{|}`", NONE, NONE, NONE),
            ("/ü", NONE, NONE, NONE),
            // A query is not interpreted, and may contain what browsers send.
            ("/x?y=[z]&{a|b}^\\`ü", PAGE, PAGE, NONE),
            ("/x?<", NONE, NONE, NONE),
            ("/x?%zz", NONE, NONE, NONE),
            // Absolute form (section 3.2.2).
            ("http://a/x", PAGE, PAGE, NONE),
            ("HTTPS://a.b:80/x?y", PAGE, PAGE, NONE),
            ("http://[::1]:80/x", PAGE, PAGE, NONE),
            ("http://a/", ROOT, ROOT, NONE),
            ("http://a?y", ROOT, ROOT, NONE),
            ("http://a", ROOT, SERVER, NONE),
            ("http://a/#y", NONE, NONE, NONE),
            ("http://a#y", NONE, NONE, NONE),
            ("http://user@a/x", NONE, NONE, NONE),
            ("http://a:b/x", NONE, NONE, NONE),
            ("http:///x", NONE, NONE, NONE),
            ("http://", NONE, NONE, NONE),
            ("http:/x", NONE, NONE, NONE),
            ("ftp://a/x", NONE, NONE, NONE),
            ("://a/x", NONE, NONE, NONE),
            ("x", NONE, NONE, NONE),
            ("?x", NONE, NONE, NONE),
            // Authority form (section 3.2.3).
            ("a:80", NONE, NONE, TUNNEL),
            ("[::1]:80", NONE, NONE, TUNNEL),
            ("a", NONE, NONE, NONE),
            ("a:", NONE, NONE, NONE),
            (":80", NONE, NONE, NONE),
            ("80", NONE, NONE, NONE),
            ("[::1]", NONE, NONE, NONE),
            ("a:80/x", NONE, NONE, NONE),
            // Asterisk form (section 3.2.4).
            ("*", NONE, SERVER, NONE),
            ("**", NONE, NONE, NONE),
            ("*?x", NONE, NONE, NONE),
        ] {
            let heads = ["GET", "OPTIONS", "CONNECT"]
                .map(|method| format!("{method} {target} HTTP/1.0\r\n\r\n"));
            let located = heads.each_ref().map(|head| {
                let head = Head::parse(head.as_bytes())?;
                Ok(head.expect("it is complete").resource)
            });
            assert_eq!(located, [get, options, connect], "{target:?}");
        }
    }
}
