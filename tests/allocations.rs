//! The whole server accepts and serves without allocating. The test has a binary of its own, as it
//! installs an allocator that counts, and as the server takes over the signals of its process.

// Only an unsafe trait can count allocations; this is the one exception to the lint.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::shutdown::Outcome;
use onepoll::event_loop::{Config, Server};
use onepoll::observe::{Hooks, Observe};
use onepoll::platform::descriptors;
use onepoll::services::{self, Content};
use signal_hook::consts::SIGTERM;
use signal_hook::low_level::raise;

/// The system's allocator, which counts the allocations of the server's thread.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on unchanged, and counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.get() {
            ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn accepting_and_serving_allocate_nothing() {
    // Clients and server take some six hundred descriptors.
    descriptors::raise_limit();
    let (sender, receiver) = channel();
    let server = thread::spawn(move || {
        let loopback = [([127, 0, 0, 1], 0).into()];
        let listener = Listener::bind(Service::Main, &loopback, false).expect("a free port");
        let address = listener.address();
        let [_, routes] = services::routes(&Content::default()).expect("there is memory");
        let block = std::time::Duration::ZERO;
        let hooks = Hooks { before_wait: || None, stopping: || {}, dropped: || 0, block };
        let observer = Observe::new("1", hooks);
        let listeners = vec![(listener, routes)];
        let mut server = Server::new(&Config::default(), listeners, observer).expect("it listens");
        sender.send(address).expect("the test waits");
        COUNTS.set(true);
        server.run().expect("no error of the poll");
        server.sum_up()
    });
    let address = receiver.recv().expect("an address");

    let hello = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let post = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned();
    // The last but one is served in more than one run.
    let inputs =
        [hello.repeat(16), hello.replace("/hello", "/other"), post, hello.repeat(4096), hello];
    let mut client = Client {
        stream: TcpStream::connect(address).expect("it is listening"),
        responses: vec![0; 1 << 20],
    };
    // All buffers grow in the first round.
    inputs.iter().for_each(|input| client.ask(input));
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    assert!(before > 0, "the count works");
    for _ in 0..100 {
        inputs.iter().for_each(|input| client.ask(input));
    }
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    assert_eq!(after - before, 0, "the hot path must not allocate");

    let more = || TcpStream::connect(address).expect("it is listening");
    let clients: Vec<TcpStream> = (0..300).map(|_| more()).collect();
    // All of them have been accepted once the last one has its response.
    let mut last = Client { stream: more(), responses: vec![0; 1024] };
    last.ask(&inputs[4]);
    let accepted = ALLOCATIONS.load(Ordering::SeqCst);
    assert_eq!(accepted - after, 0, "the tables are reserved for all connections");

    drop((client, clients, last));
    raise(SIGTERM).expect("a signal to this process");
    assert_eq!(server.join().expect("no panic"), Outcome::Drained);
}

struct Client {
    stream: TcpStream,
    responses: Vec<u8>,
}

impl Client {
    /// Sends `input` and waits for the end of the last response.
    fn ask(&mut self, input: &str) {
        self.stream.write_all(input.as_bytes()).expect("the server reads");
        let (mut received, mut served) = (0, 0);
        while served < input.matches("HTTP/1.1").count() {
            let len =
                self.stream.read(&mut self.responses[received..]).expect("the server responds");
            assert!(len > 0, "the server keeps the connection");
            received += len;
            let text = String::from_utf8_lossy(&self.responses[..received]);
            served = text.matches("Hello world.").count() + text.matches("page not found").count();
        }
    }
}
