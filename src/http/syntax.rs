//! The character classes of RFC 9110 and RFC 3986, called alphabets here, and the grammars that
//! need nothing else: token, host, path and query.
//!
//! The invariant: each alphabet is one bit in one table, so a byte is classified by one lookup.

use core::fmt;
use core::net::Ipv6Addr;

use crate::limits::HEAD_MAX;

static ALPHABETS: [u8; 256] = alphabets();

/// The characters of a token: a method, a field name or a coding (RFC 9110, section 5.6.2).
const TCHAR: u8 = 1;
/// The bytes of a field value: visible characters, space, tab, and bytes above ASCII, but no other
/// control characters (RFC 9110, section 5.5).
const FIELD_TEXT: u8 = 2;
/// Characters that are equivalent to their percent-encoding (RFC 3986, section 2.3).
const UNRESERVED: u8 = 4;
/// The characters of a registered name, apart from percent-encoded octets (RFC 3986, section
/// 3.2.2).
const REG_NAME: u8 = 8;
/// The characters of a path, apart from percent-encoded octets (RFC 3986, section 3.3).
const PATH: u8 = 16;
/// The bytes of a query, apart from percent-encoded octets: those of RFC 3986, section 3.4, and
/// those that browsers (URL Standard, query percent-encode set) and most other clients do not
/// encode. A query is not interpreted.
const QUERY: u8 = 32;

const fn alphabets() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    loop {
        table[byte as usize] = alphabets_of(byte);
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

const fn alphabets_of(byte: u8) -> u8 {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let unreserved = alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let token =
        unreserved || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'^' | b'`' | b'|');
    let sub_delimiter = matches!(byte, b'!' | b'$' | b'&'..=b',' | b';' | b'=');
    let mut alphabets = 0;
    if token {
        alphabets |= TCHAR;
    }
    if byte == b'\t' || byte >= b' ' && byte != 0x7f {
        alphabets |= FIELD_TEXT;
    }
    if unreserved {
        alphabets |= UNRESERVED;
    }
    if unreserved || sub_delimiter {
        alphabets |= REG_NAME | PATH | QUERY;
    }
    if matches!(byte, b':' | b'@' | b'/') {
        alphabets |= PATH | QUERY;
    }
    let raw = matches!(byte, b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'\\' | b'`');
    if raw || byte == b'?' || byte >= 0x80 {
        alphabets |= QUERY;
    }
    alphabets
}

fn belongs(byte: u8, alphabet: u8) -> bool {
    ALPHABETS[usize::from(byte)] & alphabet != 0
}

/// Whether a token may contain `byte`.
pub(super) fn is_tchar(byte: u8) -> bool {
    belongs(byte, TCHAR)
}

/// Whether a field value may contain `byte`.
pub(super) fn is_field_text(byte: u8) -> bool {
    belongs(byte, FIELD_TEXT)
}

/// Whether `byte` needs no percent-encoding in any part of a URI.
pub(super) fn is_unreserved(byte: u8) -> bool {
    belongs(byte, UNRESERVED)
}

/// Whether `text` is a token: one `tchar` or more.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

/// Bytes in the log: visible ASCII as it is, everything else percent-encoded, and cut off after
/// [`HEAD_MAX`] characters.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let mut left = HEAD_MAX;
        let both_visible = |a: &u8, b: &u8| a.is_ascii_graphic() && b.is_ascii_graphic();
        for run in self.0.chunk_by(both_visible) {
            let len = if run[0].is_ascii_graphic() { run.len() } else { 3 };
            if len > left {
                return out.write_str("...");
            }
            left -= len;
            match str::from_utf8(run) {
                Ok(text) if run[0].is_ascii_graphic() => out.write_str(text)?,
                _ => write!(out, "%{:02X}", run[0])?,
            }
        }
        Ok(())
    }
}

/// Splits `text` at the first byte that a token cannot contain.
#[inline]
pub(super) fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(plain_len(text, TCHAR))
}

/// Splits `text` at the first byte that no request target contains, valid or not: a blank or a
/// control character.
pub(super) fn split_target(text: &[u8]) -> (&[u8], &[u8]) {
    split_at(text, |byte| byte == b' ' || byte.is_ascii_control())
}

/// The path at the start of `text`, and the rest behind it and its query, if it has one. Both parts
/// end where a byte is not in their alphabet.
#[inline(always)]
pub(super) fn split_path_and_query(text: &[u8]) -> (&[u8], &[u8]) {
    let (path, rest) = text.split_at(encoded_len(text, PATH));
    match rest {
        [b'?', query @ ..] => (path, &query[encoded_len(query, QUERY)..]),
        _ => (path, rest),
    }
}

/// Whether `text` is an absolute path that a client sends unchanged: no byte has to be
/// percent-encoded, and there are no dot segments, which clients remove (RFC 3986, section 5.2.4).
pub fn is_plain_path(text: &[u8]) -> bool {
    let mut segments = text.split(|&byte| byte == b'/');
    let has_dots = segments.any(|segment| matches!(segment, b"." | b".."));
    text.starts_with(b"/") && !has_dots && text.iter().all(|&byte| belongs(byte, PATH))
}

/// Whether `text` is a host, with or without a port, as in the value of `Host`. An empty host is
/// invalid in an `http` URI (RFC 9110, section 4.2.1).
#[inline(always)]
pub(super) fn is_host_and_port(text: &[u8]) -> bool {
    let rest = match text {
        [b'[', literal @ ..] => after_ip_literal(literal),
        _ => Some(&text[encoded_len(text, REG_NAME)..]).filter(|rest| rest.len() < text.len()),
    };
    match rest {
        Some([]) => true,
        Some([b':', port @ ..]) => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// What follows an IP literal, whose opening bracket is left out; `None` if it is not valid.
fn after_ip_literal(text: &[u8]) -> Option<&[u8]> {
    let (literal, rest) = split_at_byte(text, b']');
    is_ip_literal(literal).then(|| rest.get(1..))?
}

/// Whether `text` is a valid host between brackets: an IPv6 address, or `IPvFuture` (RFC 3986,
/// section 3.2.2).
fn is_ip_literal(text: &[u8]) -> bool {
    match text {
        [b'v' | b'V', future @ ..] => {
            let (version, rest) = split_at_byte(future, b'.');
            let is_address = |&byte: &u8| byte == b':' || belongs(byte, REG_NAME);
            !version.is_empty()
                && version.iter().all(u8::is_ascii_hexdigit)
                && rest.len() > 1
                && rest[1..].iter().all(is_address)
        }
        _ => str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    }
}

/// The length of the longest start of `text` of bytes that are in `alphabet` or part of a
/// percent-encoding (RFC 3986, section 2.1).
#[inline]
fn encoded_len(text: &[u8], alphabet: u8) -> usize {
    let len = plain_len(text, alphabet);
    if text.get(len) == Some(&b'%') { octets_end(text, alphabet, len) } else { len }
}

/// The same for a text that has a percent sign at `at`.
fn octets_end(text: &[u8], alphabet: u8, mut at: usize) -> usize {
    while let [b'%', high, low, rest @ ..] = &text[at..]
        && high.is_ascii_hexdigit()
        && low.is_ascii_hexdigit()
    {
        at += 3 + plain_len(rest, alphabet);
    }
    at
}

/// The length of the longest start of `text` of bytes that are in `alphabet`.
#[inline]
fn plain_len(text: &[u8], alphabet: u8) -> usize {
    let mut len = 0;
    while len < text.len() && belongs(text[len], alphabet) {
        len += 1;
    }
    len
}

/// Splits `text` before the first `separator`. Without one, the second part is empty.
pub(super) fn split_at_byte(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    split_at(text, |byte| byte == separator)
}

/// Splits `text` before the first byte that is an end.
fn split_at(text: &[u8], is_end: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let mut end = 0;
    while text.get(end).is_some_and(|&byte| !is_end(byte)) {
        end += 1;
    }
    text.split_at(end)
}

/// Whether `raw` is equivalent to `path`. Unreserved characters may be percent-encoded; all others
/// have another meaning then (RFC 3986, section 2.3).
pub(super) fn means(mut raw: &[u8], path: &[u8]) -> bool {
    for &expected in path {
        let (byte, rest) = match raw {
            [b'%', high, low, rest @ ..] => match hex_octet(*high, *low) {
                Some(octet) if is_unreserved(octet) => (octet, rest),
                _ => return false,
            },
            [byte, rest @ ..] => (*byte, rest),
            [] => return false,
        };
        if byte != expected {
            return false;
        }
        raw = rest;
    }
    raw.is_empty()
}

fn hex_octet(high: u8, low: u8) -> Option<u8> {
    let digit = |byte| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabets_are_spelt_as_in_the_rfcs() {
        let alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let visible: String = (b'!'..=b'~').map(char::from).collect();
        for (alphabet, others) in [
            (TCHAR, "!#$%&'*+-.^_`|~"),
            (UNRESERVED, "-._~"),
            (REG_NAME, "-._~!$&'()*+,;="),
            (PATH, "-._~!$&'()*+,;=:@/"),
            (QUERY, "-._~!$&'()*+,;=:@/?[]{}|^\\`"),
        ] {
            let spelt = |byte: &u8| {
                alphanumeric.contains(char::from(*byte)) || others.contains(char::from(*byte))
            };
            let expected: Vec<u8> = visible.bytes().filter(spelt).collect();
            let found: Vec<u8> = (0..0x80).filter(|&byte| belongs(byte, alphabet)).collect();
            assert_eq!(found, expected, "alphabet {alphabet}");
            let above = (0x80..=255).all(|byte| belongs(byte, alphabet) == (alphabet == QUERY));
            assert!(above, "only a query holds bytes above ASCII: {alphabet}");
        }
        let field_text = (0..=255).filter(|&byte| is_field_text(byte));
        let expected = (0..=255).filter(|byte| !matches!(byte, 0..=8 | 10..=31 | 127));
        assert!(field_text.eq(expected));
    }

    #[test]
    fn tokens_are_not_empty_and_hold_no_delimiter() {
        for (text, expected) in [("chunked", true), ("", false), ("a b", false), ("a,b", false)] {
            assert_eq!(is_token(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for text in [
            "a",
            "localhost:8080",
            "example.org",
            "a:",
            "127.0.0.1:80",
            "1.2.3",
            "a_b~c",
            "%41",
            "a,b;c=d",
            "[::1]",
            "[::1]:",
            "[::1]:8080",
            "[2001:db8::1.2.3.4]",
            "[v1.a:b]",
            "[VF.~]:1",
        ] {
            assert!(is_host_and_port(text.as_bytes()), "{text:?}");
        }
        for text in [
            "",
            ":80",
            "a b",
            "a:b",
            "a:80:80",
            "a:-1",
            "user@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "\"a\"",
            "%4",
            "%4g",
            "ü",
            "a, b",
            "[]",
            "[::1",
            "::1",
            "[::1]8080",
            "[::1]:x",
            "[1.2.3.4]",
            "[::1%25eth0]",
            "[::g]",
            "[v.a]",
            "[vg.a]",
            "[v1.]",
            "[v1a]",
            "[v1.a b]",
            "[[::1]]",
        ] {
            assert!(!is_host_and_port(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_plain_path_is_absolute_and_needs_no_encoding() {
        for text in ["/", "/hello", "//a/b;c=1,2", "/a:b@c/'~!$&()*+-._", "/.well-known/x"] {
            assert!(is_plain_path(text.as_bytes()), "{text:?}");
        }
        for text in [
            "",
            "hello",
            "/a?b",
            "/a#b",
            "/a%20b",
            "/a b",
            "/\u{fc}",
            "/[a]",
            "/../x",
            "/a/.",
            "http://a/",
        ] {
            assert!(!is_plain_path(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn the_log_shows_visible_ascii_alone() {
        for (bytes, shown) in [
            (&b""[..], ""),
            (b"/hello?x=1", "/hello?x=1"),
            ("/?q=\u{fc}".as_bytes(), "/?q=%C3%BC"),
            (b"a b\r\n\x1b[31m\xff", "a%20b%0D%0A%1B[31m%FF"),
            (b"%41", "%41"),
        ] {
            assert_eq!(Shown(bytes).to_string(), shown);
        }
        let long = Shown(&[0xff; HEAD_MAX]).to_string();
        assert!(long.len() < HEAD_MAX + 4 && long.ends_with("%FF..."));
    }

    #[test]
    fn a_path_and_query_end_where_they_hold_no_more() {
        for (text, path, rest) in [
            ("/", "/", ""),
            ("/a%20b?c", "/a%20b", ""),
            ("?c", "", ""),
            ("/%", "/", "%"),
            ("/%1", "/", "%1"),
            ("/%1x", "/", "%1x"),
            ("/%%41", "/", "%%41"),
            ("/a b", "/a", " b"),
            ("/a#b", "/a", "#b"),
            ("/[a]", "/", "[a]"),
            ("/\u{e9}", "/", "\u{e9}"),
            ("/?ids[]=1&{a|b}^\\`?/\u{fc}%2F", "/", ""),
            ("/?%zz", "/", "%zz"),
            ("/?a#b", "/", "#b"),
            ("/?<", "/", "<"),
            ("/?a b", "/", " b"),
            ("/?\u{7f}", "/", "\u{7f}"),
        ] {
            let expected = (path.as_bytes(), rest.as_bytes());
            assert_eq!(split_path_and_query(text.as_bytes()), expected, "{text:?}");
        }
    }
}
