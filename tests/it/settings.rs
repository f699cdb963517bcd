//! The settings, and their effects.

use std::net::{Ipv6Addr, TcpListener};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::harness::*;

#[test]
fn main_serves_the_path_and_the_body_that_were_set() {
    for (options, path, body) in [
        (&["--path=/", "--body=OK"][..], "/", "OK"),
        (&["--path", "/plaintext", "--body", "Hello, World!"], "/plaintext", "Hello, World!"),
        (&["--body", "gr\u{fc}n", "--body-size", "7"], "/hello", "gr\u{fc}n\ng"),
        (&["--body", ""], "/hello", ""),
    ] {
        let server = Process::start(options);
        let mut peer = server.connect();
        peer.send(&HELLO.replace("/hello", path));
        let response = peer.response();
        assert_eq!(status(&response), 200, "{options:?}");
        assert_eq!(response.split_once("\r\n\r\n").map(|(_, body)| body), Some(body));
        peer.send(&HELLO.replace("/hello", "/other"));
        assert_eq!(status(&peer.response()), 404, "{options:?}");
    }
}

#[test]
fn the_log_is_set_by_a_variable_of_its_own_and_else_by_rust_log() {
    let log = |variables: &[(&str, &str)]| {
        let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
        let server = Process::spawn(onepoll().args(ports).envs(variables.iter().copied()));
        let mut peer = server.connect();
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200, "{variables:?}");
        drop(peer);
        let (exited, _) = server.stop(Signal::TERM);
        assert_eq!(exited.status.code(), Some(0), "{variables:?}");
        exited.log
    };
    let with = |log: &[String], text: &str| log.iter().filter(|line| line.contains(text)).count();
    let own = log(&[("ONEPOLL_LOG", "off"), ("RUST_LOG", "trace,hyper=info")]);
    assert_eq!(own, [""; 0]);
    let others = log(&[("RUST_LOG", "warn,hyper=info,tower")]);
    assert_eq!(others.len(), 1, "{others:#?}");
    assert_eq!(with(&others, "'hyper=info,tower' is passed over"), 1, "{others:#?}");
    let debug = log(&[("RUST_LOG", "onepoll=debug")]);
    assert_eq!(with(&debug, "passed over"), 0, "{debug:#?}");
    assert_eq!(with(&debug, "DEBUG [main] Connection 1 accepted"), 1, "{debug:#?}");
}

#[test]
fn a_probe_does_not_look_at_rust_log() {
    let server = Process::start(&[]);
    let url = format!("http://{}/ready", server.diag);
    let output = onepoll().args(["--probe", &url]).env("RUST_LOG", "warn,hyper=info").output();
    let output = output.expect("it can be run");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn one_port_for_both_listeners_is_refused_by_both_names() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    for (listen, diag) in [
        ("127.0.0.1:P", "127.0.0.1:P"),
        ("0.0.0.0:P", "127.0.0.1:P"),
        ("[::]:P", "127.0.0.1:P"),
        ("127.0.0.1:P", "[::]:P"),
        ("P", "P"),
    ] {
        let [listen, diag] = [listen, diag].map(|text| text.replace('P', &port.to_string()));
        for more in [&["--reuse-port"][..], &[]] {
            let output = onepoll()
                .args(["--listen", &listen, "--diag", &diag])
                .args(more)
                .output()
                .expect("it can be run");
            let line = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            let [main, diag] = ["] Server on ", " and Diagnostics Server on "];
            for part in [main, diag, "cannot share a port", &port.to_string()] {
                assert!(line.contains(part), "{part} is not in {line}");
            }
        }
    }
    if has_ipv6 {
        let port = port.to_string();
        let addresses = ["0.0.0.0:P", "[::1]:P"].map(|text| text.replace('P', &port));
        let [listen, diag] = &addresses;
        let server = Process::spawn(onepoll().args(["--listen", listen, "--diag", diag]));
        for (address, request) in [(server.main, HELLO), (server.diag, READY)] {
            let mut peer = Peer::connect(([127, 0, 0, 1], address.port()).into());
            if address == server.diag {
                peer = Peer::connect(address);
            }
            peer.send(request);
            assert_eq!(status(&peer.response()), 200, "these are apart");
        }
    }
}

/// Starts a server under limits of descriptors, soft and hard.
fn start_with_descriptors(soft: u32, hard: u32, options: &[&str]) -> Process {
    let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")]).env_clear();
    command.args(["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"]).args(options);
    Process::spawn(command.stderr(std::process::Stdio::piped()))
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let server = start_with_descriptors(40, 400, &[]);
    let mut peers: Vec<Peer> = (0..200).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200, "all of them are connected");
    }
}

#[test]
fn diagnostics_responds_while_main_has_used_up_its_connections() {
    for (soft, hard, options) in [
        (64, 64, &[][..]),
        (64, 64, &["--max-connections", "1000"]),
        (400, 400, &["--max-connections", "20"]),
    ] {
        let mut server = start_with_descriptors(soft, hard, options);
        let mut peers: Vec<Peer> = (0..80).map(|_| server.connect()).collect();
        server.wait_for_log("Server pauses accepting: it has ");
        let mut watching: Vec<Peer> = (0..8).map(|_| Peer::connect(server.diag)).collect();
        for peer in &mut watching {
            peer.send(READY);
            assert_eq!(status(&peer.response()), 200);
        }
        let url = format!("http://{}/ready", server.diag);
        let probe = onepoll().args(["--probe", &url]).output().expect("it can be run");
        assert_eq!(probe.status.code(), Some(0));
        // Each connection that closes makes room for another one.
        for mut peer in peers.drain(..) {
            peer.send(HELLO);
            assert_eq!(status(&peer.response()), 200);
        }
        drop(watching);
        let (exited, _) = server.stop(Signal::TERM);
        assert_eq!(exited.status.code(), Some(0));
        let with = |text: &str| exited.log.iter().filter(|line| line.contains(text)).count();
        assert_eq!(with("pauses accepting"), 1, "one for the episode: {:#?}", exited.log);
        let is_told = options.last() == Some(&"1000");
        assert_eq!(with("connections instead of 1000: the limit"), usize::from(is_told));
    }
}

#[test]
fn descriptors_at_high_numbers_are_counted_too() {
    let null = std::fs::File::open("/dev/null").expect("it is everywhere");
    let inherited = || {
        let high = fcntl_dupfd_cloexec(&null, 60).expect("a descriptor");
        fcntl_setfd(&high, FdFlags::empty()).expect("it is open");
        high
    };
    let high = [(); 20].map(|()| inherited());
    let mut server = start_with_descriptors(100, 100, &[]);
    drop(high);
    let _peers: Vec<Peer> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_log("Server pauses accepting: it has ");
    let mut peer = Peer::connect(server.diag);
    peer.send(READY);
    assert_eq!(status(&peer.response()), 200);
}

#[test]
fn a_service_whose_queue_is_never_long_says_once_that_it_is_full() {
    let server = Process::start(&["--max-connections", "1"]);
    let mut peer = server.connect();
    for _ in 0..10 {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
        let mut next = server.connect();
        assert!(next.has_nothing_for(std::time::Duration::from_millis(20)));
        peer = next;
    }
    let (exited, _) = server.stop(Signal::TERM);
    let warnings = exited.log.iter().filter(|line| line.contains("pauses accepting"));
    assert_eq!(warnings.count(), 1, "{:#?}", exited.log);
}

#[test]
fn a_full_service_does_not_spin_and_stops() {
    let server = Process::start(&["--max-connections", "2", "--drain", "2m"]);
    let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(HELLO);
    }
    for peer in &mut peers[..2] {
        assert_eq!(status(&peer.response()), 200);
    }
    let ticks = |server: &Process| {
        let mut peer = Peer::connect(server.diag);
        peer.send(&READY.replace("/ready", "/metrics"));
        let page = peer.response();
        let line = page.lines().find_map(|line| line.strip_prefix("onepoll_ticks_total "));
        line.and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    let before = ticks(&server);
    assert!(peers[2].has_nothing_for(std::time::Duration::from_millis(300)));
    let after = ticks(&server);
    assert!(after - before < 100, "{} ticks for nothing", after - before);
    // In a stop, waiting connections are accepted as others close.
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0), "{:#?}", exited.log);
    for peer in &mut peers[2..] {
        assert_eq!(status(&peer.rest()), 200, "it was in the queue");
    }
    assert_eq!(exited.summary(), "responses 2, closed idle 2, aborted 0");
}
