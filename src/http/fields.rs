//! The header fields that are interpreted: the host, the length of the body, and the options of the
//! connection. All others are ignored.
//!
//! The invariant: if two parsers could disagree on the end of the body, the request gets an error
//! response. Otherwise the body of one client could be parsed as the request of another, behind a
//! proxy that shares its connections among clients (request smuggling, RFC 9112, section 11.2).

use httparse::Header;

use super::grammar::{is_host_and_port, is_token};
use super::{Body, Refusal, Version};

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
    pub(super) fn examine(fields: &[Header]) -> Result<Fields, Refusal> {
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
    /// [`Refusal::TwoLengths`] if there are both a length and chunks. [`Refusal::TransferEncoding`]
    /// for chunks in HTTP/1.0, which has no transfer codings: a proxy that forwarded such a request
    /// has probably found another end of it (section 6.1).
    pub(super) fn body(&self, version: Version) -> Result<Body, Refusal> {
        match (self.chunked, self.length) {
            (false, length) => Ok(Body::counted(length.unwrap_or(0))),
            (true, Some(_)) => Err(Refusal::TwoLengths),
            (true, None) if version == Version::Http10 => Err(Refusal::TransferEncoding),
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

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // The value is empty if the target has no authority (RFC 9112, section 3.2).
        if self.host || !value.is_empty() && !is_host_and_port(value) {
            return Err(Refusal::Host);
        }
        self.host = true;
        Ok(())
    }

    /// A list; `100-continue` is the only expectation that RFC 9110, section 10.1.1 defines.
    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for expectation in list(value) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::Expectation);
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

    /// Only `chunked` is implemented (RFC 9112, section 6.1). Another coding is merely not
    /// implemented (501). But a `chunked` that is not the last, is repeated, or has parameters does
    /// not delimit the body for every parser (400).
    fn coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::TransferEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).peekable();
        while let Some(coding) = codings.next() {
            let misplaced = coding.eq_ignore_ascii_case(b"chunked") && codings.peek().is_some();
            if misplaced || !is_token(coding) {
                return Err(Refusal::TransferEncoding);
            }
        }
        Err(Refusal::Coding)
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
