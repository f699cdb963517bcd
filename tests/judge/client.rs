//! The client of the bench, which takes whatever a server does.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::judge::Why;
use crate::judge::client::{Client, Lost, Response, idle_clients, parse};

/// Runs a client beside a server that sends `parts` to it and closes.
fn with_server<T>(parts: &[&[u8]], client: impl FnOnce(SocketAddr) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            for part in parts {
                // A client that has had enough reads no more.
                let _ = stream.write_all(part);
            }
        });
        client(address)
    })
}

/// What a client gets that sends nothing.
fn response_to(parts: &[&[u8]]) -> Result<Response, Lost> {
    with_server(parts, |address| {
        Client::connect(address).and_then(|mut client| client.response(false))
    })
}

#[test]
fn a_server_that_keeps_no_connection_is_told_from_a_silent_one() {
    let idle = |parts: &[&[u8]]| {
        with_server(parts, |address| idle_clients(address, b"", 1).map(|clients| clients.len()))
    };
    assert_eq!(idle(&[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]), Ok(1));
    let closes: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(idle(&[closes]), Err(Why::LeftOut("keeps no connection")));
    assert_eq!(idle(&[]), Err(Why::Fails("the connection is closed".to_owned())));
}

#[test]
fn a_response_has_an_end() {
    let ok = |closes| Ok(Response { status: 200, closes });
    static LONG: [u8; 5 << 20] = [b'x'; 5 << 20];
    assert_eq!(response_to(&[b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"]), ok(false));
    assert_eq!(response_to(&[b"HTTP/1.1 200 OK\r\n", b"\r\nuntil the close"]), ok(true));
    assert_eq!(response_to(&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"]), Err(Lost::Closed));
    assert_eq!(response_to(&[b"HTTP/1.1 200 OK\r\n\r\n", &LONG]), Err(Lost::TooMuch));
    assert_eq!(response_to(&[b"HTTP/1.1 200 OK\r\nX: ", &LONG]), Err(Lost::TooMuch));
    assert_eq!(response_to(&[b"Hello world."]), Err(Lost::NotHttp));
    assert_eq!(response_to(&[]), Err(Lost::Closed));
}

#[test]
fn the_length_of_a_response_is_what_the_rfc_says() {
    for (received, has_no_body, ended, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabX", false, false, Ok(Some((40, false)))),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", true, false, Ok(Some((38, false)))),
        ("HTTP/1.1 304 OK\r\nContent-Length: 2\r\n\r\n", false, false, Ok(Some((38, false)))),
        ("HTTP/1.1 204 OK\r\n\r\nX", false, false, Ok(Some((19, false)))),
        ("HTTP/1.1 100 Continue\r\n\r\nX", false, false, Ok(Some((25, false)))),
        ("HTTP/1.1 200 OK\r\n\r\nab", false, false, Ok(None)),
        ("HTTP/1.1 200 OK\r\n\r\nab", false, true, Ok(Some((21, true)))),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nX",
            false,
            false,
            Ok(Some((58, false))),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
            false,
            false,
            Ok(None),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
            false,
            false,
            Err(Lost::NotHttp),
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
            false,
            false,
            Ok(Some((60, true))),
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, false, Ok(Some((38, true)))),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            false,
            false,
            Ok(Some((62, false))),
        ),
    ] {
        let parsed = parse(received.as_bytes(), has_no_body, ended);
        let parsed = parsed.map(|whole| whole.map(|(len, response)| (len, response.closes)));
        assert_eq!(parsed, expected, "{received:?}");
    }
}
