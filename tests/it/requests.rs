//! The responses that users of the seed know, over a real socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use onepoll::services::VERSION;

use crate::harness::*;

#[test]
fn both_services_respond_as_the_seed_does() {
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
        let response = peer.response();
        assert_eq!(status(&response), code, "{response:?}");
        assert!(response.ends_with(&format!("\r\n\r\n{body}")), "{response:?}");
        assert_eq!(field(&response, "Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(field(&response, "Server"), None);
        let nosniff = field(&response, "X-Content-Type-Options");
        assert_eq!(nosniff, (code == 404).then_some("nosniff"));
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Process::start(&[]);
    let mut peer = server.connect();
    for (request, code) in [
        ("GET /hello?a=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("BREW /%68ello HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET http://example.org/hello HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\nGET / HTTP/1.1", 200),
        (
            "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             e\r\nGET / HTTP/1.1\r\n0\r\n\r\n",
            200,
        ),
        ("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    ] {
        peer.send(request);
        assert_eq!(status(&peer.response()), code, "{request:?}");
    }
    peer.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(field(&peer.response_to_head(), "Content-Length"), Some("12"));
    peer.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(peer.rest().ends_with("\r\nConnection: close\r\n\r\nHello world."));
}

#[test]
fn a_body_larger_than_any_buffer_is_skipped() {
    let server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    let len = 3 * 1024 * 1024;
    peer.send(&format!("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n"));
    peer.send(&"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n".repeat(len / 32));
    assert_eq!(status(&peer.response()), 200);
    peer.send("POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..64 {
        peer.send(&format!("8000\r\n{}\r\n", "\r\n0\r\n\r\n\0".repeat(0x8000 / 8)));
    }
    peer.send("0\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&peer.response()), 200);
    assert_eq!(status(&peer.response()), 404);
    assert_eq!(peer.rest(), "");
}

#[test]
fn old_clients_get_responses_in_their_version() {
    let server = Process::start(&[]);
    let mut peer = server.connect();
    peer.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = peer.response();
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response:?}");
    assert_eq!(field(&response, "Connection"), Some("keep-alive"));
    peer.send("GET /hello HTTP/1.0\r\n\r\n");
    let response = peer.rest();
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response:?}");
    assert_eq!(field(&response, "Connection"), Some("close"));
}

#[test]
fn dates_follow_the_clock() {
    let server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    let mut seen = Vec::new();
    let start = SystemTime::now();
    // Two different dates prove that the date changes.
    while seen.len() < 2 {
        thread::sleep(Duration::from_millis(10));
        let before = SystemTime::now();
        assert!(before < start + TIMEOUT, "{seen:?}");
        peer.send(HELLO);
        let response = peer.response();
        let date = field(&response, "Date").expect("a date").to_owned();
        let time = httpdate::parse_http_date(&date).expect("an HTTP date");
        assert!(time + Duration::from_secs(2) > before, "{date}");
        assert!(time <= SystemTime::now(), "{date}");
        if seen.last() != Some(&date) {
            seen.push(date);
        }
    }
}

#[test]
fn a_port_alone_means_every_address() {
    let options = ["--listen", ":0", "--diag", "0", "--log", "debug"];
    let mut server = Process::spawn(onepoll().args(options));
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
        assert_eq!(status(&peer.response()), 200, "{host}");
        // A dual-stack socket has IPv6 addresses for IPv4 clients.
        let client = peer.stream.local_addr().expect("an address");
        server.wait_for_log(&format!("accepted from {client}"));
        server.wait_for_log(&format!("[main] {client}, connection "));
    }
}

#[test]
fn a_body_may_have_any_size() {
    for size in [0, 1, 4096, 4097, 64 << 20] {
        let server = Process::start(&["--body-size", &size.to_string(), "--log", "warn"]);
        let mut peer = server.connect();
        peer.send(&[HELLO, &HELLO.replace("GET", "HEAD"), HELLO].concat());
        let first = peer.response();
        assert_eq!(field(&first, "Content-Length"), Some(&*size.to_string()));
        let (_, body) = first.split_once("\r\n\r\n").expect("a head");
        assert!(body.len() == size && "Hello world.\n".repeat(size / 13 + 1).starts_with(body));
        assert_eq!(status(&peer.response_to_head()), 200);
        // The second may have changed, and the date in the head with it.
        let once_more = peer.response();
        assert_eq!(field(&once_more, "Content-Length"), field(&first, "Content-Length"));
        assert!(once_more.ends_with(body), "and once more");
        peer.send(&READY.replace("/ready", "/other"));
        assert_eq!(status(&peer.response()), 404, "all else is as ever");
        if size == 64 << 20 {
            // A client that reads slowly costs the server nothing but the kernel's buffers.
            let before = resident(&server);
            let mut slow: Vec<Peer> = (0..20).map(|_| server.connect()).collect();
            for peer in &mut slow {
                peer.send(&HELLO.repeat(3));
            }
            peer.send(READY);
            assert_eq!(status(&peer.response()), 404);
            let grown = resident(&server) - before;
            assert!(grown < 1 << 20, "{grown} bytes");
        }
    }
}

#[test]
fn a_response_that_blocks_the_loop_delays_all_other_clients() {
    let block = Duration::from_millis(100);
    for log in ["warn", "off"] {
        let mut server = Process::start(&["--block", "100ms", "--log", log]);
        server.wait_for_log("--block 100ms is a DEMONSTRATION: the loop sleeps");
        let start = Instant::now();
        let mut peers: Vec<Peer> = (0..5).map(|_| server.connect()).collect();
        peers.iter_mut().for_each(|peer| peer.send(HELLO));
        peers.iter_mut().for_each(|peer| assert_eq!(status(&peer.response()), 200));
        assert!(start.elapsed() >= 5 * block, "each waits for all that are ahead of it");
    }
}

#[test]
fn diagnostics_and_error_responses_block_nothing() {
    let server = Process::start(&["--block", "10m", "--log", "warn"]);
    let mut peer = Peer::connect(server.diag);
    peer.send(READY);
    assert_eq!(status(&peer.response()), 200);
    let mut peer = server.connect();
    peer.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&peer.response()), 404);
}

#[test]
fn a_delayed_response_delays_no_other_client() {
    let not_found = HELLO.replace("/hello", "/other");
    let server = Process::start(&["--delay", "10m", "--log", "warn"]);
    let [mut one, mut other] = [(); 2].map(|()| server.connect());
    one.send(HELLO);
    other.send(&not_found);
    assert_eq!(status(&other.response()), 404, "it did not wait");

    let server = Process::start(&["--delay", "300ms", "--log", "warn"]);
    let mut peer = server.connect();
    let start = Instant::now();
    peer.send(&[HELLO, &not_found, HELLO].concat());
    for (code, millis) in [(200, 300), (404, 300), (200, 600)] {
        assert_eq!(status(&peer.response()), code, "in their order");
        assert!(start.elapsed() >= Duration::from_millis(millis));
    }
}

#[test]
fn a_request_before_the_signal_gets_its_response_after_it() {
    let is_served_after_it = |_| {
        let server = Process::start(&["--delay", "300ms", "--log", "warn"]);
        let [mut one, mut other, mut witness] = [(); 3].map(|()| server.connect());
        one.send(HELLO);
        other.send(HELLO);
        // It is served after the others, so the server has read them.
        witness.send(&HELLO.replace("/hello", "/other"));
        assert_eq!(status(&witness.response()), 404);
        server.signal(Signal::TERM);
        let responses = [&mut one, &mut other].map(Peer::rest);
        assert_eq!(responses.each_ref().map(|response| status(response)), [200; 2]);
        drop((one, other, witness));
        assert_eq!(server.wait().status.code(), Some(0));
        responses.iter().all(|response| field(response, "Connection") == Some("close"))
    };
    // A busy machine may be late with the signal.
    assert!((0..9).any(is_served_after_it));
}
