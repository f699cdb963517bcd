//! The state that a process inherits, and the state that it leaves as it was.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::*;

/// Starts a server by way of a command whose last words run it.
fn start_by(program: &str, words: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.args(words).env_clear().stderr(Stdio::piped());
    let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
    Process::spawn(command.arg(env!("CARGO_BIN_EXE_onepoll")).args(ports))
}

/// A line of what the kernel tells of a process (proc(5)).
fn status_of(server: &Process, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    u64::from_str_radix(line.expect("a line").trim(), 16).expect("a number")
}

#[test]
fn signals_that_the_parent_has_blocked_stop_the_server() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let words = ["--block-signal=INT,TERM,HUP", "--default-signal=INT,HUP"];
        let server = start_by("env", &words);
        assert_eq!(status_of(&server, "SigBlk:"), 0, "nothing is blocked");
        let (exited, _) = server.stop(signal);
        assert_eq!(exited.status.code(), Some(0), "{signal:?}");
    }
}

#[test]
fn an_interrupt_and_a_hangup_that_are_ignored_stay_so_and_sigterm_does_not() {
    let mut server = start_by("env", &["--ignore-signal=INT,HUP,TERM"]);
    server.signal(Signal::INT);
    server.signal(Signal::HUP);
    server.signal(Signal::USR1);
    server.wait_for_log("Signal 'user defined signal 1' is ignored");
    let mut peer = server.connect();
    peer.send(HELLO);
    assert_eq!(field(&peer.response(), "Connection"), None, "no stop has begun");
    drop(peer);
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    let stops = exited.log.iter().filter(|line| line.contains("' received"));
    let stops = stops.filter(|line| line.contains("Signal '"));
    assert_eq!(stops.count(), 1, "{:#?}", exited.log);
}

#[test]
fn children_that_end_leave_no_zombies() {
    // A shell that becomes the server passes its children on, as an entry point does.
    let script = "sleep 0.1 & exec \"$0\" \"$@\"";
    let server = start_by("sh", &["-c", script]);
    let pid = server.pid();
    let children = format!("/proc/{pid}/task/{pid}/children");
    wait_for("the child has gone", || {
        let children = fs::read_to_string(&children).expect("proc(5)");
        children.is_empty().then_some(())
    });
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn a_background_job_may_write_where_stty_tostop_forbids_it() {
    let server = Process::start(&[]);
    let ignored = status_of(&server, "SigIgn:");
    for (name, number) in [("SIGTTOU", 22), ("SIGXFSZ", 25), ("SIGCHLD", 17), ("SIGPIPE", 13)] {
        assert_ne!(ignored & 1 << (number - 1), 0, "{name} is ignored");
    }
}
