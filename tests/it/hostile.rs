//! Clients that misbehave, and a machine that runs short.

use std::io::Write;
use std::time::{Duration, Instant};

use onepoll::limits::{ACCEPT_PAUSE, EMPTY_LINES_MAX, HEAD_MAX};
use rustix::net::sockopt::set_tcp_cork;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::harness::*;

#[test]
fn a_dribbled_request_is_served() {
    let server = Process::start(&[]);
    let mut peer = server.connect();
    for byte in HELLO.chars() {
        peer.send(&byte.to_string());
    }
    assert_eq!(status(&peer.response()), 200);
}

#[test]
fn error_responses_reach_the_client_whole_and_end_the_connection() {
    let server = Process::start(&[]);
    let long_field = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX));
    let long_line = format!("GET /{}", "x".repeat(HEAD_MAX));
    let tls_hello = "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03";
    for (input, code) in [
        ("nonsense\r\n\r\n", 400),
        (tls_hello, 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\n\r\n", 400),
        (&"\r\n".repeat(EMPTY_LINES_MAX + 1), 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
        (&long_line, 414),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417),
        (&long_field, 431),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/3.0\r\n\r\n", 505),
    ] {
        let mut peer = server.connect();
        peer.send(input);
        let response = peer.response();
        assert_eq!(status(&response), code, "{input:?}");
        assert_eq!(field(&response, "Connection"), Some("close"), "{input:?}");
        assert!(field(&response, "Date").is_some(), "{input:?}");
        assert_eq!(peer.rest(), "", "{input:?}");
    }
}

#[test]
fn an_error_response_reaches_a_client_that_is_still_sending() {
    let server = Process::start(&[]);
    for _ in 0..20 {
        let mut peer = server.connect();
        peer.send(&["nonsense\r\n\r\n", &"x".repeat(64 * 1024)].concat());
        assert_eq!(status(&peer.rest()), 400);
    }
}

#[test]
fn a_request_and_a_fin_in_one_packet_are_both_seen() {
    let server = Process::start(&[]);
    for _ in 0..20 {
        let mut peer = server.connect();
        // TCP_CORK delays the request, which leaves together with the FIN.
        set_tcp_cork(&peer.stream, true).expect("a socket option");
        peer.send(HELLO);
        peer.finish();
        assert!(peer.rest().ends_with("Hello world."));
    }
}

#[test]
fn a_line_end_behind_the_last_request_destroys_no_response() {
    let server = Process::start(&["--log", "warn"]);
    let post = "POST /hello HTTP/1.0\r\nContent-Length: 1\r\n\r\nx";
    for request in [post, "GET /hello HTTP/1.0\r\n\r\n"] {
        for round in 0..300 {
            let mut peer = server.connect();
            peer.send(request);
            // The server may be anywhere between the read and the close.
            let _ = peer.stream.write_all(b"\r\n");
            let response = peer.try_response(false);
            let response = response.unwrap_or_else(|error| panic!("{request:?} {round}: {error}"));
            assert!(response.ends_with("Hello world."), "{response}");
        }
    }
}

#[test]
fn a_client_that_has_sent_its_fin_is_still_served() {
    let server = Process::start(&[]);
    for depth in [1, 3, 1000] {
        let mut peer = server.connect();
        peer.send(&HELLO.repeat(depth));
        peer.finish();
        assert_eq!(peer.rest().matches("Hello world.").count(), depth);
    }
}

#[test]
fn resets_at_every_stage_harm_no_other_client() {
    let server = Process::start(&["--log", "off"]);
    let mut witness = server.connect();
    let responses_to_read = HELLO.repeat(20_000);
    for stage in [
        "",
        "GET /hel",
        HELLO,
        &responses_to_read,
        "nonsense\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ] {
        for _ in 0..20 {
            let mut peer = server.connect();
            peer.send(stage);
            peer.reset();
        }
        witness.send(HELLO);
        assert_eq!(status(&witness.response()), 200, "after resets at {stage:?}");
    }
}

/// The number of descriptors that a server has open.
fn open(server: &Process) -> u64 {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
    descriptors.expect("proc(5)").count() as u64
}

/// Sets the number of descriptors that a server may have open.
fn limit(server: &Process, most: u64) {
    let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("it is our child");
}

#[test]
fn without_descriptors_connections_are_served_and_new_clients_wait() {
    let mut server = Process::start(&[]);
    limit(&server, open(&server) + 1);
    let mut peers: Vec<Peer> = (0..300).map(|_| server.connect()).collect();
    server.wait_for_log("pauses accepting");
    for peer in &mut peers {
        peer.send(HELLO);
    }
    // A client that has its response leaves, and the next one is accepted. With a pause for each
    // client, or for every other one, the loop would take longer than the limit asserted below.
    let start = Instant::now();
    for mut peer in peers {
        assert_eq!(status(&peer.response()), 200);
    }
    assert!(start.elapsed() < 100 * ACCEPT_PAUSE);
    let (exited, _) = server.stop(Signal::TERM);
    let warnings = exited.log.iter().filter(|line| line.contains("pauses accepting"));
    assert_eq!(warnings.count(), 1, "one for the whole episode: {:#?}", exited.log);
    assert_eq!(exited.status.code(), Some(0));
}

/// Waits until a server has gone to sleep a few times more (proc(5)).
fn let_it_sleep(server: &Process) {
    let sleeps = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
        let status = status.expect("a status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t"));
        count.and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    let before = sleeps();
    wait_for("it sleeps", || (sleeps() >= before + 3).then_some(()));
}

#[test]
fn a_lack_of_descriptors_is_logged_once_for_both_listeners() {
    let mut server = Process::start(&[]);
    limit(&server, 3);
    let mut peers = [server.connect(), Peer::connect(server.diag)];
    server.wait_for_log("pauses accepting");
    // After some pauses and attempts, both listeners have met the lack.
    let_it_sleep(&server);
    limit(&server, 1000);
    for (peer, request) in peers.iter_mut().zip([HELLO, READY]) {
        peer.send(request);
        assert_eq!(status(&peer.response()), 200);
    }
    // That episode is over, and the next one is logged again.
    limit(&server, 3);
    let mut late = server.connect();
    let_it_sleep(&server);
    limit(&server, 1000);
    late.send(HELLO);
    assert_eq!(status(&late.response()), 200);
    drop((peers, late));
    let (exited, _) = server.stop(Signal::TERM);
    let warnings = exited.log.iter().filter(|line| line.contains("pauses accepting"));
    assert_eq!(warnings.count(), 2, "{:#?}", exited.log);
}

#[test]
fn without_descriptors_a_stop_waits_only_for_clients_in_the_queue() {
    let server = Process::start(&[]);
    limit(&server, 3);
    // Far below the minutes of its drain.
    let (exited, took) = server.stop(Signal::TERM);
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(exited.status.code(), Some(0));
    assert!(!exited.log.iter().any(|line| line.contains("WARN")), "{:#?}", exited.log);

    let server = Process::start(&["--drain", "500ms"]);
    limit(&server, 3);
    let mut peers: Vec<Peer> = (0..5).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(HELLO);
    }
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3), "clients were waiting: {:#?}", exited.log);
}

#[test]
fn descriptors_that_come_back_unannounced_are_found() {
    let mut server = Process::start(&[]);
    limit(&server, 3);
    let mut peer = server.connect();
    peer.send(HELLO);
    server.wait_for_log("pauses accepting");
    let before = cpu_ticks(&server);
    assert!(peer.has_nothing_for(Duration::from_millis(500)));
    // A tick is a hundredth of a second. A loop that spins would have used fifty.
    let used = cpu_ticks(&server) - before;
    assert!(used < 15, "{used} ticks");
    limit(&server, 1000);
    assert_eq!(status(&peer.response()), 200, "no event announces the descriptors");
}

/// The time that a server has spent on a processor, its own and the kernel's (proc(5)).
fn cpu_ticks(server: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields = fields.split(' ').skip(12).take(2);
    fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[test]
fn each_timeout_closes_its_connections_and_is_never_early() {
    let mut server = Process::start(&[
        "--idle-timeout=800ms",
        "--header-timeout=200ms",
        "--body-timeout=400ms",
        "--write-timeout=600ms",
        "--body-size=1048576",
        "--log=debug",
    ]);
    let post = "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n";
    // When the server resumes, all input has arrived on any machine.
    server.pause();
    let [mut head, mut body, mut idle] = [(); 3].map(|()| server.connect());
    let mut deaf = server.connect_with_little_room();
    head.send("GET /");
    body.send(post);
    idle.send(&HELLO.replace("/hello", "/nowhere"));
    deaf.send(&HELLO.repeat(20));
    let start = Instant::now();
    server.resume();

    assert_eq!(status(&idle.response()), 404);
    for (peer, millis) in [(&mut head, 200), (&mut body, 400)] {
        let response = peer.rest();
        assert!(start.elapsed() >= Duration::from_millis(millis));
        assert_eq!(status(&response), 408, "{response:?}");
        assert_eq!(field(&response, "Connection"), Some("close"));
    }
    server.wait_for_log("has timed out: writing");
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert_eq!(idle.rest(), "", "it is closed in the end");
    assert!(start.elapsed() >= Duration::from_millis(800));
    drop((head, body));
    let (exited, _) = server.stop(Signal::TERM);
    let told = exited.log.iter().find(|line| line.contains("Timeouts since the start: "));
    let told = told.expect("some have timed out");
    for timeout in ["idle 1", "head 1", "body 1", "writing 1"] {
        assert!(told.contains(timeout), "{timeout} is not in {told}");
    }
}

#[test]
fn ten_thousand_waiting_clients_cost_little_and_delay_no_other() {
    // Both processes need a descriptor for each, and a few more.
    let limits = getrlimit(Resource::Nofile);
    let most = limits.maximum.unwrap_or(20_000);
    let raised = Rlimit { current: Some(most), ..limits };
    setrlimit(Resource::Nofile, raised).expect("no more than the hard limit");
    let crowd = usize::try_from(most).map_or(10_000, |most| most.saturating_sub(500).min(10_000));

    let server = Process::start(&["--log", "off"]);
    let mut busy = server.connect();
    busy.send(HELLO);
    assert_eq!(status(&busy.response()), 200);
    let before = resident(&server);
    let mut waiting: Vec<Peer> = (0..crowd).map(|_| server.connect()).collect();
    // Some are silent, some have sent a request, and some half of one.
    for (at, peer) in waiting.iter_mut().enumerate() {
        match at % 3 {
            0 => {}
            1 => {
                peer.send(HELLO);
                assert_eq!(status(&peer.response()), 200);
            }
            _ => peer.send(&HELLO[..20]),
        }
    }
    for _ in 0..1_000 {
        busy.send(HELLO);
        assert_eq!(status(&busy.response()), 200);
    }
    let each = (resident(&server) - before) / crowd;
    assert!(each < 512, "{each} bytes for each of {crowd}");

    // All of them get the idle grace, and clients within a request finish it.
    let start = Instant::now();
    server.signal(Signal::TERM);
    for (at, peer) in waiting.iter_mut().enumerate() {
        if at % 3 == 2 {
            peer.send(&HELLO[20..]);
        }
        assert_eq!(peer.rest().matches("Hello world.").count(), usize::from(at % 3 == 2));
    }
    drop((waiting, busy));
    assert_eq!(server.wait().status.code(), Some(0));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?} of a drain of minutes");
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let server = Process::start(&["--log", "off"]);
    let mut witness = server.connect();
    witness.send(HELLO);
    assert_eq!(status(&witness.response()), 200);
    let before = open(&server);
    for _ in 0..500 {
        drop(server.connect());
    }
    // A later connection is served later, so by then all others have closed.
    let mut last = server.connect();
    last.send(&HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(status(&last.rest()), 200);
    drop(last);
    witness.send(HELLO);
    assert_eq!(status(&witness.response()), 200);
    assert!(open(&server) <= before + 1, "{} descriptors, and {before} before", open(&server));
}

#[test]
fn a_peer_that_resets_during_a_long_body_harms_no_other_client() {
    let server = Process::start(&["--body-size", "8388608", "--log", "warn"]);
    for _ in 0..20 {
        let mut peer = server.connect_with_little_room();
        peer.send(&HELLO.repeat(3));
        peer.finish();
        assert!(!peer.has_nothing_for(TIMEOUT), "it has begun");
        peer.reset();
        let mut witness = server.connect();
        witness.send(READY);
        assert_eq!(status(&witness.response()), 404);
    }
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
}
