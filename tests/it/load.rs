//! Clients that keep sending requests while the server stops. Every accepted connection is served.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Scope;

use crate::harness::*;

/// The fate of the requests of all clients.
#[derive(Default)]
pub(crate) struct Fate {
    served: AtomicUsize,
    lost: AtomicUsize,
}

impl Fate {
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have been served.
    pub(crate) fn wait_for(&self, served: usize) {
        let is_enough = || (self.served() >= served).then_some(());
        wait_for("enough responses", is_enough);
    }

    /// Sends one request; returns whether the connection goes on.
    fn ask(&self, peer: &mut Peer, request: &str) -> bool {
        // A closed connection can swallow the request or refuse it. Both are losses.
        let response = peer.try_send(request).and_then(|()| peer.try_response(false));
        match response {
            Ok(response) => {
                assert_eq!(status(&response), 200);
                self.served.fetch_add(1, Ordering::SeqCst);
                field(&response, "Connection") != Some("close")
            }
            Err(_) => {
                self.lose();
                false
            }
        }
    }
}

/// Sends requests on one connection until that is closed.
pub(crate) fn keep_asking(fate: &Fate, mut peer: Peer) {
    while fate.ask(&mut peer, HELLO) {}
}

/// Sends so many requests, and connects again whenever the connection has been closed.
pub(crate) fn keep_asking_anew(fate: &Fate, address: SocketAddr, times: usize) {
    let mut peer = Peer::connect(address);
    for _ in 0..times {
        if !fate.ask(&mut peer, HELLO) {
            peer = Peer::connect(address);
        }
    }
}

/// Sends each request on a connection of its own, until the port is closed.
pub(crate) fn keep_connecting(fate: &Fate, address: SocketAddr) {
    loop {
        match Peer::try_connect(address) {
            Ok(mut peer) => {
                fate.ask(&mut peer, HELLO);
            }
            Err(ErrorKind::ConnectionRefused) => return,
            // Accepted, and reset before connect(2) returned.
            Err(ErrorKind::ConnectionReset) => fate.lose(),
            Err(kind) => panic!("{kind}"),
        }
    }
}

/// Starts clients of both kinds.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    fate: &'scope Fate,
    address: SocketAddr,
    asking: usize,
    connecting: usize,
) {
    for _ in 0..asking {
        // Connected here: a thread may be so late that the server has exited.
        let peer = Peer::connect(address);
        scope.spawn(move || keep_asking(fate, peer));
    }
    for _ in 0..connecting {
        scope.spawn(move || keep_connecting(fate, address));
    }
}

#[test]
fn a_stop_under_load_loses_nothing_ten_times_over() {
    let fates = [(); 10].map(|()| Fate::default());
    std::thread::scope(|scope| {
        let servers = fates.each_ref().map(|fate| {
            // On a busy machine a client may be late with its next request.
            let server = Process::start(&["--log", "warn", "--idle-grace", "5m"]);
            start(scope, fate, server.main, 64, 8);
            fate.wait_for(3_000);
            server.signal(Signal::TERM);
            // A client that is shut out tries again after a second, and is refused then. The next
            // round does not wait for such clients.
            server
        });
        for server in servers {
            let exited = server.wait();
            assert_eq!(exited.status.code(), Some(0), "{:#?}", exited.log);
        }
    });
    let lost = fates.each_ref().map(Fate::lost);
    assert_eq!(lost, [0; 10], "in each round");
}
