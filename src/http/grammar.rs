//! The alphabets of RFC 9110 and RFC 3986, and what is spelt with them. Each alphabet is a
//! bit in one table: a byte is looked up once, whatever it is checked against.

use core::net::Ipv6Addr;

static ALPHABETS: [u8; 256] = alphabets();

/// What tokens are made of, and so methods, field names and codings (RFC 9110, section
/// 5.6.2).
const TCHAR: u8 = 1;
/// What a field's value may hold: visible characters, blanks and the bytes above ASCII, but
/// no control (RFC 9110, section 5.5).
const FIELD_TEXT: u8 = 2;
/// Octets that mean the same whether percent-encoded or not (RFC 3986, section 2.3).
const UNRESERVED: u8 = 4;
/// What a registered name is made of, besides percent-encoded octets (RFC 3986, section
/// 3.2.2).
const REG_NAME: u8 = 8;
/// What a query is made of, besides percent-encoded octets (RFC 3986, section 3.4); but for
/// the question mark, a path is made of the same.
const QUERY: u8 = 16;

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
        alphabets |= REG_NAME | QUERY;
    }
    if matches!(byte, b':' | b'@' | b'/' | b'?') {
        alphabets |= QUERY;
    }
    alphabets
}

fn belongs(byte: u8, alphabet: u8) -> bool {
    ALPHABETS[usize::from(byte)] & alphabet != 0
}

/// Whether `byte` may stand in a token.
pub(super) fn is_tchar(byte: u8) -> bool {
    belongs(byte, TCHAR)
}

/// Whether `byte` may stand in a field's value.
pub(super) fn is_field_text(byte: u8) -> bool {
    belongs(byte, FIELD_TEXT)
}

/// Whether `byte` needs no percent-encoding anywhere.
pub(super) fn is_unreserved(byte: u8) -> bool {
    belongs(byte, UNRESERVED)
}

/// Whether `text` is a token: one `tchar` or more.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

/// Whether `text` may be a path, with or without a query behind it.
pub(super) fn is_path_and_query(text: &[u8]) -> bool {
    is_encoded(text, QUERY)
}

/// Whether `text` is a path of which no byte need be percent-encoded.
pub fn is_plain_path(text: &[u8]) -> bool {
    let is_plain = |&byte: &u8| byte != b'?' && belongs(byte, QUERY);
    text.starts_with(b"/") && text.iter().all(is_plain)
}

/// Whether `text` is what `Host` has for a value: a host, with or without a port. An empty
/// host is none: an `http` URI must not have one (RFC 9110, section 4.2.1).
pub(super) fn is_host_and_port(text: &[u8]) -> bool {
    let (host_is_valid, rest) = match text {
        [b'[', literal @ ..] => {
            let (literal, rest) = split_at_byte(literal, b']');
            (is_ip_literal(literal), rest.get(1..))
        }
        _ => {
            let (name, rest) = split_at_byte(text, b':');
            (!name.is_empty() && is_encoded(name, REG_NAME), Some(rest))
        }
    };
    host_is_valid
        && match rest {
            Some([]) => true,
            Some([b':', port @ ..]) => port.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// What RFC 3986, section 3.2.2 puts between brackets: IPv6, or whatever comes after it.
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

/// Whether all of `text` is in `alphabet` or percent-encoded (RFC 3986, section 2.1).
fn is_encoded(mut text: &[u8], alphabet: u8) -> bool {
    loop {
        text = match text {
            [] => return true,
            [byte, rest @ ..] if belongs(*byte, alphabet) => rest,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            _ => return false,
        }
    }
}

/// What is ahead of the first `separator`, and the rest from there on, if there is any.
pub(super) fn split_at_byte(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| byte == separator);
    text.split_at(end.unwrap_or(text.len()))
}

/// Whether `raw` is `path` once its needless percent-encoding is undone: only unreserved
/// characters mean the same in either form (RFC 3986, section 2.3).
pub(super) fn means(mut raw: &[u8], path: &[u8]) -> bool {
    if raw == path {
        return true;
    }
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
    let digit = |byte| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
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
            (QUERY, "-._~!$&'()*+,;=:@/?"),
        ] {
            let spelt = |byte: &u8| {
                alphanumeric.contains(char::from(*byte)) || others.contains(char::from(*byte))
            };
            let expected: Vec<u8> = visible.bytes().filter(spelt).collect();
            let found: Vec<u8> = (0..=255).filter(|&byte| belongs(byte, alphabet)).collect();
            assert_eq!(found, expected, "alphabet {alphabet}");
        }
        let field_text = (0..=255).filter(|&byte| is_field_text(byte));
        let expected = (0..=255).filter(|byte| !matches!(byte, 0..=8 | 10..=31 | 127));
        assert!(field_text.eq(expected));
    }

    #[test]
    fn tokens_are_not_empty_and_hold_no_delimiter() {
        for (text, expected) in [
            ("chunked", true),
            ("", false),
            ("a b", false),
            ("a,b", false),
        ] {
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
        for text in ["/", "/hello", "//a/b;c=1,2", "/a:b@c/'~!$&()*+-._"] {
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
            "http://a/",
        ] {
            assert!(!is_plain_path(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn percent_signs_want_two_hex_digits() {
        for (text, expected) in [
            ("/", true),
            ("/a%20b?c%2F=d/e?f", true),
            ("/%", false),
            ("/%1", false),
            ("/%1x", false),
            ("/%%41", false),
            ("/a b", false),
            ("/a#b", false),
            ("/\"", false),
            ("/é", false),
        ] {
            assert_eq!(is_path_and_query(text.as_bytes()), expected, "{text:?}");
        }
    }
}
