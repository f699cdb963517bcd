//! The core stands alone: an example serves with nothing but `event_loop` and `http`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::built::example;
use crate::harness::{Peer, status};

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has exited if all is well.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

const EXAMPLE: &str = include_str!("../examples/hello.rs");

#[test]
fn an_example_serves_with_the_core_alone() {
    let child =
        Command::new(example("hello")).stdout(Stdio::piped()).spawn().expect("it can be run");
    let mut child = Running(child);
    let mut line = String::new();
    let stdout = child.0.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("http://").and_then(|url| url.strip_suffix("/hello"));
    let mut peer = Peer::connect(address.and_then(|address| address.parse().ok()).expect("a URL"));
    peer.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = peer.response();
    assert_eq!(status(&response), 200);
    assert!(response.ends_with("\r\n\r\nHello world."), "{response}");
    kill_process(Pid::from_child(&child.0), Signal::TERM).expect("it is there");
    assert!(child.0.wait().expect("a child").success(), "it drains");
}

#[test]
fn the_example_is_short_and_names_nothing_but_the_core() {
    assert!(EXAMPLE.lines().count() <= 40);
    for rest in EXAMPLE.split("onepoll::").skip(1) {
        let folder = rest.split("::").next().unwrap_or_default();
        assert!(["event_loop", "http"].contains(&folder), "{folder}");
    }
}
