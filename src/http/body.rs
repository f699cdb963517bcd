//! How much of a request's body is still to come. Bodies are counted off, never stored:
//! nothing here wants them, but unread they would be taken for the next request.
//!
//! The invariant: however the input is cut, the same bytes are skipped. So a chunked body is
//! a machine that moves a byte at a time, and rushes only through data that it may ignore.

use super::Refusal;
use super::grammar::{is_field_text, is_tchar};
use crate::limits::{CHUNK_LINE_MAX, TRAILERS_MAX};

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes, as `Content-Length` said; zero where there is no body.
    Counted(u64),
    /// As many chunks as it takes (RFC 9112, section 7.1).
    Chunked(Chunked),
}

/// A place in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    at: At,
    /// Bytes spent on the present chunk's line, or on the trailer section.
    spent: u16,
    /// The present chunk's size, and inside its data, what is left of it.
    size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    /// Blanks behind the size: allowed only if an extension follows.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a trailer field, or of the empty line that ends the body.
    Line,
    Name,
    Value,
    LineLf,
    LastLf,
    Over,
}

impl Body {
    /// No body at all.
    pub const NONE: Body = Body::Counted(0);

    /// A chunked body, of which nothing has come yet.
    pub const CHUNKED: Body = Body::Chunked(Chunked::NEXT);

    /// Whether every byte of it has been skipped.
    pub fn is_over(&self) -> bool {
        match self {
            Body::Counted(left) => *left == 0,
            Body::Chunked(chunked) => chunked.at == At::Over,
        }
    }

    /// Skips what `input` holds of the body and says how many bytes that is. Fewer than
    /// `input.len()` means that the body is over and the rest belongs to the next request.
    ///
    /// # Errors
    /// [`Refusal::Chunk`] where the chunks break RFC 9112, section 7.1 or pass a limit.
    pub fn skip(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match self {
            Body::Counted(left) => Ok(take(left, input.len())),
            Body::Chunked(chunked) => chunked.skip(input),
        }
    }
}

/// Lowers `left` by as much of `len` as it holds, and says by how much.
fn take(left: &mut u64, len: usize) -> usize {
    let taken = usize::try_from(*left).map_or(len, |left| left.min(len));
    *left -= taken as u64;
    taken
}

impl Chunked {
    /// At the beginning of a chunk.
    const NEXT: Chunked = Chunked {
        at: At::Size,
        spent: 0,
        size: 0,
    };

    fn skip(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut skipped = 0;
        while self.at != At::Over && skipped < input.len() {
            if self.at == At::Data {
                skipped += take(&mut self.size, input.len() - skipped);
                if self.size == 0 {
                    self.at = At::DataCr;
                }
            } else {
                self.step(input[skipped])?;
                skipped += 1;
            }
        }
        Ok(skipped)
    }

    /// The grammar, a transition a line; whatever has no line is an error. Sizes, line ends
    /// and blanks in other places than these are where parsers come to disagree.
    fn step(&mut self, byte: u8) -> Result<(), Refusal> {
        let sized = self.spent > 0;
        self.spent += 1;
        self.at = match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (At::Size, b' ' | b'\t') if sized => At::Padding,
            (At::Size, b';') if sized => At::Extension,
            (At::Size, b'\r') if sized => At::SizeLf,
            (At::Padding, b' ' | b'\t') => At::Padding,
            (At::Padding, b';') => At::Extension,
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, byte) if is_field_text(byte) => At::Extension,
            (At::SizeLf, b'\n') => self.enter_data(),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => self.enter_chunk(),
            (At::Line, b'\r') => At::LastLf,
            (At::Line | At::Name, byte) if is_tchar(byte) => At::Name,
            (At::Name, b':') => At::Value,
            (At::Value, b'\r') => At::LineLf,
            (At::Value, byte) if is_field_text(byte) => At::Value,
            (At::LineLf, b'\n') => At::Line,
            (At::LastLf, b'\n') => At::Over,
            _ => return Err(Refusal::Chunk),
        };
        if usize::from(self.spent) > self.spent_max() {
            return Err(Refusal::Chunk);
        }
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<At, Refusal> {
        let value = char::from(byte).to_digit(16).ok_or(Refusal::Chunk)?;
        let shifted = self.size.checked_mul(16).ok_or(Refusal::Chunk)?;
        self.size = shifted | u64::from(value);
        Ok(At::Size)
    }

    /// A chunk of size zero is the last one, and the trailer section follows.
    fn enter_data(&mut self) -> At {
        self.spent = 0;
        if self.size == 0 { At::Line } else { At::Data }
    }

    fn enter_chunk(&mut self) -> At {
        *self = Chunked::NEXT;
        At::Size
    }

    fn spent_max(&self) -> usize {
        match self.at {
            At::Line | At::Name | At::Value | At::LineLf | At::LastLf | At::Over => TRAILERS_MAX,
            _ => CHUNK_LINE_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skips a chunked body in one piece; how far it came, or `None` if it broke a rule.
    fn skip(input: &[u8]) -> Option<(usize, bool)> {
        let mut body = Body::CHUNKED;
        body.skip(input)
            .ok()
            .map(|skipped| (skipped, body.is_over()))
    }

    #[test]
    fn chunked_bodies_end_where_the_grammar_says() {
        for (input, skipped) in [
            ("0\r\n\r\n", Some((5, true))),
            ("0\r\n\r\nGET", Some((5, true))),
            ("000\r\n\r\n", Some((7, true))),
            ("3\r\nabc\r\n0\r\n\r\n", Some((13, true))),
            ("A\r\n0123456789\r\n0\r\n\r\n", Some((20, true))),
            ("3\r\n\r\n\r\r\n0\r\n\r\n", Some((13, true))),
            ("0;a;b=c;d=\"e;f\"\r\n\r\n", Some((19, true))),
            ("0 \t;a\r\n\r\n", Some((9, true))),
            ("0\r\nA: b\r\nC:\td \r\n\r\n", Some((18, true))),
            ("0\r\nA:\r\n\r\n", Some((9, true))),
            ("", Some((0, false))),
            ("3\r\nab", Some((5, false))),
            ("0\r\n", Some((3, false))),
            ("0\r\nA: b\r\n", Some((9, false))),
            ("ffffffffffffffff\r\nx", Some((19, false))),
            ("10000000000000000\r\n", None),
            ("\r\n", None),
            (";a\r\n", None),
            (" 0\r\n", None),
            ("0 \r\n", None),
            ("+3\r\n", None),
            ("-0\r\n", None),
            ("0x3\r\n", None),
            ("3g\r\n", None),
            ("0\n\n", None),
            ("0\r\r\n", None),
            ("0;a\n", None),
            ("0;\0\r\n", None),
            ("3\r\nabc0\r\n", None),
            ("3\r\nabcd\r\n", None),
            ("3\r\nabc\n0\r\n\r\n", None),
            ("0\r\n\n", None),
            ("0\r\n A: b\r\n\r\n", None),
            ("0\r\nA: b\r\n c\r\n\r\n", None),
            ("0\r\nA : b\r\n\r\n", None),
            ("0\r\nA\r\n\r\n", None),
            ("0\r\n: b\r\n\r\n", None),
            ("0\r\nA: b\n\r\n", None),
            ("0\r\nA: \0\r\n\r\n", None),
        ] {
            assert_eq!(skip(input.as_bytes()), skipped, "{input:?}");
        }
    }

    #[test]
    fn lines_and_trailers_have_limits_to_the_byte() {
        let line = |len: usize| format!("0;{}\r\n\r\n", "x".repeat(len - 3));
        let trailers = |len: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(len - 6));
        assert_eq!(
            skip(line(CHUNK_LINE_MAX).as_bytes()),
            Some((CHUNK_LINE_MAX + 3, true))
        );
        assert_eq!(skip(line(CHUNK_LINE_MAX + 1).as_bytes()), None);
        assert_eq!(
            skip(trailers(TRAILERS_MAX).as_bytes()),
            Some((TRAILERS_MAX + 3, true))
        );
        assert_eq!(skip(trailers(TRAILERS_MAX + 1).as_bytes()), None);
    }

    #[test]
    fn counted_bodies_end_by_their_count() {
        let mut body = Body::Counted(5);
        assert_eq!(body.skip(b"abc"), Ok(3));
        assert!(!body.is_over());
        assert_eq!(body.skip(b"defgh"), Ok(2));
        assert!(body.is_over());
        assert_eq!(body.skip(b"h"), Ok(0));
        assert_eq!(Body::Counted(u64::MAX).skip(b"abc"), Ok(3));
    }
}
