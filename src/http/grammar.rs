//! The alphabets of RFC 9110 and RFC 3986, one predicate each.

/// `tchar`: what tokens are made of, and so methods, field names and codings (RFC 9110,
/// section 5.6.2).
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A token: one `tchar` or more.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

/// What a field's value may hold: visible characters, blanks and the bytes above ASCII,
/// but no control (RFC 9110, section 5.5).
pub(super) fn is_field_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `unreserved`: an octet that means the same whether percent-encoded or not (RFC 3986,
/// section 2.3).
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabets_have_the_sizes_that_the_rfcs_give_them() {
        let count = |belongs: fn(u8) -> bool| (0..=255).filter(|&byte| belongs(byte)).count();
        assert_eq!(count(is_tchar), 15 + 10 + 26 + 26);
        assert_eq!(count(is_field_text), 1 + 95 + 128);
        assert_eq!(count(is_unreserved), 4 + 10 + 26 + 26);
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
}
