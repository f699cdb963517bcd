//! The request target (RFC 9112, section 3.2): its form, whether the method allows this form, and
//! the path in it. It does not know which paths exist.
//!
//! The invariant: the path is the bytes that were received. Nothing in it is decoded or normalized,
//! and only an empty one becomes a slash.

use super::Refusal;
use super::grammar::{is_host_and_port, is_token, skip_query, split_at_byte, split_path};
use crate::limits::HEAD_MAX;

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
    /// [`Refusal::Target`] if the target has no form that the method allows, or contains a
    /// [stray byte](stray_byte). [`Refusal::Tunnel`] for a valid `CONNECT`.
    pub(super) fn locate(method: &str, target: &'a [u8]) -> Result<Resource<'a>, Refusal> {
        match (method, target) {
            ("CONNECT", _) if is_authority(target) => Err(Refusal::Tunnel),
            ("CONNECT", _) => Err(Refusal::Target),
            (_, [b'/', ..]) => Resource::at(target),
            ("OPTIONS", b"*") => Ok(Resource::Server),
            _ => match after_authority(target).ok_or(Refusal::Target)? {
                // The last proxy rewrites this form to an asterisk (section 3.2.4).
                [] if method == "OPTIONS" => Ok(Resource::Server),
                path_and_query => Resource::at(path_and_query),
            },
        }
    }

    fn at(path_and_query: &'a [u8]) -> Result<Resource<'a>, Refusal> {
        let (path, rest) = split_path(path_and_query);
        match rest {
            [] => {}
            [b'?', query @ ..] if skip_query(query).is_empty() => {}
            _ => return Err(Refusal::Target),
        }
        Ok(Resource::Path(if path.is_empty() { b"/" } else { path }))
    }
}

/// The first byte of a head's target that a target cannot contain in this place. A blank counts
/// once the whole line has been received: what follows it may be the version.
pub(super) fn stray_byte(head: &[u8]) -> Option<u8> {
    let head = head.trim_ascii_start();
    let head = &head[..head.len().min(HEAD_MAX)];
    let line = head.split(|byte| b"\r\n".contains(byte)).next()?;
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let path_and_query = match target {
        [b'/', ..] => target,
        _ => after_authority(target)?,
    };
    let left = match split_path(path_and_query).1 {
        [b'?', query @ ..] => skip_query(query),
        rest => rest,
    };
    let mut goes_on = || words.nth(1).is_some() && line.len() < head.len();
    match left.first() {
        Some(&byte) if is_token(method) => Some(byte),
        None if goes_on() => Some(b' '),
        _ => None,
    }
}

/// The error message for a [stray byte](stray_byte).
pub(super) fn explain(byte: u8) -> String {
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

/// Whether `target` has authority form: a host and a port, which is not optional (section 3.2.3).
fn is_authority(target: &[u8]) -> bool {
    let digits = target.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (host, port) = target.split_at(target.len() - digits.count());
    host.ends_with(b":") && !port.is_empty() && is_host_and_port(target)
}

/// The part after the authority of a target in absolute form (section 3.2.2). The authority
/// replaces the value of `Host`, and nothing depends on either. The scheme may be `https`: a
/// gateway may have terminated TLS (RFC 9110, section 7.4).
fn after_authority(target: &[u8]) -> Option<&[u8]> {
    let is_scheme = |scheme: &[u8]| {
        scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
    };
    let (scheme, rest) = split_at_byte(target, b':');
    let rest = rest.strip_prefix(b"://").filter(|_| is_scheme(scheme))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
    is_host_and_port(authority).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Result<Resource, Refusal> = Ok(Resource::Path(b"/x"));
    const ROOT: Result<Resource, Refusal> = Ok(Resource::Path(b"/"));
    const SERVER: Result<Resource, Refusal> = Ok(Resource::Server);
    const NONE: Result<Resource, Refusal> = Err(Refusal::Target);
    const TUNNEL: Result<Resource, Refusal> = Err(Refusal::Tunnel);

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
