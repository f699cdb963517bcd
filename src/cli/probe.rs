//! Asks a server whether it is well, for images that have no curl: one GET, and a status for
//! the exit. Here it may wait, as nothing else is going on; but not for long.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Response, Status};

use crate::cli::address::Address;
use crate::limits::{FIELDS_MAX, HEAD_MAX, PROBE_TIMEOUT};

/// What a URL may look like, for messages to the user.
pub const URLS: &str = "http://127.0.0.1:8081/ready, with an IP address or localhost";

/// What to ask, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the answer may come from, in the order in which to try.
    addresses: Vec<SocketAddr>,
    /// Host and port, as the client is to name them.
    authority: String,
    path: String,
}

/// The text is none of [`URLS`].
#[derive(Debug, PartialEq, Eq)]
pub struct NoUrl;

impl Target {
    /// The page that says whether a server is ready that is configured to listen at `diag`.
    pub fn ready_at(diag: Address) -> Target {
        let addresses = match diag {
            Address::One(address) => vec![reachable(address)],
            Address::Every(port) => loopback(port),
        };
        Target {
            authority: addresses[0].to_string(),
            addresses,
            path: "/ready".to_owned(),
        }
    }
}

/// This host, by both IP versions.
fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![
        (Ipv4Addr::LOCALHOST, port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
    ]
}

/// An address that can be connected to, for one that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl FromStr for Target {
    type Err = NoUrl;

    fn from_str(text: &str) -> Result<Target, NoUrl> {
        let rest = text.strip_prefix("http://").ok_or(NoUrl)?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let lacks_port = authority.ends_with(']') || !authority.contains(':');
        let port = if lacks_port { ":80" } else { "" };
        let address = format!("{authority}{port}").parse();
        let host = authority.split(':').next().unwrap_or_default();
        let addresses = match address.map_err(|_| NoUrl)? {
            Address::One(address) if host.eq_ignore_ascii_case("localhost") => {
                loopback(address.port())
            }
            Address::One(address) => vec![reachable(address)],
            Address::Every(port) if authority.starts_with('[') => loopback(port),
            Address::Every(_) => return Err(NoUrl),
        };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoUrl);
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

/// Asks `target`, and is content with any status from 200 to 299.
///
/// # Errors
/// The reason in a line: what the kernel says, a status that is none of these, something that
/// is no HTTP, or nothing at all within [`PROBE_TIMEOUT`].
pub fn probe(target: &Target) -> Result<(), String> {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut answers = target
        .addresses
        .iter()
        .map(|&address| ask(target, address, deadline));
    // The first failure is the telling one: the host may not have the other IP version.
    let first = answers
        .next()
        .unwrap_or_else(|| Err(ErrorKind::AddrNotAvailable.into()));
    let answer = first.or_else(|error| answers.find_map(Result::ok).ok_or(error));
    match answer {
        Ok(Answer { code: 200..300, .. }) => Ok(()),
        Ok(Answer { code, reason }) => Err(format!("{target} answered {code} {reason}")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(format!("{target} did not answer within {PROBE_TIMEOUT:?}"))
        }
        Err(error) => Err(format!("{target}: {error}")),
    }
}

/// The status line of an answer.
struct Answer {
    code: u16,
    reason: String,
}

fn ask(target: &Target, address: SocketAddr, deadline: Instant) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, time_until(deadline)?)?;
    let Target {
        path, authority, ..
    } = target;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(time_until(deadline)?))?;
    stream.write_all(request.as_bytes())?;
    let (mut head, mut space) = (Vec::new(), [0; 1024]);
    loop {
        stream.set_read_timeout(Some(time_until(deadline)?))?;
        match stream.read(&mut space) {
            Ok(0) => return Err(io::Error::other("it was closed without an answer")),
            Ok(len) => head.extend_from_slice(&space[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        while let Some((answer, len)) = parse(&head)? {
            if answer.code >= 200 {
                return Ok(answer);
            }
            // An interim answer, with another one behind it (RFC 9110, section 15.2).
            head.drain(..len);
        }
    }
}

/// What is left of the time, which must not be nothing: to a socket that means for ever.
fn time_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// The status line, once the head of the answer is there, and how long the head is.
fn parse(head: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    match response.parse(head) {
        Ok(Status::Complete(len)) => {
            let answer = Answer {
                code: response.code.unwrap_or_default(),
                reason: response.reason.unwrap_or_default().to_owned(),
            };
            Ok(Some((answer, len)))
        }
        Ok(Status::Partial) if head.len() < HEAD_MAX => Ok(None),
        Ok(Status::Partial) | Err(_) => {
            Err(io::Error::other("it answered something that is not HTTP/1"))
        }
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
            (
                "http://127.0.0.1:8081/ready",
                &["127.0.0.1:8081"][..],
                "/ready",
            ),
            ("http://127.0.0.1", &["127.0.0.1:80"], "/"),
            ("http://[::1]/a?b", &["[::1]:80"], "/a?b"),
            ("http://[::1]:1/", &["[::1]:1"], "/"),
            (
                "http://localhost/ready",
                &["127.0.0.1:80", "[::1]:80"],
                "/ready",
            ),
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
            assert_eq!(url.parse::<Target>(), Err(NoUrl), "{url:?}");
        }
    }

    #[test]
    fn a_server_is_asked_where_it_can_be_reached() {
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

    /// What a probe makes of a server that gives this answer, and then closes.
    fn probe_of(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let len = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("it reads");
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        let target: Target = format!("http://{address}/x?y").parse().expect("a URL");
        let result = probe(&target);
        let request = server.join().expect("no panic");
        assert!(
            request.starts_with("GET /x?y HTTP/1.1\r\nHost: 127.0.0.1:"),
            "{request}"
        );
        result.map_err(|reason| reason.replace(&address.to_string(), "it"))
    }

    #[test]
    fn a_probe_is_content_with_any_success_and_says_what_else_it_met() {
        assert_eq!(probe_of("HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(probe_of("HTTP/1.0 299 Whatever\r\nA: b\r\n\r\n"), Ok(()));
        assert_eq!(
            probe_of("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            Ok(())
        );
        for (answer, reason) in [
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                "answered 503 Service Unavailable",
            ),
            ("HTTP/1.1 301 \r\n\r\n", "answered 301 "),
        ] {
            assert_eq!(probe_of(answer), Err(format!("http://it/x?y {reason}")));
        }
        for (answer, reason) in [
            ("", "it was closed without an answer"),
            ("HTTP/1.1 200 OK\r\n", "it was closed without an answer"),
            (
                "220 mail\r\n\r\n",
                "it answered something that is not HTTP/1",
            ),
        ] {
            assert_eq!(probe_of(answer), Err(format!("http://it/x?y: {reason}")));
        }
    }

    #[test]
    fn a_probe_does_not_wait_for_ever() {
        // The kernel lets it in, and nobody answers.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target: Target = format!("http://{address}/").parse().expect("a URL");
        let reason = probe(&target).expect_err("nobody answers");
        assert_eq!(
            reason,
            format!("http://{address}/ did not answer within 2s")
        );

        drop(listener);
        let reason = probe(&target).expect_err("nobody is there");
        assert!(reason.contains("Connection refused"), "{reason}");
    }

    /// What a probe makes of a server whose head has no end, with so much at once, a hundred times.
    fn probe_of_endless(field: String, pause: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream
                .set_read_timeout(Some(pause))
                .expect("a socket option");
            let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
            // Between two writes it waits for what never comes.
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
    fn a_probe_has_one_patience_for_all_of_an_answer_and_a_limit_on_its_head() {
        // With a patience for each part it would see the server close, after half a minute.
        let reason = probe_of_endless("A: b\r\n".to_owned(), Duration::from_millis(300));
        assert!(reason.contains("did not answer within 2s"), "{reason}");
        let reason = probe_of_endless("x".repeat(1000), Duration::from_millis(1));
        assert!(reason.contains("not HTTP/1"), "{reason}");
    }

    #[test]
    fn a_port_alone_is_asked_on_both_ip_versions() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            return;
        };
        let port = listener.local_addr().expect("an address").port();
        let target = Target::ready_at(Address::Every(port));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                .expect("it reads");
        });
        assert_eq!(probe(&target), Ok(()));
        server.join().expect("no panic");
    }
}
