//! Whatever becomes of standard output and standard error, the service goes on.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::thread;

use onepoll::limits::PIPE_WRITE;
use onepoll::outlet::Outlet;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::*;

const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];

/// Asks both services so many times, and expects an answer each time.
fn ask([main, diag]: [SocketAddr; 2], times: usize) {
    let (mut main, mut diag) = (Peer::connect(main), Peer::connect(diag));
    for _ in 0..times {
        for (peer, request) in [(&mut main, HELLO), (&mut diag, READY)] {
            peer.send(request);
            assert_eq!(status(&peer.answer()), 200);
        }
    }
}

/// Ends a server whose log cannot be read.
fn stop(server: Process) {
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0), "{:?}", exited.status);
    assert!(took.as_secs() < 5, "{took:?}");
}

#[test]
fn a_reader_that_goes_away_under_load_is_not_missed() {
    for _ in 0..20 {
        let (reader, writer) = pipe().expect("a pipe");
        let server = Process::spawn(onepoll().args(PORTS).stderr(writer));
        let addresses = server.addresses();
        thread::scope(|scope| {
            scope.spawn(|| ask(addresses, 300));
            let mut some = [0; 2000];
            (&reader).read_exact(&mut some).expect("there is a log");
            drop(reader);
        });
        ask(server.addresses(), 10);
        stop(server);
    }
}

#[test]
fn nobody_has_to_read_the_log() {
    let (reader, writer) = pipe().expect("a pipe");
    let server = Process::spawn(onepoll().args(PORTS).stderr(writer));
    ask(server.addresses(), 2_000);
    assert!(!has_room(&reader), "the pipe is full by now");
    stop(server);
    drop(reader);
}

/// Whether a pipe is not full, as it appears from its reading end.
fn has_room(reader: &PipeReader) -> bool {
    let size = rustix::pipe::fcntl_getpipe_size(reader).expect("a pipe");
    let held = rustix::io::ioctl_fionread(reader).expect("a pipe");
    held + 4096 < size as u64
}

#[test]
fn what_was_dropped_is_told_once_the_pipe_flows_again() {
    let (reader, writer) = pipe().expect("a pipe");
    let server = Process::spawn(onepoll().args(PORTS).stderr(writer));
    ask(server.addresses(), 2_000);
    let reading = thread::spawn(move || {
        let mut log = String::new();
        (&reader).read_to_string(&mut log).expect("text");
        log
    });
    // As it is read now, these are told of, or at least that they are lost.
    ask(server.addresses(), 100);
    stop(server);
    let log = reading.join().expect("no panic");
    let told = log.matches("Request '").count();
    let dropped = log.lines().filter_map(|line| {
        let (_, count) = line.split_once("stuck: ")?;
        count.split(' ').next()?.parse::<usize>().ok()
    });
    let dropped: usize = dropped.sum();
    assert!(dropped > 0, "the pipe was full: {log}");
    assert_eq!(
        told + dropped,
        2 * 2_100,
        "every line is there or is counted"
    );
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("Drained in "), "{last}");
}

#[test]
fn closed_outputs_are_no_reason_not_to_serve() {
    for closed in ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")]);
        let server = Process::spawn_unready(command.args(PORTS).env_clear());
        let server = server.found_by_its_sockets();
        ask(server.addresses(), 10);
        stop(server);
    }
}

#[test]
fn a_limit_on_files_that_would_end_the_process_is_told_at_the_start() {
    let script = "ulimit -f 10; exec \"$0\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_onepoll")])
        .env_clear()
        .output()
        .expect("it can be run");
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8_lossy(&output.stderr);
    let complaint = "onepoll: cannot keep a log: the limit on file sizes (ulimit -f, RLIMIT_FSIZE)";
    assert!(line.starts_with(complaint), "{line}");
}

#[test]
fn the_ready_line_is_not_waited_for() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = onepoll();
    let command = command
        .args(PORTS)
        .stdout(writer.try_clone().expect("a descriptor"));
    fill(&writer);
    let mut server = Process::spawn_with_stdout(command).found_by_its_sockets();
    server.wait_for_log("The ready line could not be printed: nobody reads");
    ask(server.addresses(), 10);
    stop(server);

    let mut command = onepoll();
    let command = command.args(PORTS).stdout(broken_pipe());
    let mut server = Process::spawn_with_stdout(command).found_by_its_sockets();
    server.wait_for_log("The ready line could not be printed: Broken pipe");
    ask(server.addresses(), 10);
    stop(server);
    drop(reader);
}

/// A pipe that takes nothing, as long as its reader is there.
fn fill(writer: &PipeWriter) {
    let own = Outlet::beside(writer.as_fd()).expect("a pipe");
    while own.write(&[b' '; PIPE_WRITE]).expect("there is a reader") > 0 {}
}

/// A pipe without a reader.
fn broken_pipe() -> PipeWriter {
    pipe().expect("a pipe").1
}

#[test]
fn the_mode_of_a_shared_descriptor_is_left_alone() {
    let (_reader, writer) = pipe().expect("a pipe");
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("ours");
    unlockpt(&terminal).expect("ours");
    let path = ptsname(&terminal, Vec::new()).expect("a path");
    let path = path.into_string().expect("text");
    let shell = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is ours");
    for shared in [OwnedFd::from(shell), writer.into()] {
        let mode = fcntl_getfl(&shared).expect("a descriptor");
        let mut command = onepoll();
        let stderr = shared.try_clone().expect("a descriptor");
        let server = Process::spawn(command.args(PORTS).stderr(stderr));
        ask(server.addresses(), 10);
        assert_eq!(fcntl_getfl(&shared), Ok(mode));
        assert!(!mode.contains(OFlags::NONBLOCK));
        stop(server);
    }
    // What was said has come through.
    let mut text = [0; 4096];
    let len = rustix::io::read(&terminal, &mut text).expect("a log");
    let text = String::from_utf8_lossy(&text[..len]);
    assert!(
        text.contains("[diag] Starting Diagnostics Server on "),
        "{text}"
    );
}
