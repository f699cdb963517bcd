//! The program as its caller sees it: options, what it prints, and exit statuses.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::{fs, io};

use onepoll::limits::DRAIN;
use onepoll::services::VERSION;
use rustix::io::Errno;

use crate::harness::*;

fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    onepoll().args(args).envs(variables.iter().copied()).output().expect("the binary can be run")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (flag, begins) in [
        ("--version", format!("onepoll {VERSION}\n")),
        ("-V", format!("onepoll {VERSION}\n")),
        ("--help", format!("onepoll {VERSION}: ")),
        ("-h", format!("onepoll {VERSION}: ")),
    ] {
        let output = run(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(text(&output.stdout).starts_with(&begins), "{flag}");
        assert_eq!(text(&output.stderr), "", "{flag}");
    }
}

/// What is typed, variables ahead of arguments, and the beginning of the complaint.
const WRONG: &[(&str, &str)] = &[
    ("--listen nowhere:1", "--listen 'nowhere:1': expected 8080, :8080, 127."),
    ("--diag=99999", "--diag '99999': expected 8080, :8080, 127."),
    ("--drain 5", "--drain '5': expected a duration"),
    ("--idle-grace=-1s", "--idle-grace '-1s': expected a duration"),
    ("--log loud", "--log 'loud': expected off, error,"),
    ("--log", "--log lacks its value: expected off, error,"),
    ("--idle-timeout 0s", "--idle-timeout '0s': expected a duration from 1ms"),
    ("--path hello", "--path 'hello': expected a path such as / or /hello"),
    ("--max-connections 0", "--max-connections '0': expected a number from 1 to"),
    ("ONEPOLL_REUSE_PORT=maybe", "ONEPOLL_REUSE_PORT 'maybe': expected true, false,"),
    ("--no-such", "unknown option '--no-such': expected --listen,"),
    ("-n", "unknown option '-n': expected --listen,"),
    ("extra\x07", "unexpected argument 'extra\\u{7}': expected --listen,"),
    ("ONEPOLL_LISTEN=x", "ONEPOLL_LISTEN 'x': expected 8080,"),
    ("ONEPOLL_DIAG=:x", "ONEPOLL_DIAG ':x': expected 8080,"),
    ("ONEPOLL_DRAIN=soon", "ONEPOLL_DRAIN 'soon': expected a duration"),
    ("ONEPOLL_IDLE_GRACE=1h", "ONEPOLL_IDLE_GRACE '1h': expected a duration"),
    ("ONEPOLL_LOG=a::b", "ONEPOLL_LOG 'a::b': expected off, error,"),
];

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    for (words, complaint) in WRONG {
        let is_arg = |word: &&str| word.starts_with('-') || !word.contains('=');
        let (args, variables): (Vec<_>, Vec<_>) = words.split(' ').partition(is_arg);
        let variables: Vec<_> = variables.iter().filter_map(|word| word.split_once('=')).collect();
        let output = run(&args, &variables);
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {line}");
        assert_eq!(text(&output.stdout), "", "{words:?}");
        assert!(line.starts_with(&format!("onepoll: {complaint}")), "{line}");
        assert_eq!(line.find('\n'), Some(line.len() - 1), "one line: {line:?}");
    }
}

#[test]
fn the_environment_stands_in_for_flags() {
    let variables = [
        ("ONEPOLL_LISTEN", "localhost:0"),
        ("ONEPOLL_DIAG", "127.0.0.1:0"),
        ("ONEPOLL_DRAIN", "0s"),
        ("ONEPOLL_IDLE_GRACE", ""),
        ("RUST_LOG", "warn"),
    ];
    let server = Process::spawn(onepoll().envs(variables));
    let mut peer = server.connect();
    peer.send(&HELLO[..9]);
    // It is served after the other one, so the server has read that.
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(3), "0s aborts at once");
    assert!(took < DRAIN, "{took:?}");
    let [line, trace @ ..] = &exited.log[..] else {
        panic!("a warning, and nothing else: {:#?}", exited.log);
    };
    assert!(line.contains("Connection 1 from 127.0.0.1:") && line.contains(" ms in head"));
    // Then its trace: accepted, half a head, aborted.
    let ends = [
        "what happened",
        "accepted",
        "the beginning of a head has come",
        "aborted at the drain's deadline",
    ];
    assert_eq!(trace.len(), ends.len(), "{trace:#?}");
    for (line, end) in trace.iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
}

#[test]
fn the_ready_line_is_all_of_standard_output() {
    let mut server = Process::start(&[]);
    let expected = format!(
        "{{\"pid\":{},\"version\":\"{VERSION}\",\"listen\":\"{}\",\"diag\":\"{}\"}}",
        server.pid(),
        server.main,
        server.diag,
    );
    assert_eq!(server.ready, expected);
    server.connect().send(HELLO);
    server.wait_for_log("Request '/hello' received");
    server.signal(Signal::TERM);
    assert_eq!(server.rest_of_stdout(), [""; 0]);
}

#[test]
fn the_log_is_the_seeds_transcript() {
    for (signal, name) in [(Signal::INT, "interrupt"), (Signal::TERM, "terminated")] {
        let mut server = Process::start(&[]);
        let (main, diag) = (server.main, server.diag);
        for (address, request) in [
            (diag, READY.to_owned()),
            (main, HELLO.replace("/hello", "/hello?x=1")),
            (main, HELLO.replace("/hello", "/nowhere")),
            (main, HELLO.to_owned()),
        ] {
            let mut peer = Peer::connect(address);
            peer.send(&request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
            assert_ne!(peer.rest(), "");
        }
        server.wait_for_log("Request '/hello' received");
        let (exited, _) = server.stop(signal);
        let mut messages = exited.messages();
        let summary = messages.pop().expect("a summary");
        assert_eq!(
            messages,
            [
                format!("[diag] Starting Diagnostics Server on {diag}").as_str(),
                format!("[main] Starting Server on {main}").as_str(),
                "[diag] Request '/ready' received",
                "[main] Request '/hello?x=1' received",
                "[main] Request '/hello' received",
                format!("[onepoll] Signal '{name}' received").as_str(),
                "[diag] Diagnostics Server exited",
                "[main] Server exited",
            ]
        );
        assert!(summary.starts_with("[onepoll] Drained in "), "{summary}");
        assert!(summary.ends_with(" ms: responses 0, closed idle 0, aborted 0"), "{summary}");
        for line in &exited.log {
            let stamp = line.split(' ').next().unwrap_or_default();
            let shape: String =
                stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line}");
        }
        assert_eq!(exited.status.code(), Some(0));
    }
}

#[test]
fn a_quiet_log_is_silent() {
    let mut server = Process::start(&["--log", "off"]);
    let mut peer = server.connect();
    peer.send(HELLO);
    assert_eq!(status(&peer.response()), 200);
    server.signal(Signal::TERM);
    assert_eq!(server.rest_of_stdout(), [""; 0]);
    assert_eq!(server.wait().log, [""; 0]);
}

#[test]
fn a_talkative_log_tells_of_connections_and_phases() {
    let mut server = Process::start(&["--log", "trace"]);
    let mut peer = server.connect();
    let address = peer.stream.local_addr().expect("an address");
    peer.send(&HELLO[..9]);
    server.wait_for_log("Connection 1 from idle to head");
    peer.send(&HELLO[9..]);
    server.wait_for_log("Connection 1 from head to idle");
    assert_eq!(status(&peer.response()), 200);
    drop(peer);
    server.wait_for_log("Connection 1 closed: the peer closes it");
    server.wait_for_log(&format!("[main] Connection 1 accepted from {address}"));
    let (exited, _) = server.stop(Signal::TERM);
    assert!(exited.log.iter().all(|line| !line.contains("mio")), "{:#?}", exited.log);
}

/// The line that the log at debug has for a response, behind the client's address.
fn told(server: &mut Process, peer: &Peer) -> String {
    let address = peer.stream.local_addr().expect("an address");
    let start = format!("DEBUG [main] {address}, ");
    server.wait_for_log(&start);
    let lines = server.logged();
    let line = lines.iter().rev().find_map(|line| line.split_once(&start));
    let told = line.expect("it has just been logged").1;
    // How long it took is not the same twice.
    let is_time = |word: &&str| word.ends_with("us") || word.ends_with("us:");
    let words: Vec<&str> = told.split(' ').collect();
    let at = words.iter().position(is_time).expect("a time");
    assert!(words[at - 1].parse::<u64>().is_ok(), "{told}");
    [&words[..at - 1], &words[at + 1..]].concat().join(" ")
}

#[test]
fn the_log_at_debug_has_a_line_for_each_response() {
    let mut server = Process::start(&["--log", "debug"]);
    let host = "there has to be one Host field, empty or with a valid host";
    for (request, line, why) in [
        (HELLO.replace("/hello", "/hello?x=1"), "GET '/hello?x=1' 200", ""),
        (HELLO.replace("/hello", "/?q=\u{fc}"), "GET '/?q=%C3%BC' 404", ""),
        (HELLO.replace("GET", "HEAD"), "HEAD '/hello' 200", ""),
        (
            HELLO.replace("/hello", "/a#b"),
            "GET '/a#b' 400",
            "a request target holds no # here; it is written %23",
        ),
        (HELLO.replace("Host", "Host: b\r\nHost"), "GET '/hello' 400", host),
        ("x\x1b[31m\r\n\r\n".to_owned(), "x%1B[31m '' 400", "not an HTTP/1 request line"),
    ] {
        let mut peer = server.connect();
        peer.send(&request);
        peer.finish();
        let bytes = peer.rest().len();
        let told = told(&mut server, &peer);
        let (number, told) = told.split_once(": ").expect("a number");
        assert!(number.starts_with("connection "), "{number}");
        assert_eq!(told, format!("{line}, {bytes} bytes, {why}").trim_end());
    }
}

#[test]
fn the_log_at_debug_tells_of_batches_and_of_bodies_that_come_later() {
    let mut server = Process::start(&["--log", "debug"]);
    let mut peer = server.connect();
    peer.send(&HELLO.repeat(3));
    for _ in 0..3 {
        assert_eq!(status(&peer.response()), 200);
    }
    let post = HELLO.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n");
    peer.send(&post);
    peer.send("body");
    assert_eq!(status(&peer.response()), 200);
    server.wait_for_log("POST '/hello' 200, 129 bytes, ");
    let address = peer.stream.local_addr().expect("an address");
    let ours = format!("DEBUG [main] {address}, ");
    let count = server.logged().iter().filter(|line| line.contains(&ours)).count();
    assert_eq!(count, 4);
}

#[test]
fn a_taken_port_is_named_and_ends_with_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for (flag, other, title) in
        [("--listen", "--diag", "Server"), ("--diag", "--listen", "Diagnostics Server")]
    {
        let output = run(&[flag, &address, other, "127.0.0.1:0"], &[]);
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(text(&output.stdout), "", "nothing is ready");
        let why = io::Error::from(Errno::ADDRINUSE);
        let expected = format!("[onepoll] {title} cannot listen on {address}: {why}");
        assert!(line.contains(&expected) && line.contains("ERROR"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        let output = run(&[flag, &address, other, "127.0.0.1:0", "--log=off"], &[]);
        let line = text(&output.stderr);
        let expected = format!("onepoll: {title} cannot listen on {address}: {why}");
        assert!(line.starts_with(&expected), "even without a log: {line:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_start_that_lacks_something_says_what_it_could_not_do() {
    // With fewer, the dynamic loader fails.
    for limit in 4..16 {
        let script =
            format!("ulimit -n {limit}; exec \"$0\" --listen 127.0.0.1:0 --diag 127.0.0.1:0");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")]).env_clear();
        let mut server = Process::spawn_unready(command.stderr(std::process::Stdio::piped()));
        if server.is_ready() {
            break;
        }
        let exited = server.wait();
        assert_eq!(exited.status.code(), Some(1), "{limit}: {:?}", exited.log);
        let line = exited.log.join("\n").to_lowercase();
        let why = io::Error::from(Errno::MFILE).to_string().to_lowercase();
        assert!(line.contains("cannot ") && line.contains(&why), "{line}");
    }
    let options = "--listen 127.0.0.1:0 --diag 127.0.0.1:0 --body-size 67108864";
    let script = format!("ulimit -v 40000; exec \"$0\" {options}");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")])
        .env_clear()
        .output()
        .expect("it can be run");
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains("Cannot keep a body of 67108864 bytes: "), "{line}");
    assert_eq!(line.lines().count(), 1, "it has not listened: {line}");
}

#[test]
fn memory_is_taken_in_small_pages() {
    let server = Process::start(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    // An old kernel does not say (proc(5)).
    let huge = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert_eq!(huge.map_or("0", str::trim), "0");
}

#[test]
fn tables_grow_where_address_space_cannot_be_reserved() {
    let options = "--listen 127.0.0.1:0 --diag 127.0.0.1:0";
    let script = format!("ulimit -v 40000; exec \"$0\" {options}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")]).env_clear();
    let server = Process::spawn(&mut command);
    let mut peers: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
    }
    server.signal(Signal::TERM);
    drop(peers);
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn closed_standard_descriptors_are_not_taken_for_sockets() {
    let mut command = Command::new("sh");
    let script = "exec \"$0\" --listen 127.0.0.1:0 --diag 127.0.0.1:0 <&- >&- 2>&-";
    command.args(["-c", script, env!("CARGO_BIN_EXE_onepoll")]).env_clear();
    let server = Process::spawn_with_stdout(&mut command).found_by_its_sockets();
    let mut peer = server.connect();
    peer.send(HELLO);
    assert_eq!(status(&peer.response()), 200);
    for descriptor in [0, 2] {
        let link = format!("/proc/{}/fd/{descriptor}", server.pid());
        let path = std::fs::read_link(link).expect("it is open");
        assert_eq!(path, std::path::Path::new("/dev/null"), "{descriptor}");
    }
    server.signal(Signal::TERM);
    drop(peer);
    assert_eq!(server.wait().status.code(), Some(0));
}
