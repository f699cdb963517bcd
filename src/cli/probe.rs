//! The probe: one blocking GET to a server, and success if the status is 2xx. It makes a health
//! check possible in images without curl.
//!
//! The invariant: a probe ends within [`PROBE_TIMEOUT`], whatever the server does.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Response, Status};

use crate::cli::address::Address;
use crate::limits::{FIELDS_MAX, HEAD_MAX, PROBE_TIMEOUT};

/// The accepted URLs, for messages to the user.
pub const URLS: &str = "http://127.0.0.1:8081/ready, with an IP address or localhost";

/// The URL of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The addresses of the server, in the order of the attempts: one at least.
    addresses: Vec<SocketAddr>,
    /// Host and port for the `Host` field.
    authority: String,
    path: String,
}

/// A text that is none of [`URLS`].
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidUrl;

impl Target {
    /// The `/ready` of a server whose diagnostics listens on `diag`.
    pub fn ready_at(diag: Address) -> Target {
        let addresses = match diag {
            Address::One(address) => vec![connectable(address)],
            Address::Every(port) => loopback(port),
        };
        Target { authority: addresses[0].to_string(), addresses, path: "/ready".to_owned() }
    }
}

/// The loopback addresses of both IP versions.
fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// The address to connect to for an address that a server listens on.
fn connectable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl FromStr for Target {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Target, InvalidUrl> {
        let rest = text.strip_prefix("http://").ok_or(InvalidUrl)?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let lacks_port = authority.ends_with(']') || !authority.contains(':');
        let port = if lacks_port { ":80" } else { "" };
        let address = format!("{authority}{port}").parse();
        let host = authority.split(':').next().unwrap_or_default();
        let addresses = match address.map_err(|_| InvalidUrl)? {
            Address::One(address) if host.eq_ignore_ascii_case("localhost") => {
                loopback(address.port())
            }
            Address::One(address) => vec![connectable(address)],
            Address::Every(port) if authority.starts_with('[') => loopback(port),
            Address::Every(_) => return Err(InvalidUrl),
        };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidUrl);
        }
        Ok(Target {
            addresses,
            authority: authority.to_owned(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "http://{}{}", self.authority, self.path)
    }
}

/// Sends a GET to `target` and waits for the head of the response, [`PROBE_TIMEOUT`] in all.
///
/// # Errors
/// The reason in one line: an error of the socket, a status other than 2xx, a response that is not
/// HTTP/1, or none in time.
pub fn probe(target: &Target) -> Result<(), String> {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut attempts = target.addresses.iter().map(|&address| request(target, address, deadline));
    // The first error is reported: the host may not have the other IP version.
    let first = attempts.next().expect("a target has an address");
    let response = first.or_else(|error| attempts.find_map(Result::ok).ok_or(error));
    match response {
        Ok(StatusLine { code: 200..300, .. }) => Ok(()),
        Ok(StatusLine { code, reason }) => Err(format!("{target} responded with {code} {reason}")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(format!("{target} did not respond within {PROBE_TIMEOUT:?}"))
        }
        Err(error) => Err(format!("{target}: {error}")),
    }
}

struct StatusLine {
    code: u16,
    reason: String,
}

fn request(target: &Target, address: SocketAddr, deadline: Instant) -> io::Result<StatusLine> {
    let mut stream = TcpStream::connect_timeout(&address, time_left(deadline)?)?;
    let Target { path, authority, .. } = target;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(time_left(deadline)?))?;
    stream.write_all(request.as_bytes())?;
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::Error::other("connection closed without a response")),
            Ok(len) => head.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        while let Some((status, len)) = parse_head(&head)? {
            if status.code >= 200 {
                return Ok(status);
            }
            // An interim response: another one follows (RFC 9110, section 15.2).
            head.drain(..len);
        }
    }
}

/// The time left before `deadline`, and an error at zero, which a socket takes for no timeout.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The status line and the length of the head, once the head is complete.
fn parse_head(head: &[u8]) -> io::Result<Option<(StatusLine, usize)>> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    match response.parse(head) {
        Ok(Status::Complete(len)) => {
            let status = StatusLine {
                code: response.code.unwrap_or_default(),
                reason: response.reason.unwrap_or_default().to_owned(),
            };
            Ok(Some((status, len)))
        }
        Ok(Status::Partial) if head.len() < HEAD_MAX => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(io::Error::other("the response is not HTTP/1")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn urls_have_an_address_and_perhaps_a_port_and_a_path() {
        for (url, addresses, path) in [
            ("http://127.0.0.1:8081/ready", &["127.0.0.1:8081"][..], "/ready"),
            ("http://127.0.0.1", &["127.0.0.1:80"], "/"),
            ("http://[::1]/a?b", &["[::1]:80"], "/a?b"),
            ("http://[::1]:1/", &["[::1]:1"], "/"),
            ("http://localhost/ready", &["127.0.0.1:80", "[::1]:80"], "/ready"),
            ("http://LOCALHOST:1/", &["127.0.0.1:1", "[::1]:1"], "/"),
            ("http://0.0.0.0:1/", &["127.0.0.1:1"], "/"),
            ("http://[::]:1/", &["127.0.0.1:1", "[::1]:1"], "/"),
        ] {
            let target: Target = url.parse().expect("a URL");
            let tried = target.addresses.iter().map(ToString::to_string);
            assert_eq!(tried.collect::<Vec<_>>(), addresses, "{url}");
            assert_eq!(target.path, path, "{url}");
        }
        for url in [
            "",
            "127.0.0.1:8081",
            "https://127.0.0.1/",
            "http://",
            "http:///ready",
            "http://example.org/",
            "http://127.0.0.1:x/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1/\r\nX: y",
            "http://:8081/ready",
            "http://8081/ready",
        ] {
            assert_eq!(url.parse::<Target>(), Err(InvalidUrl), "{url:?}");
        }
    }

    #[test]
    fn a_probe_connects_to_an_address_of_the_host() {
        for (diag, url) in [
            ("8081", "http://127.0.0.1:8081/ready"),
            ("0.0.0.0:1", "http://127.0.0.1:1/ready"),
            ("[::]:1", "http://127.0.0.1:1/ready"),
            ("192.0.2.1:1", "http://192.0.2.1:1/ready"),
        ] {
            let target = Target::ready_at(diag.parse().expect("an address"));
            assert_eq!(target.to_string(), url);
        }
    }

    /// The result of a probe to a server that sends `response` and closes.
    fn probe_of(response: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let len = stream.read(&mut request).expect("a request");
            stream.write_all(response.as_bytes()).expect("it reads");
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        let target: Target = format!("http://{address}/x?y").parse().expect("a URL");
        let result = probe(&target);
        let request = server.join().expect("no panic");
        assert!(request.starts_with("GET /x?y HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        result.map_err(|reason| reason.replace(&address.to_string(), "it"))
    }

    #[test]
    fn a_probe_accepts_any_2xx_and_reports_anything_else() {
        assert_eq!(probe_of("HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(probe_of("HTTP/1.0 299 Whatever\r\nA: b\r\n\r\n"), Ok(()));
        assert_eq!(
            probe_of("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            Ok(())
        );
        for (response, reason) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "responded with 503 Service Unavailable"),
            ("HTTP/1.1 301 \r\n\r\n", "responded with 301 "),
        ] {
            assert_eq!(probe_of(response), Err(format!("http://it/x?y {reason}")));
        }
        for (response, reason) in [
            ("", "connection closed without a response"),
            ("HTTP/1.1 200 OK\r\n", "connection closed without a response"),
            ("220 mail\r\n\r\n", "the response is not HTTP/1"),
        ] {
            assert_eq!(probe_of(response), Err(format!("http://it/x?y: {reason}")));
        }
    }

    #[test]
    fn a_probe_times_out() {
        // The kernel accepts the connection, and no process reads from it.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target: Target = format!("http://{address}/").parse().expect("a URL");
        let reason = probe(&target).expect_err("no response comes");
        assert_eq!(reason, format!("http://{address}/ did not respond within 2s"));

        drop(listener);
        let reason = probe(&target).expect_err("nothing listens");
        assert!(reason.contains("Connection refused"), "{reason}");
    }

    /// The error of a probe to a server that sends `field` a hundred times, and no end of the head.
    fn probe_of_endless(field: String, pause: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(pause)).expect("a socket option");
            let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
            // The read between two writes times out: a pause.
            for _ in 0..100 {
                if stream.write_all(text.as_bytes()).is_err() {
                    break;
                }
                let _ = stream.read(&mut [0; 1024]);
                text.clone_from(&field);
            }
        });
        let target: Target = format!("http://{address}/").parse().expect("a URL");
        let reason = probe(&target).expect_err("it never ends");
        server.join().expect("no panic");
        reason
    }

    #[test]
    fn a_probe_has_one_timeout_for_all_and_a_limit_on_the_head() {
        // With a timeout for each read it would see the server close, after half a minute.
        let reason = probe_of_endless("A: b\r\n".to_owned(), Duration::from_millis(300));
        assert!(reason.contains("did not respond within 2s"), "{reason}");
        let reason = probe_of_endless("x".repeat(1000), Duration::from_millis(1));
        assert!(reason.contains("not HTTP/1"), "{reason}");
    }

    #[test]
    fn a_port_alone_is_probed_on_both_ip_versions() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            return;
        };
        let port = listener.local_addr().expect("an address").port();
        let target = Target::ready_at(Address::Every(port));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("it reads");
        });
        assert_eq!(probe(&target), Ok(()));
        server.join().expect("no panic");
    }
}
