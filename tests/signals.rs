//! What signals do without a running loop. The tests have a binary of their own, because they look
//! at the signal handlers of their process. They read `/proc`, so they need Linux.

#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "it/harness.rs"]
mod harness;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::{Config, Server};
use onepoll::http::Routes;
use onepoll::limits::SIGNAL_REPEAT;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::SIGTERM;

use harness::{signals, with_default_signals};

/// Set in the environment of a test that plays a server whose loop is stuck.
const STUCK: &str = "ONEPOLL_TEST_STUCK";

const SAYS_SO: &str = "It listens and never looks.";

#[test]
fn handlers_are_in_place_before_clients_can_connect() {
    let listener = listener();
    // Another socket is quicker, so that this one cannot listen.
    let _other = TcpListener::bind(listener.address()).expect("the port is only bound");
    assert_eq!(signals("SigCgt") & bits(), 0, "none is installed yet");
    server(listener).expect_err("another socket listens there");
    assert_eq!(signals("SigCgt") & bits(), bits());
}

fn listener() -> Listener {
    let loopback = [([127, 0, 0, 1], 0).into()];
    Listener::bind(Service::Main, &loopback, false).expect("a free port")
}

fn server(listener: Listener) -> std::io::Result<Server<()>> {
    let routes = Routes::new(Vec::new());
    Server::new(&Config::default(), vec![(listener, routes)], ())
}

fn bits() -> u64 {
    1 << (SIGTERM - 1)
}

#[test]
fn a_later_interrupt_ends_the_process_even_if_the_loop_is_stuck() {
    if env::var_os(STUCK).is_some() {
        be_stuck();
    }
    for first in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut stuck = Stuck::start();
        let pid = Pid::from_child(&stuck.0);
        kill_process(pid, first).expect("it is there");
        // A second signal could overtake a pending first one.
        while pending(pid) != 0 {
            thread::sleep(Duration::from_millis(1));
        }
        for repeated in [Signal::TERM, Signal::INT] {
            kill_process(pid, repeated).expect("it is there");
        }
        while pending(pid) != 0 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(SIGNAL_REPEAT);
        kill_process(pid, Signal::TERM).expect("it is there");
        let ended = stuck.0.try_wait().expect("a child");
        // A machine that stalls for longer than that between two lines may end the process here.
        assert!(ended.is_none_or(|status| status.code() == Some(130)), "{ended:?}");
        if ended.is_none() {
            kill_process(pid, Signal::INT).expect("it is there");
        }
        let status = stuck.0.wait().expect("a child");
        assert_eq!(status.code(), Some(130), "{first:?}, then an interrupt");
    }
}

/// Listens, says so, and then does nothing for ever.
fn be_stuck() -> ! {
    let _server = server(listener()).expect("it listens");
    println!("{SAYS_SO}");
    loop {
        thread::park();
    }
}

/// A process that is stuck, killed at the latest when it is dropped.
struct Stuck(Child);

impl Stuck {
    fn start() -> Stuck {
        let mut child = with_default_signals(env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "--nocapture",
                "a_later_interrupt_ends_the_process_even_if_the_loop_is_stuck",
            ])
            .env(STUCK, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let is_stuck = |line: std::io::Result<String>| line.expect("text").ends_with(SAYS_SO);
        assert!(lines.any(is_stuck), "it says when it is");
        Stuck(child)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // It has exited if all is well.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The signals that a process has not taken yet, a bit each (proc(5)).
fn pending(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let lines = status.lines().filter_map(|line| {
        let (_, bits) = line.split_once("Pnd:")?;
        u64::from_str_radix(bits.trim(), 16).ok()
    });
    lines.fold(0, |all, bits| all | bits)
}
