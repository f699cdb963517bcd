//! The request body: how many bytes of the input belong to it. Bodies are skipped, never stored.
//! They have to be skipped, or their bytes would be parsed as the next request.
//!
//! The invariant: however the input is cut, the same bytes are skipped. So the parser of a chunked
//! body is a state machine. It takes one byte at a time, and many only inside chunk data.

use super::Error;
use super::syntax::{is_field_text, is_tchar};
use crate::limits::{CHUNK_LINE_MAX, TRAILERS_MAX};

/// The rest of a body. A connection keeps it while it reads, so it is packed into 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct Body {
    /// Bytes left of `Content-Length`, or of the data of the current chunk. Ahead of its data, the
    /// size of the chunk as far as it has been parsed.
    left: u64,
    /// Bytes of the current chunk's line, or of the trailer section, that have been parsed.
    spent: u16,
    at: At,
}

/// A state of the grammar, named after what is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The bytes that `Content-Length` counts. All other states are of chunks (RFC 9112, section
    /// 7.1).
    Counted,
    Size,
    SizeRest,
    /// Blanks before a semicolon.
    Padding,
    ExtName,
    ExtNameRest,
    /// Blanks before a semicolon or an equals sign.
    ExtNamePadding,
    ExtValue,
    ExtTokenRest,
    ExtQuoted,
    ExtEscaped,
    ExtEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer field, or the empty line that ends the body.
    Line,
    NameRest,
    Value,
    LineLf,
    LastLf,
    Over,
}

impl Body {
    /// No body.
    pub const NONE: Body = Body { left: 0, spent: 0, at: At::Over };

    /// The start of a chunked body, and of each of its chunks.
    pub const CHUNKED: Body = Body { left: 0, spent: 0, at: At::Size };

    /// A body of so many bytes.
    pub fn counted(bytes: u64) -> Body {
        let at = if bytes == 0 { At::Over } else { At::Counted };
        Body { left: bytes, spent: 0, at }
    }

    /// Whether the whole body has been skipped.
    pub fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Whether more than so many bytes are left for certain, as `Content-Length` says.
    pub fn is_longer_than(&self, bytes: usize) -> bool {
        self.at == At::Counted && self.left > bytes as u64
    }

    /// Skips the bytes of `input` that belong to the body, and returns their number. If it is less
    /// than `input.len()`, the body is over and the rest belongs to the next request.
    ///
    /// # Errors
    /// [`Error::Chunk`] if a chunk breaks RFC 9112, section 7.1, or a line or the trailer section
    /// is longer than its limit.
    pub fn skip(&mut self, input: &[u8]) -> Result<usize, Error> {
        let mut skipped = 0;
        while self.at != At::Over && skipped < input.len() {
            match self.at {
                At::Counted => skipped += self.take(input.len() - skipped, At::Over),
                At::Data => skipped += self.take(input.len() - skipped, At::DataCr),
                _ => {
                    self.parse(input[skipped])?;
                    skipped += 1;
                }
            }
        }
        Ok(skipped)
    }

    /// Takes as many bytes as there are of those that are left. With the last one, `next` follows.
    fn take(&mut self, bytes: usize, next: At) -> usize {
        let taken = usize::try_from(self.left).map_or(bytes, |left| left.min(bytes));
        self.left -= taken as u64;
        if self.left == 0 {
            self.at = next;
        }
        taken
    }

    /// The grammar: one line per transition, and everything else is an error. Parsers disagree on
    /// sizes, line ends and blanks that the grammar does not allow, and that makes request
    /// smuggling possible.
    fn parse(&mut self, byte: u8) -> Result<(), Error> {
        use At::*;
        self.spent += 1;
        if usize::from(self.spent) > self.spent_max() {
            return Err(Error::Chunk);
        }
        self.at = match (self.at, byte) {
            (Size | SizeRest, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (SizeRest | Padding | ExtTokenRest | ExtEnd, b' ' | b'\t') => Padding,
            (SizeRest | ExtNameRest | ExtTokenRest | ExtEnd | Padding | ExtNamePadding, b';')
            | (ExtName, b' ' | b'\t') => ExtName,
            (ExtName | ExtNameRest, byte) if is_tchar(byte) => ExtNameRest,
            (ExtNameRest | ExtNamePadding, b' ' | b'\t') => ExtNamePadding,
            (ExtNameRest | ExtNamePadding, b'=') | (ExtValue, b' ' | b'\t') => ExtValue,
            (ExtValue | ExtTokenRest, byte) if is_tchar(byte) => ExtTokenRest,
            (ExtValue, b'"') => ExtQuoted,
            (ExtQuoted, b'\\') => ExtEscaped,
            (ExtQuoted, b'"') => ExtEnd,
            (ExtQuoted | ExtEscaped, byte) if is_field_text(byte) => ExtQuoted,
            (SizeRest | ExtNameRest | ExtTokenRest | ExtEnd, b'\r') => SizeLf,
            (SizeLf, b'\n') => self.enter_data(),
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => self.enter_chunk(),
            (Line | NameRest, byte) if is_tchar(byte) => NameRest,
            (NameRest, b':') => Value,
            (Value, b'\r') => LineLf,
            (Value, byte) if is_field_text(byte) => Value,
            (LineLf, b'\n') => Line,
            (Line, b'\r') => LastLf,
            (LastLf, b'\n') => Over,
            _ => return Err(Error::Chunk),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<At, Error> {
        let value = char::from(byte).to_digit(16).ok_or(Error::Chunk)?;
        let shifted = self.left.checked_mul(16).ok_or(Error::Chunk)?;
        self.left = shifted | u64::from(value);
        Ok(At::SizeRest)
    }

    /// The state after the line of a chunk: the trailer section if its size is zero, else its data.
    fn enter_data(&mut self) -> At {
        self.spent = 0;
        if self.left == 0 { At::Line } else { At::Data }
    }

    fn enter_chunk(&mut self) -> At {
        *self = Body::CHUNKED;
        At::Size
    }

    fn spent_max(&self) -> usize {
        match self.at {
            At::Line | At::NameRest | At::Value | At::LineLf | At::LastLf | At::Over => {
                TRAILERS_MAX
            }
            _ => CHUNK_LINE_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Skips a chunked body in one call: the bytes skipped and whether it is over, or `None` after
    /// an error.
    fn skip(input: &[u8]) -> Option<(usize, bool)> {
        let mut body = Body::CHUNKED;
        body.skip(input).ok().map(|skipped| (skipped, body.is_over()))
    }

    #[test]
    fn chunked_bodies_end_where_the_grammar_says() {
        for (input, skipped, is_over) in [
            ("0\r\n\r\n", 5, true),
            ("0\r\n\r\nGET", 5, true),
            ("000\r\n\r\n", 7, true),
            ("3\r\nabc\r\n0\r\n\r\n", 13, true),
            ("A\r\n0123456789\r\n0\r\n\r\n", 20, true),
            ("3\r\n\r\n\r\r\n0\r\n\r\n", 13, true),
            ("0;a;b=c;d=\"e;f\"\r\n\r\n", 19, true),
            ("0 \t; \ta\r\n\r\n", 11, true),
            ("0;a \t=\t b ;c\r\n\r\n", 16, true),
            ("0;a ;b=\"\"\r\n\r\n", 13, true),
            ("0;a=\"\\\"\\\\;\"\t;b\r\n\r\n", 18, true),
            ("0\r\nA: b\r\nC:\td \r\n\r\n", 18, true),
            ("0\r\nA:\r\n\r\n", 9, true),
            ("", 0, false),
            ("3\r\nab", 5, false),
            ("0\r\n", 3, false),
            ("0\r\nA: b\r\n", 9, false),
            ("ffffffffffffffff\r\nx", 19, false),
        ] {
            assert_eq!(skip(input.as_bytes()), Some((skipped, is_over)), "{input:?}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_say_is_refused() {
        for input in [
            "10000000000000000\r\n",
            "\r\n",
            ";a\r\n",
            " 0\r\n",
            "0 \r\n",
            "+3\r\n",
            "-0\r\n",
            "0x3\r\n",
            "3g\r\n",
            "0\n\n",
            "0\r\r\n",
            "0;a\n",
            "0;\r\n",
            "0;;a\r\n",
            "0;=b\r\n",
            "0;a=\r\n",
            "0;a=;b\r\n",
            "0;a=b=c\r\n",
            "0;a b\r\n",
            "0;a=b c\r\n",
            "0;a \r\n",
            "0;a=b \r\n",
            "0;a=\"b\r\n",
            "0;a=\"b\"c\r\n",
            "0;a=\"b\" \r\n",
            "0;a=b\"c\"\r\n",
            "0;a=\"\\\r\n\"",
            "0;a=(b)\r\n",
            "0;(a)\r\n",
            "0;\0\r\n",
            "3\r\nabc0\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: \0\r\n\r\n",
        ] {
            assert_eq!(skip(input.as_bytes()), None, "{input:?}");
        }
    }

    #[test]
    fn lines_and_trailers_have_limits_to_the_byte() {
        let line = |len: usize| format!("0;{}\r\n\r\n", "x".repeat(len - 4));
        let first = |len: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(len - 4));
        let trailers = |len: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(len - 6));
        assert_eq!(skip(line(CHUNK_LINE_MAX).as_bytes()), Some((CHUNK_LINE_MAX + 2, true)));
        assert_eq!(skip(line(CHUNK_LINE_MAX + 1).as_bytes()), None);
        assert_eq!(skip(first(CHUNK_LINE_MAX).as_bytes()), Some((CHUNK_LINE_MAX + 8, true)));
        assert_eq!(skip(first(CHUNK_LINE_MAX + 1).as_bytes()), None);
        assert_eq!(skip(trailers(TRAILERS_MAX).as_bytes()), Some((TRAILERS_MAX + 3, true)));
        assert_eq!(skip(trailers(TRAILERS_MAX + 1).as_bytes()), None);
    }

    #[test]
    fn counted_bodies_end_by_their_count() {
        let mut body = Body::counted(5);
        assert_eq!(body.skip(b"abc"), Ok(3));
        assert!(!body.is_over());
        assert_eq!(body.skip(b"defgh"), Ok(2));
        assert!(body.is_over());
        assert_eq!(body.skip(b"h"), Ok(0));
        assert_eq!(Body::counted(u64::MAX).skip(b"abc"), Ok(3));
    }

    /// A simple decoder that has the whole input: the length of the chunked body at its start, or
    /// `None` if that is incomplete or breaks a rule.
    fn length_of(input: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let line = line_at(input, at)?;
            at += line.len() + 2;
            let digits = line.bytes().take_while(u8::is_ascii_hexdigit).count();
            let size = u64::from_str_radix(&line[..digits], 16).ok()?;
            let rules = line.len() + 2 <= CHUNK_LINE_MAX && are_extensions(&line[digits..]);
            if !rules {
                return None;
            }
            if size == 0 {
                break;
            }
            at += usize::try_from(size).ok().filter(|&size| size <= input.len())?;
            at += input.get(at..)?.starts_with(b"\r\n").then_some(2)?;
        }
        let start = at;
        loop {
            let line = line_at(input, at)?;
            at += line.len() + 2;
            if line.is_empty() {
                return Some(at).filter(|at| at - start <= TRAILERS_MAX);
            }
            let (name, value) = line.split_once(':')?;
            let value_is_text = !value.contains(|c: char| c.is_ascii_control() && c != '\t');
            if token(name) != Some("") || !value_is_text {
                return None;
            }
        }
    }

    /// The line at `at`, without its CR LF, if it contains no other CR or LF. The samples contain
    /// ASCII only.
    fn line_at(input: &[u8], at: usize) -> Option<&str> {
        let rest = str::from_utf8(&input[at..]).ok()?;
        let (line, _) = rest.split_once("\r\n")?;
        (!line.contains(['\r', '\n'])).then_some(line)
    }

    /// What follows the token at the start of `text`.
    fn token(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|c: char| c.is_ascii() && is_tchar(c as u8));
        (rest.len() < text.len()).then_some(rest)
    }

    fn are_extensions(text: &str) -> bool {
        let after = |text: &str, symbol| {
            let rest = text.trim_start_matches([' ', '\t']).strip_prefix(symbol)?;
            Some(rest.trim_start_matches([' ', '\t']).to_owned())
        };
        if text.is_empty() {
            return true;
        }
        let Some(name) = after(text, ';') else {
            return false;
        };
        let Some(rest) = token(&name) else {
            return false;
        };
        let rest = match after(rest, '=') {
            None => Some(rest.to_owned()),
            Some(value) if value.starts_with('"') => after_quotes(&value[1..]),
            Some(value) => token(&value).map(str::to_owned),
        };
        rest.is_some_and(|rest| are_extensions(&rest))
    }

    fn after_quotes(text: &str) -> Option<String> {
        let mut symbols = text.chars();
        loop {
            match symbols.next()? {
                '"' => return Some(symbols.as_str().to_owned()),
                '\\' => symbols.next().filter(|c| *c == '\t' || !c.is_control())?,
                c if c == '\t' || !c.is_control() => c,
                _ => return None,
            };
        }
    }

    /// Valid chunked bodies.
    fn chunked_body() -> impl Strategy<Value = String> {
        let blank = || "[ \t]{0,2}";
        let value = prop_oneof!["[a-z]{1,5}", "\"([!#-\\[^-~ \t]|\\\\[ -~]){0,5}\""];
        let extension =
            (blank(), blank(), "[a-z]{1,5}", prop::option::of((blank(), blank(), value))).prop_map(
                |(a, b, name, value)| {
                    let value = value.map(|(c, d, value)| format!("{c}={d}{value}"));
                    format!("{a};{b}{name}{}", value.unwrap_or_default())
                },
            );
        let extensions = prop::collection::vec(extension, 0..3).prop_map(|list| list.concat());
        // Some lines have about the maximal length.
        let zeros = prop_oneof![9 => 0..3_usize, 1 => CHUNK_LINE_MAX - 5..CHUNK_LINE_MAX];
        let chunk = (1..300_usize, zeros, extensions, "[\r\n0-9a-f]").prop_map(
            |(len, zeros, extensions, byte)| {
                let zeros = "0".repeat(zeros);
                format!("{zeros}{len:x}{extensions}\r\n{}\r\n", byte.repeat(len))
            },
        );
        let longest = (TRAILERS_MAX - 8..TRAILERS_MAX).prop_map(|len| "x".repeat(len));
        let trailers = prop_oneof![
            9 => "([a-z]{1,5}:[ -~]{0,5}\r\n){0,3}",
            1 => longest.prop_map(|value| format!("x:{value}\r\n")),
        ];
        (prop::collection::vec(chunk, 0..5), trailers)
            .prop_map(|(chunks, trailers)| format!("{}0\r\n{trailers}\r\n", chunks.concat()))
    }

    /// Skips a body that is received in pieces: its length, or `None` if it is incomplete or breaks
    /// a rule.
    fn skip_pieces(mut body: Body, input: &[u8], cuts: &[prop::sample::Index]) -> Option<usize> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let mut skipped = 0;
        for cut in cuts.windows(2) {
            let piece = &input[skipped.max(cut[0])..cut[1].max(skipped)];
            let taken = body.skip(piece).ok()?;
            skipped += taken;
            if body.is_over() {
                return Some(skipped);
            }
            assert_eq!(taken, piece.len(), "a body that is not over takes all there is");
        }
        None
    }

    proptest! {
        #[test]
        fn chunked_bodies_are_skipped_as_a_slower_decoder_would(
            body in chunked_body(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let input = [&body, "GET / HTTP/1.1\r\n\r\n"].concat();
            let expected = length_of(input.as_bytes());
            prop_assert!(expected == Some(body.len()) || body.len() > CHUNK_LINE_MAX);
            prop_assert_eq!(skip_pieces(Body::CHUNKED, input.as_bytes(), &cuts), expected);
        }

        #[test]
        fn broken_chunked_bodies_are_refused_as_a_slower_decoder_would(
            body in chunked_body(),
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(&b"\r\n\t ;=\"\\0aF:(\0"[..])),
                1..3,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut input = [&body, "GET / HTTP/1.1\r\n\r\n"].concat().into_bytes();
            for (at, byte) in changes {
                let at = at.index(body.len());
                input[at] = byte;
            }
            prop_assert_eq!(skip_pieces(Body::CHUNKED, &input, &cuts), length_of(&input));
        }

        #[test]
        fn counted_bodies_are_skipped_in_any_cut(
            len in 1..5_000_usize,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let input = "x".repeat(len) + "GET / HTTP/1.1\r\n\r\n";
            let body = Body::counted(len as u64);
            prop_assert_eq!(skip_pieces(body, input.as_bytes(), &cuts), Some(len));
        }
    }
}
