//! Step 6: budgets and fairness. However much a client sends, it gets a share of each tick, and
//! all others get theirs.

use std::collections::VecDeque;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// The body of `/long`: more than the kernel keeps for a client that does not read.
const LONG: usize = 32 << 20;
/// How long a request may take to come, and how long a response may wait for room.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many responses and reads a connection gets before others run.
const ROUNDS: usize = 16;
/// How many clients are accepted in a tick.
const ACCEPTS: usize = 64;
/// A connection with more input than this, and no whole request in it, is closed.
const INPUT_MAX: usize = 8 << 10;
/// The token of the listener. A connection has its slot for a token.
const LISTENER: Token = Token(usize::MAX);

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Clients may wait to be accepted.
    acceptable: bool,
    connections: Slab<Connection>,
    /// The slots of connections that have more to do, although no event will come.
    run_again: Vec<usize>,
    /// When connections are due, by slot. There is one timeout for all, so the first to be armed is
    /// the first to be due, and nothing has to be sorted.
    timers: VecDeque<(Instant, usize)>,
    /// When the tick began.
    now: Instant,
    responses: u64,
}

struct Connection {
    stream: TcpStream,
    /// An event sets it, and only a read that is refused clears it.
    readable: bool,
    /// What has come of a request.
    input: Vec<u8>,
    /// A response, and how much of it the kernel has taken.
    output: Vec<u8>,
    sent: usize,
    /// When it is closed, unless the kernel takes output before.
    due: Instant,
    runs_again: bool,
}

/// How a run of a connection ends.
enum RunEnd {
    /// It waits for an event.
    Waits,
    /// Its budget is used up.
    HasWork,
    Closed,
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("localhost:9000".to_owned());
    let listener = std::net::TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let mut server = Server::new(listener)?;
    let mut events = Events::with_capacity(1024);
    loop {
        server.tick(&mut events)?;
    }
}

impl Server {
    fn new(listener: std::net::TcpListener) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let (poll, mut listener) = (Poll::new()?, TcpListener::from_std(listener));
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server {
            poll,
            listener,
            acceptable: false,
            connections: Slab::new(),
            run_again: Vec::new(),
            timers: VecDeque::new(),
            now: Instant::now(),
            responses: 0,
        })
    }

    /// One round of the loop.
    fn tick(&mut self, events: &mut Events) -> io::Result<()> {
        self.wait(events)?;
        self.now = Instant::now();
        for event in events.iter() {
            match event.token() {
                LISTENER => self.acceptable = true,
                Token(slot) => self.on_event(slot, event.is_readable()),
            }
        }
        self.run_again();
        self.accept()?;
        self.handle_timeouts();
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let next = self.timers.front();
        let mut timeout = next.map(|(due, _)| due.saturating_duration_since(Instant::now()));
        if self.acceptable || !self.run_again.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// Runs the connections that have used up their budget, behind all that have events.
    fn run_again(&mut self) {
        for slot in mem::take(&mut self.run_again) {
            if let Some(connection) = self.connections.get_mut(slot)
                && mem::take(&mut connection.runs_again)
            {
                self.run(slot);
            }
        }
    }

    /// Accepts clients that wait.
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            if !self.acceptable {
                break;
            }
            let mut stream = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.acceptable = false;
                    break;
                }
                accepted => accepted?.0,
            };
            let entry = self.connections.vacant_entry();
            let token = Token(entry.key());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            let due = self.now + TIMEOUT;
            entry.insert(Connection::new(stream, due));
            self.timers.push_back((due, token.0));
        }
        Ok(())
    }

    fn on_event(&mut self, slot: usize, readable: bool) {
        // kqueue(2) tells of input and of room in two events; the first may have closed it.
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.readable |= readable;
            if !connection.runs_again {
                self.run(slot);
            }
        }
    }

    fn run(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let before = connection.due;
        match connection.run(self.now, &mut self.responses) {
            Ok(RunEnd::Waits) => {}
            Ok(RunEnd::HasWork) => {
                connection.runs_again = true;
                self.run_again.push(slot);
            }
            Ok(RunEnd::Closed) | Err(_) => {
                self.connections.remove(slot);
                return;
            }
        }
        if connection.due != before {
            self.timers.push_back((connection.due, slot));
        }
    }

    /// Closes the connections that are due.
    fn handle_timeouts(&mut self) {
        while let Some(&(due, slot)) = self.timers.front()
            && due <= self.now
        {
            self.timers.pop_front();
            // A timer that has been armed again is further behind, and this one counts no more.
            if self.connections.get(slot).is_some_and(|connection| connection.due == due) {
                self.connections.remove(slot);
            }
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, due: Instant) -> Connection {
        let (input, output) = (Vec::new(), Vec::new());
        let (readable, runs_again) = (false, false);
        Connection { stream, readable, input, output, sent: 0, due, runs_again }
    }

    /// Writes, responds and reads, in this order, until one of them has to wait or the budget is
    /// used up.
    fn run(&mut self, now: Instant, responses: &mut u64) -> io::Result<RunEnd> {
        let mut buffer = [0; 4096];
        for _ in 0..ROUNDS {
            if !self.flush(now)? {
                return Ok(RunEnd::Waits);
            }
            if let Some(output) = respond(&mut self.input, responses)? {
                self.output = output;
                continue;
            }
            if !self.readable {
                return Ok(RunEnd::Waits);
            }
            if self.input.len() > INPUT_MAX {
                return Ok(RunEnd::Closed);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(RunEnd::Closed),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                read => self.input.extend_from_slice(&buffer[..read?]),
            }
        }
        Ok(RunEnd::HasWork)
    }

    /// Writes as much of the output as the kernel takes. Says whether nothing is left.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                written => self.sent += written?,
            }
            self.due = now + TIMEOUT;
        }
        (self.output, self.sent) = (Vec::new(), 0);
        Ok(true)
    }
}

/// Takes a whole request from the front of the input, and returns its response. This is the
/// protocol: a function of its arguments, which stays as it is in all steps.
fn respond(input: &mut Vec<u8>, responses: &mut u64) -> io::Result<Option<Vec<u8>>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(len) = request.parse(input).map_err(io::Error::other)? else {
        return Ok(None);
    };
    *responses += 1;
    let body = match request.path {
        Some("/long") => "x".repeat(LONG),
        _ => format!("response {responses}\n"),
    };
    input.drain(..len);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Ok(Some((head + &body).into_bytes()))
}
