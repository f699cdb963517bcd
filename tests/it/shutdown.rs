//! What a signal does to the connections.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onepoll::limits::{DEFERRED_TIME_MAX, DEFERRED_TIMEOUT};
use rustix::net::{Shutdown, shutdown};

use onepoll::limits::SIGNAL_REPEAT;

use crate::harness::*;

/// Far above the time of a stop that waits for no client, and far below the minutes for which a
/// stop in these tests may wait for one.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn idle_and_silent_connections_are_closed_at_the_idle_grace() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Process::start(&[]);
        let mut idle = server.connect();
        idle.send(HELLO);
        assert_eq!(status(&idle.response()), 200);
        let mut silent = server.connect();
        let mut silent_too = Peer::connect(server.diag);
        let (exited, took) = server.stop(signal);
        assert_eq!(exited.summary(), "responses 0, closed idle 3, aborted 0");
        assert_eq!(exited.status.code(), Some(0));
        assert!(took >= Duration::from_millis(250) && took < SOON, "{took:?}");
        for peer in [&mut idle, &mut silent, &mut silent_too] {
            assert_eq!(peer.rest(), "", "a FIN and no RST");
        }
    }
}

#[test]
fn without_connections_a_stop_takes_no_time() {
    let server = Process::start(&["--idle-grace", "1m", "--drain", "2m"]);
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    assert!(took < SOON, "{took:?}");
}

#[test]
fn during_the_idle_grace_idle_connections_are_still_served() {
    let mut server = Process::start(&["--idle-grace", "5m"]);
    let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
    for peer in &mut peers[1..] {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
    }
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    for peer in &mut peers {
        peer.send(HELLO);
        let response = peer.rest();
        assert_eq!(field(&response, "Connection"), Some("close"), "{response:?}");
    }
    drop(peers);
    let exited = server.wait();
    assert_eq!(exited.summary(), "responses 4, closed idle 0, aborted 0");
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn a_request_that_has_begun_may_be_finished() {
    let mut server = Process::start(&["--drain", "1m"]);
    let (head, body) = ("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", "abcdef");
    let request = [head, body].concat();
    let cuts = [5, head.len(), request.len() - 1];
    let mut peers: Vec<Peer> = cuts.iter().map(|_| server.connect()).collect();
    for (peer, cut) in peers.iter_mut().zip(cuts) {
        peer.send(&request[..cut]);
    }
    // It is served after the others, so the server has read them.
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    assert_eq!(other.rest(), "", "the idle connection is closed at the end of the idle grace");
    for (peer, cut) in peers.iter_mut().zip(cuts) {
        peer.send(&request[cut..]);
        let response = peer.rest();
        assert_eq!(status(&response), 200);
        assert_eq!(field(&response, "Connection"), Some("close"), "{response:?}");
    }
    drop(peers);
    let exited = server.wait();
    assert_eq!(exited.summary(), "responses 3, closed idle 1, aborted 0");
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn at_the_deadline_unfinished_requests_are_aborted() {
    let server = Process::start(&["--drain", "500ms"]);
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    let mut diag_half = Peer::connect(server.diag);
    diag_half.send("POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    let mut diag_other = Peer::connect(server.diag);
    diag_other.send(READY);
    assert_eq!(status(&diag_other.response()), 200);
    let (exited, took) = server.stop(Signal::INT);
    assert_eq!(exited.summary(), "responses 0, closed idle 2, aborted 2");
    assert_eq!(exited.status.code(), Some(3));
    assert!(took >= Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_drain_of_no_time_aborts_at_once() {
    let server = Process::start(&["--drain", "0s", "--idle-grace", "5m"]);
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.response()), 200);
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.summary(), "responses 0, closed idle 1, aborted 1");
    assert_eq!(exited.status.code(), Some(3));
    assert!(took < SOON, "{took:?}");
}

/// A server with half a request on one connection, for which a drain would wait for a minute.
fn with_half_a_request(options: &[&str]) -> (Process, Peer) {
    let server = Process::start(&[&["--drain", "1m"], options].concat());
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    // It is served after the other one, so the server has read that.
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    (server, half)
}

#[test]
fn an_interrupt_that_follows_another_signal_ends_the_process_at_once() {
    for first in [Signal::INT, Signal::TERM, Signal::HUP] {
        for options in [&[][..], &["--lame-duck", "1m"]] {
            let (mut server, _half) = with_half_a_request(options);
            server.signal(first);
            server.wait_for_log("Signal '");
            thread::sleep(SIGNAL_REPEAT);
            let (exited, _) = server.stop(Signal::INT);
            assert_eq!(exited.status.code(), Some(130), "{first:?} {options:?}");
            let said = |text: &str| exited.log.iter().any(|line| line.contains(text));
            assert!(said("Signal 'interrupt' received again: exiting at once"));
            assert!(said(" is aborted, after "), "{:#?}", exited.log);
            assert!(said("Exited after "), "{:#?}", exited.log);
            assert!(exited.summary().ends_with("aborted 1"), "{}", exited.summary());
        }
    }
}

#[test]
fn signals_that_machines_repeat_are_ignored() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::HUP)]
    {
        let (mut server, mut half) = with_half_a_request(&[]);
        server.signal(first);
        server.wait_for_log("Signal '");
        for _ in 0..3 {
            thread::sleep(SIGNAL_REPEAT / 2);
            server.signal(second);
        }
        server.wait_for_log("' is ignored");
        half.send(&HELLO[9..]);
        assert_eq!(status(&half.rest()), 200, "{first:?}, then {second:?}");
        drop(half);
        assert_eq!(server.wait().status.code(), Some(0));
    }
    // Both signals at once, as from a terminal and from a wrapper that forwards its own.
    let (server, mut half) = with_half_a_request(&[]);
    server.pause();
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    server.resume();
    half.send(&HELLO[9..]);
    assert_eq!(status(&half.rest()), 200);
    drop(half);
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn a_hangup_drains_and_user_signals_are_ignored() {
    let (mut server, mut half) = with_half_a_request(&["--lame-duck", "50ms"]);
    for (signal, name) in [(Signal::USR1, "1"), (Signal::USR2, "2")] {
        server.signal(signal);
        server.wait_for_log(&format!("Signal 'user defined signal {name}' is ignored"));
    }
    server.signal(Signal::HUP);
    server.wait_for_log("Signal 'hangup' received");
    half.send(&HELLO[9..]);
    assert_eq!(field(&half.rest(), "Connection"), Some("close"));
    drop(half);
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn the_queue_is_served_before_the_listeners_close() {
    let mut server = Process::start(&[]);
    let mut peers = server.terminate_with_a_queue();
    for peer in &mut peers {
        let response = peer.rest();
        assert_eq!(status(&response), 200);
        assert_eq!(field(&response, "Connection"), Some("close"));
    }
    drop(peers);
    server.wait_for_log("Signal 'terminated' received");
    let exited = server.wait();
    assert_eq!(exited.summary(), "responses 200, closed idle 0, aborted 0");
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn without_any_time_clients_in_the_queue_count_as_aborted() {
    let server = Process::start(&["--drain", "0s"]);
    let mut peers = server.terminate_with_a_queue();
    let responses = peers.iter_mut().map(|peer| peer.try_response(false));
    let served = responses.filter(Result::is_ok).count();
    let exited = server.wait();
    assert!(served < peers.len(), "a tick accepts no more than a few");
    let summary = format!("responses {served}, closed idle 0, aborted {}", peers.len() - served);
    assert_eq!(exited.summary(), summary);
    assert_eq!(exited.status.code(), Some(3));
}

#[test]
fn after_the_stop_the_port_is_closed() {
    let server = Process::start(&[]);
    let address = server.main;
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    let refused = TcpStream::connect_timeout(&address, TIMEOUT).expect_err("the port is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_restart_need_not_wait_for_old_connections() {
    let server = Process::start(&[]);
    let address = server.main.to_string();
    let mut peer = server.connect();
    // The server closes the connection first, which stays in TIME_WAIT for a minute.
    peer.send(&HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(status(&peer.rest()), 200);
    drop(peer);
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    let ports = ["--listen", &address, "--diag", "127.0.0.1:0"];
    let server = Process::spawn(onepoll().args(ports));
    assert_eq!(server.main.to_string(), address);
}

#[test]
fn a_batch_that_was_sent_before_the_signal_is_served_whole() {
    let server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    peer.send(HELLO);
    assert_eq!(status(&peer.response()), 200);
    server.pause();
    peer.send(&HELLO.repeat(1000));
    server.signal(Signal::TERM);
    server.resume();
    let responses = peer.rest();
    assert_eq!(responses.matches("Hello world.").count(), 1000);
    assert_eq!(responses.matches("Connection: close").count(), 1);
    assert!(responses.rfind("Connection: close") > responses.rfind("Date: "));
    drop(peer);
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn clients_that_send_request_after_request_lose_nothing() {
    let server = Process::start(&["--log", "warn", "--idle-grace", "5m"]);
    let (address, stopping) = (server.main, AtomicBool::new(false));
    let exited = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..16).map(|_| scope.spawn(|| ask_until_close(address, &stopping))).collect();
        // Every client has time to send some requests.
        let mut witness = server.connect();
        for _ in 0..500 {
            witness.send(HELLO);
            assert_eq!(status(&witness.response()), 200);
        }
        drop(witness);
        stopping.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
        clients.into_iter().map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(exited, [true; 16], "each client gets the close");
    assert_eq!(server.wait().status.code(), Some(0));
}

/// Sends requests on one connection until a response announces the close.
fn ask_until_close(address: SocketAddr, stopping: &AtomicBool) -> bool {
    let mut peer = Peer::connect(address);
    loop {
        peer.send(HELLO);
        let response = peer.response();
        assert_eq!(status(&response), 200);
        if field(&response, "Connection") == Some("close") {
            return stopping.load(Ordering::SeqCst);
        }
    }
}

#[test]
fn a_client_that_stays_after_its_last_response_does_not_delay_the_exit() {
    let mut server = Process::start(&[]);
    let mut peer = server.connect();
    peer.send(&HELLO[..9]);
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    peer.send(&HELLO[9..]);
    assert_eq!(status(&peer.rest()), 200);
    let exited = server.wait();
    assert_eq!(exited.status.code(), Some(0));
    assert_eq!(exited.summary(), "responses 1, closed idle 1, aborted 0");
}

#[test]
fn a_signal_during_the_start_is_not_lost() {
    for _ in 0..20 {
        let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
        let mut server = Process::spawn_unready(onepoll().args(ports));
        server.wait_for_log("Starting Diagnostics Server");
        let (exited, _) = server.stop(Signal::TERM);
        assert_eq!(exited.status.code(), Some(0), "{:#?}", exited.log);
        assert!(exited.log.iter().any(|line| line.contains("Signal 'terminated' received")));
    }
}

#[test]
fn a_listener_that_fails_stops_the_other_too() {
    let mut server = Process::start(&[]);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.response()), 200);
    let (main, diag) = (server.main, server.diag);
    let sockets = server.listening_sockets();
    let (_, socket) = sockets.iter().find(|(bound, _)| *bound == diag).expect("it listens");
    shutdown(socket, Shutdown::Both).expect("it is a socket");
    server.wait_for_log(&format!("Diagnostics Server on {diag} failed: Invalid argument"));
    assert_eq!(idle.rest(), "");
    let exited = server.wait();
    assert_eq!(exited.status.code(), Some(1), "{main}: {:#?}", exited.log);
    assert_eq!(exited.summary(), "responses 0, closed idle 1, aborted 0");
}

#[test]
fn a_lame_duck_serves_all_clients_and_announces_the_stop() {
    let mut server = Process::start(&["--lame-duck", "10m"]);
    let mut early = server.connect();
    let mut watching = Peer::connect(server.diag);
    for (peer, request) in [(&mut early, HELLO), (&mut watching, READY)] {
        peer.send(request);
        let response = peer.response();
        assert_eq!((status(&response), field(&response, "Connection")), (200, None));
    }
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    // On both ports, old connections and new ones are served.
    let (mut late, mut newly_watching) = (server.connect(), Peer::connect(server.diag));
    for peer in [&mut early, &mut late] {
        peer.send(&HELLO.repeat(3));
        let responses = peer.rest();
        assert_eq!(responses.matches("Hello world.").count(), 3);
        assert_eq!(responses.matches("Connection: close").count(), 1, "the last one says so");
    }
    for _ in 0..2 {
        for peer in [&mut watching, &mut newly_watching] {
            peer.send(READY);
            let response = peer.response();
            assert_eq!(status(&response), 503);
            assert!(response.ends_with("\r\n\r\ndraining"), "{response:?}");
            assert_eq!(field(&response, "Connection"), None, "a client of diagnostics may go on");
        }
    }
}

#[test]
fn after_a_lame_duck_comes_the_idle_grace() {
    let server = Process::start(&["--lame-duck", "300ms"]);
    let mut idle = server.connect();
    let mut watching = Peer::connect(server.diag);
    for (peer, request) in [(&mut idle, HELLO), (&mut watching, READY)] {
        peer.send(request);
        assert_eq!(status(&peer.response()), 200);
    }
    let start = Instant::now();
    server.signal(Signal::TERM);
    for peer in [&mut idle, &mut watching] {
        assert_eq!(peer.rest(), "", "it had its time, and the idle grace");
        assert!(start.elapsed() >= Duration::from_millis(550));
    }
    drop((idle, watching));
    let exited = server.wait();
    assert_eq!(exited.status.code(), Some(0));
    assert_eq!(exited.summary(), "responses 0, closed idle 2, aborted 0", "since the signal");
}

#[test]
fn an_interrupt_skips_the_lame_duck() {
    let server = Process::start(&["--lame-duck", "1m"]);
    let (exited, took) = server.stop(Signal::INT);
    assert_eq!(exited.status.code(), Some(0));
    assert!(took < SOON, "{took:?}");

    let mut server = Process::start(&["--lame-duck", "1m"]);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    thread::sleep(SIGNAL_REPEAT);
    let (exited, _) = server.stop(Signal::INT);
    assert_eq!(exited.status.code(), Some(130), "the second one ends the process at once");
}

#[test]
fn the_deadline_counts_from_the_beginning_of_the_drain() {
    let server = Process::start(&["--lame-duck", "400ms", "--drain", "400ms"]);
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3));
    // The time in the summary is that of the drain, without the lame duck.
    let drained = millis_after("Aborted after ", &exited.log);
    assert!(drained >= Duration::from_millis(400), "{drained:?}");
    let lame_duck = took - drained;
    assert!(lame_duck >= Duration::from_millis(400), "{lame_duck:?}");
}

/// The time that follows these words in a log.
fn millis_after(words: &str, log: &[String]) -> Duration {
    let mut rests = log.iter().filter_map(|line| Some(line.split_once(words)?.1));
    let number = rests.next().and_then(|rest| rest.split(' ').next());
    let millis = number.and_then(|number| number.parse().ok());
    Duration::from_millis(millis.unwrap_or_else(|| panic!("no {words:?} in {log:#?}")))
}

#[test]
fn diagnostics_that_are_stuck_do_not_delay_the_main_listener() {
    let mut server = Process::start(&[]);
    let mut stuck = Peer::connect(server.diag);
    stuck.send("POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    let mut watching = Peer::connect(server.diag);
    watching.send(READY);
    assert_eq!(status(&watching.response()), 200);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.response()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    watching.send(READY);
    let response = watching.response();
    assert_eq!(status(&response), 503, "as long as a client can ask");
    assert_eq!(field(&response, "Connection"), None, "there is more to be seen");
    assert_eq!(idle.rest(), "");
    drop(idle);
    // With the idle connection gone, main is empty.
    let announces_close = |response: &str| field(response, "Connection") == Some("close");
    loop {
        watching.send(READY);
        let response = watching.response();
        assert_eq!(status(&response), 503);
        if announces_close(&response) {
            break;
        }
    }
    assert_eq!(watching.rest(), "");
    let refused = TcpStream::connect_timeout(&server.main, TIMEOUT).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let is_here = stuck.has_nothing_for(Duration::from_millis(1));
    assert!(is_here, "it is still connected to diagnostics");
}

#[test]
fn an_aborted_connection_is_logged_with_its_phase_and_time() {
    let server = Process::start(&["--drain", "500ms"]);
    let mut stuck = Peer::connect(server.diag);
    stuck.send("POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    let mut other = Peer::connect(server.diag);
    other.send(READY);
    assert_eq!(status(&other.response()), 200);
    let peer = stuck.stream.local_addr().expect("an address");
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3));
    let named = format!("[diag] Connection 1 from {peer} is aborted, after ");
    let time = millis_after(&named, &exited.log);
    assert!(time >= Duration::from_millis(500), "{time:?}");
    let line = exited.log.iter().find(|line| line.contains(&named));
    assert!(line.is_some_and(|line| line.ends_with(" ms in body")), "{:#?}", exited.log);
}

#[test]
fn responses_that_the_client_does_not_read_have_until_the_deadline() {
    let server = Process::start(&["--log", "warn", "--drain", "500ms"]);
    let mut peer = server.connect_with_little_room();
    peer.send_until_blocked();
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3));
    let is_aborted = |line: &String| line.contains(" ms in writing");
    assert!(exited.log.iter().any(is_aborted), "{:#?}", exited.log);

    at_a_pace(|| {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect_with_little_room();
        let sent = peer.send_until_blocked();
        let start = Instant::now();
        server.signal(Signal::TERM);
        // The last of the requests may have come only in part.
        peer.finish();
        peer.make_room();
        let served = peer.rest().matches("Hello world.").count();
        // After that time the close is announced although more requests come.
        let in_time = start.elapsed() < DEFERRED_TIME_MAX;
        assert!(served == sent / HELLO.len() || !in_time, "{served}");
        let exited = server.wait();
        assert_eq!(exited.status.code(), Some(0));
        assert_eq!(exited.log, [""; 0]);
        in_time
    });
}

#[test]
fn new_clients_are_shut_out_while_others_are_still_served() {
    let mut server = Process::start(&["--idle-grace", "5m"]);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.response()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    let new_client = TcpStream::connect_timeout(&server.main, Duration::from_millis(300));
    assert_eq!(new_client.expect_err("the SYN is ignored").kind(), ErrorKind::TimedOut);
    idle.send(HELLO);
    assert_eq!(field(&idle.rest(), "Connection"), Some("close"));
    let (main, _) = (server.main, drop(idle));
    assert_eq!(server.wait().status.code(), Some(0));
    let refused = TcpStream::connect_timeout(&main, TIMEOUT).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// The pace of a client in a stop. On a busy machine the server may take a slow client for silent.
/// The fate of such a client's requests proves nothing.
struct Pace {
    last: Instant,
    is_kept: bool,
}

impl Pace {
    fn begin() -> Pace {
        Pace { last: Instant::now(), is_kept: true }
    }

    /// Records that the client sends a request or gets a response.
    fn step(&mut self) {
        self.is_kept &= self.last.elapsed() < DEFERRED_TIMEOUT / 2;
        self.last = Instant::now();
    }
}

/// Repeats a conversation until the clients keep their pace. The first one does, unless the machine
/// is busy.
fn at_a_pace(talk: impl Fn() -> bool) {
    assert!((0..20).any(|_| talk()), "this machine is too busy for it");
}

/// Keeps so many requests on their way, with a new one for each response, until a response
/// announces the close. Returns the number of requests, the number of responses, and whether the
/// client kept its pace. Each request is sent in two parts, so that the server often reads one and
/// a half.
fn ask_in_a_window(peer: &mut Peer, window: usize) -> (usize, usize, bool) {
    let mut pace = Pace::begin();
    peer.send(&HELLO.repeat(window));
    let (mut asked, mut served) = (window, 0);
    while let Ok(response) = peer.try_response(false) {
        served += 1;
        let close = "Connection: close";
        let is_closing = response.contains(close) || peer.has_received(close);
        let (first, second) = HELLO.split_at(served % HELLO.len());
        if !is_closing && peer.try_send(first).and(peer.try_send(second)).is_ok() {
            asked += 1;
            pace.step();
        }
    }
    (asked, served, pace.is_kept)
}

/// Stops a server while clients with a window of requests ask; returns whether all kept their pace.
fn stop_with_a_window(options: &[&str], window: usize) -> bool {
    let server = Process::start(options);
    let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
    let mut witness = server.connect();
    let is_kept = thread::scope(|scope| {
        let clients: Vec<_> = peers
            .iter_mut()
            .map(|peer| scope.spawn(move || ask_in_a_window(peer, window)))
            .collect();
        for _ in 0..200 {
            witness.send(HELLO);
            assert_eq!(status(&witness.response()), 200);
        }
        server.signal(Signal::TERM);
        clients.into_iter().fold(true, |all, client| {
            let (asked, served, is_kept) = client.join().expect("no panic");
            assert!(
                asked == served || !is_kept,
                "{served} responses to {asked} requests, with a window of {window}"
            );
            all && is_kept
        })
    });
    drop((peers, witness));
    // A lame duck goes on without clients, for minutes.
    if !options.contains(&"--lame-duck") {
        assert_eq!(server.wait().status.code(), Some(0));
    }
    is_kept
}

#[test]
fn clients_with_a_window_of_requests_lose_none() {
    for options in [&["--log", "warn"][..], &["--log", "warn", "--lame-duck", "10m"]] {
        for window in [2, 16, 128] {
            at_a_pace(|| stop_with_a_window(options, window));
        }
    }
}

#[test]
fn a_client_that_sends_half_requests_gets_the_close_in_the_end() {
    at_a_pace(|| {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect();
        peer.send(&[HELLO, HELLO, &HELLO[..9]].concat());
        for _ in 0..2 {
            assert_eq!(status(&peer.response()), 200);
        }
        let (start, mut pace) = (Instant::now(), Pace::begin());
        server.signal(Signal::TERM);
        // The input always ends with the beginning of another request.
        let mut asked = 0;
        while peer.has_nothing_for(Duration::from_millis(20)) {
            if peer.try_send(&[&HELLO[9..], &HELLO[..9]].concat()).is_ok() {
                asked += 1;
            }
            pace.step();
        }
        pace.step();
        if !pace.is_kept {
            return false;
        }
        let responses = peer.rest();
        assert_eq!(responses.matches("Connection: close").count(), 1);
        assert!(asked > 1 && responses.matches("Hello world.").count() > 1);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        drop(peer);
        assert_eq!(server.wait().status.code(), Some(0));
        true
    });
}

/// Pauses a process while it defers the responses to three requests; returns whether that succeeds.
fn paused_while_it_defers(peer: &mut Peer, server: &Process) -> bool {
    peer.send(&HELLO.repeat(2));
    for _ in 0..2 {
        assert_eq!(status(&peer.response()), 200);
    }
    let mut witness = server.connect();
    server.signal(Signal::TERM);
    loop {
        witness.send(HELLO);
        if field(&witness.response(), "Connection") == Some("close") {
            break;
        }
    }
    peer.send(&HELLO.repeat(3));
    let waits = peer.has_nothing_for(Duration::from_millis(50));
    server.pause();
    waits && peer.has_nothing_for(Duration::from_millis(1))
}

#[test]
fn requests_that_came_while_the_process_was_paused_are_in_time() {
    for _ in 0..9 {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect();
        if paused_while_it_defers(&mut peer, &server) {
            // The time of the deferral ends while the process is paused.
            peer.send(&HELLO.repeat(3));
            assert!(peer.has_nothing_for(Duration::from_millis(1200)));
            server.resume();
            assert_eq!(peer.rest().matches("Hello world.").count(), 6);
            drop(peer);
            assert_eq!(server.wait().status.code(), Some(0));
            return;
        }
    }
    panic!("this machine is too busy to pause a process in time");
}

#[test]
fn without_any_time_a_batch_that_has_come_is_served() {
    for depth in [2, 16, 400] {
        let server = Process::start(&["--drain", "0s", "--log", "warn"]);
        let mut peer = server.connect();
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
        server.pause();
        peer.send(&HELLO.repeat(depth));
        server.signal(Signal::TERM);
        server.resume();
        let responses = peer.rest();
        assert_eq!(responses.matches("Hello world.").count(), depth);
        assert_eq!(responses.matches("Connection: close").count(), 1);
        assert_eq!(server.wait().status.code(), Some(0));
    }
}

#[test]
fn a_client_that_never_stops_gets_the_close_too() {
    at_a_pace(|| {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect();
        peer.send(&HELLO.repeat(2));
        for _ in 0..2 {
            assert_eq!(status(&peer.response()), 200);
        }
        let (start, mut pace) = (Instant::now(), Pace::begin());
        server.signal(Signal::TERM);
        // The client sends without waiting for responses, at intervals below the deferral timeout.
        let mut responses = 0;
        while peer.has_nothing_for(Duration::from_millis(20)) || {
            responses += 1;
            field(&peer.response(), "Connection") != Some("close")
        } {
            if peer.try_send(HELLO).is_err() {
                break;
            }
            pace.step();
        }
        pace.step();
        assert!(responses > 1 || !pace.is_kept);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        drop(peer);
        assert_eq!(server.wait().status.code(), Some(0));
        pace.is_kept
    });
}
