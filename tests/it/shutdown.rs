//! What a signal does to those who are connected.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onepoll::limits::{DEFERRED_TIME_MAX, DEFERRED_TIMEOUT};
use rustix::net::{Shutdown, shutdown};

use onepoll::limits::SIGNAL_REPEAT;

use crate::harness::*;

/// Far above what a stop takes that waits for no client, and far below the minutes for which these
/// tests let one wait.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn idle_and_silent_connections_are_closed_at_the_idle_grace() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Process::start(&[]);
        let mut idle = server.connect();
        idle.send(HELLO);
        assert_eq!(status(&idle.answer()), 200);
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
fn with_nobody_connected_a_stop_takes_no_time() {
    let server = Process::start(&["--idle-grace", "1m", "--drain", "2m"]);
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    assert!(took < SOON, "{took:?}");
}

#[test]
fn at_the_idle_grace_idle_connections_may_still_ask() {
    let mut server = Process::start(&["--idle-grace", "5m"]);
    let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
    for peer in &mut peers[1..] {
        peer.send(HELLO);
        assert_eq!(status(&peer.answer()), 200);
    }
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    for peer in &mut peers {
        peer.send(HELLO);
        let answer = peer.rest();
        assert_eq!(field(&answer, "Connection"), Some("close"), "{answer:?}");
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
    // Served behind the others, which have therefore been read.
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.answer()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    assert_eq!(other.rest(), "", "the idle one is closed at the end of the idle grace");
    for (peer, cut) in peers.iter_mut().zip(cuts) {
        peer.send(&request[cut..]);
        let answer = peer.rest();
        assert_eq!(status(&answer), 200);
        assert_eq!(field(&answer, "Connection"), Some("close"), "{answer:?}");
    }
    drop(peers);
    let exited = server.wait();
    assert_eq!(exited.summary(), "responses 3, closed idle 1, aborted 0");
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn at_the_deadline_what_is_unfinished_is_cut() {
    let server = Process::start(&["--drain", "500ms"]);
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    let mut diag_half = Peer::connect(server.diag);
    diag_half.send("POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.answer()), 200);
    let mut diag_other = Peer::connect(server.diag);
    diag_other.send(READY);
    assert_eq!(status(&diag_other.answer()), 200);
    let (exited, took) = server.stop(Signal::INT);
    assert_eq!(exited.summary(), "responses 0, closed idle 2, aborted 2");
    assert_eq!(exited.status.code(), Some(3));
    assert!(took >= Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_drain_of_no_time_cuts_at_once() {
    let server = Process::start(&["--drain", "0s", "--idle-grace", "5m"]);
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.answer()), 200);
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
    // Served behind the other one, which has therefore been read.
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.answer()), 200);
    (server, half)
}

#[test]
fn an_interrupt_that_follows_another_signal_leaves_at_once() {
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
fn signals_that_machines_repeat_are_no_news() {
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
    // Both at once, as from a terminal and from a wrapper that passes on what it has got.
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
fn a_hangup_drains_and_the_users_signals_mean_nothing() {
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
        let answer = peer.rest();
        assert_eq!(status(&answer), 200);
        assert_eq!(field(&answer, "Connection"), Some("close"));
    }
    drop(peers);
    server.wait_for_log("Signal 'terminated' received");
    let exited = server.wait();
    assert_eq!(exited.summary(), "responses 200, closed idle 0, aborted 0");
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn without_any_time_those_in_the_queue_count_as_cut() {
    let server = Process::start(&["--drain", "0s"]);
    let mut peers = server.terminate_with_a_queue();
    let answers = peers.iter_mut().map(|peer| peer.try_answer(false));
    let answered = answers.filter(Result::is_ok).count();
    let exited = server.wait();
    assert!(answered < peers.len(), "a tick accepts no more than a few");
    let summary =
        format!("responses {answered}, closed idle 0, aborted {}", peers.len() - answered);
    assert_eq!(exited.summary(), summary);
    assert_eq!(exited.status.code(), Some(3));
}

#[test]
fn after_the_stop_nobody_listens() {
    let server = Process::start(&[]);
    let address = server.main;
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    let refused = TcpStream::connect_timeout(&address, PATIENCE).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_restart_need_not_wait_for_old_connections() {
    let server = Process::start(&[]);
    let address = server.main.to_string();
    let mut peer = server.connect();
    // Closed by the server first, the connection stays in TIME_WAIT for a minute.
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
fn a_batch_that_was_sent_before_the_signal_is_answered_whole() {
    let server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    peer.send(HELLO);
    assert_eq!(status(&peer.answer()), 200);
    server.pause();
    peer.send(&HELLO.repeat(1000));
    server.signal(Signal::TERM);
    server.resume();
    let answers = peer.rest();
    assert_eq!(answers.matches("Hello world.").count(), 1000);
    assert_eq!(answers.matches("Connection: close").count(), 1);
    assert!(answers.rfind("Connection: close") > answers.rfind("Date: "));
    drop(peer);
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn clients_that_ask_again_and_again_lose_nothing() {
    let server = Process::start(&["--log", "warn", "--idle-grace", "5m"]);
    let (address, stopping) = (server.main, AtomicBool::new(false));
    let exited = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..16).map(|_| scope.spawn(|| ask_until_told(address, &stopping))).collect();
        // Let every client be in the middle of its conversation.
        let mut witness = server.connect();
        for _ in 0..500 {
            witness.send(HELLO);
            assert_eq!(status(&witness.answer()), 200);
        }
        drop(witness);
        stopping.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
        clients.into_iter().map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(exited, [true; 16], "each was told that the connection ends");
    assert_eq!(server.wait().status.code(), Some(0));
}

/// Asks on one connection until an answer announces the close.
fn ask_until_told(address: SocketAddr, stopping: &AtomicBool) -> bool {
    let mut peer = Peer::connect(address);
    loop {
        peer.send(HELLO);
        let answer = peer.answer();
        assert_eq!(status(&answer), 200);
        if field(&answer, "Connection") == Some("close") {
            return stopping.load(Ordering::SeqCst);
        }
    }
}

#[test]
fn who_has_the_last_answer_and_stays_holds_nobody_up_for_long() {
    let mut server = Process::start(&[]);
    let mut peer = server.connect();
    peer.send(&HELLO[..9]);
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.answer()), 200);
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
fn a_listener_that_fails_takes_the_other_along() {
    let mut server = Process::start(&[]);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.answer()), 200);
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
fn a_lame_duck_serves_everybody_and_says_that_it_will_end() {
    let mut server = Process::start(&["--lame-duck", "10m"]);
    let mut early = server.connect();
    let mut watching = Peer::connect(server.diag);
    for (peer, request) in [(&mut early, HELLO), (&mut watching, READY)] {
        peer.send(request);
        let answer = peer.answer();
        assert_eq!((status(&answer), field(&answer, "Connection")), (200, None));
    }
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    // On both ports, old connections and new ones are served.
    let (mut late, mut newly_watching) = (server.connect(), Peer::connect(server.diag));
    for peer in [&mut early, &mut late] {
        peer.send(&HELLO.repeat(3));
        let answers = peer.rest();
        assert_eq!(answers.matches("Hello world.").count(), 3);
        assert_eq!(answers.matches("Connection: close").count(), 1, "the last one says so");
    }
    for _ in 0..2 {
        for peer in [&mut watching, &mut newly_watching] {
            peer.send(READY);
            let answer = peer.answer();
            assert_eq!(status(&answer), 503);
            assert!(answer.ends_with("\r\n\r\ndraining"), "{answer:?}");
            assert_eq!(field(&answer, "Connection"), None, "who watches may go on");
        }
    }
}

#[test]
fn behind_a_lame_duck_comes_the_idle_grace() {
    let server = Process::start(&["--lame-duck", "300ms"]);
    let mut idle = server.connect();
    let mut watching = Peer::connect(server.diag);
    for (peer, request) in [(&mut idle, HELLO), (&mut watching, READY)] {
        peer.send(request);
        assert_eq!(status(&peer.answer()), 200);
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
fn an_interrupt_is_for_those_who_do_not_want_to_wait() {
    let server = Process::start(&["--lame-duck", "1m"]);
    let (exited, took) = server.stop(Signal::INT);
    assert_eq!(exited.status.code(), Some(0));
    assert!(took < SOON, "{took:?}");

    let mut server = Process::start(&["--lame-duck", "1m"]);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    thread::sleep(SIGNAL_REPEAT);
    let (exited, _) = server.stop(Signal::INT);
    assert_eq!(exited.status.code(), Some(130), "the second one leaves at once");
}

#[test]
fn the_deadline_counts_from_the_beginning_of_the_drain() {
    let server = Process::start(&["--lame-duck", "400ms", "--drain", "400ms"]);
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.answer()), 200);
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3));
    // The time that the summary gives is the drain's: the lame duck's comes on top of it.
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
    assert_eq!(status(&watching.answer()), 200);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.answer()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    watching.send(READY);
    let answer = watching.answer();
    assert_eq!(status(&answer), 503, "as long as somebody can ask");
    assert_eq!(field(&answer, "Connection"), None, "there is more to be seen");
    assert_eq!(idle.rest(), "");
    drop(idle);
    // Once it has gone, nobody is left on main.
    let told = |answer: &str| field(answer, "Connection") == Some("close");
    loop {
        watching.send(READY);
        let answer = watching.answer();
        assert_eq!(status(&answer), 503);
        if told(&answer) {
            break;
        }
    }
    assert_eq!(watching.rest(), "");
    let refused = TcpStream::connect_timeout(&server.main, PATIENCE).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let is_here = stuck.has_nothing_for(Duration::from_millis(1));
    assert!(is_here, "it is still connected to diagnostics");
}

#[test]
fn a_connection_that_is_cut_is_named_with_its_phase_and_time() {
    let server = Process::start(&["--drain", "500ms"]);
    let mut stuck = Peer::connect(server.diag);
    stuck.send("POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    let mut other = Peer::connect(server.diag);
    other.send(READY);
    assert_eq!(status(&other.answer()), 200);
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
fn answers_that_nobody_reads_have_until_the_deadline() {
    let server = Process::start(&["--log", "warn", "--drain", "500ms"]);
    let mut peer = server.connect_with_little_room();
    peer.send_until_held_back();
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3));
    let is_cut = |line: &String| line.contains(" ms in writing");
    assert!(exited.log.iter().any(is_cut), "{:#?}", exited.log);

    at_a_pace(|| {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect_with_little_room();
        let sent = peer.send_until_held_back();
        let start = Instant::now();
        server.signal(Signal::TERM);
        // The last of the requests may have come only in part.
        peer.finish();
        peer.make_room();
        let answered = peer.rest().matches("Hello world.").count();
        // Later than that, the close is announced although there is more.
        let in_time = start.elapsed() < DEFERRED_TIME_MAX;
        assert!(answered == sent / HELLO.len() || !in_time, "{answered}");
        let exited = server.wait();
        assert_eq!(exited.status.code(), Some(0));
        assert_eq!(exited.log, [""; 0]);
        in_time
    });
}

#[test]
fn newcomers_are_shut_out_while_others_are_still_served() {
    let mut server = Process::start(&["--idle-grace", "5m"]);
    let mut idle = server.connect();
    idle.send(HELLO);
    assert_eq!(status(&idle.answer()), 200);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    let newcomer = TcpStream::connect_timeout(&server.main, Duration::from_millis(300));
    assert_eq!(newcomer.expect_err("nobody answers").kind(), ErrorKind::TimedOut);
    idle.send(HELLO);
    assert_eq!(field(&idle.rest(), "Connection"), Some("close"));
    let (main, _) = (server.main, drop(idle));
    assert_eq!(server.wait().status.code(), Some(0));
    let refused = TcpStream::connect_timeout(&main, PATIENCE).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// The pace of a client in a stop. One that its machine holds up may be taken for silent, so that
/// what becomes of its requests proves nothing.
struct Pace {
    last: Instant,
    is_kept: bool,
}

impl Pace {
    fn begin() -> Pace {
        Pace { last: Instant::now(), is_kept: true }
    }

    /// Takes note that it asks, or is answered.
    fn step(&mut self) {
        self.is_kept &= self.last.elapsed() < DEFERRED_TIMEOUT / 2;
        self.last = Instant::now();
    }
}

/// Has clients talk until they have kept their pace: at once, unless the machine is busy.
fn at_a_pace(talk: impl Fn() -> bool) {
    assert!((0..20).any(|_| talk()), "this machine is too busy for it");
}

/// Keeps so many requests on their way, with a new one for each answer, until one that has
/// come announces the close; says how many were asked and how many were answered, and whether that
/// went at a pace. Each is sent in two parts, so that the server often reads one and a half.
fn ask_in_a_window(peer: &mut Peer, window: usize) -> (usize, usize, bool) {
    let mut pace = Pace::begin();
    peer.send(&HELLO.repeat(window));
    let (mut asked, mut answered) = (window, 0);
    while let Ok(answer) = peer.try_answer(false) {
        answered += 1;
        let close = "Connection: close";
        let told = answer.contains(close) || peer.has_received(close);
        let (first, second) = HELLO.split_at(answered % HELLO.len());
        if !told && peer.try_send(first).and(peer.try_send(second)).is_ok() {
            asked += 1;
            pace.step();
        }
    }
    (asked, answered, pace.is_kept)
}

/// Stops a server while clients with a window of requests ask; says whether all kept their pace.
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
            assert_eq!(status(&witness.answer()), 200);
        }
        server.signal(Signal::TERM);
        clients.into_iter().fold(true, |all, client| {
            let (asked, answered, is_kept) = client.join().expect("no panic");
            assert!(
                asked == answered || !is_kept,
                "{answered} answers to {asked} requests, with a window of {window}"
            );
            all && is_kept
        })
    });
    drop((peers, witness));
    // A lame duck goes on without them, for minutes.
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
fn who_asks_by_halves_is_told_in_the_end() {
    at_a_pace(|| {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect();
        peer.send(&[HELLO, HELLO, &HELLO[..9]].concat());
        for _ in 0..2 {
            assert_eq!(status(&peer.answer()), 200);
        }
        let (start, mut pace) = (Instant::now(), Pace::begin());
        server.signal(Signal::TERM);
        // There is always the beginning of another request.
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
        let answers = peer.rest();
        assert_eq!(answers.matches("Connection: close").count(), 1);
        assert!(asked > 1 && answers.matches("Hello world.").count() > 1);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        drop(peer);
        assert_eq!(server.wait().status.code(), Some(0));
        true
    });
}

/// Stops a process while it withholds the answers to three requests, if it is quick enough.
fn stopped_while_it_withholds(peer: &mut Peer, server: &Process) -> bool {
    peer.send(&HELLO.repeat(2));
    for _ in 0..2 {
        assert_eq!(status(&peer.answer()), 200);
    }
    let mut witness = server.connect();
    server.signal(Signal::TERM);
    loop {
        witness.send(HELLO);
        if field(&witness.answer(), "Connection") == Some("close") {
            break;
        }
    }
    peer.send(&HELLO.repeat(3));
    let waits = peer.has_nothing_for(Duration::from_millis(50));
    server.pause();
    waits && peer.has_nothing_for(Duration::from_millis(1))
}

#[test]
fn what_came_while_the_process_was_stopped_came_in_time() {
    for _ in 0..9 {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect();
        if stopped_while_it_withholds(&mut peer, &server) {
            // The time for which it withholds them ends while nobody looks.
            peer.send(&HELLO.repeat(3));
            assert!(peer.has_nothing_for(Duration::from_millis(1200)));
            server.resume();
            assert_eq!(peer.rest().matches("Hello world.").count(), 6);
            drop(peer);
            assert_eq!(server.wait().status.code(), Some(0));
            return;
        }
    }
    panic!("this machine is too busy to stop a process in time");
}

#[test]
fn without_any_time_a_batch_that_has_come_is_answered() {
    for depth in [2, 16, 400] {
        let server = Process::start(&["--drain", "0s", "--log", "warn"]);
        let mut peer = server.connect();
        peer.send(HELLO);
        assert_eq!(status(&peer.answer()), 200);
        server.pause();
        peer.send(&HELLO.repeat(depth));
        server.signal(Signal::TERM);
        server.resume();
        let answers = peer.rest();
        assert_eq!(answers.matches("Hello world.").count(), depth);
        assert_eq!(answers.matches("Connection: close").count(), 1);
        assert_eq!(server.wait().status.code(), Some(0));
    }
}

#[test]
fn who_never_stops_asking_is_told_all_the_same() {
    at_a_pace(|| {
        let server = Process::start(&["--log", "warn"]);
        let mut peer = server.connect();
        peer.send(&HELLO.repeat(2));
        for _ in 0..2 {
            assert_eq!(status(&peer.answer()), 200);
        }
        let (start, mut pace) = (Instant::now(), Pace::begin());
        server.signal(Signal::TERM);
        // It asks whether it is answered or not, and more often than a held answer waits.
        let mut answers = 0;
        while peer.has_nothing_for(Duration::from_millis(20)) || {
            answers += 1;
            field(&peer.answer(), "Connection") != Some("close")
        } {
            if peer.try_send(HELLO).is_err() {
                break;
            }
            pace.step();
        }
        pace.step();
        assert!(answers > 1 || !pace.is_kept);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        drop(peer);
        assert_eq!(server.wait().status.code(), Some(0));
        pace.is_kept
    });
}
