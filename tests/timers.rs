//! A timer is not late by the time that the tick before was at work. A test binary of its own, as
//! the server takes over the signals of its process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::observer::Observer;
use onepoll::event_loop::{Config, Server, clock};
use onepoll::http::{Handler, Head, Route, Routes};
use signal_hook::consts::SIGTERM;
use signal_hook::low_level::raise;

/// How long a response is delayed, and how long the tick of its request is at work.
const DELAY: Duration = Duration::from_millis(200);
const BUSY: Duration = Duration::from_millis(150);

/// An observer that holds up the loop, and tells how long the wait behind that was.
struct Busy {
    waits: Sender<Duration>,
    requested: bool,
    ended: Option<Instant>,
}

impl Handler for Busy {
    fn on_request(&mut self, _head: &Head, _has_route: bool) {
        thread::sleep(BUSY);
        self.requested = true;
    }
}

impl Observer for Busy {
    fn tick_begins(&mut self, _now: clock::Instant) {
        if let Some(ended) = self.ended.take() {
            self.waits.send(ended.elapsed()).expect("the test waits");
        }
    }

    fn tick_ends(&mut self, _busy: u64, _events: usize) {
        self.ended = std::mem::take(&mut self.requested).then(Instant::now);
    }
}

#[test]
fn a_wait_is_shorter_by_the_time_of_the_tick_before() {
    let (sender, waits) = channel();
    let loopback = [([127, 0, 0, 1], 0).into()];
    let listener = Listener::bind(Service::Main, &loopback, false).expect("a free port");
    let address = listener.address();
    let server = thread::spawn(move || {
        let route = Route { is_delayed: true, ..Route::new("/hello", "Hello world.") };
        let config = Config { delay: DELAY, ..Config::default() };
        let observer = Busy { waits: sender, requested: false, ended: None };
        let listeners = vec![(listener, Routes::new(vec![route]))];
        let mut server = Server::new(&config, listeners, observer).expect("it listens");
        server.run().expect("no error of the poll");
    });
    // Connected clients wait in the queue until the server accepts.
    let mut client = std::iter::repeat_with(|| TcpStream::connect(address));
    let mut client = client.find_map(Result::ok).expect("it listens in the end");
    // A machine that stands still may make a wait longer, but not each of so many.
    let is_shorter = (0..20).any(|_| {
        client.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
        assert!(client.read(&mut [0; 999]).expect("a response") > 0);
        waits.recv().expect("a wait") < DELAY
    });
    assert!(is_shorter, "each wait was as long as the delay");
    drop(client);
    raise(SIGTERM).expect("a signal to this process");
    server.join().expect("no panic");
}
