//! The service unit of the chapter on operations, checked with the tools of systemd: their rating
//! of it, and that the server runs under its restrictions.

use std::collections::{HashMap, HashSet};
use std::env::temp_dir;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio, id};

use crate::harness::*;
use crate::readme::{OPERATIONS, blocks};
use crate::supervisor::ask_both;

/// The exposure that `systemd-analyze security` may report; it goes from 0 to 10.
const EXPOSURE_MAX: f64 = 1.5;

fn service_unit() -> String {
    let mut units = blocks(OPERATIONS, "ini").into_iter();
    let unit = units.find(|unit| unit.contains("\n[Service]\n"));
    unit.expect("a service")
}

/// What `systemd-analyze` prints.
fn systemd_analyze(arguments: &[&str]) -> String {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).arg("--no-pager").output();
    let output = output.expect("systemd-analyze can be run");
    let text = String::from_utf8(output.stdout).expect("text");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{complaints}");
    text
}

#[test]
#[ignore = "needs systemd-analyze, of Debian's package systemd"]
fn the_service_unit_is_rated_as_little_exposed() {
    let path = temp_dir().join(format!("onepoll-rated-{}.service", id()));
    fs::write(&path, service_unit()).expect("a file");
    let report = systemd_analyze(&["security", "--offline=true", &path.display().to_string()]);
    fs::remove_file(&path).expect("it is there");
    let (_, rating) = report.split_once("Overall exposure level").expect("a rating");
    let exposure = rating.split(' ').find_map(|word| word.parse::<f64>().ok());
    assert!(exposure.expect("a number") <= EXPOSURE_MAX, "{report}");
}

/// The groups of system calls that systemd knows, with their members: calls, and other groups.
fn call_groups() -> HashMap<String, Vec<String>> {
    let text = systemd_analyze(&["syscall-filter"]);
    let mut groups: HashMap<String, Vec<String>> = HashMap::new();
    let mut group = "";
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("    ") {
            Some(member) if !member.starts_with('#') => {
                let members = groups.entry(group.to_owned()).or_default();
                members.push(member.to_owned());
            }
            Some(_) => {}
            None => group = line,
        }
    }
    groups
}

/// The system calls that a name stands for: a group's, or the one of this name.
fn calls(name: &str, groups: &HashMap<String, Vec<String>>) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let members = groups.get(name);
    let members = members.unwrap_or_else(|| panic!("{name} is no group"));
    members.iter().flat_map(|member| calls(member, groups)).collect()
}

/// The system calls that a unit allows: each filter adds to the ones before it or, with a tilde,
/// takes away from them (systemd.exec(5)).
fn allowed_calls(unit: &str) -> HashSet<String> {
    let groups = call_groups();
    let mut allowed = HashSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let names = filter.trim_start_matches('~').split(' ');
        let calls = names.flat_map(|name| calls(name, &groups));
        if filter.starts_with('~') {
            calls.for_each(|call| {
                allowed.remove(&call);
            });
        } else {
            allowed.extend(calls);
        }
    }
    assert!(!allowed.is_empty(), "the unit has a filter");
    allowed
}

/// The names of the system calls in a trace, of which each line begins with a process id.
fn traced_calls(trace: &str) -> HashSet<&str> {
    let calls = trace.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ')?;
        let (name, _) = call.trim_start().split_once('(')?;
        name.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(name)
    });
    calls.collect()
}

#[test]
#[ignore = "needs strace, and systemd-analyze of Debian's package systemd"]
fn the_service_unit_allows_every_system_call_from_start_to_exit() {
    let [trace, place] = ["trace", "notify"].map(|what| {
        let path = temp_dir().join(format!("onepoll-unit-{what}-{}", id()));
        let _ = fs::remove_file(&path);
        path
    });
    let supervisor = UnixDatagram::bind(&place).expect("a socket");
    // With -D it is strace that is the grandchild, and signals go to the server.
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-o"]).arg(&trace);
    strace.args([env!("CARGO_BIN_EXE_onepoll"), "--listen", "127.0.0.1:0"]);
    strace.args(["--diag", "127.0.0.1:0"]).env_clear().env("NOTIFY_SOCKET", &place);
    let server = Process::spawn(strace.stdin(Stdio::null()).stderr(Stdio::piped()));
    ask_both(&server);
    let mut peer = Peer::connect(server.diag);
    for path in ["/", "/metrics", "/loop", "/trace", "/trace?conn=1"] {
        peer.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(status(&peer.response()), 200, "{path}");
    }
    let _idle = server.connect();
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0));
    drop(supervisor);
    let text = wait_for("the trace is complete", || {
        let text = fs::read_to_string(&trace).ok()?;
        text.contains("+++ exited with 0 +++").then_some(text)
    });
    let (traced, allowed) = (traced_calls(&text), allowed_calls(&service_unit()));
    for expected in ["execve", "memfd_create", "accept4", "exit_group"] {
        assert!(traced.contains(expected), "{expected} is not in {traced:?}");
    }
    let refused = traced.iter().filter(|&&call| !allowed.contains(call));
    assert_eq!(refused.collect::<Vec<_>>(), [&""; 0]);
    for path in [trace, place] {
        fs::remove_file(path).expect("it is there");
    }
}

/// An address that was free just now: systemd takes no port 0.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// What is put ahead of a command that is to have no network of its own, and no user but its own,
/// as `PrivateNetwork=` and `PrivateUsers=` see to it; nothing where namespaces are not to be had.
fn namespaces() -> &'static [&'static str] {
    let unshare = &["unshare", "--user", "--net"];
    let tried = Command::new(unshare[0]).args(&unshare[1..]).arg("true").status();
    if tried.is_ok_and(|status| status.success()) {
        return unshare;
    }
    println!("no namespaces here: the server is run without them");
    &[]
}

#[test]
#[ignore = "needs systemd-socket-activate, of Debian's package systemd"]
fn the_server_runs_on_sockets_of_systemd_without_a_network_of_its_own() {
    let (main, diag) = (free_address(), free_address());
    let mut command = Command::new("systemd-socket-activate");
    for address in [main, diag] {
        command.arg(format!("--listen={address}"));
    }
    command.arg("--fdname=main:diag").args(namespaces());
    command.arg(env!("CARGO_BIN_EXE_onepoll")).env_clear();
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut server = Process::spawn_unready(&mut command);
    (server.main, server.diag) = (main, diag);
    server.wait_for_log(&format!("Listening on {diag} as 4"));
    ask_both(&server);
    for started in [format!("Server on {diag}"), format!("Server on {main}")] {
        server.wait_for_log(&format!("{started}, inherited"));
    }
    let mut peer = Peer::connect(diag);
    peer.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(peer.response().contains("\nprocess_resident_memory_bytes "));
    let (exited, _) = server.stop(Signal::TERM);
    assert_eq!(exited.status.code(), Some(0), "{:#?}", exited.log);
}
