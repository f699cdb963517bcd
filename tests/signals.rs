//! Signals are taken over before there is a socket. A test binary of its own, as it looks at
//! the handlers of its own process.

use std::fs;
use std::net::TcpListener;

use onepoll::address::Address;
use onepoll::options::Options;
use onepoll::server::Server;
use signal_hook::consts::{SIGINT, SIGTERM};

#[test]
fn handlers_are_in_place_before_the_sockets_are() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = Address::One(taken.local_addr().expect("an address"));
    let options = Options {
        listen: taken,
        diag: taken,
        ..Options::default()
    };
    assert_eq!(caught() & bits(), 0, "nobody has asked for them");
    Server::bind(&options).expect_err("the port is taken, so there never was a socket");
    assert_eq!(caught() & bits(), bits());
}

fn bits() -> u64 {
    1 << (SIGINT - 1) | 1 << (SIGTERM - 1)
}

/// The signals for which this process has handlers, a bit each (proc(5)).
fn caught() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(line.expect("a line").trim(), 16).expect("a number")
}
