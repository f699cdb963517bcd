//! What the seed's users know, asked over the wire.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, SystemTime};

use onepoll::service::VERSION;

use crate::harness::*;

#[test]
fn both_services_answer_as_the_seed_does() {
    let server = Process::start(&[]);
    let ready = format!("Version: {VERSION}");
    for (address, request, code, body) in [
        (server.main, HELLO, 200, "Hello world."),
        (server.diag, READY, 200, ready.as_str()),
        (server.main, READY, 404, "404 page not found\n"),
        (server.diag, HELLO, 404, "404 page not found\n"),
    ] {
        let mut peer = Peer::connect(address);
        peer.send(request);
        let answer = peer.answer();
        assert_eq!(status(&answer), code, "{answer:?}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer:?}");
        assert_eq!(
            field(&answer, "Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(field(&answer, "Server"), None);
        let nosniff = field(&answer, "X-Content-Type-Options");
        assert_eq!(nosniff, (code == 404).then_some("nosniff"));
    }
}

#[test]
fn one_connection_has_many_conversations() {
    let server = Process::start(&[]);
    let mut peer = server.connect();
    for (request, code) in [
        ("GET /hello?a=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("BREW /%68ello HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (
            "GET http://example.org/hello HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (
            "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\nGET / HTTP/1.1",
            200,
        ),
        (
            "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             e\r\nGET / HTTP/1.1\r\n0\r\n\r\n",
            200,
        ),
        ("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    ] {
        peer.send(request);
        assert_eq!(status(&peer.answer()), code, "{request:?}");
    }
    peer.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(field(&peer.answer_to_head(), "Content-Length"), Some("12"));
    peer.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(
        peer.rest()
            .ends_with("\r\nConnection: close\r\n\r\nHello world.")
    );
}

#[test]
fn a_body_larger_than_any_buffer_is_skipped() {
    let server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    let len = 3 * 1024 * 1024;
    peer.send(&format!(
        "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n"
    ));
    peer.send(&"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n".repeat(len / 32));
    assert_eq!(status(&peer.answer()), 200);
    peer.send("POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..64 {
        peer.send(&format!(
            "8000\r\n{}\r\n",
            "\r\n0\r\n\r\n\0".repeat(0x8000 / 8)
        ));
    }
    peer.send("0\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&peer.answer()), 200);
    assert_eq!(status(&peer.answer()), 404);
    assert_eq!(peer.rest(), "");
}

#[test]
fn old_clients_are_answered_in_their_version() {
    let server = Process::start(&[]);
    let mut peer = server.connect();
    peer.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = peer.answer();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer:?}");
    assert_eq!(field(&answer, "Connection"), Some("keep-alive"));
    peer.send("GET /hello HTTP/1.0\r\n\r\n");
    let answer = peer.rest();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer:?}");
    assert_eq!(field(&answer, "Connection"), Some("close"));
}

#[test]
fn dates_follow_the_clock() {
    let server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    let mut seen = Vec::new();
    let start = SystemTime::now();
    // The date changes within a second, so two of them prove that it does.
    while seen.len() < 3 {
        let before = SystemTime::now();
        assert!(before < start + PATIENCE, "{seen:?}");
        peer.send(HELLO);
        let answer = peer.answer();
        let date = field(&answer, "Date").expect("a date").to_owned();
        let moment = httpdate::parse_http_date(&date).expect("an HTTP date");
        assert!(moment + Duration::from_secs(2) > before, "{date}");
        assert!(moment <= SystemTime::now(), "{date}");
        if seen.last() != Some(&date) {
            seen.push(date);
        }
    }
}

#[test]
fn a_port_alone_means_every_address() {
    let server = Process::spawn(onepoll().args(["--listen", ":0", "--diag", "0"]));
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    assert_eq!(server.main.is_ipv6(), has_ipv6, "{}", server.ready);
    assert!(server.main.ip().is_unspecified() && server.diag.ip().is_unspecified());
    let mut hosts: Vec<SocketAddr> = vec![(Ipv4Addr::LOCALHOST, server.main.port()).into()];
    if has_ipv6 {
        hosts.push((Ipv6Addr::LOCALHOST, server.main.port()).into());
    }
    for host in hosts {
        let mut peer = Peer::connect(host);
        peer.send(HELLO);
        assert_eq!(status(&peer.answer()), 200, "{host}");
    }
}
