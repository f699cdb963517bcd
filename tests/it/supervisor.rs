//! A server under a supervisor: inherited sockets, shared ports, messages about its readiness, and
//! the probe.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl};

use crate::harness::*;
use crate::load::{Fate, keep_asking_anew};

/// What a supervisor passes on: the names, in `LISTEN_FDNAMES`, and the sockets, the first of
/// which becomes descriptor 3. Two are as many as can be passed by way of a shell.
fn inherit(names: Option<&str>, count: usize, sockets: [OwnedFd; 2]) -> Command {
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let [first, second] = sockets.map(Stdio::from);
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_onepoll")])
        .env_clear()
        .env("LISTEN_FDS", count.to_string())
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::piped());
    if let Some(names) = names {
        command.env("LISTEN_FDNAMES", names);
    }
    command
}

/// A listening socket, and where it listens.
fn listening() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener.into(), address)
}

/// A descriptor that is no socket.
fn nothing() -> OwnedFd {
    OwnedFd::from(File::open("/dev/null").expect("it is everywhere"))
}

fn again(socket: &OwnedFd) -> OwnedFd {
    socket.try_clone().expect("a descriptor")
}

/// Starts a server on inherited sockets, and waits until it has taken them over.
fn start(
    names: Option<&str>,
    sockets: [&OwnedFd; 2],
    main: SocketAddr,
    diag: SocketAddr,
) -> Process {
    let mut command = inherit(names, 2, sockets.map(again));
    // On a busy machine a client may be late with its next request.
    let command = command.args(["--idle-grace", "5m", "--drain", "10m"]);
    let mut server = Process::spawn_with_stdout(command);
    server.wait_for_log(&format!("[main] Starting Server on {main}, inherited"));
    server.wait_for_log(&format!("[diag] Starting Diagnostics Server on {diag}, inherited"));
    (server.main, server.diag) = (main, diag);
    server
}

pub(crate) fn ask_both(server: &Process) {
    for (address, request) in [(server.main, HELLO), (server.diag, READY)] {
        let mut peer = Peer::connect(address);
        peer.send(request);
        assert_eq!(status(&peer.response()), 200);
    }
}

#[test]
fn inherited_sockets_go_by_their_names_or_by_their_order() {
    let ((a, at_a), (b, at_b)) = (listening(), listening());
    for (names, main, diag) in [
        (Some("main:diag"), at_a, at_b),
        (Some("diag:main"), at_b, at_a),
        (None, at_a, at_b),
        (Some(""), at_a, at_b),
        (Some("onepoll.socket:onepoll.socket"), at_a, at_b),
        (Some("unknown:main"), at_b, at_a),
    ] {
        let server = start(names, [&a, &b], main, diag);
        ask_both(&server);
        let (exited, _) = server.stop(Signal::TERM);
        assert_eq!(exited.status.code(), Some(0), "{names:?}: {:#?}", exited.log);
    }
    // The sockets of the supervisor go on listening.
    for address in [at_a, at_b] {
        Peer::connect(address);
    }
}

/// Whether calls on this socket block.
fn waits(socket: &OwnedFd) -> bool {
    !fcntl_getfl(socket).expect("a descriptor").contains(OFlags::NONBLOCK)
}

#[test]
fn an_inherited_socket_is_as_it_was_when_it_is_left() {
    let ((a, at_a), (b, at_b)) = (listening(), listening());
    let server = start(None, [&a, &b], at_a, at_b);
    assert!(!waits(&a) && !waits(&b), "no call may hold up the loop");
    // Another process with this socket has exited and restored the mode.
    rustix::io::ioctl_fionbio(&a, false).expect("a socket");
    ask_both(&server);
    ask_both(&server);
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    assert!(waits(&a) && waits(&b), "a clean stop");

    // A start that fails changes nothing either.
    refuse(Some("main:web"), 2, [&a, &b], "\"web\"");
    refuse(None, 2, [&a, &nothing()], "no TCP socket that listens");
    assert!(waits(&a) && waits(&b), "a start that failed");
}

#[test]
fn one_socket_may_be_inherited_and_the_other_be_our_own() {
    let (socket, address) = listening();
    let mut command = inherit(Some("diag"), 1, [socket, nothing()]);
    command.args(["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:1"]);
    let mut server = Process::spawn_with_stdout(&mut command);
    server.wait_for_log(&format!("Diagnostics Server on {address}, inherited"));
    server.wait_for_log("Starting Server on 127.0.0.1:");
    let own = server.listening_sockets();
    let own = own.iter().find(|(bound, _)| *bound != address);
    server.diag = address;
    server.main = own.expect("it has one").0;
    ask_both(&server);
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
}

/// Passes on so many sockets of two, and expects a complaint and status 1.
fn refuse(names: Option<&str>, count: usize, sockets: [&OwnedFd; 2], complaint: &str) {
    let mut command = inherit(names, count, sockets.map(again));
    let output = command.output().expect("it can be run");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{names:?}, {count}: {line}");
    assert!(line.contains(complaint), "{complaint:?} is not in {line:?}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn a_demonstration_is_refused_with_inherited_sockets() {
    let (one, other) = (listening().0, listening().0);
    let mut command = inherit(None, 2, [one, other]);
    let output = command.args(["--block", "10ms"]).output().expect("it can be run");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    let complaint = "Cannot serve with --block 10ms: it is for demonstrations, and is refused";
    assert!(line.contains(complaint), "{line}");
}

#[test]
fn sockets_that_do_not_fit_are_named_and_end_with_status_1() {
    let (one, other) = (listening().0, listening().0);
    let both = [&one, &other];
    let web = "the name \"web\" instead of main or diag";
    refuse(Some("main:web"), 2, both, web);
    refuse(Some("main"), 2, both, "LISTEN_FDNAMES=\"main\"");
    refuse(None, 3, both, "LISTEN_FDS=\"3\"");
    refuse(Some("a:b:c"), 3, both, "LISTEN_FDNAMES=\"a:b:c\"");
    let twice = "cannot share a port";
    refuse(None, 2, [&one, &one], twice);

    let file = nothing();
    let datagram = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let idle = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let idle = OwnedFd::from(idle.expect("a socket"));
    for (sockets, culprit) in [
        ([&file, &one], "Descriptor 3, for main"),
        ([&one, &datagram], "Descriptor 4, for diag"),
        ([&idle, &one], "Descriptor 3, for main"),
    ] {
        let complaint = format!("{culprit}, is no TCP socket that listens");
        refuse(None, 2, sockets, &complaint);
    }
}

#[test]
fn sockets_that_were_never_passed_are_not_mistaken_for_our_own() {
    for variables in
        ["LISTEN_FDS=1 LISTEN_PID=$$", "LISTEN_FDS=2 LISTEN_PID=$$", "LISTEN_PID=x LISTEN_FDS=1"]
    {
        let script = format!("{variables} exec \"$0\" 3>&- 4>&-");
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")])
            .env_clear()
            .output()
            .expect("it can be run");
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{variables}: {line}");
        assert!(line.contains("Cannot use the inherited sockets: "), "{line}");
        assert!(line.contains("LISTEN_PID=\"") && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let names = ("LISTEN_FDNAMES", "main:diag");
    for variables in [
        vec![("LISTEN_PID", "1"), ("LISTEN_FDS", "2"), names],
        vec![("LISTEN_PID", ""), ("LISTEN_FDS", "2"), names],
        vec![("LISTEN_FDS", "2")],
        vec![names],
    ] {
        let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
        let server = Process::spawn(onepoll().args(ports).envs(variables));
        ask_both(&server);
    }
}

#[test]
fn restarts_on_inherited_sockets_lose_nothing() {
    let ((main, at_main), (diag, at_diag)) = (listening(), listening());
    let fate = Fate::default();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| keep_asking_anew(&fate, at_main, 1_500));
        }
        for restart in 0..=4 {
            let server = start(None, [&main, &diag], at_main, at_diag);
            fate.wait_for(3_000 * (restart + 1));
            let (exited, _) = server.stop(Signal::TERM);
            assert_eq!(exited.status.code(), Some(0), "{:#?}", exited.log);
        }
        let server = start(None, [&main, &diag], at_main, at_diag);
        fate.wait_for(16 * 1_500);
        drop(server);
    });
    assert_eq!(fate.lost(), 0);
}

/// A supervisor's socket, and how its name is written in the environment.
fn supervisors() -> [(UnixDatagram, String); 2] {
    let path = std::env::temp_dir().join(format!("onepoll-notify-{}", std::process::id()));
    let in_files = UnixDatagram::bind(&path).expect("a socket");
    let name = format!("onepoll-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let abstract_one = UnixDatagram::bind_addr(&address).expect("a socket");
    let path = path.display().to_string();
    [(in_files, path), (abstract_one, format!("@{name}"))]
}

#[test]
fn a_supervisor_is_told_of_readiness_and_of_the_stop() {
    for ((supervisor, place), signal) in supervisors().iter().zip([Signal::TERM, Signal::INT]) {
        supervisor.set_read_timeout(Some(TIMEOUT)).expect("a socket option");
        let heard = || {
            let mut words = [0; 100];
            let len = supervisor.recv(&mut words).expect("it tells");
            String::from_utf8_lossy(&words[..len]).into_owned()
        };
        let words = [
            "--listen",
            "127.0.0.1:0",
            "--diag",
            "127.0.0.1:0",
            "--lame-duck",
            "300ms",
            "--drain",
            "10m",
        ];
        let server = Process::spawn(onepoll().args(words).env("NOTIFY_SOCKET", place));
        assert_eq!(heard(), "READY=1\n");
        let mut half = server.connect();
        half.send(&HELLO[..9]);
        ask_both(&server);
        server.signal(signal);
        assert_eq!(heard(), "STOPPING=1\n", "while there is still something to do");
        half.send(&HELLO[9..]);
        assert_eq!(status(&half.rest()), 200);
        drop(half);
        assert_eq!(server.wait().status.code(), Some(0));
        supervisor.set_nonblocking(true).expect("a socket option");
        let error = supervisor.recv(&mut [0; 100]).expect_err("once is enough");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        let _ = std::fs::remove_file(place);
    }
}

#[test]
fn a_supervisor_that_does_not_listen_is_not_waited_for() {
    let path = std::env::temp_dir().join(format!("onepoll-deaf-{}", std::process::id()));
    let _deaf = UnixDatagram::bind(&path).expect("a socket");
    let others = UnixDatagram::unbound().expect("a socket");
    others.set_nonblocking(true).expect("a socket option");
    while others.send_to(b"x", &path).is_ok() {}
    for place in [path.clone(), "/nowhere/at/all".into()] {
        let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
        let server = Process::spawn(onepoll().args(ports).env("NOTIFY_SOCKET", place));
        ask_both(&server);
        let (exited, _) = server.stop(Signal::TERM);
        assert_eq!(exited.status.code(), Some(0));
    }
    std::fs::remove_file(&path).expect("it is there");
}

#[test]
fn several_processes_may_share_their_ports() {
    let first = Process::start(&["--reuse-port"]);
    let (main, diag) = (first.main.to_string(), first.diag.to_string());
    let ports = ["--listen", &main, "--diag", &diag];
    let second = Process::spawn(onepoll().args(ports).env("ONEPOLL_REUSE_PORT", "true"));
    assert_eq!(first.addresses(), second.addresses());
    let output = onepoll().args(ports).output().expect("it can be run");
    assert_eq!(output.status.code(), Some(1), "a process that does not share gets no port");
    let (exited, _) = first.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    ask_both(&second);
}

#[test]
fn a_probe_tells_by_its_status_how_a_server_is() {
    let mut server = Process::start(&["--lame-duck", "1m"]);
    let (main, diag) = (server.main.to_string(), server.diag.to_string());
    let probe = |url: Option<&str>| {
        let mut command = onepoll();
        command.env("ONEPOLL_DIAG", &diag).arg("--probe").args(url);
        wait_for("a probe that a busy machine does not keep waiting", || {
            let output = command.output().expect("it can be run");
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.stdout, b"");
            let is_late = line.contains("did not respond within");
            (!is_late).then_some((output.status.code(), line))
        })
    };
    let well = (Some(0), String::new());
    assert_eq!(probe(None), well, "it asks where diagnostics are configured");
    assert_eq!(probe(Some(&format!("http://{main}/hello?x"))), well);
    let not_found = format!("onepoll: http://{main}/ready responded with 404 Not Found\n");
    assert_eq!(probe(Some(&format!("http://{main}/ready"))), (Some(1), not_found));

    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    let draining = format!("onepoll: http://{diag}/ready responded with 503 Service Unavailable\n");
    assert_eq!(probe(None), (Some(1), draining));
    drop(server);
    let (status, line) = probe(None);
    assert_eq!(status, Some(1));
    assert!(line.contains("Connection refused"), "{line}");
    let (status, line) = probe(Some("https://example.org/"));
    assert_eq!(status, Some(1));
    assert!(
        line.starts_with("onepoll: --probe 'https://example.org/': expected http://"),
        "{line}"
    );
}
