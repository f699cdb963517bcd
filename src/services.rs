//! The two services: what they are called, where they are found and what they serve. Some
//! of that can be set when the program is built; the compiler then checks it.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::event_loop::listeners::Service;
use crate::http::{Route, Routes};
use crate::limits::{DELAY, VERSION_MAX};
use crate::observe;

/// The version that is served: `ONEPOLL_VERSION` in the environment of the build, or that of
/// the package.
pub const VERSION: &str = version(option_env!("ONEPOLL_VERSION"));

const PORT: u16 = port(option_env!("ONEPOLL_PORT"), 8080);
const DIAG_PORT: u16 = port(option_env!("ONEPOLL_DIAG_PORT"), 8081);

/// What main serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its only path.
    pub path: String,
    /// The text that the body consists of.
    pub body: String,
    /// How many bytes of it, up to [`BODY_SIZE_MAX`](crate::limits::BODY_SIZE_MAX); `None` for
    /// the text, once.
    pub body_size: Option<usize>,
    /// How long the response is delayed.
    pub delay: Duration,
}

impl Default for Content {
    fn default() -> Content {
        Content {
            path: "/hello".to_owned(),
            body: "Hello world.".to_owned(),
            body_size: None,
            delay: DELAY,
        }
    }
}

impl Content {
    /// How many bytes the body has.
    pub fn body_size(&self) -> usize {
        self.body_size.unwrap_or(self.body.len())
    }

    /// The body: the text, cut off, or repeated with a line end between, to have that size.
    fn body(&self) -> io::Result<Vec<u8>> {
        let (size, mut bytes) = (self.body_size(), Vec::new());
        bytes.try_reserve_exact(size).map_err(|_| {
            let lack = ErrorKind::OutOfMemory;
            io::Error::new(lack, format!("Cannot keep a body of {size} bytes: {lack}"))
        })?;
        let text = format!("{}\n", self.body);
        while bytes.len() < size {
            let left = size - bytes.len();
            bytes.extend_from_slice(&text.as_bytes()[..left.min(text.len())]);
        }
        Ok(bytes)
    }
}

/// The built-in port of a service: `ONEPOLL_PORT` or `ONEPOLL_DIAG_PORT` in the environment of the
/// build, or that of the program that this one was ported from.
pub fn default_port(service: Service) -> u16 {
    match service {
        Service::Diag => DIAG_PORT,
        Service::Main => PORT,
    }
}

/// What both services serve, each at its index.
///
/// # Errors
/// A lack of memory for the body.
pub fn routes(content: &Content) -> io::Result<[Routes; Service::ALL.len()]> {
    let main = Route {
        is_delayed: !content.delay.is_zero(),
        ..Route::new(&content.path, content.body()?)
    };
    Ok([Routes::new(observe::routes()), Routes::new(vec![main])])
}

/// A variable of the build. An empty one counts as unset, as it does at start.
const fn given(variable: Option<&'static str>) -> Option<&'static str> {
    match variable {
        Some(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

const fn port(variable: Option<&'static str>, default: u16) -> u16 {
    let Some(text) = given(variable) else {
        return default;
    };
    match u16::from_str_radix(text, 10) {
        // The standard parser would take a sign.
        Ok(port) if text.as_bytes()[0].is_ascii_digit() => port,
        _ => panic!("ONEPOLL_PORT and ONEPOLL_DIAG_PORT are numbers from 0 to 65535"),
    }
}

/// The version is put into JSON and into a page of limited size as it is.
const fn version(variable: Option<&'static str>) -> &'static str {
    let Some(text) = given(variable) else {
        return env!("CARGO_PKG_VERSION");
    };
    assert!(text.len() <= VERSION_MAX, "ONEPOLL_VERSION has at most 64 bytes");
    let mut at = 0;
    while at < text.len() {
        let byte = text.as_bytes()[at];
        let plain = byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        assert!(plain, "ONEPOLL_VERSION has visible ASCII characters only, and no \" or \\");
        at += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_says_goes_before_the_defaults() {
        assert_eq!((port(None, 8080), port(Some("80"), 8080)), (8080, 80));
        assert_eq!(version(None), env!("CARGO_PKG_VERSION"));
        assert_eq!(port(Some(""), 8080), 8080, "empty is unset");
        assert_eq!(version(Some("")), env!("CARGO_PKG_VERSION"));
        assert_eq!(version(Some("v1.2-3-gabc/x")), "v1.2-3-gabc/x");
    }

    #[test]
    fn a_body_is_a_text_once_or_as_much_of_it_as_is_asked_for() {
        for (body, size, expected) in [
            ("Hello world.", None, "Hello world."),
            ("", None, ""),
            ("ab", Some(1), "a"),
            ("ab", Some(7), "ab\nab\na"),
            ("", Some(3), "\n\n\n"),
        ] {
            let content = Content { body: body.to_owned(), body_size: size, ..Content::default() };
            let bytes = content.body().expect("there is memory");
            assert_eq!(bytes, expected.as_bytes(), "{body:?} {size:?}");
            assert_eq!(content.body_size(), expected.len());
        }
        let content = Content { body_size: Some(usize::MAX), ..Content::default() };
        let error = content.body().expect_err("no machine has as much").to_string();
        assert!(error.starts_with("Cannot keep a body of 18446744073709551615 bytes: "), "{error}");
    }

    #[test]
    #[should_panic(expected = "visible ASCII")]
    fn a_version_that_would_break_the_ready_line_does_not_compile() {
        version(Some("1\"2"));
    }

    #[test]
    #[should_panic(expected = "at most 64 bytes")]
    fn a_version_that_would_break_the_page_does_not_compile() {
        version(Some(concat!(
            "0123456789012345678901234567890123456789",
            "0123456789012345678901234567890123456789"
        )));
    }

    #[test]
    #[should_panic(expected = "numbers from 0 to 65535")]
    fn a_port_that_is_none_does_not_compile() {
        port(Some("65536"), 0);
    }

    #[test]
    #[should_panic(expected = "numbers from 0 to 65535")]
    fn a_port_with_a_sign_does_not_compile() {
        port(Some("+80"), 0);
    }
}
