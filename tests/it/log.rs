//! The server goes on, whatever happens to standard output and standard error.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use onepoll::limits::{LOG_EXIT_TIMEOUT, LOG_EXIT_WRITES_MAX, PIPE_WRITE};
use onepoll::log::writer::Writer;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{Resource, Rlimit, prlimit};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::*;

/// What a line says of the lines that were dropped, after their number.
const DROPPED: &str = " log lines were dropped: standard error was not read";

const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];

/// Sends so many requests to both services, and expects a response to each.
fn ask([main, diag]: [SocketAddr; 2], times: usize) {
    let (mut main, mut diag) = (Peer::connect(main), Peer::connect(diag));
    for _ in 0..times {
        for (peer, request) in [(&mut main, HELLO), (&mut diag, READY)] {
            peer.send(request);
            assert_eq!(status(&peer.response()), 200);
        }
    }
}

/// Stops a server whose log the harness does not read; returns how long that took.
fn stop(server: Process) -> Duration {
    let (exited, took) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0), "{:?}", exited.status);
    took
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
fn the_log_needs_no_reader() {
    let (reader, writer) = pipe().expect("a pipe");
    let server = Process::spawn(onepoll().args(PORTS).stderr(writer));
    ask(server.addresses(), 2_000);
    assert!(!has_room(&reader), "the pipe is full by now");
    // The exit waits once for a reader that takes nothing, and more often for one that does.
    let took = stop(server);
    let most = LOG_EXIT_TIMEOUT * u32::try_from(LOG_EXIT_WRITES_MAX).expect("a few");
    assert!(took < most, "{took:?}");
    drop(reader);
}

/// Whether a pipe is not full, as it appears from its reading end.
fn has_room(reader: &PipeReader) -> bool {
    let size = rustix::pipe::fcntl_getpipe_size(reader).expect("a pipe");
    let unread = rustix::io::ioctl_fionread(reader).expect("a pipe");
    unread + 4096 < size as u64
}

#[test]
fn what_was_dropped_is_told_once_the_pipe_flows_again() {
    let (reader, writer) = pipe().expect("a pipe");
    let server = Process::spawn(onepoll().args(PORTS).stderr(writer));
    ask(server.addresses(), 2_000);
    // Once the pipe is read, the rest comes by itself, without another request.
    let log = lines(reader);
    let mut told: Vec<String> = Vec::new();
    while !told.last().is_some_and(|line| line.contains(DROPPED)) {
        told.push(log.recv_timeout(TIMEOUT).expect("the count is told"));
    }
    ask(server.addresses(), 100);
    stop(server);
    told.extend(log);
    let requests = told.iter().filter(|line| line.contains("Request '")).count();
    let dropped = told.iter().filter_map(|line| {
        let (count, _) = line.split_once(DROPPED)?;
        count.rsplit(' ').next()?.parse::<usize>().ok()
    });
    let dropped: usize = dropped.sum();
    assert!(dropped > 0, "the pipe was full");
    assert_eq!(requests + dropped, 2 * 2_100, "every line is there or is counted");
    let last = told.last().map_or("", String::as_str);
    assert!(last.contains("Drained in "), "{last}");
}

#[test]
fn a_file_gets_every_line_of_a_burst() {
    let path = std::env::temp_dir().join(format!("onepoll-log-{}", std::process::id()));
    let file = File::create(&path).expect("a file");
    let server = Process::spawn(onepoll().args(PORTS).stderr(file));
    let mut peer = server.connect();
    peer.send(&HELLO.repeat(20_000));
    peer.finish();
    assert_eq!(peer.rest().matches("Hello world.").count(), 20_000);
    stop(server);
    let log = std::fs::read_to_string(&path).expect("text");
    std::fs::remove_file(&path).expect("it is there");
    assert_eq!(log.matches("Request '/hello' received\n").count(), 20_000);
}

#[test]
fn several_processes_may_log_to_one_pipe() {
    let (reader, writer) = pipe().expect("a pipe");
    let servers = [(); 3].map(|()| {
        let stderr = writer.try_clone().expect("a descriptor");
        Process::spawn(onepoll().args(PORTS).stderr(stderr))
    });
    drop(writer);
    let ask_all = || {
        thread::scope(|scope| {
            for server in &servers {
                let addresses = server.addresses();
                scope.spawn(move || ask(addresses, 1_000));
            }
        });
    };
    // The pipe has no reader at first, so that the processes compete for the last bytes.
    ask_all();
    let log = lines(reader);
    ask_all();
    for server in servers {
        stop(server);
    }
    for line in log {
        let words: Vec<&str> = line.split(' ').collect();
        let level = words.get(1).copied().unwrap_or_default();
        assert!(line.starts_with("20") && line.matches('Z').count() == 1, "{line:?}");
        assert!(["INFO", "WARN"].contains(&level), "{line:?}");
    }
}

#[test]
fn a_slow_reader_gets_the_last_lines() {
    let gets_them = |_| {
        let (mut reader, writer) = pipe().expect("a pipe");
        let server = Process::spawn(onepoll().args(PORTS).stderr(writer));
        ask(server.addresses(), 1_000);
        server.signal(Signal::TERM);
        // The reader takes a page of the pipe now and then, within the time that the server waits.
        // On a busy machine it may miss that time.
        let (mut log, mut page) = (Vec::new(), [0; PIPE_WRITE]);
        let (mut last, mut in_time) = (Instant::now(), true);
        while !server.exits_within(Duration::from_millis(30)) {
            let len = reader.read(&mut page).expect("a pipe");
            log.extend_from_slice(&page[..len]);
            in_time &= last.elapsed() < LOG_EXIT_TIMEOUT;
            last = Instant::now();
        }
        assert_eq!(server.wait().status.code(), Some(0));
        reader.read_to_end(&mut log).expect("a pipe");
        let log = String::from_utf8(log).expect("text");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("Drained in ") || !in_time, "{last}");
        in_time
    };
    assert!((0..20).any(gets_them), "this machine is too busy for it");
}

#[test]
fn a_terminal_without_a_reader_does_not_delay_the_server() {
    let (_terminal, shell) = terminal();
    let server = Process::spawn(onepoll().args(PORTS).stderr(shell));
    ask(server.addresses(), 3_000);
    stop(server);
}

/// A terminal, and a file that a shell in it would have.
fn terminal() -> (OwnedFd, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("ours");
    unlockpt(&terminal).expect("ours");
    let path = ptsname(&terminal, Vec::new()).expect("a path");
    let path = path.into_string().expect("text");
    let shell = File::options().read(true).write(true).open(path);
    (terminal, shell.expect("ours"))
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

/// The number of dropped lines, from `/metrics`.
fn dropped(server: &Process) -> String {
    let mut peer = Peer::connect(server.diag);
    peer.send(&READY.replace("/ready", "/metrics"));
    let page = peer.response();
    let mut lines = page.lines();
    let count = lines.find_map(|line| line.strip_prefix("onepoll_log_lines_dropped_total "));
    count.expect("it is there from the start").to_owned()
}

/// Starts a server whose log goes to a file, under a soft limit on the size of files in blocks of
/// 512 bytes.
fn start_with_a_limit_on_files(blocks: u32, log: &Path) -> Process {
    let script = format!("ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_onepoll")]);
    let file = File::create(log).expect("a file");
    Process::spawn(command.args(PORTS).env_clear().stderr(file))
}

#[test]
fn a_log_file_at_its_limit_does_not_hold_up_the_server_and_keeps_lines_whole() {
    let path = std::env::temp_dir().join(format!("onepoll-limit-{}", std::process::id()));
    let limit = 200 * 512;
    let server = start_with_a_limit_on_files(200, &path);
    ask(server.addresses(), 2_000);
    let size = || std::fs::metadata(&path).expect("a file").len();
    assert_eq!(size(), limit, "the log has met its limit");
    // There is room again: the line that was cut goes on, and the loss is told.
    let unlimited = Rlimit { current: None, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, unlimited).expect("it is our child");
    let log = wait_for("the loss is told", || {
        let log = std::fs::read_to_string(&path).expect("text");
        log.contains(" log lines were dropped: standard error took no more (File too large")
            .then_some(log)
    });
    for line in log.lines() {
        assert!(line.starts_with("20") && line.matches("Z ").count() == 1, "{line:?}");
    }
    stop(server);
    std::fs::remove_file(&path).expect("it is there");
}

#[test]
fn a_limit_on_files_that_is_lowered_later_does_not_end_the_server() {
    let (_unread, full) = pipe().expect("a pipe");
    fill(&full);
    for stderr in [Stdio::null(), full.into()] {
        let server = Process::spawn(onepoll().args(PORTS).stderr(stderr));
        ask(server.addresses(), 10);
        for bytes in [60_000, 20_000, 4_096, 4, 0] {
            let limit = Rlimit { current: Some(bytes), maximum: None };
            prlimit(Some(server.pid()), Resource::Fsize, limit).expect("it is our child");
            let mut peer = server.connect();
            peer.send(&HELLO.repeat(500));
            for _ in 0..500 {
                assert_eq!(status(&peer.response()), 200, "under {bytes} bytes");
            }
        }
        stop(server);
    }
}

#[test]
fn a_limit_on_files_that_leaves_no_room_for_a_line_leaves_no_log() {
    let path = std::env::temp_dir().join(format!("onepoll-nolog-{}", std::process::id()));
    let server = start_with_a_limit_on_files(10, &path);
    ask(server.addresses(), 10);
    assert_ne!(dropped(&server), "0", "what is lost is counted");
    stop(server);
    let log = std::fs::read_to_string(&path).expect("text");
    assert_eq!(log, "onepoll: no log is kept: the limit on file sizes (ulimit -f) is too low\n");
    std::fs::remove_file(&path).expect("it is there");
}

#[test]
fn a_line_that_another_process_has_left_is_ended() {
    for (before, expected) in [("", ""), ("whole\n", "whole\n"), ("half", "half\n")] {
        let name = format!("onepoll-half-{}-{}", before.len(), std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, before).expect("a file");
        let log = File::options().append(true).open(&path).expect("a file");
        stop(Process::spawn(onepoll().args(PORTS).stderr(log)));
        let log = std::fs::read_to_string(&path).expect("text");
        std::fs::remove_file(&path).expect("it is there");
        let rest = log.strip_prefix(expected);
        assert!(rest.is_some_and(|rest| rest.starts_with("20")), "{log:?}");
    }
}

#[test]
fn a_full_disk_does_not_hold_up_the_server() {
    let full = File::options().write(true).open("/dev/full").expect("it is everywhere");
    let server = Process::spawn(onepoll().args(PORTS).stderr(full));
    ask(server.addresses(), 1_000);
    assert_ne!(dropped(&server), "0", "what does not fit into memory is counted");
    stop(server);
}

#[test]
fn the_ready_line_is_not_waited_for() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = onepoll();
    let command = command.args(PORTS).stdout(writer.try_clone().expect("a descriptor"));
    fill(&writer);
    let mut server = Process::spawn_with_stdout(command).found_by_its_sockets();
    server.wait_for_log("The ready line could not be printed: standard output is full");
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
    let own = Writer::duplicate(writer.as_fd()).expect("a pipe");
    while own.write(&[b' '; PIPE_WRITE]).expect("there is a reader") > 0 {}
}

/// A pipe without a reader.
fn broken_pipe() -> PipeWriter {
    pipe().expect("a pipe").1
}

#[test]
fn the_mode_of_a_shared_descriptor_is_left_alone() {
    let (_reader, writer) = pipe().expect("a pipe");
    let (terminal, shell) = terminal();
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
    // The log has come through.
    let mut text = [0; 4096];
    let len = rustix::io::read(&terminal, &mut text).expect("a log");
    let text = String::from_utf8_lossy(&text[..len]);
    assert!(text.contains("[diag] Starting Diagnostics Server on "), "{text}");
}
