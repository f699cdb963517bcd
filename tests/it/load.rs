//! Clients that go on asking while the server stops: whoever is let in is answered.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Scope;

use crate::harness::*;

/// What has become of the requests of all clients.
#[derive(Default)]
pub(crate) struct Fate {
    answered: AtomicUsize,
    lost: AtomicUsize,
}

impl Fate {
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have been answered.
    pub(crate) fn wait_for(&self, answered: usize) {
        let is_enough = || (self.answered() >= answered).then_some(());
        wait_for("enough answers", is_enough);
    }

    /// Asks once; says whether the connection goes on.
    fn ask(&self, peer: &mut Peer, request: &str) -> bool {
        // A connection that was closed can swallow the request or refuse it: both are losses.
        let answer = peer.try_send(request).and_then(|()| peer.try_answer(false));
        match answer {
            Ok(answer) => {
                assert_eq!(status(&answer), 200);
                self.answered.fetch_add(1, Ordering::SeqCst);
                field(&answer, "Connection") != Some("close")
            }
            Err(_) => {
                self.lose();
                false
            }
        }
    }
}

/// Asks on one connection until that is closed.
pub(crate) fn keep_asking(fate: &Fate, mut peer: Peer) {
    while fate.ask(&mut peer, HELLO) {}
}

/// Asks so many times, on a connection that is made anew when the last one has been closed.
pub(crate) fn keep_asking_anew(fate: &Fate, address: SocketAddr, times: usize) {
    let mut peer = Peer::connect(address);
    for _ in 0..times {
        if !fate.ask(&mut peer, HELLO) {
            peer = Peer::connect(address);
        }
    }
}

/// Asks on a connection each until nobody listens any more.
pub(crate) fn keep_connecting(fate: &Fate, address: SocketAddr) {
    loop {
        match Peer::try_connect(address) {
            Ok(mut peer) => {
                fate.ask(&mut peer, HELLO);
            }
            Err(ErrorKind::ConnectionRefused) => return,
            // Let in, and reset before the call was over.
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
            // round does not wait for them.
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
