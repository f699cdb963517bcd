//! The header fields that matter here: those that say whom a request is for, where its body
//! ends and what becomes of the connection. All others are none of our business.
//!
//! The invariant: where two readers of these fields could come to different ends of the body,
//! the request is refused. That is what keeps one client's body from becoming another
//! client's request behind a proxy that shares its connections (RFC 9112, section 11.2).

use httparse::Header;

use super::grammar::{is_host_and_port, is_token};
use super::{Body, Refusal, Version};

/// What the fields of one head say that matters.
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
    /// Reads them.
    ///
    /// # Errors
    /// The first field that breaks its grammar, comes once too often, or asks for what is not
    /// done here.
    pub(super) fn examine(fields: &[Header]) -> Result<Fields, Refusal> {
        let mut found = Fields::default();
        for Header { name, value } in fields {
            // Most names are told apart by their length alone.
            match name.len() {
                4 if name.eq_ignore_ascii_case("Host") => found.host(value)?,
                6 if name.eq_ignore_ascii_case("Expect") => found.expect(value)?,
                10 if name.eq_ignore_ascii_case("Connection") => found.connection(value),
                14 if name.eq_ignore_ascii_case("Content-Length") => found.length(value)?,
                17 if name.eq_ignore_ascii_case("Transfer-Encoding") => found.coding(value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// One valid `Host`, which HTTP/1.1 must not go without (RFC 9112, section 3.2).
    ///
    /// # Errors
    /// [`Refusal::Host`] if it is missing.
    pub(super) fn require_host(&self, version: Version) -> Result<(), Refusal> {
        match version {
            Version::Http11 if !self.host => Err(Refusal::Host),
            Version::Http10 | Version::Http11 => Ok(()),
        }
    }

    /// The body that follows the head (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// [`Refusal::TwoLengths`] if its end is given twice, and [`Refusal::TransferEncoding`] in
    /// HTTP/1.0, which knows no transfer codings: whoever forwarded such a request did not
    /// mean it to end where the chunks do (section 6.1).
    pub(super) fn body(&self, version: Version) -> Result<Body, Refusal> {
        match (self.chunked, self.length) {
            (false, length) => Ok(Body::Counted(length.unwrap_or(0))),
            (true, Some(_)) => Err(Refusal::TwoLengths),
            (true, None) if version == Version::Http10 => Err(Refusal::TransferEncoding),
            (true, None) => Ok(Body::CHUNKED),
        }
    }

    /// Whether the client wants to ask again (RFC 9112, section 9.3). A `close` wins.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client wants `100 Continue`; in HTTP/1.0 it cannot mean that (RFC 9110,
    /// section 10.1.1).
    pub(super) fn expects_continue(&self, version: Version) -> bool {
        self.expects_continue && version == Version::Http11
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // An empty value is for a target without an authority (RFC 9112, section 3.2).
        if self.host || !value.is_empty() && !is_host_and_port(value) {
            return Err(Refusal::Host);
        }
        self.host = true;
        Ok(())
    }

    /// A list of which only one member is known (RFC 9110, section 10.1.1).
    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for expectation in list(value) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::Expectation);
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    /// A list of tokens, in any case, over any number of fields (RFC 9110, section 7.6.1).
    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// One number (RFC 9112, section 6.3). Equal repeats could be folded into one, but nobody
    /// sends them who does not hope that another parser folds differently.
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let mut length: u64 = 0;
        for &digit in value {
            if !digit.is_ascii_digit() {
                return Err(Refusal::ContentLength);
            }
            length = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
                .ok_or(Refusal::ContentLength)?;
        }
        if value.is_empty() || self.length.replace(length).is_some() {
            return Err(Refusal::ContentLength);
        }
        Ok(())
    }

    /// `chunked` alone is understood (RFC 9112, section 6.1). Another coding ahead of it is
    /// merely unknown; but one that is misplaced, repeated or dressed up leaves the body
    /// without an end that everybody agrees on.
    fn coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::TransferEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut codings = value
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .peekable();
        while let Some(coding) = codings.next() {
            let misplaced = coding.eq_ignore_ascii_case(b"chunked") && codings.peek().is_some();
            if misplaced || !is_token(coding) {
                return Err(Refusal::TransferEncoding);
            }
        }
        Err(Refusal::Coding)
    }
}

/// The members of a comma-separated list. A recipient has to ignore empty ones (RFC 9110,
/// section 5.6.1.2).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty())
}
