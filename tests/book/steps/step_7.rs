//! Step 7: the graceful stop. On a signal the server stops accepting, lets requests that have begun
//! finish, and exits when no connection is left, or at a deadline.

use std::collections::VecDeque;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
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
/// How long requests may finish after a signal.
const DRAIN: Duration = Duration::from_secs(5);
/// The tokens of the listener and of the signals. A connection has its slot for a token.
const LISTENER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);

struct Server {
    poll: Poll,
    listener: Option<TcpListener>,
    signals: Signals,
    /// Since a signal, when connections that are left are closed.
    deadline: Option<Instant>,
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
    /// Its last response has begun.
    closes: bool,
}

/// How a run of a connection ends.
enum RunEnd {
    /// It waits for an event.
    Waits,
    /// Its budget is used up.
    HasWork,
    Closed,
}

fn main() -> io::Result<ExitCode> {
    let address = env::args().nth(1).unwrap_or("localhost:9000".to_owned());
    // Ahead of the listener, so that no signal ends the process while a client may connect.
    let signals = Signals::new([SIGINT, SIGTERM])?;
    let listener = std::net::TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let mut server = Server::new(listener, signals)?;
    let mut events = Events::with_capacity(1024);
    while !server.is_over() {
        server.tick(&mut events)?;
    }
    eprintln!("connections left: {}", server.connections.len());
    Ok(if server.connections.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Server {
    fn new(listener: std::net::TcpListener, mut signals: Signals) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let (poll, mut listener) = (Poll::new()?, TcpListener::from_std(listener));
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(Server {
            poll,
            listener: Some(listener),
            signals,
            deadline: None,
            acceptable: false,
            connections: Slab::new(),
            run_again: Vec::new(),
            timers: VecDeque::new(),
            now: Instant::now(),
            responses: 0,
        })
    }

    /// Whether all connections are closed after a signal, or its deadline has passed.
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|at| self.connections.is_empty() || self.now >= at)
    }

    /// One round of the loop.
    fn tick(&mut self, events: &mut Events) -> io::Result<()> {
        self.wait(events)?;
        self.now = Instant::now();
        // Ahead of the events, so that the responses of this tick announce the close.
        if events.iter().any(|event| event.token() == SIGNALS) {
            self.drain()?;
        }
        for event in events.iter() {
            match event.token() {
                SIGNALS => {}
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
        let next = self.timers.front().map(|&(due, _)| due);
        let next = next.into_iter().chain(self.deadline).min();
        let mut timeout = next.map(|due| due.saturating_duration_since(Instant::now()));
        if self.acceptable && self.listener.is_some() || !self.run_again.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// Begins to drain: a connection is closed as soon as nothing of a request is left.
    fn drain(&mut self) -> io::Result<()> {
        self.signals.pending().for_each(drop);
        self.deadline.get_or_insert(self.now + DRAIN);
        // A listener that closes resets its queue. No slot has been freed in this tick yet.
        self.acceptable = true;
        self.accept()?;
        self.listener = None;
        // A request may have come that no event has reported yet.
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.on_event(slot, true);
        }
        Ok(())
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
            let Some(listener) = self.listener.as_ref().filter(|_| self.acceptable) else {
                break;
            };
            let mut stream = match listener.accept() {
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
        match connection.run(self.now, self.deadline.is_some(), &mut self.responses) {
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
        let (readable, runs_again, closes) = (false, false, false);
        Connection { stream, readable, input, output, sent: 0, due, runs_again, closes }
    }

    /// Writes, responds and reads, in this order, until one of them has to wait or the budget is
    /// used up.
    fn run(&mut self, now: Instant, drains: bool, responses: &mut u64) -> io::Result<RunEnd> {
        let mut buffer = [0; 4096];
        for _ in 0..ROUNDS {
            if !self.flush(now)? {
                return Ok(RunEnd::Waits);
            }
            if self.closes {
                return Ok(RunEnd::Closed);
            }
            if let Some(mut output) = respond(&mut self.input, responses)? {
                // The last response says so. A client of which more has been read gets more.
                self.closes = drains && self.input.is_empty();
                if self.closes {
                    announce_close(&mut output);
                }
                self.output = output;
                continue;
            }
            if !self.readable {
                let is_idle = self.input.is_empty();
                return Ok(if drains && is_idle { RunEnd::Closed } else { RunEnd::Waits });
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

/// Puts a field into the head of a response that says that no other one follows.
fn announce_close(output: &mut Vec<u8>) {
    let first_line = output.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    output.splice(first_line..first_line, *b"Connection: close\r\n");
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
