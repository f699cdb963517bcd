//! A client that sends requests at a constant rate, whether or not the server keeps up. The latency
//! of a request counts from the instant at which it is due. A client that waits for a response
//! before it sends the next request asks less of a server that stalls, and so it measures few of
//! the long latencies (coordinated omission).
//!
//! Each connection has one request in flight at most. A request that is due while no connection is
//! idle waits for one. The thread polls without sleeping, because a timer is late by as much as a
//! response takes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::kill_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::harness::{HELLO, Process, Signal};

/// Requests that have no response after this time, counted from the end of a run, are errors.
const GRACE: Duration = Duration::from_secs(10);

/// The room for what one read takes.
const INPUT: usize = 16 * 1024;

pub(crate) struct Client {
    address: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    /// The connections without a request, the one that has waited longest first.
    idle: VecDeque<usize>,
}

struct Connection {
    stream: TcpStream,
    /// The instant at which the request in flight was due.
    due: Option<Instant>,
    /// The beginning of a response.
    received: Vec<u8>,
}

/// The outcome of one run.
pub(crate) struct Outcome {
    /// From the instant at which a request was due to its response, the shortest first.
    latencies: Vec<Duration>,
    pub(crate) errors: u64,
    /// Until the last response came.
    time: Duration,
}

/// Runs a client on a thread of its own, and that on one core.
pub(crate) fn on_core<T: Send>(core: usize, client: impl FnOnce() -> T + Send) -> T {
    let on_core = move || {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores).expect("a core that we may use");
        client()
    };
    thread::scope(|scope| scope.spawn(on_core).join()).expect("the client does not panic")
}

/// Sends requests to a server that is paused, and resumed later. The latencies have to show it.
pub(crate) fn check(server: &Process, core: usize) {
    const PAUSE: Duration = Duration::from_millis(100);
    let (pid, address) = (server.pid(), server.main);
    server.pause();
    let outcome = on_core(core, || {
        // The kernel takes connections for a process that is paused.
        let mut client = Client::connect(address, 64);
        let resume = thread::spawn(move || {
            thread::sleep(PAUSE);
            kill_process(pid, Signal::CONT).expect("the process is there");
        });
        let outcome = client.run(1_000, 5 * PAUSE);
        resume.join().expect("the process is resumed");
        outcome
    });
    assert_eq!((outcome.responses(), outcome.errors), (500, 0));
    // A fifth of the requests were due during the pause, and an eighth of them could be sent.
    let late = outcome.quantile(850);
    assert!(late > 10_000.0, "what waits for a connection is late, but by {late} µs");
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, connections: usize) -> Client {
        let poll = Poll::new().expect("an epoll instance");
        let all = (0..connections).map(|at| Connection::open(address, &poll, at));
        let connections = all.collect::<Vec<_>>();
        let idle = (0..connections.len()).collect();
        Client { address, poll, connections, idle }
    }

    /// Sends `rate` requests a second at even intervals, and waits for the responses.
    pub(crate) fn run(&mut self, rate: u32, time: Duration) -> Outcome {
        let interval = Duration::from_secs(1) / rate;
        let count = u32::try_from(time.as_nanos() / interval.as_nanos()).expect("a short run");
        let mut latencies = Vec::with_capacity(count as usize);
        let mut events = Events::with_capacity(self.connections.len());
        let (mut sent, mut errors) = (0, 0);
        let start = Instant::now();
        let mut now = start;
        while latencies.len() as u64 + errors < count.into() && now < start + time + GRACE {
            while sent < count && start + interval * sent <= now && !self.idle.is_empty() {
                errors += u64::from(!self.send(start + interval * sent));
                sent += 1;
            }
            self.poll.poll(&mut events, Some(Duration::ZERO)).expect("an epoll instance");
            for event in &events {
                match self.receive(event.token().0) {
                    Ok(due) => latencies.extend(due.map(|due| due.elapsed())),
                    Err(lost) => errors += lost,
                }
            }
            now = Instant::now();
        }
        errors += u64::from(count - sent) + self.abandon();
        latencies.sort_unstable();
        Outcome { latencies, errors, time: now - start }
    }

    /// Sends a request on an idle connection. Returns whether the connection took it.
    fn send(&mut self, due: Instant) -> bool {
        let at = self.idle.pop_front().expect("one is idle");
        let connection = &mut self.connections[at];
        connection.due = Some(due);
        // So little fits into the buffer of a socket without a request in flight.
        let sent = connection.stream.write(HELLO.as_bytes());
        let taken = sent.is_ok_and(|len| len == HELLO.len());
        if !taken {
            self.reopen(at);
        }
        taken
    }

    /// Reads what has come. Returns when the request was due, once its response is there, or how
    /// many requests are lost with the connection.
    fn receive(&mut self, at: usize) -> Result<Option<Instant>, u64> {
        let connection = &mut self.connections[at];
        match connection.receive() {
            Ok(false) => Ok(None),
            Ok(true) => {
                connection.received.clear();
                let due = connection.due.take();
                self.idle.extend(due.map(|_| at));
                Ok(due)
            }
            Err(_) => Err(self.reopen(at)),
        }
    }

    /// Gives up the requests that are in flight. Returns their number.
    fn abandon(&mut self) -> u64 {
        let busy = |at: &usize| self.connections[*at].due.is_some();
        let busy: Vec<usize> = (0..self.connections.len()).filter(busy).collect();
        busy.into_iter().map(|at| self.reopen(at)).sum()
    }

    /// Opens a connection in the place of another one. Returns how many requests were in flight.
    fn reopen(&mut self, at: usize) -> u64 {
        let new = Connection::open(self.address, &self.poll, at);
        let old = std::mem::replace(&mut self.connections[at], new);
        self.idle.extend(old.due.map(|_| at));
        u64::from(old.due.is_some())
    }
}

impl Connection {
    fn open(address: SocketAddr, poll: &Poll, at: usize) -> Connection {
        let stream = std::net::TcpStream::connect(address).expect("it is listening");
        stream.set_nonblocking(true).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        let mut stream = TcpStream::from_std(stream);
        let registered = poll.registry().register(&mut stream, Token(at), Interest::READABLE);
        registered.expect("an epoll instance");
        Connection { stream, due: None, received: Vec::new() }
    }

    /// Reads what has come. Returns whether a whole response is there.
    fn receive(&mut self) -> io::Result<bool> {
        let mut space = [0; INPUT];
        loop {
            match self.stream.read(&mut space) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    self.received.extend_from_slice(&space[..len]);
                    // Fewer bytes than there is room for were all of them (epoll(7)).
                    if len < space.len() {
                        return is_whole(&self.received);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return is_whole(&self.received);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether this is a whole response. One that is not successful, or has no length, is an error.
fn is_whole(received: &[u8]) -> io::Result<bool> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(received).map_err(io::Error::other)?;
    let httparse::Status::Complete(head) = parsed else {
        return Ok(false);
    };
    let mut fields = response.headers.iter();
    let length = fields.find(|field| field.name.eq_ignore_ascii_case("Content-Length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    match (response.code, length) {
        (Some(200..300), Some(length)) => Ok(received.len() >= head + length),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

impl Outcome {
    pub(crate) fn responses(&self) -> usize {
        self.latencies.len()
    }

    /// Responses in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// The microseconds in which so many of a thousand requests had their response.
    pub(crate) fn quantile(&self, of_a_thousand: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() * of_a_thousand / 1000).min(last);
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}
