//! The request head: what `httparse` parses, then the rules that it leaves to its caller. Those are
//! about line ends, the request target, and the fields that say for which host a request is, where
//! its body ends, and whether the connection goes on. It does not know which paths exist.
//!
//! The invariant: the result depends on the bytes alone, and not on how they were cut. Where two
//! parsers could disagree about the end of a request, it is an error: that is what keeps the body
//! of one client from becoming the request of another one behind a proxy that shares its
//! connections (RFC 9112, section 11.2).

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use super::Body;
use super::error::{Error, classify, oversize};
use super::syntax::{is_host_and_port, is_token, skip_query, split_at_byte, split_path};
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
    /// A [`Error`], as soon as the head is complete, contains a byte that `httparse` rejects, or
    /// reaches [`HEAD_MAX`].
    pub fn parse(input: &'a [u8]) -> Result<Option<Head<'a>>, Error> {
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
            Err(httparse::Error::Version)
                if !window.contains(&b'\n') && window.len() < HEAD_MAX =>
            {
                Ok(None)
            }
            Err(error) => {
                let found = Head::parse_masked(error, window)?;
                Ok(found.map(|head| Head { len: start + head.len, ..head }))
            }
        }
    }

    /// Parses a copy of a head whose only error is a query that is not UTF-8, which `httparse` says
    /// with `Token`. The copy has a query in ASCII, so this happens once.
    #[cold]
    fn parse_masked(error: httparse::Error, window: &'a [u8]) -> Result<Option<Head<'a>>, Error> {
        let Some(masked) = mask_query(window).filter(|_| error == httparse::Error::Token) else {
            return Err(classify(error, window));
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

    fn new(request: &Request<'_, 'a>, len: usize) -> Result<Head<'a>, Error> {
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

/// Checks that each line ends with CR LF. `httparse` accepts a bare LF, as RFC 9112, section 2.2
/// allows. But a proxy that does not accept it sees other lines, and a client can exploit that.
/// Every field starts a line, so the CR is two bytes before the field name.
fn check_line_ends(head: &[u8], fields: &[Header]) -> Result<(), Error> {
    let starts_line = |field: &Header| {
        let start = field.name.as_ptr().addr() - head.as_ptr().addr();
        head[start - 2] == b'\r'
    };
    if head.ends_with(b"\r\n\r\n") && fields.iter().all(starts_line) {
        Ok(())
    } else {
        Err(Error::LineEnd)
    }
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
    /// The resource of `target` in a request with this `method`.
    ///
    /// # Errors
    /// [`Error::Target`] if the target has no form that the method allows, or contains a
    /// byte that a target cannot contain. [`Error::Tunnel`] for a valid `CONNECT`.
    pub(super) fn locate(method: &str, target: &'a [u8]) -> Result<Resource<'a>, Error> {
        match (method, target) {
            ("CONNECT", _) if is_authority(target) => Err(Error::Tunnel),
            ("CONNECT", _) => Err(Error::Target),
            (_, [b'/', ..]) => Resource::at(target),
            ("OPTIONS", b"*") => Ok(Resource::Server),
            _ => match after_authority(target).ok_or(Error::Target)? {
                // The last proxy rewrites this form to an asterisk (section 3.2.4).
                [] if method == "OPTIONS" => Ok(Resource::Server),
                path_and_query => Resource::at(path_and_query),
            },
        }
    }

    fn at(path_and_query: &'a [u8]) -> Result<Resource<'a>, Error> {
        let (path, rest) = split_path(path_and_query);
        match rest {
            [] => {}
            [b'?', query @ ..] if skip_query(query).is_empty() => {}
            _ => return Err(Error::Target),
        }
        Ok(Resource::Path(if path.is_empty() { b"/" } else { path }))
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
pub(super) struct Fields {
    host: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    /// Interprets the fields of a head.
    ///
    /// # Errors
    /// The error of the first field that breaks its grammar, is repeated where it must not be, or
    /// requires something that is not implemented.
    pub(super) fn examine(fields: &[Header]) -> Result<Fields, Error> {
        let mut found = Fields::default();
        for Header { name, value } in fields {
            // The length alone rules out most names.
            match name.len() {
                4 if is(name, "Host") => found.host(value)?,
                6 if is(name, "Expect") => found.expect(value)?,
                10 if is(name, "Connection") => found.connection(value),
                14 if is(name, "Content-Length") => found.length(value)?,
                17 if is(name, "Transfer-Encoding") => found.coding(value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Checks that there is a `Host` field, which HTTP/1.1 requires (RFC 9112, section 3.2).
    ///
    /// # Errors
    /// [`Error::Host`] if it is missing.
    pub(super) fn require_host(&self, version: Version) -> Result<(), Error> {
        match version {
            Version::Http11 if !self.host => Err(Error::Host),
            Version::Http10 | Version::Http11 => Ok(()),
        }
    }

    /// The body that follows the head (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// [`Error::TwoLengths`] if there are both a length and chunks. [`Error::TransferEncoding`]
    /// for chunks in HTTP/1.0, which has no transfer codings: a proxy that forwarded such a request
    /// has probably found another end of it (section 6.1).
    pub(super) fn body(&self, version: Version) -> Result<Body, Error> {
        match (self.chunked, self.length) {
            (false, length) => Ok(Body::counted(length.unwrap_or(0))),
            (true, Some(_)) => Err(Error::TwoLengths),
            (true, None) if version == Version::Http10 => Err(Error::TransferEncoding),
            (true, None) => Ok(Body::CHUNKED),
        }
    }

    /// Whether the client wants to keep the connection (RFC 9112, section 9.3). A `close` wins.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client waits for `100 Continue`. In HTTP/1.0 the field is ignored (RFC 9110,
    /// section 10.1.1).
    pub(super) fn expects_continue(&self, version: Version) -> bool {
        self.expects_continue && version == Version::Http11
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Error> {
        // The value is empty if the target has no authority (RFC 9112, section 3.2).
        if self.host || !value.is_empty() && !is_host_and_port(value) {
            return Err(Error::Host);
        }
        self.host = true;
        Ok(())
    }

    /// A list; `100-continue` is the only expectation that RFC 9110, section 10.1.1 defines.
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
    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// One number (RFC 9112, section 6.3). The RFC allows a recipient to accept repeats of the same
    /// number. Here they are an error: in practice, only attacks contain them.
    fn length(&mut self, value: &[u8]) -> Result<(), Error> {
        let mut length: u64 = 0;
        for &digit in value {
            if !digit.is_ascii_digit() {
                return Err(Error::ContentLength);
            }
            length = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
                .ok_or(Error::ContentLength)?;
        }
        if value.is_empty() || self.length.replace(length).is_some() {
            return Err(Error::ContentLength);
        }
        Ok(())
    }

    /// Only `chunked` is implemented (RFC 9112, section 6.1). Another coding is merely not
    /// implemented (501). But a `chunked` that is not the last, is repeated, or has parameters does
    /// not delimit the body for every parser (400).
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

/// Whether a field has this name, in any case. Most clients write it as the RFCs do.
fn is(name: &str, known: &str) -> bool {
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
            let located = ["GET", "OPTIONS", "CONNECT"]
                .map(|method| Resource::locate(method, target.as_bytes()));
            assert_eq!(located, [get, options, connect], "{target:?}");
        }
    }
}
